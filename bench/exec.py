#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records/s through a Python handler that gives back what it gets, with two instances, beside what one
would write by hand: a loop that reads lines, json.loads, json.dumps, writes. In turn; medians. The wall
clock is the same for both, start and end included. Where others use the machine, it says more of them
than of us, and the one with more processes gets more of it: then only processor seconds compare.

    bench/exec.py [--records 1000000] [--rounds 5]

Needs a built tidemill. Prints a table for docs/BENCHMARKS.md.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import Others

ROOT = Path(__file__).resolve().parent.parent
HANDLER = """
import tidemill

@tidemill.model
def same(records):
    return records

if __name__ == "__main__":
    same.serve()
"""
LOOP = """
import json, sys
with open(sys.argv[1]) as source, open(sys.argv[2], "w") as sink:
    for line in source:
        record = json.loads(line)
        sink.write(json.dumps({"id": record["id"], "response": record}) + "\\n")
"""


def timed(command, env):
    """Wall and processor seconds."""
    before, started = os.times(), time.monotonic()
    subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    after = os.times()
    return (time.monotonic() - started,
            after.children_user + after.children_system
            - before.children_user - before.children_system)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--records", type=int, default=1000000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tidemill", default=str(ROOT / "build/tidemill"))
    arguments = parser.parse_args()
    env = {**os.environ, "PYTHONPATH": str(ROOT / "python"), "PYTHONDONTWRITEBYTECODE": "1"}
    others = Others()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env["XDG_CACHE_HOME"] = str(folder / "cache")
        (folder / "handler.py").write_text(HANDLER)
        (folder / "loop.py").write_text(LOOP)
        with open(folder / "in.jsonl", "w", encoding="utf-8") as file:
            for i in range(arguments.records):
                file.write(json.dumps({"id": i, "x": i % 7}) + "\n")
        times = {"tidemill, 2 instances": [], "Python loop": []}
        for _ in range(arguments.rounds):
            for left in folder.glob("out*"):
                left.unlink()
            wall, _ = timed(
                [arguments.tidemill, "run", "--quiet", "--model",
                 f"exec:{sys.executable} {folder}/handler.py", "--instances", "2", "--input",
                 folder / "in.jsonl", "--output", folder / "out.jsonl", "--summary",
                 folder / "summary.json"], env)
            # handlers are killed, not waited for: only the summary has their processor time
            cpu = json.loads((folder / "summary.json").read_text())["cpu_s"]
            times["tidemill, 2 instances"].append((wall, cpu))
            times["Python loop"].append(timed(
                [sys.executable, folder / "loop.py", folder / "in.jsonl", folder / "loop.jsonl"], env))
        ours = (folder / "out.jsonl").read_text().replace(" ", "")
        assert ours == (folder / "loop.jsonl").read_text().replace(" ", "")
    print(f"{arguments.records:,} records, medians of {arguments.rounds}; others took {others.share():.0%}\n")
    print("| | records/s | CPU-seconds a million |\n|---|---:|---:|")
    for way, pairs in times.items():
        wall = statistics.median(pair[0] for pair in pairs)
        cpu = statistics.median(pair[1] for pair in pairs)
        print(f"| {way} | {arguments.records / wall:,.0f} | "
              f"{cpu / arguments.records * 1e6:.2f} |")


if __name__ == "__main__":
    main()
