#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""GGUF models: tidemill beside llama-server, with the same model, slots, threads and prompts, and
llama-batched-bench as what the machine can do. The model has random weights (tests/models/make_gguf.py):
speed does not depend on what they are.

    bench/llama.py --bin FOLDER [--records 200] [--slots 8] [--threads 2] [--rounds 2]

FOLDER has llama-server and llama-batched-bench, of the version that tools/bootstrap --with llama pins,
built with the same options. Times of tidemill are of the whole command, loading included; llama-server
has loaded the model before its clock starts. The two take turns, and the best of the rounds counts.
"""
import argparse
import http.client
import json
import os
import queue
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIDEMILL = os.environ.get("TIDEMILL", str(ROOT / "build" / "tidemill"))
WORDS = ("the quick brown fox jumps over lazy dog and then it runs away from other animals in forest "
         "because they want play with all day long while sun is shining on water of river").split()


def mixed(n, dice):
    """Prompts of 5 to 150 words, answers of 16 to 64 tokens."""
    return [{"prompt": " ".join(dice.choices(WORDS, k=dice.randint(5, 150))),
             "max_tokens": dice.choice([16, 32, 64])} for _ in range(n)]


def shared(n, dice):
    """Groups of 20 with a beginning of about 500 tokens in common, and short answers."""
    records = []
    while len(records) < n:
        system = " ".join(dice.choices(WORDS, k=450))
        records += [{"prompt": f"{system} {' '.join(dice.choices(WORDS, k=12))}", "max_tokens": 16}
                    for _ in range(min(20, n - len(records)))]
    return records


def finish(records):
    return [{"id": i, "temperature": 0, **record} for i, record in enumerate(records)]


def run_tidemill(model, records, options, folder):
    source, out = folder / "in.jsonl", folder / "out.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    start = time.perf_counter()
    subprocess.run([TIDEMILL, "run", "-m", model, "-i", source, "-o", out, "--force", "--parallel",
                    str(options.slots), "--threads", str(options.threads),
                    "--context", str(options.context)], check=True, capture_output=True)
    seconds = time.perf_counter() - start
    return seconds, usage(json.loads(line)["response"] for line in out.open())


def ask_by_tidemill(port, records, folder):
    """The same server, asked by tidemill; its start is counted."""
    source, out = folder / "http.jsonl", folder / "http.out.jsonl"
    source.write_text("".join(json.dumps({"id": record["id"], "body": record}) + "\n"
                              for record in records))
    start = time.perf_counter()
    subprocess.run([TIDEMILL, "run", "-m", f"http://127.0.0.1:{port}/v1/completions", "-i", source,
                    "-o", out, "--force"], check=True,
                   capture_output=True)
    seconds = time.perf_counter() - start
    return seconds, usage(json.loads(line)["response"] for line in out.open())


def usage(answers):
    prompt = answer = cached = 0
    for one in answers:
        prompt += one["usage"]["prompt_tokens"]
        answer += one["usage"]["completion_tokens"]
        cached += one["usage"].get("prompt_tokens_details", {}).get("cached_tokens", 0)
    return prompt, answer, cached


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(port, todo, answers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    while True:
        try:
            record = todo.get_nowait()
        except queue.Empty:
            return
        connection.request("POST", "/v1/completions", json.dumps(record),
                           {"Content-Type": "application/json"})
        answers.append(json.loads(connection.getresponse().read()))


class Server:
    def __init__(self, model, options):
        self.port = free_port()
        self.process = subprocess.Popen(
            [options.bin / "llama-server", "-m", model, "--port", str(self.port), "--host", "127.0.0.1",
             "-np", str(options.slots), "-c", str(options.context), "-t", str(options.threads),
             "-tb", str(options.threads), "-kvu", "--no-webui"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise SystemExit("llama-server did not start")

    def run(self, records, slots):
        todo, answers = queue.Queue(), []
        for record in records:
            todo.put(record)
        threads = [threading.Thread(target=ask, args=(self.port, todo, answers))
                   for _ in range(2 * slots)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - start
        bad = [a for a in answers if "usage" not in a]
        if bad or len(answers) != len(records):
            raise SystemExit(f"llama-server failed: {bad[:1]}")
        return seconds, usage(answers)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def limit(model, options, prompt, answer):
    """Tokens a second, prompts and answers together, where all sequences march in step."""
    result = subprocess.run(
        [options.bin / "llama-batched-bench", "-m", model, "-c", str(options.context), "-b", "2048",
         "-ub", "512", "-npp", str(prompt), "-ntg", str(answer), "-npl", str(options.slots), "-t",
         str(options.threads), "-tb", str(options.threads)], capture_output=True, check=True)
    text = result.stdout.decode()
    rows = re.findall(r"^\|\s*(\d+)\s*\|.*\|\s*([\d.]+)\s*\|\s*$", text, re.M)
    if not rows:
        raise SystemExit(f"llama-batched-bench printed no table:\n{text}")
    return float(rows[-1][1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bin", type=Path, default=ROOT / ".deps/llama/bin")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--records", type=int, default=200)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = options.model
        if model is None:
            subprocess.run([sys.executable, ROOT / "tests/models/make_gguf.py", folder, "--bench"],
                           check=True)
            model = folder / "mid.gguf"
        for kind in (mixed, shared):
            compare(kind, model, options, folder)


def compare(kind, model, options, folder):
    records = finish(kind(options.records, random.Random(1)))
    ours, theirs, asked = [], [], []
    for _ in range(options.rounds):
        ours.append(run_tidemill(model, records, options, folder))
        server = Server(model, options)
        theirs.append(server.run(records, options.slots))
        server.stop()
        server = Server(model, options) # without what it remembers of these prompts
        asked.append(ask_by_tidemill(server.port, records, folder))
        server.stop()
    (a, (prompt, answer, cached)), (b, (_, other, other_cached)) = min(ours), min(theirs)
    c, (_, third, third_cached) = min(asked)
    most = limit(model, options, prompt // len(records), max(answer // len(records), 1))
    print(f"{kind.__name__}: {len(records)} records, {prompt} prompt tokens, {answer} generated "
          f"(llama-server {other}), {options.slots} slots, {options.threads} threads")
    print(f"  tidemill      {a:8.2f} s  {(prompt + answer) / a:8.0f} tokens/s  {cached} cached")
    print(f"  llama-server  {b:8.2f} s  {(prompt + other) / b:8.0f} tokens/s  {other_cached} cached")
    print(f"  ... by tidemill {c:6.2f} s  {(prompt + third) / c:8.0f} tokens/s  {third_cached} cached")
    print(f"  batched-bench              {most:8.0f} tokens/s")
    print(f"  llama-server asked by tidemill / by a pool of threads "
          f"{(prompt + third) / c / ((prompt + other) / b):.2f}")
    print(f"  tidemill / llama-server {(prompt + answer) / a / ((prompt + other) / b):.2f}   "
          f"tidemill / batched-bench {(prompt + answer) / a / most:.2f}", flush=True)


if __name__ == "__main__":
    main()
