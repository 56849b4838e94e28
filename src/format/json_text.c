/* SPDX-License-Identifier: Apache-2.0 */
/* json_text.c - text as a JSON string, and bytes as base64 (RFC 4648, with padding). */
#include "format/decode_text.h"
#include "format/encode.h"

bool format_is_utf8(const char *text, size_t size)
{
    return text_is_utf8(text, size);
}

static void append_escaped(struct buffer *out, unsigned char byte)
{
    static const char short_forms[] = "btn\0fr"; /* from 0x08 on; 0x0b has none */
    if (byte == '"' || byte == '\\') {
        buffer_byte(out, '\\');
        buffer_byte(out, (char)byte);
    } else if (byte >= 0x08 && byte <= 0x0d && short_forms[byte - 0x08] != '\0') {
        buffer_byte(out, '\\');
        buffer_byte(out, short_forms[byte - 0x08]);
    } else {
        buffer_printf(out, "\\u%04x", byte);
    }
}

/* Whether none of eight bytes needs a closer look: a quote, a backslash, a control character, or one
 * that is not ASCII. Per byte, x - 1 borrows from the top bit only where x is zero. */
static bool are_eight_plain(const char *p)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = UINT64_C(0x8080808080808080);
    uint64_t word;
    memcpy(&word, p, sizeof word);
    uint64_t quote = word ^ (ones * '"'), backslash = word ^ (ones * '\\');
    uint64_t found = (quote - ones) | (backslash - ones) | (word - ones * 0x20) | word;
    return (found & tops) == 0;
}

void format_json_string(struct buffer *out, const char *text, size_t size)
{
    const char *end = text + size, *done = text, *p = text;
    buffer_byte(out, '"');
    while (p < end) {
        unsigned char byte = (unsigned char)*p;
        if (end - p >= 8 && are_eight_plain(p)) {
            p += 8;
            continue;
        }
        size_t length = byte < 0x80 ? 1 : text_sequence(p, end);
        if (length > 0 && byte >= 0x20 && byte != '"' && byte != '\\') {
            p += length;
            continue;
        }
        buffer_append(out, done, (size_t)(p - done));
        if (length == 0)
            buffer_text(out, "\xef\xbf\xbd"); /* U+FFFD */
        else
            append_escaped(out, byte);
        done = ++p;
    }
    buffer_append(out, done, (size_t)(end - done));
    buffer_byte(out, '"');
}

/* --- base64 --------------------------------------------------------------------------------------- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void format_base64(struct buffer *out, const void *data, size_t size)
{
    const unsigned char *p = data;
    char *text = buffer_reserve(out, size / 3 * 4 + 4);
    if (text == NULL) return;
    char *start = text;
    for (; size >= 3; size -= 3, p += 3) {
        uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        for (int shift = 18; shift >= 0; shift -= 6) *text++ = alphabet[bits >> shift & 63];
    }
    if (size > 0) {
        uint32_t bits = (uint32_t)p[0] << 16 | (size > 1 ? (uint32_t)p[1] << 8 : 0);
        *text++ = alphabet[bits >> 18];
        *text++ = alphabet[bits >> 12 & 63];
        *text++ = size > 1 ? alphabet[bits >> 6 & 63] : '=';
        *text++ = '=';
    }
    out->size += (size_t)(text - start);
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool parse_base64(const char *text, size_t size, unsigned char *out, size_t *ret_size)
{
    unsigned char *start = out;
    if (size % 4 != 0) return false;
    for (size_t i = 0; i < size; i += 4) {
        bool is_last = i + 4 == size;
        int padding = !is_last || text[i + 3] != '=' ? 0 : text[i + 2] == '=' ? 2 : 1;
        uint32_t bits = 0;
        for (int k = 0; k < 4 - padding; k++) {
            int value = base64_value(text[i + (size_t)k]);
            if (value < 0) return false;
            bits |= (uint32_t)value << (18 - 6 * k);
        }
        /* bits beyond the last byte must be zero: one text for each value */
        if ((padding == 1 && (bits & 0xff) != 0) || (padding == 2 && (bits & 0xffff) != 0))
            return false;
        *out++ = (unsigned char)(bits >> 16);
        if (padding < 2) *out++ = (unsigned char)(bits >> 8);
        if (padding < 1) *out++ = (unsigned char)bits;
    }
    *ret_size = (size_t)(out - start);
    return true;
}
