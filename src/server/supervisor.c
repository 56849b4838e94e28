/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor.c - see supervisor.h. */
#include "server/supervisor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_FD 3
#define SOCKETS_MAX 64

static tidemill_error *append(struct string_list *list, const char *text)
{
    char **items = realloc(list->items, (list->n + 1) * sizeof *items);
    if (items == NULL) return error_memory();
    list->items = items;
    items[list->n] = strdup(text);
    if (items[list->n] == NULL) return error_memory();
    list->n++;
    return NULL;
}

tidemill_error *supervisor_sockets(struct string_list *ret)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    tidemill_error *error = NULL;
    if (pid != NULL && count != NULL && strtol(pid, NULL, 10) == (long)getpid()) {
        long n = strtol(count, NULL, 10);
        if (n < 0 || n > SOCKETS_MAX)
            error = error_new(ERROR_USAGE, "LISTEN_FDS is '%s'; 0 to %d is allowed", count,
                              SOCKETS_MAX);
        for (long i = 0; i < n && error == NULL; i++) {
            char address[32];
            snprintf(address, sizeof address, "fd:%ld", FIRST_FD + i);
            error = append(ret, address);
        }
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return error;
}

void supervisor_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path == NULL || (path[0] != '/' && path[0] != '@')) return;
    size_t size = strlen(path);
    if (size >= sizeof address.sun_path) return;
    memcpy(address.sun_path, path, size);
    if (path[0] == '@') address.sun_path[0] = '\0'; /* an abstract name */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address, length) < 0)
        log_event(LOG_WARNING, "the service manager was not told '%s': errno %d", state, errno);
    close(fd);
}
