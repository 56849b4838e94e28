/* SPDX-License-Identifier: Apache-2.0 */
/* scheduler_pick.h - which of the jobs that wait runs next. Pure: times and what each tenant had are
 * handed in.
 *
 * Larger priorities go first; a job gains one for each hour that it waits, so that none waits for ever.
 * Among equals the tenant goes first that was given least (records of the jobs that were started), then
 * the earlier deadline, then the older job. A tenant that comes after a while without jobs begins where
 * the others are: it is served next, but has no claim on what it did not use. */
#ifndef TIDEMILL_SERVER_SCHEDULER_PICK_H
#define TIDEMILL_SERVER_SCHEDULER_PICK_H

#include "store/store.h"

#define PICK_AGE_MS ((int64_t)3600 * 1000)
#define PICK_NONE SIZE_MAX

struct pick_job {
    const struct store_job *job;
    int64_t start_at; /* not before: its hours, a pause */
};

/* What tenants were given, in records. Memory grows with the tenants that have jobs: share_keep. */
struct share {
    char tenant[STORE_NAME_BYTES];
    uint64_t given;
};
struct shares {
    struct share *items;
    size_t n, capacity;
    uint64_t floor; /* where a tenant begins that is not in it */
};
void shares_free(struct shares *shares);
uint64_t shares_of(const struct shares *shares, const char *tenant);
/* A job of `records` was started. */
tidemill_error *shares_give(struct shares *shares, const char *tenant, uint64_t records);
/* Forgets those that are not above the floor any more: they would begin there anyway. */
void shares_trim(struct shares *shares);

/* The job to start now, or PICK_NONE. */
size_t pick_next(const struct pick_job *jobs, size_t n, const struct shares *shares, int64_t now);
/* When the next of them may start that may not yet; INT64_MAX: none. */
int64_t pick_wake_at(const struct pick_job *jobs, size_t n, int64_t now);

#endif
