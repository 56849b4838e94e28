/* SPDX-License-Identifier: Apache-2.0 */
/* plan_window_test.c - windows close when they should, once, however the clock is set meanwhile. */
#include "expect.h"

#include "plan/plan.h"
#include "zone_vectors.h"

#define MINUTE_MS ((int64_t)60000)
#define HOUR_MS (60 * MINUTE_MS)
#define YEAR_MS (8766 * HOUR_MS)
#define NEVER INT64_MAX

static void windows_close_at_what_comes_first(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        int64_t every_ms;
        const char *at;
        int64_t opened_ms, expected_ms;
    } rows[] = {
        {"never", 0, NULL, 1767225600000, NEVER},
        {"every 5 minutes, on the clock", 5 * MINUTE_MS, NULL, 1767225601000, 1767225900000},
        {"opened as one closes: the next", 5 * MINUTE_MS, NULL, 1767225900000, 1767226200000},
        {"before 1970", 5 * MINUTE_MS, NULL, -1, 0},
        {"at", 0, "0 6 * * *", 1767225600000, 1767247200000},
        {"at first", 24 * HOUR_MS, "0 6 * * *", 1767225600000, 1767247200000},
        {"every first", HOUR_MS, "0 6 * * *", 1767225600000, 1767229200000},
        {"every, at the end of time", HOUR_MS, NULL, INT64_MAX - 5, NEVER},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct window_rule rule = {.every_ms = rows[i].every_ms, .has_at = rows[i].at != NULL};
        if (rule.has_at) expect_fine(cron_parse(rows[i].at, &rule.at), rows[i].name);
        int64_t found = window_close_at(&rule, NULL, rows[i].opened_ms);
        if (found != rows[i].expected_ms)
            fail_msg("%s: %lld, not %lld", rows[i].name, (long long)found,
                     (long long)rows[i].expected_ms);
    }
}

static void full_windows(void **unused)
{
    (void)unused;
    struct window_rule none = {0}, some = {.max_records = 10, .max_bytes = 1000};
    assert_false(window_is_full(&none, UINT64_MAX, UINT64_MAX));
    assert_false(window_is_full(&some, 9, 999));
    assert_true(window_is_full(&some, 10, 0));
    assert_true(window_is_full(&some, 0, 1000));
}

/* --- the clock is set ---------------------------------------------------------------------------------- */

struct world {
    int64_t real_ms, ahead_ms; /* the clock shows real + ahead */
    int64_t set_at_ms;         /* when the clock was last set; real */
    bool is_open;
    int64_t opened_ms; /* by the clock */
    int64_t opened_real_ms;
    uint64_t n_closed, n_opened;
};

static int64_t clock_of(const struct world *world)
{
    return world->real_ms + world->ahead_ms;
}

static void set_clock(struct world *world, uint64_t *random)
{
    static const int64_t steps[] = {1000,         5 * MINUTE_MS, HOUR_MS,
                                    10 * YEAR_MS, -1000,         -5 * MINUTE_MS,
                                    -HOUR_MS,     -10 * YEAR_MS, 2 * 60000};
    world->ahead_ms += steps[random_below(random, COUNT_OF(steps))];
    if (world->ahead_ms < -20 * YEAR_MS || world->ahead_ms > 20 * YEAR_MS) world->ahead_ms = 0;
    world->set_at_ms = world->real_ms;
}

/* What the scheduler does, in the store's one step from open to closed. */
static void look(struct world *world, const struct window_rule *rule, const struct zone *zone)
{
    if (!world->is_open || !window_is_due(rule, zone, world->opened_ms, clock_of(world))) return;
    world->is_open = false;
    world->n_closed++;
}

static void accept(struct world *world)
{
    if (world->is_open) return;
    world->is_open = true;
    world->opened_ms = clock_of(world);
    world->opened_real_ms = world->real_ms;
    world->n_opened++;
}

/* Steps of an hour and of ten years, both ways, as often as it likes: each window closes once, none
 * waits longer than its rule says and a clock that was set back a little adds. */
static void no_window_is_lost_or_closed_twice_when_the_clock_is_set(void **unused)
{
    (void)unused;
    uint64_t random = random_seed(__func__);
    struct window_rule rules[] = {{.every_ms = 5 * MINUTE_MS}, {.has_at = true}, {.has_at = true}};
    int64_t longest_ms[] = {5 * MINUTE_MS, 2 * HOUR_MS, 26 * HOUR_MS};
    struct zone *zone;
    expect_fine(zone_new(zone_vectors[0].file, zone_vectors[0].size, &zone), "zone");
    expect_fine(cron_parse("*/20 * * * *", &rules[1].at), "cron");
    expect_fine(cron_parse("30 2 * * *", &rules[2].at), "cron");
    for (size_t r = 0; r < COUNT_OF(rules); r++) {
        struct world world = {.real_ms = 1774700000000};
        int64_t end_ms = world.real_ms + 400 * 24 * HOUR_MS / (r == 2 ? 1 : 20);
        uint64_t n_set = 0;
        while (world.real_ms < end_ms) {
            if (random_below(&random, 700) == 0) {
                set_clock(&world, &random);
                n_set += world.is_open; /* each may put it off once more */
            }
            look(&world, &rules[r], zone);
            if (!world.is_open) n_set = 0;
            if (world.is_open && n_set == 0)
                assert_true(world.real_ms - world.opened_real_ms <= longest_ms[r] + MINUTE_MS);
            if (world.is_open)
                assert_true(world.real_ms - world.opened_real_ms <=
                            longest_ms[r] + MINUTE_MS +
                                (int64_t)n_set * (longest_ms[r] + WINDOW_AHEAD_MS_MAX));
            if (random_below(&random, 3) == 0) accept(&world);
            world.real_ms += 30000;
        }
        assert_true(world.n_closed > 20);
        assert_true(world.n_opened - world.n_closed == (world.is_open ? 1U : 0U));
    }
    zone_free(zone);
}

static void a_window_from_the_future_is_due_at_once(void **unused)
{
    (void)unused;
    struct window_rule rule = {.every_ms = HOUR_MS};
    int64_t now = 1767225600000 + MINUTE_MS;
    assert_true(window_is_due(&rule, NULL, now + 10 * YEAR_MS, now));
    assert_true(window_is_due(&rule, NULL, INT64_MAX, INT64_MIN));
    assert_false(
        window_is_due(&rule, NULL, now + 5 * MINUTE_MS, now)); /* another machine's clock */
    assert_false(window_is_due(&rule, NULL, now, now));
    assert_false(window_is_due(&rule, NULL, now, now + 59 * MINUTE_MS - 1));
    assert_true(window_is_due(&rule, NULL, now, now + 59 * MINUTE_MS));
    assert_true(window_is_due(&rule, NULL, now, now + 10 * YEAR_MS));
    assert_false(window_is_due(&(struct window_rule){.max_records = 5}, NULL, now, now + YEAR_MS));
}

/* A queue that closes each night closes once a night in nights of 23 and 25 hours, too. */
static void one_window_a_night_through_the_year(void **unused)
{
    (void)unused;
    static const char *const lines[] = {"0 2 * * *", "30 2 * * *", "0 3 * * *", "15 1 * * *"};
    for (size_t z = 0; z < COUNT_OF(zone_vectors); z++) {
        struct zone *zone;
        expect_fine(zone_new(zone_vectors[z].file, zone_vectors[z].size, &zone), "zone");
        for (size_t i = 0; i < COUNT_OF(lines); i++) {
            struct window_rule rule = {.has_at = true};
            expect_fine(cron_parse(lines[i], &rule.at), lines[i]);
            struct local_time first = {.year = 2026, .month = 1, .day = 1};
            struct local_time last = {.year = 2027, .month = 1, .day = 1};
            int64_t at = zone_moment(zone, &first), end = zone_moment(zone, &last);
            int n = 0, day_before = 0;
            while ((at = window_close_at(&rule, zone, at)) < end) {
                struct local_time local = zone_local(zone, at);
                if (local.month * 32 + local.day == day_before)
                    fail_msg("%s in %s: twice on %d-%d", lines[i], zone_vectors[z].name,
                             local.month, local.day);
                day_before = local.month * 32 + local.day;
                n++;
            }
            if (n != 365) fail_msg("%s in %s: %d nights", lines[i], zone_vectors[z].name, n);
        }
        zone_free(zone);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_close_at_what_comes_first),
        cmocka_unit_test(full_windows),
        cmocka_unit_test(no_window_is_lost_or_closed_twice_when_the_clock_is_set),
        cmocka_unit_test(a_window_from_the_future_is_due_at_once),
        cmocka_unit_test(one_window_a_night_through_the_year),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
