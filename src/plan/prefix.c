/* SPDX-License-Identifier: Apache-2.0 */
/* prefix.c - sorted items -> groups without a common prefix, the most work first. */
#include "plan/prefix_siblings.h"
#include "plan/prefix_sort.h"

#include <assert.h>
#include <stdlib.h>

/* What is known once the items are sorted. */
struct sorted {
    const struct prefix_item *items;
    size_t n;
    uint32_t *order;
    uint32_t *shared; /* in whole blocks */
};

static void round_to_blocks(struct sorted *sorted, uint32_t block_units)
{
    if (block_units == 1) return;
    for (size_t i = 0; i < sorted->n; i++) sorted->shared[i] -= sorted->shared[i] % block_units;
}

static size_t count_groups(const struct sorted *sorted, uint32_t group_min)
{
    size_t n_groups = sorted->n > 0;
    for (size_t i = 1; i < sorted->n; i++) n_groups += sorted->shared[i] < group_min;
    return n_groups;
}

static void find_groups(const struct sorted *sorted, uint32_t group_min,
                        struct prefix_group *groups)
{
    struct prefix_group *group = groups - 1;
    for (size_t i = 0; i < sorted->n; i++) {
        const struct prefix_item *item = &sorted->items[sorted->order[i]];
        if (i == 0 || sorted->shared[i] < group_min)
            *++group = (struct prefix_group){.first = (uint32_t)i};
        else
            group->shared_units += sorted->shared[i];
        group->count++;
        group->total_units += item->n_units;
        group->cost += item->cost;
    }
}

static uint64_t work_of(const struct prefix_group *group)
{
    return group->total_units - group->shared_units + group->cost;
}

/* The most work first; equal ones as their units compare. */
static int compare_groups(const void *a, const void *b)
{
    const struct prefix_group *left = a, *right = b;
    uint64_t left_work = work_of(left), right_work = work_of(right);
    if (left_work != right_work) return left_work > right_work ? -1 : 1;
    return left->first < right->first ? -1 : left->first > right->first;
}

/* Copies the groups in their new order and says where each of them is now. */
static tidemill_error *place_groups(const struct sorted *sorted, struct prefix_plan *plan)
{
    CLEANUP(siblings_close) struct siblings siblings = {0};
    uint32_t most = 0, at = 0;
    for (size_t g = 0; g < plan->n_groups; g++) most = MAX(most, plan->groups[g].count);
    TRY(siblings_open(&siblings, most));
    for (size_t g = 0; g < plan->n_groups; g++) {
        struct prefix_group *group = &plan->groups[g];
        siblings_arrange(&siblings, sorted->order + group->first, sorted->shared + group->first,
                         group->count, plan->order + at, plan->shared_with_previous + at);
        group->first = at;
        at += group->count;
    }
    assert(at == plan->n);
    return NULL;
}

/* Groups that are larger than a block may have blocks in common. */
static void join_groups(const struct prefix_item *items, const struct prefix_options *options,
                        uint32_t group_min, struct prefix_plan *plan)
{
    for (size_t g = 1; g < plan->n_groups && group_min > options->block_units; g++) {
        uint32_t first = plan->groups[g].first;
        uint32_t common =
            prefix_common_units(&items[plan->order[first - 1]], &items[plan->order[first]],
                                options->unit_bytes, group_min);
        plan->shared_with_previous[first] = common - common % options->block_units;
    }
}

tidemill_error *plan_prefix_order(const struct prefix_item *items, size_t n,
                                  const struct prefix_options *options, struct arena *arena,
                                  struct prefix_plan *ret)
{
    CLEANUP(arena_free) struct arena scratch = {0};
    struct sorted sorted = {.items = items, .n = n};
    struct prefix_plan plan = {.n = n};
    uint32_t group_min =
        options->group_min_units == 0 ? options->block_units : options->group_min_units;
    assert(options->unit_bytes == 1 || options->unit_bytes == 4 || options->unit_bytes == 8);
    assert(options->block_units >= 1 && n < UINT32_MAX);

    plan.order = arena_calloc(arena, n, sizeof *plan.order);
    plan.shared_with_previous = arena_calloc(arena, n, sizeof *plan.shared_with_previous);
    sorted.order = arena_calloc(&scratch, n, sizeof *sorted.order);
    sorted.shared = arena_calloc(&scratch, n, sizeof *sorted.shared);
    if (plan.order == NULL || plan.shared_with_previous == NULL || sorted.order == NULL ||
        sorted.shared == NULL)
        return error_memory();
    TRY(prefix_sort(items, n, options->unit_bytes, sorted.order, sorted.shared));
    round_to_blocks(&sorted, options->block_units);

    plan.n_groups = count_groups(&sorted, group_min);
    plan.groups = arena_calloc(arena, plan.n_groups, sizeof *plan.groups);
    if (plan.groups == NULL) return error_memory();
    find_groups(&sorted, group_min, plan.groups);
    qsort(plan.groups, plan.n_groups, sizeof *plan.groups, compare_groups);
    TRY(place_groups(&sorted, &plan));
    join_groups(items, options, group_min, &plan);
    for (size_t i = 0; i < n; i++) plan.shared_units += plan.shared_with_previous[i];
    for (size_t g = 0; g < plan.n_groups; g++) plan.total_units += plan.groups[g].total_units;
    *ret = plan;
    return NULL;
}
