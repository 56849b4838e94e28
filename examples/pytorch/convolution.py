#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A PyTorch module as a model of tidemill. Needs torch and the tidemill package (pip install ./python,
or PYTHONPATH=python from the repository)."""

import csv
import gzip
from pathlib import Path

import tidemill

DATA = Path(__file__).resolve().parent.parent / "digits/digits.csv.gz"
STEPS, BATCH, RATE = 400, 128, 3e-3


def images(rows):
    import torch

    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16


def train():
    """A small convolution network, trained when the process starts (some seconds); the seed makes all
    processes alike. Your own would come out of torch.load()."""
    import torch
    from torch import nn

    torch.manual_seed(1)
    torch.set_num_threads(1)  # tidemill starts a process for each core
    with gzip.open(DATA, "rt", newline="") as file:
        rows = [[int(float(cell)) for cell in row] for i, row in enumerate(csv.reader(file)) if i % 5 != 4]
    inputs, labels = images([row[:64] for row in rows]), torch.tensor([row[64] for row in rows])
    network = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(),
                            nn.Flatten(), nn.Linear(32 * 36, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    for _ in range(STEPS):
        chosen = torch.randint(len(rows), (BATCH,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs[chosen]), labels[chosen]).backward()
        optimizer.step()
    return network.eval()


@tidemill.model(setup=train)
def classify(records, network):
    import torch

    with torch.inference_mode():
        scores = torch.softmax(network(images([record["pixels"] for record in records])), dim=1)
        best = scores.max(dim=1)
    return [{"label": label, "score": round(score, 6)}
            for label, score in zip(best.indices.tolist(), best.values.tolist())]


if __name__ == "__main__":
    classify.serve()
