/* SPDX-License-Identifier: Apache-2.0 */
/* io.h - the way into the room of bytes in and out. All file access of the project goes through
 * `struct io`, a table of functions, so that tests run on a disk that tears, loses, fills and
 * fails.
 *
 * Rules that every caller keeps:
 *   - A failed fsync is final: never retried, the job stops (the kernel may have dropped the data).
 *   - Nothing bears its final name before it is complete and synced (`io_publish`).
 *   - What is read back from our own files is checksummed by its owner before it is believed. */
#ifndef TIDEMILL_IO_IO_H
#define TIDEMILL_IO_IO_H

#include "base/base.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

/* System calls with their own meaning: -1 and errno on failure, short counts are allowed. */
struct io {
    void *context;
    /* > 0: once it is readable, readers that wait for a pipe give up (ERROR_INTERRUPTED). A caller
     * who wants that copies the table and sets it. */
    int cancel_fd;
    int (*open)(void *context, const char *path, int flags, mode_t mode);
    int (*close)(void *context, int fd);
    ssize_t (*read)(void *context, int fd, void *data, size_t size);
    ssize_t (*pread)(void *context, int fd, void *data, size_t size, off_t offset);
    ssize_t (*write)(void *context, int fd, const void *data, size_t size);
    ssize_t (*pwrite)(void *context, int fd, const void *data, size_t size, off_t offset);
    int (*ftruncate)(void *context, int fd, off_t size);
    int (*fsync)(void *context, int fd);     /* data and metadata; also for directories */
    int (*fdatasync)(void *context, int fd); /* data and what is needed to find it */
    int (*fstat)(void *context, int fd, struct stat *status);
    int (*stat)(void *context, const char *path, struct stat *status);
    int (*rename)(void *context, const char *from, const char *to);
    int (*unlink)(void *context, const char *path);
    int (*mkdir)(void *context, const char *path, mode_t mode);
};

/* The real file system. EINTR is retried inside, a busy non-blocking descriptor is waited for;
 * files are opened O_CLOEXEC. SIGPIPE and SIGXFSZ are the process's to ignore. */
extern const struct io io_local;

/* Whole-file helpers; errors name the path. */
tidemill_error *io_open(const struct io *io, const char *path, int flags, mode_t mode, int *ret_fd);
void io_close(const struct io *io, int fd); /* fd < 0 is fine; errors are ignored (sync first) */
tidemill_error *io_write_all(const struct io *io, int fd, const char *path, const void *data,
                             size_t size);
/* Reads until `size` or the end; *ret_size tells how much. */
tidemill_error *io_read_all(const struct io *io, int fd, const char *path, void *data, size_t size,
                            size_t *ret_size);
/* The content of a small file plus a NUL, malloc'ed; an error if it is larger than `size_max`. */
tidemill_error *io_read_file(const struct io *io, const char *path, size_t size_max,
                             char **ret_data, size_t *ret_size);
/* Also true where it cannot be told (no permission): the open that follows then says why. */
bool io_exists(const struct io *io, const char *path);
/* "-", a pipe, a terminal: bytes that come once and cannot be looked at beforehand. */
bool io_is_stream(const struct io *io, const char *path);
/* Makes a folder, which may be there already; the folder that it goes into must be. */
tidemill_error *io_make_directory(const struct io *io, const char *path, mode_t mode);
/* fsync of the directory that holds `path`. */
tidemill_error *io_sync_directory(const struct io *io, const char *path);
/* rename(from, to) and fsync of the directory. `from` must be complete and synced. */
tidemill_error *io_publish(const struct io *io, const char *from, const char *to);

/* --- compression ------------------------------------------------------------------------------ */

enum compression { COMPRESSION_NONE, COMPRESSION_GZIP, COMPRESSION_ZSTD, COMPRESSION_AUTO };

/* By the name's ending: .gz, .zst; else NONE. */
enum compression compression_of_path(const char *path);

/* --- reader: one input as a stream of plain bytes --------------------------------------------- */

struct reader;

/* Opens `path` ("-": standard input) and decompresses it on the fly. AUTO looks at the first bytes
 * and so also serves standard input. Several gzip members or zstd frames in a row are one stream.
 * A directory, a missing file, a permission problem: ERROR_INPUT with one sentence that says what
 * to do. */
tidemill_error *reader_open(const struct io *io, const char *path, enum compression compression,
                            struct reader **ret);
/* Fills up to `size` bytes, fewer where a pipe has no more at the moment; *ret_size 0 means the
 * end. A broken or cut gzip/zstd stream is ERROR_INPUT naming path and offset, returned after the
 * good bytes before it. A checksum stands behind what it covers: those bytes have been delivered by
 * then. After an error the reader can only be closed. */
tidemill_error *reader_read(struct reader *reader, void *data, size_t size, size_t *ret_size);
/* Goes on at byte `offset` of the plain (decompressed) stream, which must not lie behind the
 * present one: a seek for plain files, read-and-discard otherwise. Ending before `offset` is
 * ERROR_CHANGED. */
tidemill_error *reader_skip_to(struct reader *reader, uint64_t offset);
uint64_t reader_offset(const struct reader *reader);  /* plain bytes delivered or skipped so far */
bool reader_is_seekable(const struct reader *reader); /* plain regular file */
uint64_t reader_size_bytes(const struct reader *reader);  /* file size on disk, 0 where unknown */
uint64_t reader_disk_offset(const struct reader *reader); /* compressed bytes consumed; progress */
/* No more than so many plain bytes are delivered or skipped in all: beyond, ERROR_INPUT. Checked
 * while unpacking; there is no limit at first. Memory is bounded anyway, by a block and the window
 * (at most 128 MiB for zstd): this is for who must bound time or disk. */
void reader_limit(struct reader *reader, uint64_t plain_bytes_max);
void reader_close(struct reader *reader); /* NULL is fine */

/* --- spool: an output file under construction ------------------------------------------------- */

/* Append-only file that can be continued at a recorded position. With compression the bytes are cut
 * into frames of SPOOL_FRAME_BYTES of plain data each, so that frame boundaries, and with them
 * every byte of the file, depend on the content alone and not on when checkpoints happened. What
 * has not filled a frame at a checkpoint is the `tail`: the journal keeps it. */
#define SPOOL_FRAME_BYTES ((size_t)128 << 10)

struct spool_position {
    uint64_t
        file_bytes; /* bytes of the file that count; what is behind them is cut off on resume */
    uint64_t plain_bytes; /* bytes appended so far, before compression */
    struct slice tail;    /* plain bytes not yet in the file; empty without compression.
                             From spool_position: valid until the next call on the spool. */
};

struct spool;

/* Opens `path` ("-": standard output) for appending. `resume` NULL: starts empty (truncates).
 * Else the file is cut to resume->file_bytes and goes on there; a shorter or missing file, or
 * numbers that do not fit together: ERROR_CORRUPT, and nothing is changed. Standard output has no
 * resume: ERROR_UNSUPPORTED. AUTO goes by the name. */
tidemill_error *spool_open(const struct io *io, const char *path, enum compression compression,
                           const struct spool_position *resume, struct spool **ret);
/* Buffers; large appends go straight through. On error the spool can only be closed. */
tidemill_error *spool_append(struct spool *spool, const void *data, size_t size);
/* Hands buffered bytes to the kernel (and fdatasync when `sync`; the first one also syncs the
 * folder, so that the name lasts as well) and tells the position. Pipes and devices are not
 * synced. */
tidemill_error *spool_checkpoint(struct spool *spool, bool sync, struct spool_position *ret);
/* Overwrites bytes at the file's start (a header that needed a count). Not with compression. */
tidemill_error *spool_patch(struct spool *spool, uint64_t offset, const void *data, size_t size);
/* Writes the last frame, fsync. Then only spool_close is left. *ret_bytes: the file's size. */
tidemill_error *spool_finish(struct spool *spool, uint64_t *ret_bytes);
void spool_close(struct spool *spool); /* closes, finished or not; the file stays; NULL is fine */

/* --- lock: one process a job ------------------------------------------------------------------ */

/* A file `path` created with O_EXCL that names host, pid, process start and boot id, so that it
 * works on network file systems and a stale one (dead process, other boot of this host) is
 * replaced. Held by a live process, or by one of another host: ERROR_LOCKED naming host, pid and
 * since when, at once. Only a file that a kill left half-written is waited for, at most 12
 * seconds. */
struct file_lock;
tidemill_error *file_lock_take(const struct io *io, const char *path, struct file_lock **ret);
void file_lock_release(struct file_lock *lock); /* removes the file; NULL is fine */

/* --- fingerprint: is this still the same file? ------------------------------------------------ */

#define FINGERPRINT_WHOLE_BYTES ((uint64_t)1 << 30)

/* Digest of a file's size and content. Up to FINGERPRINT_WHOLE_BYTES every byte counts; of a larger
 * one the size and 1,024 evenly spread blocks of 64 KiB, first and last included. */
tidemill_error *io_fingerprint(const struct io *io, const char *path, struct digest *ret,
                               uint64_t *ret_size);

#endif
