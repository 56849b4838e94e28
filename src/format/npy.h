/* SPDX-License-Identifier: Apache-2.0 */
/* npy.h - rows of a .npy file, or of all arrays of a .npz archive side by side.
 *
 * Versions 1 to 3 of the header; kinds b, i, u, f and strings S, U, of either byte order. Rows come
 * out little-endian; strings as packed UTF-8 strings without the NULs that pad them. */
#ifndef TIDEMILL_FORMAT_NPY_H
#define TIDEMILL_FORMAT_NPY_H

#include "format/source.h"

/* Plain bytes of one array, in order. */
struct byte_stream {
    /* Up to `size` bytes; *ret_size 0: the end. */
    tidemill_error *(*read)(struct byte_stream *stream, void *data, size_t size, size_t *ret_size);
    void (*close)(struct byte_stream *stream);
    /* Moves on by `size` bytes without reading them; NULL: they are read. */
    tidemill_error *(*skip)(struct byte_stream *stream, uint64_t size);
};

struct npy_header {
    enum tensor_type type;
    struct shape row_shape;
    uint64_t n_rows;
    size_t row_bytes;     /* in the file */
    size_t element_bytes; /* in the file */
    char kind;            /* 'b', 'i', 'u', 'f', 'S', 'U' */
    bool is_swapped;      /* big-endian */
};

/* Reads magic, version and header from the stream. `what` names the array in messages. */
tidemill_error *npy_read_header(struct byte_stream *stream, const char *what,
                                struct npy_header *ret);
/* The dictionary text of the header alone. */
tidemill_error *npy_parse_header(const char *text, size_t size, const char *what,
                                 struct npy_header *ret);
/* One row from the file's form to ours, appended to `out`. ERROR_INVALID_UTF8 or ERROR_OK. */
enum error_code npy_convert_row(const struct npy_header *header, unsigned char *row,
                                struct buffer *out);

struct array_file;
tidemill_error *array_file_open(const struct io *io, const char *path, enum compression compression,
                                enum format format, struct array_file **ret);
/* In archive order. `name`s live as long as the file. */
const struct source_array *array_file_arrays(const struct array_file *file, size_t *ret_n);
uint64_t array_file_rows(const struct array_file *file);
/* `row` must not lie behind the present one. */
tidemill_error *array_file_skip_to(struct array_file *file, uint64_t row);
/* Appends the next row of every array. *ret_error: the record's own error. */
tidemill_error *array_file_read_row(struct array_file *file, struct buffer *out,
                                    enum error_code *ret_error);
void array_file_close(struct array_file *file);

/* --- npz ------------------------------------------------------------------------------------------ */

/* The members of an archive, each as a stream of plain bytes. */
struct zip_archive;
tidemill_error *zip_open(const struct io *io, const char *path, struct zip_archive **ret);
size_t zip_count(const struct zip_archive *archive);
const char *zip_name(const struct zip_archive *archive, size_t index);
/* The archive must outlive the stream. */
tidemill_error *zip_stream(struct zip_archive *archive, size_t index, struct byte_stream **ret);
void zip_close(struct zip_archive *archive);

#endif
