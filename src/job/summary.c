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

static void json_tokens(const struct token_usage *tokens, struct buffer *out)
{
    buffer_printf(
        out, ",\"tokens_in\":%" PRIu64 ",\"tokens_cached\":%" PRIu64 ",\"tokens_out\":%" PRIu64,
        tokens->in, tokens->cached, tokens->out);
}

static void json_lost(const struct token_usage *lost, struct buffer *out)
{
    if (lost->in + lost->out == 0) return;
    buffer_printf(out,
                  ",\"lost_tokens_in\":%" PRIu64 ",\"lost_tokens_cached\":%" PRIu64
                  ",\"lost_tokens_out\":%" PRIu64,
                  lost->in, lost->cached, lost->out);
}

/* A price that was not given is not there. */
static void json_cost(const struct job_cost *cost, struct buffer *out)
{
    if (!job_cost_has_price(cost)) return;
    if (cost->price_usd_hour > 0)
        buffer_printf(out, ",\"price_usd_hour\":%g", cost->price_usd_hour);
    if (cost->price_usd_in > 0 || cost->price_usd_out > 0)
        buffer_printf(out,
                      ",\"price_usd_in\":%g,\"price_usd_cached\":%g,\"price_usd_out\":%g,"
                      "\"cost_machine_usd\":%.9g,"
                      "\"cost_tokens_usd\":%.9g,\"lost_usd\":%.9g,\"saved_usd\":%.9g",
                      cost->price_usd_in, cost->price_usd_cached, cost->price_usd_out,
                      cost->machine_usd, cost->tokens_usd, cost->lost_usd, cost->saved_usd);
    buffer_printf(out, ",\"cost_usd\":%.9g,\"cost_usd_per_million\":%.9g", cost->usd,
                  cost->usd_per_million);
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
                  ",\"requests_under_way\":%.2f,\"run_rows\":%" PRIu64 ",\"tokens\":%" PRIu64
                  ",\"padded_tokens\":%" PRIu64,
                  summary->requests_under_way, summary->run_rows, summary->tokens,
                  summary->padded_tokens);
    buffer_printf(out, ",\"peak_memory_bytes\":%" PRIu64 ",\"peak_host_memory_bytes\":%" PRIu64,
                  summary->peak_memory_bytes, summary->peak_host_memory_bytes);
    buffer_printf(out, ",\"prompt_bytes\":%" PRIu64 ",\"prompt_bytes_shared\":%" PRIu64,
                  summary->prompt_bytes, summary->prompt_bytes_shared);
    json_tokens(&counts->tokens, out);
    json_lost(&counts->lost, out);
    json_cost(&summary->cost, out);
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

static void text_cost(const char *about, const struct job_cost *cost, bool has_tokens,
                      struct buffer *out)
{
    bool is_by_token = cost->price_usd_in > 0 || cost->price_usd_out > 0;
    if (!job_cost_has_price(cost)) {
        buffer_printf(out, "cost         give %s to see it\n",
                      has_tokens ? "--price-in and --price-out, USD for a million tokens,"
                                 : "--price USD-AN-HOUR or an instance type");
        return;
    }
    buffer_printf(out, "cost         %s%.3g USD", about, cost->usd);
    if (is_by_token)
        buffer_printf(out, " (machine %.3g + tokens %.3g)", cost->machine_usd, cost->tokens_usd);
    if (cost->price_usd_hour > 0) buffer_printf(out, " at %g USD an hour", cost->price_usd_hour);
    buffer_printf(out, ": %.3g USD per million predictions\n", cost->usd_per_million);
}

/* 1234567 -> "1,234,567" */
static void text_count(struct buffer *out, uint64_t count)
{
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%" PRIu64, count);
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0) buffer_byte(out, ',');
        buffer_byte(out, digits[i]);
    }
}

static void text_tokens(const struct token_usage *tokens, struct buffer *out)
{
    if (tokens->in + tokens->out == 0) return;
    buffer_text(out, "tokens       ");
    text_count(out, tokens->in);
    buffer_text(out, " in");
    if (tokens->cached > 0 && tokens->in > 0)
        buffer_printf(out, " (%.0f%% cached)",
                      100 * (double)MIN(tokens->cached, tokens->in) / (double)tokens->in);
    buffer_text(out, ", ");
    text_count(out, tokens->out);
    buffer_text(out, " out\n");
}

static void text_lost(const struct token_usage *lost, double usd, struct buffer *out)
{
    if (lost->in + lost->out == 0) return;
    buffer_text(out, "lost         ");
    text_count(out, lost->in);
    buffer_text(out, " in, ");
    text_count(out, lost->out);
    buffer_text(out, " out of these, paid for after a checkpoint and before a kill");
    if (usd > 0) buffer_printf(out, ": %.3g USD", usd);
    buffer_byte(out, '\n');
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
    if (n_saved > 0 && summary->cost.saved_usd > 0) {
        buffer_text(out, "saved        ");
        text_count(out, n_saved);
        buffer_printf(out, " answers, about %.3g USD of tokens\n", summary->cost.saved_usd);
    }
    text_padding(summary->tokens, summary->padded_tokens, out);
    if (summary->prompt_bytes > 0)
        buffer_printf(out,
                      "prefixes     %.0f%% of prompt bytes are shared with the request before\n",
                      100 * (double)summary->prompt_bytes_shared / (double)summary->prompt_bytes);
}

/* Nothing of a server's is known but how it was asked. */
static void text_server(const struct job_summary *summary, struct buffer *out)
{
    buffer_printf(out, "model        %s, ", summary->runtime);
    if (summary->batch > 1) buffer_printf(out, "up to %u records a request, ", summary->batch);
    buffer_printf(out, "%.1f requests under way on average\nmemory       ",
                  summary->requests_under_way);
    megabytes(out, summary->peak_memory_bytes);
    buffer_text(out, " engine, at most\n");
}

static void text_model(const struct job_summary *summary, struct buffer *out)
{
    if (summary->is_server) {
        text_server(summary, out);
        return;
    }
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
    const struct token_usage *tokens = &summary->counts.tokens;
    text_work(summary, out);
    text_tokens(tokens, out);
    text_lost(&summary->counts.lost, summary->cost.lost_usd, out);
    text_savings(summary, out);
    text_model(summary, out);
    deviation_text(&summary->deviation, summary->precision, out);
    text_cost("", &summary->cost, tokens->in + tokens->out > 0, out);
}

/* --- forecasts -------------------------------------------------------------------------------------- */

void job_forecast_json(const struct job_forecast *forecast, struct buffer *out)
{
    buffer_printf(out,
                  "{\"records\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"reused\":%" PRIu64
                  ",\"cached\":%" PRIu64 ",\"run_rows\":%" PRIu64 ",\"calls\":%" PRIu64
                  ",\"tokens\":%" PRIu64 ",\"padded_tokens\":%" PRIu64 ",\"instances\":%d",
                  forecast->records, forecast->failed, forecast->reused, forecast->cached,
                  forecast->run_rows, forecast->calls, forecast->tokens, forecast->padded_tokens,
                  forecast->instances);
    if (forecast->is_timed)
        buffer_printf(out, ",\"model_s\":%.3f,\"wall_s\":%.3f", forecast->model_s,
                      forecast->wall_s);
    else
        buffer_text(out, ",\"model_s\":null,\"wall_s\":null");
    json_text(out, "precision", forecast->precision);
    buffer_text(out, ",\"deviation\":");
    deviation_json(&forecast->deviation, out);
    if (forecast->tokens_in > 0) buffer_printf(out, ",\"tokens_in\":%" PRIu64, forecast->tokens_in);
    json_cost(&forecast->cost, out);
    buffer_text(out, "}\n");
}

static void text_forecast_cost(const struct job_forecast *forecast, struct buffer *out)
{
    if (forecast->tokens_in > 0)
        buffer_printf(out, "tokens       about %" PRIu64 " in, by the bytes; out is not known\n",
                      forecast->tokens_in);
    bool is_by_token = forecast->tokens_in > 0 && forecast->cost.price_usd_out > 0;
    bool is_part = is_by_token || (!forecast->is_timed && forecast->cost.price_usd_hour > 0);
    text_cost(is_part ? "at least about " : "about ", &forecast->cost, forecast->tokens_in > 0,
              out);
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
    if (forecast->is_timed)
        buffer_printf(out, "time         about %.3g s, with %d model process%s at once\n",
                      forecast->wall_s, forecast->instances, forecast->instances == 1 ? "" : "es");
    else
        buffer_text(out, "time         not known, as no request was made\n");
    deviation_text(&forecast->deviation, forecast->precision, out);
    text_forecast_cost(forecast, out);
}
