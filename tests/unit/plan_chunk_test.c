/* SPDX-License-Identifier: Apache-2.0 */
/* plan_chunk_test.c - a plan loses no row, doubles none, mixes no shapes and is the same every
 * time. */
#include "expect.h"

#include "plan/plan.h"

#define ROUNDS 400
#define ROWS_MAX 3000

static void assert_plan(const struct plan_row *rows, size_t n_rows, uint32_t rows_max,
                        const struct plan *plan)
{
    /* by place in `rows`, which need not be the index */
    size_t n_seen = 0;
    bool *seen = calloc(n_rows + 1, sizeof *seen);
    size_t *place_of = calloc(n_rows * 3 + 1, sizeof *place_of); /* indices are below 3 n */
    assert_non_null(seen);
    assert_non_null(place_of);
    for (size_t i = 0; i < n_rows; i++) place_of[rows[i].index] = i;
    assert_int_equal(plan->n_rows, n_rows);
    for (size_t m = 0; m < plan->n_microbatches; m++) {
        const struct plan_microbatch *mb = &plan->microbatches[m];
        assert_in_range(mb->count, 1, rows_max);
        assert_int_equal(mb->first, n_seen); /* one after another, no gap, no overlap */
        const struct plan_row *first = &rows[place_of[plan->order[mb->first]]];
        for (uint32_t i = 0; i < mb->count; i++) {
            uint32_t index = plan->order[mb->first + i];
            size_t place = place_of[index];
            assert_true(place < n_rows && rows[place].index == index);
            if (seen[place]) fail_msg("record %u runs twice", index);
            seen[place] = true;
            assert_true(rows[place].shape_key == first->shape_key);
            if (i > 0) assert_true(index > plan->order[mb->first + i - 1]);
            n_seen++;
        }
    }
    assert_int_equal(n_seen, n_rows);
    free(place_of);
    free(seen);
}

/* No more microbatches than the limit and the shapes make necessary. */
static size_t microbatches_needed(const struct plan_row *rows, size_t n_rows, uint32_t rows_max)
{
    size_t needed = 0;
    for (size_t i = 0; i < n_rows; i++) {
        size_t before = 0;
        for (size_t k = 0; k < i; k++) before += rows[k].shape_key == rows[i].shape_key;
        needed += before % rows_max == 0;
    }
    return needed;
}

static void the_example_of_the_readme_holds(void **unused)
{
    (void)unused;
    static const struct plan_row rows[] = {
        {0, 1, 'a'}, {1, 1, 'a'}, {2, 1, 'b'}, {3, 1, 'a'}, {4, 1, 'b'}};
    static const uint32_t order[] = {0, 1, 3, 2, 4};
    static const struct plan_microbatch microbatches[] = {{0, 2}, {2, 1}, {3, 2}};
    struct arena arena = {0};
    struct plan plan;
    expect_fine(plan_chunk(rows, 5, &(struct plan_limits){.rows_max = 2}, &arena, &plan), "plan");
    assert_memory_equal(plan.order, order, sizeof order);
    assert_int_equal(plan.n_microbatches, COUNT_OF(microbatches));
    assert_memory_equal(plan.microbatches, microbatches, sizeof microbatches);
    arena_free(&arena);
}

static void sizes_at_the_edges_are_cut_right(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        size_t n_rows;
        uint32_t rows_max;
        size_t n_microbatches;
        uint32_t last;
    } rows[] = {
        {"an empty chunk has a microbatch", 0, 8, 0, 0},
        {"one row is lost", 1, 8, 1, 1},
        {"a full microbatch is split", 8, 8, 1, 8},
        {"the row after a full one is lost", 9, 8, 2, 1},
        {"the row before a full one is lost", 15, 8, 2, 7},
        {"one row a microbatch", 5, 1, 5, 1},
        {"no limit overflows", 100, UINT32_MAX, 1, 100},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct plan_row all[100];
        struct arena arena = {0};
        struct plan plan;
        struct plan_limits limits = {.rows_max = rows[i].rows_max};
        for (uint32_t k = 0; k < COUNT_OF(all); k++) all[k] = (struct plan_row){k, 1, 7};
        expect_fine(plan_chunk(all, rows[i].n_rows, &limits, &arena, &plan), rows[i].name);
        assert_plan(all, rows[i].n_rows, rows[i].rows_max, &plan);
        if (plan.n_microbatches != rows[i].n_microbatches)
            fail_msg("%s: %zu microbatches", rows[i].name, plan.n_microbatches);
        if (rows[i].n_rows > 0)
            assert_int_equal(plan.microbatches[plan.n_microbatches - 1].count, rows[i].last);
        arena_free(&arena);
    }
}

static void shape_keys_far_apart_are_told_apart(void **unused)
{
    (void)unused;
    /* differences that do not fit an int, which a comparison by subtraction would lose */
    static const struct plan_row rows[] = {{0, 1, 0},
                                           {1, 1, UINT64_MAX},
                                           {2, 1, 1u},
                                           {3, 1, (uint64_t)1 << 32},
                                           {4, 1, UINT64_MAX},
                                           {5, 1, 0},
                                           {6, 1, (uint64_t)1 << 63}};
    struct arena arena = {0};
    struct plan plan;
    expect_fine(plan_chunk(rows, 7, &(struct plan_limits){.rows_max = 8}, &arena, &plan), "plan");
    assert_plan(rows, 7, 8, &plan);
    assert_int_equal(plan.n_microbatches, 5);
    arena_free(&arena);
}

/* Rows as a chunk has them: indices rise, with gaps where records failed. */
static size_t random_rows(struct plan_row *rows, uint64_t *state)
{
    size_t n_rows = random_below(state, random_below(state, 4) == 0 ? ROWS_MAX : 60);
    uint64_t n_shapes = 1 + random_below(state, random_below(state, 3) == 0 ? 200 : 4);
    uint64_t shapes[200];
    uint32_t index = 0;
    for (uint64_t s = 0; s < n_shapes; s++) shapes[s] = random_next(state);
    for (size_t i = 0; i < n_rows; i++) {
        rows[i] = (struct plan_row){
            .index = index,
            .length = 1 + (uint32_t)random_below(state, 512),
            .shape_key = shapes[random_below(state, n_shapes)],
        };
        index += 1 + (uint32_t)random_below(state, 3);
    }
    return n_rows;
}

static void any_rows_make_a_sound_plan_and_the_same_again(void **unused)
{
    (void)unused;
    static struct plan_row rows[ROWS_MAX], before[ROWS_MAX];
    uint64_t state = random_seed(__func__);
    for (int round = 0; round < ROUNDS; round++) {
        struct arena arena = {0}, other_arena = {0};
        struct plan plan, again;
        size_t n_rows = random_rows(rows, &state);
        struct plan_limits limits = {.rows_max = 1 + (uint32_t)random_below(&state, 70)};
        memcpy(before, rows, sizeof rows);
        expect_fine(plan_chunk(rows, n_rows, &limits, &arena, &plan), "first");
        assert_memory_equal(before, rows, sizeof rows); /* the input is not touched */
        assert_plan(rows, n_rows, limits.rows_max, &plan);
        if (n_rows < 100)
            assert_int_equal(plan.n_microbatches,
                             microbatches_needed(rows, n_rows, limits.rows_max));
        expect_fine(plan_chunk(rows, n_rows, &limits, &other_arena, &again), "again");
        assert_int_equal(again.n_microbatches, plan.n_microbatches);
        if (n_rows > 0) {
            assert_memory_equal(again.order, plan.order, n_rows * sizeof *plan.order);
            assert_memory_equal(again.microbatches, plan.microbatches,
                                plan.n_microbatches * sizeof *plan.microbatches);
        }
        arena_free(&arena);
        arena_free(&other_arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_of_the_readme_holds),
        cmocka_unit_test(sizes_at_the_edges_are_cut_right),
        cmocka_unit_test(shape_keys_far_apart_are_told_apart),
        cmocka_unit_test(any_rows_make_a_sound_plan_and_the_same_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
