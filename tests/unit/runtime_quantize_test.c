/* SPDX-License-Identifier: Apache-2.0 */
/* runtime_quantize_test.c - weights in int8 are within half a step; a graph keeps what it must keep and
 * loses what nobody reads. What the new models answer is for the end-to-end tests to say. */
#include "format/tensor.h"
#include "runtime/int8_weights.h"
#include "runtime/onnx_graph.h"
#include "runtime/onnx_quantize.h"

#include "expect.h"

#include <math.h>

/* --- weights ---------------------------------------------------------------------------------------- */

static float random_float(uint64_t *seed)
{
    float value = (float)random_below(seed, 2000001) / 1000000.0F - 1;
    return random_below(seed, 10) == 0 ? value * 100 : value;
}

static void check_weights(uint64_t *seed, size_t k, size_t n, bool is_transposed)
{
    float *source = calloc(k * n, sizeof *source), *scales = calloc(n, sizeof *scales);
    int8_t *quantized = calloc(k * n, 1);
    assert_true(source != NULL && scales != NULL && quantized != NULL);
    for (size_t i = 0; i < k * n; i++) source[i] = random_float(seed);
    struct float_weights weights = {(const char *)source, k, n, is_transposed};
    int8_scales(&weights, scales);
    int8_weights(&weights, scales, quantized);
    for (size_t i = 0; i < n; i++) {
        bool has_edge = false;
        for (size_t j = 0; j < k; j++) {
            float wanted = is_transposed ? source[i * k + j] : source[j * n + i];
            int8_t got = quantized[j * n + i];
            assert_true(fabsf((float)got * scales[i] - wanted) <= 0.5001F * scales[i]);
            assert_true(got >= -127);
            has_edge = has_edge || got == 127 || got == -127;
        }
        assert_true(has_edge); /* the range is used */
    }
    free(source);
    free(scales);
    free(quantized);
}

static void weights_are_within_half_a_step(void **state)
{
    (void)state;
    uint64_t seed = random_seed(__func__);
    for (int i = 0; i < 50; i++)
        check_weights(&seed, 1 + random_below(&seed, 70), 1 + random_below(&seed, 70), i % 2 == 1);
}

static void columns_of_nothing_stay_nothing(void **state)
{
    const float source[] = {0, 1e-40F, 0, -0.0F};
    float scales[2];
    int8_t quantized[4];
    (void)state;
    struct float_weights weights = {(const char *)source, 2, 2, false};
    int8_scales(&weights, scales);
    int8_weights(&weights, scales, quantized);
    assert_true(scales[0] == 1 && scales[1] == 1);
    for (int i = 0; i < 4; i++) assert_int_equal(quantized[i], 0);
}

static void what_is_not_finite_is_seen(void **state)
{
    float source[6] = {1, 2, 3, 4, 5, 3e38F};
    struct float_weights weights = {(const char *)source, 2, 3, false};
    (void)state;
    assert_true(float_weights_are_finite(&weights));
    source[4] = NAN;
    assert_false(float_weights_are_finite(&weights));
    source[4] = -INFINITY;
    assert_false(float_weights_are_finite(&weights));
}

static void what_pays(void **state)
{
    (void)state;
    assert_true(int8_pays(64, 128) && int8_pays(96, 96) && int8_pays(384, 1536));
    assert_false(int8_pays(64, 64) || int8_pays(1024, 32) || int8_pays(1, UINT64_MAX));
    assert_false(int8_pays(UINT64_MAX, UINT64_MAX));
}

/* --- graphs ----------------------------------------------------------------------------------------- */

#define SIDE 96

static void put_matrix(struct buffer *out, const char *name, const int64_t dims[2], float fill)
{
    size_t count = (size_t)(dims[0] * dims[1]);
    char *place = onnx_put_tensor(out, slice_of(name), TENSOR_FLOAT, dims, 2, count * sizeof fill);
    assert_non_null(place);
    for (size_t i = 0; i < count; i++) memcpy(place + i * sizeof fill, &fill, sizeof fill);
}

static void put_node(struct buffer *out, const char *op, const char *a, const char *b,
                     const char *output)
{
    struct onnx_new_node node = {.op = op,
                                 .inputs = {slice_of(a), slice_of(b != NULL ? b : "")},
                                 .n_inputs = b != NULL ? 2 : 1,
                                 .output = slice_of(output)};
    onnx_put_node(out, &node);
}

static void put_value(struct buffer *out, uint32_t field, const char *name)
{
    size_t value = pb_begin(out, field);
    pb_put_text(out, 1, name);
    pb_end(out, value);
}

struct graph_case {
    const char *name;
    const char *nodes[4][4]; /* op, first input, second input, output */
    const char *seen;        /* a graph output besides y */
    float fill;
    uint32_t products, quantized;
    bool keeps_w, keeps_transposition;
};

static void build(const struct graph_case *c, uint64_t opset, struct buffer *out)
{
    const int64_t square[] = {SIDE, SIDE}, thin[] = {SIDE, 2};
    *out = (struct buffer){0};
    pb_put_number(out, 1, 8); /* ir_version */
    onnx_put_opset(out, "", opset);
    size_t graph = pb_begin(out, MODEL_GRAPH);
    for (size_t i = 0; i < COUNT_OF(c->nodes) && c->nodes[i][0] != NULL; i++)
        put_node(out, c->nodes[i][0], c->nodes[i][1], c->nodes[i][2], c->nodes[i][3]);
    put_matrix(out, "w", square, c->fill);
    put_matrix(out, "thin", thin, 1);
    put_value(out, GRAPH_INPUT, "x");
    put_value(out, GRAPH_OUTPUT, "y");
    if (c->seen != NULL) put_value(out, GRAPH_OUTPUT, c->seen);
    pb_end(out, graph);
    assert_false(out->is_failed);
}

static struct slice graph_of(struct slice model, size_t *ret_n_opsets)
{
    struct pb_reader reader = pb_read(model);
    struct pb_field field;
    struct slice graph = {0};
    *ret_n_opsets = 0;
    while (pb_next(&reader, &field)) {
        *ret_n_opsets += field.number == MODEL_OPSET_IMPORT;
        if (field.number == MODEL_GRAPH) graph = field.bytes;
    }
    assert_false(reader.is_broken);
    return graph;
}

/* How many nodes of `op` the model has, or initializers named so (op NULL). */
static size_t count(const struct buffer *model, const char *op, const char *initializer)
{
    size_t n_opsets, n = 0;
    struct pb_reader reader =
        pb_read(graph_of((struct slice){model->data, model->size}, &n_opsets));
    struct pb_field field;
    struct onnx_node node;
    struct onnx_tensor tensor;
    while (pb_next(&reader, &field)) {
        if (op != NULL && field.number == GRAPH_NODE) {
            assert_true(onnx_read_node(field.bytes, &node));
            n += slice_equal(node.op, slice_of(op));
        } else if (initializer != NULL && field.number == GRAPH_INITIALIZER) {
            assert_true(onnx_read_tensor(field.bytes, &tensor));
            n += slice_equal(tensor.name, slice_of(initializer));
        }
    }
    assert_false(reader.is_broken);
    return n;
}

static const struct graph_case graph_cases[] = {
    {.name = "one product",
     .nodes = {{"MatMul", "x", "w", "y"}},
     .fill = 1,
     .products = 1,
     .quantized = 1},
    {.name = "two with one set of weights",
     .nodes = {{"MatMul", "x", "w", "p"}, {"MatMul", "p", "w", "y"}},
     .fill = 1,
     .products = 2,
     .quantized = 2},
    {.name = "a second reader",
     .nodes = {{"MatMul", "x", "w", "p"}, {"Add", "p", "w", "y"}},
     .fill = 1,
     .products = 1,
     .quantized = 1,
     .keeps_w = true},
    {.name = "weights on the left",
     .nodes = {{"MatMul", "w", "x", "p"}, {"MatMul", "p", "w", "y"}},
     .fill = 1,
     .products = 1,
     .quantized = 1,
     .keeps_w = true},
    {.name = "a transposition",
     .nodes = {{"Transpose", "w", NULL, "t"}, {"MatMul", "x", "t", "y"}},
     .fill = 1,
     .products = 1,
     .quantized = 1},
    {.name = "a transposition with a second reader",
     .nodes = {{"Transpose", "w", NULL, "t"}, {"MatMul", "x", "t", "p"}, {"Add", "p", "t", "y"}},
     .fill = 1,
     .products = 1,
     .quantized = 1,
     .keeps_w = true,
     .keeps_transposition = true},
    {.name = "a transposition that is an output",
     .nodes = {{"Transpose", "w", NULL, "t"}, {"MatMul", "x", "t", "y"}},
     .seen = "t",
     .fill = 1,
     .products = 1,
     .quantized = 1,
     .keeps_w = true,
     .keeps_transposition = true},
    {.name = "both ways round",
     .nodes = {{"Transpose", "w", NULL, "t"}, {"MatMul", "x", "t", "p"}, {"MatMul", "p", "w", "y"}},
     .fill = 1,
     .products = 2,
     .quantized = 2},
    {.name = "a small one beside",
     .nodes = {{"MatMul", "x", "w", "p"}, {"MatMul", "p", "thin", "y"}},
     .fill = 1,
     .products = 2,
     .quantized = 1},
};

static void graphs_keep_what_is_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(graph_cases); i++) {
        const struct graph_case *c = &graph_cases[i];
        struct buffer model, out = {0};
        struct quantize_counts counts;
        size_t n_opsets;
        build(c, 17, &model);
        expect_fine(onnx_quantize((struct slice){model.data, model.size}, &out, &counts), c->name);
        graph_of((struct slice){out.data, out.size}, &n_opsets);
        if (counts.products != c->products || counts.quantized != c->quantized || n_opsets != 2 ||
            count(&out, "MatMulIntegerToFloat", NULL) != c->quantized ||
            count(&out, "MatMul", NULL) !=
                c->products - c->quantized + (strstr(c->name, "left") != NULL) ||
            count(&out, "Transpose", NULL) != c->keeps_transposition ||
            count(&out, NULL, "w") != c->keeps_w || count(&out, NULL, "thin") != 1)
            fail_msg("%s: the graph is another one", c->name);
        buffer_free(&model);
        buffer_free(&out);
    }
}

static const struct {
    struct graph_case graph;
    uint64_t opset;
    const char *part;
} refused[] = {
    {{.name = "an output", .nodes = {{"MatMul", "x", "w", "y"}}, .seen = "w", .fill = 1},
     17,
     "of the model's 1 matrix products"},
    {{.name = "not a number", .nodes = {{"MatMul", "x", "w", "y"}}, .fill = NAN},
     17,
     "change nothing"},
    {{.name = "small", .nodes = {{"MatMul", "x", "thin", "y"}}, .fill = 1}, 17, "change nothing"},
    {{.name = "none", .nodes = {{"Add", "x", "w", "y"}}, .fill = 1}, 17, "no matrix product"},
    {{.name = "old", .nodes = {{"MatMul", "x", "w", "y"}}, .fill = 1}, 10, "operator set 11"},
};

static void what_cannot_gain_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        struct buffer model, out = {0};
        struct quantize_counts counts;
        build(&refused[i].graph, refused[i].opset, &model);
        expect_error(onnx_quantize((struct slice){model.data, model.size}, &out, &counts),
                     ERROR_USAGE, refused[i].part, refused[i].graph.name);
        buffer_free(&model);
        buffer_free(&out);
    }
}

/* Cut off anywhere, or with any byte changed, it is an error or a model, never a crash. */
static void damaged_models_are_no_danger(void **state)
{
    struct buffer model;
    struct quantize_counts counts;
    (void)state;
    uint64_t seed = random_seed(__func__);
    build(&graph_cases[5], 17, &model);
    for (int i = 0; i < 400; i++) {
        struct buffer out = {0};
        size_t size = i % 2 == 0 ? random_below(&seed, model.size) : model.size;
        char *copy = malloc(size + 1);
        assert_non_null(copy);
        memcpy(copy, model.data, size);
        /* the weights' bytes matter little: near the ends is where the structure is */
        size_t place = random_below(&seed, 200) < 100 ? random_below(&seed, 200)
                                                      : size - MIN(size, random_below(&seed, 200));
        if (place < size) copy[place] = (char)random_next(&seed);
        error_free(onnx_quantize((struct slice){copy, size}, &out, &counts));
        buffer_free(&out);
        free(copy);
    }
    buffer_free(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_within_half_a_step),
        cmocka_unit_test(columns_of_nothing_stay_nothing),
        cmocka_unit_test(what_is_not_finite_is_seen),
        cmocka_unit_test(what_pays),
        cmocka_unit_test(graphs_keep_what_is_read),
        cmocka_unit_test(what_cannot_gain_is_refused),
        cmocka_unit_test(damaged_models_are_no_danger),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
