/* SPDX-License-Identifier: Apache-2.0 */
/* server_scheduler_test.c - jobs from their first line to their files: windows that close, batches that are
 * valid or not, cancel, expiry, budgets, hours, disks that are full, stops and starts. */
#include "server_fakes.h"
#include "server_stage.h"

#include "server/job_details.h"

#include <errno.h>
#include <time.h>

#define N_SLOW 600
#define ENDED (STORE_TERMINAL & ((1u << STORE_STATES) - 1))

static struct tempdir folder;
static struct stage stage;

static void sleep_ms(int64_t ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static void add_batch(const char *id, const char *model, size_t n, int64_t deadline_in_ms,
                      double budget_usd)
{
    struct buffer lines = {0};
    stage_lines(&lines, model, n);
    stage_add_batch(&stage, id, "tenant", (struct slice){lines.data, lines.size}, deadline_in_ms,
                    budget_usd);
    buffer_free(&lines);
}

static void expect_counts(const struct store_job *job, uint64_t completed, uint64_t failed,
                          uint64_t cancelled, uint64_t expired)
{
    const struct store_counts *counts = &job->counts;
    if (counts->completed != completed || counts->failed != failed ||
        counts->cancelled != cancelled || counts->expired != expired)
        fail_msg("%s: %d completed, %d failed, %d cancelled, %d expired", job->id,
                 (int)counts->completed, (int)counts->failed, (int)counts->cancelled,
                 (int)counts->expired);
}

/* Every record is in one of the files, and they are as long as the counts say. */
static void expect_files(const struct store_job *job)
{
    size_t size;
    char *output = stage_content(&stage, job->output_file, &size);
    char *errors = stage_content(&stage, job->error_file, &size);
    size_t n_output = stage_count_lines(output), n_errors = stage_count_lines(errors);
    assert_int_equal(n_output, job->counts.completed);
    assert_int_equal(n_output + n_errors, job->counts.total);
    assert_int_equal(output[0] == '\0', job->output_file[0] == '\0');
    assert_null(strstr(errors, folder.path)); /* no path of the server */
    free(output);
    free(errors);
}

/* Waits for the end; the job is the caller's. */
static struct store_job wait_for(const char *id, enum store_state state)
{
    struct store_job job = stage_wait(&stage, id, ENDED);
    if (job.state != state) fail_msg("%s %s: %s", id, store_state_name(job.state), job.details);
    expect_files(&job);
    return job;
}

static void cancel(const char *id)
{
    bool is_found;
    expect_fine(scheduler_cancel(stage.app.scheduler, "tenant", id, &is_found), id);
    assert_true(is_found);
}

static void retry(const char *id, double budget_usd)
{
    bool is_found;
    expect_fine(scheduler_retry(stage.app.scheduler, "tenant", id, budget_usd, &is_found), id);
    assert_true(is_found);
}

/* Until so many records of a running job are committed. */
static void wait_for_progress(const char *id, uint64_t records)
{
    struct job_progress progress = {0};
    for (int i = 0; i < 10000; i++) {
        if (scheduler_progress(stage.app.scheduler, id, &progress) &&
            progress.counts.records >= records)
            return;
        sleep_ms(2);
    }
    fail_msg("%s: %d records", id, (int)progress.counts.records);
}

/* They are told after the end is there to be seen. */
static void wait_for_calls(_Atomic int *count, int n)
{
    for (int i = 0; i < 10000 && *count < n; i++) sleep_ms(2);
    sleep_ms(20);
    assert_int_equal(*count, n);
}

/* --- batches ------------------------------------------------------------------------------------ */

static void a_batch_is_validated_and_run(void **unused)
{
    (void)unused;
    char *path;
    size_t size;
    stage_start(&stage);
    add_batch("batch_1", "m", 500, 0, 0);
    struct store_job job = wait_for("batch_1", STORE_COMPLETED);
    expect_counts(&job, 500, 0, 0, 0);
    assert_string_equal(job.model, "m");
    assert_string_equal(job.error_file, "");
    for (int i = STORE_WAITING; i <= STORE_COMPLETED; i++)
        if (i != STORE_CANCELLING) assert_true(job.state_at[i] > 0);
    char *output = stage_content(&stage, job.output_file, &size);
    assert_non_null(strstr(output, "\"custom_id\":\"r0\",\"error\":null,\"response\":"));
    assert_non_null(strstr(output, "\"body\":{\"model\":\"m\",\"q\":499}"));
    free(output);
    wait_for_calls(&stage_n_told, 1);
    expect_fine(job_path(&stage.app, job.id, "output.jsonl", &path), "path");
    for (int i = 0; i < 5000 && io_exists(&io_local, path); i++) sleep_ms(2);
    assert_false(io_exists(&io_local, path)); /* nothing to do once more: its work is gone */
    free(path);
    store_job_free(&job);
}

static void a_file_that_is_none_fails_with_its_errors(void **unused)
{
    (void)unused;
    stage_start(&stage);
    stage_add_batch(&stage, "batch_1", "tenant", (struct slice){"{}\n", 3}, 0, 0);
    struct store_job job = stage_wait(&stage, "batch_1", ENDED);
    assert_int_equal(job.state, STORE_FAILED);
    expect_counts(&job, 0, 0, 0, 0);
    assert_true(details_has(&job, "errors"));
    assert_string_equal(job.output_file, "");
    bool is_found;
    expect_error(scheduler_retry(stage.app.scheduler, "tenant", "batch_1", 0, &is_found),
                 ERROR_USAGE, "not valid", "retry");
    store_job_free(&job);
}

static void a_model_that_only_a_long_first_line_names_is_known(void **unused)
{
    (void)unused;
    struct buffer line = {0};
    stage_start(&stage);
    buffer_text(&line,
                "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/x\",\"body\":{\"t\":\"");
    for (int i = 0; i < 500000; i++) buffer_byte(&line, 'x');
    buffer_text(&line, "\",\"model\":\"m\"}}\n");
    stage_add_batch(&stage, "batch_1", "tenant", (struct slice){line.data, line.size}, 0, 0);
    struct store_job job = wait_for("batch_1", STORE_COMPLETED);
    assert_string_equal(job.model, "m");
    store_job_free(&job);
    buffer_free(&line);
}

static void failed_records_go_to_the_error_file(void **unused)
{
    (void)unused;
    size_t size;
    struct buffer lines = {0};
    stage_set(&stage, "m", "max-record-bytes", "200");
    stage_start(&stage);
    stage_lines(&lines, "m", 20);
    buffer_text(&lines, "{\"custom_id\":\"long\",\"method\":\"POST\",\"url\":\"/v1/x\",\"body\":"
                        "{\"model\":\"m\",\"t\":\"");
    for (int i = 0; i < 300; i++) buffer_byte(&lines, 'x');
    buffer_text(&lines, "\"}}\n");
    stage_add_batch(&stage, "batch_1", "tenant", (struct slice){lines.data, lines.size}, 0, 0);
    struct store_job job = wait_for("batch_1", STORE_COMPLETED);
    expect_counts(&job, 20, 1, 0, 0);
    char *errors = stage_content(&stage, job.error_file, &size);
    assert_non_null(strstr(errors, "\"error\":{\"code\":\"record_too_long\""));
    assert_null(strstr(errors, "\"input\""));
    free(errors);
    store_job_free(&job);
    buffer_free(&lines);
}

/* --- windows ------------------------------------------------------------------------------------ */

static void a_full_window_is_run(void **unused)
{
    (void)unused;
    char window[STORE_ID_BYTES], more[STORE_ID_BYTES];
    stage_start(&stage);
    stage_accept(&stage, "q", "tenant", 60, window);
    struct store_job job = stage_wait(&stage, window, ~0u);
    assert_int_equal(job.state, STORE_OPEN);
    store_job_free(&job);
    stage_accept(&stage, "q", "tenant", 60, more);
    assert_string_equal(window, more);
    job = wait_for(window, STORE_COMPLETED);
    expect_counts(&job, 120, 0, 0, 0);
    wait_for_calls(&stage_n_results, 1);
    store_job_free(&job);
}

static void a_window_closes_by_the_clock_and_once(void **unused)
{
    (void)unused;
    char window[STORE_ID_BYTES], next[STORE_ID_BYTES];
    stage_start(&stage);
    stage_accept(&stage, "q", "tenant", 3, window);
    stage_clock_ahead_ms = 3600 * 1000;
    struct store_job job = wait_for(window, STORE_COMPLETED);
    expect_counts(&job, 3, 0, 0, 0);
    store_job_free(&job);
    /* set back: the next one is another, and is not skipped */
    stage_clock_ahead_ms = 0;
    stage_accept(&stage, "q", "tenant", 2, next);
    assert_string_not_equal(window, next);
    stage_clock_ahead_ms = 10 * INT64_C(365) * 24 * 3600 * 1000;
    job = wait_for(next, STORE_COMPLETED);
    expect_counts(&job, 2, 0, 0, 0);
    store_job_free(&job);
    wait_for_calls(&stage_n_told, 2);
}

static void a_flush_closes_now(void **unused)
{
    (void)unused;
    size_t n;
    char mine[STORE_ID_BYTES], theirs[STORE_ID_BYTES];
    stage_start(&stage);
    stage_accept(&stage, "q", "tenant", 3, mine);
    stage_accept(&stage, "q", "other", 4, theirs);
    expect_fine(scheduler_flush(stage.app.scheduler, "q", "other", &n), "flush");
    assert_int_equal(n, 1);
    struct store_job job = wait_for(theirs, STORE_COMPLETED);
    store_job_free(&job);
    job = stage_wait(&stage, mine, ~0u);
    assert_int_equal(job.state, STORE_OPEN);
    store_job_free(&job);
    expect_fine(scheduler_flush(stage.app.scheduler, "q", NULL, &n), "flush");
    assert_int_equal(n, 1);
    job = wait_for(mine, STORE_COMPLETED);
    store_job_free(&job);
}

static void records_of_a_window_are_found(void **unused)
{
    (void)unused;
    char window[STORE_ID_BYTES];
    enum record_state state;
    struct buffer line = {0};
    stage_set(&stage, "v", "model", "echo:width=2,error_on=7");
    stage_set(&stage, "v", "batch", "1");
    stage_start(&stage);
    stage_accept(&stage, "q", "tenant", 120, window);
    struct store_job job = wait_for(window, STORE_COMPLETED);
    expect_counts(&job, 119, 1, 0, 0);
    for (uint64_t n = 0; n < 120; n++) {
        char expected[64];
        expect_fine(job_record(&stage.app, &job, n, &state, &line), "record");
        assert_int_equal(state, n == 7 ? RECORD_FAILED : RECORD_OK);
        buffer_byte(&line, '\0');
        snprintf(expected, sizeof expected, "{\"id\":%d,\"%s", (int)n + 1,
                 n == 7 ? "index\":7" : "y\":[");
        assert_non_null(strstr(line.data, expected));
        assert_null(strstr(line.data, folder.path));
    }
    expect_fine(job_record(&stage.app, &job, 120, &state, &line), "record");
    assert_int_equal(state, RECORD_PENDING);
    store_job_free(&job);
    buffer_free(&line);
}

static void an_open_window_can_be_cancelled(void **unused)
{
    (void)unused;
    char window[STORE_ID_BYTES];
    enum record_state state;
    struct buffer line = {0};
    stage_start(&stage);
    stage_accept(&stage, "q", "tenant", 3, window);
    cancel(window);
    struct store_job job = wait_for(window, STORE_CANCELLED);
    expect_counts(&job, 0, 0, 3, 0);
    expect_fine(job_record(&stage.app, &job, 2, &state, &line), "record");
    assert_int_equal(state, RECORD_CANCELLED);
    store_job_free(&job);
    buffer_free(&line);
}

/* --- ends before the end ------------------------------------------------------------------------ */

static char *undisturbed;

/* The output of a slow batch that nobody disturbed, run as `id` from the same file. */
static void make_undisturbed(const char *id)
{
    size_t size;
    struct store_job job = wait_for(id, STORE_COMPLETED);
    free(undisturbed);
    undisturbed = stage_content(&stage, job.output_file, &size);
    store_job_free(&job);
}

static void expect_undisturbed(const struct store_job *job)
{
    size_t size;
    char *output = stage_content(&stage, job->output_file, &size);
    assert_string_equal(output, undisturbed);
    free(output);
}

/* A second batch over the same file: its output must have the same bytes. */
static void add_again(const char *id, const char *as)
{
    struct store_job job = stage_wait(&stage, as, ~0u);
    memset(job.state_at, 0, sizeof job.state_at);
    job.counts = (struct store_counts){0};
    job.state = STORE_VALIDATING;
    job.budget_usd = 0;
    job.deadline_at = 0;
    job.output_file[0] = job.error_file[0] = '\0';
    snprintf(job.id, sizeof job.id, "%s", id);
    expect_fine(store_job_add(stage.app.store, &job), id);
    scheduler_wake(stage.app.scheduler);
    store_job_free(&job);
}

/* Over the names that are made from a job and a record: what was asked once more has others. */
static void blank_names(char *text)
{
    static const char digits[] = "0123456789abcdef";
    for (char *p = text; (p = strstr(p, "req_")) != NULL;) {
        p += 4;
        size_t n = strspn(p, digits);
        memset(p, 'x', n);
    }
}

static void expect_same_answers(const struct store_job *job)
{
    size_t size;
    char *output = stage_content(&stage, job->output_file, &size);
    blank_names(output);
    blank_names(undisturbed);
    assert_string_equal(output, undisturbed);
    free(output);
}

static void a_cancelled_batch_keeps_what_is_done_and_goes_on_later(void **unused)
{
    (void)unused;
    stage_start(&stage);
    stage_set(&stage, "slow", "dedup", "off");
    add_batch("batch_1", "slow", N_SLOW, 0, 0);
    wait_for_progress("batch_1", 20);
    cancel("batch_1");
    struct store_job job = wait_for("batch_1", STORE_CANCELLED);
    assert_true(job.counts.completed >= 20 && job.counts.cancelled > 0);
    store_job_free(&job);
    bool is_found;
    expect_fine(scheduler_cancel(stage.app.scheduler, "tenant", "batch_1", &is_found), "again");
    assert_false(is_found); /* it has ended */
    expect_fine(scheduler_cancel(stage.app.scheduler, "other", "batch_1", &is_found), "foreign");
    assert_false(is_found);
    retry("batch_1", 0);
    job = wait_for("batch_1", STORE_COMPLETED);
    expect_counts(&job, N_SLOW, 0, 0, 0);
    add_again("batch_2", "batch_1");
    make_undisturbed("batch_2");
    expect_same_answers(&job);
    store_job_free(&job);
}

static void a_waiting_batch_can_be_cancelled(void **unused)
{
    (void)unused;
    stage.config.jobs_max = 1;
    stage_start(&stage);
    add_batch("batch_1", "slow", N_SLOW, 0, 0);
    wait_for_progress("batch_1", 1);
    add_batch("batch_2", "slow", 5, 0, 0);
    struct store_job job = stage_wait(&stage, "batch_2", STATE_BIT(STORE_WAITING));
    store_job_free(&job);
    cancel("batch_2");
    job = wait_for("batch_2", STORE_CANCELLED);
    expect_counts(&job, 0, 0, 5, 0);
    store_job_free(&job);
    cancel("batch_1");
    job = wait_for("batch_1", STORE_CANCELLED);
    store_job_free(&job);
}

static void a_batch_that_is_out_of_time_expires(void **unused)
{
    (void)unused;
    size_t size;
    stage_start(&stage);
    add_batch("batch_1", "slow", N_SLOW, 3600 * 1000, 0);
    wait_for_progress("batch_1", 10);
    stage_clock_ahead_ms = 3600 * 1000;
    struct store_job job = wait_for("batch_1", STORE_EXPIRED);
    assert_true(job.counts.completed >= 10 && job.counts.expired > 0);
    char *errors = stage_content(&stage, job.error_file, &size);
    assert_non_null(strstr(errors, "\"custom_id\":\"r599\",\"response\":null,\"error\":"
                                   "{\"code\":\"batch_expired\""));
    free(errors);
    store_job_free(&job);
    retry("batch_1", 0);
    job = wait_for("batch_1", STORE_COMPLETED);
    expect_counts(&job, N_SLOW, 0, 0, 0);
    store_job_free(&job);
}

static void a_batch_that_waits_too_long_expires(void **unused)
{
    (void)unused;
    stage.config.jobs_max = 1;
    stage_start(&stage);
    add_batch("batch_1", "slow", N_SLOW, 0, 0);
    wait_for_progress("batch_1", 1);
    add_batch("batch_2", "m", 5, 200, 0);
    struct store_job job = wait_for("batch_2", STORE_EXPIRED);
    expect_counts(&job, 0, 0, 0, 5);
    store_job_free(&job);
}

static void a_batch_stops_at_its_budget(void **unused)
{
    (void)unused;
    size_t size;
    stage_set(&stage, "slow", "price", "3600"); /* a dollar a second */
    stage_start(&stage);
    add_batch("batch_1", "slow", N_SLOW, 0, 0.3);
    struct store_job job = wait_for("batch_1", STORE_STOPPED);
    assert_true(job.counts.completed > 0 && job.counts.cancelled > 0);
    assert_true(job.cost_usd >= 0.3);
    char *errors = stage_content(&stage, job.error_file, &size);
    assert_non_null(strstr(errors, "\"code\":\"budget_exceeded\""));
    free(errors);
    uint64_t before = job.counts.completed;
    store_job_free(&job);
    retry("batch_1", 0.2); /* less than was spent: nothing more is done */
    job = wait_for("batch_1", STORE_STOPPED);
    assert_int_equal(job.counts.completed, before);
    store_job_free(&job);
    retry("batch_1", 0);
    job = wait_for("batch_1", STORE_COMPLETED);
    expect_counts(&job, N_SLOW, 0, 0, 0);
    store_job_free(&job);
}

static void a_retry_runs_the_failed_ones_alone(void **unused)
{
    (void)unused;
    size_t size;
    char window[STORE_ID_BYTES];
    stage_set(&stage, "v", "model", "echo:width=2,error_on=7");
    stage_set(&stage, "v", "batch", "1");
    stage_start(&stage);
    stage_accept(&stage, "q", "tenant", 120, window);
    struct store_job job = wait_for(window, STORE_COMPLETED);
    expect_counts(&job, 119, 1, 0, 0);
    char first[STORE_ID_BYTES];
    memcpy(first, job.output_file, sizeof first);
    store_job_free(&job);
    retry(window, 0);
    job = wait_for(window, STORE_COMPLETED);
    expect_counts(&job, 119, 1, 0, 0); /* it fails again */
    assert_string_not_equal(job.output_file, first);
    char *old = stage_content(&stage, first, &size);
    char *new = stage_content(&stage, job.output_file, &size);
    assert_string_equal(old, new); /* the first file is as it was, too */
    free(old);
    free(new);
    store_job_free(&job);
}

static void a_model_that_does_not_load_fails_after_some_tries(void **unused)
{
    (void)unused;
    stage_start(&stage);
    add_batch("batch_1", "broken", 5, 0, 0);
    struct store_job job = wait_for("batch_1", STORE_FAILED);
    expect_counts(&job, 0, 5, 0, 0);
    char *code = details_inner_text(&job, "failure", "code");
    assert_string_equal(code, "model_load");
    assert_false(details_has(&job, "paused"));
    free(code);
    store_job_free(&job);
    stage_set(&stage, "broken", "model", "echo:json=1"); /* mended */
    retry("batch_1", 0);
    job = wait_for("batch_1", STORE_COMPLETED);
    expect_counts(&job, 5, 0, 0, 0);
    store_job_free(&job);
}

/* Cancel at any moment, also while it ends: one of two ends, and nothing is lost. */
static void a_cancel_and_an_end_at_once_are_one_history(void **unused)
{
    (void)unused;
    uint64_t random = random_seed("cancel");
    stage_set(&stage, "m", "model", "echo:json=1,row_latency_us=100");
    stage_start(&stage);
    for (int i = 0; i < 25; i++) {
        bool is_found;
        char id[STORE_ID_BYTES];
        snprintf(id, sizeof id, "batch_%d", i);
        add_batch(id, "m", 30 + (size_t)random_below(&random, 60), 0, 0);
        sleep_ms((int64_t)random_below(&random, 90));
        expect_fine(scheduler_cancel(stage.app.scheduler, "tenant", id, &is_found), id);
        struct store_job job = stage_wait(&stage, id, ENDED);
        assert_true(job.state == STORE_COMPLETED || job.state == STORE_CANCELLED);
        expect_files(&job);
        store_job_free(&job);
    }
}

/* --- hours -------------------------------------------------------------------------------------- */

static int64_t ms_until(int hour)
{
    struct local_time local = zone_local(NULL, store_now());
    int64_t today = (local.hour * 3600 + local.minute * 60 + local.second) * INT64_C(1000);
    return (hour * INT64_C(3600000) - today + 24 * INT64_C(3600000)) % (24 * INT64_C(3600000));
}

static void a_queue_with_hours_waits_for_them(void **unused)
{
    (void)unused;
    char window[STORE_ID_BYTES];
    stage_clock_ahead_ms = ms_until(12);
    stage_start(&stage);
    stage_accept(&stage, "night", "tenant", 2, window);
    struct store_job job = stage_wait(&stage, window, STATE_BIT(STORE_WAITING) | ENDED);
    assert_int_equal(job.state, STORE_WAITING);
    store_job_free(&job);
    sleep_ms(300);
    job = stage_wait(&stage, window, ~0u);
    assert_int_equal(job.state, STORE_WAITING);
    store_job_free(&job);
    stage_clock_ahead_ms += 11 * INT64_C(3600000);
    job = wait_for(window, STORE_COMPLETED);
    store_job_free(&job);
}

static void a_job_stops_when_its_hours_end_and_goes_on_the_next_night(void **unused)
{
    (void)unused;
    char window[STORE_ID_BYTES];
    stage_set(&stage, "v", "model", "echo:width=2,row_latency_us=3000");
    stage_clock_ahead_ms = ms_until(23);
    stage_start(&stage);
    stage_accept(&stage, "night", "tenant", 300, window);
    wait_for_progress(window, 10);
    stage_clock_ahead_ms += 12 * INT64_C(3600000);
    struct store_job job = stage_wait(&stage, window, STATE_BIT(STORE_WAITING) | ENDED);
    assert_int_equal(job.state, STORE_WAITING);
    assert_true(job.counts.completed >= 10);
    store_job_free(&job);
    stage_clock_ahead_ms += 12 * INT64_C(3600000);
    job = wait_for(window, STORE_COMPLETED);
    expect_counts(&job, 300, 0, 0, 0);
    store_job_free(&job);
}

/* --- stops and starts --------------------------------------------------------------------------- */

static void a_stop_checkpoints_and_the_next_start_goes_on(void **unused)
{
    (void)unused;
    stage_set(&stage, "slow", "dedup", "off");
    stage_start(&stage);
    add_batch("batch_1", "slow", N_SLOW, 0, 0);
    uint64_t done = 0;
    for (int i = 0; i < 3; i++) {
        wait_for_progress("batch_1", done + 20);
        stage_stop(&stage);
        stage_start(&stage);
        struct store_job job = stage_wait(&stage, "batch_1", ~0u);
        assert_int_equal(job.state, STORE_RUNNING);
        assert_true(job.counts.completed >= done + 20); /* what was shown is shown again at once */
        done = job.counts.completed;
        store_job_free(&job);
    }
    struct store_job job = wait_for("batch_1", STORE_COMPLETED);
    add_again("batch_2", "batch_1");
    make_undisturbed("batch_2");
    expect_undisturbed(&job);
    store_job_free(&job);
}

/* Each look finds that the job is to be cancelled; the task that does it is not told again. */
static void a_cancel_that_a_stop_cut_short_ends_at_the_next_start(void **unused)
{
    (void)unused;
    bool is_done;
    stage_set(&stage, "slow", "model", "echo:json=1,row_latency_us=2000,load_ms=300");
    stage_start(&stage);
    add_batch("batch_1", "slow", N_SLOW, 0, 0);
    wait_for_progress("batch_1", 20);
    stage_stop(&stage);
    stage_open(&stage);
    struct store_job job = stage_wait(&stage, "batch_1", STATE_BIT(STORE_RUNNING));
    job.state = STORE_CANCELLING;
    expect_fine(store_job_save(stage.app.store, &job, STATE_BIT(STORE_RUNNING), &is_done), "save");
    store_job_free(&job);
    stage.tuning.look_ms = 60; /* while the model loads */
    stage_start(&stage);
    job = wait_for("batch_1", STORE_CANCELLED);
    assert_true(job.counts.completed >= 20 && job.counts.cancelled > 0);
    assert_int_equal(job.counts.failed, 0);
    store_job_free(&job);
}

/* What the engine keeps was cut short meanwhile: the job fails and says so, and begins anew when it is asked
 * to. It does not try for ever. */
static void work_that_was_damaged_fails_the_job_and_a_retry_begins_anew(void **unused)
{
    (void)unused;
    char *path;
    stage_start(&stage);
    add_batch("batch_1", "slow", N_SLOW, 0, 0);
    wait_for_progress("batch_1", 20);
    stage_stop(&stage);
    stage_open(&stage);
    expect_fine(job_path(&stage.app, "batch_1", "output.jsonl.partial", &path), "path");
    assert_int_equal(truncate(path, 100), 0);
    free(path);
    stage_start(&stage);
    struct store_job job = wait_for("batch_1", STORE_FAILED);
    expect_counts(&job, 0, N_SLOW, 0, 0);
    char *code = details_inner_text(&job, "failure", "code");
    assert_string_equal(code, "corrupt");
    free(code);
    store_job_free(&job);
    retry("batch_1", 0);
    job = wait_for("batch_1", STORE_COMPLETED);
    expect_counts(&job, N_SLOW, 0, 0, 0);
    store_job_free(&job);
}

static void an_input_that_was_deleted_fails_the_job(void **unused)
{
    (void)unused;
    bool is_found;
    stage_start(&stage);
    add_batch("batch_1", "slow", N_SLOW, 0, 0);
    wait_for_progress("batch_1", 20);
    stage_stop(&stage);
    stage_open(&stage);
    struct store_job job = stage_wait(&stage, "batch_1", ~0u);
    expect_fine(store_file_delete(stage.app.store, "tenant", job.input_file, &is_found), "delete");
    store_job_free(&job);
    stage_start(&stage);
    job = wait_for("batch_1", STORE_FAILED);
    assert_true(job.counts.completed >= 20); /* what was done is handed on */
    store_job_free(&job);
}

static void who_could_not_be_told_is_told_later(void **unused)
{
    (void)unused;
    stage_deaf = 1;
    stage_start(&stage);
    add_batch("batch_1", "m", 5, 0, 0);
    struct store_job job = wait_for("batch_1", STORE_COMPLETED);
    stage_stop(&stage);
    assert_int_equal(stage_n_told, 0);
    stage_start(&stage);
    assert_int_equal(stage_n_told, 1);
    stage_stop(&stage);
    stage_start(&stage);
    assert_int_equal(stage_n_told, 1);
    store_job_free(&job);
}

static void what_is_committed_can_be_read_while_it_runs(void **unused)
{
    (void)unused;
    size_t size;
    uint64_t offset = 0;
    struct buffer all = {0};
    bool is_end = false;
    int n_early = 0;
    stage_start(&stage);
    add_batch("batch_1", "slow", 300, 0, 0);
    wait_for_progress("batch_1", 1);
    while (!is_end) {
        struct store_job job = stage_wait(&stage, "batch_1", ~0u);
        bool is_running = job.state == STORE_RUNNING;
        expect_fine(job_committed(&stage.app, &job, offset, 1000, &all, &is_end), "committed");
        n_early += is_running && all.size > offset;
        offset = all.size;
        if (all.size > 0) assert_int_equal(all.data[all.size - 1], '\n');
        if (!is_end) sleep_ms(3);
        store_job_free(&job);
    }
    assert_true(n_early > 1);
    struct store_job job = wait_for("batch_1", STORE_COMPLETED);
    char *output = stage_content(&stage, job.output_file, &size);
    assert_int_equal(size, all.size);
    assert_memory_equal(output, all.data, size);
    free(output);
    buffer_free(&all);
    store_job_free(&job);
}

/* --- a full disk -------------------------------------------------------------------------------- */

static _Atomic int is_full, n_refused;

static ssize_t write_unless_full(void *context, int fd, const void *data, size_t size)
{
    if (is_full) {
        n_refused++;
        errno = ENOSPC;
        return -1;
    }
    return io_local.write(context, fd, data, size);
}

/* The engine's files are on a disk of their own here, so that the store can still say what is wrong. */
static void a_full_disk_pauses_and_room_resumes(void **unused)
{
    (void)unused;
    struct io io = io_local;
    io.write = write_unless_full;
    stage.tuning.tries_max = 2; /* room may come late: that is no try */
    stage.app.io = &io;
    stage_start(&stage);
    is_full = 1;
    add_batch("batch_1", "m", 50, 0, 0);
    struct store_job job = {0};
    char *code = NULL;
    for (int i = 0; i < 5000 && (code == NULL || n_refused < 4); i++) {
        store_job_free(&job);
        free(code);
        sleep_ms(2);
        job = stage_wait(&stage, "batch_1", ~0u);
        code = details_inner_text(&job, "paused", "code");
    }
    assert_non_null(code);
    assert_string_equal(code, "no_space");
    assert_int_equal(job.state, STORE_RUNNING);
    free(code);
    store_job_free(&job);
    int before = n_refused;
    sleep_ms(500);
    assert_true(n_refused - before < 60); /* no busy loop */
    is_full = 0;
    job = wait_for("batch_1", STORE_COMPLETED);
    expect_counts(&job, 50, 0, 0, 0);
    assert_false(details_has(&job, "paused"));
    store_job_free(&job);
    stage_stop(&stage);
}

/* --- forecasts ---------------------------------------------------------------------------------- */

static void a_model_that_has_run_can_be_forecast(void **unused)
{
    (void)unused;
    struct forecast forecast;
    struct store_job job = {.kind = STORE_BATCH, .model = "slow", .counts = {.total = 1000}};
    stage_set(&stage, "slow", "price", "1");
    stage_start(&stage);
    job.deadline_at = store_now() + 3600 * 1000;
    expect_fine(scheduler_forecast(stage.app.scheduler, &job, &forecast), "forecast");
    assert_int_equal(forecast.verdict, VERDICT_UNKNOWN);
    assert_true(forecast.cost_usd < 0);
    add_batch("batch_1", "slow", 200, 0, 0);
    struct store_job done = wait_for("batch_1", STORE_COMPLETED);
    store_job_free(&done);
    stage_stop(&stage);
    stage_start(&stage); /* it outlives the server */
    expect_fine(scheduler_forecast(stage.app.scheduler, &job, &forecast), "forecast");
    assert_int_equal(forecast.verdict, VERDICT_ACCEPTED);
    assert_true(forecast.p50_at > store_now() && forecast.p50_at <= forecast.p90_at);
    assert_true(forecast.rate_rows_s > 1 && forecast.cost_usd > 0);
    job.counts.total = UINT64_C(1000000000);
    expect_fine(scheduler_forecast(stage.app.scheduler, &job, &forecast), "forecast");
    assert_int_equal(forecast.verdict, VERDICT_IMPOSSIBLE);
}

/* --- each test has a folder --------------------------------------------------------------------- */

static int begin(void **unused)
{
    (void)unused;
    tempdir_open(&folder);
    stage_init(&stage, folder.path);
    stage_clock_ahead_ms = 0;
    stage_n_told = stage_n_results = stage_deaf = 0;
    return 0;
}

static int end(void **unused)
{
    (void)unused;
    stage_stop(&stage);
    stage_free(&stage);
    tempdir_close(&folder);
    free(undisturbed);
    undisturbed = NULL;
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(int argc, char **argv)
{
    int status;
    if (stage_is_host(argc, argv, &status)) return status;
    log_configure(LOG_ERROR, LOG_FORMAT_TEXT);
    const struct CMUnitTest tests[] = {
        TEST(a_batch_is_validated_and_run),
        TEST(a_file_that_is_none_fails_with_its_errors),
        TEST(a_model_that_only_a_long_first_line_names_is_known),
        TEST(failed_records_go_to_the_error_file),
        TEST(a_full_window_is_run),
        TEST(a_window_closes_by_the_clock_and_once),
        TEST(a_flush_closes_now),
        TEST(records_of_a_window_are_found),
        TEST(an_open_window_can_be_cancelled),
        TEST(a_cancelled_batch_keeps_what_is_done_and_goes_on_later),
        TEST(a_waiting_batch_can_be_cancelled),
        TEST(a_batch_that_is_out_of_time_expires),
        TEST(a_batch_that_waits_too_long_expires),
        TEST(a_batch_stops_at_its_budget),
        TEST(a_retry_runs_the_failed_ones_alone),
        TEST(a_model_that_does_not_load_fails_after_some_tries),
        TEST(a_cancel_and_an_end_at_once_are_one_history),
        TEST(a_queue_with_hours_waits_for_them),
        TEST(a_job_stops_when_its_hours_end_and_goes_on_the_next_night),
        TEST(a_stop_checkpoints_and_the_next_start_goes_on),
        TEST(a_cancel_that_a_stop_cut_short_ends_at_the_next_start),
        TEST(work_that_was_damaged_fails_the_job_and_a_retry_begins_anew),
        TEST(an_input_that_was_deleted_fails_the_job),
        TEST(who_could_not_be_told_is_told_later),
        TEST(what_is_committed_can_be_read_while_it_runs),
        TEST(a_full_disk_pauses_and_room_resumes),
        TEST(a_model_that_has_run_can_be_forecast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
