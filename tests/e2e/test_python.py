# SPDX-License-Identifier: Apache-2.0
"""The Python package: models, jobs, records in memory."""

import os
import subprocess
import sys

import pytest

from conftest import ROOT, TIDEMILL, read_jsonl, write_jsonl

sys.path.insert(0, str(ROOT / "python"))
sys.dont_write_bytecode = True
import tidemill  # noqa: E402

HANDLER = """
import tidemill

def load():
    return {"factor": 3}

@tidemill.model(batch=5, setup=load)
def triple(records, loaded):
    assert len(records) <= 5
    return [tidemill.Error("no x") if "x" not in r else r["x"] * loaded["factor"] for r in records]

if __name__ == "__main__":
    triple.serve()
"""


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setenv("TIDEMILL_BINARY", TIDEMILL)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "python"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (tmp_path / "handler.py").write_text(HANDLER)
    return f"exec:{sys.executable} {tmp_path}/handler.py"


def test_a_job_from_python(model, tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"id": 1, "x": 2}])
    write_jsonl(tmp_path / "b.jsonl", [{"id": 2, "x": 4}, {"id": 3}])
    summary = tidemill.run(model, [tmp_path / "a.jsonl", tmp_path / "b.jsonl"],
                           tmp_path / "out.jsonl", batch=100, checkpoint_every="1s", dedup="off")
    assert summary["records"] == 3 and summary["errors"] == 1
    assert [line["response"] for line in read_jsonl(tmp_path / "out.jsonl")] == [6, 12]


def test_records_in_memory(model):
    client = tidemill.Client(model, tune="off")
    answers = client.run([{"x": 1}, {"y": 1}, {"id": "named", "x": 3}])
    assert answers[0] == {"response": 3} and answers[2] == {"response": 9}
    assert isinstance(answers[1], tidemill.JobError) and "no x" in str(answers[1])
    assert client.summary["records"] == 3
    assert client.run([]) == []


def test_what_goes_wrong_has_a_kind(model, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"id": 1, "x": 2}])
    with pytest.raises(tidemill.RequestError) as caught:
        tidemill.run(model, tmp_path / "in.jsonl", tmp_path / "o.jsonl", btach=4)
    assert "did you mean '--batch'" in str(caught.value) and caught.value.status == 2
    with pytest.raises(tidemill.JobFailed):
        tidemill.run("exec:nowhere", tmp_path / "in.jsonl", tmp_path / "o.jsonl")
    os.environ["TIDEMILL_BINARY"] = ""
    with pytest.raises((tidemill.RequestError, FileNotFoundError)):
        os.environ["PATH"], path = "", os.environ["PATH"]
        try:
            tidemill.run(model, tmp_path / "in.jsonl", tmp_path / "o.jsonl")
        finally:
            os.environ["PATH"] = path


def test_a_model_is_still_a_function(model, tmp_path):
    scope = {"__name__": "handler"}
    exec(HANDLER, scope)
    assert scope["triple"]([{"x": 2}], {"factor": 5}) == [10]


def test_run_by_hand_it_says_how_it_is_meant(model, tmp_path):
    result = subprocess.run([sys.executable, tmp_path / "handler.py"], capture_output=True,
                            text=True, env={**os.environ, "PYTHONPATH": str(ROOT / "python")})
    assert result.returncode == 0 and "tidemill run --model exec:" in result.stderr


def test_types_hold():
    mypy = subprocess.run([sys.executable, "-m", "mypy", "--version"], capture_output=True)
    if mypy.returncode != 0:
        pytest.skip("no mypy here")
    subprocess.run([sys.executable, "-m", "mypy", "--strict", ROOT / "python/tidemill"], check=True)
