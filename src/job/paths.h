/* SPDX-License-Identifier: Apache-2.0 */
/* paths.h - the names of what lies beside an output while, and after, a job runs, and beside a model. */
#ifndef TIDEMILL_JOB_PATHS_H
#define TIDEMILL_JOB_PATHS_H

#include "job/spec.h"

/* OUTPUT.journal, OUTPUT.lock, OUTPUT.partial, ERRORS.partial, OUTPUT.rows (.npz before assembly),
 * OUTPUT.retry... malloc'ed; NULL when out of memory. */
char *path_with(const char *path, const char *ending);

/* The tokenizer.json that text would be read with: --tokenizer, or else the one beside the model,
 * where there is one. *ret malloc'ed; NULL: none. */
tidemill_error *path_of_tokenizer(const struct job_spec *spec, const struct io *io, char **ret);

#endif
