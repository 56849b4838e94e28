/* SPDX-License-Identifier: Apache-2.0 */
/* writer.c - the one thread that changes things, and the queue before it.
 *
 * While a group is on its way to the disk, the next one gathers: under load a sync is shared by all
 * who came meanwhile, and without load nobody waits for others. The queue is two lists through what
 * its callers own, so nothing is allocated; it is bounded by WRITES_MAX. */
#include "store/parts.h"

#include <errno.h>

static void init_lists(struct store *store)
{
    store->accepts = NULL;
    store->last_accept = &store->accepts;
    store->writes = NULL;
    store->last_write = &store->writes;
}

/* --- putting in --------------------------------------------------------------------------------- */

tidemill_error *store_write(struct store *store, struct write *write)
{
    write->next = NULL;
    write->error = NULL;
    sem_init(&write->is_done, 0, 0);
    pthread_mutex_lock(&store->mutex);
    while (store->n_waiting >= WRITES_MAX) pthread_cond_wait(&store->has_room, &store->mutex);
    *store->last_write = write;
    store->last_write = &write->next;
    store->n_waiting++;
    pthread_cond_signal(&store->has_work);
    pthread_mutex_unlock(&store->mutex);
    while (sem_wait(&write->is_done) != 0 && errno == EINTR) continue;
    sem_destroy(&write->is_done);
    return write->error;
}

void store_accept(struct store *store, struct store_accept *accept)
{
    accept->own.next = NULL;
    accept->own.window = NULL;
    accept->own.error = NULL;
    accept->is_repeat = accept->is_conflict = false;
    pthread_mutex_lock(&store->mutex);
    if (store->n_waiting >= WRITES_MAX)
        accept->own.error =
            error_new(ERROR_MEMORY, "%d changes wait for the disk already; try again in a second",
                      WRITES_MAX);
    *store->last_accept = accept;
    store->last_accept = &accept->own.next;
    store->n_waiting++;
    pthread_cond_signal(&store->has_work);
    pthread_mutex_unlock(&store->mutex);
}

/* --- taking out --------------------------------------------------------------------------------- */

/* As many accepts as one transaction shall have; those that were put off go first. */
static size_t take_accepts(struct store *store, struct group *group)
{
    size_t n = 0, bytes = 0;
    struct store_accept **last = &group->accepts;
    *last = store->later;
    for (store->later = NULL; *last != NULL; last = &(*last)->own.next) bytes += (*last)->bytes;
    struct store_accept *accept = store->accepts;
    *last = accept;
    while (accept != NULL && n < GROUP_ITEMS_MAX && (n == 0 || bytes < GROUP_BYTES_MAX)) {
        n++;
        bytes += accept->bytes;
        last = &accept->own.next;
        accept = *last;
    }
    *last = NULL;
    store->accepts = accept;
    if (accept == NULL) store->last_accept = &store->accepts;
    return n;
}

static size_t take_writes(struct store *store, struct group *group)
{
    size_t n = 0;
    struct write **last = &group->writes;
    *last = store->writes;
    for (; *last != NULL && n < GROUP_ITEMS_MAX; last = &(*last)->next) n++;
    store->writes = *last;
    if (*last == NULL) store->last_write = &store->writes;
    *last = NULL;
    return n;
}

static bool has_work(const struct store *store)
{
    return store->writes != NULL || store->accepts != NULL || store->later != NULL;
}

/* false: closing, and nothing is left. */
static bool take_group(struct store *store, struct group *group)
{
    *group = (struct group){0};
    pthread_mutex_lock(&store->mutex);
    while (!has_work(store) && !store->is_closing)
        pthread_cond_wait(&store->has_work, &store->mutex);
    bool is_any = has_work(store);
    store->n_waiting -= take_accepts(store, group) + take_writes(store, group);
    pthread_cond_broadcast(&store->has_room);
    pthread_mutex_unlock(&store->mutex);
    return is_any;
}

static void *write_groups(void *argument)
{
    struct store *store = argument;
    struct group group;
    while (take_group(store, &group)) group_write(store, &group);
    return NULL;
}

/* --- its life ------------------------------------------------------------------------------------- */

tidemill_error *writer_start(struct store *store)
{
    init_lists(store);
    int errnum = pthread_create(&store->writer, NULL, write_groups, store);
    if (errnum != 0) return error_errno(ERROR_MEMORY, errnum, "cannot start the store's thread");
    store->is_started = true;
    return NULL;
}

void writer_stop(struct store *store)
{
    if (!store->is_started) return;
    pthread_mutex_lock(&store->mutex);
    store->is_closing = true;
    pthread_cond_signal(&store->has_work);
    pthread_mutex_unlock(&store->mutex);
    pthread_join(store->writer, NULL);
    store->is_started = false;
}
