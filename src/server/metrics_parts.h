/* SPDX-License-Identifier: Apache-2.0 */
/* metrics_parts.h - what counting and the page share. */
#ifndef TIDEMILL_SERVER_METRICS_PARTS_H
#define TIDEMILL_SERVER_METRICS_PARTS_H

#include "server/metrics.h"

#include <stdio.h>

#define METRICS_BUCKETS 18
#define METRICS_MODELS_MAX 256

struct route_metrics {
    atomic_uint_fast64_t by_class[6]; /* by the first digit of the status; 0: no answer went out */
    atomic_uint_fast64_t buckets[METRICS_BUCKETS + 1], sum_us;
};

struct model_metrics {
    char name[STORE_NAME_BYTES];
    uint64_t rows, batch_rows, tokens_run, padding, tokens_in, tokens_cached, tokens_out;
    double seconds, cost_usd;
};

struct metrics {
    struct app *app;
    int64_t started_at;
    struct route_metrics *routes; /* as the app's, and one for what fits none */
    pthread_mutex_t mutex;        /* of all below */
    struct model_metrics *models;
    size_t n_models;
    uint64_t ended[2][STORE_STATES]; /* by kind */
    uint64_t completed, failed, cancelled, expired, reused, cached;
};

double metrics_bound_s(size_t bucket);

#endif
