/* SPDX-License-Identifier: Apache-2.0 */
/* output.c - bytes to the client: small answers are corked, so that those to pipelined requests go out
 * as one; a large body goes out with its head; a file by sendfile. What the client does not take now waits
 * in the connection, which parses no further request meanwhile. */
#include "net/impl.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#define FILE_TURN_BYTES ((uint64_t)4 << 20) /* of a file, before the others have their turn */

static struct slice pending(const struct conn *conn)
{
    const struct loop *loop = conn->loop;
    if (conn->out.size > conn->out_offset)
        return (struct slice){conn->out.data + conn->out_offset, conn->out.size - conn->out_offset};
    return (struct slice){loop->cork.data + loop->cork_offset, loop->cork.size - loop->cork_offset};
}

bool conn_has_output(const struct conn *conn)
{
    return pending(conn).size > 0;
}

static void consume(struct conn *conn, size_t n)
{
    struct loop *loop = conn->loop;
    if (conn->out.size > 0) {
        conn->out_offset += n;
        if (conn->out_offset < conn->out.size) return;
        buffer_free(&conn->out);
        conn->out_offset = 0;
    } else {
        loop->cork_offset += n;
        if (loop->cork_offset < loop->cork.size) return;
        loop->cork.size = loop->cork_offset = 0;
    }
}

void conn_cork(struct conn *conn, const void *data, size_t size)
{
    buffer_append(conn->out.size > 0 ? &conn->out : &conn->loop->cork, data, size);
}

/* True: something went out. False: the client has to take more first, or the connection is closed. */
static bool sent(struct conn *conn, ssize_t n)
{
    if (n > 0) {
        counter_add(&conn->loop->counters.bytes_out, (uint64_t)n);
        conn->has_progress = true;
        return true;
    }
    if (n < 0 && errno == EINTR) return true;
    conn->can_write = false;
    if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) conn_close(conn);
    return false;
}

static ssize_t send_parts(struct conn *conn, struct slice first, struct slice second, int flags)
{
    if (conn->ssl != NULL) {
        struct slice part = first.size > 0 ? first : second;
        return tls_send(conn->ssl, part.data, part.size);
    }
    if (second.size == 0) return send(conn->fd, first.data, first.size, flags | MSG_NOSIGNAL);
    struct iovec parts[2] = {{(void *)first.data, first.size}, {(void *)second.data, second.size}};
    bool is_both = first.size > 0;
    struct msghdr message = {.msg_iov = parts + !is_both, .msg_iovlen = is_both ? 2 : 1};
    return sendmsg(conn->fd, &message, flags | MSG_NOSIGNAL);
}

/* What is pending, and behind it `big`. True: all of it is out. */
static bool push(struct conn *conn, struct buffer *big, size_t *big_sent, int flags)
{
    for (;;) {
        struct slice first = pending(conn), second = {0};
        if (big != NULL) second = (struct slice){big->data + *big_sent, big->size - *big_sent};
        if (first.size + second.size == 0) return true;
        if (!conn->can_write) return false;
        ssize_t n = send_parts(conn, first, second, flags);
        if (!sent(conn, n)) return false;
        if (n <= 0) continue;
        size_t of_first = MIN((size_t)n, first.size);
        if (of_first > 0) consume(conn, of_first);
        if (big != NULL) *big_sent += (size_t)n - of_first;
    }
}

bool conn_flush(struct conn *conn)
{
    return push(conn, NULL, NULL, 0);
}

static bool cork_head(struct conn *conn, struct exchange *exchange)
{
    struct loop *loop = conn->loop;
    if (loop->cork.size + exchange->out.size > NET_CORK_BYTES && !conn_flush(conn)) return false;
    memcpy(exchange->out.data + exchange->date, loop->date, NET_DATE_BYTES);
    conn_cork(conn, exchange->out.data, exchange->out.size);
    exchange->bytes_out += exchange->out.size;
    exchange->is_corked = true;
    if (!loop->cork.is_failed) return true;
    buffer_free(&loop->cork);
    conn_close(conn);
    return false;
}

static bool push_big(struct conn *conn, struct exchange *exchange)
{
    size_t before = exchange->big_sent;
    bool is_out = push(conn, &exchange->big, &exchange->big_sent, 0);
    if (conn->is_closed) return false; /* the exchange may be gone, too */
    exchange->bytes_out += exchange->big_sent - before;
    return is_out;
}

static ssize_t send_file_bytes(struct conn *conn, struct exchange *exchange)
{
    size_t size = (size_t)MIN(exchange->file_left, (uint64_t)1 << 20);
    off_t offset = (off_t)exchange->file_offset;
    if (conn->ssl == NULL) return sendfile(conn->fd, exchange->file, &offset, size);
    struct loop *loop = conn->loop;
    if (loop->file_bytes == NULL) loop->file_bytes = malloc(NET_READ_BYTES);
    if (loop->file_bytes == NULL) return 0;
    ssize_t n = io_local.pread(io_local.context, exchange->file, loop->file_bytes,
                               MIN(size, NET_READ_BYTES), offset);
    return n <= 0 ? 0 : tls_send(conn->ssl, loop->file_bytes, (size_t)n);
}

/* A file that is shorter than was said cuts the connection: the client sees that it is not whole. */
static bool push_file(struct conn *conn, struct exchange *exchange)
{
    uint64_t turn = 0;
    if (!push(conn, NULL, NULL, MSG_MORE)) return false;
    while (exchange->file_left > 0) {
        if (!conn->can_write) return false;
        if (turn >= FILE_TURN_BYTES) {
            conn_ready(conn);
            return false;
        }
        ssize_t n = send_file_bytes(conn, exchange);
        if (!sent(conn, n)) return false;
        if (n < 0) continue;
        turn += (uint64_t)n;
        exchange->file_offset += (uint64_t)n;
        exchange->file_left -= (uint64_t)n;
        exchange->bytes_out += (uint64_t)n;
    }
    return true;
}

/* False: the handler has written no more yet, or the client has to take it first. */
static bool push_pieces(struct conn *conn, struct exchange *exchange)
{
    for (;;) {
        if (!push_big(conn, exchange)) return false;
        exchange->big.size = exchange->big_sent = 0;
        stream_take(exchange->stream, &exchange->big);
        if (exchange->big.size > 0) continue;
        if (!exchange->is_answered) return false;
        if (exchange->is_whole) return true;
        conn_close(conn);
        return false;
    }
}

bool conn_send_answer(struct conn *conn)
{
    struct exchange *exchange = conn->exchange;
    if (exchange->status == 0) {
        conn_close(conn);
        return false;
    }
    if (!exchange->is_corked && !cork_head(conn, exchange)) return false;
    if (exchange->is_begun) return push_pieces(conn, exchange);
    if (exchange->big.size > 0) return push_big(conn, exchange);
    if (exchange->file_left > 0) return push_file(conn, exchange);
    return true;
}
