/* SPDX-License-Identifier: Apache-2.0 */
/* batch_climb.c - which batch size to measure next, and when to stop measuring. */
#include "plan/plan.h"

/* A larger batch must be this much faster to be worth its memory and its coarser checkpoints. */
#define GAIN_WORTH_TAKING 1.03
/* Sizes tried past the best one before giving up: one slow size may be an accident of the machine. */
#define STALE_STEPS_MAX 2
#define MEASURE_S_MIN 0.005

void batch_climb_start(struct batch_climb *climb, uint32_t batch_max, double budget_s)
{
    *climb = (struct batch_climb){
        .batch = 1,
        .batch_max = MAX(batch_max, 1U),
        .best_batch = 1,
        .budget_s = budget_s,
    };
}

double batch_climb_measure_s(const struct batch_climb *climb)
{
    double share = climb->budget_s / 32; /* 2 x log2(65536) measurements fill the budget */
    return MAX(share, MEASURE_S_MIN);
}

void batch_climb_step(struct batch_climb *climb, uint64_t rows, double seconds, bool fits)
{
    double rate = seconds > 0 ? (double)rows / seconds : 0;
    climb->spent_s += seconds;
    if (fits && rate > climb->best_rate_rows_s * GAIN_WORTH_TAKING) {
        climb->best_rate_rows_s = rate;
        climb->best_batch = climb->batch;
        climb->stale_steps = 0;
    } else {
        climb->stale_steps++;
    }
    bool is_last_size = climb->batch >= climb->batch_max;
    if (!fits || is_last_size || climb->stale_steps >= STALE_STEPS_MAX ||
        climb->spent_s >= climb->budget_s) {
        climb->is_done = true;
        return;
    }
    climb->batch = climb->batch > climb->batch_max / 2 ? climb->batch_max : climb->batch * 2;
}
