/* SPDX-License-Identifier: Apache-2.0 */
/* onnx_file.c - looks at a model file before the library does: is it there, whole, and ONNX at all?
 *
 * An ONNX file is a protobuf message, ModelProto. The walk goes over the fields of the message and of
 * its graph by their lengths, so it costs little whatever the size of the weights. It reads with
 * pread: a file that shrinks meanwhile gives an error, not SIGBUS. Field numbers are from onnx.proto. */
#include "runtime/onnx_file.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MODEL_GRAPH = 7 };
enum { GRAPH_INPUT = 11, GRAPH_OUTPUT = 12 };
enum { VALUE_INFO_NAME = 1, VALUE_INFO_TYPE = 2 };
enum { TYPE_TENSOR = 1 };
enum { TENSOR_TYPE_SHAPE = 2 };
enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

#define WINDOW_BYTES 4096

struct file {
    int fd;
    uint64_t size;
    uint64_t window_at;
    size_t window_size;
    unsigned char window[WINDOW_BYTES];
};

/* A part of the file that is one message. */
struct range {
    uint64_t at, end;
};

struct field {
    uint64_t number;
    unsigned wire;
    struct range content;
};

enum walk { WALK_FIELD, WALK_END, WALK_CUT, WALK_BROKEN };

static bool read_byte(struct file *file, uint64_t at, unsigned char *ret)
{
    if (at < file->window_at || at - file->window_at >= file->window_size) {
        ssize_t size = pread(file->fd, file->window, sizeof file->window, (off_t)at);
        if (size <= 0) return false;
        file->window_at = at;
        file->window_size = (size_t)size;
    }
    *ret = file->window[at - file->window_at];
    return true;
}

static bool read_varint(struct file *file, struct range *range, uint64_t *ret)
{
    *ret = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        unsigned char byte;
        if (range->at >= range->end || !read_byte(file, range->at, &byte)) return false;
        range->at++;
        *ret |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) return true;
    }
    return false;
}

/* The next field of the message; *range goes behind it. */
static enum walk next_field(struct file *file, struct range *range, struct field *ret)
{
    uint64_t key, length;
    if (range->at >= range->end) return WALK_END;
    if (!read_varint(file, range, &key)) return WALK_CUT;
    ret->number = key >> 3;
    ret->wire = (unsigned)(key & 7);
    if (ret->number == 0) return WALK_BROKEN;
    switch (ret->wire) {
    case WIRE_VARINT:
        ret->content = *range;
        return read_varint(file, range, &length) ? WALK_FIELD : WALK_CUT;
    case WIRE_FIXED64: length = 8; break;
    case WIRE_FIXED32: length = 4; break;
    case WIRE_BYTES:
        if (!read_varint(file, range, &length)) return WALK_CUT;
        break;
    default: return WALK_BROKEN;
    }
    if (length > range->end - range->at) return WALK_CUT;
    ret->content = (struct range){range->at, range->at + length};
    range->at += length;
    return WALK_FIELD;
}

static bool find_field(struct file *file, struct range range, uint64_t number, struct range *ret)
{
    struct field field;
    while (next_field(file, &range, &field) == WALK_FIELD)
        if (field.number == number && field.wire == WIRE_BYTES) {
            *ret = field.content;
            return true;
        }
    return false;
}

static tidemill_error *open_file(const char *path, struct file *ret)
{
    struct stat status;
    ret->window_at = ret->window_size = 0;
    ret->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO is not waited for */
    if (ret->fd < 0)
        return error_errno(ERROR_MODEL_LOAD, errno, "cannot open the model '%s'", path);
    tidemill_error *error = NULL;
    if (fstat(ret->fd, &status) != 0)
        error = error_errno(ERROR_MODEL_LOAD, errno, "cannot open the model '%s'", path);
    else if (S_ISDIR(status.st_mode))
        error = error_new(ERROR_MODEL_LOAD, "the model '%s' is a folder, not a .onnx file", path);
    else if (!S_ISREG(status.st_mode))
        error = error_new(ERROR_MODEL_LOAD, "the model '%s' is not a regular file", path);
    else if (status.st_size == 0)
        error = error_new(ERROR_MODEL_LOAD, "the model '%s' is empty", path);
    ret->size = (uint64_t)status.st_size;
    if (error != NULL) close(ret->fd);
    return error;
}

/* What it is instead, by its first bytes; NULL: may be ONNX. */
static const char *other_kind(const unsigned char *bytes, size_t size)
{
    static const struct {
        const char *magic;
        size_t size;
        const char *kind;
    } kinds[] = {
        {"version https://git-lfs", 23,
         "it is a Git LFS pointer: fetch the model itself with `git lfs pull`"},
        {"PK\003\004", 4, "it is a zip archive, perhaps a PyTorch checkpoint: export it to ONNX"},
        {"\x80\x02", 2, "it is a Python pickle: export it to ONNX"},
        {"\x89HDF", 4, "it is an HDF5 file: export it to ONNX"},
        {"GGUF", 4, "it is a GGUF model"},
        {"\x1f\x8b", 2, "it is compressed with gzip"},
        {"<!DOCTYPE", 9, "it is a web page"},
        {"<html", 5, "it is a web page"},
    };
    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        if (size >= kinds[i].size && memcmp(bytes, kinds[i].magic, kinds[i].size) == 0)
            return kinds[i].kind;
    for (size_t i = 0; i < size; i++)
        if (!isprint(bytes[i]) && bytes[i] != '\n' && bytes[i] != '\r' && bytes[i] != '\t')
            return NULL;
    return "its first bytes are text";
}

static tidemill_error *check_content(const char *path, struct file *file)
{
    unsigned char head[64];
    ssize_t size = pread(file->fd, head, sizeof head, 0);
    if (size < 0) return error_errno(ERROR_MODEL_LOAD, errno, "cannot read the model '%s'", path);
    /* ONNX Runtime's own format, a flatbuffer, is left to the library. */
    if (size >= 8 && memcmp(head + 4, "ORTM", 4) == 0) return NULL;
    const char *kind = other_kind(head, (size_t)size);
    if (kind != NULL)
        return error_new(ERROR_MODEL_LOAD, "'%s' is not an ONNX model: %s", path, kind);

    struct range range = {0, file->size};
    struct field field;
    bool has_graph = false;
    enum walk walk;
    while ((walk = next_field(file, &range, &field)) == WALK_FIELD)
        has_graph = has_graph || (field.number == MODEL_GRAPH && field.wire == WIRE_BYTES);
    if (walk == WALK_BROKEN || (walk == WALK_END && !has_graph))
        return error_new(ERROR_MODEL_LOAD, "'%s' is not an ONNX model, or is broken", path);
    if (walk == WALK_CUT)
        return error_new(ERROR_MODEL_LOAD,
                         "the model '%s' is cut off or broken: it ends after %llu bytes in the "
                         "middle of a field",
                         path, (unsigned long long)file->size);
    return NULL;
}

tidemill_error *model_check_file(const char *path)
{
    if (model_is_echo(path)) return NULL;
    struct file *file = malloc(sizeof *file);
    if (file == NULL) return error_memory();
    tidemill_error *error = open_file(path, file);
    if (error == NULL) {
        error = check_content(path, file);
        close(file->fd);
    }
    free(file);
    return error;
}

/* Declared shapes. */

static bool read_name(struct file *file, struct range range, char *name, size_t size)
{
    size_t length = 0;
    if (range.end - range.at >= size) return false;
    while (range.at < range.end)
        if (!read_byte(file, range.at++, (unsigned char *)&name[length++])) return false;
    name[length] = '\0';
    return true;
}

static void mark_value(struct file *file, struct range range, struct value_spec *specs,
                       size_t count)
{
    char name[WIRE_NAME_BYTES_MAX];
    struct range part, type, tensor, shape;
    if (!find_field(file, range, VALUE_INFO_NAME, &part) ||
        !read_name(file, part, name, sizeof name))
        return;
    if (find_field(file, range, VALUE_INFO_TYPE, &type)) {
        if (!find_field(file, type, TYPE_TENSOR, &tensor)) return;
        if (find_field(file, tensor, TENSOR_TYPE_SHAPE, &shape)) return;
    }
    for (size_t i = 0; i < count; i++)
        if (specs[i].kind == VALUE_TENSOR && specs[i].shape.rank == 0 &&
            strcmp(specs[i].name, name) == 0)
            specs[i].shape.rank = -1;
}

void onnx_file_mark_undeclared(const char *path, struct model_signature *signature)
{
    struct file *file = malloc(sizeof *file);
    if (file == NULL) return;
    tidemill_error *error = open_file(path, file);
    struct range graph;
    if (error == NULL && find_field(file, (struct range){0, file->size}, MODEL_GRAPH, &graph)) {
        struct field field;
        while (next_field(file, &graph, &field) == WALK_FIELD) {
            if (field.number == GRAPH_INPUT)
                mark_value(file, field.content, signature->inputs, signature->n_inputs);
            if (field.number == GRAPH_OUTPUT)
                mark_value(file, field.content, signature->outputs, signature->n_outputs);
        }
    }
    if (error == NULL) close(file->fd);
    error_free(error);
    free(file);
}

/* The bytes. */

static tidemill_error *read_whole(const char *path, const struct file *file, char *bytes)
{
    size_t at = 0, size = (size_t)file->size;
    while (at < size) {
        ssize_t part = pread(file->fd, bytes + at, size - at, (off_t)at);
        if (part < 0 && errno == EINTR) continue;
        if (part < 0)
            return error_errno(ERROR_MODEL_LOAD, errno, "cannot read the model '%s'", path);
        if (part == 0) return error_new(ERROR_MODEL_LOAD, "the model '%s' became shorter", path);
        at += (size_t)part;
    }
    if (size >= 8 && memcmp(bytes + 4, "ORTM", 4) == 0)
        return error_new(ERROR_USAGE,
                         "'%s' is in ONNX Runtime's own format, which cannot be changed any more; "
                         "give the .onnx file that it was made from",
                         path);
    return NULL;
}

tidemill_error *onnx_file_read(const char *path, char **ret, size_t *ret_size)
{
    struct file *file = malloc(sizeof *file);
    if (file == NULL) return error_memory();
    tidemill_error *error = open_file(path, file);
    if (error != NULL) {
        free(file);
        return error;
    }
    *ret_size = (size_t)file->size;
    *ret = file->size <= INT32_MAX ? malloc(*ret_size) : NULL;
    error = file->size > INT32_MAX
                ? error_new(ERROR_MODEL_LOAD, "the model '%s' is larger than 2 GiB", path)
            : *ret == NULL ? error_memory()
                           : read_whole(path, file, *ret);
    if (error != NULL) {
        free(*ret);
        *ret = NULL;
    }
    close(file->fd);
    free(file);
    return error;
}
