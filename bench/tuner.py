#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Is what tuning chooses the best there is, and what does finding it cost?

For each workload a job is begun with `--tune always`, long enough to have the full budget (the input is
named several times), and stopped once its plan stands in the journal. Then `tidemill bench` measures every
size in steps of 1.41 with every way of using the cores, on the same records; the best few of these and
what was chosen are measured once more, for longer, and their ratio is printed: 1 is the best, and
noise makes it smaller. The cost is what the job itself says.

    bench/tuner.py [--quick] [WORKLOAD ...]      digits transformer medium packages
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy

import data

TIDEMILL = Path(os.environ.get("TIDEMILL") or data.BUILD / "tidemill").absolute()
PACKAGES_MODEL = data.ROOT / "examples/packages/packages.onnx"
SIZES = sorted({round(2 ** (i / 2)) for i in range(23)})  # a chunk has 2,048 records
AGAIN = 3  # of the sweep's best points, measured once more
CLASSES = 20


def packages(n_rows):
    """Token ids, with lengths like those of package descriptions: 1 to 64, 9.7 in the mean."""
    def make(path):
        random = numpy.random.default_rng(5)
        with open(path, "w", encoding="ascii") as out:
            for i in range(n_rows):
                length = int(min(max(random.gamma(6, 1.6), 1), 64))
                ids = random.integers(2, 4000, length).tolist()
                out.write(json.dumps({"id": i, "input_ids": ids, "attention_mask": [1] * length}))
                out.write("\n")
    return data.made(data.WORK / f"package-lengths-{n_rows}.jsonl", make)


# name -> model, records, how often they are named as the input
WORKLOADS = {
    "digits": lambda: (data.DIGITS_MODEL, data.digits(200_000), 1000),
    "transformer": lambda: (data.bench_model("transformer"), data.transformer(20_000), 40),
    "medium": lambda: (data.bench_model("mlp_medium"), data.medium_jsonl(5_000), 1000),
    "packages": lambda: (PACKAGES_MODEL, packages(5_000), 400),
}


def plan_of(journal):
    """The plan's frame, once it is there whole."""
    if not journal.exists():
        return None
    for line in journal.read_bytes().split(b"\n")[:-1]:
        if b'"type":"plan"' in line:
            return json.loads(line[17:])
    return None


def begin(model, source, times, cache):
    """Runs a job until it has a plan; returns the plan and the job's summary."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.jsonl"
        command = [TIDEMILL, "run", "--log-format", "json", "--model", model, "--output", output,
                   "--tune", "always", "--dedup", "off"]
        for _ in range(times):
            command += ["--input", source]
        job = subprocess.Popen(command, env={**os.environ, "XDG_CACHE_HOME": cache},
                               stderr=subprocess.PIPE)
        plan, journal = None, output.with_name("out.jsonl.journal")
        while plan is None and job.poll() is None:
            time.sleep(0.01)
            plan = plan_of(journal)
        job.send_signal(signal.SIGTERM)
        _, log = job.communicate()
        summaries = [line for line in log.splitlines() if b"tuning_s" in line]
        if plan is None or not summaries:
            raise SystemExit(f"the job with {model} ended without a plan: {log.decode()}")
        return plan, json.loads(json.loads(summaries[-1])["message"])


def bench(model, source, sizes, seconds):
    command = [TIDEMILL, "bench", model, "--input", source, "--json", "--seconds", str(seconds),
               "--batch-sizes", ",".join(map(str, sorted(set(sizes))))]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def class_of(length):
    return min(max(length - 1, 0).bit_length(), CLASSES - 1)


def points(result):
    """(instances, threads, length, batch) -> rows/s"""
    return {(c["instances"], c["threads"], c["length"], p["batch"]): p["rows_per_s"]
            for c in result["curves"] for p in c["points"]}


def chosen_rows(plan, length, varies):
    return max(plan["tokens"][class_of(length)] // length, 1) if varies else plan["batch"]


def measure(name, options, cache):
    model, source, times = WORKLOADS[name]()
    data.warm(source)
    plan, summary = begin(model, source, times, cache)
    seconds = 0.1 if options.quick else 0.3
    look = bench(model, source, [1], 0.01)
    lengths = sorted({c["length"] for c in look["curves"]})
    way = (plan["instances"], plan["threads"])
    picked = {n: chosen_rows(plan, n, look["lengths_vary"]) for n in lengths}
    swept = points(bench(model, source, [*SIZES, *picked.values()], seconds))
    best = {n: sorted((k for k in swept if k[2] == n), key=swept.get)[-AGAIN:] for n in lengths}
    sizes = {k[3] for n in lengths for k in best[n]} | set(picked.values())
    again = points(bench(model, source, sizes, 5 * seconds))
    with open(source, "rb") as lines:
        rows = times * sum(1 for _ in lines)
    print(f"{name}: tuning took {summary['tuning_s']:.2f} s of a job of at least "
          f"{rows / max(again.values()):.0f} s; {way[0]} x {way[1]} ({plan['parallel_from']})")
    for n in lengths:
        mine = (*way, n, picked[n])
        rivals = [*best[n], mine]
        top = max(rivals, key=lambda k: again.get(k, 0))
        print(f"  length {n}: {picked[n]} rows a call: {again[mine]:,.0f} rows/s; best of the sweep "
              f"{top[0]} x {top[1]} with {top[3]}: {again[top]:,.0f}; chosen / best "
              f"{again[mine] / again[top]:.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a third of the time")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD")
    options = parser.parse_args()
    unknown = set(options.workloads) - set(WORKLOADS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    with tempfile.TemporaryDirectory() as cache:
        for name in options.workloads or WORKLOADS:
            measure(name, options, cache)


if __name__ == "__main__":
    main()
