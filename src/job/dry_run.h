/* SPDX-License-Identifier: Apache-2.0 */
/* dry_run.h - what a job would do and cost: every record is read, looked up and planned; only as many
 * calls of the model are made as it takes to know how long one is, and none of what costs money or
 * answers many at a time. Nothing is written. */
#ifndef TIDEMILL_JOB_DRY_RUN_H
#define TIDEMILL_JOB_DRY_RUN_H

#include "job/calibrate.h"
#include "job/job.h"
#include "job/reuse.h"

/* All borrowed. */
struct dry_run_config {
    struct source *source;
    struct chunk *chunk; /* the first one, read and decoded; then used for all others */
    const struct decoder *decoder;
    struct reuse *reuse; /* NULL: every record runs */
    const struct calibration *calibration;
    const struct plan_limits *limits;
    struct job_stop *stop;
    bool is_timed; /* a few calls are made; false: none, and times stay unknown */
};

/* Fills ret's counts and times; the price is the caller's. ERROR_INTERRUPTED when asked to stop. */
tidemill_error *dry_run(const struct dry_run_config *config, struct job_forecast *ret);

#endif
