/* SPDX-License-Identifier: Apache-2.0 */
/* fingerprint.c - is this still the file that the job began with?
 *
 * The digest covers the size (8 bytes, little-endian) and then the content; of a file larger than
 * FINGERPRINT_WHOLE_BYTES, 1,024 blocks of 64 KiB at even distances, the first and the last byte
 * among them. Modification times do not count: copying a file does not change it. */
#include "io/explain.h"
#include "io/io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES ((size_t)64 << 10)
#define READ_BYTES ((size_t)1 << 20)
#define SAMPLE_COUNT 1024

/* Adds bytes [offset, offset + size) of the file. It was as long as that a moment ago. */
static tidemill_error *add_range(const struct io *io, int fd, const char *path, uint64_t offset,
                                 uint64_t size, char *block, struct hash_state *state)
{
    while (size > 0) {
        size_t wanted = (size_t)MIN(size, (uint64_t)READ_BYTES);
        ssize_t count = io->pread(io->context, fd, block, wanted, (off_t)offset);
        if (count < 0) return io_explain(ERROR_IO, errno, "read", path);
        if (count == 0) {
            return error_new(ERROR_CHANGED,
                             "%s became shorter while it was read; let it rest first", path);
        }
        hash_state_add(state, block, (size_t)count);
        offset += (uint64_t)count;
        size -= (uint64_t)count;
    }
    return NULL;
}

static tidemill_error *add_samples(const struct io *io, int fd, const char *path, uint64_t size,
                                   char *block, struct hash_state *state)
{
    uint64_t steps = SAMPLE_COUNT - 1;
    uint64_t span = size - BLOCK_BYTES; /* where the last block begins */
    for (uint64_t i = 0; i < SAMPLE_COUNT; i++) {
        /* i * span / steps without overflow */
        uint64_t offset = i * (span / steps) + i * (span % steps) / steps;
        TRY(add_range(io, fd, path, offset, BLOCK_BYTES, block, state));
    }
    return NULL;
}

static tidemill_error *add_file(const struct io *io, int fd, const char *path, char *block,
                                struct hash_state *state, uint64_t *ret_size)
{
    struct stat status;
    if (io->fstat(io->context, fd, &status) != 0) {
        return io_explain(ERROR_IO, errno, "stat", path);
    }
    if (!S_ISREG(status.st_mode)) {
        return error_new(ERROR_INPUT, "%s is not a regular file, so it cannot be recognised again",
                         path);
    }
    uint64_t size = (uint64_t)status.st_size;
    unsigned char size_bytes[8];
    for (int i = 0; i < 8; i++) size_bytes[i] = (unsigned char)(size >> (8 * i));
    hash_state_add(state, size_bytes, sizeof size_bytes);
    *ret_size = size;
    return size <= FINGERPRINT_WHOLE_BYTES ? add_range(io, fd, path, 0, size, block, state)
                                           : add_samples(io, fd, path, size, block, state);
}

tidemill_error *io_fingerprint(const struct io *io, const char *path, struct digest *ret,
                               uint64_t *ret_size)
{
    /* Not to wait for ever where the path turns out to be a pipe without a writer. */
    int fd = io->open(io->context, path, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0) return io_explain(ERROR_INPUT, errno, "read", path);
    struct hash_state *state = hash_state_new();
    char *block = malloc(READ_BYTES);
    uint64_t size = 0;
    tidemill_error *error = state == NULL || block == NULL
                                ? error_memory()
                                : add_file(io, fd, path, block, state, &size);
    if (error == NULL) {
        *ret = hash_state_digest(state);
        *ret_size = size;
    }
    free(block);
    hash_state_free(state);
    io_close(io, fd);
    return error;
}
