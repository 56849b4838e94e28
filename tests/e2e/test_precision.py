# SPDX-License-Identifier: Apache-2.0
"""--precision: products in int8, measured against the model itself, refused when they differ."""

import json
import signal
import time

import numpy
import onnx
import pytest
from conftest import commits, leftovers, read_jsonl, run, start, write_jsonl
from onnx import TensorProto, helper, numpy_helper

K, N = 96, 130


def weights(rows=K, columns=N, seed=1):
    return numpy.random.default_rng(seed).standard_normal((rows, columns)).astype(numpy.float32)


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def save(path, nodes, constants, outputs=None, rank3=False, opset=17, extra_inputs=()):
    shape = ["batch", 3, K] if rank3 else ["batch", K]
    outputs = outputs or {"y": [*shape[:-1], N]}
    graph = helper.make_graph(
        nodes, "test", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape),
                        *(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(dims))
                          for name, dims in extra_inputs)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
         for name, dims in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)  # with shapes of what goes away
    return path


def save_linear(path, opset=17):
    return save(path, [node("MatMul", "x w", "y")], {"w": weights()}, opset=opset)


def rows(n=40, rank3=False, seed=2):
    shape = (n, 3, K) if rank3 else (n, K)
    return numpy.random.default_rng(seed).standard_normal(shape).astype(numpy.float32)


def answers(model, x, folder, *options, check=0, output="y"):
    write_jsonl(folder / "in.jsonl", [{"x": row.tolist()} for row in x])
    result = run("run", "-m", model, "-i", "in.jsonl", "-o", "out.jsonl", "--precision", "int8",
                 "--summary", "summary.json", *options, cwd=folder, check=check)
    if check != 0:
        return result
    summary = json.loads((folder / "summary.json").read_text())
    got = numpy.array([record[output] for record in read_jsonl(folder / "out.jsonl")])
    return got, summary


def expect_near(got, expected):
    """int8 as it should be: near, but not the very same numbers."""
    assert got.shape == expected.shape
    scale = numpy.abs(expected).mean()
    assert 0 < numpy.abs(got - expected).max() < 0.15 * scale * 3
    flat, other = got.reshape(len(got), -1), expected.reshape(len(got), -1)
    cosine = (flat * other).sum(1) / numpy.linalg.norm(flat, axis=1)
    assert (cosine / numpy.linalg.norm(other, axis=1)).min() > 0.9995


BIAS = weights(1, N, 3)[0]
SHAPES = {
    "matmul": ([node("MatMul", "x w", "y")], lambda x: x @ weights()),
    "gemm": ([node("Gemm", "x w", "y")], lambda x: x @ weights()),
    "gemm_bias": ([node("Gemm", "x w b", "y")], lambda x: x @ weights() + BIAS),
    "gemm_trans_b": ([node("Gemm", "x wt b", "y", transB=1)], lambda x: x @ weights() + BIAS),
    "transpose": ([node("Transpose", "wt", "t", perm=[1, 0]), node("MatMul", "x t", "y")],
                  lambda x: x @ weights()),
    "transpose_both": ([node("Transpose", "w", "t"), node("Gemm", "x t b", "y", transB=1)],
                       lambda x: x @ weights() + BIAS),
}


@pytest.mark.parametrize("name", SHAPES)
def test_products_are_near_what_they_are(tmp_path, name):
    nodes, expected = SHAPES[name]
    used = {word for n in nodes for word in n.input}
    known = {"w": weights(), "wt": weights().T.copy(), "b": BIAS}
    model = save(tmp_path / "m.onnx", nodes, {k: v for k, v in known.items() if k in used})
    x = rows()
    got, summary = answers(model, x, tmp_path)
    expect_near(got, expected(x))
    assert "int8 in 1 of 1 products" in summary["runtime"]
    assert summary["precision"] == "int8"
    deviation = summary["deviation"]
    assert deviation["records"] == len(x)
    assert 0 < deviation["outputs"][0]["deviation"] < 0.0005


@pytest.mark.parametrize("opset", [11, 12, 13, 17, 18, 21])
def test_every_operator_set_from_11(tmp_path, opset):
    x = rows()
    got, _ = answers(save_linear(tmp_path / "m.onnx", opset), x, tmp_path)
    expect_near(got, x @ weights())


def test_an_older_operator_set_is_told(tmp_path):
    result = answers(save_linear(tmp_path / "m.onnx", 10), rows(), tmp_path, check=2)
    assert "operator set 11" in result.err


def test_three_dimensions(tmp_path):
    x = rows(rank3=True)
    model = save(tmp_path / "m.onnx", [node("MatMul", "x w", "y")], {"w": weights()}, rank3=True)
    got, _ = answers(model, x, tmp_path)
    expect_near(got, x @ weights())


def test_weights_that_two_products_share(tmp_path):
    """Both ways round, and with the same rows."""
    square = weights(K, K)
    nodes = [node("MatMul", "x w", "p"), node("Gemm", "x w", "q", transB=1), node("Sub", "p q", "y")]
    model = save(tmp_path / "m.onnx", nodes, {"w": square}, {"y": ["batch", K]})
    x = rows()
    got, summary = answers(model, x, tmp_path)
    expect_near(got, x @ square - x @ square.T)
    assert "int8 in 2 of 2 products" in summary["runtime"]


def test_weights_that_something_else_reads_stay(tmp_path):
    nodes = [node("MatMul", "x w", "p"), node("ReduceSum", "w", "s", keepdims=0),
             node("Add", "p s", "y")]
    model = save(tmp_path / "m.onnx", nodes, {"w": weights()})
    x = rows()
    got, _ = answers(model, x, tmp_path)
    expect_near(got - weights().sum(), x @ weights())


@pytest.mark.parametrize("seen", ["input", "output"])
def test_weights_that_callers_see_stay_as_they_are(tmp_path, seen):
    nodes = [node("MatMul", "x w", "p"), node("MatMul", "p v", "y")]
    constants = {"w": weights(K, K), "v": weights()}
    outputs = {"y": ["batch", N]}
    if seen == "output":
        outputs["w"] = [K, K]
    model = save(tmp_path / "m.onnx", nodes, constants, outputs,
                 extra_inputs=[("w", (K, K))] if seen == "input" else [])
    if seen == "input":
        result = answers(model, rows(), tmp_path, "--map", "w=none", check=2)
        assert "none" in result.err  # the field; the model did load
        return
    x = rows()
    got, summary = answers(model, x, tmp_path, "--output-name", "y")
    expect_near(got, x @ weights(K, K) @ weights())
    assert "int8 in 1 of 2 products" in summary["runtime"]


def test_a_record_does_not_depend_on_its_neighbours(tmp_path):
    """A row has its own scale: beside rows a thousand times as large it answers the same."""
    model = save_linear(tmp_path / "m.onnx")
    x = rows(64)
    x[1::2] *= 1000
    alone, _ = answers(model, x, tmp_path, "--batch", "1")
    together, _ = answers(model, x, tmp_path, "--batch", "64", "--force")
    assert numpy.array_equal(alone, together)


@pytest.mark.parametrize("place", [0, 17, K - 1])
def test_not_finite_stays_not_finite(tmp_path, place):
    """A NaN must not vanish in a reduction: the record fails as it does in float32."""
    nodes = [node("Sqrt", "x", "r"), node("MatMul", "r w", "y")]
    model = save(tmp_path / "m.onnx", nodes, {"w": weights()})
    x = numpy.abs(rows(8))
    x[3, place] = -1
    write_jsonl(tmp_path / "in.jsonl", [{"x": row.tolist()} for row in x])
    run("run", "-m", model, "-i", "in.jsonl", "-o", "out.jsonl", "--precision", "int8",
        cwd=tmp_path, check=1)
    errors = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert [(e["index"], e["code"]) for e in errors] == [(3, "output_not_finite")]


def test_rows_of_zeros_answer_zero(tmp_path):
    x = rows(8)
    x[2] = 0
    got, _ = answers(save_linear(tmp_path / "m.onnx"), x, tmp_path)
    assert not got[2].any() and got[3].any()


def test_digits_agree_and_the_summary_says_so(digits, tmp_path):
    model, data = digits
    result = run("run", "-m", model, "-i", data, "-o", "out.jsonl", "--precision", "int8",
                 "--summary", "summary.json", cwd=tmp_path, check=0)
    output = json.loads((tmp_path / "summary.json").read_text())["deviation"]["outputs"][0]
    assert output["name"] == "logits"
    assert 0.999 < output["mean_cosine"] < 1 and output["agreement"] > 0.97
    assert output["least_cosine"] <= output["mean_cosine"] and output["largest_difference"] > 0
    assert "precision    int8" in result.err and "mean cosine 0.9" in result.err


def test_outliers_are_refused_and_leave_nothing(tmp_path):
    """One feature that is a million times the others and counts for nothing: it takes the whole range."""
    w = weights()
    w[0] = 0
    model = save(tmp_path / "m.onnx", [node("MatMul", "x w", "y")], {"w": w})
    x = rows()
    x[:, 0] = 1e6
    result = answers(model, x, tmp_path, check=2)
    assert "mean cosine" in result.err and "--max-deviation is 0.005" in result.err
    assert "--precision fp32" in result.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "m.onnx"]
    answers(model, x, tmp_path, "--max-deviation", "2")
    answers(model, x, tmp_path, "--force", "--precision", "fp32")


def test_a_dry_run_tells_it_before(tmp_path):
    model = save_linear(tmp_path / "m.onnx")
    write_jsonl(tmp_path / "in.jsonl", [{"x": row.tolist()} for row in rows()])
    command = ["run", "-m", model, "-i", "in.jsonl", "-o", "out.jsonl", "--precision", "int8",
               "--dry-run"]
    told = run(*command, cwd=tmp_path, check=0)
    assert "mean cosine 0.999" in told.err + told.out
    told = run(*command, "--max-deviation", "0", cwd=tmp_path, check=2)
    assert "--max-deviation is 0" in told.err


def test_numbers_alone_are_compared_by_their_size(tmp_path):
    """y is one number a record: cosine would always be 1 or -1."""
    nodes = [node("MatMul", "x w", "p"), node("MatMul", "p v", "y")]
    model = save(tmp_path / "m.onnx", nodes, {"w": weights(), "v": weights(N, 1, 4)},
                 {"y": ["batch", 1]})
    _, summary = answers(model, rows(), tmp_path, "--max-deviation", "0.05")
    output = summary["deviation"]["outputs"][0]
    assert 0 < output["deviation"] < 0.05 and "mean_cosine" not in output
    result = answers(model, rows(), tmp_path, "--force", "--max-deviation", "0", check=2)
    assert "mean relative difference" in result.err


def test_fp32_is_the_default_and_measures_nothing(tmp_path):
    x = rows()
    model = save_linear(tmp_path / "m.onnx")
    _, summary = answers(model, x, tmp_path, "--precision", "fp32")
    assert summary["precision"] == "fp32" and summary["deviation"] is None


WRONG = {
    "bf16 on a processor": (["--precision", "bf16"], 2, "trt_bf16_enable"),
    "int8 elsewhere": (["--provider", "cuda"], 2, "--provider cpu"),
    "unknown": (["--precision", "int4"], 2, "fp32|bf16|int8"),
    "limit": (["--max-deviation", "much"], 2, "not a number from 0 to 2"),
    "limit below zero": (["--max-deviation", "-1"], 2, "not a number from 0 to 2"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_requests(tmp_path, name):
    options, status, part = WRONG[name]
    result = answers(save_linear(tmp_path / "m.onnx"), rows(4), tmp_path, *options, check=status)
    assert part in result.err
    assert not (tmp_path / "out.jsonl.journal").exists()


def test_a_model_without_large_products_is_told(models, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"x": [1, 2, 3]}])
    result = run("run", "-m", models / "identity_float.onnx", "-i", "in.jsonl", "-o", "out.jsonl",
                 "--precision", "int8", cwd=tmp_path, check=2)
    assert "int8 would change nothing" in result.err
    result = run("run", "-m", "echo", "-i", "in.jsonl", "-o", "out.jsonl", "--precision", "int8",
                 cwd=tmp_path, check=2)
    assert "echo" in result.err


def test_external_data_is_told(tmp_path):
    model = onnx.load(save_linear(tmp_path / "m.onnx"))
    onnx.save(model, tmp_path / "e.onnx", save_as_external_data=True, location="e.data",
              size_threshold=0)
    result = answers(tmp_path / "e.onnx", rows(4), tmp_path, check=2)
    assert "external data" in result.err and "onnx.save" in result.err


@pytest.mark.parametrize("options", [["--no-isolate"], ["--instances", "3", "--threads", "2"]])
def test_ways_of_running(tmp_path, options):
    x = rows(200)
    got, _ = answers(save_linear(tmp_path / "m.onnx"), x, tmp_path, *options)
    expect_near(got, x @ weights())


def test_precision_is_a_part_of_the_job(tmp_path):
    model = save_linear(tmp_path / "m.onnx")
    answers(model, rows(), tmp_path)
    result = answers(model, rows(), tmp_path, "--precision", "fp32", check=2)
    assert "--precision" in result.err


def test_answers_of_another_precision_are_not_reused(tmp_path):
    """A cache that jobs share keeps them apart."""
    model, x = save_linear(tmp_path / "m.onnx"), rows()
    cache = ["--cache", tmp_path / "cache"]
    exact, _ = answers(model, x, tmp_path, *cache, "--precision", "fp32")
    got, _ = answers(model, x, tmp_path, *cache, "--force")
    expect_near(got, x @ weights())
    assert not numpy.array_equal(got, exact)
    again, summary = answers(model, x, tmp_path, *cache, "--force")
    assert numpy.array_equal(got, again) and summary["runtime"].count("int8") == 1


def test_records_of_several_lengths_are_all_in_the_sample(tmp_path):
    """Sorted by length for padding, the first calls would hold the longest records alone."""
    nodes = [node("Gather", "table input_ids", "e"), node("MatMul", "e w", "p"),
             node("Cast", "attention_mask", "m", to=TensorProto.FLOAT),
             node("Unsqueeze", "m last", "m3"), node("Mul", "p m3", "kept"),
             node("ReduceSum", "kept one", "y", keepdims=0)]
    constants = {"table": weights(50, K, 5), "w": weights(), "last": numpy.array([-1]),
                 "one": numpy.array([1])}
    ids = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "seq"])
           for name in ("input_ids", "attention_mask")]
    graph = helper.make_graph(
        nodes, "test", ids, [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", N])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
              tmp_path / "m.onnx")
    lengths = [1 + i * 7 % 60 for i in range(500)]
    write_jsonl(tmp_path / "in.jsonl", [
        {"input_ids": [(i + k) % 50 for k in range(n)], "attention_mask": [1] * n}
        for i, n in enumerate(lengths)])
    run("run", "-m", "m.onnx", "-i", "in.jsonl", "-o", "out.jsonl", "--precision", "int8",
        "--summary", "summary.json", cwd=tmp_path, check=0)
    deviation = json.loads((tmp_path / "summary.json").read_text())["deviation"]
    assert deviation["records"] >= 256 and deviation["outputs"][0]["mean_cosine"] > 0.9995
    expected = [sum(constants["table"][(i + k) % 50] @ weights() for k in range(n))
                for i, n in enumerate(lengths)]
    got = numpy.array([record["y"] for record in read_jsonl(tmp_path / "out.jsonl")])
    expect_near(got, numpy.array(expected))


def test_a_killed_job_goes_on_to_the_same_bytes(digits, tmp_path):
    model, data = digits
    job = ["run", "-m", model, "-i", data, "--precision", "int8", "--checkpoint-every", "10ms",
           "--batch", "4", "-q"]
    run(*job, "-o", tmp_path / "whole.jsonl", check=0)
    out = tmp_path / "out.jsonl"
    process = start(*job, "-o", out)
    journal = tmp_path / "out.jsonl.journal"
    end = time.monotonic() + 60
    while process.poll() is None and len(commits(journal)) < 3 and time.monotonic() < end:
        time.sleep(0.002)
    assert process.poll() is None, "it was done before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    run(*job, "-o", out, "--summary", tmp_path / "s.json", check=0)
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["resumed"] and summary["precision"] == "int8" and summary["deviation"] is None
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert leftovers(tmp_path) == []
