/* SPDX-License-Identifier: Apache-2.0 */
/* conn.c - one connection: what it can do now, what it waits for, how it ends. */
#include "net/impl.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define LINGER_MS 2000
#define RECEIVES_A_TURN 16

struct conn *conn_new(int fd, struct ssl_ctx_st *tls)
{
    struct conn *conn = calloc(1, sizeof *conn);
    if (conn == NULL) return NULL;
    timer_init(&conn->timer);
    conn->fd = fd;
    llhttp_init(&conn->parser, HTTP_REQUEST, &parse_settings);
    conn->parser.data = conn;
    if (tls == NULL) return conn;
    conn->ssl = tls_new(tls, fd);
    if (conn->ssl != NULL) return conn;
    free(conn);
    return NULL;
}

bool conn_begin(struct loop *loop, struct conn *conn)
{
    const struct net_limits *limits = &loop->server->options.limits;
    conn->loop = loop;
    conn->next = loop->conns;
    if (conn->next != NULL) conn->next->previous = conn;
    loop->conns = conn;
    atomic_fetch_add_explicit(&loop->n_conns, 1, memory_order_relaxed);
    conn->wait = WAIT_IDLE;
    wheel_set(&loop->wheel, &conn->timer,
              loop->now_ms + (conn->ssl == NULL ? limits->idle_ms : limits->header_ms));
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = conn};
    bool is_late = atomic_load(&loop->server->stage) != STAGE_RUN; /* nobody would close it */
    if (!is_late && epoll_ctl(loop->epoll, EPOLL_CTL_ADD, conn->fd, &event) == 0) return true;
    conn_close(conn);
    return false;
}

static void tell_quiet(struct net_server *server)
{
    if (atomic_fetch_sub(&server->n_conns, 1) == 1 && atomic_load(&server->stage) >= STAGE_STOP) {
        pthread_mutex_lock(&server->lock);
        pthread_cond_broadcast(&server->quiet);
        pthread_mutex_unlock(&server->lock);
    }
    if (!atomic_load(&server->is_accept_paused)) return;
    atomic_store(&server->has_room, true);
    loop_wake(&server->loops[0]);
}

static void bury(struct conn *conn)
{
    conn->next = conn->loop->dead;
    conn->loop->dead = conn;
}

void conn_free_dead(struct loop *loop)
{
    struct conn *kept = NULL;
    while (loop->dead != NULL) {
        struct conn *conn = loop->dead;
        loop->dead = conn->next;
        if (conn->is_ready) {
            conn->next = kept;
            kept = conn;
        } else
            free(conn);
    }
    loop->dead = kept;
}

/* With whom is the exchange? A handler's comes back when it is answered. */
static void leave_exchange(struct conn *conn)
{
    struct exchange *exchange = conn->exchange;
    if (exchange == NULL) return;
    atomic_store_explicit(&exchange->is_gone, true, memory_order_relaxed);
    if (exchange->is_dispatched && !exchange->is_answered) {
        if (exchange->stream != NULL) stream_gone(exchange->stream);
        return;
    }
    conn->exchange = NULL;
    if (exchange->bytes_out == 0) exchange->status = 0;
    exchange_recycle(exchange);
}

void conn_close(struct conn *conn)
{
    struct loop *loop = conn->loop;
    if (conn->is_closed) return;
    conn->is_closed = true;
    wheel_remove(&loop->wheel, &conn->timer);
    if (conn->previous != NULL)
        conn->previous->next = conn->next;
    else
        loop->conns = conn->next;
    if (conn->next != NULL) conn->next->previous = conn->previous;
    atomic_fetch_sub_explicit(&loop->n_conns, 1, memory_order_relaxed);
    if (conn->ssl != NULL) tls_close(conn->ssl, false);
    conn->ssl = NULL;
    close(conn->fd);
    buffer_free(&conn->in);
    buffer_free(&conn->out);
    conn->out_offset = 0;
    if (loop->server->by_address != NULL) address_remove(loop->server->by_address, &conn->address);
    leave_exchange(conn);
    if (conn->exchange == NULL) bury(conn);
    tell_quiet(loop->server);
}

void conn_ready(struct conn *conn)
{
    if (conn->is_ready || conn->is_closed) return;
    conn->is_ready = true;
    conn->ready_next = conn->loop->ready;
    conn->loop->ready = conn;
}

void conn_answered(struct exchange *exchange)
{
    struct conn *conn = exchange->conn;
    exchange->is_answered = true;
    if (!conn->is_closed) return;
    conn->exchange = NULL;
    exchange->status = exchange->bytes_out == 0 ? 0 : exchange->status;
    exchange_recycle(exchange);
    bury(conn);
}

/* --- a turn ------------------------------------------------------------------------------------ */

/* Its answer is on the way: the next request may be looked at. */
static void finish_exchange(struct conn *conn)
{
    struct exchange *exchange = conn->exchange;
    conn->exchange = NULL;
    conn->wait = WAIT_NONE;
    if (exchange->is_closing || exchange->is_stopped) {
        conn->is_ending = true;
        conn->is_unread |= exchange->is_stopped || !exchange->is_complete;
    }
    exchange->next = conn->loop->corked;
    conn->loop->corked = exchange;
}

static bool wants_input(struct conn *conn)
{
    struct exchange *exchange = conn->exchange;
    return exchange == NULL || (!exchange->is_complete && !exchange->is_stopped);
}

/* One thing that can be done now; false: there is none. */
static bool step(struct conn *conn, int *receives)
{
    struct exchange *exchange = conn->exchange;
    struct loop *loop = conn->loop;
    if (conn->out.size > 0 && !conn_flush(conn)) return false;
    if (exchange != NULL && (exchange->is_answered || exchange->is_begun)) {
        if (conn_send_answer(conn)) {
            finish_exchange(conn);
            return true;
        }
        if (conn->is_closed || exchange->is_answered || conn->out.size > 0) return false;
    }
    if (!wants_input(conn)) return false;
    if (loop->view.size > 0) {
        conn_parse(conn);
        return true;
    }
    if (conn->exchange == NULL &&
        atomic_load_explicit(&loop->server->stage, memory_order_relaxed) != STAGE_RUN) {
        conn->is_ending = true;
        return false;
    }
    if (!conn->can_read) return false;
    if (--*receives < 0) {
        conn_ready(conn);
        return false;
    }
    return conn_receive(conn);
}

static void open_view(struct conn *conn)
{
    struct loop *loop = conn->loop;
    loop->is_view_ahead = true;
    loop->view = (struct slice){conn->in.data + conn->in_offset, conn->in.size - conn->in_offset};
}

/* What was not parsed waits in the connection. */
static void close_view(struct conn *conn)
{
    struct loop *loop = conn->loop;
    if (conn->is_closed) return;
    if (loop->is_view_ahead && loop->view.size > 0) {
        conn->in_offset = conn->in.size - loop->view.size;
        return;
    }
    buffer_free(&conn->in);
    conn->in_offset = 0;
    buffer_append(&conn->in, loop->view.data, loop->view.size);
    if (conn->in.is_failed) conn_close(conn);
}

static void uncork(struct conn *conn)
{
    struct loop *loop = conn->loop;
    if (!conn->is_closed) conn_flush(conn);
    if (!conn->is_closed && loop->cork.size > loop->cork_offset) {
        buffer_append(&conn->out, loop->cork.data + loop->cork_offset,
                      loop->cork.size - loop->cork_offset);
        if (conn->out.is_failed) conn_close(conn);
    }
    loop->cork.size = loop->cork_offset = 0;
    while (loop->corked != NULL) {
        struct exchange *exchange = loop->corked;
        loop->corked = exchange->next;
        if (conn->is_closed && exchange->big_sent == 0) exchange->status = 0;
        exchange_recycle(exchange);
    }
}

static void begin_linger(struct conn *conn)
{
    if (conn->ssl != NULL) tls_close(conn->ssl, true);
    conn->ssl = NULL;
    shutdown(conn->fd, SHUT_WR);
    buffer_free(&conn->in);
    conn->in_offset = 0;
    conn->is_lingering = true;
    conn->wait = WAIT_LINGER;
    wheel_set(&conn->loop->wheel, &conn->timer, conn->loop->now_ms + LINGER_MS);
    conn_drain(conn);
}

/* Closing with bytes unread would make the kernel reset the connection, and the client lose the answer. */
static void end(struct conn *conn)
{
    if (conn->is_unread || conn->in.size > 0 || (conn->can_read && !conn->is_eof)) {
        begin_linger(conn);
        return;
    }
    if (conn->ssl != NULL) tls_close(conn->ssl, true);
    conn->ssl = NULL;
    conn_close(conn);
}

static enum conn_wait what_next(struct conn *conn)
{
    struct exchange *exchange = conn->exchange;
    bool is_sending = exchange != NULL && (exchange->is_answered || exchange->is_begun);
    if (conn->out.size > 0 || (is_sending && !conn->can_write)) return WAIT_WRITE;
    if (exchange == NULL) return WAIT_IDLE;
    if (!exchange->is_head_done) return WAIT_HEAD;
    return wants_input(conn) && !conn->can_read ? WAIT_BODY : WAIT_HANDLER;
}

static void set_deadline(struct conn *conn)
{
    const struct net_limits *limits = &conn->loop->server->options.limits;
    enum conn_wait wait = what_next(conn);
    bool is_same = wait == conn->wait && !(wait == WAIT_WRITE && conn->has_progress);
    conn->has_progress = false;
    conn->wait = wait;
    if (is_same) return;
    int64_t now = conn->loop->now_ms, deadline = TIMER_NEVER;
    if (wait == WAIT_WRITE) deadline = now + limits->write_ms;
    if (wait == WAIT_IDLE) deadline = now + limits->idle_ms;
    if (wait == WAIT_HEAD) deadline = now + limits->header_ms;
    if (wait == WAIT_BODY) {
        conn->window_bytes = 0;
        deadline = now + limits->body_window_ms;
    }
    wheel_set(&conn->loop->wheel, &conn->timer, deadline);
}

/* The client ended in the middle of one, and nobody is to answer it. */
static bool is_half_a_request(const struct conn *conn)
{
    const struct exchange *exchange = conn->exchange;
    return conn->is_eof && exchange != NULL && exchange->is_stopped && !exchange->is_dispatched &&
           !exchange->is_answered;
}

/* Until then its deadline was that of a head. */
static void see_handshake(struct conn *conn)
{
    if (conn->ssl == NULL || conn->is_handshake_done || !tls_is_ready(conn->ssl)) return;
    conn->is_handshake_done = true;
    conn->wait = WAIT_NONE;
}

void conn_run(struct conn *conn)
{
    int receives = RECEIVES_A_TURN;
    if (conn->is_closed) return;
    if (conn->is_lingering) {
        conn_drain(conn);
        return;
    }
    open_view(conn);
    while (!conn->is_closed && !conn->is_ending && step(conn, &receives)) {
    }
    close_view(conn);
    uncork(conn);
    if (conn->is_closed) return;
    see_handshake(conn);
    if (is_half_a_request(conn))
        conn_close(conn);
    else if (conn->out.size == 0 && (conn->is_ending || (conn->is_eof && conn->exchange == NULL)))
        end(conn);
    else
        set_deadline(conn);
}

/* --- too slow ---------------------------------------------------------------------------------- */

static void refuse_slow(struct conn *conn, const char *what)
{
    struct exchange *exchange = conn->exchange;
    exchange->is_stopped = true;
    exchange->is_keep_alive = false;
    if (exchange->is_dispatched)
        stream_finish(exchange->stream, what);
    else if (!exchange->is_answered)
        exchange_refuse_here(exchange, 408, what);
    conn_run(conn);
}

static void check_body_rate(struct conn *conn)
{
    const struct net_limits *limits = &conn->loop->server->options.limits;
    uint64_t least = (uint64_t)limits->body_rate * (uint64_t)limits->body_window_ms / 1000;
    if (conn->window_bytes < least) {
        refuse_slow(conn, "the body came more slowly than this server waits for");
        return;
    }
    conn->window_bytes = 0;
    wheel_set(&conn->loop->wheel, &conn->timer, conn->loop->now_ms + limits->body_window_ms);
}

/* A client that takes nothing gets a reset: there is no use in waiting for its kernel. */
static void reset(struct conn *conn)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    conn_close(conn);
}

void conn_expired(struct conn *conn)
{
    switch (conn->wait) {
    case WAIT_HEAD: refuse_slow(conn, "the request's head did not come in time"); return;
    case WAIT_BODY: check_body_rate(conn); return;
    case WAIT_WRITE: reset(conn); return;
    default: conn_close(conn); return;
    }
}
