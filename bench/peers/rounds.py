# SPDX-License-Identifier: Apache-2.0
"""Runs the contenders of a piece of work: a run that is checked, then rounds that are timed.

The checked run also shows the memory, and warms everything up. The start is measured with ten
records, and taken away from the others: what remains is a slope, seconds a record. Whoever takes
long has fewer rounds: from FEW_ROUNDS_S on the checked run counts as one of two, from ONE_ROUND_S
on it is the only one, as it is for everybody where one round is asked for.
"""
import json
import re
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import catalogue
import data
import measure
import numpy

START_ROWS = 10
SLOPE_LEAST = 0.05  # of a run; where the start is nearly all of it, the slope is noise
FEW_ROUNDS_S, ONE_ROUND_S = 10, 60
SLOW_START_S = 5  # a start that takes longer is measured once
TOLERANCE = 1e-3
ANSWERS_CHECKED = 200
SAID_LAST = 5  # lines of a contender that failed
ID = re.compile(rb'^\{"id": ?("(?:[^"\\]|\\.)*"|-?\d+)')


class Wrong(Exception):
    """Answers that are not the model's."""


@dataclass
class Turn:
    """A contender in this piece of work, and what was measured of it."""
    contender: catalogue.Contender
    rows: int
    source: Path
    reason: str = ""  # why there are no figures
    memory: dict = field(default_factory=dict)
    starts: list = field(default_factory=list)
    runs: list = field(default_factory=list)
    wanted: int = 0

    def figures(self):
        """Medians; the slope is what a record costs beyond the start."""
        def middle(found, key):
            return statistics.median(one[key] for one in found)
        seconds, cpu_s = middle(self.runs, "seconds"), middle(self.runs, "cpu_s")
        start_s, start_cpu_s = middle(self.starts, "seconds"), middle(self.starts, "cpu_s")
        beyond = max(self.rows - START_ROWS, 1)
        said = [one["said"][-1] for one in self.runs if one["said"]]
        client = [one["client_cpu_s"] for one in said if "client_cpu_s" in one]
        rates = [self.rows / one["seconds"] for one in self.runs]
        return {
            "rows": self.rows, "rounds": len(self.runs), "seconds": seconds, "cpu_s": cpu_s,
            "start_s": start_s, "start_cpu_s": start_cpu_s,
            "rows_per_s": beyond / max(seconds - start_s, SLOPE_LEAST * seconds),
            "cpu_s_per_million": max(cpu_s - start_cpu_s, SLOPE_LEAST * cpu_s) / beyond * 1e6,
            "rows_per_s_whole": self.rows / seconds,
            "cpu_s_per_million_whole": cpu_s / self.rows * 1e6,
            "client_cpu_s_per_million":
                statistics.median(client) / self.rows * 1e6 if client else 0,
            "spread": (max(rates) - min(rates)) / statistics.median(rates),
            "others": middle(self.runs, "others"), **self.memory}


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


# --- answers -------------------------------------------------------------------------------------


def files_of(output):
    """A contender writes a file, a folder of files, or files whose names begin so."""
    if output.is_dir():
        return sorted(path for path in output.iterdir() if path.is_file()
                      and not path.name.startswith((".", "_")) and path.stat().st_size > 0)
    exact = output.with_suffix(".jsonl")
    return [exact] if exact.exists() else sorted(output.parent.glob(output.name + "*"))


def check_answers(output, rows, name, expected):
    """Each id once, and the numbers of some of them, which come from the model itself."""
    wanted, seen, compared = dict(expected), set(), 0
    for path in files_of(output):
        with open(path, "rb") as lines:
            for line in lines:
                found = ID.match(line)
                one = json.loads(found.group(1) if found else line)
                one = one["id"] if isinstance(one, dict) else one
                seen.add(one)
                if one in wanted:
                    compare(one, json.loads(line).get(name), wanted[one])
                    compared += 1
    if len(seen) != rows:
        raise Wrong(f"{len(seen):,} records in the output instead of {rows:,}")
    if compared == 0:
        raise Wrong("none of the records that were to be compared")


def compare(one, answer, expected):
    if answer is None or len(answer) != len(expected):
        raise Wrong(f"record {one}: no answer of {len(expected)} numbers")
    apart = numpy.abs(numpy.array(answer) - numpy.array(expected)).max()
    if not apart <= TOLERANCE:
        raise Wrong(f"record {one}: an answer is off by {apart:.3g}")


def expected_of(work, source):
    """[(id, numbers)] of some records of a file."""
    told = json.loads(catalogue.run_helper(
        "answers", work.model, work.tokenizer or "-", source, str(ANSWERS_CHECKED)))
    return told["answers"]


# --- runs ----------------------------------------------------------------------------------------


def run_once(work, contender, source, watch=False):
    folder = data.WORK / "peers-out" / work.key / contender.key
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    output = folder / "out"
    data.warm(source)
    scratch = tempfile.mkdtemp(prefix="peers-")  # short: sockets lie in it
    try:
        found = measure.whole(contender.command(work, source, output, scratch),
                              contender.environment, catalogue.TIMEOUT_S, watch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return output, found


def checked(work, turn, expected, rounds):
    """The first run. A contender that fails or answers wrongly takes no further part."""
    output, found = run_once(work, turn.contender, turn.source, watch=True)
    check_answers(output, turn.rows, work.output_name, expected[turn.source])
    turn.memory = {key: found.pop(key) for key in ("private_mb", "tree_mb", "largest_mb")}
    if found["seconds"] > FEW_ROUNDS_S or rounds == 1:
        turn.runs.append(found)
    if found["seconds"] > ONE_ROUND_S:
        turn.wanted = 1
    else:
        turn.wanted = min(rounds, 2) if found["seconds"] > FEW_ROUNDS_S else rounds
    report(turn, found, "checked")


def start_of(work, turn):
    _, found = run_once(work, turn.contender, data.head(turn.source, START_ROWS))
    turn.starts.append(found)


def report(turn, found, what):
    say(f"  {turn.contender.title}: {found['seconds']:.2f} s, {found['cpu_s']:.2f} CPU-s for "
        f"{turn.rows:,} records, {what}, others {100 * found['others']:.0f}%")


def attempt(turn, step, *arguments):
    try:
        step(*arguments)
    except (Wrong, measure.CommandFailed, OSError) as error:
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        last = lines[-1][:200] if lines else type(error).__name__
        turn.reason = f"{'wrong' if isinstance(error, Wrong) else 'failed'}: {last}"
        say("\n    ".join([f"  {turn.contender.title}: {turn.reason}", *lines[-SAID_LAST:]]))


def turns_of(work, contenders, most_rows):
    turns = []
    for one in contenders:
        rows = min(one.rows or work.n_rows, work.n_rows, most_rows or work.n_rows)
        source = work.source if rows == work.n_rows else data.head(work.source, rows)
        turns.append(Turn(one, rows, source, f"not run: {one.missing}" if one.missing else ""))
    return turns


def run(work, contenders, rounds, most_rows=0):
    """The turns of all contenders, each with its figures or the reason why it has none."""
    say(work.title)
    turns = turns_of(work, contenders, most_rows)
    expected = {source: expected_of(work, source)
                for source in {turn.source for turn in turns if not turn.reason}}
    for turn in turns:
        if not turn.reason:
            attempt(turn, checked, work, turn, expected, rounds)
    for number in range(rounds):
        first = number % len(turns)
        for turn in turns[first:] + turns[:first]:
            if not turn.reason:
                attempt(turn, timed, work, turn)
    return turns


def timed(work, turn):
    """One more start and one more run, as far as there are some to come."""
    if not turn.starts or (turn.starts[0]["seconds"] < SLOW_START_S
                           and len(turn.starts) < turn.wanted):
        start_of(work, turn)
    if len(turn.runs) < turn.wanted:
        _, found = run_once(work, turn.contender, turn.source)
        turn.runs.append(found)
        report(turn, found, f"round {len(turn.runs)}")
