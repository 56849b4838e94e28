/* SPDX-License-Identifier: Apache-2.0 */
/* float_format.c - numbers as the shortest decimal text that reads back to the same number.
 *
 * The digits come from Schubfach: R. Giulietti, "The Schubfach way to render doubles", 2020, with the
 * rounding intervals scaled by four as in its section 9. Of the shortest decimals inside the rounding
 * interval it takes the one closest to the value.
 *
 * The layout is Python's repr: 7.0, 0.0001, 1e-05, 1e+16, so that a file can be compared with what
 * json.dumps writes. Digits are made eight at a time inside one 64-bit word (first digit in the
 * lowest byte, as memory has it on a little-endian machine) and stored with fixed-size copies that
 * may write beyond the end of the text, but never beyond the 32 bytes that callers provide. */
#include "format/encode.h"
#include "format/powers_of_ten.h"

#include <string.h>

#define ZEROS UINT64_C(0x3030303030303030) /* "00000000" */

__extension__ typedef unsigned __int128 uint128;

/* digits * 10^exponent */
struct decimal {
    uint64_t digits;
    int exponent;
};

static const uint64_t small_powers[20] = {
    UINT64_C(1),
    UINT64_C(10),
    UINT64_C(100),
    UINT64_C(1000),
    UINT64_C(10000),
    UINT64_C(100000),
    UINT64_C(1000000),
    UINT64_C(10000000),
    UINT64_C(100000000),
    UINT64_C(1000000000),
    UINT64_C(10000000000),
    UINT64_C(100000000000),
    UINT64_C(1000000000000),
    UINT64_C(10000000000000),
    UINT64_C(100000000000000),
    UINT64_C(1000000000000000),
    UINT64_C(10000000000000000),
    UINT64_C(100000000000000000),
    UINT64_C(1000000000000000000),
    UINT64_C(10000000000000000000),
};

/* --- digits of integers --------------------------------------------------------------------------- */

/* The eight decimal digits of value < 10^8 as bytes 0..9. Divides in all lanes of the word at once. */
static inline uint64_t eight_digits(uint32_t value)
{
    uint64_t x = value / 10000 | (uint64_t)(value % 10000) << 32;
    uint64_t y = ((x * 10486) >> 20) & UINT64_C(0x0000007f0000007f); /* each 4 digits / 100 */
    x = y | (x - 100 * y) << 16;
    y = ((x * 103) >> 10) & UINT64_C(0x000f000f000f000f); /* each 2 digits / 10 */
    return y | (x - 10 * y) << 8;
}

static inline void store_digits(char *out, uint64_t digits)
{
    digits |= ZEROS;
    memcpy(out, &digits, 8);
}

/* Number of decimal digits; 1 for zero. */
static inline unsigned count_digits(uint64_t value)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll(value | 1);
    unsigned guess = bits * 1233 >> 12; /* bits * log10(2) */
    return guess + (guess == 0 || value >= small_powers[guess]);
}

/* value < 10^8, no leading zeros. */
static inline char *put_up_to_eight(char *out, uint32_t value)
{
    uint64_t digits = eight_digits(value);
    unsigned leading = (unsigned)__builtin_ctzll(digits | UINT64_C(1) << 56) / 8;
    digits = (digits | ZEROS) >> (8 * leading);
    memcpy(out, &digits, 8);
    return out + 8 - leading;
}

char *format_uint64(char *out, uint64_t value)
{
    const uint64_t e8 = 100000000;
    if (value < e8) return put_up_to_eight(out, (uint32_t)value);
    uint64_t head = value / e8;
    if (head < e8) {
        out = put_up_to_eight(out, (uint32_t)head);
    } else {
        out = put_up_to_eight(out, (uint32_t)(head / e8));
        store_digits(out, eight_digits((uint32_t)(head % e8)));
        out += 8;
    }
    store_digits(out, eight_digits((uint32_t)(value % e8)));
    return out + 8;
}

char *format_int64(char *out, int64_t value)
{
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    *out = '-';
    return format_uint64(out + (value < 0), magnitude);
}

/* --- Schubfach ------------------------------------------------------------------------------------ */

/* floor(log10(2^e)), floor(log10(3/4 * 2^e)), floor(log2(10^e)) for the exponents of float64. */
static inline int floor_log10_power2(int e, bool is_three_quarters)
{
    return (e * 1262611 - (is_three_quarters ? 524031 : 0)) >> 22;
}

static inline int floor_log2_power10(int e)
{
    return (e * 1741647) >> 19;
}

/* power * factor / 2^64, rounded to odd: the last bit says whether bits were lost, so that
 * comparisons with exact bounds stay right. */
static inline uint32_t scale_32(uint64_t power, uint32_t factor)
{
    uint128 product = (uint128)power * factor;
    return (uint32_t)(product >> 64) | ((uint32_t)((uint64_t)product >> 32) > 1);
}

static inline uint64_t scale_64(const uint64_t power[2], uint64_t factor)
{
    uint128 low = (uint128)power[1] * factor;
    uint128 product = (uint128)power[0] * factor + (uint64_t)(low >> 64);
    return (uint64_t)(product >> 64) | ((uint64_t)product > 1);
}

/* Chooses within the rounding interval [lower, upper] of `middle`, all scaled by 4 * 10^-exponent. */
static inline struct decimal choose(uint64_t lower, uint64_t middle, uint64_t upper, int exponent)
{
    uint64_t s = middle / 4;
    if (s >= 10) { /* one digit less: a multiple of ten inside the interval? */
        uint64_t tens = s / 10;
        bool is_down_inside = lower <= 40 * tens;
        bool is_up_inside = 40 * tens + 40 <= upper;
        if (is_down_inside != is_up_inside) {
            return (struct decimal){tens + is_up_inside, exponent + 1};
        }
    }
    bool is_down_inside = lower <= 4 * s;
    bool is_up_inside = 4 * s + 4 <= upper;
    if (is_down_inside != is_up_inside) return (struct decimal){s + is_up_inside, exponent};
    uint64_t half = 4 * s + 2;
    bool is_rounded_up = middle > half || (middle == half && (s & 1) != 0);
    return (struct decimal){s + is_rounded_up, exponent};
}

/* `bits` without the sign; finite, not zero. */
static inline struct decimal shortest_32(uint32_t bits)
{
    uint32_t fraction = bits & 0x7fffff;
    uint32_t biased = bits >> 23;
    uint32_t c = biased != 0 ? fraction | 0x800000 : fraction;
    int q = (biased != 0 ? (int)biased : 1) - 150; /* value = c * 2^q */
    /* An integer below 2^24 is its own shortest form: its neighbours are at most 1 away. */
    if (q <= 0 && q > -24 && (c & ((1u << -q) - 1)) == 0) return (struct decimal){c >> -q, 0};

    uint32_t is_odd = c & 1;
    bool is_lower_closer = fraction == 0 && biased > 1;
    int k = floor_log10_power2(q, is_lower_closer);
    int h = q + floor_log2_power10(-k) + 1;
    const uint64_t *wide = powers_of_ten[-k - POWER_FIRST];
    uint64_t power = wide[0] + (wide[1] != 0); /* 64 bits, rounded up */
    uint32_t lower = scale_32(power, (4 * c - 2 + is_lower_closer) << h);
    uint32_t middle = scale_32(power, (4 * c) << h);
    uint32_t upper = scale_32(power, (4 * c + 2) << h);
    return choose(lower + is_odd, middle, upper - is_odd, k);
}

static inline struct decimal shortest_64(uint64_t bits)
{
    uint64_t fraction = bits & UINT64_C(0xfffffffffffff);
    uint32_t biased = (uint32_t)(bits >> 52);
    uint64_t c = biased != 0 ? fraction | UINT64_C(0x10000000000000) : fraction;
    int q = (biased != 0 ? (int)biased : 1) - 1075;
    if (q <= 0 && q > -53 && (c & ((UINT64_C(1) << -q) - 1)) == 0) {
        return (struct decimal){c >> -q, 0};
    }
    uint64_t is_odd = c & 1;
    bool is_lower_closer = fraction == 0 && biased > 1;
    int k = floor_log10_power2(q, is_lower_closer);
    int h = q + floor_log2_power10(-k) + 1;
    const uint64_t *power = powers_of_ten[-k - POWER_FIRST];
    uint64_t lower = scale_64(power, (4 * c - 2 + is_lower_closer) << h);
    uint64_t middle = scale_64(power, (4 * c) << h);
    uint64_t upper = scale_64(power, (4 * c + 2) << h);
    return choose(lower + is_odd, middle, upper - is_odd, k);
}

/* --- layout --------------------------------------------------------------------------------------- */

/* d.ddde+XX: at least two digits in the exponent. */
static char *put_scientific(char *out, const char *digits, unsigned n_digits, int exponent)
{
    *out++ = digits[0];
    if (n_digits > 1) {
        *out++ = '.';
        memcpy(out, digits + 1, n_digits - 1);
        out += n_digits - 1;
    }
    *out++ = 'e';
    *out++ = exponent < 0 ? '-' : '+';
    unsigned magnitude = (unsigned)(exponent < 0 ? -exponent : exponent);
    if (magnitude < 10) *out++ = '0';
    return put_up_to_eight(out, magnitude);
}

/* 0.d1d2d3... * 10^(exponent + 1); `digits` holds 17 characters, zeros behind n_digits. */
static char *put_decimal(char *out, const char *digits, unsigned n_digits, int exponent)
{
    if (exponent < -4 || exponent >= 16) return put_scientific(out, digits, n_digits, exponent);
    if (exponent < 0) {
        memcpy(out, "0.000", 5);
        out += 1 - exponent;
        memcpy(out, digits, 17);
        return out + n_digits;
    }
    unsigned n_whole = (unsigned)exponent + 1;
    memcpy(out, digits, n_whole);
    out += n_whole;
    *out++ = '.';
    unsigned n_rest = n_digits > n_whole ? n_digits - n_whole : 1;
    memcpy(out, digits + n_whole, n_rest);
    return out + n_rest;
}

char *format_float(char *out, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    *out = '-';
    out += bits >> 31;
    bits &= 0x7fffffff;
    if (bits == 0) {
        memcpy(out, "0.0", 3);
        return out + 3;
    }
    struct decimal decimal = shortest_32(bits);
    unsigned length = count_digits(decimal.digits);
    int exponent = decimal.exponent + (int)length - 1;
    uint32_t padded = (uint32_t)(decimal.digits * small_powers[9 - length]); /* nine digits */
    uint32_t first = padded / 100000000;
    uint64_t rest = eight_digits(padded - first * 100000000);
    unsigned n_digits = rest == 0 ? 1 : 9 - (unsigned)__builtin_clzll(rest) / 8;
    rest |= ZEROS;

    if (exponent >= 0 && exponent < 8) {
        out[0] = (char)('0' + first);
        memcpy(out + 1, &rest, 8);
        out[1 + exponent] = '.';
        rest >>= 8 * exponent;
        memcpy(out + 2 + exponent, &rest, 8);
        unsigned n_least = (unsigned)exponent + 2; /* one digit behind the point, "7.0" */
        return out + 1 + (n_digits > n_least ? n_digits : n_least);
    }
    if (exponent < 0 && exponent >= -4) {
        memcpy(out, "0.000", 5);
        out += 1 - exponent;
        out[0] = (char)('0' + first);
        memcpy(out + 1, &rest, 8);
        return out + n_digits;
    }
    char digits[17] = "00000000000000000";
    digits[0] = (char)('0' + first);
    memcpy(digits + 1, &rest, 8);
    return put_decimal(out, digits, n_digits, exponent);
}

char *format_double(char *out, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    *out = '-';
    out += bits >> 63;
    bits &= ~UINT64_C(0) >> 1;
    if (bits == 0) {
        memcpy(out, "0.0", 3);
        return out + 3;
    }
    struct decimal decimal = shortest_64(bits);
    unsigned length = count_digits(decimal.digits);
    int exponent = decimal.exponent + (int)length - 1;
    const uint64_t e8 = 100000000;
    uint64_t padded = decimal.digits * small_powers[17 - length]; /* seventeen digits */
    uint64_t head = padded / e8;
    uint64_t middle = eight_digits((uint32_t)(head % e8));
    uint64_t last = eight_digits((uint32_t)(padded % e8));
    unsigned n_digits = 1;
    if (last != 0) {
        n_digits = 17 - (unsigned)__builtin_clzll(last) / 8;
    } else if (middle != 0) {
        n_digits = 9 - (unsigned)__builtin_clzll(middle) / 8;
    }
    char digits[17];
    digits[0] = (char)('0' + head / e8);
    store_digits(digits + 1, middle);
    store_digits(digits + 9, last);
    return put_decimal(out, digits, n_digits, exponent);
}
