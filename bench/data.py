# SPDX-License-Identifier: Apache-2.0
"""Models and records of the workloads, made once and kept in the build folder."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("BUILD") or ROOT / "build").absolute()
WORK = BUILD / "bench-data"

DIGITS_MODEL = ROOT / "examples/digits/digits.onnx"
CHUNK = 1000  # rows made at once


def made(path, make):
    """The path, made if it is not there. What was cut off is not taken for whole."""
    if not path.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name("unfinished-" + path.name)
        make(unfinished)
        unfinished.rename(path)
    return path


def bench_model(name):
    def make(path):
        subprocess.run([sys.executable, ROOT / "tests/models/make_models.py", path.parent,
                        "--only", name], check=True, stdout=subprocess.DEVNULL)
        (path.parent / f"{name}.onnx").rename(path)
    return made(WORK / f"{name}.onnx", make)


def digits(n_rows):
    def make(path):
        subprocess.run([sys.executable, ROOT / "examples/digits/make_data.py", "--rows",
                        str(n_rows), "--output", path], check=True, stdout=subprocess.DEVNULL)
    return made(WORK / f"digits-{n_rows}.jsonl", make)


def medium_rows(n_rows):
    """Pieces of [rows, 784] with three digits behind the point, as JSON shows them."""
    rng = numpy.random.default_rng(7)
    for start in range(0, n_rows, CHUNK):
        yield start, rng.integers(0, 1000, (min(CHUNK, n_rows - start), 784)) / 1000


def medium_jsonl(n_rows):
    def make(path):
        with open(path, "w", encoding="ascii") as out:
            for start, rows in medium_rows(n_rows):
                out.writelines(
                    '{"id":%d,"x":%s}\n' % (start + i, json.dumps(row, separators=(",", ":")))
                    for i, row in enumerate(rows.tolist()))
    return made(WORK / f"medium-{n_rows}.jsonl", make)


def medium_npy(n_rows):
    def make(path):
        with open(path, "wb") as out:
            numpy.save(out, numpy.concatenate(
                [rows.astype(numpy.float32) for _, rows in medium_rows(n_rows)]))
    return made(WORK / f"medium-{n_rows}.npy", make)


def transformer(n_rows):
    def make(path):
        ids = numpy.random.default_rng(9).integers(0, 1000, (n_rows, 64))
        mask = json.dumps([1] * 64, separators=(",", ":"))
        with open(path, "w", encoding="ascii") as out:
            out.writelines(
                '{"id":%d,"input_ids":%s,"attention_mask":%s}\n'
                % (i, json.dumps(row, separators=(",", ":")), mask)
                for i, row in enumerate(ids.tolist()))
    return made(WORK / f"transformer-{n_rows}.jsonl", make)


def head(source, n_rows):
    """The first lines of a file, as a file."""
    def make(path):
        with open(source, "rb") as all_lines, open(path, "wb") as out:
            out.writelines(line for line, _ in zip(all_lines, range(n_rows)))
    return made(WORK / f"{source.stem}-head-{n_rows}.jsonl", make)


def warm(path):
    """Reads the file, so that it lies in memory for whoever comes first."""
    with open(path, "rb") as data:
        while data.read(1 << 22):
            pass
    return path
