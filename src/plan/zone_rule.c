/* SPDX-License-Identifier: Apache-2.0 */
/* zone_rule.c - the rule in the footer of a zone's file, as POSIX writes TZ, with the hours from -167
 * to 167 of RFC 8536: which offset holds in the years behind the table. */
#include "plan/zone.h"

#include <ctype.h>

/* --- reading it --------------------------------------------------------------------------------- */

static bool read_number(const char **text, int maximum, int *ret)
{
    const char *p = *text;
    int value = 0;
    if (!isdigit((unsigned char)*p)) return false;
    for (; isdigit((unsigned char)*p); p++) {
        value = value * 10 + (*p - '0');
        if (value > maximum) return false;
    }
    *text = p;
    *ret = value;
    return true;
}

static bool read_byte(const char **text, char byte)
{
    if (**text != byte) return false;
    ++*text;
    return true;
}

/* "CET" or "<+0330>": skipped. */
static bool read_name(const char **text)
{
    const char *p = *text;
    bool is_quoted = read_byte(&p, '<');
    const char *begin = p;
    while (isalpha((unsigned char)*p) ||
           (is_quoted && (isdigit((unsigned char)*p) || *p == '+' || *p == '-')))
        p++;
    if (p - begin < 3 || (is_quoted && !read_byte(&p, '>'))) return false;
    *text = p;
    return true;
}

/* "[+-]hh[:mm[:ss]]" */
static bool read_time(const char **text, int hours_max, int32_t *ret)
{
    int hours, minutes = 0, seconds = 0;
    bool is_negative = read_byte(text, '-');
    if (!is_negative) read_byte(text, '+');
    if (!read_number(text, hours_max, &hours)) return false;
    if (read_byte(text, ':')) {
        if (!read_number(text, 59, &minutes)) return false;
        if (read_byte(text, ':') && !read_number(text, 59, &seconds)) return false;
    }
    int32_t time_s = hours * 3600 + minutes * 60 + seconds;
    *ret = is_negative ? -time_s : time_s;
    return true;
}

static bool read_weekday(const char **text, struct zone_change *ret)
{
    ret->kind = ZONE_WEEKDAY;
    return read_number(text, 12, &ret->month) && ret->month > 0 && read_byte(text, '.') &&
           read_number(text, 5, &ret->week) && ret->week > 0 && read_byte(text, '.') &&
           read_number(text, 6, &ret->day);
}

static bool read_change(const char **text, struct zone_change *ret)
{
    *ret = (struct zone_change){.kind = ZONE_DAY, .time_s = 2 * 3600};
    bool is_valid;
    if (read_byte(text, 'M')) {
        is_valid = read_weekday(text, ret);
    } else if (read_byte(text, 'J')) {
        ret->kind = ZONE_JULIAN;
        is_valid = read_number(text, 365, &ret->day) && ret->day > 0;
    } else {
        is_valid = read_number(text, 365, &ret->day);
    }
    return is_valid && (!read_byte(text, '/') || read_time(text, 167, &ret->time_s));
}

/* Summer time without dates is refused: what an implementation makes of it is its own choice. */
bool zone_rule_parse(const char *text, struct zone_rule *ret)
{
    *ret = (struct zone_rule){0};
    if (!read_name(&text) || !read_time(&text, 24, &ret->standard_s)) return false;
    ret->standard_s = -ret->standard_s; /* POSIX counts what is added to local time */
    if (*text == '\0') return true;
    ret->has_summer = true;
    ret->summer_s = ret->standard_s + 3600;
    if (!read_name(&text)) return false;
    if (*text != ',') {
        if (!read_time(&text, 24, &ret->summer_s)) return false;
        ret->summer_s = -ret->summer_s;
    }
    return read_byte(&text, ',') && read_change(&text, &ret->begin) && read_byte(&text, ',') &&
           read_change(&text, &ret->end) && *text == '\0';
}

/* --- which offset holds ------------------------------------------------------------------------- */

/* The day of a change in a year, in days since 1970. */
static int64_t change_day(const struct zone_change *change, int64_t year)
{
    if (change->kind == ZONE_DAY) return civil_days(year, 1, 1) + change->day;
    if (change->kind == ZONE_JULIAN)
        return civil_days(year, 1, 1) + change->day - 1 +
               (change->day >= 60 && civil_is_leap(year));
    int64_t first = civil_days(year, change->month, 1);
    int64_t weekday = first + 4 - 7 * floor_div(first + 4, 7);
    int64_t day = (change->day - weekday + 7) % 7 + 7 * (change->week - 1);
    while (day >= civil_month_days(year, change->month)) day -= 7;
    return first + day;
}

struct change_at {
    int64_t time_s;
    int32_t offset_s; /* from then on */
};

/* Summer time of all the year ends at the moment in which it begins: then the beginning counts. */
static void sort(struct change_at *changes, size_t n)
{
    for (size_t i = 1; i < n; i++)
        for (size_t k = i; k > 0 && changes[k].time_s < changes[k - 1].time_s; k--) {
            struct change_at swapped = changes[k];
            changes[k] = changes[k - 1];
            changes[k - 1] = swapped;
        }
}

struct zone_span zone_rule_span(const struct zone_rule *rule, int64_t time_s)
{
    /* the years around it: a change may be up to a week outside of its year */
    struct change_at changes[6];
    size_t n = 0;
    if (!rule->has_summer) return (struct zone_span){INT64_MAX, rule->standard_s};
    int64_t year = civil_of_seconds(time_s + rule->standard_s).year;
    for (int64_t y = year - 1; y <= year + 1; y++) {
        int64_t end = change_day(&rule->end, y) * DAY_S + rule->end.time_s - rule->summer_s;
        int64_t begin = change_day(&rule->begin, y) * DAY_S + rule->begin.time_s - rule->standard_s;
        changes[n++] = (struct change_at){end, rule->standard_s};
        changes[n++] = (struct change_at){begin, rule->summer_s};
    }
    sort(changes, n);
    size_t i = 0;
    while (i < n && changes[i].time_s <= time_s) i++;
    struct zone_span span = {.offset_s = i == 0 ? rule->standard_s : changes[i - 1].offset_s};
    span.end_s = i < n ? changes[i].time_s : time_s + DAY_S;
    return span;
}
