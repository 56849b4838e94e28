/* SPDX-License-Identifier: Apache-2.0 */
/* requests.h - what lies between a record that was accepted and its answer: how many may wait, and
 * clients that wait for theirs.
 *
 * A part of delivery, which a job's end reaches first: it is started and stopped there. One thread;
 * whoever calls never waits. */
#ifndef TIDEMILL_SERVER_REQUESTS_H
#define TIDEMILL_SERVER_REQUESTS_H

#include "server/app.h"
#include "server/scheduler.h"

struct requests;
tidemill_error *requests_start(struct app *app, struct requests **ret);
void requests_stop(struct requests *requests); /* answers who still waits; NULL is fine */

/* Whether a tenant may have `n` more records waiting in a queue; they count from then on. Each that
 * was admitted is settled when the store has it, or has not. Any thread. */
bool requests_admit(struct app *app, const struct queue_config *queue, const char *tenant,
                    uint64_t n);
void requests_settle(struct app *app, const char *queue, const char *tenant, uint64_t n,
                     bool is_accepted);

/* Takes the exchange: answers with the request's state once it has ended, or as it is at `until`
 * (milliseconds, store_now's clock). `n` of `window`. */
void requests_wait(struct requests *requests, struct exchange *exchange, const char *window,
                   uint64_t n, int64_t until);
void requests_job_ended(struct requests *requests, const struct store_job *job);

/* Answers with what is known of a request now. Reads: not on a loop. False: it is not done, and
 * `is_last_word` was not asked for: nothing was answered. */
bool request_answer(struct app *app, struct exchange *exchange, const char *tenant,
                    const char *window, uint64_t n, bool is_last_word);

#endif
