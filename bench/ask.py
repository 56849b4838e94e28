#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What asking a server costs on this side of it.

A server in a process of its own answers chat requests after a set time; it has no other limit than its
one core. The same records go to it from tidemill and from what one writes first, a pool of threads over
http.client with connections that stay open, at the same number of requests under way. Told are requests
a second, and the processor time of the client for a thousand of them; and tidemill's share of the machine
at 200 requests a second, which is more than most servers of language models answer.

    bench/ask.py [--requests N] [--inflight N] [--latency-ms N] [--rounds N]
"""
import argparse
import asyncio
import http.client
import json
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIDEMILL = os.environ.get("TIDEMILL") or str(ROOT / "build/tidemill")
PATH = "/v1/chat/completions"
PACE_RPM = 12_000
ANSWER = json.dumps({
    "id": "chatcmpl-1", "object": "chat.completion", "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop",
                 "message": {"role": "assistant", "content": "an answer of some words " * 20}}],
    "usage": {"prompt_tokens": 50, "completion_tokens": 100, "total_tokens": 150}}).encode()
REPLY = (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
         % len(ANSWER)) + ANSWER


class Server(asyncio.Protocol):
    """One request after the other on a connection, as clients without pipelining send them."""

    latency_s = 0.0

    def connection_made(self, transport):
        self.transport, self.received = transport, b""

    def data_received(self, data):
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end:
            return
        size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if len(body) < size:
            return
        self.received = body[size:]
        loop = asyncio.get_running_loop()
        loop.call_later(self.latency_s, self.transport.write, REPLY)


async def serve(latency_s):
    Server.latency_s = latency_s
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def ask_with_threads(port, source, target, n_threads):
    """The contender: reads, asks with a pool of threads, writes in order."""
    with open(source, encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    answers, work = [None] * len(records), queue.SimpleQueue()
    for i in range(len(records)):
        work.put(i)

    def ask():
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while True:
            try:
                i = work.get_nowait()
            except queue.Empty:
                return
            connection.request("POST", PATH, json.dumps(records[i]["body"]),
                               {"Content-Type": "application/json"})
            answers[i] = json.loads(connection.getresponse().read())

    threads = [threading.Thread(target=ask) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open(target, "w", encoding="utf-8") as out:
        for record, answer in zip(records, answers):
            out.write(json.dumps({"id": record["custom_id"], "response": answer}) + "\n")


def write_records(path, n):
    with open(path, "w", encoding="utf-8") as out:
        for i in range(n):
            body = {"model": "m", "temperature": 0, "messages": [
                {"role": "user", "content": f"Question {i}: " + "what is this about? " * 10}]}
            out.write(json.dumps({"custom_id": f"r{i}", "body": body}) + "\n")


def measure(command, n):
    """(requests a second, processor seconds for a thousand)."""
    began = time.monotonic()
    child = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE)
    error = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{command[0]}: exit status {child.returncode}\n{error.decode()}")
    seconds = time.monotonic() - began
    return n / seconds, (usage.ru_utime + usage.ru_stime) / n * 1000


def compare(options, port, folder):
    source = folder / "in.jsonl"
    write_records(source, options.requests)
    counts = {"asked": 0}

    def tidemill(*more):
        counts["asked"] += 1
        target = folder / f"tidemill-{counts['asked']}.jsonl"
        return [TIDEMILL, "run", "-m", f"http://127.0.0.1:{port}{PATH}", "-i", source, "-o", target,
                "--dedup", "off", "--max-inflight", options.inflight, *more]

    pool = [sys.executable, __file__, "--threads", port, source, folder / "pool.jsonl",
            options.inflight]
    rounds = {"tidemill": [], "http.client, threads": []}
    for _ in range(options.rounds):  # in turns: what else the machine does meets both
        rounds["tidemill"].append(measure(tidemill(), options.requests))
        rounds["http.client, threads"].append(measure(pool, options.requests))
    medians = {}
    print(f"{options.requests:,} requests, {options.inflight} under way, {options.latency_ms} ms "
          f"each: at most {options.inflight / options.latency_ms * 1000:,.0f}/s")
    for name, results in rounds.items():
        medians[name] = [statistics.median(column) for column in zip(*results)]
        rate, cpu_s = medians[name]
        print(f"{name:22} {rate:8,.0f} requests/s {cpu_s:8.3f} CPU-s for 1,000")
    ours, theirs = medians.values()
    print(f"{'ratio':22} {ours[0] / theirs[0]:8.2f}            {ours[1] / theirs[1]:8.3f}")
    rate, cpu_s = measure(tidemill("--rpm", PACE_RPM), options.requests)
    print(f"at {rate:,.0f} requests/s tidemill takes "
          f"{100 * cpu_s / 1000 * rate / os.cpu_count():.2f}% of {os.cpu_count()} cores")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--inflight", type=int, default=64)
    parser.add_argument("--latency-ms", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--threads", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        asyncio.run(serve(options.serve))
    if options.threads:
        port, source, target, n_threads = options.threads
        ask_with_threads(int(port), source, target, int(n_threads))
        return
    server = subprocess.Popen([sys.executable, __file__, "--serve",
                               str(options.latency_ms / 1000)], stdout=subprocess.PIPE)
    try:
        with tempfile.TemporaryDirectory() as folder:
            compare(options, int(server.stdout.readline()), Path(folder))
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
