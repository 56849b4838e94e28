#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rows/s and deviation of each precision: whole jobs, the precisions in turn, the fastest round counts.

    bench/precision.py                                the bench models
    bench/precision.py --model M.onnx --input R.jsonl your own, on your own records

Needs the Python environment of the tests and a built tidemill. Prints a table for docs/precision.md.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy

from measure import Others

ROOT = Path(__file__).resolve().parent.parent
PRECISIONS = ["fp32", "int8"]
TOKENS = 32


def transformer_records(n):
    ids = numpy.random.default_rng(1).integers(1, 1000, (n, TOKENS))
    return ({"input_ids": row.tolist(), "attention_mask": [1] * TOKENS} for row in ids)


def vectors(n, width):
    for row in numpy.random.default_rng(1).standard_normal((n, width)).astype(numpy.float32):
        yield {"x": row.tolist()}


def write(path, records):
    with open(path, "w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record) + "\n")
    return path


def bench_models(folder):
    """(name, model, records, records a call)"""
    subprocess.run([sys.executable, ROOT / "tests/models/make_models.py", folder, "--bench"],
                   check=True, stdout=subprocess.DEVNULL)
    digits = folder / "digits.jsonl"
    subprocess.run([sys.executable, ROOT / "examples/digits/make_data.py", "--rows", "200000",
                    "--output", digits], check=True, stdout=subprocess.DEVNULL)
    yield ("transformer", folder / "transformer.onnx",
           write(folder / "transformer.jsonl", transformer_records(20000)), 32)
    yield ("mlp_medium", folder / "mlp_medium.onnx",
           write(folder / "mlp.jsonl", vectors(20000, 784)), 256)
    yield "digits", ROOT / "examples/digits/digits.onnx", digits, 1024


def job(tidemill, model, records, precision, options, folder):
    """The summary of one job, and its output."""
    output, summary = folder / f"{precision}.npy", folder / "summary.json"
    subprocess.run([tidemill, "run", "-q", "--force", "-m", model, "-i", records, "-o", output,
                    "--precision", precision, "--max-deviation", "2", "--summary", summary,
                    "--instances", "1", "--threads", str(options.threads), "--batch", str(options.batch)],
                   check=True)
    return json.loads(summary.read_text()), output


def cosines(one, other):
    one = one.reshape(len(one), -1).astype(numpy.float64)
    other = other.reshape(len(other), -1).astype(numpy.float64)
    return (one * other).sum(1) / (numpy.linalg.norm(one, axis=1) * numpy.linalg.norm(other, axis=1))


def measure(name, model, records, options, folder):
    best, outputs = {}, {}
    others = Others()
    for _ in range(options.rounds):
        for precision in PRECISIONS:
            summary, outputs[precision] = job(options.tidemill, model, records, precision, options,
                                              folder)
            figures = (summary["records"] / summary["wall_s"], summary["records"] / summary["cpu_s"])
            best[precision] = [max(pair) for pair in zip(best.get(precision, (0, 0)), figures)]
    exact = numpy.load(outputs["fp32"])
    for precision in PRECISIONS:
        similar = cosines(exact, numpy.load(outputs[precision]))
        wall, cpu = best[precision]
        print(f"| {name} | {options.batch} | {options.threads} | {precision} | {wall:,.0f} | "
              f"{wall / best['fp32'][0]:.2f} | {cpu / best['fp32'][1]:.2f} | {similar.mean():.5f} | "
              f"{similar.min():.5f} |", flush=True)
    print(f"  (others took {100 * others.share():.0f}% of the machine)", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--tidemill", default=os.environ.get("TIDEMILL", ROOT / "build" / "tidemill"))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--batch", type=int, default=32, help="records a call, with --model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print("| model | batch | threads | precision | rows/s | times fp32 | per processor second | "
          "mean cosine | least |\n|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.model is not None:
            measure(options.model.stem, options.model, options.input, options, folder)
            return
        for title, model, records, batch in bench_models(folder):
            options.batch = batch
            measure(title, model, records, options, folder)


if __name__ == "__main__":
    main()
