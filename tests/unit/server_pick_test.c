/* SPDX-License-Identifier: Apache-2.0 */
/* server_pick_test.c - which job runs next, row by row; and that no tenant and no job waits for ever. */
#include "expect.h"

#include "server/scheduler_pick.h"

#include <stdio.h>
#include <string.h>

#define JOBS_MAX 64
#define HOUR_MS ((int64_t)3600 * 1000)
#define NOW ((int64_t)1000 * HOUR_MS)

struct row {
    const char *name;
    struct {
        const char *id, *tenant;
        int priority;
        int64_t age_ms, deadline_in_ms, start_in_ms; /* deadline 0: none */
    } jobs[4];
    struct {
        const char *tenant;
        uint64_t given;
    } shares[2];
    const char *expected; /* NULL: none may start */
};

static const struct row rows[] = {
    {"nothing waits", {{0}}, {{0}}, NULL},
    {"one waits", {{"a", "t", 0, 0, 0, 0}}, {{0}}, "a"},
    {"its hours come later", {{"a", "t", 0, 0, 0, 1}}, {{0}}, NULL},
    {"its hours began just now", {{"a", "t", 0, 0, 0, 0}, {"b", "t", 9, 0, 0, 5}}, {{0}}, "a"},
    {"larger priorities first", {{"a", "t", 1, 9, 0, 0}, {"b", "t", 2, 0, 0, 0}}, {{0}}, "b"},
    {"negative ones last", {{"a", "t", -1, 9, 0, 0}, {"b", "t", 0, 0, 0, 0}}, {{0}}, "b"},
    {"who waited two hours gained two",
     {{"a", "t", 0, 2 * HOUR_MS, 0, 0}, {"b", "t", 1, 0, 0, 0}},
     {{0}},
     "a"},
    {"who had less comes first",
     {{"a", "rich", 0, 9, 1, 0}, {"b", "poor", 0, 0, 0, 0}},
     {{"rich", 10}, {"poor", 9}},
     "b"},
    {"who had nothing comes first",
     {{"a", "rich", 0, 9, 0, 0}, {"b", "new", 0, 0, 0, 0}},
     {{"rich", 1}},
     "b"},
    {"then the earlier deadline",
     {{"a", "t", 0, 9, 0, 0}, {"b", "t", 0, 5, 200, 0}, {"c", "t", 0, 0, 100, 0}},
     {{0}},
     "c"},
    {"then the older job", {{"a", "t", 0, 1, 0, 0}, {"b", "t", 0, 2, 0, 0}}, {{0}}, "b"},
    {"then the name, so that it is always the same",
     {{"b", "t", 0, 1, 0, 0}, {"a", "t", 0, 1, 0, 0}},
     {{0}},
     "a"},
};

static struct store_job make_job(const char *id, const char *tenant, int priority, int64_t age_ms)
{
    struct store_job job = {.priority = priority, .created_at = NOW - age_ms};
    snprintf(job.id, sizeof job.id, "%s", id);
    snprintf(job.tenant, sizeof job.tenant, "%s", tenant);
    return job;
}

static void expect_row(const struct row *row)
{
    struct store_job jobs[4];
    struct pick_job turns[4];
    struct shares shares = {0};
    size_t n = 0;
    for (; n < 4 && row->jobs[n].id != NULL; n++) {
        jobs[n] = make_job(row->jobs[n].id, row->jobs[n].tenant, row->jobs[n].priority,
                           row->jobs[n].age_ms);
        if (row->jobs[n].deadline_in_ms > 0)
            jobs[n].deadline_at = NOW + row->jobs[n].deadline_in_ms;
        turns[n] = (struct pick_job){&jobs[n], NOW + row->jobs[n].start_in_ms};
    }
    for (size_t i = 0; i < 2 && row->shares[i].tenant != NULL; i++)
        expect_fine(shares_give(&shares, row->shares[i].tenant, row->shares[i].given), row->name);
    shares.floor = 0; /* as the row has them */
    size_t picked = pick_next(turns, n, &shares, NOW);
    const char *id = picked == PICK_NONE ? NULL : jobs[picked].id;
    if ((id == NULL) != (row->expected == NULL) || (id != NULL && strcmp(id, row->expected) != 0))
        fail_msg("%s: picked %s", row->name, id == NULL ? "none" : id);
    shares_free(&shares);
}

static void the_next_job_is_the_right_one(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(rows); i++) expect_row(&rows[i]);
}

static void it_wakes_when_the_next_may_start(void **unused)
{
    (void)unused;
    struct store_job job = make_job("a", "t", 0, 0);
    const struct pick_job turns[] = {{&job, NOW + 50}, {&job, NOW}, {&job, NOW + 20}};
    assert_int_equal(pick_wake_at(turns, 3, NOW), NOW + 20);
    assert_true(pick_wake_at(turns + 1, 1, NOW) == INT64_MAX);
}

/* --- one at a time, over a while ---------------------------------------------------------------- */

struct machine {
    struct store_job jobs[JOBS_MAX];
    size_t n;
    struct shares shares;
    int64_t now;
};

static void add(struct machine *machine, const char *id, const char *tenant, int priority,
                uint64_t records)
{
    struct store_job *job = &machine->jobs[machine->n++];
    *job = make_job(id, tenant, priority, 0);
    job->created_at = machine->now;
    job->counts.total = records;
}

/* Starts the next; its tenant. */
static const char *run_next(struct machine *machine, int64_t length_ms, char id[STORE_ID_BYTES])
{
    static char tenant[STORE_NAME_BYTES];
    struct pick_job turns[JOBS_MAX];
    for (size_t i = 0; i < machine->n; i++) turns[i] = (struct pick_job){&machine->jobs[i], 0};
    size_t i = pick_next(turns, machine->n, &machine->shares, machine->now);
    assert_true(i != PICK_NONE);
    struct store_job job = machine->jobs[i];
    machine->jobs[i] = machine->jobs[--machine->n];
    expect_fine(shares_give(&machine->shares, job.tenant, job.counts.total), job.id);
    shares_trim(&machine->shares);
    memcpy(id, job.id, STORE_ID_BYTES);
    memcpy(tenant, job.tenant, sizeof tenant);
    machine->now += length_ms;
    return tenant;
}

/* Whoever comes, however late, waits for one job at most: the one that runs. */
static void a_flood_of_one_tenant_delays_others_by_one_job(void **unused)
{
    (void)unused;
    for (int late = 1; late < 20; late++) {
        struct machine machine = {.now = NOW};
        char id[STORE_ID_BYTES];
        for (int i = 0; i < 40; i++) {
            char name[8];
            snprintf(name, sizeof name, "f%02d", i);
            add(&machine, name, "flood", 0, 1000000);
        }
        for (int i = 0; i < late; i++) run_next(&machine, 1000, id);
        add(&machine, "small", "other", 0, 5);
        assert_string_equal(run_next(&machine, 1000, id), "other");
        add(&machine, "again", "other", 0, 5);
        assert_string_equal(run_next(&machine, 1000, id),
                            "other"); /* it had 5, the other a million */
        shares_free(&machine.shares);
    }
}

/* Who was away has no claim on what it did not use: it cannot keep the others out for long. */
static void who_was_away_does_not_take_all(void **unused)
{
    (void)unused;
    struct machine machine = {.now = NOW};
    char id[STORE_ID_BYTES];
    for (int i = 0; i < 20; i++) {
        add(&machine, "early", "early", 0, 1000);
        run_next(&machine, 1000, id);
    }
    for (int i = 0; i < 10; i++) {
        char name[8];
        snprintf(name, sizeof name, "l%02d", i);
        add(&machine, name, "late", 0, 1000);
        snprintf(name, sizeof name, "e%02d", i);
        add(&machine, name, "early", 0, 1000);
    }
    int n_late = 0;
    for (int i = 0; i < 10; i++) n_late += strcmp(run_next(&machine, 1000, id), "late") == 0;
    assert_in_range(n_late, 4, 6);
    shares_free(&machine.shares);
}

/* A job of the lowest priority runs within hours, though better ones never stop coming. */
static void nobody_waits_for_ever(void **unused)
{
    (void)unused;
    struct machine machine = {.now = NOW};
    char id[STORE_ID_BYTES];
    add(&machine, "low", "poor", 0, 10);
    for (int i = 0; i < 100; i++) {
        add(&machine, "high", "rich", 8, 10);
        run_next(&machine, HOUR_MS / 4, id);
        if (strcmp(id, "low") == 0) {
            assert_in_range(i, 8, 40); /* not at once, and in the tenth hour at the latest */
            shares_free(&machine.shares);
            return;
        }
    }
    fail_msg("it never ran");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_next_job_is_the_right_one),
        cmocka_unit_test(it_wakes_when_the_next_may_start),
        cmocka_unit_test(a_flood_of_one_tenant_delays_others_by_one_job),
        cmocka_unit_test(who_was_away_does_not_take_all),
        cmocka_unit_test(nobody_waits_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
