/* SPDX-License-Identifier: Apache-2.0 */
/* job_validate.c - checks every line of a batch's file, as OpenAI's Batch API has them:
 *
 *     {"custom_id":"a","method":"POST","url":"/v1/...","body":{"model":"m",...}}
 *
 * What is wrong becomes a list of {"code","message","param","line"}. Codes are those that clients of the
 * API are used to. */
#include "server/job_validate.h"

#include "format/decode_text.h"
#include "format/encode.h"
#include "job/job.h"
#include "server/job_lines.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include <yyjson.h>

#define MESSAGE_BYTES 512

struct pass {
    const struct validate_options *options;
    struct validation *result;
    struct id_set *ids;
    bool has_model; /* known, and the one of all lines */
};

void validation_free(struct validation *validation)
{
    buffer_free(&validation->errors);
    *validation = (struct validation){0};
}

/* --- complaints --------------------------------------------------------------------------------- */

__attribute__((format(printf, 5, 6))) static void complain(struct pass *pass, uint64_t line,
                                                           const char *code, const char *param,
                                                           const char *format, ...)
{
    char message[MESSAGE_BYTES];
    struct buffer *out = &pass->result->errors;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (pass->result->n_errors++ > 0) buffer_byte(out, ',');
    buffer_printf(out, "{\"code\":\"%s\",\"message\":", code);
    format_json_string(out, message, strlen(message));
    buffer_text(out, ",\"param\":");
    if (param == NULL)
        buffer_text(out, "null");
    else
        format_json_string(out, param, strlen(param));
    if (line > 0)
        buffer_printf(out, ",\"line\":%" PRIu64 "}", line);
    else
        buffer_text(out, ",\"line\":null}");
}

/* --- one line ----------------------------------------------------------------------------------- */

struct request {
    yyjson_val *custom_id, *method, *url, *body;
};

/* A name that comes twice leaves open which is meant. */
static bool take(yyjson_val **place, yyjson_val *value)
{
    if (*place != NULL) return false;
    *place = value;
    return true;
}

/* NULL, or the name that comes twice. */
static const char *read_members(yyjson_val *root, struct request *ret)
{
    yyjson_obj_iter members;
    yyjson_obj_iter_init(root, &members);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&members)) != NULL;) {
        yyjson_val *value = yyjson_obj_iter_get_val(key);
        const struct {
            const char *name;
            yyjson_val **place;
        } known[] = {{"custom_id", &ret->custom_id},
                     {"method", &ret->method},
                     {"url", &ret->url},
                     {"body", &ret->body}};
        for (size_t i = 0; i < COUNT_OF(known); i++)
            if (yyjson_equals_str(key, known[i].name) && !take(known[i].place, value))
                return known[i].name;
    }
    return NULL;
}

static tidemill_error *check_id(struct pass *pass, uint64_t line, yyjson_val *id)
{
    uint64_t first;
    if (id == NULL || !yyjson_is_str(id) || yyjson_get_len(id) == 0) {
        complain(pass, line, id == NULL ? "missing_required_parameter" : "invalid_custom_id",
                 "custom_id", "custom_id must be a string that is not empty.");
        return NULL;
    }
    struct slice text = {yyjson_get_str(id), yyjson_get_len(id)};
    TRY(id_set_add(pass->ids, text, line, &first));
    if (first > 0)
        complain(pass, line, "duplicate_custom_id", "custom_id",
                 "custom_id '%.*s' is on line %" PRIu64 " already; each must be there once.",
                 (int)MIN(text.size, (size_t)64), text.data, first);
    return NULL;
}

static void check_target(struct pass *pass, uint64_t line, const struct request *request)
{
    const char *endpoint = pass->options->endpoint;
    if (request->method == NULL)
        complain(pass, line, "missing_required_parameter", "method", "method must be \"POST\".");
    else if (!yyjson_equals_str(request->method, "POST"))
        complain(pass, line, "invalid_method", "method", "method must be \"POST\".");
    if (request->url == NULL)
        complain(pass, line, "missing_required_parameter", "url", "url must be the endpoint%s%s.",
                 endpoint != NULL ? " " : "", endpoint != NULL ? endpoint : "");
    else if (!yyjson_is_str(request->url) ||
             (endpoint != NULL && !yyjson_equals_str(request->url, endpoint)))
        complain(pass, line, "invalid_url", "url", "url must be the batch's endpoint%s%s.",
                 endpoint != NULL ? ", " : "", endpoint != NULL ? endpoint : "");
}

/* The first line's model is looked up, the others must be the same. */
static void check_model(struct pass *pass, uint64_t line, yyjson_val *model)
{
    struct validation *result = pass->result;
    const char *name = yyjson_get_str(model);
    if (name == NULL) {
        complain(pass, line, "missing_required_parameter", "body.model",
                 "body.model must name a model of this server.");
        return;
    }
    bool is_first = result->model[0] == '\0';
    if (!is_first && !yyjson_equals_str(model, result->model)) {
        complain(pass, line, "mismatched_model", "body.model",
                 "body.model is '%.64s' and the batch's is '%s'; all lines must have one model.",
                 name, result->model);
        return;
    }
    if (pass->has_model) return;
    pass->has_model = strlen(name) == yyjson_get_len(model) && strlen(name) < STORE_NAME_BYTES &&
                      pass->options->is_known(pass->options->context, name);
    if (!pass->has_model)
        complain(pass, line, "model_not_found", "body.model",
                 "The model '%.64s' is none of this server's; GET /v1/models lists them.", name);
    else
        memcpy(result->model, name, strlen(name) + 1);
}

static void check_body(struct pass *pass, uint64_t line, yyjson_val *body)
{
    if (body == NULL || !yyjson_is_obj(body)) {
        complain(pass, line, body == NULL ? "missing_required_parameter" : "invalid_body", "body",
                 "body must be a JSON object: the request.");
        return;
    }
    check_model(pass, line, yyjson_obj_get(body, "model"));
    if (yyjson_is_true(yyjson_obj_get(body, "stream")))
        complain(pass, line, "invalid_request", "body.stream",
                 "stream must be false or absent in a batch.");
}

static void not_json(struct pass *pass, uint64_t line, const char *why)
{
    complain(pass, line, "invalid_json_line", NULL, "This line is not a JSON object: %s.", why);
}

static tidemill_error *check_record(struct pass *pass, uint64_t line, struct slice bytes)
{
    yyjson_read_err problem = {0};
    struct request request = {0};
    if (json_depth(bytes.data, bytes.size, JSON_DEPTH_MAX) > JSON_DEPTH_MAX) {
        not_json(pass, line, "it is nested too deeply");
        return NULL;
    }
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)bytes.data, bytes.size,
                                       YYJSON_READ_NUMBER_AS_RAW, NULL, &problem);
    yyjson_val *root = yyjson_doc_get_root(doc);
    const char *twice = yyjson_is_obj(root) ? read_members(root, &request) : NULL;
    tidemill_error *error = NULL;
    if (doc == NULL)
        not_json(pass, line, problem.msg);
    else if (!yyjson_is_obj(root))
        not_json(pass, line, "it is another value");
    else if (twice != NULL)
        complain(pass, line, "invalid_json_line", twice, "%s is there twice.", twice);
    else {
        error = check_id(pass, line, request.custom_id);
        check_target(pass, line, &request);
        check_body(pass, line, request.body);
    }
    yyjson_doc_free(doc);
    return error;
}

static tidemill_error *check_line(struct pass *pass, const struct raw_record *raw)
{
    pass->result->records++;
    pass->result->bytes += raw->size + 1;
    if (raw->error == ERROR_OK) return check_record(pass, raw->line, raw->bytes);
    complain(pass, raw->line, "line_too_long", NULL,
             "This line has %" PRIu64 " bytes; at most %zu are allowed.", raw->size,
             pass->options->line_bytes_max);
    return NULL;
}

/* --- the file ----------------------------------------------------------------------------------- */

static bool is_stopped(const struct validate_options *options)
{
    return options->stop != NULL && atomic_load(options->stop) != 0;
}

static tidemill_error *check_lines(struct pass *pass, struct job_lines *lines)
{
    const struct raw_record *raw;
    for (;;) {
        TRY(job_lines_next(lines, &raw));
        if (raw == NULL || pass->result->n_errors >= VALIDATE_ERRORS_MAX) return NULL;
        if (is_stopped(pass->options))
            return error_new(ERROR_INTERRUPTED, "the batch's file was not read to its end");
        TRY(check_line(pass, raw));
    }
}

static tidemill_error *check_file(struct pass *pass)
{
    struct job_lines lines = {0};
    const struct validate_options *options = pass->options;
    tidemill_error *error =
        job_lines_open(options->io, options->path, options->line_bytes_max, &lines);
    if (error == NULL) error = check_lines(pass, &lines);
    job_lines_close(&lines);
    if (error == NULL && pass->result->records == 0)
        complain(pass, 0, "empty_file", NULL, "The file has no requests in it.");
    return error;
}

tidemill_error *job_validate(const struct validate_options *options, struct validation *ret)
{
    *ret = (struct validation){0};
    struct pass pass = {.options = options, .result = ret, .ids = id_set_new()};
    if (pass.ids == NULL) return error_memory();
    memcpy(ret->model, options->model, strnlen(options->model, STORE_NAME_BYTES - 1));
    buffer_byte(&ret->errors, '[');
    tidemill_error *error = check_file(&pass);
    id_set_free(pass.ids);
    buffer_append(&ret->errors, "]", 2);
    if (error == NULL && ret->errors.is_failed) error = error_memory();
    return error;
}
