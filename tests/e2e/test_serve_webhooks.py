# SPDX-License-Identifier: Apache-2.0
"""Webhooks and sinks of `tidemill serve`, towards receivers that fail, hang, lie and are killed."""

import json
import os
import socket
import threading
import time

import pytest
from conftest import TIDEMILL  # noqa: F401  (the fixtures of the suite)
from misbehaving import Misbehaving
from server import Server
from standardwebhooks.webhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def config(more="", private="true", url="http://127.0.0.1:1/"):
    return f"""
webhooks_private: {private}
models:
  echo: {{model: echo}}
queues:
  mails:
    model: echo
    window: {{every: 1h}}
    webhook: {{url: "{url}", secret_env: HOOK_SECRET}}
{more}"""


def serve(tmp_path, text):
    return Server(tmp_path, text, env={"HOOK_SECRET": SECRET})


def one_window(server, records=1):
    lines = "".join(json.dumps({"id": f"k{i}", "x": [i]}) + "\n" for i in range(records))
    answer = server.post("/v1/queues/mails/requests", lines.encode(),
                         headers={"Content-Type": "application/x-ndjson"})
    assert answer.status == 202, answer.body
    assert server.post("/v1/queues/mails/flush").json["windows_closed"] == 1
    return answer.json["ranges"][0]["window"]


def until(is_true, what, timeout=30):
    deadline = time.monotonic() + timeout
    while not is_true():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


def test_a_receiver_can_check_who_it_is_from(tmp_path):
    with Misbehaving(lambda wire: wire.answer(b"", 204)) as receiver, \
            serve(tmp_path, config(url=receiver.url + "/hook")) as server:
        window = one_window(server)
        until(lambda: receiver.requests, lambda: server.text)
        wire = receiver.requests[0]
        event = Webhook(SECRET).verify(wire.body, wire.headers)
        assert event["type"] == "window.completed" and event["object"] == "event"
        assert event["data"]["id"] == window and event["data"]["queue"] == "mails"
        assert event["id"] == wire.headers["webhook-id"]
        with pytest.raises(Exception):
            Webhook(SECRET).verify(wire.body.replace(b"completed", b"cancelled"), wire.headers)


def test_it_is_told_again_until_it_is_heard_under_the_same_id(tmp_path):
    turns = []

    def behave(wire):
        turns.append(wire)
        if len(turns) == 1:
            wire.answer(b"later", 500)
        elif len(turns) == 2:
            wire.reset()
        elif len(turns) == 3:
            wire.answer(b"", 302, Location=f"{wire.server.url}/elsewhere")
        elif len(turns) == 4:
            wire.answer(b"", 200)

    with Misbehaving(behave) as receiver, serve(tmp_path, config(url=receiver.url)) as server:
        one_window(server)
        until(lambda: len(turns) >= 4, lambda: server.text, 60)
        assert len({wire.headers["webhook-id"] for wire in turns}) == 1
        assert {wire.path for wire in turns} == {"/"}  # the redirect was not followed
        assert len({wire.body for wire in turns}) == 1


def test_one_that_is_gone_is_told_no_more_and_one_that_floods_is_cut_off(tmp_path):
    sent = []

    def behave(wire):
        if wire.path == "/gone":
            wire.answer(b"", 410)
            return
        wire.send(wire.head(200, 10 << 30))
        try:
            while True:
                wire.send(b"x" * 65536)
                sent.append(65536)
        except OSError:
            wire.close()

    with Misbehaving(behave) as receiver, serve(tmp_path, config(url=receiver.url + "/gone")) as server:
        one_window(server)
        until(lambda: "given up" in server.text, lambda: server.text)
        server.write_config(config(url=receiver.url + "/flood"))
        server.process.send_signal(1)  # SIGHUP: the new address
        until(lambda: server.get("/readyz").status == 200, lambda: server.text)
        time.sleep(0.3)
        one_window(server)
        until(lambda: any(w.path == "/flood" for w in receiver.requests), lambda: server.text)
        server.stop()
    assert sum(sent) < 64 << 20
    assert [wire.path for wire in receiver.requests] == ["/gone", "/flood"]


def test_a_kill_while_it_is_told_tells_it_again(tmp_path):
    heard, first = [], threading.Event()

    def behave(wire):
        heard.append(wire)
        if len(heard) == 1:
            first.set()
            wire.hang()
        wire.answer(b"", 200)

    with Misbehaving(behave) as receiver, serve(tmp_path, config(url=receiver.url)) as server:
        one_window(server)
        assert first.wait(30), server.text
        server.kill()
        server.start()
        until(lambda: len(heard) >= 2, lambda: server.text)
        assert heard[0].headers["webhook-id"] == heard[1].headers["webhook-id"]
        assert heard[0].body == heard[1].body


def test_private_addresses_are_not_reached_unless_allowed(tmp_path):
    """By a name that only resolves to one: the connection itself is looked at."""
    name = socket.gethostname()
    with Misbehaving(lambda wire: wire.answer(b"", 200)) as receiver, \
            serve(tmp_path, config(private="false", url=f"https://{name}:{receiver.port}/")) as server:
        one_window(server)
        until(lambda: "is not delivered" in server.text, lambda: server.text)
        server.stop()
    assert receiver.n_connections == 0
    assert "private network" in server.text or "resolve" in server.text


# --- sinks ---


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_files_get_each_windows_answers_once(tmp_path):
    one, each = tmp_path / "all.jsonl", tmp_path / "each"
    more = f"    sinks:\n      - jsonl: {one}\n      - directory: {each}\n"
    with Misbehaving(lambda wire: wire.answer(b"", 200)) as receiver, \
            serve(tmp_path, config(more, url=receiver.url)) as server:
        windows = [one_window(server, 50)]
        until(lambda: len(lines_of(one)) == 50, lambda: server.text)
        server.kill()
        server.start()
        windows.append(one_window(server, 30))
        until(lambda: len(lines_of(one)) == 80, lambda: server.text)
        until(lambda: len(list(each.glob("*.jsonl"))) == 2, lambda: server.text)
        server.stop()
    assert [line["id"] for line in lines_of(one)] == \
        [f"k{i}" for i in range(50)] + [f"k{i}" for i in range(30)]
    assert [len(lines_of(each / f"{window}.jsonl")) for window in windows] == [50, 30]
    assert sorted(os.listdir(each)) == sorted(f"{window}.jsonl" for window in windows)


def test_http_gets_pieces_with_keys(tmp_path):
    failed = []

    def behave(wire):
        if "/sink" not in wire.path:
            wire.answer(b"", 200)
        elif not failed:
            failed.append(wire.headers["idempotency-key"])
            wire.answer(b"", 503)
        else:
            wire.answer(b"", 200)

    with Misbehaving(behave) as receiver:
        more = f"    sinks:\n      - http: {receiver.url}/sink\n"
        with serve(tmp_path, config(more, url=receiver.url)) as server:
            one_window(server, 60000)
            got = lambda: [w for w in receiver.requests if w.path == "/sink"][1:]
            until(lambda: sum(w.body.count(b"\n") for w in got()) >= 60000, lambda: server.text, 60)
            pieces = {w.headers["idempotency-key"]: w.body for w in got()}
            assert failed[0] in pieces and len(pieces) >= 2
            ids = [json.loads(line)["id"] for key in sorted(pieces) for line in pieces[key].splitlines()]
            assert ids == [f"k{i}" for i in range(60000)]
            server.stop()
