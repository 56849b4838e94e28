# SPDX-License-Identifier: Apache-2.0
"""Loops without a framework: plain (json), tuned (orjson), tuned in processes, sorted (texts).

sorted: tokenises all, sorts by length, and fills batches up to 1,024 tokens with padding, the best
that a user writes by hand for texts. Answers are written in input order.
"""
import json
import multiprocessing
import os

import orjson
import task


def plain(options, model):
    with open(options.input, encoding="utf-8") as lines, \
            open(options.output, "w", encoding="utf-8") as out:
        for records in task.batches(map(json.loads, lines), options.batch):
            answers = model([record[task.field_of(options)] for record in records])
            for record, answer in zip(records, answers.tolist()):
                out.write(json.dumps({"id": record["id"], model.output: answer}) + "\n")


def tuned(options, model):
    with open(options.input, "rb") as lines, open(options.output, "wb") as out:
        tuned_lines(options, model, lines, out)


def tuned_lines(options, model, lines, out):
    for records in task.batches(map(orjson.loads, lines), options.batch):
        answers = model([record[task.field_of(options)] for record in records])
        task.write_answers(out, model.output, [record["id"] for record in records], answers)


def part(options, number, of):
    """The lines that begin in one part of the file, into a part of the output."""
    size = os.path.getsize(options.input)
    begin, end = size * number // of, size * (number + 1) // of
    model = task.Model(options.model, options.tokenizer, 1)
    with open(options.input, "rb") as source, open(f"{options.output}/{number}", "wb") as out:
        source.seek(max(begin - 1, 0))
        if begin > 0:
            source.readline()

        def lines():
            while source.tell() < end:
                yield source.readline()
        tuned_lines(options, model, lines(), out)


def in_processes(options):
    os.makedirs(options.output)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=part, args=(options, number, options.threads))
               for number in range(options.threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode != 0 for worker in workers):
        raise SystemExit("a process failed")


def by_budget(order, lengths, budget):
    """Batches of neighbours; the longest of each comes first, times their number fits."""
    batch = []
    for one in order:
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def sorted_by_length(options, model):
    with open(options.input, "rb") as lines:
        records = [orjson.loads(line) for line in lines]
    encodings = model.tokenizer.encode_batch_fast([record["text"] for record in records])
    lengths = [len(one.ids) for one in encodings]
    order = sorted(range(len(records)), key=lambda i: -lengths[i])
    answers = [None] * len(records)
    for batch in by_budget(order, lengths, options.budget):
        for one, answer in zip(batch, model.of_encodings([encodings[i] for i in batch])):
            answers[one] = answer
    with open(options.output, "wb") as out:
        task.write_answers(out, model.output, [record["id"] for record in records], answers)


def main():
    options = task.parse(("kind", str, "plain"), ("batch", int, 256),
                         ("budget", int, task.BATCH_TOKENS))
    if options.kind == "processes":
        in_processes(options)
        return
    model = task.Model(options.model, options.tokenizer, options.threads)
    {"plain": plain, "tuned": tuned, "sorted": sorted_by_length}[options.kind](options, model)


if __name__ == "__main__":
    main()
