/* SPDX-License-Identifier: Apache-2.0 */
/* scheduler.c - the loop: look at the store, do what is due, wait until the next time or a word.
 *
 * It waits by the monotonic clock and never for long, so that a wall clock that jumps is noticed. Errors of
 * the store (a full disk) are logged and the look is made again a while later. */
#include "server/scheduler_parts.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define DAY_MS ((int64_t)24 * 3600 * 1000)

const struct scheduler_tuning scheduler_tuning_usual = {
    .now = store_now,
    .tries_max = 8,
    .pause_ms = 1000,
    .pause_max_ms = 60 * 1000,
    .look_ms = 5000,
    .retention_ms = 3600 * 1000,
};

/* --- retention ---------------------------------------------------------------------------------- */

static tidemill_error *clean_up(struct scheduler *scheduler, int64_t now)
{
    size_t n;
    struct store *store = scheduler->app->store;
    const struct server_config *config = scheduler->app->config;
    for (size_t i = 0; i < config->n_queues; i++) {
        const struct queue_config *queue = &config->queues[i];
        if (queue->retention_ms > 0)
            TRY(store_job_purge(store, queue->name, now - queue->retention_ms, &n));
    }
    if (config->batch_retention_ms > 0)
        TRY(store_job_purge(store, "", now - config->batch_retention_ms, &n));
    TRY(store_file_expire(store, now, &n));
    return job_finish_again(scheduler);
}

static void clean_up_if_due(struct scheduler *scheduler, int64_t now)
{
    int64_t now_ns = clock_now_ns(), every_ns = scheduler->tuning.retention_ms * 1000000;
    if (scheduler->has_cleaned && now_ns - scheduler->cleaned_ns < every_ns) return;
    scheduler->has_cleaned = true;
    scheduler->cleaned_ns = now_ns;
    tidemill_error *error = clean_up(scheduler, now);
    if (error != NULL)
        log_event(LOG_WARNING, "what is too old was not all removed: %s", error_message(error));
    error_free(error);
}

/* --- the loop ----------------------------------------------------------------------------------- */

static tidemill_error *look(struct scheduler *scheduler, int64_t now, int64_t *due)
{
    struct store_jobs jobs = {0};
    TRY(store_job_scan(scheduler->app->store, SCHEDULER_ACTIVE, &jobs));
    tidemill_error *error = windows_step(scheduler, &jobs, now, due);
    tidemill_error *other =
        tasks_step(scheduler, &jobs, now, due); /* a full disk stops no cancel */
    store_jobs_free(&jobs);
    if (error == NULL) return other;
    error_free(other);
    return error;
}

/* The store may never work again (a sync has failed): then it is asked ever less often. */
static int64_t after_failed_look(struct scheduler *scheduler, tidemill_error *error)
{
    const struct scheduler_tuning *tuning = &scheduler->tuning;
    int64_t pause_ms = tuning->pause_ms;
    for (int i = 0; i < scheduler->n_failed_looks && pause_ms < tuning->pause_max_ms; i++)
        pause_ms *= 2;
    scheduler->n_failed_looks++;
    log_event(LOG_WARNING, "scheduling goes on in a moment: %s", error_message(error));
    error_free(error);
    return MIN(pause_ms, tuning->pause_max_ms);
}

static int64_t step(struct scheduler *scheduler)
{
    int64_t now = scheduler->tuning.now(), due = INT64_MAX;
    tasks_reap(scheduler);
    tidemill_error *error = look(scheduler, now, &due);
    if (error != NULL) return after_failed_look(scheduler, error);
    scheduler->n_failed_looks = 0;
    clean_up_if_due(scheduler, now);
    if (due <= now) return 0;
    return MIN(due - now, scheduler->tuning.look_ms);
}

static void wait_for(struct scheduler *scheduler, int64_t wait_ms)
{
    eventfd_t count;
    struct pollfd wake = {.fd = scheduler->wake_fd, .events = POLLIN};
    poll(&wake, 1, (int)MIN(wait_ms, DAY_MS));
    eventfd_read(scheduler->wake_fd, &count);
}

static void *scheduler_main(void *argument)
{
    struct scheduler *scheduler = argument;
    while (!atomic_load(&scheduler->is_stopping)) wait_for(scheduler, step(scheduler));
    tasks_stop_all(scheduler);
    return NULL;
}

void scheduler_wake(struct scheduler *scheduler)
{
    eventfd_write(scheduler->wake_fd, 1);
}

/* --- start and stop ----------------------------------------------------------------------------- */

static tidemill_error *apply_counts(struct store_job *job, void *context)
{
    return job_note_counts(context, job);
}

/* What was shown before a kill was committed: it is shown again from the first moment on. */
static tidemill_error *show_committed(struct scheduler *scheduler)
{
    bool is_done;
    struct store_jobs jobs = {0};
    struct app *app = scheduler->app;
    TRY(store_job_scan(app->store, STATE_BIT(STORE_RUNNING), &jobs));
    for (size_t i = 0; i < jobs.n; i++) {
        tidemill_error *error = job_change(scheduler, jobs.items[i].id, STATE_BIT(STORE_RUNNING),
                                           apply_counts, app, NULL, &is_done);
        if (error != NULL) log_event(LOG_WARNING, "%s: %s", jobs.items[i].id, error_message(error));
        error_free(error); /* its run says the same, and pauses or fails */
    }
    store_jobs_free(&jobs);
    return NULL;
}

static tidemill_error *load_rates(struct scheduler *scheduler)
{
    char *path;
    if (asprintf(&path, "%s/rates.json", store_path(scheduler->app->store)) < 0)
        return error_memory();
    rates_load(scheduler->app->io, path, &scheduler->rates);
    free(path);
    return NULL;
}

static tidemill_error *start_thread(struct scheduler *scheduler)
{
    int code = pthread_create(&scheduler->thread, NULL, scheduler_main, scheduler);
    return code == 0 ? NULL : error_errno(ERROR_MEMORY, code, "cannot start the scheduler");
}

static void scheduler_free(struct scheduler *scheduler)
{
    if (scheduler->wake_fd >= 0) close(scheduler->wake_fd);
    pthread_mutex_destroy(&scheduler->mutex);
    pthread_mutex_destroy(&scheduler->changes);
    rates_free(&scheduler->rates);
    shares_free(&scheduler->shares);
    job_indexes_free(&scheduler->indexes);
    free(scheduler->windows);
    free(scheduler->pauses);
    free(scheduler);
}

static tidemill_error *start(struct scheduler *scheduler)
{
    scheduler->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (scheduler->wake_fd < 0) return error_errno(ERROR_IO, errno, "cannot make an eventfd");
    TRY(load_rates(scheduler));
    TRY(show_committed(scheduler));
    TRY(job_finish_again(scheduler));
    return start_thread(scheduler);
}

tidemill_error *scheduler_start_with(struct app *app, const struct scheduler_tuning *tuning,
                                     struct scheduler **ret)
{
    struct scheduler *scheduler = calloc(1, sizeof *scheduler);
    if (scheduler == NULL) return error_memory();
    scheduler->app = app;
    scheduler->tuning = *tuning;
    scheduler->wake_fd = -1;
    job_indexes_init(&scheduler->indexes);
    pthread_mutex_init(&scheduler->mutex, NULL);
    pthread_mutex_init(&scheduler->changes, NULL);
    *ret = scheduler;
    tidemill_error *error = start(scheduler);
    if (error == NULL) return NULL;
    *ret = NULL;
    scheduler_free(scheduler);
    return error;
}

tidemill_error *scheduler_start(struct app *app, struct scheduler **ret)
{
    return scheduler_start_with(app, &scheduler_tuning_usual, ret);
}

void scheduler_stop(struct scheduler *scheduler)
{
    if (scheduler == NULL) return;
    atomic_store(&scheduler->is_stopping, 1);
    scheduler_wake(scheduler);
    pthread_join(scheduler->thread, NULL);
    scheduler_free(scheduler);
}
