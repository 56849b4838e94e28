# SPDX-License-Identifier: Apache-2.0
"""tidemill run: the main job, flags, job files, standard streams, what a person reads."""

import gzip
import json
import shutil
import subprocess

import numpy
import onnxruntime
import pytest
from conftest import ROOT, TIDEMILL, leftovers, read_jsonl, run, write_jsonl


def reference(model, rows):
    session = onnxruntime.InferenceSession(str(model))
    return session.run(None, {session.get_inputs()[0].name: rows})[0]


def test_answers_are_the_librarys_own(digits, tmp_path):
    model, data = digits
    run("run", "-m", model, "-i", data, "-o", tmp_path / "out.jsonl", check=0)
    records, answers = read_jsonl(data), read_jsonl(tmp_path / "out.jsonl")
    expected = reference(model, numpy.array([r["pixels"] for r in records], numpy.float32))
    assert [a["id"] for a in answers] == [r["id"] for r in records]
    assert numpy.allclose([a["logits"] for a in answers], expected, rtol=1e-5, atol=1e-5)
    assert not leftovers(tmp_path)


def test_job_file_and_flags_give_the_same(digits, tmp_path):
    model, data = digits
    (tmp_path / "job.yaml").write_text(
        f"model: {model}\ninput: [{data}]\noutput: {tmp_path}/a.jsonl\nbatch: 64\nkeep: label\n")
    run("run", tmp_path / "job.yaml", check=0)
    run("run", tmp_path / "job.yaml", "--output", tmp_path / "b.jsonl", check=0)
    run("run", "-m", model, "-i", data, "-o", tmp_path / "c.jsonl", "-b64", "--keep=label", check=0)
    a, b, c = ((tmp_path / f"{n}.jsonl").read_bytes() for n in "abc")
    assert a == b == c


def test_a_flag_replaces_a_list_of_the_job_file(digits, tmp_path):
    model, data = digits
    write_jsonl(tmp_path / "one.jsonl", read_jsonl(data)[:1])
    (tmp_path / "job.yaml").write_text(f"model: {model}\ninput: {data}\noutput: out.jsonl\n")
    run("run", "job.yaml", "--input", "one.jsonl", cwd=tmp_path, check=0)
    assert len(read_jsonl(tmp_path / "out.jsonl")) == 1


def test_standard_streams(digits, tmp_path):
    model, data = digits
    run("run", "-m", model, "-i", data, "-o", tmp_path / "out.jsonl", "-b", 32, check=0)
    with open(data, "rb") as file:
        result = run("run", "-m", model, "-i", "-", "-o", "-", "-b", 32, stdin=file, check=0)
    assert result.stdout == (tmp_path / "out.jsonl").read_bytes()


def test_closed_output_pipe_is_an_error_not_a_crash(digits):
    model, data = digits
    job = subprocess.Popen(["sh", "-c", f"'{TIDEMILL}' run -m '{model}' -i "
                            f"'{data}' -o - ; echo status $? >&2"],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    job.stdout.read(100)
    job.stdout.close()
    assert b"status 3" in job.stderr.read()
    job.wait()


def test_compressed_in_and_out(digits, tmp_path):
    model, data = digits
    plain = tmp_path / "plain.jsonl"
    run("run", "-m", model, "-i", data, "-o", plain, "-b", 32, check=0)
    with open(data, "rb") as source, gzip.open(tmp_path / "in.jsonl.gz", "wb") as target:
        shutil.copyfileobj(source, target)
    subprocess.run(["zstd", "-q", data, "-o", tmp_path / "in.jsonl.zst"], check=False)
    run("run", "-m", model, "-i", tmp_path / "in.jsonl.gz", "-o", tmp_path / "out.jsonl.gz",
        "-b", 32, check=0)
    assert gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()) == plain.read_bytes()


def test_patterns_and_several_inputs_keep_their_order(models, tmp_path):
    model = models / "scalar_per_row.onnx"
    for name, values in {"a1": [1, 2], "a2": [3], "b": [4, 5]}.items():
        write_jsonl(tmp_path / f"{name}.jsonl", [{"x": v} for v in values])
    run("run", "-m", model, "-i", "a*.jsonl", "-i", "b.jsonl", "-o", "out.jsonl", cwd=tmp_path,
        check=0)
    assert [a["y"] for a in read_jsonl(tmp_path / "out.jsonl")] == [3, 5, 7, 9, 11]


def test_ids(models, tmp_path):
    model = models / "scalar_per_row.onnx"
    cases = {
        "custom_id": ([{"custom_id": "k", "x": 1}], [], "k"),
        "id": ([{"id": 12345678901234567890123, "x": 1}], [], 12345678901234567890123),
        "field": ([{"key": "é", "x": 1}], ["--id", "key"], "é"),
        "line": ([{"x": 1}], [], 1),
    }
    for name, (records, options, expected) in cases.items():
        write_jsonl(tmp_path / "in.jsonl", records)
        run("run", "-m", model, "-i", "in.jsonl", "-o", f"{name}.jsonl", *options, cwd=tmp_path,
            check=0)
        assert read_jsonl(tmp_path / f"{name}.jsonl")[0]["id"] == expected, name


def test_keep(models, tmp_path):
    model = models / "scalar_per_row.onnx"
    write_jsonl(tmp_path / "in.jsonl", ['{"id":1,"x":2,"name":"a\\u00e9","deep":{"n":1.50}}'])
    run("run", "-m", model, "-i", "in.jsonl", "-o", "some.jsonl", "--keep", "name,deep",
        cwd=tmp_path, check=0)
    assert (tmp_path / "some.jsonl").read_text() == \
        '{"id":1,"name":"a\\u00e9","deep":{"n":1.50},"y":5.0}\n'
    run("run", "-m", model, "-i", "in.jsonl", "-o", "all.jsonl", "--keep", "all", cwd=tmp_path,
        check=0)
    assert read_jsonl(tmp_path / "all.jsonl") == [
        {"id": 1, "x": 2, "name": "aé", "deep": {"n": 1.5}, "y": 5}]


def test_template(models, tmp_path):
    model = models / "string_concat.onnx"
    write_jsonl(tmp_path / "in.jsonl", [{"id": 7, "who": 'Ann "A"', "n": 3}])
    (tmp_path / "body.json").write_text('{"a": "Dear {{who}}, ", "b": "you have {{n}} letters"}')
    run("run", "-m", model, "-i", "in.jsonl", "-o", "out.jsonl", "--template", "body.json",
        cwd=tmp_path, check=0)
    answer = read_jsonl(tmp_path / "out.jsonl")[0]
    assert answer["id"] == 7 and 'Dear Ann "A", you have 3 letters' in answer.values()


def test_csv_to_csv(models, tmp_path):
    (tmp_path / "in.csv").write_text('name,a,b,c,d\r\n"x, ""y""",1,2,3,4\r\nz,5,6,7,8\r\n')
    run("run", "-m", models / "zipmap_string.onnx", "-i", "in.csv", "-o", "out.csv", "--id", "name",
        "--map", f"{'x'}=a..d", "--output-name", "output_label", cwd=tmp_path, check=0)
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "id,output_label"
    assert lines[1].startswith('"x, ""y""",') and lines[2].startswith("z,")


def test_post_and_labels(models, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"x": [1, 3, 2]}])
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    model = models / "identity_float.onnx"
    run("run", "-m", model, "-i", "in.jsonl", "-o", "out.jsonl", "--post", "softmax,topk:2",
        "--labels", "labels.txt", cwd=tmp_path, check=0)
    top = read_jsonl(tmp_path / "out.jsonl")[0]["top"]
    assert [t["label"] for t in top] == ["green", "blue"]
    assert abs(top[0]["score"] - 0.66524) < 1e-4
    run("run", "-m", model, "-i", "in.jsonl", "-o", "best.jsonl", "--post", "argmax", cwd=tmp_path,
        check=0)
    assert read_jsonl(tmp_path / "best.jsonl") == [{"id": 1, "label": 1, "score": 3.0}]


@pytest.mark.parametrize("policy, expected", [("null", [0.0, None, None]),
                                              ("string", [0.0, "NaN", "-Infinity"])])
def test_nonfinite_policies(models, tmp_path, policy, expected):
    write_jsonl(tmp_path / "in.jsonl", [{"x": [1, -1, 0]}])
    run("run", "-m", models / "nan_out.onnx", "-i", "in.jsonl", "-o", "out.jsonl",
        "--nonfinite", policy, cwd=tmp_path, check=0)
    assert read_jsonl(tmp_path / "out.jsonl")[0]["y"] == expected


def test_nonfinite_is_the_records_error_by_default(models, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"x": [1, -1, 0]}, {"x": [1, 1, 1]}])
    run("run", "-m", models / "nan_out.onnx", "-i", "in.jsonl", "-o", "out.jsonl", cwd=tmp_path,
        check=1)
    assert [a["id"] for a in read_jsonl(tmp_path / "out.jsonl")] == [2]
    assert read_jsonl(tmp_path / "out.jsonl.errors.jsonl")[0]["code"] == "output_not_finite"


def test_npy_in_and_out(models, tmp_path):
    rows = numpy.arange(30, dtype=numpy.float32).reshape(10, 3)
    numpy.save(tmp_path / "in.npy", rows)
    run("run", "-m", models / "unnamed_dims.onnx", "-i", "in.npy", "-o", "out.npy", cwd=tmp_path,
        check=0)
    assert (numpy.load(tmp_path / "out.npy") == -rows).all()


def test_npz_in_and_out(models, tmp_path):
    a = numpy.ones((5, 4), numpy.float32)
    b = numpy.arange(10, dtype=numpy.int64).reshape(5, 2)
    numpy.savez(tmp_path / "plain.npz", a=a, b=b)
    numpy.savez_compressed(tmp_path / "packed.npz", a=a, b=b)
    for name in "plain", "packed":
        run("run", "-m", models / "two_in_two_out.onnx", "-i", f"{name}.npz", "-o",
            f"{name}.out.npz", cwd=tmp_path, check=0)
        out = numpy.load(tmp_path / f"{name}.out.npz")
        assert sorted(out.files) == ["cat", "sum"]
        assert numpy.allclose(out["sum"], a.sum(1) + b.sum(1))
    assert not leftovers(tmp_path)


def test_empty_input_gives_an_empty_complete_output(digits, tmp_path):
    (tmp_path / "in.jsonl").write_text("")
    run("run", "-m", digits[0], "-i", "in.jsonl", "-o", "out.jsonl", cwd=tmp_path, check=0)
    assert (tmp_path / "out.jsonl").read_bytes() == b""
    assert not leftovers(tmp_path)


def test_finished_job_does_nothing_until_forced(digits, tmp_path):
    model, data = digits
    command = ["run", "-m", model, "-i", data, "-o", tmp_path / "out.jsonl"]
    run(*command, check=0)
    before = (tmp_path / "out.jsonl").stat()
    result = run(*command, check=0)
    assert "complete already: 20000 records" in result.err
    assert (tmp_path / "out.jsonl").stat().st_mtime_ns == before.st_mtime_ns
    run(*command, "--force", check=0)
    assert (tmp_path / "out.jsonl").stat().st_ino != before.st_ino


def test_summary_and_cost(digits, tmp_path):
    model, data = digits
    result = run("run", "-m", model, "-i", data, "-o", tmp_path / "out.jsonl", "--price", "3.6",
                 "--summary", tmp_path / "summary.json", check=0)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["records"] == summary["ok"] == 20000 and summary["errors"] == 0
    assert summary["cost_usd"] == pytest.approx(summary["wall_s"] / 1000, rel=0.01)
    assert summary["cost_usd_per_million"] == pytest.approx(summary["cost_usd"] * 50, rel=1e-6)
    for word in "records", "speed", "model", "memory", "cost":
        assert word in result.err
    assert result.out == ""


def test_quiet_says_nothing(digits, tmp_path):
    model, data = digits
    result = run("run", "-q", "-m", model, "-i", data, "-o", tmp_path / "out.jsonl", check=0)
    assert result.out == "" and result.err == ""


def test_log_format_json(digits, tmp_path):
    model, data = digits
    result = run("run", "--log-format", "json", "-m", model, "-i", data, "-o",
                 tmp_path / "out.jsonl", check=0)
    for line in result.err.splitlines():
        assert set(json.loads(line)) == {"time", "level", "message"}


def test_yaml_job_of_the_readme(digits, tmp_path):
    model, data = digits
    (tmp_path / "job.yaml").write_text(
        f"model: {model}\ninput:\n  - {data}\noutput: {tmp_path}/out.csv\n"
        "post: softmax,argmax\nlabels: "
        f"{ROOT}/examples/digits/labels.txt\nkeep: [label]\n")
    run("run", tmp_path / "job.yaml", check=0)
    header, first = (tmp_path / "out.csv").read_text().splitlines()[:2]
    assert header == "id,label,logits_label,logits_score" and first.split(",")[0] == "1"
