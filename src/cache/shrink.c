/* SPDX-License-Identifier: Apache-2.0 */
/* shrink.c - LMDB's file never becomes smaller by itself; this copies what is used into a new one
 * and puts it in the place of the old one. Only who is alone may do that: others have the old one
 * mapped. A kill before the rename leaves the old file, after it the new one. */
#include "cache/env.h"

#include <errno.h>

#define WORTH_BYTES ((uint64_t)256 << 10)

/* Bytes of pages with values. */
static bool count_used(struct cache *cache, uint64_t *ret)
{
    MDB_txn *txn;
    if (mdb_txn_begin(cache->env, NULL, MDB_RDONLY, &txn) != 0) return false;
    *ret = env_pages(cache, txn) * cache->page_bytes;
    mdb_txn_abort(txn);
    return true;
}

static bool is_worth_it(struct cache *cache, uint64_t used)
{
    struct stat status;
    return cache->io->stat(cache->io->context, cache->data_path, &status) == 0 &&
           (uint64_t)status.st_size > used + used / 4 + WORTH_BYTES;
}

static tidemill_error *copy_out(struct cache *cache)
{
    int fd = -1;
    TRY(io_open(cache->io, cache->new_path, O_RDWR | O_CREAT | O_TRUNC, 0600, &fd));
    int code = mdb_env_copyfd2(cache->env, fd, MDB_CP_COMPACT);
    io_close(cache->io, fd);
    if (code == 0) return NULL;
    cache->io->unlink(cache->io->context, cache->new_path);
    return error_context(env_error(cache, code, "make smaller"),
                         "the values are dropped, but their space is not given back ('tidemill "
                         "cache clear' needs no room for a copy)");
}

/* Alone, all locks held. After a failure the cache goes on with whichever file is there. An empty one
 * is removed: that needs no room on a disk that is full. */
static tidemill_error *replace(struct cache *cache, bool is_empty)
{
    const struct io *io = cache->io;
    tidemill_error *error = NULL;
    if (!is_empty) TRY(copy_out(cache));
    env_close(cache);
    cache->sealed_txn_id = 0;
    if (is_empty ? io->unlink(io->context, cache->data_path) != 0
                 : io->rename(io->context, cache->new_path, cache->data_path) != 0)
        error = error_errno(ERROR_IO, errno, "cannot replace %s", cache->data_path);
    tidemill_error *reopened = env_open(cache);
    if (error == NULL) return reopened;
    error_free(reopened);
    return error;
}

tidemill_error *env_shrink(struct cache *cache)
{
    uint64_t used;
    tidemill_error *error = NULL;
    if (cache->env == NULL || !count_used(cache, &used) || !is_worth_it(cache, used)) return NULL;
    env_stop(cache);
    if (state_try_alone(&cache->state)) error = replace(cache, used == 0);
    state_share(&cache->state);
    env_go_on(cache);
    return error;
}
