# SPDX-License-Identifier: Apache-2.0
"""A disk that is full under `tidemill serve`: told so with 507, nothing half there, and it goes on by itself
once there is room."""

import json
import time

import pytest
from conftest import mounted_disk
from server import Server

CONFIG = """
models:
  echo:
    model: echo:json=1
queues:
  recs:
    model: echo
    window: {every: 1h}
"""


@pytest.fixture
def disk(tmp_path):
    yield from mounted_disk(tmp_path / "disk", 24)


def fill(disk):
    """Takes all the room there is."""
    path = disk / "ballast"
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    return path


def upload(server, content):
    body = (b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b\r\n'
            b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + content +
            b"\r\n--b--\r\n")
    return server.post("/v1/files", body, headers={"Content-Type": "multipart/form-data; boundary=b"})


def put(server):
    return server.post("/v1/queues/recs/requests", {"x": 1})


def when_it_works(ask, timeout=20):
    deadline = time.monotonic() + timeout
    while True:
        answer = ask()
        if answer.status < 300:
            return answer
        assert time.monotonic() < deadline, answer.body
        time.sleep(0.1)


def test_uploads_and_requests_are_told_and_go_on_once_there_is_room(disk, tmp_path):
    server = Server(tmp_path, CONFIG)
    server.data = disk / "data"
    with server:
        first = put(server).json["id"]
        file = upload(server, b"{}\n").json["id"]
        ballast = fill(disk)
        refused = upload(server, b"x" * (4 << 20))
        assert refused.status == 507 and refused.headers["Retry-After"]
        assert "full" in refused.json["error"]["message"] or "space" in refused.json["error"]["message"]
        statuses = {server.post("/v1/queues/recs/requests", {"x": "y" * 100_000}).status for _ in range(40)}
        assert 507 in statuses and statuses <= {202, 507}
        assert [entry["id"] for entry in server.get("/v1/files").json["data"]] == [file]  # nothing half there
        assert server.get(f"/v1/requests/{first}").json["status"] == "queued"
        ballast.unlink()
        when_it_works(lambda: upload(server, b"x" * (1 << 20)))
        last = when_it_works(lambda: put(server)).json["id"]
        assert server.get("/readyz").status == 200
        server.post("/v1/queues/recs/flush")
        for identity in (first, last):
            answer = server.wait_for(f"/v1/requests/{identity}", lambda a: a["status"] == "completed")
            assert '"x": 1' in json.dumps(answer)


def test_a_batch_waits_for_room_and_says_so(disk, tmp_path):
    server = Server(tmp_path, CONFIG)
    server.data = disk / "data"
    text = "".join(json.dumps({"custom_id": f"r{i}", "method": "POST", "url": "/v1/embeddings",
                               "body": {"model": "echo", "input": "z" * 300}}) + "\n" for i in range(8000))
    with server:
        file = upload(server, text.encode()).json["id"]
        ballast = fill(disk)
        ballast_size = ballast.stat().st_size
        with open(ballast, "r+b") as shrunk:  # room for a row, none for the answers
            shrunk.truncate(ballast_size - (1 << 20))
        batch = when_it_works(lambda: server.post("/v1/batches", {
            "input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "24h"})).json["id"]
        server.wait_for(f"/v1/batches/{batch}", lambda b: "paused" in b["tidemill"])
        ballast.unlink()
        done = server.wait_for(f"/v1/batches/{batch}", lambda b: b["status"] == "completed", timeout=90)
        assert done["request_counts"] == {"total": 8000, "completed": 8000, "failed": 0}
