# SPDX-License-Identifier: Apache-2.0
"""What Celery's workers run: the model is loaded once a process, at worker_process_init."""
import json
import os

import celery
import celery.signals
import numpy
import orjson
import task

SETTINGS = json.loads(os.environ["PEERS_CELERY"])  # model, redis: the address of broker and backend

app = celery.Celery("peers", broker=SETTINGS["redis"], backend=SETTINGS["redis"])
app.conf.update(task_serializer="json", result_serializer="json", accept_content=["json"],
                worker_prefetch_multiplier=64, task_ignore_result=False, result_expires=600,
                worker_hijack_root_logger=False)
model = []


@celery.signals.worker_process_init.connect
def load(**_):
    model.append(task.Model(SETTINGS["model"], None, 1))


@app.task
def predict(line):
    """One record, as its line; the answer is the list of logits."""
    return model[0]([orjson.loads(line)["pixels"]])[0].tolist()


@app.task
def predict_many(lines):
    """One answer a line, joined."""
    records = [orjson.loads(line) for line in lines]
    answers = model[0](numpy.array([record["pixels"] for record in records], numpy.float32))
    return [{"id": record["id"], "logits": answer}
            for record, answer in zip(records, answers.tolist())]
