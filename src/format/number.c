/* SPDX-License-Identifier: Apache-2.0 */
/* number.c - decimal text -> numbers. Doubles come from Clinger's exact case, else from Lemire's
 * product of mantissa and power of five ("Number parsing at a gigabyte per second", 2021), else, for
 * one text in millions, from yyjson, which has big integers. */
#include "format/number.h"
#include "format/number_powers.h"

#include <math.h>
#include <stdio.h>
#include <yyjson.h>

#define EXPONENT_LIMIT ((int64_t)1 << 50) /* no record is long enough to make up for that */
#define SLOW_DIGITS_MAX 768 /* yyjson looks at no more; the last one tells if others follow */

__extension__ typedef unsigned __int128 uint128;

static inline bool is_digit(char c)
{
    return (unsigned char)(c - '0') <= 9;
}

/* Eight digits at once (Lemire): the value of the word, first digit in the lowest byte. */
static inline bool are_eight_digits(uint64_t word)
{
    return ((word & 0xf0f0f0f0f0f0f0f0u) |
            (((word + 0x0606060606060606u) & 0xf0f0f0f0f0f0f0f0u) >> 4)) == 0x3333333333333333u;
}

static inline uint32_t eight_digits(uint64_t word)
{
    word &= 0x0f0f0f0f0f0f0f0fu;
    word = (word * 10 + (word >> 8)) & 0x00ff00ff00ff00ffu;
    word = (word * 100 + (word >> 16)) & 0x0000ffff0000ffffu;
    return (uint32_t)(word * 10000 + (word >> 32));
}

/* Passes over digits and adds them to *value, which wraps around after 19 or 20 of them. */
static inline const char *take_digits(const char *p, const char *end, uint64_t *value)
{
    uint64_t sum = *value, word;
    while (end - p >= 8) {
        memcpy(&word, p, sizeof word);
        if (!are_eight_digits(word)) break;
        sum = sum * 100000000 + eight_digits(word);
        p += 8;
    }
    for (; p < end && is_digit(*p); p++) sum = sum * 10 + (unsigned char)(*p - '0');
    *value = sum;
    return p;
}

/* Adds the digits of [p, end) to the mantissa. Returns how many did not fit. */
static int64_t add_digits(struct number *number, const char *p, const char *end)
{
    uint64_t mantissa = number->mantissa;
    for (; p < end; p++) {
        unsigned digit = (unsigned char)*p - '0';
        if (__builtin_expect(mantissa >= UINT64_MAX / 10, 0)) {
            if (mantissa > UINT64_MAX / 10 || digit > UINT64_MAX % 10) break;
        }
        mantissa = mantissa * 10 + digit;
    }
    number->mantissa = mantissa;
    for (const char *rest = p; rest < end; rest++) number->is_cut |= *rest != '0';
    return end - p;
}

/* The exponent after 'e'; NULL where no digit follows. */
static const char *scan_exponent(const char *p, const char *end, int64_t *exponent)
{
    bool is_negative = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) p++;
    const char *first = p;
    int64_t value = 0;
    for (; p < end && is_digit(*p); p++) {
        if (value < EXPONENT_LIMIT) value = value * 10 + (*p - '0');
    }
    *exponent += is_negative ? -value : value;
    return p == first ? NULL : p;
}

/* The mantissa once more, of a number with more digits than surely fit. */
static int64_t scan_long(struct number *number, const char *whole, const char *whole_end,
                         const char *fraction, const char *fraction_end)
{
    number->mantissa = 0;
    int64_t exponent = add_digits(number, whole, whole_end);
    if (exponent == 0) {
        return add_digits(number, fraction, fraction_end) - (fraction_end - fraction);
    }
    for (const char *p = fraction; p < fraction_end; p++) number->is_cut |= *p != '0';
    return exponent;
}

static inline const char *scan(const char *p, const char *end, bool is_lenient, struct number *ret)
{
    uint64_t mantissa = 0;
    bool is_negative = false;
    if (p < end && (*p == '-' || (is_lenient && *p == '+'))) is_negative = *p++ == '-';
    const char *whole = p;
    p = take_digits(p, end, &mantissa);
    const char *whole_end = p, *fraction = p;
    if (!is_lenient && (whole == whole_end || (*whole == '0' && whole_end - whole > 1)))
        return NULL;
    if (p < end && *p == '.') {
        fraction = ++p;
        p = take_digits(p, end, &mantissa);
        if (p == fraction && !is_lenient) return NULL;
    }
    int64_t n_digits = (whole_end - whole) + (p - fraction), exponent = fraction - p;
    if (n_digits == 0) return NULL;
    ret->mantissa = mantissa;
    ret->is_negative = is_negative;
    ret->is_cut = false;
    if (__builtin_expect(n_digits > 19, 0))
        exponent = scan_long(ret, whole, whole_end, fraction, p);
    if (p < end && (*p == 'e' || *p == 'E')) {
        p = scan_exponent(p + 1, end, &exponent);
        if (p == NULL) return NULL;
    }
    int64_t low = -(int64_t)INT32_MAX, high = INT32_MAX;
    ret->exponent = (int32_t)MAX(low, MIN(high, exponent));
    return p;
}

const char *number_scan(const char *text, const char *end, struct number *ret)
{
    return scan(text, end, false, ret);
}

const char *number_scan_lenient(const char *text, const char *end, struct number *ret)
{
    return scan(text, end, true, ret);
}

/* Lemire's algorithm for a mantissa that is not 0 and POWER_MIN <= exponent <= POWER_MAX: such
 * numbers are normal doubles. False: too close to a middle to tell. */
static bool multiply(uint64_t mantissa, int32_t exponent, double *ret)
{
    const uint64_t *power = powers_of_five[exponent - POWER_MIN];
    int zeros = __builtin_clzll(mantissa);
    uint64_t wide = mantissa << zeros;
    uint128 product = (uint128)wide * power[0];
    uint64_t high = (uint64_t)(product >> 64), low = (uint64_t)product;
    if ((high & 0x1ff) == 0x1ff) { /* the 55 bits that count may depend on the lower half */
        uint64_t carry = (uint64_t)(((uint128)wide * power[1]) >> 64);
        low += carry;
        high += low < carry;
        if (low == UINT64_MAX && (exponent < -27 || exponent > 55)) return false;
    }
    int upper = (int)(high >> 63), shift = upper + 64 - 52 - 3;
    uint64_t bits = high >> shift;
    int64_t power2 = ((217706 * (int64_t)exponent) >> 16) + 63 + upper - zeros + 1023;
    if (low <= 1 && exponent >= -4 && exponent <= 23 && (bits & 3) == 1) {
        if (bits << shift == high) bits &= ~(uint64_t)1; /* exactly in the middle: to even */
    }
    bits = (bits + (bits & 1)) >> 1;
    if (bits >= (uint64_t)2 << 52) {
        bits = (uint64_t)1 << 52;
        power2++;
    }
    bits = (bits & ~((uint64_t)1 << 52)) | (uint64_t)power2 << 52;
    memcpy(ret, &bits, sizeof bits);
    return true;
}

/* All digits of the text as one integer and an exponent, for yyjson. */
static double convert_slowly(const struct number *number, const char *text, const char *end)
{
    char digits[SLOW_DIGITS_MAX + 32];
    size_t used = 0;
    int64_t exponent = 0;
    bool is_fraction = false, has_more = false;
    const char *p = text;
    for (; p < end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.') is_fraction = true;
        if (!is_digit(*p)) continue;
        bool is_kept = used < SLOW_DIGITS_MAX;
        if (is_kept && (used > 0 || *p != '0')) digits[used++] = *p;
        if (!is_kept && *p != '0') has_more = true;
        exponent += (is_kept ? 0 : 1) - (is_fraction ? 1 : 0);
    }
    if (p < end) (void)scan_exponent(p + 1, end, &exponent);
    if (used == 0) return number->is_negative ? -0.0 : 0.0;
    if (has_more) digits[used - 1] |= 1; /* sticky: the dropped digits only break ties */
    if (exponent + (int64_t)used > 400) return number->is_negative ? -INFINITY : INFINITY;
    if (exponent + (int64_t)used < -400) return number->is_negative ? -0.0 : 0.0;
    snprintf(digits + used, sizeof digits - used, "e%d", (int)exponent);
    yyjson_val value;
    const char *stop = yyjson_read_number(digits, &value, YYJSON_READ_NOFLAG, NULL, NULL);
    double magnitude = stop == NULL ? INFINITY : yyjson_get_num(&value);
    return number->is_negative ? -magnitude : magnitude;
}

double number_to_double(const struct number *number, const char *text, const char *end)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    uint64_t mantissa = number->mantissa;
    int32_t exponent = number->exponent;
    double value, next;
    if (mantissa <= (uint64_t)1 << 53 && exponent >= -22 && exponent <= 22 && !number->is_cut) {
        value = exponent < 0 ? (double)mantissa / powers[-exponent]
                             : (double)mantissa * powers[exponent];
        return number->is_negative ? -value : value;
    }
    bool is_near = exponent >= POWER_MIN && exponent <= POWER_MAX && mantissa != 0;
    if (is_near && multiply(mantissa, exponent, &value)) {
        bool is_sure = !number->is_cut;
        if (!is_sure && mantissa != UINT64_MAX && multiply(mantissa + 1, exponent, &next)) {
            is_sure = value == next;
        }
        if (is_sure) return number->is_negative ? -value : value;
    }
    return convert_slowly(number, text, end);
}

enum error_code number_to_integer(const struct number *number, uint64_t *ret_magnitude)
{
    uint64_t magnitude = number->mantissa;
    int32_t exponent = number->exponent;
    if (number->is_cut) return exponent >= 0 ? ERROR_OUT_OF_RANGE : ERROR_WRONG_TYPE;
    if (magnitude == 0) exponent = 0;
    if (exponent > 19) return ERROR_OUT_OF_RANGE;
    if (exponent < -19) return ERROR_WRONG_TYPE;
    for (; exponent > 0; exponent--) {
        if (__builtin_mul_overflow(magnitude, (uint64_t)10, &magnitude)) return ERROR_OUT_OF_RANGE;
    }
    for (; exponent < 0; exponent++) {
        if (magnitude % 10 != 0) return ERROR_WRONG_TYPE;
        magnitude /= 10;
    }
    *ret_magnitude = magnitude;
    return ERROR_OK;
}
