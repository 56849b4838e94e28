/* SPDX-License-Identifier: Apache-2.0 */
/* refuse.c - errors as answers, each dialect's clients in the shape that they read. */
#include "server/app.h"

#include "format/encode.h"

#include <stdarg.h>
#include <stdio.h>

struct refusal {
    int status;
    const char *code, *param; /* NULL: none */
    const char *message;
    const char *request_id;
};

static void put_string(struct buffer *out, const char *text)
{
    if (text == NULL)
        buffer_text(out, "null");
    else
        format_json_string(out, text, strlen(text));
}

/* What a client that goes by names is told of a status; the last row is for all others. */
struct status_name {
    int status;
    const char *name;
};

static const char *name_of(const struct status_name *names, int status)
{
    while (names->status != 0 && names->status != status) names++;
    return names->name;
}

static void write_openai(const struct refusal *refusal, struct buffer *out)
{
    static const struct status_name names[] = {{429, "rate_limit_error"},
                                               {500, "server_error"},
                                               {503, "server_error"},
                                               {507, "server_error"},
                                               {0, "invalid_request_error"}};
    buffer_text(out, "{\"error\":{\"message\":");
    put_string(out, refusal->message);
    buffer_printf(out, ",\"type\":\"%s\",\"param\":", name_of(names, refusal->status));
    put_string(out, refusal->param);
    buffer_text(out, ",\"code\":");
    put_string(out, refusal->code);
    buffer_text(out, "}}\n");
}

static void write_anthropic(const struct refusal *refusal, struct buffer *out)
{
    static const struct status_name names[] = {{400, "invalid_request_error"},
                                               {401, "authentication_error"},
                                               {403, "permission_error"},
                                               {404, "not_found_error"},
                                               {413, "request_too_large"},
                                               {429, "rate_limit_error"},
                                               {503, "overloaded_error"},
                                               {500, "api_error"},
                                               {507, "api_error"},
                                               {0, "invalid_request_error"}};
    buffer_printf(out, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":",
                  name_of(names, refusal->status));
    put_string(out, refusal->message);
    buffer_text(out, "},\"request_id\":");
    put_string(out, refusal->request_id);
    buffer_text(out, "}\n");
}

static void write_plain(const struct refusal *refusal, struct buffer *out)
{
    buffer_text(out, "{\"error\":");
    put_string(out, refusal->message);
    buffer_text(out, "}\n");
}

static void write_torchserve(const struct refusal *refusal, struct buffer *out)
{
    static const struct status_name names[] = {
        {400, "BadRequestException"},       {404, "ResourceNotFoundException"},
        {405, "MethodNotAllowedException"}, {409, "ConflictStatusException"},
        {500, "InternalServerException"},   {503, "ServiceUnavailableException"},
        {0, "BadRequestException"}};
    buffer_printf(out, "{\"code\":%d,\"type\":\"%s\",\"message\":", refusal->status,
                  name_of(names, refusal->status));
    put_string(out, refusal->message);
    buffer_text(out, "}\n");
}

/* Paths that no route has are answered as the nearest dialect would. */
static enum dialect guess_dialect(struct slice path)
{
    static const struct {
        const char *prefix;
        enum dialect dialect;
    } prefixes[] = {{"/v2", DIALECT_KSERVE},
                    {"/v1/messages", DIALECT_ANTHROPIC},
                    {"/v1/models/", DIALECT_TFSERVING},
                    {"/predictions", DIALECT_TORCHSERVE}};
    for (size_t i = 0; i < COUNT_OF(prefixes); i++) {
        size_t size = strlen(prefixes[i].prefix);
        if (path.size >= size && memcmp(path.data, prefixes[i].prefix, size) == 0)
            return prefixes[i].dialect;
    }
    return DIALECT_OPENAI;
}

static enum dialect dialect_of(const struct exchange *exchange)
{
    const struct net_route *route = exchange_route(exchange);
    const struct route_info *info = route != NULL ? route->data : NULL;
    return info != NULL ? info->dialect : guess_dialect(exchange_path(exchange));
}

static void answer_refusal(struct exchange *exchange, const struct refusal *refusal)
{
    struct buffer out = {0};
    switch (dialect_of(exchange)) {
    case DIALECT_ANTHROPIC: write_anthropic(refusal, &out); break;
    case DIALECT_KSERVE:
    case DIALECT_TFSERVING: write_plain(refusal, &out); break;
    case DIALECT_TORCHSERVE: write_torchserve(refusal, &out); break;
    case DIALECT_TIDEMILL:
    case DIALECT_OPENAI: write_openai(refusal, &out); break;
    }
    exchange_answer_buffer(exchange, refusal->status, "application/json", &out);
}

void app_refuse(struct exchange *exchange, int status, const char *code, const char *param,
                const char *format, ...)
{
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    answer_refusal(exchange, &(struct refusal){.status = status,
                                               .code = code,
                                               .param = param,
                                               .message = message,
                                               .request_id = exchange_id(exchange)});
}

void app_refuse_status(struct exchange *exchange, int status, const char *message, void *context)
{
    (void)context;
    app_refuse(exchange, status, NULL, NULL, "%s", message);
}

int app_error_status(enum error_code code)
{
    switch (code) {
    case ERROR_NO_SPACE: return 507;
    case ERROR_MEMORY:
    case ERROR_LOCKED:
    case ERROR_UNREACHABLE:
    case ERROR_MODEL_LOAD:
    case ERROR_INTERRUPTED: return 503;
    case ERROR_EXISTS: return 409;
    case ERROR_RECORD_TOO_LONG: return 413;
    case ERROR_UNSUPPORTED: return 501;
    case ERROR_HOST_TIMEOUT: return 504;
    case ERROR_UPSTREAM: return 502;
    case ERROR_IO:
    case ERROR_CORRUPT:
    case ERROR_INTERNAL:
    case ERROR_HOST_FAILED:
    case ERROR_HOST_CRASHED:
    case ERROR_OUTPUT_NOT_FINITE:
    case ERROR_OUTPUT_TOO_LARGE: return 500;
    default: return 400;
    }
}

void app_refuse_error(struct exchange *exchange, tidemill_error *error)
{
    enum error_code code = error_code_of(error);
    int status = app_error_status(code);
    if (status >= 500) log_event(LOG_ERROR, "%s: %s", exchange_id(exchange), error_message(error));
    if (status == 503 || status == 507) exchange_set_header(exchange, "Retry-After", "5");
    app_refuse(exchange, status, error_code_name(code), NULL, "%s", error_message(error));
    error_free(error);
}

const struct caller *app_caller(struct exchange *exchange)
{
    return exchange_user(exchange);
}
