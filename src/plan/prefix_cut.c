/* SPDX-License-Identifier: Apache-2.0 */
/* prefix_cut.c - shares an ordered list out among workers, cutting where little is shared. */
#include "plan/prefix.h"

#include <assert.h>

#define SLACK_PERCENT_MAX 25 /* so that the stretches in which two cuts may fall stay apart */

/* Of the item at a place, if the one before ran on the same worker. */
static uint64_t work_at(const struct prefix_item *items, const struct prefix_plan *plan, size_t at)
{
    const struct prefix_item *item = &items[plan->order[at]];
    return (uint64_t)(item->n_units - plan->shared_with_previous[at]) + item->cost;
}

/* total * part / parts, whatever their product is. */
static uint64_t share_of(uint64_t total, uint32_t part, uint32_t parts)
{
    return total / parts * part + total % parts * part / parts;
}

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

uint64_t plan_prefix_cut(const struct prefix_item *items, const struct prefix_plan *plan,
                         uint32_t n_workers, uint32_t slack_percent, uint32_t *cuts)
{
    uint64_t total = 0, before = 0, again = 0; /* before: work of the places before `at` */
    size_t at = 0;
    assert(n_workers >= 1 && slack_percent <= SLACK_PERCENT_MAX);
    for (size_t i = 0; i < plan->n; i++) total += work_at(items, plan, i);
    uint64_t slack = total / n_workers * slack_percent / 100;

    cuts[0] = 0;
    for (uint32_t k = 1; k < n_workers; k++) {
        uint64_t even = share_of(total, k, n_workers), best_distance = 0;
        cuts[k] = cuts[k - 1];
        if (k > 1 && even == share_of(total, k - 1, n_workers)) continue; /* no work for this one */
        while (at < plan->n && before + slack < even) before += work_at(items, plan, at++);
        size_t best = at;
        /* Where a single item goes past the stretch there is no choice: the cut is behind it. */
        for (size_t first = at; at < plan->n && before <= even + slack; at++) {
            uint32_t shared = plan->shared_with_previous[at];
            uint32_t best_shared = plan->shared_with_previous[best];
            uint64_t off = distance(before, even);
            if (at == first || shared < best_shared ||
                (shared == best_shared && off < best_distance)) {
                best = at;
                best_distance = off;
            }
            before += work_at(items, plan, at);
        }
        cuts[k] = (uint32_t)best;
        if (best > cuts[k - 1] && best < plan->n) again += plan->shared_with_previous[best];
    }
    cuts[n_workers] = (uint32_t)plan->n;
    return again;
}
