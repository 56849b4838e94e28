/* SPDX-License-Identifier: Apache-2.0 */
/* uploads.c - files under construction, and how they become rows.
 *
 *     DATA/files/upload-HEX   while it is written; no row ever has such an id
 *     DATA/files/ID           synced and renamed; not visible yet
 *     the row                 committed: it lasts
 *
 * A kill in between leaves a file without a row, which the next start removes. The content is synced
 * by its own thread: the writer's never waits for a large one. */
#include "store/parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct store_upload {
    struct store *store;
    int fd;
    char *path;
    struct hash_state *hash;
    uint64_t bytes, newlines;
    char last;
    bool is_broken; /* a write failed: there is a hole */
};

/* --- writing -------------------------------------------------------------------------------------- */

static void upload_free(struct store_upload *upload)
{
    io_close(upload->store->io, upload->fd);
    hash_state_free(upload->hash);
    free(upload->path);
    free(upload);
}

static tidemill_error *open_new(struct store_upload *upload)
{
    char name[STORE_ID_BYTES];
    store_new_id("upload-", name);
    TRY(place_path(upload->store, "files", name, &upload->path));
    return io_open(upload->store->io, upload->path, O_WRONLY | O_CREAT | O_EXCL, 0600, &upload->fd);
}

tidemill_error *store_upload_new(struct store *store, struct store_upload **ret)
{
    struct store_upload *upload = calloc(1, sizeof *upload);
    if (upload == NULL) return error_memory();
    *upload = (struct store_upload){.store = store, .fd = -1, .hash = hash_state_new()};
    tidemill_error *error = upload->hash == NULL ? error_memory() : open_new(upload);
    if (error == NULL)
        *ret = upload;
    else
        upload_free(upload);
    return error;
}

static uint64_t count_newlines(const char *data, size_t size)
{
    uint64_t n = 0;
    for (const char *end = data + size; data < end; data++, n++)
        if ((data = memchr(data, '\n', (size_t)(end - data))) == NULL) break;
    return n;
}

tidemill_error *store_upload_write(struct store_upload *upload, const void *data, size_t size)
{
    if (size == 0) return NULL;
    if (upload->is_broken)
        return error_new(ERROR_IO, "an earlier write of this upload failed: begin again");
    upload->is_broken = true;
    TRY(io_write_all(upload->store->io, upload->fd, upload->path, data, size));
    upload->is_broken = false;
    hash_state_add(upload->hash, data, size);
    upload->bytes += size;
    upload->newlines += count_newlines(data, size);
    upload->last = ((const char *)data)[size - 1];
    return NULL;
}

void store_upload_drop(struct store_upload *upload)
{
    if (upload == NULL) return;
    (void)upload->store->io->unlink(upload->store->io->context, upload->path);
    upload_free(upload);
}

/* --- keeping -------------------------------------------------------------------------------------- */

static tidemill_error *describe(const struct store_upload *upload, struct store_file *file)
{
    if (file->id[0] == '\0') store_new_id("file-", file->id);
    if (file->created_at == 0) file->created_at = store_now();
    file->bytes = upload->bytes;
    file->lines = upload->newlines + (upload->bytes > 0 && upload->last != '\n');
    file->digest = hash_state_digest(upload->hash);
    if (!is_id(file->id) || strncmp(file->id, "upload-", 7) == 0)
        return error_new(ERROR_USAGE, "this is no id for a file");
    if (!is_name(file->tenant)) return error_new(ERROR_USAGE, "a file without a tenant");
    return NULL;
}

/* A sync that fails may have lost what it should have written, and the next one would not tell. */
static tidemill_error *sync_content(const struct store_upload *upload)
{
    const struct io *io = upload->store->io;
    if (upload->is_broken)
        return error_new(ERROR_IO, "a write of this upload failed: it is not whole");
    if (io->fdatasync(io->context, upload->fd) == 0) return NULL;
    tidemill_error *error = error_errno(ERROR_IO, errno, "cannot sync %s", upload->path);
    return store_sync_failed(upload->store, error);
}

/* Its own name; the upload's path is that from then on. */
static tidemill_error *publish(struct store_upload *upload, const struct store_file *file)
{
    char *path;
    TRY(place_path(upload->store, "files", file->id, &path));
    tidemill_error *error = io_exists(upload->store->io, path)
                                ? error_new(ERROR_EXISTS, "there is a file %s already", file->id)
                                : NULL;
    if (error == NULL)
        error = store_sync_failed(upload->store, io_publish(upload->store->io, upload->path, path));
    if (error != NULL) {
        /* The name may be there, and may or may not last. */
        if (error_code_of(error) != ERROR_EXISTS)
            (void)upload->store->io->unlink(upload->store->io->context, path);
        free(path);
        return error;
    }
    free(upload->path);
    upload->path = path;
    return NULL;
}

static tidemill_error *settle(struct store_upload *upload, struct store_file *file)
{
    TRY(describe(upload, file));
    TRY(sync_content(upload));
    return publish(upload, file);
}

static tidemill_error *apply_keep(struct store *store, void *context)
{
    return file_insert(store, context);
}

tidemill_error *store_upload_keep(struct store_upload *upload, struct store_file *file)
{
    struct write write = {.apply = apply_keep, .context = file};
    tidemill_error *error = settle(upload, file);
    if (error == NULL) error = store_write(upload->store, &write);
    if (error == NULL)
        upload_free(upload);
    else
        store_upload_drop(upload);
    return error;
}

/* --- a job and its files ---------------------------------------------------------------------------- */

struct finish {
    const struct store_job *job;
    unsigned from;
    const struct store_file *files;
    size_t n;
    bool is_done;
};

static tidemill_error *apply_finish(struct store *store, void *context)
{
    struct finish *finish = context;
    TRY(job_save_row(store, finish->job, finish->from, &finish->is_done));
    for (size_t i = 0; finish->is_done && i < finish->n; i++)
        TRY(file_insert(store, &finish->files[i]));
    return NULL;
}

static void after_finish(struct store *store, void *context)
{
    const struct finish *finish = context;
    if (finish->is_done) window_forget(store, finish->job->id);
}

static tidemill_error *settle_all(struct store_upload **uploads, struct store_file *files, size_t n)
{
    for (size_t i = 0; i < n; i++) TRY(settle(uploads[i], &files[i]));
    return NULL;
}

tidemill_error *store_job_finish(struct store *store, const struct store_job *job, unsigned from,
                                 struct store_upload **uploads, struct store_file *files, size_t n,
                                 bool *ret_done)
{
    struct finish finish = {.job = job, .from = from, .files = files, .n = n};
    struct write write = {
        .apply = apply_finish, .after = after_finish, .context = &finish, .is_vital = true};
    *ret_done = false;
    tidemill_error *error = settle_all(uploads, files, n);
    if (error == NULL) error = store_write(store, &write);
    *ret_done = error == NULL && finish.is_done;
    for (size_t i = 0; i < n; i++) {
        if (*ret_done)
            upload_free(uploads[i]);
        else
            store_upload_drop(uploads[i]);
    }
    return error;
}
