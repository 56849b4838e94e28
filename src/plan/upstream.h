/* SPDX-License-Identifier: Apache-2.0 */
/* upstream.h - how hard a server may be driven: requests under way, pauses between tries, rates. Pure:
 * times are handed in, in seconds of one clock that only goes forward. */
#ifndef TIDEMILL_PLAN_UPSTREAM_H
#define TIDEMILL_PLAN_UPSTREAM_H

#include "base/base.h"

/* --- requests under way (inflight.c) ------------------------------------------------------------- */

/* First as TCP's slow start does (RFC 5681): twice as many each round trip, while the time of a request does not
 * grow with them. Then a climb on throughput: doubling while that pays, then by steps; back to the best when it does
 * not; half at once when the server says that it is too much, and soon back to the half of where a burst of
 * that began. Later it tries again, as servers change. */
struct inflight {
    uint32_t limit; /* requests that may be under way now, >= 1 */
    uint32_t limit_max;
    bool is_starting; /* a round trip at a time */
    double round_s; /* since when so many may be under way: a round's requests begin behind that */
    double round_time_s; /* of the round's answered requests, together */
    bool is_doubling;
    uint32_t stale, held; /* intervals without gain; intervals to stay where it is */
    uint32_t hold; /* for how many it stays next time: twice as many each time that gains nothing */
    double best_rate; /* units/s; 0: none measured */
    uint32_t best_limit;
    double started_s; /* of the interval; negative: none */
    double units;
    uint32_t answers;
    uint32_t unfilled; /* answers that found far fewer requests under way than the limit */
    double cut_s;      /* of the last cut; negative: none */
    uint32_t regained; /* what a burst of cuts began with, halved; 0: no cut yet */
    uint32_t calm;     /* answers since the last cut or doubling */
};

void inflight_start(struct inflight *climb, uint32_t limit_max);
/* An answer came, worth `units` (1, or its tokens), to a request that was under way for `request_s`, while
 * `n_under_way` requests were, itself counted and those that came together with it.
 * `units` must be of one kind through a job. */
void inflight_answer(struct inflight *climb, double now_s, double request_s, double units,
                     uint32_t n_under_way);
/* The server said that it is too much (429, 503), or a request took too long; `request_s` is how long
 * that request was under way: what was started before the last cut says nothing new. */
void inflight_congested(struct inflight *climb, double now_s, double request_s);

/* --- pauses between tries (backoff.c) -------------------------------------------------------------- */

/* Exponential, with full jitter: evenly distributed over 0 and base * 2^attempt, at most `max_s`
 * ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015). attempt: 0 for the first pause. */
double backoff_s(double base_s, double max_s, uint32_t attempt, uint64_t *random_state);

/* --- rates (rate.c) ---------------------------------------------------------------------------------- */

/* A bucket that fills evenly and holds at most one second's worth. What is taken may be known only
 * afterwards: then the bucket is in debt, and nothing may be taken until that is paid. */
struct rate {
    double per_s; /* 0: no limit */
    double level, capacity;
    double filled_s;
};

void rate_start(struct rate *rate, double per_minute, double now_s); /* per_minute 0: no limit */
/* Seconds until `amount` may be taken; 0: now. */
double rate_wait_s(const struct rate *rate, double amount, double now_s);
void rate_take(struct rate *rate, double amount, double now_s);

/* Tries beyond the first ones, as a share of all: a server that fails is not asked twice as often. */
struct retry_budget {
    double level;
    double filled_s;
};

void retry_budget_start(struct retry_budget *budget, double now_s);
void retry_budget_note_first(struct retry_budget *budget); /* a first try is made */
double retry_budget_wait_s(const struct retry_budget *budget, double now_s);
void retry_budget_take(struct retry_budget *budget, double now_s);

#endif
