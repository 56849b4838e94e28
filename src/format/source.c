/* SPDX-License-Identifier: Apache-2.0 */
/* source.c - the sequence of files: which is open, whether they agree, how far along. The records
 * inside are cut by source_text.c (lines) and source_rows.c (arrays). */
#include "format/source_parts.h"

#include <stdlib.h>
#include <strings.h>

/* Times chunk_bytes that a chunk may reach to hold whole microbatches. */
#define CHUNK_OVERDRAFT 8

static bool ends_with(const char *text, size_t size, const char *ending)
{
    size_t length = strlen(ending);
    return size > length && strncasecmp(text + size - length, ending, length) == 0;
}

enum format format_of_path(const char *path)
{
    static const struct {
        const char *ending;
        enum format format;
    } endings[] = {
        {".jsonl", FORMAT_JSONL}, {".ndjson", FORMAT_JSONL}, {".json", FORMAT_JSONL},
        {".csv", FORMAT_CSV},     {".npy", FORMAT_NPY},      {".npz", FORMAT_NPZ},
    };
    static const char *const compressed[] = {".gz", ".zst", ".zstd", ".gzip"};
    size_t size = strlen(path);
    for (size_t i = 0; i < COUNT_OF(compressed); i++) {
        if (!ends_with(path, size, compressed[i])) continue;
        size -= strlen(compressed[i]);
        break;
    }
    for (size_t i = 0; i < COUNT_OF(endings); i++) {
        if (ends_with(path, size, endings[i].ending)) return endings[i].format;
    }
    return FORMAT_AUTO;
}

static const char *format_name(enum format format)
{
    static const char *const names[] = {"auto", "JSONL", "CSV", ".npy", ".npz"};
    return names[format];
}

/* One format for all files. */
static tidemill_error *choose_format(struct source *source)
{
    const struct source_config *config = &source->config;
    source->schema.format = config->format;
    for (size_t i = 0; i < config->n_paths && config->format == FORMAT_AUTO; i++) {
        enum format format = format_of_path(config->paths[i]);
        if (format == FORMAT_AUTO) format = FORMAT_JSONL;
        if (i > 0 && format != source->schema.format) {
            return error_new(ERROR_INPUT, "%s is %s but %s is %s: inputs must be of one format",
                             config->paths[0], format_name(source->schema.format), config->paths[i],
                             format_name(format));
        }
        source->schema.format = format;
    }
    if (source->schema.format == FORMAT_AUTO) source->schema.format = FORMAT_JSONL;
    return NULL;
}

static bool has_lines(const struct source *source)
{
    return source->schema.format == FORMAT_JSONL || source->schema.format == FORMAT_CSV;
}

const char *source_path(const struct source *source)
{
    return source->config.paths[source->position.file];
}

static void close_file(struct source *source)
{
    if (!source->is_open) return;
    reader_close(source->reader);
    source->reader = NULL;
    array_file_close(source->arrays);
    source->arrays = NULL;
    source->is_open = false;
    source->done_bytes += source->sizes_bytes[source->position.file];
}

static tidemill_error *open_file(struct source *source)
{
    if (source->position.file >= source->config.n_paths) return NULL;
    source->is_open = true;
    return has_lines(source) ? source_text_open(source) : source_rows_open(source);
}

tidemill_error *source_next_file(struct source *source)
{
    close_file(source);
    source->position.file++;
    source->position.offset = 0;
    source->position.line = 0;
    return open_file(source);
}

static bool copy_paths(struct source *source, const struct source_config *config)
{
    char **paths = calloc(config->n_paths + 1, sizeof *paths);
    source->config.paths = (const char *const *)paths;
    source->sizes_bytes = calloc(config->n_paths + 1, sizeof *source->sizes_bytes);
    if (paths == NULL || source->sizes_bytes == NULL) return false;
    for (size_t i = 0; i < config->n_paths; i++) {
        paths[i] = strdup(config->paths[i]);
        if (paths[i] == NULL) return false;
    }
    return true;
}

/* Sizes are for the progress alone: what cannot be asked is reported when it is opened. */
static void measure_files(struct source *source)
{
    const struct io *io = source->io;
    for (size_t i = 0; i < source->config.n_paths; i++) {
        struct stat status;
        const char *path = source->config.paths[i];
        bool is_file = strcmp(path, "-") != 0 && io->stat(io->context, path, &status) == 0 &&
                       S_ISREG(status.st_mode);
        if (!is_file) {
            source->total_bytes = 0;
            return;
        }
        source->sizes_bytes[i] = (uint64_t)status.st_size;
        source->total_bytes += source->sizes_bytes[i];
    }
}

static tidemill_error *start_at(struct source *source, const struct source_position *start)
{
    if (start != NULL) source->position = *start;
    uint64_t offset = source->position.offset, line = source->position.line;
    for (uint32_t i = 0; i < source->position.file && i < source->config.n_paths; i++) {
        source->done_bytes += source->sizes_bytes[i];
    }
    TRY(open_file(source));
    if (source->is_open && offset > 0) {
        if (has_lines(source)) {
            TRY(source_text_skip_to(source, offset));
        } else {
            TRY(array_file_skip_to(source->arrays, offset));
        }
        source->position.offset = offset;
        source->position.line = line;
    }
    /* An empty CSV has no header: the columns are those of the first file that has. */
    while (source->is_open && source->schema.format == FORMAT_CSV && !source->has_schema) {
        TRY(source_next_file(source));
    }
    return NULL;
}

tidemill_error *source_open(const struct io *io, const struct source_config *config,
                            const struct source_position *start, struct source **ret)
{
    struct source *source = calloc(1, sizeof *source);
    if (source == NULL) return error_memory();
    source->io = io;
    source->config = *config;
    source->chunk_multiple = 1;
    source->block = malloc(SOURCE_BLOCK_BYTES);
    bool has_memory = copy_paths(source, config) && source->block != NULL;
    tidemill_error *error = has_memory ? choose_format(source) : error_memory();
    if (error == NULL) {
        measure_files(source);
        error = start_at(source, start);
    }
    if (error != NULL) {
        source_close(source);
        return error;
    }
    *ret = source;
    return NULL;
}

const struct source_schema *source_schema(const struct source *source)
{
    return &source->schema;
}

void source_set_chunk_rows(struct source *source, uint32_t chunk_rows, uint32_t multiple)
{
    source->config.chunk_rows = chunk_rows;
    source->chunk_multiple = multiple;
}

bool source_is_full(const struct source *source, size_t n_records, size_t bytes)
{
    const struct source_config *config = &source->config;
    if (n_records >= config->chunk_rows) return true;
    if (bytes < config->chunk_bytes) return false;
    return n_records % source->chunk_multiple == 0 ||
           bytes / CHUNK_OVERDRAFT >= config->chunk_bytes;
}

struct raw_record *source_add_record(struct source *source, struct raw_chunk *chunk)
{
    if (chunk->n_records == chunk->records_capacity) {
        size_t capacity = chunk->records_capacity == 0 ? 256 : chunk->records_capacity * 2;
        struct raw_record *records = realloc(chunk->records, capacity * sizeof *records);
        if (records == NULL) return NULL;
        chunk->records = records;
        chunk->records_capacity = capacity;
    }
    struct raw_record *record = &chunk->records[chunk->n_records++];
    *record = (struct raw_record){.file = source->position.file, .line = source->position.line + 1};
    uint64_t index = source->position.index++;
    if (source->config.line_numbers != NULL && index < source->config.n_line_numbers) {
        record->line = source->config.line_numbers[index];
    }
    return record;
}

tidemill_error *source_read_chunk(struct source *source, struct raw_chunk *chunk)
{
    buffer_reset(&chunk->bytes, SIZE_MAX);
    chunk->n_records = 0;
    chunk->is_last = false;
    chunk->start = source->position;
    TRY(has_lines(source) ? source_text_read(source, chunk) : source_rows_read(source, chunk));
    chunk->end = source->position;
    /* Until now a record's place was an offset: the bytes may have moved. */
    for (size_t i = 0; i < chunk->n_records; i++) {
        struct slice *bytes = &chunk->records[i].bytes;
        bytes->data = (chunk->bytes.data == NULL ? "" : chunk->bytes.data) + (uintptr_t)bytes->data;
    }
    return NULL;
}

double source_progress(const struct source *source)
{
    if (source->total_bytes == 0) return source->is_open ? -1 : 1;
    double done = (double)source->done_bytes;
    if (source->reader != NULL) done += (double)reader_disk_offset(source->reader);
    if (source->arrays != NULL && array_file_rows(source->arrays) > 0) {
        done += (double)source->sizes_bytes[source->position.file] *
                (double)source->position.offset / (double)array_file_rows(source->arrays);
    }
    double share = done / (double)source->total_bytes;
    return share > 1 ? 1 : share;
}

void source_close(struct source *source)
{
    if (source == NULL) return;
    reader_close(source->reader);
    array_file_close(source->arrays);
    for (size_t i = 0; source->config.paths != NULL && i < source->config.n_paths; i++) {
        free((char *)(uintptr_t)source->config.paths[i]);
    }
    free((void *)(uintptr_t)source->config.paths);
    free(source->sizes_bytes);
    for (size_t i = 0; i < source->schema.n_columns; i++) {
        free((char *)(uintptr_t)source->schema.columns[i]);
    }
    free((void *)(uintptr_t)source->schema.columns);
    for (size_t i = 0; i < source->schema.n_arrays; i++) {
        free((char *)(uintptr_t)source->schema.arrays[i].name);
    }
    free((void *)(uintptr_t)source->schema.arrays);
    free(source->block);
    free(source);
}

void raw_chunk_free(struct raw_chunk *chunk)
{
    buffer_free(&chunk->bytes);
    free(chunk->records);
    *chunk = (struct raw_chunk){0};
}
