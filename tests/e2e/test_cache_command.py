# SPDX-License-Identifier: Apache-2.0
"""tidemill cache, and caches under kill -9, two processes at once, and a full disk."""

import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import IS_SANITIZED, TIDEMILL, mounted_disk, run

WRITER = Path(TIDEMILL).parent / "tests" / "cache_writer"
MIB = 1 << 20


def writer(mode, folder, bytes_max=2 * MIB, seed=1, **more):
    return subprocess.Popen([WRITER, mode, folder, str(bytes_max), str(seed)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)


def finish(process, status=0):
    """Waits for a writer; its counts and its messages."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, (process.returncode, err)
    return {name: int(n) for name, n in re.findall(r"(\w+)=(\d+)", out)}, err


@pytest.fixture
def cache(tmp_path):
    """A folder with a filled cache of 2 MiB."""
    finish(writer("fill", tmp_path / "cache"))
    return tmp_path / "cache"


def stat(folder):
    return json.loads(run("cache", "stat", folder, "--json", check=0).out)


# --- the command ------------------------------------------------------------------------------------


def test_stat(cache):
    numbers = stat(cache)
    assert numbers["entries"] > 1000 and numbers["bytes_max"] == 2 * MIB
    assert 0 < numbers["bytes_used"] <= numbers["file_bytes"] <= 2 * MIB
    assert sum(g["entries"] for g in numbers["generations"]) == numbers["entries"]
    assert sum(g["bytes"] for g in numbers["generations"]) == numbers["bytes_used"]
    text = run("cache", "stat", cache, check=0).out
    assert f"results      {numbers['entries']}\n" in text and "(2.0 MiB)" in text
    assert stat(cache) == numbers


@pytest.mark.parametrize("arguments", [["--max-bytes", "500K"], ["--max-bytes=500K"]])
def test_prune(cache, arguments):
    before = stat(cache)["entries"]
    out = run("cache", "prune", cache, *arguments, check=0).out
    after = stat(cache)
    assert 300 << 10 < after["bytes_used"] <= 500 << 10
    assert f"dropped {before - after['entries']} of {before} results" in out
    assert after["file_bytes"] == os.stat(cache / "results.mdb").st_size < MIB
    assert after["bytes_max"] == 2 * MIB
    assert finish(writer("read", cache))[0]["hits"] > 0


def test_clear(cache):
    run("cache", "clear", cache, check=0)
    assert stat(cache)["entries"] == 0 and stat(cache)["file_bytes"] < MIB
    assert finish(writer("read", cache))[0]["hits"] == 0
    assert finish(writer("fill", cache))[0]["hits"] > 0


@pytest.mark.parametrize("arguments, part", [
    ([], "name the folder"), (["stat"], "name the folder"), (["look", "x"], "none of stat, prune"),
    (["prune", "x"], "--max-bytes=SIZE"), (["prune", "x", "--max-bytes"], "wants a value"),
    (["prune", "x", "--max-bytes=much"], "'much' is not a size"),
    (["clear", "x", "--json"], "--json goes with stat"),
    (["stat", "x", "--max-bytes=1"], "goes with prune"), (["stat", "x", "--jsn"], "'--jsn'"),
    (["stat", "x", "y"], "not also 'y'"), (["stat", "no-such-folder"], "no cache in no-such-folder"),
])
def test_bad_requests(tmp_path, arguments, part):
    result = run("cache", *arguments, cwd=tmp_path, check=2)
    assert part in result.err and len(result.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_help():
    assert "prune" in run("cache", "--help", check=0).out
    assert "cache" in run("--help", check=0).out


def test_another_program_s_file(tmp_path):
    (tmp_path / "cache.state").write_text("something else\n")
    result = run("cache", "clear", tmp_path, check=2)
    assert "not a file of tidemill" in result.err
    assert (tmp_path / "cache.state").read_text() == "something else\n"


def test_a_broken_file_is_dropped_and_said(cache):
    data = bytearray((cache / "results.mdb").read_bytes())
    data[len(data) // 2] ^= 1
    time.sleep(0.02) # so that its time is another one, whatever the clock's step
    (cache / "results.mdb").write_bytes(data)
    result = run("cache", "stat", cache, check=0)
    assert f"the cache {cache} starts empty" in result.err and "results      0" in result.out


def test_another_boot_is_not_believed(cache):
    """As after a power loss: the file was open, and the machine is not the one that wrote it."""
    (cache / "cache.state").write_text("tidemill cache 1\nopen boot=other inode=1\n")
    result = run("cache", "stat", cache, check=0)
    assert "the machine went down" in result.err and "results      0" in result.out


def test_a_cache_in_use(cache):
    process = writer("write", cache)
    try:
        deadline = time.monotonic() + 60
        while "open " not in (cache / "cache.state").read_text():
            assert time.monotonic() < deadline
        assert stat(cache)["entries"] > 0
        run("cache", "prune", cache, "--max-bytes", "100K", check=0)
        run("cache", "clear", cache, check=0)
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


# --- kills and neighbours -----------------------------------------------------------------------------


def test_kill_at_any_time(tmp_path):
    """One or two processes write, one reads, the writers are killed: right values or none."""
    seed = int(os.environ.get("TIDEMILL_TEST_SEED", time.time_ns() % 10**9))
    print(f"TIDEMILL_TEST_SEED={seed}")
    dice = random.Random(seed)
    folder, hits = tmp_path / "cache", 0
    for turn in range(10 if IS_SANITIZED else 40):
        writers = [writer(dice.choice(("write", "fill")), folder, seed=seed + turn * 2 + i)
                   for i in range(dice.choice((1, 2)))]
        reader = writer("read", folder, seed=seed + turn)
        time.sleep(dice.random() ** 2 * 0.3)
        for process in writers:
            process.send_signal(signal.SIGKILL)
            _, err = process.communicate(timeout=60)
            assert process.returncode in (0, -signal.SIGKILL) and err == "", err
        hits += finish(reader)[0]["hits"]
        counts, err = finish(writer("read", folder, seed=seed - turn))
        assert err == "", err
        hits += counts["hits"]
    assert hits > 1000
    assert stat(folder)["file_bytes"] <= 2 * MIB
    assert finish(writer("fill", folder))[0]["rejected"] == 0


def test_a_stopped_process_holds_up_nobody(cache):
    """SIGSTOP in the middle of whatever it does: others get answers, and end."""
    for _ in range(5):
        stopped = writer("write", cache)
        time.sleep(0.05 + random.random() * 0.05)
        stopped.send_signal(signal.SIGSTOP)
        try:
            finish(writer("read", cache))
        finally:
            stopped.kill()
            stopped.communicate()


# --- a full disk --------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    yield from mounted_disk(tmp_path / "disk", mib=2)


@pytest.mark.parametrize("ballast_kib", [0, 1200, 1900, 1980, 2000, 2020, 2040, 2048])
def test_full_disk(small_disk, ballast_kib):
    """An error or none, but no crash, and no wrong value then or later."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (ballast_kib << 10))
    process = writer("fill", small_disk / "cache", bytes_max=16 * MIB)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3 and "No space left on device" in err, (process.returncode, err)
    assert len(err.strip().splitlines()) <= 2, err
    process = writer("read", small_disk / "cache", bytes_max=16 * MIB)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0 or (process.returncode == 3 and "No space left" in err), err
    ballast.unlink()
    finish(writer("read", small_disk / "cache", bytes_max=MIB))
    if ballast_kib < 1200: # most of the disk is the cache: no room for a copy, but for none
        run("cache", "prune", small_disk / "cache", "--max-bytes", "1M")
        run("cache", "clear", small_disk / "cache", check=0)
    finish(writer("fill", small_disk / "cache", bytes_max=MIB))
    assert stat(small_disk / "cache")["entries"] > 0
