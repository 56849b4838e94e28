/* SPDX-License-Identifier: Apache-2.0 */
/* exec_log.c - what a handler prints, line by line in the log, and not more than a person reads: a
 * program that prints for each record would fill a disk. */
#include "runtime/exec.h"
#include "runtime/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LINE_BYTES_MAX 2000 /* longer ones are cut into several */
#define LINES_MAX 200       /* in a row; another LINES_PER_S come free each second */
#define LINES_PER_S 20
#define LAST_BYTES_MAX ((size_t)1 << 20) /* read of what is left when it ends */

struct printer {
    char line[LINE_BYTES_MAX + 1];
    size_t size;
    double allowance; /* lines that may be logged now */
    int64_t then_ns;
    size_t n_left_out;
};

static bool is_allowed(struct printer *p)
{
    int64_t now_ns = clock_now_ns();
    p->allowance += (double)(now_ns - p->then_ns) * 1e-9 * LINES_PER_S;
    p->allowance = MIN(p->allowance, (double)LINES_MAX);
    p->then_ns = now_ns;
    if (p->allowance < 1) return false;
    p->allowance -= 1;
    return true;
}

static void say_left_out(struct printer *p)
{
    if (p->n_left_out > 0) log_event(LOG_INFO, "handler: (%zu lines left out)", p->n_left_out);
    p->n_left_out = 0;
}

static void end_line(struct printer *p)
{
    p->line[p->size] = '\0';
    for (char *nul; (nul = memchr(p->line, '\0', p->size)) != NULL;) *nul = ' ';
    wire_clean_text(p->line, p->size + 1);
    p->size = 0;
    if (p->line[0] == '\0') return;
    if (!is_allowed(p)) {
        p->n_left_out++;
        return;
    }
    say_left_out(p);
    log_event(LOG_INFO, "handler: %s", p->line);
}

static void print(struct printer *p, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (text[i] != '\n') p->line[p->size++] = text[i];
        if (text[i] == '\n' || p->size == LINE_BYTES_MAX) end_line(p);
    }
}

/* False: nobody can print any more. */
static bool print_some(struct printer *p, int fd, size_t *ret_size)
{
    char text[8192];
    ssize_t n = read(fd, text, sizeof text);
    *ret_size = n > 0 ? (size_t)n : 0;
    print(p, text, *ret_size);
    return n > 0 || (n < 0 && errno == EINTR);
}

static void *run_log(void *argument)
{
    const struct exec_log *log = argument;
    struct printer *p = calloc(1, sizeof *p);
    struct pollfd items[] = {{.fd = log->fd, .events = POLLIN},
                             {.fd = log->stop_fd, .events = POLLIN}};
    if (p == NULL) return NULL;
    *p = (struct printer){.allowance = LINES_MAX, .then_ns = clock_now_ns()};
    size_t size;
    while (items[1].revents == 0)
        if (poll(items, 2, -1) > 0 && items[0].revents != 0 && !print_some(p, log->fd, &size))
            items[0].fd = -1;
    for (size_t read = 0; read < LAST_BYTES_MAX && print_some(p, log->fd, &size);) read += size;
    if (p->size > 0) end_line(p);
    say_left_out(p);
    free(p);
    return NULL;
}

tidemill_error *exec_log_start(int fd, struct exec_log *ret)
{
    *ret = (struct exec_log){.fd = fd, .stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    fcntl(fd, F_SETFL, O_NONBLOCK);
    int r = ret->stop_fd < 0 ? errno : pthread_create(&ret->thread, NULL, run_log, ret);
    ret->is_running = r == 0;
    return r == 0 ? NULL : error_errno(ERROR_HOST_FAILED, r, "cannot start a thread");
}

void exec_log_stop(struct exec_log *log)
{
    if (log->is_running) {
        eventfd_write(log->stop_fd, 1);
        pthread_join(log->thread, NULL);
    }
    if (log->stop_fd >= 0) close(log->stop_fd);
    if (log->fd >= 0) close(log->fd);
    *log = (struct exec_log){.fd = -1, .stop_fd = -1};
}
