#!/usr/bin/env python3
"""Trains the section classifier and writes packages.onnx. Needs jax, numpy, onnx.

In: train.jsonl and heldout.jsonl of prepare.py, tokenizer.json and labels.txt. Out:
packages.onnx and a few lines of accuracy. The held-out records are not used in
training, nor to choose anything. The graph that export.py writes is compared
with JAX on held-out records.
"""
import argparse
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

import export
import tokens

HERE = Path(__file__).resolve().parent
WIDTH, LAYERS, HEADS, INNER = 64, 2, 4, 128
LENGTHS = [8, 16, 32, 64]  # a batch is padded to one of these, so few shapes are compiled
BATCH = 128


def load(path, tokenizer, labels):
    """Returns a list of (ids, label number)."""
    return [(tokenizer.encode(r["text"]), labels.index(r["section"]))
            for r in tokens.records(path)]


def make_batches(rows, rng=None):
    """Groups rows by padded length, shuffled if rng is given. Yields ids, mask, labels."""
    groups = {length: [] for length in LENGTHS}
    for i in rng.permutation(len(rows)) if rng else range(len(rows)):
        groups[next(n for n in LENGTHS if len(rows[i][0]) <= n)].append(rows[i])
    cuts = [(n, group[at:at + BATCH]) for n, group in groups.items()
            for at in range(0, len(group), BATCH)]
    for i in rng.permutation(len(cuts)) if rng else range(len(cuts)):
        length, group = cuts[i]
        ids = np.zeros((BATCH, length), np.int32)
        mask = np.zeros((BATCH, length), np.float32)
        labels = np.full(BATCH, -1, np.int32)  # -1: a row that fills up the batch
        mask[len(group):, 0] = 1
        for row, (tokens_of_row, label) in enumerate(group):
            ids[row, :len(tokens_of_row)] = tokens_of_row
            mask[row, :len(tokens_of_row)] = 1
            labels[row] = label
        yield ids, mask, labels


def init_params(rng, vocab_size, sections):
    p = {"embedding": 0.05 * rng.standard_normal((vocab_size, WIDTH)),
         "position": 0.02 * rng.standard_normal((tokens.TOKENS_MAX, WIDTH))}

    def linear(name, size_in, size_out):
        p[f"{name}.w"] = rng.standard_normal((size_in, size_out)) / size_in**0.5
        p[f"{name}.b"] = np.zeros(size_out)

    def norm(name):
        p[f"{name}.gain"], p[f"{name}.bias"] = np.ones(WIDTH), np.zeros(WIDTH)

    for i in range(LAYERS):
        for part in "qkvo":
            linear(f"layer{i}.attention.{part}", WIDTH, WIDTH)
        linear(f"layer{i}.up", WIDTH, INNER)
        linear(f"layer{i}.down", INNER, WIDTH)
        norm(f"layer{i}.norm1")
        norm(f"layer{i}.norm2")
    norm("final")
    linear("classifier", WIDTH, sections)
    return {name: jnp.asarray(value, jnp.float32) for name, value in p.items()}


def linear(p, name, x):
    return x @ p[f"{name}.w"] + p[f"{name}.b"]


def norm(p, name, x):
    mean = x.mean(-1, keepdims=True)
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-5) * p[f"{name}.gain"] + p[f"{name}.bias"]


def attention(p, name, x, mask_bias):
    batch, length, _ = x.shape

    def heads(part):
        return linear(p, f"{name}.{part}", x).reshape(batch, length, HEADS, -1)

    scores = jnp.einsum("bqhd,bkhd->bhqk", heads("q"), heads("k"))
    scores = scores * (WIDTH // HEADS) ** -0.5 + mask_bias
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), heads("v"))
    return linear(p, f"{name}.o", mixed.reshape(batch, length, WIDTH))


def dropout(x, rate, key):
    if key is None:
        return x
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


def forward(p, ids, mask, key=None):
    """Returns logits; with a key, drops activations as in training."""
    keys = [None] * (2 * LAYERS + 2) if key is None else jax.random.split(key, 2 * LAYERS + 2)
    mask_bias = ((1 - mask) * -1e9)[:, None, None, :]
    x = dropout(p["embedding"][ids] + p["position"][:ids.shape[1]], 0.2, keys[0])
    for i in range(LAYERS):
        y = attention(p, f"layer{i}.attention", norm(p, f"layer{i}.norm1", x), mask_bias)
        x = x + dropout(y, 0.1, keys[2 * i + 1])
        y = linear(p, f"layer{i}.up", norm(p, f"layer{i}.norm2", x))
        x = x + dropout(linear(p, f"layer{i}.down", jax.nn.relu(y)), 0.1, keys[2 * i + 2])
    x = norm(p, "final", x) * mask[:, :, None]
    pooled = x.sum(1) / mask.sum(1, keepdims=True)
    return linear(p, "classifier", dropout(pooled, 0.2, keys[-1]))


def loss(p, ids, mask, labels, key):
    """Cross-entropy; in training one token in ten is hidden as unknown."""
    key_words, key_drop = jax.random.split(key)
    ids = jnp.where(jax.random.bernoulli(key_words, 0.1, ids.shape), tokens.UNKNOWN_ID, ids)
    log_p = jax.nn.log_softmax(forward(p, ids, mask, key_drop))
    chosen = jnp.take_along_axis(log_p, jnp.maximum(labels, 0)[:, None], 1)[:, 0]
    real = labels >= 0
    return -jnp.where(real, chosen, 0).sum() / real.sum()


@partial(jax.jit, donate_argnums=(0, 1, 2))
def update(p, mean, square, step, rate, batch, key):
    """One step of Adam with weight decay on the matrices."""
    value, grads = jax.value_and_grad(loss)(p, *batch, key)
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, grads)
    square = jax.tree.map(lambda s, g: 0.98 * s + 0.02 * g * g, square, grads)

    def move(x, m, s):
        decay = 0.01 * x if x.ndim > 1 else 0
        return x - rate * (m / (1 - 0.9**step) / (jnp.sqrt(s / (1 - 0.98**step)) + 1e-8) + decay)

    return jax.tree.map(move, p, mean, square), mean, square, value


def train(rows, vocab_size, sections, epochs, seed):
    rng = np.random.default_rng(seed)
    p = init_params(rng, vocab_size, sections)
    mean = jax.tree.map(jnp.zeros_like, p)
    square = jax.tree.map(jnp.zeros_like, p)
    key = jax.random.key(seed)
    steps = epochs * sum(1 for _ in make_batches(rows))
    step, start = 0, time.monotonic()
    for epoch in range(epochs):
        losses = []
        for batch in make_batches(rows, rng):
            step += 1
            rate = 0.002 * min(step / 200, 0.5 * (1 + np.cos(np.pi * step / steps)))
            p, mean, square, value = update(p, mean, square, step, rate, batch,
                                            jax.random.fold_in(key, step))
            losses.append(value)
        print(f"epoch {epoch + 1}: loss {np.mean([float(v) for v in losses]):.3f}, "
              f"{time.monotonic() - start:.0f} s", flush=True)
    return p


def accuracy(p, rows):
    run = jax.jit(forward)
    right = 0
    for ids, mask, labels in make_batches(rows):
        right += int((np.asarray(run(p, ids, mask)).argmax(1) == labels).sum())
    return right / len(rows)


def largest_gap(model, p, rows):
    """The largest difference of a logit between JAX and the graph, on some batches."""
    evaluator = ReferenceEvaluator(model)
    gaps = []
    for ids, mask, _ in list(make_batches(rows))[::8]:
        feed = {"input_ids": ids.astype(np.int64), "attention_mask": mask.astype(np.int64)}
        gaps.append(np.abs(evaluator.run(None, feed)[0] - forward(p, ids, mask)).max())
    return max(gaps)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("."), help="folder of prepare.py's files")
    parser.add_argument("--output", default=HERE / "packages.onnx")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    labels = (HERE / "labels.txt").read_text().split()
    tokenizer = tokens.load_tokenizer()
    train_rows = load(args.data / "train.jsonl", tokenizer, labels)
    held_rows = load(args.data / "heldout.jsonl", tokenizer, labels)
    p = train(train_rows, len(tokenizer.ids), len(labels), args.epochs, args.seed)
    model = export.build_model({k: np.asarray(v) for k, v in p.items()}, LAYERS, HEADS)
    onnx.save(model, args.output)

    most = np.bincount([label for _, label in train_rows]).argmax()
    print(f"jax {jax.__version__}, numpy {np.__version__}, onnx {onnx.__version__}")
    print(f"train rows {len(train_rows)}, accuracy {accuracy(p, train_rows):.4f}")
    print(f"held-out rows {len(held_rows)}, accuracy {accuracy(p, held_rows):.4f}; "
          f"always '{labels[most]}' {np.mean([y == most for _, y in held_rows]):.4f}")
    gap = largest_gap(model, p, held_rows)
    print(f"largest difference between JAX and the graph {gap:.1e}")
    if gap > 1e-4:
        raise SystemExit("the graph does not agree with JAX")


if __name__ == "__main__":
    main()
