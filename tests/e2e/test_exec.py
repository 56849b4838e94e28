# SPDX-License-Identifier: Apache-2.0
"""Programs as models: what they answer, how they fail, and that they end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ROOT, TIDEMILL, commits, leftovers, read_jsonl, run, start, write_jsonl

PYTHON = {"PYTHONPATH": str(ROOT / "python"), "PYTHONDONTWRITEBYTECODE": "1"}

# by the record's "do"; others are doubled
HANDLER = """
import os, signal, sys, time
import tidemill

@tidemill.model
def predict(records):
    results = []
    for record in records:
        do, x = record.get("do"), record.get("x", 0)
        if do == "fail": results.append(tidemill.Error("no luck with %r" % x))
        elif do == "return": results.append(KeyError("gone"))
        elif do == "raise": raise ValueError("cannot do %r" % x)
        elif do == "exit": os._exit(7)
        elif do == "crash": os.kill(os.getpid(), signal.SIGSEGV)
        elif do == "hang": time.sleep(1000)
        elif do == "nan": results.append(float("nan"))
        elif do == "set": results.append({1, 2})
        elif do == "print": print("to stdout", x); print("to stderr", x, file=sys.stderr); results.append(x)
        elif do == "slow": time.sleep(0.02); results.append(x)
        elif do == "big": results.append("y" * x)
        else: results.append({"double": 2 * x, "by": os.getpid() if do == "pid" else 0})
    return results

if __name__ == "__main__":
    predict.serve()
"""

# one that speaks the protocol by hand, wrongly
RAW = """
import json, os, struct, sys
source = os.fdopen(int(os.environ["TIDEMILL_EXEC_IN"]), "rb")
sink = os.fdopen(int(os.environ["TIDEMILL_EXEC_OUT"]), "wb", 0)
def send(text):
    sink.write(struct.pack("<I", len(text)) + text)
def receive():
    (size,) = struct.unpack("<I", source.read(4))
    return json.loads(source.read(size))
"""
HELLO = 'send(b\'{"tidemill":1}\')\n'


def handler(folder, text=HANDLER):
    (folder / "handler.py").write_text(text)
    return f"exec:{sys.executable} {folder}/handler.py"


def ask(folder, records, *options, model=None, check=0):
    write_jsonl(folder / "in.jsonl", records)
    return run("run", "-m", model or handler(folder), "-i", "in.jsonl", "-o", "out.jsonl",
               *options, cwd=folder, check=check, env=PYTHON)


def errors_of(folder):
    return read_jsonl(folder / "out.jsonl.errors.jsonl")


def handlers_alive(folder):
    return subprocess.run(["pgrep", "-f", f"{folder}/handler.py"], capture_output=True,
                          text=True).stdout.split()


def await_none(pattern):
    for _ in range(100):
        if subprocess.run(["pgrep", "-f", pattern], capture_output=True).returncode != 0:
            return
        time.sleep(0.05)
    raise AssertionError(f"{pattern} is still there")


def test_records_are_answered_in_order(tmp_path):
    ask(tmp_path, [{"id": f"é{i}", "x": i, "text": "ünïcode \U0001f600"} for i in range(5000)])
    lines = read_jsonl(tmp_path / "out.jsonl")
    assert [line["id"] for line in lines] == [f"é{i}" for i in range(5000)]
    assert [line["response"]["double"] for line in lines] == [2 * i for i in range(5000)]
    assert leftovers(tmp_path) == []
    await_none(f"{tmp_path}/handler.py")


def test_a_part_of_the_record_and_csv(tmp_path):
    (tmp_path / "in.csv").write_text("id,payload\na,\"{\"\"x\"\": 4}\"\n")
    run("run", "-m", handler(tmp_path), "-i", "in.csv", "-o", "out.jsonl", "--map",
        "record=payload", cwd=tmp_path, check=0, env=PYTHON)
    assert read_jsonl(tmp_path / "out.jsonl")[0]["response"]["double"] == 8


def test_each_way_to_fail_costs_its_record(tmp_path):
    kinds = ["fail", "return", "raise", "exit", "crash", "nan", "set"]
    records = [{"id": i, "x": i} for i in range(300)]
    for k, kind in enumerate(kinds):
        records[40 * k + 7]["do"] = kind
    ask(tmp_path, records, "--batch", 64, check=1)
    found = {error["id"]: (error["code"], error["message"]) for error in errors_of(tmp_path)}
    expected = {
        "fail": ("model_error", "no luck with 7"),
        "return": ("model_error", "KeyError: 'gone'"),
        "raise": ("model_error", "ValueError: cannot do 87"),
        "exit": ("host_crashed", "the handler ended: exited with status 7"),
        "crash": ("host_crashed", "the handler ended: killed by SIGSEGV"),
        "nan": ("model_error", "a result is not JSON: Out of range float values are not JSON "
                               "compliant"),
        "set": ("model_error", "a result is not JSON: Object of type set is not JSON "
                               "serializable"),
    }
    assert len(found) == len(kinds)
    for k, kind in enumerate(kinds):
        code, message = found[40 * k + 7]
        assert code == expected[kind][0]
        assert message.startswith(expected[kind][1][:60]), message
    assert len(read_jsonl(tmp_path / "out.jsonl")) == 300 - len(kinds)


def test_a_hang_is_killed(tmp_path):
    records = [{"id": i, "x": i} for i in range(20)]
    records[11]["do"] = "hang"
    ask(tmp_path, records, "--timeout", "1s", "--batch", 4, "--instances", 1, check=1)
    assert [(e["id"], e["code"]) for e in errors_of(tmp_path)] == [(11, "host_timeout")]
    await_none(f"{tmp_path}/handler.py")


def test_what_it_prints_goes_to_the_log(tmp_path):
    result = ask(tmp_path, [{"id": 1, "x": 5, "do": "print"}], "--tune", "off")
    assert "handler: to stdout 5" in result.err and "handler: to stderr 5" in result.err
    assert read_jsonl(tmp_path / "out.jsonl") == [{"id": 1, "response": 5}]


def test_a_flood_of_lines_is_cut(tmp_path):
    result = ask(tmp_path, [{"id": i, "x": i, "do": "print"} for i in range(3000)],
                 "--tune", "off", "--instances", 1)
    assert 150 < result.err.count("handler: to") < 1500  # of 6,000


def test_large_records_and_answers(tmp_path):
    records = [{"id": 1, "x": 3 << 20, "do": "big"}, {"id": 2, "x": 1, "pad": "z" * (3 << 20)}]
    ask(tmp_path, records)
    lines = read_jsonl(tmp_path / "out.jsonl")
    assert len(lines[0]["response"]) == 3 << 20 and lines[1]["response"]["double"] == 2


@pytest.mark.parametrize("body, words", [
    ('receive(); send(b"garbage")', "not valid JSON"),
    ('receive(); send(b\'{"results":[]}\')', "0 results for 1 records"),
    ('receive(); send(b\'{"results":[1,2]}\')', "2 results for 1 records"),
    ('receive(); send(b"\\xff\\xfe")', "not UTF-8"),
    ('receive(); send(b"[" * 100000)', "nested deeper"),
    ('receive(); sink.write(struct.pack("<I", 0xfffffff0))', "a frame of 4294967280 bytes"),
    ('receive(); sink.write(struct.pack("<I", 100) + b"short"); sys.exit(3)',
     "in the middle of a frame"),
    ('receive(); sys.exit(0)', "the handler ended: exited with status 0"),
])
def test_a_handler_that_speaks_wrongly_is_caught(tmp_path, body, words):
    loop = "while True:\n    " + body + "\n"
    ask(tmp_path, [{"id": 1}], "--tune", "off",
        model=handler(tmp_path, RAW + HELLO + loop), check=1)
    assert words in errors_of(tmp_path)[0]["message"]
    await_none(f"{tmp_path}/handler.py")


@pytest.mark.parametrize("text, words", [
    ("import sys; sys.exit(4)", "exited with status 4"),
    (RAW + "send(b'{\"tidemill\":9}')\nreceive()", "does not begin with"),
    (RAW + "sink.write(b'HTTP/1.1 200 OK')\nreceive()", "a frame of"),
    ("print('hello')", "before it said hello"),
])
def test_one_that_does_not_begin_right_stops_the_job(tmp_path, text, words):
    result = ask(tmp_path, [{"id": 1}], model=handler(tmp_path, text), check=3)
    assert words in result.err
    assert not (tmp_path / "out.jsonl").exists()


def test_what_is_no_program_is_told(tmp_path):
    assert "nowhere" in ask(tmp_path, [{"id": 1}], model="exec:nowhere at all", check=3).err
    assert "no command" in ask(tmp_path, [{"id": 1}], model="exec: ", check=2).err
    assert "quote" in ask(tmp_path, [{"id": 1}], model="exec:python3 'a", check=2).err


def test_one_that_always_dies_stops_the_job(tmp_path):
    text = RAW + HELLO + "receive(); sys.exit(9)"
    write_jsonl(tmp_path / "in.jsonl", [{"id": i} for i in range(2000)])
    result = run("run", "-m", handler(tmp_path, text), "-i", "in.jsonl", "-o", "out.jsonl",
                 "--tune", "off", "--batch", 512, "--max-errors", 20, cwd=tmp_path, env=PYTHON)
    assert result.returncode == 1
    assert "exited with status 9" in result.err + (
        tmp_path / "out.jsonl.errors.jsonl.partial").read_text()


def test_several_instances_share_the_work(tmp_path):
    records = [{"id": i, "x": i, "do": "pid", "pad": "z" * 50} for i in range(4000)]
    ask(tmp_path, records, "--instances", 2, "--batch", 16)
    assert len({line["response"]["by"] for line in read_jsonl(tmp_path / "out.jsonl")}) == 2


def test_equal_inputs_run_once_and_answers_are_kept(tmp_path):
    log = tmp_path / "calls"
    text = HANDLER.replace("results = []", f"results = []; open({str(log)!r}, 'a').write("
                                           "'%d\\n' % len(records))")
    records = [{"id": i, "body": {"x": i % 10}} for i in range(500)]
    options = ["--map", "record=body", "--dedup", "on", "--cache", "c", "--tune", "off"]
    ask(tmp_path, records, *options, model=handler(tmp_path, text))
    first = sum(int(n) for n in log.read_text().split())
    assert first == 10
    (tmp_path / "out.jsonl").unlink()
    (tmp_path / "out.jsonl.journal").unlink()
    ask(tmp_path, records, *options, model=handler(tmp_path, text))
    assert sum(int(n) for n in log.read_text().split()) == first
    # another program has other answers
    (tmp_path / "out.jsonl").unlink()
    (tmp_path / "out.jsonl.journal").unlink()
    ask(tmp_path, records, *options, model=handler(tmp_path, text + "\n# changed\n"))
    assert sum(int(n) for n in log.read_text().split()) == 2 * first


def test_handlers_end_with_a_killed_engine_and_the_job_goes_on(tmp_path):
    records = [{"id": i, "x": i, "do": "slow"} for i in range(400)]
    write_jsonl(tmp_path / "in.jsonl", records)
    arguments = ["run", "-m", handler(tmp_path), "-i", "in.jsonl", "-o", "out.jsonl", "--batch",
                 "8", "--instances", "2", "--checkpoint-every", "50ms"]
    job = start(*arguments, cwd=tmp_path, env={**os.environ, **PYTHON})
    while not any(frame["ok"] > 40 for frame in commits(tmp_path / "out.jsonl.journal")):
        time.sleep(0.01)
        assert job.poll() is None
    assert handlers_alive(tmp_path)
    job.send_signal(signal.SIGKILL)
    job.wait()
    await_none(f"{tmp_path}/handler.py")
    run(*arguments, cwd=tmp_path, check=0, env=PYTHON)
    assert [line["response"] for line in read_jsonl(tmp_path / "out.jsonl")] == list(range(400))
    killed = (tmp_path / "out.jsonl").read_bytes()
    (tmp_path / "out.jsonl").unlink()
    (tmp_path / "out.jsonl.journal").unlink()
    run(*arguments, cwd=tmp_path, check=0, env=PYTHON)
    assert (tmp_path / "out.jsonl").read_bytes() == killed


def test_a_handler_in_another_language(tmp_path):
    """The one that docs/EXEC.md shows."""
    page = (ROOT / "docs/EXEC.md").read_text()
    text = page.split("```perl\n")[1].split("```")[0]
    (tmp_path / "upper.pl").write_text(text)
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "text": f"word {i}"} for i in range(100)])
    run("run", "-m", f"exec:perl {tmp_path}/upper.pl", "-i", "in.jsonl", "-o", "out.jsonl",
        cwd=tmp_path, check=0)
    assert [line["response"] for line in read_jsonl(tmp_path / "out.jsonl")] == [
        f"WORD {i}" for i in range(100)]


def test_workers_that_hold_the_pipes_hide_no_death(tmp_path):
    """Their ends stay open when the handler is gone: without a look at it the job would hang."""
    text = """
import os, time, tidemill
@tidemill.model
def predict(records):
    for record in records:
        if record["x"] == 50:
            if os.fork() == 0:
                time.sleep(600)
            os._exit(5)
    return [record["x"] for record in records]
predict.serve()
"""
    ask(tmp_path, [{"id": i, "x": i} for i in range(100)], "--instances", 1,
        model=handler(tmp_path, text), check=1)
    assert [(e["id"], e["code"], e["message"]) for e in errors_of(tmp_path)] == [
        (50, "host_crashed", "the handler ended: exited with status 5")]
    await_none(f"{tmp_path}/handler.py")


def test_a_handler_that_does_not_start_again_costs_no_record(tmp_path):
    text = """
import os, tidemill
@tidemill.model
def predict(records):
    if any(record["x"] == 50 for record in records):
        os.rename(__file__, __file__ + ".away")
        os._exit(5)
    return [record["x"] for record in records]
predict.serve()
"""
    model = handler(tmp_path, text)
    arguments = ["--batch", 8, "--instances", 1, "--checkpoint-every", "20ms"]
    result = ask(tmp_path, [{"id": i, "x": i} for i in range(100)], *arguments, model=model, check=3)
    assert "does not start again" in result.err and "exited with status 2" in result.err
    failed = list(tmp_path.glob("out.jsonl.errors*"))
    assert sum(len(path.read_text().splitlines()) for path in failed) == 0


@pytest.mark.parametrize("is_there", [True, False])
def test_one_that_ended_between_two_calls_costs_no_record(tmp_path, is_there):
    """Started again if it can be; else the job stops, and blames nobody."""
    text = RAW + HELLO + """
answered = os.path.dirname(sys.argv[0]) + "/answered"
is_first = not os.path.exists(answered)
while True:
    records = receive()
    if sys.argv[1] == "away":
        os.rename(sys.argv[0], sys.argv[0] + ".away")
    send(json.dumps({"results": records}).encode())
    open(answered, "a").close()
    if is_first:
        break
"""
    model = handler(tmp_path, text) + (" stay" if is_there else " away")
    job = subprocess.Popen(
        [TIDEMILL, "run", "-q", "-m", model, "-i", "-", "-o", "out.jsonl", "--tune", "off",
         "--batch", "4096", "--instances", "1", "--dedup", "off", "--input-format", "jsonl"],
        cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **PYTHON})
    # enough for a call
    lines = [json.dumps({"id": i}) + "\n" for i in range(4096)]
    job.stdin.write("".join(lines))
    job.stdin.flush()
    for _ in range(3000):
        if (tmp_path / "answered").exists():
            break
        time.sleep(0.01)
        assert job.poll() is None, job.stderr.read()
    await_none(f"^{sys.executable} {tmp_path}/handler.py")  # not the job, which has it as an option
    _, err = job.communicate("".join(lines), timeout=60)
    failed = tmp_path.glob("out.jsonl.errors*")
    assert "".join(path.read_text() for path in failed) == "", err
    assert job.returncode == (0 if is_there else 3), err
    if is_there:
        assert len(read_jsonl(tmp_path / "out.jsonl")) == 8192
    else:
        assert "does not start again" in err


def test_an_early_answer_is_no_deadlock(tmp_path):
    """Both directions are larger than a pipe holds."""
    body = """
while True:
    source.read(4)
    send(b'{"results":["' + b"y" * (4 << 20) + b'"]}')
"""
    result = ask(tmp_path, [{"id": 1, "pad": "z" * (4 << 20)}], "--tune", "off", "--instances", 1,
                 model=handler(tmp_path, RAW + HELLO + body), check=None)
    assert result.returncode in (0, 1) and leftovers(tmp_path) == []


@pytest.mark.parametrize("end", ["timeout", "kill"])
def test_what_a_handler_started_ends_with_it(tmp_path, end):
    seconds = 4000 + os.getpid()
    text = f"""
import subprocess, time, tidemill
@tidemill.model
def predict(records):
    subprocess.Popen(["sleep", "{seconds}"])
    time.sleep(1000)
predict.serve()
"""
    write_jsonl(tmp_path / "in.jsonl", [{"id": 1}])
    arguments = ["run", "-q", "-m", handler(tmp_path, text), "-i", "in.jsonl", "-o", "out.jsonl",
                 "--tune", "off", "--timeout", "1s" if end == "timeout" else "10m"]
    job = start(*arguments, cwd=tmp_path, env={**os.environ, **PYTHON})
    pattern = f"^sleep {seconds}$"
    while subprocess.run(["pgrep", "-f", pattern], capture_output=True).returncode != 0:
        time.sleep(0.01)
        assert job.poll() is None
    if end == "kill":
        job.kill()
    assert job.wait(60) == (1 if end == "timeout" else -signal.SIGKILL)
    job.stderr.close()
    await_none(pattern)
    await_none(f"{tmp_path}/handler.py")


def test_a_handler_has_no_secrets_and_usual_signals(tmp_path):
    text = """
import os, signal, tidemill
@tidemill.model
def predict(records):
    ignored = [s.name for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
               if signal.getsignal(s) == signal.SIG_IGN]
    open_fds = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    return [{"secret": "MY_API_KEY" in os.environ, "ignored": ignored, "fds": open_fds[:-1]}
            for record in records]
predict.serve()
"""
    write_jsonl(tmp_path / "in.jsonl", [{"id": 1}])
    for more in [], ["--isolate=false"]:
        (tmp_path / "out.jsonl").unlink(missing_ok=True)
        (tmp_path / "out.jsonl.journal").unlink(missing_ok=True)
        run("run", "-m", handler(tmp_path, text), "-i", "in.jsonl", "-o", "out.jsonl", "--tune",
            "off", *more, cwd=tmp_path, check=0, env={**PYTHON, "MY_API_KEY": "s3cret"})
        assert read_jsonl(tmp_path / "out.jsonl")[0]["response"] == {
            "secret": False, "ignored": [], "fds": [0, 1, 2, 3, 4]}


def test_lines_are_told_when_they_are_printed(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    result = ask(tmp_path, [{"id": 1, "x": 5, "do": "print"}], "--tune", "off")
    assert "handler: to stdout 5" in result.err


def test_messages_end_between_characters(tmp_path):
    text = HANDLER.replace('"no luck with %r" % x', '"é" * 399')
    ask(tmp_path, [{"id": 1, "do": "fail"}], model=handler(tmp_path, text), check=1)
    assert set(errors_of(tmp_path)[0]["message"]) == {"é"}


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_batches_are_those_asked_for(tmp_path, batch):
    text = HANDLER.replace("results = []", "results = [len(records)] * len(records); return results")
    ask(tmp_path, [{"id": i} for i in range(3000)], "--batch", batch, "--dedup", "off",
        model=handler(tmp_path, text))
    sizes = {line["response"] for line in read_jsonl(tmp_path / "out.jsonl")}
    assert batch in sizes and max(sizes) == batch


def test_batches_are_measured(tmp_path):
    """A call costs much, a record nothing: many at a time are best."""
    text = HANDLER.replace("results = []", "time.sleep(0.002); return [len(records)] * len(records)")
    ask(tmp_path, [{"id": i, "x": i} for i in range(60000)], "--instances", 1, "--dedup", "off",
        model=handler(tmp_path, text))
    assert max(line["response"] for line in read_jsonl(tmp_path / "out.jsonl")) >= 64



# one with a process of its own, as worker pools have, that holds its ends of the pipes
WITH_WORKER = HANDLER.replace("import tidemill\n", """import tidemill
if os.fork() == 0:
    if "escape" in sys.argv: os.setsid()
    time.sleep(1000)
""", 1)


@pytest.mark.parametrize("kind", ["crash", "exit"])
def test_a_death_is_seen_though_its_workers_live(tmp_path, kind):
    records = [{"id": i, "x": i} for i in range(20)]
    records[11]["do"] = kind
    ask(tmp_path, records, "--batch", 4, "--instances", 1, "--tune", "off",
        model=handler(tmp_path, WITH_WORKER), check=1)
    assert [(e["id"], e["code"]) for e in errors_of(tmp_path)] == [(11, "host_crashed")]
    assert handlers_alive(tmp_path) == []


def test_workers_end_with_a_handler_that_hangs(tmp_path):
    records = [{"id": 0, "x": 0}, {"id": 1, "do": "hang"}]
    ask(tmp_path, records, "--timeout", "1s", "--batch", 1, "--instances", 1, "--tune", "off",
        model=handler(tmp_path, WITH_WORKER), check=1)
    assert [(e["id"], e["code"]) for e in errors_of(tmp_path)] == [(1, "host_timeout")]
    time.sleep(0.5)
    assert handlers_alive(tmp_path) == []


def test_workers_end_with_a_killed_engine(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "x": i, "do": "slow"} for i in range(4000)])
    job = start("run", "-m", handler(tmp_path, WITH_WORKER), "-i", "in.jsonl", "-o", "out.jsonl",
                "--batch", "8", "--instances", "2", "--checkpoint-every", "50ms", cwd=tmp_path,
                env={**os.environ, **PYTHON})
    while not commits(tmp_path / "out.jsonl.journal"):
        time.sleep(0.01)
        assert job.poll() is None
    assert len(handlers_alive(tmp_path)) >= 3  # the command, a handler, its worker
    job.send_signal(signal.SIGKILL)
    job.wait()
    for _ in range(100):
        if not handlers_alive(tmp_path):
            break
        time.sleep(0.05)
    assert handlers_alive(tmp_path) == []


def test_a_worker_that_left_the_group_does_not_hold_the_job_up(tmp_path):
    records = [{"id": 0, "x": 0}, {"id": 1, "do": "crash"}, {"id": 2, "x": 2}]
    model = handler(tmp_path, WITH_WORKER) + " escape"
    try:
        ask(tmp_path, records, "--batch", 1, "--instances", 1, "--tune", "off", model=model,
            check=1)
        assert [(e["id"], e["code"]) for e in errors_of(tmp_path)] == [(1, "host_crashed")]
    finally:  # by number: it is ours, and nobody else ends it
        for pid in handlers_alive(tmp_path):
            os.kill(int(pid), signal.SIGKILL)
