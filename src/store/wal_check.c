/* SPDX-License-Identifier: Apache-2.0 */
/* wal_check.c - at open, before SQLite: has its log lost something in the middle?
 *
 * SQLite takes a log up to the first frame whose checksum is wrong and forgets the rest: right for what
 * a power loss tore, which is the last transaction, as each is synced before the next begins. But where
 * two or more commits of the same log stand behind such a frame, at least one of them was synced, and
 * acknowledged: then the disk has changed a byte, and what is behind it must not vanish without a word.
 * (A change in the very last transaction cannot be told from a torn one.) The log starts anew with each
 * open, so that what earlier power losses tore is not counted.
 *
 * The format is SQLite's (its file format document, 4.1): big-endian numbers; a head of 32 bytes; frames
 * of 24 bytes and a page; checksums that run over all of it. */
#include "store/parts.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_BYTES 32
#define FRAME_BYTES 24
#define MAGIC 0x377f0682u /* the lowest bit: words of the checksum are big-endian */

struct wal {
    uint32_t head[HEAD_BYTES / 4]; /* magic, version, page size, number, salts, checksum */
    size_t page_bytes;
    uint32_t sum[2]; /* so far */
    uint32_t *frame; /* head and page, as in the file */
    bool is_broken;  /* a frame before was not valid */
    uint32_t salt[2];
    size_t commits; /* with that salt, at or behind the broken one */
};

static uint32_t word_of(const struct wal *wal, uint32_t word)
{
    return (be32toh(wal->head[0]) & 1) != 0 ? be32toh(word) : le32toh(word);
}

static void add_to_sum(struct wal *wal, const uint32_t *words, size_t bytes)
{
    for (size_t i = 0; i + 1 < bytes / 4; i += 2) {
        wal->sum[0] += word_of(wal, words[i]) + wal->sum[1];
        wal->sum[1] += word_of(wal, words[i + 1]) + wal->sum[0];
    }
}

static bool is_sum(const struct wal *wal, const uint32_t stored[2])
{
    return be32toh(stored[0]) == wal->sum[0] && be32toh(stored[1]) == wal->sum[1];
}

/* Of a head that is damaged the first frame knows the salts. */
static void look_at_head(struct wal *wal)
{
    add_to_sum(wal, wal->head, 24);
    memcpy(wal->salt, &wal->head[4], sizeof wal->salt);
    wal->is_broken = !is_sum(wal, &wal->head[6]);
    if (wal->is_broken) memcpy(wal->salt, &wal->frame[2], sizeof wal->salt);
}

static void look_at_frame(struct wal *wal)
{
    bool is_ours = memcmp(&wal->frame[2], wal->salt, sizeof wal->salt) == 0;
    bool is_commit = wal->frame[1] != 0;
    if (!wal->is_broken) {
        add_to_sum(wal, wal->frame, 8);
        add_to_sum(wal, wal->frame + FRAME_BYTES / 4, wal->page_bytes);
        wal->is_broken = !is_ours || !is_sum(wal, &wal->frame[4]);
    }
    if (wal->is_broken && is_ours && is_commit) wal->commits++;
}

static bool read_at(const struct io *io, int fd, void *data, size_t size, uint64_t offset)
{
    return io->pread(io->context, fd, data, size, (off_t)offset) == (ssize_t)size;
}

static tidemill_error *look_at_all(const struct io *io, int fd, struct wal *wal)
{
    size_t size = FRAME_BYTES + wal->page_bytes;
    wal->frame = malloc(size);
    if (wal->frame == NULL) return error_memory();
    for (uint64_t offset = HEAD_BYTES; read_at(io, fd, wal->frame, size, offset); offset += size) {
        if (offset == HEAD_BYTES) look_at_head(wal);
        look_at_frame(wal);
    }
    free(wal->frame);
    return NULL;
}

tidemill_error *wal_check(const struct io *io, const char *path)
{
    int fd = -1;
    struct wal wal = {0};
    tidemill_error *error = NULL;
    if (!io_exists(io, path)) return NULL;
    TRY(io_open(io, path, O_RDONLY, 0, &fd));
    if (read_at(io, fd, wal.head, sizeof wal.head, 0)) {
        uint32_t page_bytes = be32toh(wal.head[2]);
        bool is_page =
            page_bytes >= 512 && page_bytes <= 65536 && (page_bytes & (page_bytes - 1)) == 0;
        wal.page_bytes = is_page ? page_bytes : STORE_PAGE_BYTES;
        error = look_at_all(io, fd, &wal);
    }
    io_close(io, fd);
    if (error != NULL || wal.commits < 2) return error;
    return error_new(
        ERROR_CORRUPT,
        "%s is damaged before its end: %zu changes behind that place cannot be read; bring "
        "back a copy of the folder, or remove that file to go on without them",
        path, wal.commits);
}
