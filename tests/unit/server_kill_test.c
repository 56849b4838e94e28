/* SPDX-License-Identifier: Apache-2.0 */
/* server_kill_test.c - a store and a scheduler in a process that is killed again and again, at any moment:
 * what comes out in the end has the bytes of a run that nobody disturbed. */
#include "server_fakes.h"
#include "server_stage.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>

#define ROUNDS 3
#define STORM_ROUNDS 4
#define STORM_STEPS 60
#define KILLS_MAX 12 /* of one round; then it may end */
#define JOBS 4
#define ENDED (STORE_TERMINAL & ((1u << STORE_STATES) - 1))

extern char **environ;

static struct tempdir folder;
static char data[128], origin[128];
static char window[STORE_ID_BYTES];

static void copy_folder(const char *from, const char *to)
{
    char command[512];
    snprintf(command, sizeof command, "rm -rf %s && cp -a %s %s", to, from, to);
    if (system(command) != 0) fail_msg("%s", command);
}

static void init(struct stage *stage)
{
    stage_init(stage, data);
    stage_set(stage, "slow", "dedup", "off");
    stage_set(stage, "m", "max-record-bytes", "200");
    stage_set(stage, "v", "model", "echo:width=2,error_on=7,row_latency_us=500");
    stage_set(stage, "v", "batch", "1");
}

/* --- the process that is killed ----------------------------------------------------------------- */

static bool have_all_ended(struct stage *stage)
{
    struct store_jobs jobs;
    expect_fine(store_job_scan(stage->app.store, ~ENDED & ((1u << STORE_STATES) - 1), &jobs),
                "scan");
    bool have = jobs.n == 0;
    store_jobs_free(&jobs);
    return have;
}

/* Cancels a job, has it run once more, or lets its time pass, as `choice` says. What may not be is refused. */
static void disturb(struct stage *stage, const char *id, uint64_t choice)
{
    bool is_found;
    struct scheduler *scheduler = stage->app.scheduler;
    if (choice == 0) error_free(scheduler_cancel(scheduler, NULL, id, &is_found));
    if (choice == 1) error_free(scheduler_retry(scheduler, NULL, id, 0, &is_found));
    if (choice == 2) stage_clock_ahead_ms += 61000;
}

/* `seed` 0: undisturbed. */
static int serve(const char *path, uint64_t seed)
{
    static const char *const batches[] = {"batch_1", "batch_2"};
    struct stage stage;
    snprintf(data, sizeof data, "%s", path);
    init(&stage);
    stage_start(&stage);
    for (int i = 0; (seed != 0 && i < STORM_STEPS) || !have_all_ended(&stage); i++) {
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        if (seed != 0 && i < STORM_STEPS)
            disturb(&stage, batches[random_below(&seed, 2)], random_below(&seed, 40));
    }
    stage_stop(&stage);
    stage_free(&stage);
    return 0;
}

static pid_t start(uint64_t seed)
{
    pid_t child;
    char self[] = "/proc/self/exe", mode[] = "serve", text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)seed);
    char *arguments[] = {self, mode, data, text, NULL};
    assert_int_equal(posix_spawn(&child, self, NULL, NULL, arguments, environ), 0);
    return child;
}

/* True: it came to its end by itself, in less than that. ms 0: however long it takes. */
static bool run_for(int64_t ms, uint64_t seed)
{
    int status;
    pid_t child = start(seed);
    if (ms > 0) {
        nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
        kill(child, SIGKILL);
    }
    assert_true(waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) fail_msg("status %d", status);
    return false;
}

/* --- what came out ------------------------------------------------------------------------------ */

struct outcome {
    struct store_job job;
    char *output, *errors;
};

static void read_outcomes(struct outcome outcomes[JOBS])
{
    static const char *const batches[] = {"batch_1", "batch_2", "batch_3"};
    struct stage stage;
    size_t size;
    init(&stage);
    stage_open(&stage);
    for (size_t i = 0; i < JOBS; i++) {
        struct outcome *outcome = &outcomes[i];
        outcome->job = stage_wait(&stage, i < 3 ? batches[i] : window, ENDED);
        outcome->output = stage_content(&stage, outcome->job.output_file, &size);
        outcome->errors = stage_content(&stage, outcome->job.error_file, &size);
    }
    stage_stop(&stage);
    stage_free(&stage);
}

static void free_outcomes(struct outcome outcomes[JOBS])
{
    for (size_t i = 0; i < JOBS; i++) {
        store_job_free(&outcomes[i].job);
        free(outcomes[i].output);
        free(outcomes[i].errors);
    }
}

static void fill(int64_t deadline_in_ms)
{
    struct stage stage;
    struct buffer lines = {0};
    snprintf(data, sizeof data, "%s/data", folder.path);
    snprintf(origin, sizeof origin, "%s/origin", folder.path);
    init(&stage);
    stage_open(&stage);
    stage_lines(&lines, "slow", 250);
    stage_add_batch(&stage, "batch_1", "t1", (struct slice){lines.data, lines.size}, deadline_in_ms,
                    0);
    buffer_reset(&lines, 0);
    stage_lines(&lines, "m", 300);
    buffer_text(&lines, "{\"custom_id\":\"long\",\"method\":\"POST\",\"url\":\"/v1/x\",\"body\":"
                        "{\"model\":\"m\",\"t\":\"");
    for (int i = 0; i < 300; i++) buffer_byte(&lines, 'x');
    buffer_text(&lines, "\"}}\n");
    stage_add_batch(&stage, "batch_2", "t2", (struct slice){lines.data, lines.size}, 0, 0);
    stage_add_batch(&stage, "batch_3", "t2", (struct slice){"{}\n", 3}, 0, 0);
    stage_accept(&stage, "q", "t1", 150, window);
    stage_stop(&stage);
    stage_free(&stage);
    buffer_free(&lines);
    copy_folder(data, origin);
}

static void expect_same(const struct outcome found[JOBS], const struct outcome expected[JOBS])
{
    for (size_t i = 0; i < JOBS; i++) {
        const struct store_job *job = &found[i].job;
        if (job->state != expected[i].job.state)
            fail_msg("%s is %s: %s", job->id, store_state_name(job->state), job->details);
        expect_text(found[i].output, expected[i].output, job->id);
        expect_text(found[i].errors, expected[i].errors, job->id);
        assert_memory_equal(&job->counts, &expected[i].job.counts, sizeof job->counts);
    }
}

static void kills_leave_no_trace_in_what_comes_out(void **unused)
{
    (void)unused;
    struct outcome expected[JOBS], found[JOBS];
    uint64_t random = random_seed("kill");
    int n_kills = 0;
    fill(0);
    assert_true(run_for(0, 0));
    read_outcomes(expected);
    assert_int_equal(expected[0].job.counts.completed, 250);
    assert_int_equal(expected[1].job.counts.failed, 1);
    assert_int_equal(expected[2].job.state, STORE_FAILED);
    assert_int_equal(expected[3].job.counts.failed, 1);
    for (int round = 0; round < ROUNDS; round++) {
        bool is_done = false;
        copy_folder(origin, data);
        for (int i = 0; i < KILLS_MAX && !is_done; i++) {
            is_done = run_for(5 + (int64_t)random_below(&random, i % 3 == 0 ? 400 : 120), 0);
            n_kills += !is_done;
        }
        if (!is_done) assert_true(run_for(0, 0));
        read_outcomes(found);
        expect_same(found, expected);
        free_outcomes(found);
    }
    assert_true(n_kills >= ROUNDS); /* the fault was there */
    free_outcomes(expected);
}

/* --- killed, cancelled, retried and out of time at once --------------------------------------------- */

/* Each custom_id is in one of the files, and there once. */
static void expect_each_once(const struct outcome *outcome)
{
    for (size_t i = 0; i < outcome->job.counts.total; i++) {
        char id[32];
        snprintf(id, sizeof id, "\"custom_id\":\"r%zu\"", i);
        const char *one = strstr(outcome->output, id), *other = strstr(outcome->errors, id);
        const char *found = one != NULL ? one : other;
        if (i == 300) return; /* "long" */
        if (found == NULL || (one != NULL && other != NULL) || strstr(found + 1, id) != NULL)
            fail_msg("%s: %s", outcome->job.id, id);
    }
}

/* Whatever is done to jobs and to the process: one history, and each record in one place. */
static void a_storm_loses_no_record(void **unused)
{
    (void)unused;
    struct outcome found[JOBS];
    uint64_t random = random_seed("storm");
    fill(60000);
    for (int round = 0; round < STORM_ROUNDS; round++) {
        copy_folder(origin, data);
        for (int i = 0; i < 5; i++)
            run_for(50 + (int64_t)random_below(&random, 300), random_next(&random) | 1);
        assert_true(run_for(0, 0));
        read_outcomes(found);
        for (size_t i = 0; i < 2; i++) {
            size_t n_output = stage_count_lines(found[i].output);
            assert_int_equal(n_output, found[i].job.counts.completed);
            assert_int_equal(n_output + stage_count_lines(found[i].errors),
                             found[i].job.counts.total);
            expect_each_once(&found[i]);
        }
        free_outcomes(found);
    }
}

static int open_folder(void **unused)
{
    (void)unused;
    tempdir_open(&folder);
    return 0;
}

static int close_folder(void **unused)
{
    (void)unused;
    tempdir_close(&folder);
    return 0;
}

int main(int argc, char **argv)
{
    int status;
    if (stage_is_host(argc, argv, &status)) return status;
    log_configure(LOG_ERROR, LOG_FORMAT_TEXT);
    if (argc == 4 && strcmp(argv[1], "serve") == 0)
        return serve(argv[2], strtoull(argv[3], NULL, 10));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(kills_leave_no_trace_in_what_comes_out, open_folder,
                                        close_folder),
        cmocka_unit_test_setup_teardown(a_storm_loses_no_record, open_folder, close_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
