/* SPDX-License-Identifier: Apache-2.0 */
/* calibrate.h - the batch size, measured on the job's own first records before it begins. */
#ifndef TIDEMILL_JOB_CALIBRATE_H
#define TIDEMILL_JOB_CALIBRATE_H

#include "job/pipeline.h"

struct calibration {
    struct runtime *runtime;
    const struct shared_region *region;
    struct slot *slot;     /* any one; free again afterwards */
    struct chunk *chunk;   /* decoded; its records and area are left as they are */
    double records_total;  /* in the job, estimated; 0: not known */
    uint64_t memory_bytes; /* for all instances together; 0: no limit */
    int instances_max;
    struct job_stop *stop;
};

/* *ret_rate_rows_s 0: there was nothing worth measuring, and *ret_batch is the usual one. Answers are
 * thrown away; a call that fails ends the climb at what was good before. */
tidemill_error *calibrate_batch(const struct calibration *calibration, uint32_t *ret_batch,
                                double *ret_rate_rows_s);

#endif
