#!/usr/bin/env python3
"""Writes the ONNX models of the tests into a folder. Needs numpy and onnx.

Each model is one function; its docstring says the shapes, the result and what
it is for. The same versions of numpy and onnx give the same bytes. Models have
IR version 9 and opset 17 where nothing newer is needed, so that ONNX Runtime
1.21 and later load them.

    make_models.py DIR            the small models, each below 10 KB
    make_models.py DIR --bench    the models for measurements too
    make_models.py --list         names and what they are for
"""
import argparse
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING

ELEMENT_TYPES = {
    "float": TensorProto.FLOAT,
    "double": TensorProto.DOUBLE,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "bool": TensorProto.BOOL,
    "string": TensorProto.STRING,
}
FLOAT8_TYPES = {
    "float8e4m3fn": TensorProto.FLOAT8E4M3FN,
    "float8e5m2": TensorProto.FLOAT8E5M2,
}

SMALL = {}  # name -> function that returns a model
BENCH = {}


def small(function):
    SMALL[function.__name__] = function
    return function


def bench(function):
    BENCH[function.__name__] = function
    return function


def node(op, inputs, outputs, **attributes):
    """Names separated by spaces; an attribute `domain` picks the operator set."""
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def tensor(name, element_type, *shape):
    return helper.make_tensor_value_info(name, element_type, list(shape))


def constant(name, value, dtype=None):
    return numpy_helper.from_array(np.array(value, dtype=dtype), name)


def model(inputs, outputs, nodes, constants=(), opset=17, uses_ml=False):
    graph = helper.make_graph(nodes, "test", inputs, outputs, list(constants))
    opsets = [helper.make_opsetid("", opset)]
    if uses_ml:
        opsets.append(helper.make_opsetid("ai.onnx.ml", 3))
    return helper.make_model(graph, opset_imports=opsets, ir_version=9,
                             producer_name="tidemill-tests")


# One element type each.

def identity(element_type, opset=17):
    return model([tensor("x", element_type, "batch", 3)],
                 [tensor("y", element_type, "batch", 3)],
                 [node("Identity", "x", "y")], opset=opset)


def add_identities():
    for name, element_type in ELEMENT_TYPES.items():
        def make(element_type=element_type):
            return identity(element_type)
        make.__doc__ = f"x {name} [batch, 3] -> y the same. Reading and writing of the type."
        SMALL[f"identity_{name}"] = make
    for name, element_type in FLOAT8_TYPES.items():
        def make_float8(element_type=element_type):
            return identity(element_type, opset=19)
        make_float8.__doc__ = (f"x {name} [batch, 3] -> y the same (opset 19). "
                               "A type that no JSON record can hold: refused by name.")
        SMALL[f"identity_{name}"] = make_float8


add_identities()


# Shapes.

@small
def scalar_per_row():
    """x float [batch] -> y float [batch] = 2x + 1. A record is one number, not a list."""
    return model([tensor("x", FLOAT, "batch")], [tensor("y", FLOAT, "batch")],
                 [node("Mul", "x two", "twice"), node("Add", "twice one", "y")],
                 [constant("two", 2, np.float32), constant("one", 1, np.float32)])


@small
def two_in_two_out():
    """a float [batch, 4], b int64 [batch, 2] -> sum [batch] of all six, cat [batch, 6]."""
    return model(
        [tensor("a", FLOAT, "batch", 4), tensor("b", INT64, "batch", 2)],
        [tensor("sum", FLOAT, "batch"), tensor("cat", FLOAT, "batch", 6)],
        [node("Cast", "b", "b_float", to=FLOAT),
         node("Concat", "a b_float", "cat", axis=1),
         node("ReduceSum", "cat axis", "sum", keepdims=0)],
        [constant("axis", [1], np.int64)])


@small
def fixed_batch():
    """x float [8, 4] -> y float [8, 2] = (x0 + x1, x2 + x3). A last batch must be filled up."""
    return model([tensor("x", FLOAT, 8, 4)], [tensor("y", FLOAT, 8, 2)],
                 [node("MatMul", "x w", "y")],
                 [constant("w", [[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)])


@small
def no_batch():
    """x float [4, 4] -> y float [4]: row sums less their mean. A record is a whole call.

    The mean ties the rows together, so a wrong guess that dimension 0 is the
    batch changes the numbers.
    """
    return model([tensor("x", FLOAT, 4, 4)], [tensor("y", FLOAT, 4)],
                 [node("ReduceSum", "x axis", "sums", keepdims=0),
                  node("ReduceMean", "sums", "mean", keepdims=1),
                  node("Sub", "sums mean", "y")],
                 [constant("axis", [1], np.int64)])


@small
def no_batch_dynamic():
    """x float [rows, 4] -> y float [4]: column means. Rows belong to one record."""
    return model([tensor("x", FLOAT, "rows", 4)], [tensor("y", FLOAT, 4)],
                 [node("ReduceMean", "x", "y", axes=[0], keepdims=0)])


@small
def fully_dynamic():
    """ids int64 [batch, seq] -> mean float [batch], doubled int64 [batch, seq].

    No mask: records of different lengths must not share a call, as padding
    would change the mean.
    """
    return model([tensor("ids", INT64, "batch", "seq")],
                 [tensor("mean", FLOAT, "batch"), tensor("doubled", INT64, "batch", "seq")],
                 [node("Cast", "ids", "values", to=FLOAT),
                  node("ReduceMean", "values", "mean", axes=[1], keepdims=0),
                  node("Add", "ids ids", "doubled")])


@small
def masked_mean():
    """ids int64 [batch, seq], attention_mask int64 [batch, seq] -> mean float [batch].

    The mask hides padding, so records of different lengths may share a call.
    An all-zero mask divides 0 by 0: NaN.
    """
    return model([tensor("ids", INT64, "batch", "seq"),
                  tensor("attention_mask", INT64, "batch", "seq")],
                 [tensor("mean", FLOAT, "batch")],
                 [node("Mul", "ids attention_mask", "kept"),
                  node("ReduceSum", "kept axis", "total", keepdims=0),
                  node("ReduceSum", "attention_mask axis", "count", keepdims=0),
                  node("Cast", "total", "total_float", to=FLOAT),
                  node("Cast", "count", "count_float", to=FLOAT),
                  node("Div", "total_float count_float", "mean")],
                 [constant("axis", [1], np.int64)])


@small
def token_outputs():
    """input_ids, attention_mask int64 [batch, sequence] -> three outputs, two that bear padding.

    hidden float [batch, sequence, 2] = (id, 2 id); pairs float [batch, 2, sequence, sequence] =
    id x id, twice; sum float [batch] over what the mask keeps.
    """
    return model([tensor("input_ids", INT64, "batch", "sequence"),
                  tensor("attention_mask", INT64, "batch", "sequence")],
                 [tensor("hidden", FLOAT, "batch", "sequence", 2),
                  tensor("pairs", FLOAT, "batch", 2, "sequence", "sequence"),
                  tensor("sum", FLOAT, "batch")],
                 [node("Cast", "input_ids", "ids", to=FLOAT),
                  node("Cast", "attention_mask", "mask", to=FLOAT),
                  node("Unsqueeze", "ids last", "column"),
                  node("Unsqueeze", "ids middle", "row"),
                  node("Mul", "column factors", "hidden"),
                  node("MatMul", "column row", "square"),
                  node("Unsqueeze", "square middle", "squares"),
                  node("Concat", "squares squares", "pairs", axis=1),
                  node("Mul", "ids mask", "kept"),
                  node("ReduceSum", "kept middle", "sum", keepdims=0)],
                 [constant("last", [2], np.int64), constant("middle", [1], np.int64),
                  constant("factors", [1, 2], np.float32)])


@small
def token_neighbours():
    """input_ids, attention_mask int64 [batch, sequence] -> y float [batch] = what the mask keeps, summed,
    less the sum's mean over the batch. A row depends on its neighbours, but not on padding.
    """
    return model([tensor("input_ids", INT64, "batch", "sequence"),
                  tensor("attention_mask", INT64, "batch", "sequence")],
                 [tensor("y", FLOAT, "batch")],
                 [node("Mul", "input_ids attention_mask", "kept"),
                  node("ReduceSum", "kept axis", "whole", keepdims=0),
                  node("Cast", "whole", "sum", to=FLOAT),
                  node("ReduceMean", "sum", "mean", axes=[0], keepdims=1),
                  node("Sub", "sum mean", "y")],
                 [constant("axis", [1], np.int64)])


@small
def frames():
    """x float [batch, 3, frames] -> total float [batch]: padding with zeros changes nothing."""
    return model([tensor("x", FLOAT, "batch", 3, "frames")], [tensor("total", FLOAT, "batch")],
                 [node("ReduceSum", "x axes", "total", keepdims=0)],
                 [constant("axes", [1, 2], np.int64)])


@small
def unnamed_dims():
    """x float [?, 3] -> y float [?, 3] = -x. Dimension 0 has neither a name nor a size."""
    return model([tensor("x", FLOAT, None, 3)], [tensor("y", FLOAT, None, 3)],
                 [node("Neg", "x", "y")])


@small
def scalar_input():
    """x float [] -> y float [] = 2x + 1. Rank 0 in and out; a record is a whole call."""
    return model([tensor("x", FLOAT)], [tensor("y", FLOAT)],
                 [node("Mul", "x two", "twice"), node("Add", "twice one", "y")],
                 [constant("two", 2, np.float32), constant("one", 1, np.float32)])


@small
def scalar_beside_batch():
    """x float [batch, 3], scale float [] -> y = x * scale. One input has no batch dimension."""
    return model([tensor("x", FLOAT, "batch", 3), tensor("scale", FLOAT)],
                 [tensor("y", FLOAT, "batch", 3)], [node("Mul", "x scale", "y")])


@small
def batch_last():
    """x float [3, batch] -> y float [3, batch] = -x. The batch is the last dimension."""
    return model([tensor("x", FLOAT, 3, "batch")], [tensor("y", FLOAT, 3, "batch")],
                 [node("Neg", "x", "y")])


@small
def empty_rows():
    """x float [batch, 0] -> y float [batch, 0]. Tensors without elements."""
    return model([tensor("x", FLOAT, "batch", 0)], [tensor("y", FLOAT, "batch", 0)],
                 [node("Neg", "x", "y")])


@small
def image_rank4():
    """x uint8 [batch, 3, 2, 2] -> y float [batch, 3]: mean of each channel. Nested lists."""
    return model([tensor("x", TensorProto.UINT8, "batch", 3, 2, 2)],
                 [tensor("y", FLOAT, "batch", 3)],
                 [node("Cast", "x", "values", to=FLOAT),
                  node("ReduceMean", "values", "y", axes=[2, 3], keepdims=0)])


# Text: what the tokenizer and the decoder give.

def echo_model(element_type, length, **outputs):
    return model([tensor(name, element_type, "batch", length) for name in outputs.values()],
                 [tensor(out, element_type, "batch", length) for out in outputs],
                 [node("Identity", name, out) for out, name in outputs.items()])


TEXT_INPUTS = {"ids": "input_ids", "mask": "attention_mask", "types": "token_type_ids"}


@small
def token_echo():
    """input_ids, attention_mask, token_type_ids int64 [batch, seq] -> ids, mask, types the same."""
    return echo_model(INT64, "seq", **TEXT_INPUTS)


@small
def token_echo_int32():
    """As token_echo in int32, with position_ids -> positions, and a second mask "global" -> "wide"."""
    return echo_model(TensorProto.INT32, "seq", **TEXT_INPUTS, positions="position_ids",
                      wide="global")


@small
def token_echo_fixed():
    """As token_echo, but [batch, 12]: shorter texts are filled up."""
    return echo_model(INT64, 12, **TEXT_INPUTS)


@small
def frames_masked():
    """frames float [batch, time, 2], mask float [batch, time] -> sum [batch] of what is not masked."""
    return model([tensor("frames", FLOAT, "batch", "time", 2), tensor("mask", FLOAT, "batch", "time")],
                 [tensor("sum", FLOAT, "batch"), tensor("ones", FLOAT, "batch", "time")],
                 [node("ReduceSum", "frames last", "steps", keepdims=0),
                  node("Mul", "steps mask", "kept"), node("ReduceSum", "kept first", "sum", keepdims=0),
                  node("Identity", "mask", "ones")],
                 [constant("last", [2], np.int64), constant("first", [1], np.int64)])


# Rows that do not stay apart.

@small
def batch_dependent():
    """x float [batch, 3] -> y = x less its mean over the batch. A row depends on its neighbours."""
    return model([tensor("x", FLOAT, "batch", 3)], [tensor("y", FLOAT, "batch", 3)],
                 [node("ReduceMean", "x", "mean", axes=[0], keepdims=1),
                  node("Sub", "x mean", "y")])


@small
def rows_dropped():
    """x float [batch, 3] -> y float [kept, 3]: rows whose first value is above 0.

    Fewer rows come out than went in, so no row of y belongs to a known record.
    """
    return model([tensor("x", FLOAT, "batch", 3)], [tensor("y", FLOAT, "kept", 3)],
                 [node("Gather", "x first", "column", axis=1),
                  node("Greater", "column zero", "keep"),
                  node("Compress", "x keep", "y", axis=0)],
                 [constant("first", 0, np.int64), constant("zero", 0, np.float32)])


# Outputs and inputs that are not a plain tensor.

LABELS = ["setosa", "versicolor", "virginica"]


def linear_classifier(zipmap_names, label_names, label_type):
    coefficients = [1.0, 0.0, -1.0, 0.5, 0.0, 1.0, 0.0, -0.5, -1.0, -1.0, 1.0, 0.0]
    ml = "ai.onnx.ml"
    return model(
        [tensor("x", FLOAT, "batch", 4)],
        [tensor("output_label", label_type, "batch"),
         helper.make_value_info("output_probability", helper.make_sequence_type_proto(
             helper.make_map_type_proto(
                 label_type, helper.make_tensor_type_proto(FLOAT, []))))],
        [node("LinearClassifier", "x", "output_label scores", domain=ml,
              coefficients=coefficients, intercepts=[0.1, 0.0, -0.1],
              multi_class=1, post_transform="SOFTMAX", **label_names),
         node("Normalizer", "scores", "probabilities", domain=ml, norm="L1"),
         node("ZipMap", "probabilities", "output_probability", domain=ml, **zipmap_names)],
        uses_ml=True)


@small
def zipmap_string():
    """x float [batch, 4] -> output_label string [batch] and seq(map(string, float)).

    The sequence `output_probability` has one map of class to probability a row:
    what scikit-learn's converter writes for a classifier with string classes.
    """
    return linear_classifier({"classlabels_strings": LABELS},
                             {"classlabels_strings": LABELS}, STRING)


@small
def zipmap_int():
    """x float [batch, 4] -> output_label int64 [batch] and seq(map(int64, float)), as above."""
    return linear_classifier({"classlabels_int64s": [0, 1, 2]},
                             {"classlabels_ints": [0, 1, 2]}, INT64)


@small
def seq_of_tensors():
    """x float [batch, 4] -> parts seq(tensor(float)): one tensor [4] for each row."""
    return model([tensor("x", FLOAT, "batch", 4)],
                 [helper.make_tensor_sequence_value_info("parts", FLOAT, None)],
                 [node("SplitToSequence", "x", "parts", axis=0, keepdims=0)])


@small
def seq_input():
    """parts seq(tensor(float)) -> y float [n, 4]: the parts stacked. An input that is no tensor."""
    return model([helper.make_tensor_sequence_value_info("parts", FLOAT, None)],
                 [tensor("y", FLOAT, "n", 4)],
                 [node("ConcatFromSequence", "parts", "y", axis=0, new_axis=1)])


@small
def map_input():
    """x map(string, float) -> y float [1, 3]: values of the keys a, b, c, or 0."""
    map_type = helper.make_map_type_proto(STRING, helper.make_tensor_type_proto(FLOAT, []))
    return model([helper.make_value_info("x", map_type)], [tensor("y", FLOAT, 1, 3)],
                 [node("DictVectorizer", "x", "y", domain="ai.onnx.ml",
                       string_vocabulary=["a", "b", "c"])], uses_ml=True)


@small
def optional_type():
    """x float [batch, 3] -> y optional(tensor(float)). An output type that few runners know."""
    element = helper.make_tensor_type_proto(FLOAT, ["batch", 3])
    return model([tensor("x", FLOAT, "batch", 3)],
                 [helper.make_value_info("y", helper.make_optional_type_proto(element))],
                 [node("Optional", "x", "y")])


@small
def optional_output():
    """x float [batch, 4] -> top [batch, 1], place int64 [batch, 1], hidden [batch, 64].

    `hidden` is large and usually unwanted: asking for some outputs only.
    """
    return model([tensor("x", FLOAT, "batch", 4)],
                 [tensor("top", FLOAT, "batch", 1), tensor("place", INT64, "batch", 1),
                  tensor("hidden", FLOAT, "batch", 64)],
                 [node("TopK", "x one", "top place", axis=1),
                  node("Tile", "x repeats", "hidden")],
                 [constant("one", [1], np.int64), constant("repeats", [1, 16], np.int64)])


@small
def default_input():
    """x float [batch, 3], bias float [3] = (1, 2, 3) unless given -> y = x + bias.

    `bias` is an initializer that is a graph input too, so a caller may leave it out.
    """
    return model([tensor("x", FLOAT, "batch", 3), tensor("bias", FLOAT, 3)],
                 [tensor("y", FLOAT, "batch", 3)], [node("Add", "x bias", "y")],
                 [constant("bias", [1, 2, 3], np.float32)])


@small
def no_input():
    """No input -> y float [2] = (1, 2). Nothing to read from a record."""
    return model([], [tensor("y", FLOAT, 2)], [node("Identity", "values", "y")],
                 [constant("values", [1, 2], np.float32)])


@small
def odd_names():
    """"input:0" float [batch, 3] -> "out/y.1" = -x. Names with marks that have other uses."""
    return model([tensor("input:0", FLOAT, "batch", 3)], [tensor("out/y.1", FLOAT, "batch", 3)],
                 [node("Neg", "input:0", "out/y.1")])


# Values.

@small
def nan_out():
    """x float [batch, 3] -> y = log(x): NaN below 0, -inf at 0."""
    return model([tensor("x", FLOAT, "batch", 3)], [tensor("y", FLOAT, "batch", 3)],
                 [node("Log", "x", "y")])


@small
def string_concat():
    """a string [batch], b string [batch] -> y = a and b joined (opset 20)."""
    return model([tensor("a", STRING, "batch"), tensor("b", STRING, "batch")],
                 [tensor("y", STRING, "batch")],
                 [node("StringConcat", "a b", "y")], opset=20)


@small
def string_to_float():
    """x string [batch] -> y float [batch]: the number in the text. Other text fails the call."""
    return model([tensor("x", STRING, "batch")], [tensor("y", FLOAT, "batch")],
                 [node("Cast", "x", "y", to=FLOAT)])


@small
def string_lookup():
    """x string [batch] -> y int64 [batch]: place in (red, green, blue), or -1."""
    return model([tensor("x", STRING, "batch")], [tensor("y", INT64, "batch")],
                 [node("LabelEncoder", "x", "y", domain="ai.onnx.ml", default_int64=-1,
                       keys_strings=["red", "green", "blue"], values_int64s=[0, 1, 2])],
                 uses_ml=True)


@small
def table_lookup():
    """index int64 [batch] -> y float [batch, 3]: a row of a table of 10.

    An index outside -10..9 fails the whole call: one bad record among good ones.
    """
    return model([tensor("index", INT64, "batch")], [tensor("y", FLOAT, "batch", 3)],
                 [node("Gather", "table index", "y", axis=0)],
                 [constant("table", np.arange(30).reshape(10, 3), np.float32)])


@small
def random_out():
    """x float [batch, 3] -> y = x plus noise that differs on each call. Not repeatable."""
    return model([tensor("x", FLOAT, "batch", 3)], [tensor("y", FLOAT, "batch", 3)],
                 [node("RandomUniformLike", "x", "noise"), node("Add", "x noise", "y")])


@small
def external_data():
    """x float [batch, 4] -> y float [batch, 2] = (x0 + x1, x2 + x3).

    The weights are in external_data.bin beside the model.
    """
    weights = constant("w", [[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    made = model([tensor("x", FLOAT, "batch", 4)], [tensor("y", FLOAT, "batch", 2)],
                 [node("MatMul", "x w", "y")], [weights])
    onnx.external_data_helper.set_external_data(made.graph.initializer[0], "external_data.bin")
    return made


# For measurements. Random weights.

def random_weights(rng, *shape):
    return (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)


@bench
def mlp_medium():
    """x float [batch, 784] -> logits float [batch, 10]; 784-1024-1024-10, ReLU, 7.5 MB."""
    rng = np.random.default_rng(1)
    sizes = [784, 1024, 1024, 10]
    nodes, constants, last = [], [], "x"
    for i in range(3):
        constants += [constant(f"w{i}", random_weights(rng, sizes[i], sizes[i + 1])),
                      constant(f"b{i}", random_weights(rng, sizes[i + 1]))]
        out = "logits" if i == 2 else f"sum{i}"
        nodes.append(node("Gemm", f"{last} w{i} b{i}", out))
        if i < 2:
            last = f"active{i}"
            nodes.append(node("Relu", out, last))
    return model([tensor("x", FLOAT, "batch", 784)], [tensor("logits", FLOAT, "batch", 10)],
                 nodes, constants)


class Encoder:
    """Collects the nodes and weights of the transformer below."""

    def __init__(self, width, heads, seed):
        self.width, self.heads = width, heads
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants = [], []

    def add(self, op, inputs, output, **attributes):
        self.nodes.append(node(op, inputs, output, **attributes))
        return output

    def const(self, name, value, dtype=None):
        self.constants.append(constant(name, value, dtype))
        return name

    def linear(self, name, x, size_in, size_out):
        w = self.const(f"{name}.w", random_weights(self.rng, size_in, size_out))
        b = self.const(f"{name}.b", np.zeros(size_out, np.float32))
        self.add("MatMul", f"{x} {w}", f"{name}.product")
        return self.add("Add", f"{name}.product {b}", f"{name}.out")

    def norm(self, name, x):
        gain = self.const(f"{name}.gain", np.ones(self.width, np.float32))
        bias = self.const(f"{name}.bias", np.zeros(self.width, np.float32))
        return self.add("LayerNormalization", f"{x} {gain} {bias}", f"{name}.out", axis=-1)

    def split_heads(self, name, x, perm):
        self.add("Reshape", f"{x} head_shape", f"{name}.heads")
        return self.add("Transpose", f"{name}.heads", f"{name}.turned", perm=perm)

    def attention(self, name, x):
        parts = {}
        for part, perm in ("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3]):
            y = self.linear(f"{name}.{part}", x, self.width, self.width)
            parts[part] = self.split_heads(f"{name}.{part}", y, perm)
        self.add("MatMul", f"{parts['q']} {parts['k']}", f"{name}.raw")
        self.add("Mul", f"{name}.raw head_scale", f"{name}.scaled")
        self.add("Add", f"{name}.scaled mask_bias", f"{name}.masked")
        self.add("Softmax", f"{name}.masked", f"{name}.weights", axis=-1)
        self.add("MatMul", f"{name}.weights {parts['v']}", f"{name}.mixed")
        self.add("Transpose", f"{name}.mixed", f"{name}.back", perm=[0, 2, 1, 3])
        self.add("Reshape", f"{name}.back flat_shape", f"{name}.flat")
        return self.linear(f"{name}.o", f"{name}.flat", self.width, self.width)

    def block(self, name, x):
        y = self.attention(f"{name}.attention", self.norm(f"{name}.norm1", x))
        x = self.add("Add", f"{x} {y}", f"{name}.mid")
        y = self.linear(f"{name}.up", self.norm(f"{name}.norm2", x), self.width, 4 * self.width)
        y = self.add("Relu", y, f"{name}.active")
        y = self.linear(f"{name}.down", y, 4 * self.width, self.width)
        return self.add("Add", f"{x} {y}", f"{name}.end")


@bench
def transformer():
    """input_ids, attention_mask int64 [batch, seq] -> pooled float [batch, 64].

    Embeddings 1000 x 64, up to 512 positions, 2 layers, 4 heads, mean over the
    positions whose mask is 1. Padding changes the result by rounding only.
    """
    e = Encoder(width=64, heads=4, seed=2)
    e.const("embedding", e.rng.standard_normal((1000, 64)).astype(np.float32))
    e.const("position", (0.1 * e.rng.standard_normal((512, 64))).astype(np.float32))
    e.const("head_shape", [0, 0, e.heads, e.width // e.heads], np.int64)
    e.const("flat_shape", [0, 0, e.width], np.int64)
    e.const("head_scale", (e.width // e.heads) ** -0.5, np.float32)
    e.const("zero", [0], np.int64)
    e.const("one", [1], np.int64)
    e.const("last", [-1], np.int64)
    e.const("middle", [1, 2], np.int64)
    e.const("one_float", 1, np.float32)
    e.const("hidden_bias", -1e9, np.float32)

    e.add("Cast", "attention_mask", "mask", to=FLOAT)
    e.add("Sub", "one_float mask", "hidden")
    e.add("Mul", "hidden hidden_bias", "bias_rows")
    e.add("Unsqueeze", "bias_rows middle", "mask_bias")

    e.add("Shape", "input_ids", "length", start=1, end=2)
    e.add("Slice", "position zero length", "positions")
    e.add("Gather", "embedding input_ids", "words")
    x = e.add("Add", "words positions", "start")
    for i in range(2):
        x = e.block(f"layer{i}", x)
    x = e.norm("final", x)

    e.add("Unsqueeze", "mask last", "mask_column")
    e.add("Mul", f"{x} mask_column", "kept")
    e.add("ReduceSum", "kept one", "total", keepdims=0)
    e.add("ReduceSum", "mask one", "count", keepdims=1)
    e.add("Div", "total count", "pooled")
    return model([tensor("input_ids", INT64, "batch", "seq"),
                  tensor("attention_mask", INT64, "batch", "seq")],
                 [tensor("pooled", FLOAT, "batch", 64)], e.nodes, e.constants)


def write(made, path):
    """Writes the model, and the tensors marked as external beside it, with fixed bytes."""
    for weights in made.graph.initializer:
        if onnx.external_data_helper.uses_external_data(weights):
            place = onnx.external_data_helper.ExternalDataInfo(weights)
            (path.parent / place.location).write_bytes(weights.raw_data)
            weights.ClearField("raw_data")
    path.write_bytes(made.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(path))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="?", type=Path)
    parser.add_argument("--bench", action="store_true", help="the models for measurements too")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these models only")
    parser.add_argument("--list", action="store_true", help="print names and first lines")
    args = parser.parse_args()

    known = {**SMALL, **BENCH}
    if args.list:
        for name, function in known.items():
            print(f"{name:22} {function.__doc__.splitlines()[0]}")
        return 0
    if args.directory is None:
        parser.error("a folder is needed")
    unknown = [name for name in args.only or [] if name not in known]
    if unknown:
        parser.error(f"no such model: {', '.join(unknown)}")

    args.directory.mkdir(parents=True, exist_ok=True)
    for name in args.only or (known if args.bench else SMALL):
        write(known[name](), args.directory / f"{name}.onnx")
    return 0


if __name__ == "__main__":
    sys.exit(main())
