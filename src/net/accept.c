/* SPDX-License-Identifier: Apache-2.0 */
/* accept.c - new connections: the first loop takes them and gives each to the loop with the fewest. With
 * no descriptors or no room left it stops listening for a while, and they wait in the kernel. */
#include "net/impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define ACCEPTS_A_TURN 64

void loop_accept_pause(struct loop *loop, bool is_paused)
{
    struct net_server *server = loop->server;
    if (loop->is_accept_paused == is_paused) return;
    loop->is_accept_paused = is_paused;
    atomic_store(&server->is_accept_paused, is_paused);
    for (size_t i = 0; i < server->n_listeners; i++) {
        struct epoll_event event = {.events = is_paused ? 0 : EPOLLIN,
                                    .data.ptr = &server->listeners[i]};
        epoll_ctl(loop->epoll, EPOLL_CTL_MOD, server->listeners[i].fd, &event);
    }
}

void loop_accept_end(struct loop *loop)
{
    struct net_server *server = loop->server;
    for (size_t i = 0; i < server->n_listeners; i++) {
        epoll_ctl(loop->epoll, EPOLL_CTL_DEL, server->listeners[i].fd, NULL);
        close(server->listeners[i].fd);
        server->listeners[i].fd = -1;
    }
}

static struct loop *least_loaded(struct net_server *server)
{
    struct loop *best = &server->loops[0];
    for (size_t i = 1; i < server->n_loops; i++)
        if (atomic_load(&server->loops[i].n_conns) < atomic_load(&best->n_conns))
            best = &server->loops[i];
    return best;
}

static void name_peer(struct conn *conn, const struct sockaddr_storage *peer)
{
    char host[INET6_ADDRSTRLEN];
    if (peer->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)peer;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(conn->peer, sizeof conn->peer, "%s:%u", host, ntohs(in->sin_port));
        memcpy(&conn->address, &in->sin_addr, sizeof in->sin_addr);
    } else if (peer->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)peer;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        snprintf(conn->peer, sizeof conn->peer, "[%s]:%u", host, ntohs(in6->sin6_port));
        conn->address = in6->sin6_addr;
    } else
        snprintf(conn->peer, sizeof conn->peer, "unix");
}

static void take(struct loop *loop, struct listener *listener, int fd,
                 const struct sockaddr_storage *peer)
{
    struct net_server *server = loop->server;
    struct conn *conn = conn_new(fd, listener->is_tls ? server->tls : NULL);
    if (conn == NULL) {
        close(fd);
        return;
    }
    name_peer(conn, peer);
    if (server->by_address != NULL && !address_add(server->by_address, &conn->address)) {
        counter_add(&loop->counters.refused, 1);
        if (conn->ssl != NULL) tls_close(conn->ssl, false);
        close(fd);
        free(conn);
        return;
    }
    counter_add(&loop->counters.accepted, 1);
    atomic_fetch_add(&server->n_conns, 1);
    struct loop *owner = least_loaded(server);
    if (owner == loop)
        conn_begin(loop, conn);
    else
        loop_give(owner, conn);
}

void loop_accept(struct loop *loop, struct listener *listener)
{
    struct net_server *server = loop->server;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        if (atomic_load(&server->n_conns) >= server->options.limits.connections) {
            loop_accept_pause(loop, true);
            return;
        }
        struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
        socklen_t size = sizeof peer;
        int fd =
            accept4(listener->fd, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            take(loop, listener, fd, &peer);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            loop->accept_again_ms = loop->now_ms + 100;
            loop_accept_pause(loop, true);
        }
        if (errno != EINTR && errno != ECONNABORTED) return;
    }
}
