/* SPDX-License-Identifier: Apache-2.0 */
/* calibrate.c - runs microbatches of growing size one after another and lets plan/batch_climb.c
 * judge them. */
#include "job/calibrate.h"

#include <assert.h>
#include <stdlib.h>

/* Where nothing is measured. */
#define BATCH_USUAL 32
#define TOKENS_USUAL 1024
#define CALL_TOKENS_USUAL 16
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

static tidemill_error *climb_batch(const struct calibration *c, struct probe *probe,
                                   struct batch_climb *climb)
{
    struct measurement result;
    struct microbatch *mb = &probe->mb;
    uint32_t good = 1;
    mb->n_rows = 1;
    TRY(measure_microbatch(c, mb, 0, &result)); /* loads what the first call loads */
    if (!result.is_usable) return NULL;
    TRY(measure_microbatch(c, mb, 0, &result));
    if (!result.is_usable) return NULL;
    batch_climb_start(climb, probe->rows_max, c->records_total / c->instances_max,
                      1 / MAX(result.seconds, 1e-9));
    while (!climb->is_done && !c->stop->is_asked) {
        mb->n_rows = climb->batch;
        TRY(measure_microbatch(c, mb, batch_climb_measure_s(climb), &result));
        bool fits = result.is_usable && measure_fits_memory(c);
        if (!fits) probe->rows_max = good; /* what failed once is not tried again */
        if (!result.is_usable) break;
        good = mb->n_rows;
        batch_climb_step(climb, result.rows, result.seconds, fits);
    }
    return NULL;
}

tidemill_error *calibrate_batch(const struct calibration *calibration, struct calibrated *known)
{
    struct probe *probe = &known->probes[0];
    struct batch_climb climb = {0};
    if (known->rows > 0) return NULL;
    TRY(largest_group(calibration, &probe->mb));
    if (probe->mb.n_rows < ROWS_WORTH_MEASURING) return NULL;
    probe->rows_max = probe->mb.n_rows;
    TRY(climb_batch(calibration, probe, &climb));
    if (climb.best_rate_rows_s <= 0) return NULL;
    known->n_probes = 1;
    probe->length = 1;
    probe->rows_share = 1;
    known->rows = probe->mb.n_rows = climb.best_batch;
    known->rate_rows_s = probe->rate_rows_s = climb.best_rate_rows_s;
    return NULL;
}

/* Each class takes over what the nearest measured one found; of two, the longer one's. */
static uint32_t nearest_budget(const struct calibrated *found, size_t class)
{
    for (size_t distance = 0; distance < PLAN_CLASSES; distance++) {
        if (class + distance < PLAN_CLASSES && found->tokens[class + distance] > 0)
            return found->tokens[class + distance];
        if (distance <= class && found->tokens[class - distance] > 0)
            return found->tokens[class - distance];
    }
    return TOKENS_USUAL;
}

void calibrated_limits(const struct calibrated *found, bool is_dynamic, struct plan_limits *limits)
{
    if (!is_dynamic) {
        limits->rows_max = found->rows > 0 ? found->rows : BATCH_USUAL;
        return;
    }
    for (size_t i = 0; i < PLAN_CLASSES; i++) limits->tokens_max[i] = nearest_budget(found, i);
    limits->call_tokens = found->call_tokens > 0 ? found->call_tokens : CALL_TOKENS_USUAL;
}

tidemill_error *calibrate_given(const struct calibration *calibration,
                                const struct plan_limits *limits, struct calibrated *found)
{
    struct chunk *chunk = calibration->chunk;
    struct plan plan = chunk->plan;
    struct probe *probe = &found->probes[0];
    struct measurement result = {0};
    TRY(chunk_plan(chunk, runtime_signature(calibration->runtime), limits));
    struct microbatch *first = chunk->microbatches;
    chunk->microbatches = NULL; /* arena memory, nothing else hangs on it */
    chunk->plan = plan;
    if (first == NULL || chunk->raw.n_records < ROWS_WORTH_MEASURING) return NULL;
    *probe = (struct probe){.mb = *first, .rows_max = first->n_rows, .length = 1, .rows_share = 1};
    TRY(measure_microbatch(calibration, &probe->mb, 0,
                           &result)); /* loads what the first call loads */
    if (result.is_usable) TRY(measure_microbatch(calibration, &probe->mb, 0, &result));
    if (!result.is_usable) return NULL;
    found->n_probes = 1;
    found->rate_rows_s = probe->rate_rows_s = (double)result.rows / MAX(result.seconds, 1e-9);
    return NULL;
}
