/* SPDX-License-Identifier: Apache-2.0 */
/* job_task.c - the thread of a task: reads what its job is now, does what comes next, and leaves a row
 * from which the next look goes on.
 *
 *     VALIDATING -> WAITING | FAILED
 *     WAITING -> RUNNING -> (engine) -> FINALIZING -> COMPLETED
 *                       RUNNING -> WAITING     its hours are over
 *                       RUNNING -> STOPPED     its budget is used up
 *     WAITING, RUNNING -> EXPIRED;  CANCELLING -> CANCELLED;  RUNNING -> FAILED
 *
 * What may pass by itself (a full disk, a server that is away) leaves the state as it is and says so in
 * details.paused; the scheduler starts the job again after a pause. */
#include "server/scheduler_parts.h"

#include "server/job_details.h"
#include "server/job_validate.h"

#include <stdlib.h>

static bool is_past(const struct store_job *job, int64_t now)
{
    return job->deadline_at > 0 && now >= job->deadline_at;
}

/* --- troubles ----------------------------------------------------------------------------------- */

enum trouble { TROUBLE_FINAL, TROUBLE_PASSING, TROUBLE_SPACE };

static enum trouble trouble_of(enum error_code code)
{
    switch (code) {
    case ERROR_NO_SPACE: return TROUBLE_SPACE; /* until there is room, or the job's time is over */
    case ERROR_MODEL_LOAD:
    case ERROR_UNREACHABLE:
    case ERROR_HOST_FAILED:
    case ERROR_IO:
    case ERROR_LOCKED:
    case ERROR_INTERRUPTED:
    case ERROR_MEMORY: return TROUBLE_PASSING;
    default: return TROUBLE_FINAL;
    }
}

struct pause_note {
    const char *code, *message; /* NULL: it goes on */
    const char *secret;
    int attempts;
};

static tidemill_error *apply_pause(struct store_job *job, void *context)
{
    const struct pause_note *note = context;
    if (note->code == NULL) return details_set(job, "paused", NULL);
    return details_set_reason(job, "paused", note->code, note->message, note->secret,
                              note->attempts);
}

/* What cannot be noted (the disk is full) is in the log at least. */
static void note_pause(struct task *task, const struct pause_note *note)
{
    bool is_done;
    tidemill_error *error = job_change(task->scheduler, task->id, SCHEDULER_ACTIVE, apply_pause,
                                       (void *)(uintptr_t)note, NULL, &is_done);
    error_free(error);
}

static int attempts_before(const struct task *task, const struct store_job *job)
{
    struct job_state state = {0};
    if (task->output != NULL) error_free(job_look(task->scheduler->app->io, task->output, &state));
    if (state.counts.records > task->committed_before) return 0; /* it went on in between */
    return (int)details_inner_number(job, "paused", "attempts", 0);
}

static int64_t pause_after(const struct scheduler_tuning *tuning, int attempts)
{
    int64_t pause = tuning->pause_ms;
    for (int i = 1; i < attempts && pause < tuning->pause_max_ms; i++) pause *= 2;
    return MIN(pause, tuning->pause_max_ms);
}

/* Where the engine's own files are what is wrong, it ends without them: for ever trying to read them would
 * leave it without an end. */
static void fail(struct task *task, const tidemill_error *why, const struct job_summary *summary)
{
    struct job_end end = {.state = STORE_FAILED,
                          .code = error_code_name(error_code_of(why)),
                          .message = error_message(why),
                          .summary = summary};
    tidemill_error *error = job_finish(task, &end);
    end.is_lost = trouble_of(error_code_of(error)) == TROUBLE_FINAL;
    if (error != NULL && end.is_lost) {
        log_event(LOG_WARNING, "%s", error_message(error));
        error_free(error);
        error = job_finish(task, &end);
    }
    if (error != NULL) {
        log_event(LOG_WARNING, "%s", error_message(error));
        task->pause_ms = task->scheduler->tuning.pause_max_ms;
    }
    error_free(error);
}

static void meet_trouble(struct task *task, const struct store_job *job,
                         const tidemill_error *error, const struct job_summary *summary)
{
    const struct scheduler_tuning *tuning = &task->scheduler->tuning;
    enum trouble trouble = trouble_of(error_code_of(error));
    struct pause_note note = {.code = error_code_name(error_code_of(error)),
                              .message = error_message(error),
                              .secret = store_path(task->scheduler->app->store)};
    note.attempts = attempts_before(task, job) + 1;
    if (trouble == TROUBLE_FINAL ||
        (trouble == TROUBLE_PASSING && note.attempts >= tuning->tries_max)) {
        fail(task, error, summary);
        return;
    }
    task->pause_ms = pause_after(tuning, note.attempts);
    log_event(LOG_WARNING, "%s pauses for %.1f s: %s", task->id, (double)task->pause_ms / 1000,
              note.message);
    note_pause(task, &note);
}

/* --- the engine --------------------------------------------------------------------------------- */

static void ask(struct task *task, enum task_ask why)
{
    int nothing = ASK_NOTHING;
    atomic_compare_exchange_strong(&task->ask, &nothing, (int)why);
    job_stop_ask(&task->stop);
}

static void show_progress(void *context, const struct job_progress *progress)
{
    struct task *task = context;
    double usd = task->earlier_usd + progress->cost_usd;
    pthread_mutex_lock(&task->scheduler->mutex);
    task->progress = *progress;
    task->has_progress = true;
    pthread_mutex_unlock(&task->scheduler->mutex);
    if (task->is_paused && progress->records_this_run > 0) {
        task->is_paused = false;
        note_pause(task, &(struct pause_note){0});
    }
    if (task->budget_usd > 0 && progress->cost_usd >= 0 && usd >= task->budget_usd)
        ask(task, ASK_BUDGET);
}

/* A retry goes on where the job stopped, then does once more what has failed. */
static tidemill_error *run_engine(struct task *task, const struct store_job *job,
                                  struct job_spec *spec, struct job_summary *summary)
{
    const struct io *io = task->scheduler->app->io;
    const struct job_observer observer = {.context = task, .progress = show_progress};
    TRY(job_run(spec, io, &observer, &task->stop, summary));
    if (details_number(job, "retries", 0) < 1 || summary->counts.failed == 0) return NULL;
    task->earlier_usd = MAX(summary->cost.usd, 0);
    return job_retry(spec, io, &observer, &task->stop, summary);
}

/* From here on others read `committed` and bring it up to date; *ret is this thread's. */
static tidemill_error *show_output(struct task *task, const struct job_spec *spec,
                                   struct job_state *ret)
{
    char *output = strdup(spec->output);
    if (output == NULL) return error_memory();
    tidemill_error *error = job_look(task->scheduler->app->io, output, ret);
    if (error != NULL) {
        free(output);
        return error;
    }
    pthread_mutex_lock(&task->scheduler->mutex);
    task->output = output;
    task->committed = *ret;
    pthread_mutex_unlock(&task->scheduler->mutex);
    task->committed_before = ret->counts.records;
    return NULL;
}

static bool is_budget_spent(const struct task *task, const struct job_spec *spec,
                            const struct job_state *done)
{
    struct job_cost cost = job_cost_prices(spec);
    if (task->budget_usd <= 0 || !job_cost_has_price(&cost)) return false;
    job_cost_fill(&cost, done->wall_s, &done->counts);
    return cost.usd >= task->budget_usd;
}

static tidemill_error *prepare(struct task *task, const struct store_job *job,
                               struct job_spec *spec)
{
    char *folder;
    TRY(store_job_folder(task->scheduler->app->store, job->id, &folder));
    free(folder);
    TRY(job_setup(task->scheduler->app, job, spec));
    struct job_state done;
    TRY(show_output(task, spec, &done));
    task->budget_usd = job->budget_usd;
    task->is_paused = details_has(job, "paused");
    /* one that is complete has nothing left to spend it on, but in a retry */
    bool has_work = !done.is_complete || details_number(job, "retries", 0) > 0;
    bool is_spent = has_work && is_budget_spent(task, spec, &done);
    if (is_spent || details_has(job, "over_budget")) ask(task, ASK_BUDGET);
    return NULL;
}

/* --- after the engine --------------------------------------------------------------------------- */

static tidemill_error *end_as(struct task *task, enum store_state state,
                              const struct job_summary *summary)
{
    const struct job_end end = {.state = state, .summary = summary};
    return job_finish(task, &end);
}

static tidemill_error *apply_waiting(struct store_job *job, void *context)
{
    job->state = STORE_WAITING;
    return job_note_counts(context, job);
}

static tidemill_error *back_to_waiting(struct task *task)
{
    bool is_done;
    return job_change(task->scheduler, task->id, STATE_BIT(STORE_RUNNING), apply_waiting,
                      task->scheduler->app, NULL, &is_done);
}

/* Stopped at a checkpoint: the row and the clock say why, before what the task was told. */
static tidemill_error *after_stop(struct task *task, const struct job_summary *summary)
{
    bool is_found;
    struct store_job job = {0};
    struct scheduler *scheduler = task->scheduler;
    int why = atomic_load(&task->ask);
    if (why == ASK_SHUTDOWN) return NULL;
    TRY(store_job_get(scheduler->app->store, NULL, task->id, &job, &is_found));
    bool is_over = is_past(&job, scheduler->tuning.now());
    enum store_state state = job.state;
    store_job_free(&job);
    if (!is_found) return NULL;
    if (state == STORE_CANCELLING) return end_as(task, STORE_CANCELLED, summary);
    if (is_over) return end_as(task, STORE_EXPIRED, summary);
    if (why == ASK_BUDGET) return end_as(task, STORE_STOPPED, summary);
    return why == ASK_HOURS ? back_to_waiting(task) : NULL;
}

static tidemill_error *run_and_end(struct task *task, const struct store_job *job,
                                   struct job_spec *spec, struct job_summary *summary)
{
    TRY(prepare(task, job, spec));
    if (atomic_load(&task->ask) != ASK_NOTHING) return after_stop(task, NULL);
    tidemill_error *error = run_engine(task, job, spec, summary);
    if (error == NULL) return end_as(task, STORE_COMPLETED, summary);
    bool is_asked = atomic_load(&task->ask) != ASK_NOTHING;
    if (!is_asked || error_code_of(error) != ERROR_INTERRUPTED) return error;
    error_free(error);
    return after_stop(task, summary);
}

static void run_job(struct task *task, const struct store_job *job)
{
    struct job_spec spec = {0};
    struct job_summary summary = {0};
    tidemill_error *error = run_and_end(task, job, &spec, &summary);
    if (error != NULL && atomic_load(&task->ask) != ASK_SHUTDOWN)
        meet_trouble(task, job, error, &summary);
    error_free(error);
    job_spec_free(&spec);
}

/* --- the kinds ---------------------------------------------------------------------------------- */

/* Also of jobs that were RUNNING when the server ended. */
static void do_run(struct task *task, const struct store_job *job)
{
    bool is_done = true;
    struct store_job row = {0};
    enum store_state state = STORE_RUNNING;
    tidemill_error *error = NULL;
    if (job->state == STORE_WAITING)
        error = job_change(task->scheduler, task->id, STATE_BIT(STORE_WAITING), job_to_state,
                           &state, &row, &is_done);
    if (error != NULL)
        meet_trouble(task, job, error, NULL);
    else if (is_done)
        run_job(task, row.id[0] != '\0' ? &row : job);
    error_free(error);
    store_job_free(&row);
}

/* Its end is tried again and again, if only room or the disk stands against it; else it ends without the
 * files. */
static void end_badly(struct task *task, const tidemill_error *error, enum store_state state)
{
    log_event(LOG_WARNING, "%s", error_message(error));
    task->pause_ms = task->scheduler->tuning.pause_max_ms;
    if (trouble_of(error_code_of(error)) != TROUBLE_FINAL) return;
    const struct job_end end = {.state = state == STORE_COMPLETED ? STORE_FAILED : state,
                                .code = error_code_name(error_code_of(error)),
                                .message = error_message(error),
                                .is_lost = true};
    tidemill_error *again = job_finish(task, &end);
    if (again == NULL) task->pause_ms = 0;
    error_free(again);
}

/* What is over without a run: a kill came between the engine's end and the job's, it was cancelled, or it
 * has expired. */
static void do_end(struct task *task, const struct store_job *job)
{
    enum store_state state = job->state == STORE_FINALIZING   ? STORE_COMPLETED
                             : job->state == STORE_CANCELLING ? STORE_CANCELLED
                                                              : STORE_EXPIRED;
    bool is_due = state != STORE_EXPIRED || is_past(job, task->scheduler->tuning.now());
    tidemill_error *error = is_due ? end_as(task, state, NULL) : NULL;
    if (error != NULL && atomic_load(&task->ask) != ASK_SHUTDOWN) end_badly(task, error, state);
    error_free(error);
}

static bool is_model(void *context, const char *model)
{
    struct app *app = context;
    return server_config_model(app->config, model) != NULL;
}

static size_t line_bytes_max(const struct server_config *config)
{
    int64_t most = (int64_t)1 << 20;
    for (size_t i = 0; i < config->n_models; i++)
        most = MAX(most, config->models[i].spec.record_bytes_max);
    return (size_t)most;
}

static tidemill_error *apply_validation(struct store_job *job, void *context)
{
    const struct validation *found = context;
    if (found->n_errors > 0) return details_set(job, "errors", found->errors.data);
    memcpy(job->model, found->model, sizeof job->model);
    job->counts = (struct store_counts){.total = found->records};
    job->bytes = found->bytes;
    job->state = STORE_WAITING;
    return NULL;
}

static tidemill_error *validate(struct task *task, const struct store_job *job,
                                struct validation *found)
{
    struct app *app = task->scheduler->app;
    char *path, *endpoint = details_text(job, "endpoint");
    tidemill_error *error = job_input_path(app, job, &path);
    if (error == NULL) {
        const struct validate_options options = {
            .io = app->io,
            .path = path,
            .endpoint = endpoint,
            .model = job->model,
            .line_bytes_max = line_bytes_max(app->config),
            .is_known = is_model,
            .context = app,
            .stop = &task->ask,
        };
        error = job_validate(&options, found);
        free(path);
    }
    free(endpoint);
    return error;
}

static tidemill_error *validate_and_note(struct task *task, const struct store_job *job)
{
    bool is_done;
    struct validation found = {0};
    struct scheduler *scheduler = task->scheduler;
    tidemill_error *error = validate(task, job, &found);
    if (error == NULL)
        error = job_change(scheduler, task->id, STATE_BIT(STORE_VALIDATING), apply_validation,
                           &found, NULL, &is_done);
    if (error == NULL && is_done && found.n_errors > 0) {
        const struct job_end end = {.state = STORE_FAILED,
                                    .code = "invalid_file",
                                    .message = "the batch's file is not valid; see errors"};
        error = job_finish(task, &end);
    }
    validation_free(&found);
    return error;
}

static void do_validate(struct task *task, const struct store_job *job)
{
    tidemill_error *error = validate_and_note(task, job);
    if (error != NULL && atomic_load(&task->ask) == ASK_NOTHING)
        meet_trouble(task, job, error, NULL);
    error_free(error);
}

void *task_main(void *argument)
{
    static void (*const kinds[TASK_KINDS])(struct task *, const struct store_job *) = {
        [TASK_VALIDATE] = do_validate, [TASK_RUN] = do_run, [TASK_END] = do_end};
    struct task *task = argument;
    struct store_job job = {0};
    bool is_found = false;
    tidemill_error *error =
        store_job_get(task->scheduler->app->store, NULL, task->id, &job, &is_found);
    if (error == NULL && is_found)
        kinds[task->kind](task, &job);
    else if (error != NULL)
        task->pause_ms = task->scheduler->tuning.pause_ms;
    error_free(error);
    store_job_free(&job);
    atomic_store(&task->is_done, 1);
    scheduler_wake(task->scheduler);
    return NULL;
}
