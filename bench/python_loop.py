# SPDX-License-Identifier: Apache-2.0
"""What a user would write: a loop over a JSONL file with onnxruntime.

    python_loop.py MODEL INPUT OUTPUT BATCH [json|orjson]

The fields have the names of the model's inputs. With orjson the loop is tuned by hand: bytes in and
out, answers written straight from the array. Prints one line of JSON; its clock starts when all is
imported and the model is loaded, which favours the loop.
"""
import json
import sys
import time

import numpy
import onnxruntime

TYPES = {"tensor(float)": numpy.float32, "tensor(int64)": numpy.int64}


class Model:
    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(path)
        self.inputs = [(i.name, TYPES[i.type]) for i in self.session.get_inputs()]
        self.output = self.session.get_outputs()[0].name

    def run(self, records):
        feed = {name: numpy.array([record[name] for record in records], dtype=kind)
                for name, kind in self.inputs}
        return self.session.run([self.output], feed)[0]


def batches(lines, loads, size):
    records = []
    for line in lines:
        records.append(loads(line))
        if len(records) == size:
            yield records
            records = []
    if records:
        yield records


def plain(model, source, target, size):
    n = 0
    with open(source, encoding="utf-8") as lines, open(target, "w", encoding="utf-8") as out:
        for records in batches(lines, json.loads, size):
            for record, answer in zip(records, model.run(records).tolist()):
                out.write(json.dumps({"id": record["id"], model.output: answer}) + "\n")
            n += len(records)
    return n


def tuned(model, source, target, size):
    import orjson
    option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    n = 0
    with open(source, "rb") as lines, open(target, "wb") as out:
        for records in batches(lines, orjson.loads, size):
            out.write(b"".join([
                orjson.dumps({"id": record["id"], model.output: answer}, option=option)
                for record, answer in zip(records, model.run(records))]))
            n += len(records)
    return n


def main():
    path, source, target, size = sys.argv[1:5]
    loop = tuned if sys.argv[5:] == ["orjson"] else plain
    model = Model(path)
    began, began_cpu = time.perf_counter(), time.process_time()
    n = loop(model, source, target, int(size))
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    print(json.dumps({"rows": n, "rows_per_s": n / seconds, "cpu_s_per_million": cpu_s / n * 1e6}))


if __name__ == "__main__":
    main()
