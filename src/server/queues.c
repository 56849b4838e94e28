/* SPDX-License-Identifier: Apache-2.0 */
/* queues.c - routes of queues and of the requests in them. */
#include "server/json_out.h"
#include "server/queue_parts.h"

#include <stdio.h>
#include <stdlib.h>

#define KEY_BYTES_MAX 255
#define RETRY_S_MAX 3600
#define WAIT_MS_MAX 60000

/* --- shared ------------------------------------------------------------------------------------------- */

const struct queue_config *queue_of_exchange(struct app *app, struct exchange *exchange)
{
    const char *name = exchange_capture(exchange, 0);
    const struct queue_config *queue = server_config_queue(app->config, name);
    if (queue == NULL) {
        app_refuse(exchange, 404, "queue_not_found", NULL, "there is no queue '%.64s'", name);
        return NULL;
    }
    if (access_may_queue(app_caller(exchange), queue->name)) return queue;
    app_refuse(exchange, 403, "forbidden", NULL, "this key may not use the queue '%s'",
               queue->name);
    return NULL;
}

void queue_refuse_full(struct app *app, struct exchange *exchange, const struct queue_config *queue)
{
    int64_t now = store_now();
    int64_t close_at = results_next_close(app->results, queue, now);
    int64_t wait_s = close_at == INT64_MAX ? RETRY_S_MAX : (close_at - now) / 1000 + 1;
    exchange_set_header(exchange, "Retry-After", "%lld",
                        (long long)MIN(MAX(wait_s, 1), RETRY_S_MAX));
    app_refuse(
        exchange, 429, "queue_full", NULL,
        "queue '%s' holds %lld of your records, as many as it may ('max_waiting'); wait until "
        "a window has run",
        queue->name, (long long)queue->records_max);
}

bool queue_idempotency_key(struct exchange *exchange, char **ret)
{
    const char *text = exchange_header(exchange, "idempotency-key");
    *ret = NULL;
    if (text == NULL) return true;
    size_t size = strlen(text);
    if (size >= 2 && text[0] == '"' && text[size - 1] == '"') {
        text++;
        size -= 2;
    }
    if (size == 0 || size > KEY_BYTES_MAX) {
        app_refuse(exchange, 400, "invalid_idempotency_key", NULL,
                   "an Idempotency-Key has 1 to %d characters", KEY_BYTES_MAX);
        return false;
    }
    if ((*ret = strndup(text, size)) != NULL) return true;
    app_refuse_error(exchange, error_memory());
    return false;
}

void queue_fill_accept(const struct queue_config *queue, const char *tenant,
                       struct store_accept *accept)
{
    accept->queue = queue->name;
    accept->tenant = tenant;
    accept->model = queue->model->name;
    accept->priority = queue->priority;
    accept->ready_at = window_close_at(&queue->window, queue->zone, store_now());
}

/* --- queues -------------------------------------------------------------------------------------------- */

struct waiting {
    uint64_t records, bytes;
    int64_t oldest_at;
};

/* Of the caller's tenant; of all for an administrator. */
static struct waiting waiting_of(const struct caller *caller, const char *queue,
                                 const struct store_depth *depths, size_t n)
{
    struct waiting sum = {0};
    for (size_t i = 0; i < n; i++) {
        if (strcmp(depths[i].queue, queue) != 0) continue;
        if (!caller->is_admin && strcmp(depths[i].tenant, caller->tenant) != 0) continue;
        sum.records += depths[i].records;
        sum.bytes += depths[i].bytes;
        if (sum.oldest_at == 0 || (depths[i].oldest_at != 0 && depths[i].oldest_at < sum.oldest_at))
            sum.oldest_at = depths[i].oldest_at;
    }
    return sum;
}

static yyjson_mut_val *queue_object(struct app *app, yyjson_mut_doc *doc,
                                    const struct queue_config *queue, struct waiting waiting)
{
    yyjson_mut_val *object = yyjson_mut_obj(doc);
    int64_t close_at = results_next_close(app->results, queue, store_now());
    json_out_text(doc, object, "id", queue->name);
    yyjson_mut_obj_add_str(doc, object, "object", "queue");
    json_out_text(doc, object, "model", queue->model->name);
    yyjson_mut_obj_add_int(doc, object, "priority", queue->priority);
    yyjson_mut_obj_add_uint(doc, object, "waiting", waiting.records);
    yyjson_mut_obj_add_uint(doc, object, "waiting_bytes", waiting.bytes);
    json_out_time(doc, object, "oldest_at", waiting.oldest_at);
    json_out_time(doc, object, "next_close_at", close_at == INT64_MAX ? 0 : close_at);
    return object;
}

static bool read_depths(struct app *app, struct exchange *exchange, struct store_depth **ret,
                        size_t *ret_n)
{
    tidemill_error *error = store_depths(app->store, ret, ret_n);
    if (error == NULL) return true;
    app_refuse_error(exchange, error);
    return false;
}

static void list_queues(struct exchange *exchange, void *context)
{
    struct app *app = context;
    struct store_depth *depths = NULL;
    size_t n = 0;
    const struct caller *caller = app_caller(exchange);
    const struct server_config *config = app->config;
    if (!read_depths(app, exchange, &depths, &n)) return;
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *data = yyjson_mut_arr(doc);
    for (size_t i = 0; i < config->n_queues && doc != NULL; i++) {
        const struct queue_config *queue = &config->queues[i];
        if (!access_may_queue(caller, queue->name)) continue;
        struct waiting waiting = waiting_of(caller, queue->name, depths, n);
        yyjson_mut_arr_append(data, queue_object(app, doc, queue, waiting));
    }
    free(depths);
    json_answer_list(exchange, doc, data, false);
}

static void get_queue(struct exchange *exchange, void *context)
{
    struct app *app = context;
    struct store_depth *depths = NULL;
    size_t n = 0;
    const struct queue_config *queue = queue_of_exchange(app, exchange);
    if (queue == NULL || !read_depths(app, exchange, &depths, &n)) return;
    struct waiting waiting = waiting_of(app_caller(exchange), queue->name, depths, n);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    free(depths);
    json_answer(exchange, 200, doc, doc == NULL ? NULL : queue_object(app, doc, queue, waiting));
}

static void flush_queue(struct exchange *exchange, void *context)
{
    struct app *app = context;
    size_t n = 0;
    char body[160];
    const struct queue_config *queue = queue_of_exchange(app, exchange);
    if (queue == NULL) return;
    tidemill_error *error =
        scheduler_flush(app->scheduler, queue->name, app_caller(exchange)->tenant, &n);
    if (error != NULL) {
        app_refuse_error(exchange, error);
        return;
    }
    int size = snprintf(body, sizeof body,
                        "{\"object\":\"queue.flush\",\"queue\":\"%s\",\"windows_closed\":%zu}\n",
                        queue->name, n);
    exchange_answer(exchange, 200, "application/json", body, (size_t)size);
}

/* --- requests ------------------------------------------------------------------------------------------- */

static bool id_of_exchange(struct exchange *exchange, struct request_id *ret)
{
    if (request_id_parse(exchange_capture(exchange, 0), ret)) return true;
    app_refuse(exchange, 404, "request_not_found", NULL, "there is no such request");
    return false;
}

static void get_request(struct exchange *exchange, void *context)
{
    struct app *app = context;
    struct request_id id;
    int64_t wait_ms = 0;
    const char *wait = exchange_query(exchange, "wait");
    if (!id_of_exchange(exchange, &id)) return;
    if (wait != NULL && (!duration_parse(wait, &wait_ms) || wait_ms < 0)) {
        app_refuse(exchange, 400, NULL, "wait", "'wait' is a time like 30s, at most 60s");
        return;
    }
    struct requests *requests = delivery_requests(app->delivery);
    wait_ms = MIN(wait_ms, WAIT_MS_MAX);
    if (request_answer(app, exchange, &id, wait_ms == 0 || requests == NULL)) return;
    requests_wait(requests, exchange, &id, store_now() + wait_ms);
}

/* A record is a line of its window's file, which is the job's input as it stands: only all of a window is
 * cancelled. */
static void delete_request(struct exchange *exchange, void *context)
{
    struct app *app = context;
    struct request_id id;
    struct store_job job = {0};
    bool is_found = false, is_cancelled = false;
    if (!id_of_exchange(exchange, &id)) return;
    const char *tenant = app_caller(exchange)->tenant;
    tidemill_error *error = store_job_get(app->store, tenant, id.window, &job, &is_found);
    bool is_alone = is_found && id.first == 0 && id.n == job.counts.total;
    bool is_there = is_found && id.first + id.n <= job.counts.total;
    if (error == NULL && is_alone)
        error = scheduler_cancel(app->scheduler, tenant, id.window, &is_cancelled);
    if (error != NULL)
        app_refuse_error(exchange, error);
    else if (!is_there)
        app_refuse(exchange, 404, "request_not_found", NULL, "there is no such request");
    else if (!is_alone)
        app_refuse(exchange, 409, "shared_window", NULL,
                   "it shares its window with others (%llu records): only a whole window can be "
                   "cancelled",
                   (unsigned long long)job.counts.total);
    else if (!is_cancelled)
        app_refuse(exchange, 409, "ended", NULL, "it has ended: it is %s",
                   store_state_name(job.state));
    else
        request_answer(app, exchange, &id, true);
    store_job_free(&job);
}

/* --- the table ------------------------------------------------------------------------------------------- */

#define INFO(text)                                                                                 \
    &(const struct route_info)                                                                     \
    {                                                                                              \
        .dialect = DIALECT_TIDEMILL, .access = ROUTE_USER, .summary = text                         \
    }

#define QUIET(text)                                                                                \
    &(const struct route_info)                                                                     \
    {                                                                                              \
        .dialect = DIALECT_TIDEMILL, .access = ROUTE_USER, .summary = text, .is_quiet = true       \
    }

const struct net_typed_route queue_typed_routes[] = {
    {.type = "application/x-ndjson",
     .route = {.method = NET_POST,
               .pattern = "/v1/queues/{queue}/requests",
               .body = NET_BODY_STREAM,
               .is_blocking = true,
               .handle = queue_post_records,
               .operation = "createRequests",
               .data = INFO("Accept records by the million, a line each")}},
};
const size_t n_queue_typed_routes = COUNT_OF(queue_typed_routes);

const struct net_route queue_routes[] = {
    {.method = NET_GET,
     .pattern = "/v1/queues",
     .is_blocking = true,
     .handle = list_queues,
     .operation = "listQueues",
     .data = INFO("Queues, with what waits in them and when their windows close")},
    {.method = NET_GET,
     .pattern = "/v1/queues/{queue}",
     .is_blocking = true,
     .handle = get_queue,
     .operation = "getQueue",
     .data = INFO("One queue")},
    {.method = NET_POST,
     .pattern = "/v1/queues/{queue}/requests",
     .body = NET_BODY_WHOLE,
     .handle = queue_post_record,
     .operation = "createRequest",
     .data = QUIET("Accept a record, a JSON object, into the queue's window; or records by the "
                   "million, a line each (application/x-ndjson)")},
    {.method = NET_POST,
     .pattern = "/v1/queues/{queue}/flush",
     .is_blocking = true,
     .handle = flush_queue,
     .operation = "flushQueue",
     .data = INFO("Close the caller's open window of the queue now")},
    {.method = NET_GET,
     .pattern = "/v1/requests/{request_id}",
     .is_blocking = true,
     .handle = get_request,
     .operation = "getRequest",
     .data = INFO("A request's state, and its answer; ?wait=30s waits for it")},
    {.method = NET_DELETE,
     .pattern = "/v1/requests/{request_id}",
     .is_blocking = true,
     .handle = delete_request,
     .operation = "cancelRequest",
     .data = INFO("Cancel a request that is alone in its window")},
    {0},
};
