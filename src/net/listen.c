/* SPDX-License-Identifier: Apache-2.0 */
/* listen.c - from an address as people write it to a listening socket. */
#include "net/impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 4096

static tidemill_error *wrong(const char *address, const char *why)
{
    return error_new(ERROR_USAGE, "cannot listen on %s: %s", address, why);
}

static tidemill_error *failed(const char *address, int errnum)
{
    if (errnum == EADDRINUSE)
        return wrong(address, "the address is taken; is another server running?");
    return error_errno(ERROR_USAGE, errnum, "cannot listen on %s", address);
}

/* "host:port", "[v6]:port": the parts. */
static bool split(const char *address, char host[256], char port[16])
{
    const char *colon = strrchr(address, ':'), *start = address, *end = colon;
    if (colon == NULL || colon[1] == '\0' || strlen(colon + 1) > 5) return false;
    for (const char *p = colon + 1; *p != '\0'; p++)
        if (*p < '0' || *p > '9') return false;
    if (*start == '[') {
        if (end[-1] != ']') return false;
        start++;
        end--;
    } else if (memchr(start, ':', (size_t)(end - start)) != NULL)
        return false;
    if (end <= start || end - start > 255) return false;
    snprintf(host, 256, "%.*s", (int)(end - start), start);
    snprintf(port, 16, "%s", colon + 1);
    return atoi(port) <= 65535;
}

static char *name_of(int fd)
{
    struct sockaddr_storage name;
    socklen_t size = sizeof name;
    char host[INET6_ADDRSTRLEN], *text = NULL;
    if (getsockname(fd, (struct sockaddr *)&name, &size) != 0) return NULL;
    int n = -1;
    if (name.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)&name;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        n = asprintf(&text, "%s:%u", host, ntohs(in->sin_port));
    } else if (name.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)&name;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        n = asprintf(&text, "[%s]:%u", host, ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_un *un = (const void *)&name;
        size_t room = size > offsetof(struct sockaddr_un, sun_path)
                          ? size - offsetof(struct sockaddr_un, sun_path)
                          : 0;
        n = asprintf(&text, "unix:%.*s", (int)room, room > 0 ? un->sun_path : "");
    }
    return n < 0 ? NULL : text;
}

static int bind_inet(const struct addrinfo *info)
{
    int on = 1;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* what it accepts inherits it */
    if (info->ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) return fd;
    int failure = errno;
    close(fd);
    errno = failure;
    return -1;
}

static tidemill_error *open_inet(const char *address, struct listener *ret)
{
    char host[256], port[16];
    struct addrinfo *info,
        hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    if (!split(address, host, port))
        return wrong(address, "an address is HOST:PORT, [IPV6]:PORT, unix:PATH or fd:NUMBER");
    int failure = getaddrinfo(host, port, &hints, &info);
    if (failure != 0) return wrong(address, gai_strerror(failure));
    ret->fd = bind_inet(info);
    failure = errno;
    freeaddrinfo(info);
    return ret->fd < 0 ? failed(address, failure) : NULL;
}

/* A socket file outlives its process: does anybody answer? */
static bool is_live(const struct sockaddr_un *name)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return true;
    bool is_dead =
        connect(fd, (const struct sockaddr *)name, sizeof *name) != 0 && errno == ECONNREFUSED;
    close(fd);
    return !is_dead;
}

static tidemill_error *open_unix(const char *address, struct listener *ret)
{
    const char *path = address + strlen("unix:");
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct stat status;
    if (*path == '\0') return wrong(address, "the path is missing");
    if (strlen(path) >= sizeof name.sun_path)
        return wrong(address, "the path is too long for a socket (107 bytes)");
    memcpy(name.sun_path, path, strlen(path) + 1);
    if (io_local.stat(io_local.context, path, &status) == 0) {
        if (!S_ISSOCK(status.st_mode)) return wrong(address, "there is a file that is no socket");
        if (is_live(&name)) return wrong(address, "another process listens there");
        io_local.unlink(io_local.context, path);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return failed(address, errno);
    if (bind(fd, (struct sockaddr *)&name, sizeof name) != 0 || listen(fd, BACKLOG) != 0) {
        int failure = errno;
        close(fd);
        return failed(address, failure);
    }
    ret->fd = fd;
    ret->kind = LISTENER_UNIX;
    ret->unix_path = strdup(path);
    return ret->unix_path == NULL ? error_memory() : NULL;
}

static tidemill_error *open_inherited(const char *address, struct listener *ret)
{
    char *end;
    errno = 0;
    long fd = strtol(address + strlen("fd:"), &end, 10);
    int on = 0, family = 0;
    socklen_t size = sizeof on;
    if (*end != '\0' || end == address + 3 || fd < 0 || fd > INT32_MAX || errno != 0)
        return wrong(address, "it is fd:NUMBER");
    if (getsockopt((int)fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &size) != 0 || on == 0)
        return wrong(address, "the descriptor is no listening socket");
    size = sizeof family;
    getsockopt((int)fd, SOL_SOCKET, SO_DOMAIN, &family, &size);
    int flags = fcntl((int)fd, F_GETFL);
    fcntl((int)fd, F_SETFL, flags | O_NONBLOCK);
    fcntl((int)fd, F_SETFD, FD_CLOEXEC);
    on = 1;
    if (family == AF_UNIX)
        ret->kind = LISTENER_UNIX;
    else
        setsockopt((int)fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ret->fd = (int)fd;
    ret->is_inherited = true;
    return NULL;
}

tidemill_error *listener_open(const char *address, bool is_tls, struct listener *ret)
{
    *ret = (struct listener){.fd = -1};
    if (strncmp(address, "unix:", 5) == 0)
        TRY(open_unix(address, ret));
    else if (strncmp(address, "fd:", 3) == 0)
        TRY(open_inherited(address, ret));
    else
        TRY(open_inet(address, ret));
    ret->is_tls = is_tls && ret->kind == LISTENER_TCP;
    ret->address = name_of(ret->fd);
    return ret->address == NULL ? error_memory() : NULL;
}

void listener_close(struct listener *listener)
{
    if (listener->fd >= 0) close(listener->fd);
    if (listener->unix_path != NULL) io_local.unlink(io_local.context, listener->unix_path);
    free(listener->unix_path);
    free(listener->address);
    *listener = (struct listener){.fd = -1};
}
