/* SPDX-License-Identifier: Apache-2.0 */
/* openai_models.c - OpenAI's models, and requests that are answered at once: the body goes as it is to a
 * model that takes JSON (GGUF, a server, exec:, echo), and its answer is ours. Streams are not offered.
 *
 * GET /v1/models/{model} is OpenAI's, TF Serving's and KServe's first protocol's in one: an object with what
 * each of their clients looks for. */
#include "format/encode.h"
#include "server/routes.h"
#include "server/sync.h"
#include "server/tensor_json.h"
#include "server/tfserving.h"

#include <stdlib.h>

/* --- models -------------------------------------------------------------------------------------------------- */

static void put_model(struct buffer *out, const struct model_config *config)
{
    const char *owner = config->owner != NULL ? config->owner : "tidemill";
    buffer_text(out, "{\"id\":");
    format_json_string(out, config->name, strlen(config->name));
    buffer_text(out, ",\"object\":\"model\",\"created\":0,\"owned_by\":");
    format_json_string(out, owner, strlen(owner));
}

/* Also those that only jobs run. */
static void get_models(struct exchange *exchange, void *context)
{
    const struct app *app = context;
    const struct server_config *config = app->config;
    struct buffer out = {0};
    buffer_text(&out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < config->n_models; i++) {
        if (i > 0) buffer_byte(&out, ',');
        put_model(&out, &config->models[i]);
        buffer_byte(&out, '}');
    }
    buffer_text(&out, "]}\n");
    exchange_answer_buffer(exchange, 200, "application/json", &out);
}

static void get_model(struct exchange *exchange, void *context)
{
    struct app *app = context;
    const char *name = exchange_capture(exchange, 0);
    const struct model_config *config = server_config_model(app->config, name);
    struct buffer out = {0};
    if (config == NULL) {
        app_refuse(exchange, 404, "model_not_found", "model", "there is no model '%.100s'", name);
        return;
    }
    put_model(&out, config);
    if (serving_model(app->serving, name) != NULL) {
        bool is_ready = serving_is_ready(app->serving, name);
        buffer_text(&out, ",\"name\":");
        format_json_string(&out, name, strlen(name));
        buffer_printf(&out, ",\"ready\":%s,", is_ready ? "true" : "false");
        tf_put_status(&out, is_ready);
    }
    buffer_text(&out, "}\n");
    exchange_answer_buffer(exchange, 200, "application/json", &out);
}

/* --- requests --------------------------------------------------------------------------------------------------- */

static tidemill_error *read_request(struct sync *sync)
{
    const struct model_signature *signature = sync->signature;
    if (signature->n_inputs == 0 || !signature->inputs[0].is_json)
        return error_new(ERROR_UNSUPPORTED,
                         "model '%s' takes tensors: ask it by /v2/models/%s/infer or "
                         "/v1/models/%s:predict",
                         sync->model, sync->model, sync->model);
    TRY(sync_make_calls(sync, 1));
    sync->calls[0].url = sync->url;
    sync->calls[0].body = sync->body;
    return NULL;
}

static tidemill_error *write_answer(struct sync *sync, struct buffer *out)
{
    struct slice text;
    TRY(sync_json_answer(sync, &text));
    buffer_append(out, text.data, text.size);
    return NULL;
}

/* The body on one line. */
static tidemill_error *put_lines(struct sync *sync, struct buffer *out, uint64_t *ret_n)
{
    yyjson_doc *doc;
    TRY(json_body_read(sync->body, &doc));
    json_put(out, yyjson_doc_get_root(doc));
    buffer_byte(out, '\n');
    yyjson_doc_free(doc);
    *ret_n = 1;
    return NULL;
}

static const struct sync_dialect openai = {
    .dialect = DIALECT_OPENAI, .read = read_request, .write = write_answer, .lines = put_lines};

/* What of the request is ours to know: the model. NULL: it was refused. */
static const char *check_request(struct exchange *exchange, yyjson_val *root)
{
    const char *model = json_text(yyjson_obj_get(root, "model"));
    if (!yyjson_is_obj(root)) {
        app_refuse(exchange, 400, NULL, NULL, "the body is %s, not an object", json_kind(root));
        return NULL;
    }
    if (model == NULL) {
        app_refuse(exchange, 400, "missing_model", "model", "the request names no 'model'");
        return NULL;
    }
    if (yyjson_get_bool(yyjson_obj_get(root, "stream"))) {
        app_refuse(exchange, 400, "unsupported_value", "stream",
                   "answers are not streamed: leave 'stream' out");
        return NULL;
    }
    return model;
}

static void ask(struct exchange *exchange, void *app)
{
    yyjson_doc *doc;
    tidemill_error *error = json_body_read(exchange_body(exchange), &doc);
    if (error != NULL) {
        app_refuse_error(exchange, error);
        return;
    }
    const char *model = check_request(exchange, yyjson_doc_get_root(doc));
    if (model != NULL) sync_begin(app, exchange, &openai, model, -1, NULL);
    yyjson_doc_free(doc);
}

/* --- the table --------------------------------------------------------------------------------------------------- */

#define INFO(summary)                                                                              \
    &(const struct route_info)                                                                     \
    {                                                                                              \
        DIALECT_OPENAI, ROUTE_USER, summary, false                                                 \
    }
#define ASK(path, name, summary)                                                                   \
    {                                                                                              \
        NET_POST, path, NET_BODY_WHOLE, 0, true, ask, name, INFO(summary)                          \
    }

const struct net_route openai_model_routes[] = {
    {NET_GET, "/v1/models", NET_BODY_NONE, 0, false, get_models, "listModels", INFO("All models")},
    {NET_GET, "/v1/models/{model}", NET_BODY_NONE, 0, false, get_model, "retrieveModel",
     INFO("A model, and its state as TF Serving and KServe have it")},
    ASK("/v1/chat/completions", "createChatCompletion", "Answers a conversation"),
    ASK("/v1/completions", "createCompletion", "Goes on with a text"),
    ASK("/v1/embeddings", "createEmbedding", "Texts as vectors"),
    ASK("/v1/moderations", "createModeration", "Judges a text"),
    ASK("/v1/responses", "createResponse", "Answers a request of the Responses API"),
    {0},
};
