/* SPDX-License-Identifier: Apache-2.0 */
/* number.h - decimal text -> exact integers and correctly rounded doubles. Every way into a tensor
 * (fast scanner, tree, CSV cell) reads numbers with these functions, so they agree by construction. */
#ifndef TIDEMILL_FORMAT_NUMBER_H
#define TIDEMILL_FORMAT_NUMBER_H

#include "base/base.h"

/* (-1)^is_negative * mantissa * 10^exponent, exactly unless digits were dropped. */
struct number {
    uint64_t mantissa;
    int32_t exponent;
    bool is_negative;
    bool is_cut; /* digits other than 0 did not fit the mantissa */
};

/* Reads a JSON number (RFC 8259) that begins at `text`; returns its end, NULL where there is none. */
const char *number_scan(const char *text, const char *end, struct number *ret);
/* The same for a CSV cell: a plus sign, leading zeros, ".5" and "5." are numbers, too. */
const char *number_scan_lenient(const char *text, const char *end, struct number *ret);

/* Nearest double, ties to even; infinity where it is too large. [text, end) is what was scanned. */
double number_to_double(const struct number *number, const char *text, const char *end);

/* The magnitude where the value is a whole number: 1.0 and 1e3 are. ERROR_WRONG_TYPE: it is not;
 * ERROR_OUT_OF_RANGE: larger than 64 bits. */
enum error_code number_to_integer(const struct number *number, uint64_t *ret_magnitude);

#endif
