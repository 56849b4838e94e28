/* SPDX-License-Identifier: Apache-2.0 */
/* dialects.c - lines of output as a dialect's answer. A line's members but "id" are outputs; a model that
 * takes JSON has one, "response", which is the answer. */
#include "server/dialects.h"

#include "format/encode.h"
#include "server/kserve.h"
#include "server/tensor_json.h"

#include <stdlib.h>

struct reply {
    const char *model;
    const struct model_signature *signature;
    yyjson_doc **docs;
    size_t n;
    struct buffer *out;
};

static bool is_output(yyjson_val *key)
{
    const char *name = yyjson_get_str(key);
    return strcmp(name, "id") != 0 && strcmp(name, "custom_id") != 0;
}

/* NULL: none. */
static yyjson_val *first_output(yyjson_val *line, const char **ret_name, size_t *ret_n)
{
    size_t i, max;
    yyjson_val *key, *value, *first = NULL;
    *ret_n = 0;
    yyjson_obj_foreach(line, i, max, key, value)
    {
        if (!is_output(key)) continue;
        if ((*ret_n)++ == 0) {
            first = value;
            *ret_name = yyjson_get_str(key);
        }
    }
    return first;
}

/* One row: the value of the only output, or an object of all. */
static tidemill_error *put_row(struct reply *reply, size_t r)
{
    yyjson_val *line = yyjson_doc_get_root(reply->docs[r]), *key, *value;
    const char *name = NULL, *comma = "";
    size_t n, i, max;
    yyjson_val *first = first_output(line, &name, &n);
    if (first == NULL) return error_new(ERROR_CORRUPT, "a line of output without outputs");
    if (n == 1) {
        json_put(reply->out, first);
        return NULL;
    }
    buffer_byte(reply->out, '{');
    yyjson_obj_foreach(line, i, max, key, value)
    {
        if (!is_output(key)) continue;
        buffer_text(reply->out, comma);
        comma = ",";
        format_json_string(reply->out, yyjson_get_str(key), yyjson_get_len(key));
        buffer_byte(reply->out, ':');
        json_put(reply->out, value);
    }
    buffer_byte(reply->out, '}');
    return NULL;
}

static tidemill_error *put_rows(struct reply *reply)
{
    for (size_t r = 0; r < reply->n; r++) {
        if (r > 0) buffer_byte(reply->out, ',');
        TRY(put_row(reply, r));
    }
    return NULL;
}

static tidemill_error *put_tfserving(struct reply *reply)
{
    buffer_text(reply->out, "{\"predictions\":[");
    TRY(put_rows(reply));
    buffer_text(reply->out, "]}");
    return NULL;
}

static tidemill_error *put_torchserve(struct reply *reply)
{
    if (reply->n != 1) buffer_byte(reply->out, '[');
    TRY(put_rows(reply));
    if (reply->n != 1) buffer_byte(reply->out, ']');
    return NULL;
}

/* --- KServe -------------------------------------------------------------------------------------------------- */

static enum tensor_type guess_type(yyjson_val *value)
{
    while (yyjson_is_arr(value)) value = yyjson_arr_get_first(value);
    if (yyjson_is_bool(value)) return TENSOR_BOOL;
    if (!yyjson_is_raw(value)) return TENSOR_STRING;
    return strpbrk(yyjson_get_raw(value), ".eEnN") == NULL ? TENSOR_INT64 : TENSOR_DOUBLE;
}

static enum tensor_type type_of(const struct reply *reply, const char *name, yyjson_val *value,
                                bool *ret_is_json)
{
    *ret_is_json = yyjson_is_obj(value);
    for (size_t i = 0; reply->signature != NULL && i < reply->signature->n_outputs; i++) {
        const struct value_spec *spec = &reply->signature->outputs[i];
        if (strcmp(spec->name, name) != 0) continue;
        *ret_is_json |= spec->is_json;
        return spec->type;
    }
    return guess_type(value);
}

static tidemill_error *stack_output(struct reply *reply, const char *name, yyjson_val *value,
                                    struct arena *arena)
{
    struct json_tensor tensor = {0};
    bool is_json;
    size_t count;
    enum tensor_type type = type_of(reply, name, value, &is_json);
    if (is_json) type = TENSOR_STRING;
    yyjson_val **values = arena_calloc(arena, reply->n, sizeof *values);
    if (values == NULL) return error_memory();
    for (size_t r = 0; r < reply->n; r++) {
        values[r] = yyjson_obj_get(yyjson_doc_get_root(reply->docs[r]), name);
        if (values[r] == NULL)
            return error_new(ERROR_CORRUPT, "a line of output without '%s'", name);
    }
    TRY(json_tensor_rows(values, reply->n, name, type, is_json, arena, &tensor));
    if (!shape_count(&tensor.shape, &count)) return error_memory();
    struct element_walk walk = element_walk_of(
        &(struct value){.type = type, .data = tensor.data, .bytes = tensor.bytes}, name);
    buffer_text(reply->out, "{\"name\":");
    format_json_string(reply->out, name, strlen(name));
    buffer_printf(reply->out, ",\"datatype\":\"%s\",\"shape\":[", kserve_datatype(type));
    for (int32_t d = 0; d < tensor.shape.rank; d++)
        buffer_printf(reply->out, "%s%lld", d > 0 ? "," : "", (long long)tensor.shape.dims[d]);
    buffer_text(reply->out, "],\"data\":[");
    walk.is_bare = true;
    TRY(element_walk_flat(&walk, count, reply->out));
    buffer_text(reply->out, "]}");
    return NULL;
}

static tidemill_error *put_outputs(struct reply *reply, struct arena *arena)
{
    yyjson_val *line = yyjson_doc_get_root(reply->docs[0]), *key, *value;
    const char *comma = "";
    size_t i, max;
    yyjson_obj_foreach(line, i, max, key, value)
    {
        if (!is_output(key)) continue;
        buffer_text(reply->out, comma);
        comma = ",";
        TRY(stack_output(reply, yyjson_get_str(key), value, arena));
    }
    return NULL;
}

static tidemill_error *put_kserve(struct reply *reply)
{
    struct arena arena = {0};
    buffer_text(reply->out, "{\"model_name\":");
    format_json_string(reply->out, reply->model, strlen(reply->model));
    buffer_text(reply->out, ",\"model_version\":\"1\",\"outputs\":[");
    tidemill_error *error = put_outputs(reply, &arena);
    arena_free(&arena);
    buffer_text(reply->out, "]}");
    return error;
}

/* --- all --------------------------------------------------------------------------------------------------------- */

static tidemill_error *put_reply(struct reply *reply, enum dialect dialect)
{
    switch (dialect) {
    case DIALECT_KSERVE: return put_kserve(reply);
    case DIALECT_TFSERVING: return put_tfserving(reply);
    case DIALECT_TORCHSERVE:
    case DIALECT_OPENAI: return put_torchserve(reply);
    case DIALECT_ANTHROPIC:
    case DIALECT_TIDEMILL: break;
    }
    return error_new(ERROR_UNSUPPORTED, "no dialect of models that answer at once");
}

static tidemill_error *read_lines(struct reply *reply, const struct slice *lines, size_t n)
{
    for (; reply->n < n; reply->n++) {
        TRY(error_context(json_body_read(lines[reply->n], &reply->docs[reply->n]),
                          "a line of output"));
        if (yyjson_is_obj(yyjson_doc_get_root(reply->docs[reply->n]))) continue;
        reply->n++;
        return error_new(ERROR_CORRUPT, "a line of output is no object");
    }
    return NULL;
}

tidemill_error *dialect_reply(enum dialect dialect, const char *model,
                              const struct model_signature *signature, const struct slice *lines,
                              size_t n, struct buffer *out)
{
    struct reply reply = {.model = model, .signature = signature, .out = out};
    if (n == 0) return error_new(ERROR_CORRUPT, "a request without records");
    reply.docs = calloc(n, sizeof *reply.docs);
    if (reply.docs == NULL) return error_memory();
    tidemill_error *error = read_lines(&reply, lines, n);
    if (error == NULL) error = put_reply(&reply, dialect);
    for (size_t r = 0; r < reply.n; r++) yyjson_doc_free(reply.docs[r]);
    free(reply.docs);
    return error == NULL && out->is_failed ? error_memory() : error;
}
