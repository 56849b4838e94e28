/* SPDX-License-Identifier: Apache-2.0 */
/* measure.h - how long a microbatch takes, before the job begins. Answers are thrown away. */
#ifndef TIDEMILL_JOB_MEASURE_H
#define TIDEMILL_JOB_MEASURE_H

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

struct measurement {
    double seconds;
    uint64_t rows;
    bool is_usable; /* every call was answered */
};

/* Runs `mb` again and again for about `least_s`; ret->seconds / ret->rows is the fastest call's.
 * ERROR_INTERRUPTED when the job is to stop. */
tidemill_error *measure_microbatch(const struct calibration *calibration, struct microbatch *mb,
                                   double least_s, struct measurement *ret);
/* Whether as many model processes as may be would keep the limit, if each takes what this one has. */
bool measure_fits_memory(const struct calibration *calibration);

#endif
