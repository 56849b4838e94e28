# SPDX-License-Identifier: Apache-2.0
"""What a job runs with: measured once, remembered, given, or the usual; and never an error."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from conftest import read_jsonl, run, start, write_jsonl

CORES = len(os.sched_getaffinity(0))


@pytest.fixture
def memory():
    return Path(os.environ["XDG_CACHE_HOME"]) / "tidemill" / "tune.json"


def summary_of(folder, *arguments, **more):
    result = run("run", "--output", folder / "out.jsonl", "--force", "--summary",
                 folder / "summary.json", *arguments, check=0, **more)
    return json.loads((folder / "summary.json").read_text()), result


def plan_of(journal):
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    plans = [json.loads(line[17:]) for line in lines if b'"type":"plan"' in line]
    return plans[0] if plans else None


def wait_for(what, process):
    while process.poll() is None and not what():
        time.sleep(0.01)
    assert what(), "the job ended before"


def stop(process):
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err


def test_measured_once_then_remembered(tmp_path, digits, memory):
    model, data = digits
    job = ("--model", model, "--input", data)
    first, _ = summary_of(tmp_path, *job)
    assert (first["batch_from"], first["parallel_from"]) == ("measured", "default")
    assert memory.exists() and [p.name for p in memory.parent.iterdir()] == ["tune.json"]
    second, result = summary_of(tmp_path, *job)
    assert second["batch_from"] == "remembered" and second["batch"] == first["batch"]
    assert f"batch {first['batch']} (remembered)" in result.err
    third, _ = summary_of(tmp_path, *job, "--tune", "always")
    assert third["batch_from"] == "measured"
    other, _ = summary_of(tmp_path, *job, "--output-name", "logits")
    assert other["batch_from"] == "measured"  # other outputs, other work


def test_off_neither_measures_nor_remembers(tmp_path, digits, memory):
    model, data = digits
    found, _ = summary_of(tmp_path, "--model", model, "--input", data, "--tune", "off")
    assert (found["batch_from"], found["batch"], found["parallel_from"]) == ("default", 32, "default")
    assert not memory.exists()


def test_given_stays(tmp_path, digits, memory):
    model, data = digits
    found, _ = summary_of(tmp_path, "--model", model, "--input", data, "--batch", "7",
                          "--instances", "1", "--threads", "1")
    assert (found["batch_from"], found["batch"]) == ("given", 7)
    assert (found["parallel_from"], found["instances"], found["threads"]) == ("given", 1, 1)
    assert not memory.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"tidemill_tune":99,"entries":[]}',
                                     b"\xff\x00" * 100, b" " * (2 << 20)])
def test_broken_memory_is_told_and_replaced(tmp_path, digits, memory, content):
    model, data = digits
    memory.parent.mkdir()
    memory.write_bytes(content)
    found, result = summary_of(tmp_path, "--model", model, "--input", data)
    assert found["batch_from"] == "measured"
    assert str(memory) in result.err and "is not used" in result.err
    found, result = summary_of(tmp_path, "--model", model, "--input", data)
    assert found["batch_from"] == "remembered" and "is not used" not in result.err


@pytest.mark.parametrize("cache, home", [("/proc/nowhere", "/"), ("", ""), ("relative", "/proc/x")])
def test_no_place_for_a_memory_is_no_error(tmp_path, digits, cache, home):
    model, data = digits
    env = {"XDG_CACHE_HOME": cache, "HOME": home}
    for _ in range(2):
        found, result = summary_of(tmp_path, "--model", model, "--input", data, env=env)
        assert found["batch_from"] == "measured"
        assert "tune.json" not in result.err


def change(memory, **parts):
    found = json.loads(memory.read_text())
    found["entries"][0].update(parts)
    memory.write_text(json.dumps(found))


@pytest.mark.parametrize("parts", [{"library": "ONNX Runtime 1.0.0 (cpu)"}, {"cores": 4096},
                                   {"cpu": "another"}, {"model": "0" * 32},
                                   {"provider": "cpu:x=1"}, {"instances": 1000},
                                   {"host_bytes": 1 << 60}])
def test_what_holds_elsewhere_is_not_taken_over(tmp_path, digits, memory, parts):
    model, data = digits
    summary_of(tmp_path, "--model", model, "--input", data)
    change(memory, rows=3, **parts)
    found, _ = summary_of(tmp_path, "--model", model, "--input", data)
    assert found["batch_from"] == "measured" and found["batch"] != 3


def test_remembered_parallelism_and_a_limit_of_memory(tmp_path, digits, memory):
    model, data = digits
    summary_of(tmp_path, "--model", model, "--input", data)
    change(memory, instances=1, threads=CORES, parallel_measured=True, rows=77, host_bytes=90 << 20)
    found, _ = summary_of(tmp_path, "--model", model, "--input", data)
    assert (found["parallel_from"], found["batch_from"]) == ("remembered", "remembered")
    assert (found["threads"], found["batch"]) == (CORES, 77)
    found, _ = summary_of(tmp_path, "--model", model, "--input", data, "--memory", "80MiB")
    assert found["batch_from"] == "measured" and found["parallel_from"] == "default"


def test_a_resumed_job_goes_by_its_journal(tmp_path, digits, memory):
    model, data = digits
    summary_of(tmp_path, "--model", model, "--input", data)
    change(memory, instances=1, threads=CORES, parallel_measured=True, rows=5)
    job = ("run", "--model", model, "--input", data, "--output", tmp_path / "a.jsonl",
           "--checkpoint-every", "10ms", "--dedup", "off")
    process = start(*job)
    journal = tmp_path / "a.jsonl.journal"
    wait_for(lambda: plan_of(journal) is not None, process)
    stop(process)
    memory.unlink()
    run(*job, "--summary", tmp_path / "s.json", check=0)
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["batch"] == 5 and found["threads"] == CORES
    assert found["batch_from"] == "remembered"
    assert len(read_jsonl(tmp_path / "a.jsonl")) == 20000


def test_lengths_that_were_not_met_before_are_measured(tmp_path, models, memory):
    def records(length):
        return [{"id": i, "input_ids": [1] * length, "attention_mask": [1] * length}
                for i in range(300)]

    def tokens():
        return json.loads(memory.read_text())["entries"][0]["tokens"]

    job = ("--model", models / "masked_mean.onnx", "--input", tmp_path / "in.jsonl")
    write_jsonl(tmp_path / "in.jsonl", records(8))
    summary_of(tmp_path, *job)
    short = tokens()
    assert [i for i, n in enumerate(short) if n > 0] == [3]
    write_jsonl(tmp_path / "in.jsonl", records(100))
    summary_of(tmp_path, *job)
    assert [i for i, n in enumerate(tokens()) if n > 0] == [3, 7] and tokens()[3] == short[3]
    found, _ = summary_of(tmp_path, *job)
    assert found["batch_from"] == "remembered"


@pytest.mark.skipif(CORES < 2, reason="there is one way of using one core")
def test_a_long_job_compares_ways_of_using_the_cores(tmp_path):
    """Two sleeping processes do twice as much as one, however many threads that has."""
    write_jsonl(tmp_path / "in.jsonl", [{"x": [i]} for i in range(20000)])
    inputs = [part for _ in range(2000) for part in ("--input", tmp_path / "in.jsonl")]
    process = start("run", "--model", "echo:width=1,row_latency_us=10", *inputs, "--output",
                    tmp_path / "out.jsonl", "--dedup", "off", "--batch", "64")
    journal = tmp_path / "out.jsonl.journal"
    wait_for(lambda: plan_of(journal) is not None, process)
    stop(process)
    plan = plan_of(journal)
    assert plan["parallel_from"] == "measured"
    assert (plan["instances"], plan["threads"]) == (CORES, 1)
