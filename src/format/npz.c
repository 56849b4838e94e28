/* SPDX-License-Identifier: Apache-2.0 */
/* npz.c - the members of a zip archive as streams (PKWARE APPNOTE: 4.3.7 local header, 4.3.12
 * central directory, 4.3.14 zip64), stored or deflated. Sizes and places are believed only after
 * they were compared with the file's size; a member read to its end has its CRC checked. */
#include "format/npy.h"

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

#define END_BYTES 22
#define END64_BYTES 56
#define LOCATOR64_BYTES 20
#define TAIL_BYTES_MAX (END_BYTES + 65535 + LOCATOR64_BYTES)
#define DIRECTORY_BYTES_MAX ((uint64_t)16 << 20)
#define INPUT_BYTES ((size_t)64 << 10)

struct member {
    char *name;
    unsigned method;
    uint32_t crc;
    uint64_t packed_bytes, plain_bytes;
    uint64_t header_offset;
};

struct zip_archive {
    const struct io *io;
    int fd;
    char *path;
    uint64_t size;
    struct member *members;
    size_t n;
};

struct zip_member_stream {
    struct byte_stream base;
    struct zip_archive *archive;
    const struct member *member;
    uint64_t offset;      /* of the packed bytes to come */
    uint64_t packed_left; /* not read yet */
    uint64_t plain_left;
    uint32_t crc;
    bool is_crc_known; /* nothing was skipped */
    bool has_inflater;
    z_stream inflater;
    unsigned char *input;
};

static uint64_t number(const unsigned char *p, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++) value |= (uint64_t)p[i] << (8 * i);
    return value;
}

static tidemill_error *fail(const struct zip_archive *archive, const char *what)
{
    return error_new(ERROR_INPUT, "%s: not a readable .npz archive: %s", archive->path, what);
}

static tidemill_error *read_at(const struct zip_archive *archive, uint64_t offset, void *data,
                               size_t size)
{
    size_t done = 0;
    if (offset > archive->size || archive->size - offset < size) return fail(archive, "it is cut");
    while (done < size) {
        ssize_t got = archive->io->pread(archive->io->context, archive->fd, (char *)data + done,
                                         size - done, (off_t)(offset + done));
        if (got < 0) return error_errno(ERROR_IO, errno, "reading %s", archive->path);
        if (got == 0) return fail(archive, "it is cut");
        done += (size_t)got;
    }
    return NULL;
}

/* --- the directory ----------------------------------------------------------------------------------- */

struct directory {
    uint64_t offset, bytes, n;
};

static tidemill_error *read_end64(const struct zip_archive *archive, const unsigned char *locator,
                                  struct directory *ret)
{
    unsigned char end[END64_BYTES];
    TRY(read_at(archive, number(locator + 8, 8), end, sizeof end));
    if (memcmp(end, "PK\6\6", 4) != 0) return fail(archive, "its zip64 record is damaged");
    ret->n = number(end + 32, 8);
    ret->bytes = number(end + 40, 8);
    ret->offset = number(end + 48, 8);
    return NULL;
}

static tidemill_error *find_directory(const struct zip_archive *archive, struct directory *ret)
{
    size_t size = (size_t)MIN(archive->size, TAIL_BYTES_MAX);
    if (size < END_BYTES) return fail(archive, "it is too short");
    unsigned char *tail = malloc(size);
    if (tail == NULL) return error_memory();
    tidemill_error *error = read_at(archive, archive->size - size, tail, size);
    size_t at = size - END_BYTES + 1;
    bool is_found = false;
    while (error == NULL && at > 0 && !is_found) {
        at--;
        is_found = memcmp(tail + at, "PK\5\6", 4) == 0;
    }
    if (error == NULL && !is_found) error = fail(archive, "it has no directory");
    if (error == NULL) {
        ret->n = number(tail + at + 10, 2);
        ret->bytes = number(tail + at + 12, 4);
        ret->offset = number(tail + at + 16, 4);
        bool has_locator =
            at >= LOCATOR64_BYTES && memcmp(tail + at - LOCATOR64_BYTES, "PK\6\7", 4) == 0;
        if (has_locator) error = read_end64(archive, tail + at - LOCATOR64_BYTES, ret);
    }
    free(tail);
    return error;
}

/* Sizes that do not fit 32 bits stand in an extra field, in this order, each only where needed. */
static bool read_zip64(struct member *member, const unsigned char *extra, size_t size)
{
    uint64_t *fields[] = {&member->plain_bytes, &member->packed_bytes, &member->header_offset};
    bool is_needed = false;
    for (size_t i = 0; i < COUNT_OF(fields); i++) is_needed |= *fields[i] == UINT32_MAX;
    if (!is_needed) return true;
    while (size >= 4) {
        size_t length = number(extra + 2, 2);
        if (length > size - 4) return false;
        if (number(extra, 2) == 1) {
            const unsigned char *p = extra + 4, *end = p + length;
            for (size_t i = 0; i < COUNT_OF(fields); i++) {
                if (*fields[i] != UINT32_MAX) continue;
                if (end - p < 8) return false;
                *fields[i] = number(p, 8);
                p += 8;
            }
            return true;
        }
        extra += 4 + length;
        size -= 4 + length;
    }
    return false;
}

/* "name.npy" -> "name" */
static tidemill_error *take_name(const struct zip_archive *archive, struct member *member,
                                 const unsigned char *name, size_t size)
{
    bool is_npy =
        size > 4 && memcmp(name + size - 4, ".npy", 4) == 0 && memchr(name, '\0', size) == NULL;
    if (!is_npy) {
        return error_new(ERROR_INPUT, "%s: member '%.*s' is not a .npy array", archive->path,
                         (int)MIN(size, 100), name);
    }
    member->name = strndup((const char *)name, size - 4);
    return member->name == NULL ? error_memory() : NULL;
}

static tidemill_error *read_entry(struct zip_archive *archive, const unsigned char **p,
                                  const unsigned char *end)
{
    const unsigned char *entry = *p;
    struct member *member = &archive->members[archive->n];
    if (end - entry < 46 || memcmp(entry, "PK\1\2", 4) != 0) {
        return fail(archive, "its directory is damaged");
    }
    size_t name_size = number(entry + 28, 2), extra_size = number(entry + 30, 2);
    size_t total = 46 + name_size + extra_size + number(entry + 32, 2);
    if ((size_t)(end - entry) < total) return fail(archive, "its directory is cut");
    *member = (struct member){
        .method = (unsigned)number(entry + 10, 2),
        .crc = (uint32_t)number(entry + 16, 4),
        .packed_bytes = number(entry + 20, 4),
        .plain_bytes = number(entry + 24, 4),
        .header_offset = number(entry + 42, 4),
    };
    if ((number(entry + 8, 2) & 1) != 0) return fail(archive, "it is encrypted");
    if (member->method != 0 && member->method != Z_DEFLATED) {
        return fail(archive, "a member is neither stored nor deflated");
    }
    if (!read_zip64(member, entry + 46 + name_size, extra_size)) {
        return fail(archive, "its zip64 sizes are damaged");
    }
    bool is_inside = member->header_offset <= archive->size &&
                     member->packed_bytes <= archive->size - member->header_offset &&
                     (member->method != 0 || member->packed_bytes == member->plain_bytes);
    if (!is_inside) return fail(archive, "a member lies outside of the file");
    TRY(take_name(archive, member, entry + 46, name_size));
    archive->n++;
    *p = entry + total;
    return NULL;
}

static tidemill_error *read_directory(struct zip_archive *archive)
{
    struct directory directory = {0};
    TRY(find_directory(archive, &directory));
    if (directory.n > MODEL_VALUES_MAX) return fail(archive, "it has more than 64 members");
    if (directory.bytes > DIRECTORY_BYTES_MAX) return fail(archive, "its directory is too large");
    archive->members = calloc(directory.n + 1, sizeof *archive->members);
    unsigned char *bytes = malloc(directory.bytes + 1);
    tidemill_error *error = archive->members == NULL || bytes == NULL ? error_memory() : NULL;
    if (error == NULL) error = read_at(archive, directory.offset, bytes, directory.bytes);
    const unsigned char *p = bytes;
    for (uint64_t i = 0; error == NULL && i < directory.n; i++) {
        error = read_entry(archive, &p, bytes + directory.bytes);
    }
    free(bytes);
    return error;
}

tidemill_error *zip_open(const struct io *io, const char *path, struct zip_archive **ret)
{
    struct zip_archive *archive = calloc(1, sizeof *archive);
    struct stat status;
    if (archive == NULL) return error_memory();
    archive->io = io;
    archive->fd = -1;
    archive->path = strdup(path);
    tidemill_error *error = archive->path == NULL ? error_memory() : NULL;
    if (error == NULL && strcmp(path, "-") == 0) {
        error = error_new(ERROR_INPUT, "a .npz archive cannot come from standard input");
    }
    if (error == NULL) error = io_open(io, path, O_RDONLY, 0, &archive->fd);
    if (error == NULL && io->fstat(io->context, archive->fd, &status) != 0) {
        error = error_errno(ERROR_INPUT, errno, "%s", path);
    }
    if (error == NULL && !S_ISREG(status.st_mode)) {
        error = error_new(ERROR_INPUT, "%s: a .npz archive must be a plain file", path);
    }
    if (error == NULL) {
        archive->size = (uint64_t)status.st_size;
        error = read_directory(archive);
    }
    if (error != NULL) {
        zip_close(archive);
        return error;
    }
    *ret = archive;
    return NULL;
}

size_t zip_count(const struct zip_archive *archive)
{
    return archive->n;
}

const char *zip_name(const struct zip_archive *archive, size_t index)
{
    return archive->members[index].name;
}

void zip_close(struct zip_archive *archive)
{
    if (archive == NULL) return;
    io_close(archive->io, archive->fd);
    for (size_t i = 0; i < archive->n; i++) free(archive->members[i].name);
    free(archive->members);
    free(archive->path);
    free(archive);
}

/* --- members ------------------------------------------------------------------------------------------ */

static tidemill_error *read_packed(struct zip_member_stream *stream, void *data, size_t size)
{
    TRY(read_at(stream->archive, stream->offset, data, size));
    stream->offset += size;
    stream->packed_left -= size;
    return NULL;
}

static tidemill_error *inflate_some(struct zip_member_stream *stream, void *data, size_t size,
                                    size_t *ret_size)
{
    z_stream *z = &stream->inflater;
    z->next_out = data;
    z->avail_out = (uInt)MIN(size, (size_t)1 << 30);
    uInt wanted = z->avail_out;
    while (z->avail_out == wanted) {
        if (z->avail_in == 0 && stream->packed_left > 0) {
            size_t part = (size_t)MIN(stream->packed_left, INPUT_BYTES);
            TRY(read_packed(stream, stream->input, part));
            z->next_in = stream->input;
            z->avail_in = (uInt)part;
        }
        int status = inflate(z, Z_NO_FLUSH);
        if (status == Z_MEM_ERROR) return error_memory();
        bool is_cut = status == Z_STREAM_END || status == Z_BUF_ERROR;
        if (status != Z_OK && !is_cut) return fail(stream->archive, "a member is damaged");
        if (is_cut && z->avail_out == wanted) return fail(stream->archive, "a member is cut");
    }
    *ret_size = wanted - z->avail_out;
    return NULL;
}

static tidemill_error *read_member(struct byte_stream *base, void *data, size_t size,
                                   size_t *ret_size)
{
    struct zip_member_stream *stream = (struct zip_member_stream *)(void *)base;
    size_t wanted = (size_t)MIN(size, stream->plain_left);
    *ret_size = wanted;
    if (wanted == 0) return NULL;
    TRY(stream->has_inflater ? inflate_some(stream, data, wanted, ret_size)
                             : read_packed(stream, data, wanted));
    stream->plain_left -= *ret_size;
    stream->crc = (uint32_t)crc32_z(stream->crc, data, *ret_size);
    bool is_wrong =
        stream->plain_left == 0 && stream->is_crc_known && stream->crc != stream->member->crc;
    if (!is_wrong) return NULL;
    return error_new(ERROR_INPUT, "%s: array '%s' fails its checksum", stream->archive->path,
                     stream->member->name);
}

/* Stored members only. */
static tidemill_error *skip_member(struct byte_stream *base, uint64_t size)
{
    struct zip_member_stream *stream = (struct zip_member_stream *)(void *)base;
    if (size > stream->plain_left) {
        return error_new(ERROR_CHANGED, "%s: has become shorter", stream->archive->path);
    }
    stream->offset += size;
    stream->packed_left -= size;
    stream->plain_left -= size;
    stream->is_crc_known = false;
    return NULL;
}

static void close_member(struct byte_stream *base)
{
    struct zip_member_stream *stream = (struct zip_member_stream *)(void *)base;
    if (stream->has_inflater) (void)inflateEnd(&stream->inflater);
    free(stream->input);
    free(stream);
}

static tidemill_error *start_member(struct zip_member_stream *stream)
{
    const struct zip_archive *archive = stream->archive;
    const struct member *member = stream->member;
    unsigned char header[30];
    TRY(read_at(archive, member->header_offset, header, sizeof header));
    if (memcmp(header, "PK\3\4", 4) != 0) return fail(archive, "a member's header is damaged");
    stream->offset =
        member->header_offset + sizeof header + number(header + 26, 2) + number(header + 28, 2);
    if (stream->offset > archive->size || archive->size - stream->offset < member->packed_bytes) {
        return fail(archive, "it is cut");
    }
    stream->packed_left = member->packed_bytes;
    stream->plain_left = member->plain_bytes;
    stream->is_crc_known = true;
    if (member->method == 0) return NULL;
    stream->base.skip = NULL;
    stream->input = malloc(INPUT_BYTES);
    stream->has_inflater =
        stream->input != NULL && inflateInit2(&stream->inflater, -MAX_WBITS) == Z_OK;
    return stream->has_inflater ? NULL : error_memory();
}

tidemill_error *zip_stream(struct zip_archive *archive, size_t index, struct byte_stream **ret)
{
    struct zip_member_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) return error_memory();
    stream->base =
        (struct byte_stream){.read = read_member, .close = close_member, .skip = skip_member};
    stream->archive = archive;
    stream->member = &archive->members[index];
    tidemill_error *error = start_member(stream);
    if (error != NULL) {
        close_member(&stream->base);
        return error;
    }
    *ret = &stream->base;
    return NULL;
}
