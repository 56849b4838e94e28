/* SPDX-License-Identifier: Apache-2.0 */
/* decode_tree.c - one JSON value -> one row: nested lists are flattened with a stack of their own,
 * and must be rectangular; {"b64"} objects are unpacked. */
#include "format/decode_json.h"
#include "format/encode.h"

#include <stdio.h>

#define NESTING_MAX (TENSOR_RANK_MAX + 1) /* a leading 1 more than the rank */

const char *json_kind_text(yyjson_val *value)
{
    switch (yyjson_get_type(value)) {
    case YYJSON_TYPE_NULL: return "null";
    case YYJSON_TYPE_BOOL: return yyjson_get_bool(value) ? "true" : "false";
    case YYJSON_TYPE_STR: return "a string";
    case YYJSON_TYPE_ARR: return "a list";
    case YYJSON_TYPE_OBJ: return "an object";
    default: return "a number";
    }
}

bool decoding_fail_value(struct decoding *d, const struct row *row, const char *label,
                         enum error_code code, const char *text, size_t size)
{
    const char *type = tensor_type_name(row->type);
    int length = (int)MIN(size, 40);
    const char *more = size > 40 ? "..." : "";
    switch (code) {
    case ERROR_MEMORY:
        return decoding_fail(d, ERROR_MEMORY,
                             "field '%s': the row has no room in memory (%zu bytes)", label,
                             row->capacity);
    case ERROR_OUT_OF_RANGE:
        return decoding_fail(d, code, "field '%s': %.*s%s does not fit %s", label, length, text,
                             more, type);
    case ERROR_NOT_FINITE:
        return decoding_fail(d, code, "field '%s': %.*s%s is not finite in %s", label, length, text,
                             more, type);
    default: break;
    }
    if (row->type == TENSOR_STRING || !type_is_number(row->type)) {
        return decoding_fail(d, code, "field '%s': expected %s %s, found %.*s%s", label,
                             row->type == TENSOR_STRING ? "a" : type,
                             element_word(row->type, false), length, text, more);
    }
    bool is_whole = !type_is_float(row->type) && row->type != TENSOR_BOOL;
    return decoding_fail(d, code, "field '%s': expected a %s%s%s%s, found %.*s%s", label,
                         is_whole ? "whole " : "", element_word(row->type, false),
                         is_whole ? " for " : "", is_whole ? type : "", length, text, more);
}

bool decoding_fail_shape(struct decoding *d, const struct row *row, const struct shape *found)
{
    const struct input_plan *input = row->input;
    char wanted[160], got[160];
    size_t count;
    bool is_flat = found->rank <= 1 && shape_count(found, &count);
    if (input->is_fixed && is_flat && input->row_shape.rank <= 1) {
        return decoding_fail(d, ERROR_WRONG_SHAPE, "field '%s': expected %zu %s, found %zu",
                             input->label, input->count, element_word(row->type, input->count != 1),
                             count);
    }
    shape_text(&input->row_shape, input->dim_names, wanted, sizeof wanted);
    shape_text(found, NULL, got, sizeof got);
    return decoding_fail(d, ERROR_WRONG_SHAPE, "field '%s': expected shape %s, found %s",
                         input->label, wanted, found->rank == 0 ? "a single value" : got);
}

bool json_append_scalar(struct decoding *d, struct row *row, yyjson_val *value, const char *label)
{
    enum error_code code = ERROR_WRONG_TYPE;
    struct scalar scalar;
    struct number number;
    const char *text =
        yyjson_get_type(value) == YYJSON_TYPE_RAW ? yyjson_get_raw(value) : yyjson_get_str(value);
    size_t size = yyjson_get_len(value);
    if (yyjson_is_raw(value)) {
        number_scan(text, text + size, &number);
        code = row_append_number(row, &number, text, text + size);
        if (code == ERROR_OK) return true;
        if (row->type != TENSOR_STRING && row->type != TENSOR_BOOL) {
            return decoding_fail_value(d, row, label, code, text, size);
        }
    } else if (yyjson_is_str(value) && row->type == TENSOR_STRING) {
        code = row_append_string(row, text, size);
    } else if (yyjson_is_str(value) && type_is_float(row->type) &&
               scalar_of_word(text, size, false, &scalar)) {
        code = row_append(row, &scalar);
        if (code != ERROR_OK) return decoding_fail_value(d, row, label, code, text, size);
    } else if (yyjson_is_bool(value) && row->type == TENSOR_BOOL) {
        scalar = (struct scalar){.magnitude = yyjson_get_bool(value)};
        code = row_append(row, &scalar);
    }
    if (code == ERROR_OK) return true;
    if (code == ERROR_OUT_OF_RANGE) return decoding_fail_value(d, row, label, code, text, size);
    const char *found = json_kind_text(value);
    if (code == ERROR_WRONG_TYPE && !yyjson_is_raw(value)) {
        return decoding_fail(d, code, "field '%s': expected a %s, found %s", label,
                             element_word(row->type, false), found);
    }
    return decoding_fail_value(d, row, label, code, found, strlen(found));
}

/* The shape as far as the first elements tell. False: nested too deep. */
static bool shape_of_first(yyjson_val *value, struct shape *ret)
{
    int64_t dims[NESTING_MAX + 1];
    int32_t rank = 0;
    while (yyjson_is_arr(value)) {
        if (rank == TENSOR_RANK_MAX) return false;
        dims[rank++] = (int64_t)yyjson_arr_size(value);
        value = yyjson_arr_get_first(value);
    }
    *ret = (struct shape){.rank = rank};
    memcpy(ret->dims, dims, (size_t)rank * sizeof dims[0]);
    return true;
}

/* A list that stands `level` deep, number `index` in its parent. */
static bool check_list(struct decoding *d, const struct row *row, yyjson_val *value,
                       const struct shape *shape, int32_t level, size_t index)
{
    const char *label = row->input->label, *words = element_word(row->type, true);
    if (!yyjson_is_arr(value)) {
        return decoding_fail(d, ERROR_WRONG_SHAPE, "field '%s': row %zu is %s, others are lists",
                             label, index, json_kind_text(value));
    }
    size_t size = yyjson_arr_size(value);
    if (size == (size_t)shape->dims[level]) return true;
    return decoding_fail(d, ERROR_WRONG_SHAPE, "field '%s': row %zu has %zu %s, others have %lld",
                         label, index, size, level == shape->rank - 1 ? words : "rows",
                         (long long)shape->dims[level]);
}

/* All scalars in order; every list at one level has one length. */
static bool append_nested(struct decoding *d, struct row *row, yyjson_val *value,
                          const struct shape *shape)
{
    struct {
        yyjson_arr_iter iterator;
        size_t index;
    } stack[NESTING_MAX];
    int32_t top = 0;
    yyjson_arr_iter_init(value, &stack[0].iterator);
    stack[0].index = 0;
    while (top >= 0) {
        yyjson_val *element = yyjson_arr_iter_next(&stack[top].iterator);
        if (element == NULL) {
            top--;
            continue;
        }
        size_t index = stack[top].index++;
        if (top + 1 == shape->rank) {
            if (yyjson_is_arr(element)) {
                return decoding_fail(d, ERROR_WRONG_SHAPE,
                                     "field '%s': element %zu is a list, others are not",
                                     row->input->label, index);
            }
            if (!json_append_scalar(d, row, element, row->input->label)) return false;
            continue;
        }
        if (!check_list(d, row, element, shape, top + 1, index)) return false;
        top++;
        yyjson_arr_iter_init(element, &stack[top].iterator);
        stack[top].index = 0;
    }
    return true;
}

bool json_put_nested(struct decoding *d, struct row *row, yyjson_val *value)
{
    const struct input_plan *input = row->input;
    struct shape found;
    char wanted[224];
    if (!yyjson_is_arr(value)) {
        bool is_scalar_fine = row_shape_match(input, &(struct shape){.rank = 0}, &row->shape);
        if (is_scalar_fine) return json_append_scalar(d, row, value, input->label);
        bool is_string = yyjson_is_str(value) && row->type == TENSOR_STRING;
        if (yyjson_is_raw(value) || is_string) {
            return decoding_fail_shape(d, row, &(struct shape){.rank = 0});
        }
        expected_text(input, wanted, sizeof wanted);
        return decoding_fail(d, ERROR_WRONG_TYPE, "field '%s': expected %s, found %s", input->label,
                             wanted, json_kind_text(value));
    }
    if (!shape_of_first(value, &found)) {
        return decoding_fail(d, ERROR_WRONG_SHAPE, "field '%s': lists are nested deeper than %d",
                             input->label, TENSOR_RANK_MAX);
    }
    if (!row_shape_match(input, &found, &row->shape)) return decoding_fail_shape(d, row, &found);
    return append_nested(d, row, value, &found);
}

/* --- base64 ---------------------------------------------------------------------------------------- */

static bool read_dims(yyjson_val *list, struct shape *ret)
{
    size_t index, max;
    yyjson_val *element;
    *ret = (struct shape){.rank = 0};
    if (!yyjson_is_arr(list) || yyjson_arr_size(list) > TENSOR_RANK_MAX) return false;
    yyjson_arr_foreach(list, index, max, element)
    {
        struct number number;
        uint64_t dim;
        const char *text = yyjson_get_raw(element);
        if (text == NULL) return false;
        number_scan(text, text + yyjson_get_len(element), &number);
        if (number_to_integer(&number, &dim) != ERROR_OK || dim > INT64_MAX) return false;
        if (number.is_negative && dim != 0) return false;
        ret->dims[ret->rank++] = (int64_t)dim;
    }
    return true;
}

/* Type and shape of the data, as the object or else the model says. */
static bool base64_form(struct decoding *d, const struct row *row, yyjson_val *object,
                        enum tensor_type *type, struct shape *shape, size_t size)
{
    const char *label = row->input->label;
    yyjson_val *dtype = yyjson_obj_get(object, "dtype"), *dims = yyjson_obj_get(object, "shape");
    *type = row->type;
    if (dtype != NULL) {
        const char *name = yyjson_get_str(dtype);
        *type = name == NULL ? TENSOR_UNDEFINED : tensor_type_of_name(name);
        if (tensor_type_bits(*type) == 0) {
            return decoding_fail(d, ERROR_WRONG_TYPE, "field '%s': unknown dtype %.40s", label,
                                 name == NULL ? json_kind_text(dtype) : name);
        }
    }
    if (tensor_type_bits(*type) == 0) {
        return decoding_fail(d, ERROR_WRONG_TYPE, "field '%s': strings cannot come as base64",
                             label);
    }
    if (dims == NULL) {
        size_t count = size * 8 / tensor_type_bits(*type);
        *shape = (struct shape){.rank = 1, .dims = {(int64_t)count}};
        if (row->input->is_fixed) *shape = row->input->row_shape;
        return true;
    }
    return read_dims(dims, shape) ||
           decoding_fail(d, ERROR_WRONG_SHAPE,
                         "field '%s': \"shape\" is not a list of at most %d sizes", label,
                         TENSOR_RANK_MAX);
}

bool json_put_base64(struct decoding *d, struct row *row, yyjson_val *object)
{
    const char *label = row->input->label;
    struct buffer *binary = &d->scratch->binary;
    yyjson_val *text = yyjson_obj_get(object, "b64");
    char wanted[224];
    if (!yyjson_is_str(text)) {
        expected_text(row->input, wanted, sizeof wanted);
        return decoding_fail(d, ERROR_WRONG_TYPE,
                             "field '%s': expected %s, found an object without \"b64\"", label,
                             wanted);
    }
    buffer_reset(binary, (size_t)1 << 22);
    size_t size = 0, count, bytes, index;
    char *place = buffer_reserve(binary, yyjson_get_len(text) / 4 * 3 + 3);
    if (place == NULL) return decoding_fail_memory(d);
    if (!parse_base64(yyjson_get_str(text), yyjson_get_len(text), (unsigned char *)place, &size)) {
        return decoding_fail(d, ERROR_WRONG_TYPE, "field '%s': \"b64\" is not base64", label);
    }
    enum tensor_type type;
    struct shape found;
    if (!base64_form(d, row, object, &type, &found, size)) return false;
    if (!row_shape_match(row->input, &found, &row->shape))
        return decoding_fail_shape(d, row, &found);
    if (!shape_count(&found, &count) || !tensor_bytes(type, count, &bytes) || bytes != size) {
        shape_text(&found, NULL, wanted, sizeof wanted);
        return decoding_fail(d, ERROR_WRONG_SHAPE, "field '%s': %s%s does not take %zu bytes",
                             label, tensor_type_name(type), wanted, size);
    }
    enum error_code code = row_append_elements(row, type, (unsigned char *)place, count, &index);
    if (code == ERROR_OK) return true;
    if (code == ERROR_WRONG_TYPE && !(type_is_number(type) && type_is_number(row->type))) {
        return decoding_fail(d, code, "field '%s': expected %s, found %s", label,
                             tensor_type_name(row->type), tensor_type_name(type));
    }
    int length = snprintf(wanted, sizeof wanted, "element %zu", index);
    return decoding_fail_value(d, row, label, code, wanted, (size_t)length);
}
