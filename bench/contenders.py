# SPDX-License-Identifier: Apache-2.0
"""Who takes part: tidemill, the limits of the machine, and the loops that a user would write.

A contender has run(), which returns rows_per_s and cpu_s_per_million of one run, and watch(), which
returns the memory of one more, or None.
"""
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

import onnxruntime

import data
import measure

TIDEMILL = Path(os.environ.get("TIDEMILL") or data.BUILD / "tidemill").absolute()
LIBRARY = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
CORES = len(os.sched_getaffinity(0))
# Everybody has the same ONNX Runtime. What tidemill remembers of this machine is left alone.
ENVIRONMENT = {**os.environ, "TIDEMILL_ONNXRUNTIME": str(LIBRARY),
               "XDG_CACHE_HOME": str(data.BUILD / "bench-home")}
MEMORY_FOLDER = Path("/dev/shm")


@dataclass
class Contender:
    key: str
    title: str
    run: Callable[[], dict]
    watch: Optional[Callable[[], dict]] = None
    output: Optional[Path] = None  # what it wrote, to be compared


# --- tidemill ------------------------------------------------------------------------------------


def tidemill(key, title, model, source, n_rows, output):
    """All defaults, and nothing remembered: each run measures as the first one on a machine does. The
    output and what lies beside it are removed before."""
    command = [TIDEMILL, "run", "--model", model, "--input", source, "--output", output,
               "--tune", "always"]

    def clean():
        for path in output.parent.glob(output.name + "*"):
            path.unlink()

    def run():
        clean()
        return measure.timed(command, n_rows, ENVIRONMENT)

    def watch():
        clean()
        return measure.watched(command, ENVIRONMENT)
    return Contender(key, title, run, watch, output)


class MemoryFolder:
    """A folder on a memory file system; path is None where there is none."""

    def __init__(self):
        self.path = None

    def __enter__(self):
        if os.access(MEMORY_FOLDER, os.W_OK):
            self.path = Path(tempfile.mkdtemp(prefix="tidemill-bench-", dir=MEMORY_FOLDER))
        return self

    def __exit__(self, *_):
        if self.path is not None:
            shutil.rmtree(self.path)


# --- limits --------------------------------------------------------------------------------------


def parse_floor(source, field, processes):
    command = [data.BUILD / "bench/parse_floor", source, field, processes]
    many = "1 process" if processes == 1 else f"{processes} processes"
    return Contender(f"parse_floor_{processes}", f"parse floor: yyjson, {many}",
                     lambda: measure.lines(command)[0])


def powers_up_to(most):
    return sorted({2 ** i for i in range(most.bit_length()) if 2 ** i <= most} | {most})


def raw_settings():
    """(processes, threads, spinning) that fill one core, or all of them, or something between."""
    settings = [(1, 1, 1)]
    for n in powers_up_to(CORES)[1:]:
        settings += [(1, n, 1), (1, n, 0), (n, CORES // n, 1)]
    return settings


def raw_command(model, setting, batches, seconds):
    processes, threads, spinning = setting
    return [data.BUILD / "bench/raw_loop", LIBRARY, model, "--processes", processes, "--threads",
            threads, "--spinning", spinning, "--batches", ",".join(map(str, batches)), "--seconds",
            seconds]


def raw_title(found):
    processes, threads = found["processes"], found["threads"]
    title = f"batch {found['batch']}, "
    if processes > 1:
        title += f"{processes} processes of "
    title += "1 thread" if threads == 1 else f"{threads} threads"
    return title + (", no spinning" if threads > 1 and not found["spinning"] else "")


def raw_loop(key, title, model, found, seconds):
    command = raw_command(model, (found["processes"], found["threads"], found["spinning"]),
                          [found["batch"]], seconds)
    return Contender(key, f"{title} ({raw_title(found)})", lambda: measure.lines(command)[0])


def raw_sweep(model, batches, seconds):
    """Every setting with every batch size, fastest first."""
    found = []
    for setting in raw_settings():
        found += measure.lines(raw_command(model, setting, batches, seconds))
    return sorted(found, key=lambda f: -f["rows_per_s"])


# --- Python --------------------------------------------------------------------------------------


def has_orjson():
    return subprocess.run([sys.executable, "-c", "import orjson"], stderr=subprocess.DEVNULL,
                          check=False).returncode == 0


def python_loop(key, model, source, n_rows, batch, kind="json"):
    """Over the first rows only: it is slow, and what it reports is the loop without its start."""
    output = data.WORK / f"{source.stem}-{key}.jsonl"
    command = [sys.executable, data.ROOT / "bench/python_loop.py", model,
               data.head(source, n_rows), output, batch, kind]
    return Contender(key, f"Python loop: {kind}, batch {batch}",
                     lambda: measure.lines(command)[0],
                     lambda: measure.watched(command, ENVIRONMENT), output)


def python_loops(model, source, n_one, n_many, n_tuned):
    """A row at a time, batches of 256, and the hand-tuned one."""
    return [
        python_loop("python_256", model, source, n_many, 256),
        python_loop("python_1", model, source, n_one, 1),
        python_loop("python_tuned", model, source, n_tuned, 1024,
                    "orjson" if has_orjson() else "json"),
    ]
