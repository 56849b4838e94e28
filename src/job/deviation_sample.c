/* SPDX-License-Identifier: Apache-2.0 */
/* deviation_sample.c - runs microbatches in both precisions, one call at a time, in turn. What
 * they cost is told by the hosts' processor time, which other programs disturb least. */
#include "job/deviation_sample.h"

#include <stdlib.h>

#define POLL_MS 100
#define BUDGET_S 1.0    /* of the exact model's processor time */
#define TIMED_S 0.2     /* the same, for a steady figure */
#define TOKENS_MAX 1024 /* in a call, where records of several lengths are padded */
#define PASSES_MAX 100  /* over a model that answers at once */

struct sampler {
    const struct deviation_sample *sample;
    const struct model_signature *signature;
    struct runtime *exact;
    struct deviation *deviation;
    double spent_s;
};

static double cpu_s(struct runtime *runtime)
{
    struct runtime_stats stats;
    runtime_get_stats(runtime, &stats);
    return stats.cpu_s;
}

/* One call; waits for it. done->values are the caller's to free; the data lies in the slot. */
static tidemill_error *call(const struct sampler *s, struct runtime *runtime, struct slot *slot,
                            struct microbatch *mb, struct runtime_done *done)
{
    const struct deviation_sample *sample = s->sample;
    struct work_input inputs[MODEL_VALUES_MAX];
    uint32_t rows = mb->n_rows;
    size_t n_done = 0;
    if (s->signature->is_batched && s->signature->batch_fixed > 0)
        rows = (uint32_t)s->signature->batch_fixed;
    mb->slot = slot;
    TRY(microbatch_inputs(mb, s->signature, sample->region, rows, inputs));
    struct runtime_work work = {
        .n_rows = rows,
        .inputs = inputs,
        .output_offset = slot->output_offset,
        .output_capacity = slot->output_capacity,
    };
    TRY(runtime_submit(runtime, &work));
    while (n_done == 0 && !sample->stop->is_asked)
        TRY(runtime_poll(runtime, POLL_MS, sample->stop->wake_fd, done, 1, &n_done));
    if (n_done > 0) return NULL;
    return error_new(ERROR_INTERRUPTED,
                     "stopped before the first record; the same command goes on");
}

/* Both models' answers to the microbatch. False in *ret_is_ok: one of them has none. */
static tidemill_error *call_both(struct sampler *s, struct microbatch *mb,
                                 struct runtime_done *exact, struct runtime_done *lower,
                                 bool *ret_is_ok)
{
    struct slot *slots = s->sample->slots;
    *exact = *lower = (struct runtime_done){0};
    TRY(call(s, s->exact, &slots[0], mb, exact));
    TRY(call(s, s->sample->lower, &slots[1], mb, lower));
    *ret_is_ok = exact->code == ERROR_OK && lower->code == ERROR_OK;
    return NULL;
}

/* The microbatch in both; compares the answers once, in the first pass. */
static tidemill_error *run_microbatch(struct sampler *s, struct microbatch *mb, bool is_compared)
{
    struct runtime_done exact, lower;
    bool is_ok = false;
    double exact_s = cpu_s(s->exact), lower_s = cpu_s(s->sample->lower);
    tidemill_error *error = call_both(s, mb, &exact, &lower, &is_ok);
    exact_s = cpu_s(s->exact) - exact_s;
    lower_s = cpu_s(s->sample->lower) - lower_s;
    s->spent_s += exact_s;
    if (error == NULL && is_ok) {
        s->deviation->exact_s += exact_s;
        s->deviation->lower_s += lower_s;
        if (is_compared)
            deviation_add(s->deviation, s->signature, exact.values, lower.values, mb->n_rows);
    }
    free(exact.values);
    free(lower.values);
    return error;
}

/* A step that visits all of n places in an order in which the first few lie far apart: microbatches may
 * be sorted by length. */
static size_t step_of(size_t n)
{
    size_t step = MAX(n * 5 / 8, (size_t)1);
    for (;; step++) {
        size_t a = n, b = step;
        while (b != 0) {
            size_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1) return step;
    }
}

/* Goes over the microbatches for the answers, and again while that is too short to be timed well. */
static tidemill_error *run_all(struct sampler *s, struct microbatch *const *all, size_t n)
{
    size_t step = step_of(n), n_enough = n;
    struct microbatch one = *all[0];
    one.n_rows = 1;
    TRY(run_microbatch(s, &one, false)); /* loads what the first call loads */
    s->deviation->exact_s = s->deviation->lower_s = s->spent_s = 0;
    for (int pass = 0; pass < PASSES_MAX && (pass == 0 || s->spent_s < TIMED_S); pass++) {
        for (size_t i = 0; i < n_enough; i++) {
            TRY(run_microbatch(s, all[i * step % n], pass == 0));
            bool is_enough = s->deviation->n_rows >= DEVIATION_ROWS || s->spent_s >= BUDGET_S;
            if (pass == 0 && is_enough) n_enough = i + 1;
        }
    }
    return NULL;
}

static struct plan_limits limits_of(const struct sampler *s)
{
    struct plan_limits limits = {.rows_max = MIN(s->sample->batch, (uint32_t)DEVIATION_ROWS),
                                 .is_padded = s->sample->chunk->padding->is_on};
    if (s->signature->batch_fixed > 0) limits.rows_max = (uint32_t)s->signature->batch_fixed;
    if (!s->signature->is_batched) limits.rows_max = 1;
    for (size_t i = 0; limits.is_padded && i < PLAN_CLASSES; i++) limits.tokens_max[i] = TOKENS_MAX;
    return limits;
}

/* The chunk's plan is the engine's to make: what stood there comes back. */
static tidemill_error *compare_chunk(struct sampler *s)
{
    struct chunk *chunk = s->sample->chunk;
    struct plan plan = chunk->plan;
    struct plan_limits limits = limits_of(s);
    tidemill_error *error = chunk_plan(chunk, s->signature, &limits);
    size_t n = 0, capacity = chunk->plan.n_microbatches;
    struct microbatch **all = NULL;
    if (error == NULL && capacity > 0) {
        all = arena_calloc(&chunk->arena, capacity, sizeof *all);
        if (all == NULL) error = error_memory();
    }
    for (struct microbatch *mb = chunk->microbatches; all != NULL && mb != NULL; n++) {
        all[n] = mb;
        mb = mb->next_in_chunk;
    }
    chunk->microbatches = NULL; /* arena memory, nothing else hangs on it */
    chunk->plan = plan;
    return error == NULL && n > 0 ? run_all(s, all, n) : error;
}

tidemill_error *deviation_measure(const struct deviation_sample *sample, struct deviation *ret)
{
    struct sampler s = {
        .sample = sample, .signature = runtime_signature(sample->lower), .deviation = ret};
    deviation_begin(ret, s.signature);
    TRY(error_context(runtime_open(sample->exact, sample->region, &s.exact),
                      "loading the model once more to compare with"));
    tidemill_error *error = compare_chunk(&s);
    deviation_end(ret);
    ret->host_cpu_s = cpu_s(s.exact);
    runtime_close(s.exact);
    return error;
}
