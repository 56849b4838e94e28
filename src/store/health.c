/* SPDX-License-Identifier: Apache-2.0 */
/* health.c - what stands against changes, for who asks without making one.
 *
 * A full disk is told of until a change goes well, or for a few seconds: then somebody has to try, or
 * a server that gets no requests because it is not well would never find out that there is room. */
#include "store/parts.h"

#define TROUBLE_NS ((int64_t)5 * 1000000000)

void health_note(struct store *store, const tidemill_error *error)
{
    pthread_mutex_lock(&store->health_mutex);
    bool is_final = error_code_of(store->trouble) == ERROR_IO;
    if (!is_final) {
        error_free(store->trouble);
        store->trouble = error_again(error);
        store->trouble_ns = clock_now_ns();
    }
    pthread_mutex_unlock(&store->health_mutex);
}

tidemill_error *store_health(struct store *store)
{
    pthread_mutex_lock(&store->health_mutex);
    bool is_final = error_code_of(store->trouble) == ERROR_IO;
    bool is_fresh = clock_now_ns() - store->trouble_ns < TROUBLE_NS;
    tidemill_error *error = is_final || is_fresh ? error_again(store->trouble) : NULL;
    pthread_mutex_unlock(&store->health_mutex);
    return error;
}
