/* SPDX-License-Identifier: Apache-2.0 */
/* calibrate.c - runs microbatches of growing size one after another and lets plan/batch_climb.c
 * judge them. */
#include "job/calibrate.h"

#include <assert.h>
#include <stdlib.h>

#define BATCH_USUAL 32
/* With fewer rows than this a measurement costs more than it can save. */
#define ROWS_WORTH_MEASURING 64
#define CALLS_MAX 64
#define POLL_MS 100

struct measurement {
    double seconds;
    uint64_t rows;
    bool is_usable; /* every call was answered */
};

/* One call; waits for it. */
static tidemill_error *call_model(const struct calibration *c, struct microbatch *mb,
                                  double *ret_seconds, bool *ret_is_ok)
{
    const struct model_signature *signature = runtime_signature(c->runtime);
    struct work_input inputs[MODEL_VALUES_MAX];
    struct runtime_done done;
    size_t n_done = 0;
    mb->slot = c->slot;
    TRY(microbatch_inputs(mb, signature, c->region, mb->n_rows, inputs));
    struct runtime_work work = {
        .n_rows = mb->n_rows,
        .inputs = inputs,
        .output_offset = c->slot->output_offset,
        .output_capacity = c->slot->output_capacity,
    };
    double started_s = clock_now_s();
    TRY(runtime_submit(c->runtime, &work));
    while (n_done == 0 && !c->stop->is_asked)
        TRY(runtime_poll(c->runtime, POLL_MS, c->stop->wake_fd, &done, 1, &n_done));
    if (n_done == 0)
        return error_new(ERROR_INTERRUPTED,
                         "stopped before the first record; the same command goes "
                         "on");
    *ret_seconds = clock_now_s() - started_s;
    *ret_is_ok = done.code == ERROR_OK;
    mb->values = done.values;
    mb->n_values = done.n_values;
    if (*ret_is_ok) microbatch_trim(mb, c->region);
    free(done.values);
    mb->values = NULL;
    return NULL;
}

/* The first call of a size warms up and counts only when it is all that there is time for. A size is
 * judged by its fastest call: what else the machine does only ever makes calls slower. */
static tidemill_error *measure(const struct calibration *c, struct microbatch *mb, double least_s,
                               struct measurement *ret)
{
    double seconds;
    bool is_ok;
    *ret = (struct measurement){0};
    TRY(call_model(c, mb, &seconds, &is_ok));
    if (!is_ok) return NULL;
    if (seconds >= least_s) {
        *ret = (struct measurement){.seconds = seconds, .rows = mb->n_rows, .is_usable = true};
        return NULL;
    }
    double fastest_s = seconds, spent_s = 0;
    int n_calls = 0;
    for (; n_calls < CALLS_MAX && spent_s < least_s; n_calls++) {
        TRY(call_model(c, mb, &seconds, &is_ok));
        if (!is_ok) return NULL;
        spent_s += seconds;
        fastest_s = MIN(fastest_s, seconds);
    }
    *ret = (struct measurement){.seconds = fastest_s * n_calls,
                                .rows = (uint64_t)mb->n_rows * (uint64_t)n_calls,
                                .is_usable = true};
    return NULL;
}

static bool fits_memory(const struct calibration *c)
{
    struct runtime_stats stats;
    runtime_get_stats(c->runtime, &stats);
    return c->memory_bytes == 0 ||
           stats.peak_memory_bytes * (uint64_t)c->instances_max <= c->memory_bytes;
}

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
    TRY(measure(c, mb, 0, &result)); /* loads what the first call loads */
    if (!result.is_usable) return NULL;
    TRY(measure(c, mb, 0, &result));
    if (!result.is_usable) return NULL;
    batch_climb_start(climb, n_rows, c->records_total, 1 / MAX(result.seconds, 1e-9));
    while (!climb->is_done && !c->stop->is_asked) {
        mb->n_rows = climb->batch;
        TRY(measure(c, mb, batch_climb_measure_s(climb), &result));
        if (!result.is_usable) break;
        batch_climb_step(climb, result.rows, result.seconds, fits_memory(c));
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
