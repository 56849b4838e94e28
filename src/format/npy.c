/* SPDX-License-Identifier: Apache-2.0 */
/* npy.c - the header of an array (numpy.lib.format, versions 1.0 to 3.0) and its rows: byte order,
 * strings. */
#include "format/npy.h"
#include "format/decode_text.h"

#include <stdlib.h>

#define HEADER_BYTES_MAX ((size_t)1 << 20)
#define ROW_BYTES_MAX ((size_t)1 << 31)

/* --- the dictionary --------------------------------------------------------------------------------- */

struct cursor {
    const char *p, *end;
};

static void skip_blanks(struct cursor *c)
{
    while (c->p < c->end && strchr(" \t\r\n", *c->p) != NULL && *c->p != '\0') c->p++;
}

static bool take(struct cursor *c, char byte)
{
    skip_blanks(c);
    if (c->p == c->end || *c->p != byte) return false;
    c->p++;
    return true;
}

static bool take_word(struct cursor *c, const char *word)
{
    size_t size = strlen(word);
    skip_blanks(c);
    if ((size_t)(c->end - c->p) < size || memcmp(c->p, word, size) != 0) return false;
    c->p += size;
    return true;
}

static bool take_string(struct cursor *c, struct slice *ret)
{
    skip_blanks(c);
    if (c->p == c->end || (*c->p != '\'' && *c->p != '"')) return false;
    const char *begin = c->p + 1;
    const char *quote = memchr(begin, *c->p, (size_t)(c->end - begin));
    if (quote == NULL) return false;
    *ret = (struct slice){begin, (size_t)(quote - begin)};
    c->p = quote + 1;
    return true;
}

static bool take_size(struct cursor *c, uint64_t *ret)
{
    uint64_t value = 0;
    skip_blanks(c);
    const char *begin = c->p;
    for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++) {
        if (value > (uint64_t)INT64_MAX / 10 - 1) return false;
        value = value * 10 + (uint64_t)(*c->p - '0');
    }
    if (c->p < c->end && *c->p == 'L') c->p++; /* Python 2 wrote 3L */
    *ret = value;
    return c->p > begin;
}

/* (3, 4), (3,), () */
static bool take_shape(struct cursor *c, uint64_t *dims, size_t capacity, size_t *ret_rank)
{
    *ret_rank = 0;
    if (!take(c, '(')) return false;
    while (!take(c, ')')) {
        if (*ret_rank == capacity || !take_size(c, &dims[*ret_rank])) return false;
        ++*ret_rank;
        if (take(c, ',')) continue;
        return take(c, ')');
    }
    return true;
}

/* --- types ------------------------------------------------------------------------------------------- */

static enum tensor_type type_of(char kind, size_t size)
{
    static const struct {
        char kind;
        size_t size;
        enum tensor_type type;
    } types[] = {
        {'b', 1, TENSOR_BOOL},    {'i', 1, TENSOR_INT8},   {'i', 2, TENSOR_INT16},
        {'i', 4, TENSOR_INT32},   {'i', 8, TENSOR_INT64},  {'u', 1, TENSOR_UINT8},
        {'u', 2, TENSOR_UINT16},  {'u', 4, TENSOR_UINT32}, {'u', 8, TENSOR_UINT64},
        {'f', 2, TENSOR_FLOAT16}, {'f', 4, TENSOR_FLOAT},  {'f', 8, TENSOR_DOUBLE},
    };
    if (kind == 'S' || kind == 'U') return TENSOR_STRING;
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        if (types[i].kind == kind && types[i].size == size) return types[i].type;
    }
    return TENSOR_UNDEFINED;
}

/* "<f4", "|b1", ">U10" */
static tidemill_error *parse_type(struct slice descr, const char *what, struct npy_header *ret)
{
    struct cursor c = {descr.data, descr.data + descr.size};
    char order = c.p < c.end && strchr("<>=|", *c.p) != NULL ? *c.p++ : '=';
    uint64_t size = 0;
    ret->kind = c.p < c.end ? *c.p++ : '\0';
    bool is_fine = take_size(&c, &size) && c.p == c.end && size < ROW_BYTES_MAX;
    if (is_fine) ret->type = type_of(ret->kind, size);
    if (!is_fine || ret->type == TENSOR_UNDEFINED) {
        const char *hint = ret->kind == 'O'   ? " (Python objects)"
                           : ret->kind == 'V' ? " (structured)"
                                              : "";
        return error_new(ERROR_INPUT,
                         "%s: element type '%.*s'%s: only bool, int, uint, float and strings are "
                         "read",
                         what, (int)MIN(descr.size, 40), descr.data, hint);
    }
    ret->element_bytes = ret->kind == 'U' ? size * 4 : size;
    ret->is_swapped = order == '>';
    return NULL;
}

static tidemill_error *set_shape(const uint64_t *dims, size_t rank, const char *what,
                                 struct npy_header *ret)
{
    if (rank == 0) return error_new(ERROR_INPUT, "%s: a single value has no rows", what);
    ret->n_rows = dims[0];
    ret->row_shape = (struct shape){.rank = (int32_t)rank - 1};
    size_t bytes = ret->element_bytes;
    for (size_t i = 1; i < rank; i++) {
        ret->row_shape.dims[i - 1] = (int64_t)dims[i];
        if (size_mul(bytes, dims[i], &bytes)) bytes = SIZE_MAX;
        if (bytes > ROW_BYTES_MAX) {
            return error_new(ERROR_INPUT, "%s: a row has more than %zu bytes", what, ROW_BYTES_MAX);
        }
    }
    size_t count;
    if (!shape_count(&ret->row_shape, &count) || count > ROW_BYTES_MAX) {
        return error_new(ERROR_INPUT, "%s: a row has too many elements", what);
    }
    if (bytes == 0) return error_new(ERROR_INPUT, "%s: its rows are empty", what);
    ret->row_bytes = bytes;
    return NULL;
}

tidemill_error *npy_parse_header(const char *text, size_t size, const char *what,
                                 struct npy_header *ret)
{
    struct cursor c = {text, text + size};
    struct slice key, descr = {0};
    uint64_t dims[TENSOR_RANK_MAX + 1];
    size_t rank = SIZE_MAX;
    bool is_fortran = false, is_fine = take(&c, '{');
    *ret = (struct npy_header){0};
    while (is_fine && !take(&c, '}')) {
        is_fine = take_string(&c, &key) && take(&c, ':');
        if (!is_fine) break;
        if (key.size == 5 && memcmp(key.data, "descr", 5) == 0) {
            skip_blanks(&c);
            if (c.p < c.end && *c.p == '[') {
                return error_new(ERROR_INPUT, "%s: structured arrays are not read", what);
            }
            is_fine = take_string(&c, &descr);
        } else if (key.size == 13 && memcmp(key.data, "fortran_order", 13) == 0) {
            is_fortran = take_word(&c, "True");
            is_fine = is_fortran || take_word(&c, "False");
        } else if (key.size == 5 && memcmp(key.data, "shape", 5) == 0) {
            is_fine = take_shape(&c, dims, COUNT_OF(dims), &rank);
        } else {
            is_fine = false;
        }
        if (is_fine && !take(&c, ',')) is_fine = take(&c, '}') && (c.p--, true);
    }
    if (!is_fine || descr.data == NULL || rank == SIZE_MAX) {
        return error_new(ERROR_INPUT, "%s: not a .npy header, or one of more than %d dimensions",
                         what, TENSOR_RANK_MAX + 1);
    }
    TRY(parse_type(descr, what, ret));
    if (is_fortran && rank > 1) {
        return error_new(ERROR_INPUT,
                         "%s: stored in Fortran order, where a row is not in one piece; save it "
                         "with numpy.ascontiguousarray",
                         what);
    }
    return set_shape(dims, rank, what, ret);
}

/* --- the file ---------------------------------------------------------------------------------------- */

static tidemill_error *read_exactly(struct byte_stream *stream, const char *what, void *data,
                                    size_t size)
{
    size_t done = 0, got;
    while (done < size) {
        TRY(stream->read(stream, (char *)data + done, size - done, &got));
        if (got == 0) return error_new(ERROR_INPUT, "%s: ends within the .npy header", what);
        done += got;
    }
    return NULL;
}

tidemill_error *npy_read_header(struct byte_stream *stream, const char *what,
                                struct npy_header *ret)
{
    unsigned char start[12];
    TRY(read_exactly(stream, what, start, 8));
    if (memcmp(start, "\x93NUMPY", 6) != 0) {
        return error_new(ERROR_INPUT, "%s: not a .npy file", what);
    }
    if (start[6] < 1 || start[6] > 3) {
        return error_new(ERROR_INPUT, "%s: .npy version %d is not known", what, start[6]);
    }
    size_t width = start[6] == 1 ? 2 : 4, size = 0;
    TRY(read_exactly(stream, what, start + 8, width));
    for (size_t i = 0; i < width; i++) size |= (size_t)start[8 + i] << (8 * i);
    if (size > HEADER_BYTES_MAX) {
        return error_new(ERROR_INPUT, "%s: the .npy header has %zu bytes", what, size);
    }
    char *text = malloc(size + 1);
    if (text == NULL) return error_memory();
    tidemill_error *error = read_exactly(stream, what, text, size);
    if (error == NULL) error = npy_parse_header(text, size, what, ret);
    free(text);
    return error;
}

/* --- rows -------------------------------------------------------------------------------------------- */

static void swap_elements(unsigned char *row, size_t size, size_t width)
{
    for (size_t at = 0; at + width <= size; at += width) {
        for (size_t i = 0; i < width / 2; i++) {
            unsigned char byte = row[at + i];
            row[at + i] = row[at + width - 1 - i];
            row[at + width - 1 - i] = byte;
        }
    }
}

static bool append_ucs4(struct buffer *out, const unsigned char *text, size_t bytes)
{
    while (bytes >= 4 && memcmp(text + bytes - 4, "\0\0\0\0", 4) == 0) bytes -= 4;
    size_t place = out->size;
    uint32_t length = 0;
    buffer_append(out, &length, sizeof length);
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
        uint32_t code;
        char sequence[4];
        memcpy(&code, text + i, sizeof code);
        if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
        buffer_append(out, sequence, text_put_code_point(sequence, code));
    }
    if (out->is_failed) return true; /* the caller sees it */
    length = (uint32_t)(out->size - place - 4);
    memcpy(out->data + place, &length, sizeof length);
    return true;
}

static bool append_bytes(struct buffer *out, const unsigned char *text, size_t bytes)
{
    while (bytes > 0 && text[bytes - 1] == '\0') bytes--;
    uint32_t length = (uint32_t)bytes;
    buffer_append(out, &length, sizeof length);
    buffer_append(out, text, bytes);
    return text_is_utf8((const char *)text, bytes);
}

enum error_code npy_convert_row(const struct npy_header *header, unsigned char *row,
                                struct buffer *out)
{
    size_t width = header->element_bytes, count = 0;
    bool is_string = header->type == TENSOR_STRING, is_fine = true;
    size_t unit = header->kind == 'U' ? 4 : is_string ? 1 : width;
    if (header->is_swapped && unit > 1) swap_elements(row, header->row_bytes, unit);
    if (!is_string) {
        buffer_append(out, row, header->row_bytes);
        return ERROR_OK;
    }
    (void)shape_count(&header->row_shape, &count);
    for (size_t i = 0; i < count; i++) {
        const unsigned char *element = row + i * width;
        is_fine &= header->kind == 'U' ? append_ucs4(out, element, width)
                                       : append_bytes(out, element, width);
    }
    return is_fine ? ERROR_OK : ERROR_INVALID_UTF8;
}
