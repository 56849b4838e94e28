# SPDX-License-Identifier: Apache-2.0
"""--retry-errors: what the retry must know of the job that it mends."""

import json
import os
import subprocess

from conftest import commits, leftovers, read_jsonl, run, write_jsonl

MODEL = ["-m", "echo:width=2"]


def mend(path, change):
    lines = [change(json.loads(line)) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_ids_stay_what_they_were(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"id": "a", "x": [1, 2]}, "not json", {"id": "c", "x": [3]}])
    command = ["run", *MODEL, "-i", "a.jsonl", "-o", "b.jsonl"]
    run(*command, cwd=tmp_path, check=1)

    def change(error):
        return dict(error, record={"id": "c", "x": [3, 4]}) if error["line"] == 3 else error
    mend(tmp_path / "b.jsonl.errors.jsonl", change)
    run(*command, "--retry-errors", cwd=tmp_path, check=1)
    assert [a["id"] for a in read_jsonl(tmp_path / "b.jsonl")] == ["a", "c"]


def test_records_that_were_cut_or_are_no_text_stay(tmp_path):
    lines = [b'{"x":[1,2]}', b'{"x":[1,"\xff"]}', b'{"x":[5,6],"pad":"' + b"y" * 3000 + b'"}']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    command = ["run", *MODEL, "-i", "a.jsonl", "-o", "b.jsonl", "--max-record-bytes", "1000"]
    run(*command, cwd=tmp_path, check=1)
    before = (tmp_path / "b.jsonl.errors.jsonl").read_bytes()
    run(*command, "--retry-errors", cwd=tmp_path, check=1)
    assert (tmp_path / "b.jsonl.errors.jsonl").read_bytes() == before


def test_a_json_string_is_no_record_on_retry_either(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"x": [1, 2]}, json.dumps(json.dumps({"x": [3, 4]}))])
    command = ["run", *MODEL, "-i", "a.jsonl", "-o", "b.jsonl"]
    run(*command, cwd=tmp_path, check=1)
    before = (tmp_path / "b.jsonl.errors.jsonl").read_bytes()
    run(*command, "--retry-errors", cwd=tmp_path, check=1)
    assert (tmp_path / "b.jsonl.errors.jsonl").read_bytes() == before


def test_a_csv_job_twice(tmp_path):
    (tmp_path / "a.csv").write_text("id,p,q\n1,1.5,2\n2,x,4\n3,5,6\n4,y,8\n")
    command = ["run", *MODEL, "-i", "a.csv", "-o", "b.jsonl"]
    run(*command, cwd=tmp_path, check=1)
    errors = tmp_path / "b.jsonl.errors.jsonl"
    mend(errors, lambda e: dict(e, record=dict(e["record"], p="3")) if e["id"] == "2" else e)
    run(*command, "--retry-errors", cwd=tmp_path, check=1)
    assert [e["input"] for e in read_jsonl(errors)] == ["a.csv"]
    mend(errors, lambda e: dict(e, record=dict(e["record"], p="7")))
    run(*command, "--retry-errors", cwd=tmp_path, check=0)
    assert [(a["id"], a["y"]) for a in read_jsonl(tmp_path / "b.jsonl")] == [
        ("1", [1.5, 2.0]), ("2", [3.0, 4.0]), ("3", [5.0, 6.0]), ("4", [7.0, 8.0])]


def test_an_only_cell_that_is_empty(tmp_path):
    (tmp_path / "a.csv").write_text('x\n1\n""\n3\n')
    command = ["run", "-m", "echo:width=1", "-i", "a.csv", "-o", "b.jsonl"]
    run(*command, cwd=tmp_path, check=1)
    run(*command, "--retry-errors", cwd=tmp_path, check=1)
    assert len(read_jsonl(tmp_path / "b.jsonl")) == 2


def test_duplicates_stay_out(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"id": 1, "x": [1, 2]}, {"id": 1, "x": [3, 4]}])
    command = ["run", *MODEL, "-i", "a.jsonl", "-o", "b.jsonl", "--duplicate-ids", "error"]
    run(*command, cwd=tmp_path, check=1)
    run(*command, "--retry-errors", cwd=tmp_path, check=1)
    assert len(read_jsonl(tmp_path / "b.jsonl")) == 1


def test_a_merge_that_is_made_again_counts_the_same(tmp_path):
    """Killed between the merge's commit and its end: the journal stays whole."""
    write_jsonl(tmp_path / "a.jsonl", [{"x": [1, 2]}, {"x": [1]}, {"x": [2]}])
    command = ["run", *MODEL, "-i", "a.jsonl", "-o", "b.jsonl"]
    run(*command, cwd=tmp_path, check=1)
    output, errors = tmp_path / "b.jsonl", tmp_path / "b.jsonl.errors.jsonl"
    mend(errors, lambda e: dict(e, record={"x": [7, 7]}) if e["line"] == 2 else e)
    before = output.read_bytes(), errors.read_bytes()
    run(*command, "--retry-errors", cwd=tmp_path, check=1)
    output.write_bytes(before[0])
    errors.write_bytes(before[1])
    journal = tmp_path / "b.jsonl.journal"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-2]))
    run(*command, "--retry-errors", cwd=tmp_path, check=1)
    result = run(*command, cwd=tmp_path, check=1)
    assert "3 records, 1 of them failed" in result.err
    assert not leftovers(tmp_path)


def test_a_merge_that_is_made_again_bills_its_tokens_once(tmp_path):
    """Killed between the merge's commit and its end: what the journal sums up was paid once."""
    model = ["-m", "echo:json=1,usage=1"]  # a token a word
    write_jsonl(tmp_path / "a.jsonl", [{"q": "a b c"}, "not json", "not json either", {"q": "d e"}])
    command = ["run", *model, "-i", "a.jsonl", "-o", "b.jsonl"]
    run(*command, cwd=tmp_path, check=1)
    output, errors = tmp_path / "b.jsonl", tmp_path / "b.jsonl.errors.jsonl"
    mend(errors, lambda e: dict(e, record={"q": "one two"}) if e["line"] == 2 else e)
    journal = tmp_path / "b.jsonl.journal"
    before = [(path, path.read_bytes()) for path in (output, errors)]
    run(*command, "--retry-errors", cwd=tmp_path, check=1)
    tokens = commits(journal)[-1]["tokens"]
    for path, content in before:
        path.write_bytes(content)
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-2]))
    run(*command, "--retry-errors", cwd=tmp_path, check=1)
    assert commits(journal)[-1]["tokens"] == tokens


def test_force_with_a_mistake_keeps_the_checkpoint(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"x": [1, 2]}])
    command = ["run", *MODEL, "-i", "a.jsonl", "-o", "b.jsonl"]
    run(*command, cwd=tmp_path, check=0)
    run(*command, "--force", "--post", "sofmax", cwd=tmp_path, check=2)
    assert (tmp_path / "b.jsonl.journal").exists() and (tmp_path / "b.jsonl").exists()


def test_nothing_that_is_read_is_written(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"x": [1, 2]}])
    before = (tmp_path / "a.jsonl").read_bytes()
    for option in "--errors", "--summary":
        result = run("run", *MODEL, "-i", "a.jsonl", "-o", "b.jsonl", option, "./a.jsonl",
                     cwd=tmp_path, check=2)
        assert option in result.err
    run("run", *MODEL, "-i", "a.jsonl", "-o", "./a.jsonl", "--force", cwd=tmp_path, check=2)
    assert (tmp_path / "a.jsonl").read_bytes() == before


def test_a_pattern_leaves_its_own_output_out(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"x": [1, 2]}, "{"])
    command = ["run", *MODEL, "-i", "*.jsonl", "-o", "out.jsonl"]
    run(*command, cwd=tmp_path, check=1)
    assert "complete already" in run(*command, cwd=tmp_path, check=1).err


SLOW_DISK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int fdatasync(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size > 0 && (path[size] = 0, strstr(path, "b.jsonl.partial") != NULL)) {
        sleep(2);
        errno = EIO;
        return -1;
    }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
"""


def test_a_disk_that_is_slow_and_then_fails_does_not_hang_the_job(tmp_path):
    from conftest import TIDEMILL
    (tmp_path / "slow.c").write_text(SLOW_DISK)
    subprocess.run(["cc", "-shared", "-fPIC", "slow.c", "-o", "slow.so", "-ldl"], cwd=tmp_path,
                   check=True)
    write_jsonl(tmp_path / "a.jsonl", ['{"x":[%d,1]}' % i for i in range(20000)])
    result = subprocess.run(
        [TIDEMILL, "run", "-q", *MODEL, "-i", "a.jsonl", "-o", "b.jsonl", "-b", "1"], cwd=tmp_path,
        env={**os.environ, "LD_PRELOAD": str(tmp_path / "slow.so")}, capture_output=True,
        timeout=60)
    assert result.returncode == 3 and b"b.jsonl.partial" in result.stderr
