/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - the way into the room that decides what runs together. Pure: the same rows and limits give
 * the same plan; no clock, no I/O, no state.
 *
 * A plan covers one chunk. It puts every row into exactly one microbatch; rows of a microbatch have
 * the same shape key. The order inside is the planner's business: results are put back in input
 * order by who collects them. */
#ifndef TIDEMILL_PLAN_PLAN_H
#define TIDEMILL_PLAN_PLAN_H

#include "base/base.h"
#include "plan/prefix.h"   /* an order of prompts in which shared prefixes are neighbours */
#include "plan/upstream.h" /* how hard a server may be driven */
#include "plan/window.h"   /* when a queue becomes a job, and when it may run */

struct plan_row {
    uint32_t index;  /* of the record in its chunk */
    uint32_t length; /* tokens, or elements, along the variable dimension; 1 where there is none */
    uint64_t shape_key; /* equal keys: the rows can be stacked, with padding as they are */
};

/* Classes of lengths: class c holds lengths above 2^(c-1) up to 2^c, the first one 0 and 1, the last
 * one all that is longer. */
#define PLAN_CLASSES 20
uint32_t plan_class_of(uint32_t length);

struct plan_limits {
    uint32_t rows_max; /* rows a microbatch, >= 1 */
    /* Tokens a microbatch, padding included: its rows x its longest row, by the class of that; 0: no
     * limit. A row that is longer than the limit is alone. */
    uint32_t tokens_max[PLAN_CLASSES];
    uint32_t call_tokens; /* what a call costs beside its tokens, in tokens */
    bool is_padded;       /* rows of one key may differ in length: shorter ones are padded */
};

struct plan_microbatch {
    uint32_t first; /* rows plan->order[first .. first + count) */
    uint32_t count;
};

struct plan {
    uint32_t *order; /* indices of the records in the order of execution */
    size_t n_rows;
    uint64_t tokens;        /* of all rows */
    uint64_t padded_tokens; /* what the microbatches hold: each its rows x its longest row */
    struct plan_microbatch *microbatches;
    size_t n_microbatches;
};

/* Rows that may be padded are sorted, longest first (so that a batch too large for the memory is found
 * at once), and cut where calls and padding together cost least; see plan.c for the bound on padding.
 * Others keep the input's order. Allocates from `arena`; the plan lives as long as that. */
tidemill_error *plan_chunk(const struct plan_row *rows, size_t n_rows,
                           const struct plan_limits *limits, struct arena *arena, struct plan *ret);

/* --- batch size by measuring ---------------------------------------------------------------------- */

/* A climb over batch sizes 1, 2, 4, ... that stops when rows/s no longer grow, when memory would
 * pass the limit, or when the sizes or the time budget run out. The caller measures; this decides.
 * The budget is a share of the time that the whole job takes at the best rate known, within bounds. */
struct batch_climb {
    uint32_t batch; /* to be measured next */
    uint32_t batch_max;
    uint32_t best_batch;
    double best_rate_rows_s;
    double rows_total; /* of the job; 0: not known */
    double spent_s, budget_s;
    uint32_t stale_steps; /* steps since the best one */
    bool is_done;
};

/* `first_rate_rows_s`: one rough measurement at batch 1. */
void batch_climb_start(struct batch_climb *climb, uint32_t batch_max, double rows_total,
                       double first_rate_rows_s);
/* Seconds that one measurement at the present size should last at least, for a steady figure. */
double batch_climb_measure_s(const struct batch_climb *climb);
/* `rows` rows took `seconds` at climb->batch; `fits` false: memory would pass the limit. */
void batch_climb_step(struct batch_climb *climb, uint64_t rows, double seconds, bool fits);

/* --- finer steps, and other machines, by comparing in rounds -------------------------------------- */

/* Seconds that all tuning of a job of `rows_total` rows may take, if it runs at `rate_rows_s`: a share of
 * its expected time, within a bound. 0: not known. */
double tuning_budget_s(double rows_total, double rate_rows_s);

#define TUNER_POINTS_MAX 8
#define TUNER_ROUNDS_MAX 9

struct tuner_point {
    uint32_t batch;
    double rates[TUNER_ROUNDS_MAX]; /* rows/s by round; 0: not measured in that one */
    double score;                   /* its rate / the start's, as far as that is sure */
    bool is_out;                    /* clearly slower, or it does not fit */
};

/* The surroundings of a batch size: x 0.71 and x 1.41, further where the edge is best. All points are
 * measured in turn, round by round, so that what else the machine does hits all of them; a point is
 * judged by its ratios to the start in the same rounds, and takes its place only when it is faster by
 * more than noise. Those far behind drop out. The caller measures; this decides. */
struct batch_tuner {
    uint32_t batch; /* to be measured next */
    uint32_t batch_max;
    struct tuner_point points[TUNER_POINTS_MAX]; /* points[0] is the start */
    uint32_t n_points, n_rounds;                 /* whole ones */
    uint32_t place;                              /* of the point to be measured next */
    double spent_s, budget_s;
    bool is_done;
};

void batch_tuner_start(struct batch_tuner *tuner, uint32_t batch, uint32_t batch_max,
                       double budget_s);
/* Seconds that one measurement should last, for all rounds to fit the budget. */
double batch_tuner_measure_s(const struct batch_tuner *tuner);
/* `rows` rows took `seconds` at tuner->batch; the measurement as a whole took `spent_s`. `fits` false:
 * memory would pass the limit, or the call failed. */
void batch_tuner_step(struct batch_tuner *tuner, uint64_t rows, double seconds, double spent_s,
                      bool fits);
/* *ret_rate_rows_s: the median measured there; 0: nothing was measured. */
uint32_t batch_tuner_best(const struct batch_tuner *tuner, double *ret_rate_rows_s);

#define DUEL_ROUNDS_MAX 9

/* Whether to leave the present configuration for another one: both are measured in turn, and the other
 * one wins only when the median of its ratios shows a gain that is worth it, in most rounds. */
struct duel {
    double ratios[DUEL_ROUNDS_MAX]; /* the other one's rate / the present one's */
    uint32_t n_rounds;
    double spent_s, budget_s;
    bool is_done, is_won;
};

void duel_start(struct duel *duel, double budget_s);
/* One round: rows/s of both (the other one's 0: it failed), and what measuring them took. */
void duel_step(struct duel *duel, double present_rows_s, double other_rows_s, double spent_s);
/* The median of the ratios so far; 0: none. */
double duel_ratio(const struct duel *duel);

#endif
