/* SPDX-License-Identifier: Apache-2.0 */
/* batch_state.c - lines with checksums, appended and synced; read back once. */
#include "runtime/batch_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <yyjson.h>

#define CHECKSUM_BYTES 16
#define DIGEST_DIGITS 32
#define STATE_BYTES_MAX ((size_t)4 << 30) /* some 100 million requests */

/* --- lines in ---------------------------------------------------------------------------------------------- */

static bool read_hex(const char *text, uint64_t *ret)
{
    *ret = 0;
    for (int i = 0; i < 16; i++) {
        char c = text[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                                                : 16;
        if (digit == 16) return false;
        *ret = *ret << 4 | digit;
    }
    return true;
}

static struct batch_past *find_past(struct batch_state *state, const char *tag)
{
    for (size_t i = 0; tag != NULL && i < state->n_past; i++)
        if (strcmp(state->past[i].tag, tag) == 0) return &state->past[i];
    return NULL;
}

static bool read_keys(yyjson_val *frame, struct batch_past *past)
{
    yyjson_val *indices = yyjson_obj_get(frame, "indices"), *index;
    yyjson_val *digests = yyjson_obj_get(frame, "digests");
    size_t i, n = yyjson_arr_size(indices);
    const char *text = yyjson_get_str(digests);
    if (text == NULL || yyjson_get_len(digests) != n * DIGEST_DIGITS) return false;
    past->keys = calloc(MAX(n, (size_t)1), sizeof *past->keys);
    if (past->keys == NULL) return false;
    past->n_keys = n;
    yyjson_arr_foreach(indices, i, n, index)
    {
        struct batch_unit_key *key = &past->keys[i];
        key->index = yyjson_get_uint(index);
        if (i > 0 && key->index <= past->keys[i - 1].index) return false;
        if (!read_hex(text + i * DIGEST_DIGITS, &key->digest.high) ||
            !read_hex(text + i * DIGEST_DIGITS + 16, &key->digest.low))
            return false;
    }
    return true;
}

static void free_past(struct batch_past *past)
{
    free(past->server);
    free(past->after);
    free(past->id);
    free(past->keys);
}

static bool read_batch(struct batch_state *state, yyjson_val *frame)
{
    const char *tag = yyjson_get_str(yyjson_obj_get(frame, "tag"));
    const char *server = yyjson_get_str(yyjson_obj_get(frame, "server"));
    const char *after = yyjson_get_str(yyjson_obj_get(frame, "after"));
    if (tag == NULL || strlen(tag) >= BATCH_TAG_BYTES || server == NULL || after == NULL)
        return false;
    struct batch_past *grown = realloc(state->past, (state->n_past + 1) * sizeof *grown);
    if (grown == NULL) return false;
    state->past = grown;
    struct batch_past *past = &grown[state->n_past];
    *past = (struct batch_past){.server = strdup(server), .after = strdup(after)};
    snprintf(past->tag, sizeof past->tag, "%s", tag);
    if (past->server != NULL && past->after != NULL && read_keys(frame, past)) {
        state->n_past++;
        return true;
    }
    free_past(past);
    return false;
}

static bool add_lost(struct batch_state *state, const char *tag, const char *server)
{
    struct batch_lost *grown = realloc(state->lost, (state->n_lost + 1) * sizeof *grown);
    if (grown == NULL) return false;
    state->lost = grown;
    struct batch_lost *lost = &grown[state->n_lost];
    lost->server = strdup(server);
    if (lost->server == NULL) return false;
    snprintf(lost->tag, sizeof lost->tag, "%s", tag);
    state->n_lost++;
    return true;
}

/* Not being lost is fine. */
static void forget_lost(struct batch_state *state, const char *tag)
{
    for (size_t i = 0; i < state->n_lost; i++) {
        if (strcmp(state->lost[i].tag, tag) != 0) continue;
        free(state->lost[i].server);
        state->lost[i] = state->lost[--state->n_lost];
        return;
    }
}

static bool read_lost(struct batch_state *state, yyjson_val *frame, struct batch_past *past)
{
    yyjson_val *again = yyjson_obj_get(frame, "again");
    const char *tag = yyjson_get_str(again);
    if (!add_lost(state, past->tag, past->server)) return false;
    if (again == NULL) {
        past->is_gone = true;
        return true;
    }
    if (tag == NULL || strlen(tag) >= BATCH_TAG_BYTES) return false;
    snprintf(past->tag, sizeof past->tag, "%s", tag);
    return true;
}

static bool read_found(struct batch_state *state, yyjson_val *frame)
{
    const char *tag = yyjson_get_str(yyjson_obj_get(frame, "tag"));
    if (tag == NULL) return false;
    forget_lost(state, tag);
    return true;
}

static bool read_frame(struct batch_state *state, yyjson_val *frame)
{
    const char *type = yyjson_get_str(yyjson_obj_get(frame, "type"));
    if (type == NULL) return false;
    if (strcmp(type, "batch") == 0) return read_batch(state, frame);
    if (strcmp(type, "found") == 0) return read_found(state, frame);
    struct batch_past *past = find_past(state, yyjson_get_str(yyjson_obj_get(frame, "tag")));
    if (past == NULL) return false;
    if (strcmp(type, "gone") == 0) {
        past->is_gone = true;
        return true;
    }
    if (strcmp(type, "lost") == 0) return read_lost(state, frame, past);
    const char *id = yyjson_get_str(yyjson_obj_get(frame, "id"));
    if (strcmp(type, "id") != 0 || id == NULL) return false;
    free(past->id);
    past->id = strdup(id);
    return past->id != NULL;
}

static bool read_line(struct batch_state *state, const char *line, size_t size)
{
    uint64_t checksum;
    if (size <= CHECKSUM_BYTES + 1 || !read_hex(line, &checksum)) return false;
    const char *json = line + CHECKSUM_BYTES + 1;
    size_t json_size = size - CHECKSUM_BYTES - 1;
    if (hash_checksum(json, json_size) != checksum) return false;
    yyjson_doc *doc = yyjson_read(json, json_size, 0);
    bool is_good = doc != NULL && read_frame(state, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    return is_good;
}

/* *ret_size: the bytes that count. Only the last line may be torn: what follows a bad one was written
 * later and says that the bad one was whole once. */
static tidemill_error *read_lines(struct batch_state *state, const char *data, size_t size,
                                  size_t *ret_size)
{
    size_t start = 0;
    for (const char *end; (end = memchr(data + start, '\n', size - start)) != NULL;) {
        size_t next = (size_t)(end - data) + 1;
        if (!read_line(state, data + start, next - 1 - start)) {
            if (next == size) break;
            return error_new(
                ERROR_CORRUPT,
                "%s was changed or damaged: byte %zu; it names batches that may be paid "
                "for. Put it back, or remove it to ask again for what is not written yet",
                state->path, start);
        }
        start = next;
        if (start == size) break;
    }
    *ret_size = start;
    return NULL;
}

static tidemill_error *read_past(struct batch_state *state)
{
    char *data;
    size_t size, n_good = 0;
    if (!io_exists(state->io, state->path)) return NULL;
    TRY(io_read_file(state->io, state->path, STATE_BYTES_MAX, &data, &size));
    tidemill_error *error = size > 0 ? read_lines(state, data, size, &n_good) : NULL;
    free(data);
    if (error != NULL) return error;
    TRY(io_open(state->io, state->path, O_WRONLY, 0600, &state->fd));
    if (state->io->ftruncate(state->io->context, state->fd, (off_t)n_good) != 0)
        return error_errno(ERROR_IO, errno, "cannot cut %s", state->path);
    io_close(state->io, state->fd);
    state->fd = -1;
    return NULL;
}

tidemill_error *batch_state_open(const struct io *io, const char *path, struct batch_state *ret)
{
    *ret = (struct batch_state){.io = io, .fd = -1};
    if (path == NULL) return NULL;
    ret->path = strdup(path);
    return ret->path == NULL ? error_memory() : read_past(ret);
}

void batch_state_end_file(struct batch_state *state)
{
    if (state->path != NULL) io_close(state->io, state->fd);
    free(state->path);
    state->path = NULL;
    state->fd = -1;
}

void batch_state_close(struct batch_state *state)
{
    batch_state_end_file(state);
    for (size_t i = 0; i < state->n_past; i++) free_past(&state->past[i]);
    for (size_t i = 0; i < state->n_lost; i++) free(state->lost[i].server);
    free(state->past);
    free(state->lost);
    *state = (struct batch_state){.fd = -1};
}

/* --- lines out --------------------------------------------------------------------------------------------- */

/* Appended where the last whole line ends; the file and, when new, its name are synced. */
static tidemill_error *append(struct batch_state *state, struct buffer *json)
{
    if (json->is_failed) return error_memory();
    if (state->fd < 0) {
        TRY(io_open(state->io, state->path, O_WRONLY | O_CREAT | O_APPEND, 0600, &state->fd));
        TRY(io_sync_directory(state->io, state->path));
    }
    struct buffer line = {0};
    buffer_printf(&line, "%016llx ", (unsigned long long)hash_checksum(json->data, json->size));
    buffer_append(&line, json->data, json->size);
    buffer_byte(&line, '\n');
    tidemill_error *error =
        line.is_failed ? error_memory()
                       : io_write_all(state->io, state->fd, state->path, line.data, line.size);
    buffer_free(&line);
    if (error == NULL && state->io->fdatasync(state->io->context, state->fd) != 0)
        error = error_errno(ERROR_IO, errno, "cannot sync %s", state->path);
    return error;
}

/* What came from a server may hold anything. */
static void put_string(struct buffer *out, const char *name, const char *text)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *value = doc != NULL ? yyjson_mut_str(doc, text) : NULL;
    size_t size;
    char *json = value != NULL
                     ? yyjson_mut_val_write(value, YYJSON_WRITE_ALLOW_INVALID_UNICODE, &size)
                     : NULL;
    buffer_printf(out, ",\"%s\":", name);
    if (json != NULL)
        buffer_append(out, json, size);
    else
        out->is_failed = true;
    free(json);
    yyjson_mut_doc_free(doc);
}

tidemill_error *batch_state_note(struct batch_state *state, const char *tag, const char *server,
                                 const char *after, const struct batch_unit_key *keys,
                                 size_t n_keys)
{
    if (state->path == NULL) return NULL;
    struct buffer json = {0};
    buffer_printf(&json, "{\"type\":\"batch\",\"tag\":\"%s\"", tag);
    put_string(&json, "server", server);
    put_string(&json, "after", after);
    buffer_text(&json, ",\"indices\":[");
    for (size_t i = 0; i < n_keys; i++)
        buffer_printf(&json, "%s%llu", i > 0 ? "," : "", (unsigned long long)keys[i].index);
    buffer_text(&json, "],\"digests\":\"");
    for (size_t i = 0; i < n_keys; i++)
        buffer_printf(&json, "%016llx%016llx", (unsigned long long)keys[i].digest.high,
                      (unsigned long long)keys[i].digest.low);
    buffer_text(&json, "\"}");
    tidemill_error *error = append(state, &json);
    buffer_free(&json);
    return error;
}

/* `name` and `value` are one more thing that it says; NULL: there is none. */
static tidemill_error *note_fact(struct batch_state *state, const char *type, const char *tag,
                                 const char *name, const char *value)
{
    if (state->path == NULL) return NULL;
    struct buffer json = {0};
    buffer_printf(&json, "{\"type\":\"%s\",\"tag\":\"%s\"", type, tag);
    if (value != NULL) put_string(&json, name, value);
    buffer_byte(&json, '}');
    tidemill_error *error = append(state, &json);
    buffer_free(&json);
    return error;
}

tidemill_error *batch_state_note_id(struct batch_state *state, const char *tag, const char *id)
{
    return note_fact(state, "id", tag, "id", id);
}

tidemill_error *batch_state_note_gone(struct batch_state *state, const char *tag)
{
    return note_fact(state, "gone", tag, NULL, NULL);
}

tidemill_error *batch_state_note_lost(struct batch_state *state, const char *tag,
                                      const char *server, const char *again)
{
    TRY(note_fact(state, "lost", tag, "again", again));
    return add_lost(state, tag, server) ? NULL : error_memory();
}

tidemill_error *batch_state_note_found(struct batch_state *state, const char *tag)
{
    TRY(note_fact(state, "found", tag, NULL, NULL));
    forget_lost(state, tag);
    return NULL;
}

/* --- looking up --------------------------------------------------------------------------------------------- */

size_t batch_unit_find(const struct batch_unit_key *keys, size_t n, uint64_t index)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (keys[middle].index < index)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && keys[low].index == index ? low : SIZE_MAX;
}

bool batch_past_has_index(const struct batch_past *past, uint64_t index)
{
    return batch_unit_find(past->keys, past->n_keys, index) != SIZE_MAX;
}

bool batch_past_has(const struct batch_past *past, const struct batch_unit_key *key)
{
    size_t at = batch_unit_find(past->keys, past->n_keys, key->index);
    return at != SIZE_MAX && digest_equal(past->keys[at].digest, key->digest);
}
