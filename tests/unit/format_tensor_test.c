/* SPDX-License-Identifier: Apache-2.0 */
/* format_tensor_test.c - small floats against arithmetic on their definition, for every code; shapes. */
#include "format/tensor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* Value by definition; NAN and infinity where the format has them. */
static double by_definition(unsigned code, int exponent_bits, int fraction_bits, int bias, int kind)
{
    unsigned sign = code >> (exponent_bits + fraction_bits);
    int exponent = (int)(code >> fraction_bits) & ((1 << exponent_bits) - 1);
    unsigned fraction = code & ((1u << fraction_bits) - 1);
    bool is_top = exponent == (1 << exponent_bits) - 1;
    if (kind == 'z' && code == 1u << (exponent_bits + fraction_bits)) return NAN;
    if (kind == 'i' && is_top) return fraction != 0 ? NAN : sign != 0 ? -INFINITY : INFINITY;
    if (kind == 'n' && is_top && fraction == (1u << fraction_bits) - 1) return NAN;
    double value = exponent == 0
                       ? ldexp(fraction, 1 - bias - fraction_bits)
                       : ldexp((1u << fraction_bits) + fraction, exponent - bias - fraction_bits);
    return sign != 0 ? -value : value;
}

static void assert_same(double expected, double found)
{
    if (isnan(expected)) {
        assert_true(isnan(found));
        return;
    }
    assert_true(expected == found && signbit(expected) == signbit(found));
}

static void test_every_half(void **state)
{
    (void)state;
    for (unsigned code = 0; code < 65536; code++) {
        float value = float_from_half((uint16_t)code);
        assert_same(by_definition(code, 5, 10, 15, 'i'), (double)value);
        if (!isnan(value)) assert_int_equal(half_from_float(value), code);
        if (isnan(value)) assert_true(isnan(float_from_half(half_from_float(value))));
        float wide = float_from_bfloat16((uint16_t)code);
        assert_same(by_definition(code, 8, 7, 127, 'i'), (double)wide);
        if (!isnan(wide)) assert_int_equal(bfloat16_from_float(wide), code);
    }
}

/* Between two neighbours: below the middle down, above it up, the middle to the even one. */
static void check_rounding(unsigned low, double a, double b, unsigned (*convert)(float))
{
    double middle = (a + b) / 2;
    if (fabs(middle) < 0x1p-126) return; /* not exact in float32 */
    assert_int_equal(convert((float)middle), low % 2 == 0 ? low : low + 1);
    assert_int_equal(convert(nextafterf((float)middle, (float)a)), low);
    assert_int_equal(convert(nextafterf((float)middle, (float)b)), low + 1);
}

static unsigned half_of(float value)
{
    return half_from_float(value);
}

static unsigned bfloat16_of(float value)
{
    return bfloat16_from_float(value);
}

static void test_rounding_of_halfs(void **state)
{
    (void)state;
    for (unsigned code = 0; code < 65535; code++) {
        double a = (double)float_from_half((uint16_t)code);
        double b = (double)float_from_half((uint16_t)(code + 1));
        if (isfinite(a) && isfinite(b) && a != 0) check_rounding(code, a, b, half_of);
        a = (double)float_from_bfloat16((uint16_t)code);
        b = (double)float_from_bfloat16((uint16_t)(code + 1));
        if (isfinite(a) && isfinite(b) && fabs(a) >= 0x1p-126) {
            check_rounding(code, a, b, bfloat16_of);
        }
    }
    assert_int_equal(half_from_float(65519.0f), 0x7bff);
    assert_int_equal(half_from_float(65520.0f), 0x7c00);
    assert_int_equal(half_from_float(-1e30f), 0xfc00);
    assert_int_equal(half_from_float(-1e-30f), 0x8000);
    assert_int_equal(half_from_float(0x1p-25f), 0);
    assert_int_equal(half_from_float(0x1.8p-25f), 1);
}

static const struct float8 {
    enum tensor_type type;
    int exponent_bits, fraction_bits, bias, kind;
    unsigned too_large; /* code of 1e6 */
} float8s[] = {
    {TENSOR_FLOAT8E4M3FN, 4, 3, 7, 'n', 0x7f},
    {TENSOR_FLOAT8E4M3FNUZ, 4, 3, 8, 'z', 0x80},
    {TENSOR_FLOAT8E5M2, 5, 2, 15, 'i', 0x7c},
    {TENSOR_FLOAT8E5M2FNUZ, 5, 2, 16, 'z', 0x80},
};

static enum tensor_type type_now;

static unsigned float8_of(float value)
{
    return float8_from_float(value, type_now);
}

static void test_every_float8(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(float8s); i++) {
        const struct float8 *f = &float8s[i];
        type_now = f->type;
        for (unsigned code = 0; code < 256; code++) {
            double expected =
                by_definition(code, f->exponent_bits, f->fraction_bits, f->bias, f->kind);
            float value = float_from_float8((uint8_t)code, f->type);
            assert_same(expected, (double)value);
            if (!isnan(value)) assert_int_equal(float8_of(value), code);
            if (isnan(value))
                assert_true(isnan(float_from_float8((uint8_t)float8_of(value), f->type)));
            double next = by_definition((code + 1) & 255, f->exponent_bits, f->fraction_bits,
                                        f->bias, f->kind);
            bool has_next = (code & 127) != 127 && isfinite(expected) && isfinite(next);
            if (has_next && expected != 0) check_rounding(code, expected, next, float8_of);
        }
        assert_int_equal(float8_of(1e6f), f->too_large);
        assert_int_equal(float8_of(INFINITY), f->too_large);
        assert_int_equal(float8_of(-0.0f), f->kind == 'z' ? 0 : 0x80);
    }
}

static void test_types(void **state)
{
    (void)state;
    size_t bytes;
    assert_string_equal(tensor_type_name(TENSOR_BFLOAT16), "bfloat16");
    assert_string_equal(tensor_type_name(TENSOR_UNDEFINED), "undefined");
    assert_string_equal(tensor_type_name((enum tensor_type)99), "undefined");
    assert_int_equal(tensor_type_of_name("float32"), TENSOR_FLOAT);
    assert_int_equal(tensor_type_of_name("double"), TENSOR_DOUBLE);
    assert_int_equal(tensor_type_of_name("floaty"), TENSOR_UNDEFINED);
    assert_true(tensor_bytes(TENSOR_INT4, 5, &bytes) && bytes == 3);
    assert_true(tensor_bytes(TENSOR_COMPLEX128, 2, &bytes) && bytes == 32);
    assert_true(tensor_bytes(TENSOR_STRING, 2, &bytes) && bytes == 0);
    assert_false(tensor_bytes(TENSOR_DOUBLE, SIZE_MAX / 4, &bytes));
}

static void test_shapes(void **state)
{
    (void)state;
    char text[64], few[6];
    size_t count;
    char *names[] = {(char *)(uintptr_t) "batch", NULL, NULL};
    struct shape shape = {3, {-1, 64, -1}};
    shape_text(&shape, names, text, sizeof text);
    assert_string_equal(text, "[batch, 64, ?]");
    shape_text(&shape, names, few, sizeof few);
    assert_string_equal(few, "[batc");
    assert_false(shape_count(&shape, &count));
    shape = (struct shape){0};
    shape_text(&shape, NULL, text, sizeof text);
    assert_string_equal(text, "[]");
    assert_true(shape_count(&shape, &count) && count == 1);
    shape = (struct shape){3, {INT64_MAX, INT64_MAX, 2}};
    assert_false(shape_count(&shape, &count));
    struct value_spec spec = {.shape = {3, {-1, 3, 4}}};
    shape = value_row_shape(&spec, true);
    assert_true(shape.rank == 2 && shape.dims[0] == 3 && shape.dims[1] == 4);
    assert_int_equal(value_row_shape(&spec, false).rank, 3);
    spec.shape.rank = -1;
    assert_int_equal(value_row_shape(&spec, true).rank, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_half),   cmocka_unit_test(test_rounding_of_halfs),
        cmocka_unit_test(test_every_float8), cmocka_unit_test(test_types),
        cmocka_unit_test(test_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
