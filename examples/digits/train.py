#!/usr/bin/env python3
"""Trains the digit classifier and writes digits.onnx. Needs numpy and onnx.

In: digits.csv.gz (64 pixels 0..16 and a label a line). Out: digits.onnx and a
few lines of accuracy. Every fifth image is held out, as in make_data.py; the
held-out images are never trained on. The division by 16 is in the graph, so a
caller feeds the raw integers.
"""
import argparse
import gzip
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

HERE = Path(__file__).resolve().parent
HIDDEN = 128
CLASSES = 10
SHIFTS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


def load():
    """Returns train pixels, train labels, held-out pixels, held-out labels."""
    with gzip.open(HERE / "digits.csv.gz", "rt") as f:
        table = np.loadtxt(f, delimiter=",", dtype=np.float32)
    pixels, labels = table[:, :64], table[:, 64].astype(np.int64)
    held = np.arange(len(labels)) % 5 == 4
    return pixels[~held], labels[~held], pixels[held], labels[held]


def shift(pixels, dy, dx):
    """Moves images by whole pixels; what comes in at the edge is 0."""
    images = np.pad(pixels.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    return images[:, 1 - dy:9 - dy, 1 - dx:9 - dx].reshape(-1, 64)


def add_noise(pixels, rng):
    """Changes about half of the pixels by one or two steps."""
    step = rng.choice([-2, -1, 0, 0, 0, 0, 1, 2], size=pixels.shape)
    return np.clip(pixels + step, 0, 16).astype(np.float32)


def augment(pixels, rng):
    """Half of the images are shifted by up to one pixel; all get noise."""
    out = pixels.copy()
    which = np.where(rng.random(len(out)) < 0.5, 4, rng.integers(0, 9, len(out)))
    for i, (dy, dx) in enumerate(SHIFTS):
        out[which == i] = shift(out[which == i], dy, dx)
    return add_noise(out, rng)


def forward(params, pixels):
    w1, b1, w2, b2 = params
    x = pixels / 16
    hidden = np.maximum(x @ w1 + b1, 0)
    return x, hidden, hidden @ w2 + b2


def gradients(params, pixels, labels):
    """Cross-entropy with labels smoothed by 0.05."""
    x, hidden, logits = forward(params, pixels)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    target = np.full_like(p, 0.05 / CLASSES)
    target[np.arange(len(labels)), labels] += 0.95
    d_logits = (p - target) / len(labels)
    d_hidden = d_logits @ params[2].T * (hidden > 0)
    return [x.T @ d_hidden, d_hidden.sum(0), hidden.T @ d_logits, d_logits.sum(0)]


def train(pixels, labels, epochs, rng):
    """Adam, batches of 64, the rate falls to zero along a cosine."""
    params = [
        rng.normal(0, (2 / 64) ** 0.5, (64, HIDDEN)), np.zeros(HIDDEN),
        rng.normal(0, (1 / HIDDEN) ** 0.5, (HIDDEN, CLASSES)), np.zeros(CLASSES),
    ]
    params = [p.astype(np.float32) for p in params]
    mean = [np.zeros_like(p) for p in params]
    square = [np.zeros_like(p) for p in params]
    step, steps = 0, epochs * (len(labels) // 64)
    for _ in range(epochs):
        order = rng.permutation(len(labels))
        for start in range(0, len(order) - 63, 64):
            batch = order[start:start + 64]
            step += 1
            rate = 0.003 * 0.5 * (1 + np.cos(np.pi * step / steps))
            grads = gradients(params, augment(pixels[batch], rng), labels[batch])
            for p, m, s, g in zip(params, mean, square, grads):
                m += 0.1 * (g - m)
                s += 0.001 * (g * g - s)
                p -= rate * (m / (1 - 0.9**step)) / (np.sqrt(s / (1 - 0.999**step)) + 1e-8)
    return params


def build_model(params):
    """pixels float32 [batch, 64] -> logits float32 [batch, 10]."""
    names = ["w1", "b1", "w2", "b2"]
    constants = [numpy_helper.from_array(np.float32(1 / 16), "scale")]
    constants += [numpy_helper.from_array(p, n) for p, n in zip(params, names)]
    nodes = [
        helper.make_node("Mul", ["pixels", "scale"], ["scaled"]),
        helper.make_node("Gemm", ["scaled", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w2", "b2"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes, "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)],
                              ir_version=8, producer_name="tidemill-examples")
    onnx.checker.check_model(model)
    return model


def accuracy(evaluator, pixels, labels):
    logits = evaluator.run(["logits"], {"pixels": pixels})[0]
    return float((logits.argmax(1) == labels).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default=HERE / "digits.onnx")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    rng = np.random.default_rng(args.seed)
    train_x, train_y, held_x, held_y = load()
    params = train(train_x, train_y, args.epochs, rng)
    model = build_model(params)
    onnx.save(model, args.output)

    evaluator = ReferenceEvaluator(model)
    gap = np.abs(evaluator.run(None, {"pixels": held_x})[0] - forward(params, held_x)[2]).max()
    moved_x = np.concatenate([add_noise(shift(held_x, dy, dx), rng) for dy, dx in SHIFTS])
    print(f"numpy {np.__version__}, onnx {onnx.__version__}")
    print(f"train rows {len(train_y)}, accuracy {accuracy(evaluator, train_x, train_y):.4f}")
    print(f"held-out rows {len(held_y)}, accuracy {accuracy(evaluator, held_x, held_y):.4f}")
    print(f"held-out, shifted and noisy: rows {len(moved_x)}, "
          f"accuracy {accuracy(evaluator, moved_x, np.tile(held_y, len(SHIFTS))):.4f}")
    print(f"largest difference between numpy and the graph {gap:.1e}")


if __name__ == "__main__":
    main()
