/* SPDX-License-Identifier: Apache-2.0 */
/* error_line.c - a failed record as a line of the error sink, with enough of it to run it again. */
#include "format/csv.h"
#include "format/decode_text.h"
#include "format/encode_parts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <yyjson.h>

#define CELLS_MAX 65536

static void append_text(struct buffer *out, const char *name, const char *text, size_t size)
{
    buffer_printf(out, ",\"%s\":", name);
    format_json_string(out, text, size);
}

/* Bytes that are text as a string, others in base64. */
static void append_bytes(struct buffer *out, struct slice bytes)
{
    if (format_is_utf8(bytes.data, bytes.size)) {
        append_text(out, "record", bytes.data, bytes.size);
        return;
    }
    buffer_text(out, ",\"record_b64\":\"");
    format_base64(out, bytes.data, bytes.size);
    buffer_byte(out, '"');
}

/* Valid JSON without the white space between its tokens: a CR among it would look like a line's end
 * to some readers. Numbers and strings stay as they are spelled. */
static void append_compact(struct buffer *out, struct slice json)
{
    const char *p = json.data, *end = json.data + json.size;
    while (p < end) {
        p = json_skip_space(p, end);
        const char *start = p;
        while (p < end && memchr(" \t\r\n", *p, 4) == NULL)
            p = *p == '"' ? json_skip_string(p, end) : p + 1;
        buffer_append(out, start, (size_t)(p - start));
    }
}

/* Of text that was cut anywhere: without the first bytes of a character that lost its last ones. */
static struct slice without_torn_end(struct slice text)
{
    for (size_t n = 1; n <= 3 && n <= text.size; n++) {
        unsigned char byte = (unsigned char)text.data[text.size - n];
        if ((byte & 0xc0) == 0x80) continue;
        size_t length = byte < 0xc2 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
        return (struct slice){text.data, length > n ? text.size - n : text.size};
    }
    return text;
}

/* A whole JSON value goes in as it is, but on one line. Only what yyjson accepts is JSON; nesting
 * beyond the limit is text. */
static bool append_json(struct buffer *out, struct slice bytes)
{
    if (json_depth(bytes.data, bytes.size, JSON_DEPTH_MAX) > JSON_DEPTH_MAX) return false;
    yyjson_doc *doc = yyjson_read(bytes.data, bytes.size, YYJSON_READ_NUMBER_AS_RAW);
    if (doc == NULL) return false;
    yyjson_doc_free(doc);
    buffer_text(out, ",\"record\":");
    append_compact(out, bytes);
    return true;
}

/* {"column":"cell",...}; false where the record has another number of cells than the header. */
static bool append_csv(struct buffer *out, const struct source_schema *schema, struct slice bytes)
{
    struct arena arena = {0};
    size_t n = 0;
    bool is_short = false;
    struct slice *cells = malloc((schema->n_columns + 1) * sizeof *cells);
    bool is_whole = cells != NULL && schema->n_columns <= CELLS_MAX &&
                    format_is_utf8(bytes.data, bytes.size) &&
                    csv_split(bytes, cells, schema->n_columns, &arena, &n, &is_short) == NULL &&
                    n == schema->n_columns;
    if (is_whole) buffer_text(out, ",\"record\":{");
    for (size_t i = 0; i < n && is_whole; i++) {
        if (i > 0) buffer_byte(out, ',');
        format_json_string(out, schema->columns[i], strlen(schema->columns[i]));
        buffer_byte(out, ':');
        format_json_string(out, cells[i].data, cells[i].size);
    }
    if (is_whole) buffer_byte(out, '}');
    arena_free(&arena);
    free(cells);
    return is_whole;
}

static void append_array(struct buffer *out, const struct source_array *array, const char *data)
{
    buffer_text(out, "{\"b64\":\"");
    format_base64(out, data, array->row_bytes);
    buffer_printf(out, "\",\"dtype\":\"%s\",\"shape\":[", tensor_type_name(array->type));
    for (int32_t d = 0; d < array->row_shape.rank; d++)
        buffer_printf(out, "%s%lld", d > 0 ? "," : "", (long long)array->row_shape.dims[d]);
    buffer_text(out, "]}");
}

/* {"name":{"b64":..},...} */
static bool append_arrays(struct buffer *out, const struct source_schema *schema,
                          struct slice bytes)
{
    size_t offset = 0;
    for (size_t i = 0; i < schema->n_arrays; i++) offset += schema->arrays[i].row_bytes;
    if (offset != bytes.size || schema->n_arrays == 0) return false;
    offset = 0;
    buffer_text(out, ",\"record\":{");
    for (size_t i = 0; i < schema->n_arrays; i++) {
        const struct source_array *array = &schema->arrays[i];
        if (i > 0) buffer_byte(out, ',');
        format_json_string(out, array->name, strlen(array->name));
        buffer_byte(out, ':');
        append_array(out, array, bytes.data + offset);
        offset += array->row_bytes;
    }
    buffer_byte(out, '}');
    return true;
}

static void append_record(struct buffer *out, const struct source_schema *schema,
                          const struct raw_record *raw)
{
    bool is_done = false;
    if (raw->error == ERROR_RECORD_TOO_LONG) {
        append_bytes(out, without_torn_end(raw->bytes));
        buffer_printf(out, ",\"record_truncated\":true,\"record_size\":%" PRIu64, raw->size);
        return;
    }
    if (schema->format == FORMAT_JSONL) is_done = append_json(out, raw->bytes);
    if (schema->format == FORMAT_CSV) is_done = append_csv(out, schema, raw->bytes);
    if (schema->format == FORMAT_NPY || schema->format == FORMAT_NPZ)
        is_done = append_arrays(out, schema, raw->bytes);
    if (!is_done) append_bytes(out, raw->bytes);
}

static void begin_line(struct buffer *out, struct slice id)
{
    buffer_text(out, "{\"id\":");
    if (id.size > 0)
        buffer_append(out, id.data, id.size);
    else
        buffer_text(out, "null");
}

static void begin_batch_line(struct buffer *out, struct digest job, uint64_t index, struct slice id,
                             enum error_code code, const char *message)
{
    batch_append_names(out, job, index, id);
    buffer_printf(
        out, ",\"response\":null,\"error\":{\"code\":\"%s\",\"message\":", error_code_name(code));
    format_json_string(out, message, strlen(message));
    buffer_byte(out, '}');
}

void error_line_append(struct buffer *out, const struct source_schema *schema,
                       const struct raw_record *raw, const char *input_path, uint64_t index,
                       struct slice id, enum error_code code, const char *message,
                       const struct digest *batch_job)
{
    if (message == NULL) message = error_code_sentence(code);
    if (batch_job != NULL)
        begin_batch_line(out, *batch_job, index, id, code, message);
    else
        begin_line(out, id);
    buffer_printf(out, ",\"index\":%" PRIu64 ",\"line\":%" PRIu64, index, raw->line);
    append_text(out, "input", input_path, strlen(input_path));
    append_text(out, "code", error_code_name(code), strlen(error_code_name(code)));
    if (batch_job == NULL) append_text(out, "message", message, strlen(message));
    append_record(out, schema, raw);
    buffer_text(out, "}\n");
}
