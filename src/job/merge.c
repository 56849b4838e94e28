/* SPDX-License-Identifier: Apache-2.0 */
/* merge.c - one pass over the old answers, the retry's answers and its errors, in input order.
 *
 * Lines of a file are read through a source, which knows JSONL and CSV, compression, and lines of
 * any length. */
#include "job/merge.h"

#include "job/paths.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yyjson.h>

#define LINE_BYTES_MAX ((size_t)1 << 32)
#define CHUNK_BYTES ((size_t)1 << 20)
#define CHUNK_ROWS 4096

/* --- a file, record by record ---------------------------------------------------------------------- */

struct lines {
    const char *paths[1];
    struct source_config config;
    struct source *source;
    struct raw_chunk chunk;
    size_t next;
};

static tidemill_error *lines_open(const struct io *io, const char *path, enum format format,
                                  struct lines *ret)
{
    *ret = (struct lines){.paths = {path}};
    ret->config = (struct source_config){
        .paths = ret->paths,
        .n_paths = 1,
        .format = format,
        .compression = COMPRESSION_AUTO,
        .record_bytes_max = LINE_BYTES_MAX,
        .chunk_bytes = CHUNK_BYTES,
        .chunk_rows = CHUNK_ROWS,
    };
    TRY(source_open(io, &ret->config, NULL, &ret->source));
    return source_read_chunk(ret->source, &ret->chunk);
}

static void lines_close(struct lines *lines)
{
    source_close(lines->source);
    raw_chunk_free(&lines->chunk);
    *lines = (struct lines){0};
}

/* *ret NULL at the end. Valid until the next call. */
static tidemill_error *lines_next(struct lines *lines, const struct raw_record **ret)
{
    *ret = NULL;
    if (lines->source == NULL) return NULL;
    while (lines->next == lines->chunk.n_records) {
        if (lines->chunk.is_last) return NULL;
        TRY(source_read_chunk(lines->source, &lines->chunk));
        lines->next = 0;
    }
    *ret = &lines->chunk.records[lines->next++];
    return NULL;
}

static tidemill_error *append_line(struct spool *spool, struct slice text)
{
    TRY(spool_append(spool, text.data, text.size));
    return spool_append(spool, "\n", 1);
}

/* --- the error sink read back ------------------------------------------------------------------------ */

static tidemill_error *not_an_error_line(const char *path, uint64_t line)
{
    return error_new(ERROR_INPUT,
                     "%s:%llu: not a line of an error file (no index, line and record)", path,
                     (unsigned long long)line);
}

/* What a line of the error sink says; the document belongs to the caller. */
struct error_line {
    yyjson_doc *doc;
    uint64_t index, line;
    const char *code, *input;
    yyjson_val *record; /* NULL: not kept as text */
    bool is_truncated;
};

static tidemill_error *read_error_line(const char *path, const struct raw_record *raw,
                                       struct error_line *ret)
{
    yyjson_doc *doc = yyjson_read(raw->bytes.data, raw->bytes.size, YYJSON_READ_NUMBER_AS_RAW);
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *index = yyjson_obj_get(root, "index"), *line = yyjson_obj_get(root, "line");
    *ret = (struct error_line){
        .doc = doc,
        .code = yyjson_get_str(yyjson_obj_get(root, "code")),
        .input = yyjson_get_str(yyjson_obj_get(root, "input")),
        .record = yyjson_obj_get(root, "record"),
        .is_truncated = yyjson_get_bool(yyjson_obj_get(root, "record_truncated")),
    };
    if (!yyjson_is_raw(index) || !yyjson_is_raw(line) || ret->code == NULL || ret->input == NULL) {
        yyjson_doc_free(doc);
        ret->doc = NULL;
        return not_an_error_line(path, raw->line);
    }
    ret->index = strtoull(yyjson_get_raw(index), NULL, 10);
    ret->line = strtoull(yyjson_get_raw(line), NULL, 10);
    return NULL;
}

static char *json_text_of(const char *text)
{
    struct buffer json = {0};
    format_json_string(&json, text, strlen(text));
    buffer_byte(&json, '\0');
    if (!json.is_failed) return json.data;
    buffer_free(&json);
    return NULL;
}

static tidemill_error *add_failed(struct failed_records *failed, const struct error_line *line,
                                  bool carry_duplicates)
{
    struct failed_record *items = realloc(failed->items, (failed->n + 1) * sizeof *items);
    if (items == NULL) return error_memory();
    failed->items = items;
    struct failed_record *item = &items[failed->n];
    bool is_duplicate = strcmp(line->code, error_code_name(ERROR_DUPLICATE_ID)) == 0;
    *item = (struct failed_record){
        .index = line->index,
        .input = json_text_of(line->input),
        .is_carried =
            line->record == NULL || line->is_truncated || (is_duplicate && carry_duplicates),
    };
    if (item->input == NULL) return error_memory();
    failed->n++;
    if (item->is_carried) return NULL;
    uint64_t *lines = realloc(failed->lines, (failed->n_lines + 1) * sizeof *lines);
    if (lines == NULL) return error_memory();
    failed->lines = lines;
    lines[failed->n_lines++] = line->line;
    return NULL;
}

tidemill_error *failed_records_read(const struct io *io, const char *errors_path,
                                    bool carry_duplicates, struct failed_records *ret)
{
    struct lines lines;
    const struct raw_record *raw = NULL;
    tidemill_error *error = lines_open(io, errors_path, FORMAT_JSONL, &lines);
    while (error == NULL && (error = lines_next(&lines, &raw)) == NULL && raw != NULL) {
        struct error_line line = {0};
        error = read_error_line(errors_path, raw, &line);
        if (error == NULL && ret->n > 0 && line.index <= ret->items[ret->n - 1].index)
            error = error_new(ERROR_INPUT, "%s:%llu: records must stand in the job's order",
                              errors_path, (unsigned long long)raw->line);
        if (error == NULL) error = add_failed(ret, &line, carry_duplicates);
        yyjson_doc_free(line.doc);
    }
    lines_close(&lines);
    return error;
}

void failed_records_free(struct failed_records *failed)
{
    for (size_t i = 0; i < failed->n; i++) free(failed->items[i].input);
    free(failed->items);
    free(failed->lines);
    *failed = (struct failed_records){0};
}

tidemill_error *failed_records_are_csv(const struct io *io, const char *errors_path, bool *ret)
{
    struct lines lines;
    const struct raw_record *raw = NULL;
    *ret = false;
    tidemill_error *error = lines_open(io, errors_path, FORMAT_JSONL, &lines);
    if (error == NULL) error = lines_next(&lines, &raw);
    if (error == NULL && raw != NULL) {
        yyjson_doc *doc = yyjson_read(raw->bytes.data, raw->bytes.size, YYJSON_READ_NUMBER_AS_RAW);
        const char *input = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(doc), "input"));
        *ret = input != NULL && format_of_path(input) == FORMAT_CSV;
        yyjson_doc_free(doc);
    }
    lines_close(&lines);
    return error;
}

/* What a retry's input is written with. */
struct retry_input {
    struct spool *spool;
    bool is_csv, has_header;
    struct buffer line;
};

static tidemill_error *end_line(struct retry_input *input)
{
    if (input->line.size == 0) buffer_text(&input->line, "\"\""); /* a blank line is no record */
    buffer_byte(&input->line, '\n');
    if (input->line.is_failed) return error_memory();
    tidemill_error *error = spool_append(input->spool, input->line.data, input->line.size);
    buffer_reset(&input->line, (size_t)1 << 20);
    return error;
}

/* Text that is no record of its own (a line that was not JSON) is fed as it was, on one line. */
static tidemill_error *write_text(struct retry_input *input, const char *text, size_t size)
{
    buffer_append(&input->line, text, size);
    for (size_t i = 0; i < input->line.size; i++)
        if (input->line.data[i] == '\n' || input->line.data[i] == '\r') input->line.data[i] = ' ';
    return end_line(input);
}

static tidemill_error *write_cells(struct retry_input *input, yyjson_val *record, bool is_header)
{
    yyjson_obj_iter cells;
    yyjson_obj_iter_init(record, &cells);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&cells)) != NULL;) {
        yyjson_val *cell = is_header ? key : yyjson_obj_iter_get_val(key);
        if (input->line.size > 0) buffer_byte(&input->line, ',');
        if (yyjson_is_str(cell))
            format_csv_cell(&input->line, yyjson_get_str(cell), yyjson_get_len(cell));
    }
    return end_line(input);
}

static tidemill_error *write_json(struct retry_input *input, yyjson_val *record)
{
    size_t size;
    char *text = yyjson_val_write(record, 0, &size);
    if (text == NULL) return error_memory();
    tidemill_error *error = write_text(input, text, size);
    free(text);
    return error;
}

/* A string that was kept is a line that could not be read, except where the line was a JSON string. */
static tidemill_error *write_record(struct retry_input *input, const struct error_line *line)
{
    bool is_text = input->is_csv || strcmp(line->code, error_code_name(ERROR_INVALID_JSON)) == 0 ||
                   strcmp(line->code, error_code_name(ERROR_INVALID_UTF8)) == 0;
    if (yyjson_is_str(line->record) && is_text)
        return write_text(input, yyjson_get_str(line->record), yyjson_get_len(line->record));
    if (!input->is_csv || !yyjson_is_obj(line->record)) return write_json(input, line->record);
    return write_cells(input, line->record, false);
}

/* The columns are those of the first record that is an object. */
static tidemill_error *write_header(struct retry_input *input, const struct io *io,
                                    const char *errors_path)
{
    struct lines lines;
    const struct raw_record *raw = NULL;
    tidemill_error *error = lines_open(io, errors_path, FORMAT_JSONL, &lines);
    while (error == NULL && !input->has_header && (error = lines_next(&lines, &raw)) == NULL &&
           raw != NULL) {
        yyjson_doc *doc = yyjson_read(raw->bytes.data, raw->bytes.size, YYJSON_READ_NUMBER_AS_RAW);
        yyjson_val *record = yyjson_obj_get(yyjson_doc_get_root(doc), "record");
        if (yyjson_is_obj(record)) {
            error = write_cells(input, record, true);
            input->has_header = true;
        }
        yyjson_doc_free(doc);
    }
    lines_close(&lines);
    if (error == NULL && !input->has_header)
        error = error_new(ERROR_UNSUPPORTED,
                          "%s: no record in it has its columns; mend the input and use --force",
                          errors_path);
    return error;
}

static tidemill_error *write_records(struct retry_input *input, struct lines *lines,
                                     const char *errors_path, const struct failed_records *failed)
{
    for (size_t i = 0; i < failed->n; i++) {
        const struct raw_record *raw;
        struct error_line line;
        TRY(lines_next(lines, &raw));
        if (raw == NULL) return error_new(ERROR_CHANGED, "%s became shorter", errors_path);
        TRY(read_error_line(errors_path, raw, &line));
        tidemill_error *error = failed->items[i].is_carried ? NULL : write_record(input, &line);
        yyjson_doc_free(line.doc);
        if (error != NULL) return error;
    }
    return NULL;
}

tidemill_error *failed_records_write_input(const struct io *io, const char *errors_path,
                                           const struct failed_records *failed,
                                           const char *input_path, bool is_csv)
{
    struct lines lines = {0};
    struct retry_input input = {.is_csv = is_csv};
    uint64_t bytes;
    tidemill_error *error = spool_open(io, input_path, COMPRESSION_NONE, NULL, &input.spool);
    if (error == NULL && is_csv) error = write_header(&input, io, errors_path);
    if (error == NULL) error = lines_open(io, errors_path, FORMAT_JSONL, &lines);
    if (error == NULL) error = write_records(&input, &lines, errors_path, failed);
    if (error == NULL) error = spool_finish(input.spool, &bytes);
    spool_close(input.spool);
    lines_close(&lines);
    buffer_free(&input.line);
    return error;
}

/* --- the merge --------------------------------------------------------------------------------------- */

struct merge {
    const struct merge_files *files;
    struct lines answers, failures, retried, still_failed;
    const struct raw_record *failure; /* the next line of the retry's errors */
    uint64_t failure_place;           /* its record's place in the retry */
    struct spool *output, *errors;
    char *output_path, *errors_path;
};

/* The header of a CSV is not a record: it is copied once. */
static tidemill_error *copy_header(struct merge *merge)
{
    struct buffer line = {0};
    if (merge->files->output_format != FORMAT_CSV) return NULL;
    const struct source_schema *schema = source_schema(merge->answers.source);
    for (size_t i = 0; i < schema->n_columns; i++) {
        if (i > 0) buffer_byte(&line, ',');
        format_csv_cell(&line, schema->columns[i], strlen(schema->columns[i]));
    }
    tidemill_error *error = line.is_failed
                                ? error_memory()
                                : append_line(merge->output, (struct slice){line.data, line.size});
    buffer_free(&line);
    return error;
}

static tidemill_error *next_failure(struct merge *merge)
{
    struct error_line line;
    TRY(lines_next(&merge->still_failed, &merge->failure));
    if (merge->failure == NULL) return NULL;
    TRY(read_error_line(merge->files->retry_errors, merge->failure, &line));
    merge->failure_place = line.index;
    yyjson_doc_free(line.doc);
    return NULL;
}

static tidemill_error *copy_answer(struct merge *merge, struct lines *from)
{
    const struct raw_record *raw;
    TRY(lines_next(from, &raw));
    if (raw == NULL)
        return error_new(ERROR_CHANGED,
                         "%s and %s do not belong together: an answer is missing; run the job "
                         "again with --force",
                         merge->files->output, merge->files->errors);
    return append_line(merge->output, raw->bytes);
}

/* `text` with the value behind `mark`, which ends where `end_of` says, replaced. */
static tidemill_error *replace_value(struct buffer *text, const char *mark, const char *old_end,
                                     const char *value)
{
    const char *place = memmem(text->data, text->size, mark, strlen(mark));
    const char *end = text->data + text->size;
    const char *after =
        place == NULL ? NULL : memmem(place, (size_t)(end - place), old_end, strlen(old_end));
    if (after == NULL) return error_new(ERROR_INTERNAL, "an error line has no %s", mark);
    struct buffer line = {0};
    buffer_append(&line, text->data, (size_t)(place - text->data) + strlen(mark));
    buffer_text(&line, value);
    buffer_append(&line, after, (size_t)(end - after));
    buffer_free(text);
    *text = line;
    return line.is_failed ? error_memory() : NULL;
}

/* The retry counted its own records and named its own file: both are put back. */
static tidemill_error *copy_failure(struct merge *merge, const struct failed_record *failed)
{
    struct buffer line = {0};
    char index[32];
    snprintf(index, sizeof index, "%llu", (unsigned long long)failed->index);
    buffer_append(&line, merge->failure->bytes.data, merge->failure->bytes.size);
    tidemill_error *error = line.is_failed ? error_memory() : NULL;
    if (error == NULL) error = replace_value(&line, "\"index\":", ",\"line\":", index);
    if (error == NULL) error = replace_value(&line, ",\"input\":", ",\"code\":", failed->input);
    if (error == NULL) error = append_line(merge->errors, (struct slice){line.data, line.size});
    buffer_free(&line);
    return error == NULL ? next_failure(merge) : error;
}

static tidemill_error *merge_failed(struct merge *merge, const struct failed_record *failed,
                                    size_t *place)
{
    const struct raw_record *old;
    TRY(lines_next(&merge->failures, &old));
    if (old == NULL) return error_new(ERROR_CHANGED, "%s became shorter", merge->files->errors);
    if (failed->is_carried) return append_line(merge->errors, old->bytes);
    bool has_failed_again = merge->failure != NULL && merge->failure_place == *place;
    (*place)++;
    return has_failed_again ? copy_failure(merge, failed) : copy_answer(merge, &merge->retried);
}

static tidemill_error *merge_records(struct merge *merge, const struct failed_records *failed)
{
    size_t place = 0, next = 0; /* in the retry; in the old errors */
    TRY(copy_header(merge));
    TRY(next_failure(merge));
    for (uint64_t index = 0; index < merge->files->records_total; index++) {
        bool was_failed = next < failed->n && failed->items[next].index == index;
        TRY(was_failed ? merge_failed(merge, &failed->items[next++], &place)
                       : copy_answer(merge, &merge->answers));
    }
    return NULL;
}

static tidemill_error *merge_open(struct merge *merge)
{
    const struct merge_files *files = merge->files;
    merge->output_path = path_with(files->output, ".partial");
    merge->errors_path = path_with(files->errors, ".partial");
    if (merge->output_path == NULL || merge->errors_path == NULL) return error_memory();
    TRY(lines_open(files->io, files->output, files->output_format, &merge->answers));
    TRY(lines_open(files->io, files->errors, FORMAT_JSONL, &merge->failures));
    TRY(lines_open(files->io, files->retry_output, files->output_format, &merge->retried));
    if (io_exists(files->io, files->retry_errors))
        TRY(lines_open(files->io, files->retry_errors, FORMAT_JSONL, &merge->still_failed));
    TRY(spool_open(files->io, merge->output_path, compression_of_path(files->output), NULL,
                   &merge->output));
    return spool_open(files->io, merge->errors_path, compression_of_path(files->errors), NULL,
                      &merge->errors);
}

static void merge_close(struct merge *merge)
{
    lines_close(&merge->answers);
    lines_close(&merge->failures);
    lines_close(&merge->retried);
    lines_close(&merge->still_failed);
    spool_close(merge->output);
    spool_close(merge->errors);
    free(merge->output_path);
    free(merge->errors_path);
}

tidemill_error *merge_retried(const struct merge_files *files, const struct failed_records *failed,
                              struct journal_final *ret)
{
    struct merge merge = {.files = files};
    tidemill_error *error = merge_open(&merge);
    bool has_failures = io_exists(files->io, files->retry_errors);
    for (size_t i = 0; i < failed->n; i++) has_failures |= failed->items[i].is_carried;
    if (error == NULL) error = merge_records(&merge, failed);
    if (error == NULL) error = spool_finish(merge.output, &ret->output_bytes);
    if (error == NULL) error = spool_finish(merge.errors, &ret->errors_bytes);
    if (!has_failures) ret->errors_bytes = 0;
    merge_close(&merge);
    return error;
}
