#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast answers are read by key, beside what people would put there instead: nginx for HTTP, Redis for its
protocol; and how fast single records are accepted onto the disk.

    bench/results.py [--keys 100000] [--rounds 5] [--seconds 3] [--connections 64]

Rounds are interleaved; medians and their ratios are printed as JSON. nginx serves one static body of the same
size (the least that a server can do), Redis and tidemill random ones of all keys. Needs wrk, nginx,
redis-server and redis-benchmark. The load shares the machine: compare on an idle one only.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT / "tests/e2e")
BUILD = Path(os.environ.get("BUILD", ROOT / "build"))
os.environ.setdefault("TIDEMILL", str(BUILD / "tidemill"))
from misbehaving import free_port  # noqa: E402
from server import Server  # noqa: E402

CONFIG = """
resp: 127.0.0.1:{port}
models:
  echo: {{model: echo}}
queues:
  plain: {{model: echo, window: {{every: 1h}}}}
"""
POST = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"id":"key:000000000001","x":[1,2,3,4]}'
"""
READ = """local n = 0
request = function()
  n = (n * 1103515245 + 12345) % 2147483648
  return wrk.format("GET", string.format("/v1/results/plain/key:%012d", n % KEYS))
end
"""
NGINX = """daemon off; pid {folder}/nginx.pid; error_log stderr crit; worker_processes 1;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/a;
  proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{ listen 127.0.0.1:{port}; default_type application/json; location / {{ return 200 '{body}'; }} }} }}
"""


def output(command):
    return subprocess.run([str(word) for word in command], check=True, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT).stdout


def wrk(url, arguments, script=None):
    command = ["wrk", "-t1", f"-c{arguments.connections}", f"-d{arguments.seconds}s"]
    text = output(command + (["-s", script] if script else []) + [url])
    assert "Non-2xx" not in text, text
    return float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))


def redis_benchmark(port, arguments, pipeline):
    n = int(arguments.seconds * (60_000 if pipeline == 1 else 800_000))
    text = output(["redis-benchmark", "-p", port, "-c", arguments.connections, "-n", n, "-P", pipeline,
                   "-r", arguments.keys, "-q", "GET", "plain:key:__rand_int__"])
    return float(re.findall(r"([\d.]+) requests per second", text)[-1])


def key(i):
    return f"key:{i:012d}"


def fill(server, n):
    body = "".join(json.dumps({"id": key(i), "x": [i % 10, 0.5, 0.25, 0.125]}) + "\n" for i in range(n))
    answer = server.post("/v1/queues/plain/requests", body.encode(),
                         headers={"Content-Type": "application/x-ndjson"})
    assert answer.json["accepted"] == n, answer.body
    server.post("/v1/queues/plain/flush")
    while server.get(f"/v1/results/plain/{key(n - 1)}").status != 200:
        time.sleep(0.1)


def fill_redis(port, answers):
    import redis

    with redis.Redis(port=port) as client:
        for start in range(0, len(answers), 10000):
            client.mset(dict(answers[start:start + 10000]))


def wait_for(address):
    for _ in range(200):
        try:
            return urllib.request.urlopen(address, timeout=1).read()
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nothing answers at {address}")


def contenders(server, resp, redis_port, nginx_port, folder, arguments):
    (folder / "read.lua").write_text(READ.replace("KEYS", str(arguments.keys)))
    (folder / "post.lua").write_text(POST)
    return {
        "http_ours": lambda: wrk(server.url, arguments, folder / "read.lua"),
        "http_nginx": lambda: wrk(f"http://127.0.0.1:{nginx_port}", arguments, folder / "read.lua"),
        "resp_ours": lambda: redis_benchmark(resp, arguments, 1),
        "resp_redis": lambda: redis_benchmark(redis_port, arguments, 1),
        "resp_pipelined_ours": lambda: redis_benchmark(resp, arguments, 64),
        "resp_pipelined_redis": lambda: redis_benchmark(redis_port, arguments, 64),
        "accepts": lambda: wrk(f"{server.url}/v1/queues/plain/requests", arguments, folder / "post.lua"),
    }


def measure(server, folder, arguments, resp):
    redis_port, nginx_port = free_port(), free_port()
    fill(server, arguments.keys)
    value = server.get(f"/v1/results/plain/{key(1)}").body.decode()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=nginx_port, body=value))
    others = [subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf")]),
              subprocess.Popen(["redis-server", "--port", str(redis_port), "--save", "", "--appendonly", "no"],
                               stdout=subprocess.DEVNULL)]
    try:
        wait_for(f"http://127.0.0.1:{nginx_port}/")
        fill_redis(redis_port, [(f"plain:{key(i)}", value) for i in range(arguments.keys)])
        ways = contenders(server, resp, redis_port, nginx_port, folder, arguments)
        rounds = {name: [] for name in ways}
        for _ in range(arguments.rounds):
            for name, way in ways.items():
                rounds[name].append(way())
        return {name: statistics.median(rates) for name, rates in rounds.items()}
    finally:
        for other in others:
            other.terminate()
            other.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", type=int, default=64)
    arguments = parser.parse_args()
    arguments.seconds = max(1, int(arguments.seconds))
    resp = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Server(folder, CONFIG.format(port=resp)) as server:
            rates = measure(server, folder, arguments, resp)
    print(json.dumps({
        "per_second": {name: round(rate) for name, rate in rates.items()},
        "ratios": {"http": round(rates["http_ours"] / rates["http_nginx"], 2),
                   "resp": round(rates["resp_ours"] / rates["resp_redis"], 2),
                   "resp_pipelined": round(rates["resp_pipelined_ours"] / rates["resp_pipelined_redis"], 2)},
    }, indent=2))


if __name__ == "__main__":
    main()
