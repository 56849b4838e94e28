/* SPDX-License-Identifier: Apache-2.0 */
/* job_change.c - one linear history a job: every change is read, apply, write, with no other between. */
#include "server/scheduler_parts.h"

#include "server/job_details.h"

#include <stdlib.h>

tidemill_error *job_to_state(struct store_job *job, void *context)
{
    job->state = *(const enum store_state *)context;
    return NULL;
}

static tidemill_error *change(struct store *store, struct store_job *job, unsigned from,
                              job_apply *apply, void *context, bool *ret_done)
{
    if ((from & STATE_BIT(job->state)) == 0) return NULL;
    TRY(apply(job, context));
    return store_job_save(store, job, from, ret_done);
}

tidemill_error *job_change(struct scheduler *scheduler, const char *id, unsigned from,
                           job_apply *apply, void *context, struct store_job *ret, bool *ret_done)
{
    struct store_job job = {0};
    struct store *store = scheduler->app->store;
    bool is_found = false;
    *ret_done = false;
    if (ret != NULL) *ret = (struct store_job){0};
    pthread_mutex_lock(&scheduler->changes);
    tidemill_error *error = store_job_get(store, NULL, id, &job, &is_found);
    if (error == NULL && is_found) error = change(store, &job, from, apply, context, ret_done);
    pthread_mutex_unlock(&scheduler->changes);
    if (error != NULL || ret == NULL || !is_found)
        store_job_free(&job);
    else
        *ret = job;
    return error;
}

/* A retry's failed records count as to be done until it has ended. */
tidemill_error *job_note_counts(struct app *app, struct store_job *job)
{
    char *path;
    struct job_state done;
    TRY(job_path(app, job->id, "output.jsonl", &path));
    tidemill_error *error = job_look(app->io, path, &done);
    free(path);
    if (error != NULL) return error;
    struct store_counts *counts = &job->counts;
    counts->completed = MIN(MAX(counts->completed, done.counts.ok), counts->total);
    if (details_number(job, "retries", 0) < 1)
        counts->failed =
            MIN(MAX(counts->failed, done.counts.failed), counts->total - counts->completed);
    return NULL;
}
