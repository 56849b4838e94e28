/* SPDX-License-Identifier: Apache-2.0 */
/* base_units_test.c - sizes and times as people write them. */
#include "expect.h"

static const struct {
    const char *text;
    bool (*parse)(const char *text, int64_t *ret);
    int64_t expected; /* -1: refused */
} rows[] = {
    {"0", size_parse, 0},
    {"500", size_parse, 500},
    {"64K", size_parse, 65536},
    {"64kb", size_parse, 64000},
    {"1.5GiB", size_parse, 1610612736},
    {"2 MB", size_parse, 2000000},
    {".5M", size_parse, 524288},
    {"", size_parse, -1},
    {"-1", size_parse, -1},
    {"K", size_parse, -1},
    {"1T", size_parse, -1},
    {"1s", size_parse, -1},
    {"inf", size_parse, -1},
    {"1e30", size_parse, -1},
    {"5", duration_parse, 5000},
    {"250ms", duration_parse, 250},
    {"2m", duration_parse, 120000},
    {"0.5h", duration_parse, 1800000},
    {"5 min", duration_parse, 300000},
    {"5d", duration_parse, 432000000},
    {"5w", duration_parse, -1},
    {"ms", duration_parse, -1},
};

static void texts_are_numbers_or_refused(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        int64_t value = -1;
        if (rows[i].parse(rows[i].text, &value) != (rows[i].expected >= 0))
            fail_msg("'%s' was %s", rows[i].text, rows[i].expected >= 0 ? "refused" : "taken");
        if (value != rows[i].expected) fail_msg("'%s' is %lld", rows[i].text, (long long)value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_numbers_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
