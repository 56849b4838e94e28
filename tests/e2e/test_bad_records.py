# SPDX-License-Identifier: Apache-2.0
"""Promise: one bad record costs one record."""

import json
import os
import random
import subprocess

import pytest
from conftest import IS_SANITIZED, ROOT, read_jsonl, run, write_jsonl


def bad_records():
    """Ten kinds of bad record for pixels float[64], with the code that each gets."""
    good = list(range(64))
    return [
        ('{"id":1,"pixels":[1,2', "invalid_json"),
        ('{"id":1,"pixels":' + json.dumps(good[:63]) + "}", "wrong_shape"),
        ('{"id":1,"pixels":' + json.dumps(good + [1]) + "}", "wrong_shape"),
        ('{"id":1,"pixels":"text"}', "wrong_type"),
        ('{"id":1}', "missing_field"),
        ('{"id":1,"pixels":' + json.dumps(["a"] + good[1:]) + "}", "wrong_type"),
        ('{"id":1,"pixels":' + json.dumps(good)[:-3] + "1e999]}", "not_finite"),
        ("not json at all", "invalid_json"),
        (b'{"id":"\xff\xfe","pixels":' + json.dumps(good).encode() + b"}", "invalid_utf8"),
        ('{"id":1,"pad":"' + "x" * 3000 + '","pixels":' + json.dumps(good) + "}",
         "record_too_long"),
    ]


@pytest.mark.parametrize("n_good, n_bad", [(20000, 200)])
def test_bad_ones_among_good_ones(digits, tmp_path, n_good, n_bad):
    """The acceptance case in small; TIDEMILL_BIG=1 runs a million with a thousand."""
    if os.environ.get("TIDEMILL_BIG"):
        n_good, n_bad = 1000000, 1000
    dice = random.Random(4)
    good = digits[1].read_bytes().splitlines()
    bad = bad_records()
    places = sorted(dice.sample(range(n_good + n_bad), n_bad))
    expected, place = [], 0
    with open(tmp_path / "in.jsonl", "wb") as file:
        for line in range(n_good + n_bad):
            if place < n_bad and places[place] == line:
                text, code = bad[place % len(bad)]
                file.write((text if isinstance(text, bytes) else text.encode()) + b"\n")
                expected.append((line + 1, code))
                place += 1
            else:
                file.write(good[line % len(good)] + b"\n")
    result = run("run", "-m", digits[0], "-i", "in.jsonl", "-o", "out.jsonl", "--max-record-bytes",
                 "2000", cwd=tmp_path, check=1, timeout=300)
    errors = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert [(e["line"], e["code"]) for e in errors] == expected
    assert all(e["message"] and e["index"] == e["line"] - 1 and e["input"] == "in.jsonl"
               for e in errors)
    with open(tmp_path / "out.jsonl", "rb") as file:
        assert sum(1 for _ in file) == n_good
    assert f"{n_bad} failed" in result.err


def test_the_error_file_holds_the_record(digits, tmp_path):
    lines = [text if isinstance(text, bytes) else text.encode() for text, _ in bad_records()]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    run("run", "-m", digits[0], "-i", "in.jsonl", "-o", "out.jsonl", "--max-record-bytes", "2000",
        cwd=tmp_path, check=1)
    errors = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert errors[0]["record"] == '{"id":1,"pixels":[1,2'
    assert errors[3]["record"] == {"id": 1, "pixels": "text"}
    assert "record_b64" in errors[8]
    assert errors[9]["record_truncated"] is True


@pytest.mark.parametrize("mode, code", [("crash_on", "host_crashed"), ("abort_on", "host_crashed"),
                                        ("exit_on", "host_crashed"), ("error_on", "model_error")])
def test_poison_is_found_and_blamed_alone(tmp_path, mode, code):
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "x": [i, 0]} for i in range(500)])
    run("run", "-m", f"echo:width=2,{mode}=321", "-i", "in.jsonl", "-o", "out.jsonl", "-b", "64",
        cwd=tmp_path, check=1)
    errors = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert [(e["id"], e["code"]) for e in errors] == [(321, code)]
    assert [a["id"] for a in read_jsonl(tmp_path / "out.jsonl")] == \
        [i for i in range(500) if i != 321]


def test_several_poisons_in_one_microbatch(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "x": [7 if i in (3, 4, 60) else 1]}
                                        for i in range(64)])
    run("run", "-m", "echo:width=1,crash_on=7", "-i", "in.jsonl", "-o", "out.jsonl", "-b", "64",
        cwd=tmp_path, check=1)
    assert [e["id"] for e in read_jsonl(tmp_path / "out.jsonl.errors.jsonl")] == [3, 4, 60]
    assert len(read_jsonl(tmp_path / "out.jsonl")) == 61


def test_a_record_that_hangs(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "x": [i]} for i in range(32)])
    run("run", "-m", "echo:width=1,hang_on=5", "--timeout", "400ms", "-i", "in.jsonl", "-o",
        "out.jsonl", "-b", "32", cwd=tmp_path, check=1)
    errors = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert [(e["id"], e["code"]) for e in errors] == [(5, "host_timeout")]


@pytest.mark.skipif(IS_SANITIZED, reason="sanitizers have their own limits")
def test_a_record_that_eats_memory(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "x": [i]} for i in range(16)])
    run("run", "-m", "echo:width=1,oom_on=5", "-i", "in.jsonl", "-o", "out.jsonl", "-b", "16",
        cwd=tmp_path, check=1, timeout=120)
    assert [e["id"] for e in read_jsonl(tmp_path / "out.jsonl.errors.jsonl")] == [5]


@pytest.mark.skipif(IS_SANITIZED, reason="the shim and the sanitizer both own SIGSEGV")
def test_a_model_library_that_crashes_on_one_record(digits, tmp_path):
    """The real ONNX Runtime behind a shim that raises SIGSEGV on one record."""
    shim = next((ROOT / "build" / "tests").glob("ort_shim.so"), None)
    library = ROOT / ".deps/lib/libonnxruntime.so"
    if shim is None or not library.exists():
        pytest.skip("the shim was not built")
    records = read_jsonl(digits[1])[:1000]
    records[700]["pixels"][0] = 99
    write_jsonl(tmp_path / "in.jsonl", records)
    run("run", "-m", digits[0], "-i", "in.jsonl", "-o", "out.jsonl", "-b", "128", "--onnxruntime",
        shim, cwd=tmp_path, check=1,
        env={"TIDEMILL_SHIM_TARGET": str(library), "TIDEMILL_SHIM_VALUE": "99",
             "TIDEMILL_SHIM_MODE": "segv"})
    errors = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert [(e["line"], e["code"]) for e in errors] == [(701, "host_crashed")]
    assert "SIGSEGV" in errors[0]["message"]
    assert len(read_jsonl(tmp_path / "out.jsonl")) == 999


def test_max_errors_stops_and_goes_on(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"x": [i]} if i % 10 else "{" for i in range(2000)])
    command = ["run", "-m", "echo:width=1", "-i", "in.jsonl", "-o", "out.jsonl"]
    result = run(*command, "--max-errors", "100", cwd=tmp_path, check=1)
    assert "101 of" in result.err and "--max-errors" in result.err
    assert not (tmp_path / "out.jsonl").exists()
    run(*command, "--max-errors", "50%", cwd=tmp_path, check=1)
    assert len(read_jsonl(tmp_path / "out.jsonl")) == 1800
    assert len(read_jsonl(tmp_path / "out.jsonl.errors.jsonl")) == 200


def test_max_errors_share(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"x": [i]} if i % 10 else "{" for i in range(2000)])
    result = run("run", "-m", "echo:width=1", "-i", "in.jsonl", "-o", "out.jsonl", "--max-errors",
                 "5%", cwd=tmp_path, check=1)
    assert "5%" in result.err and not (tmp_path / "out.jsonl").exists()


def test_duplicate_ids(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"id": i % 700, "x": [i]} for i in range(1000)])
    command = ["run", "-m", "echo:width=1", "-i", "in.jsonl"]
    run(*command, "-o", "all.jsonl", cwd=tmp_path, check=0)
    run(*command, "-o", "one.jsonl", "--duplicate-ids", "error", cwd=tmp_path, check=1)
    errors = read_jsonl(tmp_path / "one.jsonl.errors.jsonl")
    assert len(errors) == 300 and errors[0]["code"] == "duplicate_id"
    assert "line 1 " in errors[0]["message"]


def test_retry_errors_merges_in_order(tmp_path):
    """A model that failed on some records is mended; only those run again."""
    write_jsonl(tmp_path / "in.jsonl", [{"id": f"r{i}", "x": [i % 50]} for i in range(1000)])
    command = ["run", "-i", "in.jsonl", "-o", "out.jsonl", "-b", "16"]
    run(*command, "-m", "echo:width=1,error_on=7", cwd=tmp_path, check=1)
    assert len(read_jsonl(tmp_path / "out.jsonl")) == 980
    run(*command, "-m", "echo:width=1", "--retry-errors", cwd=tmp_path, check=0)
    run(*command[:3], "-o", "whole.jsonl", "-b", "16", "-m", "echo:width=1", cwd=tmp_path, check=0)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not (tmp_path / "out.jsonl.errors.jsonl").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "in.jsonl", "out.jsonl", "out.jsonl.journal", "whole.jsonl", "whole.jsonl.journal"]


def test_retry_keeps_what_fails_again(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [{"x": [i]} if i % 100 else "{" for i in range(1000)])
    command = ["run", "-i", "in.jsonl", "-o", "out.jsonl"]
    run(*command, "-m", "echo:width=1,error_on=7", cwd=tmp_path, check=1)
    before = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    run(*command, "-m", "echo:width=1", "--retry-errors", cwd=tmp_path, check=1)
    after = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert [(e["line"], e["index"]) for e in after] == \
        [(e["line"], e["index"]) for e in before if e["code"] != "model_error"]
    assert [a["id"] for a in read_jsonl(tmp_path / "out.jsonl")] == \
        [i + 1 for i in range(1000) if i % 100]


def test_retry_with_csv(models, tmp_path):
    rows = ["a,b,c"] + [f"{i},{'oops' if i == 5 else i},1" for i in range(20)]
    (tmp_path / "in.csv").write_text("\n".join(rows) + "\n")
    command = ["run", "-m", models / "identity_float.onnx", "-i", "in.csv", "-o", "out.csv",
               "--map", "x=a,b,c"]
    run(*command, cwd=tmp_path, check=1)
    errors = tmp_path / "out.csv.errors.jsonl"
    errors.write_text(errors.read_text().replace("oops", "5"))
    run(*command, "--retry-errors", cwd=tmp_path, check=0)
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert len(lines) == 21 and lines[6] == "7,5.0,5.0,1.0"


@pytest.mark.parametrize("text, expected", [
    (b'\xef\xbb\xbf{"x":[1]}\r\n\r\n{"x":[2]}', [1.0, 2.0]),  # mark, CRLF, blank line, no last end
    (b'{"x":[1]}\n\n\n{"x":[2]}\n', [1.0, 2.0]),
])
def test_odd_but_good_lines(tmp_path, text, expected):
    (tmp_path / "in.jsonl").write_bytes(text)
    run("run", "-m", "echo:width=1", "-i", "in.jsonl", "-o", "out.jsonl", cwd=tmp_path, check=0)
    assert [a["y"][0] for a in read_jsonl(tmp_path / "out.jsonl")] == expected


def test_deep_nesting_and_odd_numbers(tmp_path):
    deep = "[" * 100000 + "]" * 100000
    (tmp_path / "in.jsonl").write_text('{"x":%s}\n{"x":[-0]}\n{"x":[1e999]}\n{"x":[1]}\n' % deep)
    run("run", "-m", "echo:width=1", "-i", "in.jsonl", "-o", "out.jsonl", cwd=tmp_path, check=1)
    errors = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert [e["line"] for e in errors] == [1, 3]
    assert [a["y"] for a in read_jsonl(tmp_path / "out.jsonl")] == [[-0.0], [1.0]]


@pytest.mark.skipif(IS_SANITIZED, reason="a fake of 2 GB is slow there")
def test_a_line_of_two_gigabytes(tmp_path):
    """In bounded memory; the line is sparse on disk, so the test is cheap."""
    with open(tmp_path / "in.jsonl", "wb") as file:
        file.write(b'{"x":[1]}\n{"x":"')
        file.seek(2 << 30)
        file.write(b'"}\n{"x":[3]}\n')
    run("run", "-m", "echo:width=1", "-i", "in.jsonl", "-o", "out.jsonl", "--summary", "s.json",
        cwd=tmp_path, check=1)
    errors = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert [(e["line"], e["code"]) for e in errors] == [(2, "record_too_long")]
    assert [a["y"] for a in read_jsonl(tmp_path / "out.jsonl")] == [[1.0], [3.0]]
    assert json.loads((tmp_path / "s.json").read_text())["peak_memory_bytes"] < 200e6


def test_public_library(digits, tmp_path):
    """A C program over libtidemill does what the command does."""
    build = ROOT / "build"
    if not (build / "libtidemill.so").exists() or IS_SANITIZED:
        pytest.skip("no shared library in this build")
    (tmp_path / "main.c").write_text("""
#include <stdio.h>
#include <tidemill.h>
int main(int argc, char **argv)
{
    tidemill_job *job;
    tidemill_error *error = tidemill_job_new(&job);
    static const char *const names[] = {"model", "input", "output"};
    for (int i = 0; i < 3 && error == NULL && i + 1 < argc; i++)
        error = tidemill_job_set(job, names[i], argv[i + 1]);
    if (error == NULL) error = tidemill_job_run(job);
    if (error != NULL) fprintf(stderr, "%s\\n", tidemill_error_message(error));
    printf("%llu\\n", (unsigned long long)tidemill_job_records(job));
    int status = tidemill_error_exit_status(error);
    tidemill_error_free(error);
    tidemill_job_free(job);
    return status;
}
""")
    subprocess.run(["cc", "-Wall", "-Werror", "main.c", "-o", "main", f"-I{ROOT}/include",
                    f"-L{build}", "-ltidemill", f"-Wl,-rpath,{build}"], cwd=tmp_path, check=True)
    environment = {**os.environ, "TIDEMILL_BINARY": str(build / "tidemill")}
    result = subprocess.run(["./main", digits[0], digits[1], "out.jsonl"], cwd=tmp_path,
                            capture_output=True, text=True, env=environment)
    assert result.returncode == 0 and result.stdout == "20000\n", result.stderr


def test_a_record_that_kills_the_engine_too(tmp_path):
    """Without isolation a crash takes the engine along; the same command gets past it in the end."""
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "x": [i]} for i in range(300)])
    command = ["run", "-q", "-m", "echo:width=1,crash_on=41", "-i", "in.jsonl", "-o", "out.jsonl",
               "-b", "16", "--no-isolate"]
    for runs in range(1, 40):
        result = run(*command, cwd=tmp_path)
        if result.returncode >= 0:
            break
    assert result.returncode == 1 and runs > 3
    errors = read_jsonl(tmp_path / "out.jsonl.errors.jsonl")
    assert [(e["id"], e["code"]) for e in errors] == [(41, "host_crashed")]
    assert len(read_jsonl(tmp_path / "out.jsonl")) == 299
