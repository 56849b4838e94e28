/* SPDX-License-Identifier: Apache-2.0 */
/* decode_rows.c - rows of .npy and .npz: arrays one behind another in the record's bytes. */
#include "format/decode_csv.h"
#include "format/decode_json.h"

#include <stdio.h>

/* The bytes of one array's row, at the front of what is left of the record. */
static bool take_array(struct slice *left, const struct source_array *array, size_t count,
                       struct slice *ret)
{
    size_t size = array->row_bytes;
    if (array->type == TENSOR_STRING) {
        size = 0;
        for (size_t i = 0; i < count; i++) { /* packed strings: a length and the bytes */
            uint32_t length;
            if (left->size - size < sizeof length) return false;
            memcpy(&length, left->data + size, sizeof length);
            size += sizeof length;
            if (left->size - size < length) return false;
            size += length;
        }
    }
    if (left->size < size) return false;
    *ret = (struct slice){left->data, size};
    left->data += size;
    left->size -= size;
    return true;
}

static bool put_strings(struct decoding *d, struct row *row, struct slice bytes, const char *label)
{
    const char *p = bytes.data, *end = p + bytes.size;
    while (p < end) {
        uint32_t length;
        memcpy(&length, p, sizeof length);
        enum error_code code = row_append_string(row, p + 4, length);
        if (code != ERROR_OK) return decoding_fail_value(d, row, label, code, "strings", 7);
        p += 4 + (size_t)length;
    }
    return true;
}

static bool put_array(struct decoding *d, struct row *row, const struct source_array *array,
                      struct slice bytes, const char *label)
{
    size_t count, index;
    char text[64];
    if (array->type == TENSOR_STRING) return put_strings(d, row, bytes, label);
    if (!shape_count(&array->row_shape, &count)) return decoding_fail_memory(d);
    enum error_code code =
        row_append_elements(row, array->type, (const unsigned char *)bytes.data, count, &index);
    if (code == ERROR_OK) return true;
    if (code == ERROR_WRONG_TYPE && !type_is_number(row->type)) {
        return decoding_fail(d, code, "field '%s': expected %s, found %s", label,
                             tensor_type_name(row->type), tensor_type_name(array->type));
    }
    int length = snprintf(text, sizeof text, "element %zu", index);
    return decoding_fail_value(d, row, label, code, text, (size_t)length);
}

static bool put_input(struct decoding *d, struct row *row, const struct slice *bytes)
{
    const struct decoder *decoder = d->decoder;
    const struct input_plan *input = row->input;
    row->is_made = input->n_parts == 0;
    for (size_t i = 0; i < input->n_parts; i++) {
        uint32_t column = decoder->row.fields[input->parts[i].field].column;
        const struct source_array *array = &decoder->arrays[column];
        if (input->is_text) { /* one string: its length, then its bytes */
            struct slice text = {bytes[column].data + 4, bytes[column].size - 4};
            decoding_take_text(d, (uint32_t)i, text);
            continue;
        }
        if (!input->is_joined && !row_shape_match(input, &array->row_shape, &row->shape)) {
            return decoding_fail_shape(d, row, &array->row_shape);
        }
        if (!put_array(d, row, array, bytes[column], input->parts[i].text)) return false;
    }
    if (!input->is_joined) return true;
    row->shape = (struct shape){.rank = 1, .dims = {(int64_t)row->count}};
    if (!input->is_fixed || input->row_shape.rank < 1) return true;
    if (row->count != input->count) return decoding_fail_shape(d, row, &row->shape);
    row->shape = input->row_shape;
    return true;
}

/* An id from an array of whole numbers or strings, as JSON text. */
static bool find_id(struct decoding *d, const struct slice *bytes)
{
    const struct decoder *decoder = d->decoder;
    if (!decoder->has_id) return true;
    uint32_t column = decoder->row.fields[decoder->id.field].column;
    const struct source_array *array = &decoder->arrays[column];
    const char *text = NULL;
    if (array->type == TENSOR_STRING) {
        struct slice cell = {bytes[column].data + 4, bytes[column].size - 4};
        return csv_cell_json(d, cell, &d->scratch->found[decoder->id.field]);
    }
    struct scalar id = scalar_load(array->type, (const unsigned char *)bytes[column].data, 0);
    text = arena_printf(d->arena, "%s%llu", id.is_negative ? "-" : "",
                        (unsigned long long)id.magnitude);
    if (text == NULL) return decoding_fail_memory(d);
    d->scratch->found[decoder->id.field] = (struct slice){text, strlen(text)};
    return true;
}

bool rows_decode(struct decoding *d)
{
    const struct decoder *decoder = d->decoder;
    if (!reading_reset(d, &decoder->row)) return false;
    struct slice *bytes = arena_alloc(d->arena, (decoder->n_arrays + 1) * sizeof *bytes);
    struct slice left = d->raw->bytes;
    if (bytes == NULL) return decoding_fail_memory(d);
    for (size_t i = 0; i < decoder->n_arrays; i++) {
        size_t count;
        bool is_fine = shape_count(&decoder->arrays[i].row_shape, &count) &&
                       take_array(&left, &decoder->arrays[i], count, &bytes[i]);
        if (!is_fine) return decoding_fail(d, ERROR_INTERNAL, "the row is shorter than its arrays");
    }
    if (!find_id(d, bytes)) return false;
    for (size_t i = 0; i < decoder->n_inputs; i++) {
        struct row *row = &d->scratch->rows[i];
        decoding_begin_row(d, i, row);
        if (!put_input(d, row, bytes)) return false;
    }
    return true;
}
