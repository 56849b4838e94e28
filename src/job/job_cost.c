/* SPDX-License-Identifier: Apache-2.0 */
/* job_cost.c - prices, seconds and tokens of a job -> what it cost, and what it did not have to. */
#include "job/job.h"

#include "cost/cost.h"

bool job_cost_has_price(const struct job_cost *cost)
{
    return cost->price_usd_hour > 0 || cost->price_usd_in > 0 || cost->price_usd_out > 0;
}

struct job_cost job_cost_prices(const struct job_spec *spec)
{
    return (struct job_cost){.price_usd_hour = spec->price_usd_hour,
                             .price_usd_in = spec->usd_in,
                             .price_usd_cached =
                                 spec->price_cached != NULL ? spec->usd_cached : spec->usd_in,
                             .price_usd_out = spec->usd_out};
}

/* An answer that was taken over is worth what one that was paid for took on average. */
static double saved_usd(const struct job_counts *counts, double tokens_usd)
{
    uint64_t n_saved = counts->reused + counts->cached;
    uint64_t n_paid = counts->records - MIN(n_saved, counts->records);
    return n_paid == 0 ? 0 : tokens_usd / (double)n_paid * (double)n_saved;
}

static double tokens_usd(const struct job_cost *prices, const struct token_usage *tokens)
{
    uint64_t cached = MIN(tokens->cached, tokens->in);
    return cost_tokens_usd(tokens->in - cached, tokens->out, prices->price_usd_in,
                           prices->price_usd_out) +
           cost_tokens_usd(cached, 0, prices->price_usd_cached, 0);
}

void job_cost_fill(struct job_cost *cost, double wall_s, const struct job_counts *counts)
{
    cost->machine_usd = cost_machine_usd(wall_s, cost->price_usd_hour);
    cost->tokens_usd = tokens_usd(cost, &counts->tokens);
    cost->usd = cost->machine_usd + cost->tokens_usd;
    cost->usd_per_million = cost_per_million_usd(cost->usd, counts->records);
    cost->lost_usd = tokens_usd(cost, &counts->lost);
    cost->saved_usd = saved_usd(counts, cost->tokens_usd - cost->lost_usd);
}
