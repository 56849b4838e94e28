# SPDX-License-Identifier: Apache-2.0
"""Runs inside TorchServe: a custom handler, see "Custom Service" in its documentation."""
import os

import numpy
import onnxruntime
import orjson


class Handler:
    def initialize(self, context):
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        folder = context.system_properties["model_dir"]
        self.session = onnxruntime.InferenceSession(os.path.join(folder, "model.onnx"), settings)
        self.input = self.session.get_inputs()[0].name

    def handle(self, requests, _):
        pixels = numpy.array([orjson.loads(bytes(one["body"]))["pixels"] for one in requests],
                             numpy.float32)
        answers = self.session.run(None, {self.input: pixels})[0]
        return [orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY).decode()
                for answer in answers]
