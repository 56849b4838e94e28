/* SPDX-License-Identifier: Apache-2.0 */
/* json_text.c - text as a JSON string, and bytes as base64 (RFC 4648, with padding). */
#include "format/encode.h"

/* Length of the well-formed UTF-8 sequence at p (Unicode 15, table 3-7); 0: there is none. */
static size_t utf8_length(const unsigned char *p, size_t left)
{
    if (p[0] < 0x80) return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4) return 0;
    size_t length = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (left < length) return 0;
    unsigned char low = 0x80, high = 0xbf;
    if (p[0] == 0xe0) low = 0xa0;
    if (p[0] == 0xed) high = 0x9f; /* no surrogates */
    if (p[0] == 0xf0) low = 0x90;
    if (p[0] == 0xf4) high = 0x8f;
    if (p[1] < low || p[1] > high) return 0;
    for (size_t i = 2; i < length; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return length;
}

bool format_is_utf8(const char *text, size_t size)
{
    const unsigned char *p = (const unsigned char *)text;
    for (size_t i = 0, length; i < size; i += length) {
        length = utf8_length(p + i, size - i);
        if (length == 0) return false;
    }
    return true;
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

void format_json_string(struct buffer *out, const char *text, size_t size)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t done = 0, i = 0;
    buffer_byte(out, '"');
    while (i < size) {
        size_t length = utf8_length(p + i, size - i);
        bool is_plain = length > 0 && p[i] >= 0x20 && p[i] != '"' && p[i] != '\\';
        if (is_plain) {
            i += length;
            continue;
        }
        buffer_append(out, text + done, i - done);
        if (length == 0)
            buffer_text(out, "\xef\xbf\xbd"); /* U+FFFD */
        else
            append_escaped(out, p[i]);
        done = ++i;
    }
    buffer_append(out, text + done, size - done);
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
