/* SPDX-License-Identifier: Apache-2.0 */
/* http_metadata.c - asks servers, once and before anything else, what the model takes and gives. */
#include "runtime/http.h"
#include "runtime/wire.h"

#include <poll.h>
#include <stdio.h>

#define METADATA_TIMEOUT_MS 10000
#define PAUSE_MIN_S 0.1
#define PAUSE_MAX_S 10

/* One GET, waited for; the outcome is that of http_outcome_of. */
static tidemill_error *get(struct http *http, const char *url, int wake_fd,
                           struct http_response *response, enum http_outcome *ret_outcome,
                           char message[512])
{
    CURL *handle = curl_easy_init();
    struct http_request request = {.method = "GET", .url = url, .timeout_ms = METADATA_TIMEOUT_MS};
    if (handle == NULL || !http_handle_prepare(handle, http->common, &request, response) ||
        curl_multi_add_handle(http->multi, handle) != CURLM_OK) {
        curl_easy_cleanup(handle);
        return error_memory();
    }
    int n_running = 1, n_left;
    struct curl_waitfd wake = {.fd = wake_fd, .events = CURL_WAIT_POLLIN};
    CURLMsg *ended = NULL;
    while (ended == NULL && wake.revents == 0) {
        curl_multi_perform(http->multi, &n_running);
        ended = curl_multi_info_read(http->multi, &n_left);
        if (ended == NULL) curl_multi_poll(http->multi, &wake, wake_fd > 0 ? 1 : 0, 1000, NULL);
    }
    if (ended != NULL)
        *ret_outcome = http_outcome_of(handle, ended->data.result, response, message);
    curl_multi_remove_handle(http->multi, handle);
    curl_easy_cleanup(handle);
    return ended != NULL ? NULL : error_new(ERROR_INTERRUPTED, "stopped while asking %s", url);
}

static tidemill_error *wait_for(double seconds, int wake_fd)
{
    struct pollfd item = {.fd = wake_fd, .events = POLLIN};
    if (poll(&item, wake_fd > 0 ? 1 : 0, (int)(seconds * 1e3)) <= 0) return NULL;
    return error_new(ERROR_INTERRUPTED, "stopped while waiting for the server");
}

static bool may_pass(enum http_outcome outcome)
{
    return outcome == HTTP_UNREACHABLE || outcome == HTTP_FAILED || outcome == HTTP_BUSY ||
           outcome == HTTP_TIMED_OUT;
}

/* Asks all in turn until one answers, or patience is over. */
static tidemill_error *ask_any(struct http *http, int wake_fd, struct http_response *response)
{
    char url[4096], message[512];
    double begun_s = clock_now_s();
    for (uint32_t tries = 0;; tries++) {
        const struct http_target *target = &http->upstreams[tries % http->n_upstreams].target;
        uint32_t round = tries / (uint32_t)http->n_upstreams;
        bool is_last = (tries + 1) % http->n_upstreams == 0;
        enum http_outcome outcome = HTTP_UNREACHABLE;
        snprintf(url, sizeof url, "%s%s", target->origin, target->metadata_path);
        TRY(get(http, url, wake_fd, response, &outcome, message));
        http_common_redact(http->common, message);
        if (outcome == HTTP_ANSWERED) return NULL;
        bool is_over =
            is_last && http->patience_s > 0 && clock_now_s() - begun_s > http->patience_s;
        if (!may_pass(outcome) || is_over)
            return error_new(ERROR_UNREACHABLE, "%s: %s", url, message);
        if (round == 0) log_event(LOG_WARNING, "%s: %s; waiting for it", url, message);
        if (is_last)
            TRY(wait_for(PAUSE_MIN_S + backoff_s(http->backoff_base_s, PAUSE_MAX_S, round,
                                                 &http->random_state),
                         wake_fd));
    }
}

/* What a server says may be quoted in it. */
static tidemill_error *without_key(const struct http *http, tidemill_error *error)
{
    char message[512];
    if (error == NULL || error_code_of(error) == ERROR_MEMORY) return error;
    snprintf(message, sizeof message, "%s", error_message(error));
    http_common_redact(http->common, message);
    wire_clean_text(message, sizeof message);
    tidemill_error *clean = error_new(error_code_of(error), "%s", message);
    error_free(error);
    return clean;
}

tidemill_error *http_fetch_metadata(struct http *http, int wake_fd)
{
    if (http->upstreams[0].target.metadata_path == NULL) return NULL;
    struct http_response response = {0};
    tidemill_error *error = ask_any(http, wake_fd, &response);
    struct slice body = {response.body.data, response.body.size};
    for (size_t i = 0; error == NULL && i < http->n_upstreams; i++)
        error = error_context(http_target_take_metadata(&http->upstreams[i].target, body), "%s%s",
                              http->upstreams[i].target.origin,
                              http->upstreams[i].target.metadata_path);
    http_response_free(&response);
    return without_key(http, error);
}
