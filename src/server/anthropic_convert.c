/* SPDX-License-Identifier: Apache-2.0 */
/* anthropic_convert.c - see anthropic_convert.h. */
#include "server/anthropic_convert.h"

#include "format/encode.h"

#include <stdlib.h>

#define CUSTOM_ID_MAX 64

static void put_text(struct buffer *out, const char *text)
{
    format_json_string(out, text, strlen(text));
}

static void put_value(struct buffer *out, yyjson_val *value)
{
    size_t size;
    char *text = yyjson_val_write(value, 0, &size);
    if (text == NULL)
        out->is_failed = true;
    else
        buffer_append(out, text, size);
    free(text);
}

/* --- a request ---------------------------------------------------------------------------------- */

static bool is_custom_id(const char *text)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    size_t size = text != NULL ? strlen(text) : 0;
    return size > 0 && size <= CUSTOM_ID_MAX && strspn(text, allowed) == size;
}

/* Text, or a list of blocks of text, as one string; false: something else is in it. */
static bool put_content(struct buffer *out, yyjson_val *content)
{
    struct buffer joined = {0};
    size_t i, n;
    yyjson_val *block;
    if (yyjson_is_str(content)) {
        format_json_string(out, yyjson_get_str(content), yyjson_get_len(content));
        return true;
    }
    if (!yyjson_is_arr(content)) return false;
    yyjson_arr_foreach(content, i, n, block)
    {
        yyjson_val *text = yyjson_obj_get(block, "text");
        if (!yyjson_equals_str(yyjson_obj_get(block, "type"), "text") || !yyjson_is_str(text)) {
            buffer_free(&joined);
            return false;
        }
        buffer_append(&joined, yyjson_get_str(text), yyjson_get_len(text));
    }
    format_json_string(out, joined.data != NULL ? joined.data : "", joined.size);
    out->is_failed |= joined.is_failed;
    buffer_free(&joined);
    return true;
}

static bool put_message(struct buffer *out, const char *role, yyjson_val *content)
{
    buffer_text(out, "{\"role\":");
    put_text(out, role);
    buffer_text(out, ",\"content\":");
    bool is_text = put_content(out, content);
    buffer_byte(out, '}');
    return is_text;
}

/* NULL, or why not. */
static const char *put_messages(struct buffer *out, yyjson_val *params)
{
    yyjson_val *system = yyjson_obj_get(params, "system"), *message;
    yyjson_val *messages = yyjson_obj_get(params, "messages");
    size_t i, n;
    bool is_first = true;
    if (yyjson_arr_size(messages) == 0) return "messages: at least one message is required";
    buffer_text(out, ",\"messages\":[");
    if (system != NULL) {
        if (!put_message(out, "system", system)) return "system: only text is supported";
        is_first = false;
    }
    yyjson_arr_foreach(messages, i, n, message)
    {
        const char *role = yyjson_get_str(yyjson_obj_get(message, "role"));
        if (role == NULL || (strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0))
            return "messages: role must be user or assistant";
        if (!is_first) buffer_byte(out, ',');
        is_first = false;
        if (!put_message(out, role, yyjson_obj_get(message, "content")))
            return "messages: only text is supported";
    }
    buffer_byte(out, ']');
    return NULL;
}

static const char *put_body(struct buffer *out, yyjson_val *params)
{
    static const struct {
        const char *ours, *theirs;
    } numbers[] = {{"max_tokens", "max_tokens"},
                   {"temperature", "temperature"},
                   {"top_p", "top_p"},
                   {"top_k", "top_k"},
                   {"stop", "stop_sequences"}};
    static const char *const refused[] = {"tools", "tool_choice", "thinking", "mcp_servers",
                                          "container"};
    yyjson_val *max = yyjson_obj_get(params, "max_tokens");
    if (!yyjson_is_uint(max) || yyjson_get_uint(max) == 0)
        return "max_tokens: a number of at least 1 is required";
    if (yyjson_is_true(yyjson_obj_get(params, "stream"))) return "stream: not in a batch";
    for (size_t i = 0; i < COUNT_OF(refused); i++)
        if (yyjson_obj_get(params, refused[i]) != NULL)
            return "tools, thinking and containers are not supported";
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        yyjson_val *value = yyjson_obj_get(params, numbers[i].theirs);
        if (value == NULL || yyjson_is_null(value) || yyjson_arr_size(value) > 4) continue;
        if (yyjson_is_arr(value) && yyjson_arr_size(value) == 0) continue;
        buffer_printf(out, ",\"%s\":", numbers[i].ours);
        put_value(out, value);
    }
    return put_messages(out, params);
}

tidemill_error *anthropic_line(yyjson_val *request, struct buffer *out)
{
    const char *custom_id = yyjson_get_str(yyjson_obj_get(request, "custom_id"));
    yyjson_val *params = yyjson_obj_get(request, "params");
    const char *model = yyjson_get_str(yyjson_obj_get(params, "model"));
    struct buffer body = {0};
    if (!is_custom_id(custom_id))
        return error_new(ERROR_USAGE, "custom_id must be 1 to %d characters of [a-zA-Z0-9_-]",
                         CUSTOM_ID_MAX);
    if (model == NULL) return error_new(ERROR_USAGE, "%s: params.model is required", custom_id);
    const char *problem = put_body(&body, params);
    if (problem != NULL) {
        buffer_free(&body);
        return error_new(ERROR_USAGE, "%s: %s", custom_id, problem);
    }
    buffer_printf(out,
                  "{\"custom_id\":\"%s\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",",
                  custom_id);
    buffer_text(out, "\"body\":{\"model\":");
    put_text(out, model);
    buffer_append(out, body.data, body.size);
    buffer_text(out, "}}\n");
    out->is_failed |= body.is_failed;
    buffer_free(&body);
    return out->is_failed ? error_memory() : NULL;
}

/* --- a result ----------------------------------------------------------------------------------- */

static const char *stop_reason(const char *finish)
{
    if (finish != NULL && strcmp(finish, "length") == 0) return "max_tokens";
    if (finish != NULL && strcmp(finish, "content_filter") == 0) return "refusal";
    return "end_turn";
}

/* The id of the answer with Anthropic's prefix: "msg_" and what the line's own id has behind its. */
static void put_message_id(struct buffer *out, yyjson_val *line)
{
    const char *id = yyjson_get_str(yyjson_obj_get(line, "id"));
    const char *end = id != NULL ? strrchr(id, '_') : NULL;
    buffer_text(out, "\"msg_");
    buffer_text(out, end != NULL ? end + 1 : "0");
    buffer_byte(out, '"');
}

static void put_answer(struct buffer *out, yyjson_val *line, yyjson_val *body)
{
    yyjson_val *choice = yyjson_arr_get_first(yyjson_obj_get(body, "choices"));
    yyjson_val *content = yyjson_obj_get(yyjson_obj_get(choice, "message"), "content");
    yyjson_val *usage = yyjson_obj_get(body, "usage");
    const char *text = yyjson_get_str(content);
    const char *model = yyjson_get_str(yyjson_obj_get(body, "model"));
    buffer_text(out, "{\"type\":\"succeeded\",\"message\":{\"id\":");
    put_message_id(out, line);
    buffer_text(out, ",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
    put_text(out, model != NULL ? model : "");
    buffer_text(out, ",\"content\":[{\"type\":\"text\",\"text\":");
    format_json_string(out, text != NULL ? text : "", text != NULL ? yyjson_get_len(content) : 0);
    buffer_printf(out, "}],\"stop_reason\":\"%s\",\"stop_sequence\":null,",
                  stop_reason(yyjson_get_str(yyjson_obj_get(choice, "finish_reason"))));
    buffer_printf(out, "\"usage\":{\"input_tokens\":%llu,\"output_tokens\":%llu}}}",
                  (unsigned long long)yyjson_get_uint(yyjson_obj_get(usage, "prompt_tokens")),
                  (unsigned long long)yyjson_get_uint(yyjson_obj_get(usage, "completion_tokens")));
}

static void put_error(struct buffer *out, const char *kind, const char *message)
{
    buffer_printf(out,
                  "{\"type\":\"errored\",\"error\":{\"type\":\"error\",\"error\":{\"type\":\"%s\","
                  "\"message\":",
                  kind);
    put_text(out, message);
    buffer_text(out, "},\"request_id\":null}}");
}

static void put_failure(struct buffer *out, yyjson_val *line)
{
    yyjson_val *error = yyjson_obj_get(line, "error"), *response = yyjson_obj_get(line, "response");
    const char *code = yyjson_get_str(yyjson_obj_get(error, "code"));
    const char *message = yyjson_get_str(yyjson_obj_get(error, "message"));
    int64_t status = yyjson_get_sint(yyjson_obj_get(response, "status_code"));
    if (message == NULL)
        message = yyjson_get_str(
            yyjson_obj_get(yyjson_obj_get(yyjson_obj_get(response, "body"), "error"), "message"));
    if (code != NULL && strcmp(code, "batch_expired") == 0)
        buffer_text(out, "{\"type\":\"expired\"}");
    else if (code != NULL && strcmp(code, "batch_cancelled") == 0)
        buffer_text(out, "{\"type\":\"canceled\"}");
    else
        put_error(out, status >= 400 && status < 500 ? "invalid_request_error" : "api_error",
                  message != NULL ? message : "the model gave no answer");
}

void anthropic_result(struct slice text, struct buffer *out)
{
    yyjson_doc *doc = yyjson_read(text.data, text.size, 0);
    yyjson_val *line = yyjson_doc_get_root(doc), *response = yyjson_obj_get(line, "response");
    const char *custom_id = yyjson_get_str(yyjson_obj_get(line, "custom_id"));
    buffer_text(out, "{\"custom_id\":");
    put_text(out, custom_id != NULL ? custom_id : "");
    buffer_text(out, ",\"result\":");
    if (yyjson_get_sint(yyjson_obj_get(response, "status_code")) == 200)
        put_answer(out, line, yyjson_obj_get(response, "body"));
    else
        put_failure(out, line);
    buffer_text(out, "}\n");
    yyjson_doc_free(doc);
}

void anthropic_not_run(const char *custom_id, const char *type, const char *message,
                       struct buffer *out)
{
    buffer_text(out, "{\"custom_id\":");
    put_text(out, custom_id);
    buffer_text(out, ",\"result\":");
    if (strcmp(type, "errored") == 0)
        put_error(out, "invalid_request_error", message);
    else
        buffer_printf(out, "{\"type\":\"%s\"}", type);
    buffer_text(out, "}\n");
}
