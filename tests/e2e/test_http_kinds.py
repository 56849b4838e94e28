# SPDX-License-Identifier: Apache-2.0
"""Servers of models that are not OpenAI's: KServe V2, TF Serving, TorchServe, as their protocols are
written down."""

import os
import socket

import pytest

from conftest import read_jsonl, run, start, write_jsonl
from upstream import Upstream

FAST = {"TIDEMILL_BACKOFF_MS": "2"}


def ask(server, folder, *options, path, check=0):
    return run("run", "-m", server.url + path, "-i", "in.jsonl", "-o", "out.jsonl", *options,
               cwd=folder, check=check, env=FAST)


def unused_address():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{reserved.getsockname()[1]}"


class Triton:
    """Adds up each row of x, and says how long text s is."""

    def __init__(self, shape=(-1, -1)):
        self.shape, self.sizes = list(shape), []

    def __call__(self, request):
        if request.path == "/v2/models/sum":
            return 200, {"name": "sum", "inputs": [
                {"name": "x", "datatype": "FP32", "shape": self.shape},
                {"name": "s", "datatype": "BYTES", "shape": self.shape[:1]}],
                "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]},
                            {"name": "l", "datatype": "INT64", "shape": [-1, 1]}]}
        assert request.path == "/v2/models/sum/infer"
        x, s = request.json["inputs"]
        n, width = x["shape"]
        assert [x["name"], s["name"], s["shape"]] == ["x", "s", [n]]
        assert len(x["data"]) == n * width
        self.sizes.append(n)
        rows = [x["data"][i * width:(i + 1) * width] for i in range(n)]
        return 200, {"model_name": "sum", "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [n], "data": [sum(row) for row in rows]},
            {"name": "l", "datatype": "INT64", "shape": [n, 1], "data": [len(t) for t in s["data"]]}]}


def test_kserve_rows_share_requests(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "x": [i, 2.5], "s": "a" * i} for i in range(100)])
    triton = Triton()
    with Upstream(triton) as server:
        ask(server, tmp_path, "--batch", 16, path="/v2/models/sum")
    assert max(triton.sizes) == 16 and sum(triton.sizes) == 100
    assert [a["response"] for a in read_jsonl(tmp_path / "out.jsonl")] == [
        {"y": i + 2.5, "l": [i]} for i in range(100)]


def test_kserve_is_asked_of_any_server_that_is_up(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "x": [i, 1], "s": "a"} for i in range(100)])
    with Upstream(Triton()) as server:
        models = f"{unused_address()}/v2/models/sum,{server.url}/v2/models/sum"
        result = run("run", "-m", models, "-i", "in.jsonl", "-o", "out.jsonl", cwd=tmp_path,
                     check=0, env=FAST)
        assert [r.path for r in server.requests].count("/v2/models/sum") == 1
    assert "waiting for it" in result.err
    assert len(read_jsonl(tmp_path / "out.jsonl")) == 100


def test_kserve_is_waited_for_until_patience_is_over_or_a_signal_comes(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"id": 1, "x": [1, 1], "s": "a"}])
    command = ["run", "-m", unused_address() + "/v2/models/sum", "-i", "in.jsonl", "-o", "out.jsonl"]
    assert "connect" in run(*command, "--patience", "200ms", cwd=tmp_path, check=3, env=FAST).err
    job = start(*command, cwd=tmp_path, env={**os.environ, **FAST})
    assert b"waiting for it" in job.stderr.readline()
    job.terminate()
    assert job.wait(timeout=30) == 75
    job.stderr.close()


def test_kserve_records_that_do_not_fit_together(tmp_path):
    """Each length is asked for on its own; what fits nothing is told of."""
    records = [{"id": i, "x": [1] * (1 + i % 3), "s": ""} for i in range(20)]
    records[5]["x"], records[6]["s"] = [1, [2]], 7
    del records[7]["x"]
    records[8]["x"] = [1, 1, 1e39]  # servers make infinity of it
    write_jsonl(tmp_path / "in.jsonl", records)
    with Upstream(Triton()) as server:
        ask(server, tmp_path, "--batch", 8, path="/v2/models/sum/infer", check=1)
    assert [(a["id"], a["response"]["y"]) for a in read_jsonl(tmp_path / "out.jsonl")] == [
        (i, 1 + i % 3) for i in range(20) if i not in (5, 6, 7, 8)]
    assert [(e["id"], e["code"]) for e in read_jsonl(tmp_path / "out.jsonl.errors.jsonl")] == [
        (5, "wrong_shape"), (6, "wrong_type"), (7, "missing_field"),
        (8, "out_of_range")]


def test_kserve_without_a_batch(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "x": [[i, 1]], "s": ["ab"]} for i in range(5)])
    triton = Triton([1, 2])
    with Upstream(triton) as server:
        ask(server, tmp_path, path="/v2/models/sum")
    assert triton.sizes == [1] * 5
    assert [a["response"] for a in read_jsonl(tmp_path / "out.jsonl")] == [
        {"y": [i + 1], "l": [[2]]} for i in range(5)]


def test_kserve_without_the_model(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"id": 1, "x": [1]}])
    with Upstream(lambda request: (404, {"error": "unknown model 'sum'"})) as server:
        result = ask(server, tmp_path, path="/v2/models/sum", check=3)
    assert "/v2/models/sum" in result.err and "unknown model 'sum'" in result.err


def test_tfserving_blames_the_row(tmp_path):
    """A server that refuses a request for one row's sake answers the others."""
    def answer(request):
        rows = request.json["instances"]
        if any(row["x"] == 13 for row in rows):
            return 400, {"error": "13 is not served"}
        return 200, {"predictions": [row["x"] for row in rows]}
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "x": i} for i in range(40)])
    with Upstream(answer) as server:
        ask(server, tmp_path, "--batch", 16, path="/v1/models/m/versions/3", check=1)
        assert {r.path for r in server.requests} == {"/v1/models/m/versions/3:predict"}
    assert [a["response"] for a in read_jsonl(tmp_path / "out.jsonl")] == [
        i for i in range(40) if i != 13]
    errors = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert len(errors) == 1 and errors[0]["id"] == 13 and "13 is not served" in errors[0]["message"]


@pytest.mark.parametrize("body, expected", [(b"tabby\n", "tabby\n"), (b"[1.0, 2]", [1.0, 2])])
def test_torchserve(tmp_path, body, expected):
    write_jsonl(tmp_path / "in.jsonl", [{"id": 1, "data": "x"}])
    with Upstream(lambda request: (200, body)) as server:
        ask(server, tmp_path, path="/predictions/cats/1.0")
        assert server.requests[0].path == "/predictions/cats/1.0"
        assert server.requests[0].json == {"id": 1, "data": "x"}
    assert read_jsonl(tmp_path / "out.jsonl") == [{"id": 1, "response": expected}]
