# SPDX-License-Identifier: Apache-2.0
"""What a model would take for texts if nothing were padded, and nothing else had to be done.

bench/raw_loop.c measures full batches of one length, for lengths that stand for all; the best of
its settings counts. A record costs what a token costs at the nearest length that was measured.
"""
import math

import contenders
import measure

LENGTHS_MEASURED = 8
BATCH_TOKENS = (256, 512, 1024, 2048, 4096)
SECONDS = 0.3
SLOWER = 0.95


def lengths_to_measure(lengths):
    """Over the range, closer together where it is short."""
    low, high = min(lengths), max(lengths)
    steps = [low * (high / low) ** (i / (LENGTHS_MEASURED - 1)) for i in range(LENGTHS_MEASURED)]
    return sorted({round(step) for step in steps})


def climb(model, length, setting):
    """Larger and larger batches, until they get slower."""
    found = []
    for batch in sorted({max(1, tokens // length) for tokens in BATCH_TOKENS}):
        command = contenders.raw_command(model, setting, [batch], SECONDS)
        found += measure.lines([*command, "--length", length])
        if found[-1]["rows_per_s"] < SLOWER * max(one["rows_per_s"] for one in found):
            break
    return found


def best_at(model, length):
    """(tokens/s, CPU-seconds per million tokens) of the fastest setting."""
    found = []
    for setting in {(1, contenders.CORES, 1), (contenders.CORES, 1, 1)}:
        found += climb(model, length, setting)
    best = max(found, key=lambda one: one["rows_per_s"])
    return {"length": length, "tokens_per_s": best["rows_per_s"] * length,
            "cpu_s_per_million_tokens": best["cpu_s_per_million"] / length,
            **{key: best[key] for key in ("batch", "processes", "threads", "others")}}


def ideal(model, lengths):
    """rows_per_s and cpu_s_per_million of records of these lengths, and what was measured."""
    classes = [best_at(model, length) for length in lengths_to_measure(lengths)]
    seconds = cpu_s = 0
    for length in lengths:
        near = min(classes, key=lambda one: abs(math.log(one["length"] / length)))
        seconds += length / near["tokens_per_s"]
        cpu_s += length * near["cpu_s_per_million_tokens"] / 1e6
    return {"rows_per_s": len(lengths) / seconds, "cpu_s_per_million": cpu_s / len(lengths) * 1e6,
            "tokens_per_s": sum(lengths) / seconds, "classes": classes}
