/* SPDX-License-Identifier: Apache-2.0 */
/* calibrate.c - runs microbatches of growing size one after another and lets plan/batch_climb.c
 * judge them. */
#include "job/calibrate.h"

#include <assert.h>
#include <stdlib.h>

#define BATCH_USUAL 32
/* With fewer rows than this a measurement costs more than it can save. */
#define ROWS_WORTH_MEASURING 64

/* The largest set of rows that can be stacked, as one microbatch. */
static tidemill_error *largest_group(const struct calibration *c, struct microbatch *ret)
{
    struct plan_limits limits = {.rows_max = UINT32_MAX};
    struct chunk *chunk = c->chunk;
    struct plan plan = chunk->plan;
    *ret = (struct microbatch){.chunk = chunk};
    TRY(chunk_plan(chunk, runtime_signature(c->runtime), &limits));
    for (struct microbatch *mb = chunk->microbatches; mb != NULL; mb = mb->next_in_chunk) {
        if (mb->n_rows <= ret->n_rows) continue;
        ret->rows = mb->rows;
        ret->n_rows = mb->n_rows;
    }
    chunk->microbatches = NULL; /* arena memory, nothing else hangs on it */
    chunk->plan = plan;
    return NULL;
}

static tidemill_error *climb_batch(const struct calibration *c, struct microbatch *mb,
                                   uint32_t n_rows, struct batch_climb *climb)
{
    struct measurement result;
    mb->n_rows = 1;
    TRY(measure_microbatch(c, mb, 0, &result)); /* loads what the first call loads */
    if (!result.is_usable) return NULL;
    TRY(measure_microbatch(c, mb, 0, &result));
    if (!result.is_usable) return NULL;
    batch_climb_start(climb, n_rows, c->records_total, 1 / MAX(result.seconds, 1e-9));
    while (!climb->is_done && !c->stop->is_asked) {
        mb->n_rows = climb->batch;
        TRY(measure_microbatch(c, mb, batch_climb_measure_s(climb), &result));
        if (!result.is_usable) break;
        batch_climb_step(climb, result.rows, result.seconds, measure_fits_memory(c));
    }
    return NULL;
}

tidemill_error *calibrate_batch(const struct calibration *calibration, uint32_t *ret_batch,
                                double *ret_rate_rows_s)
{
    struct microbatch mb;
    struct batch_climb climb = {0};
    *ret_batch = BATCH_USUAL;
    *ret_rate_rows_s = 0;
    TRY(largest_group(calibration, &mb));
    if (mb.n_rows < ROWS_WORTH_MEASURING) return NULL;
    TRY(climb_batch(calibration, &mb, mb.n_rows, &climb));
    if (climb.best_rate_rows_s <= 0) return NULL;
    *ret_batch = climb.best_batch;
    *ret_rate_rows_s = climb.best_rate_rows_s;
    return NULL;
}

tidemill_error *calibrate_rate(const struct calibration *calibration,
                               const struct plan_limits *limits, double *ret_rate_rows_s)
{
    struct chunk *chunk = calibration->chunk;
    struct plan plan = chunk->plan;
    struct measurement result = {0};
    *ret_rate_rows_s = 0;
    TRY(chunk_plan(chunk, runtime_signature(calibration->runtime), limits));
    struct microbatch *first = chunk->microbatches;
    chunk->microbatches = NULL; /* arena memory, nothing else hangs on it */
    chunk->plan = plan;
    if (first == NULL || chunk->raw.n_records < ROWS_WORTH_MEASURING) return NULL;
    TRY(measure_microbatch(calibration, first, 0, &result)); /* loads what the first call loads */
    if (result.is_usable) TRY(measure_microbatch(calibration, first, 0, &result));
    if (result.is_usable) *ret_rate_rows_s = (double)result.rows / MAX(result.seconds, 1e-9);
    return NULL;
}
