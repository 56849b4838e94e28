/* SPDX-License-Identifier: Apache-2.0 */
/* read.c - looking a key up: youngest generation first, the first that has it tells. */
#include "cache/env.h"

#define AGE_OLD (CACHE_GENERATIONS / 2) /* what is used in these is kept when they go */

/* A hit in an old generation, for the next put to copy. Where somebody else notes one just now, or
 * the list is full, this one is not noted: it is only a hint. */
static void note_touched(struct cache *cache, struct digest key)
{
    if (pthread_mutex_trylock(&cache->touching) != 0) return;
    if (cache->n_touched < TOUCHED_MAX) cache->touched[cache->n_touched++] = key;
    pthread_mutex_unlock(&cache->touching);
}

size_t env_take_touched(struct cache *cache, struct digest *ret)
{
    pthread_mutex_lock(&cache->touching);
    size_t n = cache->n_touched;
    memcpy(ret, cache->touched, n * sizeof *ret);
    cache->n_touched = 0;
    pthread_mutex_unlock(&cache->touching);
    return n;
}

/* 0: `record` is in the file, until the transaction ends. */
static int find(struct cache *cache, struct reader *reader, struct digest key, MDB_val *record,
                uint64_t *ret_age)
{
    MDB_val name = {sizeof key, &key};
    for (uint64_t age = 0; age < CACHE_GENERATIONS; age++) {
        int code = mdb_get(reader->txn, table_of(cache, reader->newest, age), &name, record);
        *ret_age = age;
        if (code != MDB_NOTFOUND) return code;
    }
    return MDB_NOTFOUND;
}

/* An older value under the same key would be whole, but wrong: a broken record ends the search. */
static bool look_up(struct cache *cache, struct reader *reader, struct digest key,
                    struct buffer *out)
{
    MDB_val record;
    uint64_t age;
    int code = find(cache, reader, key, &record, &age);
    if (code != 0) {
        if (code != MDB_NOTFOUND) error_free(env_error(cache, code, "read"));
        return false;
    }
    if (!record_is_whole(key, &record)) {
        reader->broken++;
        return false;
    }
    buffer_append(out, (const char *)record.mv_data + RECORD_HEAD_BYTES,
                  record.mv_size - RECORD_HEAD_BYTES);
    if (out->is_failed) return false;
    if (age >= AGE_OLD) note_touched(cache, key);
    return true;
}

bool cache_get(struct cache *cache, struct digest key, struct buffer *out)
{
    struct reader *reader;
    bool is_hit = env_begin_read(cache, &reader) != NULL && look_up(cache, reader, key, out);
    reader->hits += is_hit;
    reader->misses += !is_hit;
    env_end_read(reader);
    return is_hit;
}
