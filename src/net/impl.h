/* SPDX-License-Identifier: Apache-2.0 */
/* impl.h - connections, exchanges and loops, as the files of this room see them.
 *
 * Who owns what:
 *     a loop's thread   its connections, their timers, and an exchange until it is dispatched
 *     the handler       a dispatched exchange's answer: what stands under "answer" below, until it
 *                       calls exchange_answer... or exchange_end
 *     both              `stream`, under its lock; `mail` and `is_gone`, which are atomic
 * A connection has one exchange at a time: what a client sends ahead waits unparsed. So an idle connection
 * costs its `struct conn` and nothing else; exchanges and their buffers are the loop's, used again. */
#ifndef TIDEMILL_NET_IMPL_H
#define TIDEMILL_NET_IMPL_H

#include "net/net.h"
#include "net/route.h"
#include "net/timer.h"

#include <llhttp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#define NET_READ_BYTES ((size_t)64 << 10)    /* of one recv; what a client sends ahead, at most */
#define NET_STREAM_BYTES ((size_t)256 << 10) /* of a STREAM body, and of a piecewise answer */
#define NET_SMALL_BYTES ((size_t)16 << 10)   /* answers up to this are copied behind their head */
#define NET_CORK_BYTES ((size_t)64 << 10)    /* answers to pipelined requests that go out as one */
#define NET_DISCARD_BYTES ((size_t)64 << 10) /* of a body that a NONE route takes and forgets */
#define NET_FREE_EXCHANGES 128               /* that a loop keeps for later */
#define NET_PEER_BYTES 56
#define NET_ID_BYTES 29   /* "req_", 24 digits, NUL */
#define NET_DATE_BYTES 29 /* "Tue, 24 Nov 2026 18:45:00 GMT" */

struct loop;
struct pool;
struct stream;
struct ssl_st;
struct ssl_ctx_st;
struct address_table;

struct header {
    uint32_t name, value; /* offsets into the exchange's text; both end with a NUL */
    uint32_t name_size, value_size;
};

struct joined { /* a repeated header's values as one */
    struct joined *next;
    size_t header; /* the first of them */
    char text[];
};

enum mail { /* what a thread tells the loop of an exchange; bits */
            MAIL_ANSWERED = 1,
            MAIL_ROOM = 2,     /* the stream was read: there is room again */
            MAIL_MORE = 4,     /* a piece of the answer is there */
            MAIL_CONTINUE = 8, /* the handler wants the body: 100 Continue */
};

struct exchange {
    struct conn *conn;
    struct loop *loop;
    struct net_server *server;
    struct exchange *next; /* in the pool's list, the loop's free list, or among corked ones */
    struct exchange *mail_next;
    _Atomic unsigned mail;
    _Atomic bool is_gone;

    /* What was asked. Written by the loop before the exchange is dispatched. */
    const struct net_route *route;
    enum net_method method;
    struct buffer text; /* target, headers, then captures and query decoded; does not move any more
                           once the head is done */
    uint32_t target_size, path_size;
    struct header *headers; /* as many as the limit allows */
    size_t n_headers;
    uint32_t captures[NET_CAPTURES_MAX];
    size_t n_captures;
    uint32_t query; /* offset of name\0value\0..., 0: not decoded yet */
    size_t n_query;
    struct joined *joined; /* repeated headers, put together when asked for */
    struct buffer body;    /* WHOLE */
    size_t body_read;      /* of a WHOLE body, by exchange_read */
    struct stream *stream; /* STREAM, or a piecewise answer */
    int64_t content_length;
    int64_t started_ns;
    char id[NET_ID_BYTES];
    void *user;
    bool has_body, has_chunks, wants_continue, is_old; /* HTTP/1.0 */
    bool is_keep_alive;                                /* as far as the client is concerned */

    /* The loop's own. */
    bool has_version, has_host, is_head_begun, is_head_done, is_complete, is_dispatched,
        is_answered;
    bool is_seen;    /* `before` was asked, or it was refused: `after` is owed */
    bool is_corked;  /* its head is on the way out */
    bool is_stopped; /* no more of this request is parsed */
    bool is_begun;   /* a piecewise answer: some of it is there */
    int fault;       /* a status: it is to be refused */
    char fault_text[160];
    uint64_t line_place; /* where the next part of the request line begins */
    uint64_t body_bytes, trailer_bytes, n_chunks;

    /* The answer. The handler's until it is answered, then the loop's. */
    int status;
    bool is_closing;  /* says Connection: close */
    bool has_no_body; /* HEAD, 204, 304 */
    bool is_chunked, is_whole;
    struct buffer extra; /* headers by exchange_set_header */
    struct buffer out;   /* head, and a small body */
    size_t date;         /* where in `out` the loop puts the date */
    struct buffer big;   /* a large body */
    size_t big_sent;
    int file; /* < 0: none */
    uint64_t file_offset, file_left;
    uint64_t bytes_out;
};

enum conn_wait {
    WAIT_NONE,
    WAIT_IDLE,
    WAIT_HEAD,
    WAIT_BODY,
    WAIT_HANDLER,
    WAIT_WRITE,
    WAIT_LINGER
};

struct conn {
    struct timer timer; /* first */
    struct conn *previous, *next;
    struct conn *ready_next; /* has more to do, in the next round */
    struct loop *loop;
    struct exchange *exchange;
    struct ssl_st *ssl;
    int fd;
    enum conn_wait wait;
    bool can_read, can_write; /* as the kernel last said */
    bool is_peer_done;        /* a FIN has come: read up to it */
    bool is_eof;              /* and was read */
    bool is_closed, is_lingering, is_ready, is_handshake_done;
    bool is_ending;        /* no more requests: closes when all is sent */
    bool is_unread;        /* something was sent that nobody will read: close gently */
    bool has_progress;     /* bytes were taken by the client since the last look */
    uint64_t fed_bytes;    /* of this request, given to the parser before now */
    uint64_t window_bytes; /* of the body since the window began */
    struct buffer in;      /* what was sent ahead */
    size_t in_offset;
    struct buffer out; /* what the client has not taken */
    size_t out_offset;
    llhttp_t parser;
    struct in6_addr address;
    char peer[NET_PEER_BYTES];
};

enum listener_kind { LISTENER_TCP, LISTENER_UNIX };

struct listener {
    int fd;
    enum listener_kind kind;
    bool is_tls, is_inherited;
    char *address;   /* with the port filled in */
    char *unix_path; /* removed at the end; NULL: none */
};

struct loop_counters { /* written by the loop's thread alone */
    _Atomic uint64_t accepted, requests, bytes_in, bytes_out, refused;
};

struct loop {
    struct net_server *server;
    pthread_t thread, self; /* the same, written by who starts it and by itself */
    int epoll, event;       /* event: an eventfd that wakes it */
    bool is_started;
    int64_t now_ms;
    int64_t wall_s;
    char date[NET_DATE_BYTES + 1];
    struct wheel wheel;
    struct conn *conns, *ready, *dead;
    _Atomic size_t n_conns;
    struct exchange *free_exchanges;
    size_t n_free_exchanges;
    struct exchange *current; /* its handler runs on this thread now */
    char *input;              /* NET_READ_BYTES */
    struct slice view;        /* what of the connection's input is not parsed yet */
    bool is_view_ahead;       /* it lies in the connection's `in` */
    struct buffer cork;       /* answers of the connection that is being looked at */
    size_t cork_offset;
    char *file_bytes;        /* what TLS sends of a file */
    struct exchange *corked; /* theirs */
    uint64_t random;
    int stage_seen;
    bool is_accept_paused;
    int64_t accept_again_ms;

    pthread_mutex_t lock; /* of what follows, up to the counters */
    struct exchange *mail, **mail_last;
    struct conn *arrived; /* accepted by the first loop for this one */
    bool is_dead;

    struct loop_counters counters;
};

enum server_stage { STAGE_NEW, STAGE_RUN, STAGE_STOP, STAGE_CUT, STAGE_END };

struct net_server {
    struct net_options options; /* limits filled in */
    struct route_table *routes;
    struct listener *listeners;
    size_t n_listeners;
    const char **addresses;
    struct loop *loops;
    size_t n_loops;
    struct pool *pool;
    struct ssl_ctx_st *tls;
    struct address_table *by_address; /* NULL: no limit */
    _Atomic int stage;
    _Atomic size_t n_conns;
    _Atomic size_t n_exchanges;
    _Atomic bool is_accept_paused, has_room;
    pthread_mutex_t lock; /* with `quiet`: somebody waits for n_conns to be 0 */
    pthread_cond_t quiet;
};

static inline void counter_add(_Atomic uint64_t *counter, uint64_t n)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + n, memory_order_relaxed);
}

/* --- listen.c, accept.c -------------------------------------------------------------------------- */
tidemill_error *listener_open(const char *address, bool is_tls, struct listener *ret);
void listener_close(struct listener *listener);
void loop_accept(struct loop *loop, struct listener *listener);
void loop_accept_pause(struct loop *loop, bool is_paused);
void loop_accept_end(struct loop *loop); /* closes the listeners */

/* --- loop.c -------------------------------------------------------------------------------------- */
tidemill_error *loop_init(struct loop *loop, struct net_server *server);
tidemill_error *loop_start(struct loop *loop);
void loop_join(struct loop *loop);
void loop_free(struct loop *loop);
void loop_wake(struct loop *loop);
bool loop_is_here(const struct loop *loop); /* this is its thread */
void loop_give(struct loop *loop, struct conn *conn);
void mail_post(struct exchange *exchange, enum mail what);

/* --- conn.c -------------------------------------------------------------------------------------- */
struct conn *conn_new(int fd, struct ssl_ctx_st *tls);
bool conn_begin(struct loop *loop, struct conn *conn); /* false: closed again */
void conn_run(struct conn *conn);                      /* does what can be done now */
void conn_expired(struct conn *conn);
void conn_close(struct conn *conn);
void conn_free_dead(struct loop *loop);
void conn_answered(struct exchange *exchange); /* its connection may be gone by now */
void conn_ready(struct conn *conn);            /* once more in the next round */

/* --- receive.c ----------------------------------------------------------------------------------- */
bool conn_receive(struct conn *conn); /* false: nothing more comes now */
void conn_parse(struct conn *conn);
void conn_drain(struct conn *conn); /* reads and forgets */

/* --- parse.c ------------------------------------------------------------------------------------- */
extern const llhttp_settings_t parse_settings;
void exchange_fault(struct exchange *exchange, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void exchange_head_done(struct exchange *exchange);

/* --- target.c ------------------------------------------------------------------------------------ */
bool target_check(const char *target, size_t size, size_t *ret_path_size);
/* Decodes into `out`, which has room for size + 1 bytes. -1: malformed, or it holds a NUL. */
ptrdiff_t percent_decode(const char *text, size_t size, bool is_form, char *out);
bool exchange_decode_query(struct exchange *exchange);

/* --- range.c, form.c ----------------------------------------------------------------------------- */
int range_parse(const char *text, uint64_t size, uint64_t *offset, uint64_t *length);

/* --- exchange.c ---------------------------------------------------------------------------------- */
struct exchange *exchange_take(struct loop *loop);
/* `after`, and back to the loop. On the loop, or under its lock when it has ended. */
void exchange_recycle(struct exchange *exchange);
void exchange_free_list(struct exchange *list);
void exchange_dispatch(struct exchange *exchange);
void exchange_refuse_here(struct exchange *exchange, int status, const char *message);

/* --- answer.c ------------------------------------------------------------------------------------ */
const char *status_text(int status);
void answer_head(struct exchange *exchange, const char *type, int64_t size);
void answer_done(struct exchange *exchange);
void answer_refuse(struct exchange *exchange, int status, const char *message);

/* --- output.c ------------------------------------------------------------------------------------ */
bool conn_send_answer(struct conn *conn); /* false: the client has to take more first, or is gone */
bool conn_flush(struct conn *conn);
bool conn_has_output(const struct conn *conn);
void conn_cork(struct conn *conn, const void *data, size_t size);

/* --- stream.c ------------------------------------------------------------------------------------ */
struct stream *stream_new(void);
bool stream_open(struct stream *stream); /* for a STREAM body; false: no memory */
void stream_reset(struct stream *stream);
void stream_free(struct stream *stream);
size_t stream_room(struct stream *stream); /* 0: MAIL_ROOM comes when there is some */
void stream_put(struct stream *stream, const void *data, size_t size);
void stream_finish(struct stream *stream, const char *failure); /* NULL: the body's end */
bool stream_is_finished(struct stream *stream);
void stream_gone(struct stream *stream);
/* Takes what was written so far, in exchange for the empty `ret`. */
void stream_take(struct stream *stream, struct buffer *ret);

/* --- pool.c -------------------------------------------------------------------------------------- */
tidemill_error *pool_new(int threads, void *context, struct pool **ret);
void pool_push(struct pool *pool, struct exchange *exchange);
void pool_stop(struct pool *pool); /* waits for handlers; what was not begun is refused */
void pool_free(struct pool *pool);

/* --- tls.c --------------------------------------------------------------------------------------- */
tidemill_error *tls_context(const char *certificate, const char *key, struct ssl_ctx_st **ret);
void tls_context_free(struct ssl_ctx_st *context);
struct ssl_st *tls_new(struct ssl_ctx_st *context, int fd);
void tls_close(struct ssl_st *ssl, bool is_clean);
bool tls_is_ready(struct ssl_st *ssl);
/* As recv and send on a non-blocking socket. */
ssize_t tls_recv(struct ssl_st *ssl, void *data, size_t size);
ssize_t tls_send(struct ssl_st *ssl, const void *data, size_t size);

/* --- address.c ----------------------------------------------------------------------------------- */
tidemill_error *address_table_new(size_t limit, struct address_table **ret);
bool address_add(struct address_table *table, const struct in6_addr *address); /* false: too many */
void address_remove(struct address_table *table, const struct in6_addr *address);
void address_table_free(struct address_table *table);

#endif
