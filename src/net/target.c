/* SPDX-License-Identifier: Apache-2.0 */
/* target.c - what stands in the request line: a path and a query, percent-decoded where asked for. */
#include "net/impl.h"

#include <ctype.h>
#include <strings.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

ptrdiff_t percent_decode(const char *text, size_t size, bool is_form, char *out)
{
    char *start = out;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (c == '+' && is_form) c = ' ';
        if (text[i] == '%') {
            int high = i + 2 < size ? hex_digit(text[i + 1]) : -1;
            int low = i + 2 < size ? hex_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0) return -1;
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (c == '\0') return -1;
        *out++ = c;
    }
    *out = '\0';
    return out - start;
}

/* "." and "..", also written "%2e": a proxy before us may have meant another path. */
static bool is_dots(const char *segment, size_t size)
{
    size_t dots = 0;
    for (size_t i = 0; i < size; dots++) {
        if (segment[i] == '.')
            i++;
        else if (size - i >= 3 && strncasecmp(segment + i, "%2e", 3) == 0)
            i += 3;
        else
            return false;
    }
    return dots == 1 || dots == 2;
}

static bool has_dots(const char *path, size_t size)
{
    size_t start = 1;
    for (size_t i = 1; i <= size; i++) {
        if (i < size && path[i] != '/') continue;
        if (is_dots(path + start, i - start)) return true;
        start = i + 1;
    }
    return false;
}

bool target_check(const char *target, size_t size, size_t *ret_path_size)
{
    if (size == 0 || target[0] != '/') return false;
    bool may_have_dots = false;
    size_t path_size = size;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)target[i];
        if (c <= ' ' || c >= 0x7f || c == '#' || c == '\\' || c == '"' || c == '<' || c == '>')
            return false;
        if (c == '?' && path_size == size) path_size = i;
        if ((c == '.' || c == '%') && target[i - 1] == '/' && i < path_size) may_have_dots = true;
    }
    if (may_have_dots && has_dots(target, path_size)) return false;
    *ret_path_size = path_size;
    return true;
}

/* name=value&name=... into name\0value\0...; there is room for it (exchange_head_done). */
bool exchange_decode_query(struct exchange *exchange)
{
    struct buffer *text = &exchange->text;
    const char *p = text->data + exchange->path_size + 1;
    const char *end = text->data + exchange->target_size;
    exchange->query = (uint32_t)text->size;
    while (p < end) {
        const char *stop = memchr(p, '&', (size_t)(end - p));
        if (stop == NULL) stop = end;
        const char *equals = memchr(p, '=', (size_t)(stop - p));
        const char *name_end = equals == NULL ? stop : equals;
        const char *value = equals == NULL ? stop : equals + 1;
        if (stop != p) {
            ptrdiff_t n = percent_decode(p, (size_t)(name_end - p), true, text->data + text->size);
            if (n < 0) return false;
            text->size += (size_t)n + 1;
            n = percent_decode(value, (size_t)(stop - value), true, text->data + text->size);
            if (n < 0) return false;
            text->size += (size_t)n + 1;
            exchange->n_query++;
        }
        p = stop + 1;
    }
    return true;
}
