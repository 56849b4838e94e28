/* SPDX-License-Identifier: Apache-2.0 */
/* scheduler_parts.h - the scheduler, as its own files share it; nobody else's.
 *
 * One thread looks at the store's jobs, closes windows, and starts tasks: threads that validate a batch,
 * run a job, or end one that was cancelled or has expired. What a job is stands in the store alone: a
 * task that ends for whatever reason leaves a state from which the next look goes on. */
#ifndef TIDEMILL_SERVER_SCHEDULER_PARTS_H
#define TIDEMILL_SERVER_SCHEDULER_PARTS_H

#include "server/app.h"
#include "server/job_index.h"
#include "server/job_rates.h"
#include "server/scheduler.h"
#include "server/scheduler_pick.h"

#define SCHEDULER_ACTIVE (~STORE_TERMINAL & ((1u << STORE_STATES) - 1))
#define STATE_BIT(state) (1u << (state))

/* What tests set otherwise. */
struct scheduler_tuning {
    int64_t (*now)(void); /* wall clock, milliseconds since 1970 */
    int tries_max;        /* in a row without progress, of what may pass by itself */
    int64_t pause_ms;     /* after the first of them; then twice as long each time, */
    int64_t pause_max_ms; /* up to this */
    int64_t look_ms;      /* so often the clock and the store are looked at in any case */
    int64_t retention_ms; /* between two looks for what is too old */
};
extern const struct scheduler_tuning scheduler_tuning_usual;
tidemill_error *scheduler_start_with(struct app *app, const struct scheduler_tuning *tuning,
                                     struct scheduler **ret);

/* --- tasks -------------------------------------------------------------------------------------- */

enum task_kind { TASK_VALIDATE, TASK_RUN, TASK_END, TASK_KINDS };

/* Why a running job was asked to stop; cancel and expiry stand in the store and on the clock. */
enum task_ask { ASK_NOTHING, ASK_LOOK, ASK_HOURS, ASK_BUDGET, ASK_SHUTDOWN };

struct task {
    struct task *next;
    struct scheduler *scheduler;
    enum task_kind kind;
    pthread_t thread;
    char id[STORE_ID_BYTES];
    int64_t slot_end_at; /* its hours end then; INT64_MAX: they do not */
    struct job_stop stop;
    _Atomic int ask;
    _Atomic int is_done;
    /* guarded by the scheduler's mutex */
    bool has_progress;
    struct job_progress progress;
    bool is_closing; /* what it commits now are no failures: not to be shown as such */
    char *output;    /* the engine's; NULL until it is known */
    int64_t looked_ns;
    struct job_state committed;
    /* the task's own */
    double budget_usd, earlier_usd; /* 0: none; spent before this run's own count begins */
    bool is_paused;                 /* the row says so; to be taken back once it goes on */
    uint64_t committed_before;      /* records, when the task began */
    /* the task's, for the scheduler, once it is done */
    int64_t pause_ms; /* not to be started again before that has passed */
};

/* A job that is not to be started again yet. By the monotonic clock: a wall clock that is set back must
 * not keep a job waiting. */
struct pause {
    char id[STORE_ID_BYTES];
    enum task_kind kind; /* what it is not started as */
    int64_t until_ns;
};

/* An open window, as scheduler_accepted needs it. */
struct open_window {
    char id[STORE_ID_BYTES];
    uint64_t max_records, max_bytes;
    bool is_full, is_seen;
};

struct scheduler {
    struct app *app;
    struct scheduler_tuning tuning;
    pthread_t thread;
    int wake_fd;
    _Atomic int is_stopping;

    pthread_mutex_t changes; /* one change of a job at a time: see job_change */

    pthread_mutex_t mutex; /* guards the following, and what tasks show */
    struct task *tasks;
    struct open_window *windows;
    size_t n_windows, windows_capacity;
    struct rates rates;

    struct job_indexes indexes; /* has a mutex of its own */

    /* the scheduler's thread alone */
    struct pause *pauses;
    size_t n_pauses, pauses_capacity;
    struct shares shares;
    int64_t cleaned_ns;
    bool has_cleaned;
    int n_failed_looks; /* in a row */
};

/* scheduler_windows.c: closes those that are due or full. *due: the next time. Returns errors of the
 * store. */
tidemill_error *windows_step(struct scheduler *scheduler, const struct store_jobs *jobs,
                             int64_t now, int64_t *due);

/* scheduler_tasks.c: asks tasks to stop, starts others. */
tidemill_error *tasks_step(struct scheduler *scheduler, const struct store_jobs *jobs, int64_t now,
                           int64_t *due);
void tasks_reap(struct scheduler *scheduler);                        /* joins those that are done */
void tasks_stop_all(struct scheduler *scheduler);                    /* asks all, joins all */
struct task *task_find(struct scheduler *scheduler, const char *id); /* under the mutex */

/* job_task.c: the thread of a task. */
void *task_main(void *task);

/* --- one job ------------------------------------------------------------------------------------ */

/* job_change.c: reads the row, and if its state is one of `from` lets `apply` change it and writes it:
 * no other change of this process comes between. *ret_done false: the state was another; nothing was
 * changed. `ret`, if not NULL, gets the row as it is now: store_job_free, if it has an id. */
typedef tidemill_error *job_apply(struct store_job *job, void *context);
tidemill_error *job_change(struct scheduler *scheduler, const char *id, unsigned from,
                           job_apply *apply, void *context, struct store_job *ret, bool *ret_done);
/* `apply`s: to the state that `context` points to. */
tidemill_error *job_to_state(struct store_job *job, void *context);
/* The counts of the row of a job that runs, or has run, brought up to the engine's last commit. */
tidemill_error *job_note_counts(struct app *app, struct store_job *job);

/* job_setup.c: what the engine is told. *ret is to be freed also after an error. */
tidemill_error *job_setup(struct app *app, const struct store_job *job, struct job_spec *ret);
tidemill_error *job_input_path(struct app *app, const struct store_job *job, char **ret);
/* DATA/jobs/ID/output.jsonl, or with another name in the folder; malloc'ed. The folder is not made. */
tidemill_error *job_path(struct app *app, const char *id, const char *name, char **ret);

/* job_closing.c: before a job ends as CANCELLED, EXPIRED or STOPPED, its engine writes out what was
 * answered. INTERRUPTED: the server stops, and the next start does it. */
tidemill_error *job_closing(struct task *task, const struct store_job *job,
                            const struct job_state *done, enum store_state end);

/* job_finish.c: hands on what the engine has done, and ends the job as `state`. `code` and `message`: why
 * it FAILED; else NULL. */
struct job_end {
    enum store_state state;
    const char *code, *message;
    const struct job_summary *summary; /* of the run that ended now; NULL: there was none */
    bool is_lost; /* what the engine has done cannot be read: every record counts as not done */
};
tidemill_error *job_finish(struct task *task, const struct job_end *end);
/* What a kill left out after the end of a job. */
tidemill_error *job_finish_again(struct scheduler *scheduler);

#endif
