/* SPDX-License-Identifier: Apache-2.0 */
/* sync.c - a request's way to a model and back; see sync.h. */
#include "server/sync.h"

#include "server/routes.h"
#include "server/tensor_json.h"

#include <stdlib.h>

static void sync_free(struct sync *sync)
{
    for (size_t i = 0; i < sync->n_calls; i++) free(sync->calls[i].values);
    yyjson_doc_free(sync->doc);
    if (sync->dialect->release != NULL) sync->dialect->release(sync->given);
    arena_free(&sync->arena);
    free(sync);
}

/* Takes the error. */
static void refuse(struct sync *sync, tidemill_error *error)
{
    struct exchange *exchange = sync->exchange;
    if (error_code_of(error) == ERROR_INPUT) {
        app_refuse(exchange, 404, "model_not_found", "model", "%s", error_message(error));
        error_free(error);
    } else {
        app_refuse_error(exchange, error);
    }
    sync_free(sync);
}

/* --- the answer -------------------------------------------------------------------------------------------- */

/* The first call's that has one, taken over; the others' are freed. */
static tidemill_error *take_error(struct sync *sync)
{
    tidemill_error *error = NULL;
    for (size_t i = 0; i < sync->n_calls; i++) {
        if (error == NULL)
            error = sync->calls[i].error;
        else
            error_free(sync->calls[i].error);
        sync->calls[i].error = NULL;
    }
    return error;
}

static void answer(struct sync *sync)
{
    struct buffer out = {0};
    tidemill_error *error = take_error(sync);
    if (error == NULL) error = sync->dialect->write(sync, &out);
    if (error == NULL && out.is_failed) error = error_memory();
    if (error != NULL) {
        buffer_free(&out);
        refuse(sync, error);
        return;
    }
    if (sync->answer_header > 0)
        exchange_set_header(sync->exchange, "Inference-Header-Content-Length", "%zu",
                            sync->answer_header);
    exchange_answer_buffer(sync->exchange, 200, sync->answer_type, &out);
    sync_free(sync);
}

static void call_done(struct serving_call *call)
{
    struct sync *sync = call->context;
    if (atomic_fetch_sub(&sync->n_left, 1) == 1) answer(sync);
}

/* --- the calls ----------------------------------------------------------------------------------------------- */

tidemill_error *sync_make_calls(struct sync *sync, size_t n)
{
    sync->calls = arena_calloc(&sync->arena, MAX(n, (size_t)1), sizeof *sync->calls);
    if (sync->calls == NULL) return error_memory();
    sync->n_calls = n;
    for (size_t i = 0; i < n; i++) {
        sync->calls[i].model = sync->model;
        sync->calls[i].done = call_done;
        sync->calls[i].context = sync;
    }
    return NULL;
}

static void ask(struct sync *sync)
{
    struct serving *serving = sync->app->serving;
    struct serving_call *calls = sync->calls;
    size_t n = sync->n_calls;
    atomic_store(&sync->n_left, n);
    for (size_t i = 0; i < n; i++) serving_ask(serving, &calls[i]); /* the last may free them */
}

static void known(struct serving_waiter *waiter)
{
    struct sync *sync = waiter->context;
    tidemill_error *error = waiter->error;
    sync->signature = waiter->signature;
    if (error == NULL) error = sync->dialect->read(sync);
    if (error != NULL)
        refuse(sync, error);
    else if (sync->n_calls == 0)
        answer(sync);
    else
        ask(sync);
}

/* --- requests that may wait for a window ------------------------------------------------------------------------ */

/* True: it was answered. */
static bool defer(struct sync *sync)
{
    struct buffer lines = {0};
    uint64_t n = 0;
    if (!prefer_wants_async(sync->exchange)) return false;
    sync->signature = serving_known_signature(sync->app->serving, sync->model);
    tidemill_error *error = sync->dialect->lines(sync, &lines, &n);
    if (error == NULL && lines.is_failed) error = error_memory();
    if (error != NULL) {
        refuse(sync, error);
    } else {
        prefer_async(sync->app, sync->exchange, sync->model, sync->dialect->dialect,
                     (struct slice){lines.data, lines.size}, n);
        sync_free(sync);
    }
    buffer_free(&lines);
    return true;
}

void sync_begin(struct app *app, struct exchange *exchange, const struct sync_dialect *dialect,
                const char *model, int64_t header_bytes, void *own)
{
    struct sync *sync = calloc(1, sizeof *sync);
    if (sync == NULL) {
        app_refuse_error(exchange, error_memory());
        if (dialect->release != NULL) dialect->release(own);
        return;
    }
    sync->app = app;
    sync->exchange = exchange;
    sync->dialect = dialect;
    sync->header_bytes = header_bytes;
    sync->own = sync->given = own;
    sync->answer_type = "application/json";
    sync->url = exchange_path(exchange);
    sync->body = exchange_body(exchange);
    sync->model = arena_copy(&sync->arena, model, strlen(model));
    if (sync->model == NULL) {
        refuse(sync, error_memory());
        return;
    }
    if (defer(sync)) return;
    sync->waiter = (struct serving_waiter){.model = sync->model, .ready = known, .context = sync};
    serving_when_known(app->serving, &sync->waiter);
}

/* --- for dialects ------------------------------------------------------------------------------------------------- */

tidemill_error *sync_json_answer(const struct sync *sync, struct slice *ret)
{
    const struct serving_call *call = &sync->calls[0];
    const struct value *value = call->values;
    uint32_t size = 0;
    if (call->n_values == 0 || value->type != TENSOR_STRING || value->bytes < sizeof size)
        return error_new(ERROR_MODEL_ERROR, "the model answered with no JSON");
    memcpy(&size, value->data, sizeof size);
    *ret = (struct slice){(const char *)value->data + sizeof size, size};
    return NULL;
}

bool sync_check_model(struct app *app, struct exchange *exchange, const char *model)
{
    if (serving_model(app->serving, model) != NULL) return true;
    app_refuse(exchange, 404, "model_not_found", "model",
               "there is no model '%.100s' that answers at once", model);
    return false;
}

bool sync_check_version(struct exchange *exchange, const char *model, const char *version)
{
    if (version == NULL || strcmp(version, "1") == 0) return true;
    app_refuse(exchange, 404, "model_not_found", "model",
               "model '%.100s' has the version 1 only, not '%.40s'", model, version);
    return false;
}
