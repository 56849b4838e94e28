# SPDX-License-Identifier: Apache-2.0
"""tidemill bench: the table, the plot, JSON, SVG, and what it refuses."""

import json
import os
import xml.etree.ElementTree as ElementTree

import pytest

from conftest import ROOT, run, write_jsonl

DIGITS = ROOT / "examples/digits/digits.onnx"
QUICK = ("--seconds", "0.01")


def measure(*arguments):
    return json.loads(run("bench", *arguments, *QUICK, "--json", check=0).out)


def test_all_ways_and_sizes_are_measured():
    found = measure(DIGITS, "--batch-sizes", "1,8,64")
    cores = found["cores"]
    assert cores == len(os.sched_getaffinity(0)) and found["random_records"]
    assert not found["lengths_vary"]
    ways = [(c["instances"], c["threads"]) for c in found["curves"]]
    assert ways[0] == (cores, 1) and ways[-1] == (1, cores)
    for curve in found["curves"]:
        assert [p["batch"] for p in curve["points"]] == [1, 8, 64]
        assert all(p["rows_per_s"] > 0 for p in curve["points"])
    chosen = [p for c in found["curves"] for p in c["points"] if p["chosen"]]
    best = max(p["rows_per_s"] for c in found["curves"] for p in c["points"])
    assert len(chosen) == 1 and chosen[0]["rows_per_s"] >= 0.99 * best


def test_one_way_only():
    found = measure(DIGITS, "--batch-sizes", "4", "--instances", "1", "--threads", "2")
    assert [(c["instances"], c["threads"]) for c in found["curves"]] == [(1, 2)]


def test_lengths_are_curves_of_their_own(models):
    found = measure(models / "masked_mean.onnx", "--batch-sizes", "1,4", "--lengths", "5,50")
    assert found["lengths_vary"] and {c["length"] for c in found["curves"]} == {5, 50}
    point = found["curves"][-1]["points"][0]
    assert point["tokens_per_s"] == pytest.approx(50 * point["rows_per_s"], rel=1e-4)


def test_records_that_are_given(tmp_path, models):
    data = write_jsonl(tmp_path / "in.jsonl", [
        {"input_ids": [1] * n, "attention_mask": [1] * n} for n in [3] * 200 + [40] * 100])
    found = measure(models / "masked_mean.onnx", "--input", data, "--batch-sizes", "1,2")
    assert not found["random_records"] and {c["length"] for c in found["curves"]} == {3, 40}


@pytest.mark.parametrize("name, batch", [("fixed_batch", 8), ("identity_string", 2),
                                         ("identity_bool", 2), ("scalar_per_row", 2),
                                         ("image_rank4", 2), ("two_in_two_out", 2)])
def test_random_records_fit_models(models, name, batch):
    found = measure(models / f"{name}.onnx", "--batch-sizes", "2", "--lengths", "4",
                    "--instances", "1")
    assert found["curves"][0]["points"][0]["batch"] == batch
    assert found["curves"][0]["points"][0]["rows_per_s"] > 0


def test_table_and_plot_for_a_terminal_that_has_only_ascii():
    env = {"LC_ALL": "C", "COLUMNS": "80"}
    result = run("bench", DIGITS, "--batch-sizes", "1,2,4,8", *QUICK, check=0, env=env)
    assert "rows/s, instances x threads" in result.out and "* chosen: " in result.out
    assert "the records are random numbers" in result.out
    assert "batch\n" in result.out and result.out.isascii() and "\x1b" not in result.out
    assert max(map(len, result.out.splitlines()[1:])) <= 80
    env = {"LC_ALL": "C.UTF-8"}
    result = run("bench", DIGITS, "--batch-sizes", "1,2", *QUICK, check=0, env=env)
    assert "●" in result.out


def test_svg_is_well_formed_and_shows_every_curve(tmp_path, models):
    picture = tmp_path / "a.svg"
    run("bench", models / "masked_mean.onnx", "--batch-sizes", "1,2,4", "--lengths", "4,8", *QUICK,
        "--plot", picture, check=0)
    root = ElementTree.parse(picture).getroot()
    texts = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
    lines = list(root.iter("{http://www.w3.org/2000/svg}polyline"))
    assert "rows/s" in texts and "records in a call" in texts and "records of length 8" in texts
    assert len(lines) == 2 * len({t for t in texts if t and " thread" in t})
    for line in lines:
        assert len(line.get("points").split()) == 3


@pytest.mark.parametrize("arguments, part", [
    ((), "name a model"),
    ((DIGITS, "--batch-sizes", "1,x"), "--batch-sizes wants whole numbers"),
    ((DIGITS, "--batch-sizes", "4,2"), "growing numbers"),
    ((DIGITS, "--batch-sizes", "0"), "--batch-sizes wants whole numbers"),
    ((DIGITS, "--batch-sizes"), "--batch-sizes wants a value"),
    ((DIGITS, "--seconds", "never"), "--seconds wants a number"),
    ((DIGITS, "--lengths", "4", "--input", "x.jsonl"), "--lengths is for random records"),
    ((DIGITS, "--plots", "x"), "unknown option"),
])
def test_requests_that_are_wrong(arguments, part):
    assert part in run("bench", *arguments, check=2).err


def test_records_that_do_not_fit(tmp_path):
    data = write_jsonl(tmp_path / "in.jsonl", [{"x": [1, 2]}] * 3)
    result = run("bench", DIGITS, "--input", data)
    assert result.returncode in (2, 3) and "no record fits the model" in result.err
    empty = write_jsonl(tmp_path / "empty.jsonl", [])
    assert run("bench", DIGITS, "--input", empty).returncode in (2, 3)


def test_requests_in_json_are_not_made_up(tmp_path):
    assert "give some with --input" in run("bench", "echo:json=1", *QUICK, check=2).err
    data = write_jsonl(tmp_path / "in.jsonl", [{"prompt": "x" * i} for i in range(300)])
    found = measure("echo:json=1", "--input", data, "--batch-sizes", "1,8")
    assert [p["batch"] for p in found["curves"][0]["points"]] == [1, 8]


@pytest.mark.parametrize("model", ["http://127.0.0.1:9/v1", "some.gguf"])
def test_what_tunes_itself_is_not_compared(model):
    assert "time it with tidemill run" in run("bench", model, *QUICK, check=2).err
