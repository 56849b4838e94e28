/* SPDX-License-Identifier: Apache-2.0 */
/* decode_value.c - scalars into tensors, with every range checked, and shapes. */
#include "format/decode_parts.h"

#include <math.h>
#include <stdio.h>
#include <strings.h>

bool type_is_float(enum tensor_type type)
{
    switch (type) {
    case TENSOR_FLOAT:
    case TENSOR_DOUBLE:
    case TENSOR_FLOAT16:
    case TENSOR_BFLOAT16:
    case TENSOR_FLOAT8E4M3FN:
    case TENSOR_FLOAT8E4M3FNUZ:
    case TENSOR_FLOAT8E5M2:
    case TENSOR_FLOAT8E5M2FNUZ: return true;
    default: return false;
    }
}

bool type_is_number(enum tensor_type type)
{
    return type != TENSOR_STRING && type != TENSOR_COMPLEX64 && type != TENSOR_COMPLEX128 &&
           type > TENSOR_UNDEFINED && type < TENSOR_TYPE_COUNT;
}

/* Magnitudes that fit: of negative numbers, of others. */
static bool integer_limits(enum tensor_type type, uint64_t *negative, uint64_t *positive)
{
    *negative = 0;
    switch (type) {
    case TENSOR_BOOL: *positive = 1; return true;
    case TENSOR_UINT4: *positive = 15; return true;
    case TENSOR_UINT8: *positive = UINT8_MAX; return true;
    case TENSOR_UINT16: *positive = UINT16_MAX; return true;
    case TENSOR_UINT32: *positive = UINT32_MAX; return true;
    case TENSOR_UINT64: *positive = UINT64_MAX; return true;
    case TENSOR_INT4: *positive = 7; break;
    case TENSOR_INT8: *positive = INT8_MAX; break;
    case TENSOR_INT16: *positive = INT16_MAX; break;
    case TENSOR_INT32: *positive = INT32_MAX; break;
    case TENSOR_INT64: *positive = INT64_MAX; break;
    default: return false;
    }
    *negative = *positive + 1;
    return true;
}

/* Bits of a float element; *ret_is_finite after rounding to the type. */
static uint32_t small_bits(enum tensor_type type, float value, bool *ret_is_finite)
{
    uint32_t bits;
    float back;
    switch (type) {
    case TENSOR_FLOAT16:
        bits = half_from_float(value);
        back = float_from_half((uint16_t)bits);
        break;
    case TENSOR_BFLOAT16:
        bits = bfloat16_from_float(value);
        back = float_from_bfloat16((uint16_t)bits);
        break;
    default:
        bits = float8_from_float(value, type);
        back = float_from_float8((uint8_t)bits, type);
        break;
    }
    *ret_is_finite = isfinite(back);
    return bits;
}

static enum error_code put_float(struct row *row, double real)
{
    unsigned char *place = row->out + row->bytes;
    float narrow = (float)real;
    bool is_finite = isfinite(real);
    if (row->type == TENSOR_DOUBLE) {
        memcpy(place, &real, sizeof real);
    } else if (row->type == TENSOR_FLOAT) {
        is_finite = isfinite(narrow);
        memcpy(place, &narrow, sizeof narrow);
    } else {
        uint32_t bits = small_bits(row->type, narrow, &is_finite);
        memcpy(place, &bits, tensor_type_bits(row->type) / 8); /* little-endian */
    }
    return is_finite || row->nonfinite != NONFINITE_ERROR ? ERROR_OK : ERROR_NOT_FINITE;
}

static enum error_code put_integer(struct row *row, bool is_negative, uint64_t magnitude)
{
    uint64_t negative, positive;
    if (!integer_limits(row->type, &negative, &positive)) return ERROR_WRONG_TYPE;
    if (magnitude > (is_negative ? negative : positive)) return ERROR_OUT_OF_RANGE;
    uint64_t bits = is_negative ? 0 - magnitude : magnitude;
    if (tensor_type_bits(row->type) == 4) {
        unsigned char *place = row->out + row->count / 2;
        *place = row->count % 2 == 0 ? bits & 15 : *place | (bits & 15) << 4;
    } else {
        memcpy(row->out + row->bytes, &bits, tensor_type_bits(row->type) / 8);
    }
    return ERROR_OK;
}

static enum error_code integer_of_real(double real, uint64_t *ret_magnitude)
{
    double magnitude = fabs(real);
    if (!isfinite(real)) return ERROR_NOT_FINITE;
    if (magnitude != trunc(magnitude)) return ERROR_WRONG_TYPE;
    if (magnitude >= 0x1p64) return ERROR_OUT_OF_RANGE;
    *ret_magnitude = (uint64_t)magnitude;
    return ERROR_OK;
}

/* Room for one more element; false sets is_full. */
static bool has_room(struct row *row)
{
    unsigned bits = tensor_type_bits(row->type);
    size_t extra = bits == 4 ? 1 - row->count % 2 : bits / 8;
    if (row->capacity - row->bytes >= extra) return true;
    row->is_full = true;
    return false;
}

static void advance(struct row *row)
{
    unsigned bits = tensor_type_bits(row->type);
    row->bytes += bits == 4 ? 1 - row->count % 2 : bits / 8;
    row->count++;
}

enum error_code row_append(struct row *row, const struct scalar *scalar)
{
    enum error_code code = ERROR_OK;
    if (!type_is_number(row->type)) return ERROR_WRONG_TYPE;
    if (!has_room(row)) return ERROR_MEMORY;
    if (type_is_float(row->type)) {
        double real = scalar->is_real ? scalar->real : (double)scalar->magnitude;
        code = put_float(row, !scalar->is_real && scalar->is_negative ? -real : real);
    } else {
        uint64_t magnitude = scalar->magnitude;
        bool is_negative = scalar->is_real ? scalar->real < 0 : scalar->is_negative;
        if (scalar->is_real) code = integer_of_real(scalar->real, &magnitude);
        if (code == ERROR_OK) code = put_integer(row, is_negative, magnitude);
    }
    if (code == ERROR_OK) advance(row);
    return code;
}

enum error_code row_append_number(struct row *row, const struct number *number, const char *text,
                                  const char *end)
{
    enum error_code code;
    if (!type_is_number(row->type)) return ERROR_WRONG_TYPE;
    if (!has_room(row)) return ERROR_MEMORY;
    if (type_is_float(row->type)) {
        code = put_float(row, number_to_double(number, text, end));
    } else {
        uint64_t magnitude;
        code = number_to_integer(number, &magnitude);
        if (code == ERROR_OK) code = put_integer(row, number->is_negative, magnitude);
    }
    if (code == ERROR_OK) advance(row);
    return code;
}

enum error_code row_append_string(struct row *row, const char *text, size_t size)
{
    if (row->type != TENSOR_STRING) return ERROR_WRONG_TYPE;
    size_t left = row->capacity - row->bytes;
    if (left < 4 || left - 4 < size || size > UINT32_MAX) {
        row->is_full = true;
        return ERROR_MEMORY;
    }
    uint32_t length = (uint32_t)size;
    memcpy(row->out + row->bytes, &length, sizeof length);
    if (size > 0) memcpy(row->out + row->bytes + 4, text, size);
    row->bytes += 4 + size;
    row->count++;
    return ERROR_OK;
}

static struct scalar scalar_of_signed(int64_t value)
{
    uint64_t bits = (uint64_t)value;
    return (struct scalar){.is_negative = value < 0, .magnitude = value < 0 ? 0 - bits : bits};
}

struct scalar scalar_load(enum tensor_type type, const unsigned char *data, size_t index)
{
    unsigned bits = tensor_type_bits(type);
    uint64_t raw = 0;
    double real;
    float single;
    if (bits == 4) {
        raw = data[index / 2] >> (index % 2 * 4) & 15;
    } else {
        memcpy(&raw, data + index * (bits / 8), bits / 8);
    }
    switch (type) {
    case TENSOR_DOUBLE:
        memcpy(&real, &raw, 8);
        return (struct scalar){.is_real = true, .real = real};
    case TENSOR_FLOAT: memcpy(&single, &raw, 4); break;
    case TENSOR_FLOAT16: single = float_from_half((uint16_t)raw); break;
    case TENSOR_BFLOAT16: single = float_from_bfloat16((uint16_t)raw); break;
    case TENSOR_INT4:
    case TENSOR_INT8:
    case TENSOR_INT16:
    case TENSOR_INT32:
    case TENSOR_INT64: return scalar_of_signed((int64_t)(raw << (64 - bits)) >> (64 - bits));
    case TENSOR_BOOL: return (struct scalar){.magnitude = raw != 0};
    default:
        if (!type_is_float(type)) return (struct scalar){.magnitude = raw};
        single = float_from_float8((uint8_t)raw, type);
    }
    return (struct scalar){.is_real = true, .real = (double)single};
}

/* No exponent of all ones among them. Only for the types that whole arrays of are common. */
static bool is_all_finite(enum tensor_type type, const unsigned char *data, size_t count)
{
    uint32_t single, singles = 0;
    uint64_t number, numbers = 0;
    for (size_t i = 0; i < count && type == TENSOR_FLOAT; i++) {
        memcpy(&single, data + 4 * i, sizeof single);
        singles |= (single & 0x7fffffff) + 0x00800000; /* the sign bit: it was all ones */
    }
    for (size_t i = 0; i < count && type == TENSOR_DOUBLE; i++) {
        memcpy(&number, data + 8 * i, sizeof number);
        numbers |= (number & INT64_MAX) + (UINT64_C(1) << 52);
    }
    bool is_known = type == TENSOR_FLOAT || type == TENSOR_DOUBLE;
    return is_known && singles >> 31 == 0 && numbers >> 63 == 0;
}

enum error_code row_append_elements(struct row *row, enum tensor_type type,
                                    const unsigned char *data, size_t count, size_t *ret_index)
{
    size_t bytes;
    *ret_index = 0;
    if (type == TENSOR_STRING || tensor_type_bits(type) == 0) return ERROR_WRONG_TYPE;
    if (type != row->type && !(type_is_number(type) && type_is_number(row->type))) {
        return ERROR_WRONG_TYPE;
    }
    bool is_copy = type == row->type && type != TENSOR_BOOL && row->count == 0 &&
                   (!type_is_float(type) || row->nonfinite != NONFINITE_ERROR ||
                    is_all_finite(type, data, count));
    if (is_copy || !type_is_number(type)) {
        if (!tensor_bytes(type, count, &bytes) || row->capacity - row->bytes < bytes) {
            row->is_full = true;
            return ERROR_MEMORY;
        }
        if (bytes > 0) memcpy(row->out + row->bytes, data, bytes);
        row->bytes += bytes;
        row->count += count;
        return ERROR_OK;
    }
    for (size_t i = 0; i < count; i++) {
        struct scalar scalar = scalar_load(type, data, i);
        enum error_code code = row_append(row, &scalar);
        *ret_index = i;
        if (code != ERROR_OK) return code;
    }
    return ERROR_OK;
}

bool scalar_of_word(const char *text, size_t size, bool is_lenient, struct scalar *ret)
{
    static const struct {
        const char *word;
        double value;
        bool is_json;
    } words[] = {
        {"NaN", NAN, true},
        {"Infinity", INFINITY, true},
        {"inf", INFINITY, false},
    };
    bool is_negative = size > 0 && text[0] == '-';
    size_t sign = is_negative || (is_lenient && size > 0 && text[0] == '+') ? 1 : 0;
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        const char *word = words[i].word;
        if (strlen(word) != size - sign || !(words[i].is_json || is_lenient)) continue;
        bool is_same = is_lenient ? strncasecmp(text + sign, word, size - sign) == 0
                                  : memcmp(text + sign, word, size - sign) == 0;
        if (!is_same || (isnan(words[i].value) && sign > 0 && !is_lenient)) continue;
        double value = words[i].value;
        *ret = (struct scalar){.is_real = true, .real = is_negative ? -value : value};
        return true;
    }
    return false;
}

/* --- shapes ---------------------------------------------------------------------------------------- */

static bool dims_match(const struct shape *wanted, const struct shape *found, int32_t skip)
{
    if (found->rank - skip != wanted->rank) return false;
    for (int32_t i = 0; i < wanted->rank; i++) {
        if (wanted->dims[i] >= 0 && wanted->dims[i] != found->dims[i + skip]) return false;
    }
    return true;
}

bool row_shape_match(const struct input_plan *input, const struct shape *found, struct shape *ret)
{
    const struct shape *wanted = &input->row_shape;
    size_t count;
    if (wanted->rank < 0 || dims_match(wanted, found, 0)) {
        *ret = *found;
        return true;
    }
    if (input->is_fixed && found->rank <= 1 && shape_count(found, &count) &&
        count == input->count) {
        *ret = *wanted;
        return true;
    }
    if (found->rank < 1 || found->dims[0] != 1 || !dims_match(wanted, found, 1)) return false;
    *ret = (struct shape){.rank = wanted->rank};
    memcpy(ret->dims, found->dims + 1, (size_t)wanted->rank * sizeof found->dims[0]);
    return true;
}

const char *element_word(enum tensor_type type, bool is_plural)
{
    if (type == TENSOR_STRING) return is_plural ? "strings" : "string";
    if (type == TENSOR_BOOL) return is_plural ? "booleans" : "boolean";
    return is_plural ? "numbers" : "number";
}

void expected_text(const struct input_plan *input, char *text, size_t size)
{
    char shape[160];
    if (input->is_fixed && input->count == 1) {
        snprintf(text, size, "a %s", element_word(input->type, false));
    } else if (input->is_fixed && input->row_shape.rank == 1) {
        snprintf(text, size, "%zu %s", input->count, element_word(input->type, true));
    } else if (input->row_shape.rank == 1) {
        snprintf(text, size, "a list of %s", element_word(input->type, true));
    } else {
        shape_text(&input->row_shape, input->dim_names, shape, sizeof shape);
        snprintf(text, size, "%s of shape %s", element_word(input->type, true), shape);
    }
}
