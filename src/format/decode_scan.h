/* SPDX-License-Identifier: Apache-2.0 */
/* decode_scan.h - text of a plain record under the fast way: every function returns the end of what
 * it took, or NULL where that is not plainly valid JSON.
 *
 * A record ends with '}', and `last` points there. Single bytes may be read without a bound as long
 * as the one before was not that '}': it is no part of a number, a literal or white space, so it
 * stops every loop but those over strings, which do check. */
#ifndef TIDEMILL_FORMAT_DECODE_SCAN_H
#define TIDEMILL_FORMAT_DECODE_SCAN_H

#include "format/decode_value.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define LIKELY(x) __builtin_expect((x), 1)

ALWAYS_INLINE bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

ALWAYS_INLINE const char *skip_space(const char *p)
{
    while (is_space(*p)) p++;
    return p;
}

/* Behind the closing quote of the string whose first byte (behind the quote) is `p`. With `out`, its
 * characters go there; the caller has as much room as the text is long. */
const char *scan_string(const char *p, const char *last, char *out, size_t *ret_size);
/* The same for a key without escapes: at its closing quote. */
const char *scan_key(const char *p, const char *last);
/* Behind the value at `p`, which is at most at `last`. */
const char *scan_value(const char *p, const char *last);

/* Appends the number at `p`. */
const char *scan_number(struct row *row, const char *p, const char *last);
/* Appends the numbers from behind '[' to behind ']': exactly `count`, or with SIZE_MAX any number of
 * them. `first` is the record's first byte. */
const char *scan_numbers(struct row *row, const char *first, const char *p, const char *last,
                         size_t count);

#endif
