/* SPDX-License-Identifier: Apache-2.0 */
/* http_call.c - one unit of work: its request, the tries, what the answer comes to.
 *
 * A request that is given up is taken out of libcurl first, so no answer comes after its time. */
#include "runtime/http.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define PAUSE_MAX_S 60.0
#define TOKENS_ANSWER_MAX 1e7
/* A server that says "later" is believed more often than one that fails; not for ever. */
#define BUSY_TRIES_MAX 30
/* Rows that share a request are tried again together so often; then each is found out about alone. */
#define SHARED_RETRIES 1

void http_list_push(struct http_list *list, struct http_call *call)
{
    call->next = NULL;
    *list->last = call;
    list->last = &call->next;
    list->length++;
}

struct http_call *http_list_pop(struct http_list *list)
{
    struct http_call *call = list->first;
    if (call == NULL) return NULL;
    list->first = call->next;
    if (list->first == NULL) list->last = &list->first;
    list->length--;
    return call;
}

void http_fail(struct http *http, tidemill_error *error)
{
    if (http->failure == NULL)
        http->failure = error;
    else
        error_free(error);
}

static void end(struct http *http, struct http_call *call, enum error_code code)
{
    call->done.code = code;
    http_list_push(&http->done, call);
}

/* --- the request ------------------------------------------------------------------------------------- */

/* String `row` of a packed tensor; the engine's own bytes, checked all the same. */
static bool next_string(const unsigned char **at, const unsigned char *end, struct slice *ret)
{
    uint32_t size;
    if ((size_t)(end - *at) < sizeof size) return false;
    memcpy(&size, *at, sizeof size);
    *at += sizeof size;
    if ((size_t)(end - *at) < size) return false;
    *ret = (struct slice){(const char *)*at, size};
    *at += size;
    return true;
}

static bool read_rows(const struct http *http, const struct work_input *input, struct slice *rows,
                      uint32_t n)
{
    const unsigned char *at = http->region->base + input->offset, *end = at + input->bytes;
    for (uint32_t r = 0; r < n; r++)
        if (!next_string(&at, end, &rows[r])) return false;
    return true;
}

static enum error_code make_path(const struct http *http, struct http_call *call,
                                 const struct runtime_work *work)
{
    const struct http_target *target = &http->upstreams[0].target;
    struct slice url;
    if (target->path != NULL) {
        if ((size_t)snprintf(call->path, sizeof call->path, "%s", target->path) < sizeof call->path)
            return ERROR_OK;
        snprintf(call->done.message, sizeof call->done.message, "the server's path is too long");
        return ERROR_UPSTREAM;
    }
    if (http->base.signature.n_inputs > 1 && read_rows(http, &work->inputs[1], &url, 1) &&
        url.size > 0)
        return http_record_path(url, call->path, call->done.message);
    snprintf(call->done.message, sizeof call->done.message,
             "the record has no url, and --model names no path such as /v1/chat/completions");
    return ERROR_MISSING_FIELD;
}

static enum error_code make_body(const struct http *http, struct http_call *call,
                                 const struct runtime_work *work)
{
    size_t row = 0;
    struct slice *rows = calloc(work->n_rows + 1u, sizeof *rows);
    buffer_reset(&call->body, (size_t)1 << 20);
    enum error_code code = ERROR_INTERNAL;
    snprintf(call->done.message, sizeof call->done.message, "a record's text is broken");
    if (rows != NULL && read_rows(http, &work->inputs[0], rows, work->n_rows))
        code = http_request_body(&http->upstreams[0].target, rows, work->n_rows, &call->body, &row,
                                 call->done.message);
    free(rows);
    if (call->body.is_failed || rows == NULL) return ERROR_MEMORY;
    return code;
}

bool http_call_make(struct http *http, struct http_call *call, const struct runtime_work *work)
{
    call->n_rows = work->n_rows;
    call->tries = call->busy_tries = 0;
    call->is_retry = false;
    call->due_s = 0;
    call->done = (struct runtime_done){.id = work->id};
    enum error_code code = make_path(http, call, work);
    if (code == ERROR_OK) code = make_body(http, call, work);
    if (code == ERROR_OK) return true;
    if (code == ERROR_MEMORY) http_fail(http, error_memory());
    end(http, call, code);
    return false;
}

/* --- starting -------------------------------------------------------------------------------------------- */

static bool start(struct http *http, struct http_call *call, struct http_upstream *upstream,
                  double now_s)
{
    char url[8192]; /* the origin and the path are each shorter than half of it */
    snprintf(url, sizeof url, "%s%s", upstream->target.origin, call->path);
    struct http_request request = {.method = "POST",
                                   .url = url,
                                   .body = call->body.data,
                                   .body_bytes = call->body.size,
                                   .timeout_ms = http->timeout_ms};
    if (call->handle == NULL) call->handle = curl_easy_init();
    if (call->handle == NULL ||
        !http_handle_prepare(call->handle, http->common, &request, &call->response) ||
        curl_easy_setopt(call->handle, CURLOPT_PRIVATE, call) != CURLE_OK ||
        curl_multi_add_handle(http->multi, call->handle) != CURLM_OK) {
        http_fail(http, error_memory());
        return false;
    }
    call->upstream = upstream;
    call->started_s = now_s;
    upstream->n_under_way++;
    call->is_probe = upstream->is_down;
    if (call->is_probe) upstream->is_probing = true;
    upstream->may_probe = false;
    http->n_under_way++;
    return true;
}

/* Whether limits allow one more request; else *next_s is lowered to when they will. */
static bool may_start(struct http *http, const struct http_call *call, double now_s)
{
    double wait_s =
        MAX(rate_wait_s(&http->requests, 1, now_s), rate_wait_s(&http->tokens, 0, now_s));
    if (call->is_retry) wait_s = MAX(wait_s, retry_budget_wait_s(&http->budget, now_s));
    wait_s = MAX(wait_s, call->due_s - now_s);
    if (wait_s <= 0) return true;
    http->next_s = MIN(http->next_s, now_s + wait_s);
    return false;
}

static void pay_for_start(struct http *http, const struct http_call *call, double now_s)
{
    rate_take(&http->requests, 1, now_s);
    if (call->is_retry)
        retry_budget_take(&http->budget, now_s);
    else
        retry_budget_note_first(&http->budget);
}

void http_start_due(struct http *http, double now_s)
{
    size_t n = http->waiting.length;
    http->next_s = INFINITY;
    if (n > 0) http_check_due(http, now_s);
    for (size_t i = 0; i < n && http->failure == NULL; i++) {
        if (http->n_under_way >= http->climb.limit) return; /* an answer comes first */
        struct http_call *call = http_list_pop(&http->waiting);
        struct http_upstream *upstream =
            may_start(http, call, now_s) ? http_choose_upstream(http, now_s, &http->next_s) : NULL;
        if (upstream == NULL) {
            http_list_push(&http->waiting, call);
        } else if (start(http, call, upstream, now_s)) {
            pay_for_start(http, call, now_s);
        } else {
            http_list_push(&http->waiting, call);
        }
    }
}

/* --- the answer ------------------------------------------------------------------------------------------- */

/* The texts as one tensor of packed strings, value and data in one block. */
static bool pack(struct http_call *call, const struct buffer *text, const size_t *ends,
                 bool is_batched)
{
    size_t bytes = text->size + call->n_rows * sizeof(uint32_t), start = 0;
    struct value *value = malloc(sizeof *value + bytes);
    if (value == NULL) return false;
    unsigned char *at = (unsigned char *)(value + 1);
    *value = (struct value){.kind = VALUE_TENSOR,
                            .type = TENSOR_STRING,
                            .shape = {.rank = is_batched ? 1 : 0, .dims = {call->n_rows}},
                            .data = at,
                            .bytes = bytes};
    for (uint32_t r = 0; r < call->n_rows; r++) {
        uint32_t size = (uint32_t)(ends[r] - start);
        memcpy(at, &size, sizeof size);
        memcpy(at + sizeof size, text->data + start, size);
        at += sizeof size + size;
        start = ends[r];
    }
    call->done.values = value;
    call->done.n_values = 1;
    return true;
}

/* What an answer may weigh: one that says more lies, and must not stop the others. */
static double tokens_of(const struct token_usage *usage)
{
    return MIN((double)usage->in + (double)usage->out, TOKENS_ANSWER_MAX);
}

static void add_usage(struct http *http, struct http_call *call, const struct token_usage *usage,
                      double now_s)
{
    call->done.usage.in += usage->in;
    call->done.usage.cached += usage->cached;
    call->done.usage.out += usage->out;
    rate_take(&http->tokens, tokens_of(usage), now_s);
    if (usage->out > 0) http->has_tokens = true;
}

/* ERROR_OK, ERROR_UPSTREAM with a message, or ERROR_MEMORY. */
static enum error_code read_answer(struct http *http, struct http_call *call, double now_s)
{
    const struct http_target *target = &call->upstream->target;
    struct buffer text = {0};
    size_t *ends = calloc(call->n_rows + 1u, sizeof *ends);
    struct slice body = {call->response.body.data, call->response.body.size};
    bool is_stream = strncasecmp(call->response.content_type, "text/event-stream", 17) == 0;
    struct http_answer answer = {.text = &text, .ends = ends};
    enum error_code code = ends == NULL
                               ? ERROR_MEMORY
                               : http_answer_read(target, body, is_stream, call->n_rows, &answer);
    if (text.is_failed) code = ERROR_MEMORY;
    if (code == ERROR_OK && !pack(call, &text, ends, http->base.signature.is_batched))
        code = ERROR_MEMORY;
    if (code == ERROR_OK || code == ERROR_UPSTREAM) add_usage(http, call, &answer.usage, now_s);
    memcpy(call->done.message, answer.message, sizeof call->done.message);
    http_common_redact(http->common, call->done.message);
    buffer_free(&text);
    free(ends);
    return code;
}

/* --- after a try ------------------------------------------------------------------------------------------- */

static void give_up(struct http *http, struct http_call *call, enum error_code code)
{
    size_t size = strlen(call->done.message);
    if (call->tries + call->busy_tries > 1)
        snprintf(call->done.message + size, sizeof call->done.message - size, " (%u tries)",
                 call->tries + call->busy_tries);
    end(http, call, code);
}

static void try_again(struct http *http, struct http_call *call, enum error_code code, double now_s)
{
    uint32_t retries = call->n_rows > 1 ? MIN((uint32_t)http->retries, (uint32_t)SHARED_RETRIES)
                                        : (uint32_t)http->retries;
    if (call->tries > retries || call->busy_tries > BUSY_TRIES_MAX) {
        give_up(http, call, code);
        return;
    }
    uint32_t step = call->tries + call->busy_tries;
    call->due_s = now_s + backoff_s(http->backoff_base_s, PAUSE_MAX_S, MAX(step, 1U) - 1,
                                    &http->random_state);
    http_list_push(&http->waiting, call);
}

/* Nobody behind the connection, or a gateway's word for that. */
static bool is_away(const struct http_call *call, enum http_outcome outcome)
{
    long status = call->response.status;
    return outcome == HTTP_FAILED && (status == 0 || (status >= 502 && status <= 504));
}

/* A record that fails again and again says no more about its server than it did at first: records that
 * no server can answer must not slow the others down, nor the end of a job. That the server is away
 * counts each time. */
static void tell_failure(struct http *http, struct http_call *call, enum http_outcome outcome,
                         double now_s)
{
    if (call->tries > 1 && !is_away(call, outcome)) return;
    http_upstream_failed(http, call->upstream, now_s, call->done.message);
}

static void take_answer(struct http *http, struct http_call *call, double now_s)
{
    enum error_code code = read_answer(http, call, now_s);
    if (code == ERROR_MEMORY) {
        http_fail(http, error_memory());
        http_list_push(&http->waiting, call); /* the next run asks again */
    } else if (code != ERROR_OK) {
        tell_failure(http, call, HTTP_ANSWERED, now_s);
        call->is_retry = true;
        try_again(http, call, code, now_s);
    } else {
        double tokens = tokens_of(&call->done.usage);
        http_upstream_answered(http, call->upstream, now_s);
        inflight_answer(&http->climb, now_s, now_s - call->started_s,
                        http->has_tokens ? tokens : call->n_rows, http->n_before);
        end(http, call, ERROR_OK);
    }
}

static void take_outcome(struct http *http, struct http_call *call, enum http_outcome outcome,
                         double now_s)
{
    struct http_upstream *upstream = call->upstream;
    double under_way_s = now_s - call->started_s;
    bool is_free = call->is_probe && is_away(call, outcome); /* it found out for the others */
    call->tries += outcome != HTTP_UNREACHABLE && outcome != HTTP_BUSY && !is_free;
    call->busy_tries += outcome == HTTP_BUSY;
    switch (outcome) {
    case HTTP_ANSWERED: take_answer(http, call, now_s); return;
    case HTTP_REFUSED:
        http_upstream_answered(http, upstream, now_s);
        end(http, call, ERROR_UPSTREAM);
        return;
    case HTTP_TOO_LARGE:
        http_upstream_answered(http, upstream, now_s);
        end(http, call, ERROR_OUTPUT_TOO_LARGE);
        return;
    case HTTP_BUSY:
        inflight_congested(&http->climb, now_s, under_way_s);
        http_upstream_answered(http, upstream, now_s);
        http_upstream_busy(http, upstream, now_s, call->response.retry_after_ms, call->busy_tries);
        call->is_retry = false;
        try_again(http, call, ERROR_UPSTREAM, now_s);
        return;
    case HTTP_TIMED_OUT:
    case HTTP_FAILED:
        if (outcome == HTTP_TIMED_OUT || call->response.status == 503)
            inflight_congested(&http->climb, now_s, under_way_s);
        tell_failure(http, call, outcome, now_s);
        if (call->response.retry_after_ms >= 0)
            http_upstream_busy(http, upstream, now_s, call->response.retry_after_ms, 0);
        call->is_retry = true;
        try_again(http, call, outcome == HTTP_TIMED_OUT ? ERROR_HOST_TIMEOUT : ERROR_UPSTREAM,
                  now_s);
        return;
    case HTTP_UNREACHABLE:
        http_upstream_unreachable(http, upstream, now_s, call->done.message);
        http_list_push(&http->waiting, call);
        return;
    case HTTP_HOPELESS:
        http_fail(http, error_new(ERROR_UNREACHABLE, "%s%.*s: %s", upstream->target.origin,
                                  (int)strcspn(call->path, "?"), call->path, call->done.message));
        http_list_push(&http->waiting, call);
        return;
    }
}

void http_call_ended(struct http *http, struct http_call *call, CURLcode code, double now_s)
{
    enum http_outcome outcome =
        http_outcome_of(call->handle, code, &call->response, call->done.message);
    http_common_redact(http->common, call->done.message);
    curl_multi_remove_handle(http->multi, call->handle);
    http->n_under_way--;
    call->upstream->n_under_way--;
    if (call->is_probe) call->upstream->is_probing = false;
    call->done.run_s = now_s - call->started_s;
    http->busy_s += call->done.run_s;
    if (call->response.body.is_failed) {
        http_fail(http, error_memory());
        http_list_push(&http->waiting, call);
    } else {
        take_outcome(http, call, outcome, now_s);
    }
    call->upstream = NULL;
    buffer_reset(&call->response.body, (size_t)1 << 20);
}
