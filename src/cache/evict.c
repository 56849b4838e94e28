/* SPDX-License-Identifier: Apache-2.0 */
/* evict.c - dropping the oldest on request, and counting what is there. */
#include "cache/env.h"

#include <time.h>

#define WAIT_MS 10000
#define DELETIONS 8192 /* of one transaction */
#define DELETIONS_MIN 64

/* What is left to do, and the transaction that does some of it. */
struct prune {
    uint64_t pages_max;
    int deletions;
    MDB_txn *txn;
    struct head head;
    uint64_t dropped; /* by the transaction */
    bool is_done;
};

int env_drop_oldest(struct cache *cache, MDB_txn *txn, const struct head *head, uint64_t *dropped)
{
    for (uint64_t age = TABLES - 1; age < TABLES; age--) {
        uint64_t entries;
        MDB_dbi table = table_of(cache, head->newest, age);
        if (env_table_pages(txn, table, &entries) == 0) continue;
        *dropped += entries;
        return mdb_drop(txn, table, 0);
    }
    return 0;
}

/* --- prune ------------------------------------------------------------------------------------- */

/* Values of one generation are of one age: which go first does not matter, and neighbours free
 * whole pages. */
static int delete_some(struct cache *cache, struct prune *prune, MDB_dbi table)
{
    MDB_cursor *cursor;
    MDB_val key, record;
    int code = mdb_cursor_open(prune->txn, table, &cursor);
    for (int i = 0; i < prune->deletions && code == 0; i++) {
        if (i % DELETIONS_MIN == 0 && env_pages(cache, prune->txn) <= prune->pages_max) break;
        code = mdb_cursor_get(cursor, &key, &record, MDB_FIRST);
        if (code == 0) code = mdb_cursor_del(cursor, 0);
        if (code == 0) prune->dropped++;
    }
    return code == MDB_NOTFOUND ? 0 : code;
}

/* A whole generation where all of it must go, else a part. */
static int prune_oldest(struct cache *cache, struct prune *prune, uint64_t pages)
{
    uint64_t entries;
    for (uint64_t age = TABLES - 1; age < TABLES; age--) {
        MDB_dbi table = table_of(cache, prune->head.newest, age);
        uint64_t table_pages = env_table_pages(prune->txn, table, &entries);
        if (table_pages == 0) continue;
        if (pages - table_pages >= prune->pages_max)
            return env_drop_oldest(cache, prune->txn, &prune->head, &prune->dropped);
        return delete_some(cache, prune, table);
    }
    return 0;
}

static int prune_once(struct cache *cache, struct prune *prune)
{
    prune->dropped = 0;
    int code = env_begin_write(cache, &prune->txn, &prune->head);
    if (code != 0) return code;
    uint64_t pages = env_pages(cache, prune->txn);
    prune->is_done = pages <= prune->pages_max;
    if (!prune->is_done) code = prune_oldest(cache, prune, pages);
    if (!prune->is_done && code == 0) return mdb_txn_commit(prune->txn);
    mdb_txn_abort(prune->txn);
    return code;
}

/* Who deletes writes new pages, and what it replaces is free when no reader sees it any more. Where
 * a full file has no page left, fewer are asked for, after a transaction that only lets go of
 * those that readers have left meanwhile. */
static void ask_for_less(struct cache *cache, struct prune *prune)
{
    int dead;
    struct timespec pause = {.tv_nsec = 1000000};
    prune->deletions = MAX(prune->deletions / 2, DELETIONS_MIN);
    mdb_reader_check(cache->env, &dead);
    if (env_begin_write(cache, &prune->txn, &prune->head) == 0) {
        if (env_put_head(cache, prune->txn, &prune->head) == 0)
            mdb_txn_commit(prune->txn);
        else
            mdb_txn_abort(prune->txn);
    }
    nanosleep(&pause, NULL);
}

/* One transaction after the other, until few enough pages are left. */
static int prune_all(struct cache *cache, uint64_t pages_max, uint64_t *ret_dropped)
{
    struct prune prune = {.pages_max = pages_max, .deletions = DELETIONS};
    int64_t end_ns = clock_now_ns() + (int64_t)WAIT_MS * 1000000;
    while (!prune.is_done) {
        int code = prune_once(cache, &prune);
        if (code == MDB_MAP_FULL && clock_now_ns() < end_ns) {
            ask_for_less(cache, &prune);
        } else if (code != 0) {
            return code;
        } else {
            *ret_dropped += prune.dropped;
            cache->evicted += prune.dropped;
        }
    }
    return 0;
}

tidemill_error *cache_prune(struct cache *cache, uint64_t bytes, uint64_t *ret_dropped)
{
    tidemill_error *error = NULL;
    *ret_dropped = 0;
    pthread_mutex_lock(&cache->writing);
    if (!state_lock_writer(&cache->state, WAIT_MS)) {
        error = error_new(ERROR_LOCKED, "another process writes into the cache %s; try again",
                          cache->folder);
    } else {
        int code =
            prune_all(cache, cache->page_bytes == 0 ? 0 : bytes / cache->page_bytes, ret_dropped);
        error = code == MDB_MAP_FULL
                    ? error_new(ERROR_LOCKED,
                                "the cache %s is full and its readers hold every page; "
                                "try again",
                                cache->folder)
                    : env_error(cache, code, "prune");
        if (error == NULL) error = env_shrink(cache);
        state_unlock_writer(&cache->state);
    }
    pthread_mutex_unlock(&cache->writing);
    return error;
}

tidemill_error *cache_clear(struct cache *cache)
{
    uint64_t dropped;
    return cache_prune(cache, 0, &dropped);
}

/* --- counting ---------------------------------------------------------------------------------- */

static void count_tables(struct cache *cache, struct cache_stats *stats)
{
    struct reader *reader;
    if (env_begin_read(cache, &reader) != NULL) {
        for (uint64_t age = 0; age < CACHE_GENERATIONS; age++) {
            struct cache_generation *generation = &stats->generations[age];
            MDB_dbi table = table_of(cache, reader->newest, age);
            generation->bytes =
                env_table_pages(reader->txn, table, &generation->entries) * cache->page_bytes;
            stats->entries += generation->entries;
            stats->bytes_used += generation->bytes;
        }
    }
    env_end_read(reader);
}

static void count_readers(struct cache *cache, struct cache_stats *stats)
{
    for (size_t i = 0; i < READERS; i++) {
        struct reader *reader = &cache->readers[i];
        pthread_mutex_lock(&reader->mutex);
        stats->hits += reader->hits;
        stats->misses += reader->misses;
        stats->broken += reader->broken;
        pthread_mutex_unlock(&reader->mutex);
    }
}

void cache_get_stats(struct cache *cache, struct cache_stats *ret)
{
    struct stat status;
    *ret = (struct cache_stats){.bytes_max = cache->bytes_max};
    if (cache->io->stat(cache->io->context, cache->data_path, &status) == 0)
        ret->file_bytes = (uint64_t)status.st_size;
    count_tables(cache, ret);
    count_readers(cache, ret);
    pthread_mutex_lock(&cache->writing);
    ret->puts = cache->puts;
    ret->kept = cache->kept;
    ret->evicted = cache->evicted;
    ret->rejected = cache->rejected;
    pthread_mutex_unlock(&cache->writing);
}
