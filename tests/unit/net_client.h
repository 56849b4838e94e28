/* SPDX-License-Identifier: Apache-2.0 */
/* net_client.h - a server in this process, and sockets that say to it exactly what a test wants. */
#ifndef TIDEMILL_TESTS_NET_CLIENT_H
#define TIDEMILL_TESTS_NET_CLIENT_H

#include "expect.h"

#include "net/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENT_WAIT_MS 20000 /* for what must come; nobody waits that long when all is well */

static inline struct net_server *server_open(struct net_options options)
{
    static const char *const loopback = "127.0.0.1:0";
    struct net_server *server;
    signal(SIGPIPE, SIG_IGN);
    if (options.n_addresses == 0) {
        options.addresses = &loopback;
        options.n_addresses = 1;
    }
    if (options.loops == 0) options.loops = 1;
    if (options.pool_threads == 0) options.pool_threads = 4;
    expect_fine(net_server_new(&options, &server), "net_server_new");
    expect_fine(net_server_start(server), "net_server_start");
    return server;
}

static inline void server_close(struct net_server *server)
{
    net_server_stop(server, 0);
    net_server_free(server);
}

static inline uint16_t server_port(const struct net_server *server)
{
    const char *const *addresses;
    assert_true(net_server_addresses(server, &addresses) > 0);
    return (uint16_t)atoi(strrchr(addresses[0], ':') + 1);
}

static inline int client_open(const struct net_server *server)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(server_port(server))};
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&name, sizeof name), 0);
    return fd;
}

/* What the server does not take any more is not an error: it may have answered and closed. */
static inline void client_send(int fd, const void *data, size_t size)
{
    const char *p = data;
    while (size > 0) {
        ssize_t n = send(fd, p, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return;
        p += n;
        size -= (size_t)n;
    }
}

static inline void client_say(int fd, const char *text)
{
    client_send(fd, text, strlen(text));
}

/* Waits for bytes; 0: the end, or a reset. */
static inline size_t client_receive(int fd, void *data, size_t size)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (poll(&wait, 1, CLIENT_WAIT_MS) != 1) fail_msg("nothing came");
    ssize_t n = recv(fd, data, size, 0);
    return n < 0 ? 0 : (size_t)n;
}

static inline void client_receive_all(int fd, struct buffer *ret)
{
    char piece[16384];
    size_t n;
    while ((n = client_receive(fd, piece, sizeof piece)) > 0) buffer_append(ret, piece, n);
    buffer_byte(ret, '\0');
    ret->size--;
}

struct answer {
    int status;
    struct buffer head, body;
};

static inline void answer_free(struct answer *answer)
{
    buffer_free(&answer->head);
    buffer_free(&answer->body);
}

static inline const char *answer_header(const struct answer *answer, const char *name)
{
    const char *found = strcasestr(answer->head.data, name);
    return found == NULL ? NULL : found + strlen(name) + 2;
}

/* Up to the empty line, and no byte more. */
static inline void client_head(int fd, struct buffer *ret)
{
    char piece[4096];
    for (;;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (poll(&wait, 1, CLIENT_WAIT_MS) != 1) fail_msg("nothing came");
        ssize_t n = recv(fd, piece, sizeof piece, MSG_PEEK);
        if (n <= 0) fail_msg("the connection ended after: %.*s", (int)ret->size, ret->data);
        size_t before = ret->size;
        buffer_append(ret, piece, (size_t)n);
        char *end = memmem(ret->data, ret->size, "\r\n\r\n", 4);
        if (end != NULL) ret->size = (size_t)(end - ret->data) + 4;
        client_receive(fd, piece, ret->size - before);
        if (end != NULL) return;
    }
}

/* One answer with a Content-Length, and no byte more. */
static inline void client_answer(int fd, bool is_head, struct answer *ret)
{
    memset(ret, 0, sizeof *ret);
    client_head(fd, &ret->head);
    buffer_byte(&ret->head, '\0');
    assert_int_equal(sscanf(ret->head.data, "HTTP/1.1 %d", &ret->status), 1);
    const char *length = answer_header(ret, "Content-Length");
    size_t left = length == NULL || is_head ? 0 : (size_t)strtoull(length, NULL, 10);
    while (left > 0) {
        char piece[16384];
        size_t n = client_receive(fd, piece, MIN(left, sizeof piece));
        if (n == 0) fail_msg("the body was cut off");
        buffer_append(&ret->body, piece, n);
        left -= n;
    }
    buffer_byte(&ret->body, '\0');
    ret->body.size--;
}

/* Nothing more comes: the server has closed. */
static inline void client_expect_end(int fd)
{
    char byte;
    assert_int_equal(client_receive(fd, &byte, 1), 0);
}

/* Asks on a connection of its own; the answer's status and body. */
static inline int ask(const struct net_server *server, const char *request, struct buffer *ret_body)
{
    struct answer answer;
    int fd = client_open(server);
    client_say(fd, request);
    client_answer(fd, strncmp(request, "HEAD", 4) == 0, &answer);
    close(fd);
    if (ret_body != NULL)
        *ret_body = answer.body;
    else
        buffer_free(&answer.body);
    buffer_free(&answer.head);
    return answer.status;
}

#endif
