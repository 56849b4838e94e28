# SPDX-License-Identifier: Apache-2.0
"""--output-format openai-batch: what a client of OpenAI's Batch API reads."""

import json
import re
import time

import pytest
from conftest import commits, read_jsonl, run, start, write_jsonl

BATCH = ["--output-format", "openai-batch"]


def request(i):
    return {"custom_id": f"request-{i}", "method": "POST", "url": "/v1/chat/completions",
            "body": {"model": "m", "messages": [{"role": "user", "content": f"question {i % 7}"}]}}


def job(folder, records, *more, model="echo:json=1", check=0, name="out"):
    write_jsonl(folder / "in.jsonl", records)
    run("run", "-q", "-m", model, "-i", folder / "in.jsonl", "-o", folder / f"{name}.jsonl", *BATCH,
        "--map", "record=body", *more, check=check)
    return read_jsonl(folder / f"{name}.jsonl")


def check_names(lines):
    assert all(re.fullmatch("batch_req_[0-9a-f]{32}", line["id"]) for line in lines)
    assert len({line["id"] for line in lines}) == len(lines)


def test_lines_are_those_of_the_api(tmp_path):
    records = [request(i) for i in range(300)]
    lines = job(tmp_path, records)
    check_names(lines)
    for line, record in zip(lines, records, strict=True):
        assert set(line) == {"id", "custom_id", "response", "error"} and line["error"] is None
        response = line["response"]
        assert set(response) == {"status_code", "request_id", "body"}
        assert response["status_code"] == 200
        assert re.fullmatch("req_[0-9a-f]{32}", response["request_id"])
        assert line["custom_id"] == record["custom_id"] and response["body"] == record["body"]


@pytest.mark.parametrize("cache", [False, True])
def test_equal_requests_have_names_of_their_own(tmp_path, cache):
    """The name is the record's, the answer may be another one's."""
    more = ["--cache", tmp_path / "cache"] if cache else []
    records = [request(i) for i in range(300)]
    alone = job(tmp_path, records, "--dedup", "off", name="alone")
    for name in "one", "two":
        lines = job(tmp_path, records, "--dedup", "on", *more, name=name)
        check_names(lines)
        assert [r["response"]["body"] for r in lines] == [r["response"]["body"] for r in alone]
        assert [r["custom_id"] for r in lines] == [r["custom_id"] for r in alone]


def test_ids_are_strings(tmp_path):
    lines = job(tmp_path, [{"id": 1, "body": {}}, {"id": "x", "body": {}}, {"id": 2.5, "body": {}}])
    assert [line["custom_id"] for line in lines] == ["1", "x", "2.5"]


def test_the_same_job_gives_the_same_bytes_after_a_kill(tmp_path):
    records = [request(i) for i in range(3000)]
    write_jsonl(tmp_path / "in.jsonl", records)
    command = ["run", "-q", "-m", "echo:json=1,row_latency_us=200", "-i", tmp_path / "in.jsonl",
               *BATCH, "--map", "record=body", "--dedup", "off", "--checkpoint-every", "20ms",
               "--tune", "off", "--instances", 1]
    run(*command, "-o", tmp_path / "whole.jsonl", check=0)
    killed = start(*command, "-o", tmp_path / "out.jsonl")
    while not commits(tmp_path / "out.jsonl.journal") and killed.poll() is None:
        time.sleep(0.01)
    killed.kill()
    killed.stderr.close()
    assert killed.wait() == -9
    run(*command, "-o", tmp_path / "out.jsonl", check=0)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_failed_records_have_the_shape_too_and_are_retried(tmp_path):
    records = [request(i) for i in range(40)]
    for i in 3, 17, 30:
        del records[i]["body"]
    records[20] = '{"custom_id":"broken","index":99,"line":98,"input":"x","code":"y"'
    answers = job(tmp_path, records, check=1)
    failed = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    check_names(answers + failed)
    assert [f["index"] for f in failed] == [3, 17, 20, 30] and len(answers) == 36
    for line in failed:
        assert line["response"] is None and set(line["error"]) == {"code", "message"}
        assert line["error"]["code"] == line["code"]
    assert [f["error"]["code"] for f in failed] == \
        ["missing_field", "missing_field", "invalid_json", "missing_field"]

    for line in failed:
        if line["index"] in (3, 30):
            line["record"]["body"] = {"messages": [f"mended {line['index']}"]}
    write_jsonl(tmp_path / "out.jsonl.errors.jsonl", failed)
    run("run", "-q", "-m", "echo:json=1", "-o", tmp_path / "out.jsonl", *BATCH, "--map",
        "record=body", "--retry-errors", check=1)
    answers, failed = (read_jsonl(tmp_path / name) for name in
                       ("out.jsonl", "out.jsonl.errors.jsonl"))
    check_names(answers + failed)
    assert [f["index"] for f in failed] == [17, 20]
    assert all(f["input"] == str(tmp_path / "in.jsonl") for f in failed)
    assert [a["custom_id"] for a in answers] == \
        [f"request-{i}" for i in range(40) if i not in (17, 20)]
    assert answers[3]["response"]["body"] == {"messages": ["mended 3"]}


@pytest.mark.parametrize("model, more, part", [
    ("echo", [], "answer with JSON"),
    ("echo:json=1", ["--keep", "method"], "--keep"),
])
def test_what_does_not_fit_is_refused(tmp_path, model, more, part):
    write_jsonl(tmp_path / "in.jsonl", [{"id": 1, "x": [1.0], "method": "POST"}])
    result = run("run", "-m", model, "-i", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl",
                 *BATCH, *more, check=2)
    assert part in result.err


def test_standard_output_too(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"id": 1, "a": 2}])
    result = run("run", "-q", "-m", "echo:json=1", "-i", tmp_path / "in.jsonl", "-o", "-", *BATCH,
                 check=0)
    assert json.loads(result.out)["response"]["body"] == {"id": 1, "a": 2}
