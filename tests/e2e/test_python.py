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


ODD = r"""
import tidemill

class Array:
    def __init__(self, value): self.value = value
    def tolist(self): return self.value

@tidemill.model
def odd(records):
    if records[0].get("all") == "text": return "a" * len(records)
    give = {"nan": float("nan"), "set": {1}, "array": Array([1, 2]), "text": "\u00fc\U0001f600",
            "lone": "\ud800", "why": tidemill.Error("\ud800 alone")}
    return [give[record["give"]] for record in records]

if __name__ == "__main__":
    odd.serve()
"""


def test_results_that_are_no_json_cost_their_records(model, tmp_path):
    (tmp_path / "handler.py").write_text(ODD)
    gifts = ["nan", "array", "set", "text", "lone", "why", "array"]
    client = tidemill.Client(model, tune="off", dedup="off")
    answers = client.run([{"give": gift} for gift in gifts])
    assert [isinstance(answer, tidemill.JobError) for answer in answers] == [
        True, False, True, False, True, True, False]
    assert answers[1] == {"response": [1, 2]} and answers[3] == {"response": "\u00fc\U0001f600"}
    assert "not JSON" in str(answers[0]) and "alone" in str(answers[5])
    answers = client.run([{"all": "text"}] * 2)
    assert all("not a list of results" in str(answer) for answer in answers)


def test_answers_are_readable_text(model, tmp_path):
    (tmp_path / "handler.py").write_text(ODD)
    write_jsonl(tmp_path / "in.jsonl", [{"id": 1, "give": "text"}])
    tidemill.run(model, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert "\u00fc\U0001f600" in (tmp_path / "out.jsonl").read_text(encoding="utf-8")
