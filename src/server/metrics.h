/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.h - what /metrics shows: one table (metrics.def) of names, types, units and help. */
#ifndef TIDEMILL_SERVER_METRICS_H
#define TIDEMILL_SERVER_METRICS_H

#include "server/app.h"

tidemill_error *metrics_new(struct app *app, struct metrics **ret);
void metrics_free(struct metrics *metrics); /* NULL is fine */
/* net_options.after: counts the request and writes its line to the log. */
void metrics_request(struct exchange *exchange, void *app);
/* A job ended: batch sizes, padding, cache hits, cost; `summary` of all its runs, NULL where none ran.
 * Any thread. */
void metrics_job(struct metrics *metrics, const struct store_job *job,
                 const struct job_summary *summary);
/* The page; may wait for the store. */
tidemill_error *metrics_render(struct metrics *metrics, struct buffer *out);

#endif
