/* SPDX-License-Identifier: Apache-2.0 */
/* job_errors.h - the error file of a job that ends, as its clients read it: the engine's lines without
 * what is the server's own, then a line for each record that was never run. */
#ifndef TIDEMILL_SERVER_JOB_ERRORS_H
#define TIDEMILL_SERVER_JOB_ERRORS_H

#include "store/store.h"

struct job_rest { /* why records were not run */
    const char *code, *message;
};
struct job_rest job_rest_of(enum store_state end); /* EXPIRED, CANCELLED, STOPPED, FAILED */

/* An engine's line, without its newline, as a client's line with it. *ret_is_rest: its code is that of
 * `rest`, so the record was not run; both may be NULL. */
tidemill_error *job_error_line(enum store_kind kind, struct slice line, const struct job_rest *rest,
                               bool *ret_is_rest, struct buffer *out);
/* The line of record `index`, which was not run. `custom_id`: JSON text, of a batch. */
void job_rest_line(const struct store_job *job, uint64_t index, struct slice custom_id,
                   const struct job_rest *rest, struct buffer *out);

#endif
