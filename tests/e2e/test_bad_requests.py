# SPDX-License-Identifier: Apache-2.0
"""Wrong requests: a one-line error that says what to do, the right exit status, no trace left."""

import json
import os

import pytest
from conftest import run, write_jsonl


@pytest.fixture
def folder(digits, tmp_path):
    (tmp_path / "m.onnx").write_bytes(digits[0].read_bytes())
    write_jsonl(tmp_path / "in.jsonl", [{"pixels": list(range(64))}])
    (tmp_path / "dir").mkdir()
    return tmp_path


def fails(folder, status, *arguments, says, more=()):
    before = sorted(os.listdir(folder))
    result = run("run", *arguments, cwd=folder, check=status)
    lines = result.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("tidemill: error: "), result.err
    for words in says:
        assert words in lines[0]
    assert sorted(os.listdir(folder)) == sorted([*before, *more])
    assert not (folder / "out.jsonl").exists()


CASES = {
    "no model": (2, ["-i", "in.jsonl", "-o", "out.jsonl"], ["--model"]),
    "no input": (2, ["-m", "m.onnx", "-o", "out.jsonl"], ["--input"]),
    "no output": (2, ["-m", "m.onnx", "-i", "in.jsonl"], ["--output"]),
    "mistyped option": (2, ["--modle", "m.onnx"], ["--modle", "--model"]),
    "mistyped number": (2, ["--batch", "many"], ["--batch", "many"]),
    "missing value": (2, ["-m"], ["--model"]),
    "input is missing": (2, ["-m", "m.onnx", "-i", "none.jsonl", "-o", "out.jsonl"], ["none.jsonl"]),
    "no match": (2, ["-m", "m.onnx", "-i", "x*.jsonl", "-o", "out.jsonl"], ["x*.jsonl"]),
    "input is a directory": (2, ["-m", "m.onnx", "-i", "dir", "-o", "out.jsonl"],
                             ["dir", "directory"]),
    "output is a directory": (2, ["-m", "m.onnx", "-i", "in.jsonl", "-o", "dir"],
                              ["dir", "directory"]),
    "output directory is missing": (3, ["-m", "m.onnx", "-i", "in.jsonl", "-o", "no/out.jsonl"],
                                    ["no/out.jsonl"]),
    "output is the input": (2, ["-m", "m.onnx", "-i", "in.jsonl", "-o", "in.jsonl"], ["in.jsonl"]),
    "output is a device": (2, ["-m", "m.onnx", "-i", "in.jsonl", "-o", "/dev/null"], ["/dev/null"]),
    "errors in the output": (2, ["-m", "m.onnx", "-i", "in.jsonl", "-o", "out.jsonl", "--errors",
                                 "out.jsonl"], ["--errors"]),
    "model is missing": (3, ["-m", "none.onnx", "-i", "in.jsonl", "-o", "out.jsonl"],
                         ["none.onnx"]),
    "model is a directory": (3, ["-m", "dir", "-i", "in.jsonl", "-o", "out.jsonl"], ["dir"]),
    "wrong map": (2, ["-m", "m.onnx", "-i", "in.jsonl", "-o", "out.jsonl", "--map", "pixels=pxls"],
                  ["pxls"]),
    "wrong map input": (2, ["-m", "m.onnx", "-i", "in.jsonl", "-o", "out.jsonl", "--map",
                            "image=pixels"], ["image", "pixels"]),
    "unknown provider": (3, ["-m", "m.onnx", "-i", "in.jsonl", "-o", "out.jsonl", "--provider",
                             "cuda"], ["cuda"]),
    "unknown output": (3, ["-m", "m.onnx", "-i", "in.jsonl", "-o", "out.jsonl", "--output-name",
                           "probs"], ["probs", "logits"]),
    "library is missing": (3, ["-m", "m.onnx", "-i", "in.jsonl", "-o", "out.jsonl",
                               "--onnxruntime", "nowhere.so"], ["nowhere.so"]),
    "labels without argmax": (2, ["-m", "m.onnx", "-i", "in.jsonl", "-o", "out.jsonl", "--labels",
                                  "in.jsonl"], ["labels"]),
}


@pytest.mark.parametrize("name", CASES)
def test_wrong_request(folder, name):
    status, arguments, says = CASES[name]
    fails(folder, status, *arguments, says=says)


@pytest.mark.parametrize("content, says", [
    (b"this is no model", ["bad.onnx"]),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", ["bad.onnx"]),
    (b"", ["bad.onnx"]),
    ("truncated", ["bad.onnx"]),
    ("flipped", ["bad.onnx"]),
])
def test_model_that_is_none(folder, content, says):
    model = (folder / "m.onnx").read_bytes()
    if content == "truncated":
        content = model[: len(model) // 2]
    if content == "flipped":
        content = bytes(255 - b for b in model[:200]) + model[200:]
    (folder / "bad.onnx").write_bytes(content)
    fails(folder, 3, "-m", "bad.onnx", "-i", "in.jsonl", "-o", "out.jsonl", says=says)


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.exists("/usr/bin/setpriv"), reason="root")
def test_no_permission(folder):
    """As root nothing is forbidden, so the command runs as nobody."""
    import subprocess
    from conftest import TIDEMILL
    os.chmod(folder, 0o777)
    os.chmod(folder / "in.jsonl", 0)
    drop = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    for parent in folder.parents:
        if str(parent).startswith("/tmp/"):
            os.chmod(parent, 0o755)
    result = subprocess.run([*drop, TIDEMILL, "run", "-m", "echo", "-i", "in.jsonl", "-o",
                             "out.jsonl"], cwd=folder, capture_output=True, text=True)
    if "setpriv" in result.stderr or result.returncode in (126, 127):
        pytest.skip("the build is not readable for others")
    assert result.returncode == 2
    assert "in.jsonl" in result.stderr and "ermission" in result.stderr


def test_output_that_is_not_ours_is_kept(folder):
    (folder / "out.jsonl").write_text("precious\n")
    result = run("run", "-m", "m.onnx", "-i", "in.jsonl", "-o", "out.jsonl", cwd=folder, check=2)
    assert "--force" in result.err and (folder / "out.jsonl").read_text() == "precious\n"


@pytest.mark.parametrize("text, line, says", [
    ("model: m.onnx\nbatsh: 3\n", 2, "batch"),
    ("model: m.onnx\nmodel: b.onnx\n", 2, "twice"),
    ("batch: [1, 2]\n", 1, "list"),
    ("input: {a: b}\n", 1, ""),
    ("- model\n", 1, "mapping"),
    ("model: 'x\n", 1, "YAML"),
    ("model: m.onnx\ntimeout: soon\n", 2, "soon"),
])
def test_job_file_errors_have_their_line(folder, text, line, says):
    (folder / "job.yaml").write_text(text)
    result = run("run", "job.yaml", cwd=folder, check=2)
    assert f"job.yaml:{line}" in result.err or line == 1 and "job.yaml:" in result.err
    assert says in result.err


def test_unknown_command():
    assert "--help" in run("runn", check=2).err


def test_help_and_version():
    assert "run" in run("--help", check=0).out
    text = run("run", "--help", check=0).out
    for option in "--model", "--batch", "--retry-errors", "--max-errors", "Exit status":
        assert option in text
    assert run("--version", check=0).out.startswith("tidemill ")
    assert "c6i.large" in run("prices", check=0).out


def test_inspect(digits, models):
    text = run("inspect", digits[0], check=0).out
    for words in "pixels", "float32 [batch, 64]", "logits", "--map pixels=", "sample record":
        assert words in text
    text = run("inspect", models / "two_in_two_out.onnx", check=0).out
    assert "int64 [batch, 2]" in text
    assert "none.onnx" in run("inspect", "none.onnx", check=3).err


def test_inspect_says_json_where_it_is():
    text = run("inspect", "echo:json=1", check=0).out
    assert "record               JSON" in text and "float" not in text and "string" not in text
    assert "--map record=FIELD" in text
    sample = text.split("sample record: ")[1]
    assert "record" in json.loads(sample)
    text = run("inspect", "http://127.0.0.1:9/v1/embeddings", check=0).out # nobody is asked
    assert 'sample record: {"id":1,"body":{"input":"a text"}}' in text
