/* SPDX-License-Identifier: Apache-2.0 */
/* batch_ask.c - the request that each stage of a batch makes. */
#include "runtime/batch.h"

#include <stdlib.h>

#define CLEAN_UP_NS (5 * INT64_C(1000000000))

/* --- what is asked ------------------------------------------------------------------------------------------- */

static tidemill_error *ask(struct batch_runtime *runtime, struct batch *batch, const char *method,
                           char *url, const struct transfer_request *more)
{
    struct transfer_request request = {.fd = -1};
    if (url == NULL) return error_memory();
    if (more != NULL) request = *more;
    request.method = method;
    request.url = url;
    tidemill_error *error = transfer_start(&batch->transfer, runtime->multi, runtime->common,
                                           runtime->io, &request, batch);
    free(url);
    return error;
}

static const char *batches_path(const struct batch_runtime *runtime)
{
    return runtime->api.dialect == BATCH_OPENAI ? "/batches" : "/messages/batches";
}

static tidemill_error *ask_upload(struct batch_runtime *runtime, struct batch *batch)
{
    TRY(batch_upload_begin(runtime, batch));
    struct transfer_request request = {.source = &batch->upload.source, .is_file = true, .fd = -1};
    return ask(runtime, batch, "POST", batch_api_url(&runtime->api, "/files"), &request);
}

static tidemill_error *ask_create(struct batch_runtime *runtime, struct batch *batch)
{
    struct transfer_request request = {.fd = -1};
    struct buffer body = {0};
    if (runtime->api.dialect == BATCH_OPENAI) {
        batch_api_create(batch->input_file, batch->url, batch->tag, &body);
        if (body.is_failed) {
            buffer_free(&body);
            return error_memory();
        }
        request.body = (struct slice){body.data, body.size};
    } else {
        TRY(batch_upload_begin(runtime, batch));
        request.source = &batch->upload.source;
    }
    tidemill_error *error =
        ask(runtime, batch, "POST", batch_api_url(&runtime->api, "%s", batches_path(runtime)),
            &request);
    buffer_free(&body);
    return error;
}

static tidemill_error *ask_list(struct batch_runtime *runtime, struct batch *batch)
{
    bool is_openai = runtime->api.dialect == BATCH_OPENAI;
    return ask(runtime, batch, "GET",
               batch_api_url(&runtime->api, "%s?limit=%d%s%s%s", batches_path(runtime),
                             is_openai ? 100 : 1000, batch->page != NULL ? "&" : "",
                             batch->page == NULL ? ""
                             : is_openai         ? "after="
                                                 : "after_id=",
                             batch->page != NULL ? batch->page : ""),
               NULL);
}

/* Where part 0 or 1 of the results is; *ret NULL: there is none. */
static tidemill_error *results_url(struct batch_runtime *runtime, struct batch *batch, char **ret)
{
    const struct batch_object *object = &batch->object;
    *ret = NULL;
    if (runtime->api.dialect == BATCH_ANTHROPIC) {
        if (batch->part > 0 || object->results_url == NULL) return NULL;
        return batch_api_results_url(&runtime->api, object->results_url, ret);
    }
    const char *file = batch->part == 0 ? object->output_file : object->error_file;
    if (file == NULL) return NULL;
    *ret = batch_api_url(&runtime->api, "/files/%s/content", file);
    return *ret == NULL ? error_memory() : NULL;
}

static tidemill_error *ask_results(struct batch_runtime *runtime, struct batch *batch)
{
    char *url = NULL;
    if (batch->fd < 0) TRY(batch_download_begin(runtime, batch));
    for (; batch->part < 2; batch->part++) {
        TRY(results_url(runtime, batch, &url));
        if (url == NULL) continue;
        struct transfer_request request = {.fd = batch->fd};
        return ask(runtime, batch, "GET", url, &request);
    }
    batch_enter(batch, BATCH_READING);
    return batch_sort(batch);
}

/* The input may go when the batch is over; its results when the job is. */
static const char *next_to_delete(struct batch *batch)
{
    const struct batch_object *object = &batch->object;
    const char *const files[] = {object->input_file, object->output_file, object->error_file};
    int n = batch->is_all_cleaned ? 3 : 1;
    while (batch->n_cleaned < n) {
        const char *file = files[batch->n_cleaned++];
        if (file != NULL) return file;
    }
    return NULL;
}

static tidemill_error *ask_delete(struct batch_runtime *runtime, struct batch *batch)
{
    const char *file = next_to_delete(batch);
    if (file != NULL)
        return ask(runtime, batch, "DELETE", batch_api_url(&runtime->api, "/files/%s", file), NULL);
    batch->stage = BATCH_IDLE;
    return NULL;
}

tidemill_error *batch_ask(struct batch_runtime *runtime, struct batch *batch)
{
    switch (batch->stage) {
    case BATCH_CURSOR:
        return ask(runtime, batch, "GET", batch_api_url(&runtime->api, "/messages/batches?limit=1"),
                   NULL);
    case BATCH_UPLOADING: return ask_upload(runtime, batch);
    case BATCH_CREATING: return ask_create(runtime, batch);
    case BATCH_FINDING:
    case BATCH_WATCHING: return ask_list(runtime, batch);
    case BATCH_POLLING:
        return ask(runtime, batch, "GET",
                   batch_api_url(&runtime->api, "%s/%s", batches_path(runtime), batch->id), NULL);
    case BATCH_CANCELLING:
    case BATCH_DOOMING:
        return ask(runtime, batch, "POST",
                   batch_api_url(&runtime->api, "%s/%s/cancel", batches_path(runtime), batch->id),
                   NULL);
    case BATCH_DOWNLOADING: return ask_results(runtime, batch);
    case BATCH_CLEANING: return ask_delete(runtime, batch);
    case BATCH_IDLE:
    case BATCH_COLLECTING:
    case BATCH_READING: return NULL;
    }
    return NULL;
}

/* --- the end --------------------------------------------------------------------------------------------------- */

/* What was lost is looked for once more, and cancelled if it is there. */
static bool is_cleaning_stage(const struct batch *batch)
{
    return batch->stage == BATCH_CLEANING || batch->stage == BATCH_DOOMING ||
           (batch->stage == BATCH_WATCHING && (batch->due_ns == 1 || batch->transfer.easy != NULL));
}

static bool is_cleaning(const struct batch_runtime *runtime)
{
    for (const struct batch *batch = runtime->batches; batch != NULL; batch = batch->next)
        if (is_cleaning_stage(batch)) return true;
    return false;
}

static void ask_all_to_clean(struct batch_runtime *runtime)
{
    int64_t now_ns = clock_now_ns();
    for (struct batch *batch = runtime->batches; batch != NULL; batch = batch->next)
        if (is_cleaning_stage(batch) && batch->transfer.easy == NULL && now_ns >= batch->due_ns)
            error_free(batch_ask(runtime, batch));
}

static void take_cleaned(struct batch_runtime *runtime)
{
    int n_left;
    for (CURLMsg *message; (message = curl_multi_info_read(runtime->multi, &n_left)) != NULL;) {
        void *owner = NULL;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&owner);
        struct batch *batch = owner;
        transfer_end(&batch->transfer, runtime->multi, code);
        if (batch_is_watch(batch)) error_free(batch_take_watch(runtime, batch));
    }
}

/* The job takes the state file away when its output is published. */
void batch_clean_up(struct batch_runtime *runtime)
{
    int n_running;
    int64_t end_ns = clock_now_ns() + CLEAN_UP_NS;
    if (runtime->state.path != NULL && io_exists(runtime->io, runtime->state.path)) return;
    batch_state_end_file(&runtime->state);
    for (struct batch *batch = runtime->batches; batch != NULL; batch = batch->next) {
        if (batch->stage == BATCH_WATCHING) batch->due_ns = 1;
        if (batch->n_waiting > 0 || batch->object.status != BATCH_ENDED) continue;
        batch->is_all_cleaned = true;
        batch->stage = BATCH_CLEANING;
        batch->due_ns = 1;
    }
    while (is_cleaning(runtime) && clock_now_ns() < end_ns) {
        ask_all_to_clean(runtime);
        curl_multi_poll(runtime->multi, NULL, 0, 100, NULL);
        curl_multi_perform(runtime->multi, &n_running);
        take_cleaned(runtime);
    }
}
