# SPDX-License-Identifier: Apache-2.0
"""Ray Data: read_json, map_batches with a pool of actors, write_json.

As in "End-to-end: Offline Batch Inference" and "Advanced: Performance Tips and Tuning" of its
documentation: a class whose __init__ loads the model, a fixed number of actors, a large batch, the
execution log off.
"""
import logging
import os

import numpy
import ray
import task


class Predict:
    def __init__(self, options):
        self.field = task.field_of(options)
        self.model = task.Model(options.model, options.tokenizer, 1)

    def __call__(self, batch):
        values = batch[self.field]
        answers = self.model(values.tolist() if self.field == "text" else numpy.stack(values))
        return {"id": batch["id"], self.model.output: answers}


def main():
    options = task.parse(("batch", int, 4096), ("actors", int, 2), ("cpus", float, 0.5))
    ray.init(num_cpus=options.threads, include_dashboard=False, logging_level=logging.ERROR,
             log_to_driver=False, _temp_dir=os.path.abspath(options.scratch))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    ray.data.read_json(options.input) \
        .map_batches(Predict, fn_constructor_args=[options], batch_size=options.batch,
                     compute=ray.data.ActorPoolStrategy(size=options.actors),
                     num_cpus=options.cpus) \
        .write_json(options.output)
    ray.shutdown()


if __name__ == "__main__":
    main()
