/* SPDX-License-Identifier: Apache-2.0 */
/* queue_stream.c - POST /v1/queues/{queue}/requests of application/x-ndjson: records by the million, a line
 * each. They are accepted in pieces of up to a mebibyte as they come, so memory does not grow with them.
 * A line that is no record costs itself: it is counted, and the first ones are listed.
 *
 * The answer says which records are where, as a window may close on the way:
 *     {"object":"request.list","accepted":N,"rejected":M,
 *      "ranges":[{"window":"win_..","first":0,"count":N,"id":"req_.."}],
 *      "errors":[{"line":17,"message":".."}]}
 *
 * A client that is cut off does not know how far it came. With an Idempotency-Key it sends all of it again:
 * piece i has the key "KEY/i", and pieces are cut by the content alone, so what was accepted before is found
 * again and nothing is accepted twice. */
#include "server/queue_parts.h"

#include "format/format.h"

#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

#include <yyjson.h>

#define PIECE_BYTES ((size_t)1 << 20)
#define READ_BYTES ((size_t)64 << 10)
#define LINE_BYTES_MAX ((size_t)16 << 20)
#define ERRORS_MAX 100
#define RANGES_MAX 1000

struct range {
    char window[STORE_ID_BYTES];
    uint64_t first, count;
};

struct stream {
    struct app *app;
    struct exchange *exchange;
    const struct queue_config *queue;
    const char *tenant;
    const char *key; /* NULL: none */
    size_t line_bytes_max;
    struct buffer text;  /* read, and not cut into lines yet */
    struct buffer piece; /* records to be accepted */
    uint64_t n_piece, n_pieces, n_lines;
    uint64_t accepted, rejected;
    bool is_skipping; /* the rest of a line that is too long */
    struct range ranges[RANGES_MAX];
    size_t n_ranges;
    struct buffer errors;
    size_t n_errors;
};

/* --- one piece -------------------------------------------------------------------------------------- */

struct piece {
    struct store_accept accept; /* first */
    sem_t is_done;
    tidemill_error *error;
};

static void piece_done(struct store_accept *accept, tidemill_error *error)
{
    struct piece *piece = (struct piece *)accept;
    piece->error = error;
    sem_post(&piece->is_done);
}

static void note_range(struct stream *stream, const struct store_accept *accept)
{
    struct range *last = stream->n_ranges == 0 ? NULL : &stream->ranges[stream->n_ranges - 1];
    if (last != NULL && strcmp(last->window, accept->window) == 0 &&
        last->first + last->count == accept->first) {
        last->count += accept->n;
        return;
    }
    if (stream->n_ranges == RANGES_MAX) return; /* the counts are right all the same */
    struct range *range = &stream->ranges[stream->n_ranges++];
    *range = (struct range){.first = accept->first, .count = accept->n};
    memcpy(range->window, accept->window, sizeof range->window);
}

/* Waits: this is a thread of the pool. */
static tidemill_error *accept_and_wait(struct stream *stream, struct piece *piece)
{
    sem_init(&piece->is_done, 0, 0);
    store_accept(stream->app->store, &piece->accept);
    while (sem_wait(&piece->is_done) != 0) continue;
    sem_destroy(&piece->is_done);
    return piece->error;
}

/* *ret_full: the tenant's room in the queue is used up; nothing was taken. */
static tidemill_error *send_piece(struct stream *stream, bool *ret_full)
{
    char key[320];
    struct piece piece = {0};
    uint64_t n = stream->n_piece;
    if (n == 0) return NULL;
    if (stream->piece.is_failed) return error_memory();
    *ret_full = !requests_admit(stream->app, stream->queue, stream->tenant, n);
    if (*ret_full) return NULL;
    queue_fill_accept(stream->queue, stream->tenant, &piece.accept);
    piece.accept.lines = stream->piece.data;
    piece.accept.bytes = stream->piece.size;
    piece.accept.n = n;
    piece.accept.done = piece_done;
    if (stream->key != NULL) {
        snprintf(key, sizeof key, "%s/%" PRIu64, stream->key, stream->n_pieces);
        piece.accept.idempotency_key = key;
        piece.accept.digest = hash_bytes(stream->piece.data, stream->piece.size);
    }
    tidemill_error *error = accept_and_wait(stream, &piece);
    const struct store_accept *accept = &piece.accept;
    bool is_new = error == NULL && !accept->is_repeat && !accept->is_conflict;
    requests_settle(stream->app, stream->queue->name, stream->tenant, n, is_new);
    if (is_new) scheduler_accepted(stream->app->scheduler, accept);
    TRY(error);
    if (accept->is_conflict)
        return error_new(ERROR_CHANGED, "this Idempotency-Key was used with other records");
    note_range(stream, accept);
    stream->accepted += n;
    stream->n_pieces++;
    stream->n_piece = 0;
    buffer_reset(&stream->piece, 2 * PIECE_BYTES);
    return NULL;
}

/* --- lines ------------------------------------------------------------------------------------------ */

static void reject(struct stream *stream, const char *message)
{
    stream->rejected++;
    if (stream->n_errors == ERRORS_MAX) return;
    buffer_printf(&stream->errors,
                  "%s{\"line\":%" PRIu64 ",\"message\":", stream->n_errors++ > 0 ? "," : "",
                  stream->n_lines);
    format_json_string(&stream->errors, message, strlen(message));
    buffer_byte(&stream->errors, '}');
}

static bool is_blank(struct slice line)
{
    for (size_t i = 0; i < line.size; i++)
        if (memchr(" \t\r", line.data[i], 3) == NULL) return false;
    return true;
}

/* A line without its end; blank ones are none. */
static tidemill_error *take_line(struct stream *stream, struct slice line, bool *ret_full)
{
    char message[160];
    yyjson_read_err problem;
    stream->n_lines++;
    if (is_blank(line)) return NULL;
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)line.data, line.size, 0, NULL, &problem);
    bool is_object = yyjson_is_obj(yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    if (!is_object) {
        snprintf(message, sizeof message, doc == NULL ? "not valid JSON: %s" : "not a JSON object",
                 doc == NULL ? problem.msg : "");
        reject(stream, message);
        return NULL;
    }
    if (line.data[line.size - 1] == '\r') line.size--;
    if (stream->n_piece > 0 && stream->piece.size + line.size + 1 > PIECE_BYTES)
        TRY(send_piece(stream, ret_full));
    if (*ret_full) return NULL;
    buffer_append(&stream->piece, line.data, line.size);
    buffer_byte(&stream->piece, '\n');
    stream->n_piece++;
    return NULL;
}

static tidemill_error *take_lines(struct stream *stream, bool *ret_full)
{
    char *p = stream->text.data, *end = p + stream->text.size, *line_end;
    while (!*ret_full && p < end && (line_end = memchr(p, '\n', (size_t)(end - p))) != NULL) {
        struct slice line = {p, (size_t)(line_end - p)};
        p = line_end + 1;
        if (stream->is_skipping)
            stream->is_skipping = false; /* the end of one that was refused */
        else
            TRY(take_line(stream, line, ret_full));
    }
    size_t rest = (size_t)(end - p);
    if (rest > 0) memmove(stream->text.data, p, rest);
    stream->text.size = rest;
    if (rest <= stream->line_bytes_max) return NULL;
    if (!stream->is_skipping) {
        stream->n_lines++;
        reject(stream, "the line is longer than a record may be");
    }
    stream->is_skipping = true;
    stream->text.size = 0;
    return NULL;
}

static tidemill_error *take_all(struct stream *stream, bool *ret_full)
{
    for (size_t n = 1; n > 0 && !*ret_full;) {
        char *place = buffer_reserve(&stream->text, READ_BYTES);
        if (place == NULL) return error_memory();
        TRY(exchange_read(stream->exchange, place, READ_BYTES, &n));
        stream->text.size += n;
        TRY(take_lines(stream, ret_full));
    }
    if (*ret_full) return NULL;
    struct slice last = {stream->text.data, stream->text.size};
    if (last.size > 0 && !stream->is_skipping) TRY(take_line(stream, last, ret_full));
    return *ret_full ? NULL : send_piece(stream, ret_full);
}

/* --- the answer --------------------------------------------------------------------------------------- */

static void append_range(struct buffer *out, const struct range *range)
{
    char id[REQUEST_ID_BYTES];
    struct request_id request = {
        .first = range->first, .n = range->count, .dialect = DIALECT_TIDEMILL};
    memcpy(request.window, range->window, sizeof request.window);
    request_id_text(&request, id);
    buffer_printf(out,
                  "{\"window\":\"%s\",\"first\":%" PRIu64 ",\"count\":%" PRIu64 ",\"id\":\"%s\"}",
                  range->window, range->first, range->count, id);
}

static void append_counts(struct buffer *out, const struct stream *stream)
{
    buffer_printf(out,
                  "\"object\":\"request.list\",\"queue\":\"%s\",\"accepted\":%" PRIu64
                  ",\"rejected\":%" PRIu64 ",\"ranges\":[",
                  stream->queue->name, stream->accepted, stream->rejected);
    for (size_t i = 0; i < stream->n_ranges; i++) {
        if (i > 0) buffer_byte(out, ',');
        append_range(out, &stream->ranges[i]);
    }
    buffer_text(out, "],\"errors\":[");
    buffer_append(out, stream->errors.data, stream->errors.size);
    buffer_byte(out, ']');
}

/* Also where it did not end well: what was accepted stays so, and the client is told of it. */
static void answer(struct stream *stream, int status, const char *message)
{
    struct buffer out = {0};
    buffer_byte(&out, '{');
    append_counts(&out, stream);
    if (message != NULL) {
        buffer_text(&out, ",\"error\":{\"message\":");
        format_json_string(&out, message, strlen(message));
        buffer_text(&out, ",\"type\":\"invalid_request_error\",\"param\":null,\"code\":null}");
    }
    buffer_text(&out, "}\n");
    if (status == 202 && stream->n_ranges > 0)
        exchange_set_header(stream->exchange, "Location", "/v1/queues/%s", stream->queue->name);
    exchange_answer_buffer(stream->exchange, status, "application/json", &out);
}

static void finish(struct stream *stream, tidemill_error *error, bool is_full)
{
    if (is_full) {
        exchange_set_header(stream->exchange, "Retry-After", "%d", 30);
        answer(stream, 429, "the queue holds as many of your records as it may");
    } else if (error != NULL) {
        int status =
            error_code_of(error) == ERROR_CHANGED ? 422 : app_error_status(error_code_of(error));
        answer(stream, status, error_message(error));
    } else if (stream->accepted == 0) {
        answer(stream, 400, "there was no record in it");
    } else {
        answer(stream, 202, NULL);
    }
    error_free(error);
}

void queue_post_records(struct exchange *exchange, void *context)
{
    struct app *app = context;
    char *key;
    bool is_full = false;
    const struct queue_config *queue = queue_of_exchange(app, exchange);
    if (queue == NULL || !queue_idempotency_key(exchange, &key)) return;
    struct stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) {
        free(key);
        app_refuse_error(exchange, error_memory());
        return;
    }
    int64_t bytes_max = queue->model->spec.record_bytes_max;
    stream->app = app;
    stream->exchange = exchange;
    stream->queue = queue;
    stream->tenant = app_caller(exchange)->tenant;
    stream->key = key;
    stream->line_bytes_max =
        bytes_max > 0 ? MIN((size_t)bytes_max, LINE_BYTES_MAX) : LINE_BYTES_MAX;
    tidemill_error *error = take_all(stream, &is_full);
    finish(stream, error, is_full);
    buffer_free(&stream->text);
    buffer_free(&stream->piece);
    buffer_free(&stream->errors);
    free(stream);
    free(key);
}
