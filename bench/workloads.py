# SPDX-License-Identifier: Apache-2.0
"""What is measured: four workloads, who takes part in each, and the ratios that matter."""
import json
from dataclasses import dataclass, field
from typing import Callable

import numpy

import contenders as c
import data

BATCHES = [2 ** i for i in range(13)]
BATCHES_QUICK = [1, 16, 64, 256, 1024, 4096]
RAW_TRIED_AGAIN = 3  # of the sweep's fastest settings
ROW_COST_US = 50     # from here on the model is all that should count
ANSWERS_COMPARED = 1000


@dataclass
class Ratio:
    title: str
    value: float
    aim: str = ""  # ">= 0.95" or "<= 2"; empty: there is none


@dataclass
class Workload:
    title: str
    contenders: list
    ratios: Callable[[dict], list]
    sweep: list = field(default_factory=list)  # of the raw loop
    output_name: str = ""


def compare_answers(workload):
    """The first answers of everybody who wrote some, against each other."""
    def answers(path):
        if path.suffix == ".npy":
            return numpy.load(path, mmap_mode="r")[:ANSWERS_COMPARED]
        with open(path, encoding="utf-8") as lines:
            return numpy.array([json.loads(line)[workload.output_name]
                                for line, _ in zip(lines, range(ANSWERS_COMPARED))])

    written = [c.output for c in workload.contenders if c.output is not None]
    first = answers(written[0])
    for path in written[1:]:
        other = answers(path)
        n = min(len(first), len(other))
        if n == 0 or not numpy.allclose(first[:n], other[:n], rtol=1e-3, atol=1e-3):
            raise SystemExit(f"{written[0]} and {path} have different answers")


# --- raw loop: the sweep finds the settings, the rounds measure the fastest again ----------------


def raw_loops(model, batches, seconds, options):
    sweep = c.raw_sweep(model, batches, seconds / 5)
    found = [c.raw_loop(f"raw_{i}", "raw loop, best", model, one, seconds)
             for i, one in enumerate(sweep[:1 if options.quick else RAW_TRIED_AGAIN])]
    single = next(s for s in sweep if s["processes"] == s["threads"] == 1)
    return sweep, [*found, c.raw_loop("raw_single", "raw loop, best on 1 thread", model, single,
                                      seconds)]


def keep_best_raw(results):
    """Of the settings that were tried again only the fastest one stays, as "raw"."""
    tried = [key for key in results if key.startswith("raw_") and key != "raw_single"]
    if not tried:
        return results
    best = max(tried, key=lambda key: results[key]["rows_per_s"])
    return {("raw" if key == best else key): result for key, result in results.items()
            if key == best or key not in tried}


# --- ratios --------------------------------------------------------------------------------------


def rate(results, key):
    return results[key]["rows_per_s"]


def against_limits(results, mine, what, floor=""):
    """Against the raw loop, and where there is text, against parsing and the model one after the
    other on all cores."""
    raw = results["raw"]
    row_us = 1e6 / rate(results, "raw_single")
    aim = ">= 0.95" if row_us >= ROW_COST_US else ""
    found = [Ratio(f"{what}: rows/s / raw loop (a row costs {row_us:.3g} us on one thread)",
                   rate(results, mine) / raw["rows_per_s"], aim),
             Ratio(f"{what}: CPU-seconds of the raw loop / tidemill's",
                   raw["cpu_s_per_million"] / results[mine]["cpu_s_per_million"])]
    if floor:
        cpu_s = raw["cpu_s_per_million"] + results[floor]["cpu_s_per_million"]
        found.append(Ratio(f"{what}: rows/s / (parse floor and raw loop together)",
                           rate(results, mine) * cpu_s / 1e6 / c.CORES))
    return found


def against_python(results, mine):
    tuned = results["python_tuned"]
    return [
        Ratio("rows/s / Python loop: json, batch 256",
              rate(results, mine) / rate(results, "python_256"), ">= 3"),
        Ratio("rows/s / Python loop: json, batch 1",
              rate(results, mine) / rate(results, "python_1"), ">= 10"),
        Ratio(f"rows/s / {tuned['title']}", rate(results, mine) / tuned["rows_per_s"]),
        Ratio(f"CPU-seconds of {tuned['title']} / tidemill's",
              tuned["cpu_s_per_million"] / results[mine]["cpu_s_per_million"]),
    ]


def of_memory(results, mine):
    return [Ratio("engine's own memory, MB", results[mine]["private_mb"], "<= 60")]


# --- workloads -----------------------------------------------------------------------------------


def digits(options, memory):
    n_rows = 200_000 if options.quick else 1_000_000
    model, source = data.DIGITS_MODEL, data.warm(data.digits(n_rows))
    floor = f"parse_floor_{c.CORES}"
    sweep, raw = raw_loops(model, BATCHES_QUICK if options.quick else BATCHES,
                           0.3 if options.quick else 1, options)
    share = 10 if options.quick else 1
    taking_part = [c.tidemill("tidemill", "tidemill run", model, source, n_rows,
                              data.WORK / "digits-out.jsonl")]
    if memory is not None:
        taking_part.append(c.tidemill("in_memory", "tidemill run, output to memory", model, source,
                                      n_rows, memory / "out.jsonl"))
    taking_part += [*(c.parse_floor(source, "pixels", n) for n in sorted({1, c.CORES})), *raw,
                    *c.python_loops(model, source, 100_000 // share, 200_000 // share,
                                    400_000 // share)]

    def ratios(results):
        found = []
        for mine in "tidemill", "in_memory":
            if mine in results:
                where = "" if mine == "tidemill" else ", output to memory"
                found.append(Ratio(f"rows/s / parse floor on the same cores{where}",
                                   rate(results, mine) / rate(results, floor), ">= 0.6"))
        return [*found,
                Ratio("CPU-seconds per million", results["tidemill"]["cpu_s_per_million"], "<= 2"),
                *against_limits(results, "tidemill", "JSONL", floor),
                *against_python(results, "tidemill"), *of_memory(results, "tidemill")]
    return Workload(f"digits: {n_rows:,} rows of 64 small integers, network 64-128-10, JSONL",
                    taking_part, ratios, sweep, "logits")


def medium(options, _):
    n_rows = 5_000 if options.quick else 40_000
    model, source = data.bench_model("mlp_medium"), data.warm(data.medium_jsonl(n_rows))
    arrays = data.warm(data.medium_npy(n_rows))
    floor = f"parse_floor_{c.CORES}"
    sweep, raw = raw_loops(model, BATCHES_QUICK[:5] if options.quick else BATCHES,
                           0.3 if options.quick else 2, options)
    share = 10 if options.quick else 1
    taking_part = [
        c.tidemill("tidemill", "tidemill run, JSONL", model, source, n_rows,
                   data.WORK / "medium-out.jsonl"),
        c.tidemill("npy", "tidemill run, .npy", model, arrays, n_rows,
                   data.WORK / "medium-out.npy"),
        *(c.parse_floor(source, "x", n) for n in sorted({1, c.CORES})), *raw,
        *c.python_loops(model, source, 5_000 // share, 10_000 // share, 20_000 // share)]

    def ratios(results):
        return [*against_limits(results, "npy", ".npy"),
                *against_limits(results, "tidemill", "JSONL", floor),
                *against_python(results, "tidemill"), *of_memory(results, "tidemill")]
    return Workload(f"medium: {n_rows:,} rows of 784 numbers, network 784-1024-1024-10",
                    taking_part, ratios, sweep, "logits")


def transformer(options, _):
    n_rows = 3_000 if options.quick else 60_000
    model, source = data.bench_model("transformer"), data.warm(data.transformer(n_rows))
    floor = f"parse_floor_{c.CORES}"
    batches = [1, 4, 16, 64] if options.quick else BATCHES[:10]
    sweep, raw = raw_loops(model, batches, 0.3 if options.quick else 2, options)
    share = 10 if options.quick else 1
    taking_part = [
        c.tidemill("tidemill", "tidemill run", model, source, n_rows,
                   data.WORK / "transformer-out.jsonl"),
        *(c.parse_floor(source, "input_ids", n) for n in sorted({1, c.CORES})), *raw,
        *c.python_loops(model, source, 5_000 // share, 10_000 // share, 10_000 // share)]

    def ratios(results):
        return [*against_limits(results, "tidemill", "JSONL", floor),
                *against_python(results, "tidemill"), *of_memory(results, "tidemill")]
    return Workload(f"transformer: {n_rows:,} rows of 64 tokens, 2 layers of width 64, JSONL",
                    taking_part, ratios, sweep, "pooled")


def sizes(options, _):
    """The same job at growing sizes: neither a row's time nor the memory may grow. One row shows
    what starting and ending cost."""
    n_rows = [1, 20_000, 200_000] if options.quick else [1, 100_000, 1_000_000, 3_000_000]
    output = data.WORK / "sizes-out.jsonl"
    taking_part = []
    for n in n_rows:
        source = data.warm(data.digits(n))
        one = c.tidemill(f"rows_{n}", f"tidemill run, {n:,} row{'s'[:n > 1]}", data.DIGITS_MODEL,
                         source, n, output)
        one.output = None
        taking_part.append(one)

    def ratios(results):
        less, most = (results[f"rows_{n}"]["private_mb"] for n in n_rows[-2:])
        return [Ratio("seconds for a file of one row", 1 / rate(results, "rows_1")),
                Ratio(f"engine's own memory, {n_rows[-1]:,} rows / {n_rows[-2]:,} rows",
                      most / less, "" if options.quick else "<= 1.25")]
    return Workload("sizes: digits again", taking_part, ratios)


WORKLOADS = {"digits": digits, "medium": medium, "transformer": transformer, "sizes": sizes}
