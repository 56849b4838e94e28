/* SPDX-License-Identifier: Apache-2.0 */
/* runtime_wire_test.c - what a hostile host may write, the engine refuses; what an honest one writes,
 * it reads. Run under the address sanitizer, where reading outside is an error of its own. */
#include "runtime/answer.h"
#include "runtime/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define AREA_BYTES 8192

/* The area that a host fills: output "a" float32 [2, 3], output "b" a sequence of one map of a string
 * to a float. */
struct area {
    unsigned char *bytes;
    size_t table_offset;
    uint32_t n_values;
};

enum { ROW_A, ROW_B, ROW_MAP, ROW_KEYS, ROW_VALUES };

static struct value_spec output_specs[] = {
    {.name = (char[]){"a"}, .kind = VALUE_TENSOR, .type = TENSOR_FLOAT, .shape = {.rank = -1}},
    {.name = (char[]){"b"}, .kind = VALUE_SEQUENCE, .shape = {.rank = -1}},
};
static const struct model_signature signature = {.outputs = output_specs, .n_outputs = 2};

static void add_tensor(struct answer *answer, size_t row, enum tensor_type type, struct shape shape,
                       const void *data, size_t bytes)
{
    unsigned char *place = NULL;
    assert_null(answer_place(answer, bytes, &place));
    memcpy(place, data, bytes);
    answer_set_tensor(answer, &answer->values[row], type, &shape, place, bytes);
}

static struct area make_area(void)
{
    static const float numbers[6] = {1, 2, 3, 4, 5, 6}, scores[1] = {0.5F};
    static const char keys[] = "\3\0\0\0cat";
    struct area area = {.bytes = aligned_alloc(64, AREA_BYTES)};
    struct answer answer = {0};
    struct wire_value *value;
    assert_non_null(area.bytes);
    memset(area.bytes, 0, AREA_BYTES);
    answer_begin(&answer, area.bytes, AREA_BYTES);
    for (size_t i = 0; i < 5; i++) assert_null(answer_add(&answer, &value));
    add_tensor(&answer, ROW_A, TENSOR_FLOAT, (struct shape){2, {2, 3}}, numbers, sizeof numbers);
    answer.values[ROW_B] =
        (struct wire_value){.kind = VALUE_SEQUENCE, .first_child = ROW_MAP, .n_children = 1};
    answer.values[ROW_MAP] =
        (struct wire_value){.kind = VALUE_MAP, .first_child = ROW_KEYS, .n_children = 2};
    add_tensor(&answer, ROW_KEYS, TENSOR_STRING, (struct shape){1, {1}}, keys, 7);
    add_tensor(&answer, ROW_VALUES, TENSOR_FLOAT, (struct shape){1, {1}}, scores, sizeof scores);
    assert_null(answer_finish(&answer, &area.table_offset));
    area.n_values = (uint32_t)answer.n_values;
    answer_free(&answer);
    return area;
}

static struct wire_value *rows_of(const struct area *area)
{
    return (struct wire_value *)(void *)(area->bytes + area->table_offset);
}

static tidemill_error *read_area(const struct area *area, struct value **ret)
{
    return wire_read_values(area->bytes, AREA_BYTES, area->table_offset, area->n_values, &signature,
                            ret);
}

static void honest_answer_is_read(void **state)
{
    (void)state;
    struct area area = make_area();
    struct value *values = NULL;
    assert_null(read_area(&area, &values));
    assert_int_equal(values[ROW_A].shape.rank, 2);
    assert_int_equal(values[ROW_A].bytes, 24);
    assert_true(((const float *)(const void *)values[ROW_A].data)[5] == 6.0F);
    assert_int_equal(values[ROW_B].first_child, ROW_MAP);
    assert_int_equal(values[ROW_KEYS].bytes, 7);
    assert_memory_equal(values[ROW_KEYS].data + 4, "cat", 3);
    /* Strings are a private copy: what the host does to them now changes nothing. */
    memset(area.bytes, 0xff, AREA_BYTES);
    assert_memory_equal(values[ROW_KEYS].data + 4, "cat", 3);
    free(values);
    free(area.bytes);
}

/* One field of the table or of the reply, changed. */
struct hostile_case {
    const char *name;
    size_t row;
    size_t offset, size; /* of the field in struct wire_value; size 0: in struct area */
    uint64_t value;
};

#define FIELD(field) offsetof(struct wire_value, field), sizeof((struct wire_value *)0)->field
#define DIM(index) (offsetof(struct wire_value, dims) + 8 * (index)), 8

static const struct hostile_case hostile_cases[] = {
    {"offset behind the area", ROW_A, FIELD(offset), AREA_BYTES},
    {"offset just before its end", ROW_A, FIELD(offset), AREA_BYTES - 16},
    {"offset that wraps around", ROW_A, FIELD(offset), UINT64_MAX - 15},
    {"offset not aligned", ROW_A, FIELD(offset), 1},
    {"more bytes than the shape", ROW_A, FIELD(bytes), 4096},
    {"fewer bytes than the shape", ROW_A, FIELD(bytes), 4},
    {"bytes that wrap around", ROW_A, FIELD(bytes), UINT64_MAX},
    {"negative dimension", ROW_A, DIM(0), UINT64_MAX},
    {"shape larger than the bytes", ROW_A, DIM(0), 3},
    {"shape that overflows", ROW_A, DIM(0), UINT64_C(1) << 62},
    {"rank too high", ROW_A, FIELD(rank), 9},
    {"rank negative", ROW_A, FIELD(rank), UINT32_MAX},
    {"type unknown", ROW_A, FIELD(type), 99},
    {"type undefined", ROW_A, FIELD(type), 0},
    {"type of another output", ROW_A, FIELD(type), TENSOR_INT32},
    {"kind unknown", ROW_A, FIELD(kind), 3},
    {"kind not the declared one", ROW_B, FIELD(kind), VALUE_TENSOR},
    {"tensor with children", ROW_A, FIELD(n_children), 1},
    {"child is its own parent", ROW_B, FIELD(first_child), ROW_B},
    {"child is an output", ROW_B, FIELD(first_child), ROW_A},
    {"child behind the table", ROW_B, FIELD(first_child), 5},
    {"child shared with another", ROW_MAP, FIELD(first_child), ROW_MAP},
    {"children behind the table", ROW_B, FIELD(n_children), 4},
    {"children without end", ROW_B, FIELD(n_children), UINT32_MAX},
    {"values without a parent", ROW_B, FIELD(n_children), 0},
    {"map with one child", ROW_MAP, FIELD(n_children), 1},
    {"map with keys of a strange type", ROW_KEYS, FIELD(type), TENSOR_FLOAT},
    {"map with more values than keys", ROW_VALUES, DIM(0), 2},
    {"map with a scalar for values", ROW_VALUES, FIELD(rank), 0},
    {"strings longer than the tensor", ROW_KEYS, FIELD(bytes), 5},
    {"more strings than bytes", ROW_KEYS, DIM(0), UINT64_C(1) << 40},
    {"strings outside", ROW_KEYS, FIELD(offset), AREA_BYTES - 2},
    {"table outside", 0, offsetof(struct area, table_offset), 0, AREA_BYTES - 100},
    {"table that wraps around", 0, offsetof(struct area, table_offset), 0, UINT64_MAX - 50},
    {"table too long", 0, offsetof(struct area, n_values), 0, UINT32_MAX},
    {"fewer values than outputs", 0, offsetof(struct area, n_values), 0, 1},
    {"fewer values than children", 0, offsetof(struct area, n_values), 0, 4},
};

static void hostile_answers_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(hostile_cases); i++) {
        const struct hostile_case *test = &hostile_cases[i];
        struct area area = make_area();
        struct value *values = NULL;
        if (test->size > 0)
            memcpy((unsigned char *)&rows_of(&area)[test->row] + test->offset, &test->value,
                   test->size);
        else if (test->offset == offsetof(struct area, n_values))
            area.n_values = (uint32_t)test->value;
        else
            area.table_offset = test->value;
        tidemill_error *error = read_area(&area, &values);
        if (error == NULL) fail_msg("accepted: %s", test->name);
        assert_int_equal(error_code_of(error), ERROR_HOST_CRASHED);
        assert_null(values);
        error_free(error);
        free(area.bytes);
    }
}

static void deep_trees_are_refused(void **state)
{
    (void)state;
    struct area area = make_area();
    struct wire_value *rows = rows_of(&area);
    struct value *values = NULL;
    area.n_values = 2 + 20;
    rows[ROW_B].first_child = 2;
    for (uint32_t i = 2; i < area.n_values; i++)
        rows[i] = (struct wire_value){
            .kind = VALUE_SEQUENCE, .first_child = i + 1, .n_children = i + 1 < area.n_values};
    tidemill_error *error = read_area(&area, &values);
    assert_int_equal(error_code_of(error), ERROR_HOST_CRASHED);
    error_free(error);
    free(area.bytes);
}

static void empty_but_endless_shapes_are_refused(void **state)
{
    (void)state;
    struct area area = make_area();
    struct wire_value *rows = rows_of(&area);
    struct value *values = NULL;
    rows[ROW_A].bytes = 0;
    rows[ROW_A].dims[1] = 0;
    assert_null(read_area(&area, &values));
    free(values);
    rows[ROW_A].dims[0] = INT64_C(1) << 50;
    tidemill_error *error = read_area(&area, &values);
    assert_int_equal(error_code_of(error), ERROR_HOST_CRASHED);
    error_free(error);
    free(area.bytes);
}

/* What is accepted after random damage must be safe to read in full. */
static uint64_t read_everything(const struct value *values, size_t n_values)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n_values; i++) {
        for (size_t k = 0; k < values[i].bytes; k++) sum += values[i].data[k];
        assert_true((uint64_t)values[i].first_child + values[i].n_children <= n_values);
    }
    return sum;
}

static void random_damage_does_no_harm(void **state)
{
    (void)state;
    unsigned seed = 1;
    uint64_t sum = 0;
    for (int round = 0; round < 20000; round++) {
        struct area area = make_area();
        struct value *values = NULL;
        unsigned flips = 1 + (unsigned)rand_r(&seed) % 4;
        for (unsigned k = 0; k < flips; k++) {
            size_t at = (size_t)rand_r(&seed) % (5 * sizeof(struct wire_value));
            area.bytes[area.table_offset + at] ^= (unsigned char)(1 << rand_r(&seed) % 8);
        }
        tidemill_error *error = read_area(&area, &values);
        if (error == NULL) sum += read_everything(values, area.n_values);
        error_free(error);
        free(values);
        free(area.bytes);
    }
    assert_true(sum > 0);
}

/* The signature. */

static void make_ready(struct buffer *buffer)
{
    struct value_spec input = {.name = (char[]){"x"},
                               .type = TENSOR_INT64,
                               .shape = {.rank = 2, .dims = {-1, 4}},
                               .dim_names = {(char[]){"batch"}}};
    struct model_signature made = {.inputs = &input,
                                   .n_inputs = 1,
                                   .outputs = output_specs,
                                   .n_outputs = 2,
                                   .is_batched = true};
    assert_null(wire_write_ready(&made, "test 1.0", 7, buffer));
}

static void signature_survives_the_wire(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    struct model_signature read;
    uint32_t units_max = 0;
    char description[160];
    make_ready(&buffer);
    assert_null(wire_read_ready(buffer.data, buffer.size, &read, description, sizeof description,
                                &units_max));
    assert_string_equal(description, "test 1.0");
    assert_int_equal(units_max, 7);
    assert_string_equal(read.inputs[0].name, "x");
    assert_string_equal(read.inputs[0].dim_names[0], "batch");
    assert_int_equal(read.inputs[0].shape.dims[1], 4);
    assert_string_equal(read.outputs[1].name, "b");
    assert_true(read.is_batched);
    model_signature_free(&read);
    buffer_free(&buffer);
}

static void damaged_signatures_do_no_harm(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    uint32_t units_max;
    char description[160];
    make_ready(&buffer);
    for (size_t size = 0; size < buffer.size; size++) {
        struct model_signature read;
        char *cut = malloc(size + 1);
        assert_non_null(cut);
        memcpy(cut, buffer.data, size);
        tidemill_error *error =
            wire_read_ready(cut, size, &read, description, sizeof description, &units_max);
        assert_non_null(error);
        error_free(error);
        free(cut);
    }
    for (size_t bit = 0; bit < buffer.size * 8; bit++) {
        struct model_signature read;
        buffer.data[bit / 8] ^= (char)(1 << bit % 8);
        error_free(wire_read_ready(buffer.data, buffer.size, &read, description, sizeof description,
                                   &units_max));
        model_signature_free(&read);
        buffer.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    buffer_free(&buffer);
}

static void text_from_a_host_is_cleaned(void **state)
{
    (void)state;
    static const struct {
        const char *given, *expected;
    } cases[] = {
        {"plain", "plain"},
        {"two\nlines\t", "two lines"},
        {"\033[31mred", " [31mred"},
        {"caf\xc3\xa9", "caf\xc3\xa9"},
        {"cut \xc3", "cut ?"},
        {"over\xc0\xaflong", "over??long"},
        {"half \xed\xa0\x80", "half ???"},
        {"four \xf0\x9f\x98\x80", "four \xf0\x9f\x98\x80"},
        {"beyond \xf4\x90\x80\x80", "beyond ????"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char text[64];
        snprintf(text, sizeof text, "%s", cases[i].given);
        wire_clean_text(text, sizeof text);
        assert_string_equal(text, cases[i].expected);
    }
}

/* Which models are batched. */

struct batch_case {
    const char *name;
    struct shape input, output;
    const char *input_name, *second_name; /* of dimensions 0 and 1 */
    enum batch_dimension asked;
    bool is_error, is_batched;
    int64_t fixed;
};

static const struct batch_case batch_cases[] = {
    {"open", {2, {-1, 4}}, {1, {-1}}, NULL, NULL, BATCH_DIMENSION_AUTO, false, true, 0},
    {"output fixed", {2, {-1, 4}}, {1, {4}}, NULL, NULL, BATCH_DIMENSION_AUTO, false, false, 0},
    {"output silent", {2, {-1, 4}}, {-1, {0}}, NULL, NULL, BATCH_DIMENSION_AUTO, false, true, 0},
    {"fixed", {2, {8, 4}}, {2, {8, 2}}, NULL, NULL, BATCH_DIMENSION_AUTO, false, true, 8},
    {"fixed, not both",
     {2, {8, 4}},
     {2, {2, 8}},
     NULL,
     NULL,
     BATCH_DIMENSION_AUTO,
     false,
     false,
     0},
    {"batch last",
     {2, {3, -1}},
     {2, {3, -1}},
     NULL,
     "batch",
     BATCH_DIMENSION_AUTO,
     false,
     false,
     0},
    {"scalar", {0, {0}}, {0, {0}}, NULL, NULL, BATCH_DIMENSION_AUTO, false, false, 0},
    {"none asked", {2, {-1, 4}}, {1, {-1}}, NULL, NULL, BATCH_DIMENSION_NONE, false, false, 0},
    {"first asked", {2, {-1, 4}}, {1, {4}}, NULL, NULL, BATCH_DIMENSION_FIRST, false, true, 0},
    {"first of fixed", {2, {8, 4}}, {1, {4}}, NULL, NULL, BATCH_DIMENSION_FIRST, false, true, 8},
    {"first of none", {0, {0}}, {1, {4}}, NULL, NULL, BATCH_DIMENSION_FIRST, true, false, 0},
};

static void batch_dimension_is_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(batch_cases); i++) {
        const struct batch_case *test = &batch_cases[i];
        struct value_spec input = {.name = (char[]){"x"}, .shape = test->input};
        struct value_spec output = {.name = (char[]){"y"}, .shape = test->output};
        input.dim_names[0] = (char *)(uintptr_t)test->input_name;
        input.dim_names[1] = (char *)(uintptr_t)test->second_name;
        struct model_signature made = {
            .inputs = &input, .n_inputs = 1, .outputs = &output, .n_outputs = 1};
        tidemill_error *error = signature_detect_batch(&made, test->asked);
        if ((error != NULL) != test->is_error || made.is_batched != test->is_batched ||
            made.batch_fixed != test->fixed)
            fail_msg("%s: batched %d, fixed %lld, %s", test->name, made.is_batched,
                     (long long)made.batch_fixed, error_message(error));
        error_free(error);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(honest_answer_is_read),
        cmocka_unit_test(hostile_answers_are_refused),
        cmocka_unit_test(deep_trees_are_refused),
        cmocka_unit_test(empty_but_endless_shapes_are_refused),
        cmocka_unit_test(random_damage_does_no_harm),
        cmocka_unit_test(signature_survives_the_wire),
        cmocka_unit_test(damaged_signatures_do_no_harm),
        cmocka_unit_test(text_from_a_host_is_cleaned),
        cmocka_unit_test(batch_dimension_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
