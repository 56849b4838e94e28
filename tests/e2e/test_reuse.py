# SPDX-License-Identifier: Apache-2.0
"""Equal inputs run once, whatever is killed; records of different lengths share calls."""

import json
import os
import random
import time

import pytest
from conftest import ROOT, commits, leftovers, read_jsonl, run, start, write_jsonl


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def job(folder, model, records, *more, check=0):
    """Runs a job in the folder; returns its answers and its summary."""
    write_jsonl(folder / "in.jsonl", records)
    run("run", "-q", "-m", model, "-i", folder / "in.jsonl", "-o", folder / "out.jsonl", "--force",
        "--summary", folder / "summary.json", *more, check=check)
    return read_jsonl(folder / "out.jsonl"), summary(folder)


# --- equal inputs

def test_each_record_keeps_its_own_id_and_fields(tmp_path):
    records = [{"id": f"r{i}", "x": [i % 7, 1], "group": i % 3} for i in range(5000)]
    answers, told = job(tmp_path, "echo:width=2", records, "--dedup", "on", "--keep", "group")
    assert [a["id"] for a in answers] == [r["id"] for r in records]
    assert [a["group"] for a in answers] == [r["group"] for r in records]
    assert [a["y"] for a in answers] == [r["x"] for r in records]
    assert told["reused"] == 5000 - 7 and told["run_rows"] == 7


@pytest.mark.parametrize("ending", ["csv", "npy", "jsonl.gz"])
def test_bytes_are_those_of_a_job_that_runs_every_record(tmp_path, ending):
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "x": [i % 50, 0.1]} for i in range(3000)])
    for dedup in "on", "off":
        run("run", "-q", "-m", "echo:width=2", "-i", tmp_path / "in.jsonl", "-o",
            tmp_path / f"{dedup}.{ending}", "--dedup", dedup, check=0)
    assert (tmp_path / f"on.{ending}").read_bytes() == (tmp_path / f"off.{ending}").read_bytes()


def test_a_failed_record_fails_those_with_its_input(tmp_path):
    records = [{"id": i, "x": [-1 if i % 10 == 3 else 1, i % 4]} for i in range(400)]
    model = "echo:width=2,error_on=-1"
    _, told = job(tmp_path, model, records, "--dedup", "on", check=1)
    failures = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert [f["id"] for f in failures] == [i for i in range(400) if i % 10 == 3]
    assert len({f["message"] for f in failures}) == 1
    assert told["errors"] == 40


def test_no_more_inputs_are_remembered_than_memory_allows(tmp_path):
    """The smallest index holds 3,072 inputs; later ones run however often they come."""
    records = [{"id": i, "x": [i % 6000, 2]} for i in range(12000)]
    answers, told = job(tmp_path, "echo:width=2", records, "--dedup", "on", "--dedup-memory", "64KiB")
    assert [a["y"] for a in answers] == [r["x"] for r in records]
    assert told["reused"] == 3072


def test_dedup_off_runs_every_record(tmp_path):
    _, told = job(tmp_path, "echo:width=2", [{"id": i, "x": [1, 1]} for i in range(500)],
                  "--dedup", "off")
    assert told["reused"] == 0 and told["run_rows"] == 500


def test_auto_looks_for_equal_inputs_where_the_model_is_slow(tmp_path):
    records = [{"id": i, "x": [i % 20, 1]} for i in range(400)]
    for latency, expected in (200, 380), (0, 0):
        model = f"echo:width=2,row_latency_us={latency}"
        _, told = job(tmp_path, model, records)
        assert told["reused"] == expected, latency


def test_standard_output_too(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "x": [i % 5, 1]} for i in range(3000)])
    result = run("run", "-q", "-m", "echo:width=2", "-i", tmp_path / "in.jsonl", "-o", "-",
                 "--dedup", "on", check=0)
    assert [json.loads(line)["y"][0] for line in result.out.splitlines()] == \
        [i % 5 for i in range(3000)]


def kill_after_a_commit(command, journal, dice):
    """Runs the job until it has committed something more, and a little longer. True if it was hit."""
    before = len(commits(journal))
    job_process = start(*command)
    while len(commits(journal)) <= before and job_process.poll() is None:
        time.sleep(0.005)
    time.sleep(dice.uniform(0, 0.15))
    job_process.kill()
    job_process.stderr.close()
    return job_process.wait() < 0


def tear(path, dice):
    """What a kill may leave of an append: all but its end."""
    if path.exists():
        os.truncate(path, max(path.stat().st_size - dice.randrange(400), 0))


# --- kills: a model whose answers depend on what else is in the call tells how records were grouped

@pytest.mark.parametrize("case", ["equal inputs", "torn answers", "cache"])
def test_kills_do_not_change_what_runs_together(models, tmp_path, case):
    """Sorted by length, written in the input's order: a microbatch is seldom written as a whole.

    A fifth of the inputs came before, unless answers are torn off: that may hit some that were synced,
    as no kill does, and those only their own records may miss. With long intervals the cache is ahead
    of the commits.
    """
    dice = random.Random(int(os.environ.get("TIDEMILL_KILL_SEED", "7")))
    inputs = [[dice.randrange(1000) for _ in range(dice.randint(3, 40))] for _ in range(40000)]
    write_jsonl(tmp_path / "in.jsonl",
                [{"id": i, "input_ids": x if i % 5 or case == "torn answers"
                  else dice.choice(inputs[:i + 1])} for i, x in enumerate(inputs)])

    def command(name):
        more = ["--checkpoint-every", "10ms"]
        if case == "cache":
            more = ["--checkpoint-every", "5s", "--cache", tmp_path / f"{name}.cache"]
        return ["run", "-q", "-m", models / "token_neighbours.onnx", "-i", tmp_path / "in.jsonl",
                "--max-tokens", 100, "--dedup", "on", *more, "-o", tmp_path / f"{name}.jsonl"]
    run(*command("whole"), check=0)
    journal = tmp_path / "out.jsonl.journal"
    kills = 0
    for _ in range(8):
        kills += kill_after_a_commit(command("out"), journal, dice)
        if case == "torn answers":
            tear(tmp_path / "out.jsonl.answers", dice)
    run(*command("out"), check=0)
    assert kills > 0, "no kill hit"
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not leftovers(tmp_path)


def test_kills_of_a_job_over_text_with_a_cache(tmp_path):
    """Answers of this transformer differ in the last digit with what is in the call."""
    dice = random.Random(int(os.environ.get("TIDEMILL_KILL_SEED", "5")))
    words = (ROOT / "examples/packages/tokenizer.json").read_text().split('"')[31:4001:2]
    texts = [" ".join(dice.choices(words, k=dice.randint(1, 30))) for _ in range(9000)]
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "text": dice.choice(texts)} for i in range(15000)])
    command = ["run", "-q", "-m", ROOT / "examples/packages/packages.onnx", "-i",
               tmp_path / "in.jsonl", "--max-tokens", 256, "--checkpoint-every", "20ms"]
    run(*command, "-o", tmp_path / "whole.jsonl", "--cache", tmp_path / "one", check=0)
    killed = [*command, "-o", tmp_path / "out.jsonl", "--cache", tmp_path / "two"]
    kills = [kill_after_a_commit(killed, tmp_path / "out.jsonl.journal", dice) for _ in range(6)]
    run(*killed, check=0)
    assert any(kills), "no kill hit"
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_answers_that_were_not_written_out_are_not_computed_again(tmp_path):
    """The first record is among the shortest, so it runs late, and nothing is written before that."""
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "x": [i] * (1 + i // 10)} for i in range(300)])
    command = ["run", "-q", "-m", "echo:row_latency_us=5000", "--pad", "x=0", "-i",
               tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", "-b", 1, "--instances", 1,
               "--dedup", "on", "--checkpoint-every", "100ms", "--summary", tmp_path / "summary.json"]
    killed = start(*command)
    answers = tmp_path / "out.jsonl.answers"
    while killed.poll() is None and not (answers.exists() and answers.stat().st_size > 1000):
        time.sleep(0.01)
    assert killed.poll() is None, "it was done before anything was noted"
    killed.kill()
    killed.wait()
    killed.stderr.close()
    assert not commits(tmp_path / "out.jsonl.journal")
    run(*command, check=0)
    assert 100 < summary(tmp_path)["run_rows"] < 300 # noted as it went, not only at the end
    assert [a["y"] for a in read_jsonl(tmp_path / "out.jsonl")] == [[i] * (1 + i // 10) for i in range(300)]


def test_lost_answers_only_cost_time(tmp_path):
    records = [{"id": i, "x": [i % 100, 1]} for i in range(4000)]
    write_jsonl(tmp_path / "in.jsonl", records)
    command = ["run", "-q", "-m", "echo:width=2,row_latency_us=2000", "-i", tmp_path / "in.jsonl",
               "-o", tmp_path / "out.jsonl", "-b", 4, "--dedup", "on", "--checkpoint-every", "20ms"]
    killed = start(*command)
    while not commits(tmp_path / "out.jsonl.journal") and killed.poll() is None:
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    killed.stderr.close()
    if (tmp_path / "out.jsonl.answers").exists():
        (tmp_path / "out.jsonl.answers").write_bytes(b"not ours")
    run(*command, check=0)
    assert [a["y"][0] for a in read_jsonl(tmp_path / "out.jsonl")] == [i % 100 for i in range(4000)]


# --- the cache that jobs share

def night(folder, name, records, *more, check=0):
    write_jsonl(folder / f"{name}.in.jsonl", records)
    run("run", "-q", "-m", "echo:width=2", "-i", folder / f"{name}.in.jsonl", "-o",
        folder / f"{name}.jsonl", "--cache", folder / "cache", "--summary",
        folder / "summary.json", *more, check=check)
    return summary(folder)


def test_the_next_night_computes_what_changed(tmp_path):
    records = [{"id": i, "x": [i, 1]} for i in range(2000)]
    assert night(tmp_path, "monday", records)["cached"] == 0
    for i in range(0, 2000, 20):
        records[i]["x"] = [i, 2]
    told = night(tmp_path, "tuesday", records)
    assert told["cached"] == 1900 and told["run_rows"] == 100
    assert [a["y"] for a in read_jsonl(tmp_path / "tuesday.jsonl")] == [r["x"] for r in records]


def test_other_ids_and_fields_share_answers(tmp_path):
    night(tmp_path, "a", [{"id": i, "x": [i, 1]} for i in range(300)])
    told = night(tmp_path, "b", [{"key": f"k{i}", "x": [i, 1], "more": 1} for i in range(300)],
                 "--id", "key")
    assert told["cached"] == 300
    assert read_jsonl(tmp_path / "b.jsonl")[7] == {"id": "k7", "y": [7, 1]}


@pytest.mark.parametrize("more", [["--post", "softmax"], ["--output-format", "csv"],
                                  ["--nonfinite", "null"], ["--keep", "x"]])
def test_what_shapes_an_answer_keeps_them_apart(tmp_path, more):
    records = [{"id": i, "x": [i, 1]} for i in range(100)]
    night(tmp_path, "a", records)
    assert night(tmp_path, "b", records, *more)["cached"] == 0
    assert night(tmp_path, "c", records, *more)["cached"] == 100


def test_another_model_gets_nothing(tmp_path):
    records = [{"id": i, "x": [i, 1]} for i in range(100)]
    night(tmp_path, "a", records)
    assert night(tmp_path, "b", records, "-m", "echo:width=2,load_ms=1")["cached"] == 0


def test_failures_are_not_shared(tmp_path):
    records = [{"id": i, "x": [i, 1]} for i in range(100)]
    model = ["-m", "echo:width=2,error_on=5"]
    night(tmp_path, "a", records, *model, check=1)
    told = night(tmp_path, "b", records, *model, check=1)
    assert told["cached"] == 99 and told["errors"] == 1


def test_two_jobs_share_a_cache_at_once(tmp_path):
    jobs = []
    for k in range(2):
        write_jsonl(tmp_path / f"{k}.jsonl", [{"id": i, "x": [i % 5000, k % 2]} for i in range(9000)])
        jobs.append(start("run", "-q", "-m", "echo:width=2", "-i", tmp_path / f"{k}.jsonl", "-o",
                          tmp_path / f"{k}.out.jsonl", "--cache", tmp_path / "cache"))
    for k, other in enumerate(jobs):
        assert other.wait() == 0, other.stderr.read()
        other.stderr.close()
        assert [a["y"] for a in read_jsonl(tmp_path / f"{k}.out.jsonl")] == \
            [[i % 5000, k % 2] for i in range(9000)]


def test_a_job_killed_while_it_fills_the_cache(tmp_path):
    dice = random.Random(11)
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "x": [i, 3]} for i in range(20000)])
    command = ["run", "-q", "-m", "echo:width=2,row_latency_us=20", "-i", tmp_path / "in.jsonl",
               "-o", tmp_path / "out.jsonl", "--cache", tmp_path / "cache", "--checkpoint-every",
               "20ms"]
    for _ in range(5):
        killed = start(*command)
        time.sleep(dice.uniform(0.05, 0.3))
        killed.kill()
        killed.wait()
        killed.stderr.close()
    run(*command, check=0)
    assert [a["y"] for a in read_jsonl(tmp_path / "out.jsonl")] == [[i, 3] for i in range(20000)]


def test_a_cache_that_cannot_be_is_named_before_anything_is_written(tmp_path):
    (tmp_path / "cache").write_text("a file")
    write_jsonl(tmp_path / "in.jsonl", [{"x": [1, 2]}])
    result = run("run", "-m", "echo:width=2", "-i", tmp_path / "in.jsonl", "-o",
                 tmp_path / "out.jsonl", "--cache", tmp_path / "cache")
    assert result.returncode != 0 and "cache" in result.err
    assert not list(tmp_path.glob("out.jsonl*"))
