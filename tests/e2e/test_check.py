# SPDX-License-Identifier: Apache-2.0
"""tidemill check: the configuration of the server, read as a user would have it read."""

import re

import pytest
from conftest import ROOT, run

DIGITS = ROOT / "examples/digits/digits.onnx"


def test_one_line(tmp_path):
    (tmp_path / "tidemill.yaml").write_text(f"models: {{digits: {{model: {DIGITS}}}}}")
    out = run("check", cwd=tmp_path, check=0).out
    assert out.startswith("tidemill.yaml: 1 model, 1 queue\n")
    assert "listens at  http://127.0.0.1:8080" in out
    assert "queue digits\n  model       digits\n  closes      every 5m\n" in out
    closings = re.search(r"next +(.*)\n", out).group(1).split(", ")
    assert len(closings) == 3 and all(re.fullmatch(r"\w{3} \d{4}-\d\d-\d\d \d\d:\d[05] UTC", c)
                                      for c in closings), out


def test_it_changes_nothing(tmp_path):
    (tmp_path / "t.yaml").write_text("models: {a: {model: echo}}\ndata: state\n")
    run("check", "t.yaml", cwd=tmp_path, check=0)
    assert [p.name for p in tmp_path.iterdir()] == ["t.yaml"]


@pytest.mark.parametrize("text, message", [
    ("models: {a: {model: echo}}\nqueues:\n  a:\n    window: {evry: 5m}\n",
     "tidemill: error: t.yaml:4: unknown key 'evry'; did you mean 'every'?\n"),
    ("models: {a: {model: no.onnx}}\n", "tidemill: error: t.yaml:1: model: no.onnx is not there\n"),
    ("models: {a: {model: echo}}\nqueues: {a: {time_zone: Mars/Base}}\n",
     "tidemill: error: t.yaml:2: time_zone: 'Mars/Base' is no time zone such as Europe/Berlin\n"),
    ("models: [\n", None),
])
def test_mistakes(tmp_path, text, message):
    (tmp_path / "t.yaml").write_text(text)
    result = run("check", "t.yaml", cwd=tmp_path, check=2)
    assert result.out == ""
    if message is not None:
        assert result.err == message


def test_what_it_is_asked(tmp_path):
    assert "tidemill.yaml is not there" in run("check", cwd=tmp_path, check=2).err
    assert "one file at a time" in run("check", "a", "b", cwd=tmp_path, check=2).err
    assert "unknown option '--json'" in run("check", "--json", cwd=tmp_path, check=2).err
    assert "Usage: tidemill check" in run("check", "--help", cwd=tmp_path, check=0).out
    (tmp_path / "folder").mkdir()
    run("check", "folder", cwd=tmp_path, check=3)


def test_output_that_cannot_be_written(tmp_path):
    (tmp_path / "tidemill.yaml").write_text("models: {a: {model: echo}}")
    with open("/dev/full", "w") as full:
        import subprocess
        from conftest import TIDEMILL
        result = subprocess.run([TIDEMILL, "check"], cwd=tmp_path, stdout=full,
                                stderr=subprocess.PIPE)
    assert result.returncode == 3, result.stderr


def test_zones_of_this_machine(tmp_path):
    """Real files of zones: a summer night and a winter night, in local time."""
    (tmp_path / "t.yaml").write_text(
        "models: {a: {model: echo}}\nqueues:\n"
        "  berlin: {model: a, window: {at: 0 22 * * *}, time_zone: Europe/Berlin}\n"
        "  kolkata: {model: a, window: {at: 0 22 * * *}, time_zone: Asia/Kolkata}\n")
    out = run("check", "t.yaml", cwd=tmp_path, check=0).out
    assert re.search(r"queue berlin\n(.*\n){2}  next +\w+ [\d-]+ 22:00 \+0[12]:00", out), out
    assert re.search(r"queue kolkata\n(.*\n){2}  next +\w+ [\d-]+ 22:00 \+05:30", out), out


def test_the_example():
    out = run("check", ROOT / "examples/serve/tidemill.yaml", check=0).out
    assert out.count("\nmodel ") >= 2 and out.count("\nqueue ") >= 2


def test_the_schema_is_that_of_the_table():
    page = (ROOT / "docs/serve-config.md").read_text()
    tables = run("docs", "config", check=0).out
    begin = page.index("### Keys of the file itself")
    assert page[begin:] == tables, "made by: tidemill docs config"
    for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL):
        assert "models" in block or "queues" in block


def test_the_schemas_examples_are_taken(tmp_path):
    """Each example of the page is a configuration, once there is the model that it names."""
    page = (ROOT / "docs/serve-config.md").read_text()
    (tmp_path / "digits.onnx").write_bytes(b"")
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        if "models" not in block:
            block += "models: {digits: {model: digits.onnx}}\n"
        (tmp_path / "tidemill.yaml").write_text(block)
        run("check", cwd=tmp_path, check=0)


# --- completions ------------------------------------------------------------------------------------


def commands():
    return re.findall(r"^  (\w+) ", run("--help", check=0).out, re.MULTILINE)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completions_know_all_commands(shell):
    text = run("docs", shell, check=0).out
    for command in commands():
        assert re.search(rf"\b{command}\b", text), command


def test_completions_know_the_options_that_help_tells():
    bash = run("docs", "bash", check=0).out
    for command in ("serve", "check", "key", "submit", "status", "results", "get", "cancel", "ls"):
        told = set(re.findall(r"^ +(?:-h, )?(--[\w-]+)", run(command, "--help", check=0).out, re.MULTILINE))
        known = set(re.search(rf"{command},-\*\).*?-W '(.*?)'", bash).group(1).split())
        assert told == known, command
