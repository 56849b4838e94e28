/* SPDX-License-Identifier: Apache-2.0 */
/* job_details.h - a job's `details`, a JSON object: what the scheduler reads and writes in it. Other
 * members are the dialects' and stay as they are.
 *
 *     endpoint  text             of a batch: each line's url must be this one
 *     errors    [{"code","message","param","line"},...]   its file is not valid
 *     failure   {"code","message"}     why it FAILED or was STOPPED
 *     paused    {"code","message","attempts"}   what it waits to pass, while it is RUNNING
 *     over_budget  true           it is being STOPPED
 *     retries   number           how often it was asked to do its failed records once more
 *     rate_rows_s, wall_s        of its run, once it has ended */
#ifndef TIDEMILL_SERVER_JOB_DETAILS_H
#define TIDEMILL_SERVER_JOB_DETAILS_H

#include "store/store.h"

/* Sets a member to a JSON text, which must be valid; NULL takes it away. */
tidemill_error *details_set(struct store_job *job, const char *name, const char *json);
tidemill_error *details_set_number(struct store_job *job, const char *name, double number);
/* {"code":...,"message":...} and, with attempts >= 0, "attempts". Clients read it: `secret`, the path of the
 * data, is left out of the message. */
tidemill_error *details_set_reason(struct store_job *job, const char *name, const char *code,
                                   const char *message, const char *secret, int attempts);
/* A text, malloc'ed; NULL: there is none. */
char *details_text(const struct store_job *job, const char *name);
/* A member of an object that is a member, likewise. */
char *details_inner_text(const struct store_job *job, const char *name, const char *inner);
/* `otherwise` where there is none. */
double details_number(const struct store_job *job, const char *name, double otherwise);
double details_inner_number(const struct store_job *job, const char *name, const char *inner,
                            double otherwise);
bool details_has(const struct store_job *job, const char *name);

#endif
