/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c - rows of one chunk -> microbatches: equal shapes together, like lengths together.
 *
 * How much padding there can be. Rows are sorted by length, longest first; microbatch k has n_k rows,
 * the longest of length a_k, the shortest of length z_k, and n_k a_k <= T, the largest budget of tokens
 * (a row that is alone is not padded). Its padding is at most
 *
 *     n_k (a_k - z_k) <= T (1 - z_k / a_k) <= T ln(a_k / z_k),
 *
 * and since z_k >= a_(k+1) these logarithms add up to at most ln(L_max / L_min). So the padding of a
 * chunk of rows of one key is at most T ln(L_max / L_min) tokens, however many rows there are. With
 * no budget but R rows a microbatch the same sum gives R (L_max - L_min). Both hold for any cut of the
 * sorted rows that keeps the limits. */
#include "plan/plan.h"

#include <assert.h>
#include <stdlib.h>

uint32_t plan_class_of(uint32_t length)
{
    uint32_t class = length <= 1 ? 0 : 32 - (uint32_t)__builtin_clz(length - 1);
    return MIN(class, (uint32_t)(PLAN_CLASSES - 1));
}

/* Keys in any fixed order, since the sink restores the input's. Ties keep the input's order, which
 * makes the sort stable. */
static int compare_keys(const void *a, const void *b)
{
    const struct plan_row *left = a, *right = b;
    if (left->shape_key != right->shape_key) return left->shape_key < right->shape_key ? -1 : 1;
    return left->index < right->index ? -1 : left->index > right->index;
}

static int compare_lengths(const void *a, const void *b)
{
    const struct plan_row *left = a, *right = b;
    if (left->shape_key == right->shape_key && left->length != right->length)
        return left->length > right->length ? -1 : 1;
    return compare_keys(a, b);
}

static bool is_sorted(const struct plan_row *rows, size_t n_rows, bool is_padded)
{
    for (size_t i = 1; i < n_rows; i++) {
        if (rows[i].shape_key != rows[0].shape_key) return false;
        if (is_padded && rows[i].length > rows[i - 1].length) return false;
    }
    return true;
}

/* Rows that a microbatch may hold when its longest has `length`. */
static size_t rows_allowed(const struct plan_limits *limits, uint32_t length)
{
    uint32_t tokens_max = limits->tokens_max[plan_class_of(length)];
    if (tokens_max == 0 || length == 0) return limits->rows_max;
    return MIN((size_t)limits->rows_max, MAX((size_t)tokens_max / length, (size_t)1));
}

/* One run of rows of one key, and the cheapest way to cut it: cost[i] for its first i rows, the last
 * cut before i at from[i]. */
struct cuts {
    const struct plan_row *rows;
    size_t n;
    uint64_t *cost;
    uint32_t *from;
    uint32_t *next_length; /* where the next shorter row stands; n: nowhere */
};

static tidemill_error *cuts_new(const struct plan_row *rows, size_t n, bool is_padded,
                                struct arena *arena, struct cuts *ret)
{
    *ret = (struct cuts){
        .rows = rows,
        .n = n,
        .cost = arena_alloc(arena, (n + 1) * sizeof *ret->cost),
        .from = arena_alloc(arena, (n + 1) * sizeof *ret->from),
        .next_length = arena_alloc(arena, (n + 1) * sizeof *ret->next_length),
    };
    if (ret->cost == NULL || ret->from == NULL || ret->next_length == NULL) return error_memory();
    ret->next_length[n] = (uint32_t)n;
    for (size_t i = n; i-- > 0;) {
        bool is_step = i + 1 < n && is_padded && rows[i + 1].length != rows[i].length;
        ret->next_length[i] = is_step || i + 1 == n ? (uint32_t)(i + 1) : ret->next_length[i + 1];
    }
    return NULL;
}

static void offer(struct cuts *cuts, size_t from, size_t to, uint64_t call_tokens)
{
    uint64_t cost =
        cuts->cost[from] + call_tokens + (uint64_t)(to - from) * cuts->rows[from].length;
    if (cost >= cuts->cost[to]) return;
    cuts->cost[to] = cost;
    cuts->from[to] = (uint32_t)from;
}

/* A microbatch ends where it is full or where the length changes: to end it between two rows of one
 * length saves nothing, unless it is full. */
static void find_cuts(struct cuts *cuts, const struct plan_limits *limits)
{
    uint64_t call_tokens = MAX(limits->call_tokens, 1U);
    cuts->cost[0] = 0;
    for (size_t i = 1; i <= cuts->n; i++) cuts->cost[i] = UINT64_MAX;
    for (size_t i = 0; i < cuts->n; i++) {
        if (cuts->cost[i] == UINT64_MAX) continue; /* no cut can be here */
        size_t full = MIN(i + rows_allowed(limits, cuts->rows[i].length), cuts->n);
        for (size_t end = cuts->next_length[i]; end < full; end = cuts->next_length[end])
            offer(cuts, i, end, call_tokens);
        offer(cuts, i, full, call_tokens);
    }
}

static size_t count_cuts(const struct cuts *cuts)
{
    size_t count = 0;
    for (size_t end = cuts->n; end > 0; end = cuts->from[end]) count++;
    return count;
}

/* Appends the run's microbatches; `first` is the run's place among all rows. */
static tidemill_error *cut_run(const struct plan_row *rows, size_t n, size_t first,
                               const struct plan_limits *limits, struct arena *arena,
                               struct plan *plan)
{
    struct cuts cuts;
    TRY(cuts_new(rows, n, limits->is_padded, arena, &cuts));
    find_cuts(&cuts, limits);
    size_t place = plan->n_microbatches + count_cuts(&cuts);
    plan->n_microbatches = place;
    for (size_t end = n; end > 0; end = cuts.from[end]) {
        size_t begin = cuts.from[end];
        plan->microbatches[--place] = (struct plan_microbatch){
            .first = (uint32_t)(first + begin),
            .count = (uint32_t)(end - begin),
        };
        plan->padded_tokens += (uint64_t)(end - begin) * rows[begin].length;
    }
    return NULL;
}

/* Length of the run of equal keys that begins at `first`. */
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
    if (!is_sorted(rows, n_rows, limits->is_padded)) {
        struct plan_row *copy = (struct plan_row *)arena_copy(arena, rows, n_rows * sizeof *rows);
        if (copy == NULL) return error_memory();
        qsort(copy, n_rows, sizeof *copy, limits->is_padded ? compare_lengths : compare_keys);
        sorted = copy;
    }

    struct plan plan = {.n_rows = n_rows};
    plan.order = arena_calloc(arena, n_rows, sizeof *plan.order);
    plan.microbatches = arena_calloc(arena, n_rows, sizeof *plan.microbatches);
    if (plan.order == NULL || plan.microbatches == NULL) return error_memory();
    for (size_t i = 0; i < n_rows; i++) {
        plan.order[i] = sorted[i].index;
        plan.tokens += sorted[i].length;
    }
    for (size_t i = 0, run; i < n_rows; i += run) {
        run = run_length(sorted, n_rows, i);
        TRY(cut_run(sorted + i, run, i, limits, arena, &plan));
    }
    *ret = plan;
    return NULL;
}
