/* SPDX-License-Identifier: Apache-2.0 */
/* batch_upload.c - requests are made from the records while they are sent: no copy of a batch is kept. */
#include "runtime/batch.h"

#include <stdio.h>
#include <stdlib.h>

#define LINE_BYTES_KEPT ((size_t)1 << 20)
#define ANTHROPIC_HEAD "{\"requests\":["
#define ANTHROPIC_TAIL "]}"

/* The request's body in runtime->body. */
static enum error_code make_body(struct batch_runtime *runtime, const struct batch_unit *unit,
                                 char message[512])
{
    struct slice row = batch_unit_text(runtime, unit, 0);
    size_t blamed;
    buffer_reset(&runtime->body, LINE_BYTES_KEPT);
    enum error_code code =
        http_request_body(&runtime->api.target, &row, 1, &runtime->body, &blamed, message);
    if (code != ERROR_OK) return code;
    return runtime->body.is_failed ? ERROR_MEMORY : ERROR_OK;
}

static void make_line(struct batch_runtime *runtime, const struct batch *batch,
                      const struct batch_unit *unit, struct buffer *out)
{
    static const char any_tag[BATCH_TAG_BYTES] = "00000000000000000000000000000000";
    struct slice body = {runtime->body.data, runtime->body.size};
    batch_api_line(&runtime->api, unit->key.index, batch != NULL ? batch->tag : any_tag, unit->url,
                   body, out);
    buffer_byte(out, runtime->api.dialect == BATCH_OPENAI ? '\n' : ',');
}

enum error_code batch_measure(struct batch_runtime *runtime, struct batch_unit *unit,
                              char message[512])
{
    enum error_code code = make_body(runtime, unit, message);
    if (code != ERROR_OK) return code;
    buffer_reset(&runtime->text, LINE_BYTES_KEPT);
    make_line(runtime, NULL, unit, &runtime->text);
    if (runtime->text.is_failed) return ERROR_MEMORY;
    unit->line_bytes = runtime->text.size;
    unit->key.digest = hash_bytes(runtime->text.data, runtime->text.size); /* url and index, too */
    if (unit->line_bytes <= BATCH_BYTES_MAX) return ERROR_OK;
    snprintf(message, 512, "the request of %llu bytes is larger than a batch may be",
             (unsigned long long)unit->line_bytes);
    return ERROR_UPSTREAM;
}

static int compare_units(const void *a, const void *b)
{
    uint64_t one = (*(struct batch_unit *const *)a)->key.index;
    uint64_t other = (*(struct batch_unit *const *)b)->key.index;
    return (one > other) - (one < other);
}

tidemill_error *batch_sort(struct batch *batch)
{
    size_t n = 0;
    for (size_t i = 0; i < batch->n_units; i++)
        if (batch->units[i] != NULL) batch->units[n++] = batch->units[i];
    batch->n_units = batch->n_sorted = batch->n_waiting = n;
    if (n > 1) qsort(batch->units, n, sizeof(struct batch_unit *), compare_units);
    struct batch_unit_key *keys = realloc(batch->keys, MAX(n, (size_t)1) * sizeof *keys);
    if (keys == NULL) return error_memory();
    batch->keys = keys;
    for (size_t i = 0; i < n; i++) keys[i] = batch->units[i]->key;
    return NULL;
}

/* --- the source of an upload ------------------------------------------------------------------------------ */

struct upload_context {
    struct batch_runtime *runtime;
    struct batch *batch;
};

/* The next piece: head, lines, tail. False: no memory. */
static bool next_piece(struct batch_runtime *runtime, struct batch *batch)
{
    bool is_openai = runtime->api.dialect == BATCH_OPENAI;
    struct buffer *line = &batch->upload.line;
    size_t i = batch->upload.next;
    char message[512];
    buffer_reset(line, LINE_BYTES_KEPT);
    batch->upload.line_at = 0;
    if (i == 0 && !is_openai) buffer_text(line, ANTHROPIC_HEAD);
    if (i >= batch->n_units || make_body(runtime, batch->units[i], message) != ERROR_OK)
        return false;
    make_line(runtime, batch, batch->units[i], line);
    batch->upload.next = ++i;
    if (i == batch->n_units && !is_openai && !line->is_failed) {
        line->size--; /* the comma */
        buffer_text(line, ANTHROPIC_TAIL);
    }
    return !line->is_failed;
}

static size_t read_upload(void *context, char *place, size_t size)
{
    const struct upload_context *upload = context;
    struct batch *batch = upload->batch;
    struct buffer *line = &batch->upload.line;
    size_t done = 0;
    while (done < size) {
        if (batch->upload.line_at == line->size && !next_piece(upload->runtime, batch)) break;
        size_t n = MIN(size - done, line->size - batch->upload.line_at);
        memcpy(place + done, line->data + batch->upload.line_at, n);
        batch->upload.line_at += n;
        done += n;
    }
    return done;
}

static void rewind_upload(void *context)
{
    const struct upload_context *upload = context;
    upload->batch->upload.next = 0;
    upload->batch->upload.line_at = upload->batch->upload.line.size = 0;
}

tidemill_error *batch_upload_begin(struct batch_runtime *runtime, struct batch *batch)
{
    struct transfer_source *source = &batch->upload.source;
    if (source->context == NULL) {
        struct upload_context *context = malloc(sizeof *context);
        if (context == NULL) return error_memory();
        *context = (struct upload_context){runtime, batch};
        source->context = context; /* batch_free frees it */
    }
    source->read = read_upload;
    source->rewind = rewind_upload;
    source->size_bytes = batch->bytes;
    if (runtime->api.dialect == BATCH_ANTHROPIC)
        source->size_bytes += strlen(ANTHROPIC_HEAD) + strlen(ANTHROPIC_TAIL) - 1;
    rewind_upload(source->context);
    return NULL;
}
