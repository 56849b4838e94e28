/* SPDX-License-Identifier: Apache-2.0 */
/* http_health.c - asks a server that is down whether it is up, where it has a path for that. When it says so one
 * record asks it, and the answer to that decides: what stands before a server often answers such a question
 * by itself. */
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
        bool is_asked = upstream->is_probing || upstream->may_probe;
        if (!upstream->is_down || is_asked || upstream->target.health_path == NULL) continue;
        if (upstream->not_before_s > now_s) {
            http->next_s = MIN(http->next_s, upstream->not_before_s);
            continue;
        }
        upstream->is_probing = start_check(http, upstream);
        if (!upstream->is_probing) http_fail(http, error_memory());
    }
}

/* Where the path is not there, or wants what a check does not bring, whatever it says, it speaks. */
static bool is_up(enum http_outcome outcome, CURLcode code)
{
    return code == CURLE_OK && outcome != HTTP_FAILED;
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
        http_common_redact(http->common, message);
        upstream->is_probing = false;
        if (!upstream->is_down) return true; /* a request from before was answered meanwhile */
        upstream->may_probe = is_up(outcome, code);
        if (!upstream->may_probe) http_upstream_unreachable(http, upstream, now_s, message);
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
