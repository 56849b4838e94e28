/* SPDX-License-Identifier: Apache-2.0 */
/* keys.c - API keys: their hashes only. Each change raises a number in the database, which a running
 * server looks at now and then (store_key_version): a key revoked by another process stops working. */
#include "store/parts.h"

#include <stdlib.h>
#include <string.h>

#define COLUMNS                                                                                    \
    "id, name, tenant, hash, hint, queues, is_admin, created_at, revoked_at, requests_minute, "    \
    "budget_usd, sum"

static const char insert_key[] =
    "INSERT INTO api_keys (" COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
static const char update_key[] =
    "UPDATE api_keys SET (" COLUMNS ") = (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) "
    "WHERE id = ?1";
static const char select_key[] = "SELECT " COLUMNS " FROM api_keys WHERE id = ?1";
static const char select_keys[] = "SELECT " COLUMNS " FROM api_keys ORDER BY created_at, seq";
static const char raise_version[] =
    "UPDATE versions SET version = version + 1 WHERE name = 'api_keys'";
static const char select_version[] = "SELECT version FROM versions WHERE name = 'api_keys'";

static void key_free(struct store_key *key)
{
    free(key->queues);
    key->queues = NULL;
}

void store_keys_free(struct store_keys *keys)
{
    for (size_t i = 0; i < keys->n; i++) key_free(&keys->items[i]);
    free(keys->items);
    *keys = (struct store_keys){0};
}

/* --- rows ----------------------------------------------------------------------------------------- */

static tidemill_error *write_row(struct store *store, const char *sql, const struct store_key *key)
{
    struct query query;
    query_start(&query, &store->db, sql);
    query_text(&query, key->id);
    query_text(&query, key->name);
    query_text(&query, key->tenant);
    query_blob(&query, key->hash, sizeof key->hash);
    query_text(&query, key->hint);
    query_text(&query, key->queues);
    query_int(&query, key->is_admin);
    query_int(&query, key->created_at);
    query_int(&query, key->revoked_at);
    query_int(&query, key->requests_minute);
    query_real(&query, key->budget_usd);
    query_sum(&query);
    TRY(query_run(&query));
    return db_run(&store->db, raise_version);
}

static void read_key(struct query *query, struct store_key *key)
{
    *key = (struct store_key){0};
    column_text(query, key->id, sizeof key->id);
    column_text(query, key->name, sizeof key->name);
    column_text(query, key->tenant, sizeof key->tenant);
    column_blob(query, key->hash, sizeof key->hash);
    column_text(query, key->hint, sizeof key->hint);
    key->queues = column_string(query);
    key->is_admin = column_int(query) != 0;
    key->created_at = column_int(query);
    key->revoked_at = column_int(query);
    key->requests_minute = column_int(query);
    key->budget_usd = column_real(query);
    column_sum(query, "key", key->id);
}

/* --- reading -------------------------------------------------------------------------------------- */

static tidemill_error *read_keys(struct db *db, struct store_keys *ret)
{
    struct query query;
    query_start(&query, db, select_keys);
    while (query_step(&query)) {
        struct store_key *items = rows_grow(ret->items, ret->n, sizeof *items);
        if (items == NULL) {
            error_free(query_end(&query));
            return error_memory();
        }
        ret->items = items;
        read_key(&query, &items[ret->n++]);
    }
    return query_end(&query);
}

tidemill_error *store_key_list(struct store *store, struct store_keys *ret)
{
    struct db *db;
    *ret = (struct store_keys){0};
    TRY(reader_take(store, &db));
    tidemill_error *error = read_keys(db, ret);
    reader_leave(store, db);
    if (error != NULL) store_keys_free(ret);
    return error;
}

tidemill_error *store_key_version(struct store *store, int64_t *ret)
{
    struct db *db;
    struct query query;
    *ret = 0;
    TRY(reader_take(store, &db));
    query_start(&query, db, select_version);
    if (query_step(&query)) *ret = column_int(&query);
    tidemill_error *error = query_end(&query);
    reader_leave(store, db);
    return error;
}

/* --- changing ------------------------------------------------------------------------------------- */

static tidemill_error *apply_add(struct store *store, void *context)
{
    const struct store_key *key = context;
    tidemill_error *error = write_row(store, insert_key, key);
    if (error_code_of(error) != ERROR_EXISTS) return error;
    error_free(error);
    return error_new(ERROR_EXISTS, "there is a key %s already, or one with the same text", key->id);
}

tidemill_error *store_key_add(struct store *store, const struct store_key *key)
{
    struct store_key row = *key;
    struct write write = {.apply = apply_add, .context = &row};
    if (!is_id(key->id) || !is_name(key->tenant))
        return error_new(ERROR_USAGE, "a key's id or tenant is not a name");
    if (row.created_at == 0) row.created_at = store_now();
    return store_write(store, &write);
}

struct revocation {
    const char *id;
    bool is_found;
};

static tidemill_error *apply_revoke(struct store *store, void *context)
{
    struct revocation *revocation = context;
    struct store_key key = {0};
    struct query query;
    query_start(&query, &store->db, select_key);
    query_text(&query, revocation->id);
    revocation->is_found = query_step(&query);
    if (revocation->is_found) read_key(&query, &key);
    tidemill_error *error = query_end(&query);
    if (error == NULL && revocation->is_found && key.revoked_at == 0) {
        key.revoked_at = store_now();
        error = write_row(store, update_key, &key);
    }
    key_free(&key);
    return error;
}

tidemill_error *store_key_revoke(struct store *store, const char *id, bool *ret_found)
{
    struct revocation revocation = {.id = id};
    struct write write = {.apply = apply_revoke, .context = &revocation, .is_vital = true};
    *ret_found = false;
    TRY(store_write(store, &write));
    *ret_found = revocation.is_found;
    return NULL;
}
