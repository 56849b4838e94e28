/* SPDX-License-Identifier: Apache-2.0 */
/* decode.c - the way of one record: read it (plainly or as a tree, a CSV line, array rows), take the
 * id, the inputs, the kept fields; commit the rows only when all of it went well. */
#include "format/decode_csv.h"
#include "format/decode_parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* --- errors ----------------------------------------------------------------------------------------- */

bool decoding_fail(struct decoding *d, enum error_code code, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    size_t size = length < 0 ? 0 : MIN((size_t)length, sizeof text - 1);
    d->record->error = code;
    d->record->message = arena_copy(d->arena, text, size);
    if (d->record->message == NULL) d->record->message = error_code_sentence(code);
    return false;
}

bool decoding_fail_memory(struct decoding *d)
{
    d->record->error = ERROR_MEMORY;
    d->record->message = error_code_sentence(ERROR_MEMORY);
    return false;
}

/* --- scratch ---------------------------------------------------------------------------------------- */

struct decode_scratch *decode_scratch_new(void)
{
    struct decode_scratch *scratch = calloc(1, sizeof *scratch);
    if (scratch == NULL) return NULL;
    scratch->allocator = yyjson_alc_dyn_new();
    if (scratch->allocator == NULL) {
        free(scratch);
        return NULL;
    }
    return scratch;
}

void decode_scratch_free(struct decode_scratch *scratch)
{
    if (scratch == NULL) return;
    yyjson_doc_free(scratch->doc);
    yyjson_alc_dyn_free(scratch->allocator);
    buffer_free(&scratch->text);
    buffer_free(&scratch->body);
    buffer_free(&scratch->binary);
    buffer_free(&scratch->all_kept);
    buffer_free(&scratch->key_set);
    buffer_free(&scratch->cells);
    free(scratch->found);
    free(scratch->values);
    free(scratch);
}

static bool grow_found(struct decode_scratch *scratch, size_t n)
{
    struct slice *found = realloc(scratch->found, n * sizeof *found);
    if (found != NULL) scratch->found = found;
    yyjson_val **values = realloc(scratch->values, n * sizeof *values);
    if (values != NULL) scratch->values = values;
    if (found == NULL || values == NULL) return false;
    scratch->n_found = n;
    return true;
}

bool reading_reset(struct decoding *d, const struct reading *reading)
{
    struct decode_scratch *scratch = d->scratch;
    size_t n = reading->n_fields;
    if (n > scratch->n_found && !grow_found(scratch, n)) return decoding_fail_memory(d);
    if (n > 0) memset(scratch->found, 0, n * sizeof *scratch->found);
    if (n > 0) memset(scratch->values, 0, n * sizeof(yyjson_val *));
    if (reading->wants_all) buffer_reset(&scratch->all_kept, (size_t)1 << 20);
    return true;
}

static size_t hash_name(const char *name, size_t size)
{
    return (size_t)hash_checksum(name, size);
}

int32_t reading_find(const struct reading *reading, const char *name, size_t size)
{
    if (reading->n_slots == 0) return -1;
    size_t mask = reading->n_slots - 1;
    for (size_t at = hash_name(name, size) & mask; reading->slots[at] != 0; at = (at + 1) & mask) {
        const struct field *field = &reading->fields[reading->slots[at] - 1];
        if (field->name.size == size && memcmp(field->name.data, name, size) == 0) {
            return (int32_t)(reading->slots[at] - 1);
        }
    }
    return -1;
}

void decoding_begin_row(struct decoding *d, size_t index, struct row *row)
{
    const struct input_plan *input = &d->decoder->inputs[index];
    struct tensor_area *area = d->area;
    row->input = input;
    row->type = input->type;
    row->nonfinite = d->decoder->nonfinite;
    row->out = area->base + index * area->input_capacity + area->used[index];
    row->capacity = area->input_capacity - area->used[index];
    row->bytes = 0;
    row->count = 0;
    row->is_full = false;
    row->is_made = false;
    row->shape.rank = 0;
}

/* --- id and kept fields ------------------------------------------------------------------------------- */

static bool take_line_id(struct decoding *d)
{
    char digits[20], *p = digits + sizeof digits;
    uint64_t line = d->raw->line;
    do {
        *--p = (char)('0' + line % 10);
        line /= 10;
    } while (line > 0);
    size_t size = (size_t)(digits + sizeof digits - p);
    const char *text = arena_copy(d->arena, p, size);
    if (text == NULL) return decoding_fail_memory(d);
    d->record->id = (struct slice){text, size};
    return true;
}

/* Raw JSON text of a field; CSV cells have become JSON strings. */
static bool field_text(const struct decoding *d, const struct field_ref *ref, struct slice *ret)
{
    yyjson_val *value;
    *ret = d->scratch->found[ref->field];
    if (ref->n_tokens > 0) return json_resolve(d, ref, &value, ret);
    return ret->data != NULL;
}

static bool take_id(struct decoding *d)
{
    if (!d->decoder->has_id) return true;
    const char *name = d->decoder->id.text;
    struct slice text;
    if (!field_text(d, &d->decoder->id, &text)) {
        return decoding_fail(d, ERROR_INVALID_ID, "id field '%s': not there", name);
    }
    char first = text.data[0];
    bool is_number = first == '-' || (first >= '0' && first <= '9');
    if (first == '"' ? text.size == 2 : !is_number) {
        const char *found = first == '"'   ? "an empty string"
                            : first == '[' ? "a list"
                            : first == '{' ? "an object"
                            : first == 'n' ? "null"
                                           : "true or false";
        return decoding_fail(d, ERROR_INVALID_ID,
                             "id field '%s': expected a string or number, found %s", name, found);
    }
    d->record->id = text;
    return true;
}

static bool take_kept(struct decoding *d)
{
    const struct decoder *decoder = d->decoder;
    if (decoder->keep_all) {
        const struct buffer *all = &d->scratch->all_kept;
        size_t n = all->size / sizeof(struct kept_field);
        d->record->kept = arena_alloc(d->arena, all->size + 1);
        if (d->record->kept == NULL) return decoding_fail_memory(d);
        if (n > 0) memcpy(d->record->kept, all->data, all->size);
        d->record->n_kept = n;
        return true;
    }
    if (decoder->n_keep == 0) return true;
    d->record->kept = arena_alloc(d->arena, decoder->n_keep * sizeof *d->record->kept);
    if (d->record->kept == NULL) return decoding_fail_memory(d);
    for (size_t i = 0; i < decoder->n_keep; i++) {
        struct slice text;
        if (!field_text(d, &decoder->keep[i], &text)) continue;
        d->record->kept[d->record->n_kept++] = (struct kept_field){decoder->keep_keys[i], text};
    }
    return true;
}

/* --- ways --------------------------------------------------------------------------------------------- */

static bool read_json(struct decoding *d, const struct reading *reading, struct slice text,
                      bool *ret_has_rows)
{
    *ret_has_rows = reading->is_plain && !d->decoder->is_fast_off && fast_read(d, reading, text);
    if (*ret_has_rows) return true;
    return json_read(d, reading, text);
}

/* Fills the template from what was read of the row, and takes the inputs from the result. */
static bool decode_body(struct decoding *d)
{
    const struct decoder *decoder = d->decoder;
    size_t n = template_n_fields(decoder->template_text);
    struct slice *values = arena_alloc(d->arena, (n + 1) * sizeof *values);
    if (values == NULL) return decoding_fail_memory(d);
    for (size_t i = 0; i < n; i++) {
        if (field_text(d, &decoder->template_refs[i], &values[i])) continue;
        return decoding_fail(d, ERROR_MISSING_FIELD, "field '%s' of the template: not there",
                             decoder->template_refs[i].text);
    }
    struct buffer *body = &d->scratch->body;
    buffer_reset(body, (size_t)1 << 22);
    template_expand(decoder->template_text, values, body);
    if (body->is_failed) return decoding_fail_memory(d);
    bool has_rows;
    struct slice text = {body->data, body->size};
    return read_json(d, &decoder->body, text, &has_rows) &&
           (has_rows || json_put_inputs(d, &decoder->body));
}

static bool decode_json(struct decoding *d)
{
    bool has_rows;
    if (!read_json(d, &d->decoder->row, d->raw->bytes, &has_rows)) return false;
    if (!take_id(d)) return false;
    if (d->decoder->template_text == NULL) {
        return (has_rows || json_put_inputs(d, &d->decoder->row)) && take_kept(d);
    }
    return take_kept(d) && decode_body(d);
}

static bool decode_cells(struct decoding *d)
{
    if (!csv_decode(d) || !take_id(d) || !take_kept(d)) return false;
    return d->decoder->template_text == NULL ? csv_put_inputs(d) : decode_body(d);
}

static bool decode_rows(struct decoding *d)
{
    return rows_decode(d) && take_id(d);
}

/* Rows count only now: a record that failed before has changed nothing. */
static bool commit(struct decoding *d)
{
    size_t n = d->decoder->n_inputs;
    struct record_input *inputs = arena_alloc(d->arena, (n + 1) * sizeof *inputs);
    if (inputs == NULL) return decoding_fail_memory(d);
    for (size_t i = 0; i < n; i++) {
        const struct row *row = &d->scratch->rows[i];
        if (tensor_type_bits(row->type) == 4 && row->count % 2 != 0) {
            return decoding_fail(d, ERROR_WRONG_SHAPE,
                                 "field '%s': a row of %s needs an even number of elements",
                                 row->input->label, tensor_type_name(row->type));
        }
        inputs[i].offset = (size_t)(row->out - d->area->base);
        inputs[i].bytes = row->bytes;
        inputs[i].shape = row->shape;
    }
    for (size_t i = 0; i < n; i++) d->area->used[i] += inputs[i].bytes;
    d->record->inputs = inputs;
    return true;
}

/* What the source found wrong with the record. */
static bool fail_raw(struct decoding *d)
{
    switch (d->raw->error) {
    case ERROR_RECORD_TOO_LONG:
        return decoding_fail(d, ERROR_RECORD_TOO_LONG,
                             "the record has %llu bytes, more than --max-record-bytes",
                             (unsigned long long)d->raw->size);
    case ERROR_INVALID_CSV:
        return decoding_fail(d, ERROR_INVALID_CSV, "a quoted cell is never closed");
    case ERROR_INVALID_UTF8:
        return decoding_fail(d, ERROR_INVALID_UTF8, "a string of the record is not valid UTF-8");
    default: return decoding_fail(d, d->raw->error, "%s", error_code_sentence(d->raw->error));
    }
}

void decoder_decode(const struct decoder *decoder, struct decode_scratch *scratch,
                    const struct raw_record *raw, struct tensor_area *area, struct arena *arena,
                    struct record *ret)
{
    struct decoding d = {decoder, scratch, raw, area, arena, ret};
    *ret = (struct record){.id = {"", 0}, .error = ERROR_OK};
    bool has_line_id = !decoder->has_id || raw->error != ERROR_OK;
    if (has_line_id && !take_line_id(&d)) return;
    bool is_fine = false;
    if (raw->error != ERROR_OK) {
        is_fine = fail_raw(&d);
    } else if (decoder->format == FORMAT_CSV) {
        is_fine = decode_cells(&d);
    } else if (decoder->format == FORMAT_NPY || decoder->format == FORMAT_NPZ) {
        is_fine = decode_rows(&d);
    } else {
        is_fine = decode_json(&d);
    }
    if (is_fine) is_fine = decoding_finish_rows(&d) && commit(&d);
    if (!is_fine && ret->id.size == 0) (void)take_line_id(&d);
    ret->n_kept = is_fine ? ret->n_kept : 0;
    ret->n_texts = is_fine ? ret->n_texts : 0;
}

void decoder_disable_fast(struct decoder *decoder)
{
    decoder->is_fast_off = true;
}
