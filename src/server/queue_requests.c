/* SPDX-License-Identifier: Apache-2.0 */
/* queue_requests.c - POST /v1/queues/{queue}/requests: one record, on the disk before it is answered with
 * 202. On a loop: it is checked, handed to the store, and answered from the store's thread. */
#include "server/queue_parts.h"

#include <stdio.h>
#include <stdlib.h>

#include <yyjson.h>

struct posted {
    struct store_accept accept; /* first: the store hands it back */
    struct app *app;
    struct exchange *exchange;
    char queue[STORE_NAME_BYTES], tenant[STORE_NAME_BYTES], model[STORE_NAME_BYTES];
    char *key; /* NULL: none */
    char line[];
};

static void answer_accepted(const struct posted *posted)
{
    const struct store_accept *accept = &posted->accept;
    struct request_id id = {.first = accept->first, .n = 1, .dialect = DIALECT_TIDEMILL};
    char text[REQUEST_ID_BYTES], body[512];
    memcpy(id.window, accept->window, sizeof id.window);
    request_id_text(&id, text);
    int size = snprintf(body, sizeof body,
                        "{\"id\":\"%s\",\"object\":\"request\",\"queue\":\"%s\","
                        "\"window\":\"%s\",\"status\":\"queued\",\"position\":%llu}\n",
                        text, posted->queue, accept->window, (unsigned long long)accept->first);
    exchange_set_header(posted->exchange, "Location", "/v1/requests/%s", text);
    exchange_answer(posted->exchange, 202, "application/json", body, (size_t)size);
}

/* On the store's thread. */
static void accepted(struct store_accept *accept, tidemill_error *error)
{
    struct posted *posted = (struct posted *)accept;
    bool is_new = error == NULL && !accept->is_repeat && !accept->is_conflict;
    requests_settle(posted->app, posted->queue, posted->tenant, 1, is_new);
    if (is_new) scheduler_accepted(posted->app->scheduler, accept);
    if (error != NULL)
        app_refuse_error(posted->exchange, error);
    else if (accept->is_conflict)
        app_refuse(posted->exchange, 422, "idempotency_key_reused", NULL,
                   "this Idempotency-Key was used with another record");
    else
        answer_accepted(posted);
    free(posted->key);
    free(posted);
}

/* What is valid JSON has line ends between its tokens only: as spaces they change nothing. */
static void copy_as_line(char *line, struct slice body)
{
    for (size_t i = 0; i < body.size; i++)
        line[i] = body.data[i] == '\n' || body.data[i] == '\r' ? ' ' : body.data[i];
    line[body.size] = '\n';
}

static struct posted *posted_new(struct app *app, struct exchange *exchange,
                                 const struct queue_config *queue, char *key)
{
    struct slice body = exchange_body(exchange);
    struct posted *posted = malloc(sizeof *posted + body.size + 1);
    if (posted == NULL) return NULL;
    memset(posted, 0, sizeof *posted);
    posted->app = app;
    posted->exchange = exchange;
    posted->key = key;
    snprintf(posted->queue, sizeof posted->queue, "%s", queue->name);
    snprintf(posted->model, sizeof posted->model, "%s", queue->model->name);
    snprintf(posted->tenant, sizeof posted->tenant, "%s", app_caller(exchange)->tenant);
    copy_as_line(posted->line, body);
    queue_fill_accept(queue, posted->tenant, &posted->accept);
    posted->accept.queue = posted->queue;
    posted->accept.model = posted->model;
    posted->accept.lines = posted->line;
    posted->accept.bytes = body.size + 1;
    posted->accept.n = 1;
    posted->accept.idempotency_key = key;
    if (key != NULL) posted->accept.digest = hash_bytes(posted->line, body.size + 1);
    posted->accept.done = accepted;
    return posted;
}

/* NULL: it is one record that the queue may take. */
static const char *why_not(struct slice body, const struct queue_config *queue, char *message,
                           size_t size)
{
    int64_t bytes_max = queue->model->spec.record_bytes_max;
    if (bytes_max > 0 && body.size > (size_t)bytes_max) {
        snprintf(message, size, "the record has %zu bytes, and its model takes %lld", body.size,
                 (long long)bytes_max);
        return message;
    }
    yyjson_read_err problem;
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)body.data, body.size, 0, NULL, &problem);
    bool is_object = yyjson_is_obj(yyjson_doc_get_root(doc));
    if (doc == NULL)
        snprintf(message, size, "the body is not valid JSON: %s at byte %zu",
                 body.size == 0 ? "it is empty" : problem.msg, problem.pos);
    yyjson_doc_free(doc);
    if (doc == NULL) return message;
    return is_object ? NULL
                     : "the body is not one JSON object; many records, a line each, are sent as "
                       "application/x-ndjson";
}

void queue_post_record(struct exchange *exchange, void *context)
{
    struct app *app = context;
    char message[256], *key;
    const struct queue_config *queue = queue_of_exchange(app, exchange);
    if (queue == NULL) return;
    const char *why = why_not(exchange_body(exchange), queue, message, sizeof message);
    if (why != NULL) {
        app_refuse(exchange, 400, "invalid_record", NULL, "%s", why);
        return;
    }
    if (!queue_idempotency_key(exchange, &key)) return;
    if (!requests_admit(app, queue, app_caller(exchange)->tenant, 1)) {
        free(key);
        queue_refuse_full(app, exchange, queue);
        return;
    }
    struct posted *posted = posted_new(app, exchange, queue, key);
    if (posted == NULL) {
        requests_settle(app, queue->name, app_caller(exchange)->tenant, 1, false);
        free(key);
        app_refuse_error(exchange, error_memory());
        return;
    }
    store_accept(app->store, &posted->accept);
}
