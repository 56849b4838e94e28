/* SPDX-License-Identifier: Apache-2.0 */
/* plan_upstream_test.c - how hard a server is driven, against servers that are simulated. */
#include "expect.h"

#include "plan/upstream.h"

#include <math.h>

/* A server of `slots`: a request takes `request_s`, and waits for its turn beyond that many. */
struct server {
    uint32_t slots;
    double request_s;
    double noise;           /* of an interval's length, relative */
    uint32_t refuses_above; /* 0: never; answers "too much" to more than so many under way */
};

/* Drives it for `seconds` of its own time with as many requests as the climb allows. Returns the mean
 * limit over the second half. */
static double drive(struct inflight *climb, const struct server *server, double *now_s,
                    double seconds, uint64_t *random)
{
    double end_s = *now_s + seconds, half_s = *now_s + seconds / 2, sum = 0;
    uint64_t n = 0;
    while (*now_s < end_s) {
        uint32_t under_way = climb->limit;
        bool is_refused = server->refuses_above > 0 && under_way > server->refuses_above;
        double busy = MIN(under_way, server->slots);
        double jitter = 1 + server->noise * ((double)random_below(random, 2001) / 1000 - 1);
        *now_s += server->request_s / busy * jitter; /* until the next answer */
        if (is_refused)
            inflight_congested(climb, *now_s, server->request_s);
        else
            inflight_answer(climb, *now_s, server->request_s * under_way / busy, 1, under_way);
        if (*now_s < half_s) continue;
        sum += climb->limit;
        n++;
    }
    return sum / (double)MAX(n, (uint64_t)1);
}

static void ends_near_the_knee_of_a_server(void **state)
{
    (void)state;
    static const uint32_t knees[] = {1, 3, 8, 20, 64, 100};
    uint64_t random = 11;
    for (size_t i = 0; i < COUNT_OF(knees); i++) {
        struct inflight climb;
        struct server server = {.slots = knees[i], .request_s = 0.1, .noise = 0.3};
        double now_s = 0;
        inflight_start(&climb, 128);
        double limit = drive(&climb, &server, &now_s, 300, &random);
        /* throughput is what counts: no less than the knee; beyond it requests only wait */
        assert_true(limit >= MIN(knees[i], 16) * 0.9);
        assert_true(limit >= knees[i] * 0.75);
        assert_true(limit <= MAX(knees[i] * 1.6, 28));
    }
}

static void fills_a_server_without_a_knee(void **state)
{
    (void)state;
    struct inflight climb;
    struct server server = {.slots = 1000, .request_s = 0.2};
    double now_s = 0;
    uint64_t random = 3;
    inflight_start(&climb, 128);
    assert_true(drive(&climb, &server, &now_s, 60, &random) >= 120);
    assert_true(climb.limit <= 128);
}

static void shrinks_when_it_is_too_much_and_recovers(void **state)
{
    (void)state;
    struct inflight climb;
    struct server server = {.slots = 200, .request_s = 0.1, .refuses_above = 20};
    double now_s = 0;
    uint64_t random = 5;
    inflight_start(&climb, 128);
    double limit = drive(&climb, &server, &now_s, 120, &random);
    assert_true(limit >= 8 && limit <= 24);
    server.refuses_above = 0;
    limit = drive(&climb, &server, &now_s, 240, &random);
    assert_true(limit > 60);
}

static void a_burst_of_refusals_counts_once_and_never_ends_at_zero(void **state)
{
    (void)state;
    struct inflight climb;
    inflight_start(&climb, 64);
    uint32_t before = climb.limit;
    for (int i = 0; i < 16; i++) inflight_congested(&climb, 10 + i * 0.001, 1);
    assert_int_equal(climb.limit, before / 2);
    for (int i = 0; i < 50; i++) inflight_congested(&climb, 20 + i, 0.1);
    assert_int_equal(climb.limit, 1);
    inflight_start(&climb, 1);
    inflight_congested(&climb, 1, 0.1);
    assert_int_equal(climb.limit, 1);
}

/* With answers that take ten seconds each, a climb in small steps from 1 would take hours. */
static void a_burst_of_refusals_is_soon_forgotten(void **state)
{
    (void)state;
    struct inflight climb;
    struct server server = {.slots = 64, .request_s = 10};
    uint64_t random = 7;
    double now_s = 0;
    inflight_start(&climb, 64);
    drive(&climb, &server, &now_s, 3600, &random);
    uint32_t before = climb.limit;
    assert_true(before >= 48);
    for (int i = 0; i < 8; i++) inflight_congested(&climb, now_s += 20, 0.1);
    assert_int_equal(climb.limit, 1);
    drive(&climb, &server, &now_s, 100, &random);
    assert_true(climb.limit >= before / 2);
}

/* A limit that the server has for good is not run into again and again. */
static void cuts_between_answers_lower_what_is_regained(void **state)
{
    (void)state;
    struct inflight climb;
    struct server server = {.slots = 100, .request_s = 1, .refuses_above = 5};
    uint64_t random = 7, n_refused = 0;
    double now_s = 0;
    inflight_start(&climb, 64);
    for (int i = 0; i < 200; i++) {
        uint32_t before = climb.limit;
        drive(&climb, &server, &now_s, 5, &random);
        n_refused += climb.limit < before;
    }
    assert_true(climb.limit <= 6 && climb.limit >= 2);
    assert_true(n_refused < 40); /* of 200 looks */
}

static void too_little_work_says_nothing(void **state)
{
    (void)state;
    struct inflight climb;
    inflight_start(&climb, 128);
    for (int i = 0; i < 10000; i++) inflight_answer(&climb, i * 0.01, 0.02, 1, 2);
    assert_int_equal(climb.limit, 16);
}

static void pauses_grow_to_a_limit_and_are_spread(void **state)
{
    (void)state;
    uint64_t random = 9;
    for (uint32_t attempt = 0; attempt < 40; attempt++) {
        double top_s = MIN(0.5 * pow(2, attempt), 30.0), sum = 0, most = 0;
        for (int i = 0; i < 2000; i++) {
            double pause_s = backoff_s(0.5, 30, attempt, &random);
            assert_true(pause_s >= 0 && pause_s <= top_s);
            sum += pause_s;
            most = MAX(most, pause_s);
        }
        assert_true(fabs(sum / 2000 / top_s - 0.5) < 0.05);
        assert_true(most > 0.95 * top_s);
    }
}

static void a_rate_is_kept_over_any_minute(void **state)
{
    (void)state;
    static const double rates[] = {30, 60, 6000};
    for (size_t i = 0; i < COUNT_OF(rates); i++) {
        struct rate rate;
        rate_start(&rate, rates[i], 100);
        double now_s = 100;
        for (int n = 0; n < (int)rates[i] * 3; n++) {
            now_s += rate_wait_s(&rate, 1, now_s);
            assert_true(rate_wait_s(&rate, 1, now_s) < 1e-9);
            rate_take(&rate, 1, now_s);
        }
        double minutes = (now_s - 100) / 60;
        assert_true(minutes > 2.9 && minutes < 3.05);
    }
}

static void no_rate_is_no_limit_and_debt_is_paid(void **state)
{
    (void)state;
    struct rate rate;
    rate_start(&rate, 0, 0);
    rate_take(&rate, 1e9, 0);
    assert_true(rate_wait_s(&rate, 1e9, 0) == 0);
    rate_start(&rate, 600, 0); /* 10 a second */
    rate_take(&rate, 101, 0);  /* known only afterwards */
    assert_true(fabs(rate_wait_s(&rate, 0, 0) - 10) < 1e-9);
    assert_true(rate_wait_s(&rate, 0, 10.1) == 0);
}

static void retries_are_a_tenth_and_some(void **state)
{
    (void)state;
    struct retry_budget budget;
    retry_budget_start(&budget, 0);
    uint64_t retries = 0, firsts = 0;
    for (double now_s = 0; now_s < 100; now_s += 0.001) { /* a thousand first tries a second */
        retry_budget_note_first(&budget);
        firsts++;
        if (retry_budget_wait_s(&budget, now_s) > 0) continue;
        retry_budget_take(&budget, now_s);
        retries++;
    }
    assert_true(retries >= firsts / 10);
    assert_true(retries <= firsts / 10 + 1000 + 21);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_near_the_knee_of_a_server),
        cmocka_unit_test(fills_a_server_without_a_knee),
        cmocka_unit_test(shrinks_when_it_is_too_much_and_recovers),
        cmocka_unit_test(a_burst_of_refusals_counts_once_and_never_ends_at_zero),
        cmocka_unit_test(a_burst_of_refusals_is_soon_forgotten),
        cmocka_unit_test(cuts_between_answers_lower_what_is_regained),
        cmocka_unit_test(too_little_work_says_nothing),
        cmocka_unit_test(pauses_grow_to_a_limit_and_are_spread),
        cmocka_unit_test(a_rate_is_kept_over_any_minute),
        cmocka_unit_test(no_rate_is_no_limit_and_debt_is_paid),
        cmocka_unit_test(retries_are_a_tenth_and_some),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
