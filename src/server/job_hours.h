/* SPDX-License-Identifier: Apache-2.0 */
/* job_hours.h - when a job may run, by its queue's hours and what they cost. Pure. */
#ifndef TIDEMILL_SERVER_JOB_HOURS_H
#define TIDEMILL_SERVER_JOB_HOURS_H

#include "server/config.h"
#include "server/job_rates.h"

uint64_t job_records_left(const struct store_job *job);
/* How long it takes, about; of a model of which nothing is known, a guess. */
int64_t job_work_ms(uint64_t records, double rows_s);

struct job_hours {
    int64_t start_at; /* not before; 0: now */
    int64_t end_at;   /* then it is to stop and to be planned again; INT64_MAX: never */
};
/* The next of the cheapest hours in which what is left ends before the deadline. */
struct job_hours job_hours_of(const struct server_config *config, const struct store_job *job,
                              const struct pace *pace, int64_t now);

/* When `work_ms` from `from` on is done, and what its hours cost relative to the usual price. */
int64_t job_finish_at(const struct server_config *config, const struct store_job *job, int64_t from,
                      int64_t work_ms, double *ret_factor);

#endif
