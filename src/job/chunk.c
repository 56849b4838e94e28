/* SPDX-License-Identifier: Apache-2.0 */
/* chunk.c - a chunk's life: filled, decoded, planned, its answers encoded, used again. */
#include "job/reuse.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* A chunk that once held something large does not keep the memory. */
#define AREA_BYTES_KEPT ((size_t)8 << 20)
#define RAW_BYTES_KEPT ((size_t)8 << 20)

tidemill_error *chunk_new(const struct shared_region *region, size_t offset, size_t size,
                          size_t n_inputs, const struct padding *padding, struct chunk **ret)
{
    struct chunk *chunk = calloc(1, sizeof *chunk);
    if (chunk == NULL) return error_memory();
    chunk->area_offset = offset;
    chunk->padding = padding;
    chunk->area.base = region->base + offset;
    chunk->area.input_capacity = size / MAX(n_inputs, (size_t)1) & ~(size_t)63;
    *ret = chunk;
    return NULL;
}

static void free_microbatches(struct chunk *chunk)
{
    for (struct microbatch *mb = chunk->microbatches; mb != NULL; mb = mb->next_in_chunk) {
        buffer_free(&mb->out);
        arena_free(&mb->arena);
        free(mb->values);
    }
    chunk->microbatches = NULL; /* they lie in the arena */
}

void chunk_recycle(struct chunk *chunk, const struct shared_region *region)
{
    free_microbatches(chunk);
    arena_reset(&chunk->arena);
    for (size_t i = 0; i < MODEL_VALUES_MAX; i++) {
        if (chunk->area.used[i] > AREA_BYTES_KEPT)
            shared_region_release(region, chunk->area_offset + i * chunk->area.input_capacity,
                                  chunk->area.used[i]);
        chunk->area.used[i] = 0;
    }
    buffer_reset(&chunk->raw.bytes, RAW_BYTES_KEPT);
    chunk->plan = (struct plan){0};
    chunk->prompt_bytes = chunk->prompt_bytes_shared = 0;
    chunk->n_finished_prefix = chunk->n_released = 0;
    chunk->next = NULL;
}

void chunk_free(struct chunk *chunk)
{
    if (chunk == NULL) return;
    free_microbatches(chunk);
    arena_free(&chunk->arena);
    raw_chunk_free(&chunk->raw);
    free(chunk->records);
    free(chunk);
}

void chunk_forget_lines(struct chunk *chunk, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        struct chunk_record *record = &chunk->records[i];
        if (record->own_text == NULL) continue;
        buffer_free(record->own_text);
        record->own_text = NULL;
        record->text = NULL;
    }
}

static tidemill_error *reserve_records(struct chunk *chunk)
{
    if (chunk->records_capacity >= chunk->raw.n_records) return NULL;
    free(chunk->records);
    chunk->records = calloc(chunk->raw.n_records, sizeof *chunk->records);
    chunk->records_capacity = chunk->records == NULL ? 0 : chunk->raw.n_records;
    return chunk->records == NULL ? error_memory() : NULL;
}

/* A record's one string of an input. */
static struct slice packed_text(const struct chunk *chunk, const struct chunk_record *record,
                                size_t i)
{
    const struct record_input *input = &record->decoded.inputs[i];
    size_t head = sizeof(uint32_t);
    if (input->bytes < head) return (struct slice){"", 0};
    return (struct slice){(const char *)chunk->area.base + input->offset + head,
                          input->bytes - head};
}

/* The model's first input is the text of the request; another one may say where it goes. */
static void read_prompt(struct chunk *chunk, struct chunk_record *record)
{
    const struct prompting *prompting = chunk->prompting;
    if (prompting == NULL || !prompting->is_read) return;
    bool is_generating = prompting->is_generating;
    struct slice url = {"", 0};
    if (prompting->url_input >= 0) url = packed_text(chunk, record, (size_t)prompting->url_input);
    if (url.size > 0) is_generating = prompt_url_is_generating(url);
    if (prompt_read(packed_text(chunk, record, 0), is_generating, &chunk->arena, &record->prompt))
        return;
    record->decoded.error = ERROR_MEMORY;
    record->decoded.message = error_code_sentence(ERROR_MEMORY);
}

static void decode_record(struct chunk *chunk, uint32_t index, const struct decoder *decoder,
                          struct decode_scratch *scratch, const struct reuse *reuse)
{
    struct chunk_record *record = &chunk->records[index];
    *record = (struct chunk_record){.state = RECORD_PENDING};
    decoder_decode(decoder, scratch, &chunk->raw.records[index], &chunk->area, &chunk->arena,
                   &record->decoded);
    if (record->decoded.error == ERROR_OK) read_prompt(chunk, record);
    bool is_needed =
        record->decoded.error == ERROR_OK && (reuse == NULL || reuse_look(reuse, chunk, index));
    if (is_needed && record->decoded.n_texts > 0)
        decoder_tokenize(decoder, scratch, &chunk->area, &chunk->arena, &record->decoded);
    if (record->decoded.error == ERROR_OK) return;
    record->state = RECORD_FAILED;
    record->is_finished = true;
}

tidemill_error *chunk_decode(struct chunk *chunk, const struct decoder *decoder,
                             struct decode_scratch *scratch, const struct reuse *reuse)
{
    TRY(reserve_records(chunk));
    arena_reset(&chunk->arena); /* the first chunk is decoded twice */
    memset(chunk->area.used, 0, sizeof chunk->area.used);
    for (uint32_t i = 0; i < chunk->raw.n_records; i++)
        decode_record(chunk, i, decoder, scratch, reuse);
    return NULL;
}

uint32_t record_length(const struct record *record, const struct padding *padding)
{
    if (!padding->is_on) return 0;
    int32_t dim = padding->inputs[padding->first].dim;
    return (uint32_t)MIN(record->inputs[padding->first].shape.dims[dim], (int64_t)UINT32_MAX);
}

/* Shapes of all inputs of one row as a key, and its length: along the padded dimension, else the
 * elements of its largest input. Padded dimensions count for the key by how they differ from that
 * length: rows can be padded together when theirs is the same in all inputs. */
static struct plan_row plan_row_of(const struct chunk_record *record, uint32_t index,
                                   const struct padding *padding, size_t n_inputs)
{
    struct shape shapes[MODEL_VALUES_MAX];
    uint32_t padded_length = record_length(&record->decoded, padding);
    size_t length = 0;
    for (size_t i = 0; i < n_inputs; i++) {
        size_t count = 0;
        shapes[i] = (struct shape){0}; /* no stray bytes behind the rank */
        shapes[i].rank = record->decoded.inputs[i].shape.rank;
        for (int32_t d = 0; d < shapes[i].rank; d++)
            shapes[i].dims[d] = record->decoded.inputs[i].shape.dims[d];
        if (shape_count(&shapes[i], &count)) length = MAX(length, count);
        if (padding->inputs[i].is_padded) shapes[i].dims[padding->inputs[i].dim] -= padded_length;
    }
    return (struct plan_row){
        .index = index,
        .length = padding->is_on ? padded_length : (uint32_t)MIN(length, (size_t)UINT32_MAX),
        .shape_key = hash_checksum(shapes, n_inputs * sizeof shapes[0]),
    };
}

tidemill_error *chunk_rows(struct chunk *chunk, const struct model_signature *signature,
                           struct plan_row **ret_rows, size_t *ret_n)
{
    bool is_dynamic = signature_has_dynamic_row(signature);
    struct plan_row *rows = arena_alloc(&chunk->arena, (chunk->raw.n_records + 1) * sizeof *rows);
    if (rows == NULL) return error_memory();
    size_t n = 0;
    for (size_t i = 0; i < chunk->raw.n_records; i++) {
        const struct chunk_record *record = &chunk->records[i];
        if (record->is_copy || (record->state == RECORD_FAILED && !record->was_run)) continue;
        rows[n++] = is_dynamic
                        ? plan_row_of(record, (uint32_t)i, chunk->padding, signature->n_inputs)
                        : (struct plan_row){.index = (uint32_t)i, .length = 1, .shape_key = 0};
    }
    *ret_rows = rows;
    *ret_n = n;
    return NULL;
}

tidemill_error *chunk_plan(struct chunk *chunk, const struct model_signature *signature,
                           const struct plan_limits *limits)
{
    struct plan_row *rows = NULL;
    size_t n_rows = 0;
    TRY(chunk_rows(chunk, signature, &rows, &n_rows));
    if (chunk->prompting != NULL && chunk->prompting->is_ordered)
        TRY(prompts_order(chunk, rows, n_rows));
    TRY(plan_chunk(rows, n_rows, limits, &chunk->arena, &chunk->plan));
    struct microbatch **end = &chunk->microbatches;
    for (size_t i = 0; i < chunk->plan.n_microbatches; i++) {
        struct microbatch *mb = arena_calloc(&chunk->arena, 1, sizeof *mb);
        if (mb == NULL) return error_memory();
        mb->chunk = chunk;
        mb->rows = chunk->plan.order + chunk->plan.microbatches[i].first;
        mb->n_rows = chunk->plan.microbatches[i].count;
        *end = mb;
        end = &mb->next_in_chunk;
    }
    return NULL;
}
