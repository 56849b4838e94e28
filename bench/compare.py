# SPDX-License-Identifier: Apache-2.0
"""tidemill beside the limits of the machine and beside what a user would write, on the same work.

Contenders of one workload take turns; the middle of the rounds counts. Seconds are wall time of the
whole command, start-up included; CPU seconds are those of the whole process tree.
"""
import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy
import onnxruntime

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
TIDEMILL = os.environ.get("TIDEMILL", str(BUILD / "tidemill"))
WORK = BUILD / "bench-data"
LIBRARY = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so*"))
CORES = len(os.sched_getaffinity(0))


class Memory(threading.Thread):
    """Samples the private and shared memory of a process until told to stop."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.peak, self.over = pid, 0, threading.Event()

    def run(self):
        while not self.over.wait(0.01):
            try:
                text = Path(f"/proc/{self.pid}/status").read_text()
            except OSError:
                return
            kinds = dict(re.findall(r"(RssAnon|RssShmem):\s+(\d+)", text))
            self.peak = max(self.peak, sum(map(int, kinds.values())) * 1024)


def measure(command, n_rows):
    """One run: rows/s, CPU-seconds per million rows, peak memory of the first process."""
    began = time.monotonic()
    child = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE)
    memory = Memory(child.pid)
    memory.start()
    error = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    memory.over.set()
    if child.returncode != 0:
        sys.exit(f"{command}: exit {child.returncode}\n{error.decode()}")
    return {"rows_per_s": n_rows / seconds, "memory_mb": memory.peak / 1e6,
            "cpu_s_per_million": (usage.ru_utime + usage.ru_stime) / n_rows * 1e6}


def lines_of(command):
    text = subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True)
    return [json.loads(line) for line in text.stdout.splitlines()]


def raw_loop(model, seconds, *more):
    """The best of the sweep over batch, threads and processes, for the same number of cores."""
    common = [BUILD / "bench/raw_loop", LIBRARY, model, "--seconds", seconds, *more]
    found = lines_of([*common, "--threads", ",".join(str(t) for t in sorted({1, CORES}))])
    found += lines_of([*common, "--processes", CORES, "--threads", 1])
    return max(found, key=lambda r: r["rows_per_s"])


def middle(rounds):
    return {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}


def compare(contenders, rounds):
    """{name: function} -> {name: medians}; everybody takes a turn in each round."""
    results = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, function in contenders.items():
            result = function()
            print(f"  {name}: {result['rows_per_s']:,.0f} rows/s", file=sys.stderr)
            results[name].append(result)
    return {name: middle(found) for name, found in results.items()}


def tidemill(model, source, n_rows, output="out.jsonl", *options):
    def function():
        for path in WORK.glob(output + "*"):
            path.unlink()
        return measure([TIDEMILL, "run", "-q", "-m", model, "-i", source, "-o", WORK / output,
                        *options], n_rows)
    return function


def python(model, source, n_rows, field, batch, *more):
    return lambda: measure([sys.executable, ROOT / "bench/python_loop.py", model, source,
                            WORK / "python.jsonl", field, batch, *more], n_rows)


def head(source, n):
    """The first n lines of a file, as a file."""
    target = WORK / f"{Path(source).stem}-{n}.jsonl"
    if not target.exists():
        with open(source, "rb") as lines, open(target, "wb") as out:
            for _, line in zip(range(n), lines):
                out.write(line)
    return target


def has_orjson():
    return subprocess.run([sys.executable, "-c", "import orjson"], capture_output=True
                          ).returncode == 0


# --- workloads -----------------------------------------------------------------------------------


def digits(options):
    n = 200000 if options.quick else 1000000
    model, source = ROOT / "examples/digits/digits.onnx", WORK / f"digits-{n}.jsonl"
    if not source.exists():
        subprocess.run([sys.executable, ROOT / "examples/digits/make_data.py", "--rows", str(n),
                        "--output", source], check=True, stdout=subprocess.DEVNULL)
    n_small = n // 20
    small = head(source, n_small)
    contenders = {
        "tidemill run": tidemill(model, source, n),
        "tidemill run, output in memory": tidemill_in_memory(model, source, n),
        f"parse floor, yyjson, {CORES} processes": lambda: dict(lines_of(
            [BUILD / "bench/parse_floor", source, "pixels", CORES])[0], memory_mb=0),
        "Python loop, json, batch 256": python(model, head(source, n // 5), n // 5, "pixels", 256),
        "Python loop, json, batch 1": python(model, small, n_small, "pixels", 1),
        "raw ONNX Runtime loop": lambda: dict(raw_loop(model, 0.3), memory_mb=0),
    }
    if has_orjson():
        contenders["Python loop, orjson, batch 1024"] = python(
            model, head(source, n // 2), n // 2, "pixels", 1024, "--orjson")
    return f"digits: {n:,} rows of 64 integers, 64-128-10 network, JSONL", contenders, "digits"


def tidemill_in_memory(model, source, n):
    """The same with the output on a memory file system: what the disk takes is not in it."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))

    def function():
        for path in folder.iterdir():
            path.unlink()
        result = measure([TIDEMILL, "run", "-q", "-m", model, "-i", source, "-o",
                          folder / "out.jsonl"], n)
        for path in folder.iterdir():
            path.unlink()
        return result
    return function


def bench_models():
    folder = WORK / "models"
    if not (folder / "transformer.onnx").exists():
        subprocess.run([sys.executable, ROOT / "tests/models/make_models.py", folder, "--bench"],
                       check=True, stdout=subprocess.DEVNULL)
    return folder


def medium(options):
    n = 20000 if options.quick else 120000
    model, source = bench_models() / "mlp_medium.onnx", WORK / f"medium-{n}.jsonl"
    arrays = WORK / f"medium-{n}.npy"
    if not source.exists():
        rows = numpy.random.default_rng(7).integers(0, 1000, (n, 784)) / 1000
        numpy.save(arrays, rows.astype(numpy.float32))
        with open(source, "w", encoding="ascii") as out:
            for i, row in enumerate(rows):
                out.write('{"id":%d,"x":%s}\n' % (i, json.dumps(row.tolist())))
    contenders = {
        "tidemill run, JSONL": tidemill(model, source, n),
        "tidemill run, .npy": tidemill(model, arrays, n, "out.npy"),
        "raw ONNX Runtime loop": lambda: dict(raw_loop(model, 1, "--batches", "16,64,256,1024"),
                                              memory_mb=0),
        "Python loop, json, batch 256": python(model, head(source, n // 4), n // 4, "x", 256),
        "Python loop, json, batch 1": python(model, head(source, n // 20), n // 20, "x", 1),
    }
    return f"medium: {n:,} rows of 784 numbers, 784-1024-1024-10 network", contenders, "medium"


def transformer(options):
    n = 3000 if options.quick else 60000
    model, source = bench_models() / "transformer.onnx", WORK / f"transformer-{n}.jsonl"
    if not source.exists():
        ids = numpy.random.default_rng(9).integers(0, 1000, (n, 64))
        with open(source, "w", encoding="ascii") as out:
            for i, row in enumerate(ids):
                out.write('{"id":%d,"input_ids":%s,"attention_mask":%s}\n'
                          % (i, json.dumps(row.tolist()), json.dumps([1] * 64)))
    contenders = {
        "tidemill run": tidemill(model, source, n),
        "raw ONNX Runtime loop": lambda: dict(
            raw_loop(model, 2, "--seq", 64, "--batches", "1,2,4,8,16,32,64"), memory_mb=0),
    }
    return (f"transformer: {n:,} rows of 64 tokens, two layers of width 64", contenders,
            "transformer")


def ratios(name, results):
    """The figures that are aimed at: (what, ratio, aim)."""
    def rate(contender):
        return next((r["rows_per_s"] for n, r in results.items() if n.startswith(contender)), None)

    rows = []
    if name == "digits":
        mine, raw = results["tidemill run"], rate("tidemill run, output in memory")
        rows = [("rows/s / parse floor on the same cores", mine["rows_per_s"] / rate("parse"), 0.6),
                ("the same, output in memory", raw / rate("parse"), 0.6),
                ("CPU-seconds per million", mine["cpu_s_per_million"], 2.0),
                ("rows/s / Python batch 256",
                 mine["rows_per_s"] / rate("Python loop, json, batch 256"), 3),
                ("rows/s / Python batch 1",
                 mine["rows_per_s"] / rate("Python loop, json, batch 1"), 10),
                ("peak memory, MB (anonymous and shared)", mine["memory_mb"], 60)]
    elif name == "medium":
        rows = [("rows/s / raw loop, JSONL", rate("tidemill run, JSONL") / rate("raw"), 0.95),
                ("rows/s / raw loop, .npy", rate("tidemill run, .npy") / rate("raw"), 0.95)]
    else:
        rows = [("rows/s / raw loop", rate("tidemill run") / rate("raw"), 0.95)]
    return rows


def sizes(options):
    """Time and memory by size, on digits."""
    rows = []
    model = ROOT / "examples/digits/digits.onnx"
    for n in [10000, 100000] if options.quick else [100000, 1000000, 4000000]:
        source = WORK / f"digits-{n}.jsonl"
        if not source.exists():
            subprocess.run([sys.executable, ROOT / "examples/digits/make_data.py", "--rows",
                            str(n), "--output", source], check=True, stdout=subprocess.DEVNULL)
        rows.append((n, middle([tidemill(model, source, n)() for _ in range(3)])))
    return rows


def machine():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return (f"{CORES} cores of {model.group(1) if model else platform.machine()}, "
            f"ONNX Runtime {onnxruntime.__version__}, Python {platform.python_version()}, "
            f"{time.strftime('%Y-%m-%d')}")


def show(title, results, aims):
    print(f"\n### {title}\n\n| | rows/s | CPU-seconds per million | peak memory, MB |")
    print("|---|---:|---:|---:|")
    for name, r in results.items():
        memory = f"{r['memory_mb']:.0f}" if r["memory_mb"] else ""
        detail = f" (batch {r['batch']:.0f}, {r['processes']:.0f} x {r['threads']:.0f} threads)" \
            if "batch" in r else ""
        print(f"| {name}{detail} | {r['rows_per_s']:,.0f} | {r['cpu_s_per_million']:,.2f} "
              f"| {memory} |")
    print("\n| | reached | aim |\n|---|---:|---:|")
    for what, ratio, aim in aims:
        print(f"| {what} | {ratio:.2f} | {aim} |")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller inputs, one round")
    parser.add_argument("--only", choices=["digits", "medium", "transformer", "sizes"])
    parser.add_argument("--rounds", type=int, default=0)
    options = parser.parse_args()
    rounds = options.rounds or (1 if options.quick else 3)
    WORK.mkdir(parents=True, exist_ok=True)
    print(machine())
    for workload in (digits, medium, transformer):
        if options.only in (None, workload.__name__):
            title, contenders, name = workload(options)
            print(title, file=sys.stderr)
            results = compare(contenders, rounds)
            show(title, results, ratios(name, results))
    if options.only in (None, "sizes"):
        print("\n### by size: digits\n\n| rows | seconds | rows/s | peak memory, MB |")
        print("|---:|---:|---:|---:|")
        for n, r in sizes(options):
            print(f"| {n:,} | {n / r['rows_per_s']:.2f} | {r['rows_per_s']:,.0f} "
                  f"| {r['memory_mb']:.0f} |")


if __name__ == "__main__":
    main()
