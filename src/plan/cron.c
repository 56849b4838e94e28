/* SPDX-License-Identifier: Apache-2.0 */
/* cron.c - when a line of cron comes next, in a zone whose clocks change.
 *
 * The line is a set of local minutes. Each comes when the clock first shows it, or passes it in a
 * jump: so what is skipped comes at the moment of the change, and what is shown twice comes once. A
 * line for every hour goes by the hours that there are instead: it comes in both hours of the same
 * name, and not in one that is left out. */
#include "plan/zone.h"

#define YEARS_MAX 9 /* 29 February has a gap of 8 */
#define HOURS_ALL 0xffffffu

static bool fits_day(const struct cron *cron, const struct local_time *at)
{
    bool is_day = cron->days >> at->day & 1, is_weekday = cron->weekdays >> at->weekday & 1;
    if ((cron->months >> at->month & 1) == 0) return false;
    return cron->any_day || cron->any_weekday ? is_day && is_weekday : is_day || is_weekday;
}

/* The first value from `from` on whose bit is set; -1: none. */
static int next_bit(uint64_t bits, int from)
{
    uint64_t rest = from > 63 ? 0 : bits >> from << from;
    return rest == 0 ? -1 : __builtin_ctzll(rest);
}

/* The first fitting minute of a day from `minute_of_day` on; -1: none. */
static int next_in_day(const struct cron *cron, int minute_of_day)
{
    int hour = minute_of_day / 60;
    if ((cron->hours >> hour & 1) != 0) {
        int minute = next_bit(cron->minutes, minute_of_day % 60);
        if (minute >= 0) return hour * 60 + minute;
    }
    hour = next_bit(cron->hours, hour + 1);
    return hour < 0 ? -1 : hour * 60 + next_bit(cron->minutes, 0);
}

/* The first fitting local minute from `local_s` on, in local seconds; INT64_MAX: none in the years. */
static int64_t next_local(const struct cron *cron, int64_t local_s)
{
    int64_t day = floor_div(local_s, DAY_S);
    int minute = (int)((local_s - day * DAY_S + 59) / 60);
    if (minute == DAY_MINUTES) {
        day++;
        minute = 0;
    }
    for (int64_t end = day + YEARS_MAX * 366; day < end; day++, minute = 0) {
        struct local_time date = civil_of_seconds(day * DAY_S);
        int found = fits_day(cron, &date) ? next_in_day(cron, minute) : -1;
        if (found >= 0) return day * DAY_S + (int64_t)found * 60;
    }
    return INT64_MAX;
}

/* Span by span: a minute counts where the clock shows it. */
static int64_t next_every_hour(const struct cron *cron, const struct zone *zone, int64_t from_s)
{
    int64_t end = from_s + (int64_t)YEARS_MAX * 366 * DAY_S;
    while (from_s < end) {
        struct zone_span span = zone_span_at(zone, from_s);
        int64_t local_s = next_local(cron, from_s + span.offset_s);
        if (local_s == INT64_MAX) return INT64_MAX;
        if (local_s - span.offset_s < span.end_s) return local_s - span.offset_s;
        from_s = span.end_s;
    }
    return INT64_MAX;
}

/* Moments never go back as local time goes on, so the first one after `after_s` is it. The loop runs
 * through what is shown a second time. */
static int64_t next_at_hours(const struct cron *cron, const struct zone *zone, int64_t after_s)
{
    int64_t local_s = after_s + zone_span_at(zone, after_s).offset_s;
    for (;;) {
        local_s = next_local(cron, local_s + 1);
        if (local_s == INT64_MAX) return INT64_MAX;
        struct local_time local = civil_of_seconds(local_s);
        int64_t time_s = floor_div(zone_moment(zone, &local), 1000);
        if (time_s > after_s) return time_s;
    }
}

int64_t cron_next(const struct cron *cron, const struct zone *zone, int64_t after_ms)
{
    int64_t limit_ms = INT64_MAX / 4;
    if (after_ms > limit_ms || after_ms < -limit_ms) return INT64_MAX;
    int64_t after_s = floor_div(after_ms, 1000);
    bool every_hour = (cron->hours & HOURS_ALL) == HOURS_ALL;
    int64_t time_s =
        every_hour ? next_every_hour(cron, zone, after_s + 1) : next_at_hours(cron, zone, after_s);
    return time_s == INT64_MAX ? INT64_MAX : time_s * 1000;
}
