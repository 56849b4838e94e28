/* SPDX-License-Identifier: Apache-2.0 */
/* http_wait.c - waits for sockets, and has libcurl attend to those where something happened.
 *
 * curl_multi_perform looks at every transfer each time. With a thousand under way, and answers that come
 * a word at a time, that is what the processor would do all day; here a wait costs what happened in it. */
#include "runtime/http.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_MAX 64

static int watch_socket(CURL *handle, curl_socket_t fd, int what, void *context, void *unused)
{
    (void)handle, (void)unused;
    struct http *http = context;
    struct epoll_event event = {.data.fd = fd};
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(http->epoll_fd, EPOLL_CTL_DEL, fd,
                  &event); /* one that is closed is out already */
        return 0;
    }
    event.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
    if (epoll_ctl(http->epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0) return 0;
    bool is_added = errno == ENOENT && epoll_ctl(http->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
    if (!is_added) http_fail(http, error_errno(ERROR_IO, errno, "cannot watch a socket"));
    return is_added ? 0 : -1; /* ends all transfers */
}

tidemill_error *http_wait_open(struct http *http)
{
    http->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (http->epoll_fd < 0) return error_errno(ERROR_IO, errno, "cannot make an epoll descriptor");
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
    return NULL;
}

void http_wait_close(struct http *http)
{
    if (http->epoll_fd >= 0) close(http->epoll_fd);
    http->epoll_fd = -1;
}

/* libcurl's own timers: transfers that are new, time-outs. -1: none. */
static long timer_ms(const struct http *http)
{
    long ms = -1;
    curl_multi_timeout(http->multi, &ms);
    return ms;
}

void http_attend_timers(struct http *http)
{
    int n_running;
    if (timer_ms(http) == 0)
        curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &n_running);
}

static void attend_sockets(struct http *http)
{
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(http->epoll_fd, events, EVENTS_MAX, 0), n_running;
    for (int i = 0; i < n; i++) {
        uint32_t seen = events[i].events;
        int what = (seen & EPOLLIN ? CURL_CSELECT_IN : 0) |
                   (seen & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                   (seen & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
        curl_multi_socket_action(http->multi, events[i].data.fd, what, &n_running);
    }
}

bool http_wait(struct http *http, int timeout_ms, int wake_fd)
{
    struct pollfd items[] = {{.fd = http->epoll_fd, .events = POLLIN},
                             {.fd = wake_fd, .events = POLLIN}};
    long ms = timer_ms(http);
    if (ms >= 0 && ms < timeout_ms) timeout_ms = (int)ms;
    if (poll(items, 2, timeout_ms) <= 0) return false;
    if (items[0].revents != 0) attend_sockets(http);
    return items[1].revents != 0;
}
