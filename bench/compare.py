# SPDX-License-Identifier: Apache-2.0
"""tidemill beside the limits of the machine and beside what a user would write, on the same work.

docs/BENCHMARKS.md says how it is measured. Progress goes to standard error, tables to standard
output.
"""
import argparse
import fcntl
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from importlib import metadata

import contenders
import data
import measure
import report
from workloads import WORKLOADS, compare_answers, keep_best_raw


def say(text):
    print(text, file=sys.stderr, flush=True)


def run_rounds(taking_part, n_rounds):
    """{key: [results]}; everybody takes a turn in each round, beginning with another one each."""
    results = {one.key: [] for one in taking_part}
    for number in range(n_rounds):
        for one in taking_part[number:] + taking_part[:number]:
            found = one.run()
            say(f"  {one.title}: {found['rows_per_s']:,.0f} rows/s, "
                f"{found['cpu_s_per_million']:,.2f} CPU-s per million, "
                f"others {100 * found['others']:.0f}%")
            results[one.key].append(found)
    return results


def medians(rounds):
    """The median of each figure, and how far the rounds lie apart."""
    rates = [one["rows_per_s"] for one in rounds]
    found = {key: statistics.median(one[key] for one in rounds)
             for key in ("rows_per_s", "cpu_s_per_million", "others")}
    found["rows_per_s_least"], found["rows_per_s_most"] = min(rates), max(rates)
    return found


def run_workload(make, options, memory):
    workload = make(options, memory)
    say(workload.title)
    rounds = run_rounds(workload.contenders, options.rounds)
    results = {}
    for one in workload.contenders:
        results[one.key] = {"title": one.title, **medians(rounds[one.key])}
        if one.watch is not None:
            results[one.key].update(one.watch())
    if workload.output_name:
        compare_answers(workload)
    results = keep_best_raw(results)
    return {"title": workload.title, "results": results, "rounds": rounds, "sweep": workload.sweep,
            "ratios": [vars(ratio) for ratio in workload.ratios(results)]}


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as text:
            found = re.search(r"model name\s*: (.*)", text.read())
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.machine()


def version_of(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not there"


def machine():
    """What the figures depend on."""
    tidemill = subprocess.run([contenders.TIDEMILL, "--version"], capture_output=True, text=True,
                              check=True).stdout.split()
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor(),
        "cores": contenders.CORES,
        "memory": f"{memory_bytes / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "tidemill": tidemill[-1] if tidemill else "?",
        "ONNX Runtime": version_of("onnxruntime"),
        "Python": platform.python_version(),
        "numpy": version_of("numpy"),
        "orjson": version_of("orjson"),
    }


def parse_options():
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true",
                        help="less work and one round, for a look: under a minute")
    parser.add_argument("--only", action="append", choices=WORKLOADS, metavar="NAME",
                        help=f"this workload: {', '.join(WORKLOADS)}; repeatable")
    parser.add_argument("--rounds", type=int, metavar="N", help="3; 1 with --quick")
    parser.add_argument("--markdown", action="store_true", help="tables for a page")
    parser.add_argument("--json", metavar="FILE", help="write everything, each round too")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


def take_turn():
    """Two at once would measure each other. Held until the process ends."""
    lock = os.open(data.WORK / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("bench/run: another one is running; wait for its end")


def main():
    options = parse_options()
    data.WORK.mkdir(parents=True, exist_ok=True)
    take_turn()
    found = {"machine": machine(), "quick": options.quick, "rounds": options.rounds,
             "workloads": {}}
    print(report.machine(found, options.markdown), flush=True)
    with contenders.MemoryFolder() as memory:
        for name, make in WORKLOADS.items():
            if options.only and name not in options.only:
                continue
            found["workloads"][name] = run_workload(make, options, memory.path)
            print(report.workload(found["workloads"][name], options.markdown), flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump(found, out, indent=1)


if __name__ == "__main__":
    try:
        main()
    except measure.CommandFailed as failure:
        sys.exit(str(failure))
