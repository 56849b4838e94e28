/* SPDX-License-Identifier: Apache-2.0 */
/* inflate.h - gzip and zstd streams back to plain bytes, a step at a time. Inside this room. */
#ifndef TIDEMILL_IO_INFLATE_H
#define TIDEMILL_IO_INFLATE_H

#include "io/io.h"

struct inflater;

/* What a stream's first (at most four) bytes say: GZIP, ZSTD or NONE. */
enum compression inflater_guess(const unsigned char *magic, size_t size);

/* `compression` is GZIP or ZSTD. */
tidemill_error *inflater_new(enum compression compression, struct inflater **ret);
/* Consumes some of `in`, fills some of `out`. It stops when either is used up or full; a call with
 * no input fetches what had no room before. The message of an error has no path: the reader adds
 * it. */
tidemill_error *inflater_step(struct inflater *inflater, const unsigned char *in, size_t in_size,
                              size_t *ret_consumed, unsigned char *out, size_t out_size,
                              size_t *ret_produced);
/* There is no more input: fine between two members or frames, an error inside one and where there
 * was none at all. */
tidemill_error *inflater_end(const struct inflater *inflater);
void inflater_free(struct inflater *inflater); /* NULL is fine */

#endif
