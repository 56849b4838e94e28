/* SPDX-License-Identifier: Apache-2.0 */
/* torchserve.c - TorchServe's inference protocol. A body is one record, as `tidemill run` reads it: an object
 * with the model's inputs, or the value of its only input. Several files of a form are several records,
 * and the answers a list. What is no JSON goes as it is to a model that takes one string.
 *
 * Answers are a prediction as TF Serving has it: the value of the only output, or an object of all. */
#include "format/encode.h"
#include "server/openapi.h"
#include "server/routes.h"
#include "server/sync.h"
#include "server/tensor_json.h"
#include "server/tfserving.h"

#include <stdlib.h>
#include <strings.h>

#define FORM_PARTS_MAX ((size_t)64)

/* --- the body --------------------------------------------------------------------------------------------------- */

struct torch_request {
    struct buffer bytes; /* all records, one behind another */
    size_t ends[FORM_PARTS_MAX];
    size_t n;
    size_t bytes_max;
    bool is_list; /* several files: the answer is a list */
    struct tf_request *rows;
};

static struct slice record_of(const struct torch_request *torch, size_t i)
{
    size_t start = i == 0 ? 0 : torch->ends[i - 1];
    return (struct slice){torch->bytes.data == NULL ? "" : torch->bytes.data + start,
                          torch->ends[i] - start};
}

static void release(void *own)
{
    struct torch_request *torch = own;
    buffer_free(&torch->bytes);
    free(torch);
}

static const struct value_spec *only_input(const struct model_signature *signature)
{
    return signature->n_inputs == 1 ? &signature->inputs[0] : NULL;
}

static bool takes_bytes(const struct model_signature *signature)
{
    const struct value_spec *spec = only_input(signature);
    return spec != NULL && spec->type == TENSOR_STRING && !spec->is_json;
}

/* The bytes as the model's one string. */
static tidemill_error *read_bytes(struct sync *sync, struct slice record, struct tf_request *ret)
{
    const struct value_spec *spec = only_input(sync->signature);
    struct serving_input *input = arena_calloc(&sync->arena, 1, sizeof *input);
    struct tf_call *call = arena_calloc(&sync->arena, 1, sizeof *call);
    uint32_t size = (uint32_t)record.size;
    unsigned char *data = arena_alloc(&sync->arena, sizeof size + record.size);
    if (input == NULL || call == NULL || data == NULL) return error_memory();
    memcpy(data, &size, sizeof size);
    if (record.size > 0) memcpy(data + sizeof size, record.data, record.size);
    *input = (struct serving_input){.name = spec->name, .type = TENSOR_STRING, .data = data};
    input->bytes = sizeof size + record.size;
    input->shape.rank = MAX(spec->shape.rank, sync->signature->is_batched ? 1 : 0);
    for (int32_t d = 0; d < input->shape.rank; d++) input->shape.dims[d] = 1;
    *call = (struct tf_call){.inputs = input, .n_inputs = 1};
    *ret = (struct tf_request){.is_single = true, .n_rows = 1, .calls = call, .n_calls = 1};
    return NULL;
}

static tidemill_error *read_record(struct sync *sync, struct slice record, struct tf_request *ret)
{
    tidemill_error *error = tf_read_single(record, sync->signature, &sync->arena, ret);
    /* Only the calls' names are looked at later, and they are the signature's. */
    yyjson_doc_free(ret->doc);
    ret->doc = NULL;
    bool is_no_json =
        error_code_of(error) == ERROR_INVALID_JSON || error_code_of(error) == ERROR_INVALID_UTF8;
    if (!is_no_json || !takes_bytes(sync->signature) || record.size > UINT32_MAX) return error;
    error_free(error);
    return read_bytes(sync, record, ret);
}

static tidemill_error *read_request(struct sync *sync)
{
    struct torch_request *torch = sync->own;
    torch->rows = arena_calloc(&sync->arena, torch->n + 1, sizeof *torch->rows);
    if (torch->rows == NULL) return error_memory();
    for (size_t i = 0; i < torch->n; i++)
        TRY(read_record(sync, record_of(torch, i), &torch->rows[i]));
    TRY(sync_make_calls(sync, torch->n));
    for (size_t i = 0; i < torch->n; i++) {
        sync->calls[i].inputs = torch->rows[i].calls[0].inputs;
        sync->calls[i].n_inputs = torch->rows[i].calls[0].n_inputs;
    }
    return NULL;
}

static tidemill_error *write_answer(struct sync *sync, struct buffer *out)
{
    const struct torch_request *torch = sync->own;
    if (torch->is_list) buffer_byte(out, '[');
    for (size_t i = 0; i < torch->n; i++) {
        if (i > 0) buffer_byte(out, ',');
        TRY(tf_write(&torch->rows[i], sync->signature, &sync->calls[i].values, out));
    }
    if (torch->is_list) buffer_byte(out, ']');
    return NULL;
}

static tidemill_error *put_lines(struct sync *sync, struct buffer *out, uint64_t *ret_n)
{
    const struct torch_request *torch = sync->own;
    for (size_t i = 0; i < torch->n; i++) {
        yyjson_doc *doc;
        TRY(json_body_read(record_of(torch, i), &doc));
        json_put(out, yyjson_doc_get_root(doc));
        buffer_byte(out, '\n');
        yyjson_doc_free(doc);
    }
    *ret_n = torch->n;
    return NULL;
}

static const struct sync_dialect torchserve = {.dialect = DIALECT_TORCHSERVE,
                                               .read = read_request,
                                               .write = write_answer,
                                               .lines = put_lines,
                                               .release = release};

/* --- taking the body -------------------------------------------------------------------------------------------- */

static tidemill_error *take_data(void *context, const void *data, size_t size)
{
    struct torch_request *torch = context;
    if (size > torch->bytes_max - MIN(torch->bytes.size, torch->bytes_max))
        return error_new(ERROR_RECORD_TOO_LONG, "the body is larger than %zu bytes",
                         torch->bytes_max);
    buffer_append(&torch->bytes, data, size);
    return torch->bytes.is_failed ? error_memory() : NULL;
}

static tidemill_error *begin_part(void *context, const char *name, const char *filename)
{
    struct torch_request *torch = context;
    (void)name, (void)filename;
    if (torch->n == FORM_PARTS_MAX)
        return error_new(ERROR_INPUT, "a form of more than %zu parts", FORM_PARTS_MAX);
    return NULL;
}

static tidemill_error *end_part(void *context)
{
    struct torch_request *torch = context;
    torch->ends[torch->n++] = torch->bytes.size;
    torch->is_list = torch->n > 1;
    return NULL;
}

static tidemill_error *take_whole(struct exchange *exchange, struct torch_request *torch)
{
    char piece[16384];
    size_t size;
    do {
        TRY(exchange_read(exchange, piece, sizeof piece, &size));
        TRY(take_data(torch, piece, size));
    } while (size > 0);
    return end_part(torch);
}

static bool is_form(const struct exchange *exchange)
{
    const char *type = exchange_header(exchange, "content-type");
    return type != NULL && strncasecmp(type, "multipart/form-data", 19) == 0;
}

static tidemill_error *take_body(struct exchange *exchange, struct torch_request *torch)
{
    const struct net_form form = {
        .context = torch, .begin = begin_part, .data = take_data, .end = end_part};
    if (!is_form(exchange)) return take_whole(exchange, torch);
    TRY(exchange_read_form(exchange, &form));
    return torch->n > 0 ? NULL : error_new(ERROR_WRONG_TYPE, "the form has no part");
}

static void predict(struct app *app, struct exchange *exchange, const char *version)
{
    const char *model = exchange_capture(exchange, 0);
    const struct server_config *config = app->config;
    if (!sync_check_version(exchange, model, version)) return;
    struct torch_request *torch = calloc(1, sizeof *torch);
    if (torch == NULL) {
        app_refuse_error(exchange, error_memory());
        return;
    }
    torch->bytes_max = config->body_bytes_max > 0 ? (size_t)config->body_bytes_max : SIZE_MAX;
    tidemill_error *error = take_body(exchange, torch);
    if (error != NULL) {
        release(torch);
        app_refuse_error(exchange, error);
        return;
    }
    sync_begin(app, exchange, &torchserve, model, -1, torch);
}

static void post_prediction(struct exchange *exchange, void *app)
{
    predict(app, exchange, NULL);
}

static void post_version_prediction(struct exchange *exchange, void *app)
{
    predict(app, exchange, exchange_capture(exchange, 1));
}

/* --- about the server ---------------------------------------------------------------------------------------------- */

static void get_ping(struct exchange *exchange, void *context)
{
    static const char healthy[] = "{\"status\":\"Healthy\"}\n";
    const struct app *app = context;
    if (app->is_stopping)
        app_refuse(exchange, 503, NULL, NULL, "the server is stopping");
    else
        exchange_answer(exchange, 200, "application/json", healthy, strlen(healthy));
}

static void get_models(struct exchange *exchange, void *context)
{
    struct app *app = context;
    const struct server_config *config = app->config;
    struct buffer out = {0};
    const char *comma = "";
    buffer_text(&out, "{\"models\":[");
    for (size_t i = 0; i < config->n_models; i++) {
        const char *name = config->models[i].name;
        if (serving_model(app->serving, name) == NULL) continue;
        buffer_printf(&out, "%s{\"modelName\":", comma);
        format_json_string(&out, name, strlen(name));
        buffer_text(&out, ",\"modelUrl\":\"\"}");
        comma = ",";
    }
    buffer_text(&out, "]}\n");
    exchange_answer_buffer(exchange, 200, "application/json", &out);
}

static void get_description(struct exchange *exchange, void *context)
{
    struct app *app = context;
    const char *model = exchange_capture(exchange, 0);
    struct buffer out = {0};
    if (!sync_check_model(app, exchange, model)) return;
    const struct model_config *config = serving_model(app->serving, model);
    buffer_text(&out, "[{\"modelName\":");
    format_json_string(&out, model, strlen(model));
    buffer_printf(&out,
                  ",\"modelVersion\":\"1\",\"minWorkers\":1,\"maxWorkers\":%lld,\"batchSize\":%lld,"
                  "\"maxBatchDelay\":%lld,\"loadedAtStartup\":false,\"workers\":[]}]\n",
                  (long long)MAX(config->spec.instances, INT64_C(1)), (long long)config->max_batch,
                  (long long)(config->max_delay_us / 1000));
    exchange_answer_buffer(exchange, 200, "application/json", &out);
}

static void get_options(struct exchange *exchange, void *context)
{
    const struct app *app = context;
    struct buffer out = {0};
    openapi_write(app->routes, app->n_routes, &out);
    exchange_answer_buffer(exchange, 200, "application/json", &out);
}

/* --- the table -------------------------------------------------------------------------------------------------------- */

#define INFO(access, is_quiet, summary)                                                            \
    &(const struct route_info)                                                                     \
    {                                                                                              \
        DIALECT_TORCHSERVE, access, summary, is_quiet                                              \
    }

const struct net_route torchserve_routes[] = {
    {NET_GET, "/ping", NET_BODY_NONE, 0, false, get_ping, "torchPing",
     INFO(ROUTE_OPEN, true, "Whether the server is healthy")},
    {NET_POST, "/predictions/{model}", NET_BODY_STREAM, 0, true, post_prediction, "torchPredict",
     INFO(ROUTE_USER, false, "A record's prediction; a form's files are a record each")},
    {NET_POST, "/predictions/{model}/{version}", NET_BODY_STREAM, 0, true, post_version_prediction,
     "torchVersionPredict", INFO(ROUTE_USER, false, "The same of a version")},
    {NET_GET, "/models", NET_BODY_NONE, 0, false, get_models, "torchModels",
     INFO(ROUTE_USER, true, "All models that answer at once")},
    {NET_GET, "/models/{model}", NET_BODY_NONE, 0, false, get_description, "torchModel",
     INFO(ROUTE_USER, true, "A model's workers and batches")},
    {NET_OPTIONS, "/", NET_BODY_NONE, 0, true, get_options, "torchOptions",
     INFO(ROUTE_OPEN, true, "This interface, as an OpenAPI document")},
    {0},
};
