"""Writes the encoder of train.py as an ONNX graph. Needs numpy and onnx.

In: the weights by name, as train.init_params makes them. Out: a model with
input_ids and attention_mask int64 [batch, sequence] and logits float32
[batch, sections], opset 17. Padding (mask 0) changes the logits by rounding only.
A sequence longer than the table of positions fails in the graph.
"""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """Collects nodes and constants; each method returns the name of its result."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def const(self, name, value, dtype=np.float32):
        self.constants.append(numpy_helper.from_array(np.array(value, dtype=dtype), name))
        return name

    def add(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def linear(self, name, x):
        product = self.add("MatMul", [x, f"{name}.w"], f"{name}.product")
        return self.add("Add", [product, f"{name}.b"], f"{name}.out")

    def norm(self, name, x):
        return self.add("LayerNormalization", [x, f"{name}.gain", f"{name}.bias"],
                        f"{name}.out", axis=-1, epsilon=1e-5)

    def heads(self, name, x, perm):
        """[batch, sequence, width] to [batch, heads, ...] in the order of perm."""
        split = self.add("Reshape", [self.linear(name, x), "head_shape"], f"{name}.heads")
        return self.add("Transpose", [split], f"{name}.turned", perm=perm)

    def attention(self, name, x):
        q = self.heads(f"{name}.q", x, [0, 2, 1, 3])
        k = self.heads(f"{name}.k", x, [0, 2, 3, 1])
        v = self.heads(f"{name}.v", x, [0, 2, 1, 3])
        scores = self.add("MatMul", [q, k], f"{name}.scores")
        scores = self.add("Mul", [scores, "head_scale"], f"{name}.scaled")
        scores = self.add("Add", [scores, "mask_bias"], f"{name}.masked")
        weights = self.add("Softmax", [scores], f"{name}.weights", axis=-1)
        mixed = self.add("MatMul", [weights, v], f"{name}.mixed")
        back = self.add("Transpose", [mixed], f"{name}.back", perm=[0, 2, 1, 3])
        return self.linear(f"{name}.o", self.add("Reshape", [back, "flat_shape"], f"{name}.flat"))

    def block(self, name, x):
        y = self.attention(f"{name}.attention", self.norm(f"{name}.norm1", x))
        x = self.add("Add", [x, y], f"{name}.middle")
        y = self.linear(f"{name}.up", self.norm(f"{name}.norm2", x))
        y = self.linear(f"{name}.down", self.add("Relu", [y], f"{name}.active"))
        return self.add("Add", [x, y], f"{name}.end")


def build_model(params, layers, heads):
    width = params["embedding"].shape[1]
    sections = params["classifier.b"].shape[0]
    g = Graph()
    for name, value in params.items():
        g.const(name, value)
    g.const("head_shape", [0, 0, heads, width // heads], np.int64)
    g.const("flat_shape", [0, 0, width], np.int64)
    g.const("head_scale", (width // heads) ** -0.5)
    g.const("one", 1)
    g.const("hide", -1e9)
    g.const("from_0", [0], np.int64)
    g.const("axis_1", [1], np.int64)
    g.const("axes_1_2", [1, 2], np.int64)
    g.const("axis_2", [2], np.int64)

    mask = g.add("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
    hidden = g.add("Mul", [g.add("Sub", ["one", mask], "hidden"), "hide"], "hidden_bias")
    g.add("Unsqueeze", [hidden, "axes_1_2"], "mask_bias")  # [batch, 1, 1, sequence]

    length = g.add("Shape", ["input_ids"], "length", start=1, end=2)
    positions = g.add("Slice", ["position", "from_0", length], "positions")
    words = g.add("Gather", ["embedding", "input_ids"], "words")
    x = g.add("Add", [words, positions], "sum")
    for i in range(layers):
        x = g.block(f"layer{i}", x)
    x = g.norm("final", x)

    column = g.add("Unsqueeze", [mask, "axis_2"], "mask_column")
    total = g.add("ReduceSum", [g.add("Mul", [x, column], "kept"), "axis_1"], "total", keepdims=0)
    count = g.add("ReduceSum", [mask, "axis_1"], "count", keepdims=1)
    pooled = g.add("Div", [total, count], "pooled")
    product = g.add("MatMul", [pooled, "classifier.w"], "classified")
    g.add("Add", [product, "classifier.b"], "logits")

    def ids(name):
        return helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])

    graph = helper.make_graph(
        g.nodes, "packages", [ids("input_ids"), ids("attention_mask")],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", sections])],
        g.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)],
                              ir_version=8, producer_name="tidemill-examples")
    onnx.checker.check_model(model)
    return model
