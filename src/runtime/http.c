/* SPDX-License-Identifier: Apache-2.0 */
/* http.c - servers as a runtime: opening, capacity, submit, poll. */
#include "runtime/http.h"

#include "runtime/http_dialects.h"
#include "runtime/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#define BACKOFF_MS 500
#define FILES_OTHER 128 /* that the job itself has open, at most */

static struct http *http_of(struct runtime *runtime)
{
    return (struct http *)runtime; /* its first member */
}

/* --- opening ------------------------------------------------------------------------------------------ */

/* Tests need not wait as long as servers want. */
static double backoff_base_s(void)
{
    const char *text = getenv("TIDEMILL_BACKOFF_MS");
    int ms = text == NULL ? 0 : atoi(text);
    return (ms > 0 ? ms : BACKOFF_MS) * 1e-3;
}

/* "http://a/v1,http://b/v1": a comma counts where an address follows it. */
static tidemill_error *parse_addresses(struct http *http, const char *model,
                                       enum http_protocol protocol)
{
    size_t n = 1;
    for (const char *p = model; (p = strstr(p, ",http")) != NULL; p++) n++;
    http->upstreams = calloc(n, sizeof *http->upstreams);
    if (http->upstreams == NULL) return error_memory();
    for (const char *p = model; p != NULL;) {
        const char *comma = strstr(p, ",http");
        char *address = strndup(p, comma == NULL ? strlen(p) : (size_t)(comma - p));
        if (address == NULL) return error_memory();
        struct http_target *target = &http->upstreams[http->n_upstreams].target;
        tidemill_error *error = http_target_parse(address, protocol, target);
        free(address);
        if (error != NULL) return error;
        http->n_upstreams++;
        if (target->protocol != http->upstreams[0].target.protocol ||
            (target->path == NULL) != (http->upstreams[0].target.path == NULL) ||
            (target->path != NULL && strcmp(target->path, http->upstreams[0].target.path) != 0))
            return error_new(ERROR_USAGE,
                             "--model: servers that share a job have one protocol and one path");
        p = comma == NULL ? NULL : comma + 1;
    }
    return NULL;
}

/* Two inputs: what is asked, and, where servers have several routes, which of them. */
static tidemill_error *make_signature(struct http *http)
{
    const struct http_target *target = &http->upstreams[0].target;
    struct model_signature *signature = &http->base.signature;
    TRY(signature_make_json(signature, "body", "response", target->is_batched));
    return target->protocol == PROTOCOL_OPENAI ? signature_add_optional(signature, "url") : NULL;
}

static void describe(struct http *http)
{
    const struct http_target *target = &http->upstreams[0].target;
    char others[32] = "";
    if (http->n_upstreams > 1)
        snprintf(others, sizeof others, " and %zu more", http->n_upstreams - 1);
    snprintf(http->base.description, sizeof http->base.description, "%s at %.100s%s",
             http_dialect_of(target)->name, target->origin, others);
}

static tidemill_error *make_calls(struct http *http, uint32_t n)
{
    struct http_list *const lists[] = {&http->free, &http->waiting, &http->done};
    for (size_t i = 0; i < COUNT_OF(lists); i++) lists[i]->last = &lists[i]->first;
    http->calls = calloc(n, sizeof *http->calls);
    if (http->calls == NULL) return error_memory();
    http->n_calls = n;
    for (size_t i = 0; i < n; i++) http_list_push(&http->free, &http->calls[i]);
    return NULL;
}

/* A socket a request; without one libcurl says that the server is not there. Raises the limit on open
 * files as far as that needs and may be, and returns how many requests it is enough for. */
static uint32_t fit_into_open_files(uint32_t n)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)n + FILES_OTHER;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return n;
    limit.rlim_cur = MIN(wanted, limit.rlim_max);
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == wanted) return n;
    getrlimit(RLIMIT_NOFILE, &limit);
    uint32_t fits = (uint32_t)MAX(limit.rlim_cur / 2, (rlim_t)1);
    if (limit.rlim_cur > 2 * FILES_OTHER) fits = (uint32_t)(limit.rlim_cur - FILES_OTHER);
    fits = MIN(fits, n);
    log_event(LOG_WARNING, "--max-inflight is %u: the limit on open files (ulimit -n) is %llu",
              fits, (unsigned long long)limit.rlim_cur);
    return fits;
}

static tidemill_error *open_http(struct http *http, const struct runtime_options *options)
{
    const struct http_options *own = &options->http;
    double now_s = clock_now_s();
    TRY(make_calls(http, fit_into_open_files((uint32_t)MAX(own->inflight_max, 1))));
    TRY(parse_addresses(http, options->model, own->protocol));
    TRY(http_common_new(own, &http->common));
    http->multi = curl_multi_init();
    if (http->multi == NULL) return error_memory();
    curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, (long)http->n_calls);
    http->timeout_ms = options->timeout_ms;
    http->retries = own->retries;
    http->patience_s = (double)own->patience_ms * 1e-3;
    http->backoff_base_s = backoff_base_s();
    http->random_state = (uint64_t)clock_now_ns();
    http->next_s = INFINITY;
    http->down_since_s = -1;
    inflight_start(&http->climb, (uint32_t)http->n_calls);
    rate_start(&http->requests, (double)own->requests_minute, now_s);
    rate_start(&http->tokens, (double)own->tokens_minute, now_s);
    retry_budget_start(&http->budget, now_s);
    TRY(http_fetch_metadata(http, options->wake_fd));
    TRY(http_wait_open(http));
    TRY(make_signature(http));
    describe(http);
    return NULL;
}

static tidemill_error *http_open(const struct runtime_options *options,
                                 const struct shared_region *region, struct runtime **ret)
{
    struct http *http = calloc(1, sizeof *http);
    if (http == NULL) return error_memory();
    http->base.impl = &runtime_http;
    http->region = region;
    http->epoll_fd = -1;
    tidemill_error *error = open_http(http, options);
    if (error != NULL)
        runtime_close(&http->base);
    else
        *ret = &http->base;
    return error;
}

static void http_end(struct runtime *runtime)
{
    struct http *http = http_of(runtime);
    for (size_t i = 0; i < http->n_calls; i++) {
        struct http_call *call = &http->calls[i];
        if (call->upstream != NULL) curl_multi_remove_handle(http->multi, call->handle);
        call->upstream = NULL;
        curl_easy_cleanup(call->handle);
        call->handle = NULL;
    }
    for (size_t i = 0; i < http->n_upstreams; i++) http_check_end(http, &http->upstreams[i]);
}

static void http_close(struct runtime *runtime)
{
    struct http *http = http_of(runtime);
    http_end(runtime);
    for (struct http_call *call = http->done.first; call != NULL; call = call->next)
        free(call->done.values);
    for (size_t i = 0; i < http->n_calls; i++) {
        buffer_free(&http->calls[i].body);
        http_response_free(&http->calls[i].response);
    }
    for (size_t i = 0; i < http->n_upstreams; i++) http_target_free(&http->upstreams[i].target);
    curl_multi_cleanup(http->multi);
    http_wait_close(http);
    http_common_free(http->common);
    model_signature_free(&http->base.signature);
    error_free(http->failure);
    free(http->upstreams);
    free(http->calls);
    free(http);
}

/* --- work ------------------------------------------------------------------------------------------------ */

static size_t http_capacity(const struct runtime *runtime)
{
    const struct http *http = (const struct http *)runtime;
    size_t taken = http->n_under_way + http->waiting.length;
    if (http->failure != NULL || taken >= http->climb.limit) return 0;
    return MIN((size_t)http->climb.limit - taken, http->free.length);
}

static size_t http_under_way(const struct runtime *runtime)
{
    const struct http *http = (const struct http *)runtime;
    return http->n_under_way + http->done.length;
}

static tidemill_error *copy_failure(const struct http *http)
{
    if (http->failure == NULL) return NULL;
    if (error_code_of(http->failure) == ERROR_MEMORY) return error_memory();
    return error_new(error_code_of(http->failure), "%s", error_message(http->failure));
}

static tidemill_error *http_submit(struct runtime *runtime, const struct runtime_work *work)
{
    struct http *http = http_of(runtime);
    TRY(copy_failure(http));
    struct http_call *call = http_list_pop(&http->free);
    if (call == NULL) return error_new(ERROR_INTERNAL, "more work than the runtime can take");
    if (!http_call_make(http, call, work)) return copy_failure(http);
    http_list_push(&http->waiting, call);
    http_start_due(http, clock_now_s());
    return NULL;
}

static void take_ended(struct http *http)
{
    int n_left;
    CURLMsg *message;
    http->n_before = (uint32_t)http->n_under_way;
    while ((message = curl_multi_info_read(http->multi, &n_left)) != NULL) {
        struct http_call *call = NULL;
        CURLcode code = message->data.result;
        if (message->msg != CURLMSG_DONE) continue;
        if (http_check_ended(http, message->easy_handle, code, clock_now_s())) continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&call);
        http_call_ended(http, call, code, clock_now_s());
    }
}

static void check_patience(struct http *http, double now_s)
{
    bool is_over = http->patience_s > 0 && http->down_since_s >= 0 &&
                   now_s - http->down_since_s > http->patience_s;
    if (is_over && http->failure == NULL)
        http_fail(http, error_new(ERROR_UNREACHABLE,
                                  "%s%s could not be reached for %.0f s (--patience); the same "
                                  "command goes on when it can",
                                  http->upstreams[0].target.origin,
                                  http->n_upstreams > 1 ? " and the other servers" : "",
                                  now_s - http->down_since_s));
}

static size_t deliver(struct http *http, struct runtime_done *done, size_t capacity)
{
    size_t n = 0;
    for (struct http_call *call; n < capacity && (call = http_list_pop(&http->done)) != NULL;) {
        done[n++] = call->done;
        call->done.values = NULL;
        http_list_push(&http->free, call);
    }
    return n;
}

static int wait_ms(const struct http *http, double now_s, double end_s)
{
    double next_s = MIN(end_s, http->next_s);
    if (http->down_since_s >= 0 && http->patience_s > 0)
        next_s = MIN(next_s, http->down_since_s + http->patience_s);
    return next_s == INFINITY ? 60000 : (int)(MIN(MAX(next_s - now_s, 0.0), 60.0) * 1e3) + 1;
}

static tidemill_error *http_poll(struct runtime *runtime, int timeout_ms, int wake_fd,
                                 struct runtime_done *done, size_t done_capacity, size_t *ret_n)
{
    struct http *http = http_of(runtime);
    size_t capacity = http_capacity(runtime);
    double now_s = clock_now_s(), end_s = timeout_ms < 0 ? INFINITY : now_s + timeout_ms * 1e-3;
    for (bool is_first = true, is_woken = false;; is_first = false, now_s = clock_now_s()) {
        http_start_due(http, now_s);
        http_attend_timers(http);
        take_ended(http);
        check_patience(http, now_s);
        *ret_n = deliver(http, done, done_capacity);
        if (*ret_n > 0) return NULL;
        if (http->failure != NULL) return copy_failure(http);
        bool has_room = http_capacity(runtime) > capacity;
        if (!is_first && (is_woken || has_room || now_s >= end_s)) return NULL;
        http_start_due(http, clock_now_s());
        is_woken = http_wait(http, wait_ms(http, now_s, end_s), wake_fd);
    }
}

static void http_get_stats(struct runtime *runtime, struct runtime_stats *ret)
{
    const struct http *http = http_of(runtime);
    *ret = (struct runtime_stats){.hosts = (int)http->n_upstreams,
                                  .hosts_started = (int)http->n_upstreams,
                                  .busy_s = http->busy_s};
}

const struct runtime_impl runtime_http = {
    .open = http_open,
    .capacity = http_capacity,
    .under_way = http_under_way,
    .submit = http_submit,
    .poll = http_poll,
    .get_stats = http_get_stats,
    .end = http_end,
    .close = http_close,
};
