/* SPDX-License-Identifier: Apache-2.0 */
/* plan_tariff_test.c - hours as text, and plans: of all choices of minutes the cheapest, of those the
 * earliest, in as few pieces as that allows. */
#include "expect.h"

#include "plan/plan.h"
#include "zone_vectors.h"

#include <math.h>

#define MINUTE_MS ((int64_t)60000)
#define HOUR_MS (60 * MINUTE_MS)
#define DAY_MS (24 * HOUR_MS)
#define MIDNIGHT 1767225600000 /* 1 January 2026, UTC */

static struct zone *zone_of(size_t i)
{
    struct zone *zone;
    expect_fine(zone_new(zone_vectors[i].file, zone_vectors[i].size, &zone), zone_vectors[i].name);
    return zone;
}

/* --- hours as text ------------------------------------------------------------------------------------ */

static void hours_name_minutes(void **unused)
{
    (void)unused;
    static const struct {
        const char *hours;
        int n, first, last; /* how many; one that is in it, one that is not (-1: none) */
    } rows[] = {
        {"22:00-06:00", 480, 1320, 360},
        {"00:00-24:00", 1440, 1439, -1},
        {"00:00-06:00,12:00-13:00", 420, 720, 360},
        {"7:05-7:06", 1, 425, 426},
        {" 01:00 - 02:00 , 01:30-03:00 ", 120, 179, 180},
        {"23:59-00:00", 1, 1439, 0},
        {"12:00-24:00", 720, 1439, 719},
        {"23:00-00:01", 61, 0, 1},
        {"00:00-23:59", 1439, 0, 1439},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct tariff tariff;
        int n = 0;
        tariff_init(&tariff);
        expect_fine(tariff_allow(&tariff, "03:00-04:00"),
                    "what was allowed before is not any more");
        expect_fine(tariff_allow(&tariff, rows[i].hours), rows[i].hours);
        for (size_t m = 0; m < DAY_MINUTES; m++) n += tariff.is_allowed[m];
        if (n != rows[i].n || !tariff.is_allowed[rows[i].first] ||
            (rows[i].last >= 0 && tariff.is_allowed[rows[i].last]))
            fail_msg("'%s' names %d minutes", rows[i].hours, n);
    }
}

static void wrong_hours_are_refused(void **unused)
{
    (void)unused;
    static const struct {
        const char *hours, *part;
    } rows[] = {
        {"", "'' is not hours such as 22:00-06:00"},
        {"night", "is not hours"},
        {"22:00", "is not hours"},
        {"22-06", "is not hours"},
        {"22:00-6", "is not hours"},
        {"22:00-06:00,", "is not hours"},
        {"22:00-06:00;12:00-13:00", "is not hours"},
        {"22:60-23:00", "is not hours"},
        {"24:01-25:00", "is not hours"},
        {"-1:00-02:00", "is not hours"},
        {"022:00-06:00", "is not hours"},
        {"22:0-06:00", "is not hours"},
        {"06:00-06:00", "names no time; a whole day is 00:00-24:00"},
        {"24:00-06:00", "names no time"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct tariff tariff, before;
        tariff_init(&tariff);
        before = tariff;
        expect_error(tariff_allow(&tariff, rows[i].hours), ERROR_USAGE, rows[i].part,
                     rows[i].hours);
        expect_error(tariff_price(&tariff, rows[i].hours, 0.5), ERROR_USAGE, rows[i].part,
                     rows[i].hours);
        assert_memory_equal(&tariff, &before, sizeof before);
    }
    static const double factors[] = {-0.1, NAN, INFINITY, 1001};
    for (size_t i = 0; i < COUNT_OF(factors); i++) {
        struct tariff tariff;
        tariff_init(&tariff);
        expect_error(tariff_price(&tariff, "22:00-06:00", factors[i]), ERROR_USAGE,
                     "a number from 0 to 1000", "factor");
    }
}

/* --- now or later --------------------------------------------------------------------------------------- */

static void hours_open_and_close(void **unused)
{
    (void)unused;
    struct tariff night, always;
    struct zone *berlin = zone_of(0);
    int64_t changes;
    tariff_init(&always);
    tariff_init(&night);
    expect_fine(tariff_allow(&night, "22:00-06:00"), "hours");
    assert_true(tariff_allows(NULL, NULL, MIDNIGHT, &changes) && changes == INT64_MAX);
    assert_true(tariff_allows(&always, berlin, MIDNIGHT, &changes) && changes == INT64_MAX);
    assert_true(tariff_allows(&night, NULL, MIDNIGHT, &changes));
    assert_true(changes == MIDNIGHT + 6 * HOUR_MS);
    assert_false(tariff_allows(&night, NULL, MIDNIGHT + 6 * HOUR_MS, &changes));
    assert_true(changes == MIDNIGHT + 22 * HOUR_MS);
    /* through midnight, and in local time: 22:00 to 6:00 in Berlin is 21 to 5 in winter */
    assert_true(tariff_allows(&night, berlin, MIDNIGHT + 21 * HOUR_MS, &changes));
    assert_true(changes == MIDNIGHT + 29 * HOUR_MS);
    /* the nights of 28 March and of 24 October 2026 have 7 and 9 of these hours */
    assert_true(tariff_allows(&night, berlin, 1774731600000, &changes));
    assert_true(changes == 1774731600000 + 7 * HOUR_MS);
    assert_true(tariff_allows(&night, berlin, 1792872000000, &changes));
    assert_true(changes == 1792872000000 + 9 * HOUR_MS);
    zone_free(berlin);
}

/* --- plans by hand ---------------------------------------------------------------------------------------- */

static void expect_plan(const struct tariff *tariff, const struct zone *zone, int64_t now,
                        int64_t work, int64_t deadline, const char *expected, const char *row)
{
    struct run_plan plan;
    char text[512] = "";
    expect_fine(tariff_plan(tariff, zone, now, work, deadline, &plan), row);
    for (size_t i = 0; i < plan.n; i++) {
        size_t length = strlen(text);
        snprintf(text + length, sizeof text - length, "%g-%g*%g ",
                 (double)(plan.slots[i].begin_ms - now) / HOUR_MS,
                 (double)(plan.slots[i].end_ms - now) / HOUR_MS, plan.slots[i].factor);
    }
    size_t length = strlen(text);
    snprintf(text + length, sizeof text - length, "%s %g", plan.meets_deadline ? "meets" : "misses",
             plan.finish_ms == INT64_MAX ? -1 : (double)(plan.finish_ms - now) / HOUR_MS);
    expect_text(text, expected, row);
    run_plan_free(&plan);
}

static void plans_by_hand(void **unused)
{
    (void)unused;
    struct tariff flat, cheap_night, short_night;
    tariff_init(&flat);
    tariff_init(&cheap_night);
    expect_fine(tariff_price(&cheap_night, "22:00-06:00", 0.5), "price");
    tariff_init(&short_night);
    expect_fine(tariff_allow(&short_night, "22:00-23:00"), "hours");
    const int64_t noon = MIDNIGHT + 12 * HOUR_MS;
    const struct {
        const char *name;
        const struct tariff *tariff;
        int64_t work, deadline;
        const char *expected;
    } rows[] = {
        {"any time is alike: now", &flat, 2 * HOUR_MS, 0, "0-2*1 meets 2"},
        {"no tariff", NULL, 2 * HOUR_MS, 0, "0-2*1 meets 2"},
        {"nothing to do", &flat, 0, 0, "meets 0"},
        {"less than nothing", &flat, -5, 0, "meets 0"},
        {"the night is cheaper", &cheap_night, 2 * HOUR_MS, 0, "10-12*0.5 meets 12"},
        {"until the night is too late", &cheap_night, 2 * HOUR_MS, noon + 5 * HOUR_MS,
         "0-2*1 meets 2"},
        {"what the night has no room for, at once", &cheap_night, 4 * HOUR_MS, noon + 12 * HOUR_MS,
         "0-2*1 10-12*0.5 meets 12"},
        {"two nights", &cheap_night, 10 * HOUR_MS, 0, "10-18*0.5 34-36*0.5 meets 36"},
        {"a night and the hour before it", &cheap_night, 9 * HOUR_MS, noon + 18 * HOUR_MS,
         "0-1*1 10-18*0.5 meets 18"},
        {"touching prices are two slots", &cheap_night, 18 * HOUR_MS, noon + 18 * HOUR_MS,
         "0-10*1 10-18*0.5 meets 18"},
        {"an hour a day", &short_night, 2 * HOUR_MS, 0, "10-11*1 34-35*1 meets 35"},
        {"no hour before the deadline: after it", &short_night, HOUR_MS, noon + HOUR_MS,
         "10-11*1 misses 11"},
        {"too few before it: all, and more", &short_night, 2 * HOUR_MS, noon + 24 * HOUR_MS,
         "10-11*1 34-35*1 misses 35"},
        {"a deadline that is over", &flat, HOUR_MS, noon - HOUR_MS, "0-1*1 misses 1"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        expect_plan(rows[i].tariff, NULL, noon, rows[i].work, rows[i].deadline, rows[i].expected,
                    rows[i].name);
}

static void what_does_not_fit_is_said(void **unused)
{
    (void)unused;
    struct tariff tariff;
    struct run_plan plan;
    tariff_init(&tariff);
    expect_fine(tariff_allow(&tariff, "22:00-23:00"), "hours");
    expect_fine(tariff_plan(&tariff, NULL, MIDNIGHT, 100 * HOUR_MS, MIDNIGHT + DAY_MS, &plan), "");
    assert_true(plan.finish_ms == INT64_MAX && !plan.meets_deadline);
    assert_int_equal(plan.n, 8); /* one before it, and a week of them */
    run_plan_free(&plan);
    expect_fine(tariff_plan(&tariff, NULL, MIDNIGHT, INT64_MAX, INT64_MAX, &plan), "all time");
    assert_true(plan.finish_ms == INT64_MAX && !plan.meets_deadline);
    run_plan_free(&plan);
}

/* The cheap hour is there twice in the night in which the clock is set back. */
static void a_night_of_25_hours_has_more_of_them(void **unused)
{
    (void)unused;
    struct tariff tariff;
    struct zone *berlin = zone_of(0);
    tariff_init(&tariff);
    expect_fine(tariff_price(&tariff, "02:00-03:00", 0.1), "price");
    int64_t midnight = 1792879200000; /* 25 October 2026 */
    expect_plan(&tariff, berlin, midnight, 2 * HOUR_MS, midnight + 5 * HOUR_MS, "2-4*0.1 meets 4",
                "set back");
    midnight = 1774738800000; /* 29 March: there is no such hour */
    expect_plan(&tariff, berlin, midnight, HOUR_MS, midnight + 5 * HOUR_MS, "0-1*1 meets 1",
                "set forward");
    zone_free(berlin);
}

/* --- against all choices ------------------------------------------------------------------------------------ */

#define CELLS 14 /* minutes before the deadline: 2^14 choices */

struct day {
    bool is_allowed[CELLS];
    int price[CELLS]; /* in tenths */
};

/* Fewer pieces of which the first are earlier: as a number, the first minute is the highest bit. */
static uint32_t best_choice(const struct day *day, size_t n_cells, int n)
{
    uint32_t best = 0, best_cost = UINT32_MAX;
    for (uint32_t choice = 0; choice < 1U << n_cells; choice++) {
        uint32_t cost = 0;
        bool is_possible = __builtin_popcount(choice) == n;
        for (size_t i = 0; i < n_cells && is_possible; i++) {
            if ((choice >> (n_cells - 1 - i) & 1) == 0) continue;
            is_possible = day->is_allowed[i];
            cost += (uint32_t)day->price[i];
        }
        if (!is_possible || cost > best_cost) continue;
        if (cost < best_cost || choice > best) best = choice;
        best_cost = cost;
    }
    return best;
}

static uint32_t choice_of(const struct run_plan *plan, int64_t now, size_t n_cells)
{
    uint32_t choice = 0;
    for (size_t i = 0; i < plan->n; i++) {
        assert_true(plan->slots[i].begin_ms < plan->slots[i].end_ms);
        if (i > 0) {
            bool touches = plan->slots[i].begin_ms == plan->slots[i - 1].end_ms;
            assert_true(plan->slots[i].begin_ms >= plan->slots[i - 1].end_ms);
            assert_false(touches && plan->slots[i].factor == plan->slots[i - 1].factor);
        }
        for (int64_t at = plan->slots[i].begin_ms; at < plan->slots[i].end_ms; at += MINUTE_MS)
            choice |= 1U << (n_cells - 1 - (size_t)((at - now) / MINUTE_MS));
    }
    return choice;
}

static void no_choice_is_cheaper_or_as_cheap_and_earlier(void **unused)
{
    (void)unused;
    uint64_t random = random_seed(__func__);
    for (int round = 0; round < 1500; round++) {
        struct day day;
        struct tariff tariff = {0};
        int64_t begin = (int64_t)random_below(&random, DAY_MINUTES);
        size_t n_cells = 1 + random_below(&random, CELLS);
        int n_allowed = 0;
        for (size_t i = 0; i < n_cells; i++) {
            size_t minute = ((size_t)begin + i) % DAY_MINUTES;
            day.is_allowed[i] = random_below(&random, 4) != 0;
            day.price[i] = (int)random_below(&random, 3) * 5;
            tariff.is_allowed[minute] = day.is_allowed[i];
            tariff.factor[minute] = (float)day.price[i] / 10;
            n_allowed += day.is_allowed[i];
        }
        int n = (int)random_below(&random, (uint64_t)n_allowed + 1);
        int64_t now = MIDNIGHT + begin * MINUTE_MS;
        int64_t deadline = now + (int64_t)n_cells * MINUTE_MS;
        struct run_plan plan;
        expect_fine(tariff_plan(&tariff, NULL, now, n * MINUTE_MS, deadline, &plan), "plan");
        assert_true(plan.meets_deadline);
        uint32_t found = choice_of(&plan, now, n_cells);
        uint32_t expected = best_choice(&day, n_cells, n);
        if (found != expected)
            fail_msg("round %d: %d of %zu minutes: %x, not %x", round, n, n_cells, found, expected);
        run_plan_free(&plan);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hours_name_minutes),
        cmocka_unit_test(wrong_hours_are_refused),
        cmocka_unit_test(hours_open_and_close),
        cmocka_unit_test(plans_by_hand),
        cmocka_unit_test(what_does_not_fit_is_said),
        cmocka_unit_test(a_night_of_25_hours_has_more_of_them),
        cmocka_unit_test(no_choice_is_cheaper_or_as_cheap_and_earlier),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
