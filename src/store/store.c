/* SPDX-License-Identifier: Apache-2.0 */
/* store.c - opening, in an order that a kill at any point does not hurt: lock, folders, log, tables,
 * windows cut back, orphans removed, the reserve; then the writer. And closing, ids, the clock, copies. */
#include "store/parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sodium.h>

#define WHOLE_CHECK_BYTES ((uint64_t)256 << 20) /* larger: not every index is looked at */
#define ID_RANDOM_BYTES 12

static const char check_whole[] = "PRAGMA integrity_check(1)";
static const char check_quick[] = "PRAGMA quick_check(1)";

/* --- ids ------------------------------------------------------------------------------------------ */

void store_new_id(const char *prefix, char id[STORE_ID_BYTES])
{
    unsigned char random[ID_RANDOM_BYTES];
    char text[2 * ID_RANDOM_BYTES + 1];
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(text, sizeof text, random, sizeof random);
    snprintf(id, STORE_ID_BYTES, "%.15s%s", prefix, text);
}

int64_t store_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* --- memory ---------------------------------------------------------------------------------------- */

static void release(struct store *store)
{
    for (size_t i = 0; i < READERS; i++) db_close(&store->readers[i]);
    windows_free(store);
    db_close(&store->db);
    file_lock_release(store->lock);
    pthread_mutex_destroy(&store->mutex);
    pthread_cond_destroy(&store->has_work);
    pthread_cond_destroy(&store->has_room);
    pthread_mutex_destroy(&store->health_mutex);
    pthread_mutex_destroy(&store->readers_mutex);
    pthread_cond_destroy(&store->has_reader);
    error_free(store->final);
    error_free(store->trouble);
    free(store->path);
    free(store);
}

static tidemill_error *allocate(const struct io *io, const char *path, struct store **ret)
{
    struct store *store = calloc(1, sizeof *store);
    if (store == NULL) return error_memory();
    store->io = io;
    pthread_mutex_init(&store->mutex, NULL);
    pthread_cond_init(&store->has_work, NULL);
    pthread_cond_init(&store->has_room, NULL);
    pthread_mutex_init(&store->health_mutex, NULL);
    pthread_mutex_init(&store->readers_mutex, NULL);
    pthread_cond_init(&store->has_reader, NULL);
    store->path = strdup(path);
    *ret = store;
    if (store->path != NULL) return NULL;
    release(store);
    return error_memory();
}

/* --- opening ------------------------------------------------------------------------------------------ */

static tidemill_error *take_lock(struct store *store)
{
    char *path;
    TRY(place_path(store, "store.lock", NULL, &path));
    tidemill_error *error = file_lock_take(store->io, path, &store->lock);
    free(path);
    return error;
}

/* The first complaint, if there is one. */
static tidemill_error *check_database(struct db *db, const char *sql)
{
    struct query query;
    char verdict[256] = "";
    query_start(&query, db, sql);
    if (query_step(&query)) {
        char *text = column_string(&query);
        snprintf(verdict, sizeof verdict, "%s", text == NULL ? "" : text);
        free(text);
    }
    TRY(query_end(&query));
    if (strcmp(verdict, "ok") == 0) return NULL;
    return error_new(ERROR_CORRUPT, "%s is broken (%s); bring back a copy of the folder", db->path,
                     verdict);
}

static int count_frames(void *argument, sqlite3 *handle, const char *name, int frames)
{
    (void)handle, (void)name;
    *(int *)argument = frames;
    return SQLITE_OK;
}

static tidemill_error *check_log(struct store *store)
{
    char *path;
    TRY(place_path(store, "store.db-wal", NULL, &path));
    tidemill_error *error = wal_check(store->io, path);
    free(path);
    return error;
}

/* The log starts anew, unless somebody beside us still reads from it. */
static tidemill_error *empty_log(struct db *db)
{
    int code = sqlite3_wal_checkpoint_v2(db->handle, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    if (code == SQLITE_OK) return NULL;
    tidemill_error *error = db_error(db, "copy the log into");
    if (error_code_of(error) != ERROR_LOCKED) return error;
    error_free(error);
    return NULL;
}

static tidemill_error *open_database(struct store *store)
{
    char *path;
    struct stat status = {0};
    if (store->lock != NULL) TRY(check_log(store));
    TRY(place_path(store, "store.db", NULL, &path));
    (void)store->io->stat(store->io->context, path, &status);
    tidemill_error *error = db_open(path, DB_WRITE, &store->db);
    free(path);
    TRY(error);
    sqlite3_wal_hook(store->db.handle, count_frames, &store->log_frames);
    if (store->lock == NULL) return schema_make(&store->db);
    bool is_small = (uint64_t)status.st_size <= WHOLE_CHECK_BYTES;
    TRY(check_database(&store->db, is_small ? check_whole : check_quick));
    TRY(schema_prepare(&store->db));
    if (is_small) TRY(rows_check(&store->db));
    TRY(empty_log(&store->db));
    return io_sync_directory(store->io, store->db.path);
}

/* A disk that is full now may have room again: then the reserve is made. */
static tidemill_error *try_reserve(struct store *store)
{
    tidemill_error *error = reserve_make(store);
    if (error_code_of(error) != ERROR_NO_SPACE) return error;
    log_event(LOG_WARNING, "%s", error_message(error));
    error_free(error);
    return NULL;
}

static tidemill_error *open_all(struct store *store)
{
    TRY(places_prepare(store->io, store->path));
    TRY(take_lock(store));
    TRY(open_database(store));
    TRY(windows_check(store));
    TRY(collect_orphans(store));
    TRY(try_reserve(store));
    return writer_start(store);
}

static tidemill_error *open_beside(struct store *store)
{
    TRY(places_prepare(store->io, store->path));
    TRY(open_database(store));
    return writer_start(store);
}

static tidemill_error *open_with(const struct io *io, const char *path,
                                 tidemill_error *(*open_it)(struct store *), struct store **ret)
{
    struct store *store = NULL;
    if (sodium_init() < 0) return error_new(ERROR_UNSUPPORTED, "libsodium has no random source");
    quota_is_full_disk();
    TRY(allocate(io, path, &store));
    tidemill_error *error = open_it(store);
    if (error != NULL)
        release(store);
    else
        *ret = store;
    return error;
}

tidemill_error *store_open(const struct io *io, const char *path, struct store **ret)
{
    return open_with(io, path, open_all, ret);
}

tidemill_error *store_open_beside(const struct io *io, const char *path, struct store **ret)
{
    return open_with(io, path, open_beside, ret);
}

void store_close(struct store *store)
{
    if (store == NULL) return;
    writer_stop(store);
    release(store);
}

const char *store_path(const struct store *store)
{
    return store->path;
}

/* --- copies ------------------------------------------------------------------------------------------- */

static tidemill_error *copy_pages(struct store *store, struct db *from, sqlite3 *to)
{
    sqlite3_backup *backup = sqlite3_backup_init(to, "main", from->handle, "main");
    if (backup == NULL)
        return error_new(ERROR_IO, "cannot copy %s: %s", store->db.path, sqlite3_errmsg(to));
    int code = sqlite3_backup_step(backup, -1);
    sqlite3_backup_finish(backup);
    if (code == SQLITE_DONE) return NULL;
    return error_new(code == SQLITE_FULL ? ERROR_NO_SPACE : ERROR_IO, "cannot copy %s: %s",
                     store->db.path, sqlite3_errstr(code));
}

tidemill_error *store_backup(struct store *store, const char *path)
{
    struct db *from;
    struct db to;
    if (io_exists(store->io, path))
        return error_new(ERROR_EXISTS, "%s is there already; name another file", path);
    TRY(reader_take(store, &from));
    tidemill_error *error = db_open(path, DB_WRITE, &to);
    if (error == NULL) {
        error = copy_pages(store, from, to.handle);
        db_close(&to);
    }
    reader_leave(store, from);
    if (error != NULL) (void)store->io->unlink(store->io->context, path);
    return error == NULL ? io_sync_directory(store->io, path) : error;
}
