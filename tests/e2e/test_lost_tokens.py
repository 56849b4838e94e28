# SPDX-License-Identifier: Apache-2.0
"""Tokens that were paid for and not committed when a job was killed: they are on its bill."""

import json
import time

import pytest
from conftest import commits, run, start, write_jsonl
from upstream import Upstream, chat_answer

INFLIGHT = 4
N_RECORDS = 1500


def slow_answer(request):
    time.sleep(0.01)
    return chat_answer(request)  # 7 tokens in, 2 of them cached, 3 out


def records(folder, n):
    write_jsonl(folder / "a.jsonl", ({"messages": [{"role": "user", "content": f"say {i}"}]}
                                     for i in range(n)))


def command(server, *more):
    return ["run", "-m", server.url + "/v1/chat/completions", "-i", "a.jsonl", "-o", "b.jsonl",
            "--max-inflight", INFLIGHT, "--checkpoint-every", "1h", "--price-in", "1",
            "--price-out", "1", *more]


def wait_for(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it did not come to that")


def kill_between_commits(server, folder):
    """Commits come 50, 100, 200, ... ms after one another: soon there are many answers behind one."""
    journal = folder / "b.jsonl.journal"
    n_before = len(commits(journal))
    process = start(*command(server), cwd=folder)
    wait_for(lambda: len(commits(journal)) >= n_before + 3)
    n_asked = len(server.requests)
    wait_for(lambda: len(server.requests) > n_asked + 40)
    process.kill()
    process.wait()
    process.stderr.close()
    assert process.returncode == -9


@pytest.mark.parametrize("kills", [1, 3])
def test_every_answer_is_on_the_bill(tmp_path, kills):
    records(tmp_path, N_RECORDS)
    with Upstream(slow_answer) as server:
        for _ in range(kills):
            kill_between_commits(server, tmp_path)
        result = run(*command(server, "--summary", "s.json"), cwd=tmp_path, check=0)
        n_asked = len(server.requests)
    summary = json.loads((tmp_path / "s.json").read_text())
    least = n_asked - kills * INFLIGHT  # what was under way may be missing
    assert 7 * least <= summary["tokens_in"] <= 7 * n_asked
    assert 3 * least <= summary["tokens_out"] <= 3 * n_asked
    # what a commit has the tokens of may still wait for an earlier record, and is asked for again
    n_lost = summary["lost_tokens_out"] / 3
    assert 40 * kills <= n_lost + kills * INFLIGHT and n_lost <= n_asked - N_RECORDS
    assert n_lost >= n_asked - N_RECORDS - 4 * kills * INFLIGHT
    assert summary["lost_usd"] == pytest.approx(10 * n_lost / 1e6)
    assert "paid for after a checkpoint and before a kill" in result.err
    last = commits(tmp_path / "b.jsonl.journal")[-1]
    assert last["tokens"][0] == summary["tokens_in"]
    assert last["lost"][2] == summary["lost_tokens_out"]


def test_a_job_that_nothing_disturbs_loses_nothing(tmp_path):
    records(tmp_path, 20)
    with Upstream() as server:
        result = run(*command(server, "--summary", "s.json"), cwd=tmp_path, check=0)
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["tokens_in"] == 140 and summary["lost_usd"] == 0
    assert "lost_tokens_in" not in summary and "lost " not in result.err
    assert "lost" not in commits(tmp_path / "b.jsonl.journal")[-1]
