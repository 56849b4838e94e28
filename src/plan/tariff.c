/* SPDX-License-Identifier: Apache-2.0 */
/* tariff.c - hours of the day as people write them, and whether a job may run now. */
#include "plan/tariff.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

#define FACTOR_MAX 1000.0

void tariff_init(struct tariff *tariff)
{
    for (size_t i = 0; i < DAY_MINUTES; i++) {
        tariff->is_allowed[i] = true;
        tariff->factor[i] = 1;
    }
}

/* --- hours as text ------------------------------------------------------------------------------ */

/* "7:30", "07:30", "24:00"; -1: not a time. */
static int read_time(const char **text)
{
    const char *p = *text;
    int hour = 0, digits = 0;
    for (; isdigit((unsigned char)*p) && digits < 2; p++, digits++) hour = hour * 10 + (*p - '0');
    if (digits == 0 || p[0] != ':' || !isdigit((unsigned char)p[1]) ||
        !isdigit((unsigned char)p[2]))
        return -1;
    int minute = (p[1] - '0') * 10 + (p[2] - '0');
    if (minute > 59 || hour * 60 + minute > DAY_MINUTES) return -1;
    *text = p + 3;
    return hour * 60 + minute;
}

/* Marks the minutes of "22:00-06:00,12:00-13:00". */
static tidemill_error *read_hours(const char *hours, bool is_named[DAY_MINUTES])
{
    const char *p = hours;
    do {
        p += strspn(p, " ");
        int begin = read_time(&p);
        p += strspn(p, " ");
        bool has_dash = *p == '-';
        p += has_dash;
        p += strspn(p, " ");
        int end = begin >= 0 && has_dash ? read_time(&p) : -1;
        p += strspn(p, " ");
        if (end < 0 || (*p != '\0' && *p != ','))
            return error_new(ERROR_USAGE, "'%.80s' is not hours such as 22:00-06:00", hours);
        if (begin == end || begin == DAY_MINUTES)
            return error_new(ERROR_USAGE, "'%.80s' names no time; a whole day is 00:00-24:00",
                             hours);
        int length = (end - begin + DAY_MINUTES) % DAY_MINUTES;
        if (length == 0) length = DAY_MINUTES;
        for (int i = 0; i < length; i++) is_named[(begin + i) % DAY_MINUTES] = true;
    } while (*p++ == ',');
    return NULL;
}

tidemill_error *tariff_allow(struct tariff *tariff, const char *hours)
{
    bool is_named[DAY_MINUTES] = {false};
    TRY(read_hours(hours, is_named));
    memcpy(tariff->is_allowed, is_named, sizeof is_named);
    return NULL;
}

tidemill_error *tariff_price(struct tariff *tariff, const char *hours, double factor)
{
    bool is_named[DAY_MINUTES] = {false};
    if (!(factor >= 0 && factor <= FACTOR_MAX))
        return error_new(ERROR_USAGE, "a factor is a number from 0 to %g", FACTOR_MAX);
    TRY(read_hours(hours, is_named));
    for (size_t i = 0; i < DAY_MINUTES; i++)
        if (is_named[i]) tariff->factor[i] = (float)factor;
    return NULL;
}

/* --- stretches of time ---------------------------------------------------------------------------- */

struct tariff_stretch tariff_stretch_at(const struct tariff *tariff, const struct zone *zone,
                                        int64_t time_ms)
{
    if (tariff == NULL) return (struct tariff_stretch){INT64_MAX, true, 1};
    int64_t time_s = floor_div(time_ms, 1000);
    struct zone_span span = zone_span_at(zone, time_s);
    int64_t local_s = time_s + span.offset_s;
    int64_t day = floor_div(local_s, DAY_S);
    size_t first = (size_t)((local_s - day * DAY_S) / 60), minute = first;
    while (++minute < DAY_MINUTES && tariff->is_allowed[minute] == tariff->is_allowed[first] &&
           tariff->factor[minute] == tariff->factor[first]) {
    }
    int64_t end_s = day * DAY_S + (int64_t)minute * 60 - span.offset_s;
    return (struct tariff_stretch){MIN(end_s, span.end_s) * 1000, tariff->is_allowed[first],
                                   tariff->factor[first]};
}

bool tariff_allows(const struct tariff *tariff, const struct zone *zone, int64_t now_ms,
                   int64_t *ret_changes_ms)
{
    struct tariff_stretch stretch = tariff_stretch_at(tariff, zone, now_ms);
    bool is_allowed = stretch.is_allowed;
    int64_t limit_ms = now_ms + TARIFF_WEEK_MS;
    while (stretch.end_ms < limit_ms && stretch.is_allowed == is_allowed) {
        struct tariff_stretch next = tariff_stretch_at(tariff, zone, stretch.end_ms);
        if (next.is_allowed != is_allowed) break;
        stretch = next;
    }
    *ret_changes_ms = stretch.end_ms < limit_ms ? stretch.end_ms : INT64_MAX;
    return is_allowed;
}
