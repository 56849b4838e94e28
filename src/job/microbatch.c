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

/* Whether the rows' data lies side by side, in order, for input i; *ret_bytes is their sum. */
static bool is_contiguous(const struct microbatch *mb, size_t i, size_t *ret_bytes)
{
    size_t next = row_input(mb, 0, i)->offset, total = 0;
    bool is_side_by_side = true;
    for (uint32_t r = 0; r < mb->n_rows; r++) {
        const struct record_input *input = row_input(mb, r, i);
        is_side_by_side &= input->offset == next;
        next = input->offset + input->bytes;
        total += input->bytes;
    }
    *ret_bytes = total;
    return is_side_by_side;
}

/* Copies the rows of input i, then the last one again until there are rows_padded of them. */
static tidemill_error *gather(const struct microbatch *mb, size_t i, uint32_t rows_padded,
                              const struct shared_region *region, size_t *gathered,
                              struct work_input *ret)
{
    size_t start = (*gathered + 63) & ~(size_t)63, used = start;
    for (uint32_t r = 0; r < rows_padded; r++) {
        const struct record_input *input = row_input(mb, MIN(r, mb->n_rows - 1), i);
        if (mb->slot->gather_capacity - used < input->bytes)
            return error_new(ERROR_MEMORY, "a microbatch of %u rows does not fit into %zu bytes",
                             rows_padded, mb->slot->gather_capacity);
        memcpy(region->base + mb->slot->gather_offset + used, mb->chunk->area.base + input->offset,
               input->bytes);
        used += input->bytes;
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
        inputs[i] = (struct work_input){
            .type = signature->inputs[i].type,
            .shape = call_shape(&first->shape, signature->is_batched, rows_padded),
        };
        if (is_contiguous(mb, i, &bytes) && rows_padded == mb->n_rows) {
            inputs[i].offset = mb->chunk->area_offset + first->offset;
            inputs[i].bytes = bytes;
        } else {
            TRY(gather(mb, i, rows_padded, region, &gathered, &inputs[i]));
        }
    }
    return NULL;
}

/* One row's text is at [start, out.size) of the buffer, which may still move: note the offset. */
static void encode_row(struct microbatch *mb, const struct encoder *encoder,
                       struct encode_scratch *scratch, uint32_t place)
{
    struct chunk_record *record = &mb->chunk->records[mb->rows[place]];
    if (record->state == RECORD_SKIPPED) return;
    const char *message = NULL;
    size_t start = mb->out.size;
    enum error_code code =
        encoder_append_row(encoder, scratch, &record->decoded, place, &mb->out, &message);
    if (code == ERROR_OK) {
        record->state = RECORD_ANSWERED;
        record->size = mb->out.size - start;
        return;
    }
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
        if (record->state != RECORD_ANSWERED) continue;
        record->text = text;
        text += record->size;
    }
}

void microbatch_encode(struct microbatch *mb, const struct encoder *encoder,
                       struct encode_scratch *scratch)
{
    const char *message = NULL;
    mb->code = encoder_set_values(encoder, scratch, mb->values, mb->n_values, mb->n_rows, &message);
    if (mb->code != ERROR_OK) {
        mb->message = arena_copy(&mb->arena, message, strlen(message));
        if (mb->message == NULL) mb->message = error_code_sentence(mb->code);
        return;
    }
    for (uint32_t r = 0; r < mb->n_rows && !mb->out.is_failed; r++)
        encode_row(mb, encoder, scratch, r);
    if (mb->out.is_failed) {
        mb->code = ERROR_MEMORY;
        mb->message = error_code_sentence(ERROR_MEMORY);
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
