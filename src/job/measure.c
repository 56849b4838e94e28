/* SPDX-License-Identifier: Apache-2.0 */
/* measure.c - times calls of the model: one at a time, or as many as keep every process busy. */
#include "job/measure.h"

#include <stdlib.h>

#define CALLS_MAX 64
#define POLL_MS 100
#define BUSY_CALLS_MAX 4096
#define HOSTS_MAX 1024
#define UNITS_A_HOST 2 /* what a model process takes: one running, one waiting */
#define HOSTS_WAIT_S 60

static tidemill_error *interrupted(void)
{
    return error_new(ERROR_INTERRUPTED,
                     "stopped before the first record; the same command goes on");
}

/* `mb` as one call, its rows put where the slot's are gathered. */
static tidemill_error *prepare_call(const struct calibration *c, struct microbatch *mb,
                                    struct work_input *inputs, struct runtime_work *ret)
{
    const struct model_signature *signature = runtime_signature(c->runtime);
    mb->slot = &c->slots[0];
    uint32_t rows = signature->is_batched && signature->batch_fixed > 0
                        ? (uint32_t)signature->batch_fixed
                        : mb->n_rows;
    TRY(microbatch_inputs(mb, signature, c->region, rows, inputs));
    *ret = (struct runtime_work){
        .n_rows = rows,
        .inputs = inputs,
        .output_offset = mb->slot->output_offset,
        .output_capacity = mb->slot->output_capacity,
    };
    return NULL;
}

/* The answer is thrown away; pages that it took beyond what a slot keeps go back. */
static void drop_answer(const struct calibration *c, const struct microbatch *mb, struct slot *slot,
                        struct runtime_done *done)
{
    struct microbatch answered = *mb;
    answered.slot = slot;
    answered.values = done->values;
    answered.n_values = done->n_values;
    if (done->code == ERROR_OK) microbatch_trim(&answered, c->region);
    free(done->values);
}

/* One call; waits for it. */
static tidemill_error *call_model(const struct calibration *c, struct microbatch *mb,
                                  double *ret_seconds, bool *ret_is_ok)
{
    struct work_input inputs[MODEL_VALUES_MAX];
    struct runtime_work work;
    struct runtime_done done;
    size_t n_done = 0;
    TRY(prepare_call(c, mb, inputs, &work));
    double started_s = clock_now_s();
    TRY(runtime_submit(c->runtime, &work));
    while (n_done == 0 && !c->stop->is_asked)
        TRY(runtime_poll(c->runtime, POLL_MS, c->stop->wake_fd, &done, 1, &n_done));
    if (n_done == 0) return interrupted();
    *ret_seconds = clock_now_s() - started_s;
    *ret_is_ok = done.code == ERROR_OK;
    drop_answer(c, mb, mb->slot, &done);
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

/* --- all processes at once ------------------------------------------------------------------------ */

tidemill_error *measure_wait_for_hosts(const struct calibration *c, int n, bool *ret_is_ready)
{
    double end_s = clock_now_s() + HOSTS_WAIT_S;
    size_t wanted = UNITS_A_HOST * (size_t)MAX(n, 1), n_done;
    while (runtime_capacity(c->runtime) < wanted && clock_now_s() < end_s) {
        struct runtime_stats stats;
        if (c->stop->is_asked) return interrupted();
        runtime_get_stats(c->runtime, &stats);
        if (stats.restarts > 0) break;
        TRY(runtime_poll(c->runtime, POLL_MS, c->stop->wake_fd, NULL, 0, &n_done));
    }
    *ret_is_ready = runtime_capacity(c->runtime) >= wanted;
    return NULL;
}

struct burst {
    const struct calibration *c;
    const struct microbatch *mb;
    struct runtime_work work;
    size_t n_hosts, n_flying_max;
    size_t n_flying, n_begun, n_ended;
    double ended_s[HOSTS_MAX]; /* the last n_hosts ends, a ring */
    bool is_failed;
};

static tidemill_error *begin_call(struct burst *burst, size_t slot)
{
    struct runtime_work work = burst->work;
    work.id = slot;
    work.output_offset = burst->c->slots[slot].output_offset;
    work.output_capacity = burst->c->slots[slot].output_capacity;
    TRY(runtime_submit(burst->c->runtime, &work));
    burst->n_flying++;
    burst->n_begun++;
    return NULL;
}

/* Waits for an end; *ret_slot is free then. */
static tidemill_error *end_call(struct burst *burst, size_t *ret_slot)
{
    const struct calibration *c = burst->c;
    struct runtime_done done;
    size_t n_done = 0;
    while (n_done == 0 && !c->stop->is_asked)
        TRY(runtime_poll(c->runtime, POLL_MS, c->stop->wake_fd, &done, 1, &n_done));
    if (n_done == 0) return interrupted();
    *ret_slot = (size_t)done.id;
    burst->ended_s[burst->n_ended++ % burst->n_hosts] = clock_now_s();
    burst->n_flying--;
    burst->is_failed |= done.code != ERROR_OK;
    drop_answer(c, burst->mb, &c->slots[done.id], &done);
    return NULL;
}

/* Keeps all processes busy until `least_s` is over and `n_least` calls have begun, and waits for
 * the rest. *ret_s: seconds that a process was busy, the mean of all: what waits at the end, while
 * others still run, does not count. */
static tidemill_error *run_burst(struct burst *burst, double least_s, size_t n_least, double *ret_s)
{
    double started_s = clock_now_s(), busy_s = 0;
    burst->n_begun = burst->n_ended = 0;
    for (size_t i = 0; i < MIN(burst->n_flying_max, n_least); i++) TRY(begin_call(burst, i));
    while (burst->n_flying > 0) {
        size_t slot;
        TRY(end_call(burst, &slot));
        bool is_enough = (burst->n_begun >= n_least && clock_now_s() - started_s >= least_s) ||
                         burst->n_begun >= BUSY_CALLS_MAX;
        if (!is_enough && !burst->is_failed) TRY(begin_call(burst, slot));
    }
    size_t n = MIN(burst->n_ended, burst->n_hosts);
    for (size_t i = 0; i < n; i++) busy_s += burst->ended_s[i] - started_s;
    *ret_s = n == 0 ? 0 : busy_s / (double)n;
    return NULL;
}

tidemill_error *measure_busy(const struct calibration *c, struct microbatch *mb, double least_s,
                             struct measurement *ret)
{
    struct work_input inputs[MODEL_VALUES_MAX];
    struct burst burst = {.c = c, .mb = mb};
    double seconds = 0;
    *ret = (struct measurement){0};
    burst.n_flying_max = MIN(runtime_capacity(c->runtime), c->n_slots);
    burst.n_hosts = MIN(burst.n_flying_max / UNITS_A_HOST, (size_t)HOSTS_MAX);
    if (burst.n_hosts == 0) return NULL;
    TRY(prepare_call(c, mb, inputs, &burst.work));
    TRY(run_burst(&burst, 0, burst.n_hosts, &seconds));
    if (seconds < least_s && !burst.is_failed)
        TRY(run_burst(&burst, least_s, UNITS_A_HOST * burst.n_hosts, &seconds));
    if (burst.is_failed || seconds <= 0) return NULL;
    *ret = (struct measurement){
        .seconds = seconds, .rows = burst.n_ended * (uint64_t)mb->n_rows, .is_usable = true};
    return NULL;
}

bool measure_fits_memory(const struct calibration *c)
{
    struct runtime_stats stats;
    runtime_get_stats(c->runtime, &stats);
    return c->memory_bytes == 0 ||
           stats.peak_memory_bytes * (uint64_t)c->instances_max <= c->memory_bytes;
}
