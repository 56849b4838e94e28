/* SPDX-License-Identifier: Apache-2.0 */
/* tensor_json_write.c - tensors as JSON: flat lists, or nested as their shape is. */
#include "format/encode.h"
#include "server/tensor_json.h"

#include <math.h>

#define NUMBER_BYTES_MAX 32

struct element_walk element_walk_of(const struct value *value, const char *name)
{
    return (struct element_walk){.type = value->type,
                                 .data = value->data,
                                 .end = value->bytes > 0 ? value->data + value->bytes : value->data,
                                 .name = name};
}

/* --- one element ------------------------------------------------------------------------------------------ */

static tidemill_error *put_nonfinite(const struct element_walk *walk, double value,
                                     struct buffer *out)
{
    const char *word = isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
    if (!walk->is_bare)
        return error_new(ERROR_OUTPUT_NOT_FINITE,
                         "output '%s' has %s at %zu, which JSON cannot carry", walk->name, word,
                         walk->k);
    buffer_text(out, word);
    return NULL;
}

static tidemill_error *put_float(const struct element_walk *walk, float value, struct buffer *out)
{
    if (!isfinite(value)) return put_nonfinite(walk, (double)value, out);
    char *text = buffer_reserve(out, NUMBER_BYTES_MAX);
    if (text != NULL) out->size += (size_t)(format_float(text, value) - text);
    return NULL;
}

static tidemill_error *put_double(const struct element_walk *walk, double value, struct buffer *out)
{
    if (!isfinite(value)) return put_nonfinite(walk, value, out);
    char *text = buffer_reserve(out, NUMBER_BYTES_MAX);
    if (text != NULL) out->size += (size_t)(format_double(text, value) - text);
    return NULL;
}

static void put_signed(int64_t value, struct buffer *out)
{
    char *text = buffer_reserve(out, NUMBER_BYTES_MAX);
    if (text != NULL) out->size += (size_t)(format_int64(text, value) - text);
}

static void put_unsigned(uint64_t value, struct buffer *out)
{
    char *text = buffer_reserve(out, NUMBER_BYTES_MAX);
    if (text != NULL) out->size += (size_t)(format_uint64(text, value) - text);
}

/* Reads a T at element k of unaligned data. */
#define AT(T, data, k)                                                                             \
    (__extension__({                                                                               \
        T at_value;                                                                                \
        memcpy(&at_value, (data) + sizeof(T) * (k), sizeof at_value);                              \
        at_value;                                                                                  \
    }))

static tidemill_error *put_number(const struct element_walk *walk, struct buffer *out)
{
    const unsigned char *data = walk->data;
    size_t k = walk->k;
    switch (walk->type) {
    case TENSOR_FLOAT: return put_float(walk, AT(float, data, k), out);
    case TENSOR_DOUBLE: return put_double(walk, AT(double, data, k), out);
    case TENSOR_FLOAT16: return put_float(walk, float_from_half(AT(uint16_t, data, k)), out);
    case TENSOR_BFLOAT16: return put_float(walk, float_from_bfloat16(AT(uint16_t, data, k)), out);
    case TENSOR_INT8: put_signed(AT(int8_t, data, k), out); return NULL;
    case TENSOR_INT16: put_signed(AT(int16_t, data, k), out); return NULL;
    case TENSOR_INT32: put_signed(AT(int32_t, data, k), out); return NULL;
    case TENSOR_INT64: put_signed(AT(int64_t, data, k), out); return NULL;
    case TENSOR_UINT8: put_unsigned(data[k], out); return NULL;
    case TENSOR_UINT16: put_unsigned(AT(uint16_t, data, k), out); return NULL;
    case TENSOR_UINT32: put_unsigned(AT(uint32_t, data, k), out); return NULL;
    case TENSOR_UINT64: put_unsigned(AT(uint64_t, data, k), out); return NULL;
    case TENSOR_BOOL: buffer_text(out, data[k] != 0 ? "true" : "false"); return NULL;
    default:
        return error_new(ERROR_UNSUPPORTED, "output '%s' is %s, which is not written as JSON",
                         walk->name, tensor_type_name(walk->type));
    }
}

static void put_base64(struct slice text, struct buffer *out)
{
    buffer_text(out, "{\"b64\":\"");
    format_base64(out, text.data, text.size);
    buffer_text(out, "\"}");
}

static tidemill_error *put_text(const struct element_walk *walk, struct slice text,
                                struct buffer *out)
{
    if (walk->is_json && text.size > 0 && text.data[0] == JSON_ERROR_MARK)
        return error_new(ERROR_MODEL_ERROR, "%.*s", (int)MIN(text.size - 1, (size_t)4096),
                         text.data + 1);
    if (walk->is_json) {
        buffer_append(out, text.data, text.size); /* the runtime that made it has checked it */
    } else if (walk->is_b64) {
        put_base64(text, out);
    } else if (!format_is_utf8(text.data, text.size)) {
        return error_new(ERROR_MODEL_ERROR, "output '%s' has a string that is not UTF-8",
                         walk->name);
    } else {
        format_json_string(out, text.data, text.size);
    }
    return NULL;
}

/* The packed string at the walk's data, which moves behind it. */
static tidemill_error *put_string(struct element_walk *walk, struct buffer *out)
{
    uint32_t size = 0;
    size_t left = (size_t)(walk->end - walk->data);
    if (left >= sizeof size) memcpy(&size, walk->data, sizeof size);
    if (left < sizeof size || left - sizeof size < size)
        return error_new(ERROR_MODEL_ERROR, "output '%s' has fewer strings than its shape",
                         walk->name);
    struct slice text = {(const char *)walk->data + sizeof size, size};
    walk->data += sizeof size + size;
    return put_text(walk, text, out);
}

static tidemill_error *put_element(struct element_walk *walk, struct buffer *out)
{
    if (walk->type == TENSOR_STRING) return put_string(walk, out);
    TRY(put_number(walk, out));
    walk->k++;
    return NULL;
}

/* --- lists --------------------------------------------------------------------------------------------------- */

tidemill_error *element_walk_flat(struct element_walk *walk, size_t count, struct buffer *out)
{
    for (size_t i = 0; i < count; i++) {
        if (i > 0) buffer_byte(out, ',');
        TRY(put_element(walk, out));
    }
    return out->is_failed ? error_memory() : NULL;
}

static void put_brackets(struct buffer *out, char bracket, const struct shape *shape, size_t done)
{
    size_t block = 1; /* elements in a list of this level */
    for (int32_t d = shape->rank - 1; d >= 0; d--) {
        block *= (size_t)shape->dims[d];
        if (done % block != 0) return;
        buffer_byte(out, bracket);
    }
}

tidemill_error *element_walk_nested(struct element_walk *walk, const struct shape *shape,
                                    struct buffer *out)
{
    size_t count;
    if (!shape_count(shape, &count))
        return error_new(ERROR_MODEL_ERROR, "output '%s' has an impossible shape", walk->name);
    /* Empty lists inside of one another are of no use, and could be many: [1000000000, 0]. */
    if (count == 0) buffer_text(out, "[]");
    for (size_t i = 0; i < count; i++) {
        if (i > 0) buffer_byte(out, ',');
        put_brackets(out, '[', shape, i);
        TRY(put_element(walk, out));
        put_brackets(out, ']', shape, i + 1);
    }
    return out->is_failed ? error_memory() : NULL;
}
