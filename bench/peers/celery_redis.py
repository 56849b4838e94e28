# SPDX-License-Identifier: Apache-2.0
"""Celery with Redis as broker and result backend: a task a record, or a task for --many records.

As in "Optimizing" (prefetch multiplier), "Concurrency" (prefork), "Calling Tasks" and "Backends and
Brokers: Redis" of its documentation. A Redis of our own, without persistence. So that the queue
stays short, 2,000 tasks are in flight; results are taken in order and forgotten.
"""
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import task

TASKS_IN_FLIGHT = 2000


def start_redis(scratch):
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("redis-server is missing: apt-get install redis-server")
    socket = scratch / "redis.sock"
    server = subprocess.Popen([program, "--port", "0", "--unixsocket", socket, "--save", "",
                               "--appendonly", "no", "--daemonize", "no"],
                              cwd=scratch, stdout=subprocess.DEVNULL)
    while not socket.exists():
        if server.poll() is not None:
            raise SystemExit("redis-server ended")
        time.sleep(0.01)
    return server, f"redis+socket://{socket}"


def start_workers(options):
    here = Path(__file__).parent
    return subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "--pool", "prefork",
         "--concurrency", str(options.threads), "--loglevel", "ERROR", "--without-gossip",
         "--without-mingle", "--without-heartbeat"],
        cwd=here, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def feed(options, celery_tasks):
    with open(options.input, encoding="utf-8") as lines, open(options.output, "wb") as out:
        waiting = deque()

        def take():
            records, result = waiting.popleft()
            answer = result.get()
            result.forget()
            if options.many == 1:
                answer = [{"id": json.loads(records[0])["id"], "logits": answer}]
            out.writelines(json.dumps(one).encode() + b"\n" for one in answer)

        for records in task.batches(lines, options.many):
            send = celery_tasks.predict if options.many == 1 else celery_tasks.predict_many
            waiting.append((records, send.delay(records[0] if options.many == 1 else records)))
            if len(waiting) * options.many >= max(TASKS_IN_FLIGHT, 8 * options.many):
                take()
        while waiting:
            take()


def main():
    options = task.parse(("many", int, 1))
    redis, address = start_redis(Path(options.scratch))
    os.environ["PEERS_CELERY"] = json.dumps({"redis": address,
                                             "model": os.path.abspath(options.model)})
    import celery_tasks  # reads the variable
    workers = start_workers(options)
    try:
        before = resource.getrusage(resource.RUSAGE_SELF)
        feed(options, celery_tasks)
        after = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps({"client_cpu_s": after.ru_utime + after.ru_stime
                          - before.ru_utime - before.ru_stime}))
    finally:
        workers.terminate()
        workers.wait()
        redis.terminate()
        redis.wait()


if __name__ == "__main__":
    main()
