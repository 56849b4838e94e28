# SPDX-License-Identifier: Apache-2.0
"""Apache Beam: RunInference with the ONNX handler on the direct runner.

As in "RunInference Transform" of its documentation: KeyedModelHandler around
OnnxModelHandlerNumpy with min_batch_size and max_batch_size, a custom inference function for texts,
which differ in length. The runner is set as in "Using the Direct Runner".
"""
import apache_beam as beam
import numpy
import onnxruntime
import orjson
import task
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.ml.inference.onnx_inference import OnnxModelHandlerNumpy
from apache_beam.options.pipeline_options import PipelineOptions


BUCKETS = [8, 16, 32, 64, 128]  # tokens


class Handler(OnnxModelHandlerNumpy):
    """With a number of threads: session options as an argument cannot be pickled."""

    def __init__(self, options, **more):
        super().__init__(options.model, min_batch_size=options.batch, max_batch_size=options.batch,
                         **more)
        self.path, self.threads = options.model, max(1, options.threads // options.workers)

    def load_model(self):
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = self.threads
        return onnxruntime.InferenceSession(self.path, settings)


class Texts:
    """Pads a batch of token ids; given to the handler in place of its own function."""

    def __call__(self, session, batch, _=None):
        longest = max(map(len, batch))
        ids = numpy.zeros((len(batch), longest), dtype=numpy.int64)
        mask = numpy.zeros_like(ids)
        for row, one in enumerate(batch):
            ids[row, :len(one)], mask[row, :len(one)] = one, 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}
        return session.run(None, {one.name: feed[one.name] for one in session.get_inputs()})[0]


class Decode(beam.DoFn):
    def __init__(self, tokenizer):
        self.path = tokenizer

    def setup(self):
        if self.path:
            from tokenizers import Tokenizer
            self.tokenizer = Tokenizer.from_file(self.path)

    def process(self, line):
        record = orjson.loads(line)
        if self.path:
            ids = self.tokenizer.encode(record["text"]).ids
            yield record["id"], numpy.array(ids, dtype=numpy.int64)
        else:
            yield record["id"], numpy.array(record["pixels"], dtype=numpy.float32)


class Encode(beam.DoFn):
    def __init__(self, name):
        self.name = name

    def process(self, answer):
        one, found = answer
        inference = found.inference
        values = next(iter(inference.values())) if isinstance(inference, dict) else inference
        yield orjson.dumps({"id": one, self.name: values},
                           option=orjson.OPT_SERIALIZE_NUMPY).decode()


def main():
    options = task.parse(("batch", int, 4096), ("mode", str, "in_memory"), ("workers", int, 1),
                         ("name", str, "logits"))
    more = {"inference_fn": Texts(), "batch_length_fn": len,
            "batch_bucket_boundaries": BUCKETS} if options.tokenizer else {}
    handler = Handler(options, **more)
    running = PipelineOptions(["--runner=FnApiRunner", f"--direct_running_mode={options.mode}",
                               f"--direct_num_workers={options.workers}"])
    with beam.Pipeline(options=running) as pipeline:
        (pipeline | beam.io.ReadFromText(options.input, coder=beam.coders.BytesCoder())
         | beam.ParDo(Decode(options.tokenizer))
         | RunInference(KeyedModelHandler(handler))
         | beam.ParDo(Encode(options.name))
         | beam.io.WriteToText(options.output))


if __name__ == "__main__":
    main()
