/* SPDX-License-Identifier: Apache-2.0 */
/* npz_write.c - interleaved rows into a zip archive of .npy members. See encode_array.c. */
#include "format/encode_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#define COPY_BYTES ((size_t)1 << 20)
#define ZIP_DATE_1980 0x21 /* 1 January 1980 */
#define ZIP32_MAX UINT64_C(0xffffffff)

struct member {
    char *name; /* "logits.npy" */
    uint64_t offset, size;
    uint32_t crc;
};

struct archive {
    const struct io *io;
    const struct encoder *encoder;
    const char *rows_path;
    uint64_t n_rows;
    struct spool *spool;
    struct member *members;
    size_t row_bytes;
    struct buffer scratch;
};

static void put16(struct buffer *out, uint32_t value)
{
    buffer_byte(out, (char)(value & 255));
    buffer_byte(out, (char)(value >> 8 & 255));
}

static void put32(struct buffer *out, uint64_t value)
{
    put16(out, (uint32_t)(value & 0xffff));
    put16(out, (uint32_t)(value >> 16 & 0xffff));
}

static void put64(struct buffer *out, uint64_t value)
{
    put32(out, value & ZIP32_MAX);
    put32(out, value >> 32);
}

static uint64_t at_most_32(uint64_t value)
{
    return value > ZIP32_MAX ? ZIP32_MAX : value;
}

static tidemill_error *flush(struct archive *archive)
{
    if (archive->scratch.is_failed) return error_memory();
    tidemill_error *error =
        spool_append(archive->spool, archive->scratch.data, archive->scratch.size);
    buffer_reset(&archive->scratch, COPY_BYTES);
    return error;
}

/* Version needed, flags (names are UTF-8), stored, time, date, CRC, sizes. */
static void put_common(struct buffer *out, const struct member *member)
{
    bool is_large = member->size >= ZIP32_MAX;
    put16(out, is_large ? 45 : 20);
    put16(out, 0x0800);
    put16(out, 0);
    put16(out, 0);
    put16(out, ZIP_DATE_1980);
    put32(out, member->crc);
    put32(out, at_most_32(member->size));
    put32(out, at_most_32(member->size));
    put16(out, (uint32_t)strlen(member->name));
}

static void put_local(struct buffer *out, const struct member *member)
{
    bool is_large = member->size >= ZIP32_MAX;
    put32(out, 0x04034b50);
    put_common(out, member);
    put16(out, is_large ? 20 : 0);
    buffer_text(out, member->name);
    if (!is_large) return;
    put16(out, 1);
    put16(out, 16);
    put64(out, member->size);
    put64(out, member->size);
}

static void put_central(struct buffer *out, const struct member *member)
{
    bool is_large = member->size >= ZIP32_MAX, is_far = member->offset >= ZIP32_MAX;
    uint32_t extra = (is_large ? 16 : 0) + (is_far ? 8 : 0);
    put32(out, 0x02014b50);
    put16(out, 45);
    put_common(out, member);
    put16(out, extra > 0 ? extra + 4 : 0);
    put16(out, 0);
    put16(out, 0);
    put16(out, 0);
    put32(out, 0);
    put32(out, at_most_32(member->offset));
    buffer_text(out, member->name);
    if (extra == 0) return;
    put16(out, 1);
    put16(out, extra);
    if (is_large) {
        put64(out, member->size);
        put64(out, member->size);
    }
    if (is_far) put64(out, member->offset);
}

static void put_end(struct buffer *out, uint64_t n, uint64_t start, uint64_t size)
{
    bool is_large = start + size >= ZIP32_MAX;
    if (is_large) {
        put32(out, 0x06064b50);
        put64(out, 44);
        put16(out, 45);
        put16(out, 45);
        put32(out, 0);
        put32(out, 0);
        put64(out, n);
        put64(out, n);
        put64(out, size);
        put64(out, start);
        put32(out, 0x07064b50);
        put32(out, 0);
        put64(out, start + size);
        put32(out, 1);
    }
    put32(out, 0x06054b50);
    put16(out, 0);
    put16(out, 0);
    put16(out, (uint32_t)n);
    put16(out, (uint32_t)n);
    put32(out, at_most_32(size));
    put32(out, at_most_32(start));
    put16(out, 0);
}

/* Output i's bytes of every record, one behind another. */
static tidemill_error *copy_share(struct archive *archive, int fd, size_t skipped, size_t size,
                                  uint32_t *crc)
{
    size_t rows_at_once = MAX(COPY_BYTES / archive->row_bytes, (size_t)1);
    char *block = malloc(rows_at_once * archive->row_bytes);
    if (block == NULL) return error_memory();
    tidemill_error *error = NULL;
    for (uint64_t row = 0; row < archive->n_rows && error == NULL;) {
        size_t n = (size_t)MIN(archive->n_rows - row, (uint64_t)rows_at_once), read;
        error =
            io_read_all(archive->io, fd, archive->rows_path, block, n * archive->row_bytes, &read);
        if (error == NULL && read != n * archive->row_bytes)
            error = error_new(ERROR_CORRUPT, "%s is shorter than it was", archive->rows_path);
        for (size_t r = 0; r < n && error == NULL; r++)
            buffer_append(&archive->scratch, block + r * archive->row_bytes + skipped, size);
        if (error == NULL) {
            *crc = (uint32_t)crc32_z(*crc, (const unsigned char *)archive->scratch.data,
                                     archive->scratch.size);
            error = flush(archive);
        }
        row += n;
    }
    free(block);
    return error;
}

static tidemill_error *write_data(struct archive *archive, size_t i, size_t skipped)
{
    const struct output_plan *plan = &archive->encoder->outputs[i];
    struct member *member = &archive->members[i];
    int fd;
    array_header(plan, archive->n_rows, &archive->scratch);
    member->crc =
        (uint32_t)crc32_z(0, (const unsigned char *)archive->scratch.data, archive->scratch.size);
    TRY(flush(archive));
    if (plan->stored_bytes == 0 || archive->n_rows == 0) return NULL;
    TRY(io_open(archive->io, archive->rows_path, O_RDONLY, 0, &fd));
    tidemill_error *error = copy_share(archive, fd, skipped, plan->stored_bytes, &member->crc);
    io_close(archive->io, fd);
    return error;
}

/* The checksum is known only behind the data: it is put into the header afterwards. */
static tidemill_error *write_member(struct archive *archive, size_t i, size_t skipped)
{
    struct member *member = &archive->members[i];
    struct spool_position position;
    TRY(spool_checkpoint(archive->spool, false, &position));
    member->offset = position.file_bytes;
    put_local(&archive->scratch, member);
    TRY(flush(archive));
    TRY(write_data(archive, i, skipped));
    TRY(spool_checkpoint(archive->spool, false, &position));
    put32(&archive->scratch, member->crc);
    if (archive->scratch.is_failed) return error_memory();
    tidemill_error *error = spool_patch(archive->spool, member->offset + 14, archive->scratch.data,
                                        archive->scratch.size);
    buffer_reset(&archive->scratch, COPY_BYTES);
    return error;
}

/* A member's name is no path. Two outputs that differ in slashes alone get a number each. */
static void make_plain(struct archive *archive, size_t i)
{
    for (char *p = archive->members[i].name; *p != '\0'; p++)
        if (*p == '/' || *p == '\\') *p = '_';
}

static bool is_unique(const struct archive *archive, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (strcmp(archive->members[k].name, archive->members[i].name) == 0) return false;
    return true;
}

static tidemill_error *name_members(struct archive *archive)
{
    const struct encoder *encoder = archive->encoder;
    archive->members = calloc(encoder->config.n_outputs + 1, sizeof *archive->members);
    if (archive->members == NULL) return error_memory();
    for (size_t i = 0; i < encoder->config.n_outputs; i++) {
        struct member *member = &archive->members[i];
        if (asprintf(&member->name, "%s.npy", encoder->outputs[i].spec->name) < 0)
            member->name = NULL;
        if (member->name != NULL) make_plain(archive, i);
        if (member->name != NULL && !is_unique(archive, i)) {
            free(member->name);
            if (asprintf(&member->name, "%s.%zu.npy", encoder->outputs[i].spec->name, i) < 0)
                member->name = NULL;
            if (member->name != NULL) make_plain(archive, i);
        }
        if (member->name == NULL) return error_memory();
        member->size = 128 + archive->n_rows * encoder->outputs[i].stored_bytes;
        archive->row_bytes += encoder->outputs[i].stored_bytes;
    }
    return NULL;
}

static tidemill_error *write_archive(struct archive *archive)
{
    size_t skipped = 0, n = archive->encoder->config.n_outputs;
    struct spool_position start;
    uint64_t bytes;
    for (size_t i = 0; i < n; i++) {
        TRY(write_member(archive, i, skipped));
        skipped += archive->encoder->outputs[i].stored_bytes;
    }
    TRY(spool_checkpoint(archive->spool, false, &start));
    for (size_t i = 0; i < n; i++) put_central(&archive->scratch, &archive->members[i]);
    put_end(&archive->scratch, n, start.file_bytes, archive->scratch.size);
    TRY(flush(archive));
    return spool_finish(archive->spool, &bytes);
}

tidemill_error *encoder_assemble(const struct encoder *encoder, const struct io *io,
                                 const char *rows_path, uint64_t n_rows, const char *archive_path)
{
    struct archive archive = {
        .io = io, .encoder = encoder, .rows_path = rows_path, .n_rows = n_rows};
    tidemill_error *error = name_members(&archive);
    if (error == NULL) error = spool_open(io, archive_path, COMPRESSION_NONE, NULL, &archive.spool);
    if (error == NULL) error = write_archive(&archive);
    spool_close(archive.spool);
    for (size_t i = 0; archive.members != NULL && i < encoder->config.n_outputs; i++)
        free(archive.members[i].name);
    free(archive.members);
    buffer_free(&archive.scratch);
    return error;
}
