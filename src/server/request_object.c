/* SPDX-License-Identifier: Apache-2.0 */
/* request_object.c - GET /v1/requests/{id}: what became of a record, or of several that came together.
 *
 *     {"id":"req_..","object":"request","queue":..,"model":..,"window":"win_..","status":"completed",
 *      "created_at":..,"position":17,"result":{the line of output} or "error":{"code","message"}}
 *
 * Several records have "results", an array of {"status","result" or "error"}. What was asked in another
 * dialect is answered in that one's own shape once all of it is done. */
#include "server/dialects.h"
#include "server/requests.h"
#include "server/scheduler.h"
#include "server/serving.h"

#include "format/format.h"

#include <inttypes.h>
#include <stdlib.h>

#include <yyjson.h>

#define RECORDS_MAX 1000 /* of a request, in one answer */

struct looked {
    const struct request_id *id;
    struct store_job job;
    size_t n;
    enum record_state states[RECORDS_MAX];
    struct buffer lines[RECORDS_MAX];
};

static void free_looked(struct looked *looked)
{
    for (size_t i = 0; i < looked->n; i++) buffer_free(&looked->lines[i]);
    store_job_free(&looked->job);
    free(looked);
}

static bool is_terminal(enum store_state state)
{
    return state >= STORE_COMPLETED;
}

static const char *pending_status(enum store_state state)
{
    switch (state) {
    case STORE_RUNNING:
    case STORE_FINALIZING: return "running";
    case STORE_CANCELLING: return "cancelling";
    case STORE_STOPPED: return "stopped";
    case STORE_FAILED: return "failed";
    case STORE_EXPIRED: return "expired";
    case STORE_CANCELLED: return "cancelled";
    default: return "queued";
    }
}

static const char *record_status(const struct looked *looked, size_t i)
{
    static const char *const names[] = {[RECORD_OK] = "completed",
                                        [RECORD_FAILED] = "failed",
                                        [RECORD_CANCELLED] = "cancelled",
                                        [RECORD_EXPIRED] = "expired"};
    if (looked->states[i] == RECORD_PENDING) return pending_status(looked->job.state);
    return names[looked->states[i]];
}

/* Of all of them: what the first one is that is not completed. */
static const char *status(const struct looked *looked)
{
    for (size_t i = 0; i < looked->n; i++)
        if (looked->states[i] == RECORD_PENDING) return pending_status(looked->job.state);
    for (size_t i = 0; i < looked->n; i++)
        if (looked->states[i] == RECORD_OK) return "completed";
    return record_status(looked, 0);
}

static bool is_all(const struct looked *looked, enum record_state state)
{
    for (size_t i = 0; i < looked->n; i++)
        if (looked->states[i] != state) return false;
    return true;
}

static bool has_pending(const struct looked *looked)
{
    for (size_t i = 0; i < looked->n; i++)
        if (looked->states[i] == RECORD_PENDING) return true;
    return false;
}

static void append_text(struct buffer *out, const char *name, yyjson_val *text, const char *other)
{
    const char *value = yyjson_is_str(text) ? yyjson_get_str(text) : other;
    buffer_printf(out, "\"%s\":", name);
    format_json_string(out, value, strlen(value));
}

/* From a line of the error sink. */
static void append_error(struct buffer *out, const struct buffer *line, const char *status_name)
{
    yyjson_doc *doc = line->size == 0 ? NULL : yyjson_read(line->data, line->size, 0);
    yyjson_val *root = yyjson_doc_get_root(doc);
    buffer_text(out, "\"error\":{");
    append_text(out, "code", yyjson_obj_get(root, "code"), status_name);
    buffer_byte(out, ',');
    append_text(out, "message", yyjson_obj_get(root, "message"), "there is no answer");
    buffer_byte(out, '}');
    yyjson_doc_free(doc);
}

/* ,"result":.. or ,"error":..; nothing while it is pending. */
static void append_outcome(struct buffer *out, const struct looked *looked, size_t i)
{
    const struct buffer *line = &looked->lines[i];
    if (looked->states[i] == RECORD_PENDING && !is_terminal(looked->job.state)) return;
    buffer_byte(out, ',');
    if (looked->states[i] == RECORD_OK) {
        buffer_text(out, "\"result\":");
        buffer_append(out, line->data, line->size);
    } else {
        append_error(out, line, record_status(looked, i));
    }
}

static void append_object(struct buffer *out, const struct looked *looked)
{
    const struct store_job *job = &looked->job;
    char text[REQUEST_ID_BYTES];
    request_id_text(looked->id, text);
    buffer_printf(out,
                  "{\"id\":\"%s\",\"object\":\"request\",\"queue\":\"%s\",\"model\":\"%s\","
                  "\"window\":\"%s\",\"status\":\"%s\",\"created_at\":%" PRId64
                  ",\"position\":%" PRIu64,
                  text, job->queue, job->model, job->id, status(looked), job->created_at / 1000,
                  looked->id->first);
    if (looked->n == 1) {
        append_outcome(out, looked, 0);
    } else {
        buffer_text(out, ",\"results\":[");
        for (size_t i = 0; i < looked->n; i++) {
            buffer_printf(out, "%s{\"status\":\"%s\"", i > 0 ? "," : "", record_status(looked, i));
            append_outcome(out, looked, i);
            buffer_byte(out, '}');
        }
        buffer_byte(out, ']');
    }
    buffer_text(out, "}\n");
}

/* False: that dialect has no shape of its own for it. */
static bool append_dialect(struct buffer *out, struct app *app, const struct looked *looked)
{
    struct slice *lines = calloc(looked->n, sizeof *lines);
    if (lines == NULL) return false;
    for (size_t i = 0; i < looked->n; i++)
        lines[i] = (struct slice){looked->lines[i].data, looked->lines[i].size};
    const struct model_signature *signature =
        serving_known_signature(app->serving, looked->job.model);
    tidemill_error *error =
        dialect_reply(looked->id->dialect, looked->job.model, signature, lines, looked->n, out);
    bool is_done = error == NULL;
    if (!is_done) out->size = 0;
    error_free(error);
    free(lines);
    return is_done;
}

static void answer(struct exchange *exchange, struct app *app, const struct looked *looked)
{
    struct buffer out = {0};
    bool is_shaped = looked->id->dialect != DIALECT_TIDEMILL && is_all(looked, RECORD_OK) &&
                     append_dialect(&out, app, looked);
    if (!is_shaped) append_object(&out, looked);
    exchange_answer_buffer(exchange, 200, "application/json", &out);
}

static tidemill_error *look(struct app *app, struct exchange *exchange, struct looked *looked,
                            bool *ret_found)
{
    const struct request_id *id = looked->id;
    TRY(store_job_get(app->store, app_caller(exchange)->tenant, id->window, &looked->job,
                      ret_found));
    const struct store_job *job = &looked->job;
    if (!*ret_found) return NULL;
    uint64_t total = job->counts.total;
    *ret_found = job->kind == STORE_WINDOW && id->first < total && id->n <= total - id->first;
    if (!*ret_found) return NULL;
    if (id->n > RECORDS_MAX)
        return error_new(ERROR_USAGE,
                         "%llu records are too many for one answer: ask for at most %d",
                         (unsigned long long)id->n, RECORDS_MAX);
    looked->n = (size_t)id->n;
    if (job->state == STORE_OPEN || job->state == STORE_WAITING) return NULL;
    for (size_t i = 0; i < looked->n; i++)
        TRY(job_record(app, job, id->first + i, &looked->states[i], &looked->lines[i]));
    return NULL;
}

bool request_answer(struct app *app, struct exchange *exchange, const struct request_id *id,
                    bool is_last_word)
{
    bool is_found = false, is_answered = true;
    struct looked *looked = calloc(1, sizeof *looked);
    if (looked == NULL) {
        app_refuse_error(exchange, error_memory());
        return true;
    }
    looked->id = id;
    tidemill_error *error = look(app, exchange, looked, &is_found);
    if (error != NULL)
        app_refuse_error(exchange, error);
    else if (!is_found)
        app_refuse(exchange, 404, "request_not_found", NULL, "there is no such request");
    else if (is_last_word || is_terminal(looked->job.state) || !has_pending(looked))
        answer(exchange, app, looked);
    else
        is_answered = false;
    free_looked(looked);
    return is_answered;
}
