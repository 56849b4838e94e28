/* SPDX-License-Identifier: Apache-2.0 */
/* npy_file.c - a .npy file, or the arrays of a .npz side by side, read row by row. */
#include "format/npy.h"

#include <stdio.h>
#include <stdlib.h>

#define COLUMN_BUFFER_BYTES ((size_t)64 << 10)

/* A .npy file as a stream. */
struct reader_stream {
    struct byte_stream base;
    struct reader *reader;
};

struct column {
    struct byte_stream *stream;
    struct npy_header header;
    unsigned char *row;    /* one row as the file has it */
    unsigned char *buffer; /* [at, size) is read and not used */
    size_t at, size;
};

struct array_file {
    char *path;
    struct zip_archive *archive; /* .npz */
    struct reader_stream reader; /* .npy */
    struct source_array *arrays;
    struct column *columns;
    size_t n;
    uint64_t n_rows, row;
};

static tidemill_error *read_stream(struct byte_stream *stream, void *data, size_t size,
                                   size_t *ret_size)
{
    return reader_read(((struct reader_stream *)(void *)stream)->reader, data, size, ret_size);
}

static tidemill_error *skip_stream(struct byte_stream *stream, uint64_t size)
{
    struct reader *reader = ((struct reader_stream *)(void *)stream)->reader;
    return reader_skip_to(reader, reader_offset(reader) + size);
}

static void close_stream(struct byte_stream *stream)
{
    struct reader_stream *self = (struct reader_stream *)(void *)stream;
    reader_close(self->reader);
    self->reader = NULL;
}

/* --- columns ------------------------------------------------------------------------------------------ */

static tidemill_error *fill(struct array_file *file, struct column *column, unsigned char *out,
                            size_t size)
{
    while (size > 0) {
        size_t got, have = MIN(size, column->size - column->at);
        if (have > 0) {
            memcpy(out, column->buffer + column->at, have);
            column->at += have;
            out += have;
            size -= have;
            continue;
        }
        bool is_direct = size >= COLUMN_BUFFER_BYTES;
        TRY(column->stream->read(column->stream, is_direct ? out : column->buffer,
                                 is_direct ? size : COLUMN_BUFFER_BYTES, &got));
        if (got == 0) {
            return error_new(ERROR_INPUT, "%s: ends in row %llu of %llu", file->path,
                             (unsigned long long)file->row + 1, (unsigned long long)file->n_rows);
        }
        if (is_direct) {
            out += got;
            size -= got;
        } else {
            column->at = 0;
            column->size = got;
        }
    }
    return NULL;
}

static tidemill_error *skip(struct array_file *file, struct column *column, uint64_t bytes)
{
    size_t have = (size_t)MIN(bytes, column->size - column->at);
    column->at += have;
    bytes -= have;
    if (bytes == 0) return NULL;
    if (column->stream->skip != NULL) return column->stream->skip(column->stream, bytes);
    while (bytes > 0) {
        size_t part = (size_t)MIN(bytes, COLUMN_BUFFER_BYTES), got;
        TRY(column->stream->read(column->stream, column->buffer, part, &got));
        if (got == 0) {
            return error_new(ERROR_CHANGED, "%s: has become shorter", file->path);
        }
        bytes -= got;
    }
    column->at = column->size = 0;
    return NULL;
}

/* Reads the header from column->stream. */
static tidemill_error *open_column(struct array_file *file, size_t index, const char *name)
{
    struct column *column = &file->columns[index];
    struct source_array *array = &file->arrays[index];
    char what[512];
    snprintf(what, sizeof what, "%s%s%s", file->path, name[0] == '\0' ? "" : ": ", name);
    TRY(npy_read_header(column->stream, what, &column->header));
    const struct npy_header *header = &column->header;
    column->row = malloc(header->row_bytes + 1);
    column->buffer = malloc(COLUMN_BUFFER_BYTES);
    if (column->row == NULL || column->buffer == NULL) return error_memory();
    array->name = name;
    array->type = header->type;
    array->row_shape = header->row_shape;
    array->row_bytes = header->type == TENSOR_STRING ? 0 : header->row_bytes;
    if (index > 0 && header->n_rows != file->n_rows) {
        return error_new(ERROR_INPUT, "%s: array '%s' has %llu rows, array '%s' has %llu",
                         file->path, name, (unsigned long long)header->n_rows, file->arrays[0].name,
                         (unsigned long long)file->n_rows);
    }
    file->n_rows = header->n_rows;
    return NULL;
}

static tidemill_error *open_archive(struct array_file *file, const struct io *io)
{
    TRY(zip_open(io, file->path, &file->archive));
    size_t n = zip_count(file->archive);
    if (n == 0) return error_new(ERROR_INPUT, "%s: the archive has no arrays", file->path);
    file->columns = calloc(n, sizeof *file->columns);
    file->arrays = calloc(n, sizeof *file->arrays);
    if (file->columns == NULL || file->arrays == NULL) return error_memory();
    file->n = n;
    for (size_t i = 0; i < n; i++) {
        TRY(zip_stream(file->archive, i, &file->columns[i].stream));
        TRY(open_column(file, i, zip_name(file->archive, i)));
    }
    return NULL;
}

static tidemill_error *open_single(struct array_file *file, const struct io *io,
                                   enum compression compression)
{
    file->columns = calloc(1, sizeof *file->columns);
    file->arrays = calloc(1, sizeof *file->arrays);
    if (file->columns == NULL || file->arrays == NULL) return error_memory();
    file->n = 1;
    file->reader.base =
        (struct byte_stream){.read = read_stream, .close = close_stream, .skip = skip_stream};
    TRY(reader_open(io, file->path, compression, &file->reader.reader));
    file->columns[0].stream = &file->reader.base;
    return open_column(file, 0, "");
}

tidemill_error *array_file_open(const struct io *io, const char *path, enum compression compression,
                                enum format format, struct array_file **ret)
{
    struct array_file *file = calloc(1, sizeof *file);
    if (file == NULL) return error_memory();
    file->path = strdup(path);
    tidemill_error *error = file->path == NULL     ? error_memory()
                            : format == FORMAT_NPZ ? open_archive(file, io)
                                                   : open_single(file, io, compression);
    if (error != NULL) {
        array_file_close(file);
        return error;
    }
    *ret = file;
    return NULL;
}

const struct source_array *array_file_arrays(const struct array_file *file, size_t *ret_n)
{
    *ret_n = file->n;
    return file->arrays;
}

uint64_t array_file_rows(const struct array_file *file)
{
    return file->n_rows;
}

tidemill_error *array_file_skip_to(struct array_file *file, uint64_t row)
{
    if (row > file->n_rows) {
        return error_new(ERROR_CHANGED, "%s: has %llu rows, row %llu was to be next", file->path,
                         (unsigned long long)file->n_rows, (unsigned long long)row + 1);
    }
    for (size_t i = 0; i < file->n; i++) {
        uint64_t bytes;
        uint64_t rows = row - file->row;
        if (__builtin_mul_overflow(rows, (uint64_t)file->columns[i].header.row_bytes, &bytes)) {
            return error_new(ERROR_INPUT, "%s: is larger than any file", file->path);
        }
        TRY(skip(file, &file->columns[i], bytes));
    }
    file->row = row;
    return NULL;
}

tidemill_error *array_file_read_row(struct array_file *file, struct buffer *out,
                                    enum error_code *ret_error)
{
    *ret_error = ERROR_OK;
    for (size_t i = 0; i < file->n; i++) {
        struct column *column = &file->columns[i];
        TRY(fill(file, column, column->row, column->header.row_bytes));
        enum error_code code = npy_convert_row(&column->header, column->row, out);
        if (code != ERROR_OK) *ret_error = code;
    }
    file->row++;
    return NULL;
}

void array_file_close(struct array_file *file)
{
    if (file == NULL) return;
    for (size_t i = 0; i < file->n; i++) {
        struct column *column = &file->columns[i];
        if (column->stream != NULL) column->stream->close(column->stream);
        free(column->row);
        free(column->buffer);
    }
    zip_close(file->archive);
    free(file->columns);
    free(file->arrays);
    free(file->path);
    free(file);
}
