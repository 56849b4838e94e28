/* SPDX-License-Identifier: Apache-2.0 */
/* job_deviation_test.c - how far two answers are apart, on answers small enough to do by hand. */
#include "job/deviation.h"

#include "expect.h"

#include <math.h>

static struct model_signature signature_of(bool is_batched)
{
    static char name[] = "y";
    static struct value_spec spec = {.name = name, .kind = VALUE_TENSOR};
    return (struct model_signature){.outputs = &spec, .n_outputs = 1, .is_batched = is_batched};
}

static struct value tensor(enum tensor_type type, struct shape shape, const void *data,
                           size_t bytes)
{
    return (struct value){
        .kind = VALUE_TENSOR, .type = type, .shape = shape, .data = data, .bytes = bytes};
}

#define SHAPE(rank, ...) ((struct shape){(rank), {__VA_ARGS__}})
#define FLOATS(shape, ...)                                                                         \
    tensor(TENSOR_FLOAT, (shape), (const float[]){__VA_ARGS__},                                    \
           sizeof((const float[]){__VA_ARGS__}))

static struct output_deviation compare(const struct value *exact, const struct value *lower,
                                       uint32_t n_rows, bool is_batched)
{
    struct deviation deviation;
    struct model_signature signature = signature_of(is_batched);
    deviation_begin(&deviation, &signature);
    deviation_add(&deviation, &signature, exact, lower, n_rows);
    deviation_end(&deviation);
    return deviation.outputs[0];
}

static void near(double found, double expected)
{
    if (fabs(found - expected) > 1e-6) fail_msg("%.9g, not %.9g", found, expected);
}

static void rows_are_compared_by_their_angle(void **state)
{
    (void)state;
    struct value exact = FLOATS(SHAPE(2, 3, 2), 1, 0, 0, 2, 3, 4);
    struct value lower = FLOATS(SHAPE(2, 3, 2), 2, 0, 2, 0, 4, 3);
    struct output_deviation found = compare(&exact, &lower, 3, true);
    assert_int_equal(found.kind, DEVIATION_COSINE);
    near(found.mean_cosine, (1 + 0 + 24.0 / 25) / 3);
    near(found.deviation, 1 - (1 + 0 + 24.0 / 25) / 3);
    near(found.least_cosine, 0);
    near(found.largest_difference, 2);
    near(found.agreement, 1.0 / 3);
    found = compare(&exact, &lower, 1, true); /* what fills up a fixed batch does not count */
    near(found.mean_cosine, 1);
    found = compare(&exact, &lower, 1, false); /* one record of six numbers */
    assert_int_equal(found.n_rows, 1);
    near(found.mean_cosine, 26 / sqrt(30.0 * 33.0));
}

static void numbers_are_compared_by_their_size(void **state)
{
    (void)state;
    struct value exact = FLOATS(SHAPE(1, 4), 1, -2, 3, 4);
    struct value lower = FLOATS(SHAPE(1, 4), 1.5F, -2, 2.5F, 4);
    struct output_deviation found = compare(&exact, &lower, 4, true);
    assert_int_equal(found.kind, DEVIATION_RELATIVE);
    near(found.deviation, 0.1);
    near(found.largest_difference, 0.5);
    assert_true(found.agreement < 0);
}

static void zeros_and_what_is_not_finite(void **state)
{
    (void)state;
    struct value exact = FLOATS(SHAPE(2, 4, 2), 0, 0, 0, 0, NAN, 1, 3, 4);
    struct value lower = FLOATS(SHAPE(2, 4, 2), 0, 0, 0, 1, 7, 8, INFINITY, 4);
    struct output_deviation found = compare(&exact, &lower, 4, true);
    assert_int_equal(found.n_rows, 3); /* the third has nothing to compare with */
    near(found.mean_cosine, 1.0 / 3);
    near(found.largest_difference, 1);
    exact = FLOATS(SHAPE(1, 2), 0, 0);
    lower = FLOATS(SHAPE(1, 2), 0, 0);
    near(compare(&exact, &lower, 2, true).deviation, 0);
    lower = FLOATS(SHAPE(1, 2), 0, 1);
    assert_true(compare(&exact, &lower, 2, true).deviation > 1000);
}

static void labels_are_the_same_or_not(void **state)
{
    (void)state;
    const int64_t a[] = {1, 2, 3, 4}, b[] = {1, 2, 3, 5};
    struct value exact = tensor(TENSOR_INT64, (struct shape){1, {4}}, a, sizeof a);
    struct value lower = tensor(TENSOR_INT64, (struct shape){1, {4}}, b, sizeof b);
    struct output_deviation found = compare(&exact, &lower, 4, true);
    assert_int_equal(found.kind, DEVIATION_EQUAL);
    near(found.deviation, 0.25);
    const char s[] = "\3\0\0\0cat\2\0\0\0ab", t[] = "\3\0\0\0cat\3\0\0\0abc";
    exact = tensor(TENSOR_STRING, (struct shape){1, {2}}, s, sizeof s - 1);
    lower = tensor(TENSOR_STRING, (struct shape){1, {2}}, t, sizeof t - 1);
    near(compare(&exact, &lower, 2, true).deviation, 0.5);
}

static void other_shapes_are_not_compared(void **state)
{
    (void)state;
    struct value exact = FLOATS(SHAPE(2, 2, 2), 1, 2, 3, 4);
    struct value lower = FLOATS(SHAPE(2, 1, 4), 1, 2, 3, 4);
    assert_int_equal(compare(&exact, &lower, 2, true).kind, DEVIATION_NONE);
    struct value sequence = {.kind = VALUE_SEQUENCE};
    assert_int_equal(compare(&sequence, &sequence, 2, true).kind, DEVIATION_NONE);
    assert_int_equal(compare(&exact, &exact, 3, true).kind,
                     DEVIATION_NONE); /* fewer rows than asked */
}

static void the_limit_is_kept(void **state)
{
    (void)state;
    struct deviation deviation;
    struct model_signature signature = signature_of(true);
    struct value exact = FLOATS(SHAPE(2, 1, 2), 3, 4), lower = FLOATS(SHAPE(2, 1, 2), 4, 3);
    deviation_begin(&deviation, &signature);
    expect_fine(deviation_check(&deviation, "int8", 0), "nothing was run");
    deviation_add(&deviation, &signature, &exact, &lower, 1);
    deviation_end(&deviation);
    expect_fine(deviation_check(&deviation, "int8", 0.0401), "below");
    expect_error(deviation_check(&deviation, "int8", 0.0399), ERROR_USAGE, "mean cosine 0.96000",
                 "above");
    struct value sequence = {.kind = VALUE_SEQUENCE};
    deviation_begin(&deviation, &signature);
    deviation_add(&deviation, &signature, &sequence, &sequence, 1);
    deviation_end(&deviation);
    expect_error(deviation_check(&deviation, "int8", 1), ERROR_USAGE, "none of the model's outputs",
                 "nothing to compare");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_compared_by_their_angle),
        cmocka_unit_test(numbers_are_compared_by_their_size),
        cmocka_unit_test(zeros_and_what_is_not_finite),
        cmocka_unit_test(labels_are_the_same_or_not),
        cmocka_unit_test(other_shapes_are_not_compared),
        cmocka_unit_test(the_limit_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
