/* SPDX-License-Identifier: Apache-2.0 */
/* scheduler_windows.c - open windows: when each closes, and that it closes once.
 *
 * A window is due by its rule, its zone and the time of its first record; window_is_due also knows what to
 * do about a clock that was set. The store closes a window that is open and no other, so none fires
 * twice. */
#include "server/scheduler_parts.h"

#include <errno.h>
#include <stdlib.h>

static const struct queue_config *queue_of(const struct scheduler *scheduler,
                                           const struct store_job *job)
{
    return server_config_queue(scheduler->app->config, job->queue);
}

static struct open_window *find(struct scheduler *scheduler, const char *id)
{
    for (size_t i = 0; i < scheduler->n_windows; i++)
        if (strcmp(scheduler->windows[i].id, id) == 0) return &scheduler->windows[i];
    return NULL;
}

static tidemill_error *add(struct scheduler *scheduler, const char *id, struct open_window **ret)
{
    if (scheduler->n_windows == scheduler->windows_capacity) {
        size_t capacity = MAX(2 * scheduler->windows_capacity, (size_t)16);
        struct open_window *windows =
            realloc(scheduler->windows, capacity * sizeof *scheduler->windows);
        if (windows == NULL) return error_memory();
        scheduler->windows = windows;
        scheduler->windows_capacity = capacity;
    }
    *ret = &scheduler->windows[scheduler->n_windows++];
    **ret = (struct open_window){.max_records = UINT64_MAX, .max_bytes = UINT64_MAX};
    memcpy((*ret)->id, id, strnlen(id, STORE_ID_BYTES - 1));
    return NULL;
}

/* Brings what scheduler_accepted looks at up to date; a copy of it in *ret. */
static tidemill_error *note(struct scheduler *scheduler, const struct store_job *job,
                            struct open_window *ret)
{
    const struct queue_config *queue = queue_of(scheduler, job);
    struct open_window *window = find(scheduler, job->id);
    if (window == NULL) TRY(add(scheduler, job->id, &window));
    bool has_records = queue != NULL && queue->window.max_records > 0;
    bool has_bytes = queue != NULL && queue->window.max_bytes > 0;
    window->max_records = has_records ? queue->window.max_records : UINT64_MAX;
    window->max_bytes = has_bytes ? queue->window.max_bytes : UINT64_MAX;
    window->is_seen = true;
    *ret = *window;
    return NULL;
}

/* A queue that is not in the configuration any more collects no longer. *ret_at: else its time. */
static bool is_due(const struct scheduler *scheduler, const struct store_job *job,
                   const struct open_window *window, int64_t now, int64_t *ret_at)
{
    const struct queue_config *queue = queue_of(scheduler, job);
    *ret_at = INT64_MAX;
    if (queue == NULL || window->is_full ||
        window_is_full(&queue->window, job->counts.total, job->bytes))
        return true;
    *ret_at = window_close_at(&queue->window, queue->zone, job->created_at);
    return window_is_due(&queue->window, queue->zone, job->created_at, now);
}

static tidemill_error *step(struct scheduler *scheduler, const struct store_job *job, int64_t now,
                            int64_t *due)
{
    bool is_done;
    int64_t at;
    struct open_window window;
    pthread_mutex_lock(&scheduler->mutex);
    tidemill_error *error = note(scheduler, job, &window);
    pthread_mutex_unlock(&scheduler->mutex);
    if (error != NULL) return error;
    if (!is_due(scheduler, job, &window, now, &at)) {
        *due = MIN(*due, at > now ? at : now + 1);
        return NULL;
    }
    TRY(store_window_close(scheduler->app->store, job->id, now, &is_done));
    *due = now; /* it waits for its turn now: look again */
    return NULL;
}

static void forget_closed(struct scheduler *scheduler)
{
    size_t kept = 0;
    pthread_mutex_lock(&scheduler->mutex);
    for (size_t i = 0; i < scheduler->n_windows; i++) {
        bool is_open = scheduler->windows[i].is_seen;
        scheduler->windows[i].is_seen = false;
        if (is_open) scheduler->windows[kept++] = scheduler->windows[i];
    }
    scheduler->n_windows = kept;
    pthread_mutex_unlock(&scheduler->mutex);
}

tidemill_error *windows_step(struct scheduler *scheduler, const struct store_jobs *jobs,
                             int64_t now, int64_t *due)
{
    for (size_t i = 0; i < jobs->n; i++)
        if (jobs->items[i].state == STORE_OPEN) TRY(step(scheduler, &jobs->items[i], now, due));
    forget_closed(scheduler);
    return NULL;
}

/* Not known: it was opened just now, and the look that follows reads what is in it. */
void scheduler_accepted(struct scheduler *scheduler, const struct store_accept *accept)
{
    pthread_mutex_lock(&scheduler->mutex);
    struct open_window *window = find(scheduler, accept->window);
    bool is_full = window != NULL && !window->is_full &&
                   (accept->window_records >= window->max_records ||
                    accept->window_bytes >= window->max_bytes);
    if (is_full) window->is_full = true;
    pthread_mutex_unlock(&scheduler->mutex);
    if (window == NULL || is_full) scheduler_wake(scheduler);
}

tidemill_error *scheduler_flush(struct scheduler *scheduler, const char *queue, const char *tenant,
                                size_t *ret_n)
{
    struct store_jobs jobs = {0};
    struct store *store = scheduler->app->store;
    *ret_n = 0;
    TRY(store_job_scan(store, STATE_BIT(STORE_OPEN), &jobs));
    tidemill_error *error = NULL;
    for (size_t i = 0; i < jobs.n && error == NULL; i++) {
        bool is_closed = false;
        const struct store_job *job = &jobs.items[i];
        if (strcmp(job->queue, queue) != 0) continue;
        if (tenant != NULL && strcmp(job->tenant, tenant) != 0) continue;
        error = store_window_close(store, job->id, scheduler->tuning.now(), &is_closed);
        *ret_n += is_closed;
    }
    store_jobs_free(&jobs);
    scheduler_wake(scheduler);
    return error;
}
