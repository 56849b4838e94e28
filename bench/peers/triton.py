# SPDX-License-Identifier: Apache-2.0
"""Triton through PyTriton: dynamic batches, one request a record or one for many.

As in "Quick Start", "Model Configuration" (DynamicBatcher) and "Custom HTTP/gRPC headers" of
PyTriton's documentation, and Triton's "Model Configuration" and "Optimization": an instance a core,
no queue delay unless it is set, clients that keep 2 x batch x instances records in flight. Requests
use the binary tensor extension of the KServe protocol.
"""
import json
import logging
import resource

import http_client
import numpy
import orjson
import task
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def instance(options):
    model = []  # loaded in the process that answers

    @batch
    def infer(pixels):
        if not model:
            model.append(task.Model(options.model, None, 1))
        return {"logits": model[0](pixels)}
    return infer


def requests(options):
    """Records in groups of --many; the ids stay with the client."""
    with open(options.input, "rb") as lines:
        for records in task.batches(map(orjson.loads, lines), options.many):
            pixels = numpy.array([record["pixels"] for record in records], numpy.float32)
            head = orjson.dumps({
                "inputs": [{"name": "pixels", "shape": pixels.shape, "datatype": "FP32",
                            "parameters": {"binary_data_size": pixels.nbytes}}],
                "outputs": [{"name": "logits", "parameters": {"binary_data": True}}]})
            yield [record["id"] for record in records], http_client.request(
                "/v2/models/digits/infer", head + pixels.tobytes(),
                [f"Inference-Header-Content-Length: {len(head)}"])


def feed(options, port):
    with open(options.output, "wb") as out:
        def write(ids, head, body):
            begin = head.find(b"inference-header-content-length:")
            size = int(head[begin + 32:].split(b"\r\n", 1)[0])
            answers = numpy.frombuffer(body, numpy.float32, offset=size).reshape(len(ids), -1)
            task.write_answers(out, "logits", ids, answers)
        in_flight = max(2, 2 * options.batch * options.threads // options.many)
        http_client.run(("127.0.0.1", port), requests(options), in_flight, write)


def main():
    options = task.parse(("batch", int, 256), ("many", int, 1), ("delay", int, 0))
    logging.basicConfig(level=logging.ERROR)
    port = http_client.free_port()
    config = TritonConfig(http_port=port, grpc_port=http_client.free_port(),
                          metrics_port=http_client.free_port(), log_verbose=0)
    with Triton(config=config) as triton:
        triton.bind(
            model_name="digits", infer_func=[instance(options) for _ in range(options.threads)],
            inputs=[Tensor(name="pixels", dtype=numpy.float32, shape=(64,))],
            outputs=[Tensor(name="logits", dtype=numpy.float32, shape=(10,))],
            config=ModelConfig(max_batch_size=options.batch, batcher=DynamicBatcher(
                max_queue_delay_microseconds=options.delay)))
        triton.run()
        before = resource.getrusage(resource.RUSAGE_SELF)
        feed(options, port)
        after = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps({"client_cpu_s": after.ru_utime + after.ru_stime
                          - before.ru_utime - before.ru_stime}))


if __name__ == "__main__":
    main()
