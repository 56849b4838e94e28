/* SPDX-License-Identifier: Apache-2.0 */
/* measure.c - times calls of the model, one at a time. */
#include "job/measure.h"

#include <stdlib.h>

#define CALLS_MAX 64
#define POLL_MS 100

/* One call; waits for it. */
static tidemill_error *call_model(const struct calibration *c, struct microbatch *mb,
                                  double *ret_seconds, bool *ret_is_ok)
{
    const struct model_signature *signature = runtime_signature(c->runtime);
    struct work_input inputs[MODEL_VALUES_MAX];
    struct runtime_done done;
    size_t n_done = 0;
    mb->slot = c->slot;
    uint32_t rows = signature->is_batched && signature->batch_fixed > 0
                        ? (uint32_t)signature->batch_fixed
                        : mb->n_rows;
    TRY(microbatch_inputs(mb, signature, c->region, rows, inputs));
    struct runtime_work work = {
        .n_rows = rows,
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
tidemill_error *measure_microbatch(const struct calibration *c, struct microbatch *mb,
                                   double least_s, struct measurement *ret)
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

bool measure_fits_memory(const struct calibration *c)
{
    struct runtime_stats stats;
    runtime_get_stats(c->runtime, &stats);
    return c->memory_bytes == 0 ||
           stats.peak_memory_bytes * (uint64_t)c->instances_max <= c->memory_bytes;
}
