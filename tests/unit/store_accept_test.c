/* SPDX-License-Identifier: Apache-2.0 */
/* store_accept_test.c - records into windows: one window a queue, tenant and model, numbers, keys,
 * closing, what a restart finds. */
#include "store_steps.h"

static void records_gather_in_one_window(void **state)
{
    struct fixture f;
    (void)state;
    fixture_begin(&f);
    struct store_accept one = accept_of("q", "t", "{\"a\":1}\n");
    struct store_accept two = accept_of("q", "t", "{\"a\":2}\n{\"a\":3}\n");
    expect_fine(accept_and_wait(f.store, &one), "one");
    expect_fine(accept_and_wait(f.store, &two), "two");
    expect_text(two.window, one.window, "the same window");
    assert_int_equal(one.first, 0);
    assert_int_equal(two.first, 1);
    assert_int_equal(two.window_records, 3);
    assert_int_equal(two.window_bytes, 24);
    assert_int_equal(two.window_opened_at, one.window_opened_at);
    expect_window(f.store, one.window, "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n", "the file");
    struct store_job job = get_job(f.store, one.window);
    assert_int_equal(job.kind, STORE_WINDOW);
    assert_int_equal(job.state, STORE_OPEN);
    assert_int_equal(job.counts.total, 3);
    assert_int_equal(job.bytes, 24);
    assert_int_equal(job.ready_at, 1000);
    expect_text(job.queue, "q", "queue");
    expect_text(job.model, "m", "model");
    store_job_free(&job);
    fixture_end(&f);
}

static void queues_tenants_and_models_have_windows_of_their_own(void **state)
{
    struct fixture f;
    (void)state;
    fixture_begin(&f);
    struct store_accept accepts[4] = {
        accept_of("q", "t", "1\n"),
        accept_of("q", "u", "2\n"),
        accept_of("r", "t", "3\n"),
        accept_of("q", "t", "4\n"),
    };
    accepts[3].model = "other";
    for (size_t i = 0; i < 4; i++) expect_fine(accept_and_wait(f.store, &accepts[i]), "accept");
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(accepts[i].window, accepts[j].window);
    fixture_end(&f);
}

static void a_window_goes_on_after_a_restart(void **state)
{
    struct fixture f;
    (void)state;
    fixture_begin(&f);
    struct store_accept one = accept_of("q", "t", "1\n"), two = accept_of("q", "t", "2\n");
    expect_fine(accept_and_wait(f.store, &one), "before");
    fixture_reopen(&f);
    expect_fine(accept_and_wait(f.store, &two), "after");
    expect_text(two.window, one.window, "the same window");
    assert_int_equal(two.first, 1);
    expect_window(f.store, one.window, "1\n2\n", "the file");
    fixture_end(&f);
}

static void a_closed_window_takes_nothing_more(void **state)
{
    struct fixture f;
    bool is_done;
    (void)state;
    fixture_begin(&f);
    struct store_accept one = accept_of("q", "t", "1\n"), two = accept_of("q", "t", "2\n");
    expect_fine(accept_and_wait(f.store, &one), "one");
    expect_fine(store_window_close(f.store, one.window, 77, &is_done), "close");
    assert_true(is_done);
    expect_fine(store_window_close(f.store, one.window, 78, &is_done), "again");
    assert_false(is_done);
    expect_fine(store_window_close(f.store, "win_none", 78, &is_done), "none");
    assert_false(is_done);
    expect_fine(accept_and_wait(f.store, &two), "two");
    assert_string_not_equal(one.window, two.window);
    assert_int_equal(two.first, 0);
    struct store_job job = get_job(f.store, one.window);
    assert_int_equal(job.state, STORE_WAITING);
    assert_int_equal(job.ready_at, 77);
    assert_int_equal(job.counts.total, 1);
    assert_int_equal(job.bytes, 2);
    assert_true(job.state_at[STORE_WAITING] >= job.state_at[STORE_OPEN]);
    store_job_free(&job);
    expect_window(f.store, one.window, "1\n", "the closed one");
    fixture_end(&f);
}

static void a_key_is_accepted_once(void **state)
{
    struct fixture f;
    (void)state;
    fixture_begin(&f);
    struct store_accept one = accept_of("q", "t", "1\n2\n");
    one.idempotency_key = "k";
    one.digest = hash_bytes("1", 1);
    struct store_accept zero = accept_of("q", "t", "0\n");
    expect_fine(accept_and_wait(f.store, &zero), "before it");
    struct store_accept again = one, other = one, elsewhere = one, foreign = one;
    expect_fine(accept_and_wait(f.store, &one), "first");
    assert_false(one.is_repeat);
    assert_int_equal(one.first, 1);
    for (int i = 0; i < 2; i++) {
        expect_fine(accept_and_wait(f.store, &again), "repeat");
        assert_true(again.is_repeat);
        assert_int_equal(again.first, 1);
        expect_text(again.window, one.window, "its window");
        fixture_reopen(&f);
    }
    other.digest = hash_bytes("2", 1);
    expect_fine(accept_and_wait(f.store, &other), "another body");
    assert_true(other.is_conflict);
    elsewhere.queue = "r";
    expect_fine(accept_and_wait(f.store, &elsewhere), "another queue");
    assert_false(elsewhere.is_repeat);
    foreign.tenant = "u";
    expect_fine(accept_and_wait(f.store, &foreign), "another tenant");
    assert_false(foreign.is_repeat);
    expect_window(f.store, one.window, "0\n1\n2\n", "once");
    fixture_end(&f);
}

/* All at once: the writer sees many with the same key in one group. */
static void many_with_one_key_are_one(void **state)
{
    enum { N = 200 };
    static struct waiting waiting[N];
    struct fixture f;
    int n_new = 0;
    (void)state;
    fixture_begin(&f);
    for (int i = 0; i < N; i++) {
        waiting[i] = (struct waiting){.accept = accept_of("q", "t", "1\n")};
        waiting[i].accept.idempotency_key = i % 2 == 0 ? "even" : "odd";
        waiting[i].accept.done = waiting_done;
        waiting[i].accept.context = &waiting[i];
        sem_init(&waiting[i].is_done, 0, 0);
    }
    for (int i = 0; i < N; i++) store_accept(f.store, &waiting[i].accept);
    for (int i = 0; i < N; i++) {
        while (sem_wait(&waiting[i].is_done) != 0) continue;
        expect_fine(waiting[i].error, "accept");
        n_new += !waiting[i].accept.is_repeat;
    }
    assert_int_equal(n_new, 2);
    expect_window(f.store, waiting[0].accept.window, "1\n1\n", "two of them");
    fixture_end(&f);
}

static void what_is_no_line_is_refused(void **state)
{
    struct fixture f;
    (void)state;
    fixture_begin(&f);
    struct store_accept good = accept_of("q", "t", "1\n");
    static const struct {
        const char *row, *queue, *tenant, *lines;
        uint64_t n;
    } rows[] = {
        {"no newline", "q", "t", "1", 1},     {"too few lines", "q", "t", "1\n", 2},
        {"too many", "q", "t", "1\n2\n", 1},  {"nothing", "q", "t", "", 0},
        {"bad queue", "../q", "t", "1\n", 1}, {"empty tenant", "q", "", "1\n", 1},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct store_accept bad = accept_of(rows[i].queue, rows[i].tenant, rows[i].lines);
        bad.n = rows[i].n;
        expect_error(accept_and_wait(f.store, &bad), ERROR_USAGE, NULL, rows[i].row);
    }
    expect_fine(accept_and_wait(f.store, &good), "a good one");
    assert_int_equal(good.window_records, 1);
    fixture_end(&f);
}

static void depths_count_what_is_still_to_do(void **state)
{
    struct fixture f;
    struct store_depth *depths;
    size_t n;
    bool is_done;
    (void)state;
    fixture_begin(&f);
    struct store_accept one = accept_of("q", "t", "1\n2\n3\n"), two = accept_of("q", "u", "4\n");
    expect_fine(accept_and_wait(f.store, &one), "one");
    expect_fine(accept_and_wait(f.store, &two), "two");
    expect_fine(store_depths(f.store, &depths, &n), "depths");
    assert_int_equal(n, 2);
    expect_text(depths[0].tenant, "t", "order");
    assert_int_equal(depths[0].records, 3);
    assert_int_equal(depths[0].bytes, 6);
    assert_int_equal(depths[1].records, 1);
    assert_true(depths[0].oldest_at > 0);
    free(depths);
    expect_fine(store_window_close(f.store, one.window, 1, &is_done), "close");
    struct store_job job = get_job(f.store, one.window);
    job.state = STORE_RUNNING;
    job.counts.completed = 2;
    expect_fine(store_job_save(f.store, &job, 1u << STORE_WAITING, &is_done), "run");
    expect_fine(store_depths(f.store, &depths, &n), "depths");
    assert_int_equal(depths[0].records, 1);
    free(depths);
    job.state = STORE_COMPLETED;
    job.counts.completed = 3;
    expect_fine(store_job_save(f.store, &job, 1u << STORE_RUNNING, &is_done), "end");
    expect_fine(store_depths(f.store, &depths, &n), "depths");
    assert_int_equal(n, 1);
    free(depths);
    store_job_free(&job);
    fixture_end(&f);
}

/* Who cancels looked before the last records came. */
static void records_that_came_meanwhile_are_cancelled_too(void **state)
{
    struct fixture f;
    bool is_done;
    (void)state;
    fixture_begin(&f);
    struct store_accept one = accept_of("q", "t", "1\n"), two = accept_of("q", "t", "2\n");
    expect_fine(accept_and_wait(f.store, &one), "one");
    struct store_job job = get_job(f.store, one.window);
    expect_fine(accept_and_wait(f.store, &two), "two");
    job.state = STORE_CANCELLED;
    job.counts.cancelled = job.counts.total;
    expect_fine(store_job_save(f.store, &job, 1u << STORE_OPEN, &is_done), "cancel");
    assert_true(is_done);
    store_job_free(&job);
    job = get_job(f.store, one.window);
    assert_int_equal(job.counts.total, 2);
    assert_int_equal(job.counts.cancelled, 2);
    assert_int_equal(job.bytes, 4);
    store_job_free(&job);
    expect_fine(accept_and_wait(f.store, &one), "a new window");
    assert_string_not_equal(one.window, two.window);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_gather_in_one_window),
        cmocka_unit_test(queues_tenants_and_models_have_windows_of_their_own),
        cmocka_unit_test(a_window_goes_on_after_a_restart),
        cmocka_unit_test(a_closed_window_takes_nothing_more),
        cmocka_unit_test(a_key_is_accepted_once),
        cmocka_unit_test(many_with_one_key_are_one),
        cmocka_unit_test(what_is_no_line_is_refused),
        cmocka_unit_test(depths_count_what_is_still_to_do),
        cmocka_unit_test(records_that_came_meanwhile_are_cancelled_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
