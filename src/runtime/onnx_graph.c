/* SPDX-License-Identifier: Apache-2.0 */
/* onnx_graph.c - nodes and tensors of ONNX, read from and written as protocol buffers. Field numbers are
 * from onnx.proto. */
#include "runtime/onnx_graph.h"

enum { NODE_INPUT = 1, NODE_OUTPUT, NODE_NAME, NODE_OP_TYPE, NODE_ATTRIBUTE, NODE_DOMAIN = 7 };
enum {
    ATTRIBUTE_NAME = 1,
    ATTRIBUTE_F = 2,
    ATTRIBUTE_I = 3,
    ATTRIBUTE_G = 6,
    ATTRIBUTE_INTS = 8,
    ATTRIBUTE_GRAPHS = 11,
    ATTRIBUTE_TYPE = 20,
};
enum { ATTRIBUTE_TYPE_INTS = 7 };
enum {
    TENSOR_DIMS = 1,
    TENSOR_DATA_TYPE = 2,
    TENSOR_FLOAT_DATA = 4,
    TENSOR_NAME = 8,
    TENSOR_RAW_DATA = 9,
    TENSOR_EXTERNAL_DATA = 13,
    TENSOR_DATA_LOCATION = 14,
};
enum { OPSET_DOMAIN = 1, OPSET_VERSION = 2 };
enum { VALUE_NAME = 1 };

/* --- reading -------------------------------------------------------------------------------------------- */

/* Integers of a repeated field: one, or many packed into one. Keeps the first `capacity`. */
static bool take_integers(const struct pb_field *field, int64_t *items, size_t capacity, size_t *n)
{
    if (field->wire == PB_VARINT) {
        if (*n < capacity) items[*n] = (int64_t)field->value;
        (*n)++;
        return true;
    }
    if (field->wire != PB_BYTES) return false;
    const char *at = field->bytes.data, *end = at + field->bytes.size;
    while (at < end) {
        uint64_t value = 0;
        unsigned shift = 0;
        for (;; shift += 7, at++) {
            if (at == end || shift >= 64) return false;
            value |= (uint64_t)((unsigned char)*at & 0x7f) << shift;
            if (((unsigned char)*at & 0x80) == 0) break;
        }
        at++;
        if (*n < capacity) items[*n] = (int64_t)value;
        (*n)++;
    }
    return true;
}

struct attribute {
    struct slice name;
    float f;
    int64_t i;
    int64_t ints[2];
    size_t n_ints;
    bool has_graph;
};

static bool read_attribute(struct slice message, struct attribute *ret)
{
    struct pb_reader reader = pb_read(message);
    struct pb_field field;
    bool is_fine = true;
    *ret = (struct attribute){0};
    while (is_fine && pb_next(&reader, &field)) {
        switch (field.number) {
        case ATTRIBUTE_NAME: ret->name = field.bytes; break;
        case ATTRIBUTE_F:
            is_fine = field.wire == PB_FIXED32;
            if (is_fine) memcpy(&ret->f, field.bytes.data, sizeof ret->f);
            break;
        case ATTRIBUTE_I: ret->i = (int64_t)field.value; break;
        case ATTRIBUTE_INTS: is_fine = take_integers(&field, ret->ints, 2, &ret->n_ints); break;
        case ATTRIBUTE_G:
        case ATTRIBUTE_GRAPHS: ret->has_graph = true; break;
        default: break;
        }
    }
    return is_fine && !reader.is_broken;
}

static bool take_attribute(struct slice message, struct onnx_node *node)
{
    struct attribute attribute;
    if (!read_attribute(message, &attribute)) return false;
    node->has_subgraph = node->has_subgraph || attribute.has_graph;
    if (slice_equal(attribute.name, slice_of("alpha"))) node->alpha = attribute.f;
    if (slice_equal(attribute.name, slice_of("beta"))) node->beta = attribute.f;
    if (slice_equal(attribute.name, slice_of("transA"))) node->trans_a = attribute.i;
    if (slice_equal(attribute.name, slice_of("transB"))) node->trans_b = attribute.i;
    if (slice_equal(attribute.name, slice_of("perm"))) {
        memcpy(node->perm, attribute.ints, sizeof node->perm);
        node->n_perm = attribute.n_ints;
    }
    return true;
}

bool onnx_read_node(struct slice message, struct onnx_node *ret)
{
    struct pb_reader reader = pb_read(message);
    struct pb_field field;
    *ret = (struct onnx_node){.alpha = 1, .beta = 1};
    while (pb_next(&reader, &field)) {
        if (field.number <= NODE_DOMAIN && field.wire != PB_BYTES) return false;
        switch (field.number) {
        case NODE_INPUT:
            if (ret->n_inputs < NODE_INPUTS_MAX) ret->inputs[ret->n_inputs] = field.bytes;
            ret->n_inputs++;
            break;
        case NODE_OUTPUT:
            if (ret->n_outputs++ == 0) ret->output = field.bytes;
            break;
        case NODE_NAME: ret->name = field.bytes; break;
        case NODE_OP_TYPE: ret->op = field.bytes; break;
        case NODE_DOMAIN: ret->domain = field.bytes; break;
        case NODE_ATTRIBUTE:
            if (!take_attribute(field.bytes, ret)) return false;
            break;
        default: break;
        }
    }
    return !reader.is_broken;
}

bool onnx_each_input(struct slice node, void (*visit)(void *context, struct slice name),
                     void *context)
{
    struct pb_reader reader = pb_read(node);
    struct pb_field field;
    while (pb_next(&reader, &field))
        if (field.number == NODE_INPUT && field.wire == PB_BYTES) visit(context, field.bytes);
    return !reader.is_broken;
}

bool onnx_is_op(const struct onnx_node *node, const char *op)
{
    return slice_equal(node->op, slice_of(op)) &&
           (node->domain.size == 0 || slice_equal(node->domain, slice_of("ai.onnx")));
}

bool onnx_read_tensor(struct slice message, struct onnx_tensor *ret)
{
    struct pb_reader reader = pb_read(message);
    struct pb_field field;
    size_t n_pieces = 0;
    bool is_fine = true;
    *ret = (struct onnx_tensor){0};
    while (is_fine && pb_next(&reader, &field)) {
        switch (field.number) {
        case TENSOR_DIMS: is_fine = take_integers(&field, ret->dims, 2, &ret->n_dims); break;
        case TENSOR_DATA_TYPE: ret->type = (int64_t)field.value; break;
        case TENSOR_NAME: ret->name = field.bytes; break;
        case TENSOR_FLOAT_DATA:
        case TENSOR_RAW_DATA:
            ret->data = field.bytes;
            n_pieces++;
            break;
        case TENSOR_EXTERNAL_DATA: ret->is_external = true; break;
        case TENSOR_DATA_LOCATION: ret->is_external = ret->is_external || field.value == 1; break;
        default: break;
        }
    }
    if (n_pieces != 1) ret->data = (struct slice){0}; /* numbers one by one: nobody writes that */
    return is_fine && !reader.is_broken;
}

bool onnx_read_opset(struct slice message, struct onnx_opset *ret)
{
    struct pb_reader reader = pb_read(message);
    struct pb_field field;
    *ret = (struct onnx_opset){0};
    while (pb_next(&reader, &field)) {
        if (field.number == OPSET_DOMAIN) ret->domain = field.bytes;
        if (field.number == OPSET_VERSION) ret->version = (int64_t)field.value;
    }
    return !reader.is_broken;
}

bool onnx_read_value_name(struct slice message, struct slice *ret)
{
    struct pb_reader reader = pb_read(message);
    struct pb_field field;
    *ret = (struct slice){0};
    while (pb_next(&reader, &field))
        if (field.number == VALUE_NAME && field.wire == PB_BYTES) *ret = field.bytes;
    return !reader.is_broken;
}

/* --- writing -------------------------------------------------------------------------------------------- */

static void put_axes(struct buffer *out, const int64_t *axes, size_t n_axes)
{
    size_t attribute = pb_begin(out, NODE_ATTRIBUTE);
    pb_put_text(out, ATTRIBUTE_NAME, "axes");
    for (size_t i = 0; i < n_axes; i++) pb_put_number(out, ATTRIBUTE_INTS, (uint64_t)axes[i]);
    pb_put_number(out, ATTRIBUTE_TYPE, ATTRIBUTE_TYPE_INTS);
    pb_end(out, attribute);
}

void onnx_put_node(struct buffer *out, const struct onnx_new_node *node)
{
    size_t start = pb_begin(out, GRAPH_NODE);
    for (size_t i = 0; i < node->n_inputs; i++) pb_put_bytes(out, NODE_INPUT, node->inputs[i]);
    pb_put_bytes(out, NODE_OUTPUT, node->output);
    pb_put_bytes(out, NODE_NAME, node->output);
    pb_put_text(out, NODE_OP_TYPE, node->op);
    if (node->axes != NULL) put_axes(out, node->axes, node->n_axes);
    if (node->domain != NULL) pb_put_text(out, NODE_DOMAIN, node->domain);
    pb_end(out, start);
}

char *onnx_put_tensor(struct buffer *out, struct slice name, int64_t type, const int64_t *dims,
                      size_t n_dims, size_t bytes)
{
    size_t start = pb_begin(out, GRAPH_INITIALIZER);
    for (size_t i = 0; i < n_dims; i++) pb_put_number(out, TENSOR_DIMS, (uint64_t)dims[i]);
    pb_put_number(out, TENSOR_DATA_TYPE, (uint64_t)type);
    pb_put_bytes(out, TENSOR_NAME, name);
    size_t data = pb_begin(out, TENSOR_RAW_DATA);
    char *place = buffer_reserve(out, bytes);
    if (place == NULL) return NULL;
    out->size += bytes;
    pb_end(out, data);
    pb_end(out, start);
    return place;
}

void onnx_put_opset(struct buffer *out, const char *domain, uint64_t version)
{
    size_t start = pb_begin(out, MODEL_OPSET_IMPORT);
    pb_put_text(out, OPSET_DOMAIN, domain);
    pb_put_number(out, OPSET_VERSION, version);
    pb_end(out, start);
}
