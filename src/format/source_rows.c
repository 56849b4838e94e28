/* SPDX-License-Identifier: Apache-2.0 */
/* source_rows.c - cuts .npy and .npz into records: record i is row i of every array. */
#include "format/source_parts.h"

#include <stdlib.h>

static tidemill_error *store_schema(struct source *source, const struct source_array *arrays,
                                    size_t n)
{
    struct source_array *copy = calloc(n, sizeof *copy);
    if (copy == NULL) return error_memory();
    source->schema.arrays = copy;
    source->schema.n_arrays = n;
    source->has_schema = true;
    for (size_t i = 0; i < n; i++) {
        copy[i] = arrays[i];
        copy[i].name = strdup(arrays[i].name);
        if (copy[i].name == NULL) return error_memory();
    }
    return NULL;
}

static bool same_shape(const struct shape *a, const struct shape *b)
{
    return a->rank == b->rank && memcmp(a->dims, b->dims, (size_t)a->rank * sizeof a->dims[0]) == 0;
}

static tidemill_error *compare_schema(const struct source *source,
                                      const struct source_array *arrays, size_t n)
{
    const struct source_schema *schema = &source->schema;
    if (n != schema->n_arrays) {
        return error_new(ERROR_INPUT, "%s has %zu arrays, the files before it have %zu",
                         source_path(source), n, schema->n_arrays);
    }
    for (size_t i = 0; i < n; i++) {
        const struct source_array *here = &arrays[i], *there = &schema->arrays[i];
        char here_text[128], there_text[128];
        bool is_same = strcmp(here->name, there->name) == 0 && here->type == there->type &&
                       same_shape(&here->row_shape, &there->row_shape);
        if (is_same) continue;
        shape_text(&here->row_shape, NULL, here_text, sizeof here_text);
        shape_text(&there->row_shape, NULL, there_text, sizeof there_text);
        return error_new(
            ERROR_INPUT,
            "%s: array %zu is '%s' with rows %s%s, in the files before it '%s' with rows %s%s",
            source_path(source), i + 1, here->name, tensor_type_name(here->type), here_text,
            there->name, tensor_type_name(there->type), there_text);
    }
    return NULL;
}

tidemill_error *source_rows_open(struct source *source)
{
    size_t n;
    TRY(array_file_open(source->io, source_path(source), source->config.compression,
                        source->schema.format, &source->arrays));
    const struct source_array *arrays = array_file_arrays(source->arrays, &n);
    return source->has_schema ? compare_schema(source, arrays, n) : store_schema(source, arrays, n);
}

static tidemill_error *read_row(struct source *source, struct raw_chunk *chunk, size_t *bytes)
{
    struct buffer *out = &chunk->bytes;
    size_t start = out->size;
    enum error_code code = ERROR_OK;
    TRY(array_file_read_row(source->arrays, out, &code));
    struct raw_record *record = source_add_record(source, chunk);
    if (record == NULL || out->is_failed) return error_memory();
    size_t size = out->size - start;
    if (code == ERROR_OK && size > source->config.record_bytes_max) {
        code = ERROR_RECORD_TOO_LONG;
        out->size = start + MIN(size, RECORD_SAMPLE_BYTES);
    }
    record->bytes = (struct slice){(const char *)(uintptr_t)start, out->size - start};
    record->size = size;
    record->error = code;
    *bytes += record->bytes.size;
    source->position.offset++;
    source->position.line++;
    return NULL;
}

tidemill_error *source_rows_read(struct source *source, struct raw_chunk *chunk)
{
    size_t bytes = 0;
    for (;;) {
        while (source->is_open && source->position.offset >= array_file_rows(source->arrays)) {
            TRY(source_next_file(source));
        }
        chunk->is_last = !source->is_open;
        bool is_full = source_is_full(source, chunk->n_records, bytes);
        if (chunk->is_last || is_full) return NULL;
        TRY(read_row(source, chunk, &bytes));
    }
}
