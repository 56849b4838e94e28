/* SPDX-License-Identifier: Apache-2.0 */
/* batch.c - runtime_batch: records are collected, asked for in a batch, and handed back as its results are
 * read. batch.h has the stages; this is the runtime's face: units in, units out, and the wait between. */
#include "runtime/batch.h"

#include "runtime/model.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define MS_NS INT64_C(1000000)
#define SETTLED_NS (1000 * MS_NS) /* so long without a new unit: there is no more to wait for */
#define URLS_MAX 16               /* endpoints that records of one job may name */
#define LIVE_POLL_MS 50 /* at most between looks at batches while requests are under way */

static struct batch_runtime *runtime_of(struct runtime *runtime)
{
    return (struct batch_runtime *)runtime;
}

bool batch_is_settled(const struct batch_runtime *runtime)
{
    if (runtime->free.n == 0) return true;
    return !runtime->has_backlog && clock_now_ns() - runtime->submitted_ns >= SETTLED_NS;
}

/* --- opening --------------------------------------------------------------------------------------------------- */

/* At the first submit: until then the job may still be told to begin anew, which removes the file. */
static tidemill_error *open_state(struct batch_runtime *runtime)
{
    const char *beside = runtime->options.http.state_beside;
    char *path = NULL;
    if (beside != NULL && asprintf(&path, "%s.upstream", beside) < 0) return error_memory();
    tidemill_error *error = batch_state_open(runtime->io, path, &runtime->state);
    free(path);
    for (size_t i = 0; error == NULL && i < runtime->state.n_past; i++) {
        struct batch_past *past = &runtime->state.past[i];
        struct batch *batch;
        if (past->is_gone || strcmp(past->server, runtime->api.base) != 0) continue;
        error = batch_add(runtime, &batch);
        if (error != NULL) break;
        batch->past = past;
        memcpy(batch->tag, past->tag, sizeof batch->tag);
        batch->after = strdup(past->after);
        batch->id = past->id != NULL ? strdup(past->id) : NULL;
        if (batch->after == NULL || (past->id != NULL && batch->id == NULL)) error = error_memory();
    }
    return error == NULL ? batch_watch(runtime) : error;
}

static tidemill_error *open_requests(struct batch_runtime *runtime)
{
    TRY(http_common_new(&runtime->options.http, &runtime->common));
    runtime->multi = curl_multi_init();
    if (runtime->multi == NULL) return error_memory();
    if (runtime->api.dialect != BATCH_ANTHROPIC) return NULL;
    TRY(http_common_name_key(runtime->common, "x-api-key"));
    if (batch_has_version_header(&runtime->options.http)) return NULL;
    return http_common_add(runtime->common, BATCH_ANTHROPIC_VERSION);
}

/* As when asked one by one: what is done either way must look the same. */
static tidemill_error *make_signature(struct model_signature *signature)
{
    TRY(signature_make_json(signature, "body", "response", false));
    return signature_add_optional(signature, "url");
}

static tidemill_error *open_all(struct batch_runtime *runtime)
{
    TRY(batch_api_open(runtime->options.model, runtime->options.http.protocol, &runtime->api));
    TRY(open_requests(runtime));
    runtime->units = calloc(BATCH_UNITS_MAX, sizeof *runtime->units);
    if (runtime->units == NULL) return error_memory();
    for (size_t i = 0; i < BATCH_UNITS_MAX; i++)
        batch_unit_push(&runtime->free, &runtime->units[i]);
    snprintf(runtime->base.description, sizeof runtime->base.description, "%s (batch)",
             runtime->api.target.origin);
    return make_signature(&runtime->base.signature);
}

static tidemill_error *batch_open(const struct runtime_options *options,
                                  const struct shared_region *region, struct runtime **ret)
{
    struct batch_runtime *runtime = calloc(1, sizeof *runtime);
    if (runtime == NULL) return error_memory();
    runtime->base.impl = &runtime_batch;
    runtime->region = region;
    runtime->options = *options;
    runtime->io = &io_local;
    runtime->state.fd = -1;
    runtime->units_max = BATCH_UNITS_MAX;
    runtime->opened_ns = runtime->submitted_ns = clock_now_ns();
    tidemill_error *error = open_all(runtime);
    if (error != NULL)
        runtime_close(&runtime->base);
    else
        *ret = &runtime->base;
    return error;
}

static void batch_end(struct runtime *base)
{
    struct batch_runtime *runtime = runtime_of(base);
    if (runtime->live != NULL) runtime_end_hosts(runtime->live);
}

static void batch_close(struct runtime *base)
{
    struct batch_runtime *runtime = runtime_of(base);
    if (runtime->multi != NULL && runtime->is_used) batch_clean_up(runtime);
    for (struct batch *batch; (batch = runtime->batches) != NULL;) {
        runtime->batches = batch->next;
        batch_free(runtime, batch);
    }
    for (size_t i = 0; runtime->units != NULL && i < BATCH_UNITS_MAX; i++)
        free(runtime->units[i].message);
    for (size_t i = 0; i < runtime->n_urls; i++) free(runtime->urls[i]);
    runtime_close(runtime->live);
    free(runtime->live_model);
    curl_multi_cleanup(runtime->multi);
    http_common_free(runtime->common);
    batch_state_close(&runtime->state);
    batch_api_close(&runtime->api);
    model_signature_free(&runtime->base.signature);
    buffer_free(&runtime->body);
    buffer_free(&runtime->text);
    free(runtime->urls);
    free(runtime->units);
    free(runtime);
}

/* --- units in -------------------------------------------------------------------------------------------------- */

/* The one copy of an endpoint: batches compare pointers. */
static tidemill_error *intern_url(struct batch_runtime *runtime, const char *url, const char **ret)
{
    for (size_t i = 0; i < runtime->n_urls; i++) {
        *ret = runtime->urls[i];
        if (strcmp(*ret, url) == 0) return NULL;
    }
    *ret = NULL;
    if (runtime->n_urls == URLS_MAX) return NULL;
    char **urls = realloc(runtime->urls, (runtime->n_urls + 1) * sizeof *urls);
    if (urls == NULL) return error_memory();
    runtime->urls = urls;
    *ret = urls[runtime->n_urls] = strdup(url);
    if (*ret == NULL) return error_memory();
    runtime->n_urls++;
    return NULL;
}

/* Where the request goes: the address's path, or the record's own. unit->url NULL: message says why. */
static tidemill_error *choose_url(struct batch_runtime *runtime, struct batch_unit *unit,
                                  enum error_code *ret_code, char message[512])
{
    char own[2048];
    const char *url = runtime->api.endpoint;
    struct slice named = batch_unit_text(runtime, unit, 1);
    *ret_code = ERROR_OK;
    unit->url = NULL;
    if (url == NULL && named.size == 0) {
        *ret_code = ERROR_MISSING_FIELD;
        snprintf(message, 512,
                 "the record has no url, and --model names no path such as /v1/chat/completions");
        return NULL;
    }
    if (url == NULL) {
        *ret_code = http_record_path(named, own, message);
        if (*ret_code != ERROR_OK) return NULL;
        url = own;
    }
    TRY(intern_url(runtime, url, &unit->url));
    if (unit->url != NULL) return NULL;
    *ret_code = ERROR_WRONG_TYPE;
    snprintf(message, 512, "the records before it name %d other urls already", URLS_MAX);
    return NULL;
}

/* The batch of an earlier run that holds the unit already: the newest, as older ones gave no answer. */
static struct batch *find_past(struct batch_runtime *runtime, const struct batch_unit *unit)
{
    for (struct batch *batch = runtime->batches; batch != NULL; batch = batch->next)
        if (batch->past != NULL && !batch->past->is_gone && batch_past_has(batch->past, &unit->key))
            return batch;
    return NULL;
}

static tidemill_error *place_unit(struct batch_runtime *runtime, struct batch_unit *unit)
{
    char message[512] = "";
    enum error_code code;
    TRY(choose_url(runtime, unit, &code, message));
    if (code == ERROR_OK) code = batch_measure(runtime, unit, message);
    if (code == ERROR_MEMORY) return error_memory();
    if (code != ERROR_OK) return batch_unit_fail(runtime, unit, code, message);
    struct batch *past = find_past(runtime, unit);
    return past != NULL ? batch_attach(past, unit) : batch_collect(runtime, unit);
}

static tidemill_error *batch_submit(struct runtime *base, const struct runtime_work *work)
{
    struct batch_runtime *runtime = runtime_of(base);
    if (!runtime->is_used) TRY(open_state(runtime));
    runtime->is_used = true;
    for (size_t i = 0; i < COUNT_OF(((struct batch_unit *)0)->inputs); i++) {
        const struct work_input *input = &work->inputs[i];
        if (input->offset > runtime->region->size ||
            input->bytes > runtime->region->size - input->offset || work->n_rows != 1)
            return error_new(ERROR_INTERNAL, "an input that is not one text in the region");
    }
    struct batch_unit *unit = batch_unit_pop(&runtime->free);
    if (unit == NULL) return error_new(ERROR_INTERNAL, "more work than the runtime can take");
    free(unit->message);
    *unit = (struct batch_unit){
        .id = work->id,
        .key.index = work->index,
        .inputs = {work->inputs[0], work->inputs[1]},
        .output_offset = work->output_offset,
        .output_capacity = work->output_capacity,
    };
    runtime->submitted_ns = clock_now_ns();
    return place_unit(runtime, unit);
}

static size_t batch_capacity(const struct runtime *base)
{
    return ((const struct batch_runtime *)base)->free.n;
}

/* A server's batch goes on without us, and the next run takes it up; what is asked one by one does not. */
static size_t batch_under_way(const struct runtime *base)
{
    const struct batch_runtime *runtime = (const struct batch_runtime *)base;
    return runtime->live != NULL ? runtime_under_way(runtime->live) : 0;
}

static void batch_hint_backlog(struct runtime *base, bool has_backlog)
{
    runtime_of(base)->has_backlog = has_backlog;
}

/* --- units out -------------------------------------------------------------------------------------------------- */

static void give_ended(struct batch_runtime *runtime, struct runtime_done *done, size_t capacity,
                       size_t *ret_n)
{
    struct batch_unit *unit;
    while (*ret_n < capacity && (unit = batch_unit_pop(&runtime->ended)) != NULL) {
        struct runtime_done *one = &done[(*ret_n)++];
        *one = (struct runtime_done){.id = unit->id, .code = unit->code};
        snprintf(one->message, sizeof one->message, "%s", unit->message);
        batch_unit_push(&runtime->free, unit);
    }
}

static tidemill_error *attend_all(struct batch_runtime *runtime, struct runtime_done *done,
                                  size_t capacity, size_t *ret_n)
{
    for (struct batch *batch = runtime->batches; batch != NULL; batch = batch->next) {
        bool is_over = false;
        TRY(batch_attend(runtime, batch, clock_now_ns()));
        if (batch->stage != BATCH_READING) continue;
        TRY(batch_read(runtime, batch, done, capacity, ret_n, &is_over));
        if (is_over) TRY(batch_read_through(runtime, batch));
    }
    TRY(batch_submit_stragglers(runtime));
    give_ended(runtime, done, capacity, ret_n);
    return NULL;
}

/* When something is due next, at most until `end_ns`. */
static int wait_ms(const struct batch_runtime *runtime, int64_t now_ns, int64_t end_ns)
{
    int64_t next_ns = end_ns;
    for (const struct batch *batch = runtime->batches; batch != NULL; batch = batch->next) {
        bool is_gathering =
            batch->stage == BATCH_COLLECTING || (batch->past != NULL && batch->n_waiting > 0);
        if (is_gathering) next_ns = MIN(next_ns, now_ns + SETTLED_NS / 10);
        if (batch->stage != BATCH_IDLE && batch->transfer.easy == NULL && batch->due_ns > 0)
            next_ns = MIN(next_ns, batch->due_ns);
    }
    if (runtime->options.http.deadline_ms > 0) next_ns = MIN(next_ns, now_ns + 100 * MS_NS);
    int64_t ms = (next_ns - now_ns + MS_NS - 1) / MS_NS;
    return (int)MIN(MAX(ms, INT64_C(0)), INT64_C(60000));
}

static tidemill_error *take_messages(struct batch_runtime *runtime)
{
    int n_left, n_running;
    if (curl_multi_perform(runtime->multi, &n_running) != CURLM_OK)
        return error_new(ERROR_INTERNAL, "libcurl cannot go on");
    for (CURLMsg *message; (message = curl_multi_info_read(runtime->multi, &n_left)) != NULL;) {
        void *owner = NULL;
        CURLcode code = message->data.result;
        if (message->msg != CURLMSG_DONE) continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&owner);
        TRY(batch_answered(runtime, owner, code));
    }
    return NULL;
}

/* Waits for the servers, the clock, or the wake descriptor. */
static bool wait_for_server(struct batch_runtime *runtime, int timeout_ms, int wake_fd)
{
    struct curl_waitfd item = {.fd = wake_fd, .events = CURL_WAIT_POLLIN};
    curl_multi_poll(runtime->multi, &item, wake_fd >= 0, timeout_ms, NULL);
    return wake_fd >= 0 && item.revents != 0;
}

static tidemill_error *batch_poll(struct runtime *base, int timeout_ms, int wake_fd,
                                  struct runtime_done *done, size_t capacity, size_t *ret_n)
{
    struct batch_runtime *runtime = runtime_of(base);
    int64_t now_ns = clock_now_ns();
    int64_t end_ns = timeout_ms < 0 ? INT64_MAX / 2 : now_ns + timeout_ms * MS_NS;
    *ret_n = 0;
    for (bool is_woken = false;; now_ns = clock_now_ns()) {
        TRY(take_messages(runtime));
        TRY(attend_all(runtime, done, capacity, ret_n));
        TRY(batch_poll_live(runtime, 0, -1, done, capacity, ret_n));
        if (*ret_n > 0 || is_woken || now_ns >= end_ns) return NULL;
        int wait = wait_ms(runtime, now_ns, end_ns);
        if (runtime->n_live == 0) {
            is_woken = wait_for_server(runtime, wait, wake_fd);
            continue;
        }
        struct pollfd item = {.fd = wake_fd, .events = POLLIN};
        TRY(batch_poll_live(runtime, MIN(wait, LIVE_POLL_MS), wake_fd, done, capacity, ret_n));
        is_woken = poll(&item, 1, 0) > 0;
    }
}

static void batch_get_stats(struct runtime *base, struct runtime_stats *ret)
{
    struct batch_runtime *runtime = runtime_of(base);
    *ret = (struct runtime_stats){0};
    if (runtime->live != NULL) runtime_get_stats(runtime->live, ret);
}

const struct runtime_impl runtime_batch = {
    .open = batch_open,
    .capacity = batch_capacity,
    .under_way = batch_under_way,
    .submit = batch_submit,
    .poll = batch_poll,
    .hint_backlog = batch_hint_backlog,
    .get_stats = batch_get_stats,
    .end = batch_end,
    .close = batch_close,
};
