/* SPDX-License-Identifier: Apache-2.0 */
/* rows_check.c - at open: every row's checksum. SQLite's own check compares tables with their indexes; a key
 * that changed in a table that is its own index would only be a row that nobody finds any more. */
#include "store/parts.h"

/* The columns as they are bound, `sum` last. */
static const struct {
    const char *what, *sql;
} tables[] = {
    {"job", "SELECT " JOB_COLUMNS " FROM jobs"},
    {"file", "SELECT id, tenant, purpose, filename, bytes, lines, digest_low, digest_high, "
             "created_at, expires_at, sum FROM files"},
    {"window", "SELECT id, records, bytes, digest_low, digest_high, sum FROM windows"},
    {"key of an accept in", "SELECT queue, tenant, key, digest_low, digest_high, window, first, "
                            "created_at, sum FROM accept_keys"},
    {"reply to",
     "SELECT tenant, key, digest_low, digest_high, reply, created_at, sum FROM replies"},
    {"key", "SELECT id, name, tenant, hash, hint, queues, is_admin, created_at, revoked_at, "
            "requests_minute, budget_usd, sum FROM api_keys"},
    {"delivery", "SELECT id, job, target, body, attempts, next_at, created_at, outcome, sum "
                 "FROM deliveries"},
};
static const char lost_windows[] =
    "SELECT id FROM jobs WHERE kind = ?1 AND NOT EXISTS (SELECT 1 FROM windows WHERE "
    "windows.id = jobs.id) LIMIT 1";

static tidemill_error *check_table(struct db *db, const char *what, const char *sql)
{
    struct query query;
    query_start(&query, db, sql);
    while (query_step(&query)) column_all(&query, what);
    return query_end(&query);
}

static tidemill_error *find_lost(struct db *db)
{
    char id[STORE_ID_BYTES] = "";
    struct query query;
    query_start(&query, db, lost_windows);
    query_int(&query, STORE_WINDOW);
    if (query_step(&query)) column_text(&query, id, sizeof id);
    TRY(query_end(&query));
    if (id[0] == '\0') return NULL;
    return error_new(ERROR_CORRUPT,
                     "%s does not know the records of %s; bring back a copy of the folder",
                     db->path, id);
}

tidemill_error *rows_check(struct db *db)
{
    for (size_t i = 0; i < COUNT_OF(tables); i++)
        TRY(check_table(db, tables[i].what, tables[i].sql));
    return find_lost(db);
}
