/* SPDX-License-Identifier: Apache-2.0 */
/* onnx_quantize.c - finds the products of a graph that gain from int8, and writes the graph anew with
 * them replaced. Two passes: the first decides and counts uses, so that the second can leave out
 * weights that nobody reads any more. What is not a product is copied byte by byte. */
#include "runtime/onnx_quantize.h"

#include "format/tensor.h"
#include "runtime/int8_weights.h"
#include "runtime/name_table.h"
#include "runtime/onnx_graph.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PAYS_FROM 40                        /* k n / (k + n) */
#define K_MAX 65536                         /* 127 * 127 * k stays far below 2^31 */
#define OPSET_OLDEST 11                     /* its reductions count axes from the end */
#define OPSET_SUM_AXES 13                   /* from here ReduceSum takes its axes as an input, */
#define OPSET_MAX_AXES 18                   /* from here ReduceMax and ReduceMin */
#define MODEL_BYTES_MAX ((size_t)INT32_MAX) /* of any protocol buffer */

#define NAME_W "tidemill_int8_w" /* what we add to a graph begins like this */
#define NAME_A "tidemill_int8_a"
#define NAME_P "tidemill_int8_p"
#define NAME_C "tidemill_int8_c_"

enum fit { FIT_UNKNOWN, FIT_YES, FIT_NO };

/* A value that is the same in every call: an initializer, or the transposition of one. */
struct constant {
    struct onnx_tensor tensor; /* of an initializer */
    uint32_t base;             /* the initializer: itself, or what is transposed */
    bool is_transposition;
    bool is_seen; /* the graph's input or output */
    uint32_t n_uses, n_replaced;
    enum fit fit;
    bool is_written[2]; /* its int8 form: as it lies, transposed */
};

struct product {
    uint32_t constant, base;
    bool is_transposed; /* the base is [n, k] */
    struct slice rows, bias, output;
    int64_t k, n;
};

struct quantizer {
    struct slice graph;
    int64_t opset;
    bool has_microsoft;
    bool has_subgraph;
    struct constant *constants;
    size_t n_constants, capacity;
    struct name_table names; /* -> constants */
    struct name_table rows;  /* what has been turned into int8 -> number in its names */
    uint32_t n_written;      /* products */
    struct quantize_counts *counts;
    struct buffer *out;
};

bool int8_pays(uint64_t k, uint64_t n)
{
    return k <= INT32_MAX && n <= INT32_MAX && k * n >= PAYS_FROM * (k + n);
}

static tidemill_error *broken(void)
{
    return error_new(ERROR_MODEL_LOAD, "the model's bytes are not a valid ONNX graph");
}

/* --- the model's head ----------------------------------------------------------------------------------- */

static tidemill_error *take_opset(struct quantizer *q, struct slice message)
{
    struct onnx_opset opset;
    if (!onnx_read_opset(message, &opset)) return broken();
    if (opset.domain.size == 0 || slice_equal(opset.domain, slice_of("ai.onnx")))
        q->opset = opset.version;
    q->has_microsoft = q->has_microsoft || slice_equal(opset.domain, slice_of("com.microsoft"));
    return NULL;
}

static tidemill_error *read_head(struct quantizer *q, struct slice model)
{
    struct pb_reader reader = pb_read(model);
    struct pb_field field;
    while (pb_next(&reader, &field)) {
        if (field.wire != PB_BYTES) continue;
        if (field.number == MODEL_OPSET_IMPORT) TRY(take_opset(q, field.bytes));
        if (field.number != MODEL_GRAPH) continue;
        if (q->graph.data != NULL) return broken();
        q->graph = field.bytes;
    }
    if (reader.is_broken || q->graph.data == NULL) return broken();
    if (q->opset < OPSET_OLDEST)
        return error_new(
            ERROR_USAGE,
            "int8 needs a model of ONNX operator set %d or later; this one has %" PRId64
            " (onnx.version_converter makes it newer)",
            OPSET_OLDEST, q->opset);
    return NULL;
}

/* --- constants ------------------------------------------------------------------------------------------ */

static tidemill_error *add_constant(struct quantizer *q, struct slice name,
                                    const struct constant *constant)
{
    if (q->n_constants == q->capacity) {
        size_t capacity = MAX(2 * q->capacity, (size_t)64);
        struct constant *constants = realloc(q->constants, capacity * sizeof *constants);
        if (constants == NULL) return error_memory();
        q->constants = constants;
        q->capacity = capacity;
    }
    q->constants[q->n_constants] = *constant;
    return name_table_put(&q->names, name, (uint32_t)q->n_constants++);
}

static tidemill_error *add_initializer(struct quantizer *q, struct slice message)
{
    struct constant constant = {.base = (uint32_t)q->n_constants};
    if (!onnx_read_tensor(message, &constant.tensor)) return broken();
    if (constant.tensor.is_external)
        return error_new(ERROR_USAGE,
                         "int8 reads weights out of the .onnx file alone, and this model keeps "
                         "'%.*s' in another file (external data); put them into one: python3 -c "
                         "\"import onnx; onnx.save(onnx.load('IN.onnx'), 'OUT.onnx')\"",
                         (int)MIN(constant.tensor.name.size, (size_t)200),
                         constant.tensor.name.data != NULL ? constant.tensor.name.data : "");
    return add_constant(q, constant.tensor.name, &constant);
}

/* Callers of the model see the graph's inputs and outputs: these stay what they are. */
static tidemill_error *mark_seen(struct quantizer *q, struct slice message)
{
    struct slice name;
    if (!onnx_read_value_name(message, &name)) return broken();
    uint32_t place = name_table_get(&q->names, name);
    if (place != NAME_NONE) q->constants[place].is_seen = true;
    return NULL;
}

static bool is_matrix_transposition(const struct onnx_node *node)
{
    return onnx_is_op(node, "Transpose") && node->n_inputs == 1 && node->n_outputs == 1 &&
           (node->n_perm == 0 || (node->n_perm == 2 && node->perm[0] == 1 && node->perm[1] == 0));
}

/* Some exporters write W as [n, k] and transpose it in the graph. */
static tidemill_error *add_transposition(struct quantizer *q, const struct onnx_node *node)
{
    uint32_t base = name_table_get(&q->names, node->inputs[0]);
    if (base == NAME_NONE || q->constants[base].is_transposition ||
        q->constants[base].tensor.n_dims != 2)
        return NULL;
    struct constant constant = {.base = base, .is_transposition = true};
    return add_constant(q, node->output, &constant);
}

/* --- products ------------------------------------------------------------------------------------------- */

static struct float_weights weights_of(const struct constant *base, bool is_transposed)
{
    const int64_t *dims = base->tensor.dims;
    return (struct float_weights){.data = base->tensor.data.data,
                                  .k = (size_t)dims[is_transposed ? 1 : 0],
                                  .n = (size_t)dims[is_transposed ? 0 : 1],
                                  .is_transposed = is_transposed};
}

static bool is_float_matrix(const struct constant *base)
{
    const struct onnx_tensor *tensor = &base->tensor;
    return tensor->type == TENSOR_FLOAT && tensor->n_dims == 2 && tensor->dims[0] > 0 &&
           tensor->dims[1] > 0;
}

/* Whether the initializer can be given as int8; looked at once. */
static bool is_fit(struct constant *base)
{
    const struct onnx_tensor *tensor = &base->tensor;
    size_t count, bytes;
    if (base->fit != FIT_UNKNOWN) return base->fit == FIT_YES;
    base->fit = FIT_NO;
    if (base->is_seen || !int8_pays((uint64_t)tensor->dims[0], (uint64_t)tensor->dims[1]) ||
        size_mul((size_t)tensor->dims[0], (size_t)tensor->dims[1], &count) ||
        size_mul(count, sizeof(float), &bytes) || bytes != tensor->data.size)
        return false;
    struct float_weights weights = weights_of(base, false);
    if (float_weights_are_finite(&weights)) base->fit = FIT_YES;
    return base->fit == FIT_YES;
}

static bool is_plain_product(const struct onnx_node *node)
{
    if (node->n_outputs != 1 || node->n_inputs < 2 || node->inputs[0].size == 0) return false;
    if (onnx_is_op(node, "MatMul")) return node->n_inputs == 2;
    return onnx_is_op(node, "Gemm") && node->n_inputs <= 3 && node->trans_a == 0 &&
           node->alpha == 1 && node->beta == 1;
}

/* False: the node stays. *ret_is_candidate: it is a product with constant float32 weights. */
static bool match_product(struct quantizer *q, const struct onnx_node *node, struct product *ret,
                          bool *ret_is_candidate)
{
    *ret_is_candidate = false;
    if (!is_plain_product(node)) return false;
    uint32_t place = name_table_get(&q->names, node->inputs[1]);
    if (place == NAME_NONE) return false;
    uint32_t base = q->constants[place].base;
    *ret_is_candidate = is_float_matrix(&q->constants[base]);
    if (!*ret_is_candidate || !is_fit(&q->constants[base])) return false;
    bool is_transposed = q->constants[place].is_transposition != (node->trans_b != 0);
    const int64_t *dims = q->constants[base].tensor.dims;
    *ret = (struct product){
        .constant = place,
        .base = base,
        .is_transposed = is_transposed,
        .rows = node->inputs[0],
        .bias = node->n_inputs == 3 ? node->inputs[2] : (struct slice){0},
        .output = node->output,
        .k = dims[is_transposed ? 1 : 0],
        .n = dims[is_transposed ? 0 : 1],
    };
    return ret->k <= K_MAX;
}

static void count_use(void *context, struct slice name)
{
    struct quantizer *q = context;
    uint32_t place = name_table_get(&q->names, name);
    if (place != NAME_NONE) q->constants[place].n_uses++;
}

static tidemill_error *look_at_node(struct quantizer *q, struct slice message)
{
    struct onnx_node node;
    struct product product;
    bool is_candidate;
    if (!onnx_read_node(message, &node) || !onnx_each_input(message, count_use, q)) return broken();
    q->has_subgraph = q->has_subgraph || node.has_subgraph;
    if (is_matrix_transposition(&node)) return add_transposition(q, &node);
    bool is_replaced = match_product(q, &node, &product, &is_candidate);
    q->counts->products += is_candidate;
    q->counts->quantized += is_replaced;
    if (is_replaced) q->constants[product.constant].n_replaced++;
    return NULL;
}

/* Nobody reads it any more. A graph inside a node may use any name: then everything stays. */
static bool is_unused(const struct quantizer *q, const struct constant *constant)
{
    return constant->n_uses > 0 && constant->n_uses == constant->n_replaced && !constant->is_seen &&
           !q->has_subgraph;
}

static tidemill_error *walk_graph(struct quantizer *q, uint64_t number,
                                  tidemill_error *(*visit)(struct quantizer *q, struct slice))
{
    struct pb_reader reader = pb_read(q->graph);
    struct pb_field field;
    while (pb_next(&reader, &field))
        if (field.number == number && field.wire == PB_BYTES) TRY(visit(q, field.bytes));
    return reader.is_broken ? broken() : NULL;
}

static tidemill_error *decide(struct quantizer *q)
{
    TRY(walk_graph(q, GRAPH_INITIALIZER, add_initializer));
    TRY(walk_graph(q, GRAPH_INPUT, mark_seen));
    TRY(walk_graph(q, GRAPH_OUTPUT, mark_seen));
    TRY(walk_graph(q, GRAPH_NODE, look_at_node));
    TRY(walk_graph(q, GRAPH_OUTPUT, mark_seen)); /* now that transpositions are known */
    for (size_t i = 0; i < q->n_constants; i++)
        if (q->constants[i].is_transposition && is_unused(q, &q->constants[i]))
            q->constants[q->constants[i].base].n_replaced++;
    if (q->counts->quantized > 0) return NULL;
    if (q->counts->products == 0)
        return error_new(ERROR_USAGE, "int8 would change nothing: the model has no matrix product "
                                      "with constant float32 weights");
    return error_new(ERROR_USAGE,
                     "int8 would change nothing: of the model's %" PRIu32
                     " matrix products with constant float32 weights none is large enough to gain "
                     "(k x n with k n / (k + n) >= %d, such as 64 x 128 or 96 x 96)",
                     q->counts->products, PAYS_FROM);
}

/* --- writing -------------------------------------------------------------------------------------------- */

struct name {
    char text[64];
};

static struct slice name_of(struct name *name, const char *prefix, uint32_t number, const char *end)
{
    snprintf(name->text, sizeof name->text, "%s%" PRIu32 "_%s", prefix, number, end);
    return slice_of(name->text);
}

#define CONSTANT_TINY slice_of(NAME_C "tiny")
#define CONSTANT_ZERO slice_of(NAME_C "zero")
#define CONSTANT_ONE slice_of(NAME_C "one")
#define CONSTANT_STEP slice_of(NAME_C "step")
#define CONSTANT_MIDDLE slice_of(NAME_C "middle")
#define CONSTANT_AXES slice_of(NAME_C "axes")

static void put_op(struct quantizer *q, const char *op, struct slice a, struct slice b,
                   struct slice output)
{
    struct onnx_new_node node = {
        .op = op, .inputs = {a, b}, .n_inputs = b.size > 0 ? 2 : 1, .output = output};
    onnx_put_node(q->out, &node);
}

/* Over the last dimension, which stays with size 1. */
static void put_reduction(struct quantizer *q, const char *op, int opset_axes, struct slice rows,
                          struct slice output)
{
    static const int64_t last[] = {-1};
    bool is_input = q->opset >= opset_axes;
    struct onnx_new_node node = {.op = op,
                                 .inputs = {rows, CONSTANT_AXES},
                                 .n_inputs = is_input ? 2 : 1,
                                 .output = output,
                                 .axes = is_input ? NULL : last,
                                 .n_axes = 1};
    onnx_put_node(q->out, &node);
}

/* The largest |a| of each row. Reductions may lose a NaN, sums and sums with them never do: what is not
 * finite makes the whole row NaN. */
static void put_edge(struct quantizer *q, struct slice rows, uint32_t number, struct slice edge)
{
    struct name names[6];
    struct slice high = name_of(&names[0], NAME_A, number, "high");
    struct slice low = name_of(&names[1], NAME_A, number, "low");
    struct slice mirrored = name_of(&names[2], NAME_A, number, "mirrored");
    struct slice top = name_of(&names[3], NAME_A, number, "top");
    struct slice sum = name_of(&names[4], NAME_A, number, "sum");
    struct slice probe = name_of(&names[5], NAME_A, number, "probe");
    put_reduction(q, "ReduceMax", OPSET_MAX_AXES, rows, high);
    put_reduction(q, "ReduceMin", OPSET_MAX_AXES, rows, low);
    put_op(q, "Neg", low, (struct slice){0}, mirrored);
    struct onnx_new_node node = {
        .op = "Max", .inputs = {high, mirrored, CONSTANT_TINY}, .n_inputs = 3, .output = top};
    onnx_put_node(q->out, &node);
    put_reduction(q, "ReduceSum", OPSET_SUM_AXES, rows, sum);
    put_op(q, "Mul", sum, CONSTANT_ZERO, probe);
    put_op(q, "Add", top, probe, edge);
}

/* Turns `rows` into int8 unless that has been done: products of the same rows share it. */
static tidemill_error *put_rows(struct quantizer *q, struct slice rows, uint32_t *ret_number)
{
    struct name names[4];
    *ret_number = name_table_get(&q->rows, rows);
    if (*ret_number != NAME_NONE) return NULL;
    uint32_t number = *ret_number = (uint32_t)q->rows.n;
    struct slice edge = name_of(&names[0], NAME_A, number, "edge");
    struct slice scale = name_of(&names[1], NAME_A, number, "scale");
    struct slice scaled = name_of(&names[2], NAME_A, number, "scaled");
    put_edge(q, rows, number, edge);
    put_op(q, "Mul", edge, CONSTANT_STEP, scale);
    put_op(q, "Div", rows, scale, scaled);
    struct onnx_new_node node = {.op = "QuantizeLinear",
                                 .inputs = {scaled, CONSTANT_ONE, CONSTANT_MIDDLE},
                                 .n_inputs = 3,
                                 .output = name_of(&names[3], NAME_A, number, "quantized")};
    onnx_put_node(q->out, &node);
    return name_table_put(&q->rows, rows, number);
}

static tidemill_error *put_weights(struct quantizer *q, const struct product *product,
                                   const char *orientation)
{
    struct name name;
    char end[32];
    struct constant *base = &q->constants[product->base];
    if (base->is_written[product->is_transposed]) return NULL;
    base->is_written[product->is_transposed] = true;
    struct float_weights weights = weights_of(base, product->is_transposed);
    float *scales = calloc(weights.n, sizeof *scales);
    if (scales == NULL) return error_memory();
    int8_scales(&weights, scales);
    struct slice full = name_of(&name, NAME_W, product->base, orientation);
    const int64_t dims[] = {product->k, product->n};
    char *place = onnx_put_tensor(q->out, full, TENSOR_INT8, dims, 2, weights.k * weights.n);
    if (place != NULL) int8_weights(&weights, scales, (int8_t *)place);
    snprintf(end, sizeof end, "%s_scale", orientation);
    full = name_of(&name, NAME_W, product->base, end);
    size_t bytes = weights.n * sizeof *scales;
    place = onnx_put_tensor(q->out, full, TENSOR_FLOAT, &product->n, 1, bytes);
    if (place != NULL) memcpy(place, scales, bytes);
    free(scales);
    return q->out->is_failed ? error_memory() : NULL;
}

static tidemill_error *put_product(struct quantizer *q, const struct product *product)
{
    uint32_t number;
    struct name names[6];
    char end[32];
    const char *orientation = product->is_transposed ? "transposed" : "plain";
    TRY(put_rows(q, product->rows, &number));
    TRY(put_weights(q, product, orientation));
    snprintf(end, sizeof end, "%s_scale", orientation);
    struct slice scale = name_of(&names[0], NAME_A, number, "scale");
    bool has_bias = product->bias.size > 0;
    uint32_t product_number = q->n_written++;
    struct slice raw = name_of(&names[1], NAME_P, product_number, "raw");
    struct slice sum = name_of(&names[2], NAME_P, product_number, "unbiased");
    struct onnx_new_node node = {
        .op = "MatMulIntegerToFloat",
        .domain = "com.microsoft",
        .inputs = {name_of(&names[3], NAME_A, number, "quantized"),
                   name_of(&names[4], NAME_W, product->base, orientation), CONSTANT_ONE,
                   name_of(&names[5], NAME_W, product->base, end), CONSTANT_MIDDLE},
        .n_inputs = 5,
        .output = raw,
    };
    onnx_put_node(q->out, &node);
    put_op(q, "Mul", raw, scale, has_bias ? sum : product->output);
    if (has_bias) put_op(q, "Add", sum, product->bias, product->output);
    return NULL;
}

static tidemill_error *write_node(struct quantizer *q, const struct pb_field *field)
{
    struct onnx_node node;
    struct product product;
    bool is_candidate;
    if (!onnx_read_node(field->bytes, &node)) return broken();
    if (match_product(q, &node, &product, &is_candidate)) return put_product(q, &product);
    if (is_matrix_transposition(&node)) {
        uint32_t place = name_table_get(&q->names, node.output);
        if (place != NAME_NONE && is_unused(q, &q->constants[place])) return NULL;
    }
    pb_put_raw(q->out, field->whole);
    return NULL;
}

static tidemill_error *write_initializer(struct quantizer *q, const struct pb_field *field)
{
    struct onnx_tensor tensor;
    if (!onnx_read_tensor(field->bytes, &tensor)) return broken();
    uint32_t place = name_table_get(&q->names, tensor.name);
    if (place == NAME_NONE || !is_unused(q, &q->constants[place])) pb_put_raw(q->out, field->whole);
    return NULL;
}

static void put_scalar(struct quantizer *q, struct slice name, int64_t type, const void *value,
                       size_t bytes)
{
    char *place = onnx_put_tensor(q->out, name, type, NULL, 0, bytes);
    if (place != NULL) memcpy(place, value, bytes);
}

static void put_constants(struct quantizer *q)
{
    const float tiny = 1e-30f, zero = 0, one = 1, step = 1 / 127.0f;
    const uint8_t middle = 128;
    const int64_t last = -1, n_axes = 1;
    put_scalar(q, CONSTANT_TINY, TENSOR_FLOAT, &tiny, sizeof tiny);
    put_scalar(q, CONSTANT_ZERO, TENSOR_FLOAT, &zero, sizeof zero);
    put_scalar(q, CONSTANT_ONE, TENSOR_FLOAT, &one, sizeof one);
    put_scalar(q, CONSTANT_STEP, TENSOR_FLOAT, &step, sizeof step);
    put_scalar(q, CONSTANT_MIDDLE, TENSOR_UINT8, &middle, sizeof middle);
    if (q->opset < OPSET_SUM_AXES) return;
    char *place = onnx_put_tensor(q->out, CONSTANT_AXES, TENSOR_INT64, &n_axes, 1, sizeof last);
    if (place != NULL) memcpy(place, &last, sizeof last);
}

static tidemill_error *write_graph(struct quantizer *q)
{
    struct pb_reader reader = pb_read(q->graph);
    struct pb_field field;
    size_t start = pb_begin(q->out, MODEL_GRAPH);
    while (pb_next(&reader, &field)) {
        if (field.number == GRAPH_NODE && field.wire == PB_BYTES)
            TRY(write_node(q, &field));
        else if (field.number == GRAPH_INITIALIZER && field.wire == PB_BYTES)
            TRY(write_initializer(q, &field));
        else
            pb_put_raw(q->out, field.whole);
        if (q->out->is_failed) return error_memory();
    }
    put_constants(q);
    pb_end(q->out, start);
    return NULL;
}

static tidemill_error *write_model(struct quantizer *q, struct slice model)
{
    struct pb_reader reader = pb_read(model);
    struct pb_field field;
    if (!q->has_microsoft) onnx_put_opset(q->out, "com.microsoft", 1);
    while (pb_next(&reader, &field)) {
        if (field.number == MODEL_GRAPH && field.wire == PB_BYTES)
            TRY(write_graph(q));
        else
            pb_put_raw(q->out, field.whole);
    }
    if (q->out->is_failed) return error_memory();
    if (q->out->size > MODEL_BYTES_MAX)
        return error_new(ERROR_USAGE, "the model in int8 is larger than the 2 GiB of an ONNX file");
    return NULL;
}

tidemill_error *onnx_quantize(struct slice model, struct buffer *ret,
                              struct quantize_counts *counts)
{
    struct quantizer q = {.counts = counts, .out = ret};
    *counts = (struct quantize_counts){0};
    tidemill_error *error = read_head(&q, model);
    if (error == NULL) error = decide(&q);
    if (error == NULL && buffer_reserve(ret, model.size) == NULL) error = error_memory();
    if (error == NULL) error = write_model(&q, model);
    free(q.constants);
    name_table_free(&q.names);
    name_table_free(&q.rows);
    return error;
}
