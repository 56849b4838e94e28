/* SPDX-License-Identifier: Apache-2.0 */
/* format_post_test.c - chains of steps: what is accepted, and the numbers against their definitions. */
#include "format/post.h"

#include "expect.h"

#include <math.h>

static void test_chains(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n_steps;
        enum post_pick pick;
        uint32_t k;
    } good[] = {
        {NULL, 0, PICK_NONE, 0},
        {"none", 0, PICK_NONE, 0},
        {"softmax", 1, PICK_NONE, 0},
        {"sigmoid,softmax", 2, PICK_NONE, 0},
        {"argmax", 0, PICK_ARGMAX, 1},
        {"softmax,argmax", 1, PICK_ARGMAX, 1},
        {"softmax,topk:1", 1, PICK_TOP_K, 1},
        {"topk:1000", 0, PICK_TOP_K, 1000},
    };
    static const char *const bad[] = {
        "",
        "soft",
        "softmax,",
        ",softmax",
        "argmax,softmax",
        "topk",
        "topk:",
        "topk:0",
        "topk:-1",
        "topk:1001",
        "topk:5x",
        "topk:5,argmax",
        "Softmax",
        "softmaxx",
        "argmax ",
        "argmax,topk:1",
        "topk:99999999999999999999",
        "softmax,softmax,softmax,softmax,softmax",
    };
    struct post post;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        const char *name = good[i].text != NULL ? good[i].text : "NULL";
        expect_fine(post_parse(good[i].text, &post), name);
        if (post.n_steps != good[i].n_steps || post.pick != good[i].pick ||
            (post.pick != PICK_NONE && post.k != good[i].k))
            fail_msg("%s was read as something else", name);
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        expect_error(post_parse(bad[i], &post), ERROR_USAGE, "--post", bad[i]);
}

static void apply(const char *text, double *values, size_t n_rows, size_t n)
{
    struct post post;
    expect_fine(post_parse(text, &post), text);
    post_apply(&post, values, n_rows, n);
}

static void test_softmax_against_its_definition(void **state)
{
    (void)state;
    uint64_t seed = random_seed("softmax");
    for (int round = 0; round < 2000; round++) {
        size_t n = 1 + random_below(&seed, 20), n_rows = 1 + random_below(&seed, 3);
        double values[64], raw[64], offset = (double)random_below(&seed, 2000) - 1000;
        for (size_t i = 0; i < n * n_rows; i++)
            raw[i] = values[i] = offset + (double)random_below(&seed, 20000) / 1000 - 10;
        apply("softmax", values, n_rows, n);
        for (size_t r = 0; r < n_rows; r++) {
            long double sum = 0, total = 0;
            for (size_t i = r * n; i < (r + 1) * n; i++)
                sum += expl((long double)(raw[i] - offset));
            for (size_t i = r * n; i < (r + 1) * n; i++) {
                long double expected = expl((long double)(raw[i] - offset)) / sum;
                assert_true(fabsl((long double)values[i] - expected) < 1e-13L);
                total += (long double)values[i];
            }
            assert_true(fabsl(total - 1) < 1e-13L);
        }
    }
}

static void test_extremes(void **state)
{
    (void)state;
    double huge[] = {1e308, 1e308, -1e308};
    apply("softmax", huge, 1, 3);
    assert_true(huge[0] == 0.5 && huge[1] == 0.5 && huge[2] == 0);
    double masked[] = {(double)-INFINITY, 3};
    apply("softmax", masked, 1, 2);
    assert_true(masked[0] == 0 && masked[1] == 1);
    double undefined[] = {(double)NAN, 1};
    apply("softmax", undefined, 1, 2);
    assert_true(isnan(undefined[0]) && isnan(undefined[1]));
    double far[] = {-1e308, 1e308, 0, (double)INFINITY};
    apply("sigmoid", far, 2, 2);
    assert_true(far[0] == 0 && far[1] == 1 && far[2] == 0.5 && far[3] == 1);
    double none = 7;
    apply("softmax", &none, 0, 5);
    apply("softmax,sigmoid", &none, 4, 0);
    assert_true(none == 7);
}

/* a before b in a full sort: larger, numbers before NaN, then by place. */
static bool is_before(const double *values, uint32_t a, uint32_t b)
{
    bool is_nan_a = isnan(values[a]), is_nan_b = isnan(values[b]);
    if (is_nan_a != is_nan_b) return is_nan_b;
    if (!is_nan_a && values[a] != values[b]) return values[a] > values[b];
    return a < b;
}

static void test_top_against_a_full_sort(void **state)
{
    (void)state;
    uint64_t seed = random_seed("top");
    for (int round = 0; round < 20000; round++) {
        double values[40];
        uint32_t sorted[40], found[40];
        size_t n = random_below(&seed, COUNT_OF(values) + 1);
        uint32_t k = 1 + (uint32_t)random_below(&seed, 40);
        for (size_t i = 0; i < n; i++) {
            uint64_t draw = random_below(&seed, 12); /* few values: many ties */
            values[i] = draw == 0   ? (double)NAN
                        : draw == 1 ? (double)-INFINITY
                        : draw == 2 ? (double)INFINITY
                                    : (double)draw;
            size_t place = i;
            for (; place > 0 && is_before(values, (uint32_t)i, sorted[place - 1]); place--)
                sorted[place] = sorted[place - 1];
            sorted[place] = (uint32_t)i;
        }
        size_t n_found = post_top(values, n, k, found);
        assert_int_equal(n_found, MIN(n, (size_t)k));
        if (n_found > 0) assert_memory_equal(found, sorted, n_found * sizeof *found);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chains),
        cmocka_unit_test(test_softmax_against_its_definition),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_top_against_a_full_sort),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
