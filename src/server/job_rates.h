/* SPDX-License-Identifier: Apache-2.0 */
/* job_rates.h - how fast each model was in its last jobs, and what a record cost. Kept in a small file,
 * DATA/rates.json, which may be lost: then nothing is known until the next job. */
#ifndef TIDEMILL_SERVER_JOB_RATES_H
#define TIDEMILL_SERVER_JOB_RATES_H

#include "io/io.h"
#include "store/store.h"

#define RATES_KEPT 16 /* jobs of each model */

struct job_rate {
    double rows_s;
    double usd_row; /* negative: no price */
    uint64_t records;
};
struct model_rates {
    char model[STORE_NAME_BYTES];
    struct job_rate last[RATES_KEPT]; /* oldest first */
    size_t n;
};
struct rates {
    struct model_rates *models;
    size_t n;
};

/* p10 is the pace of a slow job, p50 of a usual one; long jobs say more than short ones. */
struct pace {
    double p50_rows_s, p10_rows_s; /* 0: nothing is known */
    double usd_row;                /* negative: not known */
};

void rates_free(struct rates *rates);
tidemill_error *rates_add(struct rates *rates, const char *model, const struct job_rate *rate);
struct pace rates_pace(const struct rates *rates, const char *model);
/* A file that is not there or cannot be understood gives none, with a warning. */
void rates_load(const struct io *io, const char *path, struct rates *ret);
tidemill_error *rates_save(const struct io *io, const char *path, const struct rates *rates);

#endif
