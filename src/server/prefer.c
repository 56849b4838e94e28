/* SPDX-License-Identifier: Apache-2.0 */
/* prefer.c - `Prefer: respond-async` (RFC 7240): a request that may wait goes into its model's queue, and
 * is answered 202 with the address of its answer. "window=1h" and "not-before=22:00" are wishes, too;
 * the queue's own rule decides, so they are not repeated in Preference-Applied. */
#include "net/net.h"
#include "server/access.h"
#include "server/queue_parts.h"
#include "server/request_id.h"
#include "server/requests.h"
#include "server/routes.h"
#include "server/scheduler.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* Whether one of the preferences, between commas, is this one; parameters stand behind semicolons. */
static bool has_preference(const char *text, const char *name)
{
    size_t size = strlen(name);
    while (text != NULL && *text != '\0') {
        text += strspn(text, " \t,");
        size_t length = strcspn(text, " \t,;=");
        if (length == size && strncasecmp(text, name, size) == 0) return true;
        text += strcspn(text, ",");
    }
    return false;
}

/* The queue with the model's name, else the first one that the model has. */
static const struct queue_config *queue_of(const struct server_config *config, const char *model)
{
    const struct queue_config *queue = server_config_queue(config, model);
    if (queue != NULL && strcmp(queue->model->name, model) == 0) return queue;
    for (size_t i = 0; i < config->n_queues; i++)
        if (strcmp(config->queues[i].model->name, model) == 0) return &config->queues[i];
    return NULL;
}

struct deferred {
    struct store_accept accept;
    struct app *app;
    struct exchange *exchange;
    enum dialect dialect;
    char tenant[STORE_NAME_BYTES];
    char *key;    /* Idempotency-Key; NULL */
    char lines[]; /* a copy */
};

static void answer_accepted(const struct deferred *deferred)
{
    struct request_id id = {
        .first = deferred->accept.first, .n = deferred->accept.n, .dialect = deferred->dialect};
    char text[REQUEST_ID_BYTES];
    struct buffer body = {0};
    memcpy(id.window, deferred->accept.window, sizeof id.window);
    request_id_text(&id, text);
    exchange_set_header(deferred->exchange, "Location", "/v1/requests/%s", text);
    exchange_set_header(deferred->exchange, "Preference-Applied", "respond-async");
    buffer_printf(&body, "{\"id\":\"%s\",\"object\":\"request\",\"status\":\"queued\"}\n", text);
    exchange_answer_buffer(deferred->exchange, 202, "application/json", &body);
}

/* On the store's thread. */
static void accepted(struct store_accept *accept, tidemill_error *error)
{
    struct deferred *deferred = accept->context;
    bool is_new = error == NULL && !accept->is_conflict && !accept->is_repeat;
    requests_settle(deferred->app, accept->queue, deferred->tenant, accept->n, is_new);
    if (error != NULL) {
        app_refuse_error(deferred->exchange, error);
    } else if (accept->is_conflict) {
        app_refuse(deferred->exchange, 422, "idempotency_key_reused", NULL,
                   "this Idempotency-Key was used for another request");
    } else {
        if (is_new) scheduler_accepted(deferred->app->scheduler, accept);
        answer_accepted(deferred);
    }
    free(deferred->key);
    free(deferred);
}

static void enqueue(struct app *app, struct exchange *exchange, const struct queue_config *queue,
                    enum dialect dialect, struct slice lines, uint64_t n)
{
    const char *key = exchange_header(exchange, "idempotency-key");
    struct deferred *deferred = calloc(1, sizeof *deferred + lines.size);
    int64_t now = store_now();
    if (deferred == NULL || (key != NULL && (deferred->key = strdup(key)) == NULL)) {
        free(deferred);
        requests_settle(app, queue->name, app_caller(exchange)->tenant, n, false);
        app_refuse_error(exchange, error_memory());
        return;
    }
    deferred->app = app;
    deferred->exchange = exchange;
    deferred->dialect = dialect;
    memcpy(deferred->lines, lines.data, lines.size);
    snprintf(deferred->tenant, sizeof deferred->tenant, "%s", app_caller(exchange)->tenant);
    deferred->accept = (struct store_accept){
        .queue = queue->name,
        .tenant = deferred->tenant,
        .model = queue->model->name,
        .priority = queue->priority,
        .ready_at = window_close_at(&queue->window, queue->zone, now),
        .lines = deferred->lines,
        .bytes = lines.size,
        .n = n,
        .idempotency_key = deferred->key,
        .digest = hash_bytes(lines.data, lines.size),
        .done = accepted,
        .context = deferred,
    };
    store_accept(app->store, &deferred->accept);
}

bool prefer_wants_async(struct exchange *exchange)
{
    return has_preference(exchange_header(exchange, "prefer"), "respond-async");
}

bool prefer_async(struct app *app, struct exchange *exchange, const char *model,
                  enum dialect dialect, struct slice lines, uint64_t n)
{
    if (!prefer_wants_async(exchange)) return false;
    const struct queue_config *queue = queue_of(app->config, model);
    if (queue == NULL)
        app_refuse(exchange, 404, "model_not_found", NULL, "the model '%.64s' has no queue", model);
    else if (!access_may_queue(app_caller(exchange), queue->name))
        app_refuse(exchange, 403, "forbidden", NULL, "this key may not use the queue '%s'",
                   queue->name);
    else if (!requests_admit(app, queue, app_caller(exchange)->tenant, n))
        queue_refuse_full(app, exchange, queue);
    else
        enqueue(app, exchange, queue, dialect, lines, n);
    return true;
}
