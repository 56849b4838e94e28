/* SPDX-License-Identifier: Apache-2.0 */
/* units.c - one table of units for sizes, one for times. */
#include "base/units.h"

#include <ctype.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <strings.h>

struct unit {
    const char *name; /* NULL ends the table */
    double factor;
};

static const struct unit size_units[] = {
    {"", 1},           {"B", 1},       {"K", 1024},         {"KB", 1e3},
    {"KiB", 1024},     {"M", 1048576}, {"MB", 1e6},         {"MiB", 1048576},
    {"G", 1073741824}, {"GB", 1e9},    {"GiB", 1073741824}, {NULL, 0},
};
static const struct unit duration_units[] = {
    {"", 1e3},    {"ms", 1},    {"s", 1e3},    {"m", 6e4},
    {"min", 6e4}, {"h", 3.6e6}, {"d", 8.64e7}, {NULL, 0},
};
static const struct unit fine_duration_units[] = {
    {"", 1e6}, {"us", 1}, {"ms", 1e3}, {"s", 1e6}, {NULL, 0},
};

static bool parse(const char *text, const struct unit *unit, int64_t *ret)
{
    char *end;
    if (!isdigit((unsigned char)text[0]) && text[0] != '.') return false;
    double number = strtod(text, &end);
    while (*end == ' ') end++;
    for (; unit->name != NULL; unit++) {
        if (strcasecmp(end, unit->name) != 0) continue;
        double value = number * unit->factor;
        if (!(value >= 0 && value < 9e18)) return false;
        *ret = (int64_t)llround(value);
        return true;
    }
    return false;
}

bool size_parse(const char *text, int64_t *ret_bytes)
{
    return parse(text, size_units, ret_bytes);
}

bool duration_parse(const char *text, int64_t *ret_ms)
{
    return parse(text, duration_units, ret_ms);
}

bool duration_us_parse(const char *text, int64_t *ret_us)
{
    return parse(text, fine_duration_units, ret_us);
}
