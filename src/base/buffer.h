/* SPDX-License-Identifier: Apache-2.0 */
/* buffer.h - bytes that grow by doubling. A failed allocation sticks (`is_failed`), so a row of
 * appends needs one check at its end. All zero is a valid empty buffer. */
#ifndef TIDEMILL_BASE_BUFFER_H
#define TIDEMILL_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct buffer {
    char *data;
    size_t size;
    size_t capacity;
    bool is_failed; /* some append found no memory: the content is not to be used */
};

/* Room for `extra` more bytes at data + size; NULL when out of memory. The caller adds to `size`. */
char *buffer_reserve(struct buffer *buffer, size_t extra);
void buffer_printf(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void buffer_free(struct buffer *buffer);

static inline void buffer_append(struct buffer *buffer, const void *data, size_t size)
{
    if (size == 0) return;
    char *place = buffer->capacity - buffer->size >= size ? buffer->data + buffer->size
                                                          : buffer_reserve(buffer, size);
    if (place == NULL) return;
    memcpy(place, data, size);
    buffer->size += size;
}

static inline void buffer_byte(struct buffer *buffer, char byte)
{
    buffer_append(buffer, &byte, 1);
}

static inline void buffer_text(struct buffer *buffer, const char *text)
{
    buffer_append(buffer, text, strlen(text));
}

/* Empties it; keeps the memory unless it grew beyond `keep_bytes`. */
void buffer_reset(struct buffer *buffer, size_t keep_bytes);

#endif
