# SPDX-License-Identifier: Apache-2.0
"""TorchServe: one request a record, put into batches by the server.

As in "Batch Inference with TorchServe" (batchSize, maxBatchDelay), "Custom Service" (the handler)
and "Performance Guide" of its documentation. Clients keep 2 x batch x workers requests in flight.
"""
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import http_client
import orjson
import task

CONFIG = """inference_address=http://127.0.0.1:{port}
management_address=http://127.0.0.1:{management}
metrics_address=http://127.0.0.1:{metrics}
disable_token_authorization=true
disable_system_metrics=true
enable_metrics_api=false
job_queue_size=10000
async_logging=true
model_store={store}
load_models=model.mar
models={{"model": {{"1.0": {{"defaultVersion": true, "marName": "model.mar", \
"minWorkers": {workers}, "maxWorkers": {workers}, "batchSize": {batch}, "maxBatchDelay": {delay}, \
"responseTimeout": 120}}}}}}
"""
TOOLS = Path(sys.executable).parent


def start(options, scratch, port, environment):
    archive = scratch / "model.onnx"
    archive.symlink_to(Path(options.model).absolute())
    subprocess.run([TOOLS / "torch-model-archiver", "--model-name", "model", "--version", "1.0",
                    "--handler", Path(__file__).with_name("torchserve_handler.py"),
                    "--extra-files", archive, "--export-path", scratch], check=True,
                   stdout=subprocess.DEVNULL)
    config = scratch / "config.properties"
    config.write_text(CONFIG.format(
        port=port, management=http_client.free_port(), metrics=http_client.free_port(),
        store=scratch, workers=options.threads, batch=options.batch, delay=options.delay))
    return subprocess.Popen(
        [TOOLS / "torchserve", "--start", "--foreground", "--disable-token-auth", "--ncs",
         "--ts-config", config], env=environment, cwd=scratch, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)


def requests(options):
    """The record's own line is the body, for the handler to parse, which is faster than the
    server's own JSON; the id stays with the client."""
    with open(options.input, "rb") as lines:
        for line in lines:
            yield (orjson.loads(line)["id"], http_client.request(
                "/predictions/model", line.rstrip(), ["Content-Type: application/octet-stream"]))


def main():
    options = task.parse(("batch", int, 64), ("delay", int, 10))
    scratch, port = Path(options.scratch), http_client.free_port()
    environment = {**os.environ, "PATH": f"{TOOLS}:{os.environ['PATH']}", "LOG_LOCATION":
                   str(scratch), "METRICS_LOCATION": str(scratch), "TEMP": str(scratch)}
    server = start(options, scratch, port, environment)
    try:
        http_client.wait_until_up(f"http://127.0.0.1:{port}/ping", server)
        before = resource.getrusage(resource.RUSAGE_SELF)
        with open(options.output, "wb") as out:
            def write(key, _, body):
                out.write(b'{"id":%s,"logits":%s}\n' % (orjson.dumps(key), body))
            http_client.run(("127.0.0.1", port), requests(options),
                            2 * options.batch * options.threads, write)
        after = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps({"client_cpu_s": after.ru_utime + after.ru_stime
                          - before.ru_utime - before.ru_stime}))
    finally:
        subprocess.run([TOOLS / "torchserve", "--stop"], env=environment, stdout=subprocess.DEVNULL,
                       check=False)
        server.wait()


if __name__ == "__main__":
    main()
