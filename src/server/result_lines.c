/* SPDX-License-Identifier: Apache-2.0 */
/* result_lines.c - outputs and their records, side by side. */
#include "server/result_lines.h"

#include "format/format.h"
#include "server/job_lines.h"

#include <stdlib.h>

#include <yyjson.h>

#define LINE_BYTES_MAX ((size_t)64 << 20)
#define PLACE_DIGITS_MAX 18

struct reading {
    const struct result_lines *lines;
    struct job_lines answers, records;
    uint64_t n_records; /* that were read so far */
    struct buffer key, line;
};

static yyjson_val *key_value(yyjson_val *root, const char *field)
{
    if (field != NULL) return yyjson_obj_get(root, field);
    yyjson_val *value = yyjson_obj_get(root, "id");
    return value != NULL ? value : yyjson_obj_get(root, "custom_id");
}

bool result_record_key(struct slice record, const char *field, struct buffer *key)
{
    key->size = 0;
    yyjson_doc *doc = yyjson_read(record.data, record.size, YYJSON_READ_NUMBER_AS_RAW);
    yyjson_val *value = key_value(yyjson_doc_get_root(doc), field);
    bool has_key = yyjson_is_str(value) || yyjson_is_raw(value);
    if (yyjson_is_str(value)) buffer_append(key, yyjson_get_str(value), yyjson_get_len(value));
    if (yyjson_is_raw(value)) buffer_append(key, yyjson_get_raw(value), yyjson_get_len(value));
    yyjson_doc_free(doc);
    return has_key && !key->is_failed && key->size > 0 && key->size <= RESULT_KEY_BYTES_MAX;
}

/* {"id":17,...: the place, counted from 1, and what follows it. */
static bool split_line(struct slice line, uint64_t *ret_place, struct slice *ret_rest)
{
    static const char head[] = "{\"id\":";
    size_t i = sizeof head - 1, start = i;
    uint64_t place = 0;
    if (line.size < i || memcmp(line.data, head, i) != 0) return false;
    while (i < line.size && line.data[i] >= '0' && line.data[i] <= '9' &&
           i - start < PLACE_DIGITS_MAX)
        place = place * 10 + (uint64_t)(line.data[i++] - '0');
    if (i == start || i == line.size || (line.data[i] != ',' && line.data[i] != '}')) return false;
    *ret_place = place;
    *ret_rest = (struct slice){line.data + i, line.size - i};
    return true;
}

static tidemill_error *seek_record(struct reading *reading, uint64_t place,
                                   const struct raw_record **ret)
{
    do {
        TRY(job_lines_next(&reading->records, ret));
        if (*ret == NULL)
            return error_new(ERROR_CORRUPT, "record %llu is answered, but its window ends before",
                             (unsigned long long)place);
    } while (++reading->n_records < place);
    return NULL;
}

/* With the key as its id, an answer is the same wherever in a window its record stood. */
static tidemill_error *take_keyed(struct reading *reading, struct slice rest)
{
    struct slice key = {reading->key.data, reading->key.size};
    reading->line.size = 0;
    buffer_text(&reading->line, "{\"id\":");
    format_json_string(&reading->line, key.data, key.size);
    buffer_append(&reading->line, rest.data, rest.size);
    if (reading->line.is_failed) return error_memory();
    struct slice line = {reading->line.data, reading->line.size};
    return reading->lines->take(reading->lines->context, key, line);
}

static tidemill_error *take_line(struct reading *reading, struct slice line)
{
    uint64_t place;
    struct slice rest;
    const struct raw_record *record;
    if (!split_line(line, &place, &rest) || place <= reading->n_records)
        return error_new(ERROR_CORRUPT, "a line of its output does not begin with its place");
    TRY(seek_record(reading, place, &record));
    if (result_record_key(record->bytes, reading->lines->key_field, &reading->key))
        return take_keyed(reading, rest);
    return reading->lines->take(reading->lines->context, (struct slice){0}, line);
}

static tidemill_error *take_all(struct reading *reading)
{
    const _Atomic bool *is_stopping = reading->lines->is_stopping;
    const struct raw_record *line;
    while (is_stopping == NULL || !atomic_load(is_stopping)) {
        TRY(job_lines_next(&reading->answers, &line));
        if (line == NULL) return NULL;
        TRY(take_line(reading, line->bytes));
    }
    return error_new(ERROR_INTERRUPTED, "the server stops");
}

tidemill_error *result_lines_read(struct app *app, const struct store_job *job,
                                  const struct result_lines *lines)
{
    char *answers = NULL, *records = NULL;
    struct reading *reading = calloc(1, sizeof *reading);
    if (reading == NULL) return error_memory();
    reading->lines = lines;
    tidemill_error *error = store_file_path(app->store, job->output_file, &answers);
    if (error == NULL) error = store_window_path(app->store, job->id, &records);
    if (error == NULL) error = job_lines_open(app->io, answers, LINE_BYTES_MAX, &reading->answers);
    if (error == NULL) error = job_lines_open(app->io, records, LINE_BYTES_MAX, &reading->records);
    if (error == NULL) error = take_all(reading);
    job_lines_close(&reading->answers);
    job_lines_close(&reading->records);
    buffer_free(&reading->key);
    buffer_free(&reading->line);
    free(reading);
    free(answers);
    free(records);
    return error_context(error, "answers of %s", job->id);
}
