# SPDX-License-Identifier: Apache-2.0
"""Servers as models: what is asked, how many at a time, again, and of whom."""

import json
import os
import resource
import socket
import subprocess
import threading
import time

import pytest

from conftest import commits, leftovers, read_jsonl, run, start, write_jsonl
from upstream import Upstream, chat_answer

KEY = "sk-never-to-be-seen-8431"
FAST = {"TIDEMILL_BACKOFF_MS": "20", "TIDEMILL_API_KEY": KEY}


def chat_lines(n, text="say {}", **more):
    return [{"custom_id": f"r{i}", "method": "POST", "url": "/v1/chat/completions",
             "body": {"model": "m", "temperature": 0,
                      "messages": [{"role": "user", "content": text.format(i)}], **more}}
            for i in range(n)]


def said(line):
    return line["response"]["choices"][0]["message"]["content"]


def ask(server, folder, *options, path="/v1/chat/completions", check=0, env=None, **more):
    return run("run", "-m", server.url + path, "-i", folder / "in.jsonl", "-o",
               folder / "out.jsonl", *options, check=check, env={**FAST, **(env or {})},
               cwd=folder, **more)


def test_batch_lines_are_answered_in_order(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", chat_lines(300))
    with Upstream() as server:
        ask(server, tmp_path, "--summary", "s.json", "--price-in", 2, "--price-out", 10)
    lines = read_jsonl(tmp_path / "out.jsonl")
    assert [line["id"] for line in lines] == [f"r{i}" for i in range(300)]
    assert [said(line) for line in lines] == [f"SAY {i}" for i in range(300)]
    assert len(server.requests) == 300
    request = server.requests[0]
    assert request.path == "/v1/chat/completions"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["Content-Type"] == "application/json"
    assert set(request.json) == {"model", "temperature", "messages"}
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["tokens_in"] == 2100 and summary["tokens_out"] == 900
    assert summary["tokens_cached"] == 600
    assert summary["cost_usd"] == pytest.approx(2100 * 2e-6 + 900 * 10e-6)
    assert leftovers(tmp_path) == []


def test_the_url_of_each_record_where_the_address_names_none(tmp_path):
    lines = chat_lines(2)
    lines[1]["url"] = "/v1/embeddings"
    lines.append({"custom_id": "x", "url": "http://elsewhere/v1/chat/completions",
                  "body": {"model": "m"}})
    lines.append({"custom_id": "y", "body": {"model": "m"}})
    write_jsonl(tmp_path / "in.jsonl", lines)
    with Upstream(lambda request: (200, {"path": request.path})) as server:
        ask(server, tmp_path, path="/v1", check=1)
    assert [line["response"]["path"] for line in read_jsonl(tmp_path / "out.jsonl")] == [
        "/v1/chat/completions", "/v1/embeddings"]
    errors = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert [error["id"] for error in errors] == ["x", "y"]
    assert "/v1/chat/completions" in errors[0]["message"] and errors[1]["code"] == "missing_field"


def test_rows_by_a_template(tmp_path):
    (tmp_path / "in.csv").write_text('id,text\n1,good "one"\n2,bad\n')
    (tmp_path / "t.json").write_text(json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": "Classify: {{text}}"}],
         "max_tokens": 5}))
    with Upstream() as server:
        run("run", "-m", server.url + "/v1/chat/completions", "-i", "in.csv", "--template",
            "t.json", "-o", "out.jsonl", check=0, cwd=tmp_path)
    assert [said(line) for line in read_jsonl(tmp_path / "out.jsonl")] == [
        'CLASSIFY: GOOD "ONE"', "CLASSIFY: BAD"]


def test_openai_batch_output(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", chat_lines(3))
    with Upstream() as server:
        ask(server, tmp_path, "--output-format", "openai-batch")
    for i, line in enumerate(read_jsonl(tmp_path / "out.jsonl")):
        assert line["custom_id"] == f"r{i}" and line["error"] is None
        assert line["response"]["status_code"] == 200
        assert line["response"]["body"]["choices"][0]["message"]["content"] == f"SAY {i}"


def test_several_rows_a_request(tmp_path):
    sizes = []

    def answer(request):
        rows = request.json["instances"]
        sizes.append(len(rows))
        return 200, {"predictions": [{"double": 2 * row["x"]} for row in rows]}

    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "body": {"x": i}} for i in range(1000)])
    with Upstream(answer) as server:
        ask(server, tmp_path, "--batch", 64, path="/v1/models/m:predict")
    assert [line["response"]["double"] for line in read_jsonl(tmp_path / "out.jsonl")] == [
        2 * i for i in range(1000)]
    assert max(sizes) == 64 and sum(sizes) == 1000 and len(sizes) <= 17


def test_as_many_as_pay_and_no_more_than_allowed(tmp_path):
    def answer(request):
        time.sleep(0.02)
        return chat_answer(request)

    write_jsonl(tmp_path / "in.jsonl", chat_lines(1500))
    with Upstream(answer) as server:
        ask(server, tmp_path, "--max-inflight", 40)
    assert 30 < server.most_under_way <= 40
    (tmp_path / "out.jsonl").unlink()
    (tmp_path / "out.jsonl.journal").unlink()
    write_jsonl(tmp_path / "in.jsonl", chat_lines(20))
    with Upstream(answer) as server:
        ask(server, tmp_path, "--max-inflight", 1)
    assert server.most_under_way == 1


@pytest.mark.parametrize("hard, is_told", [(4096, False), (100, True)])
def test_open_files_are_raised_or_limit_what_is_under_way(tmp_path, hard, is_told):
    """Without a socket a server seems to be down."""
    def answer(request):
        time.sleep(0.1)
        return chat_answer(request)

    write_jsonl(tmp_path / "in.jsonl", chat_lines(1500))
    with Upstream(answer) as server:
        result = ask(server, tmp_path, "--max-inflight", 128,
                     preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (90, hard)))
    assert ("--max-inflight is 50" in result.err) == is_told
    assert "waiting for it" not in result.err
    assert server.most_under_way <= 50 or not is_told


def test_what_may_pass_is_tried_again(tmp_path):
    seen = {}

    def answer(request):
        text = request.json["messages"][0]["content"]
        seen[text] = seen.get(text, 0) + 1
        number = int(text.split()[1])
        if seen[text] == 1 and number % 10 == 3:
            return 503, {"error": {"message": "warming up"}}
        if seen[text] == 1 and number % 10 == 6:
            return 429, {"error": {"message": "slow down"}}, {"Retry-After": "0"}
        return chat_answer(request)

    write_jsonl(tmp_path / "in.jsonl", chat_lines(200))
    with Upstream(answer) as server:
        ask(server, tmp_path)
    assert [said(line) for line in read_jsonl(tmp_path / "out.jsonl")] == [
        f"SAY {i}" for i in range(200)]
    assert len(server.requests) == 240


def test_a_server_that_starts_late_is_waited_for(tmp_path):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    write_jsonl(tmp_path / "in.jsonl", chat_lines(50))
    job = start("run", "-m", f"http://127.0.0.1:{port}/v1/chat/completions", "-i", "in.jsonl",
                "-o", "out.jsonl", cwd=tmp_path, env={**os.environ, **FAST})
    time.sleep(0.7)
    assert job.poll() is None
    with Upstream(port=port) as server:
        error = job.communicate(timeout=60)[1].decode()
    assert job.returncode == 0
    assert len(server.requests) == 50
    assert error.count("waiting for it") == 1 and error.count("answers again") == 1
    assert len(read_jsonl(tmp_path / "out.jsonl")) == 50


def test_patience_ends_at_a_checkpoint(tmp_path):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    write_jsonl(tmp_path / "in.jsonl", chat_lines(50))
    arguments = ["run", "-m", f"http://127.0.0.1:{port}/v1/chat/completions", "-i", "in.jsonl",
                 "-o", "out.jsonl", "--patience", "300ms"]
    result = run(*arguments, cwd=tmp_path, check=3, env=FAST)
    assert "could not be reached" in result.err
    with Upstream(port=port):
        run(*arguments, cwd=tmp_path, check=0, env=FAST)
    assert len(read_jsonl(tmp_path / "out.jsonl")) == 50


def test_another_server_takes_over(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", chat_lines(400))
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        dead = reserved.getsockname()[1]
    with Upstream() as a, Upstream() as b:
        models = ",".join(f"{url}/v1/chat/completions"
                          for url in (a.url, f"http://127.0.0.1:{dead}", b.url))
        result = run("run", "-m", models, "-i", "in.jsonl", "-o", "out.jsonl", cwd=tmp_path,
                     check=0, env=FAST)
    assert "waiting for it" in result.err
    assert len(a.requests) + len(b.requests) == 400
    assert min(len(a.requests), len(b.requests)) > 50
    assert [said(line) for line in read_jsonl(tmp_path / "out.jsonl")] == [
        f"SAY {i}" for i in range(400)]


def test_a_rate_is_kept(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", chat_lines(30))
    with Upstream() as server:
        ask(server, tmp_path, "--rpm", 600)
    times = [request.time for request in server.requests]
    assert times[-1] - times[0] > 1.5  # 30 at 10 a second, of which a second's worth may come at once
    for i in range(len(times) - 15):
        assert times[i + 15] - times[i] > 0.3


def test_the_key_is_nowhere(tmp_path):
    hold = threading.Event()

    def answer(request):
        hold.wait(20)
        return 500, {"error": {"message": "no " + request.headers["Authorization"]}}

    write_jsonl(tmp_path / "in.jsonl", chat_lines(2))
    with Upstream(answer) as server:
        job = subprocess.Popen(
            [os.environ.get("TIDEMILL", "build/tidemill"), "run", "-m",
             server.url + "/v1/chat/completions", "-i", "in.jsonl", "-o", "out.jsonl",
             "--retries", "1", "--summary", "s.json"], cwd=tmp_path, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={**os.environ, **FAST})
        while not server.requests:
            time.sleep(0.01)
        with open(f"/proc/{job.pid}/cmdline", "rb") as file:
            assert KEY.encode() not in file.read()
        hold.set()
        out = job.communicate(timeout=60)[0]
    assert job.returncode == 1
    assert KEY.encode() not in out
    for path in tmp_path.iterdir():
        if path.name != "out.jsonl.errors.jsonl":
            assert KEY.encode() not in path.read_bytes(), path
    # an answer that has the key in it is the server's doing; it is not passed on
    assert KEY not in (tmp_path / "out.jsonl.errors.jsonl").read_text()


def test_a_stream_is_read_to_its_end(tmp_path):
    def answer(request):
        words = ["Hel", "lo", " ", "you"]
        chunks = [{"object": "chat.completion.chunk", "id": "c",
                   "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
                  for word in words]
        chunks.append({"object": "chat.completion.chunk", "id": "c",
                       "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
                       "usage": {"prompt_tokens": 4, "completion_tokens": 4}})
        text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        return 200, text.encode(), {"Content-Type": "text/event-stream"}

    write_jsonl(tmp_path / "in.jsonl", chat_lines(5, stream=True))
    with Upstream(answer) as server:
        ask(server, tmp_path, "--summary", "s.json")
    assert all(said(line) == "Hello you" for line in read_jsonl(tmp_path / "out.jsonl"))
    assert json.loads((tmp_path / "s.json").read_text())["tokens_out"] == 20


def test_equal_bodies_are_asked_once(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", chat_lines(40, text="same"))
    with Upstream() as server:
        ask(server, tmp_path, "--dedup", "on")
    assert len(server.requests) == 1
    lines = read_jsonl(tmp_path / "out.jsonl")
    assert len(lines) == 40 and {said(line) for line in lines} == {"SAME"}


@pytest.mark.parametrize("signal", ["KILL", "TERM"])
def test_stopped_and_resumed(tmp_path, signal):
    def answer(request):
        time.sleep(0.01)
        return chat_answer(request)

    write_jsonl(tmp_path / "in.jsonl", chat_lines(2000))
    arguments = lambda server: ["run", "-m", server.url + "/v1/chat/completions", "-i", "in.jsonl",
                                "-o", "out.jsonl", "--max-inflight", "8",
                                "--checkpoint-every", "100ms"]
    with Upstream(answer) as server:
        job = start(*arguments(server), cwd=tmp_path, env={**os.environ, **FAST})
        while not any(frame["tokens"][0] > 700 for frame in commits(tmp_path / "out.jsonl.journal")):
            time.sleep(0.01) # the first record of the input may be asked last
            assert job.poll() is None
        subprocess.run(["kill", f"-{signal}", str(job.pid)], check=True)
        job.wait(timeout=30)
        assert job.returncode == (75 if signal == "TERM" else -9)
        run(*arguments(server), cwd=tmp_path, check=0, env=FAST)
    lines = read_jsonl(tmp_path / "out.jsonl")
    assert [line["id"] for line in lines] == [f"r{i}" for i in range(2000)]
    assert [said(line) for line in lines] == [f"SAY {i}" for i in range(2000)]
    assert len(server.requests) < 2000 + 700


def test_wrong_addresses_are_told(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", chat_lines(1))
    for model, words in (("http://", "address"), ("http://u:p@host/v1", "password"),
                         ("http://host/what", "--protocol")):
        result = run("run", "-m", model, "-i", "in.jsonl", "-o", "out.jsonl", cwd=tmp_path,
                     check=2)
        assert words in result.err, result.err


def test_a_signal_while_the_server_is_away_is_heeded_at_once(tmp_path):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    write_jsonl(tmp_path / "in.jsonl", chat_lines(50))
    job = start("run", "-m", f"http://127.0.0.1:{port}/v1/chat/completions", "-i", "in.jsonl",
                "-o", "out.jsonl", cwd=tmp_path, env={**os.environ, **FAST})
    while "waiting for it" not in job.stderr.readline().decode():
        assert job.poll() is None
    job.terminate()
    job.communicate(timeout=5)  # what is under way would be waited for eight seconds
    assert job.returncode == 75


def test_a_gateway_that_is_well_hides_no_server_that_is_not(tmp_path):
    """It answers for itself; what counts is what a request gets."""
    write_jsonl(tmp_path / "in.jsonl", chat_lines(60))
    with Upstream(lambda request: (503, {"error": {"message": "no backend"}})) as server:
        result = ask(server, tmp_path, "--patience", "700ms", check=3)
    assert "could not be reached" in result.err
    assert result.err.count("waiting for it") == 1
    assert not (tmp_path / "out.jsonl").exists()
    assert server.checks >= 1 and len(server.requests) < 60  # some tries, and one now and then


def test_a_server_that_was_down_is_asked_without_a_record(tmp_path):
    """It fails for a while, says so to who asks whether it is up, and no record pays for finding out."""
    began = []

    def answer(request):
        if not began:
            began.append(time.monotonic())
            server.health = 503
            threading.Timer(3, lambda: setattr(server, "health", 200)).start()
        if time.monotonic() - began[0] < 2:
            return 502, {"error": {"message": "away"}}
        return chat_answer(request)

    write_jsonl(tmp_path / "in.jsonl", chat_lines(100))
    with Upstream(answer) as server:
        result = ask(server, tmp_path)
    assert "waiting for it" in result.err and "answers again" in result.err
    assert server.checks >= 2
    # those under way when it failed end at once; then nobody asks until it says that it is well
    assert not [r for r in server.requests if 1 < r.time - began[0] < 2.9]
    assert len(read_jsonl(tmp_path / "out.jsonl")) == 100
