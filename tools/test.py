#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the unit tests (meson, cmocka) and the end-to-end tests (pytest) of one build, and counts.

In: a build folder that is up to date. Out: the tests' own reports, then "N passed, N failed" alone
on the last line (", N skipped" where some were), or with --tally a line in that file; exit status
0 only if something ran and nothing failed. A unit test that ends without a count, by a crash or a time-out, counts as one failure.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTEST_NO_TESTS = 5


def count_of(label, text):
    """The sum of cmocka's closing lines: "[  PASSED  ] 3 test(s)."."""
    return sum(int(n) for n in re.findall(rf"\[  {label} +\] (?:.*: )?(\d+) test\(s\)", text))


def run_unit(build, suite):
    log = build / "meson-logs" / "testlog.json"
    log.unlink(missing_ok=True)
    command = ["meson", "test", "-C", build, "--no-rebuild", "--print-errorlogs"]
    status = subprocess.run(command + (["--suite", suite] if suite else [])).returncode
    passed = failed = skipped = 0
    for line in log.read_text().splitlines() if log.exists() else []:
        test = json.loads(line)
        text = (test.get("stdout") or "") + (test.get("stderr") or "")
        n_failed = count_of("FAILED", text)
        passed += count_of("PASSED", text)
        skipped += count_of("SKIPPED", text)
        failed += n_failed if n_failed > 0 or test["result"] in ("OK", "SKIP") else 1
    if status != 0 and failed == 0:
        failed = 1
    return passed, failed, skipped


def run_e2e(build, is_quick):
    report = build / "meson-logs" / "e2e.xml"
    report.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", f"--junitxml={report}",
        "--timeout=300", "-o", "markers=slow: not part of the quick set",
    ]
    if is_quick:
        command += ["-m", "not slow"]
    environment = dict(os.environ, TIDEMILL=str(build / "tidemill"), PYTHONDONTWRITEBYTECODE="1")
    status = subprocess.run(
        command + ["tests/e2e"], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL
    ).returncode
    if status == PYTEST_NO_TESTS:
        return 0, 0, 0
    if not report.exists():
        return 0, 1, 0
    total = failed = skipped = 0
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        total += int(suite.get("tests"))
        failed += int(suite.get("failures")) + int(suite.get("errors"))
        skipped += int(suite.get("skipped"))
    if status != 0 and failed == 0:
        failed = 1
    return max(total - failed - skipped, 0), failed, skipped


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("--suite", default="", help="meson suite, e.g. threads; default: all")
    parser.add_argument("--e2e", choices=["all", "quick", "none"], default="all")
    parser.add_argument("--tally", type=Path, help="add the counts as a line to this file")
    options = parser.parse_args()
    build = options.build.resolve()

    counts = [run_unit(build, options.suite)]
    if options.e2e != "none" and (ROOT / "tests" / "e2e").is_dir():
        counts.append(run_e2e(build, options.e2e == "quick"))
    passed, failed, skipped = (sum(column) for column in zip(*counts))
    if options.tally:
        with options.tally.open("a") as tally:
            print(passed, failed, skipped, file=tally)
    else:
        print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
