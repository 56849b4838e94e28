/* SPDX-License-Identifier: Apache-2.0 */
/* scheduler.h - what runs when: windows close by the clock or when they are full, jobs wait for their
 * hours and their turn, run in threads of their own through the job room, and end as rows and files.
 *
 * One linear history a job (store_job_save with the states it may come from). A kill at any point: the
 * next start finds the job's state in the store, the engine's journal in DATA/jobs/ID, and goes on. */
#ifndef TIDEMILL_SERVER_SCHEDULER_H
#define TIDEMILL_SERVER_SCHEDULER_H

#include "server/app.h"

/* Resumes what was under way, then runs until it is stopped. */
tidemill_error *scheduler_start(struct app *app, struct scheduler **ret);
/* Checkpoints running jobs and waits for them. They are RUNNING in the store, and go on at the next
 * start. NULL is fine. */
void scheduler_stop(struct scheduler *scheduler);
/* Something changed: look again. Any thread; never waits. */
void scheduler_wake(struct scheduler *scheduler);
/* Records were accepted: is their window full? Any thread; never waits. */
void scheduler_accepted(struct scheduler *scheduler, const struct store_accept *accept);

/* What the engine knows of a job that is running now; false: it is not. */
bool scheduler_progress(struct scheduler *scheduler, const char *id, struct job_progress *ret);
/* Begins to cancel; *ret_found false: there is none of this tenant, or it has ended. */
tidemill_error *scheduler_cancel(struct scheduler *scheduler, const char *tenant, const char *id,
                                 bool *ret_found);
/* An ended job's failed records once more (those that were cancelled, had no time or no budget left,
 * too): a terminal job becomes WAITING again. `budget_usd` 0: none. *ret_found as above. */
tidemill_error *scheduler_retry(struct scheduler *scheduler, const char *tenant, const char *id,
                                double budget_usd, bool *ret_found);
/* Closes a queue's open windows now (of one tenant, or of all: NULL). */
tidemill_error *scheduler_flush(struct scheduler *scheduler, const char *queue, const char *tenant,
                                size_t *ret_n);

enum verdict { VERDICT_ACCEPTED, VERDICT_AT_RISK, VERDICT_IMPOSSIBLE, VERDICT_UNKNOWN };
struct forecast {
    enum verdict verdict;             /* against its deadline */
    int64_t start_at, p50_at, p90_at; /* 0: nothing is known of this model's speed yet */
    double cost_usd;                  /* negative: no price */
    double rate_rows_s;               /* of this model, as its last jobs had it */
};
/* From the model's measured speed, what stands before it, and its hours. */
tidemill_error *scheduler_forecast(struct scheduler *scheduler, const struct store_job *job,
                                   struct forecast *ret);

/* --- what a job left: job_files.c --------------------------------------------------------------- */

/* Of record `n` of a window: its line of output or of errors, without the newline. PENDING: it is not
 * done yet (a job that is running shows what is committed). */
enum record_state { RECORD_PENDING, RECORD_OK, RECORD_FAILED, RECORD_CANCELLED, RECORD_EXPIRED };
tidemill_error *job_record(struct app *app, const struct store_job *job, uint64_t n,
                           enum record_state *ret, struct buffer *line);
/* Lines of output that are committed so far, in input order, from byte `offset` of the output on: what
 * a client streams while the job runs, and after. *ret_end: there will be no more. */
tidemill_error *job_committed(struct app *app, const struct store_job *job, uint64_t offset,
                              size_t bytes_max, struct buffer *out, bool *ret_end);

#endif
