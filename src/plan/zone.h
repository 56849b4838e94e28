/* SPDX-License-Identifier: Apache-2.0 */
/* zone.h - what a time zone is made of, for the files of this room that reckon with it. Seconds since
 * 1970 throughout; "local" ones count as if the wall's clock were UTC. */
#ifndef TIDEMILL_PLAN_ZONE_H
#define TIDEMILL_PLAN_ZONE_H

#include "plan/window.h"

#define DAY_S 86400
/* RFC 8536 allows less than 25 h before and 26 h behind UTC. */
#define ZONE_OFFSET_S_MAX (26 * 3600)

/* When a rule's change is: a local time of each year. */
struct zone_change {
    enum { ZONE_JULIAN, ZONE_DAY, ZONE_WEEKDAY } kind; /* Jn without 29 February, n, Mm.w.d */
    int day;                                           /* n; or the weekday, 0: Sunday */
    int month, week;                                   /* of WEEKDAY; week 5: the last */
    int32_t time_s;                                    /* of the local day; may be outside of it */
};

/* A footer: "CET-1CEST,M3.5.0,M10.5.0/3". Offsets are added to UTC. */
struct zone_rule {
    int32_t standard_s, summer_s;
    bool has_summer;
    struct zone_change begin, end; /* of summer time; begin in standard, end in summer time */
};
/* False: not a rule. */
bool zone_rule_parse(const char *text, struct zone_rule *ret);

struct zone {
    int64_t *times; /* table: from times[i] on offsets[i] holds; ascending */
    int32_t *offsets;
    size_t n;
    int32_t first_offset_s; /* before the table */
    bool has_rule;          /* for what comes behind the table */
    struct zone_rule rule;
};

/* A time in which one offset holds. */
struct zone_span {
    int64_t end_s; /* INT64_MAX: it never ends */
    int32_t offset_s;
};
struct zone_span zone_span_at(const struct zone *zone, int64_t time_s); /* NULL: UTC */
struct zone_span zone_rule_span(const struct zone_rule *rule, int64_t time_s);

/* Days since 1970 of a date; the month may be any number, the day too. */
int64_t civil_days(int64_t year, int64_t month, int64_t day);
struct local_time civil_of_seconds(int64_t local_s);
int64_t civil_seconds(const struct local_time *local);
bool civil_is_leap(int64_t year);
int civil_month_days(int64_t year, int month);

/* Rounds down, also what is negative. */
static inline int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

#endif
