/* SPDX-License-Identifier: Apache-2.0 */
/* tidemill.h - the public interface of libtidemill: batch inference jobs from other programs.
 *
 *     tidemill_job *job;
 *     tidemill_error *error = tidemill_job_new(&job);
 *     if (error == NULL) error = tidemill_job_set(job, "model", "digits.onnx");
 *     if (error == NULL) error = tidemill_job_set(job, "input", "digits.jsonl");
 *     if (error == NULL) error = tidemill_job_set(job, "output", "predictions.jsonl");
 *     if (error == NULL) error = tidemill_job_run(job);
 *     if (error != NULL) fprintf(stderr, "%s\n", tidemill_error_message(error));
 *     tidemill_error_free(error);
 *     tidemill_job_free(job);
 *
 * A job may be run again after any failure: it goes on where it was. The model runs in processes of
 * its own, started from the `tidemill` program (found in PATH, or $TIDEMILL_BINARY). */
#ifndef TIDEMILL_H
#define TIDEMILL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TIDEMILL_API __attribute__((visibility("default")))
#else
#define TIDEMILL_API
#endif

typedef struct tidemill_error tidemill_error;
typedef struct tidemill_job tidemill_job;

/* "0.1.0"; a static string. */
TIDEMILL_API const char *tidemill_version(void);

/* Functions that can fail return NULL or an error, which the caller frees. */
TIDEMILL_API const char *tidemill_error_message(const tidemill_error *error);
/* The status that the command would exit with: 1 records failed, 2 wrong request, 3 nothing could be
 * done, 75 stopped at a checkpoint. */
TIDEMILL_API int tidemill_error_exit_status(const tidemill_error *error);
TIDEMILL_API void tidemill_error_free(tidemill_error *error);

/* A job with default options. One thread uses a job at a time; several jobs may run at once. */
TIDEMILL_API tidemill_error *tidemill_job_new(tidemill_job **ret);
/* An option by the name of its flag, without dashes; lists grow with each call. */
TIDEMILL_API tidemill_error *tidemill_job_set(tidemill_job *job, const char *name,
                                              const char *value);
/* Options from a YAML job file. */
TIDEMILL_API tidemill_error *tidemill_job_load(tidemill_job *job, const char *path);
/* Runs to the end, or to a checkpoint. NULL also when single records failed: see the counts. */
TIDEMILL_API tidemill_error *tidemill_job_run(tidemill_job *job);
/* Asks a running job to stop at a checkpoint; safe from another thread and in a signal handler. */
TIDEMILL_API void tidemill_job_stop(tidemill_job *job);
TIDEMILL_API void tidemill_job_free(tidemill_job *job);

/* After a run: records done by all runs of the job, and those of them that failed. */
TIDEMILL_API uint64_t tidemill_job_records(const tidemill_job *job);
TIDEMILL_API uint64_t tidemill_job_failed(const tidemill_job *job);
/* The summary of the last run as JSON; malloc'ed, NULL when out of memory. */
TIDEMILL_API char *tidemill_job_summary(const tidemill_job *job);

#ifdef __cplusplus
}
#endif

#endif
