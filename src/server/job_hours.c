/* SPDX-License-Identifier: Apache-2.0 */
/* job_hours.c - a queue's tariff, applied to one job. */
#include "server/job_hours.h"

/* A model that has run no job yet: so long a record, and a while to load. */
#define GUESS_ROWS_S 20.0
#define START_MS ((int64_t)60 * 1000)
#define WORK_MS_MAX ((int64_t)366 * 24 * 3600 * 1000)
/* Jobs take longer than planned more often than shorter. */
#define SLACK 1.2

uint64_t job_records_left(const struct store_job *job)
{
    const struct store_counts *counts = &job->counts;
    uint64_t done = counts->completed + counts->failed + counts->cancelled + counts->expired;
    return counts->total - MIN(done, counts->total);
}

int64_t job_work_ms(uint64_t records, double rows_s)
{
    double ms = (double)records / (rows_s > 0 ? rows_s : GUESS_ROWS_S) * 1000 * SLACK;
    return ms < (double)WORK_MS_MAX ? (int64_t)ms + 1 : WORK_MS_MAX;
}

static const struct queue_config *with_tariff(const struct server_config *config,
                                              const struct store_job *job)
{
    const struct queue_config *queue =
        job->queue[0] != '\0' ? server_config_queue(config, job->queue) : NULL;
    return queue != NULL && queue->tariff != NULL ? queue : NULL;
}

static bool has_prices(const struct tariff *tariff)
{
    for (size_t i = 1; i < DAY_MINUTES; i++)
        if (tariff->factor[i] < tariff->factor[0] || tariff->factor[i] > tariff->factor[0])
            return true;
    return false;
}

static struct job_hours allowed_hours(const struct queue_config *queue, int64_t now)
{
    int64_t changes_at = INT64_MAX;
    if (tariff_allows(queue->tariff, queue->zone, now, &changes_at))
        return (struct job_hours){0, changes_at};
    return (struct job_hours){changes_at, INT64_MAX};
}

struct job_hours job_hours_of(const struct server_config *config, const struct store_job *job,
                              const struct pace *pace, int64_t now)
{
    struct run_plan plan = {0};
    const struct queue_config *queue = with_tariff(config, job);
    if (queue == NULL) return (struct job_hours){0, INT64_MAX};
    struct job_hours hours = allowed_hours(queue, now);
    if (!has_prices(queue->tariff)) return hours;
    int64_t work_ms = START_MS + job_work_ms(job_records_left(job), pace->p50_rows_s);
    tidemill_error *error = tariff_plan(queue->tariff, queue->zone, MAX(now, job->ready_at),
                                        work_ms, job->deadline_at, &plan);
    if (error == NULL && plan.n > 0) {
        const struct run_slot *first = &plan.slots[0];
        hours = (struct job_hours){first->begin_ms > now ? first->begin_ms : 0, first->end_ms};
        /* a plan may be short: not to be asked again and again */
        hours.end_at = MAX(hours.end_at, now + START_MS);
    }
    error_free(error); /* without memory for a plan: any allowed hour */
    run_plan_free(&plan);
    return hours;
}

int64_t job_finish_at(const struct server_config *config, const struct store_job *job, int64_t from,
                      int64_t work_ms, double *ret_factor)
{
    struct run_plan plan = {0};
    const struct queue_config *queue = with_tariff(config, job);
    *ret_factor = 1;
    if (queue == NULL) return from + work_ms;
    tidemill_error *error =
        tariff_plan(queue->tariff, queue->zone, from, work_ms, job->deadline_at, &plan);
    int64_t at = error == NULL ? plan.finish_ms : from + work_ms;
    if (error == NULL && plan.factor_mean > 0) *ret_factor = plan.factor_mean;
    error_free(error);
    run_plan_free(&plan);
    return at;
}
