# SPDX-License-Identifier: Apache-2.0
"""What operators do with `tidemill serve`: keys, tenants, metrics, logs, reload, sockets, backups."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import TIDEMILL, heed_signals, run
from server import Server

CONFIG = """
models:
  echo:
    model: echo
queues:
  slow:
    model: echo
    window: {every: 1h}
  fast:
    model: echo
"""


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path, CONFIG) as server:
        yield server


def make_key(server, *options):
    return run("key", "create", f"--data={server.data}", *options, check=0).out.strip()


def bearer(key, **more):
    return {"Authorization": f"Bearer {key}", **more}


def put(server, key=None, queue="slow", record=None):
    return server.post(f"/v1/queues/{queue}/requests", record or {"id": "a", "x": [1]},
                       headers=bearer(key) if key else {})


# --- what it says of itself ---


def test_it_is_alive_and_ready(server):
    assert server.get("/healthz").body == b"ok\n"
    assert server.get("/readyz").body == b"ready\n"


def test_metrics_are_prometheus(server):
    assert put(server).status == 202
    page = server.get("/metrics").body.decode()
    names = set()
    for line in page.splitlines():
        if line.startswith("# TYPE "):
            names.add(line.split()[2])
        elif not line.startswith("#"):
            found = re.fullmatch(r'([a-z_]+)(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? (\S+)', line)
            assert found, line
            float(found.group(4))
            name = re.sub(r"_(bucket|sum|count)$", "", found.group(1))
            assert name in names or found.group(1) in names, line
    assert 'tidemill_queue_records{queue="slow"} 1' in page
    assert re.search(r'tidemill_http_requests_total\{operation="\w+",code="2xx"\} ', page)
    assert "tidemill_http_request_duration_seconds_bucket" in page


def test_logs_are_json_with_ids(tmp_path):
    server = Server(tmp_path, CONFIG)
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    process = subprocess.Popen(
        [TIDEMILL, "serve", str(server.config_path), f"--data={server.data}", "--listen=127.0.0.1:0",
         "--log-format=json"], stderr=subprocess.PIPE, text=True, preexec_fn=heed_signals)
    lines = []
    for line in process.stderr:
        lines.append(json.loads(line))
        if "listening on" in lines[-1]["message"]:
            server.addresses = [lines[-1]["message"].split()[-1]]
            break
    answer = server.get("/v1/files", headers={"traceparent": trace})
    process.send_signal(signal.SIGTERM)
    lines += [json.loads(line) for line in process.stderr]
    assert process.wait(60) == 0
    (line,) = [entry for entry in lines if entry["message"] == "GET /v1/files"]
    assert line["status"] == "200" and line["operation"] == "listFiles" and line["tenant"] == "default"
    assert line["traceparent"] == trace and line["request_id"] == answer.headers["X-Request-Id"]


def test_the_openapi_document_names_every_route_once(server):
    document = server.get("/openapi.json").json
    assert document["openapi"].startswith("3.1")
    operations = [method["operationId"] for path in document["paths"].values() for method in path.values()]
    assert len(operations) == len(set(operations)) > 30
    for path, methods in document["paths"].items():
        for method in methods.values():
            names = [parameter["name"] for parameter in method["parameters"]]
            assert names == re.findall(r"\{(\w+)\}", path)
            assert method["summary"] and method["responses"]


# --- keys ---


def test_a_key_is_needed_once_there_is_one_and_revoking_holds_within_a_second(tmp_path):
    server = Server(tmp_path, CONFIG)
    key = make_key(server, "--tenant=ann")
    assert re.fullmatch(r"tdm_[A-Za-z0-9_-]{43}", key)
    with server:
        refused = server.get("/v1/files")
        assert refused.status == 401 and refused.json["error"]["code"] == "invalid_api_key"
        assert server.get("/v1/files", headers=bearer(key)).status == 200
        assert server.get("/v1/files", headers={"x-api-key": key}).status == 200
        assert server.get("/healthz").status == 200
        (listed,) = [json.loads(text) for text in run(
            "key", "list", f"--data={server.data}", "--json", check=0).out.splitlines()]
        run("key", "revoke", listed["id"], f"--data={server.data}", check=0)
        time.sleep(1)
        assert server.get("/v1/files", headers=bearer(key)).status == 401
        assert server.get("/v1/files").status == 401  # the door stays shut


def test_a_key_made_while_it_runs_is_known_within_a_second(server):
    assert server.get("/v1/files").status == 200
    key = make_key(server)
    time.sleep(1)
    assert server.get("/v1/files").status == 401
    assert server.get("/v1/files", headers=bearer(key)).status == 200


def test_no_key_is_anywhere_on_the_disk_or_in_the_log(tmp_path):
    server = Server(tmp_path, CONFIG)
    key = make_key(server, "--admin")
    with server:
        put(server, key)
        server.get("/metrics", headers=bearer(key))
        server.get(f"/v1/files?key={key}")
    for path in server.data.rglob("*"):
        if path.is_file():
            assert key[4:].encode() not in path.read_bytes(), path
    assert key not in server.text


def test_a_keys_rate_queues_and_rights_hold(tmp_path):
    server = Server(tmp_path, CONFIG)
    limited = make_key(server, "--rpm=5")
    narrow = make_key(server, "--queues=other")
    admin = make_key(server, "--admin")
    with server:
        statuses = [server.get("/v1/files", headers=bearer(limited)).status for _ in range(8)]
        assert statuses == [200] * 5 + [429] * 3
        assert put(server, narrow).status == 403
        assert server.get("/metrics", headers=bearer(narrow)).status == 403
        assert server.get("/metrics", headers=bearer(admin)).status == 200


def test_it_does_not_open_to_others_without_keys(tmp_path):
    server = Server(tmp_path, CONFIG, listen="0.0.0.0:0")
    result = run("serve", server.config_path, f"--data={server.data}", "--listen=0.0.0.0:0", check=2)
    assert "tidemill key create" in result.err
    make_key(server)
    with server:
        assert server.process.poll() is None


@pytest.mark.parametrize("arguments, says", [
    (["serve", "nothing.yaml"], "nothing.yaml"),
    (["serve", "--what"], "--what"),
    (["key"], "create, list or revoke"),
    (["key", "crate"], "crate"),
    (["key", "create", "--tenant=a/b"], "tenant"),
    (["key", "create", "--budget=much"], "--budget"),
    (["key", "revoke"], "id is missing"),
])
def test_wrong_commands_are_told_so(tmp_path, arguments, says):
    assert says in run(*arguments, cwd=tmp_path, check=2).err


# --- tenants ---

# Of every route that takes an id: what a stranger is answered. A new route without a row fails.
FOREIGN = {
    ("get", "/v1/files/{file_id}"): 404, ("delete", "/v1/files/{file_id}"): 404,
    ("get", "/v1/files/{file_id}/content"): 404,
    ("get", "/v1/batches/{batch_id}"): 404, ("post", "/v1/batches/{batch_id}/cancel"): 404,
    ("post", "/v1/batches/{batch_id}/retry"): 404, ("get", "/v1/batches/{batch_id}/results"): 404,
    ("get", "/v1/messages/batches/{message_batch_id}"): 404,
    ("delete", "/v1/messages/batches/{message_batch_id}"): 404,
    ("post", "/v1/messages/batches/{message_batch_id}/cancel"): 404,
    ("get", "/v1/messages/batches/{message_batch_id}/results"): 404,
    ("get", "/v1/requests/{request_id}"): 404, ("delete", "/v1/requests/{request_id}"): 404,
    ("get", "/v1/results/{queue}/{key}"): 404,
}
# Models and queues are the operator's, every tenant's alike.
SHARED = re.compile(r"^(/v2|/v1/models|/predictions|/models|/v1/queues|/v1/results/\{queue\}$|/v3)")


def test_every_route_hides_what_is_anothers(tmp_path):
    server = Server(tmp_path, CONFIG)
    ann, bob = make_key(server, "--tenant=ann"), make_key(server, "--tenant=bob")
    with server:
        def ask(method, path, key, body=None):
            return server.request(method.upper(), path, body=body, headers=bearer(key))

        form = {"Content-Type": "multipart/form-data; boundary=b", **bearer(ann)}
        content = json.dumps({"custom_id": "1", "method": "POST", "url": "/v1/embeddings",
                              "body": {"model": "echo", "input": "x"}}) + "\n"
        upload = ('--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b\r\n'
                  'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + content +
                  "\r\n--b--\r\n").encode()
        file = server.post("/v1/files", upload, headers=form).json["id"]
        batch = ask("post", "/v1/batches", ann, {"input_file_id": file, "endpoint": "/v1/embeddings",
                                                 "completion_window": "24h"}).json["id"]
        message = ask("post", "/v1/messages/batches", ann, {"requests": [
            {"custom_id": "a", "params": {"model": "echo", "max_tokens": 1, "messages": [
                {"role": "user", "content": "x"}]}}]}).json["id"]
        request = put(server, ann).json["id"]
        put(server, ann, "fast", {"id": "k", "x": [1]})
        ask("post", "/v1/queues/fast/flush", ann)
        deadline = time.monotonic() + 30
        while ask("get", "/v1/results/fast/k", ann).status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        ids = {"file_id": file, "batch_id": batch, "message_batch_id": message, "request_id": request,
               "queue": "fast", "key": "k"}
        paths = server.get("/openapi.json").json["paths"]
        for path, methods in paths.items():
            for method in methods:
                if "{" not in path or SHARED.match(path):
                    continue
                assert (method, path) in FOREIGN, f"{method} {path} has no row here"
                mine = re.sub(r"\{(\w+)\}", lambda found: ids[found.group(1)], path)
                never = re.sub(r"[0-9a-f]{6}", "abcdef", mine).replace("/k", "/zz")
                answer = ask(method, mine, bob)
                assert answer.status == FOREIGN[method, path], (method, path, answer.body)
                # What is another's and what never was look alike.
                other = ask(method, never, bob)
                assert other.status == answer.status, (method, path)
        for path in ("/v1/files", "/v1/batches", "/v1/messages/batches"):
            assert ask("get", path, bob).json["data"] == []


# --- starts, stops, reloads ---


def test_two_servers_on_one_folder(server):
    second = run("serve", server.config_path, f"--data={server.data}", "--listen=127.0.0.1:0", check=2)
    assert str(server.process.pid) in second.err


def test_a_killed_server_leaves_no_lock(tmp_path):
    server = Server(tmp_path, CONFIG).start()
    identity = put(server).json["id"]
    server.kill()
    server.start()
    assert server.get(f"/v1/requests/{identity}").json["status"] == "queued"
    server.stop()


def test_a_reload_takes_what_is_right_and_leaves_what_is_wrong(server):
    server.write_config(CONFIG + "  more:\n    model: echo\n")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("/v1/queues", lambda answer: "more" in json.dumps(answer))
    server.write_config(CONFIG + "  more:\n    modle: echo\n")
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 10
    while "not reloaded" not in server.text:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "modle" in server.text and put(server, queue="more").status == 202


def test_a_unix_socket_serves(tmp_path):
    server = Server(tmp_path, CONFIG, listen=f"unix:{tmp_path}/s")
    with server:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"{tmp_path}/s")
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"ok\n")


def test_a_service_manager_hands_over_its_socket_and_is_told(tmp_path):
    server = Server(tmp_path, CONFIG)
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(str(tmp_path / "notify"))
    told.settimeout(60)
    listener = socket.create_server(("127.0.0.1", 0))
    server.addresses = ["127.0.0.1:%d" % listener.getsockname()[1]]

    def become():
        heed_signals()
        os.dup2(listener.fileno(), 3)
        os.environ["LISTEN_PID"] = str(os.getpid())

    process = subprocess.Popen(
        ["sh", "-c", 'LISTEN_PID=$$ exec "$0" "$@"', TIDEMILL, "serve", str(server.config_path),
         f"--data={server.data}"], preexec_fn=become, stderr=subprocess.DEVNULL,
        env={**os.environ, "LISTEN_FDS": "1", "NOTIFY_SOCKET": str(tmp_path / "notify")}, close_fds=False)
    assert told.recv(100) == b"READY=1"
    assert server.get("/healthz").status == 200
    process.send_signal(signal.SIGTERM)
    assert told.recv(100) == b"STOPPING=1"
    assert process.wait(60) == 0


def test_a_backup_opens_by_itself(server):
    put(server)
    path = server.post("/v1/admin/backup").json["path"]
    with sqlite3.connect(path) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)


def test_many_clients_at_once_get_their_own_answers(server):
    def one(i):
        return put(server, record={"id": f"r{i}", "x": [i]}).json["id"]

    with ThreadPoolExecutor(16) as pool:
        ids = list(pool.map(one, range(300)))
    assert len(set(ids)) == 300
    server.post("/v1/queues/slow/flush")
    for i, identity in enumerate(ids):
        answer = server.wait_for(f"/v1/requests/{identity}", lambda a: a["status"] == "completed")
        assert answer["result"]["y"] == [i]
