/* SPDX-License-Identifier: Apache-2.0 */
/* scheduler_pick.c - which job runs next, and what each tenant was given. */
#include "server/scheduler_pick.h"

#include <stdlib.h>
#include <string.h>

/* --- shares ------------------------------------------------------------------------------------- */

/* The floor is the share of the job that was started last, as it was before (start-time fair queueing):
 * who comes now stands there, ahead of all that had something since. */

static struct share *find(const struct shares *shares, const char *tenant)
{
    for (size_t i = 0; i < shares->n; i++)
        if (strcmp(shares->items[i].tenant, tenant) == 0) return &shares->items[i];
    return NULL;
}

void shares_free(struct shares *shares)
{
    free(shares->items);
    *shares = (struct shares){0};
}

uint64_t shares_of(const struct shares *shares, const char *tenant)
{
    const struct share *share = find(shares, tenant);
    return share == NULL ? shares->floor : MAX(share->given, shares->floor);
}

static tidemill_error *add(struct shares *shares, const char *tenant, struct share **ret)
{
    if (shares->n == shares->capacity) {
        size_t capacity = shares->capacity == 0 ? 16 : 2 * shares->capacity;
        struct share *items = realloc(shares->items, capacity * sizeof *items);
        if (items == NULL) return error_memory();
        shares->items = items;
        shares->capacity = capacity;
    }
    *ret = &shares->items[shares->n++];
    **ret = (struct share){0};
    memcpy((*ret)->tenant, tenant, strnlen(tenant, STORE_NAME_BYTES - 1));
    return NULL;
}

tidemill_error *shares_give(struct shares *shares, const char *tenant, uint64_t records)
{
    struct share *share = find(shares, tenant);
    if (share == NULL) TRY(add(shares, tenant, &share));
    uint64_t given = MAX(share->given, shares->floor);
    shares->floor = given;
    /* a job without records is a turn, too */
    if (__builtin_add_overflow(given, MAX(records, 1), &share->given)) share->given = UINT64_MAX;
    return NULL;
}

void shares_trim(struct shares *shares)
{
    size_t kept = 0;
    for (size_t i = 0; i < shares->n; i++)
        if (shares->items[i].given > shares->floor) shares->items[kept++] = shares->items[i];
    shares->n = kept;
}

/* --- picking ------------------------------------------------------------------------------------ */

struct rank {
    int64_t priority; /* with what it gained by waiting */
    uint64_t given;
    int64_t deadline_at, created_at;
    const char *id;
};

static struct rank rank_of(const struct store_job *job, const struct shares *shares, int64_t now)
{
    int64_t since = MAX(job->ready_at <= now ? job->ready_at : 0,
                        MAX(job->state_at[STORE_WAITING], job->created_at));
    int64_t waited = since > 0 && now > since ? now - since : 0;
    return (struct rank){
        .priority = job->priority + waited / PICK_AGE_MS,
        .given = shares_of(shares, job->tenant),
        .deadline_at = job->deadline_at > 0 ? job->deadline_at : INT64_MAX,
        .created_at = job->created_at,
        .id = job->id,
    };
}

static bool is_before(const struct rank *a, const struct rank *b)
{
    if (a->priority != b->priority) return a->priority > b->priority;
    if (a->given != b->given) return a->given < b->given;
    if (a->deadline_at != b->deadline_at) return a->deadline_at < b->deadline_at;
    if (a->created_at != b->created_at) return a->created_at < b->created_at;
    return strcmp(a->id, b->id) < 0;
}

size_t pick_next(const struct pick_job *jobs, size_t n, const struct shares *shares, int64_t now)
{
    size_t best = PICK_NONE;
    struct rank best_rank = {0};
    for (size_t i = 0; i < n; i++) {
        if (jobs[i].start_at > now) continue;
        struct rank rank = rank_of(jobs[i].job, shares, now);
        if (best != PICK_NONE && !is_before(&rank, &best_rank)) continue;
        best = i;
        best_rank = rank;
    }
    return best;
}

int64_t pick_wake_at(const struct pick_job *jobs, size_t n, int64_t now)
{
    int64_t at = INT64_MAX;
    for (size_t i = 0; i < n; i++)
        if (jobs[i].start_at > now) at = MIN(at, jobs[i].start_at);
    return at;
}
