/* SPDX-License-Identifier: Apache-2.0 */
/* plan_slow_start_test.c - how soon a server is found to take many requests, against one that is simulated
 * request by request: short jobs are where the way up counts. */
#include "expect.h"

#include "plan/upstream.h"

#define UNDER_WAY_MAX 1024U
#define REFUSAL_S 0.01 /* a server that has no room says so soon */

/* A server of `slots`: the first to come is the first to be served. */
struct server {
    uint32_t slots;
    double request_s;
    double noise;           /* of a request's time, relative */
    uint32_t refuses_above; /* 0: never */
};

struct request {
    double begin_s, end_s;
    bool is_refused;
};

struct course {
    const struct server *server;
    struct inflight *climb; /* NULL: `fixed` requests at a time, as a pool of threads */
    uint32_t fixed, n_under_way, n_most; /* n_most: under way at a time */
    double free_s[UNDER_WAY_MAX];        /* of each slot */
    struct request requests[UNDER_WAY_MAX];
    uint64_t n_left, n_refused, random;
};

/* When the server has answered what begins now. */
static double serve(struct course *course, double now_s)
{
    const struct server *server = course->server;
    size_t best = 0;
    for (size_t i = 1; i < server->slots; i++)
        if (course->free_s[i] < course->free_s[best]) best = i;
    double jitter = (double)random_below(&course->random, 2001) / 1000 - 1;
    course->free_s[best] =
        MAX(course->free_s[best], now_s) + server->request_s * (1 + server->noise * jitter);
    return course->free_s[best];
}

static void ask(struct course *course, double now_s)
{
    uint32_t limit = course->climb != NULL ? course->climb->limit : course->fixed;
    uint32_t room = course->server->refuses_above;
    assert_true(limit <= UNDER_WAY_MAX);
    while (course->n_left > 0 && course->n_under_way < limit) {
        bool is_refused = room > 0 && course->n_under_way >= room;
        course->requests[course->n_under_way++] = (struct request){
            .begin_s = now_s,
            .end_s = is_refused ? now_s + REFUSAL_S : serve(course, now_s),
            .is_refused = is_refused,
        };
        course->n_left--;
    }
    course->n_most = MAX(course->n_most, course->n_under_way);
}

static struct request take_next(struct course *course)
{
    size_t next = 0;
    for (size_t i = 1; i < course->n_under_way; i++)
        if (course->requests[i].end_s < course->requests[next].end_s) next = i;
    struct request request = course->requests[next];
    course->requests[next] = course->requests[--course->n_under_way];
    return request;
}

/* Asks for `n` records; what was refused is asked again. Returns the seconds that all take. */
static double run(struct course *course, uint64_t n)
{
    double now_s = 0;
    course->n_left = n;
    course->random = 11;
    for (;;) {
        ask(course, now_s);
        if (course->n_under_way == 0) return now_s;
        uint32_t n_before = course->n_under_way;
        struct request request = take_next(course);
        double request_s = request.end_s - request.begin_s;
        now_s = request.end_s;
        course->n_left += request.is_refused;
        course->n_refused += request.is_refused;
        if (course->climb == NULL) continue;
        if (request.is_refused)
            inflight_congested(course->climb, now_s, request_s);
        else
            inflight_answer(course->climb, now_s, request_s, 1, n_before);
    }
}

/* The rate, as a share of that of a pool that begins with as many as the server takes. */
static double share_of_a_pool(const struct server *server, uint32_t limit_max, uint64_t n,
                              struct course *course)
{
    static struct course pool;
    static struct inflight climb;
    inflight_start(&climb, limit_max);
    pool = (struct course){.server = server, .fixed = limit_max};
    *course = (struct course){.server = server, .climb = &climb};
    if (server->refuses_above > 0) pool.fixed = MIN(limit_max, server->refuses_above);
    return run(&pool, n) / run(course, n);
}

static const struct {
    const char *name;
    struct server server;
    uint32_t limit_max;
    uint64_t n;
    double least;
} jobs[] = {
    /* the pool needs four round trips; doubling needs five to begin with as many */
    {"500 slots, 2,000 records", {500, 0.1, 0.05, 0}, 500, 2000, 0.45},
    {"500 slots, 8,000 records", {500, 0.1, 0.05, 0}, 500, 8000, 0.77},
    {"500 slots, 16,000 records", {500, 0.1, 0.05, 0}, 500, 16000, 0.87},
    {"512 slots of half a second", {512, 0.5, 0.02, 0}, 512, 8000, 0.77},
    {"128 slots, answers of any length", {128, 0.1, 0.9, 0}, 128, 2000, 0.82},
    {"64 slots of 64", {64, 0.1, 0.02, 0}, 64, 4000, 0.97},
    {"100 slots", {100, 0.1, 0.3, 0}, 128, 8000, 0.97},
    {"64 slots, answers of any length", {64, 1, 0.9, 0}, 128, 2000, 0.92},
    {"20 slots", {20, 0.1, 0.3, 0}, 128, 2000, 0.94},
    {"8 slots", {8, 0.1, 0.3, 0}, 128, 2000, 0.98},
    {"3 slots", {3, 0.1, 0.3, 0}, 128, 2000, 0.98},
};

static void a_short_job_soon_has_what_the_server_takes(void **state)
{
    (void)state;
    static struct course course;
    for (size_t i = 0; i < COUNT_OF(jobs); i++) {
        double share = share_of_a_pool(&jobs[i].server, jobs[i].limit_max, jobs[i].n, &course);
        printf("%-34s %.2f of a pool's rate\n", jobs[i].name, share);
        if (share < jobs[i].least) fail_msg("%s: %.3f of a pool's rate", jobs[i].name, share);
    }
}

/* Beyond what the server takes at a time, requests wait: twice as many once is what it costs to know. */
static void a_small_server_is_not_flooded(void **state)
{
    (void)state;
    static struct course course;
    static const uint32_t slots[] = {1, 8, 16, 40, 100};
    for (size_t i = 0; i < COUNT_OF(slots); i++) {
        struct server server = {.slots = slots[i], .request_s = 0.1, .noise = 0.3};
        share_of_a_pool(&server, 500, 4000, &course);
        assert_true(course.n_most <= MAX(4 * slots[i], 32U));
    }
}

/* The first refusal ends the slow start. */
static void a_server_that_refuses_is_not_flooded(void **state)
{
    (void)state;
    static struct course course;
    static const struct {
        uint32_t room;
        uint64_t n, n_refused_max;
    } rows[] = {{8, 2000, 36}, {20, 2000, 65}, {40, 8000, 250}, {100, 8000, 260}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct server server = {
            .slots = 500, .request_s = 0.1, .noise = 0.3, .refuses_above = rows[i].room};
        share_of_a_pool(&server, 500, rows[i].n, &course);
        printf("room for %u: %llu of %llu refused, at most %u at a time\n", rows[i].room,
               (unsigned long long)course.n_refused, (unsigned long long)rows[i].n, course.n_most);
        assert_true(course.n_refused <= rows[i].n_refused_max);
        assert_true(course.n_most <= MAX(2 * rows[i].room, 32U));
    }
}

/* What was under way before the limit rose says nothing about the limit; nor do rounds that are not full. */
static void a_round_is_judged_by_its_own_requests(void **state)
{
    (void)state;
    struct inflight climb;
    inflight_start(&climb, 128);
    for (int i = 0; i < 14; i++) inflight_answer(&climb, 1, 1, 1, 16);
    assert_int_equal(climb.limit, 32);
    for (int i = 0; i < 40; i++) inflight_answer(&climb, 1.5, 1, 1, 32);
    assert_int_equal(climb.limit, 32);
    for (int i = 0; i < 100; i++) inflight_answer(&climb, 2, 1, 1, 4);
    assert_int_equal(climb.limit, 32);
    for (int i = 0; i < 32; i++) inflight_answer(&climb, 9, 1, 1, 32);
    assert_int_equal(climb.limit, 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_short_job_soon_has_what_the_server_takes),
        cmocka_unit_test(a_small_server_is_not_flooded),
        cmocka_unit_test(a_server_that_refuses_is_not_flooded),
        cmocka_unit_test(a_round_is_judged_by_its_own_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
