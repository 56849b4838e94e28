/* SPDX-License-Identifier: Apache-2.0 */
/* sink_http.c - a window's answers as POSTs of lines (application/x-ndjson), up to a mebibyte each, in order.
 * Piece i has the Idempotency-Key "EVENT-i", and pieces are cut by the content alone: a receiver that
 * keeps the keys takes each line once, however often a try is repeated. The address is the
 * configuration's own, so it may be private. */
#include "server/delivery_parts.h"

#include <stdio.h>
#include <stdlib.h>

#define PIECE_BYTES ((size_t)1 << 20)

struct posting {
    const struct sink_source *source;
    const char *url;
    struct buffer text;
    size_t n_pieces;
};

static tidemill_error *post(struct posting *posting, size_t size)
{
    char key[STORE_ID_BYTES + 48], job[STORE_ID_BYTES + 32], outcome[DELIVERY_OUTCOME_BYTES];
    snprintf(key, sizeof key, "Idempotency-Key: %s-%zu", posting->source->event, posting->n_pieces);
    snprintf(job, sizeof job, "X-Tidemill-Window: %s", posting->source->job->id);
    const char *headers[] = {"Content-Type: application/x-ndjson", key, job};
    struct delivery_post call = {.url = posting->url,
                                 .body = {posting->text.data, size},
                                 .headers = headers,
                                 .n_headers = COUNT_OF(headers),
                                 .may_be_private = true,
                                 .is_stopping = &posting->source->app->is_stopping};
    if (delivery_http_post(&call, outcome) != DELIVERY_DONE)
        return error_new(ERROR_UPSTREAM, "%s: %s", posting->url, outcome);
    posting->n_pieces++;
    memmove(posting->text.data, posting->text.data + size, posting->text.size - size);
    posting->text.size -= size;
    return NULL;
}

/* The whole lines within PIECE_BYTES, or one that is longer alone; 0: more has to be read. */
static size_t piece_size(const struct buffer *text, bool is_end)
{
    if (is_end && text->size <= PIECE_BYTES) return text->size;
    if (text->size <= PIECE_BYTES) return 0;
    const char *last = memrchr(text->data, '\n', PIECE_BYTES);
    if (last == NULL) last = memchr(text->data + PIECE_BYTES, '\n', text->size - PIECE_BYTES);
    if (last == NULL) return is_end ? text->size : 0;
    return (size_t)(last + 1 - text->data);
}

static tidemill_error *post_all(struct posting *posting, struct reader *reader)
{
    size_t n = 1, size;
    while (n > 0) {
        char *place = buffer_reserve(&posting->text, PIECE_BYTES);
        if (place == NULL) return error_memory();
        TRY(reader_read(reader, place, PIECE_BYTES, &n));
        posting->text.size += n;
        while ((size = piece_size(&posting->text, n == 0)) > 0) TRY(post(posting, size));
    }
    return NULL;
}

tidemill_error *sink_http(const struct sink_source *source, const char *to)
{
    struct reader *reader;
    struct posting posting = {.source = source, .url = to};
    TRY(reader_open(source->app->io, source->path, COMPRESSION_NONE, &reader));
    tidemill_error *error = post_all(&posting, reader);
    buffer_free(&posting.text);
    reader_close(reader);
    return error;
}
