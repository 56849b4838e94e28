# SPDX-License-Identifier: Apache-2.0
"""Disks that fill and fail: a clear error, exit status 3, and the same command goes on."""

import os
import shutil
import subprocess

import pytest
from conftest import IS_SANITIZED, TIDEMILL, leftovers, mounted_disk, run, write_jsonl


@pytest.fixture
def small_disk(tmp_path):
    yield from mounted_disk(tmp_path / "disk", mib=4)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    return write_jsonl(folder / "in.jsonl", [{"x": [i, i * 0.37]} for i in range(5000)])


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_full_disk_then_room(small_disk, rows, tmp_path, ending):
    command = ["run", "-q", "-m", "echo:width=2", "-i", rows, "-b", 64]
    run(*command, "-o", tmp_path / f"whole.jsonl{ending}", check=0)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * ((4 << 20) - (40 << 10))) # room for a part of the output
    output = small_disk / f"out.jsonl{ending}"
    for _ in range(2):
        result = run(*command, "-o", output, check=3)
        assert "No space left on device" in result.err and str(small_disk) in result.err
        assert len(result.err.strip().splitlines()) == 1
        assert not output.exists()
    ballast.unlink()
    run(*command, "-o", output, check=0)
    assert output.read_bytes() == (tmp_path / f"whole.jsonl{ending}").read_bytes()
    assert not leftovers(small_disk)


needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None or IS_SANITIZED, reason="needs strace")


def traced(rule, path, *arguments):
    """Runs the command with one system call on `path` made to fail."""
    log = f"{path}.strace"
    result = subprocess.run(
        ["strace", "-f", "-qq", "-o", log, "-e", f"inject={rule}", "-P", path, TIDEMILL,
         *map(str, arguments)], capture_output=True, text=True, timeout=120)
    fired = "INJECTED" in open(log, encoding="utf-8", errors="replace").read()
    os.unlink(log)
    return result, fired


@needs_strace
@pytest.mark.parametrize("name", ["out.jsonl.partial", "out.jsonl.journal"])
@pytest.mark.parametrize("rule", ["write,pwrite64:error=EIO:when=2",
                                  "write,pwrite64:error=ENOSPC:when=2+",
                                  "fdatasync:error=EIO:when=1", "fsync,fdatasync:error=EIO:when=2"])
def test_one_failed_call_stops_and_resumes(rows, tmp_path, name, rule):
    command = ["run", "-q", "-m", "echo:width=2,row_latency_us=50", "-i", rows, "-b", 64]
    run(*command, "-o", tmp_path / "whole.jsonl", check=0)
    result, fired = traced(rule, str(tmp_path / name), *command, "-o", tmp_path / "out.jsonl")
    assert fired, "the fault did not happen"
    assert result.returncode == 3 and name in result.stderr, result.stderr
    assert not (tmp_path / "out.jsonl").exists()
    run(*command, "-o", tmp_path / "out.jsonl", check=0)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@needs_strace
@pytest.mark.slow
@pytest.mark.parametrize("call", ["write,pwrite64", "fdatasync", "fsync", "rename", "ftruncate", "unlink"])
def test_kill_at_every_call(rows, tmp_path, call):
    """SIGKILL on entering the k-th such call of the engine, for each k until none is left."""
    output = tmp_path / "out.jsonl"
    command = ["run", "-q", "-m", "echo:width=2,row_latency_us=20", "-i", rows, "-o", output,
               "-b", 64, "--checkpoint-every", "20ms"]
    run(*command[:1], *command[1:6], "-o", tmp_path / "whole.jsonl", "-b", 64, check=0)
    whole = (tmp_path / "whole.jsonl").read_bytes()
    for k in range(1, 40):
        result = subprocess.run(
            ["strace", "-qq", "-o", "/dev/null", "-f", "-e",
             f"inject={call}:signal=SIGKILL:when={k}", "-P", str(output), "-P", f"{output}.partial",
             "-P", f"{output}.journal", "-P", f"{output}.errors.jsonl.partial", TIDEMILL,
             *map(str, command)], capture_output=True, timeout=120)
        assert not output.exists() or output.read_bytes() == whole, (call, k)
        run(*command, check=0)
        assert output.read_bytes() == whole, (call, k)
        assert not leftovers(tmp_path), (call, k)
        for path in output, tmp_path / "out.jsonl.journal":
            path.unlink()
        if result.returncode == 0:
            return


def test_read_only_directory(rows, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    result = run("run", "-m", "echo:width=2", "-i", rows, "-o", small_disk / "out.jsonl", check=3)
    assert "Read-only file system" in result.err


def test_few_descriptors(rows, tmp_path):
    result = subprocess.run(
        ["sh", "-c", f"ulimit -n 12; exec '{TIDEMILL}' run -q -m echo:width=2 -i '{rows}' "
         f"-o '{tmp_path}/out.jsonl'"], capture_output=True, text=True, timeout=60)
    assert result.returncode in (0, 3)
    if result.returncode == 3:
        assert "Too many open files" in result.stderr


def test_file_size_limit(rows, tmp_path):
    """SIGXFSZ does not kill; the write's error is told."""
    result = subprocess.run(
        ["bash", "-c", f"ulimit -f 64; exec '{TIDEMILL}' run -q -m echo:width=2 -i '{rows}' "
         f"-o '{tmp_path}/out.jsonl'"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 3 and "File too large" in result.stderr
    run("run", "-q", "-m", "echo:width=2", "-i", rows, "-o", tmp_path / "out.jsonl", check=0)
