# SPDX-License-Identifier: Apache-2.0
"""ONNX, all of it: types, shapes, batches, sequences, maps, against ONNX Runtime's own answers."""

import base64
import math

import numpy
import onnxruntime
import pytest
from conftest import read_jsonl, run, write_jsonl


def answers(model, records, folder, *options, check=0):
    write_jsonl(folder / "in.jsonl", records)
    run("run", "-m", model, "-i", "in.jsonl", "-o", "out.jsonl", *options, cwd=folder, check=check)
    return read_jsonl(folder / "out.jsonl")


TYPES = {
    "float": [[1.5, -2.25, 3e38], [0.1, 1e-45, 0]],
    "double": [[1.5, -2.25, 1e300], [0.1, 5e-324, 0]],
    "float16": [[1.5, -2.25, 65504], [0.5, 0, -1]],
    "bfloat16": [[1.5, -2.25, 256], [0.5, 0, -1]],
    "int8": [[-128, 127, 0], [1, 2, 3]],
    "int16": [[-32768, 32767, 0], [1, 2, 3]],
    "int32": [[-2147483648, 2147483647, 0], [1, 2, 3]],
    "int64": [[-9223372036854775808, 9223372036854775807, 0], [1, 2, 3]],
    "uint8": [[255, 0, 1], [1, 2, 3]],
    "uint16": [[65535, 0, 1], [1, 2, 3]],
    "uint32": [[4294967295, 0, 1], [1, 2, 3]],
    "uint64": [[18446744073709551615, 0, 1], [1, 2, 3]],
    "bool": [[True, False, True], [False, False, True]],
    "string": [["a", "é\n\"", ""], ["x", "y", "z"]],
}


@pytest.mark.parametrize("name", TYPES)
def test_every_type_goes_in_and_out(models, tmp_path, name):
    rows = TYPES[name]
    out = answers(models / f"identity_{name}.onnx", [{"x": row} for row in rows], tmp_path)
    got = [a["y"] for a in out]
    if name == "float":
        assert numpy.array_equal(numpy.array(got, numpy.float32), numpy.array(rows, numpy.float32))
    else:
        assert got == rows


@pytest.mark.parametrize("name, value, code", [
    ("uint8", 256, "out_of_range"), ("int8", -129, "out_of_range"), ("int64", 1.5, "wrong_type"),
    ("uint64", -1, "out_of_range"), ("bool", 2, "out_of_range"), ("string", 1, "wrong_type"),
    ("float", "1", "wrong_type"), ("float", None, "wrong_type"), ("float", 1e39, "not_finite"),
    ("float16", 65520, "not_finite"),
])
def test_what_a_type_cannot_hold(models, tmp_path, name, value, code):
    good = TYPES[name][1]
    out = answers(models / f"identity_{name}.onnx", [{"x": [value, *good[1:]]}, {"x": good}],
                  tmp_path, check=1)
    assert [a["y"] for a in out] == [good]
    error = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")[0]
    assert error["code"] == code or (name == "bool" and error["code"] == "wrong_type")
    assert "'x'" in error["message"]


def test_base64_tensors(models, tmp_path):
    row = numpy.array([1, 2, 3], numpy.float32)
    tensor = {"b64": base64.b64encode(row.tobytes()).decode(), "dtype": "float32", "shape": [3]}
    wrong = [dict(tensor, shape=[4]), dict(tensor, dtype="what"), dict(tensor, b64="???")]
    out = answers(models / "identity_float.onnx", [{"x": tensor}] + [{"x": w} for w in wrong],
                  tmp_path, check=1)
    assert [a["y"] for a in out] == [[1, 2, 3]]
    assert len(read_jsonl(tmp_path / "out.jsonl.errors.jsonl")) == 3


def test_several_inputs_and_outputs(models, tmp_path):
    out = answers(models / "two_in_two_out.onnx", [{"a": [1, 2, 3, 4], "b": [5, 6]}], tmp_path)
    assert out == [{"id": 1, "sum": 21.0, "cat": [1, 2, 3, 4, 5, 6]}]


def test_outputs_by_name(models, tmp_path):
    out = answers(models / "two_in_two_out.onnx", [{"a": [1, 2, 3, 4], "b": [5, 6]}], tmp_path,
                  "--output-name", "cat")
    assert out == [{"id": 1, "cat": [1, 2, 3, 4, 5, 6]}]


@pytest.mark.parametrize("n", [1, 7, 8, 9, 20])
def test_fixed_batch_is_filled_up_and_cut(models, tmp_path, n):
    out = answers(models / "fixed_batch.onnx", [{"x": [i, 1, i, 2]} for i in range(n)], tmp_path)
    assert [a["y"] for a in out] == [[i + 1, i + 2] for i in range(n)]


def test_without_batch_a_record_is_a_call(models, tmp_path):
    rows = [[1, 2, 3, 4]] * 4
    out = answers(models / "no_batch_dynamic.onnx", [{"x": rows[:n]} for n in (1, 3, 4)], tmp_path)
    assert [a["y"] for a in out] == [[1, 2, 3, 4]] * 3
    out = answers(models / "scalar_input.onnx", [{"x": 3}], tmp_path, "--force")
    assert out[0]["y"] == 7


def test_no_batch_forced(models, tmp_path):
    eye = numpy.eye(4).tolist()
    out = answers(models / "no_batch.onnx", [{"x": eye}], tmp_path, "--batch-dimension", "none")
    assert len(out[0]["y"]) == 4


def test_lengths_that_differ(models, tmp_path):
    records = [{"ids": list(range(i % 7 + 1))} for i in range(300)]
    out = answers(models / "fully_dynamic.onnx", records, tmp_path)
    for record, answer in zip(records, out):
        assert answer["doubled"] == [2 * i for i in record["ids"]]
        assert math.isclose(answer["mean"], numpy.mean(record["ids"]), rel_tol=1e-6)


@pytest.mark.parametrize("name", ["zipmap_string", "zipmap_int"])
def test_maps_of_scikit_learn(models, tmp_path, name):
    model = models / f"{name}.onnx"
    session = onnxruntime.InferenceSession(str(model))
    rows = numpy.random.default_rng(1).normal(size=(50, 4)).astype(numpy.float32)
    labels, maps = session.run(None, {session.get_inputs()[0].name: rows})
    field = session.get_inputs()[0].name
    out = answers(model, [{field: row.tolist()} for row in rows], tmp_path)
    names = [o.name for o in session.get_outputs()]
    for answer, label, probabilities in zip(out, labels, maps):
        assert answer[names[0]] == label
        assert answer[names[1]] == pytest.approx({str(k): v for k, v in probabilities.items()},
                                                 rel=1e-5)


def test_sequences_of_tensors(models, tmp_path):
    out = answers(models / "seq_of_tensors.onnx", [{"x": [i, 1, 2, 3]} for i in range(5)], tmp_path)
    assert [a["parts"] for a in out] == [[i, 1, 2, 3] for i in range(5)]


def test_external_data_and_its_change(models, tmp_path):
    for path in models.glob("external_data*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    side = next(p for p in tmp_path.iterdir() if p.suffix != ".onnx")
    model = tmp_path / "external_data.onnx"
    out = answers(model, [{"x": [1, 2, 3, 4]}], tmp_path)
    assert out[0]["y"] == [3, 7]
    content = bytearray(side.read_bytes())
    content[0] ^= 1
    side.write_bytes(content)
    result = run("run", "-m", model, "-i", "in.jsonl", "-o", "out.jsonl", cwd=tmp_path, check=2)
    assert side.name in result.err


def test_a_record_that_fails_the_call(models, tmp_path):
    records = [{"id": i, "index": 99 if i == 37 else i % 10} for i in range(100)]
    out = answers(models / "table_lookup.onnx", records, tmp_path, "-b", 32, check=1)
    assert len(out) == 99
    errors = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert [(e["id"], e["code"]) for e in errors] == [(37, "model_error")]


def test_rows_that_the_model_drops_are_errors_not_shifts(models, tmp_path):
    records = [{"id": i, "x": [1 if i % 4 else -1, i, 0]} for i in range(40)]
    out = answers(models / "rows_dropped.onnx", records, tmp_path, "-b", 8, check=1)
    assert all(a["y"] == [1, a["id"], 0] for a in out)
    errors = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert [e["id"] for e in errors] == [i for i in range(40) if i % 4 == 0]


def test_images(models, tmp_path):
    image = [[[1, 2], [3, 4]], [[0, 0], [0, 0]], [[255, 255], [255, 255]]]
    flat = [v for channel in image for row in channel for v in row]
    out = answers(models / "image_rank4.onnx", [{"x": image}, {"x": [image]}, {"x": flat}],
                  tmp_path)
    assert [a["y"] for a in out] == [[2.5, 0.0, 255.0]] * 3
    out = answers(models / "image_rank4.onnx", [{"x": image[:2]}], tmp_path, "--force", check=1)
    message = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")[0]["message"]
    assert "[3, 2, 2]" in message and "[2, 2, 2]" in message


def test_without_isolation_answers_are_the_same(models, tmp_path):
    records = [{"x": [i, 1, 2]} for i in range(100)]
    a = answers(models / "identity_float.onnx", records, tmp_path)
    b = answers(models / "identity_float.onnx", records, tmp_path, "--force", "--no-isolate")
    assert a == b


@pytest.mark.parametrize("location", ["../../../../../../etc/passwd", "/etc/passwd", "link.bin"])
def test_weights_outside_the_models_folder_are_refused(tmp_path, location):
    import onnx
    from onnx import TensorProto, helper
    (tmp_path / "link.bin").symlink_to("/etc/passwd")
    weights = TensorProto(name="w", data_type=1, data_location=TensorProto.EXTERNAL)
    weights.dims.append(4)
    for key, value in ("location", location), ("offset", "0"), ("length", "16"):
        weights.external_data.add(key=key, value=value)
    value = [helper.make_tensor_value_info(name, 1, ["batch", 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", value[:1],
                              value[1:], [weights])
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)],
                                      ir_version=9), tmp_path / "m.onnx")
    write_jsonl(tmp_path / "in.jsonl", [{"x": [1, 2, 3, 4]}])
    result = run("run", "-m", "m.onnx", "-i", "in.jsonl", "-o", "out.jsonl", cwd=tmp_path, check=3)
    assert "m.onnx" in result.err and not (tmp_path / "out.jsonl").exists()
