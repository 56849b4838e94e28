/* SPDX-License-Identifier: Apache-2.0 */
/* env.h - what the files of this room share: the environment, its readers, its tables.
 *
 * Five tables of LMDB, of which one is always empty, are a ring of generations: generation g lives
 * in table g % TABLES. New values go into the newest one. When that is full, the empty table becomes
 * the newest, what was used lately of the oldest two is copied into it, and the oldest is emptied:
 * that costs a list of its pages, not a deletion for each value. A record `head` in the main table
 * says which generation is the newest; it changes with the tables, in one transaction. */
#ifndef TIDEMILL_CACHE_ENV_H
#define TIDEMILL_CACHE_ENV_H

#include "cache/cache.h"
#include "cache/state.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>

#include <lmdb.h>

#define TABLES (CACHE_GENERATIONS + 1)
#define READERS 32         /* transactions of this process at a time */
#define TOUCHED_MAX 16384  /* keys of old values that were used since the last put */
#define CHUNK_ENTRIES 4096 /* of one transaction */
#define CHUNK_BYTES ((size_t)8 << 20)
#define RECORD_HEAD_BYTES sizeof(uint64_t)

/* The record of the newest generation. */
struct head {
    uint64_t newest;
    uint64_t bytes_max; /* of the last put */
};

/* A reading transaction that is kept and renewed, and what it counts. Under its mutex. */
struct reader {
    alignas(64) pthread_mutex_t mutex;
    MDB_txn *txn;  /* NULL: not begun yet */
    size_t txn_id; /* for which `newest` holds; 0: none */
    uint64_t newest;
    uint64_t hits, misses, broken;
};

struct cache {
    struct cache *next; /* in the registry, with `references` and the folder's identity */
    unsigned references;
    dev_t device;
    ino_t inode;

    struct io own_io;    /* a copy: whoever opened it first may end before others who use it */
    const struct io *io; /* own_io */
    char *folder, *state_path, *data_path, *lock_path, *new_path;
    struct state state;
    bool is_alone; /* between opening and state_share() */

    /* Under every lock at once to change (env_stop), under any of them to read: */
    MDB_env *env; /* NULL: could not be opened again */
    MDB_dbi main, tables[TABLES];
    uint64_t bytes_max, page_bytes, generation_pages;

    atomic_bool is_broken; /* LMDB found it so: nothing is read or written any more */
    size_t sealed_txn_id;  /* the last transaction of a file that was sealed as it is; 0: none */

    pthread_mutex_t writing; /* one put at a time; with it: */
    uint64_t puts, kept, evicted, rejected;
    bool is_late; /* another process kept the right to write: not waited for again */

    pthread_mutex_t touching;
    struct digest touched[TOUCHED_MAX];
    size_t n_touched;

    struct reader readers[READERS];
};

/* --- access.c: the environment and its transactions ------------------------------------------- */

/* Opens the environment and its tables; `newest` and the limit are known then. CORRUPT: it is
 * broken. */
tidemill_error *env_open(struct cache *cache);
void env_close(struct cache *cache);
/* Removes the data file; only while alone and closed. */
tidemill_error *env_remove(struct cache *cache);

/* A reader that nobody else has, its transaction begun; NULL: there is nothing to read. */
struct reader *env_begin_read(struct cache *cache, struct reader **ret_reader);
void env_end_read(struct reader *reader);

/* Begins to write, `writing` being held; *ret_head is the head record. LMDB's return code. */
int env_begin_write(struct cache *cache, MDB_txn **ret_txn, struct head *ret_head);
int env_put_head(struct cache *cache, MDB_txn *txn, const struct head *head);

/* Takes all locks; nobody reads or writes then, and the kept transactions are ended. */
void env_stop(struct cache *cache);
void env_go_on(struct cache *cache);

/* LMDB's return code as an error. One that says "broken" stops all further use. */
tidemill_error *env_error(struct cache *cache, int code, const char *verb);

/* Pages with values, of one table and of all; 0 where it cannot be told. */
uint64_t env_table_pages(MDB_txn *txn, MDB_dbi table, uint64_t *ret_entries);
uint64_t env_pages(struct cache *cache, MDB_txn *txn);

static inline MDB_dbi table_of(const struct cache *cache, uint64_t newest, uint64_t age)
{
    return cache->tables[(newest - age) % TABLES];
}

/* The checksum in front of a value. The key counts: a value under another key is a broken one. */
static inline uint64_t record_checksum(struct digest key, const void *value, size_t size)
{
    uint64_t mixed = key.low * 0x9e3779b97f4a7c15u + (key.high << 32 | key.high >> 32);
    return hash_checksum(value, size) ^ mixed;
}

static inline bool record_is_whole(struct digest key, const MDB_val *record)
{
    uint64_t checksum;
    if (record->mv_size < RECORD_HEAD_BYTES) return false;
    memcpy(&checksum, record->mv_data, sizeof checksum);
    return checksum == record_checksum(key, (const char *)record->mv_data + RECORD_HEAD_BYTES,
                                       record->mv_size - RECORD_HEAD_BYTES);
}

/* --- read.c, write.c, evict.c, shrink.c --------------------------------------------------------- */

/* The keys of old values that were used; moves them out, at most TOUCHED_MAX. */
size_t env_take_touched(struct cache *cache, struct digest *ret);

/* Empties the oldest table that has values, in a transaction of its own; `writing` is held. */
int env_drop_oldest(struct cache *cache, MDB_txn *txn, const struct head *head, uint64_t *dropped);

/* Copies the file without its free pages, if nobody else has it open and it is worth it. */
tidemill_error *env_shrink(struct cache *cache);

#endif
