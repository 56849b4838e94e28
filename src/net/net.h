/* SPDX-License-Identifier: Apache-2.0 */
/* net.h - the way into the room of connections: an HTTP/1.1 server that knows nothing of inference.
 *
 * A few loops, a thread each, own the connections (epoll); a pool of threads runs handlers that may
 * block. A request and its answer are one `exchange`. It lives until it is answered, also when its
 * client is gone by then, and it may be answered from any thread.
 *
 *     route not blocking   the handler runs on the loop and must not wait. It answers at once, or
 *                          keeps the exchange and somebody answers later
 *     route blocking       the handler runs on a thread of the pool
 *     body WHOLE           is there when the handler is called, no larger than the route allows
 *     body STREAM          (blocking routes) is read piece by piece; what is not read is not taken
 *                          from the client
 *
 * Strict: what two parsers could understand differently is refused with 400 and the connection closed. */
#ifndef TIDEMILL_NET_NET_H
#define TIDEMILL_NET_NET_H

#include "base/base.h"
#include "io/io.h"

enum net_method { NET_GET, NET_HEAD, NET_POST, NET_PUT, NET_PATCH, NET_DELETE, NET_OPTIONS };
const char *net_method_name(enum net_method method);

enum net_body { NET_BODY_NONE, NET_BODY_WHOLE, NET_BODY_STREAM };

struct exchange;

#define NET_CAPTURES_MAX 4

struct net_route {
    enum net_method method; /* a GET serves HEAD, too */
    /* "/v1/files/{file_id}/content". {name} stands for one segment, or for the part of one before
     * a literal: "/v1/models/{model}:predict". */
    const char *pattern;
    enum net_body body;
    size_t body_max; /* of WHOLE; 0: the server's default */
    bool is_blocking;
    void (*handle)(struct exchange *exchange, void *context);
    const char *operation; /* its name in metrics, logs and the OpenAPI document: "createFile" */
    const void *data;      /* the owner's, for `before` */
};

/* For bodies of one media type a route of their own, with the method and pattern of one in the table. */
struct net_typed_route {
    const char *type;
    struct net_route route;
};

struct net_limits {             /* 0: the default */
    size_t header_bytes;        /* 16 KiB, request line included: 431; a longer target: 414 */
    size_t headers;             /* 100 */
    size_t body_bytes;          /* 64 MiB of a WHOLE body: 413 */
    size_t connections;         /* 16,384; beyond, new ones wait in the kernel */
    size_t connections_address; /* of one address; 0: no limit */
    int header_ms;      /* 10 s from the first byte of a request to the end of its head: 408 */
    int idle_ms;        /* 75 s between requests */
    int body_rate;      /* 1,024 bytes a second, on average over body_window_ms: 408 */
    int body_window_ms; /* 30 s */
    int write_ms;       /* 60 s without a byte taken by a client: closed */
};

struct net_options {
    /* "127.0.0.1:8080", "[::1]:0", "unix:/run/tidemill.sock", "fd:3" (a listening socket) */
    const char *const *addresses;
    size_t n_addresses;
    const struct net_route *routes; /* live as long as the server */
    size_t n_routes;
    const struct net_typed_route *typed_routes; /* likewise; NULL: none */
    size_t n_typed_routes;
    int loops;                   /* 0: one for each two processors */
    int pool_threads;            /* 0: 32 */
    const char *tls_certificate; /* PEM files; NULL: plain HTTP (unix sockets always are) */
    const char *tls_key;
    struct net_limits limits;
    void *context; /* of the functions below and of handlers */
    /* Called when the head is there and before any of the body is taken: who is this, may they? On
     * the loop; must not wait. False: it has answered. NULL: everybody. */
    bool (*before)(struct exchange *exchange, const struct net_route *route, void *context);
    /* Answers what no handler can: 404, 405, 413, ... in the shape of the dialect that was spoken.
     * NULL: {"error":{"message":...}}. May use exchange_path and exchange_fail's own parts only. */
    void (*refuse)(struct exchange *exchange, int status, const char *message, void *context);
    /* After an answer went out, or could not: for logs and metrics. On the loop. NULL is fine. */
    void (*after)(struct exchange *exchange, void *context);
};

struct net_server;
/* Binds and listens; answers from net_server_start on. ERROR_USAGE: an address is wrong or taken. */
tidemill_error *net_server_new(const struct net_options *options, struct net_server **ret);
tidemill_error *net_server_start(struct net_server *server);
/* The addresses it listens on, ports filled in: "127.0.0.1:41234". */
size_t net_server_addresses(const struct net_server *server, const char *const **ret);
/* Takes no new connections, closes idle ones, waits until exchanges under way are answered, at most
 * `wait_ms`; whoever is left is cut off. Handlers of the pool are waited for. An exchange that somebody
 * kept may be answered later, but before net_server_free. */
void net_server_stop(struct net_server *server, int wait_ms);
void net_server_free(struct net_server *server); /* stopped before; NULL is fine */

struct net_stats {
    uint64_t connections, accepted, requests, bytes_in, bytes_out, refused;
};
void net_server_stats(struct net_server *server, struct net_stats *ret);

/* --- what was asked ---------------------------------------------------------------------------- */

enum net_method exchange_method(const struct exchange *exchange);
const struct net_route *exchange_route(const struct exchange *exchange); /* NULL: none fits */
struct slice exchange_path(const struct exchange *exchange); /* as sent, without the query */
/* The i-th {capture}, percent-decoded; it holds no NUL. */
const char *exchange_capture(const struct exchange *exchange, size_t i);
/* A query parameter, percent-decoded; NULL: not there. */
const char *exchange_query(const struct exchange *exchange, const char *name);
/* A header, names compared as HTTP does; NULL: not there. Repeated ones are joined by ", ". */
const char *exchange_header(const struct exchange *exchange, const char *name);
struct slice exchange_body(const struct exchange *exchange); /* of a WHOLE body */
/* Of a STREAM body: waits for at least a byte; *ret_size 0: its end. ERROR_INPUT: the client went
 * away, was too slow, or broke the protocol. */
tidemill_error *exchange_read(struct exchange *exchange, void *data, size_t size, size_t *ret_size);
/* Content-Length, or -1 where the body is chunked. */
int64_t exchange_body_length(const struct exchange *exchange);
const char *exchange_peer(const struct exchange *exchange); /* "127.0.0.1:51234", "unix" */
/* The client is; a hint. One that ended only its own half looks gone, too, and still hears an answer. */
bool exchange_is_gone(const struct exchange *exchange);
double exchange_age_s(const struct exchange *exchange); /* since its head was there */
/* "req_" and 24 hexadecimal digits: the answer's X-Request-Id, the log's request_id. */
const char *exchange_id(const struct exchange *exchange);

/* What `before` found out about it; any pointer, freed by the owner's `after`. */
void exchange_set_user(struct exchange *exchange, void *user);
void *exchange_user(const struct exchange *exchange);

/* --- the answer: one of these, once --------------------------------------------------------------
 * After it the exchange is gone for the caller. A HEAD's body is left out by itself. */

/* Before the answer. Date, Content-Length, Connection and X-Request-Id are made by the server. */
void exchange_set_header(struct exchange *exchange, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Copies the body. `type` NULL: no body. */
void exchange_answer(struct exchange *exchange, int status, const char *type, const void *body,
                     size_t size);
/* Takes the buffer's memory; one that is_failed becomes a 500. */
void exchange_answer_buffer(struct exchange *exchange, int status, const char *type,
                            struct buffer *body);
/* `size` bytes of an open file from `offset`; takes the descriptor. */
void exchange_answer_file(struct exchange *exchange, int status, const char *type, int fd,
                          uint64_t offset, uint64_t size);
/* Chunked, piece by piece, from any thread but a loop's: waits while the client is slow. After an error
 * (ERROR_IO: it is gone) only exchange_end is left. */
void exchange_begin(struct exchange *exchange, int status, const char *type);
tidemill_error *exchange_write(struct exchange *exchange, const void *data, size_t size);
void exchange_end(struct exchange *exchange,
                  bool is_whole); /* false: the client sees it was cut off */
/* By options.refuse. */
void exchange_refuse(struct exchange *exchange, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* For `after`: what was sent. */
int exchange_status(const struct exchange *exchange); /* 0: nothing could be */
uint64_t exchange_bytes_out(const struct exchange *exchange);

/* --- helpers ----------------------------------------------------------------------------------- */

/* A multipart/form-data body, read piece by piece: for each part `begin` with its name and file name
 * ("" where it has none), then `data` any number of times, then `end`. Memory is bounded whatever the
 * body holds; more than 64 parts, a head over 8 KiB or a boundary that never comes is ERROR_INPUT. */
struct net_form {
    void *context;
    tidemill_error *(*begin)(void *context, const char *name, const char *filename);
    tidemill_error *(*data)(void *context, const void *data, size_t size);
    tidemill_error *(*end)(void *context);
};
tidemill_error *exchange_read_form(struct exchange *exchange, const struct net_form *form);

/* The range that a "Range: bytes=..." header asks of `size` bytes. 206: *offset and *length are set;
 * 200: there is none, or one that may be ignored (several); 416: it cannot be satisfied. */
int exchange_range(const struct exchange *exchange, uint64_t size, uint64_t *offset,
                   uint64_t *length);

#endif
