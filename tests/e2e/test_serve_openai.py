# SPDX-License-Identifier: Apache-2.0
"""OpenAI's Files and Batches: the official Python client, unmodified, against `tidemill serve`; what it
sends, what it gets, what survives a kill. The model is a chat server that the test starts."""

import json
import shutil
import subprocess
import time

import pytest
from conftest import ROOT, run
from server import Server
from upstream import Upstream, chat_answer

openai = pytest.importorskip("openai")

TERMINAL = ("completed", "failed", "expired", "cancelled")


def config(upstream, **options):
    lines = [f"    {name}: {value}" for name, value in options.items()]
    return "\n".join(["models:", "  mill:", f"    model: {upstream.url}/v1/chat/completions", *lines, ""])


def line(i, text=None, **changes):
    body = {"model": "mill", "messages": [{"role": "user", "content": text or f"number {i}"}]}
    record = {"custom_id": f"request-{i}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps({**record, **changes})


def jsonl(n):
    return "".join(line(i) + "\n" for i in range(n)).encode()


def client_of(server, key="none"):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def upload(client, content, name="requests.jsonl"):
    return client.files.create(file=(name, content), purpose="batch")


def create(client, content, **more):
    file = upload(client, content)
    return client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions",
                                 completion_window=more.pop("completion_window", "24h"), **more)


def finish(client, batch, timeout=60):
    deadline = time.monotonic() + timeout
    while batch.status not in TERMINAL:
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def answers(client, file_id):
    return [json.loads(text) for text in client.files.content(file_id).text.splitlines()]


@pytest.fixture
def upstream():
    with Upstream() as server:
        yield server


@pytest.fixture
def server(tmp_path, upstream):
    with Server(tmp_path, config(upstream)) as server:
        yield server


# --- files ---


def test_a_file_comes_back_as_it_was_sent(server):
    client, content = client_of(server), jsonl(3)
    file = upload(client, content, "three.jsonl")
    assert (file.object, file.bytes, file.filename, file.purpose) == (
        "file", len(content), "three.jsonl", "batch")
    assert file.status == "processed" and file.id.startswith("file-")
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).content == content
    assert client.files.wait_for_processing(file.id) == file
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError) as caught:
        client.files.retrieve(file.id)
    assert caught.value.body["type"] == "invalid_request_error"


def test_files_are_listed_in_pages(server):
    client = client_of(server)
    ids = [upload(client, jsonl(1), f"{i}.jsonl").id for i in range(5)]
    assert [file.id for file in client.files.list(limit=2)] == ids[::-1]  # the client pages
    assert [file.id for file in client.files.list(limit=2, order="asc")] == ids
    assert [file.id for file in client.files.list(purpose="evals")] == []


def test_a_file_can_be_fetched_in_ranges(server):
    client, content = client_of(server), jsonl(10)
    path = f"/v1/files/{upload(client, content).id}/content"
    part = server.get(path, headers={"Range": "bytes=10-19"})
    assert (part.status, part.body) == (206, content[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(content)}"
    assert server.get(path, headers={"Range": "bytes=-5"}).body == content[-5:]
    assert server.get(path, headers={"Range": "bytes=99999-"}).status == 416


def test_expiry_is_read_as_the_client_sends_it(server):
    file = client_of(server).files.create(
        file=("a.jsonl", jsonl(1)), purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 7200})
    assert file.expires_at == file.created_at + 7200
    with pytest.raises(openai.BadRequestError):
        client_of(server).files.create(file=("a.jsonl", jsonl(1)), purpose="batch",
                                       expires_after={"anchor": "created_at", "seconds": 5})


@pytest.mark.parametrize("form, says", [
    (b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n', "file"),
    (b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n{}\r\n--b--\r\n', "purpose"),
    (b'--b\r\nContent-Disposition: form-data; name="what"\r\n\r\n1\r\n--b--\r\n', "what"),
    (b"--b\r\nno end", ""),
])
def test_a_form_that_is_wrong_is_refused_and_leaves_nothing(server, form, says):
    answer = server.post("/v1/files", form, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status == 400 and says in answer.json["error"]["message"]
    assert server.get("/v1/files").json["data"] == []


def test_a_file_over_the_limit_is_refused(tmp_path, upstream):
    with Server(tmp_path, "max_file_bytes: 1KB\n" + config(upstream)) as server:
        with pytest.raises(openai.APIStatusError) as caught:
            upload(client_of(server), b"x" * 5000)
        assert caught.value.status_code == 413 and "too large" in str(caught.value)


# --- batches ---


def test_a_batch_answers_every_line(server, upstream):
    client = client_of(server)
    batch = create(client, jsonl(50), metadata={"customer": "42"})
    assert batch.id.startswith("batch_") and batch.object == "batch"
    assert batch.endpoint == "/v1/chat/completions" and batch.completion_window == "24h"
    assert batch.metadata == {"customer": "42"} and batch.expires_at == batch.created_at + 86400
    batch = finish(client, batch)
    assert batch.status == "completed" and batch.error_file_id is None
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (50, 50, 0)
    assert batch.usage.input_tokens == 350 and batch.usage.output_tokens == 150
    assert batch.in_progress_at and batch.completed_at and batch.failed_at is None
    lines = answers(client, batch.output_file_id)
    assert [answer["custom_id"] for answer in lines] == [f"request-{i}" for i in range(50)]
    for i, answer in enumerate(lines):
        assert answer["error"] is None and answer["response"]["status_code"] == 200
        assert answer["response"]["body"]["choices"][0]["message"]["content"] == f"NUMBER {i}"
    assert client.files.retrieve(batch.output_file_id).purpose == "batch_output"


def test_what_fails_goes_into_the_error_file(tmp_path):
    def answer(request):
        if "poison" in request.json["messages"][-1]["content"]:
            return 400, {"error": {"message": "no", "type": "invalid_request_error"}}
        return chat_answer(request)

    with Upstream(answer) as upstream, Server(tmp_path, config(upstream)) as server:
        client = client_of(server)
        content = "\n".join([line(0), line(1, "poison"), line(2)]).encode()  # no newline at the end
        batch = finish(client, create(client, content))
        assert batch.status == "completed"
        assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 1)
        assert [a["custom_id"] for a in answers(client, batch.output_file_id)] == ["request-0", "request-2"]
        (failed,) = answers(client, batch.error_file_id)
        assert failed["custom_id"] == "request-1"


@pytest.mark.parametrize("lines, code, number", [
    (["{"], "invalid_json_line", 1),
    ([line(0), line(0)], "duplicate_custom_id", 2),
    ([line(0), line(1, url="/v1/embeddings")], "invalid_url", 2),
    ([line(0), line(1, method="GET")], "invalid_method", 2),
    ([line(0), line(1, body={"model": "other", "messages": []})], "mismatched_model", 2),
    ([line(0, body={"model": "nobody", "messages": []})], "model_not_found", 1),
    ([], "empty_file", None),
])
def test_a_file_that_is_wrong_fails_the_batch_and_names_the_line(server, lines, code, number):
    client = client_of(server)
    batch = finish(client, create(client, "".join(text + "\n" for text in lines).encode()))
    assert batch.status == "failed" and batch.failed_at
    assert (batch.errors.data[0].code, batch.errors.data[0].line) == (code, number)
    assert batch.output_file_id is None


def test_batches_are_listed_in_pages(server):
    client = client_of(server)
    ids = [create(client, jsonl(1)).id for _ in range(5)]
    assert [batch.id for batch in client.batches.list(limit=2)] == ids[::-1]


@pytest.mark.parametrize("change, param", [
    ({"endpoint": "/v1/nothing"}, "endpoint"),
    ({"completion_window": "soon"}, "completion_window"),
    ({"input_file_id": "file-000"}, "input_file_id"),
    ({"metadata": {"k": "x" * 513}}, "metadata"),
    ({"budget": -1}, "budget"),
    ({"endpoint": None}, "endpoint"),
])
def test_a_wrong_request_names_its_parameter(server, change, param):
    good = {"input_file_id": upload(client_of(server), jsonl(1)).id,
            "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    answer = server.post("/v1/batches", {**good, **change})
    assert answer.status == 400 and answer.json["error"]["param"] == param


def test_a_window_may_have_any_length(server):
    batch = create(client_of(server), jsonl(1), completion_window="90m")
    assert batch.completion_window == "90m" and batch.expires_at == batch.created_at + 5400


def test_cancelling_keeps_what_is_done(tmp_path):
    def slow(request):
        time.sleep(0.05)
        return chat_answer(request)

    with Upstream(slow) as upstream, Server(tmp_path, config(upstream, **{"max-inflight": 2})) as server:
        client = client_of(server)
        batch = create(client, jsonl(500))
        while len(upstream.requests) < 20:
            time.sleep(0.05)
        assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
        batch = finish(client, batch)
        assert batch.status == "cancelled" and batch.cancelled_at
        done = answers(client, batch.output_file_id)
        rest = answers(client, batch.error_file_id)
        assert 0 < len(done) < 500 and len(done) + len(rest) == 500
        assert len(done) >= len(upstream.requests) - 2  # what was asked for is delivered
        assert {a["error"]["code"] for a in rest} == {"batch_cancelled"}
        assert {a["custom_id"] for a in done + rest} == {f"request-{i}" for i in range(500)}
        with pytest.raises(openai.APIStatusError):
            client.batches.cancel(batch.id)


def test_a_batch_without_time_expires_with_what_is_done(tmp_path):
    def slow(request):
        time.sleep(0.1)
        return chat_answer(request)

    with Upstream(slow) as upstream, Server(tmp_path, config(upstream, **{"max-inflight": 1})) as server:
        client = client_of(server)
        batch = finish(client, create(client, jsonl(200), completion_window="2s"))
        assert batch.status == "expired" and batch.expired_at
        done = answers(client, batch.output_file_id) if batch.output_file_id else []
        rest = answers(client, batch.error_file_id)
        assert len(done) + len(rest) == 200 and len(done) < 200
        assert {a["error"]["code"] for a in rest} == {"batch_expired"}


def test_an_idempotency_key_makes_one_batch(server):
    client = client_of(server)
    request = {"input_file_id": upload(client, jsonl(1)).id, "endpoint": "/v1/chat/completions",
               "completion_window": "24h"}
    headers = {"Idempotency-Key": "k1"}
    first = server.post("/v1/batches", request, headers=headers).json
    assert server.post("/v1/batches", request, headers=headers).json["id"] == first["id"]
    assert server.post("/v1/batches", {**request, "completion_window": "1h"}, headers=headers).status == 422
    assert len(list(client.batches.list())) == 1


def test_results_are_streamed_while_it_runs_and_after(server):
    client = client_of(server)
    batch = create(client, jsonl(20))
    answer = server.get(f"/v1/batches/{batch.id}/results?follow=true")
    assert len(answer.body.splitlines()) == 20
    batch = finish(client, batch)
    assert answer.body == client.files.content(batch.output_file_id).content


def test_a_retry_asks_for_what_failed_again(tmp_path):
    is_well = []

    def answer(request):
        if "3" in request.json["messages"][-1]["content"] and not is_well:
            return 400, {"error": {"message": "no"}}
        return chat_answer(request)

    with Upstream(answer) as upstream, Server(tmp_path, config(upstream)) as server:
        client = client_of(server)
        batch = finish(client, create(client, jsonl(10)))
        assert batch.request_counts.failed == 1
        is_well.append(True)
        n = len(upstream.requests)
        assert server.post(f"/v1/batches/{batch.id}/retry").status == 200
        batch = finish(client, client.batches.retrieve(batch.id))
        assert (batch.request_counts.completed, batch.request_counts.failed) == (10, 0)
        assert len(upstream.requests) - n == 1
        assert [a["custom_id"] for a in answers(client, batch.output_file_id)] == [
            f"request-{i}" for i in range(10)]


def test_a_budget_stops_a_batch_and_a_retry_goes_on(tmp_path):
    def slow(request):
        time.sleep(0.02)
        return chat_answer(request)

    prices = {"price-in": 1000, "price-out": 1000, "max-inflight": 2}  # a cent a record
    with Upstream(slow) as upstream, Server(tmp_path, config(upstream, **prices)) as server:
        client = client_of(server)
        batch = finish(client, create(client, jsonl(300), extra_body={"budget": 0.5}))
        assert batch.status == "expired" and batch.tidemill["state"] == "stopped"
        assert 0 < batch.request_counts.completed < 300
        assert batch.request_counts.completed >= len(upstream.requests) - 2
        assert {a["error"]["code"] for a in answers(client, batch.error_file_id)} == {"budget_exceeded"}
        assert server.post(f"/v1/batches/{batch.id}/retry", {}).status == 200
        batch = finish(client, client.batches.retrieve(batch.id))
        assert (batch.status, batch.request_counts.completed) == ("completed", 300)
        assert len(upstream.requests) <= 300 + 8  # nothing committed was paid for twice


def test_a_forecast_comes_with_a_batch(server):
    client = client_of(server)
    finish(client, create(client, jsonl(50)))
    batch = create(client, jsonl(50))
    forecast = batch.tidemill["forecast"]
    assert forecast["verdict"] == "accepted"
    assert batch.created_at <= forecast["p50_finish_at"] <= forecast["p90_finish_at"] <= batch.expires_at


# --- what survives ---


def test_a_killed_server_goes_on_and_the_files_are_the_same(tmp_path):
    def slow(request):
        time.sleep(0.005)
        return chat_answer(request)

    with Upstream(slow) as upstream:
        whole = tmp_path / "whole"
        whole.mkdir()
        with Server(whole, config(upstream)) as server:
            client = client_of(server)
            batch = finish(client, create(client, jsonl(400)))
            expected = client.files.content(batch.output_file_id).content
        killed = tmp_path / "killed"
        killed.mkdir()
        server = Server(killed, config(upstream)).start()
        batch = create(client_of(server), jsonl(400))
        for pause in (0.02, 0.1, 0.2, 0.3):
            time.sleep(pause)
            server.kill()
            server.start()
        client = client_of(server)
        batch = finish(client, client.batches.retrieve(batch.id))
        got = client.files.content(batch.output_file_id).content
        server.stop()

    def without_ids(content):  # they are made from the batch's own id
        return [(a["custom_id"], a["response"]["body"], a["error"])
                for a in map(json.loads, content.splitlines())]

    assert batch.status == "completed" and batch.request_counts.completed == 400
    assert without_ids(got) == without_ids(expected)


def test_a_stop_checkpoints_and_the_next_start_goes_on(tmp_path):
    def slow(request):
        time.sleep(0.02)
        return chat_answer(request)

    with Upstream(slow) as upstream:
        server = Server(tmp_path, config(upstream)).start()
        client = client_of(server)
        batch = create(client, jsonl(300))
        while client.batches.retrieve(batch.id).request_counts.completed == 0:
            time.sleep(0.02)
        server.stop()
        server.start()
        client = client_of(server)
        batch = finish(client, client.batches.retrieve(batch.id))
        server.stop()
    assert (batch.status, batch.request_counts.completed) == ("completed", 300)


def test_tenants_see_nothing_of_each_other(tmp_path, upstream):
    server = Server(tmp_path, config(upstream))
    keys = [run("key", "create", f"--data={server.data}", f"--tenant={name}", check=0).out.strip()
            for name in ("ann", "bob")]
    with server:
        ann, bob = (client_of(server, key) for key in keys)
        batch = finish(ann, create(ann, jsonl(2)))
        for ask in (lambda: bob.batches.retrieve(batch.id), lambda: bob.batches.cancel(batch.id),
                    lambda: bob.files.retrieve(batch.input_file_id),
                    lambda: bob.files.content(batch.output_file_id),
                    lambda: bob.files.delete(batch.input_file_id)):
            with pytest.raises(openai.NotFoundError):
                ask()
        assert list(bob.batches.list()) == [] and list(bob.files.list()) == []
        with pytest.raises(openai.BadRequestError):
            bob.batches.create(input_file_id=batch.input_file_id, endpoint="/v1/chat/completions",
                               completion_window="24h")
        with pytest.raises(openai.AuthenticationError):
            client_of(server, "tdm_wrong").files.list()
        assert all(key not in server.text for key in keys)


# --- the client for JavaScript ---


def test_the_javascript_client_works_as_it_is(server):
    modules = ROOT / ".deps" / "node"
    if shutil.which("node") is None or not (modules / "node_modules" / "openai").exists():
        pytest.skip("node or its openai package is not there")
    result = subprocess.run(["node", ROOT / "tests/clients/openai.mjs", server.url, str(modules)],
                            capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout)
    assert seen["file"]["purpose"] == "batch" and seen["file"]["status"] == "processed"
    assert seen["batch"]["status"] == "completed"
    assert seen["batch"]["request_counts"] == {"total": 10, "completed": 10, "failed": 0}
    assert seen["batch"]["metadata"] == {"from": "javascript"}
    contents = [json.loads(text)["response"]["body"]["choices"][0]["message"]["content"]
                for text in seen["output"].splitlines()]
    assert contents == [f"NUMBER {i}" for i in range(10)]
    assert seen["listed"] == [seen["batch"]["id"]]
    assert seen["errors"] == [409, 404, 400] and seen["deleted"] is True
