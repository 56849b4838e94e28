# SPDX-License-Identifier: Apache-2.0
"""Who takes part in what: the frameworks with their settings, and tidemill.

The settings are the best that were found on two cores, as the frameworks' own pages advise; each
script names the pages. Everybody may use all cores.
"""
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import contenders
import data

HERE = Path(__file__).resolve().parent
VENVS = data.ROOT / ".deps/peers"
CORES = contenders.CORES
TIMEOUT_S = 900
# Python keeps what it compiled, as everybody's does: the first, checked run fills that in.
ENVIRONMENT = {**{name: value for name, value in os.environ.items()
                  if name != "PYTHONDONTWRITEBYTECODE"}, "TOKENIZERS_PARALLELISM": "true"}


@dataclass
class Work:
    """A model and its records."""
    key: str
    title: str
    model: Path
    source: Path
    n_rows: int
    output_name: str
    tokenizer: Path = None
    id_type: str = "bigint"  # of the records, for Spark


@dataclass
class Contender:
    """command(work, source, output, scratch) is what to run; output is a file, a folder or the
    beginning of names. rows: 0 is all of them. missing: why it cannot take part."""
    key: str
    title: str
    command: callable
    rows: int = 0
    missing: str = ""
    environment: dict = field(default_factory=dict)


# --- frameworks ----------------------------------------------------------------------------------


def why_missing(venv, programs):
    """Empty if everything is there."""
    if not (VENVS / venv / "READY").exists():
        failed = VENVS / f"{venv}.failed"
        return failed.read_text().strip() if failed.exists() else f"bench/peers/install {venv}"
    missing = [package for program, package in programs.items() if shutil.which(program) is None]
    return f"apt-get install {' '.join(missing)}" if missing else ""


def framework(key, title, venv, script, *more, rows=0, programs=None, threads=CORES):
    def command(work, source, output, scratch):
        made = [VENVS / venv / "bin/python", HERE / script, "--model", work.model, "--input",
                source, "--output", output, "--scratch", scratch, "--threads", threads, *more]
        return made + (["--tokenizer", work.tokenizer] if work.tokenizer else [])
    return Contender(key, title, command, rows, why_missing(venv, programs or {}),
                     ENVIRONMENT)


def not_run(key, title, reason):
    return Contender(key, title, None, missing=reason)


JAVA = {"java": "openjdk-17-jre-headless"}


def loops_for_digits():
    return [
        framework("loop_json", "Python loop: json, batch 256", "loop", "loop.py", rows=200_000),
        framework("loop_orjson", "Python loop: orjson, batch 1,024", "loop", "loop.py", "--kind",
                  "tuned", "--batch", 1024, threads=1),
        framework("loop_processes", f"Python loop: orjson, batch 1,024, {CORES} processes", "loop",
                  "loop.py", "--kind", "processes", "--batch", 1024),
    ]


def frameworks_for_digits():
    return [
        framework("spark", f"Spark mapInPandas, local[{CORES}]", "spark", "spark.py",
                  programs=JAVA),
        framework("beam", "Beam RunInference, in memory", "beam", "beam.py"),
        framework("beam_processes", f"Beam RunInference, {CORES} processes", "beam", "beam.py",
                  "--mode", "multi_processing", "--workers", CORES),
        framework("ray", "Ray Data map_batches, 4,096 rows", "ray", "ray_data.py", "--actors",
                  CORES),
        framework("celery_256", "Celery + Redis, a task for 256 records", "celery",
                  "celery_redis.py", "--many", 256, rows=200_000,
                  programs={"redis-server": "redis-server"}),
        framework("celery", "Celery + Redis, a task a record", "celery", "celery_redis.py",
                  rows=5_000, programs={"redis-server": "redis-server"}),
        framework("torchserve", "TorchServe, batchSize 64, a request a record", "torch",
                  "torchserve.py", rows=50_000, programs=JAVA),
        framework("triton_256", "Triton (PyTriton), a request for 256 records", "triton",
                  "triton.py", "--many", 256, rows=500_000),
        framework("triton", "Triton (PyTriton), dynamic batches, a request a record", "triton",
                  "triton.py", rows=50_000),
        not_run("tfserving", "TensorFlow Serving", "no package of the server: PyPI's "
                "tensorflow-serving-api is the client's stubs, Debian has none"),
    ]


def frameworks_for_texts(work, batch, rows):
    name = ["--name", work.output_name]
    return [
        framework("spark", f"Spark mapInPandas, local[{CORES}], batch {batch}", "spark", "spark.py",
                  "--batch", batch, "--id", work.id_type, *name, rows=rows, programs=JAVA),
        framework("beam", f"Beam RunInference, buckets by length, batch {batch}", "beam", "beam.py",
                  "--batch", batch, *name, rows=rows),
        framework("ray", f"Ray Data map_batches, batch {batch}", "ray", "ray_data.py", "--batch",
                  batch, "--actors", CORES, rows=rows),
    ]


def loops_for_texts(batch, budget, rows=0):
    return [
        framework("loop_sorted", f"Python loop: sorted by length, {budget:,} tokens a batch",
                  "loop", "loop.py", "--kind", "sorted", "--budget", budget),
        framework("loop_arrival", f"Python loop: as they come, batch {batch}", "loop", "loop.py",
                  "--kind", "tuned", "--batch", batch, rows=rows),
    ]


def sentence_transformers():
    return framework("sentence", "sentence-transformers on PyTorch, encode(), batch 32", "torch",
                     "sentence.py")


# --- tidemill ------------------------------------------------------------------------------------


def tidemill(key="tidemill", title="tidemill run", *more, ids=None):
    """ids(work, source) is a file of token ids to read in place of the texts."""
    def command(work, source, output, scratch):
        made = [contenders.TIDEMILL, "run", "--model", work.model, "--input",
                ids(work, source) if ids else source, "--output", output.with_suffix(".jsonl"),
                *more]
        return made + (["--tokenizer", work.tokenizer] if work.tokenizer and not ids else [])
    return Contender(key, title, command, environment=contenders.ENVIRONMENT)


def every_record():
    """Equal inputs run again and again, as with everybody else."""
    return tidemill("tidemill", "tidemill run --dedup off", "--dedup", "off")


def run_helper(*arguments):
    """reference.py in the loops' environment; what it prints."""
    return subprocess.run([VENVS / "loop/bin/python", HERE / "reference.py", *arguments],
                          stdout=subprocess.PIPE, check=True).stdout
