# SPDX-License-Identifier: Apache-2.0
"""What the scripts of all frameworks share: their arguments, and the model as a function.

Each is called as SCRIPT --model M --input RECORDS.jsonl --output FILE-OR-FOLDER --scratch FOLDER
--threads N [--tokenizer T] and whatever is its own. A record has an id and pixels (64 small
integers) or a text; an answer has the id and the model's output under its name.
"""
import argparse

import numpy
import onnxruntime
import orjson

BATCH_TOKENS = 1024  # of the loop that sorts


def parse(*own):
    """own: (name, type, default) of the script's own options."""
    parser = argparse.ArgumentParser()
    for name in "model", "input", "output", "scratch":
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--tokenizer")
    parser.add_argument("--threads", type=int, default=1)
    for name, kind, default in own:
        parser.add_argument(f"--{name}", type=kind, default=default)
    return parser.parse_args()


def field_of(options):
    return "text" if options.tokenizer else "pixels"


class Model:
    """Called with a list of pixel lists, or of texts, it answers with an array [n, outputs]."""

    def __init__(self, model, tokenizer=None, threads=1):
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
        self.session = onnxruntime.InferenceSession(model, settings)
        self.inputs = [one.name for one in self.session.get_inputs()]
        self.output = self.session.get_outputs()[0].name
        if tokenizer:
            from tokenizers import Tokenizer
            self.tokenizer = Tokenizer.from_file(tokenizer)
        self.is_text = bool(tokenizer)

    def __call__(self, values):
        return self.of_texts(values) if self.is_text else self.of_pixels(values)

    def of_pixels(self, values):
        pixels = numpy.asarray(values, dtype=numpy.float32)
        return self.session.run([self.output], {self.inputs[0]: pixels})[0]

    def of_texts(self, texts):
        return self.of_encodings(self.tokenizer.encode_batch_fast(texts))

    def of_encodings(self, encodings):
        """Padded to the longest of them."""
        longest = max(len(one.ids) for one in encodings)
        ids = numpy.zeros((len(encodings), longest), dtype=numpy.int64)
        mask = numpy.zeros_like(ids)
        for row, one in enumerate(encodings):
            ids[row, :len(one.ids)], mask[row, :len(one.ids)] = one.ids, 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}
        return self.session.run([self.output], {name: feed[name] for name in self.inputs})[0]


def batches(items, size):
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def write_answers(out, name, ids, answers):
    """As lines, the fast way; out is open for bytes."""
    option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    out.write(b"".join([orjson.dumps({"id": one, name: answer}, option=option)
                        for one, answer in zip(ids, answers)]))
