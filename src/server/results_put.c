/* SPDX-License-Identifier: Apache-2.0 */
/* results_put.c - a window's output into the cache, thousands of lines at a time. */
#include "server/results_parts.h"

#include <stdlib.h>

#include <yyjson.h>

#define READ_BYTES ((size_t)256 << 10)
#define PUT_ENTRIES 4096
#define PUT_BYTES ((size_t)8 << 20)

/* What goes into one cache_put: values stand one behind the other in `bytes`. */
struct filling {
    struct results *results;
    struct results_scope scope;
    const char *key_field; /* NULL: "custom_id" or "id" */
    bool keeps_newer;
    int64_t made_at;
    struct cache_entry entries[PUT_ENTRIES];
    size_t offsets[PUT_ENTRIES];
    size_t n;
    struct buffer bytes, key;
    struct result old;
    uint64_t n_without_key;
};

static yyjson_val *key_value(yyjson_val *root, const char *field)
{
    if (field != NULL) return yyjson_obj_get(root, field);
    yyjson_val *value = yyjson_obj_get(root, "custom_id");
    return value != NULL ? value : yyjson_obj_get(root, "id");
}

bool result_line_key(struct slice line, const char *field, struct buffer *key)
{
    key->size = 0;
    yyjson_doc *doc = yyjson_read(line.data, line.size, YYJSON_READ_NUMBER_AS_RAW);
    yyjson_val *value = key_value(yyjson_doc_get_root(doc), field);
    bool has_key = yyjson_is_str(value) || yyjson_is_raw(value);
    if (yyjson_is_str(value)) buffer_append(key, yyjson_get_str(value), yyjson_get_len(value));
    if (yyjson_is_raw(value)) buffer_append(key, yyjson_get_raw(value), yyjson_get_len(value));
    yyjson_doc_free(doc);
    return has_key && !key->is_failed && key->size > 0 && key->size <= RESULT_KEY_BYTES_MAX;
}

static tidemill_error *put(struct filling *filling)
{
    if (filling->bytes.is_failed) return error_memory();
    for (size_t i = 0; i < filling->n; i++)
        filling->entries[i].value = filling->bytes.data + filling->offsets[i];
    tidemill_error *error = cache_put(filling->results->cache, filling->entries, filling->n);
    filling->n = 0;
    filling->bytes.size = 0;
    return error;
}

static bool is_newer_there(struct filling *filling, struct digest key)
{
    filling->old.value.size = 0;
    return results_get_key(filling->results, key, &filling->old) &&
           filling->old.made_at > filling->made_at;
}

static tidemill_error *add_line(struct filling *filling, struct slice line)
{
    if (line.size == 0) return NULL;
    if (!result_line_key(line, filling->key_field, &filling->key)) {
        filling->n_without_key++;
        return NULL;
    }
    struct digest key =
        results_key(&filling->scope, (struct slice){filling->key.data, filling->key.size});
    if (filling->keeps_newer && is_newer_there(filling, key)) return NULL;
    struct result_tail tail = {filling->made_at, hash_bytes(line.data, line.size)};
    size_t i = filling->n++;
    filling->offsets[i] = filling->bytes.size;
    filling->entries[i] = (struct cache_entry){.key = key, .size = line.size + sizeof tail};
    buffer_append(&filling->bytes, line.data, line.size);
    buffer_append(&filling->bytes, &tail, sizeof tail);
    if (filling->n < PUT_ENTRIES && filling->bytes.size < PUT_BYTES) return NULL;
    return put(filling);
}

/* Whole lines of `text`; what is behind the last one stays. */
static tidemill_error *add_lines(struct filling *filling, struct buffer *text)
{
    char *p = text->data, *end = p + text->size, *line_end;
    while (p < end && (line_end = memchr(p, '\n', (size_t)(end - p))) != NULL) {
        TRY(add_line(filling, (struct slice){p, (size_t)(line_end - p)}));
        p = line_end + 1;
    }
    size_t rest = (size_t)(end - p);
    if (rest > 0) memmove(text->data, p, rest);
    text->size = rest;
    return NULL;
}

static tidemill_error *add_all(struct filling *filling, struct reader *reader, struct buffer *text)
{
    for (size_t n = 1; n > 0 && !atomic_load(&filling->results->is_stopping);) {
        char *place = buffer_reserve(text, READ_BYTES);
        if (place == NULL) return error_memory();
        TRY(reader_read(reader, place, READ_BYTES, &n));
        text->size += n;
        TRY(add_lines(filling, text));
    }
    TRY(add_line(filling, (struct slice){text->data, text->size}));
    return put(filling);
}

static tidemill_error *add_file(struct filling *filling, const char *path)
{
    struct reader *reader = NULL;
    struct buffer text = {0};
    TRY(reader_open(filling->results->app->io, path, COMPRESSION_AUTO, &reader));
    tidemill_error *error = add_all(filling, reader, &text);
    buffer_free(&text);
    reader_close(reader);
    return error;
}

static const char *key_field_of(struct app *app, const struct store_job *job)
{
    const struct queue_config *queue = server_config_queue(app->config, job->queue);
    return queue == NULL ? NULL : queue->key_field;
}

static int64_t made_at_of(const struct store_job *job)
{
    int64_t made_at = job->state_at[job->state];
    return made_at != 0 ? made_at : store_now();
}

tidemill_error *results_put_output(struct results *results, const struct store_job *job,
                                   bool keeps_newer)
{
    char *path = NULL;
    if (job->output_file[0] == '\0' || job->queue[0] == '\0') return NULL;
    struct filling *filling = calloc(1, sizeof *filling);
    if (filling == NULL) return error_memory();
    filling->results = results;
    filling->keeps_newer = keeps_newer;
    filling->made_at = made_at_of(job);
    filling->key_field = key_field_of(results->app, job);
    results_scope_init(&filling->scope, job->tenant, job->queue);
    tidemill_error *error = store_file_path(results->app->store, job->output_file, &path);
    if (error == NULL) error = add_file(filling, path);
    if (filling->n_without_key > 0)
        log_event(LOG_WARNING,
                  "%s: %llu answers have no field '%s' and cannot be looked up by key; keep it in "
                  "the output ('keep' of the model)",
                  job->id, (unsigned long long)filling->n_without_key,
                  filling->key_field == NULL ? "id" : filling->key_field);
    buffer_free(&filling->bytes);
    buffer_free(&filling->key);
    buffer_free(&filling->old.value);
    free(filling);
    free(path);
    return error_context(error, "results of %s", job->id);
}

tidemill_error *results_put_window(struct results *results, const struct store_job *job)
{
    tidemill_error *error = results_put_output(results, job, false);
    asked_forget(results->asked, job->id);
    return error;
}
