/* SPDX-License-Identifier: Apache-2.0 */
/* tensor.c - element types, small floats, shapes, and signatures: what every room says of tensors. */
#include "format/tensor.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *name;
    unsigned bits;
} types[TENSOR_TYPE_COUNT] = {
#define ROW(name, number, text, bits) [TENSOR_##name] = {text, bits},
    TENSOR_TYPES(ROW)
#undef ROW
};

const char *tensor_type_name(enum tensor_type type)
{
    bool is_known = (unsigned)type < TENSOR_TYPE_COUNT && types[type].name != NULL;
    return is_known ? types[type].name : "undefined";
}

enum tensor_type tensor_type_of_name(const char *name)
{
    for (unsigned type = 0; type < TENSOR_TYPE_COUNT; type++) {
        if (types[type].name != NULL && strcmp(types[type].name, name) == 0) return type;
    }
    if (strcmp(name, "float") == 0) return TENSOR_FLOAT;
    if (strcmp(name, "double") == 0) return TENSOR_DOUBLE;
    return TENSOR_UNDEFINED;
}

unsigned tensor_type_bits(enum tensor_type type)
{
    return (unsigned)type < TENSOR_TYPE_COUNT ? types[type].bits : 0;
}

bool tensor_bytes(enum tensor_type type, size_t count, size_t *ret_bytes)
{
    unsigned bits = tensor_type_bits(type);
    if (bits == 4) {
        *ret_bytes = count / 2 + count % 2;
        return true;
    }
    return !size_mul(count, bits / 8, ret_bytes);
}

/* --- small floats ----------------------------------------------------------------------------- */

/* A sign bit, `exponent_bits`, `fraction_bits`; subnormals as in IEEE 754. What lies above
 * `finite_max` is infinity (where there is one) and NaN. */
struct small_float {
    int exponent_bits, fraction_bits, bias;
    uint32_t finite_max; /* largest finite number, without the sign */
    uint32_t too_large;  /* what becomes of larger ones, without the sign */
    uint32_t nan;
    bool is_unsigned_nan; /* FNUZ: no negative zero, its code is the only NaN */
};

static const struct small_float half_format = {5, 10, 15, 0x7bff, 0x7c00, 0x7e00, false};
static const struct small_float e4m3fn = {4, 3, 7, 0x7e, 0x7f, 0x7f, false};
static const struct small_float e4m3fnuz = {4, 3, 8, 0x7f, 0x80, 0x80, true};
static const struct small_float e5m2 = {5, 2, 15, 0x7b, 0x7c, 0x7f, false};
static const struct small_float e5m2fnuz = {5, 2, 16, 0x7f, 0x80, 0x80, true};

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* `code` without its sign, finite. Exact: every small float is a normal float32. */
static uint32_t widen(const struct small_float *format, uint32_t code)
{
    uint32_t fraction = code & ((1u << format->fraction_bits) - 1);
    int exponent = (int)(code >> format->fraction_bits);
    if (exponent == 0) {
        if (fraction == 0) return 0;
        int shift = __builtin_clz(fraction) - (31 - format->fraction_bits);
        fraction = (fraction << shift) & ((1u << format->fraction_bits) - 1);
        exponent = 1 - shift;
    }
    return (uint32_t)(exponent - format->bias + 127) << 23 | fraction
                                                                 << (23 - format->fraction_bits);
}

static float to_float(const struct small_float *format, uint32_t code)
{
    int sign_shift = format->exponent_bits + format->fraction_bits;
    uint32_t sign = (code >> sign_shift) << 31;
    uint32_t rest = code & ((1u << sign_shift) - 1);
    if (format->is_unsigned_nan && code == format->nan) return float_of(0x7fc00000u);
    if (rest <= format->finite_max) return float_of(sign | widen(format, rest));
    if (rest == format->too_large && rest != format->nan) return float_of(sign | 0x7f800000u);
    uint32_t payload = (rest & ((1u << format->fraction_bits) - 1)) << (23 - format->fraction_bits);
    return float_of(sign | 0x7fc00000u | payload);
}

/* Rounds the magnitude to nearest, ties to even. The result may be above finite_max. */
static uint32_t narrow(const struct small_float *format, uint32_t bits)
{
    int exponent = (int)(bits >> 23) - 127 + format->bias;
    uint32_t significand = (bits & 0x7fffff) | 0x800000;
    int shift = 23 - format->fraction_bits;
    if (bits < 0x800000) return 0; /* float32's own subnormals are far below */
    if (exponent < 1) {
        shift += 1 - exponent;
        exponent = 1;
    }
    if (shift > 24) return 0;
    uint32_t quotient = significand >> shift;
    uint32_t rest = significand & ((1u << shift) - 1), middle = 1u << (shift - 1);
    if (rest > middle || (rest == middle && (quotient & 1) != 0)) quotient++;
    return ((uint32_t)(exponent - 1) << format->fraction_bits) + quotient;
}

static uint32_t from_float(const struct small_float *format, float value)
{
    uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffff;
    uint32_t sign = (bits >> 31) << (format->exponent_bits + format->fraction_bits);
    uint32_t code = magnitude > 0x7f800000 ? format->nan : narrow(format, magnitude);
    if (magnitude <= 0x7f800000 && code > format->finite_max) code = format->too_large;
    if (format->is_unsigned_nan && (code == 0 || code == format->nan)) return code;
    return sign | code;
}

float float_from_half(uint16_t half)
{
    return to_float(&half_format, half);
}

uint16_t half_from_float(float value)
{
    return (uint16_t)from_float(&half_format, value);
}

float float_from_bfloat16(uint16_t value)
{
    return float_of((uint32_t)value << 16);
}

uint16_t bfloat16_from_float(float value)
{
    uint32_t bits = bits_of(value);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static const struct small_float *float8_format(enum tensor_type type)
{
    switch (type) {
    case TENSOR_FLOAT8E4M3FN: return &e4m3fn;
    case TENSOR_FLOAT8E4M3FNUZ: return &e4m3fnuz;
    case TENSOR_FLOAT8E5M2: return &e5m2;
    default: return &e5m2fnuz;
    }
}

float float_from_float8(uint8_t value, enum tensor_type type)
{
    return to_float(float8_format(type), value);
}

uint8_t float8_from_float(float value, enum tensor_type type)
{
    return (uint8_t)from_float(float8_format(type), value);
}

/* --- shapes and signatures --------------------------------------------------------------------- */

double tensor_real(const unsigned char *data, enum tensor_type type, size_t k)
{
    float single;
    double number;
    uint16_t half;
    switch (type) {
    case TENSOR_FLOAT: memcpy(&single, data + 4 * k, sizeof single); return (double)single;
    case TENSOR_DOUBLE: memcpy(&number, data + 8 * k, sizeof number); return number;
    case TENSOR_FLOAT16:
        memcpy(&half, data + 2 * k, sizeof half);
        return (double)float_from_half(half);
    case TENSOR_BFLOAT16:
        memcpy(&half, data + 2 * k, sizeof half);
        return (double)float_from_bfloat16(half);
    default: return (double)NAN;
    }
}

bool shape_count(const struct shape *shape, size_t *ret_count)
{
    size_t count = 1;
    for (int32_t i = 0; i < shape->rank; i++) {
        if (shape->dims[i] < 0 || size_mul(count, (size_t)shape->dims[i], &count)) return false;
    }
    *ret_count = count;
    return shape->rank >= 0;
}

void shape_text(const struct shape *shape, char *const *dim_names, char *text, size_t size)
{
    size_t used = 0;
    if (size == 0) return;
    text[0] = '\0';
    if (shape->rank < 0) {
        snprintf(text, size, "[?]");
        return;
    }
    for (int32_t i = 0; i <= shape->rank && used < size; i++) {
        const char *separator = i == 0 ? "[" : i < shape->rank ? ", " : "";
        const char *name = dim_names != NULL && i < shape->rank ? dim_names[i] : NULL;
        int length;
        if (i == shape->rank) {
            length = snprintf(text + used, size - used, i == 0 ? "[]" : "]");
        } else if (shape->dims[i] >= 0) {
            length =
                snprintf(text + used, size - used, "%s%lld", separator, (long long)shape->dims[i]);
        } else {
            length = snprintf(text + used, size - used, "%s%s", separator, name ? name : "?");
        }
        if (length < 0) return;
        used += (size_t)length;
    }
}

static void free_values(struct value_spec *values, size_t count)
{
    for (size_t i = 0; values != NULL && i < count; i++) {
        free(values[i].name);
        for (size_t k = 0; k < TENSOR_RANK_MAX; k++) free(values[i].dim_names[k]);
    }
    free(values);
}

void model_signature_free(struct model_signature *signature)
{
    free_values(signature->inputs, signature->n_inputs);
    free_values(signature->outputs, signature->n_outputs);
    *signature = (struct model_signature){0};
}

struct shape value_row_shape(const struct value_spec *spec, bool is_batched)
{
    struct shape row = spec->shape;
    if (!is_batched || row.rank < 1) return row;
    row.rank--;
    memmove(row.dims, row.dims + 1, (size_t)row.rank * sizeof row.dims[0]);
    return row;
}

bool signature_has_dynamic_row(const struct model_signature *signature)
{
    for (size_t i = 0; i < signature->n_inputs; i++) {
        struct shape row = value_row_shape(&signature->inputs[i], signature->is_batched);
        size_t count;
        if (row.rank < 0 || !shape_count(&row, &count)) return true;
    }
    return false;
}
