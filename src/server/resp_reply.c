/* SPDX-License-Identifier: Apache-2.0 */
/* resp_reply.c - replies of the Redis protocol, RESP2 and RESP3. */
#include "server/resp_parts.h"

#include "format/encode.h"

#include <stdarg.h>
#include <stdio.h>

#define ERROR_BYTES 256
#define HEAD_BYTES 32

static void append_head(struct buffer *out, char kind, int64_t value)
{
    char *place = buffer_reserve(out, HEAD_BYTES);
    if (place == NULL) return;
    char *p = place;
    *p++ = kind;
    p = format_int64(p, value);
    *p++ = '\r';
    *p++ = '\n';
    out->size += (size_t)(p - place);
}

void resp_simple(struct buffer *out, const char *text)
{
    buffer_byte(out, '+');
    buffer_text(out, text);
    buffer_append(out, "\r\n", 2);
}

/* What a client sent may be in it: no line's end gets through. */
void resp_error(struct buffer *out, const char *format, ...)
{
    char text[ERROR_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p < ' ') *p = ' ';
    buffer_byte(out, '-');
    buffer_text(out, text);
    buffer_append(out, "\r\n", 2);
}

void resp_integer(struct buffer *out, int64_t value)
{
    append_head(out, ':', value);
}

void resp_bulk(struct buffer *out, const void *data, size_t size)
{
    append_head(out, '$', (int64_t)size);
    buffer_append(out, data, size);
    buffer_append(out, "\r\n", 2);
}

void resp_null(struct buffer *out, int protocol)
{
    buffer_text(out, protocol == 3 ? "_\r\n" : "$-1\r\n");
}

void resp_array(struct buffer *out, size_t n)
{
    append_head(out, '*', (int64_t)n);
}

void resp_map(struct buffer *out, int protocol, size_t n)
{
    append_head(out, protocol == 3 ? '%' : '*', (int64_t)(protocol == 3 ? n : 2 * n));
}
