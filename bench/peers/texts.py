# SPDX-License-Identifier: Apache-2.0
"""Real texts: Debian's package descriptions, and docstrings of Python's standard library.

Nothing is made up. Lists are read with apt, into folders of our own, so that the machine's lists
stay as they are; where that fails, the short descriptions of the machine's lists are all there is.
"""
import ast
import json
import random
import subprocess
import sys
import sysconfig
from pathlib import Path

import data

PEERS = data.ROOT / ".deps/peers"
SEED = 20240601
DOCSTRING_CHARS = 80  # shorter ones are left out
CHANGED = 20          # every so many records is changed for the second run

sys.path.insert(0, str(data.ROOT / "examples/packages"))
import prepare  # noqa: E402  (the example's reader of apt's lists)


def write_records(path, records):
    with open(path, "w", encoding="utf-8") as out:
        out.writelines(json.dumps({"id": one, "text": text}, ensure_ascii=False) + "\n"
                       for one, text in records)


def apt(*command):
    """apt with lists of its own, translations too."""
    folder = PEERS / "apt"
    for part in "lists/partial", "cache/archives/partial":
        (folder / part).mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [command[0], "-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache",
         "-o", "Acquire::Languages=en", "-o", "APT::Sandbox::User=",
         "-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false", *command[1:]],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", errors="replace",
        check=True).stdout


def once(found):
    """Of (id, text) those with an id and a text that were not there before."""
    ids, texts = set(), set()
    for one, text in found:
        if text and one not in ids and text not in texts:
            ids.add(one)
            texts.add(text)
            yield one, text


def short_descriptions():
    """(package, text) in the lists' order."""
    for fields in prepare.stanzas(prepare.read_lines(None)):
        first_line = fields.get("Description", "").split("\n", 1)[0]
        yield fields["Package"], " ".join(first_line.split())


def long_descriptions():
    """The same with all lines, from the lists of translations."""
    apt("apt-get", "-qq", "update")
    for path in sorted((PEERS / "apt/lists").glob("*Translation-en*")):
        lines = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", path], encoding="utf-8",
                               stdout=subprocess.PIPE, check=True).stdout.splitlines()
        for fields in prepare.stanzas(lines):
            words = fields.get("Description-en", "").split()
            text = " ".join(word for word in words if word != ".")  # a dot is an empty line
            yield fields["Package"] + "/long", text


def descriptions(n_rows):
    """The short ones, then as many long ones as are needed."""
    def make(path):
        found = list(once(short_descriptions()))
        if len(found) < n_rows:
            try:
                found = list(once([*found, *long_descriptions()]))
            except (OSError, subprocess.CalledProcessError) as error:
                print(f"no long descriptions: {error}", file=sys.stderr)
        write_records(path, found[:n_rows])
    return data.made(data.WORK / f"descriptions-{n_rows}.jsonl", make)


def some_short(n_rows):
    """Short descriptions in random order."""
    def make(path):
        found = list(once(short_descriptions()))
        random.Random(SEED).shuffle(found)
        write_records(path, found[:n_rows])
    return data.made(data.WORK / f"short-{n_rows}.jsonl", make)


def docstrings_of(path):
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield " ".join(text.split())


def docstrings(n_rows):
    """Of the standard library and of numpy, those with a sentence or more."""
    def make(path):
        import numpy
        seen = {}
        for folder in Path(sysconfig.get_path("stdlib")), Path(numpy.__file__).parent:
            for source in sorted(folder.rglob("*.py")):
                if "site-packages" in source.parts and folder not in source.parents:
                    continue
                for text in docstrings_of(source):
                    if len(text) >= DOCSTRING_CHARS:
                        seen.setdefault(text, None)
        found = list(seen)
        random.Random(SEED).shuffle(found)
        write_records(path, enumerate(found[:n_rows]))
    return data.made(data.WORK / f"docstrings-{n_rows}.jsonl", make)


def lines_of(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def doubled(source):
    """The first half of the records, each twice, in random order: as many as before."""
    def make(path):
        half = lines_of(source)
        half = half[:len(half) // 2]
        found = [(f"{one['id']}/{copy}", one["text"]) for one in half for copy in (1, 2)]
        random.Random(SEED).shuffle(found)
        write_records(path, found)
    return data.made(source.with_name(source.stem + "-doubled.jsonl"), make)


def changed(source):
    """Every twentieth text is another one: the next record's put behind it."""
    def make(path):
        records = lines_of(source)
        write_records(path, (
            (one["id"], one["text"] if i % CHANGED else
             f"{one['text']} {records[(i + 1) % len(records)]['text']}")
            for i, one in enumerate(records)))
    return data.made(source.with_name(source.stem + "-changed.jsonl"), make)
