/* SPDX-License-Identifier: Apache-2.0 */
/* decode_whole.c - JSON as it stands: for models that take the text of a value, or of the whole record. */
#include "format/decode_csv.h"
#include "format/decode_json.h"
#include "format/decode_text.h"

bool json_put_verbatim(struct decoding *d, struct row *row, struct slice text)
{
    enum error_code code = row_append_string(row, text.data, text.size);
    row->shape = (struct shape){.rank = 0};
    return code == ERROR_OK ||
           decoding_fail_value(d, row, row->input->label, code, text.data, text.size);
}

bool json_put_whole(struct decoding *d, const struct reading *reading, struct row *row)
{
    const struct buffer *body = &d->scratch->body;
    struct slice text = d->raw->bytes;
    if (reading == &d->decoder->body) text = (struct slice){body->data, body->size};
    return json_put_verbatim(d, row, text);
}

/* {"column":"cell",...} */
bool csv_put_whole(struct decoding *d, const struct slice *cells, struct row *row)
{
    struct buffer *text = &d->scratch->text;
    buffer_reset(text, (size_t)1 << 22);
    buffer_byte(text, '{');
    for (size_t i = 0; i < d->decoder->n_columns; i++) {
        if (i > 0) buffer_byte(text, ',');
        buffer_append(text, d->decoder->column_keys[i].data, d->decoder->column_keys[i].size);
        buffer_append(text, ":\"", 2);
        json_escape(text, cells[i].data, cells[i].size);
        buffer_byte(text, '"');
    }
    buffer_byte(text, '}');
    if (text->is_failed) return decoding_fail_memory(d);
    return json_put_verbatim(d, row, (struct slice){text->data, text->size});
}

/* A cell that is a list or an object is that; any other is a string. */
bool csv_put_verbatim(struct decoding *d, struct row *row, struct slice cell)
{
    struct slice text = cell;
    bool is_nested = cell.size > 0 && (cell.data[0] == '[' || cell.data[0] == '{');
    yyjson_doc *doc = NULL;
    if (is_nested && json_depth(cell.data, cell.size, JSON_DEPTH_MAX) <= JSON_DEPTH_MAX)
        doc = yyjson_read(cell.data, cell.size, YYJSON_READ_NUMBER_AS_RAW);
    bool is_json = doc != NULL;
    yyjson_doc_free(doc);
    if (!is_json && !csv_cell_json(d, cell, &text)) return false;
    return json_put_verbatim(d, row, text);
}
