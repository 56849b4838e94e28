/* SPDX-License-Identifier: Apache-2.0 */
/* decode_tokens.c - a record's text -> token ids, and the inputs that follow from the ids: mask, types,
 * positions. These are made for token ids that came as numbers too, where the record lacks them.
 *
 * An input of variable length gets as many elements as there are tokens. One of fixed length is filled
 * up with the tokenizer's padding, and masked there. */
#include "format/decode_parts.h"

void decoding_take_text(struct decoding *d, uint32_t part, struct slice text)
{
    d->record->text[part] = text;
}

/* --- one row ----------------------------------------------------------------------------------------- */

/* What stands at place `index` of a made input; `tokens` NULL: the ids came as numbers. */
static uint64_t made_value(enum making making, const struct tokenizer_tokens *tokens,
                           uint64_t pad_type, size_t index)
{
    bool is_padding = tokens != NULL && index >= tokens->size;
    switch (making) {
    case MAKE_ONES: return is_padding ? 0 : 1;
    case MAKE_TYPES: return tokens == NULL ? 0 : is_padding ? pad_type : tokens->type_ids[index];
    default: return index;
    }
}

static bool append(struct decoding *d, struct row *row, uint64_t value, const char *label)
{
    if (row->type == TENSOR_INT64 && row->capacity - row->bytes >= sizeof value) {
        memcpy(row->out + row->bytes, &value, sizeof value);
        row->bytes += sizeof value;
        row->count++;
        return true;
    }
    const struct scalar scalar = {.magnitude = value};
    switch (row_append(row, &scalar)) {
    case ERROR_OK: return true;
    case ERROR_MEMORY:
        return decoding_fail(d, ERROR_MEMORY,
                             "field '%s': input '%s' has no room in memory (%zu bytes)", label,
                             row->input->name, row->capacity);
    default:
        return decoding_fail(
            d, ERROR_OUT_OF_RANGE, "field '%s': %llu does not fit %s of input '%s'", label,
            (unsigned long long)value, tensor_type_name(row->type), row->input->name);
    }
}

/* The shape that `source` gives a made input: as many of its dimensions as that declares. */
static bool take_shape(struct decoding *d, struct row *row, const struct shape *source,
                       const char *label)
{
    struct shape shape = *source;
    int32_t rank = row->input->row_shape.rank;
    if (rank >= 0 && rank < shape.rank) shape.rank = rank;
    if (row_shape_match(row->input, &shape, &row->shape)) return true;
    char wanted[160], found[160];
    shape_text(&row->input->row_shape, row->input->dim_names, wanted, sizeof wanted);
    shape_text(&shape, NULL, found, sizeof found);
    return decoding_fail(d, ERROR_WRONG_SHAPE,
                         "field '%s' gives input '%s' the shape %s; the model takes %s", label,
                         row->input->name, found, wanted);
}

static bool fill_made(struct decoding *d, struct row *row, const struct shape *source,
                      const struct tokenizer_tokens *tokens, const char *label)
{
    size_t count = 0;
    uint64_t pad_type = 0;
    if (!take_shape(d, row, source, label)) return false;
    if (!shape_count(&row->shape, &count)) return decoding_fail_memory(d);
    if (tokens != NULL) pad_type = (uint64_t)tokenizer_pad_type_id(d->decoder->tokenizer);
    for (size_t i = 0; i < count; i++) {
        if (!append(d, row, made_value(row->input->making, tokens, pad_type, i), label))
            return false;
    }
    return true;
}

static bool fill_ids(struct decoding *d, struct row *row, const struct tokenizer_tokens *tokens)
{
    const struct input_plan *input = row->input;
    size_t count = input->is_fixed ? input->count : tokens->size;
    if (tokens->size > count) {
        return decoding_fail(d, ERROR_WRONG_SHAPE,
                             "field '%s': %zu tokens, the model takes %zu; --max-length %zu cuts "
                             "longer texts",
                             input->label, tokens->size, count, count);
    }
    row->shape = (struct shape){.rank = 1, .dims = {(int64_t)count}};
    if (input->row_shape.rank == 2)
        row->shape = (struct shape){.rank = 2, .dims = {1, (int64_t)count}};
    uint64_t pad = (uint64_t)tokenizer_pad_id(d->decoder->tokenizer);
    for (size_t i = 0; i < count; i++) {
        if (!append(d, row, i < tokens->size ? tokens->ids[i] : pad, input->label)) return false;
    }
    return true;
}

/* --- records whose ids are numbers --------------------------------------------------------------------- */

/* Ranks below 0 say that decoder_tokenize has it to do. */
static void leave_open(struct decoding *d)
{
    for (size_t i = 0; i < d->decoder->n_inputs; i++) {
        struct row *row = &d->scratch->rows[i];
        if (row->input->is_text || row->is_made) row->shape.rank = -1;
    }
    d->record->n_texts = (uint32_t)d->decoder->text_input->n_parts;
}

bool decoding_finish_rows(struct decoding *d)
{
    if (d->decoder->text_input != NULL) {
        leave_open(d);
        return true;
    }
    for (size_t i = 0; i < d->decoder->n_inputs && d->decoder->has_making; i++) {
        struct row *row = &d->scratch->rows[i];
        if (!row->is_made) continue;
        const struct row *source = &d->scratch->rows[row->input->source];
        if (!fill_made(d, row, &source->shape, NULL, source->input->label)) return false;
    }
    return true;
}

/* --- records whose ids are text ------------------------------------------------------------------------ */

/* The input with the ids first: the others take their shape from it. */
static bool fill_open(struct decoding *d, const struct tokenizer_tokens *tokens)
{
    const struct decoder *decoder = d->decoder;
    size_t ids = (size_t)(decoder->text_input - decoder->inputs);
    struct row *rows = d->scratch->rows;
    decoding_begin_row(d, ids, &rows[ids]);
    if (!fill_ids(d, &rows[ids], tokens)) return false;
    for (size_t i = 0; i < decoder->n_inputs; i++) {
        if (i == ids || d->record->inputs[i].shape.rank >= 0) continue;
        decoding_begin_row(d, i, &rows[i]);
        if (!fill_made(d, &rows[i], &rows[ids].shape, tokens, decoder->text_input->label))
            return false;
    }
    return true;
}

static void commit_open(struct decoding *d)
{
    for (size_t i = 0; i < d->decoder->n_inputs; i++) {
        struct record_input *input = &d->record->inputs[i];
        const struct row *row = &d->scratch->rows[i];
        if (input->shape.rank >= 0) continue;
        *input = (struct record_input){
            .offset = (size_t)(row->out - d->area->base), .bytes = row->bytes, .shape = row->shape};
        d->area->used[i] += row->bytes;
    }
    d->record->n_texts = 0;
}

static bool tokenize(struct decoding *d)
{
    const struct decoder *decoder = d->decoder;
    const struct slice *texts = d->record->text;
    struct tokenizer_tokens tokens;
    char message[512];
    if (!tokenizer_encode(decoder->tokenizer, texts[0], d->record->n_texts > 1 ? &texts[1] : NULL,
                          &tokens, message, sizeof message)) {
        return decoding_fail(d, ERROR_MODEL_ERROR, "field '%s': the tokenizer refused the text: %s",
                             decoder->text_input->label, message);
    }
    bool is_fine = fill_open(d, &tokens);
    tokenizer_free_tokens(decoder->tokenizer, &tokens);
    return is_fine;
}

void decoder_tokenize(const struct decoder *decoder, struct decode_scratch *scratch,
                      struct tensor_area *area, struct arena *arena, struct record *record)
{
    struct decoding d = {decoder, scratch, NULL, area, arena, record};
    if (tokenize(&d)) {
        commit_open(&d);
    } else {
        record->n_kept = 0;
        record->n_texts = 0;
    }
}
