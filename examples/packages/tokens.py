#!/usr/bin/env python3
"""How the text becomes token ids: for training, and as tokenizer.json. Standard library only.

The text is lower-cased and cut into runs of letters, runs of digits and single
marks. A run that is not in the vocabulary is cut from the left into the longest
pieces that are; pieces after the first are listed with ## in front. A text of
white space is one unknown token; more than 64 tokens are cut.

tokenizer.json says the same to programs that read it, tidemill among them.
Called as a program, this writes tokenizer.json anew, with a vocabulary from
the texts of train.jsonl.
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
RUNS = r"[a-z]+|[0-9]+|[^\sa-z0-9]"


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
    def __init__(self, vocab):
        self.ids = vocab  # token -> id
        self.runs = re.compile(RUNS)
        self.known = {}  # run -> its ids

    def encode(self, text):
        ids = []
        for run in self.runs.findall(text.lower()):
            if run not in self.known:
                self.known[run] = [self.ids[p] for p in pieces(run, self.ids)]
            ids += self.known[run]
            if len(ids) >= TOKENS_MAX:
                break
        return ids[:TOKENS_MAX] or [UNKNOWN_ID] * (text != "")


def load_tokenizer(path=HERE / "tokenizer.json"):
    return Tokenizer(json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"])


def as_json(vocab):
    """The content of tokenizer.json. \\x1c to \\x1f are white space to Python only, so they are named."""
    runs = RUNS.replace(r"\s", r"\s\x1c-\x1f")
    empty = {"type": "Replace", "pattern": {"Regex": r"\A[\s\x1c-\x1f]*\z"}, "content": "\ufffd"}
    return {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": TOKENS_MAX, "strategy": "LongestFirst",
                       "stride": 0},
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, empty]},
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": runs}, "behavior": "Removed",
                          "invert": True},
        "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "model": {"type": "WordPiece", "unk_token": UNKNOWN, "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 1 << 30,
                  "vocab": {token: i for i, token in enumerate(vocab)}},
    }


def build_vocab(texts, size):
    """Returns the most frequent runs for three quarters, then pieces of the rest."""
    runs = collections.Counter(run for text in texts for run in re.findall(RUNS, text.lower()))
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
    parser.add_argument("input", nargs="?", default="train.jsonl", help="default: train.jsonl")
    parser.add_argument("--output", type=Path, default=HERE / "tokenizer.json")
    parser.add_argument("--size", type=int, default=4000, help="tokens in the vocabulary")
    args = parser.parse_args()

    vocab = build_vocab([r["text"] for r in records(args.input)], args.size)
    text = json.dumps(as_json(vocab), ensure_ascii=False, indent=1)
    args.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
