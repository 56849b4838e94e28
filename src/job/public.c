/* SPDX-License-Identifier: Apache-2.0 */
/* public.c - libtidemill's public functions (tidemill.h) over the job room. */
#include "tidemill.h"

#include "io/io.h"
#include "job/job.h"

#include <stdlib.h>

struct tidemill_job {
    struct job_spec spec;
    struct job_stop stop;
    struct job_summary summary;
};

const char *tidemill_version(void)
{
    return TIDEMILL_VERSION;
}

const char *tidemill_error_message(const tidemill_error *error)
{
    return error_message(error);
}

int tidemill_error_exit_status(const tidemill_error *error)
{
    return error_code_exit_status(error_code_of(error));
}

void tidemill_error_free(tidemill_error *error)
{
    error_free(error);
}

tidemill_error *tidemill_job_new(tidemill_job **ret)
{
    tidemill_job *job = calloc(1, sizeof *job);
    if (job == NULL) return error_memory();
    job->stop.wake_fd = -1;
    tidemill_error *error = job_spec_init(&job->spec);
    if (error == NULL) error = job_stop_init(&job->stop);
    if (error != NULL) {
        tidemill_job_free(job);
        return error;
    }
    *ret = job;
    return NULL;
}

tidemill_error *tidemill_job_set(tidemill_job *job, const char *name, const char *value)
{
    const struct option *option = option_find(name);
    if (option == NULL) return error_new(ERROR_USAGE, "unknown option '%s'", name);
    return option_set(&job->spec, option, value, name);
}

tidemill_error *tidemill_job_load(tidemill_job *job, const char *path)
{
    return job_spec_load_yaml(&job->spec, &io_local, path);
}

tidemill_error *tidemill_job_run(tidemill_job *job)
{
    TRY(job_spec_check(&job->spec, &io_local));
    job_stop_reset(&job->stop);
    return job->spec.is_retry ? job_retry(&job->spec, &io_local, NULL, &job->stop, &job->summary)
                              : job_run(&job->spec, &io_local, NULL, &job->stop, &job->summary);
}

void tidemill_job_stop(tidemill_job *job)
{
    job_stop_ask(&job->stop);
}

void tidemill_job_free(tidemill_job *job)
{
    if (job == NULL) return;
    if (job->stop.wake_fd >= 0) job_stop_fini(&job->stop);
    job_spec_free(&job->spec);
    free(job);
}

uint64_t tidemill_job_records(const tidemill_job *job)
{
    return job->summary.counts.records;
}

uint64_t tidemill_job_failed(const tidemill_job *job)
{
    return job->summary.counts.failed;
}

char *tidemill_job_summary(const tidemill_job *job)
{
    struct buffer json = {0};
    job_summary_json(&job->summary, &json);
    buffer_byte(&json, '\0');
    if (!json.is_failed) return json.data;
    buffer_free(&json);
    return NULL;
}
