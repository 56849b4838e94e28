/* SPDX-License-Identifier: Apache-2.0 */
/* listen.c - see listen.h. */
#include "server/listen.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static bool is_local_socket(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in four;
        struct sockaddr_in6 six;
        struct sockaddr_storage storage;
    } address;
    socklen_t size = sizeof address;
    if (getsockname(fd, &address.any, &size) != 0) return false;
    if (address.any.sa_family == AF_UNIX) return true;
    if (address.any.sa_family == AF_INET)
        return ntohl(address.four.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    return address.any.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&address.six.sin6_addr);
}

bool listen_is_local(const char *address)
{
    char host[64];
    struct in_addr four;
    if (strncmp(address, "unix:", 5) == 0) return true;
    if (strncmp(address, "fd:", 3) == 0) return is_local_socket((int)strtol(address + 3, NULL, 10));
    if (strncmp(address, "[::1]:", 6) == 0) return true;
    size_t size = strcspn(address, ":");
    if (address[size] != ':' || size >= sizeof host) return false;
    memcpy(host, address, size);
    host[size] = '\0';
    if (strcmp(host, "localhost") == 0) return true;
    return inet_pton(AF_INET, host, &four) == 1 && ntohl(four.s_addr) >> 24 == IN_LOOPBACKNET;
}
