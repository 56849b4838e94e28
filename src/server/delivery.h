/* SPDX-License-Identifier: Apache-2.0 */
/* delivery.h - telling others that a job has ended: webhooks (Standard Webhooks), sinks that take its
 * answers, and clients that wait. At least once, with the same event id each time; what is not delivered
 * is tried again for three days, with backoff and jitter. */
#ifndef TIDEMILL_SERVER_DELIVERY_H
#define TIDEMILL_SERVER_DELIVERY_H

#include "server/app.h"

tidemill_error *delivery_start(struct app *app, struct delivery **ret);
void delivery_stop(struct delivery *delivery); /* NULL is fine */
/* The job is in a terminal state, in the store: notes what is to be delivered. Again is harmless. */
tidemill_error *delivery_job_ended(struct delivery *delivery, const struct store_job *job);

#endif
