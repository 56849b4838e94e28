/* SPDX-License-Identifier: Apache-2.0 */
/* format_float_test.c - numbers as text: the layout of Python's repr; reads back to the same bits; no
 * shorter text does, and of the shortest it is the closest. */
#include "format/encode.h"

#include "expect.h"

#include <ctype.h>
#include <math.h>

#define TEXT_BYTES                                                                                 \
    33 /* what the functions may touch, and one byte to see that they touch no more */
#define GUARD '#'

/* As text; fails where bytes beyond the allowed 32 were written. */
static const char *text_of(char *(*format)(char *, double), double value)
{
    static char text[TEXT_BYTES + 1];
    memset(text, GUARD, sizeof text);
    char *end = format(text, value);
    if (end - text > 32 || text[32] != GUARD) fail_msg("%a: more than 32 bytes", value);
    *end = '\0';
    return text;
}

static char *format_single(char *out, double value)
{
    return format_float(out, (float)value);
}

/* --- tables --------------------------------------------------------------------------------------- */

static void test_layout_of_float32(void **state)
{
    (void)state;
    static const struct {
        float value;
        const char *text;
    } rows[] = {
        {0.0f, "0.0"},
        {-0.0f, "-0.0"},
        {7.0f, "7.0"},
        {-1.0f, "-1.0"},
        {10.0f, "10.0"},
        {100.0f, "100.0"},
        {0.1f, "0.1"},
        {0.3f, "0.3"},
        {-2.5f, "-2.5"},
        {123.456f, "123.456"},
        {3.1415927f, "3.1415927"},
        {1e-4f, "0.0001"},
        {1.5e-4f, "0.00015"},
        {9.999999e-5f, "9.999999e-05"},
        {1e-5f, "1e-05"},
        {1e-7f, "1e-07"},
        {1.5e-7f, "1.5e-07"},
        {1e7f, "10000000.0"},
        {16777216.0f, "16777216.0"},
        {123456789.0f, "123456790.0"},
        {1e8f, "100000000.0"},
        {1e15f, "1000000000000000.0"},
        {9.999999e15f, "9999999000000000.0"},
        {1e16f, "1e+16"},
        {1.5e20f, "1.5e+20"},
        {1e10f, "10000000000.0"},
        {3.4028235e38f, "3.4028235e+38"},
        {-1.1754944e-38f, "-1.1754944e-38"},
        {1e-45f, "1e-45"},
        {1.1754942e-38f, "1.1754942e-38"},
        {8.5e-44f, "8.5e-44"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        expect_text(text_of(format_single, (double)rows[i].value), rows[i].text, rows[i].text);
}

static void test_layout_of_float64(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } rows[] = {
        {0.0, "0.0"},
        {-0.0, "-0.0"},
        {0.1, "0.1"},
        {0.30000000000000004, "0.30000000000000004"},
        {-0.00012345678901234567, "-0.00012345678901234567"},
        {1e-4, "0.0001"},
        {1e-5, "1e-05"},
        {123456.0, "123456.0"},
        {9007199254740993.0, "9007199254740992.0"},
        {1e15, "1000000000000000.0"},
        {1234567890123456.0, "1234567890123456.0"},
        {123456789012345.67, "123456789012345.67"},
        {1e16, "1e+16"},
        {1e22, "1e+22"},
        {1e23, "1e+23"},
        {5e-324, "5e-324"},
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {-1.7976931348623157e308, "-1.7976931348623157e+308"},
        {1e100, "1e+100"},
        {9.5e-7, "9.5e-07"},
        {2.0 / 3.0, "0.6666666666666666"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        expect_text(text_of(format_double, rows[i].value), rows[i].text, rows[i].text);
}

static void test_integers(void **state)
{
    (void)state;
    uint64_t seed = random_seed("integers");
    char expected[32], found[TEXT_BYTES];
    for (int round = 0; round < 200000; round++) {
        uint64_t value = random_next(&seed) >> random_below(&seed, 64);
        if (round < 20) value = round == 0 ? 0 : UINT64_MAX / ((uint64_t)round * 1000 - 999);
        memset(found, GUARD, sizeof found);
        *format_uint64(found, value) = '\0';
        snprintf(expected, sizeof expected, "%llu", (unsigned long long)value);
        expect_text(found, expected, "uint64");
        *format_int64(found, (int64_t)value) = '\0';
        snprintf(expected, sizeof expected, "%lld", (long long)(int64_t)value);
        expect_text(found, expected, "int64");
        assert_int_equal(found[32], GUARD);
    }
    uint64_t power = 1;
    for (int digits = 1; digits <= 20; digits++, power *= 10) {
        for (uint64_t value = power - 1; value != power + 2; value++) {
            *format_uint64(found, value) = '\0';
            snprintf(expected, sizeof expected, "%llu", (unsigned long long)value);
            expect_text(found, expected, "around a power of ten");
        }
    }
    *format_int64(found, INT64_MIN) = '\0';
    expect_text(found, "-9223372036854775808", "the smallest int64");
}

/* --- properties ----------------------------------------------------------------------------------- */

/* Digits of a number's text without sign, point, exponent, and zeros at both ends. */
static size_t count_significant(const char *text)
{
    char digits[TEXT_BYTES];
    size_t n = 0, first = 0;
    for (; *text != '\0' && *text != 'e'; text++)
        if (isdigit((unsigned char)*text)) digits[n++] = *text;
    while (first < n && digits[first] == '0') first++;
    while (n > first && digits[n - 1] == '0') n--;
    return n - first;
}

/* "0.00012" and "1.2e-04" are. Both have at most 17 digits: different ones differ as long double. */
static bool is_same_number(const char *a, const char *b)
{
    return strtold(a, NULL) == strtold(b, NULL);
}

/* The C library as the judge: %.*e is exact, and right with one digit less only if that is enough. */
static void check_double(double value)
{
    char text[TEXT_BYTES + 1], other[64];
    snprintf(text, sizeof text, "%s", text_of(format_double, value));
    double back = strtod(text, NULL);
    if (memcmp(&back, &value, sizeof back) != 0) fail_msg("%a became %s", value, text);
    size_t n = count_significant(text);
    if (n == 0) return;
    /* of n digits the closest: what printf rounds to, where that reads back */
    snprintf(other, sizeof other, "%.*e", (int)n - 1, value);
    if (strtod(other, NULL) == value && !is_same_number(text, other))
        fail_msg("%s is closer than %s", other, text);
    if (n == 1) return;
    snprintf(other, sizeof other, "%.*e", (int)n - 2, value);
    if (strtod(other, NULL) == value) fail_msg("%s is shorter than %s", other, text);
}

static void check_float(uint32_t bits)
{
    float value, back;
    char text[TEXT_BYTES + 1], other[64];
    memcpy(&value, &bits, sizeof value);
    if (!isfinite(value)) return;
    snprintf(text, sizeof text, "%s", text_of(format_single, (double)value));
    back = strtof(text, NULL);
    if (memcmp(&back, &value, sizeof back) != 0) fail_msg("%a became %s", (double)value, text);
    size_t n = count_significant(text);
    if (n == 0) return;
    /* of n digits the closest: what printf rounds to, where that reads back */
    snprintf(other, sizeof other, "%.*e", (int)n - 1, (double)value);
    if (strtof(other, NULL) == value && !is_same_number(text, other))
        fail_msg("%s is closer than %s", other, text);
    if (n == 1) return;
    snprintf(other, sizeof other, "%.*e", (int)n - 2, (double)value);
    if (strtof(other, NULL) == value) fail_msg("%s is shorter than %s", other, text);
}

static void test_every_exponent_of_float32(void **state)
{
    (void)state;
    static const uint32_t fractions[] = {0, 1, 2, 0x3fffff, 0x400000, 0x400001, 0x7ffffe, 0x7fffff};
    for (uint32_t exponent = 0; exponent < 255; exponent++)
        for (size_t i = 0; i < COUNT_OF(fractions); i++) {
            check_float(exponent << 23 | fractions[i]);
            check_float(UINT32_C(1) << 31 | exponent << 23 | fractions[i]);
        }
}

static void test_every_exponent_of_float64(void **state)
{
    (void)state;
    static const uint64_t fractions[] = {
        0, 1, 2, UINT64_C(0x7ffffffffffff), UINT64_C(0x8000000000000), UINT64_C(0xfffffffffffff)};
    for (uint64_t exponent = 0; exponent < 2047; exponent++)
        for (size_t i = 0; i < COUNT_OF(fractions); i++) {
            uint64_t bits = exponent << 52 | fractions[i];
            double value;
            memcpy(&value, &bits, sizeof value);
            check_double(value);
        }
}

static void test_random_bits(void **state)
{
    (void)state;
    uint64_t seed = random_seed("random bits");
    for (int round = 0; round < 200000; round++) {
        uint64_t bits = random_next(&seed);
        double value;
        memcpy(&value, &bits, sizeof value);
        check_float((uint32_t)bits);
        if (isfinite(value)) check_double(value);
    }
}

/* Numbers as people and models have them: few digits, powers of two and ten, small integers. */
static void test_plain_numbers(void **state)
{
    (void)state;
    uint64_t seed = random_seed("plain numbers");
    for (int round = 0; round < 100000; round++) {
        double value =
            (double)random_below(&seed, 100000) * pow(10, (double)random_below(&seed, 40) - 20);
        float single = (float)value;
        uint32_t bits;
        memcpy(&bits, &single, sizeof bits);
        check_float(bits);
        check_double(value);
        check_double(ldexp((double)random_below(&seed, 1000), (int)random_below(&seed, 120) - 60));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout_of_float32),
        cmocka_unit_test(test_layout_of_float64),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_every_exponent_of_float32),
        cmocka_unit_test(test_every_exponent_of_float64),
        cmocka_unit_test(test_random_bits),
        cmocka_unit_test(test_plain_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
