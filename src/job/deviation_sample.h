/* SPDX-License-Identifier: Apache-2.0 */
/* deviation_sample.h - the first chunk's records through the job's model and through the same model in
 * its own precision, side by side. */
#ifndef TIDEMILL_JOB_DEVIATION_SAMPLE_H
#define TIDEMILL_JOB_DEVIATION_SAMPLE_H

#include "job/deviation.h"
#include "job/pipeline.h"

struct deviation_sample {
    const struct runtime_options *exact; /* opens the model in its own precision, one host */
    struct runtime *lower;               /* no host is still to load: that would be timed too */
    const struct shared_region *region;
    struct slot *slots;  /* two, free; free again afterwards */
    struct chunk *chunk; /* decoded; its records and area are left as they are */
    uint32_t batch;      /* records a call */
    struct job_stop *stop;
};

/* Loads the exact model, runs at least one microbatch and then more for about a second of its time, or
 * until DEVIATION_ROWS records are compared, and closes it. Calls that fail are left out. */
tidemill_error *deviation_measure(const struct deviation_sample *sample, struct deviation *ret);

#endif
