/* SPDX-License-Identifier: Apache-2.0 */
/* scheduler_tasks.c - what each job that has not ended needs now: a task, a word to the one that it has,
 * or time. */
#include "server/scheduler_parts.h"

#include "server/job_hours.h"

#include <errno.h>
#include <stdlib.h>

#define VALIDATIONS_MAX 2
#define ENDS_MAX 4

/* --- tasks that are there ------------------------------------------------------------------------- */

struct task *task_find(struct scheduler *scheduler, const char *id)
{
    for (struct task *task = scheduler->tasks; task != NULL; task = task->next)
        if (strcmp(task->id, id) == 0) return task;
    return NULL;
}

/* The list is changed by the scheduler's thread alone, which may therefore read it without the mutex. */
static size_t count_kind(const struct scheduler *scheduler, enum task_kind kind)
{
    size_t n = 0;
    for (const struct task *task = scheduler->tasks; task != NULL; task = task->next)
        n += task->kind == kind;
    return n;
}

static void ask(struct task *task, enum task_ask why)
{
    int nothing = ASK_NOTHING;
    if (why == ASK_SHUTDOWN)
        atomic_store(&task->ask, (int)why);
    else if (!atomic_compare_exchange_strong(&task->ask, &nothing, (int)why))
        return;
    job_stop_ask(&task->stop);
}

static void task_free(struct task *task)
{
    job_stop_fini(&task->stop);
    free(task->output);
    free(task);
}

static void set_pause(struct scheduler *scheduler, const struct task *task);

static void reap(struct scheduler *scheduler, bool are_all)
{
    for (struct task **place = &scheduler->tasks; *place != NULL;) {
        struct task *task = *place;
        if (!are_all && !atomic_load(&task->is_done)) {
            place = &task->next;
            continue;
        }
        pthread_join(task->thread, NULL);
        pthread_mutex_lock(&scheduler->mutex);
        *place = task->next;
        pthread_mutex_unlock(&scheduler->mutex);
        set_pause(scheduler, task);
        task_free(task);
    }
}

void tasks_reap(struct scheduler *scheduler)
{
    reap(scheduler, false);
}

void tasks_stop_all(struct scheduler *scheduler)
{
    for (struct task *task = scheduler->tasks; task != NULL; task = task->next)
        ask(task, ASK_SHUTDOWN);
    reap(scheduler, true);
}

/* --- pauses ------------------------------------------------------------------------------------- */

static struct pause *find_pause(const struct scheduler *scheduler, const char *id)
{
    for (size_t i = 0; i < scheduler->n_pauses; i++)
        if (strcmp(scheduler->pauses[i].id, id) == 0) return &scheduler->pauses[i];
    return NULL;
}

/* Without memory for it there is no pause but the one between two looks. */
static void set_pause(struct scheduler *scheduler, const struct task *task)
{
    if (task->pause_ms <= 0) return;
    if (scheduler->n_pauses == scheduler->pauses_capacity) {
        size_t capacity = MAX(2 * scheduler->pauses_capacity, (size_t)16);
        struct pause *pauses = realloc(scheduler->pauses, capacity * sizeof *pauses);
        if (pauses == NULL) return;
        scheduler->pauses = pauses;
        scheduler->pauses_capacity = capacity;
    }
    struct pause *pause = &scheduler->pauses[scheduler->n_pauses++];
    *pause =
        (struct pause){.kind = task->kind, .until_ns = clock_now_ns() + task->pause_ms * 1000000};
    memcpy(pause->id, task->id, STORE_ID_BYTES);
}

static void drop_pause(struct scheduler *scheduler, struct pause *pause)
{
    *pause = scheduler->pauses[--scheduler->n_pauses];
}

/* Whether a job is not to be started yet; *due: when it is. An end does not wait for what a run waits for. */
static bool is_paused(struct scheduler *scheduler, const char *id, bool is_end, int64_t now,
                      int64_t *due)
{
    struct pause *pause = find_pause(scheduler, id);
    if (pause == NULL) return false;
    int64_t left_ms = (pause->until_ns - clock_now_ns() + 999999) / 1000000;
    if (left_ms > 0 && (!is_end || pause->kind == TASK_END)) {
        *due = MIN(*due, now + left_ms);
        return true;
    }
    drop_pause(scheduler, pause);
    return false;
}

/* --- starting ----------------------------------------------------------------------------------- */

static tidemill_error *start_thread(struct task *task)
{
    int code = pthread_create(&task->thread, NULL, task_main, task);
    return code == 0 ? NULL : error_errno(ERROR_MEMORY, code, "cannot start a thread for a job");
}

static tidemill_error *start(struct scheduler *scheduler, const struct store_job *job,
                             enum task_kind kind, int64_t slot_end_at)
{
    struct task *task = calloc(1, sizeof *task);
    if (task == NULL) return error_memory();
    task->scheduler = scheduler;
    task->kind = kind;
    task->slot_end_at = slot_end_at;
    memcpy(task->id, job->id, sizeof task->id);
    tidemill_error *error = job_stop_init(&task->stop);
    if (error == NULL) error = start_thread(task);
    if (error != NULL) {
        task_free(task);
        return error;
    }
    pthread_mutex_lock(&scheduler->mutex);
    task->next = scheduler->tasks;
    scheduler->tasks = task;
    pthread_mutex_unlock(&scheduler->mutex);
    return NULL;
}

/* --- one job ------------------------------------------------------------------------------------ */

static bool is_expired(const struct store_job *job, int64_t now)
{
    bool may = job->state == STORE_WAITING || job->state == STORE_RUNNING;
    return may && job->deadline_at > 0 && now >= job->deadline_at;
}

static struct job_hours hours_of(struct scheduler *scheduler, const struct store_job *job,
                                 int64_t now)
{
    pthread_mutex_lock(&scheduler->mutex);
    struct pace pace = rates_pace(&scheduler->rates, job->model);
    pthread_mutex_unlock(&scheduler->mutex);
    return job_hours_of(scheduler->app->config, job, &pace, now);
}

/* The hours that it was started for are over: they may go on where it is not done yet. */
static bool are_hours_over(struct task *task, const struct store_job *job, int64_t now)
{
    if (task->kind != TASK_RUN || now < task->slot_end_at) return false;
    struct store_job left = *job;
    pthread_mutex_lock(&task->scheduler->mutex);
    left.counts.completed = MAX(left.counts.completed, task->progress.counts.ok);
    left.counts.failed = MAX(left.counts.failed, task->progress.counts.failed);
    pthread_mutex_unlock(&task->scheduler->mutex);
    struct job_hours hours = hours_of(task->scheduler, &left, now);
    task->slot_end_at = hours.end_at;
    return hours.start_at > now;
}

static void talk_to(struct task *task, const struct store_job *job, int64_t now, int64_t *due)
{
    if (task->kind == TASK_END) return; /* it is what was asked for, and must not be cut short */
    if (job->state == STORE_CANCELLING || is_expired(job, now))
        ask(task, ASK_LOOK);
    else if (are_hours_over(task, job, now))
        ask(task, ASK_HOURS);
    if (task->slot_end_at > now) *due = MIN(*due, task->slot_end_at);
    if (job->deadline_at > now) *due = MIN(*due, job->deadline_at);
}

static enum task_kind kind_for(const struct store_job *job, int64_t now)
{
    if (job->state == STORE_VALIDATING) return TASK_VALIDATE;
    bool is_end = job->state == STORE_CANCELLING || job->state == STORE_FINALIZING;
    return is_end || is_expired(job, now) ? TASK_END : TASK_RUN;
}

/* What needs no turn. One that ends lets the next look start what is left. */
static tidemill_error *start_at_once(struct scheduler *scheduler, const struct store_job *job,
                                     enum task_kind kind)
{
    size_t most = kind == TASK_END ? ENDS_MAX : VALIDATIONS_MAX;
    if (count_kind(scheduler, kind) >= most) return NULL;
    return start(scheduler, job, kind, INT64_MAX);
}

/* --- turns -------------------------------------------------------------------------------------- */

struct turns {
    struct scheduler *scheduler;
    struct pick_job *jobs;
    struct job_hours *hours;
    size_t n;
    int64_t now;
};

static bool has_room(const struct scheduler *scheduler)
{
    int64_t most = MAX(scheduler->app->config->jobs_max, 1);
    return count_kind(scheduler, TASK_RUN) < (size_t)most;
}

static void add_turn(struct turns *turns, const struct store_job *job)
{
    struct job_hours hours = hours_of(turns->scheduler, job, turns->now);
    /* one that ran already was ready, whatever a clock that was set back says now */
    int64_t ready_at = job->state == STORE_RUNNING ? 0 : job->ready_at;
    turns->hours[turns->n] = hours;
    turns->jobs[turns->n++] =
        (struct pick_job){.job = job, .start_at = MAX(ready_at, hours.start_at)};
}

static void remove_turn(struct turns *turns, size_t i)
{
    turns->jobs[i] = turns->jobs[--turns->n];
    turns->hours[i] = turns->hours[turns->n];
}

/* A job that was RUNNING when the server ended has had its turn: it is not given again. */
static tidemill_error *start_turn(struct turns *turns, size_t i)
{
    struct scheduler *scheduler = turns->scheduler;
    const struct store_job *job = turns->jobs[i].job;
    if (job->state == STORE_WAITING)
        TRY(shares_give(&scheduler->shares, job->tenant, job_records_left(job)));
    return start(scheduler, job, TASK_RUN, turns->hours[i].end_at);
}

static size_t first_running(const struct turns *turns)
{
    for (size_t i = 0; i < turns->n; i++)
        if (turns->jobs[i].job->state == STORE_RUNNING && turns->jobs[i].start_at <= turns->now)
            return i;
    return PICK_NONE;
}

static tidemill_error *give_turns(struct turns *turns, int64_t *due)
{
    while (has_room(turns->scheduler)) {
        size_t i = first_running(turns);
        if (i == PICK_NONE)
            i = pick_next(turns->jobs, turns->n, &turns->scheduler->shares, turns->now);
        if (i == PICK_NONE) break;
        TRY(start_turn(turns, i));
        remove_turn(turns, i);
    }
    *due = MIN(*due, pick_wake_at(turns->jobs, turns->n, turns->now));
    return NULL;
}

static tidemill_error *look_at(struct turns *turns, const struct store_job *job, int64_t *due)
{
    struct scheduler *scheduler = turns->scheduler;
    struct task *task = task_find(scheduler, job->id);
    enum task_kind kind = kind_for(job, turns->now);
    if (job->state == STORE_OPEN) return NULL;
    if (task != NULL) {
        talk_to(task, job, turns->now, due);
        return NULL;
    }
    if (job->deadline_at > turns->now) *due = MIN(*due, job->deadline_at);
    if (is_paused(scheduler, job->id, kind == TASK_END, turns->now, due)) return NULL;
    if (kind != TASK_RUN) return start_at_once(scheduler, job, kind);
    add_turn(turns, job);
    return NULL;
}

tidemill_error *tasks_step(struct scheduler *scheduler, const struct store_jobs *jobs, int64_t now,
                           int64_t *due)
{
    struct turns turns = {.scheduler = scheduler, .now = now};
    turns.jobs = calloc(jobs->n + 1, sizeof *turns.jobs);
    turns.hours = calloc(jobs->n + 1, sizeof *turns.hours);
    tidemill_error *error = turns.jobs == NULL || turns.hours == NULL ? error_memory() : NULL;
    for (size_t i = 0; i < jobs->n && error == NULL; i++)
        error = look_at(&turns, &jobs->items[i], due);
    if (error == NULL) error = give_turns(&turns, due);
    if (turns.n == 0) shares_trim(&scheduler->shares);
    free(turns.jobs);
    free(turns.hours);
    return error;
}
