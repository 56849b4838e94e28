/* SPDX-License-Identifier: Apache-2.0 */
/* plan_padding_test.c - plans of rows that may be padded: budgets hold, no row is lost, padding stays
 * within the proven bound, and no other cut at the same places is cheaper. */
#include "expect.h"

#include "plan/plan.h"

#include <math.h>

#define ROUNDS 300
#define ROWS_MAX 1500

static uint32_t length_of[3 * ROWS_MAX]; /* by index */

static uint32_t budget(const struct plan_limits *limits, uint32_t length)
{
    uint32_t tokens = limits->tokens_max[plan_class_of(length)];
    return tokens == 0 ? UINT32_MAX : tokens;
}

static uint64_t assert_microbatch(const struct plan *plan, const struct plan_microbatch *mb,
                                  const struct plan_limits *limits, bool *seen)
{
    uint32_t longest = length_of[plan->order[mb->first]];
    assert_in_range(mb->count, 1, limits->rows_max);
    if (mb->count > 1 && (uint64_t)mb->count * longest > budget(limits, longest))
        fail_msg("%u rows of %u tokens do not keep a budget of %u", mb->count, longest,
                 budget(limits, longest));
    for (uint32_t i = 0; i < mb->count; i++) {
        uint32_t index = plan->order[mb->first + i];
        if (seen[index]) fail_msg("record %u runs twice", index);
        seen[index] = true;
        assert_true(length_of[index] <= longest);
    }
    return (uint64_t)mb->count * longest;
}

/* Returns what the plan costs: tokens with padding, and calls. */
static uint64_t assert_plan(const struct plan_row *rows, size_t n_rows,
                            const struct plan_limits *limits, const struct plan *plan)
{
    static bool seen[3 * ROWS_MAX];
    uint64_t tokens = 0, padded = 0, next = 0;
    memset(seen, 0, sizeof seen);
    assert_int_equal(plan->n_rows, n_rows);
    for (size_t m = 0; m < plan->n_microbatches; m++) {
        assert_int_equal(plan->microbatches[m].first, next);
        next += plan->microbatches[m].count;
        padded += assert_microbatch(plan, &plan->microbatches[m], limits, seen);
    }
    assert_int_equal(next, n_rows);
    for (size_t i = 0; i < n_rows; i++) {
        tokens += rows[i].length;
        if (!seen[rows[i].index]) fail_msg("record %u does not run", rows[i].index);
    }
    assert_int_equal(plan->tokens, tokens);
    assert_int_equal(plan->padded_tokens, padded);
    return padded + (uint64_t)plan->n_microbatches * MAX(limits->call_tokens, 1U);
}

/* Fills every microbatch before it begins the next: what the plan must not be worse than. */
static uint64_t cost_of_filling(const struct plan *plan, const struct plan_limits *limits)
{
    uint64_t cost = 0;
    for (size_t i = 0; i < plan->n_rows;) {
        uint32_t longest = length_of[plan->order[i]];
        size_t n = MAX((uint64_t)budget(limits, longest) / MAX(longest, 1U), 1U);
        n = MIN(MIN(n, (size_t)limits->rows_max), plan->n_rows - i);
        cost += (uint64_t)n * longest + MAX(limits->call_tokens, 1U);
        i += n;
    }
    return cost;
}

static double padding_bound(const struct plan *plan, const struct plan_limits *limits)
{
    if (plan->n_rows == 0) return 0;
    double longest = length_of[plan->order[0]];
    double shortest = length_of[plan->order[plan->n_rows - 1]];
    double tokens_max = 0, by_rows = limits->rows_max * (longest - shortest);
    for (size_t c = 0; c < PLAN_CLASSES; c++)
        tokens_max = MAX(tokens_max, (double)limits->tokens_max[c]);
    return tokens_max == 0 ? by_rows : MIN(by_rows, tokens_max * log(longest / shortest));
}

/* Lengths as they come: all alike, even, or with a long tail. */
static size_t random_rows(struct plan_row *rows, uint64_t *state)
{
    size_t n_rows = random_below(state, random_below(state, 4) == 0 ? ROWS_MAX : 80);
    uint64_t kind = random_below(state, 3);
    uint32_t index = 0, longest = 1 + (uint32_t)random_below(state, 600);
    for (size_t i = 0; i < n_rows; i++) {
        uint32_t length = 1 + (uint32_t)random_below(state, longest);
        if (kind == 0) length = longest;
        if (kind == 2) length = 1 + length / (1 + (uint32_t)random_below(state, 40));
        rows[i] = (struct plan_row){.index = index, .length = length, .shape_key = 7};
        length_of[index] = length;
        index += 1 + (uint32_t)random_below(state, 2);
    }
    return n_rows;
}

static struct plan_limits random_limits(uint64_t *state)
{
    struct plan_limits limits = {
        .rows_max = 1 + (uint32_t)random_below(state, random_below(state, 2) == 0 ? 4000 : 40),
        .call_tokens = (uint32_t)random_below(state, 200),
        .is_padded = true,
    };
    uint32_t tokens = 1 + (uint32_t)random_below(state, 4000);
    bool is_by_class = random_below(state, 2) == 0, is_limited = random_below(state, 5) > 0;
    for (size_t c = 0; c < PLAN_CLASSES && is_limited; c++)
        limits.tokens_max[c] = is_by_class ? 1 + (uint32_t)random_below(state, 4000) : tokens;
    return limits;
}

static void any_lengths_make_a_sound_plan_within_the_bound(void **unused)
{
    (void)unused;
    static struct plan_row rows[ROWS_MAX];
    uint64_t state = random_seed(__func__);
    for (int round = 0; round < ROUNDS; round++) {
        struct arena arena = {0};
        struct plan plan;
        size_t n_rows = random_rows(rows, &state);
        struct plan_limits limits = random_limits(&state);
        expect_fine(plan_chunk(rows, n_rows, &limits, &arena, &plan), "plan");
        uint64_t cost = assert_plan(rows, n_rows, &limits, &plan);
        if (cost > cost_of_filling(&plan, &limits)) fail_msg("filling would have been cheaper");
        double padding = (double)(plan.padded_tokens - plan.tokens);
        if (padding > padding_bound(&plan, &limits) + 1e-6)
            fail_msg("%g tokens of padding, the bound is %g", padding,
                     padding_bound(&plan, &limits));
        arena_free(&arena);
    }
}

/* The cheapest of all cuts of the sorted rows, tried one by one. */
static uint64_t cheapest(const uint32_t *lengths, size_t n, const struct plan_limits *limits)
{
    uint64_t best = UINT64_MAX;
    if (n == 0) return 0;
    for (size_t count = 1; count <= MIN(n, (size_t)limits->rows_max); count++) {
        if (count > 1 && (uint64_t)count * lengths[0] > budget(limits, lengths[0])) break;
        uint64_t cost = count * lengths[0] + MAX(limits->call_tokens, 1U) +
                        cheapest(lengths + count, n - count, limits);
        best = MIN(best, cost);
    }
    return best;
}

static void no_cut_of_few_rows_is_cheaper(void **unused)
{
    (void)unused;
    uint64_t state = random_seed(__func__);
    int n_best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct plan_row rows[10];
        uint32_t sorted[10];
        struct arena arena = {0};
        struct plan plan;
        size_t n_rows = 1 + random_below(&state, COUNT_OF(rows));
        struct plan_limits limits = {.rows_max = 1 + (uint32_t)random_below(&state, 10),
                                     .call_tokens = (uint32_t)random_below(&state, 30),
                                     .is_padded = true};
        for (size_t c = 0; c < PLAN_CLASSES; c++) limits.tokens_max[c] = 60;
        for (uint32_t i = 0; i < n_rows; i++) {
            rows[i] = (struct plan_row){i, 1 + (uint32_t)random_below(&state, 25), 1};
            length_of[i] = rows[i].length;
        }
        expect_fine(plan_chunk(rows, n_rows, &limits, &arena, &plan), "plan");
        uint64_t cost = assert_plan(rows, n_rows, &limits, &plan);
        for (size_t i = 0; i < n_rows; i++) sorted[i] = length_of[plan.order[i]];
        uint64_t best = cheapest(sorted, n_rows, &limits);
        assert_true(cost >= best);
        n_best += cost == best;
        /* cuts between rows of one length are not tried, unless a microbatch is full there */
        if (cost > best + best / 8)
            fail_msg("%llu, the best is %llu", (unsigned long long)cost, (unsigned long long)best);
        arena_free(&arena);
    }
    assert_true(n_best > ROUNDS * 95 / 100);
}

static void lengths_fall_into_their_classes(void **unused)
{
    (void)unused;
    static const struct {
        uint32_t length, class;
    } rows[] = {{0, 0},
                {1, 0},
                {2, 1},
                {3, 2},
                {4, 2},
                {5, 3},
                {8, 3},
                {9, 4},
                {512, 9},
                {513, 10},
                {UINT32_MAX, PLAN_CLASSES - 1}};
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        assert_int_equal(plan_class_of(rows[i].length), rows[i].class);
}

static void cheap_calls_are_not_padded_and_dear_ones_are(void **unused)
{
    (void)unused;
    static const struct plan_row rows[] = {{0, 10, 1}, {1, 100, 1}, {2, 10, 1}, {3, 100, 1}};
    static const struct {
        const char *name;
        uint32_t call_tokens;
        size_t n_microbatches;
        uint64_t padded_tokens;
    } cases[] = {{"a call costs next to nothing", 1, 2, 220},
                 {"a call costs more than the padding", 1000, 1, 400}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct arena arena = {0};
        struct plan plan;
        struct plan_limits limits = {
            .rows_max = 8, .call_tokens = cases[i].call_tokens, .is_padded = true};
        expect_fine(plan_chunk(rows, 4, &limits, &arena, &plan), cases[i].name);
        if (plan.n_microbatches != cases[i].n_microbatches ||
            plan.padded_tokens != cases[i].padded_tokens)
            fail_msg("%s: %zu microbatches, %llu tokens", cases[i].name, plan.n_microbatches,
                     (unsigned long long)plan.padded_tokens);
        static const uint32_t order[] = {1, 3, 0, 2};
        assert_memory_equal(plan.order, order, sizeof order);
        arena_free(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_lengths_make_a_sound_plan_within_the_bound),
        cmocka_unit_test(no_cut_of_few_rows_is_cheaper),
        cmocka_unit_test(lengths_fall_into_their_classes),
        cmocka_unit_test(cheap_calls_are_not_padded_and_dear_ones_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
