/* SPDX-License-Identifier: Apache-2.0 */
/* job_index.c - walks two files of lines side by side, from a known place. */
#include "server/job_index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES ((size_t)64 << 10)
#define LINE_BYTES_MAX ((size_t)256 << 20)

/* --- one file ----------------------------------------------------------------------------------- */

struct column {
    const struct io *io;
    const char *path;
    int fd;             /* -1: there is no file */
    uint64_t at, bytes; /* the next line's place; where the file ends for us */
    struct buffer data; /* from `at` on, as far as it was read */
    size_t line_size;   /* of the next line, with its newline; 0: there is none */
};

static tidemill_error *column_open(struct column *column, const struct io *io, const char *path,
                                   uint64_t at, uint64_t bytes)
{
    *column = (struct column){.io = io, .path = path, .fd = -1, .at = at, .bytes = bytes};
    if (path == NULL || at >= bytes) return NULL;
    return io_open(io, path, O_RDONLY, 0, &column->fd);
}

static void column_close(struct column *column)
{
    io_close(column->io, column->fd);
    buffer_free(&column->data);
}

static tidemill_error *read_block(struct column *column)
{
    uint64_t from = column->at + column->data.size;
    size_t size = (size_t)MIN(column->bytes - from, (uint64_t)BLOCK_BYTES);
    if (column->data.size > LINE_BYTES_MAX)
        return error_new(ERROR_CORRUPT, "%s: a line has more than %zu bytes", column->path,
                         LINE_BYTES_MAX);
    char *place = buffer_reserve(&column->data, size);
    if (place == NULL) return error_memory();
    ssize_t got = column->io->pread(column->io->context, column->fd, place, size, (off_t)from);
    if (got < 0) return error_errno(ERROR_IO, errno, "cannot read %s", column->path);
    if (got == 0) return error_new(ERROR_CORRUPT, "%s is shorter than its job says", column->path);
    column->data.size += (size_t)got;
    return NULL;
}

/* Finds the next line's end. */
static tidemill_error *peek(struct column *column)
{
    size_t seen = 0;
    column->line_size = 0;
    if (column->fd < 0 || column->at >= column->bytes) return NULL;
    for (;;) {
        char *end = seen < column->data.size
                        ? memchr(column->data.data + seen, '\n', column->data.size - seen)
                        : NULL;
        if (end != NULL) {
            column->line_size = (size_t)(end - column->data.data) + 1;
            return NULL;
        }
        seen = column->data.size;
        if (column->at + seen >= column->bytes)
            return error_new(ERROR_CORRUPT, "%s: its last line has no end", column->path);
        TRY(read_block(column));
    }
}

static tidemill_error *advance(struct column *column)
{
    column->at += column->line_size;
    column->data.size -= column->line_size;
    memmove(column->data.data, column->data.data + column->line_size, column->data.size);
    return peek(column);
}

/* The number that a line begins with, {"id":NUMBER. */
static tidemill_error *line_number(const struct column *column, uint64_t *ret)
{
    static const char head[] = "{\"id\":";
    const char *p = column->data.data, *end = p + column->line_size;
    size_t size = sizeof head - 1;
    *ret = 0;
    if (column->line_size > size && memcmp(p, head, size) == 0)
        for (p += size; p < end && *p >= '0' && *p <= '9' && *ret < UINT64_MAX / 16; p++)
            *ret = *ret * 10 + (uint64_t)(*p - '0');
    return *ret > 0 ? NULL
                    : error_new(ERROR_CORRUPT, "%s: byte %llu is not where a record begins",
                                column->path, (unsigned long long)column->at);
}

/* --- both --------------------------------------------------------------------------------------- */

struct walk {
    struct column output, errors;
    uint64_t record;       /* the next one */
    struct column *holder; /* that has it; NULL: neither */
};

/* That a line is this record's is read from the line, not reckoned. */
static tidemill_error *choose(struct walk *walk)
{
    uint64_t number;
    walk->holder = NULL;
    if (walk->errors.line_size > 0) {
        TRY(line_number(&walk->errors, &number));
        if (number == walk->record + 1) walk->holder = &walk->errors;
    }
    if (walk->holder != NULL || walk->output.line_size == 0) return NULL;
    TRY(line_number(&walk->output, &number));
    if (number != walk->record + 1)
        return error_new(ERROR_CORRUPT, "%s: record %llu stands where %llu should",
                         walk->output.path, (unsigned long long)number,
                         (unsigned long long)walk->record + 1);
    walk->holder = &walk->output;
    return NULL;
}

static tidemill_error *walk_open(struct walk *walk, const struct io *io,
                                 const struct index_files *files, uint64_t record,
                                 struct index_place place)
{
    *walk = (struct walk){.record = record, .errors = {.fd = -1}};
    TRY(column_open(&walk->output, io, files->output, place.output, files->output_bytes));
    TRY(column_open(&walk->errors, io, files->errors, place.errors, files->errors_bytes));
    TRY(peek(&walk->output));
    TRY(peek(&walk->errors));
    return choose(walk);
}

static void walk_close(struct walk *walk)
{
    column_close(&walk->output);
    column_close(&walk->errors);
}

static tidemill_error *walk_next(struct walk *walk)
{
    TRY(advance(walk->holder));
    walk->record++;
    return choose(walk);
}

/* --- indexes ------------------------------------------------------------------------------------ */

void job_indexes_init(struct job_indexes *indexes)
{
    *indexes = (struct job_indexes){0};
    pthread_mutex_init(&indexes->mutex, NULL);
}

static void clear(struct job_index *index)
{
    free(index->places);
    *index = (struct job_index){0};
}

void job_indexes_free(struct job_indexes *indexes)
{
    for (size_t i = 0; i < INDEXES_KEPT; i++) clear(&indexes->items[i]);
    pthread_mutex_destroy(&indexes->mutex);
}

void job_indexes_forget(struct job_indexes *indexes, const char *id)
{
    pthread_mutex_lock(&indexes->mutex);
    for (size_t i = 0; i < INDEXES_KEPT; i++)
        if (strcmp(indexes->items[i].id, id) == 0) clear(&indexes->items[i]);
    pthread_mutex_unlock(&indexes->mutex);
}

/* The job's, else the one that was not asked for longest, emptied. */
static struct job_index *take(struct job_indexes *indexes, const char *id, const char *made_of)
{
    struct job_index *found = &indexes->items[0];
    for (size_t i = 0; i < INDEXES_KEPT; i++) {
        struct job_index *index = &indexes->items[i];
        if (index->used > 0 && strcmp(index->id, id) == 0) {
            found = index;
            break;
        }
        if (index->used < found->used) found = index;
    }
    if (found->used == 0 || strcmp(found->id, id) != 0 || strcmp(found->made_of, made_of) != 0) {
        clear(found);
        memcpy(found->id, id, strnlen(id, STORE_ID_BYTES - 1));
        memcpy(found->made_of, made_of, strnlen(made_of, STORE_ID_BYTES - 1));
    }
    found->used = ++indexes->clock;
    return found;
}

static tidemill_error *add_place(struct job_index *index, struct index_place place)
{
    if (index->n_places == index->capacity) {
        size_t capacity = MAX(2 * index->capacity, (size_t)16);
        struct index_place *places = realloc(index->places, capacity * sizeof *places);
        if (places == NULL) return error_memory();
        index->places = places;
        index->capacity = capacity;
    }
    index->places[index->n_places++] = place;
    return NULL;
}

static tidemill_error *lengthen_by(struct job_index *index, struct walk *walk, uint64_t n)
{
    while (walk->holder != NULL && index->records <= n) {
        if (walk->record % INDEX_STEP == 0 && walk->record / INDEX_STEP == index->n_places)
            TRY(add_place(index, index->end));
        TRY(walk_next(walk));
        index->records = walk->record;
        index->end = (struct index_place){walk->output.at, walk->errors.at};
    }
    return NULL;
}

/* So far that record `n` is in it, or to the files' end. */
static tidemill_error *lengthen(struct job_index *index, const struct io *io,
                                const struct index_files *files, uint64_t n)
{
    struct walk walk;
    if (index->records > n) return NULL;
    tidemill_error *error = walk_open(&walk, io, files, index->records, index->end);
    if (error == NULL) error = lengthen_by(index, &walk, n);
    walk_close(&walk);
    return error;
}

static tidemill_error *read_line(const struct job_index *index, const struct io *io,
                                 const struct index_files *files, uint64_t n, struct buffer *line,
                                 bool *ret_is_error, bool *ret_found)
{
    struct walk walk;
    uint64_t from = n / INDEX_STEP;
    tidemill_error *error =
        walk_open(&walk, io, files, from * INDEX_STEP, index->places[(size_t)from]);
    while (error == NULL && walk.holder != NULL && walk.record < n) error = walk_next(&walk);
    *ret_found = error == NULL && walk.holder != NULL;
    if (*ret_found) {
        buffer_append(line, walk.holder->data.data, walk.holder->line_size - 1);
        *ret_is_error = walk.holder == &walk.errors;
        if (line->is_failed) error = error_memory();
    }
    walk_close(&walk);
    return error;
}

static tidemill_error *find(struct job_index *index, const struct io *io,
                            const struct index_files *files, uint64_t n, struct buffer *line,
                            bool *ret_is_error, bool *ret_found)
{
    TRY(lengthen(index, io, files, n));
    if (index->records <= n) return NULL;
    return read_line(index, io, files, n, line, ret_is_error, ret_found);
}

tidemill_error *job_indexes_find(struct job_indexes *indexes, const struct io *io, const char *id,
                                 const char *made_of, const struct index_files *files, uint64_t n,
                                 struct buffer *line, bool *ret_is_error, bool *ret_found)
{
    *ret_found = *ret_is_error = false;
    pthread_mutex_lock(&indexes->mutex);
    struct job_index *index = take(indexes, id, made_of);
    bool is_old = index->records > 0;
    tidemill_error *error = find(index, io, files, n, line, ret_is_error, ret_found);
    if (error_code_of(error) == ERROR_CORRUPT && is_old) { /* the files were replaced */
        error_free(error);
        clear(index);
        index = take(indexes, id, made_of);
        error = find(index, io, files, n, line, ret_is_error, ret_found);
    }
    if (error != NULL) clear(index);
    pthread_mutex_unlock(&indexes->mutex);
    return error;
}
