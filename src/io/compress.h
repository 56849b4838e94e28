/* SPDX-License-Identifier: Apache-2.0 */
/* compress.h - one block of plain bytes as one gzip member or one zstd frame. Inside this room.
 *
 * The same block gives the same bytes, whenever and wherever (with the same version of zlib or
 * libzstd): no time, no name, no operating system in the header. */
#ifndef TIDEMILL_IO_COMPRESS_H
#define TIDEMILL_IO_COMPRESS_H

#include "io/io.h"

struct compressor;

/* `compression` is GZIP or ZSTD; blocks have at most `block_bytes_max` bytes. */
tidemill_error *compressor_new(enum compression compression, size_t block_bytes_max,
                               struct compressor **ret);
/* *ret_frame is valid until the next call. An empty block gives a valid empty frame. */
tidemill_error *compressor_frame(struct compressor *compressor, const void *data, size_t size,
                                 struct slice *ret_frame);
void compressor_free(struct compressor *compressor); /* NULL is fine */

#endif
