/* SPDX-License-Identifier: Apache-2.0 */
/* net_request_fuzz.c - any bytes as what a connection sends, through the parser, the routes, captures, queries
 * and ranges, once at once and once in pieces whose size the first byte chooses: the same requests are seen
 * and the same refused. */
#include "net/impl.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool is_true)
{
    if (!is_true) abort();
}

static void check_text(const char *text)
{
    if (text != NULL) require(strlen(text) < (size_t)1 << 20);
}

static void handle(struct exchange *exchange, void *context)
{
    struct digest *digest = context;
    uint64_t offset, length;
    struct slice path = exchange_path(exchange), body = exchange_body(exchange);
    require(path.size > 0 && path.data[0] == '/');
    for (size_t i = 0; i < 4; i++) check_text(exchange_capture(exchange, i));
    check_text(exchange_query(exchange, "q"));
    check_text(exchange_header(exchange, "x"));
    int status = exchange_range(exchange, 1000, &offset, &length);
    require(status == 200 || status == 416 ||
            (status == 206 && length > 0 && offset + length <= 1000));
    digest->low += hash_checksum(path.data, path.size) * 31 + hash_checksum(body.data, body.size);
    digest->high++;
    exchange_answer(exchange, 200, "text/plain", "ok", 2);
}

static const struct net_route routes[] = {
    {.method = NET_GET, .pattern = "/", .handle = handle},
    {.method = NET_GET, .pattern = "/a/{b}", .handle = handle},
    {.method = NET_POST,
     .pattern = "/a/{b}:c",
     .handle = handle,
     .body = NET_BODY_WHOLE,
     .body_max = 100},
    {.method = NET_POST, .pattern = "/n", .handle = handle},
    {.method = NET_PUT, .pattern = "/{a}/{b}/c/{d}", .handle = handle, .body = NET_BODY_WHOLE},
};

static struct net_server *server; /* one for all runs */
static struct digest seen;

static void open_server(void)
{
    struct net_options options = {
        .routes = routes, .n_routes = COUNT_OF(routes), .loops = 1, .context = &seen};
    options.limits.header_bytes = 1000;
    options.limits.headers = 10;
    require(net_server_new(&options, &server) == NULL);
    atomic_store(&server->stage, STAGE_RUN);
    server->loops[0].self = pthread_self();
}

/* Until the bytes are used up; false: the connection would be closed. */
static bool take(struct conn *conn, struct loop *loop)
{
    while (loop->view.size > 0) {
        conn_parse(conn);
        struct exchange *exchange = conn->exchange;
        if (exchange == NULL || !exchange->is_answered) continue;
        require(exchange->out.size > 0);
        bool is_closing = exchange->is_closing || exchange->is_stopped;
        if (exchange->status >= 400) seen.low += (uint64_t)exchange->status;
        conn->exchange = NULL;
        exchange_recycle(exchange);
        if (is_closing) return false;
    }
    return true;
}

static struct digest run(const uint8_t *data, size_t size, size_t piece)
{
    struct loop *loop = &server->loops[0];
    struct conn *conn = conn_new(-1, NULL);
    require(conn != NULL);
    conn->loop = loop;
    seen = (struct digest){0};
    char *bytes = malloc(size + 1); /* exactly as large as they are, for the sanitizer */
    for (size_t at = 0; at < size; at += piece) {
        size_t n = MIN(piece, size - at);
        memcpy(bytes, data + at, n);
        loop->view = (struct slice){bytes, n};
        if (!take(conn, loop)) break;
    }
    if (conn->exchange != NULL) exchange_recycle(conn->exchange);
    buffer_free(&loop->cork);
    free(bytes);
    free(conn);
    return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) return 0;
    if (server == NULL) open_server();
    struct digest whole = run(data + 1, size - 1, SIZE_MAX);
    struct digest pieces = run(data + 1, size - 1, 1 + data[0] % 64);
    require(whole.high == pieces.high); /* as many requests reach a handler */
    return 0;
}
