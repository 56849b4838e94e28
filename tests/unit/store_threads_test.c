/* SPDX-License-Identifier: Apache-2.0 */
/* store_threads_test.c - many threads at one store: they accept, close, change, read and list at once.
 * Every record is in exactly one window, once; readers see whole states. Also run under the thread
 * sanitizer. */
#include "store_steps.h"

#include <pthread.h>
#include <stdatomic.h>

#define ACCEPTING 16
#define ACCEPTS 60
#define READING 6
#define BIT(state) (1u << (state))

struct crowd {
    struct store *store;
    atomic_int next;
    atomic_bool is_over;
    atomic_int n_wrong;
};

static void note(struct crowd *crowd, tidemill_error *error)
{
    if (error == NULL) return;
    fprintf(stderr, "%s\n", error_message(error));
    error_free(error);
    crowd->n_wrong++;
}

/* Each line names its thread and number; every third accept is sent twice with the same key. */
static void *accept_many(void *argument)
{
    struct crowd *crowd = argument;
    int me = crowd->next++;
    for (int i = 0; i < ACCEPTS; i++) {
        char line[64], key[32];
        snprintf(line, sizeof line, "{\"t\":%d,\"i\":%d}\n", me, i);
        snprintf(key, sizeof key, "%d-%d", me, i);
        struct store_accept accept = accept_of(me % 2 == 0 ? "even" : "odd", "t", line);
        if (i % 3 == 0) accept.idempotency_key = key;
        struct store_accept again = accept;
        note(crowd, accept_and_wait(crowd->store, &accept));
        if (i % 3 != 0) continue;
        note(crowd, accept_and_wait(crowd->store, &again));
        if (!again.is_repeat || again.first != accept.first) crowd->n_wrong++;
    }
    return NULL;
}

static void *close_many(void *argument)
{
    struct crowd *crowd = argument;
    struct store_jobs jobs;
    while (!crowd->is_over) {
        bool is_done;
        note(crowd, store_job_scan(crowd->store, BIT(STORE_OPEN), &jobs));
        for (size_t i = 0; i < jobs.n; i++)
            note(crowd, store_window_close(crowd->store, jobs.items[i].id, 1, &is_done));
        store_jobs_free(&jobs);
        usleep(3000);
    }
    return NULL;
}

/* Two numbers of one row that are always equal where it is whole. */
static void *change_one(void *argument)
{
    struct crowd *crowd = argument;
    for (uint64_t i = 1; !crowd->is_over; i++) {
        bool is_done;
        struct store_job job = job_of("batch_1", "t", STORE_RUNNING);
        job.tokens_in = job.tokens_out = i;
        note(crowd, store_job_save(crowd->store, &job, BIT(STORE_RUNNING), &is_done));
        if (!is_done) crowd->n_wrong++;
    }
    return NULL;
}

static void *read_many(void *argument)
{
    struct crowd *crowd = argument;
    while (!crowd->is_over) {
        struct store_job job;
        struct store_depth *depths;
        size_t n;
        bool is_found;
        note(crowd, store_job_get(crowd->store, "t", "batch_1", &job, &is_found));
        if (!is_found || job.tokens_in != job.tokens_out) crowd->n_wrong++;
        store_job_free(&job);
        note(crowd, store_depths(crowd->store, &depths, &n));
        free(depths);
        note(crowd, store_health(crowd->store));
    }
    return NULL;
}

static void expect_all_once(struct store *store)
{
    static int seen[ACCEPTING][ACCEPTS];
    struct store_jobs jobs;
    memset(seen, 0, sizeof seen);
    expect_fine(store_job_scan(store, BIT(STORE_OPEN) | BIT(STORE_WAITING), &jobs), "scan");
    for (size_t w = 0; w < jobs.n; w++) {
        char *path, *rest = NULL;
        uint64_t lines = 0;
        int t, i;
        expect_fine(store_window_path(store, jobs.items[w].id, &path), "path");
        char *content = slurp(path);
        for (char *line = strtok_r(content, "\n", &rest); line != NULL;
             line = strtok_r(NULL, "\n", &rest), lines++) {
            assert_int_equal(sscanf(line, "{\"t\":%d,\"i\":%d}", &t, &i), 2);
            seen[t][i]++;
        }
        assert_int_equal(lines, jobs.items[w].counts.total);
        free(content);
        free(path);
    }
    for (int t = 0; t < ACCEPTING; t++)
        for (int i = 0; i < ACCEPTS; i++) assert_int_equal(seen[t][i], 1);
    store_jobs_free(&jobs);
}

static void many_threads_lose_nothing(void **state)
{
    struct fixture f;
    struct crowd crowd = {0};
    pthread_t accepting[ACCEPTING], others[READING + 2];
    (void)state;
    fixture_begin(&f);
    crowd.store = f.store;
    struct store_job job = job_of("batch_1", "t", STORE_RUNNING);
    expect_fine(store_job_add(f.store, &job), "add");
    for (int i = 0; i < READING; i++)
        assert_int_equal(pthread_create(&others[i], NULL, read_many, &crowd), 0);
    assert_int_equal(pthread_create(&others[READING], NULL, close_many, &crowd), 0);
    assert_int_equal(pthread_create(&others[READING + 1], NULL, change_one, &crowd), 0);
    for (int i = 0; i < ACCEPTING; i++)
        assert_int_equal(pthread_create(&accepting[i], NULL, accept_many, &crowd), 0);
    for (int i = 0; i < ACCEPTING; i++) pthread_join(accepting[i], NULL);
    crowd.is_over = true;
    for (int i = 0; i < READING + 2; i++) pthread_join(others[i], NULL);
    assert_int_equal(crowd.n_wrong, 0);
    expect_all_once(f.store);
    fixture_reopen(&f);
    expect_all_once(f.store);
    fixture_end(&f);
}

/* Closing waits for what is under way; everybody is told. */
static void closing_tells_everybody(void **state)
{
    enum { N = 500 };
    static struct waiting waiting[N];
    struct fixture f;
    (void)state;
    fixture_begin(&f);
    for (int i = 0; i < N; i++) {
        waiting[i] = (struct waiting){.accept = accept_of("q", "t", "1\n")};
        waiting[i].accept.idempotency_key = i % 7 == 0 ? "same" : NULL;
        waiting[i].accept.done = waiting_done;
        waiting[i].accept.context = &waiting[i];
        sem_init(&waiting[i].is_done, 0, 0);
        store_accept(f.store, &waiting[i].accept);
    }
    store_close(f.store);
    for (int i = 0; i < N; i++) {
        assert_int_equal(sem_trywait(&waiting[i].is_done), 0);
        expect_fine(waiting[i].error, "accept");
        sem_destroy(&waiting[i].is_done);
    }
    fixture_open(&f);
    struct store_job job = get_job(f.store, waiting[0].accept.window);
    assert_int_equal(job.counts.total, N - N / 7);
    store_job_free(&job);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_threads_lose_nothing),
        cmocka_unit_test(closing_tells_everybody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
