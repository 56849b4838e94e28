/* SPDX-License-Identifier: Apache-2.0 */
/* inflate.c - decoders of gzip (zlib) and zstd streams made of one or more members or frames.
 *
 * Strict: every checksum is verified, what follows the last member must be another member, and a
 * stream that ends inside one is cut. A window is at most 2^27 bytes (128 MiB), so a hostile header
 * cannot make us reserve gigabytes. */
#include "io/inflate.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>

#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#define GZIP_WINDOW_BITS (15 + 16) /* the largest window, a gzip header required */
#define ZSTD_WINDOW_LOG_MAX 27

struct inflater {
    enum compression compression;
    bool is_begun;     /* a first byte has come */
    bool is_in_member; /* and its member or frame has not ended */
    bool is_first_member;
    bool is_gzip_ready;
    z_stream gzip;
    ZSTD_DCtx *zstd;
};

static const char *stream_name(const struct inflater *inflater)
{
    return inflater->compression == COMPRESSION_GZIP ? "gzip" : "zstd";
}

enum compression inflater_guess(const unsigned char *magic, size_t size)
{
    if (size >= 3 && magic[0] == 0x1f && magic[1] == 0x8b && magic[2] == 8) return COMPRESSION_GZIP;
    if (size < 4) return COMPRESSION_NONE;
    bool is_frame = magic[0] == 0x28 && magic[1] == 0xb5 && magic[2] == 0x2f && magic[3] == 0xfd;
    bool is_skippable =
        (magic[0] & 0xf0) == 0x50 && magic[1] == 0x2a && magic[2] == 0x4d && magic[3] == 0x18;
    return is_frame || is_skippable ? COMPRESSION_ZSTD : COMPRESSION_NONE;
}

static tidemill_error *open_gzip(struct inflater *inflater)
{
    int status = inflateInit2(&inflater->gzip, GZIP_WINDOW_BITS);
    if (status == Z_MEM_ERROR) return error_memory();
    if (status != Z_OK) return error_new(ERROR_UNSUPPORTED, "zlib does not start (%d)", status);
    inflater->is_gzip_ready = true;
    return NULL;
}

static tidemill_error *open_zstd(struct inflater *inflater)
{
    inflater->zstd = ZSTD_createDCtx();
    if (inflater->zstd == NULL) return error_memory();
    size_t status =
        ZSTD_DCtx_setParameter(inflater->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
    if (!ZSTD_isError(status)) return NULL;
    return error_new(ERROR_UNSUPPORTED, "zstd does not start: %s", ZSTD_getErrorName(status));
}

tidemill_error *inflater_new(enum compression compression, struct inflater **ret)
{
    assert(compression == COMPRESSION_GZIP || compression == COMPRESSION_ZSTD);
    struct inflater *inflater = calloc(1, sizeof *inflater);
    if (inflater == NULL) return error_memory();
    inflater->compression = compression;
    inflater->is_first_member = true;
    tidemill_error *error =
        compression == COMPRESSION_GZIP ? open_gzip(inflater) : open_zstd(inflater);
    if (error != NULL) {
        inflater_free(inflater);
        return error;
    }
    *ret = inflater;
    return NULL;
}

static tidemill_error *describe_gzip(const struct inflater *inflater, bool is_at_start)
{
    if (is_at_start && inflater->is_first_member) {
        return error_new(ERROR_INPUT, "this is no gzip stream; rename it or make it anew");
    }
    if (is_at_start) {
        return error_new(ERROR_INPUT, "something else follows the gzip stream; make it anew");
    }
    return error_new(ERROR_INPUT, "the gzip stream is broken (%s); make it anew",
                     inflater->gzip.msg != NULL ? inflater->gzip.msg : "unknown fault");
}

static tidemill_error *step_gzip(struct inflater *inflater, const unsigned char *in, size_t in_size,
                                 size_t *ret_consumed, unsigned char *out, size_t out_size,
                                 size_t *ret_produced)
{
    z_stream *stream = &inflater->gzip;
    uInt in_step = (uInt)MIN(in_size, (size_t)INT_MAX);
    uInt out_step = (uInt)MIN(out_size, (size_t)INT_MAX);
    stream->next_in = (Bytef *)(uintptr_t)in; /* zlib reads it only, without saying so */
    stream->avail_in = in_step;
    stream->next_out = out;
    stream->avail_out = out_step;
    /* The header's check fails within its first bytes, before anything came out. */
    bool is_at_start = !inflater->is_in_member || stream->total_in < 2;
    int status = inflate(stream, Z_NO_FLUSH);
    *ret_consumed = in_step - stream->avail_in;
    *ret_produced = out_step - stream->avail_out;
    if (*ret_consumed > 0) inflater->is_in_member = true;
    switch (status) {
    case Z_OK:
    case Z_BUF_ERROR: /* no input or no room: not an error of the stream */ return NULL;
    case Z_STREAM_END:
        inflater->is_in_member = false;
        inflater->is_first_member = false;
        return inflateReset(stream) == Z_OK ? NULL
                                            : error_new(ERROR_INTERNAL, "zlib does not start anew");
    case Z_MEM_ERROR: return error_memory();
    default:
        return describe_gzip(inflater,
                             is_at_start && stream->total_out == 0 && stream->total_in <= 2);
    }
}

static tidemill_error *describe_zstd(const struct inflater *inflater, size_t status)
{
    switch (ZSTD_getErrorCode(status)) {
    case ZSTD_error_memory_allocation: return error_memory();
    case ZSTD_error_frameParameter_windowTooLarge:
        return error_new(ERROR_INPUT,
                         "the zstd stream needs a window of more than 128 MiB; make it anew "
                         "without --long or --ultra");
    case ZSTD_error_prefix_unknown:
        if (inflater->is_first_member) {
            return error_new(ERROR_INPUT, "this is no zstd stream; rename it or make it anew");
        }
        return error_new(ERROR_INPUT, "something else follows the zstd stream; make it anew");
    default:
        return error_new(ERROR_INPUT, "the zstd stream is broken (%s); make it anew",
                         ZSTD_getErrorName(status));
    }
}

static tidemill_error *step_zstd(struct inflater *inflater, const unsigned char *in, size_t in_size,
                                 size_t *ret_consumed, unsigned char *out, size_t out_size,
                                 size_t *ret_produced)
{
    ZSTD_inBuffer input = {.src = in, .size = in_size};
    ZSTD_outBuffer output = {.dst = out, .size = out_size};
    size_t status = ZSTD_decompressStream(inflater->zstd, &output, &input);
    *ret_consumed = input.pos;
    *ret_produced = output.pos;
    if (ZSTD_isError(status)) return describe_zstd(inflater, status);
    /* Without progress the answer says nothing: between frames it asks for the next header. */
    if (input.pos == 0 && output.pos == 0) return NULL;
    inflater->is_in_member = status != 0;
    if (status == 0) inflater->is_first_member = false;
    return NULL;
}

tidemill_error *inflater_step(struct inflater *inflater, const unsigned char *in, size_t in_size,
                              size_t *ret_consumed, unsigned char *out, size_t out_size,
                              size_t *ret_produced)
{
    if (in_size > 0) inflater->is_begun = true;
    return inflater->compression == COMPRESSION_GZIP
               ? step_gzip(inflater, in, in_size, ret_consumed, out, out_size, ret_produced)
               : step_zstd(inflater, in, in_size, ret_consumed, out, out_size, ret_produced);
}

tidemill_error *inflater_end(const struct inflater *inflater)
{
    if (!inflater->is_begun) {
        return error_new(ERROR_INPUT, "the file is empty, which no %s stream is",
                         stream_name(inflater));
    }
    if (!inflater->is_in_member) return NULL;
    return error_new(ERROR_INPUT,
                     "the %s stream is cut: it ends in the middle; copy or make it anew",
                     stream_name(inflater));
}

void inflater_free(struct inflater *inflater)
{
    if (inflater == NULL) return;
    if (inflater->is_gzip_ready) inflateEnd(&inflater->gzip);
    ZSTD_freeDCtx(inflater->zstd);
    free(inflater);
}
