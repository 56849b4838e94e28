# SPDX-License-Identifier: Apache-2.0
"""Answers by key of `tidemill serve`, over HTTP and with Redis' own client."""

import shutil
import time

import pytest
import redis
from conftest import run
from misbehaving import free_port
from redis.backoff import NoBackoff
from redis.retry import Retry
from server import Server

NEVER = Retry(NoBackoff(), 0)

CONFIG = """
resp: 127.0.0.1:{port}
models:
  echo: {{model: echo}}
queues:
  plain: {{model: echo, window: {{every: 1h}}}}
  usual: {{model: echo, window: {{every: 1h}}, on_miss: default, default: {{y: 0}}}}
  asked: {{model: echo, window: {{every: 1h}}, on_miss: enqueue, key_field: text}}
  short: {{model: echo, window: {{every: 1h}}, ttl: 1ms}}
"""


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def server(tmp_path, port):
    with Server(tmp_path, CONFIG.format(port=port)) as server:
        yield server


def fill(server, queue, records, headers=None):
    for record in records:
        answer = server.post(f"/v1/queues/{queue}/requests", record, headers=headers)
        assert answer.status == 202, answer.body
    server.post(f"/v1/queues/{queue}/flush", headers=headers)
    done = server.get(answer.headers["Location"] + "?wait=30s", headers=headers).json
    assert done["status"] == "completed", done


def test_an_answer_stands_under_its_records_id(server):
    fill(server, "plain", [{"id": "a/b c", "x": [1]}, {"id": 7, "x": [2]}])
    answer = server.get("/v1/results/plain/a%2Fb%20c")
    assert answer.json == {"id": "a/b c", "y": [1.0]}
    assert int(answer.headers["Age"]) >= 0 and "max-age=" in answer.headers["Cache-Control"]
    tag = answer.headers["ETag"]
    again = server.get("/v1/results/plain/a%2Fb%20c", headers={"If-None-Match": f'W/"x", {tag}'})
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
    assert server.get("/v1/results/plain/7").json["y"] == [2.0]
    assert server.get("/v1/results/plain/8").status == 404
    assert server.get("/v1/results/nosuch/7").status == 404
    many = server.post("/v1/results/plain", {"keys": ["7", "8", "a/b c"]}).json["data"]
    assert [(item["key"], item["status"]) for item in many] == \
        [("7", "fresh"), ("8", "missing"), ("a/b c", "fresh")]
    assert server.post("/v1/results/plain", {"keys": ["k"] * 1001}).status == 400
    assert server.post("/v1/results/plain", {"keys": [1]}).status == 400
    # The same answer has the same tag wherever its record stood.
    fill(server, "plain", [{"id": "other", "x": [9]}, {"id": "a/b c", "x": [1]}])
    assert server.get("/v1/results/plain/a%2Fb%20c").headers["ETag"] == tag


def test_a_miss_is_what_the_queue_says(server):
    usual = server.get("/v1/results/usual/x")
    assert usual.status == 200 and usual.json == {"y": 0}
    assert usual.headers["X-Tidemill-Result"] == "default"
    first, again = (server.get("/v1/results/asked/hello") for _ in range(2))
    assert (first.status, again.status) == (202, 202)
    assert first.headers["Location"] == again.headers["Location"]
    assert server.get("/v1/queues/asked").json["waiting"] == 1
    server.post("/v1/queues/asked/flush")
    server.wait_for("/v1/queues/asked", lambda queue: queue["waiting"] == 0)
    assert server.get("/v1/results/asked/hello").status in (200, 202)


def test_what_is_old_says_so(server):
    fill(server, "short", [{"id": "k", "x": [1]}])
    time.sleep(0.01)
    answer = server.get("/v1/results/short/k")
    assert answer.status == 200 and answer.headers["Warning"].startswith("110")
    assert "max-age=0" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_own_client_reads_them(server, port, protocol):
    fill(server, "plain", [{"id": f"k{i}", "x": [i]} for i in range(20)])
    with redis.Redis(port=port, protocol=protocol, client_name="tests") as client:
        assert client.ping() and client.get("plain:k3") == b'{"id":"k3","y":[3.0]}'
        assert client.get("plain:none") is None and client.get("usual:none") == b'{"y":0}'
        assert client.mget("plain:k1", "plain:none", "plain:k2")[1] is None
        assert client.exists("plain:k1", "plain:none") == 1
        assert client.ttl("plain:k1") == -1 and client.ttl("plain:none") == -2
        assert client.strlen("plain:k1") == 21 and client.dbsize() == 20
        assert client.info()["redis_mode"] == "standalone"
        with client.pipeline(transaction=False) as pipeline:
            for i in range(20):
                pipeline.get(f"plain:k{i}")
            assert [b'"k%d"' % i in value for i, value in enumerate(pipeline.execute())] == [True] * 20
        with pytest.raises(redis.ResponseError, match="unknown command"):
            client.set("plain:k1", "x")


def test_a_tenant_sees_its_own(tmp_path, port):
    server = Server(tmp_path, CONFIG.format(port=port))
    keys = [run("key", "create", f"--data={server.data}", f"--tenant={name}", check=0).out.strip()
            for name in ("ann", "bob")]
    headers = [{"Authorization": f"Bearer {key}"} for key in keys]
    with server:
        fill(server, "plain", [{"id": "k", "x": [1]}], headers[0])
        assert server.get("/v1/results/plain/k", headers=headers[0]).status == 200
        assert server.get("/v1/results/plain/k", headers=headers[1]).status == 404
        ann, bob = (redis.Redis(port=port, password=key) for key in keys)
        assert ann.get("plain:k") is not None and bob.get("plain:k") is None
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port, retry=NEVER).get("plain:k")
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port, password="tdm_wrong", retry=NEVER).get("plain:k")


def test_answers_are_there_after_a_kill_and_after_the_cache_is_lost(server):
    fill(server, "plain", [{"id": "k", "x": [1]}])
    server.kill()
    server.start()
    assert server.get("/v1/results/plain/k").status == 200
    server.kill()
    shutil.rmtree(server.data / "results")
    server.start()
    deadline = time.monotonic() + 20
    while server.get("/v1/results/plain/k").status != 200:
        assert time.monotonic() < deadline, server.text
        time.sleep(0.02)
