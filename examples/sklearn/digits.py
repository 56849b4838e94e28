#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A scikit-learn pipeline as a model of tidemill: trained when the process starts, then asked for as
many images at a time as pay. Needs scikit-learn and the tidemill package (pip install ./python, or
PYTHONPATH=python from the repository)."""

import csv
import gzip
from pathlib import Path

import tidemill

DATA = Path(__file__).resolve().parent.parent / "digits/digits.csv.gz"


def train():
    """A pipeline fitted to four fifths of the images. Your own would come out of joblib.load()."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    with gzip.open(DATA, "rt", newline="") as file:
        rows = [[int(float(cell)) for cell in row] for i, row in enumerate(csv.reader(file)) if i % 5 != 4]
    return make_pipeline(StandardScaler(), SVC(gamma=0.01, C=10)).fit(
        [row[:64] for row in rows], [row[64] for row in rows])


@tidemill.model(setup=train)
def classify(records, pipeline):
    results = [None if len(record.get("pixels", [])) == 64 else
               tidemill.Error("pixels: 64 numbers are wanted") for record in records]
    fine = [i for i, result in enumerate(results) if result is None]
    for i, label in zip(fine, pipeline.predict([records[i]["pixels"] for i in fine]) if fine else []):
        results[i] = int(label)
    return results


if __name__ == "__main__":
    classify.serve()
