/* SPDX-License-Identifier: Apache-2.0 */
/* cron_parse.c - a line of cron as sets of minutes, hours, days, months and weekdays. */
#include "plan/zone.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#define FIELDS 5

struct field {
    const char *name;
    int minimum, maximum;
    const char *names; /* three letters each, from `minimum` on */
};

static const struct field fields[FIELDS] = {
    {"minute", 0, 59, NULL},
    {"hour", 0, 23, NULL},
    {"day", 1, 31, NULL},
    {"month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"},
    {"weekday", 0, 7, "sunmontuewedthufrisat"}, /* 7 is Sunday, too */
};

static const struct {
    const char *name, *line;
} nicknames[] = {
    {"@hourly", "0 * * * *"},   {"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"},
    {"@weekly", "0 0 * * 0"},   {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"},
    {"@annually", "0 0 1 1 *"},
};

static tidemill_error *wrong(const struct field *field, struct slice text, const char *what)
{
    return error_new(ERROR_USAGE, "%s '%.*s' %s", field->name, (int)MIN(text.size, (size_t)40),
                     text.data, what);
}

/* A number, or a name where the field has such. */
static bool read_value(const struct field *field, const char **text, const char *end, int *ret)
{
    const char *p = *text;
    int value = 0;
    for (; p < end && isdigit((unsigned char)*p) && value < 1000; p++)
        value = value * 10 + (*p - '0');
    if (p > *text) {
        *text = p;
        *ret = value;
        return value >= field->minimum && value <= field->maximum;
    }
    for (const char *name = field->names; name != NULL && *name != '\0' && end - p >= 3; name += 3)
        if (strncasecmp(p, name, 3) == 0) {
            *text = p + 3;
            *ret = field->minimum + (int)((name - field->names) / 3);
            return true;
        }
    return false;
}

/* "*", "N", "N-M", with "/STEP" behind the first and the last. */
static tidemill_error *read_item(const struct field *field, struct slice item, uint64_t *bits)
{
    const char *p = item.data, *end = p + item.size;
    int first = field->minimum, last = field->maximum, step = 1;
    bool is_range = true;
    if (p < end && *p == '*') {
        p++;
        if (field->maximum == 7) last = 6;
    } else {
        if (!read_value(field, &p, end, &first)) goto wrong_value;
        last = first;
        is_range = p < end && *p == '-';
        if (is_range) p++;
        if (is_range && !read_value(field, &p, end, &last)) goto wrong_value;
        if (field->maximum == 7 && first > 0 && last == 0) last = 7; /* fri-sun */
        if (first > last) return wrong(field, item, "ends before it begins");
    }
    if (p < end && *p == '/') {
        static const struct field steps = {"step", 1, 60, NULL};
        if (!is_range) return wrong(field, item, "has a step, which goes behind * or a range");
        p++;
        if (!read_value(&steps, &p, end, &step))
            return wrong(field, item, "has no step of 1 to 60");
    }
    if (p < end) goto wrong_value;
    for (int value = first; value <= last; value += step)
        *bits |= (uint64_t)1 << (field->maximum == 7 ? value % 7 : value);
    return NULL;
wrong_value:
    return error_new(ERROR_USAGE,
                     "%s '%.*s' is not *, a number from %d to %d, or a range such as %d-%d",
                     field->name, (int)MIN(item.size, (size_t)40), item.data, field->minimum,
                     field->maximum, field->minimum, field->minimum + 2);
}

static tidemill_error *read_field(const struct field *field, struct slice text, uint64_t *bits)
{
    const char *p = text.data, *end = p + text.size;
    for (;;) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        const char *stop = comma == NULL ? end : comma;
        TRY(read_item(field, (struct slice){p, (size_t)(stop - p)}, bits));
        if (comma == NULL) return NULL;
        p = comma + 1;
    }
}

static const char *spaces(const char *text)
{
    return text + strspn(text, " \t");
}

/* A line for 30 February would wait for ever. */
static bool can_be(const struct cron *cron)
{
    if (!cron->any_day && !cron->any_weekday) return true;
    for (int month = 1; month <= 12; month++)
        for (int day = 1; day <= civil_month_days(2000, month); day++)
            if ((cron->months >> month & 1) != 0 && (cron->days >> day & 1) != 0) return true;
    return false;
}

tidemill_error *cron_parse(const char *text, struct cron *ret)
{
    uint64_t bits[FIELDS] = {0};
    bool any[FIELDS];
    const char *line = spaces(text);
    for (size_t i = 0; i < COUNT_OF(nicknames); i++)
        if (strcasecmp(line, nicknames[i].name) == 0) line = nicknames[i].line;
    if (*line == '@')
        return error_new(ERROR_USAGE,
                         "'%.40s' is none of @hourly, @daily, @weekly, @monthly, @yearly", line);
    const char *p = line;
    for (size_t i = 0; i < FIELDS; i++) {
        struct slice field = {p, strcspn(p, " \t")};
        if (field.size == 0)
            return error_new(ERROR_USAGE,
                             "'%.80s' has no %s; a line is MINUTE HOUR DAY MONTH WEEKDAY", text,
                             fields[i].name);
        any[i] = *p == '*';
        TRY(read_field(&fields[i], field, &bits[i]));
        p = spaces(p + field.size);
    }
    if (*p != '\0') return error_new(ERROR_USAGE, "'%.80s' goes on behind its five fields", text);
    *ret = (struct cron){.minutes = bits[0],
                         .hours = (uint32_t)bits[1],
                         .days = (uint32_t)bits[2],
                         .months = (uint32_t)bits[3],
                         .weekdays = (uint32_t)bits[4],
                         .any_day = any[2],
                         .any_weekday = any[4]};
    if (!can_be(ret))
        return error_new(ERROR_USAGE, "'%.80s' never comes: no such month has such a day", text);
    return NULL;
}
