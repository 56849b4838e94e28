# SPDX-License-Identifier: Apache-2.0
"""A server with the batch APIs of OpenAI and Anthropic that misbehaves on order, on loopback.

    with BatchServer() as server:
        server.faults["expire_after"] = 10
        ... server.url, server.anthropic_url ...
        assert server.processed == Counter({0: 1, 1: 1, ...})

What a record is answered is a function of its body alone. `processed` counts how often each body was
computed, in batches and live: what a bill would say.

Faults, each a value in `faults`; those that happen a number of times count down:
    slow_polls=N          a batch is under way for N polls
    shuffle=1             results in another order
    twice=[bodies]        these are answered twice, the second time with something else
    unknown=N             N lines with ids that nobody gave
    missing={n: k}        the bodies n are left out of the results of the first k batches
    statuses={n: (s, k)}  the request n ends with status s in its first k batches
    expire_after=N        the first batch expires after N requests
    fail_validation=N     the first N batches fail, without a line
    bad_lines=[bodies]    these fail the validation of what they are in, with their line
    results_elsewhere=URL Anthropic's results_url
    poll_500=N            N polls are answered 500
    upload_reset=N        N uploads are cut half-way
    create_lost=N         N batches are created, and the answer is lost
    hide_lost_s=S         ... and stand in no list for S seconds
    hide_lost=1           ... and stand in no list before results were fetched
    create_500=N          N creations are answered 500 and do nothing
    truncate=N            N downloads end too early, and say that they are whole
    download_slow=S       seconds before each download's second half
    nonsense=N            N polls are answered with something else
    hold=1                no batch ends
    hold_after=N          none but the first N ends
    unauthorized=1        401 to everything
    pad=N                 answers have N bytes more
    too_large=N           batches of more than N requests are refused with 400
"""

import json
import random
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def answer_of(body):
    """What the model says: a function of the request."""
    text = body["messages"][-1]["content"]
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": text[::-1]},
                         "finish_reason": "stop"}],
            "usage": {"prompt_tokens": len(text), "completion_tokens": 3, "total_tokens": len(text) + 3}}


def message_of(body):
    text = body["messages"][-1]["content"]
    return {"type": "message", "role": "assistant", "content": [{"type": "text", "text": text[::-1]}],
            "usage": {"input_tokens": len(text), "output_tokens": 3}}


def number_of(body):
    return int(body["messages"][-1]["content"].split()[1])


class BatchServer:
    def __init__(self):
        self.lock = threading.RLock()
        self.faults = {}
        self.files, self.batches = {}, {}
        self.processed, self.live = Counter(), 0
        self.deleted, self.log, self.keys = [], [], set()
        self.tries = Counter()
        self.next_id = 0
        self.has_downloaded = False
        handler = type("Handler", (Handler,), {"world": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self.http.server_port}"
        self.url = self.origin + "/v1/chat/completions"
        self.anthropic_url = self.origin + "/v1/messages"

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    def take(self, fault):
        """Whether a fault that happens a number of times happens now."""
        with self.lock:
            left = self.faults.get(fault, 0)
            self.faults[fault] = max(left - 1, 0)
            return left > 0

    def new_id(self, prefix):
        self.next_id += 1
        return f"{prefix}{self.next_id:06d}"

    def seen(self, method, path):
        """How many requests there were."""
        with self.lock:
            return sum(m == method and p.startswith(path) for m, p in self.log)

    # -- batches

    def create(self, dialect, requests, metadata, file):
        with self.lock:
            name = self.new_id("batch_" if dialect == "openai" else "msgbatch_")
            self.batches[name] = {"dialect": dialect, "requests": requests, "metadata": metadata,
                                  "file": file, "status": "in_progress", "polls": 0, "out": None,
                                  "err": None, "errors": None, "done": 0, "is_hidden": None}
            return name

    def hide(self, name):
        """Creates as some do: it is made, and for a while no list has it."""
        end = time.monotonic() + self.faults.get("hide_lost_s", 0)
        is_late = self.faults.get("hide_lost", 0)
        self.batches[name]["is_hidden"] = lambda: (
            time.monotonic() < end or (is_late and not self.has_downloaded))

    def listed(self, dialect):
        """Newest first."""
        return [n for n, b in reversed(self.batches.items())
                if b["dialect"] == dialect and not (b["is_hidden"] and b["is_hidden"]())]

    def advance(self, name):
        """One poll further."""
        with self.lock:
            batch = self.batches[name]
            batch["polls"] += 1
            if batch["status"] not in ("in_progress", "cancelling"):
                return
            if batch["status"] == "in_progress":
                place = list(self.batches).index(name)
                if self.faults.get("hold") or place >= self.faults.get("hold_after", 1 << 30):
                    return
                if batch["polls"] <= self.faults.get("slow_polls", 0):
                    return
                bad = [(i, r) for i, r in enumerate(batch["requests"])
                       if number_of(self.body_of(r)) in self.faults.get("bad_lines", [])]
                if bad or self.take("fail_validation"):
                    batch["status"] = "failed"
                    batch["errors"] = [{"code": "bad", "message": "line is bad", "line": i + 1}
                                       for i, _ in bad] or [{"code": "no", "message": "token limit",
                                                             "line": None}]
                    return
            self.run(batch)

    def run_what_is_left(self):
        """Batches that nobody asks for any more are computed and paid for all the same."""
        for batch in self.batches.values():
            if batch["status"] == "in_progress":
                self.run(batch)

    @staticmethod
    def body_of(request):
        return request.get("body") or request.get("params")

    def run(self, batch):
        limit = len(batch["requests"])
        if batch["status"] == "cancelling":
            limit = self.faults.get("cancel_done", 0)
        elif "expire_after" in self.faults:
            limit = self.faults.pop("expire_after")
        out, err = [], []
        for k, request in enumerate(batch["requests"]):
            self.run_one(batch, request, k < limit, out, err)
        for k in range(self.faults.get("unknown", 0)):
            line = dict(out[0], custom_id=f"tidemill-{900000000 + k}")
            out.append(line)
        if self.faults.get("shuffle"):
            random.Random(7).shuffle(out)
        text = "".join(json.dumps(line) + "\n" for line in out)
        batch["done"] = len(out) + len(err)
        if batch["dialect"] == "anthropic":
            batch["out"] = "".join(json.dumps(line) + "\n" for line in out + err).encode()
            batch["status"] = "ended"
            return
        batch["out"] = self.put_file(text.rstrip("\n").encode()) if text else None
        text = "".join(json.dumps(line) + "\n" for line in err)
        batch["err"] = self.put_file(text.rstrip("\n").encode()) if text else None
        batch["status"] = ("cancelled" if batch["status"] == "cancelling" else
                           "completed" if limit >= len(batch["requests"]) else "expired")

    def run_one(self, batch, request, is_run, out, err):
        body, name = self.body_of(request), request["custom_id"]
        number = number_of(body)
        is_openai = batch["dialect"] == "openai"
        if not is_run:
            err.append({"custom_id": name, "response": None,
                        "error": {"code": "batch_expired", "message": "too late"}} if is_openai else
                       {"custom_id": name, "result": {"type": "expired"}})
            return
        status, times = self.faults.get("statuses", {}).get(number, (0, 0))
        self.tries[number] += 1
        if status and self.tries[number] <= times:
            kind = {429: "rate_limit_error", 400: "invalid_request_error"}.get(status, "api_error")
            err.append({"custom_id": name, "error": None,
                        "response": {"status_code": status,
                                     "body": {"error": {"message": f"status {status}"}}}}
                       if is_openai else
                       {"custom_id": name, "result": {"type": "errored", "error": {
                           "type": "error", "error": {"type": kind, "message": f"status {status}"}}}})
            return
        self.processed[number] += 1
        if self.tries[number] <= self.faults.get("missing", {}).get(number, 0):
            return
        answer = answer_of(body) if is_openai else message_of(body)
        if "pad" in self.faults:
            answer["pad"] = "y" * self.faults["pad"]
        line = ({"id": "x", "custom_id": name, "error": None,
                 "response": {"status_code": 200, "request_id": "r", "body": answer}} if is_openai else
                {"custom_id": name, "result": {"type": "succeeded", "message": answer}})
        out.append(line)
        if number in self.faults.get("twice", []):
            out.append(line)

    def put_file(self, data):
        name = self.new_id("file-")
        self.files[name] = data
        return name

    def object(self, name):
        with self.lock:
            batch = self.batches[name]
            total = len(batch["requests"])
            if batch["dialect"] == "openai":
                return {"id": name, "object": "batch", "status": batch["status"],
                        "input_file_id": batch["file"], "output_file_id": batch["out"],
                        "error_file_id": batch["err"] or "", "metadata": batch["metadata"],
                        "request_counts": {"total": total, "completed": batch["done"], "failed": 0},
                        "errors": {"data": batch["errors"]} if batch["errors"] else None}
            is_ended = batch["status"] == "ended"
            elsewhere = self.faults.get("results_elsewhere", self.origin)
            return {"id": name, "type": "message_batch",
                    "processing_status": "ended" if is_ended else "in_progress",
                    "request_counts": {"processing": 0 if is_ended else total,
                                       "succeeded": total if is_ended else 0, "errored": 0,
                                       "canceled": 0, "expired": 0},
                    "results_url": f"{elsewhere}/v1/messages/batches/{name}/results"
                                   if is_ended else None}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    world = None

    def log_message(self, *_):
        pass

    def reply(self, status, value, raw=None):
        data = raw if raw is not None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if self.command == "GET" or status >= 500:
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(data)

    def drop(self):
        """Ends the connection without a word."""
        self.close_connection = True
        self.connection.shutdown(2)

    def error(self, status, text):
        self.reply(status, {"error": {"message": text, "type": "x", "param": None, "code": None}})

    def begin(self):
        world = self.world
        with world.lock:
            world.log.append((self.command, self.path))
            world.keys.add((self.headers.get("Authorization"), self.headers.get("x-api-key")))
        return bool(world.faults.get("unauthorized"))

    def read_body(self):
        if self.headers.get("Content-Length"):
            return self.rfile.read(int(self.headers["Content-Length"]))
        return b""

    def do_POST(self):
        world, path = self.world, self.path
        is_refused = self.begin()
        if path == "/v1/files" and world.take("upload_reset"):
            self.rfile.read(1000)
            return self.drop()
        body = self.read_body()
        if is_refused:
            return self.error(401, "who are you?")
        if path == "/v1/files":
            boundary = self.headers["Content-Type"].split("boundary=")[1].encode()
            parts = body.split(b"--" + boundary)
            assert any(b'name="purpose"' in part and b"\r\n\r\nbatch\r\n" in part for part in parts)
            data = next(p for p in parts if b'name="file"' in p).split(b"\r\n\r\n", 1)[1][:-2]
            with world.lock:
                return self.reply(200, {"id": world.put_file(data), "object": "file",
                                        "status": "processed"})
        if path in ("/v1/batches", "/v1/messages/batches"):
            return self.create(json.loads(body))
        if path.endswith("/cancel"):
            name = path.split("/")[-2]
            with world.lock:
                status = world.batches[name]["status"]
                if status not in ("in_progress", "cancelling"):
                    return self.error(400, f"it is {status}")
                world.batches[name]["status"] = "cancelling"
            return self.reply(200, world.object(name))
        if path in ("/v1/chat/completions", "/v1/messages"):
            request = json.loads(body)
            with world.lock:
                world.processed[number_of(request)] += 1
                world.live += 1
            return self.reply(200, answer_of(request) if "chat" in path else message_of(request))
        return self.error(404, "no such path")

    def create(self, order):
        world = self.world
        if world.take("create_500"):
            return self.error(500, "not now")
        if "requests" in order:
            requests, metadata, file, dialect = order["requests"], None, None, "anthropic"
        else:
            file, metadata, dialect = order["input_file_id"], order["metadata"], "openai"
            assert order["completion_window"] == "24h"
            requests = [json.loads(line) for line in world.files[file].decode().splitlines()]
            assert all(r["url"] == order["endpoint"] and r["method"] == "POST" for r in requests)
        names = [r["custom_id"] for r in requests]
        assert len(set(names)) == len(names) and all(len(name) <= 64 for name in names)
        if len(requests) > world.faults.get("too_large", 1 << 30):
            return self.error(400, "too many requests in a batch")
        name = world.create(dialect, requests, metadata, file)
        if world.take("create_lost"):
            world.hide(name)
            return self.drop()
        return self.reply(200, world.object(name))

    def do_GET(self):
        world, path = self.world, self.path.split("?")[0]
        if self.begin():
            return self.error(401, "who are you?")
        if path in ("/v1/batches", "/v1/messages/batches"):
            dialect = "openai" if path == "/v1/batches" else "anthropic"
            with world.lock:
                return self.reply(200, {"object": "list", "has_more": False,
                                        "data": [world.object(n) for n in world.listed(dialect)]})
        if path.endswith("/results"):
            return self.download(world.batches[path.split("/")[-2]]["out"])
        if path.endswith("/content"):
            name = path.split("/")[-2]
            if name not in world.files:
                return self.error(404, "no such file")
            return self.download(world.files[name])
        name = path.split("/")[-1]
        if name not in world.batches:
            return self.error(404, "no such batch")
        if world.take("poll_500"):
            return self.error(500, "not now")
        if world.take("nonsense"):
            return self.reply(200, ["what"])
        world.advance(name)
        return self.reply(200, world.object(name))

    def download(self, data):
        world = self.world
        if world.take("truncate"):
            data = data[: len(data) // 2]
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        half = len(data) // 2
        world.has_downloaded = True
        self.wfile.write(data[:half])
        if "download_slow" in world.faults:
            self.wfile.flush()
            time.sleep(world.faults["download_slow"])
        self.wfile.write(data[half:])

    def do_DELETE(self):
        self.begin()
        with self.world.lock:
            self.world.deleted.append(self.path.split("/")[-1])
            self.world.files.pop(self.path.split("/")[-1], None)
        self.reply(200, {"deleted": True})
