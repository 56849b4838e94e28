#!/usr/bin/env python3
"""Writes JSON Lines from the held-out digit images. Standard library only.

Without --rows: the held-out images, {"id": "d0004", "pixels": [...], "label": 4}.
With --rows N: N records with integer ids, each a held-out image shifted by up
to one pixel, with small noise. The same seed gives the same bytes.

The large file is put together from ready strings. A shifted image is four
strips of 16 pixels, and each strip has 16 noisy versions, so a record is five
table look-ups and there are 359 * 9 * 16**4 (about 212 million) of them.
"""
import argparse
import csv
import gzip
import json
import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
STRIP = 16     # pixels in a strip: two lines of the image
VERSIONS = 16  # noisy versions of a strip
CHUNK = 10000  # records joined before one write


def held_out():
    """Yields (row number, 64 pixels, label) of every fifth image, as train.py."""
    with gzip.open(HERE / "digits.csv.gz", "rt", newline="") as f:
        for number, row in enumerate(csv.reader(f)):
            if number % 5 == 4:
                values = [int(float(v)) for v in row]
                yield number, values[:64], values[64]


def shift(pixels, dy, dx):
    """Moves an image by whole pixels; what comes in at the edge is 0."""
    return [
        pixels[(y - dy) * 8 + x - dx] if 0 <= y - dy < 8 and 0 <= x - dx < 8 else 0
        for y in range(8) for x in range(8)
    ]


def make_noise(rng):
    """Returns VERSIONS lists of STRIP steps; about half of the steps are 0."""
    steps = [-2, -1, 0, 0, 0, 0, 1, 2]
    return [[steps[rng.getrandbits(3)] for _ in range(STRIP)] for _ in range(VERSIONS)]


def make_pieces(rng):
    """Returns [(four lists of strip texts, end of the record)] for each shifted image."""
    noise = [make_noise(rng) for _ in range(64 // STRIP)]
    text = {v: str(min(max(v, 0), 16)) for v in range(-2, 19)}
    pieces = []
    for _, pixels, label in held_out():
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                moved = shift(pixels, dy, dx)
                strips = [
                    [",".join([text[v + n] for v, n in zip(moved[at:at + STRIP], version)])
                     for version in noise[at // STRIP]]
                    for at in range(0, 64, STRIP)
                ]
                pieces.append((strips, f'],"label":{label}}}\n'))
    return pieces


def write_many(out, rows, seed):
    rng = random.Random(seed)
    pieces = make_pieces(rng)
    count, bits = len(pieces), rng.getrandbits
    for start in range(1, rows + 1, CHUNK):
        lines = []
        for number in range(start, min(start + CHUNK, rows + 1)):
            r = bits(48)
            (a, b, c, d), end = pieces[(r >> 16) % count]
            lines.append(f'{{"id":{number},"pixels":[{a[r & 15]},{b[r >> 4 & 15]},'
                         f'{c[r >> 8 & 15]},{d[r >> 12 & 15]}{end}')
        out.write("".join(lines))


def write_held_out(out):
    for number, pixels, label in held_out():
        record = {"id": f"d{number:04d}", "pixels": pixels, "label": label}
        out.write(json.dumps(record, separators=(",", ":")) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, help="write this many made records instead")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", help="a file, or - for standard output; "
                        "default heldout.jsonl, or digits-N.jsonl with --rows N")
    args = parser.parse_args()
    if args.rows is not None and args.rows < 0:
        parser.error("--rows must not be negative")

    path = args.output or ("heldout.jsonl" if args.rows is None else f"digits-{args.rows}.jsonl")
    out = sys.stdout if path == "-" else open(path, "w", encoding="ascii", newline="\n")
    with out:
        if args.rows is None:
            write_held_out(out)
        else:
            write_many(out, args.rows, args.seed)


if __name__ == "__main__":
    main()
