#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small answers a second from src/net beside nginx's, each on one processor with wrk on another, in turn;
medians, and the ratio of the rounds. nginx returns a constant, without a log. Where nginx is missing, ours
is measured alone. Where others use the machine, only the processor time an answer compares.

    bench/http_answers.py [--rounds 7] [--seconds 3] [--connections 64] [--path /ok]

Needs wrk, and build/bench/net_server (ninja -C build bench/net_server).
"""
import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import Others

ROOT = Path(__file__).resolve().parent.parent
NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ default_type text/plain; return 200 "ok"; }}
    }}
}}
"""


def pinned(cpu, command):
    return ["taskset", "-c", str(cpu), *map(str, command)]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


def start_ours(arguments):
    process = subprocess.Popen(pinned(arguments.server_cpu, [arguments.server]), text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    return process, int(process.stdout.readline().rsplit(":", 1)[1])


def start_nginx(arguments, folder):
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port))
    process = subprocess.Popen(
        pinned(arguments.server_cpu, [arguments.nginx, "-p", folder, "-c", config]),
        stderr=subprocess.DEVNULL)
    wait_for(port)
    return process, port


def cpu_s(pid):
    """Of a process and its children, nginx's worker among them."""
    total, pids = 0, [pid]
    for name in pids:
        fields = Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
        for task in Path(f"/proc/{name}/task").iterdir():
            pids += (task / "children").read_text().split()
    return total / os.sysconf("SC_CLK_TCK")


def rate(arguments, process, port):
    """Answers/s, and microseconds of the server's processor for each."""
    before = cpu_s(process.pid)
    out = subprocess.run(
        pinned(arguments.client_cpu, ["wrk", "-t1", f"-c{arguments.connections}",
                                      f"-d{arguments.seconds}s",
                                      f"http://127.0.0.1:{port}{arguments.path}"]),
        check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(out)
    cpu = cpu_s(process.pid) - before
    n = int(re.search(r"(\d+) requests in", out).group(1))
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)), cpu / n * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--path", default="/ok")
    parser.add_argument("--server", default=str(ROOT / "build/bench/net_server"))
    parser.add_argument("--nginx", default=shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin"))
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--client-cpu", type=int, default=1)
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed")
    others, rates, servers = Others(), {}, {}
    with tempfile.TemporaryDirectory() as name:
        try:
            servers["tidemill"] = start_ours(arguments)
            if arguments.nginx:
                servers["nginx"] = start_nginx(arguments, Path(name))
            else:
                print("nginx is not installed: ours alone", file=sys.stderr)
            rates = {server: [] for server in servers}
            for i in range(arguments.rounds):
                order = list(servers) if i % 2 == 0 else list(servers)[::-1]
                for server in order:
                    rates[server].append(rate(arguments, *servers[server]))
        finally:
            for process, _ in servers.values():
                process.terminate()
                process.wait()
    print(f"GET {arguments.path}, {arguments.connections} connections, one processor, "
          f"medians of {arguments.rounds}; others took {others.share():.0%}\n")
    print("| | answers/s | processor, us an answer |\n|---|---:|---:|")
    for server, values in rates.items():
        print(f"| {server} | {statistics.median(v[0] for v in values):,.0f} | "
              f"{statistics.median(v[1] for v in values):.2f} |")
    if "nginx" in rates:
        pairs = list(zip(rates["tidemill"], rates["nginx"]))
        print(f"\nratio: {statistics.median(a[0] / b[0] for a, b in pairs):.2f} of nginx's answers/s, "
              f"{statistics.median(a[1] / b[1] for a, b in pairs):.2f} of its processor time an answer")


if __name__ == "__main__":
    main()
