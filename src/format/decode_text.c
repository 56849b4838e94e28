/* SPDX-License-Identifier: Apache-2.0 */
/* decode_text.c - see decode_text.h. */
#include "format/decode_text.h"

size_t text_sequence(const char *p, const char *end)
{
    const unsigned char *b = (const unsigned char *)p;
    size_t left = (size_t)(end - p);
    unsigned low = 0x80, high = 0xbf; /* of the second byte */
    size_t length;
    if (left < 2 || b[0] < 0xc2 || b[0] > 0xf4) return 0;
    length = b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : 4;
    if (b[0] == 0xe0) low = 0xa0;
    if (b[0] == 0xed) high = 0x9f;
    if (b[0] == 0xf0) low = 0x90;
    if (b[0] == 0xf4) high = 0x8f;
    if (left < length || b[1] < low || b[1] > high) return 0;
    for (size_t i = 2; i < length; i++) {
        if ((b[i] & 0xc0) != 0x80) return 0;
    }
    return length;
}

bool text_is_utf8(const char *text, size_t size)
{
    const char *p = text, *end = text + size;
    while (p < end) {
        if (end - p >= 8) {
            uint64_t word;
            memcpy(&word, p, sizeof word);
            if ((word & 0x8080808080808080u) == 0) {
                p += 8;
                continue;
            }
        }
        if ((unsigned char)*p < 0x80) {
            p++;
            continue;
        }
        size_t length = text_sequence(p, end);
        if (length == 0) return false;
        p += length;
    }
    return true;
}

size_t json_depth(const char *text, size_t size, size_t limit)
{
    size_t depth = 0, deepest = 0;
    bool is_string = false;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (is_string) {
            if (c == '\\') i++;
            if (c == '"') is_string = false;
            continue;
        }
        if (c == '"') is_string = true;
        if (c == '[' || c == '{') depth++;
        if ((c == ']' || c == '}') && depth > 0) depth--;
        if (depth > deepest) deepest = depth;
        if (deepest > limit) break;
    }
    return deepest;
}

const char *json_skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) p++;
    return p;
}

const char *json_skip_string(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++) {
        if (*p == '\\' && p + 1 < end) p++;
    }
    return p < end ? p + 1 : end;
}

const char *json_skip_value(const char *p, const char *end)
{
    size_t depth = 0;
    while (p < end) {
        char c = *p;
        if (c == '"') {
            p = json_skip_string(p, end);
            if (depth == 0) return p;
            continue;
        }
        if (depth == 0 && c != '[' && c != '{') {
            while (p < end && strchr(",]} \t\r\n", *p) == NULL) p++;
            return p;
        }
        p++;
        if (c == '[' || c == '{') depth++;
        if ((c == ']' || c == '}') && --depth == 0) return p;
    }
    return end;
}

void json_escape(struct buffer *out, const char *text, size_t size)
{
    size_t done = 0;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        buffer_append(out, text + done, i - done);
        done = i + 1;
        switch (c) {
        case '"': buffer_append(out, "\\\"", 2); break;
        case '\\': buffer_append(out, "\\\\", 2); break;
        case '\n': buffer_append(out, "\\n", 2); break;
        case '\r': buffer_append(out, "\\r", 2); break;
        case '\t': buffer_append(out, "\\t", 2); break;
        default: buffer_printf(out, "\\u%04x", c); break;
        }
    }
    buffer_append(out, text + done, size - done);
}

size_t text_put_code_point(char *out, uint32_t code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}
