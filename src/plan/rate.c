/* SPDX-License-Identifier: Apache-2.0 */
/* rate.c - limits on what is asked in a time. */
#include "plan/upstream.h"

#define SECONDS_A_MINUTE 60.0
#define RETRY_SHARE 0.1
#define RETRY_LEVEL_MAX 20.0
#define RETRIES_S 10.0 /* besides, so that a slow job is not held up */

static double level_at(double level, double per_s, double capacity, double filled_s, double now_s)
{
    return MIN(level + per_s * MAX(now_s - filled_s, 0.0), capacity);
}

void rate_start(struct rate *rate, double per_minute, double now_s)
{
    double per_s = per_minute / SECONDS_A_MINUTE;
    *rate = (struct rate){.per_s = per_s, .capacity = MAX(per_s, 1.0), .filled_s = now_s};
    rate->level = 1; /* the first one need not wait */
}

double rate_wait_s(const struct rate *rate, double amount, double now_s)
{
    if (rate->per_s <= 0) return 0;
    double level = level_at(rate->level, rate->per_s, rate->capacity, rate->filled_s, now_s);
    return MAX((MIN(amount, rate->capacity) - level) / rate->per_s, 0.0);
}

void rate_take(struct rate *rate, double amount, double now_s)
{
    if (rate->per_s <= 0) return;
    rate->level =
        level_at(rate->level, rate->per_s, rate->capacity, rate->filled_s, now_s) - amount;
    rate->filled_s = now_s;
}

void retry_budget_start(struct retry_budget *budget, double now_s)
{
    *budget = (struct retry_budget){.level = RETRY_LEVEL_MAX, .filled_s = now_s};
}

void retry_budget_note_first(struct retry_budget *budget)
{
    budget->level = MIN(budget->level + RETRY_SHARE, RETRY_LEVEL_MAX);
}

double retry_budget_wait_s(const struct retry_budget *budget, double now_s)
{
    double level = level_at(budget->level, RETRIES_S, RETRY_LEVEL_MAX, budget->filled_s, now_s);
    return MAX((1 - level) / RETRIES_S, 0.0);
}

void retry_budget_take(struct retry_budget *budget, double now_s)
{
    budget->level =
        level_at(budget->level, RETRIES_S, RETRY_LEVEL_MAX, budget->filled_s, now_s) - 1;
    budget->filled_s = now_s;
}
