/* SPDX-License-Identifier: Apache-2.0 */
/* write.c - putting values, and making room for them first.
 *
 * One transaction does it all: where the newest generation is full it begins another, copies what
 * was used of the old ones, empties the oldest, and stores the values in the order of their keys. */
#include "cache/env.h"

#include <stdlib.h>

#define WRITER_WAIT_MS 2000
#define AGE_OLD (CACHE_GENERATIONS / 2)

struct write {
    struct cache *cache;
    MDB_txn *txn;
    struct head head;
    uint64_t kept, evicted; /* by this transaction, counted if it commits */
};

static uint64_t generation_bytes(const struct cache *cache)
{
    return cache->generation_pages * cache->page_bytes;
}

static int env_record(MDB_txn *txn, MDB_dbi table, const struct cache_entry *entry)
{
    MDB_val key = {sizeof entry->key, (void *)(uintptr_t)&entry->key};
    MDB_val record = {RECORD_HEAD_BYTES + entry->size, NULL};
    uint64_t checksum = record_checksum(entry->key, entry->value, entry->size);
    int code = mdb_put(txn, table, &key, &record, MDB_RESERVE);
    if (code != 0) return code;
    memcpy(record.mv_data, &checksum, sizeof checksum);
    if (entry->size > 0)
        memcpy((char *)record.mv_data + RECORD_HEAD_BYTES, entry->value, entry->size);
    return 0;
}

/* --- keeping what is used --------------------------------------------------------------------- */

/* 0: it is there, whole, and in no generation younger than AGE_OLD. */
static int find_old(struct write *write, struct digest digest, MDB_val *record)
{
    MDB_val key = {sizeof digest, &digest};
    for (uint64_t age = 0; age < TABLES; age++) {
        int code =
            mdb_get(write->txn, table_of(write->cache, write->head.newest, age), &key, record);
        if (code == MDB_NOTFOUND) continue;
        if (code != 0) return code;
        return age >= AGE_OLD && record_is_whole(digest, record) ? 0 : MDB_NOTFOUND;
    }
    return MDB_NOTFOUND;
}

/* At most half a generation at a time, else what is used would drive itself out. */
static int keep_touched(struct write *write, const struct digest *touched, size_t n)
{
    uint64_t bytes = 0;
    MDB_dbi table = table_of(write->cache, write->head.newest, 0);
    for (size_t i = 0; i < n && bytes < MIN(generation_bytes(write->cache) / 2, CHUNK_BYTES); i++) {
        MDB_val record;
        int code = find_old(write, touched[i], &record);
        if (code == MDB_NOTFOUND) continue;
        if (code != 0) return code;
        struct cache_entry entry = {.key = touched[i],
                                    .value = (const char *)record.mv_data + RECORD_HEAD_BYTES,
                                    .size = record.mv_size - RECORD_HEAD_BYTES};
        if ((code = env_record(write->txn, table, &entry)) != 0) return code;
        bytes += record.mv_size;
        write->kept++;
    }
    return 0;
}

/* --- room ------------------------------------------------------------------------------------- */

/* Empties what is beyond four generations; also more, where the limit was larger before. */
static int drop_surplus(struct write *write)
{
    struct cache *cache = write->cache;
    uint64_t pages_max = cache->generation_pages * CACHE_GENERATIONS + cache->generation_pages / 2;
    for (uint64_t age = TABLES - 1; age > 0; age--) {
        uint64_t entries;
        MDB_dbi table = table_of(cache, write->head.newest, age);
        if (env_table_pages(write->txn, table, &entries) == 0) continue;
        if (age < TABLES - 1 && env_pages(cache, write->txn) <= pages_max) break;
        int code = mdb_drop(write->txn, table, 0);
        if (code != 0) return code;
        write->evicted += entries;
    }
    return 0;
}

static int begin_generation(struct write *write)
{
    uint64_t entries;
    MDB_dbi newest = table_of(write->cache, write->head.newest, 0);
    if (env_table_pages(write->txn, newest, &entries) < write->cache->generation_pages) return 0;
    write->head.newest++;
    write->head.bytes_max = write->cache->bytes_max;
    return env_put_head(write->cache, write->txn, &write->head);
}

/* --- one transaction -------------------------------------------------------------------------- */

struct chunk {
    const struct cache_entry *const *entries;
    size_t n;
    const struct digest *touched;
    size_t n_touched;
};

static int fill(struct write *write, const struct chunk *chunk)
{
    struct cache *cache = write->cache;
    int code = 0;
    if (write->head.bytes_max != cache->bytes_max) {
        write->head.bytes_max = cache->bytes_max;
        code = env_put_head(cache, write->txn, &write->head);
    }
    if (code == 0) code = begin_generation(write);
    if (code == 0) code = keep_touched(write, chunk->touched, chunk->n_touched);
    if (code == 0) code = drop_surplus(write);
    MDB_dbi table = table_of(cache, write->head.newest, 0);
    for (size_t i = 0; i < chunk->n && code == 0; i++)
        code = env_record(write->txn, table, chunk->entries[i]);
    return code;
}

static int write_chunk(struct cache *cache, const struct chunk *chunk)
{
    struct write write = {.cache = cache};
    int code = env_begin_write(cache, &write.txn, &write.head);
    if (code != 0) return code;
    if ((code = fill(&write, chunk)) != 0) {
        mdb_txn_abort(write.txn);
        return code;
    }
    if ((code = mdb_txn_commit(write.txn)) != 0) return code;
    cache->puts += chunk->n;
    cache->kept += write.kept;
    cache->evicted += write.evicted;
    return 0;
}

/* Drops the oldest generation. Its pages are free for the second transaction after this one. Where
 * a reader that was stopped or killed holds pages, nothing becomes free: then nothing is dropped. */
static int make_room(struct cache *cache)
{
    int dead;
    mdb_reader_check(cache->env, &dead);
    for (int turn = 0; turn < 2; turn++) {
        struct write write = {.cache = cache};
        int code = env_begin_write(cache, &write.txn, &write.head);
        if (code != 0) return code;
        bool is_full =
            env_pages(cache, write.txn) > cache->generation_pages * CACHE_GENERATIONS / 2;
        if (turn == 0 && is_full)
            code = env_drop_oldest(cache, write.txn, &write.head, &write.evicted);
        if (code == 0) code = env_put_head(cache, write.txn, &write.head);
        if (code != 0) {
            mdb_txn_abort(write.txn);
            return code;
        }
        if ((code = mdb_txn_commit(write.txn)) != 0) return code;
        cache->evicted += write.evicted;
    }
    return 0;
}

static tidemill_error *put_chunk(struct cache *cache, const struct chunk *chunk)
{
    int code = write_chunk(cache, chunk);
    if (code == MDB_MAP_FULL && (code = make_room(cache)) == 0) code = write_chunk(cache, chunk);
    if (code == 0) return NULL;
    cache->rejected += chunk->n;
    return code == MDB_MAP_FULL || code == MDB_TXN_FULL ? NULL : env_error(cache, code, "write");
}

/* --- all of them ------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    const struct cache_entry *x = *(const struct cache_entry *const *)a;
    const struct cache_entry *y = *(const struct cache_entry *const *)b;
    int order = memcmp(&x->key, &y->key, sizeof x->key);
    return order != 0 ? order : x < y ? -1 : x > y;
}

/* In the order of keys, so that neighbours go into one page; the last of equal ones is stored last. */
static size_t sort(struct cache *cache, const struct cache_entry *entries, size_t n,
                   const struct cache_entry **ret)
{
    size_t n_fit = 0;
    uint64_t size_max = cache->bytes_max / 16;
    for (size_t i = 0; i < n; i++) {
        if (entries[i].size <= MIN(size_max, (uint64_t)1 << 30))
            ret[n_fit++] = &entries[i];
        else
            cache->rejected++;
    }
    if (n_fit > 1) qsort(ret, n_fit, sizeof *ret, compare);
    return n_fit;
}

/* How many of the next entries go into one transaction; at least one. */
static size_t chunk_length(const struct cache *cache, const struct cache_entry *const *entries,
                           size_t n)
{
    size_t length = 0, bytes = 0, bytes_max = MIN(CHUNK_BYTES, generation_bytes(cache) / 4);
    while (length < MIN(n, (size_t)CHUNK_ENTRIES) && (length == 0 || bytes < bytes_max))
        bytes += entries[length++]->size + sizeof(struct digest) + RECORD_HEAD_BYTES;
    return length;
}

static tidemill_error *put_sorted(struct cache *cache, const struct cache_entry *const *entries,
                                  size_t n, const struct digest *touched, size_t n_touched)
{
    struct chunk chunk = {.touched = touched, .n_touched = n_touched};
    do {
        chunk.entries = entries;
        chunk.n = chunk_length(cache, entries, n);
        TRY(put_chunk(cache, &chunk));
        entries += chunk.n;
        n -= chunk.n;
        chunk.n_touched = 0;
    } while (n > 0);
    return NULL;
}

static tidemill_error *put_locked(struct cache *cache, const struct cache_entry *entries, size_t n)
{
    const struct cache_entry **order = malloc((n + 1) * sizeof(struct cache_entry *));
    struct digest *touched = malloc(TOUCHED_MAX * sizeof *touched);
    tidemill_error *error = NULL;
    if (order == NULL || touched == NULL) {
        error = error_memory();
    } else if (!state_lock_writer(&cache->state, cache->is_late ? 0 : WRITER_WAIT_MS)) {
        cache->rejected += n;
        cache->is_late = true;
    } else {
        cache->is_late = false;
        size_t n_touched = env_take_touched(cache, touched);
        size_t n_fit = sort(cache, entries, n, order);
        if (n_fit + n_touched > 0) error = put_sorted(cache, order, n_fit, touched, n_touched);
        state_unlock_writer(&cache->state);
    }
    free(order);
    free(touched);
    return error;
}

tidemill_error *cache_put(struct cache *cache, const struct cache_entry *entries, size_t n)
{
    pthread_mutex_lock(&cache->writing);
    tidemill_error *error = put_locked(cache, entries, n);
    pthread_mutex_unlock(&cache->writing);
    return error;
}
