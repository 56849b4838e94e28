/* SPDX-License-Identifier: Apache-2.0 */
/* inflight.c - how many requests under way are worth it. See upstream.h. */
#include "plan/upstream.h"

#define START 16U
/* An interval holds so many answers at least, and two for each request that may be under way: the first
 * ones were started under the limit before. */
#define ANSWERS_MIN 32U
#define INTERVAL_MIN_S 0.05
/* More requests under way must bring that share of what they would if the server had room, or they
 * only wait. */
#define GAIN_SHARE 0.4
#define GAIN_MIN 1.03 /* a smaller one is noise */
#define STALE_MAX 2U
#define HOLD_FIRST 2U
#define HOLD_MAX 20U
/* What was measured before counts a little less each interval, so that a slower server is noticed. */
#define FORGET 0.98

void inflight_start(struct inflight *climb, uint32_t limit_max)
{
    *climb = (struct inflight){
        .limit = MIN(START, limit_max),
        .limit_max = limit_max,
        .is_starting = true,
        .is_doubling = true,
        .hold = HOLD_FIRST,
        .started_s = -1,
        .round_s = -1,
        .cut_s = -1,
    };
    climb->best_limit = climb->limit;
}

static void begin_interval(struct inflight *climb, double now_s)
{
    climb->started_s = now_s;
    climb->units = 0;
    climb->answers = climb->unfilled = 0;
}

static void grow(struct inflight *climb)
{
    uint32_t step = climb->is_doubling ? climb->limit : MAX(climb->limit / 4, 1U);
    climb->limit = MIN(climb->limit + step, climb->limit_max);
}

/* No gain: once more, in case it was noise, then back to where it was best, for a while. */
static void stay(struct inflight *climb)
{
    if (++climb->stale < STALE_MAX && !climb->is_doubling) {
        grow(climb);
        return;
    }
    climb->is_doubling = false;
    climb->stale = 0;
    climb->limit = climb->best_limit;
    climb->held = climb->hold;
    climb->hold = MIN(2 * climb->hold, HOLD_MAX);
}

static bool is_gain(const struct inflight *climb, double rate)
{
    double step = (double)climb->limit / climb->best_limit - 1;
    return rate > climb->best_rate * MAX(1 + GAIN_SHARE * step, GAIN_MIN);
}

static void judge(struct inflight *climb, double rate)
{
    if (climb->held > 0) {
        climb->best_rate = MAX(climb->best_rate * FORGET, rate);
        if (--climb->held == 0) grow(climb);
    } else if (is_gain(climb, rate)) {
        climb->best_rate = rate;
        climb->best_limit = climb->limit;
        climb->stale = 0;
        climb->hold = HOLD_FIRST;
        grow(climb);
    } else {
        stay(climb);
    }
}

/* A burst of refusals leaves a limit far below what the server takes at other times. Back to half of
 * what was refused first, twice as many with each round of answers; true: still on the way. */
static bool regain(struct inflight *climb)
{
    if (climb->limit >= climb->regained) return false;
    if (climb->calm % climb->limit != 0) return true;
    climb->limit = MIN(2 * climb->limit, climb->regained);
    climb->best_limit = climb->limit;
    climb->calm = 0;
    return climb->limit < climb->regained;
}

static void begin_round(struct inflight *climb, double now_s)
{
    climb->round_s = now_s;
    climb->round_time_s = climb->units = 0;
    climb->answers = climb->unfilled = 0;
}

/* What follows measures the limit that was best from the beginning: one round may have misled. */
static void end_start(struct inflight *climb)
{
    climb->is_starting = false;
    climb->limit = climb->best_limit;
    climb->best_rate = 0;
    climb->started_s = -1;
}

/* So many requests, of that mean time each, are that rate (Little's law): it is known a round trip after
 * the limit is, while a rate that is counted needs two. */
static void judge_round(struct inflight *climb, double now_s)
{
    double rate = climb->units / MAX(climb->round_time_s, 1e-9) * climb->limit;
    if (!is_gain(climb, rate)) {
        end_start(climb);
        return;
    }
    climb->best_rate = rate;
    climb->best_limit = climb->limit;
    grow(climb);
    begin_round(climb, now_s);
    if (climb->limit == climb->best_limit) end_start(climb); /* no more are allowed */
}

/* Short answers come first. All of the first round's requests begin together, so most are waited for; later
 * on half of the limit is as many as the round has added. */
static uint32_t round_size(const struct inflight *climb)
{
    uint32_t size = climb->best_rate > 0 ? climb->limit / 2 : climb->limit - climb->limit / 8;
    return MAX(size, 1U);
}

/* An answer of the slow start. */
static void count_in_round(struct inflight *climb, double now_s, double request_s, double units,
                           bool is_filled)
{
    if (now_s - request_s < climb->round_s) return; /* under the limit before */
    climb->units += units;
    climb->round_time_s += request_s;
    climb->answers++;
    climb->unfilled += !is_filled;
    if (climb->answers < round_size(climb)) return;
    if (climb->unfilled * 4 < climb->answers)
        judge_round(climb, now_s);
    else
        begin_round(climb, now_s);
}

void inflight_answer(struct inflight *climb, double now_s, double request_s, double units,
                     uint32_t n_under_way)
{
    bool is_filled = n_under_way >= climb->limit - climb->limit / 4;
    climb->calm++;
    if (climb->is_starting) {
        count_in_round(climb, now_s, request_s, units, is_filled);
        return;
    }
    if (regain(climb)) return;
    if (climb->started_s < 0) { /* when it began is not known */
        if (n_under_way <= climb->limit) begin_interval(climb, now_s);
        return; /* else those of a higher limit are still coming */
    }
    climb->units += units;
    climb->answers++;
    climb->unfilled += !is_filled;
    double span_s = now_s - climb->started_s;
    if (climb->answers < MAX(2 * climb->limit, ANSWERS_MIN) || span_s < INTERVAL_MIN_S) return;
    /* Where there is too little work to fill the limit, a rate says nothing about it. */
    bool is_telling = climb->unfilled * 4 < climb->answers;
    if (is_telling) judge(climb, climb->units / span_s);
    begin_interval(climb, now_s);
}

void inflight_congested(struct inflight *climb, double now_s, double request_s)
{
    if (climb->cut_s >= 0 && now_s - request_s < climb->cut_s) return;
    climb->cut_s = now_s;
    /* without a round of answers since the cut before, it is the same burst still */
    bool is_new = climb->regained == 0 || climb->calm >= climb->limit;
    climb->limit = MAX(climb->limit / 2, 1U);
    if (is_new) climb->regained = climb->limit;
    climb->calm = 0;
    climb->best_limit = climb->limit;
    climb->best_rate = 0;
    climb->is_starting = climb->is_doubling = false;
    climb->stale = 0;
    climb->held = HOLD_MAX / 4;
    climb->started_s = -1;
}
