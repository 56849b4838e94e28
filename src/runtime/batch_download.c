/* SPDX-License-Identifier: Apache-2.0 */
/* batch_download.c - results lie in a file without a name: a batch's answers may be larger than memory. They
 * come in any order, and are handed out in the records': the engine keeps what it cannot write yet. So lines
 * are looked up first, and read again as the engine takes them. */
#include "runtime/batch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define WINDOW_BYTES ((size_t)256 << 10)
#define LINE_BYTES_MAX HTTP_ANSWER_BYTES_MAX

/* --- the file ------------------------------------------------------------------------------------------------ */

/* Beside the output, where there is room for it; its name goes at once, so that no kill leaves it. */
tidemill_error *batch_download_begin(struct batch_runtime *runtime, struct batch *batch)
{
    const struct io *io = runtime->io;
    io_close(io, batch->fd);
    batch->fd = -1;
    batch->part = 0;
    batch->part_start = batch->read_offset = 0;
    batch->window.size = batch->window_at = 0;
    free(batch->places);
    batch->places = NULL;
    batch->next_place = 0;
    batch->is_skipping = false;
    batch->n_strange = batch->n_twice = 0;
    if (runtime->state.path == NULL) {
        const char *folder = getenv("TMPDIR");
        return io_open(io, folder != NULL && folder[0] != '\0' ? folder : "/tmp",
                       O_TMPFILE | O_RDWR | O_APPEND, 0600, &batch->fd);
    }
    char *path;
    if (asprintf(&path, "%s.results", runtime->state.path) < 0) return error_memory();
    tidemill_error *error =
        io_open(io, path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0600, &batch->fd);
    if (error == NULL) io->unlink(io->context, path);
    free(path);
    return error;
}

static tidemill_error *fill_window(struct batch_runtime *runtime, struct batch *batch,
                                   bool *ret_is_over)
{
    struct buffer *window = &batch->window;
    if (batch->window_at > 0) {
        memmove(window->data, window->data + batch->window_at, window->size - batch->window_at);
        window->size -= batch->window_at;
        batch->window_at = 0;
    }
    char *place = buffer_reserve(window, WINDOW_BYTES);
    if (place == NULL) return error_memory();
    ssize_t n = runtime->io->pread(runtime->io->context, batch->fd, place, WINDOW_BYTES,
                                   (off_t)batch->read_offset);
    if (n < 0) return error_errno(ERROR_IO, errno, "cannot read the results back");
    window->size += (size_t)n;
    batch->read_offset += (size_t)n;
    *ret_is_over = n == 0;
    return NULL;
}

/* The next line without its end; data NULL: there is none. A last line without an end counts: if it is
 * torn, it is no JSON. */
static tidemill_error *next_line(struct batch_runtime *runtime, struct batch *batch,
                                 struct slice *ret)
{
    struct buffer *window = &batch->window;
    bool is_over = false;
    size_t looked = 0;
    for (;;) {
        size_t left = window->size - batch->window_at;
        const char *start = window->data + batch->window_at;
        const char *end = left > looked ? memchr(start + looked, '\n', left - looked) : NULL;
        if (end == NULL && !is_over) {
            looked = left;
            if (left > LINE_BYTES_MAX) { /* forgotten; the rest of it will be no JSON */
                batch->window_at = window->size;
                batch->is_skipping = true;
                looked = 0;
            }
            TRY(fill_window(runtime, batch, &is_over));
            continue;
        }
        *ret = (struct slice){start, end != NULL ? (size_t)(end - start) : left};
        batch->window_at += ret->size + (end != NULL);
        if (end == NULL && left == 0) ret->data = NULL;
        if (ret->data == NULL || !batch->is_skipping) return NULL;
        batch->is_skipping = false;
        batch->n_strange++;
        looked = 0;
    }
}

/* --- answers ------------------------------------------------------------------------------------------------- */

/* Notes where the line is, the first time. */
static tidemill_error *note_line(struct batch_runtime *runtime, struct batch *batch,
                                 struct slice line, uint64_t offset)
{
    struct batch_result result = {.body = &runtime->body};
    if (line.size == 0) return NULL;
    TRY(batch_result_read(runtime->api.dialect, batch->tag, line, &result));
    size_t at = result.verdict == BATCH_STRANGE
                    ? SIZE_MAX
                    : batch_unit_find(batch->keys, batch->n_sorted, result.index);
    bool is_known = at != SIZE_MAX || (result.verdict != BATCH_STRANGE && batch->past != NULL &&
                                       batch_past_has_index(batch->past, result.index));
    batch->n_strange += !is_known;
    if (at == SIZE_MAX) return NULL;
    batch->n_twice += batch->places[at].size > 0;
    if (batch->places[at].size == 0) batch->places[at] = (struct batch_place){offset, line.size};
    return NULL;
}

static tidemill_error *find_lines(struct batch_runtime *runtime, struct batch *batch)
{
    batch->places = calloc(MAX(batch->n_sorted, (size_t)1), sizeof *batch->places);
    if (batch->places == NULL) return error_memory();
    for (;;) {
        struct slice line;
        TRY(next_line(runtime, batch, &line));
        if (line.data == NULL) return NULL;
        uint64_t offset =
            batch->read_offset - batch->window.size + (uint64_t)(line.data - batch->window.data);
        TRY(note_line(runtime, batch, line, offset));
    }
}

static tidemill_error *make_value(struct slice text, struct runtime_done *done)
{
    uint32_t size = (uint32_t)text.size;
    struct value *value = malloc(sizeof *value + sizeof size + text.size);
    if (value == NULL) return error_memory();
    unsigned char *data = (unsigned char *)(value + 1);
    memcpy(data, &size, sizeof size);
    memcpy(data + sizeof size, text.data, text.size);
    *value = (struct value){.kind = VALUE_TENSOR,
                            .type = TENSOR_STRING,
                            .data = data,
                            .bytes = sizeof size + text.size};
    done->values = value;
    done->n_values = 1;
    return NULL;
}

static tidemill_error *take_answer(struct batch_runtime *runtime, const struct batch_unit *unit,
                                   const struct batch_result *result, struct runtime_done *done)
{
    struct slice body = {result->body->data, result->body->size};
    size_t ends[1];
    buffer_reset(&runtime->text, WINDOW_BYTES);
    struct http_answer answer = {.text = &runtime->text, .ends = ends};
    *done = (struct runtime_done){.id = unit->id};
    done->code = http_answer_read(&runtime->api.target, body, false, 1, &answer);
    if (done->code != ERROR_OK) {
        memcpy(done->message, answer.message, sizeof done->message);
        return NULL;
    }
    if (runtime->text.is_failed) return error_memory();
    struct slice text = {runtime->text.data, ends[0]};
    done->usage = answer.usage;
    return make_value(text, done);
}

static tidemill_error *read_line(struct batch_runtime *runtime, struct batch *batch,
                                 const struct batch_place *place, struct slice *ret)
{
    struct buffer *window = &batch->window;
    window->size = 0;
    char *data = buffer_reserve(window, place->size);
    if (data == NULL) return error_memory();
    for (size_t done = 0; done < place->size;) {
        ssize_t n = runtime->io->pread(runtime->io->context, batch->fd, data + done,
                                       place->size - done, (off_t)(place->offset + done));
        if (n <= 0)
            return error_errno(ERROR_IO, n < 0 ? errno : EIO, "cannot read the results back");
        done += (size_t)n;
    }
    *ret = (struct slice){data, place->size};
    return NULL;
}

/* The line of unit `at`, which waits no more afterwards. */
static tidemill_error *take_line(struct batch_runtime *runtime, struct batch *batch, size_t at,
                                 struct runtime_done *done, size_t *ret_n)
{
    struct batch_result result = {.body = &runtime->body};
    struct batch_unit *unit = batch->units[at];
    struct slice line;
    TRY(read_line(runtime, batch, &batch->places[at], &line));
    TRY(batch_result_read(runtime->api.dialect, batch->tag, line, &result));
    if (result.verdict == BATCH_ANSWERED) {
        TRY(take_answer(runtime, unit, &result, done));
    } else if (result.verdict == BATCH_REFUSED) {
        *done = (struct runtime_done){.id = unit->id, .code = ERROR_UPSTREAM};
        memcpy(done->message, result.message, sizeof done->message);
    }
    batch->units[at] = NULL;
    batch->n_waiting--;
    if (result.verdict != BATCH_ANSWERED && result.verdict != BATCH_REFUSED)
        return batch_unit_again(runtime, unit, result.message);
    batch_unit_push(&runtime->free, unit);
    *ret_n += 1;
    return NULL;
}

tidemill_error *batch_read(struct batch_runtime *runtime, struct batch *batch,
                           struct runtime_done *done, size_t capacity, size_t *ret_n,
                           bool *ret_is_over)
{
    if (batch->places == NULL) TRY(find_lines(runtime, batch));
    while (*ret_n < capacity && batch->next_place < batch->n_sorted) {
        size_t at = batch->next_place++;
        if (batch->places[at].size > 0) TRY(take_line(runtime, batch, at, &done[*ret_n], ret_n));
    }
    *ret_is_over = batch->next_place == batch->n_sorted;
    return NULL;
}
