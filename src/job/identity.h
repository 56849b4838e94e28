/* SPDX-License-Identifier: Apache-2.0 */
/* identity.h - the fingerprint of a job: model, inputs, and the options that shape its output. */
#ifndef TIDEMILL_JOB_IDENTITY_H
#define TIDEMILL_JOB_IDENTITY_H

#include "job/journal.h"
#include "job/spec.h"

/* Reads the files that the job is made of. Standard input and pipes have no fingerprint here: the plan
 * frame keeps a digest of the first chunk. */
tidemill_error *identity_of_job(const struct job_spec *spec, const struct io *io,
                                struct identity *ret);

/* The model's part of it alone. */
tidemill_error *identity_of_model(const struct job_spec *spec, const struct io *io,
                                  struct identity *ret);

#endif
