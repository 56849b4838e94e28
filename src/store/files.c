/* SPDX-License-Identifier: Apache-2.0 */
/* files.c - rows of files: reading, listing, deleting. The row goes first and its content after the
 * commit, so that no row is ever without its content. */
#include "store/parts.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define EXPIRE_MAX 256 /* of one transaction */

#define COLUMNS                                                                                    \
    "id, tenant, purpose, filename, bytes, lines, digest_low, digest_high, created_at, "           \
    "expires_at, sum"

static const char insert_file[] =
    "INSERT INTO files (" COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
static const char select_file[] =
    "SELECT " COLUMNS " FROM files WHERE id = ?1 AND (?2 IS NULL OR tenant = ?2)";
static const char delete_file[] = "DELETE FROM files WHERE id = ?1";
static const char delete_file_of[] =
    "DELETE FROM files WHERE id = ?1 AND (?2 IS NULL OR tenant = ?2)";
static const char select_expired[] =
    "SELECT id FROM files WHERE expires_at > 0 AND expires_at <= ?1 ORDER BY expires_at LIMIT ?2";

/* Rows of one millisecond are told apart by seq. Four texts, so that each has its index. */
#define PAGE(where, compare, order)                                                                \
    "SELECT " COLUMNS " FROM files WHERE " where                                                   \
    "(?2 IS NULL OR purpose = ?2) AND (?6 IS NULL OR substr(id, 1, length(?6)) = ?6) AND "         \
    "(created_at, seq) " compare " (?3, ?4) "                                                      \
    "ORDER BY created_at " order ", seq " order " LIMIT ?5"
static const char page_of_tenant_up[] = PAGE("tenant = ?1 AND ", ">", "ASC");
static const char page_of_tenant_down[] = PAGE("tenant = ?1 AND ", "<", "DESC");
static const char page_of_all_up[] = PAGE("?1 IS NULL AND ", ">", "ASC");
static const char page_of_all_down[] = PAGE("?1 IS NULL AND ", "<", "DESC");
static const char select_place[] =
    "SELECT created_at, seq FROM files WHERE id = ?1 AND (?2 IS NULL OR tenant = ?2)";

void store_file_free(struct store_file *file)
{
    free(file->filename);
    file->filename = NULL;
}

void store_files_free(struct store_files *files)
{
    for (size_t i = 0; i < files->n; i++) store_file_free(&files->items[i]);
    free(files->items);
    *files = (struct store_files){0};
}

/* --- rows ----------------------------------------------------------------------------------------- */

tidemill_error *file_insert(struct store *store, const struct store_file *file)
{
    struct query query;
    query_start(&query, &store->db, insert_file);
    query_text(&query, file->id);
    query_text(&query, file->tenant);
    query_text(&query, file->purpose);
    query_text(&query, file->filename);
    query_int(&query, (int64_t)file->bytes);
    query_int(&query, (int64_t)file->lines);
    query_digest(&query, file->digest);
    query_int(&query, file->created_at);
    query_int(&query, file->expires_at);
    query_sum(&query);
    return query_run(&query);
}

static void read_file(struct query *query, struct store_file *file)
{
    *file = (struct store_file){0};
    column_text(query, file->id, sizeof file->id);
    column_text(query, file->tenant, sizeof file->tenant);
    column_text(query, file->purpose, sizeof file->purpose);
    file->filename = column_string(query);
    file->bytes = (uint64_t)column_int(query);
    file->lines = (uint64_t)column_int(query);
    file->digest = column_digest(query);
    file->created_at = column_int(query);
    file->expires_at = column_int(query);
    column_sum(query, "file", file->id);
}

static tidemill_error *select_one(struct db *db, const char *tenant, const char *id,
                                  struct store_file *ret, bool *ret_found)
{
    struct query query;
    *ret = (struct store_file){0};
    query_start(&query, db, select_file);
    query_text(&query, id);
    query_text(&query, tenant);
    *ret_found = query_step(&query);
    if (*ret_found) read_file(&query, ret);
    tidemill_error *error = query_end(&query);
    if (error == NULL) return NULL;
    store_file_free(ret);
    *ret_found = false;
    return error;
}

tidemill_error *store_file_get(struct store *store, const char *tenant, const char *id,
                               struct store_file *ret, bool *ret_found)
{
    struct db *db;
    TRY(reader_take(store, &db));
    tidemill_error *error = select_one(db, tenant, id, ret, ret_found);
    reader_leave(store, db);
    return error;
}

tidemill_error *store_file_path(struct store *store, const char *id, char **ret)
{
    if (!is_id(id)) return error_new(ERROR_USAGE, "this is no file's id");
    return place_path(store, "files", id, ret);
}

/* --- pages ---------------------------------------------------------------------------------------- */

/* Where the page begins; *ret_found false: behind an id that is not there. */
static tidemill_error *find_place(struct db *db, const struct store_page *page, int64_t place[2],
                                  bool *ret_found)
{
    struct query query;
    place[0] = place[1] = page->is_ascending ? INT64_MIN : INT64_MAX;
    *ret_found = true;
    if (page->after == NULL) return NULL;
    query_start(&query, db, select_place);
    query_text(&query, page->after);
    query_text(&query, page->tenant);
    *ret_found = query_step(&query);
    for (int i = 0; i < 2 && *ret_found; i++) place[i] = column_int(&query);
    return query_end(&query);
}

static const char *choose_page(const struct store_page *page)
{
    if (page->tenant != NULL) return page->is_ascending ? page_of_tenant_up : page_of_tenant_down;
    return page->is_ascending ? page_of_all_up : page_of_all_down;
}

static tidemill_error *read_files(struct query *query, size_t limit, struct store_files *ret)
{
    while (query_step(query)) {
        if (ret->n == limit) {
            ret->has_more = true;
            break;
        }
        struct store_file *items = rows_grow(ret->items, ret->n, sizeof *items);
        if (items == NULL) {
            error_free(query_end(query));
            return error_memory();
        }
        ret->items = items;
        read_file(query, &items[ret->n++]);
    }
    return query_end(query);
}

static tidemill_error *list(struct db *db, const struct store_page *page, const char *purpose,
                            struct store_files *ret)
{
    struct query query;
    int64_t place[2];
    bool is_found;
    TRY(find_place(db, page, place, &is_found));
    if (!is_found) return NULL;
    size_t limit = MIN(page->limit, (size_t)INT_MAX);
    query_start(&query, db, choose_page(page));
    query_text(&query, page->tenant);
    query_text(&query, purpose);
    query_int(&query, place[0]);
    query_int(&query, place[1]);
    query_int(&query, (int64_t)limit + 1);
    query_text(&query, page->prefix);
    return read_files(&query, limit, ret);
}

tidemill_error *store_file_list(struct store *store, const struct store_page *page,
                                const char *purpose, struct store_files *ret)
{
    struct db *db;
    *ret = (struct store_files){0};
    TRY(reader_take(store, &db));
    tidemill_error *error = list(db, page, purpose, ret);
    reader_leave(store, db);
    if (error != NULL) store_files_free(ret);
    return error;
}

/* --- deleting ------------------------------------------------------------------------------------- */

void file_remove_content(struct store *store, const char *id)
{
    char *path;
    if (id[0] == '\0') return;
    tidemill_error *error = place_path(store, "files", id, &path);
    if (error == NULL) {
        if (store->io->unlink(store->io->context, path) != 0 && errno != ENOENT)
            log_event(LOG_WARNING, "cannot remove %s; the next start will", path);
        free(path);
    }
    error_free(error);
}

tidemill_error *file_delete_row(struct store *store, const char *id)
{
    struct query query;
    query_start(&query, &store->db, delete_file);
    query_text(&query, id);
    return query_run(&query);
}

struct deletion {
    const char *tenant, *id;
    bool is_found;
};

static tidemill_error *apply_delete(struct store *store, void *context)
{
    struct deletion *deletion = context;
    struct query query;
    query_start(&query, &store->db, delete_file_of);
    query_text(&query, deletion->id);
    query_text(&query, deletion->tenant);
    TRY(query_run(&query));
    deletion->is_found = db_changes(&store->db) > 0;
    return NULL;
}

static void after_delete(struct store *store, void *context)
{
    const struct deletion *deletion = context;
    if (deletion->is_found) file_remove_content(store, deletion->id);
}

tidemill_error *store_file_delete(struct store *store, const char *tenant, const char *id,
                                  bool *ret_found)
{
    struct deletion deletion = {.tenant = tenant, .id = id};
    struct write write = {
        .apply = apply_delete, .after = after_delete, .context = &deletion, .is_vital = true};
    *ret_found = false;
    TRY(store_write(store, &write));
    *ret_found = deletion.is_found;
    return NULL;
}

/* --- expiring ------------------------------------------------------------------------------------- */

struct expiry {
    int64_t now;
    char (*ids)[STORE_ID_BYTES]; /* EXPIRE_MAX */
    size_t n;
};

static tidemill_error *find_expired(struct store *store, struct expiry *expiry)
{
    struct query query;
    expiry->n = 0;
    query_start(&query, &store->db, select_expired);
    query_int(&query, expiry->now);
    query_int(&query, EXPIRE_MAX);
    while (expiry->n < EXPIRE_MAX && query_step(&query))
        column_text(&query, expiry->ids[expiry->n++], STORE_ID_BYTES);
    return query_end(&query);
}

static tidemill_error *apply_expire(struct store *store, void *context)
{
    struct expiry *expiry = context;
    TRY(find_expired(store, expiry));
    for (size_t i = 0; i < expiry->n; i++) TRY(file_delete_row(store, expiry->ids[i]));
    TRY(accept_keys_forget(store, expiry->now - KEEP_KEYS_MS));
    return replies_forget(store, expiry->now - KEEP_KEYS_MS);
}

static void after_expire(struct store *store, void *context)
{
    const struct expiry *expiry = context;
    for (size_t i = 0; i < expiry->n; i++) file_remove_content(store, expiry->ids[i]);
}

tidemill_error *store_file_expire(struct store *store, int64_t now, size_t *ret_n)
{
    struct expiry expiry = {.now = now, .ids = calloc(EXPIRE_MAX, STORE_ID_BYTES)};
    tidemill_error *error = NULL;
    *ret_n = 0;
    if (expiry.ids == NULL) return error_memory();
    do {
        struct write write = {
            .apply = apply_expire, .after = after_expire, .context = &expiry, .is_vital = true};
        error = store_write(store, &write);
        if (error == NULL) *ret_n += expiry.n;
    } while (error == NULL && expiry.n == EXPIRE_MAX);
    free(expiry.ids);
    return error;
}
