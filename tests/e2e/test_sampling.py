# SPDX-License-Identifier: Apache-2.0
"""Equal requests share an answer, unless answers are drawn: then each gets its own, and keeps it."""

import json
import time

import pytest
from conftest import commits, read_jsonl, run, start, write_jsonl
from upstream import Upstream

SERIAL = "echo:json=1,serial=1,row_latency_us=500" # slow enough for --dedup auto
CHAT = {"messages": [{"role": "user", "content": "say something"}]}


def job(folder, body, *more, n=200, name="out", model=SERIAL):
    """The same request n times; every answer that was paid for has a number of its own."""
    write_jsonl(folder / "in.jsonl", [{"id": i, "body": body} for i in range(n)])
    run("run", "-q", "-m", model, "-i", folder / "in.jsonl", "-o", folder / f"{name}.jsonl",
        "--map", "record=body", "--instances", 1, "--summary", folder / "summary.json", "--force",
        *more, check=0)
    answers = read_jsonl(folder / f"{name}.jsonl")
    assert [a["id"] for a in answers] == list(range(n))
    return len({a["response"] for a in answers}), json.loads((folder / "summary.json").read_text())


SAMPLING = [CHAT, {**CHAT, "temperature": 0.7}, {"prompt": "say something"},
            {"input": "say", "max_output_tokens": 5}]
SETTLED = [{**CHAT, "temperature": 0}, {**CHAT, "seed": 4}, {"input": "embed me"}, {"x": 1}]


@pytest.mark.parametrize("body", SAMPLING)
def test_drawn_answers_are_not_shared(tmp_path, body):
    assert job(tmp_path, body)[0] == 200
    assert job(tmp_path, body, "--dedup", "on")[0] == 1
    assert job(tmp_path, body, "--dedup", "off")[0] == 200


@pytest.mark.parametrize("body", SETTLED)
def test_settled_answers_are_shared(tmp_path, body):
    distinct, told = job(tmp_path, body)
    assert distinct == 1 and told["reused"] == 199
    assert job(tmp_path, body, "--dedup", "off")[0] == 200


@pytest.mark.parametrize("body", SAMPLING)
def test_drawn_answers_are_not_taken_from_the_cache(tmp_path, body):
    cache = ["--cache", tmp_path / "cache"]
    for name in "one", "two":
        distinct, told = job(tmp_path, body, *cache, name=name)
        assert distinct == 200 and told["cached"] == told["reused"] == 0
        stat = run("cache", "stat", tmp_path / "cache", "--json", check=0)
        assert json.loads(stat.out)["entries"] == 0
    for name, cached in ("three", 0), ("four", 200): # it was not put there either
        distinct, told = job(tmp_path, body, *cache, "--dedup", "on", name=name)
        assert distinct == 1 and told["cached"] == cached


def test_settled_answers_are_taken_from_the_cache(tmp_path):
    cache = ["--cache", tmp_path / "cache"]
    job(tmp_path, SETTLED[0], *cache, name="one")
    distinct, told = job(tmp_path, SETTLED[0], *cache, name="two")
    assert distinct == 1 and told["cached"] == 200 and told["run_rows"] == 0


def test_a_drawn_answer_is_not_drawn_again_after_a_kill(tmp_path):
    """The first record is slow to come; the others' answers are kept until it is there."""
    n = 3000
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "body": CHAT} for i in range(n)])
    model = "echo:json=1,usage=1,row_latency_us=400"
    command = ["run", "-q", "-m", model, "-i", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl",
               "--map", "record=body", "--instances", 1, "--tune", "off", "-b", 4, "--cache",
               tmp_path / "cache", "--checkpoint-every", "20ms", "--summary",
               tmp_path / "summary.json"]
    process = start(*command)
    while not commits(tmp_path / "out.jsonl.journal"):
        assert process.poll() is None
        time.sleep(0.01)
    process.terminate()
    process.stderr.close()
    assert process.wait() == 75
    run(*command, check=0)
    told = json.loads((tmp_path / "summary.json").read_text())
    assert told["resumed"] and told["tokens_in"] == n * 6 # messages, role, user, content, say, something
    assert told["cached"] == told["reused"] == 0


def test_a_forecast_knows_it(tmp_path):
    for body, reused in (CHAT, 0), ({**CHAT, "temperature": 0}, 199):
        write_jsonl(tmp_path / "in.jsonl", [{"id": i, "body": body} for i in range(200)])
        result = run("run", "-m", SERIAL, "-i", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl",
                     "--map", "record=body", "--dry-run", "--log-format", "json", check=0)
        assert json.loads(result.out)["reused"] == reused


@pytest.mark.parametrize("path, body, n_requests", [
    ("/v1/chat/completions", CHAT, 20),
    ("/v1/chat/completions", {**CHAT, "temperature": 0}, 1),
    ("/v1/embeddings", {"input": "x"}, 1),
    ("/v1/responses", {"input": "x"}, 20),
    ("/v1/responses", {"input": "x", "seed": 1}, 1),
    ("/v1", {"input": "x"}, 21), # each line says where it goes: 20 responses, and embeddings
])
def test_of_a_server_only_settled_answers_are_shared(tmp_path, path, body, n_requests):
    lines = [{"id": i, "body": body} for i in range(20)]
    if path == "/v1":
        lines = [{**line, "url": "/v1/responses"} for line in lines] + \
            [{**line, "id": 100 + line["id"], "url": "/v1/embeddings"} for line in lines]
    write_jsonl(tmp_path / "in.jsonl", lines)
    with Upstream(lambda request: (200, {"path": request.path})) as server:
        run("run", "-q", "-m", server.url + path, "-i", tmp_path / "in.jsonl", "-o",
            tmp_path / "out.jsonl", check=0)
        assert len(server.requests) == n_requests
        run("run", "-q", "-m", server.url + path, "-i", tmp_path / "in.jsonl", "-o",
            tmp_path / "again.jsonl", "--dedup", "on", check=0)
        assert len(server.requests) == n_requests + (2 if path == "/v1" else 1)


@pytest.mark.parametrize("order", ["input", "prefix"])
def test_a_killed_job_asks_a_server_for_few_answers_again(tmp_path, order):
    """All requests are equal; each answer is another one, and none that was kept is drawn again."""
    n, drawn = 600, []

    def answer(_):
        time.sleep(0.002)
        drawn.append(len(drawn))
        return 200, {"n": drawn[-1], "usage": {"prompt_tokens": 10, "completion_tokens": 1}}

    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "body": CHAT} for i in range(n)])
    with Upstream(answer) as server:
        command = ["run", "-q", "-m", server.url + "/v1/chat/completions", "-i",
                   tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", "--order", order,
                   "--max-inflight", 2, "--checkpoint-every", "20ms"]
        process = start(*command)
        journal = tmp_path / "out.jsonl.journal"
        while not commits(journal) or commits(journal)[-1]["tokens"][0] < 2000:
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
        process.stderr.close()
        assert process.wait() == -9
        run(*command, check=0)
        assert len(server.requests) < n + 150, "200 were answered and kept"
    assert len({line["response"]["n"] for line in read_jsonl(tmp_path / "out.jsonl")}) == n
