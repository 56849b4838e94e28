/* SPDX-License-Identifier: Apache-2.0 */
/* results.c - answers by key: one look-up in LMDB, and what a queue wants done about a miss.
 *
 * In the cache a key is BLAKE2b over tenant, queue and key: no tenant can name, or make by a collision,
 * what is another's. A value is the line of output with a tail behind it (result_tail). */
#include "server/results_parts.h"

#include <stdio.h>
#include <stdlib.h>

#define FOLDER_NAME "results"
#define REFILL_PAGE 64

static const struct digest results_domain = {0x7469646d2d726573u, 1};

void results_scope_init(struct results_scope *scope, const char *tenant, const char *queue)
{
    hash_key_start(&scope->start, results_domain);
    hash_key_add(&scope->start, tenant, strlen(tenant) + 1);
    hash_key_add(&scope->start, queue, strlen(queue) + 1);
}

struct digest results_key(const struct results_scope *scope, struct slice key)
{
    struct hash_key hash = scope->start;
    hash_key_add(&hash, key.data, key.size);
    return hash_key_end(&hash);
}

/* --- looking up ----------------------------------------------------------------------------------- */

bool results_get_key(struct results *results, struct digest key, struct result *ret)
{
    struct result_tail tail;
    size_t before = ret->value.size;
    if (!cache_get(results->cache, key, &ret->value)) return false;
    if (ret->value.size - before < sizeof tail) {
        ret->value.size = before;
        return false;
    }
    ret->value.size -= sizeof tail;
    memcpy(&tail, ret->value.data + ret->value.size, sizeof tail);
    ret->made_at = tail.made_at;
    ret->etag = tail.etag;
    return true;
}

bool results_get(struct results *results, const char *tenant, const char *queue, struct slice key,
                 struct result *ret)
{
    struct results_scope scope;
    results_scope_init(&scope, tenant, queue);
    return results_get_key(results, results_key(&scope, key), ret);
}

static enum result_found answer_default(const struct queue_config *queue, struct result *ret)
{
    const char *text = queue->default_value == NULL ? "null" : queue->default_value;
    buffer_text(&ret->value, text);
    ret->made_at = 0;
    ret->etag = hash_bytes(text, strlen(text));
    return RESULT_DEFAULT;
}

static enum result_found find(struct results *results, const struct queue_config *queue,
                              const char *tenant, struct slice key, struct digest digest,
                              struct result *ret, struct result_ask *ask)
{
    if (results_get_key(results, digest, ret)) {
        if (queue->ttl_ms == 0 || store_now() - ret->made_at <= queue->ttl_ms) return RESULT_FRESH;
        if (queue->on_miss == ON_MISS_ENQUEUE)
            asked_enqueue(results, queue, tenant, key, digest, NULL);
        return RESULT_STALE;
    }
    switch (queue->on_miss) {
    case ON_MISS_404: return RESULT_MISS;
    case ON_MISS_DEFAULT: return answer_default(queue, ret);
    case ON_MISS_ENQUEUE: break;
    }
    asked_enqueue(results, queue, tenant, key, digest, ask);
    return RESULT_ENQUEUED;
}

enum result_found results_find_key(struct results *results, const struct queue_config *queue,
                                   const char *tenant, struct slice key, struct digest digest,
                                   struct result *ret, struct result_ask *ask)
{
    enum result_found found = find(results, queue, tenant, key, digest, ret, ask);
    atomic_fetch_add_explicit(&results->n_found[found], 1, memory_order_relaxed);
    return found;
}

enum result_found results_find(struct results *results, const struct queue_config *queue,
                               const char *tenant, struct slice key, struct result *ret,
                               struct result_ask *ask)
{
    struct results_scope scope;
    results_scope_init(&scope, tenant, queue->name);
    return results_find_key(results, queue, tenant, key, results_key(&scope, key), ret, ask);
}

/* A cron line in a time zone takes microseconds to reckon, so the answer is kept until it has passed. */
int64_t results_next_close(struct results *results, const struct queue_config *queue, int64_t now)
{
    struct close_memo *memo = &results->memos[hash_checksum(&queue, sizeof queue) % CLOSE_MEMOS];
    bool is_mine = pthread_mutex_trylock(&results->memo_mutex) == 0;
    if (is_mine && memo->queue == queue && memo->from <= now && now < memo->until) {
        int64_t until = memo->until;
        pthread_mutex_unlock(&results->memo_mutex);
        return until;
    }
    int64_t until = window_close_at(&queue->window, queue->zone, now);
    if (is_mine) {
        *memo = (struct close_memo){queue, now, until};
        pthread_mutex_unlock(&results->memo_mutex);
    }
    return until;
}

void results_stats(struct results *results, struct results_stats *ret)
{
    struct cache_stats stats;
    uint64_t n[RESULT_ENQUEUED + 1];
    for (size_t i = 0; i < COUNT_OF(n); i++) n[i] = atomic_load(&results->n_found[i]);
    cache_get_stats(results->cache, &stats);
    *ret = (struct results_stats){.hits = n[RESULT_FRESH],
                                  .stale = n[RESULT_STALE],
                                  .misses = n[RESULT_MISS],
                                  .defaults = n[RESULT_DEFAULT],
                                  .enqueued = n[RESULT_ENQUEUED],
                                  .entries = stats.entries};
}

/* --- opening -------------------------------------------------------------------------------------- */

static tidemill_error *refill_page(struct results *results, const struct store_jobs *jobs)
{
    for (size_t i = 0; i < jobs->n && !atomic_load(&results->is_stopping); i++)
        TRY(results_put_output(results, &jobs->items[i], true));
    return NULL;
}

static tidemill_error *refill(struct results *results)
{
    char after[STORE_ID_BYTES] = "";
    for (bool has_more = true; has_more && !atomic_load(&results->is_stopping);) {
        struct store_jobs jobs = {0};
        struct store_page page = {
            .after = after[0] == '\0' ? NULL : after, .limit = REFILL_PAGE, .is_ascending = true};
        TRY(store_job_list(results->app->store, &page, STORE_WINDOW, NULL, STORE_TERMINAL, &jobs));
        tidemill_error *error = refill_page(results, &jobs);
        has_more = jobs.has_more && jobs.n > 0;
        if (jobs.n > 0) memcpy(after, jobs.items[jobs.n - 1].id, sizeof after);
        store_jobs_free(&jobs);
        TRY(error);
    }
    return NULL;
}

/* A cache that is empty may be one that a power loss took: the windows' outputs still tell. */
static void *run_refill(void *context)
{
    tidemill_error *error = refill(context);
    if (error != NULL)
        log_event(LOG_WARNING, "results of earlier windows cannot be read: %s",
                  error_message(error));
    error_free(error);
    return NULL;
}

static tidemill_error *open_cache(struct results *results)
{
    struct buffer path = {0};
    struct app *app = results->app;
    buffer_printf(&path, "%s/%s", store_path(app->store), FOLDER_NAME);
    buffer_byte(&path, '\0');
    if (path.is_failed) return error_memory();
    uint64_t bytes = app->config->cache_bytes > 0 ? (uint64_t)app->config->cache_bytes : 0;
    struct cache_options options = {.path = path.data, .bytes_max = bytes};
    tidemill_error *error = cache_open(app->io, &options, &results->cache);
    buffer_free(&path);
    return error;
}

tidemill_error *results_open(struct app *app, struct results **ret)
{
    struct cache_stats stats;
    struct results *results = calloc(1, sizeof *results);
    if (results == NULL) return error_memory();
    results->app = app;
    pthread_mutex_init(&results->memo_mutex, NULL);
    tidemill_error *error = NULL;
    if ((results->asked = asked_new()) == NULL) error = error_memory();
    if (error == NULL) error = open_cache(results);
    if (error != NULL) {
        results_close(results);
        return error_context(error, "results");
    }
    cache_get_stats(results->cache, &stats);
    results->has_refill =
        stats.entries == 0 && pthread_create(&results->refill, NULL, run_refill, results) == 0;
    *ret = results;
    return NULL;
}

void results_close(struct results *results)
{
    if (results == NULL) return;
    atomic_store(&results->is_stopping, true);
    if (results->has_refill) pthread_join(results->refill, NULL);
    asked_free(results->asked);
    cache_close(results->cache);
    pthread_mutex_destroy(&results->memo_mutex);
    free(results);
}
