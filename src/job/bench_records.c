/* SPDX-License-Identifier: Apache-2.0 */
/* bench_records.c - records made from a model's signature, for measuring without any. */
#include "job/bench.h"

#include "format/encode.h"

#include <string.h>

/* Numbers of one record at most. */
#define NUMBERS_MAX ((size_t)1 << 22)

/* splitmix64: the same numbers at every time. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void append_element(const struct value_spec *spec, uint64_t *state, struct buffer *out)
{
    uint64_t random = next_random(state);
    switch (spec->type) {
    case TENSOR_STRING: buffer_text(out, "\"text\""); return;
    case TENSOR_BOOL: buffer_text(out, "true"); return;
    case TENSOR_INT8:
    case TENSOR_UINT8:
    case TENSOR_INT16:
    case TENSOR_UINT16:
    case TENSOR_INT32:
    case TENSOR_UINT32:
    case TENSOR_INT64:
    case TENSOR_UINT64: break;
    default: buffer_printf(out, "0.%03u", (unsigned)(random % 1000)); return;
    }
    if (strstr(spec->name, "mask") != NULL)
        buffer_byte(out, '1');
    else if (strstr(spec->name, "token_type") != NULL)
        buffer_byte(out, '0');
    else
        buffer_printf(out, "%u",
                      (unsigned)(1 + random % (tensor_type_bits(spec->type) < 16 ? 99 : 999)));
}

/* Nested arrays of the shape, from dimension `d` on. */
static void append_array(const struct value_spec *spec, const struct shape *row, int32_t d,
                         uint64_t *state, struct buffer *out)
{
    if (d == row->rank) {
        append_element(spec, state, out);
        return;
    }
    buffer_byte(out, '[');
    for (int64_t i = 0; i < row->dims[d]; i++) {
        if (i > 0) buffer_byte(out, ',');
        append_array(spec, row, d + 1, state, out);
    }
    buffer_byte(out, ']');
}

/* The row's shape with every unknown dimension of that length. */
static tidemill_error *shape_of(const struct value_spec *spec, bool is_batched, uint32_t length,
                                struct shape *ret)
{
    size_t count;
    if (spec->is_json)
        return error_new(ERROR_USAGE, "requests to a model that takes JSON cannot be made up; give "
                                      "some with --input");
    if (spec->kind != VALUE_TENSOR || spec->shape.rank < 0)
        return error_new(ERROR_UNSUPPORTED,
                         "no records can be made for input '%s', which has no declared shape; give "
                         "some with --input",
                         spec->name);
    *ret = value_row_shape(spec, is_batched);
    for (int32_t d = 0; d < ret->rank; d++)
        if (ret->dims[d] < 0) ret->dims[d] = length;
    if (shape_count(ret, &count) && count <= NUMBERS_MAX) return NULL;
    return error_new(
        ERROR_UNSUPPORTED,
        "a record with dimensions of length %u is too large to be made for input '%s'; "
        "give records with --input, or smaller --lengths",
        length, spec->name);
}

static tidemill_error *append_record(const struct model_signature *signature, uint32_t length,
                                     uint64_t *state, struct buffer *out)
{
    for (size_t i = 0; i < signature->n_inputs; i++) {
        const struct value_spec *spec = &signature->inputs[i];
        struct shape row;
        TRY(shape_of(spec, signature->is_batched, length, &row));
        buffer_byte(out, i == 0 ? '{' : ',');
        format_json_string(out, spec->name, strlen(spec->name));
        buffer_byte(out, ':');
        append_array(spec, &row, 0, state, out);
    }
    buffer_text(out, signature->n_inputs == 0 ? "{}\n" : "}\n");
    return NULL;
}

tidemill_error *bench_records(const struct model_signature *signature, const uint32_t *lengths,
                              size_t n_lengths, uint32_t n, struct buffer *out)
{
    uint64_t state = 1;
    for (size_t i = 0; i < n_lengths; i++)
        for (uint32_t k = 0; k < n; k++) TRY(append_record(signature, lengths[i], &state, out));
    return out->is_failed ? error_memory() : NULL;
}
