/* SPDX-License-Identifier: Apache-2.0 */
/* access.c - LMDB's environment: flags, transactions, locks, return codes.
 *
 * The flags, and why:
 *   not MDB_WRITEMAP  with it a full disk is SIGBUS, not an error; without it the map is read-only
 *                     and no stray pointer of ours can write into the file
 *   MDB_NOSYNC        no sync for each put. A commit writes new pages with pwrite(), then the meta
 *                     page; old pages are never overwritten while somebody may read them. So after
 *                     kill -9, where the kernel keeps what was written, the file is as of the last
 *                     commit. After a power loss nothing holds: state.c then drops the file. When
 *                     the last user closes, the file is synced and sealed
 *   MDB_NOTLS         a reading transaction belongs to a `struct reader`, not to a thread: any
 *                     number of threads share READERS of them, and none is left by a thread that
 *                     ended
 *   MDB_NORDAHEAD     keys are random
 *
 * LMDB's lock file is mapped and written by every reader; where it had holes, a full disk would be
 * SIGBUS. So it is written out with zeros before LMDB sees it. */
#include "cache/env.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#define LOCK_FILE_BYTES ((size_t)64 << 10) /* about a thousand readers: 15 processes */
#define RESIZES_MAX 10
#define MAP_SPARE_BYTES ((uint64_t)1 << 20)
#define DISK_FULL_BYTES ((uint64_t)1 << 20)
#define SLACK_BYTES_MAX ((uint64_t)64 << 20)

/* --- errors ----------------------------------------------------------------------------------- */

static bool says_broken(int code)
{
    return code == MDB_CORRUPTED || code == MDB_PAGE_NOTFOUND || code == MDB_INVALID ||
           code == MDB_VERSION_MISMATCH || code == MDB_INCOMPATIBLE || code == MDB_PANIC ||
           code == MDB_BAD_DBI || code == MDB_BAD_VALSIZE;
}

/* LMDB calls a write that stopped half-way EIO, whatever stopped it. */
static bool is_disk_full(const struct cache *cache)
{
    struct statvfs status;
    return statvfs(cache->folder, &status) == 0 &&
           (uint64_t)status.f_bavail * status.f_frsize < DISK_FULL_BYTES;
}

tidemill_error *env_error(struct cache *cache, int code, const char *verb)
{
    if (code == 0) return NULL;
    if (code == EIO && is_disk_full(cache)) code = ENOSPC;
    if (code > 0) return error_errno(ERROR_IO, code, "cannot %s the cache %s", verb, cache->folder);
    if (!says_broken(code))
        return error_new(ERROR_IO, "cannot %s the cache %s: %s", verb, cache->folder,
                         mdb_strerror(code));
    if (!atomic_exchange(&cache->is_broken, true)) error_free(state_mark_broken(&cache->state));
    return error_new(ERROR_CORRUPT,
                     "cannot %s the cache %s: %s; it is dropped when nobody uses it any more", verb,
                     cache->folder, mdb_strerror(code));
}

/* --- opening ---------------------------------------------------------------------------------- */

static tidemill_error *fill_lock_file(struct cache *cache)
{
    int fd = -1;
    struct stat status;
    TRY(io_open(cache->io, cache->lock_path, O_RDWR | O_CREAT, 0600, &fd));
    tidemill_error *error = NULL;
    if (cache->io->fstat(cache->io->context, fd, &status) != 0)
        error = error_errno(ERROR_IO, errno, "cannot stat %s", cache->lock_path);
    else if ((uint64_t)status.st_size < LOCK_FILE_BYTES ||
             (uint64_t)status.st_blocks * 512 < LOCK_FILE_BYTES) {
        static const char zeros[LOCK_FILE_BYTES];
        error = io_write_all(cache->io, fd, cache->lock_path, zeros, sizeof zeros);
    }
    io_close(cache->io, fd);
    return error;
}

/* Four generations of at most `generation_pages` and the half of one more by which a put overshoots;
 * and room for the pages that a put replaces, which are free only two transactions later. Those are
 * at most all of the newest generation, and at most what one transaction touches. */
static void set_limits(struct cache *cache)
{
    uint64_t pages = cache->bytes_max / cache->page_bytes;
    uint64_t slack = SLACK_BYTES_MAX / cache->page_bytes;
    uint64_t small = pages / 8;
    uint64_t large = pages > slack ? (pages - slack) * 2 / 9 : 0;
    cache->generation_pages = MAX(small, large);
}

static uint64_t file_bytes(const struct cache *cache)
{
    struct stat status;
    if (cache->io->stat(cache->io->context, cache->data_path, &status) != 0) return 0;
    return (uint64_t)status.st_size;
}

/* A multiple of every page size. */
static size_t map_bytes(const struct cache *cache)
{
    uint64_t bytes = MAX(cache->bytes_max, file_bytes(cache) + MAP_SPARE_BYTES);
    return (size_t)(bytes & ~(uint64_t)0xffff);
}

static int open_tables(struct cache *cache, MDB_txn *txn, unsigned flags, struct head *ret_head)
{
    char name[2] = "0";
    MDB_val key = {4, (void *)"head"}, value;
    int code = mdb_dbi_open(txn, NULL, 0, &cache->main);
    for (int i = 0; i < TABLES && code == 0; i++) {
        name[0] = (char)('0' + i);
        code = mdb_dbi_open(txn, name, flags, &cache->tables[i]);
    }
    if (code != 0) return code;
    code = mdb_get(txn, cache->main, &key, &value);
    if (code == 0 && value.mv_size != sizeof *ret_head) return MDB_CORRUPTED;
    if (code == 0) memcpy(ret_head, value.mv_data, sizeof *ret_head);
    if (code == MDB_NOTFOUND && flags != 0) {
        *ret_head = (struct head){.newest = TABLES, .bytes_max = cache->bytes_max};
        return env_put_head(cache, txn, ret_head);
    }
    return code;
}

/* Reads what is there; makes it where it is not. */
static int find_tables(struct cache *cache, struct head *ret_head)
{
    static const struct {
        unsigned txn_flags, flags;
    } ways[] = {{MDB_RDONLY, 0}, {0, MDB_CREATE}};
    int code = 0;
    for (size_t i = 0; i < COUNT_OF(ways); i++) {
        MDB_txn *txn;
        code = mdb_txn_begin(cache->env, NULL, ways[i].txn_flags, &txn);
        if (code != 0) return code;
        code = open_tables(cache, txn, ways[i].flags, ret_head);
        if (code == 0) return mdb_txn_commit(txn);
        mdb_txn_abort(txn);
        if (code != MDB_NOTFOUND) return code;
    }
    return code;
}

static int open_environment(struct cache *cache)
{
    int dead, fd;
    MDB_stat stat;
    struct head head = {0};
    int code = mdb_env_create(&cache->env);
    if (code != 0) return code;
    if ((code = mdb_env_set_maxdbs(cache->env, TABLES)) != 0 ||
        (code = mdb_env_set_mapsize(cache->env, map_bytes(cache))) != 0 ||
        (code = mdb_env_open(cache->env, cache->data_path,
                             MDB_NOSUBDIR | MDB_NOSYNC | MDB_NOTLS | MDB_NORDAHEAD, 0600)) != 0)
        return code;
    if (mdb_env_get_fd(cache->env, &fd) == 0) fcntl(fd, F_SETFD, FD_CLOEXEC);
    mdb_reader_check(cache->env, &dead);
    code = find_tables(cache, &head);
    for (int i = 0; code == MDB_MAP_RESIZED && i < RESIZES_MAX; i++) { /* somebody fills it now */
        code = mdb_env_set_mapsize(cache->env, map_bytes(cache));
        if (code == 0) code = find_tables(cache, &head);
    }
    if (code != 0) return code;
    mdb_env_stat(cache->env, &stat);
    cache->page_bytes = stat.ms_psize;
    if (cache->bytes_max == 0) {
        cache->bytes_max = MAX(head.bytes_max, CACHE_BYTES_MIN);
        code = mdb_env_set_mapsize(cache->env, map_bytes(cache));
    }
    set_limits(cache);
    return code;
}

tidemill_error *env_open(struct cache *cache)
{
    if (cache->bytes_max == 0 && file_bytes(cache) == 0) cache->bytes_max = CACHE_BYTES_DEFAULT;
    if (cache->is_alone) TRY(fill_lock_file(cache));
    int code = open_environment(cache);
    if (code == 0) return NULL;
    env_close(cache);
    return env_error(cache, code, "open");
}

void env_close(struct cache *cache)
{
    if (cache->env == NULL) return;
    for (size_t i = 0; i < READERS; i++) {
        mdb_txn_abort(cache->readers[i].txn);
        cache->readers[i].txn = NULL;
        cache->readers[i].txn_id = 0;
    }
    mdb_env_close(cache->env);
    cache->env = NULL;
}

static tidemill_error *remove_file(const struct io *io, const char *path)
{
    if (io->unlink(io->context, path) == 0 || errno == ENOENT) return NULL;
    return error_errno(ERROR_IO, errno, "cannot remove %s", path);
}

tidemill_error *env_remove(struct cache *cache)
{
    TRY(remove_file(cache->io, cache->new_path));
    TRY(remove_file(cache->io, cache->lock_path));
    return remove_file(cache->io, cache->data_path);
}

/* --- stopping everybody ----------------------------------------------------------------------- */

void env_stop(struct cache *cache)
{
    for (size_t i = 0; i < READERS; i++) {
        struct reader *reader = &cache->readers[i];
        pthread_mutex_lock(&reader->mutex);
        mdb_txn_abort(reader->txn);
        reader->txn = NULL;
        reader->txn_id = 0;
    }
}

void env_go_on(struct cache *cache)
{
    for (size_t i = 0; i < READERS; i++) pthread_mutex_unlock(&cache->readers[i].mutex);
}

/* Another process, with a larger limit, made the file grow beyond our map. `writing` is held. */
static int adopt_size(struct cache *cache)
{
    env_stop(cache);
    int code = cache->env == NULL ? MDB_PANIC : mdb_env_set_mapsize(cache->env, map_bytes(cache));
    env_go_on(cache);
    return code;
}

/* --- reading ---------------------------------------------------------------------------------- */

/* One that nobody has; by the processor at first, so that the same one is warm. */
static struct reader *take_reader(struct cache *cache)
{
    unsigned first = (unsigned)MAX(sched_getcpu(), 0);
    for (unsigned i = 0; i < READERS; i++) {
        struct reader *reader = &cache->readers[(first + i) % READERS];
        if (pthread_mutex_trylock(&reader->mutex) == 0) return reader;
    }
    struct reader *reader = &cache->readers[first % READERS];
    pthread_mutex_lock(&reader->mutex);
    return reader;
}

static int begin(struct cache *cache, struct reader *reader)
{
    int dead, code;
    if (reader->txn != NULL) {
        code = mdb_txn_renew(reader->txn);
        if (code == 0) return 0;
        mdb_txn_abort(reader->txn);
        reader->txn = NULL;
        return code;
    }
    code = mdb_txn_begin(cache->env, NULL, MDB_RDONLY, &reader->txn);
    if (code == MDB_READERS_FULL && mdb_reader_check(cache->env, &dead) == 0 && dead > 0)
        code = mdb_txn_begin(cache->env, NULL, MDB_RDONLY, &reader->txn);
    if (code != 0) reader->txn = NULL;
    return code;
}

/* Which generation is the newest; asked once for each state of the file. */
static int find_newest(struct cache *cache, struct reader *reader)
{
    MDB_val key = {4, (void *)"head"}, value;
    size_t id = mdb_txn_id(reader->txn);
    if (id == reader->txn_id) return 0;
    int code = mdb_get(reader->txn, cache->main, &key, &value);
    if (code != 0) return code;
    if (value.mv_size != sizeof(struct head)) return MDB_CORRUPTED;
    memcpy(&reader->newest, value.mv_data, sizeof reader->newest);
    reader->txn_id = id;
    return 0;
}

struct reader *env_begin_read(struct cache *cache, struct reader **ret_reader)
{
    struct reader *reader = *ret_reader = take_reader(cache);
    if (cache->env == NULL || atomic_load_explicit(&cache->is_broken, memory_order_relaxed))
        return NULL;
    int code = begin(cache, reader);
    /* Only who holds `writing` may take all readers: a put that is under way adopts the size. */
    if (code == MDB_MAP_RESIZED && pthread_mutex_trylock(&cache->writing) == 0) {
        pthread_mutex_unlock(&reader->mutex);
        code = adopt_size(cache);
        pthread_mutex_unlock(&cache->writing);
        reader = *ret_reader = take_reader(cache);
        if (code == 0 && cache->env != NULL) code = begin(cache, reader);
    }
    if (code == 0) code = find_newest(cache, reader);
    if (code == 0) return reader;
    error_free(env_error(cache, code, "read"));
    return NULL;
}

void env_end_read(struct reader *reader)
{
    if (reader->txn != NULL) mdb_txn_reset(reader->txn);
    pthread_mutex_unlock(&reader->mutex);
}

/* --- writing ---------------------------------------------------------------------------------- */

int env_put_head(struct cache *cache, MDB_txn *txn, const struct head *head)
{
    MDB_val key = {4, (void *)"head"}, value = {sizeof *head, (void *)(uintptr_t)head};
    return mdb_put(txn, cache->main, &key, &value, 0);
}

int env_begin_write(struct cache *cache, MDB_txn **ret_txn, struct head *ret_head)
{
    MDB_val key = {4, (void *)"head"}, value;
    if (cache->env == NULL || atomic_load(&cache->is_broken)) return MDB_PANIC;
    int code = mdb_txn_begin(cache->env, NULL, 0, ret_txn);
    if (code == MDB_MAP_RESIZED && (code = adopt_size(cache)) == 0)
        code = mdb_txn_begin(cache->env, NULL, 0, ret_txn);
    if (code != 0) return code;
    code = mdb_get(*ret_txn, cache->main, &key, &value);
    if (code == 0 && value.mv_size != sizeof *ret_head) code = MDB_CORRUPTED;
    if (code != 0) {
        mdb_txn_abort(*ret_txn);
        return code;
    }
    memcpy(ret_head, value.mv_data, sizeof *ret_head);
    return 0;
}

uint64_t env_table_pages(MDB_txn *txn, MDB_dbi table, uint64_t *ret_entries)
{
    MDB_stat stat = {0};
    mdb_stat(txn, table, &stat);
    *ret_entries = stat.ms_entries;
    return stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
}

uint64_t env_pages(struct cache *cache, MDB_txn *txn)
{
    uint64_t sum = 0, entries;
    for (int i = 0; i < TABLES; i++) sum += env_table_pages(txn, cache->tables[i], &entries);
    return sum;
}
