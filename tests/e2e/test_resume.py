# SPDX-License-Identifier: Apache-2.0
"""Promise: killed at any moment, the same command ends with the bytes of an undisturbed run."""

import os
import random
import signal
import subprocess
import time

import pytest
from conftest import IS_SANITIZED, TIDEMILL, commits, leftovers, read_jsonl, run, start, write_jsonl

# Undisturbed, the slow job takes a few seconds; so a kill usually hits something.
SLOW = "echo:width=2,row_latency_us=300"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """12,000 records, 40 of them bad in several ways."""
    folder = tmp_path_factory.mktemp("rows")
    bad = ["{", '{"id":"b","x":[1]}', '{"id":"c","x":["a","b"]}', "[1,2]"]
    records = [bad[i // 300 % 4] if i % 300 == 150 else {"id": i, "x": [i, i + 0.5]}
               for i in range(12000)]
    return write_jsonl(folder / "in.jsonl", records)


@pytest.fixture(scope="module")
def undisturbed(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    run("run", "-m", SLOW, "-i", rows, "-o", folder / "out.jsonl", "-b", 64, check=1)
    return (folder / "out.jsonl").read_bytes(), (folder / "out.jsonl.errors.jsonl").read_bytes()


def hosts_of(engine):
    """Process ids of the model processes below an engine."""
    try:
        with open(f"/proc/{engine}/task/{engine}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def check_same(folder, undisturbed, name="out.jsonl"):
    assert (folder / name).read_bytes() == undisturbed[0]
    assert (folder / f"{name}.errors.jsonl").read_bytes() == undisturbed[1]
    assert not leftovers(folder)


def kill_something(job, dice):
    """The engine, its hosts, or both. True if the engine was among them."""
    what = dice.choice(["engine", "host", "both"])
    hosts = hosts_of(job.pid)
    if what != "engine":
        for pid in hosts:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    if what != "host":
        job.kill()
    return what != "host"


ROUNDS = int(os.environ.get("TIDEMILL_KILL_ROUNDS", "4" if IS_SANITIZED else "10"))


def test_random_kills(rows, undisturbed, tmp_path):
    """TIDEMILL_KILL_ROUNDS=50 and TIDEMILL_KILL_SEED=n repeat a longer run."""
    seed = int(os.environ.get("TIDEMILL_KILL_SEED", time.time_ns() % 1000000))
    print(f"TIDEMILL_KILL_SEED={seed}")
    dice = random.Random(seed)
    command = ["run", "-q", "-m", SLOW, "-i", rows, "-o", tmp_path / "out.jsonl", "-b", 64,
               "--instances", 2]
    kills = 0
    for _ in range(ROUNDS):
        job = start(*command)
        time.sleep(dice.uniform(0.02, 0.6))
        if job.poll() is None and not kill_something(job, dice):
            time.sleep(dice.uniform(0, 0.3)) # its hosts are replaced meanwhile
        if job.poll() is None or job.returncode == -signal.SIGKILL:
            kills += 1
            job.kill()
        job.wait()
        assert job.stderr.read().count(b"error") == 0
    assert kills > 0, "no kill hit"
    run(*command, check=1, timeout=300)
    check_same(tmp_path, undisturbed)


@pytest.mark.parametrize("ending, unpack", [(".gz", ["gzip", "-dc"]), (".zst", ["zstd", "-dc"])])
def test_kills_with_a_compressed_output(rows, undisturbed, tmp_path, ending, unpack):
    command = ["run", "-q", "-m", SLOW, "-i", rows, "-b", 64]
    run(*command, "-o", tmp_path / f"whole.jsonl{ending}", check=1)
    for pause in 0.3, 0.5, 0.7:
        job = start(*command, "-o", tmp_path / f"out.jsonl{ending}")
        time.sleep(pause)
        job.kill()
        job.wait()
    run(*command, "-o", tmp_path / f"out.jsonl{ending}", check=1)
    assert (tmp_path / f"out.jsonl{ending}").read_bytes() == \
        (tmp_path / f"whole.jsonl{ending}").read_bytes()
    plain = subprocess.run([*unpack, tmp_path / f"out.jsonl{ending}"], capture_output=True)
    assert plain.returncode != 0 or plain.stdout == undisturbed[0]


def test_kill_redoes_at_most_one_interval(rows, tmp_path):
    output = tmp_path / "out.jsonl"
    command = ["run", "-q", "-m", SLOW, "-i", rows, "-o", output, "-b", 16,
               "--checkpoint-every", "200ms"]
    job = start(*command)
    time.sleep(1.6)
    job.kill()
    job.wait()
    done = commits(tmp_path / "out.jsonl.journal")[-1]
    assert not output.exists(), "a partial file bears the final name"
    assert done["ok"] + done["failed"] > 0
    result = run(*command[:1], *command[2:], "--summary", tmp_path / "s.json", check=1)
    assert f"this run" in result.err
    total = len(rows.read_text().splitlines())
    assert f"{total - done['ok'] - done['failed']} records" in result.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_is_a_checkpoint(rows, undisturbed, tmp_path, number):
    command = ["run", "-q", "-m", SLOW, "-i", rows, "-o", tmp_path / "out.jsonl", "-b", 64]
    job = start(*command)
    time.sleep(1.0)
    job.send_signal(number)
    assert job.wait(timeout=20) == 75
    assert commits(tmp_path / "out.jsonl.journal")[-1]["ok"] > 0
    assert not (tmp_path / "out.jsonl.lock").exists()
    run(*command, check=1)
    check_same(tmp_path, undisturbed)


def test_signal_does_not_wait_for_a_model_that_hangs(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"x": [i]} for i in range(100)])
    job = start("run", "-q", "-m", "echo:hang_on=50", "-i", tmp_path / "in.jsonl", "-o",
                tmp_path / "out.jsonl", "-b", 1)
    time.sleep(1.0)
    began = time.monotonic()
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=25) == 75
    assert time.monotonic() - began < 25


def test_second_signal_leaves_at_once(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"x": [i]} for i in range(100)])
    job = start("run", "-q", "-m", "echo:hang_on=50", "-i", tmp_path / "in.jsonl", "-o",
                tmp_path / "out.jsonl", "-b", 1)
    time.sleep(1.0)
    job.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=3) == 75


def test_signal_while_waiting_for_a_pipe(tmp_path):
    job = subprocess.Popen([TIDEMILL, "run", "-q", "-m", "echo", "-i", "-", "-o",
                            tmp_path / "out.jsonl"], stdin=subprocess.PIPE,
                           stderr=subprocess.DEVNULL)
    job.stdin.write(b'{"x":[1]}\n' * 10000)
    job.stdin.flush()
    time.sleep(1.0)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=20) == 75


def test_signal_before_the_first_record_of_a_pipe(tmp_path):
    job = subprocess.Popen([TIDEMILL, "run", "-m", "echo", "-i", "-", "-o",
                            tmp_path / "out.jsonl"], stdin=subprocess.PIPE,
                           stderr=subprocess.PIPE)
    time.sleep(0.5)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=20) == 75
    assert b"error" not in job.stderr.read()


def test_host_dies_when_the_engine_is_killed(rows, tmp_path):
    job = start("run", "-q", "-m", SLOW, "-i", rows, "-o", tmp_path / "out.jsonl")
    time.sleep(0.8)
    hosts = hosts_of(job.pid)
    assert hosts
    job.kill()
    job.wait()
    deadline = time.monotonic() + 1
    alive = hosts
    while alive and time.monotonic() < deadline:
        time.sleep(0.02)
        alive = [pid for pid in alive if os.path.exists(f"/proc/{pid}")
                 and open(f"/proc/{pid}/stat").read().split(") ")[1][0] != "Z"]
    assert not alive


def test_two_runs_of_one_job(rows, undisturbed, tmp_path):
    command = ["run", "-q", "-m", SLOW, "-i", rows, "-o", tmp_path / "out.jsonl", "-b", 64]
    first = start(*command)
    time.sleep(0.8)
    second = run(*command, check=2)
    assert str(first.pid) in second.err
    assert first.wait(timeout=60) == 1
    check_same(tmp_path, undisturbed)


@pytest.mark.parametrize("what", ["input", "model", "option"])
def test_a_changed_job_is_refused_by_name(digits, tmp_path, what):
    model, data = (tmp_path / "m.onnx", tmp_path / "in.jsonl")
    model.write_bytes(digits[0].read_bytes())
    data.write_bytes(digits[1].read_bytes())
    command = ["run", "-m", model, "-i", data, "-o", tmp_path / "out.jsonl", "-b", 16]
    job = start(*command, "--checkpoint-every", "10ms")
    while not commits(tmp_path / "out.jsonl.journal"):
        time.sleep(0.005)
    job.kill()
    job.wait()
    if (tmp_path / "out.jsonl").exists():
        pytest.skip("the job was faster than the kill")
    path = {"input": data, "model": model}.get(what)
    if path:
        content = bytearray(path.read_bytes())
        content[-100] ^= 1
        path.write_bytes(content)
    result = run(*command, *(["--post", "softmax"] if what == "option" else []), check=2)
    assert {"input": "input", "model": "model", "option": "--post"}[what] in result.err
    run(*command, *(["--post", "softmax"] if what == "option" else []), "--force",
        check=0 if what != "input" else None)


def test_damaged_journal_is_named(rows, tmp_path):
    job = start("run", "-q", "-m", SLOW, "-i", rows, "-o", tmp_path / "out.jsonl",
                "--checkpoint-every", "50ms")
    time.sleep(1.5)
    job.kill()
    job.wait()
    journal = tmp_path / "out.jsonl.journal"
    content = bytearray(journal.read_bytes())
    content[40] ^= 1
    journal.write_bytes(content)
    result = run("run", "-q", "-m", SLOW, "-i", rows, "-o", tmp_path / "out.jsonl", check=3)
    assert "out.jsonl.journal:1" in result.err


def test_resume_from_standard_input(rows, undisturbed, tmp_path):
    command = ["run", "-q", "-m", SLOW, "-i", "-", "-o", tmp_path / "out.jsonl", "-b", 64]
    with open(rows, "rb") as file:
        job = subprocess.Popen([TIDEMILL, *map(str, command)], stdin=file)
        time.sleep(1.0)
        job.kill()
        job.wait()
    with open(rows, "rb") as file:
        run(*command, stdin=file, check=1)
    assert (tmp_path / "out.jsonl").read_bytes() == undisturbed[0]
    assert [dict(e, input="") for e in read_jsonl(tmp_path / "out.jsonl.errors.jsonl")] == \
        [dict(e, input="") for e in map(__import__("json").loads, undisturbed[1].splitlines())]
