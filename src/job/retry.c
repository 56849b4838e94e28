/* SPDX-License-Identifier: Apache-2.0 */
/* retry.c - runs the records of an error sink again and merges what they answer.
 *
 *   OUTPUT.errors.jsonl -> OUTPUT.retry.in        their records (made anew each time)
 *   a job of its own    -> OUTPUT.retry.out, OUTPUT.retry.errors (with its own journal: it resumes)
 *   merge               -> OUTPUT.partial, ERRORS.partial, then `final` in the job's journal
 *   publish             -> renames, `published`, and the files of the retry go away
 *
 * The error sink names each record's place in the job (`index`), and the output holds the answers of
 * all other places in order: so the merge is one pass over both. A kill before `final` repeats the
 * merge; after it the next run finishes the renames. What the retry's job took is added to what the job had
 * taken at its last `final`, so a merge that is repeated counts it once. */
#include "job/job.h"

#include "job/journal.h"
#include "job/merge.h"
#include "job/paths.h"
#include "job/sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct retry {
    const struct job_spec *spec;
    const struct io *io;
    struct job_summary *summary;
    char *journal_path, *lock_path;
    char *input, *output, *errors; /* of the retry's own job */
    struct file_lock *lock;
    struct journal_state state;
    struct failed_records failed;
    bool is_csv; /* the job's input */
};

static void free_text(char **text)
{
    free(*text);
}

static tidemill_error *name_files(struct retry *retry)
{
    const char *output = retry->spec->output;
    retry->journal_path = path_with(output, ".journal");
    retry->lock_path = path_with(output, ".lock");
    retry->input = path_with(output, ".retry.in");
    retry->output = path_with(output, ".retry.out"); /* never compressed: the merge reads it once */
    retry->errors = path_with(output, ".retry.errors");
    return retry->journal_path == NULL || retry->lock_path == NULL || retry->input == NULL ||
                   retry->output == NULL || retry->errors == NULL
               ? error_memory()
               : NULL;
}

static enum format output_format(const struct job_spec *spec)
{
    enum format format = (enum format)spec->output_format;
    if (format == FORMAT_AUTO) format = format_of_path(spec->output);
    return format == FORMAT_AUTO ? FORMAT_JSONL : format;
}

static tidemill_error *check_finished(struct retry *retry)
{
    TRY(journal_read(retry->io, retry->journal_path, &retry->state));
    if (!retry->state.exists || !retry->state.final.is_set)
        return error_new(ERROR_USAGE,
                         "%s is not the output of a finished job; run the job without "
                         "--retry-errors first",
                         retry->spec->output);
    if (output_format(retry->spec) == FORMAT_NPY || output_format(retry->spec) == FORMAT_NPZ)
        return error_new(ERROR_UNSUPPORTED, "--retry-errors merges JSONL and CSV outputs only");
    return NULL;
}

/* A merge that was cut short between its renames. */
static tidemill_error *finish_publication(struct retry *retry)
{
    struct journal *journal;
    if (retry->state.final.is_published) return NULL;
    TRY(journal_open(retry->io, retry->journal_path, &retry->state, NULL, &journal));
    tidemill_error *error =
        sink_publish_again(retry->io, retry->spec, journal, &retry->state.final);
    journal_close(journal);
    return error;
}

/* The value that the first run decided on, "name=value" a line. malloc'ed; NULL: nothing. */
static char *decided_id(const struct retry *retry)
{
    const char *text = retry->state.plan.decoder;
    const char *line = text == NULL ? NULL : strstr(text, "id=");
    while (line != NULL && line != text && line[-1] != '\n') line = strstr(line + 1, "id=");
    if (line == NULL) return NULL;
    return strcmp(line, "id=line number") == 0 ? strdup("") : strdup(line + 3);
}

static tidemill_error *run_failed(struct retry *retry, const struct job_observer *observer,
                                  struct job_stop *stop, struct job_summary *summary)
{
    struct job_spec sub = *retry->spec; /* borrows its strings, but for these */
    CLEANUP(free_text) char *id_field = decided_id(retry);
    char *inputs[] = {retry->input};
    struct string_list one = {.items = inputs, .n = 1};
    if (sub.id_field == NULL) sub.id_field = id_field; /* not by the first record that failed */
    sub.is_retry = false;
    sub.is_forced = false;
    sub.inputs = sub.input_paths = one;
    sub.input_format = retry->is_csv ? FORMAT_CSV : FORMAT_JSONL;
    sub.output = retry->output;
    sub.output_format = (int)output_format(retry->spec);
    sub.errors = retry->errors;
    sub.max_errors_count = UINT64_MAX;
    sub.max_errors_share = 2;
    sub.line_numbers = retry->failed.lines;
    sub.n_line_numbers = retry->failed.n_lines;
    /* the same microbatches as at first, so that answers do not depend on when they were made */
    if (sub.batch == 0) sub.batch = retry->state.plan.limits.rows_max;
    tidemill_error *error = job_run(&sub, retry->io, observer, stop, summary);
    if (error_code_of(error) == ERROR_CHANGED) { /* the records were mended since a cut-off retry */
        error_free(error);
        sub.is_forced = true;
        error = job_run(&sub, retry->io, observer, stop, summary);
    }
    if (error == NULL && summary->counts.records != retry->failed.n_lines)
        error = error_new(ERROR_INTERNAL, "%zu records were to run again and %llu did",
                          retry->failed.n_lines, (unsigned long long)summary->counts.records);
    summary->output = retry->spec->output;
    summary->errors = retry->spec->errors;
    return error_context(error, "retrying %s", retry->spec->errors);
}

/* The job's totals with the retry in them. From the records, which stay, and from the bill at the last
 * `final`: so that a merge that is made again counts the same. */
static struct journal_commit merged_commit(const struct retry *retry, const struct job_summary *sub)
{
    const struct journal_bill *before = &retry->state.final_bill;
    struct journal_commit commit = retry->state.commit;
    uint64_t n_carried = retry->failed.n - retry->failed.n_lines;
    commit.counts.failed = n_carried + sub->counts.failed;
    commit.counts.ok = commit.counts.records - commit.counts.failed;
    commit.counts.duplicates = MIN(commit.counts.duplicates, n_carried) + sub->counts.duplicates;
    commit.counts.tokens = before->tokens;
    commit.counts.lost = before->lost;
    token_usage_add(&commit.counts.tokens, &sub->counts.tokens);
    token_usage_add(&commit.counts.lost, &sub->counts.lost);
    commit.wall_s = before->wall_s + sub->wall_s;
    commit.cpu_s = before->cpu_s + sub->cpu_s;
    return commit;
}

static tidemill_error *merge(struct retry *retry, const struct job_summary *sub)
{
    struct merge_files files = {
        .io = retry->io,
        .output = retry->spec->output,
        .errors = retry->spec->errors,
        .retry_output = retry->output,
        .retry_errors = retry->errors,
        .output_format = output_format(retry->spec) == FORMAT_CSV ? FORMAT_CSV : FORMAT_JSONL,
        .records_total = retry->state.commit.counts.records,
    };
    struct journal_final final = {.is_set = true};
    struct journal *journal;
    TRY(merge_retried(&files, &retry->failed, &final));
    struct journal_commit commit = merged_commit(retry, sub);
    TRY(journal_open(retry->io, retry->journal_path, &retry->state, NULL, &journal));
    tidemill_error *error = journal_append_commit(journal, &commit);
    if (error == NULL) error = journal_append_final(journal, &final);
    if (error == NULL) error = sink_publish_again(retry->io, retry->spec, journal, &final);
    journal_close(journal);
    retry->summary->counts = commit.counts;
    retry->summary->counts.tokens = sub->counts.tokens; /* as its times are, the retry's */
    retry->summary->counts.lost = sub->counts.lost;
    return error;
}

static void clean_up(struct retry *retry)
{
    static const char *const endings[] = {"", ".journal"};
    const char *const paths[] = {retry->input, retry->output, retry->errors};
    for (size_t p = 0; p < COUNT_OF(paths); p++) {
        for (size_t e = 0; e < COUNT_OF(endings); e++) {
            char *path = path_with(paths[p], endings[e]);
            if (path != NULL) retry->io->unlink(retry->io->context, path);
            free(path);
        }
    }
}

static tidemill_error *is_input_csv(struct retry *retry)
{
    if (retry->spec->input_format == FORMAT_AUTO)
        return failed_records_are_csv(retry->io, retry->spec->errors, &retry->is_csv);
    retry->is_csv = retry->spec->input_format == FORMAT_CSV;
    return NULL;
}

static tidemill_error *nothing_to_do(struct retry *retry)
{
    retry->summary->was_complete = retry->summary->is_complete = true;
    retry->summary->counts = retry->state.commit.counts;
    return NULL;
}

static tidemill_error *retry_to_end(struct retry *retry, const struct job_observer *observer,
                                    struct job_stop *stop)
{
    TRY(name_files(retry));
    TRY(file_lock_take(retry->io, retry->lock_path, &retry->lock));
    TRY(check_finished(retry));
    if (!retry->state.final.is_published) {
        TRY(finish_publication(retry));
        clean_up(retry);
    }
    if (!io_exists(retry->io, retry->spec->errors)) return nothing_to_do(retry);
    TRY(is_input_csv(retry));
    bool carry_duplicates = retry->spec->duplicate_ids != 0;
    TRY(failed_records_read(retry->io, retry->spec->errors, carry_duplicates, &retry->failed));
    if (retry->failed.n_lines == 0) return nothing_to_do(retry);
    TRY(failed_records_write_input(retry->io, retry->spec->errors, &retry->failed, retry->input,
                                   retry->is_csv));
    TRY(run_failed(retry, observer, stop, retry->summary));
    struct job_summary sub = *retry->summary;
    TRY(merge(retry, &sub));
    clean_up(retry);
    return NULL;
}

tidemill_error *job_retry(const struct job_spec *spec, const struct io *io,
                          const struct job_observer *observer, struct job_stop *stop,
                          struct job_summary *summary)
{
    struct retry retry = {.spec = spec, .io = io, .summary = summary};
    *summary = (struct job_summary){.output = spec->output, .errors = spec->errors};
    tidemill_error *error = retry_to_end(&retry, observer, stop);
    failed_records_free(&retry.failed);
    journal_state_free(&retry.state);
    file_lock_release(retry.lock);
    free(retry.journal_path);
    free(retry.lock_path);
    free(retry.input);
    free(retry.output);
    free(retry.errors);
    return error;
}
