/* SPDX-License-Identifier: Apache-2.0 */
/* job_files.c - what a job has answered: a record of a window, the output as it grows. While it runs that
 * is what the engine has committed; afterwards, the store's files. */
#include "server/scheduler_parts.h"

#include "server/job_details.h"
#include "server/job_errors.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <yyjson.h>

struct job_view {
    char *output, *errors; /* paths; NULL: there is none */
    uint64_t output_bytes, errors_bytes;
    bool has_ended;
};

static void view_free(struct job_view *view)
{
    free(view->output);
    free(view->errors);
}

static bool has_ended(const struct store_job *job)
{
    return (STORE_TERMINAL & STATE_BIT(job->state)) != 0;
}

static tidemill_error *file_of(struct app *app, const char *id, char **ret_path,
                               uint64_t *ret_bytes)
{
    struct stat status;
    if (id[0] == '\0') return NULL;
    TRY(store_file_path(app->store, id, ret_path));
    if (app->io->stat(app->io->context, *ret_path, &status) == 0) {
        *ret_bytes = (uint64_t)status.st_size;
        return NULL;
    }
    return error_errno(errno == ENOENT ? ERROR_INPUT : ERROR_IO, errno,
                       "the file %s of the job is not there any more", id);
}

/* Under its own name once it is published, also where that happens between two looks. */
static tidemill_error *engine_path(struct app *app, const char *output, const char *ending,
                                   bool is_published, char **ret)
{
    if (asprintf(ret, "%s%s.partial", output, ending) < 0) {
        *ret = NULL;
        return error_memory();
    }
    if (is_published || !io_exists(app->io, *ret)) (*ret)[strlen(*ret) - strlen(".partial")] = '\0';
    return NULL;
}

static tidemill_error *view_running(struct app *app, const char *output, struct job_view *ret)
{
    struct job_state state;
    TRY(job_look(app->io, output, &state));
    TRY(engine_path(app, output, "", state.is_published, &ret->output));
    TRY(engine_path(app, output, ".errors.jsonl", state.is_published, &ret->errors));
    ret->output_bytes = state.output_bytes;
    ret->errors_bytes = state.counts.failed > 0 ? state.errors_bytes : 0;
    return NULL;
}

static tidemill_error *view_open(struct app *app, const struct store_job *job, struct job_view *ret)
{
    char *output;
    *ret = (struct job_view){.has_ended = has_ended(job)};
    if (ret->has_ended) {
        TRY(file_of(app, job->output_file, &ret->output, &ret->output_bytes));
        return file_of(app, job->error_file, &ret->errors, &ret->errors_bytes);
    }
    TRY(job_path(app, job->id, "output.jsonl", &output));
    tidemill_error *error = view_running(app, output, ret);
    free(output);
    return error;
}

/* --- one record --------------------------------------------------------------------------------- */

static enum record_state state_of_error(const struct buffer *line)
{
    yyjson_doc *doc = yyjson_read(line->data, line->size, YYJSON_READ_NUMBER_AS_RAW);
    const char *code = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(doc), "code"));
    enum record_state state = RECORD_FAILED;
    if (code != NULL && strcmp(code, "batch_expired") == 0) state = RECORD_EXPIRED;
    if (code != NULL && strcmp(code, "batch_cancelled") == 0) state = RECORD_CANCELLED;
    if (code != NULL && strcmp(code, "budget_exceeded") == 0) state = RECORD_CANCELLED;
    yyjson_doc_free(doc);
    return state;
}

static tidemill_error *find_record(struct app *app, const struct store_job *job,
                                   const struct job_view *view, uint64_t n, enum record_state *ret,
                                   struct buffer *line)
{
    bool is_error, is_found;
    const char *made_of = view->has_ended ? job->output_file : "running";
    const struct index_files files = {view->output, view->errors, view->output_bytes,
                                      view->errors_bytes};
    TRY(job_indexes_find(&app->scheduler->indexes, app->io, job->id, made_of, &files, n, line,
                         &is_error, &is_found));
    if (!is_found) return NULL;
    *ret = is_error ? state_of_error(line) : RECORD_OK;
    /* it is about to be run once more */
    bool is_again = is_error && !view->has_ended && details_number(job, "retries", 0) > 0;
    if (!is_again) return NULL;
    *ret = RECORD_PENDING;
    buffer_reset(line, SIZE_MAX);
    return NULL;
}

/* A client's error line has no path of the server in it; the engine's has. */
static tidemill_error *show_error(const struct store_job *job, struct buffer *line)
{
    struct buffer shown = {0};
    tidemill_error *error =
        job_error_line(job->kind, (struct slice){line->data, line->size}, NULL, NULL, &shown);
    if (error == NULL) {
        buffer_reset(line, SIZE_MAX);
        buffer_append(line, shown.data, shown.size - 1);
    }
    buffer_free(&shown);
    return error;
}

tidemill_error *job_record(struct app *app, const struct store_job *job, uint64_t n,
                           enum record_state *ret, struct buffer *line)
{
    struct job_view view;
    *ret = RECORD_PENDING;
    buffer_reset(line, SIZE_MAX);
    if (job->kind != STORE_WINDOW)
        return error_new(ERROR_INTERNAL, "%s is no window: its records have no numbers", job->id);
    tidemill_error *error = view_open(app, job, &view);
    if (error == NULL) error = find_record(app, job, &view, n, ret, line);
    if (error == NULL && *ret == RECORD_FAILED && !view.has_ended) error = show_error(job, line);
    view_free(&view);
    return error;
}

/* --- the output --------------------------------------------------------------------------------- */

/* A line that is longer than that comes whole: else nothing would ever come. */
static tidemill_error *read_lines(struct app *app, const char *path, int fd, uint64_t offset,
                                  uint64_t end, size_t bytes_max, struct buffer *out)
{
    size_t before = out->size, whole = 0;
    while (whole == 0 && offset < end) {
        size_t size = (size_t)MIN(end - offset, (uint64_t)bytes_max);
        char *place = buffer_reserve(out, size);
        if (place == NULL) return error_memory();
        ssize_t got = app->io->pread(app->io->context, fd, place, size, (off_t)offset);
        if (got < 0) return error_errno(ERROR_IO, errno, "cannot read %s", path);
        if (got == 0) return error_new(ERROR_CORRUPT, "%s is shorter than its job says", path);
        const char *last = memrchr(place, '\n', (size_t)got);
        offset += (uint64_t)got;
        out->size += (size_t)got;
        if (last != NULL) whole = (size_t)(last + 1 - out->data) - before;
    }
    out->size = before + whole;
    return NULL;
}

tidemill_error *job_committed(struct app *app, const struct store_job *job, uint64_t offset,
                              size_t bytes_max, struct buffer *out, bool *ret_end)
{
    int fd;
    struct job_view view;
    size_t before = out->size;
    tidemill_error *error = view_open(app, job, &view);
    if (error == NULL && view.output != NULL && offset < view.output_bytes) {
        error = io_open(app->io, view.output, O_RDONLY, 0, &fd);
        if (error == NULL) {
            error = read_lines(app, view.output, fd, offset, view.output_bytes,
                               MAX(bytes_max, (size_t)1), out);
            io_close(app->io, fd);
        }
    }
    *ret_end = view.has_ended && offset + (out->size - before) >= view.output_bytes;
    view_free(&view);
    return error;
}
