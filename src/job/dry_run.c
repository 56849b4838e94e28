/* SPDX-License-Identifier: Apache-2.0 */
/* dry_run.c - one chunk after another through everything but the model and the writer.
 *
 * The forecast is: what the plan's microbatches hold, times what such microbatches of the first chunk
 * took, over as many model processes as may run at once. What the engine does beside the model is
 * hidden behind it while the model is the slower one, and not counted. */
#include "job/dry_run.h"

#include <string.h>

/* Microbatches of the first chunk that are run, spread over its plan. */
#define SAMPLES_MAX 8
#define SAMPLE_S_MAX 2.0
/* English text has about as many; the JSON around it is counted as well. */
#define BYTES_A_TOKEN 4

struct forecast {
    const struct dry_run_config *config;
    struct job_forecast *ret;
    double unit_s; /* seconds of one model process a unit of work */
    double units;
    uint64_t json_bytes; /* that would be sent, where the model takes JSON */
};

/* What a microbatch costs in units that can be added: its tokens, padding included, and its call;
 * or its rows where records do not vary. */
static double units_of(const struct microbatch *mb, const struct plan_limits *limits)
{
    const struct padding *padding = mb->chunk->padding;
    double longest = 0;
    if (!padding->is_on) return mb->n_rows;
    for (uint32_t r = 0; r < mb->n_rows; r++) {
        const struct record *record = &mb->chunk->records[mb->rows[r]].decoded;
        longest = MAX(longest, (double)record_length(record, padding));
    }
    return longest * mb->n_rows + limits->call_tokens;
}

/* Long and short ones, large and small ones: as they come in the plan, at even distances. */
static tidemill_error *measure_units(struct forecast *forecast)
{
    const struct dry_run_config *config = forecast->config;
    size_t n = config->chunk->plan.n_microbatches, step = MAX(n / SAMPLES_MAX, (size_t)1), i = 0;
    double seconds = 0, units = 0;
    for (struct microbatch *mb = config->chunk->microbatches; mb != NULL; mb = mb->next_in_chunk) {
        struct measurement result;
        if (i++ % step != step / 2 || seconds > SAMPLE_S_MAX) continue;
        TRY(measure_microbatch(config->calibration, mb, 0, &result));
        if (!result.is_usable) continue;
        seconds += result.seconds * mb->n_rows / (double)MAX(result.rows, UINT64_C(1));
        units += units_of(mb, config->limits);
    }
    forecast->unit_s = units > 0 ? seconds / units : 0;
    return NULL;
}

/* As if they had run: so that later records find them. */
static tidemill_error *settle_all(const struct dry_run_config *config)
{
    struct chunk *chunk = config->chunk;
    for (uint32_t i = 0; i < chunk->raw.n_records && config->reuse != NULL; i++) {
        struct chunk_record *record = &chunk->records[i];
        if (!record->is_awaited) continue;
        record->state = RECORD_ANSWERED;
        record->text = "";
        TRY(reuse_settle(config->reuse, chunk, i));
    }
    return NULL;
}

static void count_records(const struct chunk *chunk, struct job_forecast *ret)
{
    ret->records += chunk->raw.n_records;
    for (size_t i = 0; i < chunk->raw.n_records; i++) {
        const struct chunk_record *record = &chunk->records[i];
        ret->failed += record->decoded.error != ERROR_OK;
        ret->reused += record->is_copy && record->origin == ORIGIN_EQUAL;
        ret->cached += record->is_copy && record->origin == ORIGIN_CACHE;
    }
}

static uint64_t bytes_of(const struct microbatch *mb)
{
    uint64_t bytes = 0;
    for (uint32_t r = 0; r < mb->n_rows; r++)
        bytes += mb->chunk->records[mb->rows[r]].decoded.inputs[0].bytes;
    return bytes;
}

static tidemill_error *plan_one(struct forecast *forecast, bool is_first)
{
    const struct dry_run_config *config = forecast->config;
    struct chunk *chunk = config->chunk;
    const struct model_signature *signature = runtime_signature(config->calibration->runtime);
    if (config->reuse != NULL) TRY(reuse_admit(config->reuse, chunk, 0));
    TRY(chunk_plan(chunk, signature, config->limits));
    if (is_first && config->is_timed) TRY(measure_units(forecast));
    for (struct microbatch *mb = chunk->microbatches; mb != NULL; mb = mb->next_in_chunk) {
        if (signature->inputs[0].is_json) forecast->json_bytes += bytes_of(mb);
        forecast->units += units_of(mb, config->limits);
        forecast->ret->run_rows += mb->n_rows;
        forecast->ret->calls++;
    }
    if (chunk->padding->is_on) {
        forecast->ret->tokens += chunk->plan.tokens;
        forecast->ret->padded_tokens += chunk->plan.padded_tokens;
    }
    TRY(settle_all(config));
    count_records(chunk, forecast->ret);
    return NULL;
}

static tidemill_error *read_next(const struct dry_run_config *config,
                                 struct decode_scratch *scratch)
{
    chunk_recycle(config->chunk, config->calibration->region);
    TRY(source_read_chunk(config->source, &config->chunk->raw));
    return chunk_decode(config->chunk, config->decoder, scratch, config->reuse);
}

static tidemill_error *plan_all(struct forecast *forecast, struct decode_scratch *scratch)
{
    const struct dry_run_config *config = forecast->config;
    TRY(plan_one(forecast, true));
    while (!config->chunk->raw.is_last) {
        if (config->stop->is_asked)
            return error_new(ERROR_INTERRUPTED, "stopped; nothing was written");
        TRY(read_next(config, scratch));
        TRY(plan_one(forecast, false));
    }
    return NULL;
}

tidemill_error *dry_run(const struct dry_run_config *config, struct job_forecast *ret)
{
    struct forecast forecast = {.config = config, .ret = ret};
    struct decode_scratch *scratch = decode_scratch_new();
    *ret = (struct job_forecast){.instances = config->calibration->instances_max,
                                 .is_timed = config->is_timed};
    if (scratch == NULL) return error_memory();
    tidemill_error *error = plan_all(&forecast, scratch);
    decode_scratch_free(scratch);
    ret->tokens_in = forecast.json_bytes / BYTES_A_TOKEN;
    ret->model_s = forecast.units * forecast.unit_s;
    ret->wall_s = ret->model_s / MAX(ret->instances, 1);
    return error;
}
