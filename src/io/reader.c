/* SPDX-License-Identifier: Apache-2.0 */
/* reader.c - one input as a stream of plain bytes: plain file, pipe, gzip, zstd.
 *
 * Plain bytes go from the kernel into the caller's memory with no copy between. Compressed ones
 * pass through `input`, one block; the decoders (inflate.c) keep at most their window besides, so
 * memory is bounded whatever the input unpacks to. Bytes that come back count as `offset`; they are
 * delivered once, in order, without a gap, or not at all. */
#include "io/explain.h"
#include "io/inflate.h"
#include "io/io.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INPUT_BYTES ((size_t)256 << 10)
#define MAGIC_BYTES 4
#define SKIP_BYTES ((size_t)64 << 10)
#define READ_BYTES_MAX ((size_t)1 << 30) /* what one system call is asked for at most */

struct reader {
    const struct io *io;
    char *path; /* as errors name it */
    int fd;
    bool is_stdin;
    bool is_regular; /* read at explicit positions */
    uint64_t size_bytes;
    uint64_t file_offset; /* the next byte to ask the kernel for */
    uint64_t offset;      /* plain bytes delivered or skipped */
    uint64_t plain_bytes_max;
    struct inflater *inflater; /* NULL: plain */
    unsigned char *input;      /* read but not consumed: [input_next, input_size) */
    size_t input_next;
    size_t input_size;
    bool is_flushing;           /* the decoder may hold plain bytes that found no room */
    tidemill_error *late_error; /* came with bytes that go first: the next read returns it */
};

enum compression compression_of_path(const char *path)
{
    size_t size = strlen(path);
    if (size > 3 && strcmp(path + size - 3, ".gz") == 0) return COMPRESSION_GZIP;
    if (size > 4 && strcmp(path + size - 4, ".zst") == 0) return COMPRESSION_ZSTD;
    return COMPRESSION_NONE;
}

/* --- reading ---------------------------------------------------------------------------------- */

/* A pipe may have nothing for ever: waits for it, or for the caller's cancellation. */
static tidemill_error *wait_for_bytes(const struct reader *reader)
{
    struct pollfd fds[] = {{.fd = reader->fd, .events = POLLIN},
                           {.fd = reader->io->cancel_fd, .events = POLLIN}};
    if (reader->is_regular || reader->io->cancel_fd <= 0) return NULL;
    while (poll(fds, 2, -1) < 0 && errno == EINTR) {
    }
    if ((fds[1].revents & POLLIN) == 0) return NULL;
    return error_new(ERROR_INTERRUPTED, "stopped while waiting for %s", reader->path);
}

/* One read; *ret_size 0 is the end. */
static tidemill_error *read_file(struct reader *reader, void *data, size_t size, size_t *ret_size)
{
    const struct io *io = reader->io;
    size = MIN(size, READ_BYTES_MAX);
    TRY(wait_for_bytes(reader));
    ssize_t count = reader->is_regular
                        ? io->pread(io->context, reader->fd, data, size, (off_t)reader->file_offset)
                        : io->read(io->context, reader->fd, data, size);
    if (count < 0) {
        return error_context(io_explain(ERROR_IO, errno, "read", reader->path), "at byte %llu",
                             (unsigned long long)reader->file_offset);
    }
    reader->file_offset += (uint64_t)count;
    *ret_size = (size_t)count;
    return NULL;
}

static bool has_input(const struct reader *reader)
{
    return reader->input_next < reader->input_size;
}

static tidemill_error *fill_input(struct reader *reader)
{
    reader->input_next = 0;
    reader->input_size = 0;
    return read_file(reader, reader->input, INPUT_BYTES, &reader->input_size);
}

static tidemill_error *read_plain(struct reader *reader, void *data, size_t size, size_t *ret_size)
{
    if (!has_input(reader)) return read_file(reader, data, size, ret_size);
    size_t step = MIN(size, reader->input_size - reader->input_next);
    memcpy(data, reader->input + reader->input_next, step);
    reader->input_next += step;
    *ret_size = step;
    return NULL;
}

/* Names the place: where in the file, and which byte of the plain stream would have come next. */
static tidemill_error *locate(const struct reader *reader, tidemill_error *error, size_t produced)
{
    return error_context(error, "%s, byte %llu (byte %llu unpacked)", reader->path,
                         (unsigned long long)reader_disk_offset(reader),
                         (unsigned long long)(reader->offset + produced));
}

/* Unpacks until `data` is full or the input at hand is used up: what has come through a slow pipe
 * is not held back until more follows. */
static tidemill_error *read_packed(struct reader *reader, unsigned char *data, size_t size,
                                   size_t *ret_size)
{
    size_t produced = 0;
    while (produced < size) {
        if (!has_input(reader) && !reader->is_flushing) {
            if (produced > 0) break;
            TRY(fill_input(reader));
            if (!has_input(reader)) {
                TRY(locate(reader, inflater_end(reader->inflater), produced));
                break;
            }
        }
        size_t consumed = 0, step = 0;
        tidemill_error *error = inflater_step(reader->inflater, reader->input + reader->input_next,
                                              reader->input_size - reader->input_next, &consumed,
                                              data + produced, size - produced, &step);
        reader->input_next += consumed;
        produced += step;
        if (error != NULL) {
            error = locate(reader, error, produced);
            if (produced == 0) return error;
            reader->late_error = error;
            break;
        }
        reader->is_flushing = produced == size;
        /* Input that neither moves nor yields would make us spin. */
        if (consumed == 0 && step == 0 && has_input(reader)) {
            return locate(reader, error_new(ERROR_INTERNAL, "the decoder makes no progress"),
                          produced);
        }
    }
    *ret_size = produced;
    return NULL;
}

tidemill_error *reader_read(struct reader *reader, void *data, size_t size, size_t *ret_size)
{
    *ret_size = 0;
    if (size == 0) return NULL;
    if (reader->late_error != NULL) {
        tidemill_error *error = reader->late_error;
        reader->late_error = NULL;
        return error;
    }
    size_t count = 0;
    TRY(reader->inflater == NULL ? read_plain(reader, data, size, &count)
                                 : read_packed(reader, data, size, &count));
    if (count > reader->plain_bytes_max - reader->offset) {
        return error_new(ERROR_INPUT, "%s unpacks to more than the %llu bytes that are allowed",
                         reader->path, (unsigned long long)reader->plain_bytes_max);
    }
    reader->offset += count;
    *ret_size = count;
    return NULL;
}

void reader_limit(struct reader *reader, uint64_t plain_bytes_max)
{
    reader->plain_bytes_max = MAX(plain_bytes_max, reader->offset);
}

static tidemill_error *describe_shorter(const struct reader *reader, uint64_t size, uint64_t offset)
{
    return error_new(ERROR_CHANGED,
                     "%s ends at byte %llu, before byte %llu where an earlier run stopped; put the "
                     "old file back or start anew",
                     reader->path, (unsigned long long)size, (unsigned long long)offset);
}

static tidemill_error *seek_to(struct reader *reader, uint64_t offset)
{
    struct stat status;
    if (reader->io->fstat(reader->io->context, reader->fd, &status) != 0) {
        return io_explain(ERROR_IO, errno, "stat", reader->path);
    }
    if ((uint64_t)status.st_size < offset) {
        return describe_shorter(reader, (uint64_t)status.st_size, offset);
    }
    reader->file_offset = offset;
    reader->offset = offset;
    return NULL;
}

static tidemill_error *discard_to(struct reader *reader, uint64_t offset, void *scratch)
{
    while (reader->offset < offset) {
        size_t count = 0;
        size_t wanted = (size_t)MIN((uint64_t)SKIP_BYTES, offset - reader->offset);
        TRY(reader_read(reader, scratch, wanted, &count));
        if (count == 0) return describe_shorter(reader, reader->offset, offset);
    }
    return NULL;
}

tidemill_error *reader_skip_to(struct reader *reader, uint64_t offset)
{
    if (offset < reader->offset) {
        return error_new(ERROR_INTERNAL, "%s: asked to go back from byte %llu to byte %llu",
                         reader->path, (unsigned long long)reader->offset,
                         (unsigned long long)offset);
    }
    if (offset == reader->offset) return NULL;
    if (reader_is_seekable(reader)) return seek_to(reader, offset);
    void *scratch = malloc(SKIP_BYTES);
    if (scratch == NULL) return error_memory();
    tidemill_error *error = discard_to(reader, offset, scratch);
    free(scratch);
    return error;
}

/* --- what is known ---------------------------------------------------------------------------- */

uint64_t reader_offset(const struct reader *reader)
{
    return reader->offset;
}

bool reader_is_seekable(const struct reader *reader)
{
    return reader->is_regular && reader->inflater == NULL;
}

uint64_t reader_size_bytes(const struct reader *reader)
{
    return reader->size_bytes;
}

uint64_t reader_disk_offset(const struct reader *reader)
{
    return reader->file_offset - (reader->input_size - reader->input_next);
}

/* --- opening ---------------------------------------------------------------------------------- */

static tidemill_error *describe_directory(const char *path)
{
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/') size--;
    int shown = (int)MIN(size, (size_t)4096);
    return error_new(ERROR_INPUT,
                     "%.*s is a directory; name files, or a pattern such as '%.*s/*.jsonl'", shown,
                     path, shown, path);
}

static tidemill_error *open_file(struct reader *reader)
{
    const struct io *io = reader->io;
    if (reader->is_stdin) {
        reader->fd = STDIN_FILENO;
    } else {
        reader->fd = io->open(io->context, reader->path, O_RDONLY, 0);
        if (reader->fd < 0) return io_explain(ERROR_INPUT, errno, "read", reader->path);
    }
    struct stat status;
    if (io->fstat(io->context, reader->fd, &status) != 0) {
        return io_explain(ERROR_INPUT, errno, "read", reader->path);
    }
    if (S_ISDIR(status.st_mode)) return describe_directory(reader->path);
    if (!S_ISREG(status.st_mode)) return NULL;
    reader->size_bytes = (uint64_t)status.st_size;
    /* Standard input may be a file that somebody has read from before us: it goes on from there.
     * Files of /proc and the like say that they are empty and are not. */
    reader->is_regular = !reader->is_stdin && status.st_size > 0;
    if (reader->is_regular) (void)posix_fadvise(reader->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    return NULL;
}

/* The first bytes, without consuming them. */
static tidemill_error *peek(struct reader *reader, unsigned char *magic, size_t *ret_size)
{
    size_t total = 0;
    while (total < MAGIC_BYTES) {
        size_t count = 0;
        unsigned char *place = reader->is_regular ? magic + total : reader->input + total;
        size_t wanted = reader->is_regular ? MAGIC_BYTES - total : INPUT_BYTES - total;
        TRY(read_file(reader, place, wanted, &count));
        if (count == 0) break;
        total += count;
    }
    *ret_size = MIN(total, (size_t)MAGIC_BYTES);
    if (reader->is_regular) {
        reader->file_offset = 0;
        return NULL;
    }
    reader->input_size = total;
    memcpy(magic, reader->input, *ret_size);
    return NULL;
}

static tidemill_error *allocate_input(struct reader *reader)
{
    if (reader->input == NULL) reader->input = malloc(INPUT_BYTES);
    return reader->input == NULL ? error_memory() : NULL;
}

static tidemill_error *open_all(struct reader *reader, enum compression compression)
{
    TRY(open_file(reader));
    if (compression == COMPRESSION_AUTO) {
        unsigned char magic[MAGIC_BYTES] = {0};
        size_t size = 0;
        if (!reader->is_regular) TRY(allocate_input(reader));
        TRY(peek(reader, magic, &size));
        compression = inflater_guess(magic, size);
    }
    if (compression == COMPRESSION_NONE) return NULL;
    TRY(allocate_input(reader));
    return inflater_new(compression, &reader->inflater);
}

tidemill_error *reader_open(const struct io *io, const char *path, enum compression compression,
                            struct reader **ret)
{
    struct reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL) return error_memory();
    reader->io = io;
    reader->fd = -1;
    reader->plain_bytes_max = UINT64_MAX;
    reader->is_stdin = strcmp(path, "-") == 0;
    reader->path = strdup(reader->is_stdin ? "standard input" : path);
    tidemill_error *error = reader->path == NULL ? error_memory() : open_all(reader, compression);
    if (error != NULL) {
        reader_close(reader);
        return error;
    }
    *ret = reader;
    return NULL;
}

void reader_close(struct reader *reader)
{
    if (reader == NULL) return;
    if (!reader->is_stdin) io_close(reader->io, reader->fd);
    error_free(reader->late_error);
    inflater_free(reader->inflater);
    free(reader->input);
    free(reader->path);
    free(reader);
}
