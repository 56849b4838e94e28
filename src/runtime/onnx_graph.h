/* SPDX-License-Identifier: Apache-2.0 */
/* onnx_graph.h - ONNX's messages (onnx.proto) as far as a rewriting of matrix products needs them: a
 * node's inputs and few attributes, a tensor's head, and nodes and tensors written anew.
 *
 * Everything read is a slice of the model's bytes. False means: not a message of that kind, broken. */
#ifndef TIDEMILL_RUNTIME_ONNX_GRAPH_H
#define TIDEMILL_RUNTIME_ONNX_GRAPH_H

#include "runtime/protobuf.h"

enum { MODEL_GRAPH = 7, MODEL_OPSET_IMPORT = 8 };
enum {
    GRAPH_NODE = 1,
    GRAPH_INITIALIZER = 5,
    GRAPH_INPUT = 11,
    GRAPH_OUTPUT = 12,
};

#define NODE_INPUTS_MAX 8 /* that are read; a product has three at most */

struct onnx_node {
    struct slice op, domain, name;
    struct slice inputs[NODE_INPUTS_MAX]; /* empty: left out */
    size_t n_inputs;                      /* all of them */
    struct slice output;                  /* the first */
    size_t n_outputs;
    /* attributes, with their defaults where they are not given */
    float alpha, beta;
    int64_t trans_a, trans_b;
    int64_t perm[2];
    size_t n_perm;     /* 0: not given */
    bool has_subgraph; /* it may use any name of the graph around it */
};

struct onnx_tensor {
    struct slice name;
    int64_t type; /* enum tensor_type */
    int64_t dims[2];
    size_t n_dims; /* all of them */
    struct slice
        data;         /* elements one after another, little-endian; empty where written otherwise */
    bool is_external; /* the elements lie in another file */
};

struct onnx_opset {
    struct slice domain;
    int64_t version;
};

bool onnx_read_node(struct slice message, struct onnx_node *ret);
bool onnx_read_tensor(struct slice message, struct onnx_tensor *ret);
bool onnx_read_opset(struct slice message, struct onnx_opset *ret);
bool onnx_read_value_name(struct slice message,
                          struct slice *ret); /* of a graph's input or output */
/* Calls `visit` with each input's name. */
bool onnx_each_input(struct slice node, void (*visit)(void *context, struct slice name),
                     void *context);
/* Of ONNX itself: the domain is "" or "ai.onnx". */
bool onnx_is_op(const struct onnx_node *node, const char *op);

/* A node for the graph being written, without attributes. Its name is its output's. */
struct onnx_new_node {
    const char *op, *domain; /* domain NULL: ONNX's own */
    struct slice inputs[NODE_INPUTS_MAX];
    size_t n_inputs;
    struct slice output;
    const int64_t *axes; /* attribute `axes`; NULL: none */
    size_t n_axes;
};

void onnx_put_node(struct buffer *out, const struct onnx_new_node *node);
/* A tensor among the graph's initializers; returns the place for its `bytes` bytes in the buffer, valid
 * until the next write; NULL: out of memory. Rank 0 to 2. */
char *onnx_put_tensor(struct buffer *out, struct slice name, int64_t type, const int64_t *dims,
                      size_t n_dims, size_t bytes);
void onnx_put_opset(struct buffer *out, const char *domain, uint64_t version);

#endif
