/* SPDX-License-Identifier: Apache-2.0 */
/* replies.c - what was answered under an Idempotency-Key: the first reply is the one that stays. */
#include "store/parts.h"

#include <stdlib.h>
#include <string.h>

static const char select_reply[] =
    "SELECT tenant, key, digest_low, digest_high, reply, created_at, sum FROM replies "
    "WHERE tenant = ?1 AND key = ?2 AND created_at >= ?3";
static const char insert_reply[] =
    "INSERT INTO replies (tenant, key, digest_low, digest_high, reply, created_at, sum) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING";
static const char delete_old_reply[] =
    "DELETE FROM replies WHERE tenant = ?1 AND key = ?2 AND created_at < ?3";
static const char delete_replies[] = "DELETE FROM replies WHERE created_at < ?1";

static tidemill_error *select_one(struct db *db, const char *tenant, const char *key,
                                  struct digest *ret_digest, struct buffer *ret_reply,
                                  bool *ret_found)
{
    struct query query;
    char name[STORE_NAME_BYTES];
    query_start(&query, db, select_reply);
    query_text(&query, tenant);
    query_text(&query, key);
    query_int(&query, store_now() - KEEP_KEYS_MS);
    *ret_found = query_step(&query);
    if (*ret_found) {
        column_text(&query, name, sizeof name);
        char *text = column_string(&query);
        *ret_digest = column_digest(&query);
        column_buffer(&query, ret_reply);
        (void)column_int(&query);
        column_sum(&query, "reply", tenant);
        free(text);
    }
    return query_end(&query);
}

tidemill_error *store_reply_get(struct store *store, const char *tenant, const char *key,
                                struct digest *ret_digest, struct buffer *ret_reply,
                                bool *ret_found)
{
    struct db *db;
    *ret_found = false;
    TRY(reader_take(store, &db));
    tidemill_error *error = select_one(db, tenant, key, ret_digest, ret_reply, ret_found);
    reader_leave(store, db);
    if (error != NULL) *ret_found = false;
    return error;
}

struct reply {
    const char *tenant, *key;
    struct digest digest;
    struct slice text;
    bool was_there;
};

/* One of yesterday makes room for it. */
static tidemill_error *delete_old(struct store *store, const struct reply *reply, int64_t now)
{
    struct query query;
    query_start(&query, &store->db, delete_old_reply);
    query_text(&query, reply->tenant);
    query_text(&query, reply->key);
    query_int(&query, now - KEEP_KEYS_MS);
    return query_run(&query);
}

static tidemill_error *apply_put(struct store *store, void *context)
{
    struct reply *reply = context;
    struct query query;
    int64_t now = store_now();
    TRY(delete_old(store, reply, now));
    query_start(&query, &store->db, insert_reply);
    query_text(&query, reply->tenant);
    query_text(&query, reply->key);
    query_digest(&query, reply->digest);
    query_blob(&query, reply->text.data, reply->text.size);
    query_int(&query, now);
    query_sum(&query);
    TRY(query_run(&query));
    reply->was_there = db_changes(&store->db) == 0;
    return NULL;
}

tidemill_error *store_reply_put(struct store *store, const char *tenant, const char *key,
                                struct digest digest, struct slice reply, bool *ret_found)
{
    struct reply put = {.tenant = tenant, .key = key, .digest = digest, .text = reply};
    struct write write = {.apply = apply_put, .context = &put};
    *ret_found = false;
    if (!is_name(tenant)) return error_new(ERROR_USAGE, "a reply without a tenant");
    TRY(store_write(store, &write));
    *ret_found = put.was_there;
    return NULL;
}

tidemill_error *replies_forget(struct store *store, int64_t before)
{
    struct query query;
    query_start(&query, &store->db, delete_replies);
    query_int(&query, before);
    return query_run(&query);
}
