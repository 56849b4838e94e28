#!/usr/bin/env python3
"""Prints the accuracy of predictions in JSON Lines. Standard library only.

Two fields of each line are compared as strings: --truth and --answer. A name
with dots goes into objects and lists: logits.label, or logits.top.0.label.
A line without one of the fields counts as wrong and is reported.
Exit status 1: no lines, or accuracy below --min.
"""
import argparse
import json
import sys


def find(value, path):
    """Returns the value at the path, or None."""
    for name in path.split("."):
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


def count(lines, truth, answer):
    """Returns lines seen, lines that agree, lines that lack a field."""
    rows = right = lacking = 0
    for line in lines:
        if not line.strip():
            continue
        record = json.loads(line)
        want, got = find(record, truth), find(record, answer)
        rows += 1
        lacking += want is None or got is None
        right += want is not None and str(want) == str(got)
    return rows, right, lacking


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", default="-", help="default: standard input")
    parser.add_argument("--truth", default="label", help="field with the right answer")
    parser.add_argument("--answer", default="prediction", help="field with the model's answer")
    parser.add_argument("--min", type=float, default=0, help="least accuracy for exit status 0")
    args = parser.parse_args()

    lines = sys.stdin if args.file == "-" else open(args.file, encoding="utf-8")
    with lines:
        rows, right, lacking = count(lines, args.truth, args.answer)
    if lacking:
        print(f"{lacking} of {rows} lines lack '{args.truth}' or '{args.answer}'", file=sys.stderr)
    if rows == 0:
        print("no lines", file=sys.stderr)
        return 1
    print(f"accuracy {right / rows:.4f} ({right} of {rows})")
    return 0 if right / rows >= args.min else 1


if __name__ == "__main__":
    sys.exit(main())
