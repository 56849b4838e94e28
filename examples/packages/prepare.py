#!/usr/bin/env python3
"""Makes training records from apt's package lists. Standard library only.

In: the output of `apt-cache dumpavail`, run by this script or given with
--input. Out: train.jsonl and heldout.jsonl, one record a package:
{"id": "package", "text": "its description", "section": "libs"}.

About a tenth is held out. A hash of the source package's name decides, so
packages that are built together, which often share a description, stay on the
same side, and the split does not depend on the order or the machine.
Sections that are not in labels.txt are left out; --choose-labels N writes
labels.txt anew with the N largest sections.
"""
import argparse
import collections
import hashlib
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIELDS = {"Package", "Source", "Section", "Description", "Description-en"}


def stanzas(lines):
    """Yields a dictionary of the FIELDS of each package."""
    fields, name = {}, None
    for line in lines:
        line = line.rstrip("\n")
        if not line:
            if fields:
                yield fields
            fields, name = {}, None
        elif line[0] in " \t":
            if name in fields:
                fields[name] += "\n" + line.strip()
        else:
            name, _, value = line.partition(":")
            if name in FIELDS:
                fields[name] = value.strip()
    if fields:
        yield fields


def packages(lines):
    """Yields (package, source, section, text); the first of several versions counts."""
    seen = set()
    for fields in stanzas(lines):
        package = fields.get("Package")
        text = fields.get("Description-en") or fields.get("Description")
        section = fields.get("Section", "").rpartition("/")[2]  # non-free/libs is libs
        if not package or not text or not section or package in seen:
            continue
        seen.add(package)
        source = (fields.get("Source") or package).split()[0]
        yield package, source, section, " ".join(text.split())


def is_held_out(source):
    return int.from_bytes(hashlib.sha256(source.encode()).digest()[:4], "big") % 10 == 0


def read_lines(path):
    if path == "-":
        yield from sys.stdin
    elif path:
        with open(path, encoding="utf-8", errors="replace") as f:
            yield from f
    else:
        command = ["apt-cache", "dumpavail"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8",
                              errors="replace") as process:
            yield from process.stdout
        if process.returncode != 0:
            sys.exit(f"apt-cache dumpavail: exit status {process.returncode}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", help="saved output of apt-cache dumpavail, - for standard input")
    parser.add_argument("--output-dir", type=Path, default=Path("."))
    parser.add_argument("--choose-labels", type=int, metavar="N",
                        help="write labels.txt with the N largest sections first")
    args = parser.parse_args()

    found = sorted(packages(read_lines(args.input)))
    if not found:
        sys.exit("no packages found; does `apt-get update` help?")
    labels_path = HERE / "labels.txt"
    if args.choose_labels:
        sizes = collections.Counter(section for _, _, section, _ in found)
        largest = sorted(sizes, key=lambda s: (-sizes[s], s))[:args.choose_labels]
        labels_path.write_text("".join(f"{s}\n" for s in sorted(largest)))
    labels = set(labels_path.read_text().split())

    args.output_dir.mkdir(parents=True, exist_ok=True)
    counts = [0, 0]
    with open(args.output_dir / "train.jsonl", "w", encoding="utf-8") as train, \
            open(args.output_dir / "heldout.jsonl", "w", encoding="utf-8") as held:
        for package, source, section, text in found:
            if section not in labels:
                continue
            side = is_held_out(source)
            record = {"id": package, "text": text, "section": section}
            (held if side else train).write(json.dumps(record, ensure_ascii=False) + "\n")
            counts[side] += 1
    print(f"{len(found)} packages; {len(labels)} sections; "
          f"train {counts[0]}, held out {counts[1]}, left out {len(found) - sum(counts)}")


if __name__ == "__main__":
    main()
