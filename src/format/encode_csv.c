/* SPDX-License-Identifier: Apache-2.0 */
/* encode_csv.c - a record's answer as one CSV record. RFC 4180 quoting, but lines end with \n, as
 * most tools on Unix write them.
 *
 * Columns: id, kept fields, then for each output: name_0.. where a record's part is a vector of known
 * length, name where it is one number, and one column of JSON text for everything else. Picks: label
 * and score, or top_1_label, top_1_score, ...; with the output's name in front where there are several. */
#include "format/encode_parts.h"

#include <math.h>
#include <string.h>

#include <yyjson.h>

void format_csv_cell(struct buffer *out, const char *text, size_t size)
{
    bool is_plain = true;
    for (size_t i = 0; i < size && is_plain; i++)
        is_plain = text[i] != ',' && text[i] != '"' && text[i] != '\n' && text[i] != '\r';
    if (is_plain) {
        buffer_append(out, text, size);
        return;
    }
    buffer_byte(out, '"');
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '"') buffer_byte(out, '"');
        buffer_byte(out, text[i]);
    }
    buffer_byte(out, '"');
}

/* --- the header ------------------------------------------------------------------------------------- */

static void append_name(struct buffer *out, const char *name)
{
    buffer_byte(out, ',');
    format_csv_cell(out, name, strlen(name));
}

/* "prefix_part", or "part" alone */
static void append_pick_name(struct buffer *out, const struct output_plan *plan, const char *part)
{
    struct buffer name = {0};
    if (plan->is_nested) {
        buffer_text(&name, plan->spec->name);
        buffer_byte(&name, '_');
    }
    buffer_text(&name, part);
    buffer_byte(out, ',');
    if (!name.is_failed) format_csv_cell(out, name.data, name.size);
    out->is_failed |= name.is_failed;
    buffer_free(&name);
}

static void append_top_names(struct buffer *out, const struct output_plan *plan)
{
    struct buffer part = {0};
    for (uint32_t t = 1; t <= plan->post.k; t++) {
        static const char *const kinds[] = {"label", "score"};
        for (size_t kind = 0; kind < COUNT_OF(kinds); kind++) {
            buffer_reset(&part, SIZE_MAX);
            buffer_printf(&part, "top_%u_%s", t, kinds[kind]);
            buffer_byte(&part, '\0');
            if (!part.is_failed) append_pick_name(out, plan, part.data);
        }
    }
    out->is_failed |= part.is_failed;
    buffer_free(&part);
}

static void append_output_names(struct buffer *out, const struct output_plan *plan)
{
    if (plan->post.pick == PICK_TOP_K && plan->is_cells) {
        append_top_names(out, plan);
    } else if (plan->post.pick != PICK_NONE && plan->is_cells) {
        append_pick_name(out, plan, "label");
        append_pick_name(out, plan, "score");
    } else if (plan->is_cells && plan->row.rank == 1) {
        for (size_t k = 0; k < plan->row_count; k++) {
            struct buffer name = {0};
            buffer_printf(&name, "%s_%zu", plan->spec->name, k);
            buffer_byte(out, ',');
            if (!name.is_failed) format_csv_cell(out, name.data, name.size);
            out->is_failed |= name.is_failed;
            buffer_free(&name);
        }
    } else {
        append_name(out, plan->spec->name);
    }
}

void csv_begin(const struct encoder *encoder, struct buffer *out)
{
    const struct encoder_config *config = &encoder->config;
    buffer_text(out, "id");
    for (size_t i = 0; i < encoder->n_columns; i++) append_name(out, encoder->columns[i].name);
    for (size_t i = 0; i < config->n_outputs; i++) append_output_names(out, &encoder->outputs[i]);
    buffer_byte(out, '\n');
}

/* --- cells -------------------------------------------------------------------------------------------- */

/* JSON text in a cell: strings by their text, null as an empty cell, others as they stand. */
static enum error_code append_json_cell(struct buffer *out, struct slice json)
{
    if (json.size == 4 && memcmp(json.data, "null", 4) == 0) return ERROR_OK;
    if (json.size == 0 || json.data[0] != '"') {
        format_csv_cell(out, json.data, json.size);
        return ERROR_OK;
    }
    if (memchr(json.data, '\\', json.size) == NULL) {
        format_csv_cell(out, json.data + 1, json.size - 2);
        return ERROR_OK;
    }
    yyjson_doc *doc = yyjson_read(json.data, json.size, 0);
    yyjson_val *text = yyjson_doc_get_root(doc);
    if (text != NULL) format_csv_cell(out, yyjson_get_str(text), yyjson_get_len(text));
    yyjson_doc_free(doc);
    return text != NULL ? ERROR_OK : ERROR_MEMORY;
}

static enum error_code append_value_cell(const struct encoder *encoder,
                                         struct encode_scratch *scratch, size_t i, uint32_t row,
                                         struct buffer *out)
{
    buffer_reset(&scratch->cell, (size_t)1 << 20);
    enum error_code code = json_append_value(encoder, scratch, i, row, &scratch->cell);
    if (scratch->cell.is_failed) return ERROR_MEMORY;
    buffer_byte(out, ',');
    return code != ERROR_OK
               ? code
               : append_json_cell(out, (struct slice){scratch->cell.data, scratch->cell.size});
}

/* The JSON array of a vector, "[1.5,null,\"a\"]", has its commas where cells end; only strings need
 * a closer look. */
static enum error_code append_vector(const struct encoder *encoder, struct encode_scratch *scratch,
                                     size_t i, uint32_t row, struct buffer *out)
{
    buffer_reset(&scratch->cell, (size_t)1 << 20);
    enum error_code code = json_append_value(encoder, scratch, i, row, &scratch->cell);
    if (scratch->cell.is_failed) return ERROR_MEMORY;
    if (code != ERROR_OK) return code;
    const char *p = scratch->cell.data + 1, *end = scratch->cell.data + scratch->cell.size - 1;
    bool has_words = memchr(p, '"', (size_t)(end - p)) != NULL || /* strings, null */
                     memchr(p, 'n', (size_t)(end - p)) != NULL;
    if (p < end && !has_words) {
        buffer_byte(out, ',');
        buffer_append(out, p, (size_t)(end - p));
        return ERROR_OK;
    }
    while (p < end && code == ERROR_OK) {
        const char *start = p;
        for (bool is_quoted = false; p < end && (is_quoted || *p != ','); p++) {
            if (*p == '\\')
                p++;
            else if (*p == '"')
                is_quoted = !is_quoted;
        }
        buffer_byte(out, ',');
        code = append_json_cell(out, (struct slice){start, (size_t)(p - start)});
        p++;
    }
    return code;
}

/* Not finite only with a policy that lets it through. */
static enum error_code append_score_cell(const struct encoder *encoder,
                                         const struct output_plan *plan, double score,
                                         struct buffer *out)
{
    buffer_byte(out, ',');
    if (!isfinite(score)) {
        if (encoder->config.nonfinite == NONFINITE_STRING)
            buffer_text(out, isnan(score) ? "NaN" : score > 0 ? "Infinity" : "-Infinity");
        return ERROR_OK;
    }
    char *text = buffer_reserve(out, 32);
    if (text == NULL) return ERROR_MEMORY;
    char *end = plan->spec->type == TENSOR_DOUBLE ? format_double(text, score)
                                                  : format_float(text, (float)score);
    out->size += (size_t)(end - text);
    return ERROR_OK;
}

static enum error_code append_picks(const struct encoder *encoder, struct encode_scratch *scratch,
                                    size_t i, uint32_t row, struct buffer *out)
{
    const struct output_plan *plan = &encoder->outputs[i];
    struct row_view view = row_view_of(encoder, scratch, i, row);
    size_t count;
    const double *numbers = row_numbers(scratch, &view, &plan->post, &count);
    if (numbers == NULL) return ERROR_MEMORY;
    enum error_code code = check_numbers(encoder, scratch, plan, &view, numbers, count);
    if (code != ERROR_OK) return code;
    size_t found = post_top(numbers, count, plan->post.k, scratch->places);
    for (size_t t = 0; t < plan->post.k && code == ERROR_OK; t++) {
        if (t >= found) {
            buffer_text(out, ",,");
            continue;
        }
        uint32_t place = scratch->places[t];
        buffer_byte(out, ',');
        if (place < encoder->config.n_labels)
            format_csv_cell(out, encoder->config.labels[place],
                            strlen(encoder->config.labels[place]));
        else
            buffer_printf(out, "%u", place);
        code = append_score_cell(encoder, plan, numbers[place], out);
    }
    return code;
}

static enum error_code append_pick_json(const struct encoder *encoder,
                                        struct encode_scratch *scratch, size_t i, uint32_t row,
                                        struct buffer *out)
{
    const struct output_plan *plan = &encoder->outputs[i];
    buffer_reset(&scratch->cell, (size_t)1 << 20);
    enum error_code code = json_append_output(encoder, scratch, i, row, &scratch->cell);
    if (scratch->cell.is_failed) return ERROR_MEMORY;
    /* ,"name":{...} or ,"label":...: an object either way */
    buffer_byte(out, ',');
    if (code != ERROR_OK) return code;
    struct slice text = {scratch->cell.data + 1, scratch->cell.size - 1};
    if (plan->is_nested) {
        text.data += plan->key.size - 1;
        text.size -= plan->key.size - 1;
        format_csv_cell(out, text.data, text.size);
        return ERROR_OK;
    }
    struct buffer object = {0};
    buffer_byte(&object, '{');
    buffer_append(&object, text.data, text.size);
    buffer_byte(&object, '}');
    if (!object.is_failed) format_csv_cell(out, object.data, object.size);
    code = object.is_failed ? ERROR_MEMORY : ERROR_OK;
    buffer_free(&object);
    return code;
}

static enum error_code append_output(const struct encoder *encoder, struct encode_scratch *scratch,
                                     size_t i, uint32_t row, struct buffer *out)
{
    const struct output_plan *plan = &encoder->outputs[i];
    if (plan->post.pick != PICK_NONE)
        return plan->is_cells ? append_picks(encoder, scratch, i, row, out)
                              : append_pick_json(encoder, scratch, i, row, out);
    return plan->is_cells && plan->row.rank == 1 ? append_vector(encoder, scratch, i, row, out)
                                                 : append_value_cell(encoder, scratch, i, row, out);
}

/* The kept field of that column, or an empty cell. Fields mostly come in the columns' order: the
 * search begins behind the one found last. */
static enum error_code append_kept(const struct record *record, const struct kept_column *column,
                                   size_t *at, struct buffer *out)
{
    buffer_byte(out, ',');
    for (size_t tried = 0; tried < record->n_kept; tried++) {
        size_t i = *at < record->n_kept ? (*at)++ : (*at = 1, 0);
        struct slice key = record->kept[i].key;
        if (key.size == column->key.size && memcmp(key.data, column->key.data, key.size) == 0)
            return append_json_cell(out, record->kept[i].value);
    }
    return ERROR_OK;
}

enum error_code csv_append_head(const struct encoder *encoder, const struct record *record,
                                struct buffer *out)
{
    enum error_code code = append_json_cell(out, record->id);
    size_t at = 0;
    for (size_t i = 0; i < encoder->n_columns && code == ERROR_OK; i++)
        code = append_kept(record, &encoder->columns[i], &at, out);
    return code;
}

enum error_code csv_append_answer(const struct encoder *encoder, struct encode_scratch *scratch,
                                  uint32_t row, struct buffer *out)
{
    enum error_code code = ERROR_OK;
    for (size_t i = 0; i < encoder->config.n_outputs && code == ERROR_OK; i++)
        code = append_output(encoder, scratch, i, row, out);
    buffer_byte(out, '\n');
    return code;
}
