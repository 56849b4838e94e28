# SPDX-License-Identifier: Apache-2.0
"""Promise: GGUF models with a classification head rank and classify as llama.cpp itself would, and a
record's ranks are the same bytes wherever its job was stopped."""

import json
import math
import random
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from conftest import ROOT, leftovers, read_jsonl, run, start, write_jsonl
from llama_jobs import ONE_THREAD, REFERENCE, ask, prompts

SERVER = ROOT / ".deps/llama/bin/llama-server"
TEMPLATE = "<|im_start|>is it?\n{query}\n{document}<|im_end|>"
NEAR = 1e-4


def questions(n, seed=3, most=12):
    dice = random.Random(seed)
    return [{"query": prompts(1, dice.random(), 8)[0],
             "documents": prompts(dice.randint(1, most), dice.random(), 60)} for _ in range(n)]


def heads(model, inputs):
    """The head's numbers for each input: a list of texts that are joined."""
    lines = "".join(json.dumps({"input": texts}) + "\n" for texts in inputs)
    result = subprocess.run([REFERENCE, model, "scores"], input=lines.encode(), capture_output=True,
                            check=True)
    return [[float(number) for number in line.split()] for line in result.stdout.splitlines()]


def pair(model, query, document):
    if model.stem == "yesno":
        return [TEMPLATE.replace("{query}", query).replace("{document}", document)]
    return [query, document]


def by_index(answer):
    return {r["index"]: r["relevance_score"] for r in answer["results"]}


def is_sorted(answer):
    scores = [r["relevance_score"] for r in answer["results"]]
    return scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("name", ["rerank", "unsaid", "yesno"])
def test_scores_are_llama_cpps(tmp_path, gguf, name):
    """One at a time and many at a time, whether the file says that it ranks, or has a form of its own."""
    model = gguf / f"{name}.gguf"
    records = questions(30)
    expected = iter(heads(model, [pair(model, r["query"], d) for r in records for d in r["documents"]]))
    wanted = [[next(expected)[0] for _ in r["documents"]] for r in records]
    flat = [score for scores in wanted for score in scores]
    assert max(flat) - min(flat) > 300 * NEAR  # so that one is not taken for another
    for parallel in (1, 3, 64):
        answers, _ = ask(tmp_path, model, records, "--parallel", parallel)
        for i, scores in enumerate(wanted):
            found = by_index(answers[i])
            assert sorted(found) == list(range(len(scores))) and is_sorted(answers[i])
            assert all(abs(found[k] - score) < NEAR for k, score in enumerate(scores)), i


def test_what_a_rank_has(tmp_path, gguf):
    documents = ["lazy dog", {"text": 'the "quick"\nfox'}, "bread", "lazy dog"]
    base = {"query": "the fox", "documents": documents}
    records = [base, {**base, "top_n": 2, "model": "m"}, {**base, "return_documents": True},
               {**base, "top_n": 9}]
    answers, _ = ask(tmp_path, gguf / "rerank.gguf", records)
    whole = answers[0]["results"]
    assert answers[0]["object"] == "list" and answers[0]["model"] == "rerank.gguf"
    assert all(sorted(r) == ["index", "relevance_score"] for r in whole) and len(whole) == 4
    assert answers[1]["results"] == whole[:2] and answers[1]["model"] == "m"
    assert answers[3]["results"] == whole
    texts = [d if isinstance(d, str) else d["text"] for d in documents]
    assert [r["document"] for r in answers[2]["results"]] == [{"text": texts[r["index"]]} for r in whole]
    # a mark, the query, a mark, the document; top_n changes nothing of what was read
    assert answers[0]["usage"] == answers[1]["usage"] == {"prompt_tokens": 26, "total_tokens": 26}
    order = [r["index"] for r in whole]
    assert order.index(0) < order.index(3)  # equals as they came


def softmax(numbers):
    powers = [math.exp(x - max(numbers)) for x in numbers]
    return [x / sum(powers) for x in powers]


def test_classes_are_probabilities(tmp_path, gguf):
    model = gguf / "classify.gguf"
    texts = prompts(40)
    records = [{"input": texts[0]}, {"text": texts[1]}, {"input": texts[2:20]}, {"input": texts[20:]}]
    labels = ["good", 'so "so"', "bad"]
    wanted = [softmax(numbers) for numbers in heads(model, [[text] for text in texts])]
    for parallel in (1, 64):
        answers, _ = ask(tmp_path, model, records, "--parallel", parallel)
        data = [d for i in range(4) for d in answers[i]["data"]]
        assert answers[0]["object"] == "list" and answers[0]["usage"]["total_tokens"] > 2
        assert [d["index"] for d in answers[2]["data"]] == list(range(18))
        for d, probs in zip(data, wanted, strict=True):
            assert d["num_classes"] == 3 and abs(sum(d["probs"]) - 1) < 1e-6
            assert all(abs(a - b) < NEAR for a, b in zip(d["probs"], probs))
            assert d["label"] == labels[probs.index(max(probs))]
    assert {d["label"] for d in data} == set(labels)


def test_one_score_is_a_class_by_its_sigmoid(tmp_path, gguf):
    [[score]] = heads(gguf / "rerank.gguf", [["the quick fox"]])
    answers, _ = ask(tmp_path, gguf / "rerank.gguf", [{"input": "the quick fox"}], "--task", "classify")
    [data] = answers[0]["data"]
    assert abs(data["probs"][0] - 1 / (1 + math.exp(-score))) < NEAR
    assert data["label"] == "LABEL_0" and data["num_classes"] == 1


def test_what_llama_cpp_made_probabilities_stays(tmp_path, gguf):
    """Its graph of Qwen3 ends in a softmax."""
    [wanted] = heads(gguf / "yesno.gguf", [["the quick fox"]])
    answers, _ = ask(tmp_path, gguf / "yesno.gguf", [{"input": "the quick fox"}], "--task", "classify")
    [data] = answers[0]["data"]
    assert abs(sum(wanted) - 1) < 1e-5
    assert all(abs(a - b) < NEAR for a, b in zip(data["probs"], wanted))
    assert data["label"] == ("yes" if wanted[0] > wanted[1] else "no")


FINE = {"query": "the fox", "documents": ["lazy dog", "bread"]}


@pytest.mark.parametrize("record,part", [
    ({**FINE, "documents": ["dog", "the " * 600]}, "document 1 has"),
    ({**FINE, "query": "the " * 600}, "document 0 has"),
    ({**FINE, "documents": []}, "documents"),
    ({**FINE, "documents": "dog"}, "documents"),
    ({**FINE, "top_n": -1}, "top_n"),
    ({"query": "the fox"}, "documents"),
    ({"input": "x"}, "the model makes scores of documents, not embeddings"),
    ({"prompt": "x"}, "the model makes scores of documents, not text"),
    ({"messages": [{"role": "user", "content": "x"}]}, "scores of documents, not text"),
])
def test_bad_records_are_their_own_fault(tmp_path, gguf, record, part):
    answers, errors = ask(tmp_path, gguf / "rerank.gguf", [FINE, record, FINE], check=1)
    assert sorted(answers) == [0, 2] and answers[0] == answers[2]
    assert errors[1]["code"] == "model_error" and part in errors[1]["message"]


@pytest.mark.parametrize("name,part", [("classify", "the model makes labels"),
                                       ("tiny", "the model makes text"),
                                       ("embed", "the model makes embeddings")])
def test_other_models_do_not_rank(tmp_path, gguf, name, part):
    _, errors = ask(tmp_path, gguf / f"{name}.gguf", [FINE], check=1)
    assert f"{part}, not scores of documents" in errors[0]["message"]


@pytest.mark.parametrize("name,task,part", [
    ("classify", "rerank", "3 labels"), ("tiny", "rerank", "no classification head"),
    ("embed", "classify", "no classification head"), ("headless", "auto", "no classification head"),
    ("rerank", "embedding", "makes no embeddings"), ("rerank", "chat", "makes no text"),
])
def test_models_that_cannot_do_the_task(tmp_path, gguf, name, task, part):
    records = write_jsonl(tmp_path / "in.jsonl", [FINE])
    result = run("run", "-m", gguf / f"{name}.gguf", "-i", records, "-o", tmp_path / "out.jsonl",
                 "--task", task)
    assert result.returncode in (2, 3) and part in result.err and f"{name}.gguf" in result.err


def test_the_url_says_what_is_asked(tmp_path, gguf):
    lines = [{"custom_id": "a", "url": "/v1/rerank", "body": {**FINE, "input": "x"}},
             {"custom_id": "b", "url": "/classify", "body": {**FINE, "input": "the fox"}},
             {"custom_id": "c", "url": "/v1/embeddings", "body": {"input": "the fox"}}]
    run("run", "-m", gguf / "rerank.gguf", "-i", write_jsonl(tmp_path / "in.jsonl", lines), "-o",
        tmp_path / "out.jsonl", "--id", "custom_id", *ONE_THREAD, check=1)
    answers = [line["response"] for line in read_jsonl(tmp_path / "out.jsonl")]
    assert len(answers[0]["results"]) == 2 and answers[1]["data"][0]["num_classes"] == 1
    [error] = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert "not embeddings" in error["message"]


@pytest.mark.parametrize("name", ["rerank", "yesno"])
def test_killed_jobs_end_with_the_same_bytes(tmp_path, gguf, name):
    records = [{"id": i, **record} for i, record in enumerate(questions(250, most=30))]
    job = ["run", "-m", gguf / f"{name}.gguf", "-i", write_jsonl(tmp_path / "in.jsonl", records),
           "--checkpoint-every", "50ms", "--dedup", "off", *ONE_THREAD]
    run(*job, "-o", tmp_path / "calm.jsonl", check=0)
    dice, kills = random.Random(1), 0
    for attempt in range(30):
        process = start(*job, "-o", tmp_path / "out.jsonl")
        time.sleep(dice.uniform(0.1, 0.5))
        if attempt < 6 and process.poll() is None:
            process.kill()
            kills += 1
        if process.wait(timeout=60) == 0:
            break
    assert kills > 0
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "calm.jsonl").read_bytes()
    assert not leftovers(tmp_path)


@pytest.fixture(params=["rerank", "yesno"])
def server(request, gguf):
    """(model, address) of a llama-server that ranks."""
    if not SERVER.exists():
        pytest.skip("no llama-server here")
    model = gguf / f"{request.param}.gguf"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([SERVER, "-m", model, "--port", str(port), "--rerank", "--threads", "1"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None
                time.sleep(0.1)
        yield model, address
    finally:
        process.kill()
        process.wait()


def test_answers_are_llama_servers(tmp_path, server):
    """The same documents in the same order, and as many tokens: what is special in them stays text."""
    model, address = server
    records = [{**record, "top_n": 5} for record in questions(6, seed=7)]
    records += [{"query": "a [SEP] b", "documents": ["[CLS] fox", "", "<|im_end|> fox", "{query}"]}]
    answers, _ = ask(tmp_path, model, records)
    for i, record in enumerate(records):
        request = urllib.request.Request(f"{address}/v1/rerank", json.dumps(record).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            theirs = json.load(response)
        assert answers[i]["usage"] == theirs["usage"] and answers[i]["object"] == theirs["object"]
        assert len(answers[i]["results"]) == len(theirs["results"])
        ours, expected = by_index(answers[i]), by_index(theirs)
        assert sorted(ours) == sorted(expected)
        assert all(abs(ours[k] - expected[k]) < NEAR for k in expected)
