# SPDX-License-Identifier: Apache-2.0
"""The examples as their pages have them, on small data."""

import os
import subprocess
import sys

import pytest

from conftest import ROOT, TIDEMILL, read_jsonl, run, write_jsonl

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
    run("run", "-m", PACKAGES / "packages.onnx", "-i", "train.jsonl", "-i", "heldout.jsonl", "-o",
        "out.jsonl",
        "--post", "softmax,argmax", "--labels", PACKAGES / "labels.txt", "--keep", "section",
        cwd=tmp_path, check=0)
    answers = read_jsonl(tmp_path / "out.jsonl")
    assert len(answers) == 3
    assert sum(a["label"] == a["section"] for a in answers) >= 2


ODD_TEXTS = [
    "", "   ", "\x1c\n", "a" * 500, "[UNK] [PAD]", "x\u200by\xa0z\x85q", "1\uff123 a\xe9", "İSTANBUL ΣΑΣ.",
    "the ’quoted’ — and –", "日本語 abc", "libqt5x11extras5-dev: Qt 5 X11 extras -- development", "w " * 70,
]


def test_packages_tokens_are_those_of_training(tmp_path, models):
    """tokens.py and tokenizer.json say the same."""
    sys.path.insert(0, str(PACKAGES))
    import tokens
    sys.path.pop(0)
    texts = ODD_TEXTS + STANZAS.splitlines() + (PACKAGES / "README.md").read_text().splitlines()
    texts = [text for text in texts if text]
    write_jsonl(tmp_path / "in.jsonl", [{"text": text} for text in texts])
    run("run", "-m", models / "token_echo.onnx", "--tokenizer", PACKAGES / "tokenizer.json", "-i",
        "in.jsonl", "-o", "out.jsonl", "--output-name", "ids", "-b", "16", cwd=tmp_path, check=0)
    tokenizer = tokens.load_tokenizer()
    assert [r["ids"] for r in read_jsonl(tmp_path / "out.jsonl")] == [
        tokenizer.encode(text) for text in texts]
    # the vocabulary comes from the texts alone
    write_jsonl(tmp_path / "train.jsonl", [{"text": text} for text in texts])
    script(PACKAGES / "tokens.py", "train.jsonl", "--output", "made.json", "--size", "150",
           cwd=tmp_path)
    made = tokens.load_tokenizer(tmp_path / "made.json")
    assert len(made.ids) == 150 and made.ids["[UNK]"] == 1 and "tokens" in made.ids


@pytest.mark.parametrize("name, library", [("sklearn", "sklearn"), ("pytorch", "torch")])
def test_python_models(tmp_path, name, library):
    python = os.environ.get("TIDEMILL_EXAMPLES_PYTHON", sys.executable)
    if subprocess.run([python, "-c", f"import {library}"], capture_output=True).returncode != 0:
        pytest.skip(f"no {library} here")
    result = subprocess.run([ROOT / "examples" / name / "demo.sh"], capture_output=True, text=True,
                            env={**os.environ, "PYTHON": python, "TIDEMILL": TIDEMILL,
                                 "DEMO_DIR": str(tmp_path)})
    assert result.returncode == 0, result.stderr
    assert "accuracy 0.9" in result.stdout
