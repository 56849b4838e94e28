/* SPDX-License-Identifier: Apache-2.0 */
/* stream.c - where a loop and a blocking handler meet: a body that comes in pieces, an answer that goes
 * out in pieces, NET_STREAM_BYTES each. When the ring of the body is full the loop reads no more from the
 * socket; when enough of an answer waits, the handler waits. The loop's deadlines end every wait here: a
 * connection without progress is closed. */
#include "net/impl.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

struct stream {
    pthread_mutex_t lock;
    pthread_cond_t change;
    char *ring;
    size_t start, size;
    bool is_end, is_paused, is_gone, is_continue_asked;
    char failure[160]; /* "" none */
    struct buffer out;
};

struct stream *stream_new(void)
{
    struct stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) return NULL;
    pthread_mutex_init(&stream->lock, NULL);
    pthread_cond_init(&stream->change, NULL);
    return stream;
}

bool stream_open(struct stream *stream)
{
    if (stream->ring == NULL) stream->ring = malloc(NET_STREAM_BYTES);
    return stream->ring != NULL;
}

void stream_reset(struct stream *stream)
{
    free(stream->ring);
    stream->ring = NULL;
    stream->start = stream->size = 0;
    stream->is_end = stream->is_paused = stream->is_gone = stream->is_continue_asked = false;
    stream->failure[0] = '\0';
    buffer_free(&stream->out);
}

void stream_free(struct stream *stream)
{
    if (stream == NULL) return;
    stream_reset(stream);
    pthread_cond_destroy(&stream->change);
    pthread_mutex_destroy(&stream->lock);
    free(stream);
}

/* --- the loop's side --------------------------------------------------------------------------- */

size_t stream_room(struct stream *stream)
{
    pthread_mutex_lock(&stream->lock);
    size_t room = NET_STREAM_BYTES - stream->size;
    if (room < NET_READ_BYTES / 4) {
        room = 0;
        stream->is_paused = true;
    }
    pthread_mutex_unlock(&stream->lock);
    return room;
}

void stream_put(struct stream *stream, const void *data, size_t size)
{
    pthread_mutex_lock(&stream->lock);
    assert(size <= NET_STREAM_BYTES - stream->size); /* stream_room was asked before reading */
    size_t end = (stream->start + stream->size) % NET_STREAM_BYTES;
    size_t first = MIN(size, NET_STREAM_BYTES - end);
    memcpy(stream->ring + end, data, first);
    memcpy(stream->ring, (const char *)data + first, size - first);
    stream->size += size;
    pthread_cond_signal(&stream->change);
    pthread_mutex_unlock(&stream->lock);
}

void stream_finish(struct stream *stream, const char *failure)
{
    pthread_mutex_lock(&stream->lock);
    if (failure == NULL)
        stream->is_end = true;
    else if (!stream->is_end && stream->failure[0] == '\0')
        snprintf(stream->failure, sizeof stream->failure, "%s", failure);
    pthread_cond_signal(&stream->change);
    pthread_mutex_unlock(&stream->lock);
}

bool stream_is_finished(struct stream *stream)
{
    pthread_mutex_lock(&stream->lock);
    bool is_finished = stream->is_end;
    pthread_mutex_unlock(&stream->lock);
    return is_finished;
}

void stream_gone(struct stream *stream)
{
    stream_finish(stream, "the client closed the connection in the middle of the body");
    pthread_mutex_lock(&stream->lock);
    stream->is_gone = true;
    pthread_cond_signal(&stream->change);
    pthread_mutex_unlock(&stream->lock);
}

void stream_take(struct stream *stream, struct buffer *ret)
{
    pthread_mutex_lock(&stream->lock);
    struct buffer empty = *ret;
    *ret = stream->out;
    stream->out = empty;
    stream->out.size = 0;
    pthread_cond_signal(&stream->change);
    pthread_mutex_unlock(&stream->lock);
}

/* --- the handler's side ------------------------------------------------------------------------ */

static size_t take_bytes(struct stream *stream, char *data, size_t size)
{
    size_t n = MIN(size, stream->size), first = MIN(n, NET_STREAM_BYTES - stream->start);
    memcpy(data, stream->ring + stream->start, first);
    memcpy(data + first, stream->ring, n - first);
    stream->size -= n;
    stream->start = stream->size == 0 ? 0 : (stream->start + n) % NET_STREAM_BYTES;
    return n;
}

static void wait_for_body(struct exchange *exchange, struct stream *stream)
{
    while (stream->size == 0 && !stream->is_end && stream->failure[0] == '\0') {
        if (exchange->wants_continue && !stream->is_continue_asked) {
            stream->is_continue_asked = true;
            mail_post(exchange, MAIL_CONTINUE);
        }
        pthread_cond_wait(&stream->change, &stream->lock);
    }
}

static tidemill_error *read_stream(struct exchange *exchange, char *data, size_t size,
                                   size_t *ret_size)
{
    struct stream *stream = exchange->stream;
    tidemill_error *error = NULL;
    *ret_size = 0;
    pthread_mutex_lock(&stream->lock);
    wait_for_body(exchange, stream);
    if (stream->size > 0)
        *ret_size = take_bytes(stream, data, size);
    else if (!stream->is_end)
        error = error_new(ERROR_INPUT, "%s", stream->failure);
    bool has_room = stream->is_paused && stream->size <= NET_STREAM_BYTES / 2;
    if (has_room) stream->is_paused = false;
    pthread_mutex_unlock(&stream->lock);
    if (has_room) mail_post(exchange, MAIL_ROOM);
    return error;
}

tidemill_error *exchange_read(struct exchange *exchange, void *data, size_t size, size_t *ret_size)
{
    if (exchange->route->body == NET_BODY_STREAM)
        return read_stream(exchange, data, size, ret_size);
    size_t n = MIN(size, exchange->body.size - exchange->body_read);
    if (n > 0) memcpy(data, exchange->body.data + exchange->body_read, n);
    exchange->body_read += n;
    *ret_size = n;
    return NULL;
}

void exchange_begin(struct exchange *exchange, int status, const char *type)
{
    exchange->status = status;
    answer_head(exchange, type, -1);
    if (exchange->out.is_failed || exchange->extra.is_failed) exchange->status = 0;
    mail_post(exchange, MAIL_MORE);
}

static void append_piece(struct exchange *exchange, struct buffer *out, const void *data,
                         size_t size)
{
    if (exchange->is_chunked) buffer_printf(out, "%zx\r\n", size);
    buffer_append(out, data, size);
    if (exchange->is_chunked) buffer_append(out, "\r\n", 2);
}

tidemill_error *exchange_write(struct exchange *exchange, const void *data, size_t size)
{
    struct stream *stream = exchange->stream;
    tidemill_error *error = NULL;
    if (size == 0) return NULL;
    pthread_mutex_lock(&stream->lock);
    while (stream->out.size > NET_STREAM_BYTES && !stream->is_gone)
        pthread_cond_wait(&stream->change, &stream->lock);
    if (stream->is_gone)
        error = error_new(ERROR_IO, "the client is gone");
    else if (!exchange->has_no_body)
        append_piece(exchange, &stream->out, data, size);
    if (stream->out.is_failed) error = error_memory();
    pthread_mutex_unlock(&stream->lock);
    if (error == NULL) mail_post(exchange, MAIL_MORE);
    return error;
}

void exchange_end(struct exchange *exchange, bool is_whole)
{
    struct stream *stream = exchange->stream;
    pthread_mutex_lock(&stream->lock);
    if (is_whole && exchange->is_chunked && !exchange->has_no_body)
        buffer_append(&stream->out, "0\r\n\r\n", 5);
    exchange->is_whole = is_whole && !stream->out.is_failed;
    pthread_mutex_unlock(&stream->lock);
    mail_post(exchange, MAIL_ANSWERED);
}
