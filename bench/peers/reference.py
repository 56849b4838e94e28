# SPDX-License-Identifier: Apache-2.0
"""Answers that are known to be right, and how long texts are.

    reference.py answers MODEL TOKENIZER|- INPUT COUNT  ->  {"rows": n, "name": output, "answers":
                                                             [[id, [numbers]], ...]}
    reference.py lengths TOKENIZER INPUT                ->  {"lengths": [tokens of each record]}
    reference.py ids TOKENIZER INPUT OUTPUT.jsonl       ->  the records as token ids

Each answer comes from a call of its own, without padding.
"""
import random
import sys

import orjson
import task

SEED = 5


def records_of(path):
    with open(path, "rb") as lines:
        return [orjson.loads(line) for line in lines]


def answers(model, tokenizer, source, count):
    is_text = tokenizer != "-"
    model = task.Model(model, tokenizer if is_text else None)
    field, records = "text" if is_text else "pixels", records_of(source)
    some = random.Random(SEED).sample(records, min(int(count), len(records)))
    return {"rows": len(records), "name": model.output,
            "answers": [[one["id"], model([one[field]])[0]] for one in some]}


def encoded(tokenizer, source):
    from tokenizers import Tokenizer
    records = records_of(source)
    texts = [record["text"] for record in records]
    return records, Tokenizer.from_file(tokenizer).encode_batch_fast(texts)


def lengths(tokenizer, source):
    return {"lengths": [len(one.ids) for one in encoded(tokenizer, source)[1]]}


def ids(tokenizer, source, target):
    with open(target, "wb") as out:
        for record, one in zip(*encoded(tokenizer, source)):
            out.write(orjson.dumps({
                "id": record["id"], "input_ids": one.ids, "attention_mask": one.attention_mask,
                "token_type_ids": one.type_ids}) + b"\n")


def main():
    made = {"answers": answers, "lengths": lengths, "ids": ids}[sys.argv[1]](*sys.argv[2:])
    if made is not None:
        sys.stdout.buffer.write(orjson.dumps(made, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")


if __name__ == "__main__":
    main()
