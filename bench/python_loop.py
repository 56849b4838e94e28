# SPDX-License-Identifier: Apache-2.0
"""What a user would write: a Python loop over a file with onnxruntime and json.

python_loop.py MODEL INPUT OUTPUT FIELD BATCH [--orjson]
"""
import json
import sys

import numpy
import onnxruntime


def main():
    model, source, target, field, batch = sys.argv[1:6]
    loads, dumps = json.loads, json.dumps
    if "--orjson" in sys.argv:
        import orjson
        loads, dumps = orjson.loads, lambda value: orjson.dumps(
            value, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    session = onnxruntime.InferenceSession(model)
    name = session.get_inputs()[0].name
    output = session.get_outputs()[0].name
    is_fast = "--orjson" in sys.argv

    def flush(ids, rows, out):
        answers = session.run([output], {name: numpy.array(rows, dtype=numpy.float32)})[0]
        for key, answer in zip(ids, answers if is_fast else answers.tolist()):
            out.write(dumps({"id": key, output: answer}) + "\n")

    with open(source, encoding="utf-8") as lines, open(target, "w", encoding="utf-8") as out:
        ids, rows = [], []
        for line in lines:
            record = loads(line)
            ids.append(record["id"])
            rows.append(record[field])
            if len(rows) == int(batch):
                flush(ids, rows, out)
                ids, rows = [], []
        if rows:
            flush(ids, rows, out)


if __name__ == "__main__":
    main()
