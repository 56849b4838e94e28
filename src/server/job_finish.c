/* SPDX-License-Identifier: Apache-2.0 */
/* job_finish.c - a job ends: what the engine has done becomes files of the store, in one transaction
 * with the job's last state; then those are told who want to know.
 *
 *     FINALIZING (where all is done) -> uploads -> mark "untold" -> files and terminal state -> told
 *
 * Killed before the transaction: the uploads are nobody's and go at the next start, which does it all
 * again. Killed after: the mark DATA/jobs/ID/untold is still there, and the next start tells. Counts are
 * those of the engine's journal and nothing else. */
#include "server/scheduler_parts.h"

#include "server/delivery.h"
#include "server/job_details.h"
#include "server/job_errors.h"
#include "server/job_lines.h"
#include "server/metrics.h"
#include "server/results.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <yyjson.h>

#define COPY_BYTES ((size_t)1 << 20)
#define ERROR_LINE_BYTES_MAX ((size_t)1 << 32)
#define INPUT_LINE_BYTES_MAX ((size_t)1 << 32)
#define UNTOLD "untold"

struct ending {
    struct task *task;
    struct app *app;
    const struct job_end *end;
    struct store_job job;
    struct job_state done;
    struct job_rest rest;
    uint64_t n_rest;   /* records that the engine knows nothing of */
    uint64_t n_closed; /* that it failed, as the job was ended before it was their turn */
    char *output;      /* the engine's */
    struct store_upload *uploads[2];
    struct store_file files[2];
    size_t n_files;
    struct buffer line;
};

/* --- what there is ------------------------------------------------------------------------------ */

static tidemill_error *look(struct ending *ending)
{
    bool is_found;
    struct store_job *job = &ending->job;
    TRY(store_job_get(ending->app->store, NULL, ending->task->id, job, &is_found));
    if (!is_found) return error_new(ERROR_INTERNAL, "job %s is gone", ending->task->id);
    TRY(job_path(ending->app, job->id, "output.jsonl", &ending->output));
    if (!ending->end->is_lost) {
        TRY(job_look(ending->app->io, ending->output, &ending->done));
        TRY(job_closing(ending->task, job, &ending->done, ending->end->state));
        TRY(job_look(ending->app->io, ending->output, &ending->done));
    }
    uint64_t records = ending->done.counts.records;
    if (ending->end->state == STORE_COMPLETED && job->counts.total != records) {
        log_event(LOG_WARNING, "%s: %llu records were counted, %llu run", job->id,
                  (unsigned long long)job->counts.total, (unsigned long long)records);
        job->counts.total = records;
    }
    ending->n_rest = job->counts.total > records ? job->counts.total - records : 0;
    ending->rest = job_rest_of(ending->end->state);
    if (ending->end->code != NULL) ending->rest.code = ending->end->code;
    return NULL;
}

/* Where the engine's file is: under its name, or not yet. */
static tidemill_error *engine_file(const struct ending *ending, const char *suffix, char **ret)
{
    char *partial;
    *ret = NULL;
    if (asprintf(&partial, "%s%s.partial", ending->output, suffix) < 0) return error_memory();
    if (!ending->done.is_published && io_exists(ending->app->io, partial)) {
        *ret = partial;
        return NULL;
    }
    free(partial);
    if (asprintf(ret, "%s%s", ending->output, suffix) >= 0) return NULL;
    *ret = NULL;
    return error_memory();
}

static tidemill_error *check_stop(const struct ending *ending)
{
    if (atomic_load(&ending->task->ask) != ASK_SHUTDOWN) return NULL;
    return error_new(ERROR_INTERRUPTED, "%s: ends at the next start", ending->job.id);
}

/* --- files -------------------------------------------------------------------------------------- */

static int64_t expires_at(const struct store_job *job, int64_t now)
{
    double seconds = details_inner_number(job, "output_expires_after", "seconds", 0);
    return seconds > 0 && seconds < 1e9 ? now + (int64_t)(seconds * 1000) : 0;
}

static tidemill_error *begin_file(struct ending *ending, const char *what,
                                  struct store_upload **ret)
{
    struct store_file *file = &ending->files[ending->n_files];
    const struct store_job *job = &ending->job;
    int64_t now = ending->task->scheduler->tuning.now();
    TRY(store_upload_new(ending->app->store, ret));
    ending->uploads[ending->n_files++] = *ret;
    *file = (struct store_file){.created_at = now, .expires_at = expires_at(job, now)};
    memcpy(file->tenant, job->tenant, sizeof file->tenant);
    snprintf(file->purpose, sizeof file->purpose, "batch_output");
    store_new_id("file-", file->id);
    if (asprintf(&file->filename, "%s_%s.jsonl", job->id, what) >= 0) return NULL;
    file->filename = NULL;
    return error_memory();
}

static tidemill_error *copy_bytes(struct ending *ending, int fd, const char *path,
                                  struct store_upload *upload)
{
    char *data = malloc(COPY_BYTES);
    tidemill_error *error = data == NULL ? error_memory() : NULL;
    for (uint64_t left = ending->done.output_bytes; error == NULL && left > 0;) {
        size_t size = (size_t)MIN(left, (uint64_t)COPY_BYTES), got = 0;
        error = check_stop(ending);
        if (error == NULL) error = io_read_all(ending->app->io, fd, path, data, size, &got);
        if (error == NULL && got < size)
            error = error_new(ERROR_CORRUPT, "%s is shorter than its journal says", path);
        if (error == NULL) error = store_upload_write(upload, data, got);
        left -= got;
    }
    free(data);
    return error;
}

static tidemill_error *write_output(struct ending *ending)
{
    int fd;
    char *path;
    struct store_upload *upload;
    if (ending->done.output_bytes == 0) return NULL;
    TRY(engine_file(ending, "", &path));
    tidemill_error *error = io_open(ending->app->io, path, O_RDONLY, 0, &fd);
    if (error == NULL) {
        error = begin_file(ending, "output", &upload);
        if (error == NULL) error = copy_bytes(ending, fd, path, upload);
        io_close(ending->app->io, fd);
    }
    free(path);
    return error;
}

static tidemill_error *flush_line(struct ending *ending, struct store_upload *upload, size_t above)
{
    if (ending->line.is_failed) return error_memory();
    if (ending->line.size <= above) return NULL;
    TRY(check_stop(ending));
    TRY(store_upload_write(upload, ending->line.data, ending->line.size));
    buffer_reset(&ending->line, COPY_BYTES);
    return NULL;
}

static tidemill_error *copy_error_lines(struct ending *ending, struct job_lines *lines,
                                        struct store_upload *upload)
{
    const struct raw_record *raw;
    enum store_state end = ending->end->state;
    const struct job_rest *rest =
        end != STORE_COMPLETED && end != STORE_FAILED ? &ending->rest : NULL;
    for (uint64_t i = 0; i < ending->done.counts.failed; i++) {
        TRY(job_lines_next(lines, &raw));
        if (raw == NULL)
            return error_new(ERROR_CORRUPT,
                             "%s: the error file has fewer lines than its journal "
                             "says",
                             ending->output);
        bool is_rest = false;
        TRY(job_error_line(ending->job.kind, raw->bytes, rest, &is_rest, &ending->line));
        ending->n_closed += is_rest;
        TRY(flush_line(ending, upload, COPY_BYTES));
    }
    return NULL;
}

static tidemill_error *write_failed(struct ending *ending, struct store_upload *upload)
{
    char *path;
    struct job_lines lines = {0};
    if (ending->done.counts.failed == 0) return NULL;
    TRY(engine_file(ending, ".errors.jsonl", &path));
    tidemill_error *error = job_lines_open(ending->app->io, path, ERROR_LINE_BYTES_MAX, &lines);
    if (error == NULL) error = copy_error_lines(ending, &lines, upload);
    job_lines_close(&lines);
    free(path);
    return error;
}

/* The custom_id of a line that was found valid, as JSON text. */
static void append_custom_id(struct slice line, struct buffer *out)
{
    yyjson_doc *doc = yyjson_read(line.data, line.size, YYJSON_READ_NUMBER_AS_RAW);
    yyjson_val *id = yyjson_obj_get(yyjson_doc_get_root(doc), "custom_id");
    if (yyjson_is_str(id)) format_json_string(out, yyjson_get_str(id), yyjson_get_len(id));
    yyjson_doc_free(doc);
}

static tidemill_error *write_rest_lines(struct ending *ending, struct job_lines *lines,
                                        struct store_upload *upload)
{
    const struct raw_record *raw = NULL;
    struct buffer id = {0};
    tidemill_error *error = NULL;
    for (uint64_t i = 0; i < ending->job.counts.total && error == NULL; i++) {
        if (lines != NULL) error = job_lines_next(lines, &raw);
        if (error != NULL || i < ending->done.counts.records) continue;
        buffer_reset(&id, COPY_BYTES);
        if (raw != NULL) append_custom_id(raw->bytes, &id);
        job_rest_line(&ending->job, i, (struct slice){id.data, id.size}, &ending->rest,
                      &ending->line);
        error = id.is_failed ? error_memory() : flush_line(ending, upload, COPY_BYTES);
    }
    buffer_free(&id);
    return error;
}

/* An input that its owner has deleted meanwhile has no names left to give. */
static tidemill_error *write_rest(struct ending *ending, struct store_upload *upload)
{
    char *path;
    struct job_lines lines = {0};
    if (ending->n_rest == 0) return NULL;
    if (ending->job.kind == STORE_WINDOW) return write_rest_lines(ending, NULL, upload);
    TRY(job_input_path(ending->app, &ending->job, &path));
    bool has_input = io_exists(ending->app->io, path);
    tidemill_error *error =
        has_input ? job_lines_open(ending->app->io, path, INPUT_LINE_BYTES_MAX, &lines) : NULL;
    if (error == NULL) error = write_rest_lines(ending, has_input ? &lines : NULL, upload);
    job_lines_close(&lines);
    free(path);
    return error;
}

static tidemill_error *write_errors(struct ending *ending)
{
    struct store_upload *upload;
    if (ending->done.counts.failed == 0 && ending->n_rest == 0) return NULL;
    TRY(begin_file(ending, "error", &upload));
    TRY(write_failed(ending, upload));
    TRY(write_rest(ending, upload));
    return flush_line(ending, upload, 0);
}

/* --- the row ------------------------------------------------------------------------------------ */

static double cost_of(struct app *app, const struct store_job *job, const struct job_state *done)
{
    struct job_spec spec;
    double usd = job->cost_usd;
    tidemill_error *error = job_setup(app, job, &spec);
    if (error == NULL) {
        struct job_cost cost = job_cost_prices(&spec);
        job_cost_fill(&cost, done->wall_s, &done->counts);
        usd = cost.usd;
    }
    error_free(error); /* the model is gone: what was known stays */
    job_spec_free(&spec);
    return usd;
}

static tidemill_error *fill_details(struct store_job *job, const struct ending *ending)
{
    const struct job_end *end = ending->end;
    const struct job_state *done = &ending->done;
    TRY(details_set(job, "paused", NULL));
    TRY(details_set(job, "over_budget", NULL));
    if (done->wall_s > 0) TRY(details_set_number(job, "wall_s", done->wall_s));
    if (end->summary != NULL && end->summary->rate_rows_s > 0)
        TRY(details_set_number(job, "rate_rows_s", end->summary->rate_rows_s));
    if (end->code == NULL) return NULL;
    return details_set_reason(job, "failure", end->code, end->message,
                              store_path(ending->app->store), -1);
}

static void fill_counts(struct store_job *job, const struct ending *ending)
{
    const struct job_counts *counts = &ending->done.counts;
    uint64_t rest = ending->n_rest + ending->n_closed;
    enum store_state state = ending->end->state;
    job->counts = (struct store_counts){
        .total = ending->job.counts.total,
        .completed = counts->ok,
        .failed = counts->failed - ending->n_closed + (state == STORE_FAILED ? rest : 0),
        .cancelled = state == STORE_CANCELLED || state == STORE_STOPPED ? rest : 0,
        .expired = state == STORE_EXPIRED ? rest : 0,
    };
    job->tokens_in = counts->tokens.in;
    job->tokens_cached = counts->tokens.cached;
    job->tokens_out = counts->tokens.out;
}

/* The ids of files that are not there are empty, and stay so. */
static void fill_files(struct store_job *job, const struct ending *ending)
{
    size_t i = 0;
    job->output_file[0] = job->error_file[0] = '\0';
    if (ending->done.output_bytes > 0)
        memcpy(job->output_file, ending->files[i++].id, sizeof job->output_file);
    if (i < ending->n_files) memcpy(job->error_file, ending->files[i].id, sizeof job->error_file);
}

static unsigned states_before(enum store_state end)
{
    switch (end) {
    case STORE_COMPLETED: return STATE_BIT(STORE_FINALIZING);
    case STORE_CANCELLED: return STATE_BIT(STORE_CANCELLING);
    case STORE_EXPIRED: return STATE_BIT(STORE_WAITING) | STATE_BIT(STORE_RUNNING);
    case STORE_STOPPED: return STATE_BIT(STORE_RUNNING);
    default: return SCHEDULER_ACTIVE & ~STATE_BIT(STORE_OPEN) & ~STATE_BIT(STORE_CANCELLING);
    }
}

static tidemill_error *mark_untold(const struct ending *ending)
{
    int fd;
    char *folder, *path;
    const struct io *io = ending->app->io;
    TRY(store_job_folder(ending->app->store, ending->job.id, &folder));
    free(folder);
    TRY(job_path(ending->app, ending->job.id, UNTOLD, &path));
    tidemill_error *error = io_open(io, path, O_WRONLY | O_CREAT, 0600, &fd);
    if (error == NULL) {
        if (io->fsync(io->context, fd) != 0)
            error = error_errno(ERROR_IO, errno, "cannot sync %s", path);
        io_close(io, fd);
    }
    if (error == NULL) error = io_sync_directory(io, path);
    free(path);
    return error;
}

/* Under the lock of changes: the row may have changed since it was read, its details above all. */
static tidemill_error *end_row(struct ending *ending, struct store_job *job, bool *ret_done)
{
    bool is_found;
    struct store *store = ending->app->store;
    TRY(store_job_get(store, NULL, ending->task->id, job, &is_found));
    unsigned from = states_before(ending->end->state);
    if (!is_found || (from & STATE_BIT(job->state)) == 0) return NULL;
    fill_counts(job, ending);
    fill_files(job, ending);
    job->cost_usd = cost_of(ending->app, &ending->job, &ending->done);
    job->state = ending->end->state;
    TRY(fill_details(job, ending));
    size_t n = ending->n_files;
    ending->n_files = 0; /* the store frees the uploads in any case */
    tidemill_error *error =
        store_job_finish(store, job, from, ending->uploads, ending->files, n, ret_done);
    for (size_t i = 0; i < n; i++) store_file_free(&ending->files[i]);
    return error;
}

/* --- after it ----------------------------------------------------------------------------------- */

static void note_rate(struct scheduler *scheduler, const struct store_job *job,
                      const struct job_summary *summary)
{
    char *path;
    if (summary == NULL || !summary->is_complete || summary->records_this_run == 0) return;
    bool has_price = job_cost_has_price(&summary->cost) && summary->counts.records > 0;
    struct job_rate rate = {
        .rows_s = summary->rate_rows_s,
        .usd_row = has_price ? summary->cost.usd / (double)summary->counts.records : -1,
        .records = summary->records_this_run,
    };
    if (asprintf(&path, "%s/rates.json", store_path(scheduler->app->store)) < 0) return;
    pthread_mutex_lock(&scheduler->mutex);
    tidemill_error *error = rates_add(&scheduler->rates, job->model, &rate);
    if (error == NULL) error = rates_save(scheduler->app->io, path, &scheduler->rates);
    pthread_mutex_unlock(&scheduler->mutex);
    if (error != NULL)
        log_event(LOG_WARNING, "%s is not up to date: %s", path, error_message(error));
    error_free(error);
    free(path);
}

/* Nothing is left to do once more, so nothing of the engine's is needed. */
static void remove_work(struct app *app, const struct store_job *job)
{
    static const char *const names[] = {"output.jsonl", "output.jsonl.journal",
                                        "output.jsonl.errors.jsonl"};
    if (job->counts.completed != job->counts.total) return;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char *path;
        tidemill_error *error = job_path(app, job->id, names[i], &path);
        if (error == NULL) app->io->unlink(app->io->context, path);
        error_free(error);
        free(path);
    }
}

static tidemill_error *tell(struct app *app, const struct store_job *job)
{
    char *path;
    if (job->kind == STORE_WINDOW && job->counts.completed > 0)
        TRY(results_put_window(app->results, job));
    TRY(delivery_job_ended(app->delivery, job));
    TRY(job_path(app, job->id, UNTOLD, &path));
    app->io->unlink(app->io->context, path);
    free(path);
    return NULL;
}

static void tell_or_warn(struct app *app, const struct store_job *job)
{
    tidemill_error *error = tell(app, job);
    if (error != NULL)
        log_event(LOG_WARNING, "%s has ended; who waits for that is told later: %s", job->id,
                  error_message(error));
    error_free(error);
}

static void log_end(const struct store_job *job, const struct job_end *end)
{
    log_event(end->state == STORE_FAILED ? LOG_WARNING : LOG_INFO,
              "%s %s: %llu of %llu records done, %llu failed%s%s", job->id,
              store_state_name(job->state), (unsigned long long)job->counts.completed,
              (unsigned long long)job->counts.total, (unsigned long long)job->counts.failed,
              end->message != NULL ? ": " : "", end->message != NULL ? end->message : "");
}

static void after_end(struct ending *ending, const struct store_job *job)
{
    struct job_summary none = {0};
    const struct job_summary *summary = ending->end->summary;
    log_end(job, ending->end);
    metrics_job(ending->app->metrics, job, summary != NULL ? summary : &none);
    note_rate(ending->task->scheduler, job, summary);
    tell_or_warn(ending->app, job);
    remove_work(ending->app, job);
}

/* --- the whole ---------------------------------------------------------------------------------- */

/* Without it a cancel could still come between. *ret_done false: it has. */
static tidemill_error *begin_to_finalize(struct ending *ending, bool *ret_done)
{
    enum store_state state = STORE_FINALIZING;
    unsigned from = STATE_BIT(STORE_RUNNING) | STATE_BIT(STORE_FINALIZING);
    *ret_done = true;
    if (ending->end->state != STORE_COMPLETED) return NULL;
    return job_change(ending->task->scheduler, ending->task->id, from, job_to_state, &state, NULL,
                      ret_done);
}

static tidemill_error *finish(struct ending *ending)
{
    bool is_done;
    struct store_job job = {0};
    struct scheduler *scheduler = ending->task->scheduler;
    TRY(look(ending));
    TRY(begin_to_finalize(ending, &is_done));
    if (!is_done) return NULL;
    TRY(write_output(ending));
    TRY(write_errors(ending));
    TRY(mark_untold(ending));
    is_done = false;
    pthread_mutex_lock(&scheduler->changes);
    tidemill_error *error = end_row(ending, &job, &is_done);
    pthread_mutex_unlock(&scheduler->changes);
    if (error == NULL && is_done) after_end(ending, &job);
    store_job_free(&job);
    return error;
}

tidemill_error *job_finish(struct task *task, const struct job_end *end)
{
    struct ending ending = {.task = task, .app = task->scheduler->app, .end = end};
    tidemill_error *error = finish(&ending);
    for (size_t i = 0; i < ending.n_files; i++) {
        store_upload_drop(ending.uploads[i]);
        store_file_free(&ending.files[i]);
    }
    buffer_free(&ending.line);
    store_job_free(&ending.job);
    free(ending.output);
    return error_context(error, "ending %s", task->id);
}

tidemill_error *job_finish_again(struct scheduler *scheduler)
{
    struct store_jobs jobs = {0};
    struct app *app = scheduler->app;
    TRY(store_job_scan(app->store, STORE_TERMINAL & ((1u << STORE_STATES) - 1), &jobs));
    tidemill_error *error = NULL;
    for (size_t i = 0; i < jobs.n && error == NULL; i++) {
        char *path;
        error = job_path(app, jobs.items[i].id, UNTOLD, &path);
        if (error == NULL && io_exists(app->io, path)) tell_or_warn(app, &jobs.items[i]);
        free(path);
    }
    store_jobs_free(&jobs);
    return error;
}
