# SPDX-License-Identifier: Apache-2.0
"""--via batch against a server that does what it is told, and what it should not."""

import json
import signal
import time

import pytest
from batch_server import BatchServer, answer_of, message_of
from conftest import IS_SANITIZED, commits, leftovers, read_jsonl, run, start, write_jsonl


def body_of(i):
    return {"model": "m", "messages": [{"role": "user", "content": f"say {i} please"}]}


def records(folder, n):
    return write_jsonl(folder / "in.jsonl", ({"id": f"user-{i}", **body_of(i)} for i in range(n)))


@pytest.fixture
def server():
    with BatchServer() as one:
        yield one


def command(server, folder, *more, dialect="openai"):
    url = server.url if dialect == "openai" else server.anthropic_url
    # what may have been created is looked for for a quarter of --patience
    patience = [] if "--patience" in more else ["--patience", "8s"]
    return ["run", "-m", url, "--via", "batch", "-i", folder / "in.jsonl", *patience, *more, "-o",
            folder / "out.jsonl"]


def check_all(server, folder, n, dialect="openai", but=()):
    """Every record in its place with its answer; nothing was computed twice, nothing is left."""
    server.run_what_is_left()
    expected = answer_of if dialect == "openai" else message_of
    lines = read_jsonl(folder / "out.jsonl")
    assert [line["id"] for line in lines] == [f"user-{i}" for i in range(n) if i not in but]
    for line in lines:
        i = int(line["id"].split("-")[1])
        assert line["response"] == expected(body_of(i))
    paid_twice = {i: k for i, k in server.processed.items() if k > 1}
    assert not paid_twice and set(server.processed) >= set(range(n)) - set(but)
    assert leftovers(folder) == []
    assert not [p for p in folder.iterdir() if "upstream" in p.name]


# --- as it should be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_answers_come_back_to_their_records(server, tmp_path, dialect):
    records(tmp_path, 3000)
    server.faults.update(shuffle=1, slow_polls=3)
    result = run(*command(server, tmp_path, dialect=dialect), check=0)
    check_all(server, tmp_path, 3000, dialect)
    assert [len(b["requests"]) for b in server.batches.values()] == [3000]
    assert "3,000 of 3,000 done" in result.err


def test_the_key_is_sent_as_each_api_wants_it(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k1")
    records(tmp_path, 3)
    run(*command(server, tmp_path, "--api-key-env", "OPENAI_API_KEY"), check=0)
    assert server.keys == {("Bearer k1", None)}
    server.keys.clear()
    run(*command(server, tmp_path, "--api-key-env", "OPENAI_API_KEY", "--force",
                 dialect="anthropic"), check=0)
    assert server.keys == {(None, "k1")}


def test_files_are_deleted_when_the_job_is_published(server, tmp_path):
    records(tmp_path, 20)
    run(*command(server, tmp_path), check=0)
    assert len(server.deleted) == 2 and server.files == {}


def test_a_batch_is_full_at_fifty_thousand(server, tmp_path):
    records(tmp_path, 60000)
    run(*command(server, tmp_path), check=0, timeout=300)
    check_all(server, tmp_path, 60000)
    assert [len(b["requests"]) for b in server.batches.values()] == [50000, 10000]


@pytest.mark.skipif(IS_SANITIZED, reason="sanitizers take memory of their own")
def test_memory_with_many_answers(server, tmp_path):
    """400 MB of them, in any order."""
    records(tmp_path, 50000)
    server.faults.update(pad=8000, shuffle=1)
    run(*command(server, tmp_path, "--summary", tmp_path / "s.json"), check=0, timeout=300)
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["ok"] == 50000 and summary["peak_memory_bytes"] < 160 << 20


def test_standard_output_needs_no_file(server, tmp_path):
    records(tmp_path, 100)
    result = run("run", "-m", server.url, "--via", "batch", "-i", tmp_path / "in.jsonl", "-o", "-",
                 check=0)
    assert len(result.out.splitlines()) == 100
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_server_without_batches_says_so(server, tmp_path):
    records(tmp_path, 5)
    result = run("run", "-m", server.origin + "/other/v1/chat/completions", "--via", "batch", "-i",
                 tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", check=3)
    assert "has no batch API" in result.err and "--via" in result.err


# --- results that are not as they should be ---------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_lines_nobody_asked_for_are_not_used(server, tmp_path, dialect):
    records(tmp_path, 200)
    server.faults.update(unknown=5, twice=[3, 77], shuffle=1)
    result = run(*command(server, tmp_path, dialect=dialect), check=0)
    check_all(server, tmp_path, 200, dialect)
    assert "5 are not of its requests and 2 came twice" in result.err


def test_missing_lines_are_asked_for_again(server, tmp_path):
    records(tmp_path, 100)
    server.faults["missing"] = {5: 1, 50: 2}
    run(*command(server, tmp_path), check=0)
    assert len(read_jsonl(tmp_path / "out.jsonl")) == 100
    assert [sorted(len(b["requests"]) for b in server.batches.values())] == [[1, 2, 100]]


def test_what_is_missing_for_ever_ends_as_an_error(server, tmp_path):
    records(tmp_path, 10)
    server.faults["missing"] = {5: 1000}
    run(*command(server, tmp_path, "--retries", "2"), check=1)
    assert len(read_jsonl(tmp_path / "out.jsonl")) == 9
    (line,) = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert line["id"] == "user-5" and len(server.batches) == 3


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_statuses_are_errors_or_tried_again(server, tmp_path, dialect):
    records(tmp_path, 50)
    server.faults["statuses"] = {1: (429, 1), 2: (500, 2), 3: (400, 99)}
    run(*command(server, tmp_path, dialect=dialect), check=1)
    check_all(server, tmp_path, 50, dialect, but=[3])
    (line,) = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert line["id"] == "user-3" and "status 400" in json.dumps(line)


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_what_expired_goes_into_another_batch(server, tmp_path, dialect):
    records(tmp_path, 100)
    server.faults["expire_after"] = 60
    run(*command(server, tmp_path, dialect=dialect), check=0)
    check_all(server, tmp_path, 100, dialect)
    assert [len(b["requests"]) for b in server.batches.values()] == [100, 40]


def test_a_cut_download_is_fetched_again(server, tmp_path):
    records(tmp_path, 300)
    server.faults["truncate"] = 1
    run(*command(server, tmp_path), check=0)
    check_all(server, tmp_path, 300)
    assert len(server.batches) == 1


# --- batches that fail ------------------------------------------------------------------------------------------


def test_lines_that_fail_validation_are_their_records_errors(server, tmp_path):
    records(tmp_path, 100)
    server.faults["bad_lines"] = [7, 70]
    run(*command(server, tmp_path), check=1)
    check_all(server, tmp_path, 100, but=[7, 70])
    errors = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert [line["id"] for line in errors] == ["user-7", "user-70"]


def test_a_batch_that_fails_as_a_whole_is_cut(server, tmp_path):
    records(tmp_path, 100)
    server.faults["fail_validation"] = 1
    run(*command(server, tmp_path), check=0)
    check_all(server, tmp_path, 100)
    assert [len(b["requests"]) for b in server.batches.values()] == [100, 50, 50]


def test_batches_become_as_small_as_the_server_wants(server, tmp_path):
    records(tmp_path, 100)
    server.faults["too_large"] = 30
    run(*command(server, tmp_path), check=0)
    check_all(server, tmp_path, 100)
    assert max(len(b["requests"]) for b in server.batches.values()) == 25


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("fault", ["upload_reset", "create_lost", "create_500", "poll_500"])
def test_trouble_passes(server, tmp_path, fault, dialect):
    records(tmp_path, 300)
    server.faults[fault] = 2 if fault != "create_lost" else 1
    run(*command(server, tmp_path, dialect=dialect), check=0)
    check_all(server, tmp_path, 300, dialect)
    assert len(server.batches) == 1
    assert server.faults[fault] == 0 or (dialect == "anthropic" and fault == "upload_reset")


def test_a_wrong_key_ends_the_job(server, tmp_path):
    records(tmp_path, 10)
    server.faults["unauthorized"] = 1
    result = run(*command(server, tmp_path), check=3)
    assert "who are you?" in result.err and not (tmp_path / "out.jsonl").exists()


def test_an_unreachable_server_is_waited_for_only_so_long(server, tmp_path):
    records(tmp_path, 10)
    arguments = command(server, tmp_path, "--patience", "1s")
    server.__exit__()
    result = run(*arguments, check=3)
    assert "--patience" in result.err


@pytest.mark.parametrize("fault", ["create_500", "nonsense"])
def test_a_server_that_answers_and_does_nothing_is_not_waited_for_either(server, tmp_path, fault):
    records(tmp_path, 10)
    server.faults[fault] = 1 << 30
    result = run(*command(server, tmp_path, "--patience", "1s"), check=3)
    assert "--patience" in result.err
    server.faults.clear()
    run(*command(server, tmp_path), check=0)
    check_all(server, tmp_path, 10)


def test_results_are_not_fetched_elsewhere(server, tmp_path, monkeypatch):
    monkeypatch.setenv("KEY", "secret")
    records(tmp_path, 10)
    with BatchServer() as thief:
        server.faults["results_elsewhere"] = thief.origin
        result = run(*command(server, tmp_path, "--api-key-env", "KEY", dialect="anthropic"),
                     check=3)
        assert thief.log == []
    assert "another server" in result.err and "secret" not in result.err


# --- kills --------------------------------------------------------------------------------------------------------


def wait_for(condition):
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that")


KILLS = {
    "uploaded": ({"hold": 1}, lambda s: s.seen("POST", "/v1/files") > 0),
    "created": ({"hold": 1}, lambda s: s.seen("POST", "/v1/batches") > 0),
    "polling": ({"hold": 1}, lambda s: s.seen("GET", "/v1/batches/") > 2),
    "downloading": ({"download_slow": 0.6}, lambda s: s.seen("GET", "/v1/files/") > 0),
}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("point", KILLS)
def test_a_kill_pays_nothing_twice(server, tmp_path, point, how):
    records(tmp_path, 3000)
    faults, is_there = KILLS[point]
    server.faults.update(faults)
    process = start(*command(server, tmp_path))
    wait_for(lambda: is_there(server))
    process.send_signal(how)
    process.wait(20)
    process.stderr.close()
    assert process.returncode == (-9 if how == signal.SIGKILL else 75)
    server.faults.clear()
    run(*command(server, tmp_path), check=0)
    check_all(server, tmp_path, 3000)
    assert len(server.batches) == 1


def test_killed_again_and_again(server, tmp_path):
    """At whatever moment."""
    records(tmp_path, 3000)
    server.faults.update(slow_polls=4, download_slow=0.1, shuffle=1)
    whole = tmp_path / "whole.jsonl"
    with BatchServer() as other:
        run(*command(other, tmp_path)[:-1], whole, check=0)
    for delay in (0.5, 1.0, 1.2, 1.4, 1.5, 1.6, 1.7, 1.8, 2.0):
        process = start(*command(server, tmp_path, "--checkpoint-every", "20ms"))
        time.sleep(delay)
        process.kill()
        process.wait()
        assert process.returncode in (0, -9)
        process.stderr.close()
    run(*command(server, tmp_path), check=0)
    check_all(server, tmp_path, 3000)
    assert len(server.batches) == 1
    assert (tmp_path / "out.jsonl").read_bytes() == whole.read_bytes()


def test_a_batch_that_was_read_is_not_asked_again(server, tmp_path):
    """The first of two batches is written, the second under way."""
    records(tmp_path, 52000)
    server.faults["hold_after"] = 1
    process = start(*command(server, tmp_path, "--checkpoint-every", "50ms"))
    wait_for(lambda: len(server.batches) == 2 and commits(tmp_path / "out.jsonl.journal"))
    process.kill()
    process.wait()
    process.stderr.close()
    server.faults.clear()
    run(*command(server, tmp_path), check=0)
    check_all(server, tmp_path, 52000)
    assert [len(b["requests"]) for b in server.batches.values()] == [50000, 2000]


def test_a_forecast_asks_nothing(server, tmp_path):
    records(tmp_path, 20)
    run(*command(server, tmp_path, "--dry-run"), check=0)
    assert server.log == [] and [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]


def test_ten_restarts_while_one_batch_runs(server, tmp_path):
    """No commit in between: that is no sign of a record that kills."""
    records(tmp_path, 200)
    server.faults["hold"] = 1
    for _ in range(10):
        process = start(*command(server, tmp_path))
        wait_for(lambda seen=server.seen("GET", "/v1/batches/"):
                 server.seen("GET", "/v1/batches/") > seen)
        process.kill()
        process.wait()
        process.stderr.close()
    server.faults.clear()
    run(*command(server, tmp_path), check=0)
    check_all(server, tmp_path, 200)
    assert len(server.batches) == 1


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_created_but_never_told(server, tmp_path, dialect):
    """The answer is lost, and so is the process, before it can look."""
    records(tmp_path, 500)
    server.faults.update(create_lost=1, hold=1)
    process = start(*command(server, tmp_path, dialect=dialect))
    wait_for(lambda: server.batches)
    process.kill()
    process.wait()
    process.stderr.close()
    server.faults.clear()
    result = run(*command(server, tmp_path, dialect=dialect), check=0)
    check_all(server, tmp_path, 500, dialect)
    assert len(server.batches) == 1 and "was created already" in result.err


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_a_list_that_lags_is_waited_for(server, tmp_path, dialect):
    records(tmp_path, 300)
    server.faults.update(create_lost=1, hide_lost_s=1)
    result = run(*command(server, tmp_path, dialect=dialect), check=0)
    check_all(server, tmp_path, 300, dialect)
    assert len(server.batches) == 1 and "was created already" in result.err


def end_of(process):
    """Exit status and what it said."""
    _, err = process.communicate(timeout=30)
    return process.returncode, err.decode()


def first_status(server):
    return next(iter(server.batches.values()))["status"]


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_batch_that_shows_up_after_it_was_made_again_is_cancelled(server, tmp_path, is_killed):
    """Here by the run that gave it up, there by the one after a kill."""
    records(tmp_path, 300)
    server.faults.update(create_lost=1, hide_lost_s=2, hold=1)
    process = start(*command(server, tmp_path, "--patience", "4s"))
    wait_for(lambda: len(server.batches) == 2 and server.seen("GET", "/v1/batches/"))
    if is_killed:
        process.kill()
        process.wait()
        process.stderr.close()
        process = start(*command(server, tmp_path))
    wait_for(lambda: first_status(server) == "cancelling")
    server.faults.clear()
    status, err = end_of(process)
    assert status == 0
    assert "was created after all" in err and "it is cancelled" in err
    check_all(server, tmp_path, 300)
    assert len(server.batches) == 2 and len(server.files) == 0


def test_what_an_earlier_run_did_not_find_is_cancelled_when_it_shows_up(server, tmp_path):
    """The run that created it was killed before it could look."""
    records(tmp_path, 300)
    server.faults.update(create_lost=1, hide_lost_s=4, hold=1)
    process = start(*command(server, tmp_path))
    wait_for(lambda: server.batches)
    process.kill()
    process.wait()
    process.stderr.close()
    process = start(*command(server, tmp_path, "--patience", "4s"))
    wait_for(lambda: first_status(server) == "cancelling")
    server.faults.clear()
    status, err = end_of(process)
    assert status == 0 and "it is cancelled" in err
    check_all(server, tmp_path, 300)
    assert len(server.batches) == 2


def test_a_last_look_when_the_job_is_done(server, tmp_path):
    records(tmp_path, 50)
    server.faults.update(create_lost=1, hide_lost=1)
    result = run(*command(server, tmp_path, "--patience", "2s"), check=0)
    assert "it is cancelled" in result.err and first_status(server) == "cancelling"
    check_all(server, tmp_path, 50)


def test_what_shows_up_too_late_is_told(server, tmp_path):
    """It was done before it was seen: nothing can be saved, but the bill must not be a riddle."""
    records(tmp_path, 50)
    server.faults.update(create_lost=1, hide_lost=1)
    process = start(*command(server, tmp_path, "--patience", "2s"))
    wait_for(lambda: server.batches)
    server.run_what_is_left()
    status, err = end_of(process)
    assert status == 0 and "it is completed" in err and "paid for twice" in err
    assert not [p for p in tmp_path.iterdir() if "upstream" in p.name]


def test_a_batch_that_went_away_is_asked_again(server, tmp_path):
    records(tmp_path, 50)
    server.faults["hold"] = 1
    process = start(*command(server, tmp_path))
    wait_for(lambda: server.seen("GET", "/v1/batches/") > 0)
    process.kill()
    process.wait()
    process.stderr.close()
    server.batches.clear()
    server.faults.clear()
    run(*command(server, tmp_path), check=0)
    check_all(server, tmp_path, 50)


def test_force_begins_anew(server, tmp_path):
    records(tmp_path, 50)
    server.faults["hold"] = 1
    process = start(*command(server, tmp_path))
    wait_for(lambda: server.seen("GET", "/v1/batches/") > 0)
    process.kill()
    process.wait()
    process.stderr.close()
    server.faults.clear()
    run(*command(server, tmp_path, "--force"), check=0)
    assert len(server.batches) == 2 and len(read_jsonl(tmp_path / "out.jsonl")) == 50


# --- the deadline -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_near_the_deadline_the_rest_is_asked_live(server, tmp_path, dialect):
    records(tmp_path, 100)
    server.faults.update(hold=1, cancel_done=30)
    run(*command(server, tmp_path, "--deadline", "5s", dialect=dialect), check=0)
    check_all(server, tmp_path, 100, dialect)
    assert server.live == 70
    assert server.seen("POST", "/v1/batches" if dialect == "openai" else "/v1/messages/batches/") > 0


def test_a_job_that_ends_in_time_asks_nothing_live(server, tmp_path):
    records(tmp_path, 100)
    run(*command(server, tmp_path, "--deadline", "10m"), check=0)
    check_all(server, tmp_path, 100)
    assert server.live == 0
