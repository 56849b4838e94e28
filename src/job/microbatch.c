/* SPDX-License-Identifier: Apache-2.0 */
/* microbatch.c - rows into the tensors of one call, and a call's answers into output bytes. */
#include "job/pipeline.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* A slot keeps this much memory between answers. */
#define OUTPUT_BYTES_KEPT ((size_t)16 << 20)

static const struct record_input *row_input(const struct microbatch *mb, uint32_t place, size_t i)
{
    return &mb->chunk->records[mb->rows[place]].decoded.inputs[i];
}

/* Whether the rows' data lies side by side, in order and needs no padding, for input i; *ret_bytes is
 * their sum. */
static bool is_contiguous(const struct microbatch *mb, size_t i, size_t *ret_bytes)
{
    const struct record_input *first = row_input(mb, 0, i);
    size_t next = first->offset, total = 0;
    bool is_side_by_side = true, is_padded = mb->chunk->padding->inputs[i].is_padded;
    for (uint32_t r = 0; r < mb->n_rows; r++) {
        const struct record_input *input = row_input(mb, r, i);
        is_side_by_side &= input->offset == next && (!is_padded || input->bytes == first->bytes);
        next = input->offset + input->bytes;
        total += input->bytes;
    }
    *ret_bytes = total;
    return is_side_by_side;
}

/* The longest row's shape of input i. */
static struct shape longest_shape(const struct microbatch *mb, size_t i)
{
    const struct input_padding *padding = &mb->chunk->padding->inputs[i];
    struct shape shape = row_input(mb, 0, i)->shape;
    for (uint32_t r = 1; padding->is_padded && r < mb->n_rows; r++)
        shape.dims[padding->dim] =
            MAX(shape.dims[padding->dim], row_input(mb, r, i)->shape.dims[padding->dim]);
    return shape;
}

static unsigned char *fill(unsigned char *out, const struct input_padding *padding, size_t count)
{
    for (size_t k = 0; k < count; k++, out += padding->element_bytes)
        memcpy(out, padding->element, padding->element_bytes);
    return out;
}

/* One row, its varying dimension made as long as `shape` says. `out` has room for that. */
static void copy_padded(const struct record_input *input, const struct shape *shape,
                        const unsigned char *from, const struct input_padding *padding,
                        unsigned char *out)
{
    size_t outer = 1, inner = 1;
    for (int32_t d = 0; d < padding->dim; d++) outer *= (size_t)shape->dims[d];
    for (int32_t d = padding->dim + 1; d < shape->rank; d++) inner *= (size_t)shape->dims[d];
    size_t present = (size_t)input->shape.dims[padding->dim] * inner;
    size_t missing = (size_t)shape->dims[padding->dim] * inner - present;
    for (size_t k = 0; k < outer; k++) {
        memcpy(out, from + k * present * padding->element_bytes, present * padding->element_bytes);
        out = fill(out + present * padding->element_bytes, padding, missing);
    }
}

/* Copies the rows of input i, each padded to `shape`, then the last one again until there are
 * rows_padded of them. */
static tidemill_error *gather(const struct microbatch *mb, size_t i, uint32_t rows_padded,
                              const struct shape *shape, const struct shared_region *region,
                              size_t *gathered, struct work_input *ret)
{
    const struct input_padding *padding = &mb->chunk->padding->inputs[i];
    size_t start = (*gathered + 63) & ~(size_t)63, used = start, count = 0;
    for (uint32_t r = 0; r < rows_padded; r++) {
        const struct record_input *input = row_input(mb, MIN(r, mb->n_rows - 1), i);
        const unsigned char *from = mb->chunk->area.base + input->offset;
        unsigned char *out = region->base + mb->slot->gather_offset + used;
        size_t bytes = input->bytes;
        if (padding->is_padded && shape_count(shape, &count))
            bytes = count * padding->element_bytes;
        if (mb->slot->gather_capacity - used < bytes)
            return error_new(ERROR_MEMORY, "a microbatch of %u rows does not fit into %zu bytes",
                             rows_padded, mb->slot->gather_capacity);
        if (bytes > input->bytes)
            copy_padded(input, shape, from, padding, out);
        else
            memcpy(out, from, bytes);
        used += bytes;
    }
    ret->offset = mb->slot->gather_offset + start;
    ret->bytes = used - start;
    *gathered = used;
    return NULL;
}

/* The rows' shape, with the batch in front where there is one. */
static struct shape call_shape(const struct shape *row, bool is_batched, uint32_t n_rows)
{
    if (!is_batched) return *row;
    struct shape shape = {.rank = row->rank + 1, .dims = {n_rows}};
    for (int32_t d = 0; d < row->rank && d + 1 < TENSOR_RANK_MAX; d++)
        shape.dims[d + 1] = row->dims[d];
    return shape;
}

tidemill_error *microbatch_inputs(const struct microbatch *mb,
                                  const struct model_signature *signature,
                                  const struct shared_region *region, uint32_t rows_padded,
                                  struct work_input *inputs)
{
    size_t gathered = 0;
    assert(mb->n_rows >= 1 && rows_padded >= mb->n_rows);
    for (size_t i = 0; i < signature->n_inputs; i++) {
        size_t bytes;
        const struct record_input *first = row_input(mb, 0, i);
        struct shape longest = longest_shape(mb, i);
        inputs[i] = (struct work_input){
            .type = signature->inputs[i].type,
            .shape = call_shape(&longest, signature->is_batched, rows_padded),
        };
        if (is_contiguous(mb, i, &bytes) && rows_padded == mb->n_rows) {
            inputs[i].offset = mb->chunk->area_offset + first->offset;
            inputs[i].bytes = bytes;
        } else {
            TRY(gather(mb, i, rows_padded, &longest, region, &gathered, &inputs[i]));
        }
    }
    return NULL;
}

/* One row's text is at [start, out.size) of the buffer, which may still move: note the offset. */
static void encode_row(struct microbatch *mb, const struct encoder *encoder,
                       struct encode_scratch *scratch, uint32_t place)
{
    struct chunk_record *record = &mb->chunk->records[mb->rows[place]];
    if (record->state != RECORD_PENDING) return; /* an earlier run had its answer */
    size_t start = mb->out.size;
    uint64_t index = mb->chunk->raw.start.index + mb->rows[place];
    enum error_code code = encoder_append_head(encoder, &record->decoded, index, &mb->out);
    const char *message = error_code_sentence(code);
    record->head_size = mb->out.size - start;
    if (code == ERROR_OK) code = encoder_append_answer(encoder, scratch, place, &mb->out, &message);
    if (code == ERROR_OK) {
        record->state = RECORD_ANSWERED;
        record->size = mb->out.size - start;
        return;
    }
    mb->out.size = start;
    char *copy = arena_copy(&mb->arena, message, strlen(message));
    record->state = RECORD_FAILED;
    record->decoded.error = code;
    record->decoded.message = copy != NULL ? copy : error_code_sentence(code);
}

/* Now that the buffer rests, its rows get their addresses. */
static void place_rows(struct microbatch *mb)
{
    const char *text = mb->out.data;
    for (uint32_t r = 0; r < mb->n_rows; r++) {
        struct chunk_record *record = &mb->chunk->records[mb->rows[r]];
        if (record->state != RECORD_ANSWERED || record->text != NULL) continue;
        record->text = text;
        record->own_text = mb->n_rows == 1 ? &mb->out : NULL;
        text += record->size;
    }
}

/* What of each row is no padding. */
static bool find_lengths(struct microbatch *mb, struct row_lengths *ret)
{
    const struct padding *padding = mb->chunk->padding;
    *ret = (struct row_lengths){0};
    if (!padding->is_on) return true;
    uint32_t *lengths = arena_alloc(&mb->arena, mb->n_rows * sizeof *lengths);
    if (lengths == NULL) return false;
    for (uint32_t r = 0; r < mb->n_rows; r++) {
        lengths[r] = record_length(&mb->chunk->records[mb->rows[r]].decoded, padding);
        ret->padded = MAX(ret->padded, lengths[r]);
    }
    ret->lengths = lengths;
    return true;
}

static void fail_encoding(struct microbatch *mb, enum error_code code, const char *message)
{
    mb->code = code;
    mb->message = arena_copy(&mb->arena, message, strlen(message));
    if (mb->message == NULL) mb->message = error_code_sentence(code);
}

void microbatch_encode(struct microbatch *mb, const struct encoder *encoder,
                       struct encode_scratch *scratch)
{
    const char *message = NULL;
    struct row_lengths lengths;
    if (!find_lengths(mb, &lengths)) {
        fail_encoding(mb, ERROR_MEMORY, error_code_sentence(ERROR_MEMORY));
        return;
    }
    enum error_code code = encoder_set_values(encoder, scratch, mb->values, mb->n_values,
                                              mb->n_rows, &lengths, &message);
    if (code != ERROR_OK) {
        fail_encoding(mb, code, message);
        return;
    }
    for (uint32_t r = 0; r < mb->n_rows && !mb->out.is_failed; r++)
        encode_row(mb, encoder, scratch, r);
    if (mb->out.is_failed) {
        fail_encoding(mb, ERROR_MEMORY, error_code_sentence(ERROR_MEMORY));
        return;
    }
    place_rows(mb);
}

void microbatch_trim(const struct microbatch *mb, const struct shared_region *region)
{
    const unsigned char *start = region->base + mb->slot->output_offset;
    size_t used = 0;
    for (size_t i = 0; i < mb->n_values; i++) {
        const struct value *value = &mb->values[i];
        if (value->kind == VALUE_TENSOR && value->data != NULL)
            used = MAX(used, (size_t)(value->data - start) + value->bytes);
    }
    if (used > OUTPUT_BYTES_KEPT) shared_region_release(region, mb->slot->output_offset, used);
}
