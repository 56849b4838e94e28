# SPDX-License-Identifier: Apache-2.0
"""Writes examples/packages/tokens.py as a tokenizer.json, where the example has none.

    packages_tokenizer.py VOCAB.txt OUTPUT.json
"""
import sys
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers


def main():
    vocab, target = sys.argv[1:]
    ids = {token: i for i, token in enumerate(Path(vocab).read_text(encoding="utf-8").split())}
    made = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", continuing_subword_prefix="##",
                                      max_input_chars_per_word=10_000))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[a-z]+|[0-9]+|[^\sa-z0-9]"), "removed",
                                              invert=True)
    made.enable_truncation(64)
    made.save(target)


if __name__ == "__main__":
    main()
