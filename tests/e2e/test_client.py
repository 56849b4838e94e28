# SPDX-License-Identifier: Apache-2.0
"""The commands that ask a server: submit, status, results, cancel, ls, get. Against `tidemill serve`, and
against a server of the test's own that lies, breaks off and comes back."""

import json
import subprocess
import threading
import time

import pytest
from conftest import TIDEMILL, read_jsonl, run, write_jsonl
from server import Server
from upstream import Upstream

MODELS = """\
models:
  echo: {model: "echo:json=1"}
  recs: {model: "echo:json=1"}
  slow: {model: "echo:json=1,row_latency_us=2000", batch: 1, checkpoint_every: 50ms}
queues:
  recs: {window: {every: 200ms}, key_field: user}
"""


def line(i, model="echo", **changes):
    record = {"custom_id": f"r{i}", "method": "POST", "url": "/v1/chat/completions",
              "body": {"model": model, "messages": [{"role": "user", "content": f"number {i}"}]}}
    return {**record, **changes}


def lines(path, n, model="echo"):
    return write_jsonl(path, [line(i, model) for i in range(n)])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("server"), MODELS) as running:
        yield running


def ask(server, *arguments, **more):
    return run(*arguments, "--server", server.url if isinstance(server, Server) else server, **more)


def ids(path):
    return [record["custom_id"] for record in read_jsonl(path)]


# --- a server as it should be ---------------------------------------------------------------------


def test_submit_and_wait(server, tmp_path):
    lines(tmp_path / "in.jsonl", 500)
    result = ask(server, "submit", "in.jsonl", "--wait", "--output=out.jsonl", "--errors", "err.jsonl",
                 cwd=tmp_path, check=0)
    assert result.out.startswith("batch_") and "status       completed" in result.out
    assert "answered     500 of 500, 0 failed" in result.out
    assert ids(tmp_path / "out.jsonl") == [f"r{i}" for i in range(500)]
    assert (tmp_path / "err.jsonl").read_bytes() == b""


def test_the_id_is_all_that_a_script_gets(server, tmp_path):
    lines(tmp_path / "in.jsonl", 3)
    batch = ask(server, "submit", "in.jsonl", "--window=90m", cwd=tmp_path, check=0).out
    assert batch.startswith("batch_") and batch.count("\n") == 1
    batch = batch.strip()
    out = ask(server, "results", batch, "--follow", check=0).out
    assert [json.loads(text)["custom_id"] for text in out.splitlines()] == ["r0", "r1", "r2"]
    found = json.loads(ask(server, "status", "--json", batch, check=0).out)
    assert found["id"] == batch and found["status"] == "completed"
    assert found["completion_window"] == "90m"
    shown = ask(server, "status", batch, check=0).out
    assert f"id           {batch}\n" in shown and "answered     3 of 3, 0 failed" in shown


def test_standard_input(server, tmp_path):
    text = "".join(json.dumps(line(i)) + "\n" for i in range(5)).encode()
    found = json.loads(ask(server, "submit", "-", "--endpoint=/v1/chat/completions", "--wait", "--json",
                           input=text, check=0).out)
    assert found["request_counts"] == {"total": 5, "completed": 5, "failed": 0}


def test_the_endpoint_is_the_files(server, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [line(1, url="/v1/embeddings")])
    found = json.loads(ask(server, "submit", "in.jsonl", "--json", cwd=tmp_path, check=0).out)
    assert found["endpoint"] == "/v1/embeddings"


def test_a_file_that_is_not_valid(server, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [line(1), line(1)])
    result = ask(server, "submit", "in.jsonl", "--wait", cwd=tmp_path, check=2)
    assert "status       failed" in result.out and "line 2" in result.out


def test_ls(server, tmp_path):
    lines(tmp_path / "in.jsonl", 1)
    made = [ask(server, "submit", "in.jsonl", cwd=tmp_path, check=0).out.strip() for _ in range(3)]
    shown = ask(server, "ls", "--limit=2", check=0).out.splitlines()
    assert shown[0].startswith("id ") and [row.split()[0] for row in shown[1:]] == made[:0:-1]
    objects = [json.loads(row) for row in ask(server, "ls", "--json", check=0).out.splitlines()]
    assert [batch["id"] for batch in objects[:3]] == made[::-1]


def test_cancel_and_what_is_there_so_far(server, tmp_path):
    lines(tmp_path / "in.jsonl", 20000, "slow")
    batch = ask(server, "submit", "in.jsonl", cwd=tmp_path, check=0).out.strip()
    while True:
        part = ask(server, "results", batch)
        assert part.returncode == 75 and "is not done yet" in part.err
        if part.out:
            break
    assert json.loads(part.out.splitlines()[0])["custom_id"] == "r0" and part.out.endswith("\n")
    assert batch in ask(server, "cancel", batch, check=0).out
    result = ask(server, "results", batch, "--follow", "--errors=err.jsonl", cwd=tmp_path, check=1)
    assert result.out.startswith(part.out)
    done, failed = result.out.count("\n"), len(ids(tmp_path / "err.jsonl"))
    assert done + failed == 20000 and failed > 0
    assert "409" in ask(server, "cancel", batch, check=2).err


def test_what_the_server_does_not_have(server):
    for command in ("status", "cancel", "results"):
        assert "404" in ask(server, command, "batch_no/../such", check=2).err
    assert ask(server, "get", "no-queue", "a/b?c", check=1).out == ""


def test_followed_through_a_kill(tmp_path):
    """The stream breaks off, the server comes back, no byte is there twice or missing."""
    server = Server(tmp_path, MODELS)
    with server:
        server.listen = server.addresses[0]
        lines(tmp_path / "in.jsonl", 1500, "slow")
        batch = ask(server, "submit", "in.jsonl", cwd=tmp_path, check=0).out.strip()
        follower = subprocess.Popen([TIDEMILL, "results", batch, "--follow", "--output=out.jsonl",
                                     "--server", server.url], cwd=tmp_path)
        while not (tmp_path / "out.jsonl").exists() or (tmp_path / "out.jsonl").stat().st_size == 0:
            assert follower.poll() is None
            time.sleep(0.01)
        server.kill()
        server.start()
        assert follower.wait(120) == 0
    assert ids(tmp_path / "out.jsonl") == [f"r{i}" for i in range(1500)]


def test_records_of_a_queue_are_answered_under_their_keys(server, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"user": f"u/{i}", "x": i} for i in range(50)])
    ask(server, "submit", "in.jsonl", "--queue=recs", cwd=tmp_path, check=0)
    deadline = time.monotonic() + 60
    while (found := ask(server, "get", "recs", "u/49")).returncode == 1:
        assert found.out == "" and time.monotonic() < deadline, server.text
        time.sleep(0.05)
    assert found.returncode == 0 and '"x":49' in found.out.replace(" ", "").replace("\\", "")
    ask(server, "get", "recs", "u/50", check=1)


def test_a_line_that_is_no_record_costs_itself(server):
    receipt = json.loads(ask(server, "submit", "-", "--queue=recs", input=b'{"user": "a"}\nnonsense\n',
                             check=1).out)
    assert receipt["accepted"] == 1 and receipt["rejected"] == 1


# --- what is asked wrongly --------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, message", [
    (["submit"], "usage: tidemill submit FILE"),
    (["submit", "a", "b"], "one argument too many: 'b'"),
    (["submit", "a", "--wiat"], "unknown option '--wiat'; did you mean '--wait'?"),
    (["submit", "a", "--nonsense"], "unknown option '--nonsense'; 'tidemill submit --help' lists them"),
    (["submit", "a", "--wait=1"], "--wait has no value"),
    (["submit", "a", "--window"], "--window wants a value: TIME"),
    (["submit", "a", "--queue=q", "--wait"], "--queue has a window of its own"),
    (["submit", "a", "--output=o"], "--output and --errors go with --wait"),
    (["submit", "no-such-file"], "no-such-file"),
    (["submit", "."], "directory"),
    (["status"], "usage: tidemill status BATCH"),
    (["get", "q"], "usage: tidemill get QUEUE KEY"),
    (["ls", "--limit=0"], "--limit: '0' is not a number above 0"),
    (["ls", "--limit=x"], "--limit: 'x' is not a number above 0"),
    (["ls", "--server=ftp://a"], "is not an address such as http://127.0.0.1:8080"),
])
def test_arguments(arguments, message):
    result = run(*arguments)
    assert result.returncode in (2, 3) and message in result.err, result.err


@pytest.mark.parametrize("command", ["submit", "status", "results", "get", "cancel", "ls"])
def test_help(command):
    assert run(command, "--help", check=0).out.startswith(f"Usage: tidemill {command}")


def test_nobody_there():
    """At once: there is nothing to wait for."""
    result = run("ls", env={"TIDEMILL_SERVER": "http://127.0.0.1:9"}, check=3)
    assert "is 'tidemill serve' running there?" in result.err and result.out == ""


# --- servers that lie, break off, come back -----------------------------------------------------------


BATCH = {"id": "batch_1", "object": "batch", "status": "completed", "model": "m",
         "request_counts": {"total": 2, "completed": 2, "failed": 0}}


def test_key_and_address_are_the_environments():
    with Upstream(lambda request: (200, BATCH)) as stub:
        run("status", "batch_1", env={"TIDEMILL_SERVER": stub.url + "/", "TIDEMILL_API_KEY": "tdm_x"},
            check=0)
        assert stub.requests[-1].headers["Authorization"] == "Bearer tdm_x"
        assert stub.requests[-1].path == "/v1/batches/batch_1"


def test_a_lost_answer_is_asked_for_with_the_same_key(tmp_path):
    """The server is busy, then made the batch and its answer was lost: asked again, with the key."""
    answers = [(503, {"error": {"message": "full"}}, {"Retry-After": "0"}), (504, {}), (200, BATCH)]

    def answer(request):
        if request.path == "/v1/files":
            return 200, {"id": "file-1"}
        return answers.pop(0)

    lines(tmp_path / "in.jsonl", 2)
    with Upstream(answer) as stub:
        assert ask(stub.url, "submit", "in.jsonl", cwd=tmp_path, check=0).out == "batch_1\n"
        creations = [r for r in stub.requests if r.path == "/v1/batches"]
    assert len(creations) == 3
    assert len({r.headers["Idempotency-Key"] for r in creations}) == 1
    assert creations[0].json == {"input_file_id": "file-1", "endpoint": "/v1/chat/completions",
                                 "completion_window": "24h"}


def test_an_upload_is_not_sent_twice_where_it_may_have_been_taken(tmp_path):
    lines(tmp_path / "in.jsonl", 2)
    with Upstream(lambda request: (504, {})) as stub:
        ask(stub.url, "submit", "in.jsonl", cwd=tmp_path, check=3)
        assert len([r for r in stub.requests if r.path == "/v1/files"]) == 1


def test_the_upload_is_the_file(tmp_path):
    content = lines(tmp_path / "in.jsonl", 1000).read_bytes()
    with Upstream(lambda r: (200, {"id": "file-1"} if r.path == "/v1/files" else BATCH)) as stub:
        ask(stub.url, "submit", "in.jsonl", cwd=tmp_path, check=0)
        body = next(r.body for r in stub.requests if r.path == "/v1/files")
    assert content in body and b'name="purpose"' in body and b'filename="in.jsonl"' in body


def test_records_of_a_queue_are_sent_as_they_are(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"user": 1}, {"user": 2}])
    with Upstream(lambda request: (202, {"accepted": 2})) as stub:
        out = ask(stub.url, "submit", "in.jsonl", "--queue=re cs", cwd=tmp_path, check=0).out
        request = stub.requests[-1]
    assert json.loads(out) == {"accepted": 2}
    assert request.path == "/v1/queues/re%20cs/requests"
    assert request.headers["Content-Type"] == "application/x-ndjson"
    assert request.headers["Idempotency-Key"]
    assert request.body == (tmp_path / "in.jsonl").read_bytes()


@pytest.mark.parametrize("answer, status, message", [
    ((200, "<html>"), 3, "is it tidemill?"),
    ((200, []), 3, "is it tidemill?"),
    ((401, {"error": {"message": "no key"}}), 2, "401: no key"),
    ((400, {"error": "plain text"}), 2, "400: plain text"),
    ((500, "oh"), 3, "500: it does not say why"),
])
def test_odd_answers(answer, status, message):
    with Upstream(lambda request: answer) as stub:
        assert message in ask(stub.url, "status", "batch_1", check=status).err


def test_control_characters_do_not_reach_the_terminal():
    bad = {**BATCH, "model": "\x1b[2Jm", "status": "in_progress\x07"}
    with Upstream(lambda request: (200, bad)) as stub:
        out = ask(stub.url, "status", "batch_1", check=0).out
        assert "\x1b" not in out and "\x07" not in out and "?[2Jm" in out


def test_get_prints_the_value():
    with Upstream(lambda request: (200, {"label": "seven"})) as stub:
        out = ask(stub.url, "get", "digits", "a/b c", check=0).out
        assert stub.requests[-1].path == "/v1/results/digits/a%2Fb%20c"
    assert json.loads(out) == {"label": "seven"} and out.endswith("}\n")


def test_a_stream_that_breaks_off_goes_on(tmp_path):
    """Cut in the middle of a line, again and again: the file has each byte once."""
    body = b"".join(json.dumps({"custom_id": f"r{i}"}).encode() + b"\n" for i in range(200))
    cuts = iter([100, 0, 1500, len(body)])

    import http.server

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if "/results" not in self.path:
                text = json.dumps(BATCH).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:next(cuts)])
            self.close_connection = True

        def log_message(self, *_):
            pass

    stub = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=stub.serve_forever, daemon=True).start()
    run("results", "batch_1", "--follow", "--output=out.jsonl", cwd=tmp_path, check=0,
        env={"TIDEMILL_SERVER": f"http://127.0.0.1:{stub.server_port}"})
    stub.shutdown()
    stub.server_close()
    assert (tmp_path / "out.jsonl").read_bytes() == body


def test_an_output_that_cannot_be_written(server, tmp_path):
    lines(tmp_path / "in.jsonl", 5)
    batch = ask(server, "submit", "in.jsonl", "--wait", cwd=tmp_path, check=0).out.split()[0]
    assert "/dev/full" in ask(server, "results", batch, "--output=/dev/full", check=3).err
    ask(server, "results", batch, "--output", tmp_path / "no/such/folder", check=3)
