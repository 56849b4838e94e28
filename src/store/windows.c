/* SPDX-License-Identifier: Apache-2.0 */
/* windows.c - the files of windows that collect: lines behind lines, synced once a group.
 *
 * A file counts as far as its row says (bytes, records, checksum), and never less than the row says: it is
 * synced before the row is committed. What is behind that was never acknowledged and is cut off: at
 * once where a group fails, else at the next start. The checksum runs along; `committed` is where it
 * goes back to. Only the writer's thread is here. */
#include "store/parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PENDING_KEEP_BYTES ((size_t)1 << 20)

static const char select_open[] =
    "SELECT windows.id, windows.records, windows.bytes, windows.digest_low, windows.digest_high, "
    "windows.sum, jobs.priority, jobs.created_at, jobs.ready_at "
    "FROM jobs JOIN windows ON windows.id = jobs.id "
    "WHERE jobs.state = 0 AND jobs.queue = ?1 AND jobs.tenant = ?2 AND jobs.model = ?3 "
    "ORDER BY jobs.seq DESC LIMIT 1";
static const char upsert_window[] =
    "INSERT INTO windows (id, records, bytes, digest_low, digest_high, sum) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO UPDATE SET "
    "records = ?2, bytes = ?3, digest_low = ?4, digest_high = ?5, sum = ?6";

/* --- one window ----------------------------------------------------------------------------------- */

static void window_free(struct window *window)
{
    hash_state_free(window->committed.hash);
    hash_state_free(window->staged.hash);
    buffer_free(&window->pending);
    error_free(window->error);
    free(window);
}

static tidemill_error *window_new(const struct store_accept *accept, struct window **ret)
{
    struct window *window = calloc(1, sizeof *window);
    if (window == NULL) return error_memory();
    snprintf(window->queue, sizeof window->queue, "%s", accept->queue);
    snprintf(window->tenant, sizeof window->tenant, "%s", accept->tenant);
    snprintf(window->model, sizeof window->model, "%s", accept->model);
    window->committed.hash = hash_state_new();
    window->staged.hash = hash_state_new();
    *ret = window;
    if (window->committed.hash != NULL && window->staged.hash != NULL) return NULL;
    window_free(window);
    return error_memory();
}

static void copy_state(struct window_state *to, const struct window_state *from)
{
    to->records = from->records;
    to->bytes = from->bytes;
    hash_state_copy(to->hash, from->hash);
}

/* --- finding it ------------------------------------------------------------------------------------- */

static struct window **bucket_of(struct windows *windows, const struct store_accept *accept)
{
    uint64_t hash = hash_checksum(accept->queue, strlen(accept->queue)) * 31 +
                    hash_checksum(accept->tenant, strlen(accept->tenant));
    return &windows->buckets[hash % WINDOW_BUCKETS];
}

static bool is_for(const struct window *window, const struct store_accept *accept)
{
    return strcmp(window->queue, accept->queue) == 0 &&
           strcmp(window->tenant, accept->tenant) == 0 && strcmp(window->model, accept->model) == 0;
}

/* From the row; the file is read once, for its checksum. */
static tidemill_error *load(struct store *store, struct window *window, bool *ret_found)
{
    struct query query;
    struct window_row row;
    *ret_found = false;
    query_start(&query, &store->db, select_open);
    query_text(&query, window->queue);
    query_text(&query, window->tenant);
    query_text(&query, window->model);
    if (query_step(&query)) {
        column_text(&query, row.id, sizeof row.id);
        row.records = (uint64_t)column_int(&query);
        row.bytes = (uint64_t)column_int(&query);
        row.digest = column_digest(&query);
        column_sum(&query, "window", row.id);
        window->priority = (int)column_int(&query);
        window->created_at = column_int(&query);
        window->ready_at = column_int(&query);
        *ret_found = true;
    }
    TRY(query_end(&query));
    if (!*ret_found) return NULL;
    memcpy(window->id, row.id, sizeof window->id);
    window->committed.records = row.records;
    window->committed.bytes = row.bytes;
    TRY(window_verify(store, &row, window->committed.hash));
    copy_state(&window->staged, &window->committed);
    return NULL;
}

static void begin_new(struct window *window, const struct store_accept *accept)
{
    store_new_id("win_", window->id);
    window->priority = accept->priority;
    window->created_at = store_now();
    window->ready_at = accept->ready_at;
    window->is_new = true;
}

tidemill_error *window_find(struct store *store, const struct store_accept *accept,
                            struct window **ret)
{
    struct window **bucket = bucket_of(&store->windows, accept);
    bool is_found = false;
    for (*ret = *bucket; *ret != NULL; *ret = (*ret)->next)
        if (is_for(*ret, accept)) return NULL;
    TRY(window_new(accept, ret));
    tidemill_error *error = load(store, *ret, &is_found);
    if (error != NULL) {
        window_free(*ret);
        return error;
    }
    if (!is_found) begin_new(*ret, accept);
    (*ret)->next = *bucket;
    *bucket = *ret;
    return NULL;
}

/* --- appending --------------------------------------------------------------------------------------- */

tidemill_error *window_stage(struct store *store, struct window *window, const void *lines,
                             size_t bytes, uint64_t n)
{
    buffer_append(&window->pending, lines, bytes);
    if (window->pending.is_failed) return error_memory();
    hash_state_add(window->staged.hash, lines, bytes);
    window->staged.bytes += bytes;
    window->staged.records += n;
    if (!window->is_dirty) {
        window->is_dirty = true;
        window->next_dirty = store->windows.dirty;
        store->windows.dirty = window;
    }
    return NULL;
}

/* The file ends where the row says, or a cut that failed is made up for. */
static tidemill_error *expect_end(struct store *store, int fd, const char *path,
                                  const struct window *window)
{
    struct stat status;
    if (store->io->fstat(store->io->context, fd, &status) != 0)
        return error_errno(ERROR_IO, errno, "cannot look at %s", path);
    uint64_t bytes = (uint64_t)status.st_size;
    if (bytes < window->committed.bytes)
        return error_new(ERROR_CORRUPT, "%s has %llu bytes of the %llu that were accepted", path,
                         (unsigned long long)bytes, (unsigned long long)window->committed.bytes);
    if (bytes > window->committed.bytes &&
        store->io->ftruncate(store->io->context, fd, (off_t)window->committed.bytes) != 0)
        return error_errno(ERROR_IO, errno, "cannot cut %s", path);
    return NULL;
}

static tidemill_error *append_pending(struct store *store, int fd, const char *path,
                                      struct window *window)
{
    TRY(expect_end(store, fd, path, window));
    window->has_tail = true; /* until it is settled */
    TRY(io_write_all(store->io, fd, path, window->pending.data, window->pending.size));
    if (store->io->fdatasync(store->io->context, fd) == 0) return NULL;
    tidemill_error *error = error_errno(ERROR_IO, errno, "cannot sync %s", path);
    store_stop_for_ever(store, error);
    return error;
}

static tidemill_error *flush(struct store *store, struct window *window)
{
    int fd = -1;
    char *path;
    int flags = O_WRONLY | O_APPEND | (window->is_new ? O_CREAT | O_EXCL : 0);
    TRY(place_path(store, "windows", window->id, &path));
    tidemill_error *error = io_open(store->io, path, flags, 0600, &fd);
    if (error == NULL) error = append_pending(store, fd, path, window);
    io_close(store->io, fd);
    free(path);
    return error;
}

/* The names of new files last, too. */
static void sync_folder(struct store *store)
{
    char *path;
    tidemill_error *error = place_path(store, "windows", "x", &path);
    if (error == NULL) {
        error = io_sync_directory(store->io, path);
        if (error != NULL) store_stop_for_ever(store, error);
        free(path);
    }
    for (struct window *window = store->windows.dirty; window != NULL; window = window->next_dirty)
        if (window->is_new && window->error == NULL) window->error = error_again(error);
    error_free(error);
}

void windows_flush(struct store *store)
{
    bool has_new = false;
    for (struct window *window = store->windows.dirty; window != NULL && store->final == NULL;
         window = window->next_dirty) {
        window->error = flush(store, window);
        has_new |= window->is_new && window->error == NULL;
    }
    if (has_new && store->final == NULL) sync_folder(store);
}

/* --- rows ------------------------------------------------------------------------------------------------ */

static tidemill_error *insert_row(struct store *store, const struct window *window)
{
    struct store_job job = {
        .kind = STORE_WINDOW,
        .state = STORE_OPEN,
        .priority = window->priority,
        .created_at = window->created_at,
        .ready_at = window->ready_at,
        .state_at[STORE_OPEN] = window->created_at,
    };
    memcpy(job.id, window->id, sizeof job.id);
    memcpy(job.tenant, window->tenant, sizeof job.tenant);
    memcpy(job.queue, window->queue, sizeof job.queue);
    memcpy(job.model, window->model, sizeof job.model);
    return job_insert(store, &job);
}

static tidemill_error *apply_window(struct store *store, const struct window *window)
{
    struct query query;
    if (window->is_new) TRY(insert_row(store, window));
    query_start(&query, &store->db, upsert_window);
    query_text(&query, window->id);
    query_int(&query, (int64_t)window->staged.records);
    query_int(&query, (int64_t)window->staged.bytes);
    query_digest(&query, hash_state_digest(window->staged.hash));
    query_sum(&query);
    return query_run(&query);
}

tidemill_error *windows_apply(struct store *store)
{
    for (struct window *window = store->windows.dirty; window != NULL; window = window->next_dirty)
        if (window->error == NULL) TRY(apply_window(store, window));
    return NULL;
}

/* --- after the transaction --------------------------------------------------------------------------------- */

static void unlink_from_bucket(struct store *store, struct window *window)
{
    for (size_t i = 0; i < WINDOW_BUCKETS; i++)
        for (struct window **place = &store->windows.buckets[i]; *place != NULL;
             place = &(*place)->next)
            if (*place == window) {
                *place = window->next;
                return;
            }
}

/* What could not be undone now is undone before the next append, or at the next start. */
static void cut_tail(struct store *store, struct window *window)
{
    tidemill_error *error = window_cut(store, window->id, window->committed.bytes);
    window->has_tail = error != NULL;
    if (error != NULL) log_event(LOG_WARNING, "%s", error_message(error));
    error_free(error);
}

static void drop_new(struct store *store, struct window *window)
{
    char *path;
    tidemill_error *error = place_path(store, "windows", window->id, &path);
    if (error == NULL) {
        (void)store->io->unlink(store->io->context, path); /* else an orphan: collected at open */
        free(path);
    }
    error_free(error);
    unlink_from_bucket(store, window);
    window_free(window);
}

static void settle(struct store *store, struct window *window, bool is_committed)
{
    window->is_dirty = false;
    buffer_reset(&window->pending, PENDING_KEEP_BYTES);
    if (is_committed && window->error == NULL) {
        copy_state(&window->committed, &window->staged);
        window->is_new = window->has_tail = false;
        return;
    }
    error_free(window->error);
    window->error = NULL;
    copy_state(&window->staged, &window->committed);
    if (store->final != NULL) return; /* nobody knows what is on the disk: nothing is touched */
    if (window->is_new)
        drop_new(store, window);
    else if (window->has_tail)
        cut_tail(store, window);
}

void windows_settle(struct store *store, bool is_committed)
{
    struct window *next;
    for (struct window *window = store->windows.dirty; window != NULL; window = next) {
        next = window->next_dirty;
        settle(store, window, is_committed);
    }
    store->windows.dirty = NULL;
}

/* --- closing ------------------------------------------------------------------------------------------------- */

static struct window *find_by_id(const struct store *store, const char *id)
{
    for (size_t i = 0; i < WINDOW_BUCKETS; i++)
        for (struct window *window = store->windows.buckets[i]; window != NULL;
             window = window->next)
            if (strcmp(window->id, id) == 0) return window;
    return NULL;
}

tidemill_error *window_tidy(struct store *store, const char *id)
{
    struct window *window = find_by_id(store, id);
    if (window == NULL || !window->has_tail || window->is_dirty) return NULL;
    TRY(window_cut(store, id, window->committed.bytes));
    window->has_tail = false;
    return NULL;
}

void window_forget(struct store *store, const char *id)
{
    struct window *window = find_by_id(store, id);
    if (window == NULL) return;
    unlink_from_bucket(store, window);
    window_free(window);
}

void windows_free(struct store *store)
{
    for (size_t i = 0; i < WINDOW_BUCKETS; i++)
        for (struct window *window = store->windows.buckets[i], *next; window != NULL;
             window = next) {
            next = window->next;
            window_free(window);
        }
    store->windows = (struct windows){0};
}
