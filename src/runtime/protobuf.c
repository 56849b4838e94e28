/* SPDX-License-Identifier: Apache-2.0 */
/* protobuf.c - fields of protocol buffers out of memory and into a buffer. */
#include "runtime/protobuf.h"

#define LENGTH_BYTES                                                                               \
    5 /* of a message written in place: padded, as its size is not known at first */

struct pb_reader pb_read(struct slice message)
{
    return (struct pb_reader){
        .at = message.data, .end = message.size == 0 ? message.data : message.data + message.size};
}

static bool read_varint(struct pb_reader *reader, uint64_t *ret)
{
    *ret = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (reader->at == reader->end) return false;
        unsigned char byte = (unsigned char)*reader->at++;
        *ret |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) return true;
    }
    return false;
}

/* The content, at reader->at, of a field whose key has been read. */
static bool read_content(struct pb_reader *reader, struct pb_field *ret)
{
    uint64_t length;
    const char *start = reader->at;
    switch (ret->wire) {
    case PB_VARINT:
        if (!read_varint(reader, &ret->value)) return false;
        ret->bytes = (struct slice){start, (size_t)(reader->at - start)};
        return true;
    case PB_FIXED64: length = 8; break;
    case PB_FIXED32: length = 4; break;
    case PB_BYTES:
        if (!read_varint(reader, &length)) return false;
        break;
    default: return false; /* groups are not in ONNX */
    }
    if (length > (uint64_t)(reader->end - reader->at)) return false;
    ret->bytes = (struct slice){reader->at, (size_t)length};
    reader->at += length;
    return true;
}

bool pb_next(struct pb_reader *reader, struct pb_field *ret)
{
    uint64_t key;
    const char *start = reader->at;
    if (reader->is_broken || reader->at == reader->end) return false;
    *ret = (struct pb_field){0};
    if (!read_varint(reader, &key)) {
        reader->is_broken = true;
        return false;
    }
    ret->number = key >> 3;
    ret->wire = (enum pb_wire)(key & 7);
    if (ret->number == 0 || !read_content(reader, ret)) {
        reader->is_broken = true;
        return false;
    }
    ret->whole = (struct slice){start, (size_t)(reader->at - start)};
    return true;
}

static void put_varint(struct buffer *out, uint64_t value)
{
    for (; value >= 0x80; value >>= 7) buffer_byte(out, (char)(value | 0x80));
    buffer_byte(out, (char)value);
}

void pb_put_number(struct buffer *out, uint32_t field, uint64_t value)
{
    put_varint(out, (uint64_t)field << 3 | PB_VARINT);
    put_varint(out, value);
}

void pb_put_bytes(struct buffer *out, uint32_t field, struct slice bytes)
{
    put_varint(out, (uint64_t)field << 3 | PB_BYTES);
    put_varint(out, bytes.size);
    buffer_append(out, bytes.data, bytes.size);
}

void pb_put_text(struct buffer *out, uint32_t field, const char *text)
{
    pb_put_bytes(out, field, slice_of(text));
}

void pb_put_raw(struct buffer *out, struct slice bytes)
{
    buffer_append(out, bytes.data, bytes.size);
}

size_t pb_begin(struct buffer *out, uint32_t field)
{
    static const char room[LENGTH_BYTES] = {0};
    put_varint(out, (uint64_t)field << 3 | PB_BYTES);
    buffer_append(out, room, sizeof room);
    return out->size;
}

void pb_end(struct buffer *out, size_t start)
{
    if (out->is_failed) return; /* the room may not be there */
    size_t length = out->size - start;
    unsigned char *place = (unsigned char *)out->data + start - LENGTH_BYTES;
    for (int i = 0; i < LENGTH_BYTES; i++, length >>= 7)
        place[i] = (unsigned char)((length & 0x7f) | (i + 1 < LENGTH_BYTES ? 0x80 : 0));
}
