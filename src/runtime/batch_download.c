/* SPDX-License-Identifier: Apache-2.0 */
/* batch_download.c - results lie in a file without a name, and are read line by line as the engine takes
 * them: a batch's answers may be larger than memory. */
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

/* The place of a unit that waits for record `index`; NULL: none does any more, or (counted) none did. */
static struct batch_unit **find_unit(struct batch *batch, uint64_t index)
{
    size_t low = 0, high = batch->n_sorted;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (batch->keys[middle].index < index)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < batch->n_sorted && batch->keys[low].index == index) {
        batch->n_twice += batch->units[low] == NULL;
        return batch->units[low] != NULL ? &batch->units[low] : NULL;
    }
    if (batch->past == NULL || !batch_past_has_index(batch->past, index)) batch->n_strange++;
    return NULL;
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

static void free_unit(struct batch_runtime *runtime, struct batch *batch, struct batch_unit **place)
{
    batch_unit_push(&runtime->free, *place);
    *place = NULL;
    batch->n_waiting--;
}

static tidemill_error *take_line(struct batch_runtime *runtime, struct batch *batch,
                                 struct slice line, struct runtime_done *done, size_t *ret_n)
{
    struct batch_result result = {.body = &runtime->body};
    if (line.size == 0) return NULL;
    TRY(batch_result_read(runtime->api.dialect, batch->tag, line, &result));
    batch->n_strange += result.verdict == BATCH_STRANGE;
    if (result.verdict == BATCH_STRANGE) return NULL;
    struct batch_unit **place = find_unit(batch, result.index);
    if (place == NULL) return NULL;
    struct batch_unit *unit = *place;
    if (result.verdict == BATCH_AGAIN) {
        *place = NULL;
        batch->n_waiting--;
        return batch_unit_again(runtime, unit, result.message);
    }
    if (result.verdict == BATCH_ANSWERED) {
        TRY(take_answer(runtime, unit, &result, done));
    } else {
        *done = (struct runtime_done){.id = unit->id, .code = ERROR_UPSTREAM};
        memcpy(done->message, result.message, sizeof done->message);
    }
    *ret_n += 1;
    free_unit(runtime, batch, place);
    return NULL;
}

tidemill_error *batch_read(struct batch_runtime *runtime, struct batch *batch,
                           struct runtime_done *done, size_t capacity, size_t *ret_n,
                           bool *ret_is_over)
{
    *ret_is_over = false;
    while (*ret_n < capacity) {
        struct slice line;
        TRY(next_line(runtime, batch, &line));
        *ret_is_over = line.data == NULL;
        if (line.data == NULL) return NULL;
        TRY(take_line(runtime, batch, line, &done[*ret_n], ret_n));
    }
    return NULL;
}
