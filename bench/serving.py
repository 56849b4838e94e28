#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `tidemill serve` makes of one-row requests that come at once, beside a bare loop over ONNX Runtime with
one thread: rows/s with batches of 1 and of 64, and processor microseconds a row of server and model
host. wrk sends KServe requests with a binary tensor of one row over 64 connections, then over one, which
gives the latency of a caller alone.

    bench/serving.py [--model digits|mlp] [--rounds 3] [--seconds 3] [--max-delay 2ms]

Needs wrk, and build/bench/raw_loop (ninja -C build bench/raw_loop). The loads share the machine with wrk, which
is part of the price: compare rounds on an idle machine only.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT / "tests/e2e")  # and not this folder, whose http.py is not Python's
BUILD = Path(os.environ.get("BUILD", ROOT / "build"))
os.environ.setdefault("TIDEMILL", str(BUILD / "tidemill"))
from server import Server  # noqa: E402

CONNECTIONS = 64
SCRIPT = """
local json = '{header}'
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/octet-stream"
wrk.headers["Inference-Header-Content-Length"] = tostring(#json)
wrk.body = json .. string.rep("\\0\\0\\128\\63", {width})
local wrong = 0
function response(status)
    if status ~= 200 then wrong = wrong + 1; print("status " .. status) end
end
"""


def model_of(name, folder):
    """Path, input, width."""
    if name == "digits":
        return ROOT / "examples/digits/digits.onnx", "pixels", 64
    subprocess.run([sys.executable, ROOT / "tests/models/make_models.py", folder, "--only", "mlp_medium"],
                   check=True, stdout=subprocess.DEVNULL)
    return folder / "mlp_medium.onnx", "x", 784


def raw_rates(model, seconds):
    out = subprocess.run(
        [BUILD / "bench/raw_loop", ROOT / ".deps/lib/libonnxruntime.so", model, "--batches", "1,64",
         "--seconds", str(seconds)], check=True, capture_output=True, text=True).stdout
    found = [json.loads(line) for line in out.splitlines()]
    return {entry["batch"]: entry["rows_per_s"] for entry in found}


def cpu_s(pid):
    """Of a process and its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    children = [int(c) for task in Path(f"/proc/{pid}/task").iterdir()
                for c in (task / "children").read_text().split()]
    return own + sum(cpu_s(child) for child in children)


def seconds_of(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 1e-6, "ms": 1e-3, "s": 1}[unit]


def load(server, script, connections, seconds):
    """Requests/s, median latency in microseconds, processor microseconds a request."""
    before = cpu_s(server.process.pid)
    out = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script,
         f"{server.url}/v2/models/m/infer"], check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out or "status" in out:
        sys.exit(f"requests failed:\n{out[-2000:]}")
    used = cpu_s(server.process.pid) - before
    n = int(re.search(r"(\d+) requests in", out).group(1))
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))
    return rate, seconds_of(re.search(r"50%\s+(\S+)", out).group(1)) * 1e6, used / n * 1e6


def counters(server):
    text = server.get("/metrics").body.decode()
    return [float(re.search(rf'tidemill_serving_{name}_total{{model="m"}} (\S+)', text).group(1))
            for name in ("rows", "batches")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["digits", "mlp"], default="digits")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--max-delay", default="2ms")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, input_name, width = model_of(arguments.model, folder)
        header = {"parameters": {"binary_data_output": True},
                  "inputs": [{"name": input_name, "shape": [1, width], "datatype": "FP32",
                              "parameters": {"binary_data_size": 4 * width}}]}
        script = folder / "load.lua"
        script.write_text(SCRIPT.format(header=json.dumps(header), width=width))
        config = (f"models:\n  m:\n    model: {model}\n    threads: 1\n"
                  f"    sync: {{max_batch: 64, max_delay: {arguments.max_delay}}}\n")
        rounds = []
        with Server(folder, config) as server:
            server.get("/v2/models/m")  # loads it
            load(server, script, 1, 1)
            for _ in range(arguments.rounds):
                raw = raw_rates(model, arguments.seconds / 4)
                before = counters(server)
                many = load(server, script, CONNECTIONS, arguments.seconds)
                rows, batches = (now - then for now, then in zip(counters(server), before))
                alone = load(server, script, 1, arguments.seconds)
                rounds.append((raw[1], raw[64], *many, rows / batches, *alone))
    middle = [statistics.median(column) for column in zip(*rounds)]
    print(f"raw loop, batches of 1      {middle[0]:12,.0f} rows/s")
    print(f"raw loop, batches of 64     {middle[1]:12,.0f} rows/s")
    print(f"served, 64 connections      {middle[2]:12,.0f} rows/s   {middle[2] / middle[0]:.3f} of 1, "
          f"{middle[2] / middle[1]:.3f} of 64; rows a microbatch {middle[5]:.1f}")
    print(f"  median latency            {middle[3]:12,.0f} us;  processor {middle[4]:.1f} us a row")
    print(f"served, a caller alone      {middle[6]:12,.0f} rows/s")
    print(f"  median latency            {middle[7]:12,.0f} us;  processor {middle[8]:.1f} us a row")


if __name__ == "__main__":
    main()
