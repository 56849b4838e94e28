#!/usr/bin/env python3
"""Writes GGUF models with random weights for the tests and measurements of the llama runtime.
Needs numpy only; the same arguments give the same bytes.

    make_gguf.py DIR           tiny.gguf (text), embed.gguf (mean pooling), rerank.gguf (a score),
                               unsaid.gguf (the same, but does not say so), headless.gguf (says so and
                               has no head), classify.gguf (three labels), yesno.gguf (ranks by "yes")
    make_gguf.py DIR --bench   mid.gguf: 100 million parameters in Q8_0, too

The format: GGUF version 3, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The tokenizer is
byte-level BPE as GPT-2's: every text can be written with it, and what is common takes fewer tokens.
Encoders have BERT's, of words and letters.
"""
import argparse
import collections
import re
import struct
from pathlib import Path

import numpy as np

U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5
TYPE_F32, TYPE_Q8_0 = 0, 8
ALIGNMENT = 32
RANK = 4  # llama.cpp's number of that pooling
TEXT = """the quick brown fox jumps over the lazy dog and then it runs away from the other animals in the
forest because they want to play with it all day long while the sun is shining on the water of the river
that flows from the mountain to the sea where the people live in small houses and they eat fish and bread
and they drink water and wine in the evening when the moon rises and the stars come out one after another
you are a helpful assistant answer the question with one word is this a good or a bad review of a product
"""
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% endif %}"
)


def byte_letters():
    """GPT-2's letter for each byte, so that no token has a space or a control character in it."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters, extra = {}, 0
    for byte in range(256):
        letters[byte] = chr(byte) if byte in plain else chr(256 + extra)
        extra += byte not in plain
    return letters


def learn_merges(count):
    letters = byte_letters()
    words = collections.Counter(re.findall(r" ?\S+", TEXT.replace("\n", " ")))
    words = {tuple(letters[b] for b in word.encode()): n for word, n in words.items()}
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        merged = {}
        for word, n in words.items():
            out, i = [], 0
            while i < len(word):
                if word[i:i + 2] == best:
                    out.append(word[i] + word[i + 1])
                    i += 2
                else:
                    out.append(word[i])
                    i += 1
            merged[tuple(out)] = n
        words = merged
    return merges


def text(value):
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def array(kind, values):
    pack = {STRING: text, I32: lambda v: struct.pack("<i", v)}[kind]
    return struct.pack("<IQ", kind, len(values)) + b"".join(map(pack, values))


def pair(key, kind, value):
    packed = {
        U32: lambda: struct.pack("<I", value), F32: lambda: struct.pack("<f", value),
        BOOL: lambda: struct.pack("<?", value), STRING: lambda: text(value), ARRAY: lambda: value,
    }[kind]()
    return text(key) + struct.pack("<I", kind) + packed


def q8_0(values):
    """Blocks of 32 numbers: a half-float scale, then 32 signed bytes."""
    blocks = values.reshape(-1, 32)
    scale = np.abs(blocks).max(axis=1) / 127
    numbers = np.round(blocks / np.maximum(scale, 1e-30)[:, None]).astype(np.int8)
    out = np.empty(len(blocks), dtype=[("scale", "<f2"), ("numbers", "i1", 32)])
    out["scale"], out["numbers"] = scale.astype(np.float16), numbers
    return out.tobytes()


class Writer:
    """Metadata and tensors in memory, then a file."""

    def __init__(self, seed, kind):
        self.random, self.kind = np.random.default_rng(seed), kind
        self.pairs, self.infos, self.data, self.offset = [], [], [], 0

    def add(self, key, kind, value):
        self.pairs.append(pair(key, kind, value))

    def tensor(self, name, shape, scale):
        """`shape` as GGUF counts: the fastest dimension first. scale None: ones."""
        count = int(np.prod(shape))
        values = (np.ones(count, np.float32) if scale is None
                  else self.random.standard_normal(count, np.float32) * np.float32(scale))
        kind = TYPE_F32 if len(shape) == 1 else self.kind
        raw = values.tobytes() if kind == TYPE_F32 else q8_0(values)
        dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        self.infos.append(text(name) + dims + struct.pack("<IQ", kind, self.offset))
        raw += b"\0" * (-len(raw) % ALIGNMENT)
        self.data.append(raw)
        self.offset += len(raw)

    def write(self, path):
        head = b"GGUF" + struct.pack("<IQQ", 3, len(self.infos), len(self.pairs))
        head += b"".join(self.pairs) + b"".join(self.infos)
        head += b"\0" * (-len(head) % ALIGNMENT)
        with open(path, "wb") as file:
            file.write(head)
            file.writelines(self.data)


def add_tokenizer(writer, n_merges, n_vocab):
    merges = learn_merges(n_merges)
    tokens = [*byte_letters().values(), *dict.fromkeys(a + b for a, b in merges)]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    fill = [f"<unused{i}>" for i in range(n_vocab - len(tokens) - len(special))]
    kinds = [1] * len(tokens) + [3] * len(special) + [5] * len(fill)
    first = len(tokens)
    tokens += special + fill
    writer.add("tokenizer.ggml.model", STRING, "gpt2")
    writer.add("tokenizer.ggml.pre", STRING, "gpt-2")
    writer.add("tokenizer.ggml.tokens", ARRAY, array(STRING, tokens))
    writer.add("tokenizer.ggml.token_type", ARRAY, array(I32, kinds))
    writer.add("tokenizer.ggml.merges", ARRAY, array(STRING, [" ".join(m) for m in merges]))
    writer.add("tokenizer.ggml.bos_token_id", U32, first)
    writer.add("tokenizer.ggml.eos_token_id", U32, first + 2)
    writer.add("tokenizer.ggml.add_bos_token", BOOL, False)
    writer.add("tokenizer.chat_template", STRING, CHATML)
    return len(tokens)


def make(path, *, seed=1, layers=2, width=64, heads=4, hidden=192, context=2048, kind=TYPE_F32,
         n_merges=200, n_vocab=0, pooling=None, arch="llama", labels=(), template=None):
    writer = Writer(seed, kind)
    writer.add("general.architecture", STRING, arch)
    writer.add("general.name", STRING, path.stem)
    for key, value in {"context_length": context, "embedding_length": width, "block_count": layers,
                       "feed_forward_length": hidden, "attention.head_count": heads,
                       "attention.head_count_kv": heads // 2,
                       "rope.dimension_count": width // heads}.items():
        writer.add(f"{arch}.{key}", U32, value)
    writer.add(f"{arch}.attention.layer_norm_rms_epsilon", F32, 1e-5)
    if pooling is not None:
        writer.add(f"{arch}.pooling_type", U32, pooling)
    if labels:
        writer.add(f"{arch}.classifier.output_labels", ARRAY, array(STRING, labels))
    if template is not None:
        writer.add("tokenizer.chat_template.rerank", STRING, template)
    n_vocab = add_tokenizer(writer, n_merges, n_vocab)
    half = width // 2
    writer.tensor("token_embd.weight", [width, n_vocab], 1)
    for i in range(layers):
        writer.tensor(f"blk.{i}.attn_norm.weight", [width], None)
        writer.tensor(f"blk.{i}.attn_q.weight", [width, width], 2 * width ** -0.5)
        writer.tensor(f"blk.{i}.attn_k.weight", [width, half], 2 * width ** -0.5)
        writer.tensor(f"blk.{i}.attn_v.weight", [width, half], 2 * width ** -0.5)
        writer.tensor(f"blk.{i}.attn_output.weight", [width, width], 2 * width ** -0.5)
        if arch == "qwen3":
            writer.tensor(f"blk.{i}.attn_q_norm.weight", [width // heads], None)
            writer.tensor(f"blk.{i}.attn_k_norm.weight", [width // heads], None)
        writer.tensor(f"blk.{i}.ffn_norm.weight", [width], None)
        writer.tensor(f"blk.{i}.ffn_gate.weight", [width, hidden], width ** -0.5)
        writer.tensor(f"blk.{i}.ffn_up.weight", [width, hidden], width ** -0.5)
        writer.tensor(f"blk.{i}.ffn_down.weight", [hidden, width], hidden ** -0.5)
    writer.tensor("output_norm.weight", [width], None)
    writer.tensor("output.weight", [width, n_vocab], 3 * width ** -0.5)
    if labels:
        writer.tensor("cls.output.weight", [width, len(labels)], 0.1 * width ** -0.5)
    writer.write(path)


def add_word_tokenizer(writer):
    """BERT's: what begins a word has a mark before it, where BERT's own files mark what does not."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,?!"
    words = sorted(set(TEXT.split()))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [*dict.fromkeys([*special, *letters, *("\u2581" + x for x in [*letters, *words])])]
    kinds = [3] * len(special) + [1] * (len(tokens) - len(special))
    writer.add("tokenizer.ggml.model", STRING, "bert")
    writer.add("tokenizer.ggml.tokens", ARRAY, array(STRING, tokens))
    writer.add("tokenizer.ggml.token_type", ARRAY, array(I32, kinds))
    writer.add("tokenizer.ggml.token_type_count", U32, 2)
    for name, number in {"padding": 0, "unknown": 1, "bos": 2, "seperator": 3, "mask": 4}.items():
        writer.add(f"tokenizer.ggml.{name}_token_id", U32, number)
    return len(tokens)


def make_encoder(path, *, seed, labels=(), pooling=RANK, has_head=True, head=0.04, layers=2, width=64,
                 heads=4, hidden=128, context=512):
    """BERT with a classification head of a score, or of one for each label. Attention is computed in half
    precision, and what is beside a text changes how it is rounded: `head` keeps that below 0.0001."""
    writer = Writer(seed, TYPE_F32)
    writer.add("general.architecture", STRING, "bert")
    for key, value in {"context_length": context, "embedding_length": width, "block_count": layers,
                       "feed_forward_length": hidden, "attention.head_count": heads}.items():
        writer.add(f"bert.{key}", U32, value)
    writer.add("bert.attention.layer_norm_epsilon", F32, 1e-12)
    writer.add("bert.attention.causal", BOOL, False)
    if pooling is not None:
        writer.add("bert.pooling_type", U32, pooling)
    if labels:
        writer.add("bert.classifier.output_labels", ARRAY, array(STRING, labels))
    n_vocab = add_word_tokenizer(writer)

    def linear(name, n_in, n_out, scale):
        writer.tensor(f"{name}.weight", [n_in, n_out], scale * n_in ** -0.5)
        writer.tensor(f"{name}.bias", [n_out], 0.1 * scale)

    def norm(name):
        writer.tensor(f"{name}.weight", [width], None)
        writer.tensor(f"{name}.bias", [width], 0.1)

    writer.tensor("token_embd.weight", [width, n_vocab], 1)
    writer.tensor("token_types.weight", [width, 2], 0.1)
    writer.tensor("position_embd.weight", [width, context], 0.3)
    norm("token_embd_norm")
    for i in range(layers):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            linear(f"blk.{i}.{part}", width, width, 1)
        norm(f"blk.{i}.attn_output_norm")
        linear(f"blk.{i}.ffn_up", width, hidden, 1)
        linear(f"blk.{i}.ffn_down", hidden, width, 1)
        norm(f"blk.{i}.layer_output_norm")
    if has_head:
        linear("cls", width, width, 1)
        linear("cls.output", width, max(len(labels), 1), head)
    writer.write(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bench", action="store_true")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    make(arguments.folder / "tiny.gguf")
    make(arguments.folder / "embed.gguf", seed=2, pooling=1)
    make(arguments.folder / "yesno.gguf", seed=6, pooling=RANK, arch="qwen3", labels=["yes", "no"],
         template="<|im_start|>is it?\n{query}\n{document}<|im_end|>")
    make_encoder(arguments.folder / "rerank.gguf", seed=4)
    make_encoder(arguments.folder / "unsaid.gguf", seed=4, pooling=None)
    make_encoder(arguments.folder / "headless.gguf", seed=4, has_head=False)
    make_encoder(arguments.folder / "classify.gguf", seed=5, head=0.15,
                 labels=["good", 'so "so"', "bad"])
    if arguments.bench:
        make(arguments.folder / "mid.gguf", seed=3, layers=12, width=768, heads=12, hidden=2048,
             context=4096, kind=TYPE_Q8_0, n_merges=400, n_vocab=16384)


if __name__ == "__main__":
    main()
