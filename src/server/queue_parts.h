/* SPDX-License-Identifier: Apache-2.0 */
/* queue_parts.h - what the routes of queues share. */
#ifndef TIDEMILL_SERVER_QUEUE_PARTS_H
#define TIDEMILL_SERVER_QUEUE_PARTS_H

#include "server/access.h"
#include "server/delivery_parts.h"
#include "server/requests.h"
#include "server/results.h"
#include "server/routes.h"
#include "server/scheduler.h"

/* The queue of the first capture, if the caller may use it; else it has been answered. */
const struct queue_config *queue_of_exchange(struct app *app, struct exchange *exchange);
/* 429 with Retry-After: its windows hold as many of the tenant's records as they may. */
void queue_refuse_full(struct app *app, struct exchange *exchange,
                       const struct queue_config *queue);
/* Idempotency-Key's value, a copy without quotes (RFC 8941's strings have them). False: it is not one,
 * and that has been answered. *ret NULL: there is none. */
bool queue_idempotency_key(struct exchange *exchange, char **ret);
/* Fills what an accept has of its queue. */
void queue_fill_accept(const struct queue_config *queue, const char *tenant,
                       struct store_accept *accept);

void queue_post_record(struct exchange *exchange, void *context);  /* queue_requests.c */
void queue_post_records(struct exchange *exchange, void *context); /* queue_stream.c */

#endif
