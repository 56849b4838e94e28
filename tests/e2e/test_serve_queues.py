# SPDX-License-Identifier: Apache-2.0
"""Queues of `tidemill serve`: records in, one or by the thousand, and what became of them."""

import json
import socket
import threading
import time

import pytest
from server import Server

CONFIG = """
models:
  echo: {model: echo}
queues:
  mails:
    model: echo
    window: {every: 1h}
    max_waiting: 1000
  quick:
    model: echo
    window: {max_records: 3}
"""
LINES = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path, CONFIG) as server:
        yield server


def lines(records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def record(i):
    return {"id": f"k{i}", "x": [i]}


def test_a_record_is_accepted_run_and_answered(server):
    answer = server.post("/v1/queues/mails/requests", record(7))
    assert answer.status == 202 and answer.json["status"] == "queued"
    path = answer.headers["Location"]
    assert path == "/v1/requests/" + answer.json["id"]
    assert server.get(path).json["status"] == "queued"
    assert server.get("/v1/queues/mails").json["waiting"] == 1
    assert server.post("/v1/queues/mails/flush").json["windows_closed"] == 1
    done = server.get(path + "?wait=30s").json
    assert done["status"] == "completed" and done["result"]["y"] == [7.0]
    assert done["window"] == answer.json["window"]
    server.wait_for("/v1/queues/mails", lambda queue: queue["waiting"] == 0)
    assert [queue["id"] for queue in server.get("/v1/queues").json["data"]] == ["mails", "quick"]


def test_a_wait_ends_when_the_window_does_or_its_time(server):
    path = server.post("/v1/queues/mails/requests", record(1)).headers["Location"]
    began = time.monotonic()
    assert server.get(path + "?wait=300ms").json["status"] == "queued"
    assert time.monotonic() - began >= 0.3
    answers = []
    waiters = [threading.Thread(target=lambda: answers.append(server.get(path + "?wait=60s").json))
               for _ in range(40)]  # more than the pool has threads
    for waiter in waiters:
        waiter.start()
    assert server.get("/v1/queues/mails").json["waiting"] == 1  # and the pool is free
    server.post("/v1/queues/mails/flush")
    for waiter in waiters:
        waiter.join(30)
    assert [answer["status"] for answer in answers] == ["completed"] * 40
    assert server.get(path + "?wait=soon").status == 400


def test_a_stop_answers_who_waits(server):
    path = server.post("/v1/queues/mails/requests", record(1)).headers["Location"]
    answers = []
    waiter = threading.Thread(target=lambda: answers.append(server.get(path + "?wait=60s").json))
    waiter.start()
    time.sleep(0.3)
    server.stop()
    waiter.join(10)
    assert [answer["status"] for answer in answers] == ["queued"]


def test_bad_records_are_refused(server):
    for body in (b"", b"{", b"[1]", b'{"a":1}{"b":2}', b'{"a":"\xff"}'):
        answer = server.post("/v1/queues/mails/requests", body)
        assert answer.status == 400 and answer.json["error"]["code"] == "invalid_record", body
    assert server.post("/v1/queues/nosuch/requests", record(1)).status == 404
    assert server.get("/v1/requests/req_00_0").status == 404
    assert server.get("/v1/requests/nonsense").status == 404
    assert server.get("/v1/queues/mails").json["waiting"] == 0


def test_line_ends_in_a_record_do_not_make_two(server):
    body = json.dumps(record(1), indent=2).replace("\n", "\r\n").encode()
    answer = server.post("/v1/queues/mails/requests", body)
    server.post("/v1/queues/mails/requests", record(2))
    server.post("/v1/queues/mails/flush")
    done = server.get(answer.headers["Location"] + "?wait=30s").json
    assert done["result"]["y"] == [1.0]


def test_lines_cost_only_themselves(server):
    body = lines([record(1)]) + b'\n{"id":\n[1]\n"x"\r\n' + lines([record(2)]) + b'{"id":"last","x":[3]}'
    answer = server.post("/v1/queues/mails/requests", body, headers=LINES)
    assert answer.status == 202, answer.body
    assert (answer.json["accepted"], answer.json["rejected"]) == (3, 3)
    assert [error["line"] for error in answer.json["errors"]] == [3, 4, 5]
    (range_,) = answer.json["ranges"]
    assert (range_["first"], range_["count"]) == (0, 3)
    server.post("/v1/queues/mails/flush")
    done = server.get(f"/v1/requests/{range_['id']}?wait=30s").json
    assert [one["result"]["y"] for one in done["results"]] == [[1.0], [2.0], [3.0]]
    for nothing in (b"", b"\n\n", b"[]\n"):
        assert server.post("/v1/queues/mails/requests", nothing, headers=LINES).status == 400


def test_a_tenant_has_so_many_waiting_and_no_more(server):
    answer = server.post("/v1/queues/mails/requests", lines(map(record, range(1000))), headers=LINES)
    assert answer.status == 202, answer.body
    for body, headers in ((json.dumps(record(1)).encode(), {}), (lines([record(1)]), LINES)):
        answer = server.post("/v1/queues/mails/requests", body, headers=headers)
        assert answer.status == 429 and int(answer.headers["Retry-After"]) >= 1, answer.body
    server.post("/v1/queues/mails/flush")  # and when they have run there is room
    server.wait_for("/v1/queues/mails", lambda queue: queue["waiting"] == 0)
    deadline = time.monotonic() + 20
    while server.post("/v1/queues/mails/requests", record(1)).status != 202:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_was_accepted_is_there_after_a_kill(server):
    one = server.post("/v1/queues/mails/requests", record(1)).headers["Location"]
    many = server.post("/v1/queues/mails/requests", lines(map(record, range(500))), headers=LINES)
    server.kill()
    server.start()
    assert server.get("/v1/queues/mails").json["waiting"] == 501
    server.post("/v1/queues/mails/flush")
    assert server.get(one + "?wait=30s").json["result"]["y"] == [1.0]
    done = server.get(f"/v1/requests/{many.json['ranges'][0]['id']}?wait=30s").json
    assert [item["result"]["y"] for item in done["results"]] == [[i] for i in range(500)]


def test_the_same_key_is_the_same_request(server):
    key = {"Idempotency-Key": '"a-key"'}
    first = server.post("/v1/queues/mails/requests", record(1), headers=key)
    again = server.post("/v1/queues/mails/requests", record(1), headers=key)
    assert (first.status, again.status) == (202, 202) and first.body == again.body
    assert server.post("/v1/queues/mails/requests", record(2), headers=key).status == 422
    assert server.get("/v1/queues/mails").json["waiting"] == 1
    body, key = lines(map(record, range(200))), {"Idempotency-Key": "b", **LINES}
    first = server.post("/v1/queues/mails/requests", body, headers=key)
    again = server.post("/v1/queues/mails/requests", body, headers=key)
    assert first.status == 202 and first.body == again.body
    assert server.get("/v1/queues/mails").json["waiting"] == 201
    assert server.post("/v1/queues/mails/requests", record(1),
                       headers={"Idempotency-Key": "x" * 256}).status == 400


def test_only_a_whole_window_is_cancelled(server):
    first = server.post("/v1/queues/mails/requests", record(1)).headers["Location"]
    second = server.post("/v1/queues/mails/requests", record(2)).headers["Location"]
    answer = server.request("DELETE", first)
    assert answer.status == 409 and answer.json["error"]["code"] == "shared_window"
    server.post("/v1/queues/mails/flush")
    assert server.get(second + "?wait=30s").json["status"] == "completed"
    alone = server.post("/v1/queues/mails/requests", record(3)).headers["Location"]
    assert server.request("DELETE", alone).status == 200
    assert server.get(alone + "?wait=30s").json["status"] == "cancelled"
    assert server.request("DELETE", alone).status == 409


def test_a_client_that_is_cut_off_leaves_whole_records(server):
    host, port = server.addresses[0].rsplit(":", 1)
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"POST /v1/queues/mails/requests HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
                       b"Content-Type: application/x-ndjson\r\n\r\n" + lines([record(1), record(2)])
                       + b'{"id":"ha')
        time.sleep(0.2)
    answer = server.post("/v1/queues/mails/requests", record(3))
    assert answer.status == 202 and answer.json["position"] in (0, 2)


def test_a_full_window_closes_by_itself(server):
    paths = [server.post("/v1/queues/quick/requests", record(i)).headers["Location"] for i in range(3)]
    for i, path in enumerate(paths):
        assert server.get(path + "?wait=30s").json["result"]["y"] == [i]


def test_requests_that_ask_to_wait_count_in_the_queue(tmp_path):
    config = "models:\n  echo:\n    model: echo:json=1\nqueues:\n  echo:\n    model: echo\n    window: {every: 1h}\n    max_waiting: 3\n"
    with Server(tmp_path, config) as server:
        answers = [server.post("/v1/embeddings", {"model": "echo", "input": str(i)},
                               headers={"Prefer": "respond-async"}) for i in range(5)]
        assert [answer.status for answer in answers] == [202, 202, 202, 429, 429]
        assert answers[-1].headers["Retry-After"]
