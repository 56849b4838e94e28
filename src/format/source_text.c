/* SPDX-License-Identifier: Apache-2.0 */
/* source_text.c - cuts JSONL and CSV into records.
 *
 * The file comes in blocks; of each block the whole records go to the chunk in one copy. A record
 * that a block's end cuts goes on at the end of the chunk's bytes (the `tail`), so it is never held
 * twice, and once it is too long only its first RECORD_SAMPLE_BYTES and its size are kept. */
#include "format/csv.h"
#include "format/decode_text.h"
#include "format/source_parts.h"

#include <stdlib.h>

/* One call of source_text_read at work. */
struct cut {
    struct source *source;
    struct raw_chunk *chunk;
    size_t bytes; /* of the records so far */
    struct tail {
        bool is_open, is_skipped;
        size_t start;  /* in chunk->bytes */
        uint64_t size; /* so far, what was skipped included */
        char last;     /* byte */
    } tail;
    enum csv_state csv;
    uint64_t lines; /* line ends inside the record at hand */
};

static bool is_blank(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\r')) p++;
    return p == end;
}

/* --- blocks -------------------------------------------------------------------------------------- */

/* More bytes behind those that are not consumed; sets is_at_end when there are none. */
static tidemill_error *fill_block(struct source *source)
{
    size_t left = source->block_size - source->block_at, got = 0;
    if (left > 0) memmove(source->block, source->block + source->block_at, left);
    source->block_offset += source->block_at;
    source->block_at = 0;
    source->block_size = left;
    TRY(reader_read(source->reader, source->block + left, SOURCE_BLOCK_BYTES - left, &got));
    source->block_size += got;
    source->is_at_end = got == 0;
    return NULL;
}

static void consume_to(struct source *source, const char *p)
{
    source->block_at = (size_t)(p - source->block);
    source->position.offset = source->block_offset + source->block_at;
}

/* --- the head of a file ---------------------------------------------------------------------------- */

static tidemill_error *skip_byte_order_mark(struct source *source)
{
    while (source->block_size < 3 && !source->is_at_end) TRY(fill_block(source));
    if (source->block_size >= 3 && memcmp(source->block, "\xEF\xBB\xBF", 3) == 0) {
        source->block_at = 3;
    }
    return NULL;
}

/* The next line that is not blank, as CSV counts lines, without its end. Empty: there is none. */
static tidemill_error *read_header_line(struct source *source, struct buffer *line)
{
    enum csv_state state = CSV_CELL_START;
    uint64_t inside = 0;
    for (;;) {
        const char *p = source->block + source->block_at, *end = source->block + source->block_size;
        const char *newline = csv_find_end(p, end, &state, &inside);
        buffer_append(line, p, (size_t)((newline == NULL ? end : newline) - p));
        consume_to(source, newline == NULL ? end : newline + 1);
        if (line->is_failed) return error_memory();
        if (line->size > source->config.record_bytes_max) {
            return error_new(ERROR_INPUT, "%s: the header is longer than %zu bytes",
                             source_path(source), source->config.record_bytes_max);
        }
        if (newline != NULL) {
            source->position.line += 1 + inside;
            if (!is_blank(line->data, line->data + line->size)) return NULL;
            line->size = 0;
            inside = 0;
            state = CSV_CELL_START;
        } else if (source->is_at_end) {
            if (is_blank(line->data, line->data + line->size)) line->size = 0;
            return NULL;
        } else {
            TRY(fill_block(source));
        }
    }
}

static tidemill_error *store_columns(struct source *source, const struct slice *cells, size_t n)
{
    char **columns = calloc(n, sizeof *columns);
    if (columns == NULL) return error_memory();
    source->schema.columns = (const char *const *)columns;
    source->schema.n_columns = n;
    source->has_schema = true;
    for (size_t i = 0; i < n; i++) {
        columns[i] = strndup(cells[i].size == 0 ? "" : cells[i].data, cells[i].size);
        if (columns[i] == NULL) return error_memory();
    }
    return NULL;
}

static tidemill_error *compare_columns(const struct source *source, const struct slice *cells,
                                       size_t n)
{
    const struct source_schema *schema = &source->schema;
    if (n != schema->n_columns) {
        return error_new(ERROR_INPUT, "%s has %zu columns, the files before it have %zu",
                         source_path(source), n, schema->n_columns);
    }
    for (size_t i = 0; i < n; i++) {
        size_t size = strlen(schema->columns[i]);
        if (size == cells[i].size && memcmp(schema->columns[i], cells[i].data, size) == 0) continue;
        return error_new(ERROR_INPUT, "%s: column %zu is '%.*s', in the files before it '%s'",
                         source_path(source), i + 1, (int)MIN(cells[i].size, 100), cells[i].data,
                         schema->columns[i]);
    }
    return NULL;
}

static tidemill_error *take_header(struct source *source, struct slice line)
{
    struct arena arena = {0};
    bool is_memory_short;
    size_t n = 0, capacity = line.size + 1;
    struct slice *cells = arena_calloc(&arena, capacity, sizeof *cells);
    if (cells == NULL) return error_memory();
    if (line.data[line.size - 1] == '\r') line.size--;
    const char *wrong = csv_split(line, cells, capacity, &arena, &n, &is_memory_short);
    if (wrong == NULL && !text_is_utf8(line.data, line.size)) wrong = "it is not UTF-8";
    tidemill_error *error = NULL;
    if (wrong != NULL) {
        error = error_new(is_memory_short ? ERROR_MEMORY : ERROR_INPUT, "%s: the CSV header: %s",
                          source_path(source), wrong);
    } else if (source->has_schema) {
        error = compare_columns(source, cells, n);
    } else {
        error = store_columns(source, cells, n);
    }
    arena_free(&arena);
    return error;
}

tidemill_error *source_text_open(struct source *source)
{
    source->block_at = source->block_size = 0;
    source->block_offset = 0;
    source->is_at_end = false;
    const char *path = source_path(source);
    TRY(reader_open(source->io, path, source->config.compression, &source->reader));
    TRY(skip_byte_order_mark(source));
    if (source->schema.format != FORMAT_CSV) return NULL;
    struct buffer line = {0};
    tidemill_error *error = read_header_line(source, &line);
    if (error == NULL && line.size > 0) {
        error = take_header(source, (struct slice){line.data, line.size});
    }
    buffer_free(&line);
    return error;
}

tidemill_error *source_text_skip_to(struct source *source, uint64_t offset)
{
    if (offset >= source->block_offset && offset - source->block_offset <= source->block_size) {
        source->block_at = (size_t)(offset - source->block_offset);
        return NULL;
    }
    TRY(reader_skip_to(source->reader, offset));
    source->block_offset = offset;
    source->block_at = source->block_size = 0;
    return NULL;
}

/* --- records --------------------------------------------------------------------------------------- */

static bool is_full(const struct cut *cut)
{
    return source_is_full(cut->source, cut->chunk->n_records, cut->bytes);
}

static const char *find_end(struct cut *cut, const char *p, const char *end)
{
    if (cut->source->schema.format == FORMAT_JSONL) return memchr(p, '\n', (size_t)(end - p));
    return csv_find_end(p, end, &cut->csv, &cut->lines);
}

/* The record is at chunk->bytes [start, start + size); `end` is behind its line end. */
static bool commit(struct cut *cut, size_t start, uint64_t size, const char *end)
{
    struct source *source = cut->source;
    struct raw_record *record = source_add_record(source, cut->chunk);
    if (record == NULL) return false;
    bool is_too_long = size > source->config.record_bytes_max;
    record->size = size;
    record->bytes.data = (const char *)(uintptr_t)start;
    record->bytes.size = is_too_long ? MIN(size, RECORD_SAMPLE_BYTES) : size;
    if (is_too_long) {
        record->error = ERROR_RECORD_TOO_LONG;
    } else if (cut->csv == CSV_QUOTED) {
        record->error = ERROR_INVALID_CSV;
    }
    cut->bytes += record->bytes.size;
    source->position.line += 1 + cut->lines;
    consume_to(source, end);
    cut->csv = CSV_CELL_START;
    cut->lines = 0;
    return true;
}

static void skip_line(struct cut *cut, const char *end)
{
    cut->source->position.line += 1 + cut->lines;
    consume_to(cut->source, end);
    cut->csv = CSV_CELL_START;
    cut->lines = 0;
}

/* Adds [p, end) to the tail. */
static void grow_tail(struct cut *cut, const char *p, const char *end)
{
    struct tail *tail = &cut->tail;
    struct buffer *bytes = &cut->chunk->bytes;
    if (!tail->is_open) *tail = (struct tail){.is_open = true, .start = bytes->size};
    if (p == end) return;
    tail->size += (uint64_t)(end - p);
    tail->last = end[-1];
    if (tail->is_skipped) return;
    buffer_append(bytes, p, (size_t)(end - p));
    if (bytes->is_failed || tail->size <= cut->source->config.record_bytes_max + 1) return;
    tail->is_skipped = true;
    bytes->size = tail->start + MIN(tail->size, RECORD_SAMPLE_BYTES);
}

/* The tail is complete; `end` is behind its line end. */
static bool close_tail(struct cut *cut, const char *end)
{
    struct tail tail = cut->tail;
    struct buffer *bytes = &cut->chunk->bytes;
    cut->tail.is_open = false;
    if (bytes->is_failed) return false;
    if (!tail.is_skipped && is_blank(bytes->data + tail.start, bytes->data + bytes->size)) {
        bytes->size = tail.start;
        skip_line(cut, end);
        return true;
    }
    return commit(cut, tail.start, tail.size - (tail.last == '\r'), end);
}

/* Takes what the block has, until the chunk is full. False: out of memory. */
static bool cut_block(struct cut *cut)
{
    struct source *source = cut->source;
    struct buffer *bytes = &cut->chunk->bytes;
    const char *p = source->block + source->block_at, *end = source->block + source->block_size;
    const char *mark = p; /* what lies before is in the chunk, or not wanted */
    bool is_fine = true;
    while (p < end && is_fine && !is_full(cut)) {
        const char *newline = find_end(cut, p, end);
        if (newline == NULL || cut->tail.is_open) {
            buffer_append(bytes, mark, (size_t)(p - mark));
            grow_tail(cut, p, newline == NULL ? end : newline);
            mark = p = newline == NULL ? end : newline + 1;
            is_fine = newline == NULL || close_tail(cut, p);
            continue;
        }
        const char *stop = newline > p && newline[-1] == '\r' ? newline - 1 : newline;
        size_t size = (size_t)(stop - p);
        if (is_blank(p, stop)) {
            buffer_append(bytes, mark, (size_t)(p - mark));
            skip_line(cut, newline + 1);
            mark = newline + 1;
        } else {
            is_fine = commit(cut, bytes->size + (size_t)(p - mark), size, newline + 1);
            if (size > source->config.record_bytes_max) {
                buffer_append(bytes, mark, (size_t)(p - mark) + MIN(size, RECORD_SAMPLE_BYTES));
                mark = newline + 1;
            }
        }
        p = newline + 1;
    }
    buffer_append(bytes, mark, (size_t)(p - mark));
    source->block_at = (size_t)(p - source->block);
    return is_fine && !bytes->is_failed;
}

/* Is there another record? Blank lines on the way are passed over for good. */
static tidemill_error *look_ahead(struct source *source, bool *ret_has_more)
{
    *ret_has_more = true;
    while (source->is_open) {
        const char *p = source->block + source->block_at, *end = source->block + source->block_size;
        for (const char *q = p; q < end; q++) {
            if (!is_blank(q, q + 1) && *q != '\n') return NULL;
            if (*q != '\n') continue;
            source->position.line++;
            consume_to(source, q + 1);
        }
        bool is_block_full = source->block_size - source->block_at >= SOURCE_BLOCK_BYTES;
        if (is_block_full) return NULL; /* blanks for ever: let cut_block see to it */
        TRY(source->is_at_end ? source_next_file(source) : fill_block(source));
    }
    *ret_has_more = false;
    return NULL;
}

tidemill_error *source_text_read(struct source *source, struct raw_chunk *chunk)
{
    struct cut cut = {.source = source, .chunk = chunk};
    while (source->is_open) {
        if (is_full(&cut)) {
            bool has_more;
            TRY(look_ahead(source, &has_more));
            chunk->is_last = !has_more;
            return NULL;
        }
        if (source->block_at < source->block_size) {
            if (!cut_block(&cut)) return error_memory();
        } else if (!source->is_at_end) {
            TRY(fill_block(source));
        } else {
            const char *end = source->block + source->block_size;
            if (cut.tail.is_open && !close_tail(&cut, end)) return error_memory();
            TRY(source_next_file(source));
        }
    }
    chunk->is_last = true;
    return NULL;
}
