/* SPDX-License-Identifier: Apache-2.0 */
/* anthropic.c - Anthropic's Message Batches: requests become the lines of a batch, results their
 * messages. Contract: anthropics/anthropic-sdk-python, resources/messages/batches. */
#include "server/anthropic_convert.h"
#include "server/json_out.h"
#include "server/routes.h"
#include "server/scheduler.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PREFIX "msgbatch_"
#define REQUESTS_MAX 100000
#define BODY_BYTES_MAX ((size_t)256 << 20)
#define WINDOW_MS (24 * INT64_C(3600000))
#define PIECE_BYTES ((size_t)256 << 10)
#define LINE_BYTES_MAX ((size_t)64 << 20)

/* --- the object --------------------------------------------------------------------------------- */

/* RFC 3339, or null for 0. */
static void put_moment(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name,
                       int64_t time_ms)
{
    char text[32];
    time_t seconds = (time_t)(time_ms / 1000);
    struct tm utc;
    if (time_ms == 0 || gmtime_r(&seconds, &utc) == NULL) {
        yyjson_mut_obj_add_null(doc, object, name);
        return;
    }
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    yyjson_mut_obj_add_strcpy(doc, object, name, text);
}

static bool has_ended(const struct store_job *job)
{
    return (STORE_TERMINAL >> job->state & 1) != 0;
}

static int64_t ended_at(const struct store_job *job)
{
    return has_ended(job) ? job->state_at[job->state] : 0;
}

/* All but "processing" stay 0 until the end. A batch that failed as a whole has only errors. */
static void put_counts(yyjson_mut_doc *doc, yyjson_mut_val *object, const struct store_job *job)
{
    struct store_counts counts = job->counts;
    uint64_t processing = counts.total;
    if (!has_ended(job)) {
        counts = (struct store_counts){0};
    } else {
        processing = 0;
        if (job->state == STORE_FAILED)
            counts.failed = counts.total - counts.completed - counts.cancelled - counts.expired;
    }
    yyjson_mut_val *value = yyjson_mut_obj_add_obj(doc, object, "request_counts");
    yyjson_mut_obj_add_uint(doc, value, "processing", processing);
    yyjson_mut_obj_add_uint(doc, value, "succeeded", counts.completed);
    yyjson_mut_obj_add_uint(doc, value, "errored", counts.failed);
    yyjson_mut_obj_add_uint(doc, value, "canceled", counts.cancelled);
    yyjson_mut_obj_add_uint(doc, value, "expired", counts.expired);
}

static void put_results_url(struct exchange *exchange, struct app *app, yyjson_mut_doc *doc,
                            yyjson_mut_val *object, const struct store_job *job)
{
    const char *host = exchange_header(exchange, "host");
    const char *scheme = exchange_header(exchange, "x-forwarded-proto");
    struct server_config *config = app->config;
    char url[512];
    if (!has_ended(job)) {
        yyjson_mut_obj_add_null(doc, object, "results_url");
        return;
    }
    if (scheme == NULL || (strcmp(scheme, "https") != 0 && strcmp(scheme, "http") != 0))
        scheme = config->tls_certificate != NULL ? "https" : "http";
    snprintf(url, sizeof url, "%s://%.255s/v1/messages/batches/%s/results", scheme,
             host != NULL ? host : "localhost", job->id);
    yyjson_mut_obj_add_strcpy(doc, object, "results_url", url);
}

static yyjson_mut_val *batch_object(struct exchange *exchange, struct app *app, yyjson_mut_doc *doc,
                                    const struct store_job *job)
{
    const char *status = has_ended(job)                   ? "ended"
                         : job->state == STORE_CANCELLING ? "canceling"
                                                          : "in_progress";
    yyjson_mut_val *object = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_strcpy(doc, object, "id", job->id);
    yyjson_mut_obj_add_str(doc, object, "type", "message_batch");
    yyjson_mut_obj_add_str(doc, object, "processing_status", status);
    put_counts(doc, object, job);
    put_moment(doc, object, "created_at", job->created_at);
    put_moment(doc, object, "expires_at", job->deadline_at);
    put_moment(doc, object, "ended_at", ended_at(job));
    put_moment(doc, object, "cancel_initiated_at", job->state_at[STORE_CANCELLING]);
    yyjson_mut_obj_add_null(doc, object, "archived_at");
    put_results_url(exchange, app, doc, object, job);
    return object;
}

static void answer_batch(struct exchange *exchange, struct app *app, const struct store_job *job)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    json_answer(exchange, 200, doc, doc != NULL ? batch_object(exchange, app, doc, job) : NULL);
}

static bool find_batch(struct exchange *exchange, struct app *app, struct store_job *ret)
{
    bool is_found = false;
    const char *id = exchange_capture(exchange, 0);
    tidemill_error *error =
        store_job_get(app->store, app_caller(exchange)->tenant, id, ret, &is_found);
    if (error != NULL) {
        app_refuse_error(exchange, error);
        return false;
    }
    if (is_found && strncmp(ret->id, PREFIX, strlen(PREFIX)) == 0) return true;
    if (is_found) store_job_free(ret);
    app_refuse(exchange, 404, NULL, NULL, "no message batch has the id '%.64s'", id);
    return false;
}

/* --- create ------------------------------------------------------------------------------------- */

static int compare_texts(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

static tidemill_error *check_unique(yyjson_val *requests)
{
    size_t n = yyjson_arr_size(requests), i, max;
    yyjson_val *request;
    const char **ids = calloc(n, sizeof(char *));
    tidemill_error *error = NULL;
    if (ids == NULL) return error_memory();
    yyjson_arr_foreach(requests, i, max, request)
    {
        ids[i] = yyjson_get_str(yyjson_obj_get(request, "custom_id"));
        if (ids[i] == NULL) ids[i] = "";
    }
    qsort(ids, n, sizeof(char *), compare_texts);
    for (i = 1; i < n && error == NULL; i++)
        if (strcmp(ids[i], ids[i - 1]) == 0)
            error = error_new(ERROR_USAGE, "two requests have the custom_id '%.64s'", ids[i]);
    free(ids);
    return error;
}

static tidemill_error *write_lines(yyjson_val *requests, struct store_upload *upload)
{
    struct buffer piece = {0};
    size_t i, n;
    yyjson_val *request;
    tidemill_error *error = NULL;
    yyjson_arr_foreach(requests, i, n, request)
    {
        error = error_context(anthropic_line(request, &piece), "requests.%zu", i);
        if (error != NULL) break;
        if (piece.size < PIECE_BYTES) continue;
        error = store_upload_write(upload, piece.data, piece.size);
        if (error != NULL) break;
        buffer_reset(&piece, PIECE_BYTES);
    }
    if (error == NULL && piece.size > 0) error = store_upload_write(upload, piece.data, piece.size);
    buffer_free(&piece);
    return error;
}

static tidemill_error *check_requests(yyjson_val *requests)
{
    size_t n = yyjson_arr_size(requests);
    if (n == 0) return error_new(ERROR_USAGE, "requests: at least one is required");
    if (n > REQUESTS_MAX)
        return error_new(ERROR_USAGE, "requests: %zu are more than %d", n, REQUESTS_MAX);
    return check_unique(requests);
}

static tidemill_error *keep_lines(struct app *app, const char *tenant, yyjson_val *requests,
                                  struct store_job *job)
{
    struct store_upload *upload = NULL;
    struct store_file file = {.purpose = "message_batch", .lines = yyjson_arr_size(requests)};
    TRY(check_requests(requests));
    TRY(store_upload_new(app->store, &upload));
    snprintf(file.tenant, sizeof file.tenant, "%s", tenant);
    file.created_at = store_now();
    tidemill_error *error = write_lines(requests, upload);
    if (error != NULL)
        store_upload_drop(upload);
    else
        error = store_upload_keep(upload, &file);
    if (error == NULL) {
        memcpy(job->input_file, file.id, sizeof job->input_file);
        job->bytes = file.bytes;
    }
    store_file_free(&file);
    return error;
}

static tidemill_error *add_batch(struct app *app, const char *tenant, yyjson_val *body,
                                 struct store_job *job)
{
    static const char details[] =
        "{\"dialect\":\"anthropic\",\"endpoint\":\"/v1/chat/completions\","
        "\"completion_window\":\"24h\"}";
    yyjson_val *requests = yyjson_obj_get(body, "requests");
    job->kind = STORE_BATCH;
    job->state = STORE_VALIDATING;
    job->created_at = job->ready_at = store_now();
    job->deadline_at = job->created_at + WINDOW_MS;
    job->counts.total = yyjson_arr_size(requests);
    snprintf(job->tenant, sizeof job->tenant, "%s", tenant);
    store_new_id(PREFIX, job->id);
    job->details = strdup(details);
    if (job->details == NULL) return error_memory();
    TRY(keep_lines(app, tenant, requests, job));
    return store_job_add(app->store, job);
}

static void create_batch(struct exchange *exchange, void *context)
{
    struct app *app = context;
    struct store_job job = {0};
    yyjson_doc *doc = json_body(exchange);
    if (doc == NULL) return;
    tidemill_error *error =
        add_batch(app, app_caller(exchange)->tenant, yyjson_doc_get_root(doc), &job);
    yyjson_doc_free(doc);
    if (error != NULL) {
        app_refuse_error(exchange, error);
    } else {
        scheduler_wake(app->scheduler);
        answer_batch(exchange, app, &job);
    }
    store_job_free(&job);
}

/* --- retrieve, list, cancel, delete ------------------------------------------------------------- */

static void retrieve_batch(struct exchange *exchange, void *context)
{
    struct store_job job = {0};
    if (!find_batch(exchange, context, &job)) return;
    answer_batch(exchange, context, &job);
    store_job_free(&job);
}

/* after_id pages to older ones, before_id to newer ones, as the client has it. */
static void list_batches(struct exchange *exchange, void *context)
{
    struct app *app = context;
    struct store_jobs jobs = {0};
    const char *before = exchange_query(exchange, "before_id");
    struct store_page page = {.tenant = app_caller(exchange)->tenant,
                              .after =
                                  before != NULL ? before : exchange_query(exchange, "after_id"),
                              .prefix = PREFIX,
                              .is_ascending = before != NULL};
    if (!json_query_limit(exchange, 20, 1000, &page.limit)) return;
    tidemill_error *error = store_job_list(app->store, &page, STORE_BATCH, NULL, ~0u, &jobs);
    if (error != NULL) {
        app_refuse_error(exchange, error);
        return;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *data = yyjson_mut_arr(doc);
    for (size_t i = 0; i < jobs.n && doc != NULL; i++) {
        yyjson_mut_val *object = batch_object(exchange, app, doc, &jobs.items[i]);
        if (page.is_ascending) /* newest first in either case */
            yyjson_mut_arr_prepend(data, object);
        else
            yyjson_mut_arr_append(data, object);
    }
    json_answer_list(exchange, doc, data, jobs.has_more);
    store_jobs_free(&jobs);
}

static void cancel_batch(struct exchange *exchange, void *context)
{
    struct app *app = context;
    struct store_job job = {0};
    bool is_found = false;
    tidemill_error *error = scheduler_cancel(app->scheduler, app_caller(exchange)->tenant,
                                             exchange_capture(exchange, 0), &is_found);
    if (error != NULL) {
        app_refuse_error(exchange, error);
        return;
    }
    if (!find_batch(exchange, app, &job)) return;
    answer_batch(exchange, app, &job); /* one that has ended is shown as it is */
    store_job_free(&job);
}

static void delete_batch(struct exchange *exchange, void *context)
{
    struct app *app = context;
    struct store_job job = {0};
    bool is_found = false;
    if (!find_batch(exchange, app, &job)) return;
    tidemill_error *error = NULL;
    if (!has_ended(&job)) {
        app_refuse(exchange, 400, NULL, NULL, "the batch has not ended: cancel it first");
        store_job_free(&job);
        return;
    }
    error = store_job_delete(app->store, job.tenant, job.id, &is_found);
    if (error != NULL) {
        app_refuse_error(exchange, error);
    } else {
        yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
        yyjson_mut_val *root = yyjson_mut_obj(doc);
        yyjson_mut_obj_add_strcpy(doc, root, "id", job.id);
        yyjson_mut_obj_add_str(doc, root, "type", "message_batch_deleted");
        json_answer(exchange, 200, doc, root);
    }
    store_job_free(&job);
}

/* --- results ------------------------------------------------------------------------------------ */

/* Calls `each` for the lines of one of our files. */
static tidemill_error *each_line(struct app *app, const char *file, struct exchange *exchange,
                                 void (*each)(struct slice line, void *context, struct buffer *out),
                                 void *context)
{
    char *path = NULL;
    struct reader *reader = NULL;
    struct buffer in = {0}, out = {0};
    size_t got = 1;
    tidemill_error *error = store_file_path(app->store, file, &path);
    if (error == NULL) error = reader_open(app->io, path, COMPRESSION_NONE, &reader);
    while (error == NULL && got > 0) {
        char *place = buffer_reserve(&in, PIECE_BYTES);
        if (place == NULL || in.size > LINE_BYTES_MAX) {
            error = error_memory();
            break;
        }
        error = reader_read(reader, in.data + in.size, PIECE_BYTES, &got);
        if (error != NULL) break;
        in.size += got;
        char *begin = in.data, *end;
        while ((end = memchr(begin, '\n', (size_t)(in.data + in.size - begin))) != NULL) {
            each((struct slice){.data = begin, .size = (size_t)(end - begin)}, context, &out);
            begin = end + 1;
        }
        in.size -= (size_t)(begin - in.data);
        memmove(in.data, begin, in.size);
        if (out.size > 0) error = exchange_write(exchange, out.data, out.size);
        buffer_reset(&out, PIECE_BYTES);
    }
    if (reader != NULL) reader_close(reader);
    buffer_free(&in);
    buffer_free(&out);
    free(path);
    return error;
}

static void convert_line(struct slice line, void *context, struct buffer *out)
{
    (void)context;
    anthropic_result(line, out);
}

/* A batch that failed as a whole: each of its requests has its reason. */
static void fail_line(struct slice line, void *context, struct buffer *out)
{
    yyjson_doc *doc = yyjson_read(line.data, line.size, 0);
    const char *id = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(doc), "custom_id"));
    anthropic_not_run(id != NULL ? id : "", "errored", context, out);
    yyjson_doc_free(doc);
}

static void cancel_line(struct slice line, void *context, struct buffer *out)
{
    yyjson_doc *doc = yyjson_read(line.data, line.size, 0);
    const char *id = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(doc), "custom_id"));
    anthropic_not_run(id != NULL ? id : "", context, NULL, out);
    yyjson_doc_free(doc);
}

/* The first error of a batch that failed as a whole; malloc'ed, NULL: no memory. */
static char *first_error(const struct store_job *job)
{
    const char *text = job->details != NULL ? job->details : "{}";
    yyjson_doc *doc = yyjson_read(text, strlen(text), 0);
    yyjson_val *errors = yyjson_obj_get(yyjson_doc_get_root(doc), "errors");
    const char *message = yyjson_get_str(yyjson_obj_get(yyjson_arr_get_first(errors), "message"));
    char *copy = strdup(message != NULL ? message : "the batch failed");
    yyjson_doc_free(doc);
    return copy;
}

static tidemill_error *send_results(struct exchange *exchange, struct app *app,
                                    const struct store_job *job)
{
    if (job->output_file[0] != '\0')
        TRY(each_line(app, job->output_file, exchange, convert_line, NULL));
    if (job->error_file[0] != '\0')
        TRY(each_line(app, job->error_file, exchange, convert_line, NULL));
    if (job->output_file[0] != '\0' || job->error_file[0] != '\0') return NULL;
    if (job->state == STORE_CANCELLED) /* before it began */
        return each_line(app, job->input_file, exchange, cancel_line,
                         (void *)(uintptr_t) "canceled");
    if (job->state == STORE_EXPIRED)
        return each_line(app, job->input_file, exchange, cancel_line,
                         (void *)(uintptr_t) "expired");
    if (job->state != STORE_FAILED) return NULL;
    char *reason = first_error(job);
    tidemill_error *error = reason == NULL
                                ? error_memory()
                                : each_line(app, job->input_file, exchange, fail_line, reason);
    free(reason);
    return error;
}

static void stream_results(struct exchange *exchange, void *context)
{
    struct store_job job = {0};
    if (!find_batch(exchange, context, &job)) return;
    if (!has_ended(&job)) {
        app_refuse(exchange, 404, NULL, NULL, "the batch has not ended: it has no results yet");
    } else {
        exchange_begin(exchange, 200, "application/x-jsonl");
        tidemill_error *error = send_results(exchange, context, &job);
        exchange_end(exchange, error == NULL);
        if (error != NULL)
            log_event(LOG_WARNING, "results of %s: %s", job.id, error_message(error));
        error_free(error);
    }
    store_job_free(&job);
}

#define INFO(summary)                                                                              \
    &(const struct route_info)                                                                     \
    {                                                                                              \
        DIALECT_ANTHROPIC, ROUTE_USER, summary, false                                              \
    }

const struct net_route anthropic_routes[] = {
    {.method = NET_POST,
     .pattern = "/v1/messages/batches",
     .body = NET_BODY_WHOLE,
     .body_max = BODY_BYTES_MAX,
     .is_blocking = true,
     .handle = create_batch,
     .operation = "createMessageBatch",
     .data = INFO("Create a message batch")},
    {.method = NET_GET,
     .pattern = "/v1/messages/batches",
     .is_blocking = true,
     .handle = list_batches,
     .operation = "listMessageBatches",
     .data = INFO("List message batches, the newest first")},
    {.method = NET_GET,
     .pattern = "/v1/messages/batches/{message_batch_id}",
     .is_blocking = true,
     .handle = retrieve_batch,
     .operation = "retrieveMessageBatch",
     .data = INFO("A message batch's object")},
    {.method = NET_POST,
     .pattern = "/v1/messages/batches/{message_batch_id}/cancel",
     .body = NET_BODY_WHOLE,
     .is_blocking = true,
     .handle = cancel_batch,
     .operation = "cancelMessageBatch",
     .data = INFO("Cancel a message batch")},
    {.method = NET_DELETE,
     .pattern = "/v1/messages/batches/{message_batch_id}",
     .is_blocking = true,
     .handle = delete_batch,
     .operation = "deleteMessageBatch",
     .data = INFO("Delete a message batch that has ended")},
    {.method = NET_GET,
     .pattern = "/v1/messages/batches/{message_batch_id}/results",
     .is_blocking = true,
     .handle = stream_results,
     .operation = "streamMessageBatchResults",
     .data = INFO("The results of a message batch that has ended")},
    {0},
};
