/* SPDX-License-Identifier: Apache-2.0 */
/* duel.c - two configurations measured in turn: when to stop, and which one is kept. */
#include "plan/plan.h"

#include "plan/median.h"

/* Rounds before the other one is dropped, and before it is taken. */
#define ROUNDS_TO_LOSE 3
#define ROUNDS_TO_WIN 5
/* The other one must be this much faster. */
#define GAIN_WORTH_TAKING 1.03
/* Beyond these nobody needs more rounds. */
#define CLEARLY_SLOWER 0.98
#define CLEARLY_FASTER 1.10
/* Of the rounds, so many must have been gains: a median can be luck where rounds differ much. */
#define SHARE_OF_GAINS 0.75

void duel_start(struct duel *duel, double budget_s)
{
    *duel = (struct duel){.budget_s = budget_s};
}

double duel_ratio(const struct duel *duel)
{
    return median_of(duel->ratios, duel->n_rounds);
}

static bool is_gain(const struct duel *duel)
{
    uint32_t n_gains = 0;
    for (uint32_t i = 0; i < duel->n_rounds; i++) n_gains += duel->ratios[i] > 1;
    return duel->n_rounds >= ROUNDS_TO_WIN && duel_ratio(duel) >= GAIN_WORTH_TAKING &&
           n_gains >= SHARE_OF_GAINS * duel->n_rounds;
}

static bool is_clear(const struct duel *duel)
{
    bool is_faster = true;
    for (uint32_t i = 0; i < duel->n_rounds; i++)
        is_faster = is_faster && duel->ratios[i] > CLEARLY_FASTER;
    return (duel->n_rounds >= ROUNDS_TO_WIN && is_faster) ||
           (duel->n_rounds >= ROUNDS_TO_LOSE && duel_ratio(duel) < CLEARLY_SLOWER);
}

void duel_step(struct duel *duel, double present_rows_s, double other_rows_s, double spent_s)
{
    duel->spent_s += spent_s;
    if (present_rows_s <= 0 || other_rows_s <= 0) {
        duel->is_done = true; /* what failed once is not chosen */
        return;
    }
    duel->ratios[duel->n_rounds++] = other_rows_s / present_rows_s;
    if (duel->n_rounds < DUEL_ROUNDS_MAX && duel->spent_s < duel->budget_s && !is_clear(duel))
        return;
    duel->is_done = true;
    duel->is_won = is_gain(duel);
}
