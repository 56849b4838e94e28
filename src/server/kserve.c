/* SPDX-License-Identifier: Apache-2.0 */
/* kserve.c - the routes of KServe's V2 protocol, as Triton's clients speak it. Models have one version, "1".
 *
 * A model counts as ready unless it just failed to load: it is loaded when it is first asked, and a client
 * that waits until it is ready would wait for ever. */
#include "server/kserve.h"

#include "server/routes.h"
#include "server/sync.h"

#include "format/encode.h"

#include <stdlib.h>

static const char *platform_of(const struct model_config *config)
{
    switch (model_kind(config->spec.model)) {
    case MODEL_ONNX: return "onnxruntime_onnx";
    case MODEL_LLAMA: return "llama_cpp";
    case MODEL_EXEC: return "exec";
    case MODEL_HTTP: return "upstream";
    case MODEL_ECHO: return "echo";
    }
    return "unknown";
}

static void answer_text(struct exchange *exchange, const char *text)
{
    exchange_answer(exchange, 200, "application/json", text, strlen(text));
}

/* --- the server ------------------------------------------------------------------------------------------- */

static void get_server(struct exchange *exchange, void *context)
{
    (void)context;
    answer_text(exchange, "{\"name\":\"tidemill\",\"version\":\"" TIDEMILL_VERSION
                          "\",\"extensions\":[\"binary_tensor_data\",\"model_configuration\"]}");
}

static void get_live(struct exchange *exchange, void *context)
{
    (void)context;
    answer_text(exchange, "{\"live\":true}");
}

static void get_ready(struct exchange *exchange, void *context)
{
    const struct app *app = context;
    if (app->is_stopping)
        app_refuse(exchange, 503, NULL, NULL, "the server is stopping");
    else
        answer_text(exchange, "{\"ready\":true}");
}

/* --- models ------------------------------------------------------------------------------------------------ */

static bool check(struct app *app, struct exchange *exchange, size_t n_captures)
{
    const char *model = exchange_capture(exchange, 0);
    return sync_check_model(app, exchange, model) &&
           sync_check_version(exchange, model,
                              n_captures > 1 ? exchange_capture(exchange, 1) : NULL);
}

static void answer_ready(struct app *app, struct exchange *exchange, size_t n_captures)
{
    struct buffer out = {0};
    const char *model = exchange_capture(exchange, 0);
    if (!check(app, exchange, n_captures)) return;
    if (!serving_is_ready(app->serving, model)) {
        app_refuse(exchange, 503, NULL, NULL, "model '%.100s' is not ready: it did not load",
                   model);
        return;
    }
    buffer_text(&out, "{\"name\":");
    format_json_string(&out, model, strlen(model));
    buffer_text(&out, ",\"ready\":true}");
    exchange_answer_buffer(exchange, 200, "application/json", &out);
}

/* Who asks about a model before it is loaded gets the answer when it is. */
struct question {
    struct exchange *exchange;
    const struct model_config *config;
    bool is_config;
    struct serving_waiter waiter;
};

static void answer_question(struct serving_waiter *waiter)
{
    struct question *question = waiter->context;
    struct buffer out = {0};
    const char *platform = platform_of(question->config);
    if (waiter->error != NULL) {
        app_refuse_error(question->exchange, waiter->error);
    } else {
        if (question->is_config)
            kserve_put_config(question->config, platform, waiter->signature, &out);
        else
            kserve_put_metadata(question->config->name, platform, waiter->signature, &out);
        exchange_answer_buffer(question->exchange, 200, "application/json", &out);
    }
    free(question);
}

static void answer_about(struct app *app, struct exchange *exchange, size_t n_captures,
                         bool is_config)
{
    if (!check(app, exchange, n_captures)) return;
    struct question *question = calloc(1, sizeof *question);
    if (question == NULL) {
        app_refuse_error(exchange, error_memory());
        return;
    }
    question->exchange = exchange;
    question->config = serving_model(app->serving, exchange_capture(exchange, 0));
    question->is_config = is_config;
    question->waiter = (struct serving_waiter){
        .model = question->config->name, .ready = answer_question, .context = question};
    serving_when_known(app->serving, &question->waiter);
}

static void get_model_ready(struct exchange *exchange, void *app)
{
    answer_ready(app, exchange, 1);
}
static void get_version_ready(struct exchange *exchange, void *app)
{
    answer_ready(app, exchange, 2);
}
static void get_model(struct exchange *exchange, void *app)
{
    answer_about(app, exchange, 1, false);
}
static void get_version(struct exchange *exchange, void *app)
{
    answer_about(app, exchange, 2, false);
}
static void get_config(struct exchange *exchange, void *app)
{
    answer_about(app, exchange, 1, true);
}
static void get_version_config(struct exchange *exchange, void *app)
{
    answer_about(app, exchange, 2, true);
}

static void post_index(struct exchange *exchange, void *context)
{
    struct app *app = context;
    const struct server_config *config = app->config;
    struct buffer out = {0};
    const char *comma = "";
    buffer_byte(&out, '[');
    for (size_t i = 0; i < config->n_models; i++) {
        const char *name = config->models[i].name;
        if (serving_model(app->serving, name) == NULL) continue;
        bool is_ready = serving_is_ready(app->serving, name);
        buffer_printf(&out, "%s{\"name\":", comma);
        format_json_string(&out, name, strlen(name));
        buffer_printf(&out, ",\"version\":\"1\",\"state\":\"%s\",\"reason\":\"%s\"}",
                      is_ready ? "READY" : "UNAVAILABLE", is_ready ? "" : "it did not load");
        comma = ",";
    }
    buffer_byte(&out, ']');
    exchange_answer_buffer(exchange, 200, "application/json", &out);
}

/* --- inference ----------------------------------------------------------------------------------------------- */

static tidemill_error *parse(struct sync *sync, struct kserve_request **ret)
{
    struct kserve_request *request = arena_calloc(&sync->arena, 1, sizeof *request);
    if (request == NULL) return error_memory();
    tidemill_error *error = kserve_read(sync->body, sync->header_bytes, &sync->arena, request);
    sync->doc = request->doc;
    *ret = request;
    return error;
}

static tidemill_error *read_request(struct sync *sync)
{
    struct kserve_request *request = NULL;
    TRY(parse(sync, &request));
    TRY(kserve_fit(request, sync->signature));
    TRY(sync_make_calls(sync, 1));
    sync->calls[0].inputs = request->inputs;
    sync->calls[0].n_inputs = request->n_inputs;
    sync->own = request;
    return NULL;
}

static tidemill_error *write_answer(struct sync *sync, struct buffer *out)
{
    TRY(kserve_write(sync->own, sync->model, sync->signature, sync->calls[0].values, out,
                     &sync->answer_header));
    if (sync->answer_header > 0) sync->answer_type = "application/octet-stream";
    return NULL;
}

static tidemill_error *put_lines(struct sync *sync, struct buffer *out, uint64_t *ret_n)
{
    struct kserve_request *request = NULL;
    TRY(parse(sync, &request));
    return kserve_lines(request, sync->signature, out, ret_n);
}

static const struct sync_dialect kserve = {
    .dialect = DIALECT_KSERVE, .read = read_request, .write = write_answer, .lines = put_lines};

/* -1: there is no such header. False: it was refused. */
static bool read_header_bytes(struct exchange *exchange, int64_t *ret)
{
    const char *text = exchange_header(exchange, "inference-header-content-length");
    char *end;
    *ret = -1;
    if (text == NULL) return true;
    *ret = strtoll(text, &end, 10);
    if (*text >= '0' && *text <= '9' && *end == '\0' && *ret >= 0 && *ret < INT64_MAX) return true;
    app_refuse(exchange, 400, NULL, NULL, "'Inference-Header-Content-Length' is '%.40s', no size",
               text);
    return false;
}

static bool check_encoding(struct exchange *exchange)
{
    const char *encoding = exchange_header(exchange, "content-encoding");
    if (encoding == NULL || strcmp(encoding, "identity") == 0) return true;
    app_refuse(exchange, 415, NULL, NULL, "bodies in the encoding '%.40s' are not taken", encoding);
    return false;
}

static void infer(struct app *app, struct exchange *exchange, size_t n_captures)
{
    int64_t header_bytes;
    const char *model = exchange_capture(exchange, 0);
    const char *version = n_captures > 1 ? exchange_capture(exchange, 1) : NULL;
    if (!sync_check_version(exchange, model, version) || !check_encoding(exchange) ||
        !read_header_bytes(exchange, &header_bytes))
        return;
    sync_begin(app, exchange, &kserve, model, header_bytes, NULL);
}

static void post_infer(struct exchange *exchange, void *app)
{
    infer(app, exchange, 1);
}
static void post_version_infer(struct exchange *exchange, void *app)
{
    infer(app, exchange, 2);
}

/* --- the table --------------------------------------------------------------------------------------------------- */

#define INFO(access, is_quiet, summary)                                                            \
    &(const struct route_info)                                                                     \
    {                                                                                              \
        DIALECT_KSERVE, access, summary, is_quiet                                                  \
    }

const struct net_route kserve_routes[] = {
    {NET_GET, "/v2", NET_BODY_NONE, 0, false, get_server, "kserveServerMetadata",
     INFO(ROUTE_OPEN, true, "The server's name, version, extensions")},
    {NET_GET, "/v2/health/live", NET_BODY_NONE, 0, false, get_live, "kserveServerLive",
     INFO(ROUTE_OPEN, true, "Whether the server lives")},
    {NET_GET, "/v2/health/ready", NET_BODY_NONE, 0, false, get_ready, "kserveServerReady",
     INFO(ROUTE_OPEN, true, "Whether the server takes requests")},
    {NET_GET, "/v2/models/{model}", NET_BODY_NONE, 0, false, get_model, "kserveModelMetadata",
     INFO(ROUTE_USER, false, "A model's inputs and outputs; loads it")},
    {NET_GET, "/v2/models/{model}/versions/{version}", NET_BODY_NONE, 0, false, get_version,
     "kserveModelVersionMetadata", INFO(ROUTE_USER, false, "The same of a version")},
    {NET_GET, "/v2/models/{model}/ready", NET_BODY_NONE, 0, false, get_model_ready,
     "kserveModelReady", INFO(ROUTE_USER, true, "Whether the model may be asked")},
    {NET_GET, "/v2/models/{model}/versions/{version}/ready", NET_BODY_NONE, 0, false,
     get_version_ready, "kserveModelVersionReady", INFO(ROUTE_USER, true, "The same of a version")},
    {NET_GET, "/v2/models/{model}/config", NET_BODY_NONE, 0, false, get_config, "kserveModelConfig",
     INFO(ROUTE_USER, false, "A model's configuration, as Triton has it")},
    {NET_GET, "/v2/models/{model}/versions/{version}/config", NET_BODY_NONE, 0, false,
     get_version_config, "kserveModelVersionConfig",
     INFO(ROUTE_USER, false, "The same of a version")},
    {NET_POST, "/v2/models/{model}/infer", NET_BODY_WHOLE, 0, true, post_infer, "kserveInfer",
     INFO(ROUTE_USER, false, "Runs the model on tensors, JSON or binary")},
    {NET_POST, "/v2/models/{model}/versions/{version}/infer", NET_BODY_WHOLE, 0, true,
     post_version_infer, "kserveVersionInfer", INFO(ROUTE_USER, false, "The same of a version")},
    {NET_POST, "/v2/repository/index", NET_BODY_WHOLE, 4096, true, post_index,
     "kserveRepositoryIndex", INFO(ROUTE_USER, true, "All models that answer at once")},
    {0},
};
