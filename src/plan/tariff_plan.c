/* SPDX-License-Identifier: Apache-2.0 */
/* tariff_plan.c - in which minutes a job's work costs least and still ends in time.
 *
 * Time until the deadline is cut into stretches of one price. The cheapest ones are taken whole, the
 * price that is only needed in part from its beginning: that is the cheapest choice, and of the
 * equally cheap ones the earliest. */
#include "plan/tariff.h"

#include <stdlib.h>

/* A farther deadline is planned for as if it were then: cheap hours come every day. */
#define PLAN_MS_MAX ((int64_t)366 * DAY_S * 1000)

struct stretches {
    struct run_slot *items;
    size_t n, capacity;
};

static tidemill_error *append(struct stretches *list, struct run_slot slot)
{
    struct run_slot *last = list->n > 0 ? &list->items[list->n - 1] : NULL;
    if (last != NULL && last->end_ms == slot.begin_ms && last->factor == slot.factor) {
        last->end_ms = slot.end_ms;
        return NULL;
    }
    if (list->n == list->capacity) {
        size_t capacity = MAX(2 * list->capacity, (size_t)16);
        struct run_slot *items = realloc(list->items, capacity * sizeof *items);
        if (items == NULL) return error_memory();
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->n++] = slot;
    return NULL;
}

/* The allowed time from `begin_ms` on, until `end_ms` or until there is `work_ms` of it. */
static tidemill_error *collect(const struct tariff *tariff, const struct zone *zone,
                               int64_t begin_ms, int64_t end_ms, int64_t work_ms,
                               struct stretches *ret)
{
    while (begin_ms < end_ms && work_ms > 0) {
        struct tariff_stretch stretch = tariff_stretch_at(tariff, zone, begin_ms);
        int64_t stop_ms = MIN(stretch.end_ms, end_ms);
        if (stretch.is_allowed) {
            if (stop_ms - begin_ms > work_ms) stop_ms = begin_ms + work_ms;
            TRY(append(ret, (struct run_slot){begin_ms, stop_ms, stretch.factor}));
            work_ms -= stop_ms - begin_ms;
        }
        begin_ms = stop_ms;
    }
    return NULL;
}

static int64_t length_of(const struct stretches *list)
{
    int64_t sum = 0;
    for (size_t i = 0; i < list->n; i++) sum += list->items[i].end_ms - list->items[i].begin_ms;
    return sum;
}

static int by_price(const void *a, const void *b)
{
    const struct run_slot *left = a, *right = b;
    if (left->factor != right->factor) return left->factor < right->factor ? -1 : 1;
    return (left->begin_ms > right->begin_ms) - (left->begin_ms < right->begin_ms);
}

static int by_time(const void *a, const void *b)
{
    const struct run_slot *left = a, *right = b;
    return (left->begin_ms > right->begin_ms) - (left->begin_ms < right->begin_ms);
}

/* Leaves `work_ms` of the cheapest time. */
static void take_cheapest(struct stretches *list, int64_t work_ms)
{
    size_t n = 0;
    if (list->n == 0) return; /* qsort takes no NULL, not even for nothing */
    qsort(list->items, list->n, sizeof *list->items, by_price);
    for (; n < list->n && work_ms > 0; n++) {
        struct run_slot *slot = &list->items[n];
        slot->end_ms = MIN(slot->end_ms, slot->begin_ms + work_ms);
        work_ms -= slot->end_ms - slot->begin_ms;
    }
    list->n = n;
    qsort(list->items, n, sizeof *list->items, by_time);
}

static tidemill_error *fill(const struct tariff *tariff, const struct zone *zone, int64_t now_ms,
                            int64_t work_ms, int64_t limit_ms, struct stretches *ret)
{
    TRY(collect(tariff, zone, now_ms, limit_ms, INT64_MAX, ret));
    int64_t room_ms = length_of(ret);
    if (room_ms >= work_ms) {
        take_cheapest(ret, work_ms);
        return NULL;
    }
    int64_t begin_ms = MAX(limit_ms, now_ms);
    return collect(tariff, zone, begin_ms, begin_ms + TARIFF_WEEK_MS, work_ms - room_ms, ret);
}

static void sum_up(const struct stretches *list, int64_t now_ms, int64_t work_ms,
                   int64_t deadline_ms, struct run_plan *ret)
{
    int64_t planned_ms = length_of(list);
    double cost = 0;
    for (size_t i = 0; i < list->n; i++)
        cost += (double)(list->items[i].end_ms - list->items[i].begin_ms) * list->items[i].factor;
    bool is_whole = planned_ms >= work_ms;
    ret->slots = list->items;
    ret->n = list->n;
    ret->finish_ms = !is_whole ? INT64_MAX : list->n > 0 ? list->items[list->n - 1].end_ms : now_ms;
    ret->factor_mean = planned_ms > 0 ? cost / (double)planned_ms : 1;
    ret->meets_deadline = is_whole && (deadline_ms == 0 || ret->finish_ms <= deadline_ms);
}

tidemill_error *tariff_plan(const struct tariff *tariff, const struct zone *zone, int64_t now_ms,
                            int64_t work_ms, int64_t deadline_ms, struct run_plan *ret)
{
    struct stretches list = {0};
    int64_t limit_ms = deadline_ms != 0 ? deadline_ms : now_ms + TARIFF_WEEK_MS;
    *ret = (struct run_plan){0};
    work_ms = MAX(work_ms, (int64_t)0);
    tidemill_error *error =
        fill(tariff, zone, now_ms, work_ms, MIN(limit_ms, now_ms + PLAN_MS_MAX), &list);
    if (error != NULL) {
        free(list.items);
        return error;
    }
    sum_up(&list, now_ms, work_ms, deadline_ms, ret);
    return NULL;
}

void run_plan_free(struct run_plan *plan)
{
    free(plan->slots);
    *plan = (struct run_plan){0};
}
