/* SPDX-License-Identifier: Apache-2.0 */
/* calibrate.h - the sizes of microbatches, measured on the job's own first records before it begins. */
#ifndef TIDEMILL_JOB_CALIBRATE_H
#define TIDEMILL_JOB_CALIBRATE_H

#include "job/measure.h"

/* *ret_rate_rows_s 0: there was nothing worth measuring, and *ret_batch is the usual one. Answers are
 * thrown away; a call that fails ends the climb at what was good before. */
tidemill_error *calibrate_batch(const struct calibration *calibration, uint32_t *ret_batch,
                                double *ret_rate_rows_s);
/* The same for records that vary in length: how many tokens make the best call, for each class of
 * lengths, and what a call costs beside them. Fills limits->tokens_max and call_tokens. */
tidemill_error *calibrate_tokens(const struct calibration *calibration, struct plan_limits *limits,
                                 double *ret_rate_rows_s);

/* Records a second of one model process with microbatches as they are planned; 0: not known. */
tidemill_error *calibrate_rate(const struct calibration *calibration,
                               const struct plan_limits *limits, double *ret_rate_rows_s);

#endif
