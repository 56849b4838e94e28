/* SPDX-License-Identifier: Apache-2.0 */
/* results_put.c - a window's output into the cache, thousands of lines at a time. */
#include "server/result_lines.h"
#include "server/results_parts.h"

#include <stdlib.h>

#define PUT_ENTRIES 4096
#define PUT_BYTES ((size_t)8 << 20)

/* What goes into one cache_put: values stand one behind the other in `bytes`. */
struct filling {
    struct results *results;
    struct results_scope scope;
    bool keeps_newer;
    int64_t made_at;
    struct cache_entry entries[PUT_ENTRIES];
    size_t offsets[PUT_ENTRIES];
    size_t n;
    struct buffer bytes;
    struct result old;
    uint64_t n_without_key;
};

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

static tidemill_error *take(void *context, struct slice key, struct slice line)
{
    struct filling *filling = context;
    if (key.size == 0) {
        filling->n_without_key++;
        return NULL;
    }
    struct digest digest = results_key(&filling->scope, key);
    if (filling->keeps_newer && is_newer_there(filling, digest)) return NULL;
    struct result_tail tail = {filling->made_at, hash_bytes(line.data, line.size)};
    size_t i = filling->n++;
    filling->offsets[i] = filling->bytes.size;
    filling->entries[i] = (struct cache_entry){.key = digest, .size = line.size + sizeof tail};
    buffer_append(&filling->bytes, line.data, line.size);
    buffer_append(&filling->bytes, &tail, sizeof tail);
    if (filling->n < PUT_ENTRIES && filling->bytes.size < PUT_BYTES) return NULL;
    return put(filling);
}

static int64_t made_at_of(const struct store_job *job)
{
    int64_t made_at = job->state_at[job->state];
    return made_at != 0 ? made_at : store_now();
}

static tidemill_error *fill(struct filling *filling, const struct store_job *job)
{
    struct app *app = filling->results->app;
    const struct queue_config *queue = server_config_queue(app->config, job->queue);
    struct result_lines lines = {.take = take,
                                 .context = filling,
                                 .key_field = queue == NULL ? NULL : queue->key_field,
                                 .is_stopping = &filling->results->is_stopping};
    TRY(result_lines_read(app, job, &lines));
    if (filling->n_without_key > 0 && lines.key_field != NULL)
        log_event(LOG_WARNING,
                  "%s: %llu records have no field '%s'; their answers cannot be looked up by key",
                  job->id, (unsigned long long)filling->n_without_key, lines.key_field);
    return put(filling);
}

tidemill_error *results_put_output(struct results *results, const struct store_job *job,
                                   bool keeps_newer)
{
    if (job->output_file[0] == '\0' || job->kind != STORE_WINDOW) return NULL;
    struct filling *filling = calloc(1, sizeof *filling);
    if (filling == NULL) return error_memory();
    filling->results = results;
    filling->keeps_newer = keeps_newer;
    filling->made_at = made_at_of(job);
    results_scope_init(&filling->scope, job->tenant, job->queue);
    tidemill_error *error = fill(filling, job);
    buffer_free(&filling->bytes);
    buffer_free(&filling->old.value);
    free(filling);
    return error;
}

tidemill_error *results_put_window(struct results *results, const struct store_job *job)
{
    tidemill_error *error = results_put_output(results, job, false);
    results_window_ended(results, job->id);
    return error;
}
