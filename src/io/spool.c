/* SPDX-License-Identifier: Apache-2.0 */
/* spool.c - an output file that grows, and goes on after a kill exactly where a checkpoint was.
 *
 * Bytes wait in `pending`, one block of SPOOL_FRAME_BYTES. Without compression a checkpoint writes
 * what is there. With compression only whole blocks leave, each as one frame; what has not filled a
 * block at a checkpoint is its tail. So the cuts between frames are at multiples of the block size
 * of the plain stream, whatever the checkpoints were.
 *
 * Invariant: the first `file_bytes` bytes of the file are the frames of the first
 * `plain_bytes - pending.size` plain bytes. What a failed or killed write left behind them is cut
 * off on resume. Regular files are written at explicit positions, so no other descriptor's offset
 * and no half-done write can move us. */
#include "io/compress.h"
#include "io/explain.h"
#include "io/io.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct spool {
    const struct io *io;
    char *path; /* as errors name it */
    int fd;
    bool is_stdout;
    bool is_regular; /* can be cut, patched and synced */
    bool is_failed;  /* an earlier call failed: its error was returned then */
    bool is_entry_synced;
    struct compressor *compressor; /* NULL: plain */
    uint64_t file_bytes;
    uint64_t plain_bytes;
    struct buffer pending; /* less than one block between calls */
};

/* --- writing ---------------------------------------------------------------------------------- */

static tidemill_error *fail(struct spool *spool, tidemill_error *error)
{
    if (error != NULL) spool->is_failed = true;
    return error;
}

static tidemill_error *check_usable(const struct spool *spool)
{
    if (!spool->is_failed) return NULL;
    return error_new(ERROR_IO, "%s cannot be written any more: an earlier write failed",
                     spool->path);
}

static tidemill_error *write_file(struct spool *spool, const char *data, size_t size)
{
    const struct io *io = spool->io;
    while (size > 0) {
        ssize_t count =
            spool->is_regular && !spool->is_stdout
                ? io->pwrite(io->context, spool->fd, data, size, (off_t)spool->file_bytes)
                : io->write(io->context, spool->fd, data, size);
        if (count == 0) errno = ENOSPC; /* as in io_write_all: do not spin */
        if (count <= 0) return io_explain(ERROR_IO, errno, "write", spool->path);
        data += count;
        size -= (size_t)count;
        spool->file_bytes += (uint64_t)count;
    }
    return NULL;
}

/* Writes one block: as it is, or as one frame. */
static tidemill_error *write_block(struct spool *spool, const char *data, size_t size)
{
    if (spool->compressor == NULL) return write_file(spool, data, size);
    struct slice frame;
    TRY(compressor_frame(spool->compressor, data, size, &frame));
    return write_file(spool, frame.data, frame.size);
}

static tidemill_error *write_pending(struct spool *spool)
{
    if (spool->pending.size == 0) return NULL;
    TRY(write_block(spool, spool->pending.data, spool->pending.size));
    spool->pending.size = 0;
    return NULL;
}

static tidemill_error *append(struct spool *spool, const char *data, size_t size)
{
    while (size > 0) {
        /* Whole blocks need no copy when nothing waits before them. */
        if (spool->pending.size == 0 && size >= SPOOL_FRAME_BYTES) {
            size_t step =
                spool->compressor == NULL ? size - size % SPOOL_FRAME_BYTES : SPOOL_FRAME_BYTES;
            TRY(write_block(spool, data, step));
            spool->plain_bytes += step;
            data += step;
            size -= step;
            continue;
        }
        size_t step = MIN(size, SPOOL_FRAME_BYTES - spool->pending.size);
        buffer_append(&spool->pending, data, step);
        spool->plain_bytes += step;
        data += step;
        size -= step;
        if (spool->pending.size == SPOOL_FRAME_BYTES) TRY(write_pending(spool));
    }
    return NULL;
}

tidemill_error *spool_append(struct spool *spool, const void *data, size_t size)
{
    TRY(check_usable(spool));
    return fail(spool, append(spool, data, size));
}

/* Data that is on disk under a name that is not is lost as well: the first sync of a file takes its
 * directory along. */
static tidemill_error *sync_file(struct spool *spool, bool with_metadata)
{
    const struct io *io = spool->io;
    if (!spool->is_regular) return NULL;
    int status =
        with_metadata ? io->fsync(io->context, spool->fd) : io->fdatasync(io->context, spool->fd);
    if (status != 0) return io_explain(ERROR_IO, errno, "sync", spool->path);
    if (spool->is_entry_synced || spool->is_stdout) return NULL;
    TRY(io_sync_directory(io, spool->path));
    spool->is_entry_synced = true;
    return NULL;
}

static tidemill_error *checkpoint(struct spool *spool, bool sync)
{
    if (spool->compressor == NULL) TRY(write_pending(spool));
    return sync ? sync_file(spool, false) : NULL;
}

tidemill_error *spool_checkpoint(struct spool *spool, bool sync, struct spool_position *ret)
{
    TRY(check_usable(spool));
    TRY(fail(spool, checkpoint(spool, sync)));
    *ret = (struct spool_position){
        .file_bytes = spool->file_bytes,
        .plain_bytes = spool->plain_bytes,
        .tail = {.data = spool->pending.data, .size = spool->pending.size},
    };
    return NULL;
}

static tidemill_error *patch(struct spool *spool, uint64_t offset, const char *data, size_t size)
{
    const struct io *io = spool->io;
    TRY(write_pending(spool));
    while (size > 0) {
        ssize_t count = io->pwrite(io->context, spool->fd, data, size, (off_t)offset);
        if (count == 0) errno = ENOSPC;
        if (count <= 0) return io_explain(ERROR_IO, errno, "write", spool->path);
        data += count;
        size -= (size_t)count;
        offset += (uint64_t)count;
    }
    return NULL;
}

tidemill_error *spool_patch(struct spool *spool, uint64_t offset, const void *data, size_t size)
{
    TRY(check_usable(spool));
    assert(spool->compressor == NULL);
    assert(offset <= spool->plain_bytes && size <= spool->plain_bytes - offset);
    if (!spool->is_regular || spool->is_stdout) {
        return error_new(ERROR_UNSUPPORTED,
                         "%s cannot take this format, whose first bytes are written last; write to "
                         "a file",
                         spool->path);
    }
    return fail(spool, patch(spool, offset, data, size));
}

static tidemill_error *finish(struct spool *spool)
{
    TRY(write_pending(spool));
    /* An empty file is no gzip or zstd stream; one empty frame is. */
    if (spool->compressor != NULL && spool->plain_bytes == 0) TRY(write_block(spool, "", 0));
    return sync_file(spool, true);
}

tidemill_error *spool_finish(struct spool *spool, uint64_t *ret_bytes)
{
    TRY(check_usable(spool));
    TRY(fail(spool, finish(spool)));
    *ret_bytes = spool->file_bytes;
    return NULL;
}

/* --- opening ---------------------------------------------------------------------------------- */

static tidemill_error *open_start(struct spool *spool)
{
    if (spool->is_stdout) {
        spool->fd = STDOUT_FILENO;
        return NULL;
    }
    return io_open(spool->io, spool->path, O_WRONLY | O_CREAT | O_TRUNC, 0666, &spool->fd);
}

/* What the journal says must fit together before it decides where the file is cut. */
static tidemill_error *check_position(const struct spool *spool,
                                      const struct spool_position *resume)
{
    if (spool->is_stdout) {
        return error_new(ERROR_UNSUPPORTED,
                         "standard output cannot be continued where an earlier run stopped; write "
                         "to a file");
    }
    bool is_sound = resume->tail.size < SPOOL_FRAME_BYTES && resume->file_bytes <= INT64_MAX &&
                    resume->tail.size <= resume->plain_bytes;
    if (is_sound && spool->compressor == NULL) {
        is_sound = resume->tail.size == 0 && resume->file_bytes == resume->plain_bytes;
    } else if (is_sound) {
        is_sound = (resume->plain_bytes - resume->tail.size) % SPOOL_FRAME_BYTES == 0;
    }
    if (is_sound) return NULL;
    return error_new(ERROR_CORRUPT, "the recorded position in %s makes no sense", spool->path);
}

static tidemill_error *open_existing(struct spool *spool, const struct spool_position *resume)
{
    const struct io *io = spool->io;
    /* Where nothing in the file counts, it may also be missing. */
    int flags = O_WRONLY | (resume->file_bytes == 0 ? O_CREAT : 0);
    spool->fd = io->open(io->context, spool->path, flags, 0666);
    if (spool->fd >= 0) return NULL;
    if (errno != ENOENT || resume->file_bytes == 0) {
        return io_explain(ERROR_IO, errno, "write", spool->path);
    }
    return error_new(ERROR_CORRUPT,
                     "%s is missing, but %llu bytes of it were finished; put it back or start anew",
                     spool->path, (unsigned long long)resume->file_bytes);
}

static tidemill_error *cut_file(struct spool *spool, const struct spool_position *resume)
{
    const struct io *io = spool->io;
    struct stat status;
    if (io->fstat(io->context, spool->fd, &status) != 0) {
        return io_explain(ERROR_IO, errno, "stat", spool->path);
    }
    if (!S_ISREG(status.st_mode)) {
        return error_new(ERROR_CORRUPT, "%s is not a regular file any more", spool->path);
    }
    if ((uint64_t)status.st_size < resume->file_bytes) {
        return error_new(
            ERROR_CORRUPT, "%s has %lld bytes, but %llu were finished; put it back or start anew",
            spool->path, (long long)status.st_size, (unsigned long long)resume->file_bytes);
    }
    if ((uint64_t)status.st_size > resume->file_bytes &&
        io->ftruncate(io->context, spool->fd, (off_t)resume->file_bytes) != 0) {
        return io_explain(ERROR_IO, errno, "cut", spool->path);
    }
    return NULL;
}

static tidemill_error *open_resume(struct spool *spool, const struct spool_position *resume)
{
    TRY(check_position(spool, resume));
    TRY(open_existing(spool, resume));
    TRY(cut_file(spool, resume));
    spool->file_bytes = resume->file_bytes;
    spool->plain_bytes = resume->plain_bytes;
    buffer_append(&spool->pending, resume->tail.data, resume->tail.size);
    return NULL;
}

static tidemill_error *open_all(struct spool *spool, enum compression compression,
                                const struct spool_position *resume)
{
    if (buffer_reserve(&spool->pending, SPOOL_FRAME_BYTES) == NULL) return error_memory();
    if (compression != COMPRESSION_NONE) {
        TRY(compressor_new(compression, SPOOL_FRAME_BYTES, &spool->compressor));
    }
    TRY(resume == NULL ? open_start(spool) : open_resume(spool, resume));
    struct stat status;
    if (spool->io->fstat(spool->io->context, spool->fd, &status) != 0) {
        return io_explain(ERROR_IO, errno, "stat", spool->path);
    }
    spool->is_regular = S_ISREG(status.st_mode);
    return NULL;
}

tidemill_error *spool_open(const struct io *io, const char *path, enum compression compression,
                           const struct spool_position *resume, struct spool **ret)
{
    if (compression == COMPRESSION_AUTO) compression = compression_of_path(path);
    struct spool *spool = calloc(1, sizeof *spool);
    if (spool == NULL) return error_memory();
    spool->io = io;
    spool->fd = -1;
    spool->is_stdout = strcmp(path, "-") == 0;
    spool->path = strdup(spool->is_stdout ? "standard output" : path);
    tidemill_error *error =
        spool->path == NULL ? error_memory() : open_all(spool, compression, resume);
    if (error != NULL) {
        spool_close(spool);
        return error;
    }
    *ret = spool;
    return NULL;
}

void spool_close(struct spool *spool)
{
    if (spool == NULL) return;
    if (!spool->is_stdout) io_close(spool->io, spool->fd);
    compressor_free(spool->compressor);
    buffer_free(&spool->pending);
    free(spool->path);
    free(spool);
}
