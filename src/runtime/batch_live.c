/* SPDX-License-Identifier: Apache-2.0 */
/* batch_live.c - the deadline, and what is asked one by one when it is near: a runtime_http of our own. */
#include "runtime/batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define MS_NS INT64_C(1000000)

static int64_t since_share(const struct batch_runtime *runtime, int64_t percent)
{
    int64_t deadline_ms = runtime->options.http.deadline_ms;
    if (deadline_ms <= 0) return -1;
    return clock_now_ns() - runtime->opened_ns - deadline_ms * MS_NS / 100 * percent;
}

bool batch_is_late(const struct batch_runtime *runtime)
{
    return since_share(runtime, 85) >= 0;
}

bool batch_is_over(const struct batch_runtime *runtime)
{
    return since_share(runtime, 95) >= 0;
}

bool batch_has_version_header(const struct http_options *options)
{
    for (size_t i = 0; i < options->n_headers; i++)
        if (strncasecmp(options->headers[i], "anthropic-version:", 18) == 0) return true;
    return false;
}

/* Anthropic's wants its own headers; http_common_new copies them. */
static tidemill_error *open_live(struct batch_runtime *runtime)
{
    if (runtime->live != NULL) return NULL;
    log_event(LOG_INFO, "the deadline is near: asking for what is left one by one");
    struct runtime_options options = runtime->options;
    struct http_options *http = &options.http;
    http->is_batch = false;
    if (runtime->api.dialect == BATCH_OPENAI)
        return runtime_open(&options, runtime->region, &runtime->live);
    if (asprintf(&runtime->live_model, "%s/messages", runtime->api.base) < 0) {
        runtime->live_model = NULL;
        return error_memory();
    }
    options.model = runtime->live_model;
    const char **headers = calloc(http->n_headers + 2, sizeof *headers);
    struct buffer key = {0};
    if (headers == NULL) return error_memory();
    if (http->n_headers > 0) memcpy(headers, http->headers, http->n_headers * sizeof *headers);
    http->headers = headers;
    if (!batch_has_version_header(&runtime->options.http))
        headers[http->n_headers++] = BATCH_ANTHROPIC_VERSION;
    if (http->key != NULL) {
        buffer_printf(&key, "x-api-key: %s", http->key);
        buffer_byte(&key, '\0');
        if (!key.is_failed) headers[http->n_headers++] = key.data;
    }
    http->key = NULL;
    tidemill_error *error =
        key.is_failed ? error_memory() : runtime_open(&options, runtime->region, &runtime->live);
    if (key.data != NULL) explicit_bzero(key.data, key.size);
    buffer_free(&key);
    free(headers);
    return error;
}

tidemill_error *batch_submit_stragglers(struct batch_runtime *runtime)
{
    if (runtime->stragglers.n == 0) return NULL;
    TRY(open_live(runtime));
    while (runtime->stragglers.n > 0 && runtime_capacity(runtime->live) > 0) {
        struct batch_unit *unit = batch_unit_pop(&runtime->stragglers);
        struct runtime_work work = {
            .id = (uint64_t)(uintptr_t)unit,
            .index = unit->key.index,
            .n_rows = 1,
            .inputs = unit->inputs,
            .output_offset = unit->output_offset,
            .output_capacity = unit->output_capacity,
        };
        TRY(runtime_submit(runtime->live, &work));
        runtime->n_live++;
    }
    runtime_hint_backlog(runtime->live, runtime->stragglers.n > 0);
    return NULL;
}

tidemill_error *batch_poll_live(struct batch_runtime *runtime, int timeout_ms, int wake_fd,
                                struct runtime_done *done, size_t capacity, size_t *ret_n)
{
    size_t n = 0;
    if (runtime->n_live == 0 || capacity == *ret_n) return NULL;
    TRY(runtime_poll(runtime->live, timeout_ms, wake_fd, done + *ret_n, capacity - *ret_n, &n));
    for (size_t i = *ret_n; i < *ret_n + n; i++) {
        struct batch_unit *unit = (struct batch_unit *)(uintptr_t)done[i].id;
        done[i].id = unit->id;
        batch_unit_push(&runtime->free, unit);
    }
    runtime->n_live -= n;
    *ret_n += n;
    return NULL;
}
