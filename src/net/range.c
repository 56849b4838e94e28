/* SPDX-License-Identifier: Apache-2.0 */
/* range.c - "Range: bytes=..." of RFC 9110, section 14: one range is served, a list may be ignored. */
#include "net/impl.h"

#include <strings.h>

static const char *skip_spaces(const char *p)
{
    while (*p == ' ' || *p == '\t') p++;
    return p;
}

/* Digits; a number beyond what fits is as good as the largest. False: there are none. */
static bool read_number(const char **p, uint64_t *ret)
{
    const char *start = *p;
    uint64_t number = 0;
    for (; **p >= '0' && **p <= '9'; ++*p) {
        uint64_t digit = (uint64_t)(**p - '0');
        if (number > (UINT64_MAX - digit) / 10)
            number = UINT64_MAX;
        else if (number != UINT64_MAX)
            number = number * 10 + digit;
    }
    *ret = number;
    return *p != start;
}

int range_parse(const char *text, uint64_t size, uint64_t *offset, uint64_t *length)
{
    uint64_t first = 0, last = UINT64_MAX;
    *offset = 0;
    *length = size;
    if (text == NULL || strncasecmp(text, "bytes=", 6) != 0) return 200;
    const char *p = skip_spaces(text + 6);
    bool has_first = read_number(&p, &first);
    if (*p != '-') return 200;
    p++;
    bool has_last = read_number(&p, &last);
    if (*skip_spaces(p) != '\0') return 200; /* a list, or no range at all */
    if (!has_first && !has_last) return 200;
    if (!has_first) { /* the last so many */
        if (last == 0 || size == 0) return 416;
        *length = MIN(last, size);
        *offset = size - *length;
        return 206;
    }
    if (!has_last) last = UINT64_MAX;
    if (last < first) return 200;
    if (first >= size) return 416;
    *offset = first;
    *length = MIN(last, size - 1) - first + 1;
    return 206;
}

int exchange_range(const struct exchange *exchange, uint64_t size, uint64_t *offset,
                   uint64_t *length)
{
    return range_parse(exchange_header(exchange, "range"), size, offset, length);
}
