#!/usr/bin/env python3
"""Turns text records into token records. Standard library only.

In: JSON Lines with id, text, section. Out, one line for each:
{"id": ..., "input_ids": [...], "attention_mask": [1, 1, ...], "section": ...}.
The lists have the record's own length, 1 to 64; nothing is padded.

The text is lower-cased and cut into runs of letters, runs of digits and single
marks. A run that is not in vocab.txt is cut from the left into the longest
pieces that are; pieces after the first are listed with ## in front. A token's
id is its line in vocab.txt, from 0. --build-vocab writes vocab.txt anew.
"""
import argparse
import collections
import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAD, UNKNOWN = "[PAD]", "[UNK]"  # ids 0 and 1
UNKNOWN_ID = 1
TOKENS_MAX = 64
PIECE_MAX = 6  # letters in a piece of a rare word
RUNS = re.compile(r"[a-z]+|[0-9]+|[^\sa-z0-9]")


def pieces(run, vocab):
    """Returns the longest pieces from the left, or UNKNOWN for the whole run."""
    found, start = [], 0
    while start < len(run):
        mark = "##" if start else ""
        for end in range(len(run), start, -1):
            if mark + run[start:end] in vocab:
                break
        else:
            return [UNKNOWN]
        found.append(mark + run[start:end])
        start = end
    return found


class Tokenizer:
    def __init__(self, vocab_lines):
        self.ids = {token: i for i, token in enumerate(vocab_lines)}
        self.known = {}  # run -> its ids

    def encode(self, text):
        ids = []
        for run in RUNS.findall(text.lower()):
            if run not in self.known:
                self.known[run] = [self.ids[p] for p in pieces(run, self.ids)]
            ids += self.known[run]
            if len(ids) >= TOKENS_MAX:
                break
        return ids[:TOKENS_MAX] or [UNKNOWN_ID]


def load_tokenizer(path=HERE / "vocab.txt"):
    return Tokenizer(path.read_text(encoding="utf-8").split())


def build_vocab(texts, size):
    """Returns the most frequent runs for three quarters, then pieces of the rest."""
    runs = collections.Counter(run for text in texts for run in RUNS.findall(text.lower()))
    ranked = sorted(runs, key=lambda r: (-runs[r], r))
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    vocab = dict.fromkeys([PAD, UNKNOWN, *letters, *("##" + c for c in letters)])
    vocab.update(dict.fromkeys(ranked[:size * 3 // 4 - len(vocab)]))

    weights = collections.Counter()  # letters that a piece could cover
    for run in ranked:
        if run in vocab or runs[run] < 2 or not run[0].isascii() or not run.isalnum():
            continue
        for start in range(len(run)):
            for end in range(start + 2, min(start + PIECE_MAX, len(run)) + 1):
                weights[("##" if start else "") + run[start:end]] += runs[run] * (end - start - 1)
    for piece in sorted(weights, key=lambda p: (-weights[p], p)):
        if len(vocab) >= size:
            break
        vocab[piece] = None
    return list(vocab)


def records(path):
    lines = sys.stdin if path == "-" else open(path, encoding="utf-8")
    with lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", nargs="?", default="-", help="default: standard input")
    parser.add_argument("--output", default="-", help="default: standard output")
    parser.add_argument("--vocab", type=Path, default=HERE / "vocab.txt")
    parser.add_argument("--build-vocab", type=int, metavar="SIZE",
                        help="write the vocabulary from the input instead")
    args = parser.parse_args()

    if args.build_vocab:
        vocab = build_vocab([r["text"] for r in records(args.input)], args.build_vocab)
        args.vocab.write_text("".join(f"{token}\n" for token in vocab), encoding="utf-8")
        return
    tokenizer = load_tokenizer(args.vocab)
    out = sys.stdout if args.output == "-" else open(args.output, "w", encoding="utf-8")
    with out:
        for record in records(args.input):
            ids = tokenizer.encode(record["text"])
            made = {"id": record["id"], "input_ids": ids, "attention_mask": [1] * len(ids),
                    "section": record.get("section")}
            out.write(json.dumps(made, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
