/* SPDX-License-Identifier: Apache-2.0 */
/* decode_csv.c - a CSV record: cells -> JSON strings for id, kept fields and templates; cells ->
 * numbers, strings or JSON lists for inputs. */
#include "format/decode_csv.h"
#include "format/csv.h"
#include "format/decode_json.h"
#include "format/decode_text.h"

#include <strings.h>

static const struct slice *cells_of(const struct decoding *d)
{
    return (const struct slice *)(const void *)d->scratch->cells.data;
}

bool csv_cell_json(struct decoding *d, struct slice cell, struct slice *ret)
{
    struct buffer *text = &d->scratch->binary;
    text->size = 0;
    buffer_byte(text, '"');
    json_escape(text, cell.data, cell.size);
    buffer_byte(text, '"');
    char *copy = text->is_failed ? NULL : arena_copy(d->arena, text->data, text->size);
    if (copy == NULL) {
        buffer_reset(text, 0);
        return decoding_fail_memory(d);
    }
    *ret = (struct slice){copy, text->size};
    return true;
}

static bool split(struct decoding *d)
{
    size_t capacity = d->decoder->n_columns, n = 0;
    struct buffer *cells = &d->scratch->cells;
    bool is_memory_short;
    cells->size = 0;
    char *place = buffer_reserve(cells, (capacity + 1) * sizeof(struct slice));
    if (place == NULL) {
        buffer_reset(cells, 0);
        return decoding_fail_memory(d);
    }
    struct slice text = d->raw->bytes;
    if (!text_is_utf8(text.data, text.size)) {
        return decoding_fail(d, ERROR_INVALID_UTF8, "the record is not valid UTF-8");
    }
    const char *wrong =
        csv_split(text, (struct slice *)(void *)place, capacity, d->arena, &n, &is_memory_short);
    if (wrong != NULL && is_memory_short) return decoding_fail_memory(d);
    if (wrong != NULL) return decoding_fail(d, ERROR_INVALID_CSV, "not valid CSV: %s", wrong);
    if (n == capacity) return true;
    return decoding_fail(d, ERROR_INVALID_CSV, "found %zu cells, the header has %zu", n, capacity);
}

static bool keep_cells(struct decoding *d)
{
    const struct decoder *decoder = d->decoder;
    for (size_t i = 0; i < decoder->n_columns; i++) {
        struct kept_field kept = {.key = decoder->column_keys[i]};
        int64_t id = decoder->row.id_field;
        if (id >= 0 && decoder->row.fields[id].column == i) continue;
        if (!csv_cell_json(d, cells_of(d)[i], &kept.value)) return false;
        buffer_append(&d->scratch->all_kept, &kept, sizeof kept);
    }
    return !d->scratch->all_kept.is_failed || decoding_fail_memory(d);
}

bool csv_decode(struct decoding *d)
{
    const struct reading *row = &d->decoder->row;
    if (!reading_reset(d, row) || !split(d)) return false;
    for (size_t i = 0; i < row->n_fields; i++) {
        const struct field *field = &row->fields[i];
        if (!field->is_text_wanted) continue; /* inputs are read from the cell itself */
        if (!csv_cell_json(d, cells_of(d)[field->column], &d->scratch->found[i])) return false;
    }
    return !row->wants_all || keep_cells(d);
}

static struct slice trim(struct slice cell)
{
    while (cell.size > 0 && (*cell.data == ' ' || *cell.data == '\t')) {
        cell.data++;
        cell.size--;
    }
    while (cell.size > 0 && (cell.data[cell.size - 1] == ' ' || cell.data[cell.size - 1] == '\t')) {
        cell.size--;
    }
    return cell;
}

static bool is_word(struct slice cell, const char *word)
{
    return cell.size == strlen(word) && strncasecmp(cell.data, word, cell.size) == 0;
}

/* The commonest cell by far: a few digits, for float32. False: another one, nothing is done. */
static bool append_digits(struct row *row, struct slice cell)
{
    uint32_t value = 0;
    bool is_possible = row->type == TENSOR_FLOAT && cell.size - 1 < 7 &&
                       row->capacity - row->bytes >= sizeof(float);
    if (!is_possible) return false;
    for (size_t i = 0; i < cell.size; i++) {
        uint32_t digit = (unsigned char)cell.data[i] - (uint32_t)'0';
        if (digit > 9) return false;
        value = value * 10 + digit;
    }
    float single = (float)value; /* exact: below 2^24 */
    memcpy(row->out + row->bytes, &single, sizeof single);
    row->bytes += sizeof single;
    row->count++;
    return true;
}

static bool append_cell(struct decoding *d, struct row *row, struct slice cell, const char *label)
{
    struct number number;
    struct scalar scalar;
    enum error_code code = ERROR_WRONG_TYPE;
    if (append_digits(row, cell)) return true;
    if (row->type == TENSOR_STRING) {
        code = row_append_string(row, cell.data, cell.size);
        return code == ERROR_OK || decoding_fail_value(d, row, label, code, "", 0);
    }
    cell = trim(cell);
    const char *end = cell.data + cell.size;
    if (cell.size == 0) {
        return decoding_fail(d, code, "field '%s': expected a %s, found an empty cell", label,
                             element_word(row->type, false));
    }
    if (number_scan_lenient(cell.data, end, &number) == end) {
        code = row_append_number(row, &number, cell.data, end);
    } else if (row->type == TENSOR_BOOL && (is_word(cell, "true") || is_word(cell, "false"))) {
        scalar = (struct scalar){.magnitude = is_word(cell, "true")};
        code = row_append(row, &scalar);
    } else if (type_is_number(row->type) && scalar_of_word(cell.data, cell.size, true, &scalar)) {
        code = row_append(row, &scalar);
    }
    return code == ERROR_OK || decoding_fail_value(d, row, label, code, cell.data, cell.size);
}

static bool put_cell(struct decoding *d, struct row *row, struct slice cell)
{
    const struct input_plan *input = row->input;
    struct slice text = trim(cell);
    bool is_scalar_fine = row_shape_match(input, &(struct shape){.rank = 0}, &row->shape);
    bool is_json = text.size > 0 && (*text.data == '[' || *text.data == '{') &&
                   !(row->type == TENSOR_STRING && is_scalar_fine);
    if (is_json) return json_put_text(d, row, text);
    if (is_scalar_fine) return append_cell(d, row, cell, input->label);
    struct number number;
    const char *end = text.data + text.size;
    bool is_number = text.size > 0 && number_scan_lenient(text.data, end, &number) == end;
    if (is_number) return decoding_fail_shape(d, row, &(struct shape){.rank = 0});
    char wanted[224];
    expected_text(input, wanted, sizeof wanted);
    return decoding_fail(d, ERROR_WRONG_TYPE, "field '%s': expected %s, found %.*s%s", input->label,
                         wanted, (int)MIN(text.size, 40), text.size == 0 ? "" : text.data,
                         text.size == 0 ? "an empty cell" : "");
}

static bool put_input(struct decoding *d, struct row *row)
{
    const struct input_plan *input = row->input;
    const struct field *fields = d->decoder->row.fields;
    if (input->is_whole) return csv_put_whole(d, cells_of(d), row);
    if (input->is_optional && input->n_parts == 0)
        return json_put_verbatim(d, row, (struct slice){"", 0});
    row->is_made = input->n_parts == 0;
    if (row->is_made) return true;
    if (input->is_json)
        return csv_put_verbatim(d, row, cells_of(d)[fields[input->parts[0].field].column]);
    for (size_t i = 0; i < input->n_parts && input->is_text; i++)
        decoding_take_text(d, (uint32_t)i, cells_of(d)[fields[input->parts[i].field].column]);
    if (input->is_text) return true;
    if (!input->is_joined)
        return put_cell(d, row, cells_of(d)[fields[input->parts[0].field].column]);
    for (size_t i = 0; i < input->n_parts; i++) {
        const struct field_ref *part = &input->parts[i];
        struct slice cell = cells_of(d)[fields[part->field].column];
        if (!append_cell(d, row, cell, part->text)) return false;
    }
    row->shape = (struct shape){.rank = 1, .dims = {(int64_t)row->count}};
    if (input->is_fixed && input->row_shape.rank > 0) row->shape = input->row_shape;
    return true;
}

bool csv_put_inputs(struct decoding *d)
{
    for (size_t i = 0; i < d->decoder->n_inputs; i++) {
        struct row *row = &d->scratch->rows[i];
        decoding_begin_row(d, i, row);
        if (!put_input(d, row)) return false;
    }
    return true;
}
