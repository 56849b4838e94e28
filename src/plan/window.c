/* SPDX-License-Identifier: Apache-2.0 */
/* window.c - when a window closes. */
#include "plan/zone.h"

int64_t window_close_at(const struct window_rule *rule, const struct zone *zone, int64_t opened_ms)
{
    int64_t close_ms = INT64_MAX;
    if (rule->every_ms > 0) {
        int64_t begun = floor_div(opened_ms, rule->every_ms) * rule->every_ms;
        if (__builtin_add_overflow(begun, rule->every_ms, &close_ms)) close_ms = INT64_MAX;
    }
    if (rule->has_at) close_ms = MIN(close_ms, cron_next(&rule->at, zone, opened_ms));
    return close_ms;
}

bool window_is_due(const struct window_rule *rule, const struct zone *zone, int64_t opened_ms,
                   int64_t now_ms)
{
    int64_t ahead_ms;
    if (__builtin_sub_overflow(opened_ms, now_ms, &ahead_ms)) return true;
    if (ahead_ms > WINDOW_AHEAD_MS_MAX) return true;
    return now_ms >= window_close_at(rule, zone, opened_ms);
}

bool window_is_full(const struct window_rule *rule, uint64_t records, uint64_t bytes)
{
    return (rule->max_records > 0 && records >= rule->max_records) ||
           (rule->max_bytes > 0 && bytes >= rule->max_bytes);
}
