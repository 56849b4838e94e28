/* SPDX-License-Identifier: Apache-2.0 */
/* batch_climb.c - which batch size to measure next, and when to stop measuring. */
#include "plan/plan.h"

/* A larger batch must be this much faster to be worth its memory and its coarser checkpoints. */
#define GAIN_WORTH_TAKING 1.03
/* Below that a call is so short that what surrounds it counts: then the larger of two equals is better,
 * and the climb does not end. */
#define CALL_S_SHORT 0.002
#define GAIN_OF_SHORT_CALLS 0.99
/* Sizes tried past the best one before giving up: one slow size may be an accident of the machine. */
#define STALE_STEPS_MAX 2
/* The climb's share of the job's expected time, and its bounds. */
#define BUDGET_SHARE 0.01
#define BUDGET_S_MIN 0.06
#define BUDGET_S_MAX 2.0
/* Twice the number of sizes up to 65536: so measurements of that length fill the budget. */
#define MEASUREMENTS 32
#define MEASURE_S_MIN 0.0015

static double budget_s(double rows_total, double rate_rows_s)
{
    double expected_s = rate_rows_s > 0 ? rows_total / rate_rows_s : 0;
    return MIN(MAX(BUDGET_SHARE * expected_s, BUDGET_S_MIN), BUDGET_S_MAX);
}

void batch_climb_start(struct batch_climb *climb, uint32_t batch_max, double rows_total,
                       double first_rate_rows_s)
{
    *climb = (struct batch_climb){
        .batch = 1,
        .batch_max = MAX(batch_max, 1U),
        .best_batch = 1,
        .rows_total = rows_total,
        .budget_s = budget_s(rows_total, first_rate_rows_s),
    };
}

double batch_climb_measure_s(const struct batch_climb *climb)
{
    return MAX(climb->budget_s / MEASUREMENTS, MEASURE_S_MIN);
}

void batch_climb_step(struct batch_climb *climb, uint64_t rows, double seconds, bool fits)
{
    double rate = seconds > 0 ? (double)rows / seconds : 0;
    double call_s = rows == 0 ? 0 : seconds * climb->batch / (double)rows;
    bool is_short = call_s < CALL_S_SHORT;
    double gain = is_short ? GAIN_OF_SHORT_CALLS : GAIN_WORTH_TAKING;
    climb->spent_s += seconds;
    if (fits && rate > 0 && rate >= climb->best_rate_rows_s * gain) {
        climb->best_rate_rows_s = MAX(rate, climb->best_rate_rows_s);
        climb->best_batch = climb->batch;
        climb->stale_steps = 0;
        climb->budget_s = budget_s(climb->rows_total, rate);
    } else {
        climb->stale_steps++;
    }
    bool is_last_size = climb->batch >= climb->batch_max;
    if (!fits || is_last_size || (climb->stale_steps >= STALE_STEPS_MAX && !is_short) ||
        climb->spent_s >= climb->budget_s) {
        climb->is_done = true;
        return;
    }
    climb->batch = climb->batch > climb->batch_max / 2 ? climb->batch_max : climb->batch * 2;
}
