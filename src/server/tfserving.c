/* SPDX-License-Identifier: Apache-2.0 */
/* tfserving.c - the routes of TF Serving's REST protocol, which are KServe's first protocol, too. Versions
 * are all "1"; the labels "stable" and "latest" are it. GET /v1/models/{model} is OpenAI's as well:
 * openai_models.c answers both. */
#include "server/tfserving.h"

#include "server/routes.h"
#include "server/sync.h"

#include <stdlib.h>

/* --- predict, classify, regress ------------------------------------------------------------------------------ */

static enum tf_verb verb_of(const struct sync *sync)
{
    return (enum tf_verb)(uintptr_t)sync->own;
}

static tidemill_error *read_request(struct sync *sync)
{
    struct tf_request *request = arena_calloc(&sync->arena, 1, sizeof *request);
    if (request == NULL) return error_memory();
    tidemill_error *error =
        tf_read(sync->body, verb_of(sync), sync->signature, &sync->arena, request);
    sync->doc = request->doc;
    sync->own = request;
    if (error != NULL) return error;
    TRY(sync_make_calls(sync, request->n_calls));
    for (size_t i = 0; i < request->n_calls; i++) {
        sync->calls[i].inputs = request->calls[i].inputs;
        sync->calls[i].n_inputs = request->calls[i].n_inputs;
    }
    return NULL;
}

static tidemill_error *write_answer(struct sync *sync, struct buffer *out)
{
    struct value **values = arena_calloc(&sync->arena, sync->n_calls + 1, sizeof *values);
    if (values == NULL) return error_memory();
    for (size_t i = 0; i < sync->n_calls; i++) values[i] = sync->calls[i].values;
    return tf_write(sync->own, sync->signature, values, out);
}

static tidemill_error *put_lines(struct sync *sync, struct buffer *out, uint64_t *ret_n)
{
    return tf_lines(sync->body, verb_of(sync), sync->signature, out, ret_n);
}

static const struct sync_dialect tfserving = {
    .dialect = DIALECT_TFSERVING, .read = read_request, .write = write_answer, .lines = put_lines};

static void ask(struct exchange *exchange, void *app, enum tf_verb verb, bool has_version)
{
    const char *model = exchange_capture(exchange, 0);
    const char *version = has_version ? exchange_capture(exchange, 1) : NULL;
    if (!sync_check_version(exchange, model, version)) return;
    sync_begin(app, exchange, &tfserving, model, -1, (void *)(uintptr_t)verb);
}

static void ask_label(struct exchange *exchange, void *app, enum tf_verb verb)
{
    const char *label = exchange_capture(exchange, 1);
    if (strcmp(label, "stable") == 0 || strcmp(label, "latest") == 0) {
        ask(exchange, app, verb, false);
        return;
    }
    app_refuse(exchange, 404, NULL, NULL,
               "model '%.100s' has the labels 'stable' and 'latest' only, not '%.40s'",
               exchange_capture(exchange, 0), label);
}

#define HANDLERS(name, verb)                                                                       \
    static void name(struct exchange *exchange, void *app)                                         \
    {                                                                                              \
        ask(exchange, app, verb, false);                                                           \
    }                                                                                              \
    static void name##_version(struct exchange *exchange, void *app)                               \
    {                                                                                              \
        ask(exchange, app, verb, true);                                                            \
    }                                                                                              \
    static void name##_label(struct exchange *exchange, void *app)                                 \
    {                                                                                              \
        ask_label(exchange, app, verb);                                                            \
    }
HANDLERS(predict, TF_PREDICT)
HANDLERS(classify, TF_CLASSIFY)
HANDLERS(regress, TF_REGRESS)
#undef HANDLERS

/* --- about models ------------------------------------------------------------------------------------------------ */

static void get_version(struct exchange *exchange, void *context)
{
    struct app *app = context;
    struct buffer out = {0};
    const char *model = exchange_capture(exchange, 0);
    if (!sync_check_model(app, exchange, model) ||
        !sync_check_version(exchange, model, exchange_capture(exchange, 1)))
        return;
    buffer_byte(&out, '{');
    tf_put_status(&out, serving_is_ready(app->serving, model));
    buffer_text(&out, "}\n");
    exchange_answer_buffer(exchange, 200, "application/json", &out);
}

struct question {
    struct exchange *exchange;
    const char *model; /* the configuration's */
    struct serving_waiter waiter;
};

static void answer_metadata(struct serving_waiter *waiter)
{
    struct question *question = waiter->context;
    struct buffer out = {0};
    if (waiter->error != NULL) {
        app_refuse_error(question->exchange, waiter->error);
    } else {
        tf_put_metadata(question->model, waiter->signature, &out);
        exchange_answer_buffer(question->exchange, 200, "application/json", &out);
    }
    free(question);
}

static void ask_metadata(struct exchange *exchange, struct app *app, const char *version)
{
    const char *model = exchange_capture(exchange, 0);
    if (!sync_check_model(app, exchange, model) || !sync_check_version(exchange, model, version))
        return;
    struct question *question = calloc(1, sizeof *question);
    if (question == NULL) {
        app_refuse_error(exchange, error_memory());
        return;
    }
    question->exchange = exchange;
    question->model = serving_model(app->serving, model)->name;
    question->waiter = (struct serving_waiter){
        .model = question->model, .ready = answer_metadata, .context = question};
    serving_when_known(app->serving, &question->waiter);
}

static void get_metadata(struct exchange *exchange, void *app)
{
    ask_metadata(exchange, app, NULL);
}

static void get_version_metadata(struct exchange *exchange, void *app)
{
    ask_metadata(exchange, app, exchange_capture(exchange, 1));
}

/* --- the table ------------------------------------------------------------------------------------------------------ */

#define INFO(summary)                                                                              \
    &(const struct route_info)                                                                     \
    {                                                                                              \
        DIALECT_TFSERVING, ROUTE_USER, summary, false                                              \
    }
#define ASK(path, handler, name, summary)                                                          \
    {                                                                                              \
        NET_POST, path, NET_BODY_WHOLE, 0, true, handler, name, INFO(summary)                      \
    }

const struct net_route tfserving_routes[] = {
    ASK("/v1/models/{model}:predict", predict, "tfPredict", "Predicts, by rows or by columns"),
    ASK("/v1/models/{model}/versions/{version}:predict", predict_version, "tfVersionPredict",
        "The same of a version"),
    ASK("/v1/models/{model}/labels/{label}:predict", predict_label, "tfLabelPredict",
        "The same of a label"),
    ASK("/v1/models/{model}:classify", classify, "tfClassify", "Labels and scores of examples"),
    ASK("/v1/models/{model}/versions/{version}:classify", classify_version, "tfVersionClassify",
        "The same of a version"),
    ASK("/v1/models/{model}/labels/{label}:classify", classify_label, "tfLabelClassify",
        "The same of a label"),
    ASK("/v1/models/{model}:regress", regress, "tfRegress", "A number for each example"),
    ASK("/v1/models/{model}/versions/{version}:regress", regress_version, "tfVersionRegress",
        "The same of a version"),
    ASK("/v1/models/{model}/labels/{label}:regress", regress_label, "tfLabelRegress",
        "The same of a label"),
    {NET_GET, "/v1/models/{model}/versions/{version}", NET_BODY_NONE, 0, false, get_version,
     "tfVersionStatus", INFO("A version's state")},
    {NET_GET, "/v1/models/{model}/metadata", NET_BODY_NONE, 0, false, get_metadata, "tfMetadata",
     INFO("A model's inputs and outputs; loads it")},
    {NET_GET, "/v1/models/{model}/versions/{version}/metadata", NET_BODY_NONE, 0, false,
     get_version_metadata, "tfVersionMetadata", INFO("The same of a version")},
    {0},
};
