/* SPDX-License-Identifier: Apache-2.0 */
/* compress.c - gzip members by zlib and frames by libzstd, one block at a time, in memory.
 *
 * Both formats carry a checksum of the plain bytes, so that a reader notices bit rot. */
#include "io/compress.h"

#include <assert.h>
#include <stdlib.h>

#include <zlib.h>
#include <zstd.h>

#define GZIP_WINDOW_BITS (15 + 16) /* the largest window, gzip header and trailer */
#define GZIP_OS_UNKNOWN 255
#define GZIP_HEADER_BYTES ((size_t)32) /* header and trailer, with some room */
#define GZIP_MEMORY_LEVEL 8            /* zlib's default */
#define ZSTD_LEVEL 3

struct compressor {
    enum compression compression;
    size_t block_bytes_max;
    z_stream gzip;
    gz_header gzip_header;
    bool is_gzip_ready;
    ZSTD_CCtx *zstd;
    unsigned char *frame;
    size_t frame_capacity;
};

static tidemill_error *open_gzip(struct compressor *compressor)
{
    int status = deflateInit2(&compressor->gzip, Z_DEFAULT_COMPRESSION, Z_DEFLATED,
                              GZIP_WINDOW_BITS, GZIP_MEMORY_LEVEL, Z_DEFAULT_STRATEGY);
    if (status == Z_MEM_ERROR) return error_memory();
    if (status != Z_OK) return error_new(ERROR_UNSUPPORTED, "zlib does not start (%d)", status);
    compressor->is_gzip_ready = true;
    compressor->gzip_header = (gz_header){.time = 0, .os = GZIP_OS_UNKNOWN};
    compressor->frame_capacity =
        deflateBound(&compressor->gzip, compressor->block_bytes_max) + GZIP_HEADER_BYTES;
    return NULL;
}

static tidemill_error *open_zstd(struct compressor *compressor)
{
    compressor->zstd = ZSTD_createCCtx();
    if (compressor->zstd == NULL) return error_memory();
    size_t status = ZSTD_CCtx_setParameter(compressor->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL);
    if (!ZSTD_isError(status)) {
        status = ZSTD_CCtx_setParameter(compressor->zstd, ZSTD_c_checksumFlag, 1);
    }
    if (ZSTD_isError(status)) {
        return error_new(ERROR_UNSUPPORTED, "zstd does not start: %s", ZSTD_getErrorName(status));
    }
    compressor->frame_capacity = ZSTD_compressBound(compressor->block_bytes_max);
    return NULL;
}

tidemill_error *compressor_new(enum compression compression, size_t block_bytes_max,
                               struct compressor **ret)
{
    assert(compression == COMPRESSION_GZIP || compression == COMPRESSION_ZSTD);
    struct compressor *compressor = calloc(1, sizeof *compressor);
    if (compressor == NULL) return error_memory();
    compressor->compression = compression;
    compressor->block_bytes_max = block_bytes_max;
    tidemill_error *error =
        compression == COMPRESSION_GZIP ? open_gzip(compressor) : open_zstd(compressor);
    if (error == NULL) {
        compressor->frame = malloc(compressor->frame_capacity);
        if (compressor->frame == NULL) error = error_memory();
    }
    if (error != NULL) {
        compressor_free(compressor);
        return error;
    }
    *ret = compressor;
    return NULL;
}

static tidemill_error *make_gzip(struct compressor *compressor, const void *data, size_t size,
                                 size_t *ret_size)
{
    z_stream *stream = &compressor->gzip;
    if (deflateReset(stream) != Z_OK ||
        deflateSetHeader(stream, &compressor->gzip_header) != Z_OK) {
        return error_new(ERROR_INTERNAL, "zlib refuses to start a gzip member");
    }
    stream->next_in = (Bytef *)(uintptr_t)data; /* zlib reads it only, without saying so */
    stream->avail_in = (uInt)size;
    stream->next_out = compressor->frame;
    stream->avail_out = (uInt)compressor->frame_capacity;
    int status = deflate(stream, Z_FINISH);
    if (status != Z_STREAM_END) {
        return error_new(ERROR_INTERNAL, "zlib cannot compress a block (%d)", status);
    }
    *ret_size = compressor->frame_capacity - stream->avail_out;
    return NULL;
}

tidemill_error *compressor_frame(struct compressor *compressor, const void *data, size_t size,
                                 struct slice *ret_frame)
{
    assert(size <= compressor->block_bytes_max);
    size_t frame_size = 0;
    if (compressor->compression == COMPRESSION_GZIP) {
        TRY(make_gzip(compressor, data, size, &frame_size));
    } else {
        frame_size = ZSTD_compress2(compressor->zstd, compressor->frame, compressor->frame_capacity,
                                    data, size);
        if (ZSTD_isError(frame_size)) {
            return error_new(ERROR_INTERNAL, "zstd cannot compress a block: %s",
                             ZSTD_getErrorName(frame_size));
        }
    }
    *ret_frame = (struct slice){.data = (const char *)compressor->frame, .size = frame_size};
    return NULL;
}

void compressor_free(struct compressor *compressor)
{
    if (compressor == NULL) return;
    if (compressor->is_gzip_ready) deflateEnd(&compressor->gzip);
    ZSTD_freeCCtx(compressor->zstd);
    free(compressor->frame);
    free(compressor);
}
