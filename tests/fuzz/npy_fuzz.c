/* SPDX-License-Identifier: Apache-2.0 */
/* npy_fuzz.c - any bytes as a .npy file and as a .npz archive, read to the end. */
#include "format/source.h"

#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A disk with one file. */
struct memory_file {
    const uint8_t *data;
    size_t size, at;
};

static int memory_open(void *context, const char *path, int flags, mode_t mode)
{
    (void)path, (void)flags, (void)mode;
    ((struct memory_file *)context)->at = 0;
    return 3;
}

static int memory_close(void *context, int fd)
{
    (void)context, (void)fd;
    return 0;
}

static ssize_t memory_pread(void *context, int fd, void *data, size_t size, off_t offset)
{
    struct memory_file *file = context;
    (void)fd;
    if (offset < 0 || (size_t)offset >= file->size) return 0;
    size_t part = MIN(size, file->size - (size_t)offset);
    memcpy(data, file->data + offset, part);
    return (ssize_t)part;
}

static ssize_t memory_read(void *context, int fd, void *data, size_t size)
{
    struct memory_file *file = context;
    ssize_t part = memory_pread(context, fd, data, size, (off_t)file->at);
    file->at += (size_t)part;
    return part;
}

static int memory_fstat(void *context, int fd, struct stat *status)
{
    (void)fd;
    *status = (struct stat){0};
    status->st_mode = S_IFREG | 0600;
    status->st_size = (off_t)((struct memory_file *)context)->size;
    return 0;
}

static int memory_stat(void *context, const char *path, struct stat *status)
{
    (void)path;
    return memory_fstat(context, 3, status);
}

static void read_all(const struct io *io, enum format format)
{
    const char *path = "input";
    struct source_config config = {
        .paths = &path,
        .n_paths = 1,
        .format = format,
        .compression = COMPRESSION_NONE,
        .record_bytes_max = 1 << 16,
        .chunk_bytes = 1 << 16,
        .chunk_rows = 64,
    };
    struct source *source = NULL;
    struct raw_chunk chunk = {0};
    tidemill_error *error = source_open(io, &config, NULL, &source);
    for (int i = 0; error == NULL && i < 64 && !chunk.is_last; i++) {
        error = source_read_chunk(source, &chunk);
    }
    error_free(error);
    raw_chunk_free(&chunk);
    source_close(source);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct memory_file file = {.data = data, .size = size};
    struct io io = {
        .context = &file,
        .open = memory_open,
        .close = memory_close,
        .read = memory_read,
        .pread = memory_pread,
        .fstat = memory_fstat,
        .stat = memory_stat,
    };
    read_all(&io, FORMAT_NPY);
    read_all(&io, FORMAT_NPZ);
    return 0;
}
