/* SPDX-License-Identifier: Apache-2.0 */
/* job_cost_test.c - what a bill adds up: seconds and tokens, and what did not have to be paid. */
#include "expect.h"

#include "job/job.h"

#include <math.h>

static void assert_near(double found, double expected, const char *name)
{
    if (!(fabs(found - expected) <= fabs(expected) * 1e-12))
        fail_msg("%s: %.17g, not %.17g", name, found, expected);
}

static void seconds_and_tokens_add_up(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        struct job_cost prices;
        double wall_s;
        struct job_counts counts;
        double usd, usd_per_million, saved_usd;
        bool has_price;
    } rows[] = {
        {.name = "no prices cost something",
         .wall_s = 3600,
         .counts = {.records = 10, .ok = 10, .tokens = {1000, 0, 1000}}},
        {.name = "a machine alone",
         .prices = {.price_usd_hour = 2},
         .wall_s = 1800,
         .counts = {.records = 10, .ok = 10, .tokens = {1000, 0, 1000}},
         .usd = 1,
         .usd_per_million = 100000,
         .has_price = true},
        {.name = "both prices of tokens",
         .prices = {.price_usd_in = 2.5, .price_usd_out = 10},
         .wall_s = 1800,
         .counts = {.records = 4, .ok = 4, .tokens = {2000000, 0, 500000}},
         .usd = 10,
         .usd_per_million = 2.5e6,
         .has_price = true},
        {.name = "cached tokens are left out, or paid twice",
         .prices = {.price_usd_in = 2, .price_usd_cached = 2},
         .counts = {.records = 1, .ok = 1, .tokens = {1000000, 400000, 0}},
         .usd = 2,
         .usd_per_million = 2e6,
         .has_price = true},
        {.name = "cached tokens have a price of their own",
         .prices = {.price_usd_in = 2, .price_usd_cached = 0.5},
         .counts = {.records = 1, .ok = 1, .tokens = {1000000, 400000, 0}},
         .usd = 1.4,
         .usd_per_million = 1.4e6,
         .has_price = true},
        {.name = "machine and tokens",
         .prices = {.price_usd_hour = 3.6, .price_usd_out = 1},
         .wall_s = 1000,
         .counts = {.records = 1000000, .ok = 1000000, .tokens = {0, 0, 2000000}},
         .usd = 3,
         .usd_per_million = 3,
         .has_price = true},
        {.name = "three in four are taken over",
         .prices = {.price_usd_in = 1},
         .counts =
             {.records = 400, .ok = 400, .reused = 200, .cached = 100, .tokens = {1000000, 0, 0}},
         .usd = 1,
         .usd_per_million = 2500,
         .saved_usd = 3,
         .has_price = true},
        {.name = "what a kill took was paid for, and says nothing of what was saved",
         .prices = {.price_usd_in = 1},
         .counts = {.records = 4,
                    .ok = 4,
                    .reused = 2,
                    .tokens = {3000000, 0, 0},
                    .lost = {1000000, 0, 0}},
         .usd = 3,
         .usd_per_million = 750000,
         .saved_usd = 2,
         .has_price = true},
        {.name = "a machine's hours are not saved tokens",
         .prices = {.price_usd_hour = 1},
         .wall_s = 3600,
         .counts = {.records = 2, .ok = 2, .reused = 1, .tokens = {10, 0, 10}},
         .usd = 1,
         .usd_per_million = 500000,
         .has_price = true},
        {.name = "all are taken over: nothing tells what they were worth",
         .prices = {.price_usd_in = 1},
         .counts = {.records = 5, .ok = 5, .cached = 5},
         .has_price = true},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct job_cost cost = rows[i].prices;
        job_cost_fill(&cost, rows[i].wall_s, &rows[i].counts);
        assert_near(cost.usd, rows[i].usd, rows[i].name);
        assert_near(cost.machine_usd + cost.tokens_usd, rows[i].usd, rows[i].name);
        assert_near(cost.usd_per_million, rows[i].usd_per_million, rows[i].name);
        assert_near(cost.saved_usd, rows[i].saved_usd, rows[i].name);
        if (job_cost_has_price(&cost) != rows[i].has_price) fail_msg("%s", rows[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seconds_and_tokens_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
