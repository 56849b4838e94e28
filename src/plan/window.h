/* SPDX-License-Identifier: Apache-2.0 */
/* window.h - when a queue becomes a job, and when a job may run: windows, cron lines in a time zone,
 * allowed hours, prices by the hour. Pure: the clock is handed in.
 *
 * Times are milliseconds since 1970. Local times are reckoned with a zone's own rules (tzfile data,
 * handed in as bytes), so that a night of 23 or 25 hours is one. */
#ifndef TIDEMILL_PLAN_WINDOW_H
#define TIDEMILL_PLAN_WINDOW_H

#include "base/base.h"

/* --- zones -------------------------------------------------------------------------------------- */

struct zone; /* NULL: UTC */
/* From the bytes of a TZif file (RFC 8536), with its footer's rule for the years behind the table.
 * ERROR_USAGE: they are none. */
tidemill_error *zone_new(const void *tzfile, size_t size, struct zone **ret);
void zone_free(struct zone *zone);

struct local_time {
    int year, month, day; /* month 1..12 */
    int hour, minute, second;
    int weekday; /* 0: Sunday */
};
struct local_time zone_local(const struct zone *zone, int64_t time_ms);
/* The first moment that has this local time; one that a change of clocks skips becomes the first
 * moment after it. weekday is not looked at; fields beyond their range are carried over. */
int64_t zone_moment(const struct zone *zone, const struct local_time *local);

/* --- cron --------------------------------------------------------------------------------------- */

/* "MINUTE HOUR DAY MONTH WEEKDAY" with *, lists, ranges, steps, names (jan, mon), or @hourly, @daily,
 * @weekly, @monthly, @yearly. As cron has it: with both DAY and WEEKDAY given (neither begins with *)
 * either is enough. */
struct cron {
    uint64_t minutes;
    uint32_t hours, days, months, weekdays; /* bits */
    bool any_day, any_weekday;
};
/* ERROR_USAGE names the field; also for a day that no year has, such as 30 February. */
tidemill_error *cron_parse(const char *text, struct cron *ret);
/* The first moment after `after_ms` that fits. A time skipped by a change of clocks fires at the moment
 * of the change; one that comes twice fires once. But a line for every hour ("0,30 * * * *") goes by the
 * hours that there are: it fires in both of the same name. INT64_MAX: there is none within 9 years. */
int64_t cron_next(const struct cron *cron, const struct zone *zone, int64_t after_ms);

/* --- windows ------------------------------------------------------------------------------------ */

/* A window closes at what comes first of those that are set. */
struct window_rule {
    int64_t every_ms; /* 0: not set. On multiples of it since 1970, so that servers agree */
    bool has_at;
    struct cron at;
    uint64_t max_records, max_bytes; /* 0: not set */
};
/* When a window that was opened at `opened_ms` closes by its clock; INT64_MAX: never by it. */
int64_t window_close_at(const struct window_rule *rule, const struct zone *zone, int64_t opened_ms);
/* Whether it is to be closed by its clock. A window that was opened in the future was opened under a
 * clock that has been set back since: beyond what clocks of two machines differ by it is due at once,
 * rather than years later. Ask this, not the time alone, and close windows in one step of the store:
 * then none closes twice or never, however the clock is set. */
#define WINDOW_AHEAD_MS_MAX ((int64_t)10 * 60 * 1000)
bool window_is_due(const struct window_rule *rule, const struct zone *zone, int64_t opened_ms,
                   int64_t now_ms);
bool window_is_full(const struct window_rule *rule, uint64_t records, uint64_t bytes);

/* --- hours and tariffs --------------------------------------------------------------------------- */

#define DAY_MINUTES 1440

/* Minutes of the local day in which jobs may run, and what an hour of the machine costs then,
 * relative to its usual price. */
struct tariff {
    bool is_allowed[DAY_MINUTES];
    float factor[DAY_MINUTES]; /* 1: the usual price */
};
void tariff_init(struct tariff *tariff); /* always, 1 */
/* "22:00-06:00", "00:00-06:00,12:00-13:00"; only what it names is allowed from then on. */
tidemill_error *tariff_allow(struct tariff *tariff, const char *hours);
/* "22:00-06:00" costs `factor`. */
tidemill_error *tariff_price(struct tariff *tariff, const char *hours, double factor);

struct run_slot {
    int64_t begin_ms, end_ms;
    double factor;
};
struct run_plan {
    struct run_slot *slots; /* in order of time; malloc'ed */
    size_t n;
    int64_t finish_ms;  /* INT64_MAX: not within a week behind the deadline */
    double factor_mean; /* of the work's hours */
    bool meets_deadline;
};
/* The cheapest minutes in which `work_ms` of running ends before `deadline_ms` (0: none; then within
 * a week); the earliest among equally cheap ones, in as few pieces as that allows (a slot has one price:
 * neighbours may touch). Where the allowed minutes before the deadline are too few, all of them, and what
 * is left after it as early as can be. `work_ms` may be a guess: plan again as it is done. Tariff NULL:
 * always, at one price. */
tidemill_error *tariff_plan(const struct tariff *tariff, const struct zone *zone, int64_t now_ms,
                            int64_t work_ms, int64_t deadline_ms, struct run_plan *ret);
void run_plan_free(struct run_plan *plan);
/* Whether a job may run at `now`, and when that changes next; INT64_MAX: never. */
bool tariff_allows(const struct tariff *tariff, const struct zone *zone, int64_t now_ms,
                   int64_t *ret_changes_ms);

#endif
