# SPDX-License-Identifier: Apache-2.0
"""Tokens are counted, survive kills, and are billed once."""

import json
import signal
import time

import pytest
from conftest import commits, run, start, write_jsonl

PRICES = ["--price-in", "2.5", "--price-out", "10"]


def chat(i, words):
    """Four words besides: id, messages, role, content; and the number, the role, the id."""
    return {"id": i, "messages": [{"role": "user", "content": "word " * words}]}


def words_of(records):
    return sum(len("".join(c if c.isalnum() else " " for c in json.dumps(r)).split())
               for r in records)


def job(folder, records, *more, model="echo:json=1,usage=1", check=0):
    write_jsonl(folder / "in.jsonl", records)
    told = run("run", "-m", model, "-i", folder / "in.jsonl", "-o", folder / "out.jsonl", "--force",
               "--summary", folder / "summary.json", "--tune", "off", *more, check=check)
    return json.loads((folder / "summary.json").read_text()), told.err


def test_every_call_is_counted_and_billed(tmp_path):
    records = [chat(i, i % 20) for i in range(3000)]
    told, text = job(tmp_path, records, "--dedup", "off", "--price", "3.6", *PRICES)
    n = words_of(records)
    assert (told["tokens_in"], told["tokens_out"]) == (n, n)
    assert 0 < told["tokens_cached"] < n
    assert told["cost_tokens_usd"] == pytest.approx(n * 12.5e-6, rel=1e-6)
    assert told["cost_machine_usd"] == pytest.approx(told["wall_s"] / 1000, abs=1e-6)
    assert told["cost_usd"] == pytest.approx(told["cost_tokens_usd"] + told["cost_machine_usd"])
    assert told["cost_usd_per_million"] == pytest.approx(told["cost_usd"] / 3000 * 1e6, rel=1e-6)
    assert f"tokens       {n:,} in (" in text and f"cached), {n:,} out" in text
    assert "(machine " in text and " + tokens " in text


def test_without_prices_there_is_no_cost(tmp_path):
    told, text = job(tmp_path, [chat(1, 3)])
    assert "cost_usd" not in told and told["tokens_in"] > 0
    assert "give --price-in and --price-out" in text
    told, text = job(tmp_path, [chat(1, 3)], model="echo:json=1")
    assert told["tokens_in"] == told["tokens_out"] == 0
    assert "tokens  " not in text


def test_equal_records_are_paid_once(tmp_path):
    """A quarter of the records is new; the others would have cost what these did."""
    records = [{"id": i, "input": f"text {i % 500:04}"} for i in range(2000)]
    told, text = job(tmp_path, [{"x": json.dumps(r["input"]), **r} for r in records], "--map",
                     "record=input", "--dedup", "on", *PRICES)
    assert told["reused"] == 1500
    assert told["tokens_in"] == 500 * 2
    assert told["saved_usd"] == pytest.approx(3 * told["cost_tokens_usd"])
    assert "saved        1,500 answers, about " in text
    cache = ["--cache", tmp_path / "cache", "--map", "record=input", *PRICES]
    job(tmp_path, records, *cache)
    told, _ = job(tmp_path, records, *cache)
    assert told["cached"] + told["reused"] == 2000 and told["tokens_in"] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_tokens_survive_the_end_of_a_run(tmp_path, number):
    """No bill is too low. After a checkpoint nothing is paid twice, as answers are kept."""
    records = [chat(i, i % 5) for i in range(4000)]
    write_jsonl(tmp_path / "in.jsonl", records)
    journal = tmp_path / "out.jsonl.journal"
    command = ["run", "-q", "-m", "echo:json=1,usage=1,row_latency_us=300", "-i",
               tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", "--dedup", "on", "--tune", "off",
               "--instances", 1, "--checkpoint-every", "20ms", "-b", 1 if number == 9 else 8,
               "--summary", tmp_path / "summary.json"]
    process = start(*command)
    while not commits(journal) or commits(journal)[-1]["tokens"][0] < 3000:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    process.stderr.close()
    assert process.wait() in (75, -9)
    first = commits(journal)[-1]["tokens"]
    run(*command, check=0)
    told = json.loads((tmp_path / "summary.json").read_text())
    n = words_of(records)
    assert told["resumed"] and 3000 <= first[0] < n
    if number == signal.SIGTERM:
        assert (told["tokens_in"], told["tokens_out"]) == (n, n)
    else: # what was answered between the last commit and the kill is kept, and its bill may be lost
        assert first[0] <= told["tokens_in"] and n / 2 < told["tokens_in"] < 2 * n


def test_a_retry_adds_to_the_bill(tmp_path):
    records = [{"id": i, "input": f"text {i}"} for i in range(20)] + [{"id": 20}]
    told, _ = job(tmp_path, records, "--map", "record=input", check=1)
    assert told["tokens_in"] == 40
    errors = tmp_path / "out.jsonl.errors.jsonl"
    line = json.loads(errors.read_text())
    line["record"]["input"] = "three more words"
    errors.write_text(json.dumps(line) + "\n")
    run("run", "-q", "-m", "echo:json=1,usage=1", "-o", tmp_path / "out.jsonl", "--tune", "off",
        "--map", "record=input", "--retry-errors", "--summary", tmp_path / "retry.json", check=0)
    assert json.loads((tmp_path / "retry.json").read_text())["tokens_in"] == 3
    tokens_in, _, tokens_out = commits(tmp_path / "out.jsonl.journal")[-1]["tokens"]
    assert (tokens_in, tokens_out) == (43, 43)


def test_a_forecast_guesses_by_the_bytes(tmp_path):
    records = [{"id": i, "input": "x" * 398} for i in range(100)]
    write_jsonl(tmp_path / "in.jsonl", records)
    result = run("run", "-m", "echo:json=1", "-i", tmp_path / "in.jsonl", "-o",
                 tmp_path / "out.jsonl", "--map", "record=input", "--dry-run", "--dedup", "off",
                 "--log-format", "json", *PRICES, check=0)
    told = json.loads(result.out)
    assert told["tokens_in"] == pytest.approx(100 * 400 / 4, rel=0.02)
    assert told["cost_usd"] == pytest.approx(told["tokens_in"] * 2.5e-6, rel=1e-6)
