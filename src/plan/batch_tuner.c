/* SPDX-License-Identifier: Apache-2.0 */
/* batch_tuner.c - compares the batch sizes around a good one in rounds. */
#include "plan/plan.h"

#include "plan/median.h"

#include <math.h>

#define BUDGET_SHARE 0.03
#define BUDGET_S_MAX 5.0

#define STEP 1.4142135623730951
#define EVEN 8
#define EVEN_FROM 64
/* Rounds that a full run of three points has; measurements are as long as that allows. */
#define MEASUREMENTS (3 * TUNER_ROUNDS_MAX)
#define MEASURE_S_MIN 0.002
/* Another size must be this much faster than the start, whose place it takes; after few rounds more. */
#define GAIN 1.01
#define GAIN_OF_FEW_ROUNDS 1.03
#define FEW_ROUNDS 3
/* ... and in so many of the rounds, or the machine is too noisy to tell. */
#define SHARE_OF_GAINS 0.65
/* After this many rounds a point that was so far behind the best in all of them is not measured again. */
#define ROUNDS_BEFORE_DROPPING 3
#define HOPELESS 0.93

double tuning_budget_s(double rows_total, double rate_rows_s)
{
    if (!(rows_total > 0) || !(rate_rows_s > 0)) return 0;
    return MIN(BUDGET_SHARE * rows_total / rate_rows_s, BUDGET_S_MAX);
}

/* Larger sizes are whole multiples of what processors take at once. False: it is there already. */
static bool add_point(struct batch_tuner *tuner, double batch)
{
    double whole = batch >= EVEN_FROM ? round(batch / EVEN) * EVEN : round(batch);
    uint32_t size = (uint32_t)MIN(MAX(whole, 1.0), (double)tuner->batch_max);
    if (tuner->n_points == TUNER_POINTS_MAX) return false;
    for (uint32_t i = 0; i < tuner->n_points; i++)
        if (tuner->points[i].batch == size) return false;
    tuner->points[tuner->n_points++] = (struct tuner_point){.batch = size};
    return true;
}

void batch_tuner_start(struct batch_tuner *tuner, uint32_t batch, uint32_t batch_max,
                       double budget_s)
{
    *tuner = (struct batch_tuner){.batch_max = MAX(batch_max, 1U), .budget_s = budget_s};
    tuner->batch = MIN(MAX(batch, 1U), tuner->batch_max);
    tuner->points[tuner->n_points++].batch = tuner->batch;
    /* small sizes are far apart: the neighbours are the next whole numbers */
    add_point(tuner, MIN(tuner->batch / STEP, tuner->batch - 1.0));
    add_point(tuner, MAX(tuner->batch * STEP, tuner->batch + 1.0));
    tuner->is_done = tuner->n_points == 1 || budget_s <= 0;
}

double batch_tuner_measure_s(const struct batch_tuner *tuner)
{
    return MAX(tuner->budget_s / MEASUREMENTS, MEASURE_S_MIN);
}

/* Ratios to the start, of the rounds that have both; returns how many. */
static uint32_t ratios_of(const struct batch_tuner *tuner, const struct tuner_point *point,
                          double *ratios)
{
    uint32_t n = 0;
    for (uint32_t r = 0; r < tuner->n_rounds; r++)
        if (point->rates[r] > 0 && tuner->points[0].rates[r] > 0)
            ratios[n++] = point->rates[r] / tuner->points[0].rates[r];
    return n;
}

static double fastest(const struct tuner_point *point)
{
    double rate = 0;
    for (uint32_t r = 0; r < TUNER_ROUNDS_MAX; r++) rate = MAX(rate, point->rates[r]);
    return rate;
}

/* What else the machine does makes a measurement slower, never faster. The median of few ratios may come
 * from rounds in which the start was hit; then the fastest measurements of both say so. */
static double score_of(const struct batch_tuner *tuner, const struct tuner_point *point)
{
    double ratios[TUNER_ROUNDS_MAX];
    double median = median_of(ratios, ratios_of(tuner, point, ratios));
    double start_rate = fastest(&tuner->points[0]);
    return start_rate > 0 ? MIN(median, fastest(point) / start_rate) : 0;
}

static bool is_hopeless(const struct batch_tuner *tuner, const struct tuner_point *point,
                        double best_score)
{
    double ratios[TUNER_ROUNDS_MAX], highest = 0;
    uint32_t n = ratios_of(tuner, point, ratios);
    for (uint32_t i = 0; i < n; i++) highest = MAX(highest, ratios[i]);
    return n >= ROUNDS_BEFORE_DROPPING && highest < HOPELESS * best_score;
}

static uint32_t rounds_of(const struct tuner_point *point)
{
    uint32_t n = 0;
    for (uint32_t r = 0; r < TUNER_ROUNDS_MAX; r++) n += point->rates[r] > 0;
    return n;
}

static const struct tuner_point *leader(const struct batch_tuner *tuner)
{
    const struct tuner_point *best = &tuner->points[0];
    for (uint32_t i = 1; i < tuner->n_points; i++)
        if (!tuner->points[i].is_out && tuner->points[i].score > MAX(best->score, 1.0))
            best = &tuner->points[i];
    return best;
}

/* The best point is the smallest or the largest one: what lies beyond may be better still. */
static void extend(struct batch_tuner *tuner, const struct tuner_point *best)
{
    bool is_smallest = true, is_largest = true;
    if (best == &tuner->points[0]) return;
    for (uint32_t i = 0; i < tuner->n_points; i++) {
        is_smallest &= tuner->points[i].batch >= best->batch;
        is_largest &= tuner->points[i].batch <= best->batch;
    }
    double batch = best->batch;
    if (is_smallest) add_point(tuner, MIN(batch / STEP, batch - 1));
    if (is_largest) add_point(tuner, MAX(batch * STEP, batch + 1));
}

static void end_round(struct batch_tuner *tuner)
{
    tuner->n_rounds++;
    for (uint32_t i = 0; i < tuner->n_points; i++)
        tuner->points[i].score = score_of(tuner, &tuner->points[i]);
    const struct tuner_point *best = leader(tuner);
    double best_score = MAX(best->score, 1.0);
    uint32_t n_left = 0;
    for (uint32_t i = 1; i < tuner->n_points; i++) {
        struct tuner_point *point = &tuner->points[i];
        point->is_out |= is_hopeless(tuner, point, best_score);
        n_left += !point->is_out;
    }
    if (tuner->n_rounds < TUNER_ROUNDS_MAX - ROUNDS_BEFORE_DROPPING) extend(tuner, best);
    tuner->is_done = tuner->n_rounds == TUNER_ROUNDS_MAX || n_left == 0;
}

static void next_point(struct batch_tuner *tuner)
{
    do {
        tuner->place++;
    } while (tuner->place < tuner->n_points && tuner->points[tuner->place].is_out);
    if (tuner->place == tuner->n_points) {
        end_round(tuner);
        tuner->place = 0;
    }
    tuner->batch = tuner->points[tuner->place].batch;
}

void batch_tuner_step(struct batch_tuner *tuner, uint64_t rows, double seconds, double spent_s,
                      bool fits)
{
    struct tuner_point *point = &tuner->points[tuner->place];
    tuner->spent_s += spent_s;
    if (fits && seconds > 0 && rows > 0)
        point->rates[tuner->n_rounds] = (double)rows / seconds;
    else
        point->is_out = true;
    if (!fits) tuner->batch_max = MIN(tuner->batch_max, MAX(point->batch, 2U) - 1);
    next_point(tuner);
    if (tuner->spent_s >= tuner->budget_s || tuner->points[0].is_out) tuner->is_done = true;
}

static bool is_gain(const struct batch_tuner *tuner, const struct tuner_point *point)
{
    double ratios[TUNER_ROUNDS_MAX];
    double gain = rounds_of(point) < FEW_ROUNDS ? GAIN_OF_FEW_ROUNDS : GAIN;
    uint32_t n = ratios_of(tuner, point, ratios), n_gains = 0;
    for (uint32_t i = 0; i < n; i++) n_gains += ratios[i] > 1;
    return !point->is_out && point->score >= gain && n_gains >= SHARE_OF_GAINS * n;
}

uint32_t batch_tuner_best(const struct batch_tuner *tuner, double *ret_rate_rows_s)
{
    const struct tuner_point *best = &tuner->points[0];
    double best_score = 1;
    for (uint32_t i = 1; i < tuner->n_points; i++) {
        const struct tuner_point *point = &tuner->points[i];
        if (!is_gain(tuner, point) || point->score <= best_score) continue;
        best = point;
        best_score = point->score;
    }
    double rates[TUNER_ROUNDS_MAX];
    uint32_t n = 0;
    for (uint32_t r = 0; r < TUNER_ROUNDS_MAX; r++)
        if (best->rates[r] > 0) rates[n++] = best->rates[r];
    *ret_rate_rows_s = median_of(rates, n);
    return best->batch;
}
