/* SPDX-License-Identifier: Apache-2.0 */
/* workers.h - threads that decode chunks and encode microbatches. Encoding goes first: it frees the
 * memory that decoding fills. */
#ifndef TIDEMILL_JOB_WORKERS_H
#define TIDEMILL_JOB_WORKERS_H

#include "job/pipeline.h"

struct workers;

struct workers_config {
    int n_threads;
    const struct decoder *decoder;
    const struct encoder *encoder;
    const struct reuse *reuse; /* may be NULL */
    struct queue *decoded;     /* chunks; large enough never to be full */
    struct queue *encoded;     /* microbatches; likewise */
    int wake_fd;               /* an eventfd: written after each push */
};

tidemill_error *workers_start(const struct workers_config *config, struct workers **ret);
void workers_decode(struct workers *workers, struct chunk *chunk);
void workers_encode(struct workers *workers, struct microbatch *microbatch);
/* Finishes the tasks begun, drops the others, joins. NULL is fine. */
void workers_stop(struct workers *workers);

#endif
