# SPDX-License-Identifier: Apache-2.0
"""Memory: it runs out at any allocation, and it stays bounded."""

import json
import os
import subprocess

import pytest
from conftest import IS_SANITIZED, ROOT, TIDEMILL, read_jsonl, run, write_jsonl

SHIM = ROOT / "build" / "tests" / "nth_malloc.so"


@pytest.mark.skipif(IS_SANITIZED or not SHIM.exists(), reason="needs the shim, without a sanitizer")
@pytest.mark.parametrize("ever", ["", "+"])
def test_every_allocation_may_fail(tmp_path, ever):
    write_jsonl(tmp_path / "in.jsonl", ['{"id":%d,"x":[%d]}' % (i, i) if i % 50 else "{"
                                        for i in range(2000)])
    command = ["run", "-q", "-m", "echo:width=1", "-i", tmp_path / "in.jsonl", "-b", "64",
               "--keep", "id2"]
    run(*command, "-o", tmp_path / "whole.jsonl", check=1)
    whole = (tmp_path / "whole.jsonl").read_bytes()
    output, mark = tmp_path / "out.jsonl", tmp_path / "mark"
    n, struck = 1, 0
    while n < 20000:
        for path in (output, tmp_path / "out.jsonl.journal", mark):
            path.unlink(missing_ok=True)
        result = subprocess.run(
            [TIDEMILL, *map(str, command), "-o", output], capture_output=True, timeout=60,
            env={**os.environ, "LD_PRELOAD": str(SHIM), "TIDEMILL_FAIL_MALLOC": f"{n}{ever}",
                 "TIDEMILL_FAIL_MARK": str(mark)})
        assert result.returncode in (1, 2, 3), (n, result.returncode, result.stderr)
        if result.returncode != 1:
            assert b"tidemill: error: " in result.stderr, (n, result.stderr)
        else:
            assert not output.exists() or output.read_bytes() == whole or mark.exists(), n
        if not mark.exists():
            break
        struck += 1
        run(*command, "-o", output, *(["--force"] if result.returncode == 1 else []), check=1)
        assert output.read_bytes() == whole, n
        n += 1 if n < 30 else n // 12
    assert struck > 30


@pytest.mark.skipif(IS_SANITIZED, reason="sanitizers have their own memory")
@pytest.mark.parametrize("n_rows", [20000, 400000])
def test_memory_does_not_grow_with_the_input(digits, tmp_path, n_rows):
    lines = digits[1].read_bytes()
    with open(tmp_path / "in.jsonl", "wb") as file:
        for _ in range(n_rows // 20000):
            file.write(lines)
    run("run", "-q", "-m", digits[0], "-i", "in.jsonl", "-o", "out.jsonl", "--summary", "s.json",
        cwd=tmp_path, check=0)
    assert json.loads((tmp_path / "s.json").read_text())["peak_memory_bytes"] < 60e6


@pytest.mark.skipif(IS_SANITIZED, reason="sanitizers have their own memory")
def test_one_large_record_among_small_ones(tmp_path):
    with open(tmp_path / "in.jsonl", "w", encoding="ascii") as file:
        for i in range(5000):
            pad = "x" * (200 << 20 if i == 2500 else 4000)
            file.write('{"id":%d,"x":[1],"pad":"%s"}\n' % (i, pad))
    run("run", "-q", "-m", "echo:width=1", "-i", "in.jsonl", "-o", "out.jsonl", "--summary",
        "s.json", cwd=tmp_path, check=1)
    assert [e["id"] is not None and e["line"] for e in
            read_jsonl(tmp_path / "out.jsonl.errors.jsonl")] == [2501]
    assert json.loads((tmp_path / "s.json").read_text())["peak_memory_bytes"] < 120e6
