/* SPDX-License-Identifier: Apache-2.0 */
/* local.c - the real file system behind `struct io`.
 *
 * What callers must not have to think about ends here: an interrupted call is repeated, a
 * descriptor that somebody else made non-blocking (a shared terminal or pipe) is waited for, and no
 * descriptor leaks into a child program. close() is the exception: on Linux the descriptor is gone
 * even after EINTR, and a second close could hit another thread's file. */
#include "io/io.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

/* Whether the call that just failed is to be made again; waits where the descriptor is not
 * ready. */
static bool is_worth_repeating(int fd, short events)
{
    if (errno == EINTR) return true;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return false;
    struct pollfd ready = {.fd = fd, .events = events};
    return poll(&ready, 1, -1) >= 0 || errno == EINTR;
}

static int local_open(void *context, const char *path, int flags, mode_t mode)
{
    (void)context;
    int fd;
    do {
        fd = open(path, flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

static int local_close(void *context, int fd)
{
    (void)context;
    return close(fd);
}

static ssize_t local_read(void *context, int fd, void *data, size_t size)
{
    (void)context;
    ssize_t count;
    do {
        count = read(fd, data, size);
    } while (count < 0 && is_worth_repeating(fd, POLLIN));
    return count;
}

static ssize_t local_pread(void *context, int fd, void *data, size_t size, off_t offset)
{
    (void)context;
    ssize_t count;
    do {
        count = pread(fd, data, size, offset);
    } while (count < 0 && is_worth_repeating(fd, POLLIN));
    return count;
}

static ssize_t local_write(void *context, int fd, const void *data, size_t size)
{
    (void)context;
    ssize_t count;
    do {
        count = write(fd, data, size);
    } while (count < 0 && is_worth_repeating(fd, POLLOUT));
    return count;
}

static ssize_t local_pwrite(void *context, int fd, const void *data, size_t size, off_t offset)
{
    (void)context;
    ssize_t count;
    do {
        count = pwrite(fd, data, size, offset);
    } while (count < 0 && is_worth_repeating(fd, POLLOUT));
    return count;
}

static int local_ftruncate(void *context, int fd, off_t size)
{
    (void)context;
    int result;
    do {
        result = ftruncate(fd, size);
    } while (result < 0 && errno == EINTR);
    return result;
}

/* EINTR says that the wait was cut short, not that data was dropped: it is the one error of a sync
 * that may be followed by another. */
static int local_fsync(void *context, int fd)
{
    (void)context;
    int result;
    do {
        result = fsync(fd);
    } while (result < 0 && errno == EINTR);
    return result;
}

static int local_fdatasync(void *context, int fd)
{
    (void)context;
    int result;
    do {
        result = fdatasync(fd);
    } while (result < 0 && errno == EINTR);
    return result;
}

static int local_fstat(void *context, int fd, struct stat *status)
{
    (void)context;
    return fstat(fd, status);
}

static int local_stat(void *context, const char *path, struct stat *status)
{
    (void)context;
    return stat(path, status);
}

static int local_rename(void *context, const char *from, const char *to)
{
    (void)context;
    return rename(from, to);
}

static int local_unlink(void *context, const char *path)
{
    (void)context;
    return unlink(path);
}

static int local_mkdir(void *context, const char *path, mode_t mode)
{
    (void)context;
    return mkdir(path, mode);
}

const struct io io_local = {
    .open = local_open,
    .close = local_close,
    .read = local_read,
    .pread = local_pread,
    .write = local_write,
    .pwrite = local_pwrite,
    .ftruncate = local_ftruncate,
    .fsync = local_fsync,
    .fdatasync = local_fdatasync,
    .fstat = local_fstat,
    .stat = local_stat,
    .rename = local_rename,
    .unlink = local_unlink,
    .mkdir = local_mkdir,
};
