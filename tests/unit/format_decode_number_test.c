/* SPDX-License-Identifier: Apache-2.0 */
/* format_decode_number_test.c - decimal text against strtod, and exact integers at their limits. */
#include "format/number.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

static void check(const char *text)
{
    struct number number;
    const char *end = text + strlen(text);
    assert_ptr_equal(number_scan_lenient(text, end, &number), end);
    double found = number_to_double(&number, text, end), expected = strtod(text, NULL);
    if (memcmp(&found, &expected, sizeof found) != 0) {
        print_error("%s: %a, not %a\n", text, expected, found);
    }
    assert_memory_equal(&found, &expected, sizeof found);
}

static const char *const hard[] = {
    "0",
    "-0.0",
    "1e22",
    "1e23",
    "9007199254740993",
    "9007199254740992.5",
    "123456789012345678901234567890",
    "1.7976931348623157e308",
    "1.7976931348623159e308",
    "4.9e-324",
    "2.4703282292062327e-324",
    "2.4703282292062328e-324",
    "2.2250738585072011e-308",
    "1e-400",
    "1e400",
    "0e999999999999999999999",
    "1e-999999999999999999999",
    "0.000000000000000000000000000000000000000000000000000000000001e60",
    "100000000000000000000000000000000000000000000000000000000000e-59",
    "18446744073709551615",
    "18446744073709551616",
    "1844674407370955161500000e-5",
    "7.2057594037927933e16",
    "6929495644600919.5",
    "3.602879701896397e-7",
    "+.5",
    "5.",
    "007",
};

static void test_hard_cases(void **state)
{
    (void)state;
    char text[2000];
    for (size_t i = 0; i < COUNT_OF(hard); i++) check(hard[i]);
    /* The middle between two doubles, exactly, and a hair above and below it. */
    snprintf(text, sizeof text, "%.60f", 1.0);
    for (int i = -1070; i <= 1000; i += 23) {
        double a = ldexp(1.0 + (double)(i & 7) / 8, i);
        long double middle = ((long double)a + (long double)nextafter(a, INFINITY)) / 2;
        if (i < -1000) middle = (long double)a; /* printf of subnormals: just the number */
        snprintf(text, sizeof text, "%.1100Lf", middle);
        check(text);
        size_t length = strlen(text);
        snprintf(text + length, sizeof text - length, "1");
        check(text);
    }
}

static void test_random(void **state)
{
    (void)state;
    const char *seed_text = getenv("TIDEMILL_SEED");
    uint64_t seed = seed_text != NULL ? strtoull(seed_text, NULL, 10) : (uint64_t)time(NULL);
    print_message("seed %llu (TIDEMILL_SEED sets it)\n", (unsigned long long)seed);
    char text[64];
    for (int i = 0; i < 300000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint64_t bits = seed ^ seed >> 29;
        double value;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value)) continue;
        snprintf(text, sizeof text, "%.*g", 1 + (int)(seed >> 60), value);
        check(text);
        snprintf(text, sizeof text, "%.17g", value);
        check(text);
        snprintf(text, sizeof text, "%llue%d", (unsigned long long)(bits >> (seed >> 58)),
                 (int)(seed >> 33 & 127) - 64);
        check(text);
        snprintf(text, sizeof text, "%.17g", ldexp((double)(bits >> 11), -53));
        check(text);
    }
}

struct integer_case {
    const char *text;
    enum error_code code;
    uint64_t magnitude;
};

static const struct integer_case integers[] = {
    {"0", ERROR_OK, 0},
    {"-0", ERROR_OK, 0},
    {"0e99999", ERROR_OK, 0},
    {"18446744073709551615", ERROR_OK, UINT64_MAX},
    {"18446744073709551616", ERROR_OUT_OF_RANGE, 0},
    {"1e19", ERROR_OK, 10000000000000000000u},
    {"1e20", ERROR_OUT_OF_RANGE, 0},
    {"12.50e2", ERROR_OK, 1250},
    {"12.505e2", ERROR_WRONG_TYPE, 0},
    {"1.000000000000000000000000000000", ERROR_OK, 1},
    {"1.000000000000000000000000000001", ERROR_WRONG_TYPE, 0},
    {"1e-1", ERROR_WRONG_TYPE, 0},
    {"1e-99999999999", ERROR_WRONG_TYPE, 0},
    {"100000000000000000000000e-20", ERROR_OK, 1000},
};

static void test_integers(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(integers); i++) {
        const struct integer_case *c = &integers[i];
        struct number number;
        uint64_t magnitude = 0;
        assert_non_null(number_scan(c->text, c->text + strlen(c->text), &number));
        enum error_code code = number_to_integer(&number, &magnitude);
        if (code != c->code) print_error("%s\n", c->text);
        assert_int_equal(code, c->code);
        assert_true(magnitude == c->magnitude);
    }
}

static void test_grammar(void **state)
{
    (void)state;
    static const char *const refused[] = {"",   "-",  "+1",  ".5",  "1.",
                                          "01", "1e", "1e+", "-01", "e5"};
    static const char *const lenient_too[] = {"", "-", "+", ".", "e5", "-.", "1e"};
    struct number number;
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        assert_null(number_scan(refused[i], refused[i] + strlen(refused[i]), &number));
    }
    for (size_t i = 0; i < COUNT_OF(lenient_too); i++) {
        const char *text = lenient_too[i];
        assert_null(number_scan_lenient(text, text + strlen(text), &number));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hard_cases),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_grammar),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
