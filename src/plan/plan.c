/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c - rows of one chunk -> microbatches: equal shapes together, input order kept inside. */
#include "plan/plan.h"

#include <assert.h>
#include <stdlib.h>

/* By shape in order of first appearance is not needed: any fixed order will do, since the sink
 * restores the input's. Ties keep the input order, which makes the sort stable. */
static int compare_rows(const void *a, const void *b)
{
    const struct plan_row *left = a, *right = b;
    if (left->shape_key != right->shape_key) return left->shape_key < right->shape_key ? -1 : 1;
    return left->index < right->index ? -1 : left->index > right->index;
}

static bool has_one_shape(const struct plan_row *rows, size_t n_rows)
{
    for (size_t i = 1; i < n_rows; i++)
        if (rows[i].shape_key != rows[0].shape_key) return false;
    return true;
}

/* Length of the run of equal shapes that begins at `first`. */
static size_t run_length(const struct plan_row *rows, size_t n_rows, size_t first)
{
    size_t end = first + 1;
    while (end < n_rows && rows[end].shape_key == rows[first].shape_key) end++;
    return end - first;
}

tidemill_error *plan_chunk(const struct plan_row *rows, size_t n_rows,
                           const struct plan_limits *limits, struct arena *arena, struct plan *ret)
{
    assert(limits->rows_max >= 1);
    const struct plan_row *sorted = rows;
    if (!has_one_shape(rows, n_rows)) {
        struct plan_row *copy = (struct plan_row *)arena_copy(arena, rows, n_rows * sizeof *rows);
        if (copy == NULL) return error_memory();
        qsort(copy, n_rows, sizeof *copy, compare_rows);
        sorted = copy;
    }

    size_t n_microbatches = 0;
    for (size_t i = 0, run; i < n_rows; i += run) {
        run = run_length(sorted, n_rows, i);
        n_microbatches += (run + limits->rows_max - 1) / limits->rows_max;
    }

    struct plan plan = {.n_rows = n_rows};
    plan.order = arena_calloc(arena, n_rows, sizeof *plan.order);
    plan.microbatches = arena_calloc(arena, n_microbatches, sizeof *plan.microbatches);
    if (plan.order == NULL || plan.microbatches == NULL) return error_memory();
    for (size_t i = 0; i < n_rows; i++) plan.order[i] = sorted[i].index;

    for (size_t i = 0, run; i < n_rows; i += run) {
        run = run_length(sorted, n_rows, i);
        for (size_t done = 0; done < run; done += limits->rows_max)
            plan.microbatches[plan.n_microbatches++] = (struct plan_microbatch){
                .first = (uint32_t)(i + done),
                .count = (uint32_t)MIN(run - done, (size_t)limits->rows_max),
            };
    }
    assert(plan.n_microbatches == n_microbatches);
    *ret = plan;
    return NULL;
}
