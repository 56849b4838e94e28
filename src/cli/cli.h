/* SPDX-License-Identifier: Apache-2.0 */
/* cli.h - the way into the room of commands: each file parses, calls, and prints. */
#ifndef TIDEMILL_CLI_CLI_H
#define TIDEMILL_CLI_CLI_H

#include "base/base.h"
#include "job/job.h"

/* Each takes argv from its own name on, and returns the exit status. */
int cli_run(int argc, char **argv);
int cli_inspect(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_cache(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_submit(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_results(int argc, char **argv);
int cli_get(int argc, char **argv);
int cli_cancel(int argc, char **argv);
int cli_ls(int argc, char **argv);
int cli_prices(int argc, char **argv);
int cli_serve(int argc, char **argv);
int cli_key(int argc, char **argv);
int cli_docs(int argc, char **argv);

/* Prints the error in the log's format, frees it, returns its exit status. */
int cli_fail(tidemill_error *error);

/* Parses options of the job table into `spec`, and job files and other words into `words` (borrowed
 * from argv, at most `words_max`). A flag replaces what a job file gave, wherever it stands. */
tidemill_error *cli_parse_job(int argc, char **argv, struct job_spec *spec, const char **words,
                              size_t words_max, size_t *ret_n_words, bool *ret_wants_help);

/* The help text of the job table. */
void cli_print_options(struct buffer *out);

/* What a person sees of a run. */
struct progress_view {
    bool is_terminal, is_json, is_quiet;
    double told_s; /* when the last plain line was written */
    uint64_t lines;
};
void progress_view_init(struct progress_view *view, const struct job_spec *spec);
void progress_view_show(void *view, const struct job_progress *progress);
void progress_view_end(struct progress_view *view);

#endif
