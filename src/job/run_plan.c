/* SPDX-License-Identifier: Apache-2.0 */
/* run_plan.c - what is decided once a job: sizes of calls, use of the cores, whether equal inputs run
 * once. It stands in the journal, so that a resumed job decides nothing again. */
#include "job/deviation_sample.h"
#include "job/identity.h"
#include "job/run_parts.h"

/* Records a call while a lower precision is measured, where none are given. */
#define SAMPLE_BATCH 64
/* Seconds of one model process a record that make up for finding out whether its input is new. */
#define DEDUP_WORTH_S 10e-6

/* How large microbatches are, and what computes them; see tune.h. */
static tidemill_error *decide_limits(struct run *run, double *ret_rate_rows_s)
{
    struct chunk *first = run->resources.chunks[0];
    run->plan.limits = (struct plan_limits){.rows_max = 1, .is_padded = run->padding.is_on};
    tidemill_error *error =
        tuning_decide(&run->tuning, first, run->is_dynamic, &run->plan, ret_rate_rows_s);
    run->runtime = run->tuning.runtime;
    return error;
}

/* Whether equal inputs are looked for: where a record costs more in the model than finding out, as it
 * does where text is generated or money paid. A cache is asked for by whom it pays. */
static tidemill_error *decide_dedup(struct run *run, double rate_rows_s)
{
    bool is_auto = run->spec->dedup == DEDUP_AUTO && run->spec->cache == NULL;
    run->plan.is_deduped = run->spec->dedup == DEDUP_ON || run->spec->cache != NULL;
    if (!is_auto) return NULL;
    enum model_kind kind = model_kind(run->spec->model);
    run->plan.is_deduped = kind == MODEL_HTTP || kind == MODEL_LLAMA;
    if (run->plan.is_deduped) return NULL;
    run->plan.is_deduped = rate_rows_s > 0 && rate_rows_s < 1 / DEDUP_WORTH_S;
    return NULL;
}

/* Remembered by the journal, or decided now. */
tidemill_error *run_decide_plan(struct run *run)
{
    const struct buffer *bytes = &run->resources.chunks[0]->raw.bytes;
    struct digest first_chunk = hash_bytes(bytes->data, bytes->size);
    if (run->state.plan.is_set) {
        run->plan = run->state.plan;
        if (digest_equal(first_chunk, run->plan.first_chunk)) return NULL;
        return error_new(ERROR_CHANGED, "the input begins with other records than when this job "
                                        "was begun; use --force to start anew");
    }
    run->plan = (struct journal_plan){
        .is_set = true,
        .first_chunk = first_chunk,
        .decoder = decoder_description(run->decoder),
    };
    double rate_rows_s = 0;
    TRY(decide_limits(run, &rate_rows_s));
    return decide_dedup(run, rate_rows_s);
}

/* A lower precision is measured once, before the job begins and before hosts are added; what is retried
 * was judged then. */
tidemill_error *run_check_precision(struct run *run)
{
    const struct job_spec *spec = run->spec;
    if (spec->precision == PRECISION_FP32 || run->state.plan.is_set || spec->line_numbers != NULL)
        return NULL;
    struct runtime_options exact = run->tuning.options;
    exact.precision = PRECISION_FP32;
    exact.instances_max = 1;
    struct deviation_sample sample = {
        .exact = &exact,
        .lower = run->runtime,
        .region = &run->resources.region,
        .slots = run->resources.slots,
        .chunk = run->resources.chunks[0],
        .batch = run->spec->batch > 0 ? (uint32_t)run->spec->batch : SAMPLE_BATCH,
        .stop = run->stop,
    };
    TRY(deviation_measure(&sample, &run->deviation));
    return deviation_check(&run->deviation, precision_name((enum precision)spec->precision),
                           spec->deviation_max);
}

/* Chunks of whole microbatches; a function of the batch size alone. */
void run_set_chunk_rows(struct run *run)
{
    uint32_t batch = run->plan.limits.rows_max, rows = run->resources.chunk_rows;
    if (run->is_dynamic)
        source_set_chunk_rows(run->source, MAX(batch, rows), 1);
    else
        source_set_chunk_rows(run->source, batch >= rows ? batch : rows / batch * batch, batch);
}

tidemill_error *run_open_reuse(struct run *run, struct reuse_config *config)
{
    if (!run->plan.is_deduped) return NULL;
    if (run->identity.n == 0) TRY(identity_of_job(run->spec, run->io, &run->identity));
    /* by whichever way it was asked; its address and protocol count as the model */
    bool is_server = model_kind(run->spec->model) == MODEL_HTTP;
    *config = (struct reuse_config){
        .io = run->io,
        .spec = run->spec,
        .identity = &run->identity,
        .encoder = run->encoder,
        .output_format = run->output_format,
        .runtime = is_server ? "server" : runtime_description(run->runtime),
        .n_inputs = runtime_signature(run->runtime)->n_inputs,
    };
    return reuse_open(config, &run->reuse);
}

/* The first chunk was decoded before it was known that equal inputs are looked for. */
tidemill_error *run_open_answers(struct run *run, const struct reuse_config *config)
{
    if (run->reuse == NULL) return NULL;
    TRY(reuse_open_answers(run->reuse, config, run->state.plan.is_set));
    return run_decode_first_chunk(run);
}
