/* SPDX-License-Identifier: Apache-2.0 */
/* zone.c - moments and local times of a zone, both ways. */
#include "plan/zone.h"

/* Places in the table whose time is not after `time_s`. */
static size_t count_until(const struct zone *zone, int64_t time_s)
{
    size_t low = 0, high = zone->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (zone->times[middle] <= time_s)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct zone_span zone_span_at(const struct zone *zone, int64_t time_s)
{
    if (zone == NULL) return (struct zone_span){INT64_MAX, 0};
    size_t n = count_until(zone, time_s);
    if (n < zone->n)
        return (struct zone_span){zone->times[n],
                                  n == 0 ? zone->first_offset_s : zone->offsets[n - 1]};
    if (zone->has_rule) return zone_rule_span(&zone->rule, time_s);
    return (struct zone_span){INT64_MAX, n == 0 ? zone->first_offset_s : zone->offsets[n - 1]};
}

struct local_time zone_local(const struct zone *zone, int64_t time_ms)
{
    int64_t time_s = floor_div(time_ms, 1000);
    return civil_of_seconds(time_s + zone_span_at(zone, time_s).offset_s);
}

/* Looks through the spans in which it could be; the first one that has it wins. */
static int64_t moment_s(const struct zone *zone, int64_t local_s)
{
    int64_t begin = local_s - ZONE_OFFSET_S_MAX;
    for (;;) {
        struct zone_span span = zone_span_at(zone, begin);
        int64_t time_s = local_s - span.offset_s;
        if (time_s < begin) return begin; /* skipped by the change that began this span */
        if (time_s < span.end_s) return time_s;
        begin = span.end_s;
    }
}

int64_t zone_moment(const struct zone *zone, const struct local_time *local)
{
    int64_t limit_s = INT64_MAX / 1000 - DAY_S * 365;
    int64_t local_s = civil_seconds(local);
    if (local_s > limit_s) local_s = limit_s;
    if (local_s < -limit_s) local_s = -limit_s;
    return moment_s(zone, local_s) * 1000;
}
