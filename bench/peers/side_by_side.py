# SPDX-License-Identifier: Apache-2.0
"""tidemill beside the frameworks people use, on the same records, model file and cores.

docs/PEERS.md says how it is measured and what came of it. Progress goes to standard error, tables
to standard output, everything to build/peers-results.json.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import catalogue
import compare
import data
import ideal
import measure
import plot
import rounds
import tables
import texts
from catalogue import Work

DOCS = data.ROOT / "docs"
RESULTS = data.BUILD / "peers-results.json"
MODELS = catalogue.VENVS / "models"
PACKAGES = data.ROOT / "examples/packages"
PINNED = ("onnxruntime", "ray", "pyspark", "apache-beam", "celery", "torchserve", "nvidia-pytriton",
          "sentence-transformers", "torch", "tokenizers", "orjson")


def row_of(turn):
    row = {"key": turn.contender.key, "title": turn.contender.title}
    if turn.reason or not turn.runs or not turn.starts:
        return {**row, "reason": turn.reason or "not measured"}
    return {**row, **turn.figures(), "each": {"starts": turn.starts, "runs": turn.runs}}


def measured(options, work, contenders, **more):
    """A section of the results."""
    if options.contenders:
        contenders = [one for one in contenders if one.key in options.contenders]
    turns = rounds.run(work, contenders, options.rounds, options.rows)
    return {"key": work.key, "title": work.title, "rows": [row_of(turn) for turn in turns], **more}


# --- models and tokens ---------------------------------------------------------------------------


def minilm():
    """The model and its tokenizer, exported once."""
    def make(path):
        MODELS.mkdir(parents=True, exist_ok=True)
        subprocess.run([catalogue.VENVS / "torch/bin/python",
                        catalogue.HERE / "export_minilm.py", path,
                        MODELS / "minilm-tokenizer.json"], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
    return data.made(MODELS / "minilm.onnx", make), MODELS / "minilm-tokenizer.json"


def token_ids(work, source):
    def make(path):
        catalogue.run_helper("ids", work.tokenizer, source, path)
    return data.made(data.WORK / f"{source.stem}-{work.key}-ids.jsonl", make)


def lengths_of(work, source):
    return json.loads(catalogue.run_helper("lengths", work.tokenizer, source))["lengths"]


def about_lengths(lengths):
    ordered = sorted(lengths)
    at = {share: ordered[int(share * (len(ordered) - 1))] for share in (0.1, 0.5, 0.9)}
    return (f"{len(lengths):,} texts; tokens: mean {sum(lengths) / len(lengths):.1f}, a tenth up "
            f"to {at[0.1]}, half up to {at[0.5]}, nine tenths up to {at[0.9]}, at most "
            f"{ordered[-1]}.")


def packages_work(n_rows):
    return Work("packages", "Package descriptions: a classifier of 1.3 MB, texts in, logits out",
                PACKAGES / "packages.onnx", texts.descriptions(n_rows), n_rows, "logits",
                PACKAGES / "tokenizer.json", "string")


def minilm_work(key, source, n_rows, title, id_type):
    model, tokenizer = minilm()
    return Work(key, f"{title}: all-MiniLM-L6-v2, embeddings out", model, source, n_rows,
                "sentence_embedding", tokenizer, id_type)


# --- what is measured ----------------------------------------------------------------------------


def digits(options):
    n_rows = 1_000_000
    work = Work("digits", "Digits: a million records of 64 small integers, network 64-128-10",
                data.DIGITS_MODEL, data.digits(n_rows), n_rows, "logits")
    yield measured(options, work, [catalogue.every_record(), *catalogue.loops_for_digits(),
                                   *catalogue.frameworks_for_digits()])


def of_texts(options, work, contenders):
    lengths = lengths_of(work, work.source)
    found = measured(options, work, contenders, about=about_lengths(lengths))
    if not options.no_ideal:
        rounds.say("  zero-padding ideal")
        try:
            found["ideal"] = ideal.ideal(work.model, lengths)
        except measure.CommandFailed as error:
            rounds.say(str(error))
    return found


def packages(options):
    work = packages_work(100_000)
    yield of_texts(options, work, [
        catalogue.every_record(),
        catalogue.tidemill("tidemill_ids", "tidemill run, token ids made beforehand", "--tokenizer",
                           "none", ids=token_ids), *catalogue.loops_for_texts(32, 1024),
        *catalogue.frameworks_for_texts(work, 256, 0)])


def embeddings(options):
    work = minilm_work("docstrings", texts.docstrings(2000), 2000, "Docstrings", "bigint")
    yield of_texts(options, work, [
        catalogue.every_record(),
        *catalogue.loops_for_texts(32, 1024, rows=300), catalogue.sentence_transformers(),
        *catalogue.frameworks_for_texts(work, 32, 300)])
    work = minilm_work("short", texts.some_short(4000), 4000, "Short descriptions", "string")
    yield of_texts(options, work, [
        catalogue.every_record(), *catalogue.loops_for_texts(32, 2048),
        catalogue.sentence_transformers(), *catalogue.frameworks_for_texts(work, 32, 1000)])


def all_descriptions(options):
    work = minilm_work("all", texts.descriptions(100_000), 100_000, "All package descriptions",
                       "string")
    yield of_texts(options, work, [catalogue.every_record(),
                                   catalogue.loops_for_texts(32, 2048)[0],
                                   catalogue.sentence_transformers()])


def duplicates(options):
    """Each text twice against as many that are all different."""
    for work, budget in ((packages_work(100_000), 1024),
                         (minilm_work("short", texts.some_short(4000), 4000, "Short descriptions",
                                      "string"), 2048)):
        loop = catalogue.loops_for_texts(32, budget)[0]
        ours = catalogue.tidemill()
        off = catalogue.tidemill("tidemill_off", "tidemill run --dedup off", "--dedup", "off")
        for source, what in ((work.source, "all different"),
                             (texts.doubled(work.source), "each text twice, shuffled")):
            one = replace(work, key=f"{work.key}-{what.split()[0]}", source=source,
                          title=f"{work.title.split(':')[0]}, {what}")
            doubled = source != work.source
            yield measured(options, one, [ours, off] + ([loop] if doubled else []))


def again(options):
    """A second run with a cache, one record in twenty changed."""
    work = packages_work(100_000)
    changed = texts.changed(work.source)
    folder = data.WORK / "peers-cache"
    first = catalogue.tidemill("tidemill_first", "first run, the cache empty", "--cache", folder)
    second = catalogue.tidemill("tidemill_second", "second run, 5% of the texts changed", "--cache",
                                folder)
    plain = catalogue.tidemill()
    section = {"key": "again", "title": "Package descriptions again, one text in twenty changed",
               "about": "tidemill with --cache, beside a run without. Whole runs, starts included."}
    turns = [rounds.Turn(plain, work.n_rows, changed), rounds.Turn(first, work.n_rows, work.source),
             rounds.Turn(second, work.n_rows, changed)]
    rounds.say(section["title"])
    for number in range(options.rounds + 1):  # the first also checks
        shutil.rmtree(folder, ignore_errors=True)
        for turn in turns:
            if not turn.reason:
                rounds.attempt(turn, measure_again, work, turn, number == 0)
    rows = [row_of(turn) for turn in turns]
    if all("seconds" in row for row in rows):
        section["remarks"] = [
            f"The second run took {rows[2]['seconds'] / rows[1]['seconds']:.2f} of the first run's "
            f"time and {rows[2]['cpu_s'] / rows[1]['cpu_s']:.2f} of its CPU-seconds; filling the "
            f"cache cost {100 * (rows[1]['cpu_s'] / rows[0]['cpu_s'] - 1):.0f}% of CPU."]
    yield {**section, "rows": rows}


def measure_again(work, turn, is_check):
    output, found = rounds.run_once(work, turn.contender, turn.source, watch=is_check)
    if is_check:
        rounds.check_answers(output, turn.rows, work.output_name,
                             rounds.expected_of(work, turn.source))
        turn.memory = {key: found[key] for key in ("private_mb", "tree_mb", "largest_mb")}
        rounds.start_of(work, turn)
    else:
        turn.runs.append(found)
        rounds.report(turn, found, "round")


def sizes(options):
    found = []
    for n_rows in [10_000, 100_000, 1_000_000] + ([10_000_000] if options.large else []):
        work = Work("sizes", f"Digits by size: {n_rows:,}", data.DIGITS_MODEL, data.digits(n_rows),
                    n_rows, "logits")
        found.append(measured(options, work, [catalogue.tidemill()])["rows"][0])
    found = [row for row in found if "seconds" in row]
    a, b = found[-2:]
    apart = (b["cpu_s"] / b["rows"]) / (a["cpu_s"] / a["rows"]) - 1
    yield {"key": "sizes", "title": "Digits by size: tidemill run", "sizes": found, "rows": [],
           "remarks": [f"A record of {b['rows']:,} costs {100 * apart:+.0f}% CPU against one of "
                       f"{a['rows']:,}."]}


WORKLOADS = {"digits": digits, "packages": packages, "embeddings": embeddings,
             "duplicates": duplicates, "again": again, "sizes": sizes,
             "all-descriptions": all_descriptions}
BY_DEFAULT = [name for name in WORKLOADS if name != "all-descriptions"]


# --- what comes of it ----------------------------------------------------------------------------


def versions():
    """Of what was pinned, as it is installed."""
    found = {"tidemill": compare.machine()["tidemill"]}
    for path in sorted(catalogue.HERE.glob("requirements-*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            name, _, version = line.partition("==")
            if name in PINNED:
                found.setdefault(name, version)
    return found


def page(found):
    commands = ", ".join(f"`{one.strip()}`" for one in found["commands"])
    intro = (Path(__file__).with_name("intro.md")).read_text(encoding="utf-8").strip("\n")
    return "\n\n".join([
        "# Beside other frameworks", intro, "![CPU-seconds per million records](peers.svg)",
        f"{tables.machine(found['machine'])} {commands}: {found['minutes']:.0f} minutes.",
        *(tables.section(one) for one in found["sections"])]) + "\n"


def keep(sections, section):
    """In the place of an earlier one of this key, or behind all."""
    for i, one in enumerate(sections):
        if one["key"] == section["key"]:
            sections[i] = section
            return
    sections.append(section)


def write(found, options):
    RESULTS.write_text(json.dumps(found, indent=1, default=str), encoding="utf-8")
    where = DOCS if options.publish else data.BUILD
    about = found["machine"]
    shown = [one for one in found["sections"] if one["key"] in ("digits", "packages", "docstrings",
                                                               "short", "all")]
    machine = f"{about['cores']} cores of {about['processor']}, {about['date']}"
    (where / "peers.svg").write_text(plot.svg(shown, machine), encoding="utf-8")
    (where / "PEERS.md").write_text(page(found), encoding="utf-8")
    rounds.say(f"{RESULTS}, {where / 'peers.svg'}, {where / 'PEERS.md'}")


def parse_options():
    parser = argparse.ArgumentParser(prog="bench/peers/run", description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="NAME,...", default=",".join(BY_DEFAULT),
                        help=f"of {', '.join(WORKLOADS)}; all but the last by default")
    parser.add_argument("--contenders", metavar="KEY,...", default="",
                        help="such as tidemill,spark,ray,loop_orjson")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--rows", type=int, default=0, metavar="N",
                        help="no more records than this: a look whether all of it runs")
    parser.add_argument("--large", action="store_true", help="sizes: ten million too")
    parser.add_argument("--no-ideal", action="store_true", help="leave the zero-padding ideal out")
    parser.add_argument("--add", action="store_true",
                        help="keep what earlier runs measured of other workloads")
    parser.add_argument("--publish", action="store_true",
                        help="write docs/PEERS.md and docs/peers.svg")
    options = parser.parse_args()
    options.only = [name for name in options.only.split(",") if name]
    options.contenders = [name for name in options.contenders.split(",") if name]
    unknown = set(options.only) - set(WORKLOADS)
    if unknown:
        parser.error(f"no workload is called {', '.join(sorted(unknown))}")
    return options


def main():
    options = parse_options()
    data.WORK.mkdir(parents=True, exist_ok=True)
    compare.take_turn()
    measure.adopt_orphans()
    about = compare.machine()
    found = {"machine": {**{key: about[key] for key in
                            ("date", "processor", "cores", "memory", "system")},
                         "versions": versions()}, "minutes": 0, "commands": [], "sections": []}
    if options.add and RESULTS.exists():
        earlier = json.loads(RESULTS.read_text(encoding="utf-8"))
        found.update({key: earlier[key] for key in ("minutes", "commands", "sections")
                      if key in earlier})
    found["commands"].append("bench/peers/run " + " ".join(sys.argv[1:]))
    write(found, options)
    for name in options.only:
        began = time.monotonic()
        for section in WORKLOADS[name](options):
            keep(found["sections"], section)
            print(f"\n{tables.section(section)}", flush=True)
        found["minutes"] += (time.monotonic() - began) / 60
        write(found, options)


if __name__ == "__main__":
    os.chdir(data.ROOT)
    main()
