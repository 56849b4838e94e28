/* SPDX-License-Identifier: Apache-2.0 */
/* job_closing.c - a job that is ended before its time: answers come in another order than records, so some
 * wait in the engine's files behind records that have none. The engine writes them out, and the others
 * fail with the reason; nothing is asked of the model. What was paid for is delivered. */
#include "server/scheduler_parts.h"

#include "server/job_details.h"

#include <stdlib.h>

/* OK: the state is not one of an early end. */
static enum error_code code_of(enum store_state end)
{
    switch (end) {
    case STORE_CANCELLED: return ERROR_BATCH_CANCELLED;
    case STORE_EXPIRED: return ERROR_BATCH_EXPIRED;
    case STORE_STOPPED: return ERROR_BUDGET_EXCEEDED;
    default: return ERROR_OK;
    }
}

static tidemill_error *apply_stopping(struct store_job *job, void *context)
{
    (void)context;
    return details_set(job, "over_budget", "true");
}

/* A cancelled job's state says what it ends as, an expired one's clock; of a budget nothing would be
 * known after a kill, as a closed job looks complete. */
static tidemill_error *note_end(struct task *task, enum store_state end)
{
    bool is_done;
    if (end != STORE_STOPPED) return NULL;
    return job_change(task->scheduler, task->id, STATE_BIT(STORE_RUNNING), apply_stopping, NULL,
                      NULL, &is_done);
}

/* The stop that ended the run is over; one of the server is not. */
static tidemill_error *forget_stop(struct task *task)
{
    job_stop_reset(&task->stop);
    if (!atomic_load(&task->scheduler->is_stopping)) return NULL;
    return error_new(ERROR_INTERRUPTED, "%s: ends at the next start", task->id);
}

/* Records that were not run are no failures, though the engine counts them so until the job has ended. */
static void show_no_more(struct task *task)
{
    pthread_mutex_lock(&task->scheduler->mutex);
    task->is_closing = true;
    pthread_mutex_unlock(&task->scheduler->mutex);
}

static tidemill_error *close_engine(struct task *task, const struct store_job *job,
                                    enum error_code code)
{
    struct job_spec spec = {0};
    struct job_summary summary;
    tidemill_error *error = job_setup(task->scheduler->app, job, &spec);
    if (error == NULL)
        error = job_close(&spec, task->scheduler->app->io, code, &task->stop, &summary);
    job_spec_free(&spec);
    return error;
}

/* Also before the first commit there may be answers. */
static tidemill_error *has_journal(struct app *app, const struct store_job *job, bool *ret)
{
    char *path;
    TRY(job_path(app, job->id, "output.jsonl.journal", &path));
    *ret = io_exists(app->io, path);
    free(path);
    return NULL;
}

tidemill_error *job_closing(struct task *task, const struct store_job *job,
                            const struct job_state *done, enum store_state end)
{
    enum error_code code = code_of(end);
    bool has_begun = false;
    if (code == ERROR_OK || done->is_complete) return NULL;
    TRY(has_journal(task->scheduler->app, job, &has_begun));
    if (!has_begun) return NULL;
    TRY(note_end(task, end));
    show_no_more(task);
    tidemill_error *error = forget_stop(task);
    if (error == NULL) error = close_engine(task, job, code);
    if (error_code_of(error) == ERROR_INTERRUPTED) {
        atomic_store(&task->ask, ASK_SHUTDOWN);
        return error;
    }
    if (error != NULL) /* what is committed is still there to be handed on */
        log_event(LOG_WARNING, "%s: answers that wait behind others are left out: %s", job->id,
                  error_message(error));
    error_free(error);
    return NULL;
}
