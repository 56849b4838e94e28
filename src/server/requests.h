/* SPDX-License-Identifier: Apache-2.0 */
/* requests.h - what lies between a record that was accepted and its answer: how many may wait, and
 * clients that wait for theirs.
 *
 * A part of delivery, which a job's end reaches first: it is started and stopped there. One thread that
 * reads the store; whoever calls never waits. */
#ifndef TIDEMILL_SERVER_REQUESTS_H
#define TIDEMILL_SERVER_REQUESTS_H

#include "server/app.h"
#include "server/request_id.h"

struct requests;
tidemill_error *requests_start(struct app *app, struct requests **ret);
void requests_stop(struct requests *requests); /* answers who still waits; NULL is fine */

/* Whether a tenant may have `n` more records waiting in a queue; they count from then on. Each that
 * was admitted is settled when the store has it, or has not. Any thread. */
bool requests_admit(struct app *app, const struct queue_config *queue, const char *tenant,
                    uint64_t n);
void requests_settle(struct app *app, const char *queue, const char *tenant, uint64_t n,
                     bool is_accepted);

/* Takes the exchange: answers with the request's state once its window has ended, or as it is at `until`
 * (store_now's clock). */
void requests_wait(struct requests *requests, struct exchange *exchange,
                   const struct request_id *id, int64_t until);
/* Wakes who waits for it, and counts anew what waits in queues. */
void requests_job_ended(struct requests *requests, const char *job);

/* request_object.c: answers with what is known of a request now. Reads: not on a loop. False: it is not
 * done, and `is_last_word` was not asked for: nothing was answered. */
bool request_answer(struct app *app, struct exchange *exchange, const struct request_id *id,
                    bool is_last_word);

#endif
