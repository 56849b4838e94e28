# SPDX-License-Identifier: Apache-2.0
"""What the tests of GGUF models share: prompts, a job and its answers."""

import random
from pathlib import Path

from conftest import TIDEMILL, read_jsonl, run, write_jsonl

REFERENCE = Path(TIDEMILL).parent / "tests" / "llama_reference"

# llama.cpp's threads wait for each other busily: on a machine that is full they take turns at it.
ONE_THREAD = ["--threads", 1]
WORDS = ("the quick brown fox jumps over lazy dog and then it runs away from other animals in "
         "forest because they want play with all day long while sun is shining").split()


def prompts(n, seed=1, longest=60):
    dice = random.Random(seed)
    return [" ".join(dice.choices(WORDS, k=dice.randint(1, longest))) for _ in range(n)]


def ask(folder, model, records, *options, check=0):
    """Answers by id; the error lines as well."""
    folder.mkdir(exist_ok=True)
    out = folder / "out.jsonl"
    numbered = [{"id": i, **record} for i, record in enumerate(records)]
    run("run", "-m", model, "-i", write_jsonl(folder / "in.jsonl", numbered), "-o", out, "--force",
        *ONE_THREAD, *options, check=check)
    errors = folder / "out.jsonl.errors.jsonl"
    return ({line["id"]: line["response"] for line in read_jsonl(out)},
            {line["id"]: line for line in read_jsonl(errors)} if errors.exists() else {})
