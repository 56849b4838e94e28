/* SPDX-License-Identifier: Apache-2.0 */
/* prompt.c - one walk over a request's body. Fields are looked at to a fixed depth (messages, their
 * parts); a key that stands twice counts as it does for most servers: the last one. */
#include "format/prompt.h"

#include <yyjson.h>

/* Between what must not run together: no text of a prompt has it. */
#define SEPARATOR '\0'

struct body {
    yyjson_val *model, *tools, *instructions, *messages, *prompt, *input;
    yyjson_val *temperature, *seed, *tokens_max, *url, *body;
    bool is_generating; /* has a field that only makes sense for what generates */
};

static void read_fields(yyjson_val *object, struct body *ret)
{
    const struct {
        const char *name;
        yyjson_val **place;
        bool is_of_generation;
    } fields[] = {
        {"model", &ret->model, false},
        {"tools", &ret->tools, true},
        {"instructions", &ret->instructions, true},
        {"messages", &ret->messages, true},
        {"prompt", &ret->prompt, true},
        {"input", &ret->input, false},
        {"temperature", &ret->temperature, true},
        {"seed", &ret->seed, false},
        {"max_tokens", &ret->tokens_max, false},
        {"max_completion_tokens", &ret->tokens_max, true},
        {"max_output_tokens", &ret->tokens_max, true},
        {"n_predict", &ret->tokens_max, true},
        {"url", &ret->url, false},
        {"body", &ret->body, false},
    };
    yyjson_obj_iter iter;
    *ret = (struct body){0};
    yyjson_obj_iter_init(object, &iter);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter)) != NULL;) {
        for (size_t i = 0; i < COUNT_OF(fields); i++) {
            if (!yyjson_equals_str(key, fields[i].name)) continue;
            *fields[i].place = yyjson_obj_iter_get_val(key);
            ret->is_generating |= fields[i].is_of_generation;
        }
    }
}

static bool has_prompt(const struct body *body)
{
    return body->messages != NULL || body->prompt != NULL || body->input != NULL;
}

/* --- text ----------------------------------------------------------------------------------------- */

static void append_string(struct buffer *out, yyjson_val *string)
{
    if (yyjson_is_str(string)) buffer_append(out, yyjson_get_str(string), yyjson_get_len(string));
}

static void append_json(struct buffer *out, yyjson_val *value)
{
    size_t size = 0;
    if (value == NULL) return;
    char *text = yyjson_val_write(value, 0, &size);
    if (text == NULL)
        out->is_failed = true;
    else
        buffer_append(out, text, size);
    free(text);
}

/* Texts as they are; what else stands among them (pictures, calls of tools) as JSON. */
static void append_content(struct buffer *out, yyjson_val *content)
{
    yyjson_val *part;
    size_t i, n;
    append_string(out, content);
    yyjson_arr_foreach(content, i, n, part)
    {
        yyjson_val *text = yyjson_obj_get(part, "text");
        if (yyjson_is_str(text))
            append_string(out, text);
        else
            append_json(out, part);
    }
}

static void append_message(struct buffer *out, yyjson_val *message)
{
    append_string(out, yyjson_obj_get(message, "role"));
    buffer_byte(out, SEPARATOR);
    append_content(out, yyjson_obj_get(message, "content"));
    append_json(out, yyjson_obj_get(message, "tool_calls"));
    buffer_byte(out, SEPARATOR);
}

/* A text, messages, texts one behind another, or ids of tokens. */
static void append_prompt(struct buffer *out, yyjson_val *prompt)
{
    yyjson_val *item;
    size_t i, n;
    append_string(out, prompt);
    yyjson_arr_foreach(prompt, i, n, item)
    {
        uint32_t id = (uint32_t)yyjson_get_uint(item);
        if (yyjson_is_obj(item))
            append_message(out, item);
        else if (yyjson_is_int(item))
            buffer_append(out, &id, sizeof id);
        else if (yyjson_is_arr(item))
            append_json(out, item);
        else
            append_string(out, item);
    }
}

static bool make_text(const struct body *body, struct arena *arena, struct slice *ret)
{
    struct buffer text = {0};
    append_string(&text, body->model);
    buffer_byte(&text, SEPARATOR);
    append_json(&text, body->tools);
    append_string(&text, body->instructions);
    append_prompt(&text, body->messages != NULL ? body->messages
                         : body->prompt != NULL ? body->prompt
                                                : body->input);
    const char *copy = text.is_failed ? NULL : arena_copy(arena, text.data, text.size);
    *ret = (struct slice){copy, copy == NULL ? 0 : text.size};
    buffer_free(&text);
    return copy != NULL;
}

/* --- the rest ------------------------------------------------------------------------------------- */

bool prompt_url_is_generating(struct slice url)
{
    static const char end[] = "/responses";
    size_t size = sizeof end - 1;
    return url.size >= size && memcmp(url.data + url.size - size, end, size) == 0;
}

/* Without a temperature servers take their own, which is not 0. */
static bool is_sampled(const struct body *body, bool is_generating)
{
    bool is_greedy = yyjson_is_num(body->temperature) && yyjson_get_num(body->temperature) <= 0;
    bool has_seed = yyjson_is_num(body->seed);
    return is_generating && !is_greedy && !has_seed;
}

static bool read_body(yyjson_val *root, bool is_generating, struct arena *arena, struct prompt *ret)
{
    struct body body;
    read_fields(root, &body);
    if (!has_prompt(&body) && yyjson_is_obj(body.body)) {
        struct slice url = {yyjson_get_str(body.url), yyjson_get_len(body.url)};
        if (url.data != NULL) is_generating = prompt_url_is_generating(url);
        read_fields(body.body, &body);
    }
    if (!has_prompt(&body)) return true;
    double tokens_max = yyjson_is_num(body.tokens_max) ? yyjson_get_num(body.tokens_max) : 0;
    if (tokens_max > 0) ret->tokens_max = (uint32_t)MIN(tokens_max, (double)INT32_MAX);
    ret->is_sampled = is_sampled(&body, is_generating || body.is_generating);
    return make_text(&body, arena, &ret->text);
}

bool prompt_read(struct slice json, bool is_generating, struct arena *arena, struct prompt *ret)
{
    yyjson_read_err problem;
    *ret = (struct prompt){0};
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)json.data, json.size, 0, NULL, &problem);
    if (doc == NULL) return problem.code != YYJSON_READ_ERROR_MEMORY_ALLOCATION;
    bool is_fine = read_body(yyjson_doc_get_root(doc), is_generating, arena, ret);
    yyjson_doc_free(doc);
    return is_fine;
}
