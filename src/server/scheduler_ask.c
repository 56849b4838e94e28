/* SPDX-License-Identifier: Apache-2.0 */
/* scheduler_ask.c - what routes ask of the scheduler: how far is it, cancel, once more, until when. */
#include "server/scheduler_parts.h"

#include "server/job_details.h"
#include "server/job_hours.h"

#include <stdlib.h>

#define PROGRESS_READ_NS ((int64_t)100 * 1000 * 1000)

/* --- progress ----------------------------------------------------------------------------------- */

/* Only what is committed is shown: it cannot go backwards, whatever is killed. */
static void refresh(struct task *task)
{
    struct job_state state;
    int64_t now_ns = clock_now_ns();
    if (task->output == NULL || task->is_closing || now_ns - task->looked_ns < PROGRESS_READ_NS)
        return;
    task->looked_ns = now_ns;
    tidemill_error *error = job_look(task->scheduler->app->io, task->output, &state);
    if (error == NULL && state.counts.records >= task->committed.counts.records)
        task->committed = state;
    error_free(error);
}

bool scheduler_progress(struct scheduler *scheduler, const char *id, struct job_progress *ret)
{
    pthread_mutex_lock(&scheduler->mutex);
    struct task *task = task_find(scheduler, id);
    bool is_running = task != NULL && task->kind == TASK_RUN && task->output != NULL;
    if (is_running) {
        refresh(task);
        *ret = task->progress;
        if (!task->has_progress)
            *ret = (struct job_progress){.share_done = -1, .left_s = -1, .cost_usd = -1};
        ret->counts = task->committed.counts;
        ret->records_done = task->committed.counts.records;
    }
    pthread_mutex_unlock(&scheduler->mutex);
    return is_running;
}

/* --- cancel ------------------------------------------------------------------------------------- */

static tidemill_error *find_of_tenant(struct scheduler *scheduler, const char *tenant,
                                      const char *id, struct store_job *ret, bool *ret_found)
{
    *ret = (struct store_job){0};
    return store_job_get(scheduler->app->store, tenant, id, ret, ret_found);
}

/* A window that collects stops to, first: the store knows of none that is open and cancelled. */
static tidemill_error *close_first(struct scheduler *scheduler, const struct store_job *job)
{
    bool is_done;
    if (job->state != STORE_OPEN) return NULL;
    return store_window_close(scheduler->app->store, job->id, scheduler->tuning.now(), &is_done);
}

/* Beside FINALIZING: all is done then, and is delivered. */
static tidemill_error *cancel(struct scheduler *scheduler, const struct store_job *job)
{
    bool is_done;
    enum store_state state = STORE_CANCELLING;
    unsigned from =
        STATE_BIT(STORE_VALIDATING) | STATE_BIT(STORE_WAITING) | STATE_BIT(STORE_RUNNING);
    TRY(close_first(scheduler, job));
    return job_change(scheduler, job->id, from, job_to_state, &state, NULL, &is_done);
}

tidemill_error *scheduler_cancel(struct scheduler *scheduler, const char *tenant, const char *id,
                                 bool *ret_found)
{
    struct store_job job;
    tidemill_error *error = find_of_tenant(scheduler, tenant, id, &job, ret_found);
    if (error == NULL && *ret_found && (STORE_TERMINAL & STATE_BIT(job.state)) != 0)
        *ret_found = false;
    if (error == NULL && *ret_found) error = cancel(scheduler, &job);
    store_job_free(&job);
    scheduler_wake(scheduler);
    return error;
}

/* --- once more ---------------------------------------------------------------------------------- */

/* What a run beside another model or input has left is of no use. */
static bool must_begin_anew(const struct store_job *job)
{
    static const enum error_code codes[] = {ERROR_CHANGED, ERROR_EXISTS, ERROR_CORRUPT};
    char *code = details_inner_text(job, "failure", "code");
    bool must = false;
    for (size_t i = 0; i < COUNT_OF(codes) && code != NULL; i++)
        must |= strcmp(code, error_code_name(codes[i])) == 0;
    free(code);
    return must;
}

static tidemill_error *remove_file(struct app *app, const char *id, const char *name)
{
    char *path;
    TRY(job_path(app, id, name, &path));
    app->io->unlink(app->io->context, path);
    free(path);
    return NULL;
}

/* What a retry left that came to its end is in the way of the next: it would count as done. One that was cut
 * short goes on. Killed in between, the job is as it was, and is asked for again. */
static tidemill_error *clear_work(struct app *app, const struct store_job *job)
{
    static const char *const of_retry[] = {"output.jsonl.retry.in", "output.jsonl.retry.out",
                                           "output.jsonl.retry.out.journal",
                                           "output.jsonl.retry.errors"};
    static const char *const all[] = {"output.jsonl.journal",
                                      "output.jsonl",
                                      "output.jsonl.partial",
                                      "output.jsonl.errors.jsonl",
                                      "output.jsonl.errors.jsonl.partial",
                                      "output.jsonl.answers"};
    bool is_anew = must_begin_anew(job);
    for (size_t i = 0; i < COUNT_OF(of_retry) && (is_anew || job->state == STORE_COMPLETED); i++)
        TRY(remove_file(app, job->id, of_retry[i]));
    if (!is_anew) return NULL;
    for (size_t i = 0; i < COUNT_OF(all); i++) TRY(remove_file(app, job->id, all[i]));
    return NULL;
}

struct again {
    struct scheduler *scheduler;
    double budget_usd;
};

static void forget_end(struct store_job *job, int64_t now)
{
    if (job->deadline_at > 0 && job->deadline_at <= now)
        job->deadline_at = now + MAX(job->deadline_at - job->created_at, (int64_t)60 * 1000);
    job->ready_at = MIN(job->created_at, now); /* at once, also if the clock is set back */
    job->counts.failed = job->counts.cancelled = job->counts.expired = 0;
}

static tidemill_error *apply_again(struct store_job *job, void *context)
{
    const struct again *again = context;
    struct scheduler *scheduler = again->scheduler;
    if (details_has(job, "errors") || job->counts.total == 0)
        return error_new(ERROR_USAGE, "%s is not valid: there is nothing that could be run",
                         job->id);
    if (job->counts.completed == job->counts.total)
        return error_new(ERROR_USAGE, "%s has no records that failed", job->id);
    TRY(clear_work(scheduler->app, job));
    if (must_begin_anew(job)) job->counts.completed = 0;
    forget_end(job, scheduler->tuning.now());
    job->budget_usd = again->budget_usd;
    job->state = STORE_WAITING;
    TRY(details_set(job, "failure", NULL));
    return details_set_number(job, "retries", details_number(job, "retries", 0) + 1);
}

tidemill_error *scheduler_retry(struct scheduler *scheduler, const char *tenant, const char *id,
                                double budget_usd, bool *ret_found)
{
    struct store_job job;
    struct again again = {scheduler, budget_usd};
    unsigned ended = STORE_TERMINAL & ((1u << STORE_STATES) - 1);
    tidemill_error *error = find_of_tenant(scheduler, tenant, id, &job, ret_found);
    store_job_free(&job);
    if (error == NULL && *ret_found)
        error = job_change(scheduler, id, ended, apply_again, &again, NULL, ret_found);
    job_indexes_forget(&scheduler->indexes, id);
    scheduler_wake(scheduler);
    return error;
}

/* --- until when --------------------------------------------------------------------------------- */

static struct pace pace_of(struct scheduler *scheduler, const char *model)
{
    pthread_mutex_lock(&scheduler->mutex);
    struct pace pace = rates_pace(&scheduler->rates, model);
    pthread_mutex_unlock(&scheduler->mutex);
    return pace;
}

static uint64_t left_of(struct scheduler *scheduler, const struct store_job *job)
{
    struct job_progress progress;
    uint64_t left = job_records_left(job);
    if (job->state != STORE_RUNNING || !scheduler_progress(scheduler, job->id, &progress))
        return left;
    uint64_t total = job->counts.total;
    return MIN(left, total - MIN(progress.counts.records, total));
}

static bool is_before(const struct store_job *other, const struct store_job *job)
{
    if (strcmp(other->id, job->id) == 0 || other->state == STORE_OPEN) return false;
    if (other->state == STORE_RUNNING) return true;
    return other->priority > job->priority ||
           (other->priority == job->priority && other->created_at <= job->created_at);
}

/* What runs or comes before it, spread over the jobs that run at a time. */
static tidemill_error *work_ahead(struct scheduler *scheduler, const struct store_job *job,
                                  int64_t *ret_ms)
{
    struct store_jobs jobs = {0};
    *ret_ms = 0;
    TRY(store_job_scan(scheduler->app->store, SCHEDULER_ACTIVE, &jobs));
    for (size_t i = 0; i < jobs.n; i++) {
        const struct store_job *other = &jobs.items[i];
        if (!is_before(other, job)) continue;
        struct pace pace = pace_of(scheduler, other->model);
        *ret_ms += job_work_ms(left_of(scheduler, other), pace.p50_rows_s);
    }
    store_jobs_free(&jobs);
    *ret_ms /= MAX(scheduler->app->config->jobs_max, 1);
    return NULL;
}

static enum verdict judge(const struct store_job *job, const struct forecast *forecast)
{
    if (forecast->p50_at == 0) return VERDICT_UNKNOWN;
    if (job->deadline_at == 0 || forecast->p90_at <= job->deadline_at) return VERDICT_ACCEPTED;
    return forecast->p50_at <= job->deadline_at ? VERDICT_AT_RISK : VERDICT_IMPOSSIBLE;
}

tidemill_error *scheduler_forecast(struct scheduler *scheduler, const struct store_job *job,
                                   struct forecast *ret)
{
    int64_t ahead_ms;
    double factor = 1;
    const struct server_config *config = scheduler->app->config;
    int64_t now = scheduler->tuning.now();
    struct pace pace = pace_of(scheduler, job->model);
    uint64_t left = left_of(scheduler, job);
    TRY(work_ahead(scheduler, job, &ahead_ms));
    bool is_running = job->state == STORE_RUNNING;
    int64_t from = MAX(now + (is_running ? 0 : ahead_ms), is_running ? now : job->ready_at);
    struct job_hours hours = job_hours_of(config, job, &pace, from);
    *ret = (struct forecast){.start_at = MAX(from, hours.start_at), .cost_usd = -1};
    if (is_running && job->state_at[STORE_RUNNING] > 0)
        ret->start_at = job->state_at[STORE_RUNNING];
    if (pace.p50_rows_s > 0) {
        ret->rate_rows_s = pace.p50_rows_s;
        ret->p50_at = job_finish_at(config, job, from, job_work_ms(left, pace.p50_rows_s), &factor);
        double unused;
        ret->p90_at = job_finish_at(config, job, from, job_work_ms(left, pace.p10_rows_s), &unused);
    }
    if (pace.usd_row >= 0) ret->cost_usd = job->cost_usd + pace.usd_row * (double)left * factor;
    ret->verdict = judge(job, ret);
    return NULL;
}
