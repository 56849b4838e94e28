/* SPDX-License-Identifier: Apache-2.0 */
/* readers.c - a few connections that only read. One that reads sees the last commit, and nobody waits
 * for it. */
#include "store/parts.h"

/* -1: all are in use. */
static int find_free(const struct store *store)
{
    for (int i = 0; i < READERS; i++)
        if (!store->is_reading[i]) return i;
    return -1;
}

tidemill_error *reader_take(struct store *store, struct db **ret)
{
    int i;
    tidemill_error *error = NULL;
    pthread_mutex_lock(&store->readers_mutex);
    while ((i = find_free(store)) < 0) pthread_cond_wait(&store->has_reader, &store->readers_mutex);
    store->is_reading[i] = true;
    pthread_mutex_unlock(&store->readers_mutex);
    *ret = &store->readers[i];
    if ((*ret)->handle == NULL) error = db_open(store->db.path, DB_READ, *ret);
    if (error != NULL) reader_leave(store, *ret);
    return error;
}

void reader_leave(struct store *store, struct db *db)
{
    pthread_mutex_lock(&store->readers_mutex);
    store->is_reading[db - store->readers] = false;
    pthread_cond_signal(&store->has_reader);
    pthread_mutex_unlock(&store->readers_mutex);
}
