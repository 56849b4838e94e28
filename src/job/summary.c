/* SPDX-License-Identifier: Apache-2.0 */
/* summary.c - what a job did and cost, as JSON for machines and as a few lines for people. */
#include "job/job.h"

#include "format/encode.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void json_text(struct buffer *out, const char *key, const char *text)
{
    buffer_printf(out, ",\"%s\":", key);
    if (text == NULL)
        buffer_text(out, "null");
    else
        format_json_string(out, text, strlen(text));
}

static const char *from_text(const char *name)
{
    return name != NULL ? name : "default";
}

void job_summary_json(const struct job_summary *summary, struct buffer *out)
{
    const struct job_counts *counts = &summary->counts;
    buffer_printf(out,
                  "{\"complete\":%s,\"resumed\":%s,\"records\":%" PRIu64 ",\"ok\":%" PRIu64
                  ",\"errors\":%" PRIu64 ",\"duplicates\":%" PRIu64 ",\"reused\":%" PRIu64
                  ",\"cached\":%" PRIu64 ",\"records_this_run\":%" PRIu64,
                  summary->is_complete ? "true" : "false", summary->is_resumed ? "true" : "false",
                  counts->records, counts->ok, counts->failed, counts->duplicates, counts->reused,
                  counts->cached, summary->records_this_run);
    buffer_printf(out,
                  ",\"wall_s\":%.3f,\"cpu_s\":%.3f,\"run_wall_s\":%.3f,\"run_cpu_s\":%.3f,"
                  "\"rows_per_s\":%.1f",
                  summary->wall_s, summary->cpu_s, summary->run_wall_s, summary->run_cpu_s,
                  summary->rate_rows_s);
    buffer_printf(out, ",\"batch\":%u,\"tokens_max\":%u,\"batch_from\":\"%s\"", summary->batch,
                  summary->tokens_max, from_text(summary->batch_from));
    buffer_printf(out, ",\"instances\":%d,\"threads\":%d,\"parallel_from\":\"%s\"",
                  summary->instances, summary->threads, from_text(summary->parallel_from));
    buffer_printf(out, ",\"tuning_s\":%.3f,\"host_restarts\":%d,\"model_busy_share\":%.3f",
                  summary->tuning_s, summary->restarts, summary->model_busy_share);
    buffer_printf(out,
                  ",\"run_rows\":%" PRIu64 ",\"tokens\":%" PRIu64 ",\"padded_tokens\":%" PRIu64,
                  summary->run_rows, summary->tokens, summary->padded_tokens);
    buffer_printf(out, ",\"peak_memory_bytes\":%" PRIu64 ",\"peak_host_memory_bytes\":%" PRIu64,
                  summary->peak_memory_bytes, summary->peak_host_memory_bytes);
    if (summary->price_usd_hour > 0)
        buffer_printf(out, ",\"price_usd_hour\":%g,\"cost_usd\":%.9g,\"cost_usd_per_million\":%.9g",
                      summary->price_usd_hour, summary->cost_usd, summary->cost_usd_per_million);
    json_text(out, "precision", summary->precision);
    buffer_text(out, ",\"deviation\":");
    deviation_json(&summary->deviation, out);
    json_text(out, "output", summary->output);
    json_text(out, "errors_file", counts->failed > 0 ? summary->errors : NULL);
    json_text(out, "runtime", summary->runtime);
    buffer_text(out, "}\n");
}

static void megabytes(struct buffer *out, uint64_t bytes)
{
    buffer_printf(out, "%.0f MB", (double)bytes / 1e6);
}

static void text_padding(uint64_t tokens, uint64_t padded_tokens, struct buffer *out)
{
    if (padded_tokens == 0) return;
    buffer_printf(out, "padding      %.1f%% of %" PRIu64 " tokens\n",
                  100 * (1 - (double)tokens / (double)padded_tokens), padded_tokens);
}

static void text_cost(const char *about, double usd, double usd_hour, double usd_per_million,
                      struct buffer *out)
{
    if (usd_hour > 0)
        buffer_printf(
            out, "cost         %s%.3g USD at %g USD an hour: %.3g USD per million predictions\n",
            about, usd, usd_hour, usd_per_million);
    else
        buffer_text(out, "cost         give --price USD-AN-HOUR or an instance type to see it\n");
}

static void text_work(const struct job_summary *summary, struct buffer *out)
{
    const struct job_counts *counts = &summary->counts;
    buffer_printf(out, "records      %" PRIu64 " (%" PRIu64 " answered, %" PRIu64 " failed",
                  counts->records, counts->ok, counts->failed);
    if (counts->duplicates > 0)
        buffer_printf(out, ", of those %" PRIu64 " with an id seen before", counts->duplicates);
    buffer_text(out, ")\n");
    if (counts->failed > 0 && summary->errors != NULL)
        buffer_printf(out, "errors       %s%s\n", summary->errors,
                      summary->is_complete ? "" : ".partial");
    buffer_printf(out, "time         %.2f s wall, %.2f s processor", summary->wall_s,
                  summary->cpu_s);
    if (summary->is_resumed)
        buffer_printf(out, " (this run %.2f s, %.2f s, %" PRIu64 " records)", summary->run_wall_s,
                      summary->run_cpu_s, summary->records_this_run);
    buffer_printf(out, "\nspeed        %.0f rows/s\n", summary->rate_rows_s);
}

/* What did not have to run, and what was run for nothing. */
static void text_savings(const struct job_summary *summary, struct buffer *out)
{
    const struct job_counts *counts = &summary->counts;
    uint64_t n_saved = counts->reused + counts->cached;
    if (n_saved > 0)
        buffer_printf(out,
                      "paid once    %" PRIu64 " of %" PRIu64 " records did not run: %" PRIu64
                      " equal to an earlier one, %" PRIu64 " from the cache\n",
                      n_saved, counts->records, counts->reused, counts->cached);
    text_padding(summary->tokens, summary->padded_tokens, out);
}

static void text_model(const struct job_summary *summary, struct buffer *out)
{
    buffer_printf(out, "model        %s, ", summary->runtime);
    if (summary->tokens_max > 0)
        buffer_printf(out, "calls of up to %u tokens", summary->tokens_max);
    else
        buffer_printf(out, "batch %u", summary->batch);
    buffer_printf(out, " (%s), %d instance%s x %d thread%s (%s), busy %.0f%%",
                  from_text(summary->batch_from), summary->instances,
                  summary->instances == 1 ? "" : "s", summary->threads,
                  summary->threads == 1 ? "" : "s", from_text(summary->parallel_from),
                  100 * summary->model_busy_share);
    if (summary->restarts > 0)
        buffer_printf(out, ", restarted %d time%s", summary->restarts,
                      summary->restarts == 1 ? "" : "s");
    buffer_text(out, "\nmemory       ");
    megabytes(out, summary->peak_memory_bytes);
    buffer_text(out, " engine, ");
    megabytes(out, summary->peak_host_memory_bytes);
    buffer_text(out, " a model process, at most\n");
}

void job_summary_text(const struct job_summary *summary, struct buffer *out)
{
    text_work(summary, out);
    text_savings(summary, out);
    text_model(summary, out);
    deviation_text(&summary->deviation, summary->precision, out);
    text_cost("", summary->cost_usd, summary->price_usd_hour, summary->cost_usd_per_million, out);
}

/* --- forecasts -------------------------------------------------------------------------------------- */

void job_forecast_json(const struct job_forecast *forecast, struct buffer *out)
{
    buffer_printf(out,
                  "{\"records\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"reused\":%" PRIu64
                  ",\"cached\":%" PRIu64 ",\"run_rows\":%" PRIu64 ",\"calls\":%" PRIu64
                  ",\"tokens\":%" PRIu64 ",\"padded_tokens\":%" PRIu64
                  ",\"instances\":%d,\"model_s\":%.3f,\"wall_s\":%.3f",
                  forecast->records, forecast->failed, forecast->reused, forecast->cached,
                  forecast->run_rows, forecast->calls, forecast->tokens, forecast->padded_tokens,
                  forecast->instances, forecast->model_s, forecast->wall_s);
    json_text(out, "precision", forecast->precision);
    buffer_text(out, ",\"deviation\":");
    deviation_json(&forecast->deviation, out);
    if (forecast->price_usd_hour > 0)
        buffer_printf(out, ",\"price_usd_hour\":%g,\"cost_usd\":%.9g,\"cost_usd_per_million\":%.9g",
                      forecast->price_usd_hour, forecast->cost_usd, forecast->cost_usd_per_million);
    buffer_text(out, "}\n");
}

void job_forecast_text(const struct job_forecast *forecast, struct buffer *out)
{
    buffer_printf(out,
                  "records      %" PRIu64 " (%" PRIu64 " cannot be read)\n"
                  "paid once    %" PRIu64 " equal to an earlier one, %" PRIu64 " from the cache\n"
                  "to run       %" PRIu64 " records in %" PRIu64 " calls of the model\n",
                  forecast->records, forecast->failed, forecast->reused, forecast->cached,
                  forecast->run_rows, forecast->calls);
    text_padding(forecast->tokens, forecast->padded_tokens, out);
    buffer_printf(out, "time         about %.3g s, with %d model process%s at once\n",
                  forecast->wall_s, forecast->instances, forecast->instances == 1 ? "" : "es");
    deviation_text(&forecast->deviation, forecast->precision, out);
    text_cost("about ", forecast->cost_usd, forecast->price_usd_hour,
              forecast->cost_usd_per_million, out);
}
