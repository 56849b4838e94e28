/* SPDX-License-Identifier: Apache-2.0 */
/* receive.c - bytes from the client: read into the loop's buffer, given to the parser, one request at a
 * time. */
#include "net/impl.h"

#include <errno.h>

#define CHUNK_FRAMING_BYTES 32 /* around a chunk: its size, two line ends */

static ssize_t recv_bytes(struct conn *conn, size_t size)
{
    char *into = conn->loop->input;
    if (conn->ssl != NULL) return tls_recv(conn->ssl, into, size);
    ssize_t n;
    do n = recv(conn->fd, into, size, 0);
    while (n < 0 && errno == EINTR);
    return n;
}

/* The client sends no more. What it asked before is answered, still. */
static void see_end(struct conn *conn)
{
    struct exchange *exchange = conn->exchange;
    conn->is_eof = true;
    if (exchange == NULL || exchange->is_complete) return;
    exchange->is_stopped = true;
    exchange->is_keep_alive = false;
    if (exchange->is_dispatched) stream_gone(exchange->stream);
}

bool conn_receive(struct conn *conn)
{
    struct exchange *exchange = conn->exchange;
    size_t size = NET_READ_BYTES;
    if (exchange != NULL && exchange->is_dispatched) {
        size_t room = stream_room(exchange->stream);
        if (room == 0) return false;
        size = MIN(size, room);
    }
    ssize_t n = recv_bytes(conn, size);
    if (n < 0) {
        conn->can_read = false;
        if (errno != EAGAIN && errno != EWOULDBLOCK) conn_close(conn);
        return false;
    }
    if (n == 0) {
        conn->can_read = false;
        see_end(conn);
        return false;
    }
    /* A short read means that there is no more, unless the end has come already. */
    if ((size_t)n < size && conn->ssl == NULL && !conn->is_peer_done) conn->can_read = false;
    counter_add(&conn->loop->counters.bytes_in, (uint64_t)n);
    conn->loop->view = (struct slice){conn->loop->input, (size_t)n};
    conn->loop->is_view_ahead = false;
    return true;
}

void conn_drain(struct conn *conn)
{
    for (int i = 0; i < 16 && conn->can_read; i++) {
        ssize_t n = recv_bytes(conn, NET_READ_BYTES);
        if (n > 0) continue;
        conn->can_read = false;
        if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) conn_close(conn);
        return;
    }
    if (conn->can_read) conn_ready(conn);
}

/* Empty lines before a request, which old clients send behind a body. */
static void skip_empty_lines(struct slice *view)
{
    while (view->size >= 2 && view->data[0] == '\r' && view->data[1] == '\n') {
        view->data += 2;
        view->size -= 2;
    }
}

static bool begin_request(struct conn *conn)
{
    struct exchange *exchange = exchange_take(conn->loop);
    if (exchange == NULL) {
        conn_close(conn);
        return false;
    }
    exchange->conn = conn;
    conn->exchange = exchange;
    conn->fed_bytes = 0;
    return true;
}

/* A head that is nothing but blanks, chunk sizes of a thousand zeros: bytes that are not kept count, too. */
static void check_overhead(struct conn *conn, struct exchange *exchange)
{
    uint64_t most = conn->loop->server->options.limits.header_bytes;
    if (exchange->is_head_done && !exchange->has_chunks) return;
    if (exchange->is_head_done) {
        uint64_t framing = (exchange->n_chunks + 1) * CHUNK_FRAMING_BYTES + exchange->trailer_bytes;
        if (conn->fed_bytes <= most + exchange->body_bytes + framing) return;
        exchange_fault(exchange, 400, "the chunks of the body are badly framed");
    } else {
        if (conn->fed_bytes <= most) return;
        exchange_fault(exchange, exchange->n_headers == 0 ? 414 : 431,
                       "the request's head is larger than %zu bytes", (size_t)most);
    }
    exchange->is_stopped = true;
    exchange->is_keep_alive = false;
}

static void feed(struct conn *conn, struct exchange *exchange)
{
    struct slice *view = &conn->loop->view;
    llhttp_errno_t result = llhttp_execute(&conn->parser, view->data, view->size);
    size_t taken = view->size;
    if (result == HPE_PAUSED) {
        taken = (size_t)(llhttp_get_error_pos(&conn->parser) - view->data);
        llhttp_resume(&conn->parser);
    } else if (result != HPE_OK) {
        if (!exchange->is_stopped)
            exchange_fault(exchange, 400, "the request is malformed: %s",
                           llhttp_get_error_reason(&conn->parser));
        exchange->is_stopped = true;
        exchange->is_keep_alive = false;
    }
    view->data += taken;
    view->size -= taken;
    conn->fed_bytes += taken;
    check_overhead(conn, exchange);
}

static void refuse_fault(struct exchange *exchange)
{
    if (exchange->is_dispatched) { /* the handler answers */
        exchange->is_stopped = true;
        stream_finish(exchange->stream, exchange->fault_text);
        return;
    }
    exchange_refuse_here(exchange, exchange->fault, exchange->fault_text);
}

void conn_parse(struct conn *conn)
{
    struct exchange *exchange = conn->exchange;
    if (exchange == NULL) {
        skip_empty_lines(&conn->loop->view);
        if (conn->loop->view.size == 0 || !begin_request(conn)) return;
        exchange = conn->exchange;
    }
    feed(conn, exchange);
    if (exchange->is_answered) return;
    if (exchange->fault != 0) {
        refuse_fault(exchange);
        return;
    }
    if (!exchange->is_head_done || exchange->is_dispatched) return;
    if (exchange->is_complete || exchange->route->body == NET_BODY_STREAM)
        exchange_dispatch(exchange);
}
