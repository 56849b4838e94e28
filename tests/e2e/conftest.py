# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: the command under test, small models, records."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TIDEMILL = os.environ.get("TIDEMILL", str(ROOT / "build" / "tidemill"))
IS_SANITIZED = "asan" in TIDEMILL or "tsan" in TIDEMILL


def run(*arguments, cwd=None, check=None, timeout=120, env=None, **more):
    """Runs the command; `check` is the exit status that it must have."""
    result = subprocess.run(
        [TIDEMILL, *map(str, arguments)], cwd=cwd, capture_output=True, timeout=timeout,
        env={**os.environ, **(env or {})}, **more
    )
    result.out = result.stdout.decode("utf-8", "replace")
    result.err = result.stderr.decode("utf-8", "replace")
    assert "AddressSanitizer" not in result.err and "runtime error:" not in result.err, result.err
    if check is not None:
        assert result.returncode == check, f"exit {result.returncode}, not {check}\n{result.err}"
    return result


def heed_signals():
    """A suite that a shell started with & ignores SIGINT, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def start(*arguments, cwd=None, **more):
    """Starts the command in the background, quiet."""
    return subprocess.Popen(
        [TIDEMILL, *map(str, arguments)], cwd=cwd, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, preexec_fn=heed_signals, **more
    )


def write_jsonl(path, records):
    with open(path, "w", encoding="utf-8") as file:
        for record in records:
            file.write(record if isinstance(record, str) else json.dumps(record))
            file.write("\n")
    return path


def read_jsonl(path):
    """Strict: NaN and Infinity are not JSON."""
    def refuse(name):
        raise ValueError(f"{name} is not JSON")

    with open(path, encoding="utf-8") as file:
        return [json.loads(line, parse_constant=refuse) for line in file]


def commits(journal):
    """The commit frames of a journal, whole lines only."""
    if not journal.exists():
        return []
    lines = journal.read_bytes().split(b"\n")[:-1]
    frames = [json.loads(line[17:]) for line in lines if len(line) > 17]
    return [frame for frame in frames if frame["type"] == "commit"]


def leftovers(folder):
    """Files that a finished job should not leave."""
    return [p.name for p in Path(folder).iterdir()
            if p.name.endswith((".partial", ".lock", ".rows", ".archive")) or ".retry" in p.name]


@pytest.fixture(autouse=True)
def no_memory(tmp_path_factory, monkeypatch):
    """What tuning finds is remembered in a folder of the test's own, never in the developer's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def mounted_disk(folder, mib):
    """For a fixture: a file system of so many MiB at `folder`; unmounted afterwards."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", folder],
                      capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Folder with the small ONNX models of tests/models."""
    folder = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, ROOT / "tests/models/make_models.py", folder], check=True,
                   stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="session")
def gguf(tmp_path_factory):
    """Folder with the GGUF models of tests/models."""
    if not (Path(TIDEMILL).parent / "tests" / "llama_reference").exists():
        pytest.skip("this build has no llama.cpp")
    folder = tmp_path_factory.mktemp("gguf")
    subprocess.run([sys.executable, ROOT / "tests/models/make_gguf.py", folder], check=True)
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """(model, records): the digits example and 20,000 records made from its held-out part."""
    folder = tmp_path_factory.mktemp("digits")
    data = folder / "digits.jsonl"
    subprocess.run([sys.executable, ROOT / "examples/digits/make_data.py", "--rows", "20000",
                    "--output", data], check=True, stdout=subprocess.DEVNULL)
    return ROOT / "examples/digits/digits.onnx", data
