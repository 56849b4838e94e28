/* SPDX-License-Identifier: Apache-2.0 */
/* files.c - what everybody does with whole files: open, write all, read all, publish.
 *
 * Publishing keeps one invariant: at every instant, and after every power loss, `to` is either what
 * it was or the whole new file. The caller has synced the content of `from`; rename is atomic; the
 * sync of the directory makes it last. */
#include "io/explain.h"
#include "io/io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The first read of io_read_file; most of what it reads is smaller. */
#define READ_FILE_BYTES ((size_t)4096)

tidemill_error *io_open(const struct io *io, const char *path, int flags, mode_t mode, int *ret_fd)
{
    int fd = io->open(io->context, path, flags, mode);
    if (fd < 0) {
        bool is_reading = (flags & O_ACCMODE) == O_RDONLY;
        return io_explain(ERROR_IO, errno, is_reading ? "read" : "write", path);
    }
    *ret_fd = fd;
    return NULL;
}

void io_close(const struct io *io, int fd)
{
    if (fd >= 0) (void)io->close(io->context, fd);
}

tidemill_error *io_write_all(const struct io *io, int fd, const char *path, const void *data,
                             size_t size)
{
    const char *next = data;
    while (size > 0) {
        ssize_t count = io->write(io->context, fd, next, size);
        /* Nothing written and no error: a device that is full in all but name. Do not spin on
         * it. */
        if (count == 0) errno = ENOSPC;
        if (count <= 0) return io_explain(ERROR_IO, errno, "write", path);
        next += count;
        size -= (size_t)count;
    }
    return NULL;
}

tidemill_error *io_read_all(const struct io *io, int fd, const char *path, void *data, size_t size,
                            size_t *ret_size)
{
    char *start = data;
    size_t total = 0;
    while (total < size) {
        ssize_t count = io->read(io->context, fd, start + total, size - total);
        if (count < 0) return io_explain(ERROR_IO, errno, "read", path);
        if (count == 0) break;
        total += (size_t)count;
    }
    *ret_size = total;
    return NULL;
}

/* Reads on until the end of the file; one byte more than `size_max` is enough to refuse it. The
 * size that stat tells is not asked for: files of /proc say 0. */
static tidemill_error *read_to_end(const struct io *io, int fd, const char *path, size_t size_max,
                                   struct buffer *content)
{
    size_t step = READ_FILE_BYTES;
    for (;;) {
        size_t wanted = MIN(step, size_max - content->size + 1);
        char *place = buffer_reserve(content, wanted + 1);
        if (place == NULL) return error_memory();
        size_t count = 0;
        TRY(io_read_all(io, fd, path, place, wanted, &count));
        content->size += count;
        if (content->size > size_max) {
            return error_new(ERROR_IO, "%s is larger than the %zu bytes that are allowed for it",
                             path, size_max);
        }
        if (count < wanted) break;
        step = content->size;
    }
    content->data[content->size] = '\0';
    return NULL;
}

tidemill_error *io_read_file(const struct io *io, const char *path, size_t size_max,
                             char **ret_data, size_t *ret_size)
{
    int fd = -1;
    TRY(io_open(io, path, O_RDONLY, 0, &fd));
    struct buffer content = {0};
    /* Two bytes of headroom keep size_max + 2 from wrapping round. */
    tidemill_error *error = read_to_end(io, fd, path, MIN(size_max, SIZE_MAX / 4), &content);
    io_close(io, fd);
    if (error != NULL) {
        buffer_free(&content);
        return error;
    }
    *ret_data = content.data;
    *ret_size = content.size;
    return NULL;
}

bool io_exists(const struct io *io, const char *path)
{
    struct stat status;
    if (io->stat(io->context, path, &status) == 0) return true;
    return errno != ENOENT && errno != ENOTDIR;
}

bool io_is_stream(const struct io *io, const char *path)
{
    struct stat status;
    if (strcmp(path, "-") == 0) return true;
    return io->stat(io->context, path, &status) == 0 && !S_ISREG(status.st_mode) &&
           !S_ISDIR(status.st_mode);
}

tidemill_error *io_make_directory(const struct io *io, const char *path, mode_t mode)
{
    struct stat status;
    if (io->mkdir(io->context, path, mode) == 0) return NULL;
    if (errno != EEXIST) return io_explain(ERROR_IO, errno, "make the folder", path);
    if (io->stat(io->context, path, &status) != 0) {
        return io_explain(ERROR_IO, errno, "stat", path);
    }
    return S_ISDIR(status.st_mode) ? NULL : io_explain(ERROR_IO, ENOTDIR, "use the folder", path);
}

/* The folder of `path`, malloc'ed; NULL when out of memory. */
static char *directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL) return strdup(".");
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

tidemill_error *io_sync_directory(const struct io *io, const char *path)
{
    char *directory = directory_of(path);
    if (directory == NULL) return error_memory();
    int fd = -1;
    tidemill_error *error = io_open(io, directory, O_RDONLY | O_DIRECTORY, 0, &fd);
    /* Some network and user-space file systems have no sync of directories and say so; there is
     * nothing to wait for then. */
    if (error == NULL && io->fsync(io->context, fd) != 0 && errno != EINVAL && errno != ENOTSUP) {
        error = io_explain(ERROR_IO, errno, "sync the folder", directory);
    }
    io_close(io, fd);
    free(directory);
    return error;
}

/* Whether two paths name the same folder by their text; a false "no" costs one more sync. */
static bool has_same_directory(const char *a, const char *b)
{
    const char *a_end = strrchr(a, '/');
    const char *b_end = strrchr(b, '/');
    size_t a_size = a_end == NULL ? 0 : (size_t)(a_end - a) + 1;
    size_t b_size = b_end == NULL ? 0 : (size_t)(b_end - b) + 1;
    return a_size == b_size && memcmp(a, b, a_size) == 0;
}

tidemill_error *io_publish(const struct io *io, const char *from, const char *to)
{
    if (io->rename(io->context, from, to) != 0) {
        return error_context(io_explain(ERROR_IO, errno, "write", to), "renaming %s", from);
    }
    TRY(io_sync_directory(io, to));
    return has_same_directory(from, to) ? NULL : io_sync_directory(io, from);
}
