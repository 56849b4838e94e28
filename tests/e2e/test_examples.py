# SPDX-License-Identifier: Apache-2.0
"""The examples as their pages have them, on small data."""

import subprocess
import sys

from conftest import ROOT, read_jsonl, run

DIGITS, PACKAGES = ROOT / "examples/digits", ROOT / "examples/packages"


def script(path, *arguments, cwd, **more):
    return subprocess.run([sys.executable, path, *map(str, arguments)], cwd=cwd, check=True,
                          capture_output=True, text=True, **more)


def test_digits(tmp_path):
    script(DIGITS / "make_data.py", "--output", "heldout.jsonl", cwd=tmp_path)
    run("run", "-m", DIGITS / "digits.onnx", "-i", "heldout.jsonl", "-o", "out.jsonl", "--post",
        "softmax,argmax", "--labels", DIGITS / "labels.txt", "--keep", "label", cwd=tmp_path,
        check=0)
    score = script(DIGITS / "score.py", "--truth", "label", "--answer", "logits.label", "--min",
                   "0.98", "out.jsonl", cwd=tmp_path)
    assert score.stdout.startswith("accuracy 0.98")


STANZAS = """\
Package: libfoo-perl
Section: perl
Description: Perl module for parsing foo files

Package: python3-bar
Section: python
Description: Python 3 bindings for the bar library

Package: baz-doc
Section: doc
Description: documentation for the baz toolkit
"""


def test_packages(tmp_path):
    script(PACKAGES / "prepare.py", "--input", "-", "--output-dir", tmp_path, cwd=tmp_path,
           input=STANZAS)
    rows = [*read_jsonl(tmp_path / "train.jsonl"), *read_jsonl(tmp_path / "heldout.jsonl")]
    assert len(rows) == 3
    for name in "train", "heldout":
        script(PACKAGES / "tokens.py", f"{name}.jsonl", "--output", f"{name}.tokens.jsonl",
               cwd=tmp_path)
    run("run", "-m", PACKAGES / "packages.onnx", "-i", "*.tokens.jsonl", "-o", "out.jsonl",
        "--post", "softmax,argmax", "--labels", PACKAGES / "labels.txt", "--keep", "section",
        cwd=tmp_path, check=0)
    answers = read_jsonl(tmp_path / "out.jsonl")
    assert len(answers) == 3
    assert sum(a["label"] == a["section"] for a in answers) >= 2
