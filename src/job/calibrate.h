/* SPDX-License-Identifier: Apache-2.0 */
/* calibrate.h - the sizes of microbatches, measured on the job's own first records before it begins. */
#ifndef TIDEMILL_JOB_CALIBRATE_H
#define TIDEMILL_JOB_CALIBRATE_H

#include "job/measure.h"

#define PROBES_MAX 4

/* Rows of the first chunk that stand for many of the job's: what is measured with. */
struct probe {
    struct microbatch mb; /* n_rows: the best number of them in a call that is known */
    uint32_t rows_max;
    uint32_t length;    /* of each row; 1 where they are not counted in tokens */
    uint32_t class;     /* of lengths */
    double rows_share;  /* of the job's rows that are like it */
    double rate_rows_s; /* of one model process at mb.n_rows */
};

/* What is known of the sizes of microbatches. Rows are counted, or tokens, not both. */
struct calibrated {
    uint32_t rows;                 /* 0: not measured */
    uint32_t tokens[PLAN_CLASSES]; /* by class of lengths; 0: not measured */
    uint32_t call_tokens;          /* what a call costs beside its tokens; 0: not known */
    struct probe probes[PROBES_MAX];
    size_t n_probes;    /* 0: there was nothing worth measuring */
    double rate_rows_s; /* of one model process; 0: not known */
};

/* Measures with one model process alone; answers are thrown away; a call that fails ends the climb at
 * what was good before. What `known` brings is kept and not measured. */
tidemill_error *calibrate_batch(const struct calibration *calibration, struct calibrated *known);
/* The same for records that vary in length: how many tokens make the best call, for each class of
 * lengths that holds much of the first chunk, and what a call costs beside them. */
tidemill_error *calibrate_tokens(const struct calibration *calibration, struct calibrated *known);
/* One probe for each class of lengths that holds much of the chunk's tokens, most first; at most
 * PROBES_MAX. Nothing is measured. */
tidemill_error *calibrate_token_probes(const struct calibration *calibration, struct probe *probes,
                                       size_t *ret_n);
/* A microbatch's limits from what was found; usual ones where nothing was. */
void calibrated_limits(const struct calibrated *found, bool is_dynamic, struct plan_limits *limits);

/* Sizes are given or forced: how fast one model process is with microbatches as they are planned. */
tidemill_error *calibrate_given(const struct calibration *calibration,
                                const struct plan_limits *limits, struct calibrated *found);

#endif
