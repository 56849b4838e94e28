# SPDX-License-Identifier: Apache-2.0
"""Spark: read.json with a schema, mapInPandas, write.json, on local[N].

As in "Apache Arrow in PySpark" of its documentation: mapInPandas with an iterator, so that a worker
loads the model once, and spark.sql.execution.arrow.maxRecordsPerBatch for the batch size.
"""
import os
import sys

import numpy
import pandas
import task
from pyspark.sql import SparkSession

FIELDS = {"pixels": "array<float>", "text": "string"}


def predict(options, field):
    def of_batches(frames):
        model = task.Model(options.model, options.tokenizer, 1)
        for frame in frames:
            values = frame[field]
            answers = model(list(values) if field == "text" else numpy.stack(values))
            yield pandas.DataFrame({"id": frame["id"], model.output: list(answers)})
    return of_batches


def main():
    options = task.parse(("batch", int, 4096), ("id", str, "bigint"), ("name", str, "logits"))
    field = task.field_of(options)
    os.environ["PYSPARK_PYTHON"] = sys.executable
    spark = SparkSession.builder.master(f"local[{options.threads}]") \
        .config("spark.ui.enabled", "false") \
        .config("spark.driver.memory", "2g") \
        .config("spark.local.dir", options.scratch) \
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", options.batch) \
        .getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    spark.sparkContext.addPyFile(task.__file__)
    spark.read.schema(f"id {options.id}, {field} {FIELDS[field]}").json(options.input) \
        .mapInPandas(predict(options, field), f"id {options.id}, {options.name} array<float>") \
        .write.json(options.output)
    spark.stop()


if __name__ == "__main__":
    main()
