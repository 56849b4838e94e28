/* SPDX-License-Identifier: Apache-2.0 */
/* server_fakes.h - what tests of jobs have instead of deliveries, results and metrics: counters. To be
 * included once in a program. */
#ifndef TIDEMILL_TESTS_SERVER_FAKES_H
#define TIDEMILL_TESTS_SERVER_FAKES_H

#include "expect.h"

#include "server/delivery.h"
#include "server/metrics.h"
#include "server/results.h"

/* Calls of delivery_job_ended, of results_put_window; how often the former is still to fail. */
static _Atomic int stage_n_told, stage_n_results, stage_deaf;

tidemill_error *results_put_window(struct results *results, const struct store_job *job)
{
    (void)results;
    assert_int_equal(job->kind, STORE_WINDOW);
    stage_n_results++;
    return NULL;
}

tidemill_error *delivery_job_ended(struct delivery *delivery, const struct store_job *job)
{
    (void)delivery;
    assert_true((STORE_TERMINAL >> job->state & 1) != 0);
    if (stage_deaf > 0) {
        stage_deaf--;
        return error_new(ERROR_NO_SPACE, "cannot note it now");
    }
    stage_n_told++;
    return NULL;
}

void metrics_job(struct metrics *metrics, const struct store_job *job,
                 const struct job_summary *summary)
{
    (void)metrics;
    assert_non_null(job);
    assert_non_null(summary);
}

#endif
