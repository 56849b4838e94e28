/* SPDX-License-Identifier: Apache-2.0 */
/* cache.c - opening and closing. LMDB forbids to open a file twice in one process (closing one
 * descriptor drops the locks of the other), so a process-wide list knows every open cache by its
 * folder's device and inode; who opens it again gets the same. The list's mutex is held over opening
 * and closing: they are rare. */
#include "cache/env.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct cache *registry;

/* --- memory ----------------------------------------------------------------------------------- */

static char *join(const char *folder, const char *name)
{
    struct buffer path = {0};
    buffer_printf(&path, "%s/%s", folder, name);
    buffer_byte(&path, '\0');
    if (!path.is_failed) return path.data;
    buffer_free(&path);
    return NULL;
}

static void release(struct cache *cache)
{
    for (size_t i = 0; i < READERS; i++) pthread_mutex_destroy(&cache->readers[i].mutex);
    pthread_mutex_destroy(&cache->writing);
    pthread_mutex_destroy(&cache->touching);
    free(cache->folder);
    free(cache->state_path);
    free(cache->data_path);
    free(cache->lock_path);
    free(cache->new_path);
    free(cache);
}

static tidemill_error *allocate(const struct io *io, const struct cache_options *options,
                                struct cache **ret)
{
    struct cache *cache = aligned_alloc(alignof(struct cache), sizeof *cache);
    if (cache == NULL) return error_memory();
    memset(cache, 0, sizeof *cache);
    cache->own_io = *io;
    cache->own_io.cancel_fd = 0;
    cache->io = &cache->own_io;
    cache->references = 1;
    cache->state.fd = -1;
    if (options->bytes_max > 0) cache->bytes_max = MAX(options->bytes_max, CACHE_BYTES_MIN);
    for (size_t i = 0; i < READERS; i++) pthread_mutex_init(&cache->readers[i].mutex, NULL);
    pthread_mutex_init(&cache->writing, NULL);
    pthread_mutex_init(&cache->touching, NULL);
    cache->folder = strdup(options->path);
    cache->state_path = join(options->path, CACHE_STATE_NAME);
    cache->data_path = join(options->path, "results.mdb");
    cache->lock_path = join(options->path, "results.mdb-lock"); /* LMDB's name for it */
    cache->new_path = join(options->path, "results.mdb.new");
    *ret = cache;
    if (cache->folder != NULL && cache->state_path != NULL && cache->data_path != NULL &&
        cache->lock_path != NULL && cache->new_path != NULL)
        return NULL;
    release(cache);
    return error_memory();
}

/* --- opening ---------------------------------------------------------------------------------- */

static tidemill_error *drop(struct cache *cache, const char *reason)
{
    log_event(LOG_WARNING, "the cache %s starts empty: %s", cache->folder, reason);
    return env_remove(cache);
}

/* Nobody else is there: the file is judged, and dropped where it cannot be believed. */
static tidemill_error *open_alone(struct cache *cache)
{
    const char *reason;
    bool is_sealed;
    MDB_envinfo info;
    TRY(state_judge(&cache->state, cache->data_path, &reason, &is_sealed));
    if (reason != NULL) TRY(drop(cache, reason));
    TRY(state_mark_open(&cache->state));
    tidemill_error *error = env_open(cache);
    if (error_code_of(error) == ERROR_CORRUPT) {
        error_free(error);
        cache->is_broken = false;
        TRY(drop(cache, "it is broken"));
        TRY(state_mark_open(&cache->state));
        error = env_open(cache);
    }
    if (error != NULL) return error;
    if (is_sealed && mdb_env_info(cache->env, &info) == 0)
        cache->sealed_txn_id = info.me_last_txnid;
    return NULL;
}

/* The limit may be smaller than the last time. Where that cannot be had now, the next open tries. */
static void keep_limit(struct cache *cache)
{
    struct cache_stats stats;
    uint64_t dropped;
    cache_get_stats(cache, &stats);
    if (stats.file_bytes <= cache->bytes_max) return;
    tidemill_error *error = cache_prune(
        cache, CACHE_GENERATIONS * cache->generation_pages * cache->page_bytes, &dropped);
    if (error != NULL)
        log_event(LOG_WARNING, "the cache %s stays larger than its limit: %s", cache->folder,
                  error_message(error));
    error_free(error);
}

static tidemill_error *open_new(struct cache *cache)
{
    TRY(state_open(cache->io, cache->folder, cache->state_path, &cache->state, &cache->is_alone));
    tidemill_error *error = cache->is_alone ? open_alone(cache) : env_open(cache);
    bool was_alone = cache->is_alone;
    state_share(&cache->state);
    cache->is_alone = false;
    if (error != NULL) {
        env_close(cache);
        state_close(&cache->state);
        return error;
    }
    if (was_alone) keep_limit(cache);
    return NULL;
}

static struct cache *find(const struct stat *status)
{
    struct cache *cache = registry;
    while (cache != NULL && (cache->device != status->st_dev || cache->inode != status->st_ino))
        cache = cache->next;
    return cache;
}

static tidemill_error *open_registered(const struct io *io, const struct cache_options *options,
                                       struct cache **ret)
{
    struct stat status;
    struct cache *cache;
    TRY(io_make_directory(io, options->path, 0700));
    if (io->stat(io->context, options->path, &status) != 0)
        return error_errno(ERROR_IO, errno, "cannot look at %s", options->path);
    if ((cache = find(&status)) != NULL) {
        cache->references++;
        *ret = cache;
        return NULL;
    }
    TRY(allocate(io, options, &cache));
    cache->device = status.st_dev;
    cache->inode = status.st_ino;
    tidemill_error *error = open_new(cache);
    if (error != NULL) {
        release(cache);
        return error;
    }
    cache->next = registry;
    registry = cache;
    *ret = cache;
    return NULL;
}

tidemill_error *cache_open(const struct io *io, const struct cache_options *options,
                           struct cache **ret)
{
    pthread_mutex_lock(&registry_mutex);
    tidemill_error *error = open_registered(io, options, ret);
    pthread_mutex_unlock(&registry_mutex);
    return error_context(error, "cache");
}

/* --- closing ---------------------------------------------------------------------------------- */

static bool is_as_sealed(const struct cache *cache)
{
    MDB_envinfo info;
    return cache->sealed_txn_id != 0 && mdb_env_info(cache->env, &info) == 0 &&
           info.me_last_txnid == cache->sealed_txn_id;
}

static void close_last(struct cache *cache)
{
    bool is_sound = cache->env != NULL && !cache->is_broken;
    bool is_unchanged = is_sound && is_as_sealed(cache);
    env_close(cache);
    if (is_sound && state_leave(&cache->state)) {
        tidemill_error *error = state_seal(&cache->state, cache->data_path, is_unchanged);
        if (error != NULL)
            log_event(LOG_WARNING, "the cache %s is lost when the machine goes down: %s",
                      cache->folder, error_message(error));
        error_free(error);
    }
    state_close(&cache->state);
    release(cache);
}

static void unlink_registered(const struct cache *cache)
{
    struct cache **place = &registry;
    while (*place != cache) place = &(*place)->next;
    *place = cache->next;
}

void cache_close(struct cache *cache)
{
    if (cache == NULL) return;
    pthread_mutex_lock(&registry_mutex);
    if (--cache->references == 0) {
        unlink_registered(cache);
        close_last(cache);
    }
    pthread_mutex_unlock(&registry_mutex);
}
