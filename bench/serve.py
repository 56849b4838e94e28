#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`tidemill serve` beside what people use for the same: durable accepts beside Celery and RabbitMQ, a batch end
to end beside `tidemill run` on the same file. In turn; medians. bench/results.py has results by key.

    bench/serve.py [accept] [batch] [--rounds 5] [--seconds 3] [--records 1000000] [--celery PYTHON] [--rabbitmq URL]

Needs wrk. --celery is an interpreter with celery[redis], and aio-pika for --rabbitmq. The server has one processor,
who asks has the other.
"""
import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from measure import Others

ROOT = Path(__file__).resolve().parent.parent
TIDEMILL = os.environ.get("TIDEMILL", str(ROOT / "build/tidemill"))
RECORD = {"id": "user-1234567", "features": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], "segment": "b"}
CONFIG = """
models:
  echo:
    model: echo:json=1
queues:
  recs:
    model: echo
    window: {every: 1d}
    max_waiting: 1000000000
"""
CELERY = """
import sys, time
from celery import Celery
app = Celery("bench", broker=sys.argv[1])
@app.task
def predict(record): pass
record = %r
end, n, begin = time.monotonic() + float(sys.argv[2]), 0, time.monotonic()
while time.monotonic() < end:
    for _ in range(50): predict.delay(record)
    n += 50
print(n / (time.monotonic() - begin))
""" % RECORD
RABBITMQ = """
import asyncio, json, sys, time, aio_pika
async def main():
    connection = await aio_pika.connect(sys.argv[1])
    channel = await connection.channel(publisher_confirms=True)
    queue = await channel.declare_queue("bench", durable=True)
    body = json.dumps(%r).encode()
    def one():
        return channel.default_exchange.publish(
            aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT), "bench")
    begin, n = time.monotonic(), 0
    while time.monotonic() - begin < float(sys.argv[2]):
        await asyncio.gather(*(one() for _ in range(500)))
        n += 500
    print(n / (time.monotonic() - begin))
    await queue.purge()
    await connection.close()
asyncio.run(main())
""" % RECORD


def pinned(cpu, command):
    return ["taskset", "-c", str(cpu), *map(str, command)]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port):
    for _ in range(400):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


class Serve:
    def __init__(self, folder, config=CONFIG, cpu=0):
        self.folder, self.port = Path(folder), free_port()
        (self.folder / "tidemill.yaml").write_text(config)
        command = [TIDEMILL, "serve", self.folder / "tidemill.yaml", f"--data={self.folder}/data",
                   f"--listen=127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(pinned(cpu, command) if cpu is not None else list(map(str, command)),
                                        stderr=subprocess.DEVNULL)
        wait_for(self.port)

    def ask(self, method, path, body=None, type="application/json"):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body, method=method,
                                         headers={"Content-Type": type})
        with urllib.request.urlopen(request, timeout=600) as answer:
            return answer.read()

    def stop(self):
        self.process.terminate()
        self.process.wait()


def wrk(arguments, url, script):
    command = ["wrk", "-t1", f"-c{arguments.connections}", f"-d{arguments.seconds}s", "-s", script, url]
    out = subprocess.run(pinned(1, command), check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out:
        sys.exit(out)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))


def show(title, rows, base):
    """rows: name -> list of rates; base: whose rate is 1."""
    print(f"\n{title}\n\n| | a second | ratio |\n|---|---:|---:|")
    for name, values in rows.items():
        ratio = statistics.median(a / b for a, b in zip(values, rows[base])) if base in rows else 1
        print(f"| {name} | {statistics.median(values):,.0f} | {ratio:.2f} |")


def run_python(python, program, *arguments):
    out = subprocess.run(pinned(1, [python, "-c", program, *arguments]), check=True, capture_output=True,
                         text=True)
    return float(out.stdout.split()[-1])


def accept(arguments, folder):
    rows, redis = {}, None
    script = folder / "post.lua"
    script.write_text('wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
                      f"wrk.body = '{json.dumps(RECORD)}'\n")
    lines = (json.dumps(RECORD) + "\n").encode() * 200_000
    server = Serve(folder)
    if arguments.celery and shutil.which("redis-server"):
        port = free_port()
        redis = subprocess.Popen(pinned(0, ["redis-server", "--port", port, "--save", "", "--appendonly", "yes",
                                            "--appendfsync", "everysec", "--dir", folder]),
                                 stdout=subprocess.DEVNULL)
        wait_for(port)
    for _ in range(arguments.rounds):
        rate = wrk(arguments, f"http://127.0.0.1:{server.port}/v1/queues/recs/requests", script)
        rows.setdefault("tidemill, a request each, on the disk before its answer", []).append(rate)
        begin = time.monotonic()
        server.ask("POST", "/v1/queues/recs/requests", lines, "application/x-ndjson")
        rows.setdefault("tidemill, 200,000 lines a request, likewise", []).append(
            200_000 / (time.monotonic() - begin))
        if redis is not None:
            rows.setdefault("Celery on Redis: delay(), on the disk within a second", []).append(
                run_python(arguments.celery, CELERY, f"redis://127.0.0.1:{port}/0", str(arguments.seconds)))
        if arguments.rabbitmq:
            rows.setdefault("RabbitMQ: persistent publishes, confirmed, 500 under way", []).append(
                run_python(arguments.celery, RABBITMQ, arguments.rabbitmq, str(arguments.seconds)))
    server.stop()
    if redis is not None:
        redis.terminate()
        redis.wait()
    bases = [name for name in rows if name.startswith("Celery")]
    show("Accepting", rows, bases[0] if bases else next(iter(rows)))


def one_batch(arguments, folder, path, more):
    """Lines a second: from its creation on, and from its upload on."""
    shutil.rmtree(folder / "data", ignore_errors=True)
    server = Serve(folder, f"models:\n  echo:\n    model: echo:json=1\n{more}", cpu=None)
    begin = time.monotonic()
    out = subprocess.run(["curl", "-sf", "-F", "purpose=batch", "-F", f"file=@{path}",
                          f"http://127.0.0.1:{server.port}/v1/files"], check=True, capture_output=True).stdout
    uploaded = time.monotonic()
    job = json.loads(server.ask("POST", "/v1/batches", json.dumps(
        {"input_file_id": json.loads(out)["id"], "endpoint": "/v1/embeddings",
         "completion_window": "24h"}).encode()))
    while job["status"] not in ("completed", "failed"):
        time.sleep(0.02)
        job = json.loads(server.ask("GET", f"/v1/batches/{job['id']}"))
    if job["request_counts"]["completed"] != arguments.records:
        sys.exit(json.dumps(job))
    done = time.monotonic()
    server.stop()
    return arguments.records / (done - uploaded), arguments.records / (done - begin)


def batch(arguments, folder):
    rows = {}
    path = folder / "batch.jsonl"
    with open(path, "w", encoding="ascii") as file:
        for i in range(arguments.records):
            file.write(f'{{"custom_id":"r{i}","method":"POST","url":"/v1/embeddings","body":{{"model":"echo","input":"text {i}"}}}}\n')
    for round_ in range(arguments.rounds):
        here = folder / f"round{round_}"
        here.mkdir()
        for name, more in (("tidemill run", []), ("tidemill run --cache", [f"--cache={here}/cache"])):
            begin = time.monotonic()
            subprocess.run([TIDEMILL, "run", "--model=echo:json=1", f"--input={path}", f"--output={here}/out.jsonl",
                            "--output-format=openai-batch", "--map", "record=body", "--id=custom_id", "--quiet",
                            "--force", *more], check=True)
            rows.setdefault(name, []).append(arguments.records / (time.monotonic() - begin))
        for name, more in (("a batch, dedup: off", "    dedup: off\n"), ("a batch, with its tenant's cache", "")):
            created, uploaded = one_batch(arguments, here, path, more)
            rows.setdefault(f"{name}: created to completed", []).append(created)
            rows.setdefault(f"{name}: with its upload", []).append(uploaded)
        shutil.rmtree(here)
    show(f"{arguments.records:,} lines", rows, "tidemill run")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tasks", nargs="*", choices=["accept", "batch", []])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--celery", help="a Python with celery[redis] and aio-pika")
    parser.add_argument("--rabbitmq", help="amqp://guest:guest@127.0.0.1/")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed")
    others = Others()
    for name, task in (("accept", accept), ("batch", batch)):
        if arguments.tasks and name not in arguments.tasks:
            continue
        with tempfile.TemporaryDirectory() as folder:
            task(arguments, Path(folder))
    print(f"\nmedians of {arguments.rounds}; others took {others.share():.0%} of the machine")


if __name__ == "__main__":
    main()
