/* SPDX-License-Identifier: Apache-2.0 */
/* result_routes.c - GET /v1/results/{queue}/{key}: an answer from memory, on a loop.
 *
 *     200   the line of output, its id being the key. ETag; Age in seconds since its window was done;
 *           Cache-Control: max-age until the queue's window closes next. An answer older than the queue's
 *           ttl says `Warning: 110`. A default has `X-Tidemill-Result: default`, and is not cached
 *     202   it has been asked for: Location is the request that will answer
 *     304   If-None-Match names the ETag
 *     404   there is none */
#include "server/queue_parts.h"

#include "format/format.h"
#include "server/json_out.h"
#include "server/results_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define KEYS_MAX 1000
#define ANSWER_BYTES_MAX ((size_t)64 << 20)
#define AGE_MAX_S 86400

/* --- one --------------------------------------------------------------------------------------------- */

struct miss {
    struct result_ask ask; /* first */
    struct exchange *exchange;
};

static void refuse_ask(struct exchange *exchange, const tidemill_error *error)
{
    bool is_full = error_code_of(error) == ERROR_LOCKED;
    if (is_full) exchange_set_header(exchange, "Retry-After", "30");
    app_refuse(exchange, is_full ? 429 : app_error_status(error_code_of(error)), NULL, NULL, "%s",
               error_message(error));
}

/* On the store's thread, or at once. */
static void answer_asked(struct result_ask *ask, const char *request_id,
                         const tidemill_error *error)
{
    struct miss *miss = (struct miss *)ask;
    char body[192];
    if (error != NULL) {
        refuse_ask(miss->exchange, error);
    } else {
        int size =
            snprintf(body, sizeof body,
                     "{\"id\":\"%s\",\"object\":\"request\",\"status\":\"queued\"}\n", request_id);
        exchange_set_header(miss->exchange, "Location", "/v1/requests/%s", request_id);
        exchange_answer(miss->exchange, 202, "application/json", body, (size_t)size);
    }
    free(miss);
}

/* Whether one of the tags in If-None-Match, which may be weak, is this one. */
static bool has_tag(const char *header, const char *tag)
{
    if (header == NULL) return false;
    if (header[0] == '*' && header[1] == '\0') return true;
    return strstr(header, tag) != NULL; /* tags are 34 characters with quotes: no accident */
}

static void set_caching(struct app *app, struct exchange *exchange,
                        const struct queue_config *queue, const struct result *result,
                        bool is_stale, const char *tag)
{
    int64_t now = store_now();
    int64_t left_s = (results_next_close(app->results, queue, now) - now) / 1000;
    if (is_stale) left_s = 0;
    exchange_set_header(exchange, "ETag", "%s", tag);
    exchange_set_header(exchange, "Age", "%" PRId64, MAX((now - result->made_at) / 1000, 0));
    /* Age counts: what is made at noon and lasts until one has max-age 3600 and Age 600 at ten past. */
    int64_t age_s = MAX((now - result->made_at) / 1000, 0);
    exchange_set_header(exchange, "Cache-Control", "private, max-age=%" PRId64,
                        is_stale ? 0 : age_s + MIN(MAX(left_s, 0), AGE_MAX_S));
    if (is_stale) exchange_set_header(exchange, "Warning", "110 - \"Response is Stale\"");
}

static void answer_found(struct app *app, struct exchange *exchange,
                         const struct queue_config *queue, struct result *result, bool is_stale)
{
    char digits[DIGEST_TEXT_BYTES], tag[DIGEST_TEXT_BYTES + 2];
    digest_text(result->etag, digits);
    snprintf(tag, sizeof tag, "\"%s\"", digits);
    set_caching(app, exchange, queue, result, is_stale, tag);
    if (has_tag(exchange_header(exchange, "if-none-match"), tag)) {
        buffer_free(&result->value);
        exchange_answer(exchange, 304, NULL, NULL, 0);
        return;
    }
    exchange_answer_buffer(exchange, 200, "application/json", &result->value);
}

static void answer_default(struct exchange *exchange, struct result *result)
{
    exchange_set_header(exchange, "Cache-Control", "no-store");
    exchange_set_header(exchange, "X-Tidemill-Result", "default");
    exchange_answer_buffer(exchange, 200, "application/json", &result->value);
}

static void get_result(struct exchange *exchange, void *context)
{
    struct app *app = context;
    struct result result = {0};
    struct miss *miss = NULL;
    const struct queue_config *queue = queue_of_exchange(app, exchange);
    if (queue == NULL) return;
    const char *text = exchange_capture(exchange, 1);
    struct slice key = {text, strlen(text)};
    if (key.size > RESULT_KEY_BYTES_MAX) {
        app_refuse(exchange, 400, "invalid_key", NULL, "a key has at most %d bytes",
                   RESULT_KEY_BYTES_MAX);
        return;
    }
    if (queue->on_miss == ON_MISS_ENQUEUE) {
        if ((miss = calloc(1, sizeof *miss)) == NULL) {
            app_refuse_error(exchange, error_memory());
            return;
        }
        miss->ask.done = answer_asked;
        miss->exchange = exchange;
    }
    enum result_found found = results_find(app->results, queue, app_caller(exchange)->tenant, key,
                                           &result, miss == NULL ? NULL : &miss->ask);
    if (found == RESULT_ENQUEUED) return; /* the miss has the exchange now */
    free(miss);
    if (found == RESULT_MISS)
        app_refuse(exchange, 404, "result_not_found", NULL, "there is no answer under this key");
    else if (found == RESULT_DEFAULT)
        answer_default(exchange, &result);
    else
        answer_found(app, exchange, queue, &result, found == RESULT_STALE);
}

/* --- many -------------------------------------------------------------------------------------------- */

static const char *const found_names[] = {[RESULT_FRESH] = "fresh",
                                          [RESULT_STALE] = "stale",
                                          [RESULT_DEFAULT] = "default",
                                          [RESULT_MISS] = "missing",
                                          [RESULT_ENQUEUED] = "enqueued"};

static void append_item(struct buffer *out, yyjson_val *key, enum result_found found,
                        const struct result *result)
{
    buffer_text(out, "{\"key\":");
    format_json_string(out, yyjson_get_str(key), yyjson_get_len(key));
    buffer_printf(out, ",\"status\":\"%s\",\"value\":", found_names[found]);
    if (found == RESULT_MISS || found == RESULT_ENQUEUED)
        buffer_text(out, "null");
    else
        buffer_append(out, result->value.data, result->value.size);
    if (found == RESULT_FRESH || found == RESULT_STALE)
        buffer_printf(out, ",\"made_at\":%" PRId64, result->made_at / 1000);
    buffer_byte(out, '}');
}

static void answer_keys(struct app *app, struct exchange *exchange,
                        const struct queue_config *queue, yyjson_val *keys)
{
    struct buffer out = {0};
    struct result result = {0};
    size_t i, n;
    yyjson_val *key;
    const char *tenant = app_caller(exchange)->tenant;
    buffer_text(&out, "{\"object\":\"list\",\"data\":[");
    yyjson_arr_foreach(keys, i, n, key)
    {
        struct slice text = {yyjson_get_str(key), yyjson_get_len(key)};
        result.value.size = 0;
        enum result_found found = results_find(app->results, queue, tenant, text, &result, NULL);
        if (i > 0) buffer_byte(&out, ',');
        append_item(&out, key, found, &result);
        if (out.size > ANSWER_BYTES_MAX) break;
    }
    buffer_text(&out, "]}\n");
    if (result.value.is_failed) out.is_failed = true;
    buffer_free(&result.value);
    if (out.size > ANSWER_BYTES_MAX) {
        buffer_free(&out);
        app_refuse(exchange, 413, NULL, "keys",
                   "the answers are larger than 64 MiB; ask for fewer");
        return;
    }
    exchange_answer_buffer(exchange, 200, "application/json", &out);
}

static bool are_keys(yyjson_val *keys)
{
    size_t i, n;
    yyjson_val *key;
    if (!yyjson_is_arr(keys) || yyjson_arr_size(keys) > KEYS_MAX) return false;
    yyjson_arr_foreach(keys, i, n, key)
    {
        if (!yyjson_is_str(key) || yyjson_get_len(key) > RESULT_KEY_BYTES_MAX) return false;
    }
    return true;
}

static void get_results(struct exchange *exchange, void *context)
{
    struct app *app = context;
    const struct queue_config *queue = queue_of_exchange(app, exchange);
    if (queue == NULL) return;
    yyjson_doc *doc = json_body(exchange);
    if (doc == NULL) return;
    yyjson_val *keys = yyjson_obj_get(yyjson_doc_get_root(doc), "keys");
    if (are_keys(keys))
        answer_keys(app, exchange, queue, keys);
    else
        app_refuse(exchange, 400, NULL, "keys", "'keys' must be an array of at most %d strings",
                   KEYS_MAX);
    yyjson_doc_free(doc);
}

const struct net_route result_routes[] = {
    {.method = NET_GET,
     .pattern = "/v1/results/{queue}/{key}",
     .handle = get_result,
     .operation = "getResult",
     .data = &(const struct route_info){.dialect = DIALECT_TIDEMILL,
                                        .access = ROUTE_USER,
                                        .summary = "The answer under a key, from memory",
                                        .is_quiet = true}},
    {.method = NET_POST,
     .pattern = "/v1/results/{queue}",
     .body = NET_BODY_WHOLE,
     .handle = get_results,
     .operation = "getResults",
     .data = &(const struct route_info){.dialect = DIALECT_TIDEMILL,
                                        .access = ROUTE_USER,
                                        .summary = "The answers under up to 1,000 keys",
                                        .is_quiet = true}},
    {0},
};
