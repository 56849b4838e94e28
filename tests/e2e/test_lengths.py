# SPDX-License-Identifier: Apache-2.0
"""Records of different lengths share calls: padded, masked, and nobody sees it in the output."""

import json
import random

import pytest
from conftest import commits, read_jsonl, run, start, write_jsonl


def tokens(n, seed=3, longest=40):
    dice = random.Random(seed)
    records = []
    for i in range(n):
        ids = [dice.randrange(1, 9) for _ in range(dice.randint(1, longest))]
        records.append({"id": i, "input_ids": ids, "attention_mask": [1] * len(ids)})
    return records


def answers(folder, model, *more, name="out.jsonl", check=0):
    run("run", "-q", "-m", model, "-i", folder / "in.jsonl", "-o", folder / name, "--force",
        "--dedup", "off", "--summary", folder / "summary.json", *more, check=check)
    return read_jsonl(folder / name)


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


@pytest.mark.parametrize("limits", [[], ["--max-tokens", 64], ["--max-tokens", 1],
                                    ["--batch", 7], ["--max-tokens", 500, "--batch", 9]])
def test_padding_is_cut_off_every_output(models, tmp_path, limits):
    records = tokens(700)
    write_jsonl(tmp_path / "in.jsonl", records)
    for record, answer in zip(records, answers(tmp_path, models / "token_outputs.onnx", *limits)):
        ids = record["input_ids"]
        assert answer["id"] == record["id"]
        assert answer["hidden"] == [[i, 2 * i] for i in ids]
        assert answer["pairs"] == [[[i * k for k in ids] for i in ids]] * 2
        assert answer["sum"] == sum(ids)


def test_calls_are_filled_with_rows_of_like_length(models, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", tokens(4000))
    answers(tmp_path, models / "token_outputs.onnx", "--max-tokens", 512, "--output-name", "sum")
    told = summary(tmp_path)
    assert told["run_rows"] == 4000
    assert told["tokens"] == sum(len(r["input_ids"]) for r in tokens(4000))
    assert told["tokens"] <= told["padded_tokens"] < 1.05 * told["tokens"]


def test_same_bytes_with_and_without_grouping(models, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", tokens(500))
    model = models / "token_outputs.onnx"
    answers(tmp_path, model, "--batch", 1, name="single.jsonl")
    answers(tmp_path, model, name="grouped.jsonl")
    assert (tmp_path / "single.jsonl").read_bytes() == (tmp_path / "grouped.jsonl").read_bytes()


def test_any_input_can_be_padded_on_request(models, tmp_path):
    dice = random.Random(5)
    records = []
    for i in range(300):
        n = dice.randint(1, 30)
        records.append({"id": i, "x": [[dice.randrange(5) for _ in range(n)] for _ in range(3)]})
    write_jsonl(tmp_path / "in.jsonl", records)
    model = models / "frames.onnx"
    for more, is_padded in ([], False), (["--pad", "x=0"], True):
        found = answers(tmp_path, model, "--max-tokens", 100, *more)
        assert [a["total"] for a in found] == [sum(map(sum, r["x"])) for r in records]
        assert (summary(tmp_path)["padded_tokens"] > 0) == is_padded
    found = answers(tmp_path, model, "--max-tokens", 100, "--pad", "x=1")
    assert [a["total"] for a in found] != [sum(map(sum, r["x"])) for r in records]


@pytest.mark.parametrize("pad, message", [
    ("x", "not INPUT=VALUE"),
    ("x=", "not INPUT=VALUE"),
    ("x=a", "'a' is no number"),
    ("y=0", "no such input"),
])
def test_wrong_padding_is_named(models, tmp_path, pad, message):
    write_jsonl(tmp_path / "in.jsonl", [{"x": [[1], [2], [3]]}])
    result = run("run", "-m", models / "frames.onnx", "-i", tmp_path / "in.jsonl", "-o",
                 tmp_path / "out.jsonl", "--pad", pad, check=2)
    assert f"--pad {pad}" in result.err and message in result.err
    assert not (tmp_path / "out.jsonl").exists()


def test_what_does_not_vary_cannot_be_padded(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"x": [1, 2]}])
    result = run("run", "-m", "echo:width=2", "-i", tmp_path / "in.jsonl", "-o",
                 tmp_path / "out.jsonl", "--pad", "x=0", check=2)
    assert "not just one dimension that varies" in result.err


def test_a_bad_record_costs_one_record(models, tmp_path):
    records = tokens(200)
    records[50]["attention_mask"] = [1] * 100 # of another length than its ids: the model refuses it
    records[60]["input_ids"] = "text"
    records[70] = {"id": 70}
    write_jsonl(tmp_path / "in.jsonl", records)
    found = answers(tmp_path, models / "token_outputs.onnx", "--output-name", "sum", check=1)
    assert [a["id"] for a in found] == [i for i in range(200) if i not in (50, 60, 70)]
    assert all(a["sum"] == sum(records[a["id"]]["input_ids"]) for a in found)


def test_a_kill_does_not_change_the_groups(models, tmp_path):
    """Measured budgets are kept in the journal and used again."""
    write_jsonl(tmp_path / "in.jsonl", tokens(30000, longest=60))
    command = ["run", "-q", "-m", models / "token_outputs.onnx", "-i", tmp_path / "in.jsonl", "-o",
               tmp_path / "out.jsonl", "--output-name", "hidden", "--checkpoint-every", "10ms"]
    killed = start(*command)
    while not commits(tmp_path / "out.jsonl.journal") and killed.poll() is None:
        pass
    killed.kill()
    killed.wait()
    killed.stderr.close()
    plans = lambda: [line for line in (tmp_path / "out.jsonl.journal").read_text().splitlines()
                     if '"type":"plan"' in line]
    before = plans()
    run(*command, check=0)
    assert plans() == before and len(before) == 1
    assert len(read_jsonl(tmp_path / "out.jsonl")) == 30000
