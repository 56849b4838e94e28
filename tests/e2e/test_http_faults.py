# SPDX-License-Identifier: Apache-2.0
"""Servers that misbehave. Whatever they do: nothing is lost, nothing goes to another record, the right
record is blamed, and the job completes or stops where it can be gone on with."""

import email.utils
import json
import os
import shutil
import signal
import subprocess
import threading
import time

import pytest

from conftest import leftovers, read_jsonl, run, start, write_jsonl
from misbehaving import Misbehaving, free_port

N = 12
FAST = {"TIDEMILL_BACKOFF_MS": "2"}


def echo(wire):
    wire.answer({"n": wire.json["n"]})


class Job:
    """Records {"id","n"} asked one by one, or as `protocol` has it."""

    def __init__(self, folder, n=N):
        self.folder, self.n = folder, n
        write_jsonl(folder / "in.jsonl", [{"id": f"r{i}", "n": i} for i in range(n)])

    def arguments(self, address, *options, protocol="json", path="/score"):
        addresses = [address] if isinstance(address, str) else address
        return ["run", "-m", ",".join(a + path for a in addresses), "--protocol", protocol,
                "-i", "in.jsonl", "-o", "out.jsonl", "--summary", "summary.json", *options]

    def run(self, server, *options, check=0, env=None, **more):
        address = server.url if isinstance(server, Misbehaving) else server
        return run(*self.arguments(address, *options, **more), cwd=self.folder, check=check,
                   env={**FAST, **(env or {})})

    def expect(self, failed=None, code="upstream"):
        """All answered but `failed`, each with its own answer; `failed` told of by name."""
        failed = failed or []
        wanted = {f"r{i}": i for i in range(self.n) if i not in failed}
        answers = read_jsonl(self.folder / "out.jsonl")
        assert [(a["id"], a["response"]["n"]) for a in answers] == list(wanted.items())
        errors = self.folder / "out.jsonl.errors.jsonl"
        found = read_jsonl(errors) if errors.exists() else []
        assert [(e["id"], e["code"]) for e in found] == [(f"r{i}", code) for i in failed]
        assert leftovers(self.folder) == []
        return found[0]["message"] if found else None

    @property
    def summary(self):
        return json.loads((self.folder / "summary.json").read_text())


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path)


def only(n, fault):
    """`fault` each time that record n is asked for; else a proper answer."""
    return lambda wire: fault(wire) if wire.json["n"] == n else echo(wire)


def once(n, fault):
    """`fault` the first time that record n is asked for."""
    return lambda wire: fault(wire) if (
        wire.json["n"] == n and wire.server.seen_record(n) == 1) else echo(wire)


# --- not there ----------------------------------------------------------------------------------


def test_a_server_that_comes_up_later(job):
    port = free_port()
    process = start(*job.arguments(f"http://127.0.0.1:{port}"), cwd=job.folder,
                    env={**os.environ, **FAST})
    time.sleep(0.3)
    assert process.poll() is None
    with Misbehaving(echo, port):
        assert process.wait(60) == 0
    job.expect()


def test_a_server_that_never_comes(job):
    address = f"http://127.0.0.1:{free_port()}"
    result = job.run(address, "--patience", "300ms", check=3)
    assert address in result.err
    with Misbehaving(echo, int(address.rsplit(":", 1)[1])) as server:
        job.run(server)
    job.expect()


def test_one_of_two_servers_is_dead(job):
    with Misbehaving(echo) as server:
        job.run([server.url, f"http://127.0.0.1:{free_port()}"])
    job.expect()


# --- slow ---------------------------------------------------------------------------------------


def test_one_record_hangs(job):
    with Misbehaving(only(3, lambda wire: wire.hang())) as server:
        job.run(server, "--timeout", "300ms", "--retries", "1", check=1)
        assert server.seen_record(3) == 2
    job.expect([3], "host_timeout")


def test_a_hang_that_passes(job):
    with Misbehaving(once(3, lambda wire: wire.hang())) as server:
        job.run(server, "--timeout", "300ms")
    job.expect()


def test_an_answer_after_its_time_is_not_taken(job):
    """The retry is answered while the first answer is still on its way."""
    def late(wire):
        wire.sleep(0.6)
        wire.answer({"n": -1})
    with Misbehaving(once(3, late)) as server:
        job.run(server, "--timeout", "300ms")
        assert server.seen_record(3) == 2
    job.expect()


def test_a_byte_a_second(job):
    def drip(wire):
        wire.send(wire.head(length=1000))
        while True:
            wire.send(b" ")
            wire.sleep(1)
    with Misbehaving(only(3, drip)) as server:
        job.run(server, "--timeout", "400ms", "--retries", "0", check=1)
    job.expect([3], "host_timeout")


# --- broken transfers ---------------------------------------------------------------------------


def half(wire):
    wire.send(wire.head(length=100) + b'{"n":')
    wire.close()


def reset_after_head(wire):
    wire.send(wire.head(length=100))
    wire.reset()


def reset_at_once(wire):
    wire.reset()


def no_http(wire):
    wire.send(b"SSH-2.0-OpenSSH_9.2\r\n")
    wire.close()


def broken_chunk(wire):
    wire.send(wire.head(Transfer_Encoding="chunked") + b"zz\r\n{}\r\n")
    wire.close()


def chunks_without_end(wire):
    wire.send(wire.head(Transfer_Encoding="chunked") + b'7\r\n{"n":3}\r\n')
    wire.close()


def header_of_a_megabyte(wire):
    wire.send(b"HTTP/1.1 200 OK\r\nX: " + b"y" * (1 << 20) + b"\r\nContent-Length: 2\r\n\r\n{}")


def length_too_large(wire):
    wire.send(wire.head(length=50) + b'{"n":3}')
    wire.close()


def length_too_small(wire):
    wire.send(wire.head(length=3) + b'{"n":3}')


def two_lengths(wire):
    wire.send(wire.head(length=7, Content_length="9") + b'{"n":3}')
    wire.close()


TRANSFERS = [half, reset_after_head, reset_at_once, no_http, broken_chunk, chunks_without_end,
             header_of_a_megabyte, length_too_large, length_too_small, two_lengths]


@pytest.mark.parametrize("fault", TRANSFERS, ids=lambda fault: fault.__name__)
def test_a_broken_transfer(job, fault):
    with Misbehaving(only(3, fault)) as server:
        job.run(server, "--retries", "2", check=1)
        assert server.seen_record(3) >= 3
    job.expect([3])


@pytest.mark.parametrize("fault", TRANSFERS, ids=lambda fault: fault.__name__)
def test_a_broken_transfer_that_passes(job, fault):
    with Misbehaving(once(3, fault)) as server:
        job.run(server)
    job.expect()


def test_two_answers_to_one_request(job):
    """The second must not become the next record's."""
    def twice(wire):
        proper = b'{"n":%d}' % wire.json["n"]
        wrong = b'{"n":99999}'
        wire.send(wire.head(length=len(proper)) + proper + wire.head(length=len(wrong)) + wrong)
    with Misbehaving(twice) as server:
        job.run(server, "--max-inflight", "1")
    job.expect()


def test_connections_that_close_between_requests(job):
    """No try is spent on a connection that was kept and is gone."""
    def second_closes(wire):
        if wire.nth > 0:
            wire.close()
        echo(wire)
    with Misbehaving(second_closes) as server:
        job.run(server, "--max-inflight", "1", "--retries", "0")
    job.expect()


# --- wrong answers ------------------------------------------------------------------------------

BODIES = {
    "cut short": b'{"n":3',
    "two values": b'{"n":3}{"n":3}',
    "not UTF-8": b'{"n":3,"s":"\xff\xfe"}',
    "a lone surrogate": b'{"n":3,"s":"\\ud800"}',
    "NaN": b'{"n":3,"s":NaN}',
    "a page": b"<html>busy</html>",
    "nothing": b"",
    "very deep": b"[" * 100000 + b"]" * 100000,
    "NUL": b'{"n":3}\0',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_an_answer_that_is_no_json(job, body):
    with Misbehaving(only(3, lambda wire: wire.answer(body))) as server:
        job.run(server, "--retries", "1", check=1)
        assert server.seen_record(3) == 2
    assert "the answer is " in job.expect([3])


@pytest.mark.parametrize("is_declared", [True, False], ids=["declared", "undeclared"])
def test_an_answer_of_ten_gigabytes(job, is_declared):
    def flood(wire):
        wire.send(wire.head(length=10 << 30 if is_declared else None))
        block = b"[" + b"1," * (1 << 19)
        for _ in range(10 << 10):
            wire.send(block)
    with Misbehaving(only(3, flood)) as server:
        job.run(server, check=1)
        assert server.seen_record(3) == 1
    job.expect([3], "output_too_large")
    assert job.summary["peak_memory_bytes"] < 400 << 20


def predict(wire):
    """TF Serving's; one prediction too few where record 5 is among them."""
    rows = [row["n"] for row in wire.json["instances"]]
    wire.answer({"predictions": [{"n": n} for n in rows][5 in rows:]})


def test_a_prediction_too_few(job):
    with Misbehaving(predict) as server:
        job.run(server, "--batch", "8", check=1, protocol="tfserving", path="/v1/models/m:predict")
        assert max(len(wire.json["instances"]) for wire in server.requests) == 8
    assert "expected 1 prediction, found 0" in job.expect([5])


def test_a_prediction_that_is_no_number(job):
    """TF Serving writes NaN as it is."""
    def predict_nan(wire):
        rows = [row["n"] for row in wire.json["instances"]]
        wire.answer({"predictions": [{"n": float("nan") if n == 5 else n} for n in rows]})
    with Misbehaving(predict_nan) as server:
        job.run(server, "--batch", "8", check=1, protocol="tfserving", path="/v1/models/m:predict")
    assert "not JSON" in job.expect([5])


def test_a_stream_without_its_end(tmp_path):
    def stream(wire):
        text = json.dumps({"choices": [{"index": 0, "delta": {"content": wire.json["user"]}}]})
        wire.send(wire.head(Content_Type="text/event-stream", Connection="close"))
        wire.send(f"data: {text}\n\n")
        if wire.server.seen(wire.json["user"]) > 1:
            wire.send("data: [DONE]\n\n")
        wire.close()
    write_jsonl(tmp_path / "a.jsonl", [{"id": i, "user": f"u{i}!"} for i in range(4)])
    with Misbehaving(stream) as server:
        run("run", "-m", server.url + "/v1/chat/completions", "-i", "a.jsonl", "-o", "b.jsonl",
            cwd=tmp_path, check=0, env=FAST)
        assert len(server.requests) == 8
    assert [a["response"]["choices"][0]["message"]["content"]
            for a in read_jsonl(tmp_path / "b.jsonl")] == ["u0!", "u1!", "u2!", "u3!"]


# --- refusals -----------------------------------------------------------------------------------


def test_a_record_that_makes_the_server_fail(job):
    with Misbehaving(only(3, lambda wire: wire.answer({"error": "boom"}, 500))) as server:
        job.run(server, "--retries", "2", check=1)
        assert server.seen_record(3) == 3
        assert len(server.requests) == N + 2
    assert "500 (internal error): boom" in job.expect([3])


def test_many_records_that_make_the_server_fail(tmp_path):
    """Neither among the others nor at the end does one that fails again make the server look as if it
    were away: the pauses for that would take hours."""
    job, failing = Job(tmp_path, 100), [*range(2, 80, 6), *range(88, 100)]

    def some_fail(wire):
        wire.answer(b"boom", 500) if wire.json["n"] in failing else echo(wire)
    with Misbehaving(some_fail) as server:
        job.run(server, "--retries", "4", check=1)
        assert all(server.seen_record(n) == 5 for n in failing)
        assert len(server.requests) == 100 + 4 * len(failing)
    job.expect(failing)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_burst_of_failures(job, status):
    def burst(wire):
        echo(wire) if len(wire.server.requests) > 15 else wire.answer(b"no", status)
    with Misbehaving(burst) as server:
        job.run(server, "--retries", "20")
    job.expect()


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_record_that_is_refused(job, status):
    with Misbehaving(only(3, lambda wire: wire.answer({"detail": "bad"}, status))) as server:
        job.run(server, check=1)
        assert len(server.requests) == N  # once is enough
    assert f"{status}" in job.expect([3])


def in_a_second(_):
    return email.utils.formatdate(time.time() + 1, usegmt=True)


RETRY_AFTER = {"seconds": "1", "date": in_a_second, "past": "Mon, 01 Jan 2001 00:00:00 GMT",
               "absent": None, "words": "soon", "negative": "-5", "not a number": "nan"}


@pytest.mark.parametrize("value", RETRY_AFTER.values(), ids=RETRY_AFTER)
def test_later(job, value):
    text = value(None) if callable(value) else value
    more = {} if text is None else {"Retry_After": text}
    with Misbehaving(once(3, lambda wire: wire.answer(b"", 429, **more))) as server:
        job.run(server, "--retries", "0")  # being put off is no failure
        times = [wire for wire in server.requests if wire.json["n"] == 3]
        assert len(times) == 2
    job.expect()


def test_much_later(job):
    """A server that wants years is waited for, and the wait can be stopped."""
    is_busy = threading.Event()

    def busy(wire):
        if is_busy.is_set():
            return echo(wire)
        wire.answer(b"", 429, Retry_After="999999999")
    with Misbehaving(busy) as server:
        process = start(*job.arguments(server.url), cwd=job.folder)
        while not server.requests:
            time.sleep(0.02)
        time.sleep(0.3)
        n = len(server.requests)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 75
        assert n <= N
        is_busy.set()
        job.run(server)
    job.expect()


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key(job, status):
    def guarded(wire):
        if wire.headers.get("authorization") != "Bearer right":
            wire.answer({"error": {"message": "no"}}, status)
        else:
            echo(wire)
    with Misbehaving(guarded) as server:
        result = job.run(server, check=3, env={"TIDEMILL_API_KEY": "hunter2"})
        assert "--api-key-env" in result.err and "hunter2" not in result.err + result.out
        assert len(server.requests) <= N
        assert not (job.folder / "out.jsonl").exists()
        job.run(server, "--api-key-env", "OTHER", env={"OTHER": "right"})
    job.expect()


def test_a_key_that_expires(job):
    """What was answered is kept and not asked for again."""
    is_valid = threading.Event()

    def guarded(wire):
        if wire.json["n"] >= 6 and not is_valid.is_set():
            wire.sleep(0.2)
            wire.answer({"error": {"message": "expired"}}, 401)
        else:
            echo(wire)
    with Misbehaving(guarded) as server:
        job.run(server, "--max-inflight", "2", check=3)
        is_valid.set()
        job.run(server)
    job.expect()


def test_a_redirect_elsewhere(job):
    with Misbehaving(echo) as other, Misbehaving(
            lambda wire: wire.answer(b"", 301, Location=other.url + "/score")) as server:
        result = job.run(server, check=3, env={"TIDEMILL_API_KEY": "hunter2"})
        assert other.url in result.err and other.n_connections == 0
    with Misbehaving(echo, server.port) as server:
        job.run(server)
    job.expect()


# --- certificates -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """(of 127.0.0.1, of another host), each with its key in one PEM file, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl tool")
    folder, paths = tmp_path_factory.mktemp("certificates"), []
    for name in ["IP:127.0.0.1", "DNS:elsewhere.example"]:
        path = folder / f"{len(paths)}.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-subj", "/CN=test", "-addext", f"subjectAltName={name}",
             "-keyout", path, "-out", folder / "c.pem"], check=True, capture_output=True)
        path.write_text(path.read_text() + (folder / "c.pem").read_text())
        paths.append(path)
    return paths


def test_a_certificate_that_nobody_signed(job, certificates):
    with Misbehaving(echo, certificate=certificates[0]) as server:
        result = job.run(server, check=3, env={"TIDEMILL_API_KEY": "hunter2"})
        assert "--ca-file" in result.err and server.requests == []
        job.run(server, "--ca-file", certificates[0])
    job.expect()


def test_a_certificate_that_is_not_looked_at(job, certificates):
    with Misbehaving(echo, certificate=certificates[1]) as server:
        job.run(server, "--insecure")
    job.expect()


def test_the_certificate_of_another_host(job, certificates):
    with Misbehaving(echo, certificate=certificates[1]) as server:
        job.run(server, "--ca-file", certificates[1], check=3)
        assert server.requests == []
