/* SPDX-License-Identifier: Apache-2.0 */
/* run_bill.c - what a run did, took and cost, for its summary. */
#include "job/machine.h"
#include "job/run_parts.h"

#include <stdio.h>

void run_tell_tuned(struct job_summary *summary, const struct journal_plan *plan)
{
    summary->batch_from = tuned_from_name(plan->batch_from);
    summary->parallel_from = tuned_from_name(plan->parallel_from);
}

static void fill_runtime(struct run *run)
{
    struct runtime_stats stats;
    struct job_summary *summary = run->summary;
    runtime_get_stats(run->runtime, &stats);
    stats.cpu_s += run->deviation.host_cpu_s + run->tuning.ended_cpu_s;
    if (run->sink != NULL) sink_add_host_cpu(run->sink, stats.cpu_s);
    summary->run_cpu_s = clock_process_cpu_s() - run->started_cpu_s + stats.cpu_s;
    summary->instances = stats.hosts;
    summary->threads = run->resources.threads;
    summary->tuning_s = run->tuning.spent_s;
    summary->restarts = stats.restarts;
    if (run->plan.limits.is_padded)
        for (size_t i = 0; i < PLAN_CLASSES; i++)
            summary->tokens_max = MAX(summary->tokens_max, run->plan.limits.tokens_max[i]);
    summary->run_rows = run->work.rows;
    summary->tokens = run->work.tokens;
    summary->padded_tokens = run->work.padded_tokens;
    summary->prompt_bytes = run->work.prompt_bytes;
    summary->prompt_bytes_shared = run->work.prompt_bytes_shared;
    summary->peak_host_memory_bytes = stats.peak_memory_bytes;
    summary->is_server = model_kind(run->spec->model) == MODEL_HTTP;
    if (summary->is_server && summary->run_wall_s > 0)
        summary->requests_under_way = stats.busy_s / summary->run_wall_s;
    else if (summary->run_wall_s > 0 && stats.hosts > 0)
        summary->model_busy_share = stats.busy_s / (summary->run_wall_s * stats.hosts);
    snprintf(summary->runtime, sizeof summary->runtime, "%s", runtime_description(run->runtime));
}

void run_fill_summary(struct run *run)
{
    struct job_summary *summary = run->summary;
    summary->deviation = run->deviation;
    summary->run_wall_s = clock_now_s() - run->started_s;
    summary->peak_memory_bytes = machine_peak_memory_bytes(run->io);
    if (run->runtime != NULL) fill_runtime(run);
    if (run->sink != NULL) {
        summary->counts = sink_counts(run->sink);
        summary->records_this_run = summary->counts.records - run->state.commit.counts.records;
        summary->batch = run->plan.limits.rows_max;
        run_tell_tuned(summary, &run->plan);
        sink_times(run->sink, &summary->wall_s, &summary->cpu_s);
    }
    if (summary->run_wall_s > 0)
        summary->rate_rows_s = (double)summary->records_this_run / summary->run_wall_s;
    job_cost_fill(&summary->cost, summary->wall_s, &summary->counts);
}
