# SPDX-License-Identifier: Apache-2.0
"""--dry-run says what the job would do, and leaves no trace."""

import json

import pytest
from conftest import run, write_jsonl
from upstream import Upstream


def forecast(folder, model, *more):
    before = sorted(p.name for p in folder.iterdir())
    result = run("run", "-m", model, "-i", folder / "in.jsonl", "-o", folder / "out.jsonl",
                 "--dry-run", "--log-format", "json", *more, check=0)
    assert sorted(p.name for p in folder.iterdir()) == before
    return json.loads(result.out)


def test_it_counts_what_the_job_then_does(models, tmp_path):
    records = []
    for i in range(9000):
        ids = [1 + i % 7] * (1 + i % 31)
        records.append({"id": i, "input_ids": ids, "attention_mask": [1] * len(ids)})
    records[17] = "{broken"
    write_jsonl(tmp_path / "in.jsonl", records)
    model = models / "token_outputs.onnx"
    options = ["--dedup", "on", "--max-tokens", 256]
    told = forecast(tmp_path, model, *options)
    run("run", "-q", "-m", model, "-i", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl",
        "--summary", tmp_path / "summary.json", *options, check=1)
    summary = json.loads((tmp_path / "summary.json").read_text())
    for key in "records", "errors", "reused", "cached", "run_rows", "tokens", "padded_tokens":
        assert told[key] == summary[key], key
    assert told["reused"] == 9000 - 1 - 7 * 31 and told["calls"] > 0 and told["wall_s"] > 0


def test_it_knows_the_cache(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "x": [i, 1]} for i in range(500)])
    cache = ["--cache", tmp_path / "cache"]
    assert forecast(tmp_path, "echo:width=2", *cache)["cached"] == 0 # and does not make one
    run("run", "-q", "-m", "echo:width=2", "-i", tmp_path / "in.jsonl", "-o",
        tmp_path / "other.jsonl", *cache, check=0)
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "x": [i, 1]} for i in range(600)])
    told = forecast(tmp_path, "echo:width=2", *cache)
    assert told["cached"] == 500 and told["run_rows"] == 100


def test_it_forecasts_time_and_cost(tmp_path):
    """200 calls of 10 ms by one model process: two seconds."""
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "x": [i, 1]} for i in range(1600)])
    told = forecast(tmp_path, "echo:width=2,latency_us=10000", "--batch", 8, "--instances", 1,
                    "--price", "3.6", "--dedup", "off")
    assert told["calls"] == 200
    assert told["model_s"] == pytest.approx(2, rel=0.5)
    assert told["cost_usd"] == pytest.approx(told["wall_s"] / 1000, rel=1e-3)


def test_the_text_is_for_people(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "x": [i, 1]} for i in range(10)])
    result = run("run", "-m", "echo:width=2", "-i", tmp_path / "in.jsonl", "-o",
                 tmp_path / "out.jsonl", "--dry-run", check=0)
    assert "records      10 (0 cannot be read)" in result.out
    assert "to run       10 records" in result.out


def test_with_retry_errors_it_is_refused(tmp_path):
    result = run("run", "-m", "echo", "-i", "x", "-o", tmp_path / "out.jsonl", "--dry-run",
                 "--retry-errors", check=2)
    assert "--dry-run" in result.err


def test_no_server_is_asked_for_anything(tmp_path):
    """Requests cost money: so their time is not known, and of their tokens only what is sent, about."""
    write_jsonl(tmp_path / "in.jsonl", [
        {"id": i, "body": {"messages": [{"role": "user", "content": f"{i % 30:0100}"}],
                           "temperature": 0}} for i in range(90)])
    with Upstream() as server:
        model = server.url + "/v1/chat/completions"
        told = forecast(tmp_path, model, "--price-in", 2, "--price-out", 8)
        text = run("run", "-m", model, "-i", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl",
                   "--dry-run", "--price-in", 2, "--price-out", 8, check=0).out
        assert server.requests == []
    assert told["reused"] == 60 and told["run_rows"] == told["calls"] == 30
    assert told["wall_s"] is None and told["model_s"] is None
    assert told["cost_usd"] == pytest.approx(told["tokens_in"] * 2e-6, rel=1e-6)
    assert "time         not known" in text and "at least about" in text
