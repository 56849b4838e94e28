/* SPDX-License-Identifier: Apache-2.0 */
/* sink.c - ordered writing with checkpoints.
 *
 * A commit is: flush and sync the answers that equal inputs share, the output and the errors, then
 * append and sync the journal's frame that names their sizes. Killed before the frame: the next run cuts both files back
 * to the frame before. Publishing is: finish and sync both files, journal `final`, rename errors,
 * rename output, journal `published`. Killed between: the next run renames what is left. */
#include "job/sink.h"

#include "job/paths.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The first commits come early, so that a job that is killed again and again still advances. */
#define FIRST_COMMIT_MS 50
/* A share of failures means little before so many records. */
#define SHARE_RECORDS_MIN 100
/* Without an error file, failures are told on standard error; not all of a million. */
#define FAILURES_TOLD_MAX 20

struct sink {
    struct sink_config config;
    char *output_path, *errors_path; /* the temporary ones */
    char *rows_path;                 /* .npz: what output_path is assembled from; else NULL */
    struct spool *output, *errors;   /* errors NULL: told on standard error */
    struct buffer scratch;

    pthread_mutex_t mutex; /* guards counts, host_cpu_s and the journal */
    struct job_counts counts;
    double host_cpu_s;

    struct source_position chunk; /* of the record to be written next */
    uint64_t done_in_chunk;
    double started_s, started_cpu_s, earlier_wall_s, earlier_cpu_s;
    int64_t commit_due_ns;
    int64_t interval_ms;
    bool has_news;
    bool has_paid;         /* tokens since the last commit; guarded by the mutex */
    bool has_unnoted;      /* tokens since they were noted; guarded by the mutex */
    bool is_kept_upstream; /* answers that a kill loses here are there still, and paid for */
};

/* --- opening -------------------------------------------------------------------------------------- */

static tidemill_error *write_head(struct sink *sink)
{
    buffer_reset(&sink->scratch, SIZE_MAX);
    encoder_begin(sink->config.encoder, &sink->scratch);
    if (sink->scratch.is_failed) return error_memory();
    return spool_append(sink->output, sink->scratch.data, sink->scratch.size);
}

static enum compression output_compression(const struct sink *sink)
{
    enum format format = sink->config.output_format;
    if (format == FORMAT_NPY || format == FORMAT_NPZ) return COMPRESSION_NONE;
    return compression_of_path(sink->config.spec->output);
}

static tidemill_error *open_spools(struct sink *sink)
{
    const struct io *io = sink->config.io;
    const struct job_spec *spec = sink->config.spec;
    const struct journal_state *resume = sink->config.resume;
    bool is_continued = resume != NULL && resume->has_commit;
    sink->output_path = spec->to_stdout ? strdup("-") : path_with(spec->output, ".partial");
    bool is_assembled = encoder_must_assemble(sink->config.encoder);
    if (is_assembled) sink->rows_path = path_with(spec->output, ".rows");
    const char *path = is_assembled ? sink->rows_path : sink->output_path;
    if (path == NULL || sink->output_path == NULL) return error_memory();
    TRY(spool_open(io, path, output_compression(sink), is_continued ? &resume->commit.output : NULL,
                   &sink->output));
    if (spec->errors != NULL) {
        sink->errors_path = path_with(spec->errors, ".partial");
        if (sink->errors_path == NULL) return error_memory();
        TRY(spool_open(io, sink->errors_path, compression_of_path(spec->errors),
                       is_continued ? &resume->commit.errors : NULL, &sink->errors));
    }
    return is_continued ? NULL : write_head(sink);
}

tidemill_error *sink_open(const struct sink_config *config, struct sink **ret)
{
    struct sink *sink = calloc(1, sizeof *sink);
    if (sink == NULL) return error_memory();
    sink->config = *config;
    sink->interval_ms = MIN((int64_t)FIRST_COMMIT_MS, config->spec->checkpoint_ms);
    sink->commit_due_ns = clock_now_ns() + sink->interval_ms * 1000000;
    sink->is_kept_upstream =
        model_kind(config->spec->model) == MODEL_HTTP && config->spec->via == VIA_BATCH;
    pthread_mutex_init(&sink->mutex, NULL);
    if (config->resume != NULL) {
        sink->counts = config->resume->commit.counts;
        sink->chunk = config->resume->commit.chunk;
        sink->done_in_chunk = config->resume->commit.done_in_chunk;
        sink->earlier_wall_s = config->resume->commit.wall_s;
        sink->earlier_cpu_s = config->resume->commit.cpu_s;
    }
    tidemill_error *error = open_spools(sink);
    if (error != NULL) {
        sink_close(sink);
        return error;
    }
    *ret = sink;
    return NULL;
}

void sink_close(struct sink *sink)
{
    if (sink == NULL) return;
    spool_close(sink->output);
    spool_close(sink->errors);
    buffer_free(&sink->scratch);
    free(sink->output_path);
    free(sink->errors_path);
    free(sink->rows_path);
    pthread_mutex_destroy(&sink->mutex);
    free(sink);
}

/* --- records -------------------------------------------------------------------------------------- */

static void count_answers(struct sink *sink, const struct chunk_record *records, size_t n)
{
    uint64_t n_of[] = {[ORIGIN_MODEL] = 0, [ORIGIN_EQUAL] = 0, [ORIGIN_CACHE] = 0};
    for (size_t i = 0; i < n; i++) n_of[records[i].origin]++;
    pthread_mutex_lock(&sink->mutex);
    sink->counts.records += n;
    sink->counts.ok += n;
    sink->counts.reused += n_of[ORIGIN_EQUAL];
    sink->counts.cached += n_of[ORIGIN_CACHE];
    pthread_mutex_unlock(&sink->mutex);
}

static void count_failure(struct sink *sink, const struct chunk_record *record)
{
    pthread_mutex_lock(&sink->mutex);
    sink->counts.records++;
    sink->counts.failed++;
    sink->counts.duplicates += record->decoded.error == ERROR_DUPLICATE_ID;
    sink->counts.reused += record->origin == ORIGIN_EQUAL;
    pthread_mutex_unlock(&sink->mutex);
}

static void tell_failure(const struct sink *sink, const struct raw_record *raw,
                         const struct record *record)
{
    if (sink->counts.failed > FAILURES_TOLD_MAX) return;
    log_event(LOG_WARNING, "%s:%llu: %s: %s%s", sink->config.spec->input_paths.items[raw->file],
              (unsigned long long)raw->line, error_code_name(record->error), record->message,
              sink->counts.failed == FAILURES_TOLD_MAX
                  ? " (later ones are not shown; --errors FILE keeps them all)"
                  : "");
}

static tidemill_error *write_failure(struct sink *sink, const struct chunk *chunk, size_t i)
{
    const struct raw_record *raw = &chunk->raw.records[i];
    const struct record *record = &chunk->records[i].decoded;
    buffer_reset(&sink->scratch, (size_t)1 << 20);
    encoder_append_failed(sink->config.encoder, &sink->scratch);
    if (sink->scratch.is_failed) return error_memory();
    if (sink->scratch.size > 0)
        TRY(spool_append(sink->output, sink->scratch.data, sink->scratch.size));
    if (sink->errors == NULL) {
        tell_failure(sink, raw, record);
        return NULL;
    }
    buffer_reset(&sink->scratch, (size_t)1 << 20);
    error_line_append(&sink->scratch, sink->config.schema, raw,
                      sink->config.spec->input_paths.items[raw->file], chunk->raw.start.index + i,
                      record->id, record->error, record->message, sink->config.batch_job);
    if (sink->scratch.is_failed) return error_memory();
    return spool_append(sink->errors, sink->scratch.data, sink->scratch.size);
}

static bool is_over_limit(const struct sink *sink)
{
    const struct job_spec *spec = sink->config.spec;
    const struct job_counts *counts = &sink->counts;
    return counts->failed > spec->max_errors_count ||
           (counts->records >= SHARE_RECORDS_MIN &&
            (double)counts->failed > spec->max_errors_share * (double)counts->records);
}

static tidemill_error *too_many_errors(struct sink *sink)
{
    TRY(sink_commit(sink));
    return error_new(ERROR_TOO_MANY_ERRORS,
                     "%llu of %llu records failed, more than --max-errors %s; look at %s, then run "
                     "again with a higher limit to go on",
                     (unsigned long long)sink->counts.failed,
                     (unsigned long long)sink->counts.records, sink->config.spec->max_errors,
                     sink->errors != NULL ? sink->errors_path : "the warnings above");
}

/* Answers that lie side by side in memory go out with one append. */
static size_t run_of_answers(const struct chunk *chunk, size_t from, size_t to, size_t *ret_size)
{
    size_t size = 0, i = from;
    const char *next = chunk->records[from].text;
    while (i < to && chunk->records[i].state == RECORD_ANSWERED && chunk->records[i].text == next) {
        size += chunk->records[i].size;
        next += chunk->records[i].size;
        i++;
    }
    *ret_size = size;
    return i;
}

static tidemill_error *write_records(struct sink *sink, const struct piece *piece)
{
    const struct chunk *chunk = piece->chunk;
    for (size_t i = piece->from; i < piece->to;) {
        const struct chunk_record *record = &chunk->records[i];
        size_t end = i + 1, size = 0;
        if (record->state == RECORD_ANSWERED) {
            end = run_of_answers(chunk, i, piece->to, &size);
            TRY(spool_append(sink->output, record->text, size));
            count_answers(sink, record, end - i);
        } else {
            TRY(write_failure(sink, chunk, i));
            count_failure(sink, record);
        }
        i = sink->done_in_chunk = end;
        if (record->state == RECORD_FAILED && is_over_limit(sink)) return too_many_errors(sink);
    }
    return NULL;
}

tidemill_error *sink_write(struct sink *sink, const struct piece *piece)
{
    sink->chunk = piece->chunk->raw.start;
    sink->done_in_chunk = piece->from;
    sink->has_news = true;
    TRY(write_records(sink, piece));
    if (sink->config.reuse != NULL)
        TRY(reuse_share(sink->config.reuse, piece->chunk, piece->from, piece->to));
    if (piece->is_chunk_done) {
        sink->chunk = piece->chunk->raw.end;
        sink->done_in_chunk = 0;
    }
    return sink_commit_due_ms(sink) == 0 ? sink_commit(sink) : NULL;
}

/* --- commits -------------------------------------------------------------------------------------- */

int sink_commit_due_ms(const struct sink *sink)
{
    int64_t left_ns = sink->commit_due_ns - clock_now_ns();
    return left_ns <= 0 ? 0 : (int)MIN(left_ns / 1000000 + 1, (int64_t)60000);
}

void sink_set_clock(struct sink *sink, double started_s, double started_cpu_s)
{
    sink->started_s = started_s;
    sink->started_cpu_s = started_cpu_s;
}

void sink_add_host_cpu(struct sink *sink, double cpu_s)
{
    pthread_mutex_lock(&sink->mutex);
    sink->host_cpu_s = cpu_s;
    pthread_mutex_unlock(&sink->mutex);
}

void sink_add_tokens(struct sink *sink, const struct token_usage *usage)
{
    pthread_mutex_lock(&sink->mutex);
    token_usage_add(&sink->counts.tokens, usage);
    if (usage->in > 0 || usage->out > 0) sink->has_paid = sink->has_unnoted = true;
    pthread_mutex_unlock(&sink->mutex);
}

tidemill_error *sink_note_paid(struct sink *sink)
{
    tidemill_error *error = NULL;
    if (sink->config.journal == NULL || sink->is_kept_upstream) return NULL;
    pthread_mutex_lock(&sink->mutex);
    if (sink->has_unnoted) error = journal_append_paid(sink->config.journal, &sink->counts.tokens);
    sink->has_unnoted = false;
    pthread_mutex_unlock(&sink->mutex);
    return error;
}

void sink_times(const struct sink *sink, double *ret_wall_s, double *ret_cpu_s)
{
    *ret_wall_s = sink->earlier_wall_s + clock_now_s() - sink->started_s;
    *ret_cpu_s =
        sink->earlier_cpu_s + clock_process_cpu_s() - sink->started_cpu_s + sink->host_cpu_s;
}

static tidemill_error *append_commit(struct sink *sink, struct journal_commit *commit)
{
    pthread_mutex_lock(&sink->mutex);
    commit->counts = sink->counts;
    sink->has_paid = sink->has_unnoted = false;
    sink_times(sink, &commit->wall_s, &commit->cpu_s);
    tidemill_error *error = journal_append_commit(sink->config.journal, commit);
    pthread_mutex_unlock(&sink->mutex);
    return error;
}

/* Answers that are kept but not yet written out were paid for: the bill is kept with them. */
static bool is_bill_due(struct sink *sink)
{
    pthread_mutex_lock(&sink->mutex);
    bool is_due = sink->has_paid;
    pthread_mutex_unlock(&sink->mutex);
    return is_due;
}

tidemill_error *sink_commit(struct sink *sink)
{
    bool is_durable = sink->config.journal != NULL;
    struct journal_commit commit = {.chunk = sink->chunk, .done_in_chunk = sink->done_in_chunk};
    sink->interval_ms = MIN(sink->interval_ms * 2, sink->config.spec->checkpoint_ms);
    sink->commit_due_ns = clock_now_ns() + sink->interval_ms * 1000000;
    /* also when nothing was written: behind a record that is still awaited others may be answered */
    if (sink->config.reuse != NULL) TRY(answers_flush(sink->config.reuse->answers, is_durable));
    if (!sink->has_news && !is_bill_due(sink)) return NULL;
    TRY(spool_checkpoint(sink->output, is_durable, &commit.output));
    if (sink->errors != NULL) TRY(spool_checkpoint(sink->errors, is_durable, &commit.errors));
    if (is_durable) TRY(append_commit(sink, &commit));
    sink->has_news = false;
    return NULL;
}

tidemill_error *sink_note_attempt(struct sink *sink, uint64_t record_index)
{
    if (sink->config.journal == NULL) return NULL;
    pthread_mutex_lock(&sink->mutex);
    tidemill_error *error = journal_append_attempt(sink->config.journal, record_index);
    pthread_mutex_unlock(&sink->mutex);
    return error;
}

struct job_counts sink_counts(struct sink *sink)
{
    pthread_mutex_lock(&sink->mutex);
    struct job_counts counts = sink->counts;
    pthread_mutex_unlock(&sink->mutex);
    return counts;
}

/* --- publishing ----------------------------------------------------------------------------------- */

/* .npz: the rows were collected one record after another; the archive is made from them now. */
static tidemill_error *assemble(struct sink *sink, uint64_t *ret_bytes)
{
    const struct io *io = sink->config.io;
    struct stat status;
    TRY(encoder_assemble(sink->config.encoder, io, sink->rows_path, sink->counts.records,
                         sink->output_path));
    if (io->stat(io->context, sink->output_path, &status) != 0)
        return error_errno(ERROR_IO, errno, "cannot look at %s", sink->output_path);
    *ret_bytes = (uint64_t)status.st_size;
    return NULL;
}

static tidemill_error *complete_output(struct sink *sink, uint64_t *ret_bytes)
{
    buffer_reset(&sink->scratch, SIZE_MAX);
    if (encoder_finish_header(sink->config.encoder, sink->counts.records, &sink->scratch))
        TRY(spool_patch(sink->output, 0, sink->scratch.data, sink->scratch.size));
    TRY(spool_finish(sink->output, ret_bytes));
    return sink->rows_path != NULL ? assemble(sink, ret_bytes) : NULL;
}

/* An error file without errors is not there at all. */
static tidemill_error *publish_errors(const struct io *io, const char *partial, const char *errors,
                                      bool has_errors)
{
    if (has_errors) return io_exists(io, partial) ? io_publish(io, partial, errors) : NULL;
    io->unlink(io->context, partial);
    io->unlink(io->context, errors);
    return NULL;
}

/* What is of no use once `final` stands in the journal. A retry that was merged must not be found complete
 * by the next one, which would merge, and count, it again. */
static const char *const publish_removes[] = {".answers", ".upstream", ".retry.out",
                                              ".retry.out.journal"};

/* That the names go is made to last by the renames that follow. */
static tidemill_error *remove_beside(const struct io *io, const char *output)
{
    tidemill_error *error = NULL;
    for (size_t i = 0; error == NULL && i < COUNT_OF(publish_removes); i++) {
        char *path = path_with(output, publish_removes[i]);
        if (path == NULL) return error_memory();
        if (io->unlink(io->context, path) != 0 && errno != ENOENT)
            error = error_errno(ERROR_IO, errno, "cannot remove %s", path);
        free(path);
    }
    return error;
}

tidemill_error *sink_publish_again(const struct io *io, const struct job_spec *spec,
                                   struct journal *journal, const struct journal_final *final)
{
    struct journal_final published = *final;
    char *output = path_with(spec->output, ".partial");
    char *errors = path_with(spec->errors, ".partial");
    tidemill_error *error =
        output == NULL || errors == NULL ? error_memory() : remove_beside(io, spec->output);
    if (error == NULL) error = publish_errors(io, errors, spec->errors, final->errors_bytes > 0);
    if (error == NULL && io_exists(io, output)) error = io_publish(io, output, spec->output);
    published.is_published = true;
    if (error == NULL) error = journal_append_final(journal, &published);
    free(output);
    free(errors);
    return error;
}

tidemill_error *sink_finish(struct sink *sink)
{
    const struct job_spec *spec = sink->config.spec;
    struct journal_final final = {.is_set = true};
    sink->has_news = true; /* the last commit holds the job's totals */
    TRY(sink_commit(sink));
    TRY(complete_output(sink, &final.output_bytes));
    if (sink->errors != NULL) TRY(spool_finish(sink->errors, &final.errors_bytes));
    if (sink->counts.failed == 0) final.errors_bytes = 0;
    if (sink->config.journal == NULL)
        return sink->errors == NULL ? NULL
                                    : publish_errors(sink->config.io, sink->errors_path,
                                                     spec->errors, final.errors_bytes > 0);
    TRY(journal_append_final(sink->config.journal, &final));
    TRY(sink_publish_again(sink->config.io, spec, sink->config.journal, &final));
    if (sink->rows_path != NULL) sink->config.io->unlink(sink->config.io->context, sink->rows_path);
    return NULL;
}
