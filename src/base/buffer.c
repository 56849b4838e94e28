/* SPDX-License-Identifier: Apache-2.0 */
/* buffer.c - growth of byte buffers, and printf into them. */
#include "base/buffer.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

char *buffer_reserve(struct buffer *buffer, size_t extra)
{
    if (buffer->is_failed) return NULL;
    if (buffer->data == NULL || buffer->capacity - buffer->size < extra) {
        size_t wanted = buffer->capacity < 256 ? 256 : buffer->capacity;
        while (wanted - buffer->size < extra && wanted < SIZE_MAX / 4) wanted *= 2;
        char *data = wanted - buffer->size < extra ? NULL : realloc(buffer->data, wanted);
        if (data == NULL) {
            buffer->is_failed = true;
            return NULL;
        }
        buffer->data = data;
        buffer->capacity = wanted;
    }
    return buffer->data + buffer->size;
}

void buffer_printf(struct buffer *buffer, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    char *place = length < 0 ? NULL : buffer_reserve(buffer, (size_t)length + 1);
    if (place != NULL) {
        vsnprintf(place, (size_t)length + 1, format, again);
        buffer->size += (size_t)length;
    }
    va_end(again);
    va_end(arguments);
}

void buffer_reset(struct buffer *buffer, size_t keep_bytes)
{
    if (buffer->capacity > keep_bytes) buffer_free(buffer);
    buffer->size = 0;
    buffer->is_failed = false;
}

void buffer_free(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}
