# SPDX-License-Identifier: Apache-2.0
"""Anthropic's Message Batches: the official Python client, unmodified, against `tidemill serve`."""

import time

import pytest
from server import Server
from upstream import Upstream, chat_answer

anthropic = pytest.importorskip("anthropic")


def client_of(server):
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0)


def request(i, text=None, **params):
    return {"custom_id": f"request-{i}",
            "params": {"model": "mill", "max_tokens": 64, "system": "Be loud.",
                       "messages": [{"role": "user", "content": text or f"number {i}"}], **params}}


def finish(client, batch, timeout=60):
    deadline = time.monotonic() + timeout
    while batch.processing_status != "ended":
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
        batch = client.messages.batches.retrieve(batch.id)
    return batch


@pytest.fixture
def upstream():
    with Upstream() as server:
        yield server


@pytest.fixture
def server(tmp_path, upstream):
    config = f"models:\n  mill:\n    model: {upstream.url}/v1/chat/completions\n"
    with Server(tmp_path, config) as server:
        yield server


def test_a_batch_answers_every_request(server, upstream):
    client = client_of(server)
    batch = client.messages.batches.create(requests=[request(i) for i in range(20)])
    assert batch.type == "message_batch" and batch.processing_status == "in_progress"
    assert batch.request_counts.processing == 20 and batch.results_url is None
    batch = finish(client, batch)
    assert batch.request_counts.succeeded == 20 and batch.request_counts.processing == 0
    assert batch.ended_at and batch.results_url.startswith(server.url)
    results = {entry.custom_id: entry.result for entry in client.messages.batches.results(batch.id)}
    assert len(results) == 20
    message = results["request-7"].message
    assert message.content[0].text == "NUMBER 7" and message.stop_reason == "end_turn"
    assert message.usage.input_tokens == 7 and message.role == "assistant"
    sent = upstream.requests[0].json
    assert sent["messages"][0] == {"role": "system", "content": "Be loud."} and sent["max_tokens"] == 64


def test_results_say_what_failed(tmp_path):
    def answer(asked):
        if "poison" in asked.json["messages"][-1]["content"]:
            return 400, {"error": {"message": "no poison here"}}
        return chat_answer(asked)

    with Upstream(answer) as upstream:
        config = f"models:\n  mill:\n    model: {upstream.url}/v1/chat/completions\n"
        with Server(tmp_path, config) as server:
            client = client_of(server)
            batch = client.messages.batches.create(requests=[request(0), request(1, "poison")])
            batch = finish(client, batch)
            assert (batch.request_counts.succeeded, batch.request_counts.errored) == (1, 1)
            results = {e.custom_id: e.result for e in client.messages.batches.results(batch.id)}
            assert results["request-0"].type == "succeeded"
            assert results["request-1"].type == "errored"
            assert "no poison here" in results["request-1"].error.error.message


def test_an_unknown_model_makes_every_request_an_error(server):
    client = client_of(server)
    batch = client.messages.batches.create(requests=[request(i, model="nobody") for i in range(3)])
    batch = finish(client, batch)
    assert batch.request_counts.errored == 3
    assert {e.result.type for e in client.messages.batches.results(batch.id)} == {"errored"}


@pytest.mark.parametrize("requests, says", [
    ([], "at least one"),
    ([request(0), request(0)], "two requests"),
    ([request(0, max_tokens=0)], "max_tokens"),
    ([request(0, tools=[])], "tools"),
    ([request(0, stream=True)], "stream"),
    ([{**request(0), "custom_id": "a b"}], "custom_id"),
    ([request(0, messages=[{"role": "user", "content": [{"type": "image"}]}])], "only text"),
])
def test_wrong_requests_are_refused(server, requests, says):
    with pytest.raises(anthropic.BadRequestError) as caught:
        client_of(server).messages.batches.create(requests=requests)
    assert says in str(caught.value) and caught.value.body["type"] == "error"


def test_cancel_list_and_delete(tmp_path):
    def slow(asked):
        time.sleep(0.05)
        return chat_answer(asked)

    with Upstream(slow) as upstream:
        config = (f"models:\n  mill:\n    model: {upstream.url}/v1/chat/completions\n"
                  "    max-inflight: 2\n")
        with Server(tmp_path, config) as server:
            client = client_of(server)
            batch = client.messages.batches.create(requests=[request(i) for i in range(300)])
            with pytest.raises(anthropic.BadRequestError):
                client.messages.batches.delete(batch.id)
            assert client.messages.batches.cancel(batch.id).processing_status in ("canceling", "ended")
            batch = finish(client, batch)
            counts = batch.request_counts
            assert counts.canceled > 0 and counts.canceled + counts.succeeded == 300
            kinds = [entry.result.type for entry in client.messages.batches.results(batch.id)]
            assert len(kinds) == 300 and kinds.count("canceled") == counts.canceled
            others = [client.messages.batches.create(requests=[request(0)]).id for _ in range(3)]
            assert [b.id for b in client.messages.batches.list(limit=2)] == [*others[::-1], batch.id]
            assert client.messages.batches.delete(batch.id).id == batch.id
            with pytest.raises(anthropic.NotFoundError):
                client.messages.batches.retrieve(batch.id)
