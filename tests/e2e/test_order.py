# SPDX-License-Identifier: Apache-2.0
"""--order prefix: prompts that begin alike run one after another; answers stay where they belong."""

import json
import os
import random
import signal
import time

import pytest
from conftest import commits, read_jsonl, run, start, write_jsonl
from upstream import Upstream

CHUNK = 2048
GROUP = 64


def prompt(system, document, question, **more):
    return {"model": "m", **more, "messages": [
        {"role": "system", "content": f"You are assistant {system}. " * 5},
        {"role": "user", "content": f"Document {document}: " + f"{document} words " * 30 +
         f"Question {question}?"}]}


def records_of(seed, n):
    dice = random.Random(seed)
    return [{"id": i, "body": prompt(dice.randrange(4), dice.randrange(60), dice.randrange(50),
                                     max_tokens=dice.choice([1, 100]))} for i in range(n)]


def text_of(record):
    """As the job sees it: what prompt.c puts together."""
    body = record["body"]
    parts = [m["role"] + "\0" + m["content"] + "\0" for m in body["messages"]]
    return (body["model"] + "\0" + "".join(parts)).encode()


def shared(a, b):
    return len(os.path.commonprefix([a, b]))


def job(folder, records, *more, model="echo:json=1,serial=1", name="out", check=0):
    write_jsonl(folder / "in.jsonl", records)
    run("run", "-q", "-m", model, "-i", folder / "in.jsonl", "-o", folder / f"{name}.jsonl",
        "--map", "record=body", "--summary", folder / "summary.json", "--force", "--tune", "off",
        "--instances", 1, "-b", 1, *more, check=check)
    return (read_jsonl(folder / f"{name}.jsonl"),
            json.loads((folder / "summary.json").read_text()))


@pytest.mark.parametrize("seed", [1, 2])
def test_every_prompt_runs_once_beside_the_nearest_one(tmp_path, seed):
    """The serial of an answer says when its record ran. Two chunks and a half, each by itself."""
    records = records_of(seed, 2 * CHUNK + 1000)
    answers, told = job(tmp_path, records, "--order", "prefix", "--dedup", "off")
    assert [a["id"] for a in answers] == [r["id"] for r in records]
    assert sorted(a["response"] for a in answers) == list(range(1, len(records) + 1))
    total = best = found = 0
    for first in range(0, len(records), CHUNK):
        chunk = range(first, min(first + CHUNK, len(records)))
        ran = [text_of(records[i]) for i in sorted(chunk, key=lambda i: answers[i]["response"])]
        total += sum(map(len, ran))
        found += sum(shared(a, b) for a, b in zip(ran, ran[1:]))
        in_order = sorted(ran) # no order shares more with the one before than a sorted one
        best += sum(shared(a, b) for a, b in zip(in_order, in_order[1:]))
        assert {answers[i]["response"] for i in chunk} == {i + 1 for i in chunk}, "a chunk is mixed"
    assert told["prompt_bytes"] == total and told["prompt_bytes_shared"] == found
    assert best - 3 * 3 * GROUP <= found <= best, "four groups a chunk: three places between them"
    assert found > 0.8 * total


def test_bytes_are_those_of_the_input_order(tmp_path):
    records = records_of(3, 5000)
    model = "echo:json=1"
    for order in "prefix", "input":
        job(tmp_path, records, "--order", order, "-b", 8, model=model, name=order)
    assert (tmp_path / "prefix.jsonl").read_bytes() == (tmp_path / "input.jsonl").read_bytes()


def test_the_input_order_is_the_input_order(tmp_path):
    for order in "input", "auto": # a model that generates nothing has no cache
        answers, told = job(tmp_path, records_of(4, 500), "--order", order, "--dedup", "off")
        assert [a["response"] for a in answers] == list(range(1, 501))
        assert told["prompt_bytes"] == 0


def test_the_group_with_most_to_generate_runs_first(tmp_path):
    """Bytes being equal, what is asked for decides."""
    records = [{"id": i, "body": prompt(i % 3, 1, i, max_tokens=[10, 4000, 300][i % 3])}
               for i in range(90)]
    for record in records:
        record["body"]["messages"][0]["content"] = \
            f"{record['id'] % 3}" * 80 + record["body"]["messages"][0]["content"]
        record["body"]["model"] = f"model {record['id'] % 3}"
    answers, _ = job(tmp_path, records, "--order", "prefix", "--dedup", "off")
    systems = [i % 3 for i in sorted(range(90), key=lambda i: answers[i]["response"])]
    assert systems == [1] * 30 + [2] * 30 + [0] * 30


@pytest.mark.parametrize("order", ["prefix", "input"])
def test_kills_pay_for_no_answer_again(tmp_path, order):
    """The first record of the input runs last: nothing is written for long, and yet all is kept."""
    records = records_of(5, 1500)
    for record in records:
        record["body"]["messages"][0]["content"] = "z" * 300 # one group; sorted by the documents
    records[0]["body"]["messages"][1]["content"] = "zzz"
    write_jsonl(tmp_path / "in.jsonl", records)
    model = "echo:json=1,usage=1,row_latency_us=1000"
    command = ["run", "-q", "-m", model, "-i", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl",
               "--map", "record=body", "--tune", "off", "--instances", 1, "-b", 4, "--order", order,
               "--cache", tmp_path / "cache", "--checkpoint-every", "50ms", "--summary",
               tmp_path / "summary.json"]
    process = start(*command)
    journal = tmp_path / "out.jsonl.journal"
    while not commits(journal) or commits(journal)[-1]["tokens"][0] < 20000:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.stderr.close()
    assert process.wait() == 75
    done = commits(journal)[-1]
    assert order == "input" or done["ok"] == 0
    run(*command, check=0)
    told = json.loads((tmp_path / "summary.json").read_text())
    assert told["cached"] == told["reused"] == 0, "a drawn answer is nobody else's"
    assert [a["response"] for a in read_jsonl(tmp_path / "out.jsonl")] == \
        [r["body"] for r in records]
    words = sum(len("".join(c if c.isalnum() else " " for c in json.dumps(r["body"])).split())
                for r in records)
    assert told["tokens_in"] == words, "each was paid for once"


def test_what_has_no_prompts_cannot_be_ordered(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"x": [1]}])
    result = run("run", "-m", "echo", "-i", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl",
                 "--order", "prefix", check=2)
    assert "--order prefix is for models that take JSON" in result.err


@pytest.mark.parametrize("path, more, is_sorted", [
    ("/v1/chat/completions", [], True),
    ("/v1/chat/completions", ["--dedup", "off"], False), # nothing would be kept meanwhile
    ("/v1/chat/completions", ["--order", "input"], False),
    ("/v1/embeddings", [], False),
    ("/v1/embeddings", ["--order", "prefix"], True),
])
def test_servers_that_generate_are_asked_in_order(tmp_path, path, more, is_sorted):
    records = records_of(6, 200)
    write_jsonl(tmp_path / "in.jsonl", records)
    with Upstream(lambda request: (200, {"n": request.json["messages"][1]["content"]})) as server:
        run("run", "-q", "-m", server.url + path, "-i", tmp_path / "in.jsonl", "-o",
            tmp_path / "out.jsonl", "--max-inflight", 1, *more, check=0)
        asked = [text_of({"body": request.json}) for request in server.requests]
    answers = [a["response"]["n"] for a in read_jsonl(tmp_path / "out.jsonl")]
    assert answers == [r["body"]["messages"][1]["content"] for r in records]
    assert (asked != [text_of(r) for r in records]) == is_sorted
    found = sum(shared(a, b) for a, b in zip(asked, asked[1:]))
    in_order = sorted(asked)
    best = sum(shared(a, b) for a, b in zip(in_order, in_order[1:]))
    assert (found >= best - 3 * GROUP) == is_sorted
