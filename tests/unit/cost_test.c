/* SPDX-License-Identifier: Apache-2.0 */
/* cost_test.c - what a run costs, to the last decimal that a person can check by hand. */
#include "expect.h"

#include "cost/cost.h"

#include <math.h>

static void assert_near(double found, double expected, const char *name)
{
    if (!(fabs(found - expected) <= fabs(expected) * 1e-12))
        fail_msg("%s: %.17g, not %.17g", name, found, expected);
}

static void seconds_become_dollars(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        double seconds, usd_hour, usd;
    } rows[] = {
        {"no time costs something", 0, 3.06, 0},
        {"no price costs something", 3600, 0, 0},
        {"an hour is not the price", 3600, 0.085, 0.085},
        {"the README's example", 90, 0.085, 0.002125},
        {"a day is not 24 hours", 86400, 4.08, 97.92},
        {"a millisecond is lost", 0.001, 3.6, 1e-6},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        assert_near(cost_machine_usd(rows[i].seconds, rows[i].usd_hour), rows[i].usd, rows[i].name);
}

static void dollars_become_dollars_a_million(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        double usd;
        uint64_t predictions;
        double expected;
    } rows[] = {
        {"no predictions divide by zero", 5, 0, 0},
        {"a million is not itself", 0.002125, 1000000, 0.002125},
        {"one is not a millionth of a million", 0.5, 1, 500000},
        {"more than 32 bits are cut", 100, (uint64_t)10000000000, 0.01},
        {"nothing costs something", 0, 17, 0},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        assert_near(cost_per_million_usd(rows[i].usd, rows[i].predictions), rows[i].expected,
                    rows[i].name);
}

static void tokens_become_dollars(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        uint64_t in, out;
        double usd_in, usd_out, usd;
    } rows[] = {
        {"no tokens cost something", 0, 0, 2.5, 10, 0},
        {"no price costs something", 1000, 1000, 0, 0, 0},
        {"a million in is not the price", 1000000, 0, 2.5, 10, 2.5},
        {"a million out is not the price", 0, 1000000, 2.5, 10, 10},
        {"in and out do not add up", 400000, 100000, 2.5, 10, 2},
        {"more than 32 bits are cut", (uint64_t)10000000000, 0, 0.1, 0, 1000},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        assert_near(cost_tokens_usd(rows[i].in, rows[i].out, rows[i].usd_in, rows[i].usd_out),
                    rows[i].usd, rows[i].name);
}

static void instances_are_found_however_they_are_written(void **unused)
{
    (void)unused;
    static const struct {
        const char *given, *name;
    } rows[] = {
        {"c6i.large", "c6i.large"},
        {"C6I.Large", "c6i.large"},
        {"standard_d2s_V5", "Standard_D2s_v5"},
        {"c6i.larg", NULL},
        {"c6i.large ", NULL},
        {"c6i.large2", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const struct instance_price *found = cost_instance_find(rows[i].given);
        if ((found == NULL) != (rows[i].name == NULL)) fail_msg("'%s'", rows[i].given);
        if (found != NULL) expect_text(found->name, rows[i].name, rows[i].given);
    }
}

static void the_table_of_prices_is_sound(void **unused)
{
    (void)unused;
    unsigned year, month;
    int end = 0;
    assert_int_equal(sscanf(cost_prices_date, "%4u-%2u%n", &year, &month, &end), 2);
    assert_int_equal(cost_prices_date[end], '\0');
    assert_in_range(month, 1, 12);
    assert_true(n_cost_instances > 0);
    for (size_t i = 0; i < n_cost_instances; i++) {
        const struct instance_price *row = &cost_instances[i];
        assert_ptr_equal(cost_instance_find(row->name), row); /* no name stands twice */
        assert_true(row->usd_hour > 0 && row->vcpus > 0 && row->memory_gib > 0);
        assert_true(row->cloud[0] != '\0' && row->region[0] != '\0');
        assert_non_null(row->accelerator);
        char *end_of_number;
        (void)strtod(row->name, &end_of_number);
        assert_true(*end_of_number != '\0'); /* or --price would take it for USD */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seconds_become_dollars),
        cmocka_unit_test(tokens_become_dollars),
        cmocka_unit_test(dollars_become_dollars_a_million),
        cmocka_unit_test(instances_are_found_however_they_are_written),
        cmocka_unit_test(the_table_of_prices_is_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
