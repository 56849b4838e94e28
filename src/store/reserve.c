/* SPDX-License-Identifier: Apache-2.0 */
/* reserve.c - a file of zeros that is removed when the disk is full, so that there is room to note
 * what has happened: a job that ended, a file that was deleted. */
#include "store/parts.h"

#include <stdlib.h>

static tidemill_error *write_zeros(struct store *store, const char *path)
{
    int fd = -1;
    char *zeros = calloc(1, RESERVE_BYTES);
    if (zeros == NULL) return error_memory();
    tidemill_error *error = io_open(store->io, path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd);
    if (error == NULL) error = io_write_all(store->io, fd, path, zeros, RESERVE_BYTES);
    /* Blocks that are not given out yet are not kept for us. */
    if (error == NULL && store->io->fdatasync(store->io->context, fd) != 0)
        error = error_new(ERROR_IO, "cannot sync %s", path);
    io_close(store->io, fd);
    free(zeros);
    if (error != NULL) (void)store->io->unlink(store->io->context, path);
    return error;
}

static bool is_whole(struct store *store, const char *path)
{
    struct stat status;
    return store->io->stat(store->io->context, path, &status) == 0 &&
           (size_t)status.st_size == RESERVE_BYTES;
}

tidemill_error *reserve_make(struct store *store)
{
    char *path;
    if (store->has_reserve) return NULL;
    TRY(place_path(store, "reserve", NULL, &path));
    tidemill_error *error = is_whole(store, path) ? NULL : write_zeros(store, path);
    store->has_reserve = error == NULL;
    free(path);
    return error;
}

bool reserve_give_up(struct store *store)
{
    char *path;
    if (!store->has_reserve) return false;
    tidemill_error *error = place_path(store, "reserve", NULL, &path);
    if (error != NULL) {
        error_free(error);
        return false;
    }
    store->has_reserve = false;
    bool is_gone = store->io->unlink(store->io->context, path) == 0;
    if (is_gone) log_event(LOG_WARNING, "the disk is full: %s was given up", path);
    free(path);
    return is_gone;
}
