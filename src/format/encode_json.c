/* SPDX-License-Identifier: Apache-2.0 */
/* encode_json.c - a record's part of an output as JSON: numbers and nested arrays for tensors, arrays
 * for sequences, objects for maps, and picks. The vector of float32 is the hot path: room for all its
 * digits is made once, then they are written without a check. */
#include "format/encode_parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define NUMBER_BYTES_MAX 32 /* of any number's text, comma included */

struct json_writer {
    const struct encoder *encoder;
    struct encode_scratch *scratch;
    const struct value_spec *spec;
    struct buffer *out;
    const struct shape *shape; /* of the tensor being written, for messages */
};

/* --- one element ---------------------------------------------------------------------------------- */

/* NaN or infinity by the job's policy. */
static enum error_code append_nonfinite(struct json_writer *w, double value, size_t place)
{
    switch (w->encoder->config.nonfinite) {
    case NONFINITE_NULL: buffer_append(w->out, "null", 4); return ERROR_OK;
    case NONFINITE_STRING:
        buffer_text(w->out, isnan(value) ? "\"NaN\""
                            : value > 0  ? "\"Infinity\""
                                         : "\"-Infinity\"");
        return ERROR_OK;
    case NONFINITE_ERROR: break;
    }
    return fail_nonfinite(w->scratch, w->spec, w->shape, value, place);
}

static enum error_code append_float(struct json_writer *w, float value, size_t place)
{
    if (!isfinite(value)) return append_nonfinite(w, (double)value, place);
    char *text = buffer_reserve(w->out, NUMBER_BYTES_MAX);
    if (text == NULL) return ERROR_MEMORY;
    w->out->size += (size_t)(format_float(text, value) - text);
    return ERROR_OK;
}

static enum error_code append_double(struct json_writer *w, double value, size_t place)
{
    if (!isfinite(value)) return append_nonfinite(w, value, place);
    char *text = buffer_reserve(w->out, NUMBER_BYTES_MAX);
    if (text == NULL) return ERROR_MEMORY;
    w->out->size += (size_t)(format_double(text, value) - text);
    return ERROR_OK;
}

static enum error_code append_int64(struct json_writer *w, int64_t value)
{
    char *text = buffer_reserve(w->out, NUMBER_BYTES_MAX);
    if (text == NULL) return ERROR_MEMORY;
    w->out->size += (size_t)(format_int64(text, value) - text);
    return ERROR_OK;
}

static enum error_code append_uint64(struct json_writer *w, uint64_t value)
{
    char *text = buffer_reserve(w->out, NUMBER_BYTES_MAX);
    if (text == NULL) return ERROR_MEMORY;
    w->out->size += (size_t)(format_uint64(text, value) - text);
    return ERROR_OK;
}

/* Reads a T at element k of unaligned data. */
#define AT(T, data, k)                                                                             \
    (__extension__({                                                                               \
        T at_value;                                                                                \
        memcpy(&at_value, (data) + sizeof(T) * (k), sizeof at_value);                              \
        at_value;                                                                                  \
    }))

/* Two elements a byte, the first in the low half. */
static unsigned half_byte(const unsigned char *data, size_t k)
{
    return k % 2 == 0 ? data[k / 2] & 15u : data[k / 2] >> 4;
}

static enum error_code append_element(struct json_writer *w, enum tensor_type type,
                                      const unsigned char *data, size_t k, size_t place)
{
    switch (type) {
    case TENSOR_FLOAT: return append_float(w, AT(float, data, k), place);
    case TENSOR_DOUBLE: return append_double(w, AT(double, data, k), place);
    case TENSOR_FLOAT16: return append_float(w, float_from_half(AT(uint16_t, data, k)), place);
    case TENSOR_BFLOAT16: return append_float(w, float_from_bfloat16(AT(uint16_t, data, k)), place);
    case TENSOR_FLOAT8E4M3FN:
    case TENSOR_FLOAT8E4M3FNUZ:
    case TENSOR_FLOAT8E5M2:
    case TENSOR_FLOAT8E5M2FNUZ: return append_float(w, float_from_float8(data[k], type), place);
    case TENSOR_INT8: return append_int64(w, AT(int8_t, data, k));
    case TENSOR_INT16: return append_int64(w, AT(int16_t, data, k));
    case TENSOR_INT32: return append_int64(w, AT(int32_t, data, k));
    case TENSOR_INT64: return append_int64(w, AT(int64_t, data, k));
    case TENSOR_UINT8: return append_uint64(w, data[k]);
    case TENSOR_UINT16: return append_uint64(w, AT(uint16_t, data, k));
    case TENSOR_UINT32: return append_uint64(w, AT(uint32_t, data, k));
    case TENSOR_UINT64: return append_uint64(w, AT(uint64_t, data, k));
    case TENSOR_UINT4: return append_uint64(w, half_byte(data, k));
    case TENSOR_INT4: return append_int64(w, (int64_t)(half_byte(data, k) ^ 8u) - 8);
    case TENSOR_BOOL: buffer_text(w->out, data[k] != 0 ? "true" : "false"); return ERROR_OK;
    default: return ERROR_UNSUPPORTED;
    }
}

/* The packed string at *data, which moves behind it. Its length was checked when it was indexed, or
 * is checked here against `end`. */
static enum error_code append_string(struct json_writer *w, const unsigned char **data,
                                     const unsigned char *end)
{
    uint32_t size;
    if ((size_t)(end - *data) < sizeof size) return ERROR_MODEL_ERROR;
    memcpy(&size, *data, sizeof size);
    if ((size_t)(end - *data) - sizeof size < size) return ERROR_MODEL_ERROR;
    const char *text = (const char *)*data + sizeof size;
    if (w->spec->is_json && size > 0 && text[0] == JSON_ERROR_MARK) {
        snprintf(w->scratch->message, sizeof w->scratch->message, "%.*s",
                 (int)MIN(size - 1, (uint32_t)sizeof w->scratch->message - 1), text + 1);
        return ERROR_MODEL_ERROR;
    }
    if (w->spec->is_json) /* the runtime that made it has checked it */
        buffer_append(w->out, *data + sizeof size, size);
    else
        format_json_string(w->out, (const char *)*data + sizeof size, size);
    *data += sizeof size + size;
    return ERROR_OK;
}

/* --- tensors --------------------------------------------------------------------------------------- */

/* Arrays around the last dimension: `items` stretches of it, spans[d] of them in one array of
 * dimension d. Where an outer dimension is 0, what is inside it has no items: is_cut, and each item is
 * an empty array. */
struct nest {
    int32_t rank;
    size_t spans[TENSOR_RANK_MAX];
    size_t items;
    bool is_cut;
};

static struct nest nest_of(const struct shape *shape)
{
    struct nest nest = {.items = 1};
    while (nest.rank < shape->rank - 1 && shape->dims[nest.rank] > 0) nest.rank++;
    nest.is_cut = nest.rank < shape->rank - 1;
    for (int32_t d = nest.rank; d-- > 0;) nest.spans[d] = nest.items *= (size_t)shape->dims[d];
    return nest;
}

static void open_item(struct json_writer *w, const struct nest *nest, size_t item)
{
    if (item > 0) buffer_byte(w->out, ',');
    for (int32_t d = 0; d < nest->rank; d++)
        if (item % nest->spans[d] == 0) buffer_byte(w->out, '[');
    if (nest->is_cut) buffer_append(w->out, "[]", 2);
}

static void close_item(struct json_writer *w, const struct nest *nest, size_t item)
{
    for (int32_t d = nest->rank; d-- > 0;)
        if ((item + 1) % nest->spans[d] == 0) buffer_byte(w->out, ']');
}

/* False: nothing is written, a number is not finite or memory short; the slow way will say. */
static bool append_floats(struct json_writer *w, const unsigned char *data, size_t n)
{
    char *text = buffer_reserve(w->out, n * NUMBER_BYTES_MAX + 2);
    if (text == NULL) return false;
    char *start = text;
    *text++ = '[';
    for (size_t k = 0; k < n; k++) {
        float value = AT(float, data, k);
        if (!isfinite(value)) return false;
        text = format_float(text, value);
        *text++ = ',';
    }
    text -= n > 0;
    *text++ = ']';
    w->out->size += (size_t)(text - start);
    return true;
}

/* `n` elements from the `first` on, as an array. Strings: from `*data` on. */
static enum error_code append_run(struct json_writer *w, enum tensor_type type,
                                  const unsigned char **data, const unsigned char *end,
                                  size_t first, size_t n)
{
    enum error_code code = ERROR_OK;
    if (type == TENSOR_FLOAT && n > 0 && append_floats(w, *data + first * sizeof(float), n))
        return code;
    buffer_byte(w->out, '[');
    for (size_t k = first; k < first + n && code == ERROR_OK; k++) {
        if (k > first) buffer_byte(w->out, ',');
        code = type == TENSOR_STRING ? append_string(w, data, end)
                                     : append_element(w, type, *data, k, k);
    }
    buffer_byte(w->out, ']');
    return code;
}

static enum error_code append_tensor(struct json_writer *w, enum tensor_type type,
                                     const struct shape *shape, const unsigned char *data,
                                     size_t first, const unsigned char *end)
{
    w->shape = shape;
    if (shape->rank == 0)
        return type == TENSOR_STRING ? append_string(w, &data, end)
                                     : append_element(w, type, data, first, 0);
    struct nest nest = nest_of(shape);
    size_t n = (size_t)shape->dims[shape->rank - 1];
    enum error_code code = ERROR_OK;
    for (size_t item = 0; item < nest.items && code == ERROR_OK; item++) {
        open_item(w, &nest, item);
        if (!nest.is_cut) code = append_run(w, type, &data, end, first + item * n, n);
        close_item(w, &nest, item);
    }
    return code;
}

/* --- maps and sequences ------------------------------------------------------------------------------ */

static enum error_code append_map(struct json_writer *w, const struct value *map)
{
    const struct value *keys = &w->scratch->values[map->first_child], *values = keys + 1;
    const unsigned char *key = keys->data, *text = values->data;
    size_t count = 0;
    enum error_code code = shape_count(&keys->shape, &count) ? ERROR_OK : ERROR_MODEL_ERROR;
    w->shape = &values->shape;
    buffer_byte(w->out, '{');
    for (size_t k = 0; k < count && code == ERROR_OK; k++) {
        if (k > 0) buffer_byte(w->out, ',');
        if (keys->type == TENSOR_STRING) {
            code = append_string(w, &key, value_end(keys));
        } else {
            buffer_byte(w->out, '"');
            code = append_element(w, keys->type, keys->data, k, k);
            buffer_byte(w->out, '"');
        }
        buffer_byte(w->out, ':');
        if (code == ERROR_OK)
            code = values->type == TENSOR_STRING
                       ? append_string(w, &text, value_end(values))
                       : append_element(w, values->type, values->data, k, k);
    }
    buffer_byte(w->out, '}');
    return code;
}

static enum error_code append_simple(struct json_writer *w, const struct value *value)
{
    return value->kind == VALUE_MAP
               ? append_map(w, value)
               : append_tensor(w, value->type, &value->shape, value->data, 0, value_end(value));
}

/* ONNX has no sequences of sequences. */
static enum error_code append_other(struct json_writer *w, const struct value *value)
{
    if (value->kind != VALUE_SEQUENCE) return append_simple(w, value);
    enum error_code code = ERROR_OK;
    buffer_byte(w->out, '[');
    for (uint32_t c = 0; c < value->n_children && code == ERROR_OK; c++) {
        const struct value *child = &w->scratch->values[value->first_child + c];
        if (c > 0) buffer_byte(w->out, ',');
        code = child->kind == VALUE_SEQUENCE ? ERROR_UNSUPPORTED : append_simple(w, child);
    }
    buffer_byte(w->out, ']');
    return code;
}

/* --- after steps --------------------------------------------------------------------------------------- */

void json_append_label(const struct encoder *encoder, uint32_t place, struct buffer *out)
{
    if (place < encoder->config.n_labels)
        buffer_append(out, encoder->labels[place].data, encoder->labels[place].size);
    else
        buffer_printf(out, "%u", place);
}

/* Numbers after the steps have the output's own precision. */
static enum error_code append_score(struct json_writer *w, double score, size_t place)
{
    return w->spec->type == TENSOR_DOUBLE ? append_double(w, score, place)
                                          : append_float(w, (float)score, place);
}

static enum error_code append_processed(struct json_writer *w, const struct shape *shape,
                                        const double *numbers)
{
    struct nest nest = nest_of(shape);
    size_t n = (size_t)shape->dims[shape->rank - 1];
    enum error_code code = ERROR_OK;
    for (size_t item = 0; item < nest.items && code == ERROR_OK; item++) {
        open_item(w, &nest, item);
        if (!nest.is_cut) buffer_byte(w->out, '[');
        for (size_t k = item * n; k < (item + 1) * n && !nest.is_cut && code == ERROR_OK; k++) {
            if (k > item * n) buffer_byte(w->out, ',');
            code = append_score(w, numbers[k], k);
        }
        if (!nest.is_cut) buffer_byte(w->out, ']');
        close_item(w, &nest, item);
    }
    return code;
}

static enum error_code append_top(struct json_writer *w, const double *numbers, size_t n,
                                  const struct post *post)
{
    size_t found = post_top(numbers, n, post->k, w->scratch->places);
    enum error_code code = ERROR_OK;
    buffer_byte(w->out, '[');
    for (size_t t = 0; t < found && code == ERROR_OK; t++) {
        uint32_t place = w->scratch->places[t];
        buffer_text(w->out, t == 0 ? "{\"label\":" : ",{\"label\":");
        json_append_label(w->encoder, place, w->out);
        buffer_text(w->out, ",\"score\":");
        code = append_score(w, numbers[place], place);
        buffer_byte(w->out, '}');
    }
    buffer_byte(w->out, ']');
    return code;
}

enum part { PART_LABEL, PART_SCORE, PART_TOP };

/* What is picked from one stretch of `n` numbers. */
static enum error_code append_pick(struct json_writer *w, const double *numbers, size_t n,
                                   const struct post *post, enum part part)
{
    if (part == PART_TOP) return append_top(w, numbers, n, post);
    if (post_top(numbers, n, 1, w->scratch->places) == 0) {
        buffer_append(w->out, "null", 4);
        return ERROR_OK;
    }
    uint32_t place = w->scratch->places[0];
    if (part == PART_SCORE) return append_score(w, numbers[place], place);
    json_append_label(w->encoder, place, w->out);
    return ERROR_OK;
}

/* One pick for each stretch of the last dimension, in arrays of the outer dimensions. */
static enum error_code append_part(struct json_writer *w, const struct row_view *view,
                                   const struct post *post, const double *numbers, enum part part)
{
    struct nest nest = nest_of(&view->shape);
    size_t n = (size_t)view->shape.dims[view->shape.rank - 1];
    enum error_code code = ERROR_OK;
    for (size_t item = 0; item < nest.items && code == ERROR_OK; item++) {
        open_item(w, &nest, item);
        if (!nest.is_cut) code = append_pick(w, numbers + item * n, n, post, part);
        close_item(w, &nest, item);
    }
    return code;
}

static enum error_code append_picks(struct json_writer *w, const struct row_view *view,
                                    const struct output_plan *plan, const double *numbers)
{
    enum error_code code;
    if (plan->is_nested) {
        buffer_append(w->out, plan->key.data, plan->key.size);
        buffer_byte(w->out, '{');
    } else {
        buffer_byte(w->out, ',');
    }
    if (plan->post.pick == PICK_TOP_K) {
        buffer_text(w->out, "\"top\":");
        code = append_part(w, view, &plan->post, numbers, PART_TOP);
    } else {
        buffer_text(w->out, "\"label\":");
        code = append_part(w, view, &plan->post, numbers, PART_LABEL);
        buffer_text(w->out, ",\"score\":");
        if (code == ERROR_OK) code = append_part(w, view, &plan->post, numbers, PART_SCORE);
    }
    if (plan->is_nested) buffer_byte(w->out, '}');
    return code;
}

/* --- the ways in ------------------------------------------------------------------------------------------ */

static enum error_code append_plain(struct json_writer *w, const struct row_view *view)
{
    return view->value->kind == VALUE_TENSOR ? append_tensor(w, view->value->type, &view->shape,
                                                             view->data, view->first, view->end)
                                             : append_other(w, view->value);
}

enum error_code json_append_value(const struct encoder *encoder, struct encode_scratch *scratch,
                                  size_t i, uint32_t row, struct buffer *out)
{
    const struct output_plan *plan = &encoder->outputs[i];
    struct row_view view = row_view_of(encoder, scratch, i, row);
    struct json_writer w = {encoder, scratch, plan->spec, out, &view.shape};
    size_t count;
    if (!has_post(&plan->post)) return append_plain(&w, &view);
    const double *numbers = row_numbers(scratch, &view, &plan->post, &count);
    if (numbers == NULL) return ERROR_MEMORY;
    enum error_code code = check_numbers(encoder, scratch, plan, &view, numbers, count);
    return code != ERROR_OK ? code : append_processed(&w, &view.shape, numbers);
}

enum error_code json_append_output(const struct encoder *encoder, struct encode_scratch *scratch,
                                   size_t i, uint32_t row, struct buffer *out)
{
    const struct output_plan *plan = &encoder->outputs[i];
    if (plan->post.pick == PICK_NONE) {
        buffer_append(out, plan->key.data, plan->key.size);
        return json_append_value(encoder, scratch, i, row, out);
    }
    struct row_view view = row_view_of(encoder, scratch, i, row);
    struct json_writer w = {encoder, scratch, plan->spec, out, &view.shape};
    size_t count;
    const double *numbers = row_numbers(scratch, &view, &plan->post, &count);
    if (numbers == NULL) return ERROR_MEMORY;
    enum error_code code = check_numbers(encoder, scratch, plan, &view, numbers, count);
    return code != ERROR_OK ? code : append_picks(&w, &view, plan, numbers);
}
