/* SPDX-License-Identifier: Apache-2.0 */
/* protobuf.h - protocol buffers on the wire, as far as ONNX files need them: fields read one by one out
 * of bytes in memory, fields appended to a buffer. (protobuf.dev/programming-guides/encoding)
 *
 * Reading trusts nothing: a length that leads out of the message ends the walk with `is_broken`. It
 * does not recurse; a message inside is a slice that the caller walks in turn. */
#ifndef TIDEMILL_RUNTIME_PROTOBUF_H
#define TIDEMILL_RUNTIME_PROTOBUF_H

#include "base/base.h"

enum pb_wire { PB_VARINT = 0, PB_FIXED64 = 1, PB_BYTES = 2, PB_FIXED32 = 5 };

struct pb_field {
    uint64_t number;
    enum pb_wire wire;
    uint64_t value;     /* of a VARINT */
    struct slice bytes; /* the content; of a VARINT its encoding */
    struct slice whole; /* key and content, to be copied as it is */
};

struct pb_reader {
    const char *at, *end;
    bool is_broken;
};

struct pb_reader pb_read(struct slice message);
/* The next field. False: no more, or is_broken was set. */
bool pb_next(struct pb_reader *reader, struct pb_field *ret);

void pb_put_number(struct buffer *out, uint32_t field, uint64_t value);
void pb_put_bytes(struct buffer *out, uint32_t field, struct slice bytes);
void pb_put_text(struct buffer *out, uint32_t field, const char *text);
void pb_put_raw(struct buffer *out, struct slice bytes); /* fields already encoded */

/* A message inside, written in place: what is put between the two belongs to it. At most 32 GiB. */
size_t pb_begin(struct buffer *out, uint32_t field);
void pb_end(struct buffer *out, size_t start);

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline struct slice slice_of(const char *text)
{
    return (struct slice){text, strlen(text)};
}

#endif
