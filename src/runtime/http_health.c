/* SPDX-License-Identifier: Apache-2.0 */
/* http_health.c - asks a server that is down whether it is up again, where it has a path for that: no
 * record need find out. Others are asked by a record (http_upstream.c). */
#include "runtime/http.h"

#include <stdio.h>

#define CHECK_TIMEOUT_MS 10000

static bool start_check(struct http *http, struct http_upstream *upstream)
{
    char url[4096];
    struct http_check *check = &upstream->check;
    snprintf(url, sizeof url, "%s%s", upstream->target.origin, upstream->target.health_path);
    struct http_request request = {.method = "GET", .url = url, .timeout_ms = CHECK_TIMEOUT_MS};
    if (check->handle == NULL) check->handle = curl_easy_init();
    return check->handle != NULL &&
           http_handle_prepare(check->handle, http->common, &request, &check->response) &&
           curl_multi_add_handle(http->multi, check->handle) == CURLM_OK;
}

void http_check_due(struct http *http, double now_s)
{
    for (size_t i = 0; i < http->n_upstreams; i++) {
        struct http_upstream *upstream = &http->upstreams[i];
        if (!upstream->is_down || upstream->is_probing || upstream->target.health_path == NULL)
            continue;
        if (upstream->not_before_s > now_s) {
            http->next_s = MIN(http->next_s, upstream->not_before_s);
            continue;
        }
        upstream->is_probing = start_check(http, upstream);
        if (!upstream->is_probing) http_fail(http, error_memory());
    }
}

/* OpenAI's kind need not have the path that is asked for: whatever it says, it speaks. */
static bool is_up(const struct http_upstream *upstream, enum http_outcome outcome, CURLcode code)
{
    bool has_answered = code == CURLE_OK && outcome != HTTP_FAILED;
    return upstream->target.protocol == PROTOCOL_OPENAI ? has_answered : outcome == HTTP_ANSWERED;
}

bool http_check_ended(struct http *http, const CURL *handle, CURLcode code, double now_s)
{
    char message[512];
    for (size_t i = 0; i < http->n_upstreams; i++) {
        struct http_upstream *upstream = &http->upstreams[i];
        struct http_check *check = &upstream->check;
        if (check->handle == NULL || check->handle != handle) continue;
        enum http_outcome outcome = http_outcome_of(check->handle, code, &check->response, message);
        curl_multi_remove_handle(http->multi, check->handle);
        upstream->is_probing = false;
        if (is_up(upstream, outcome, code))
            http_upstream_answered(http, upstream, now_s);
        else
            http_upstream_unreachable(http, upstream, now_s, message);
        return true;
    }
    return false;
}

void http_check_end(struct http *http, struct http_upstream *upstream)
{
    struct http_check *check = &upstream->check;
    if (check->handle == NULL) return;
    if (upstream->is_probing) curl_multi_remove_handle(http->multi, check->handle);
    upstream->is_probing = false;
    curl_easy_cleanup(check->handle);
    check->handle = NULL;
    http_response_free(&check->response);
}
