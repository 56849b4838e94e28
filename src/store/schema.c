/* SPDX-License-Identifier: Apache-2.0 */
/* schema.c - the tables, and the way from each version to the next.
 *
 * user_version says which steps have been taken; all that are missing are taken in one transaction, so
 * a kill leaves the old version or the new one. Steps are only ever added. Times are milliseconds
 * since 1970. `sum` is the row's checksum (db.h). `seq` gives rows of the same millisecond an order. */
#include "store/parts.h"

#include <stdio.h>

#define APPLICATION_ID 0x74646d6c /* "tdml" */

static const char *const steps[] = {
    /* 1 */
    "CREATE TABLE files ("
    "  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, tenant TEXT NOT NULL,"
    "  purpose TEXT NOT NULL, filename TEXT, bytes INTEGER NOT NULL, lines INTEGER NOT NULL,"
    "  digest_low INTEGER NOT NULL, digest_high INTEGER NOT NULL,"
    "  created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, sum INTEGER NOT NULL) STRICT;"
    "CREATE INDEX files_of_tenant ON files (tenant, created_at, seq);"
    "CREATE INDEX files_by_time ON files (created_at, seq);"
    "CREATE INDEX files_that_expire ON files (expires_at) WHERE expires_at > 0;"

    "CREATE TABLE jobs ("
    "  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind INTEGER NOT NULL,"
    "  tenant TEXT NOT NULL, queue TEXT NOT NULL, model TEXT NOT NULL, state INTEGER NOT NULL,"
    "  priority INTEGER NOT NULL, created_at INTEGER NOT NULL, ready_at INTEGER NOT NULL,"
    "  deadline_at INTEGER NOT NULL, times TEXT NOT NULL," /* when it came into each state */
    "  total INTEGER NOT NULL, completed INTEGER NOT NULL, failed INTEGER NOT NULL,"
    "  cancelled INTEGER NOT NULL, expired INTEGER NOT NULL, bytes INTEGER NOT NULL,"
    "  tokens_in INTEGER NOT NULL, tokens_cached INTEGER NOT NULL, tokens_out INTEGER NOT NULL,"
    "  cost_usd REAL NOT NULL, budget_usd REAL NOT NULL, input_file TEXT NOT NULL,"
    "  output_file TEXT NOT NULL, error_file TEXT NOT NULL, details TEXT,"
    "  ended_at INTEGER NOT NULL, sum INTEGER NOT NULL) STRICT;" /* ended_at 0: not */
    "CREATE INDEX jobs_of_tenant ON jobs (tenant, kind, created_at, seq);"
    "CREATE INDEX jobs_by_time ON jobs (created_at, seq);"
    "CREATE INDEX jobs_of_queue ON jobs (queue, tenant, model, state);"
    "CREATE INDEX jobs_by_input ON jobs (input_file) WHERE input_file <> '';"
    "CREATE INDEX jobs_alive ON jobs (state) WHERE ended_at = 0;"
    "CREATE INDEX jobs_that_ended ON jobs (ended_at) WHERE ended_at > 0;"

    /* How far the file of a window counts. */
    "CREATE TABLE windows ("
    "  id TEXT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE, records INTEGER NOT NULL,"
    "  bytes INTEGER NOT NULL, digest_low INTEGER NOT NULL, digest_high INTEGER NOT NULL,"
    "  sum INTEGER NOT NULL) STRICT, WITHOUT ROWID;"

    "CREATE TABLE accept_keys ("
    "  tenant TEXT NOT NULL, queue TEXT NOT NULL, key TEXT NOT NULL, digest_low INTEGER NOT NULL,"
    "  digest_high INTEGER NOT NULL, window TEXT NOT NULL, first INTEGER NOT NULL,"
    "  created_at INTEGER NOT NULL, sum INTEGER NOT NULL,"
    "  PRIMARY KEY (tenant, queue, key)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX accept_keys_by_time ON accept_keys (created_at);"

    "CREATE TABLE replies ("
    "  tenant TEXT NOT NULL, key TEXT NOT NULL, digest_low INTEGER NOT NULL,"
    "  digest_high INTEGER NOT NULL, reply BLOB NOT NULL, created_at INTEGER NOT NULL,"
    "  sum INTEGER NOT NULL, PRIMARY KEY (tenant, key)) STRICT;"
    "CREATE INDEX replies_by_time ON replies (created_at);"

    "CREATE TABLE api_keys ("
    "  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, tenant TEXT NOT NULL,"
    "  hash BLOB NOT NULL UNIQUE, hint TEXT NOT NULL, queues TEXT, is_admin INTEGER NOT NULL,"
    "  created_at INTEGER NOT NULL, revoked_at INTEGER NOT NULL, requests_minute INTEGER NOT NULL,"
    "  budget_usd REAL NOT NULL, sum INTEGER NOT NULL) STRICT;"
    "CREATE TABLE versions (name TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "INSERT INTO versions VALUES ('api_keys', 0);"

    /* next_at 0: done, or given up; the row stays, so that it is not added again. */
    "CREATE TABLE deliveries ("
    "  id TEXT PRIMARY KEY, job TEXT NOT NULL, target TEXT NOT NULL, body TEXT NOT NULL,"
    "  attempts INTEGER NOT NULL, next_at INTEGER NOT NULL, created_at INTEGER NOT NULL,"
    "  outcome TEXT, sum INTEGER NOT NULL) STRICT;"
    "CREATE INDEX deliveries_due ON deliveries (next_at) WHERE next_at > 0;"
    "CREATE INDEX deliveries_of_job ON deliveries (job);"

    "CREATE TABLE spending ("
    "  tenant TEXT NOT NULL, hour INTEGER NOT NULL, usd REAL NOT NULL,"
    "  PRIMARY KEY (tenant, hour)) STRICT, WITHOUT ROWID;",
};

static const char read_version[] = "PRAGMA user_version";
static const char read_application[] = "PRAGMA application_id";

static tidemill_error *read_number(struct db *db, const char *sql, int64_t *ret)
{
    struct query query;
    query_start(&query, db, sql);
    *ret = query_step(&query) ? column_int(&query) : 0;
    return query_end(&query);
}

static tidemill_error *judge(struct db *db, int64_t version)
{
    int64_t application;
    TRY(read_number(db, read_application, &application));
    if (version < 0 || version > (int64_t)COUNT_OF(steps))
        return error_new(
            ERROR_UNSUPPORTED,
            "%s was made by a newer tidemill (its version is %lld, this one knows %zu): "
            "use that one",
            db->path, (long long)version, COUNT_OF(steps));
    if (application != (version == 0 ? 0 : APPLICATION_ID))
        return error_new(ERROR_CORRUPT, "%s is a database of another program; name another folder",
                         db->path);
    return NULL;
}

/* A PRAGMA takes no bound value; these are numbers of ours. */
static tidemill_error *note_version(struct db *db)
{
    char text[96];
    snprintf(text, sizeof text, "PRAGMA application_id = %d; PRAGMA user_version = %d;",
             APPLICATION_ID, (int)COUNT_OF(steps));
    return db_script(db, text);
}

static tidemill_error *take_steps(struct db *db, int64_t version)
{
    for (size_t i = (size_t)version; i < COUNT_OF(steps); i++) TRY(db_script(db, steps[i]));
    return note_version(db);
}

/* The version is read again inside: another process may have been faster. */
static tidemill_error *update(struct db *db)
{
    int64_t version;
    TRY(read_number(db, read_version, &version));
    TRY(judge(db, version));
    if (version == (int64_t)COUNT_OF(steps)) return NULL;
    return take_steps(db, version);
}

tidemill_error *schema_prepare(struct db *db)
{
    int64_t version;
    TRY(read_number(db, read_version, &version));
    TRY(judge(db, version));
    if (version == (int64_t)COUNT_OF(steps)) return NULL;
    TRY(db_script(db, "BEGIN IMMEDIATE"));
    tidemill_error *error = update(db);
    if (error == NULL) error = db_script(db, "COMMIT");
    if (error != NULL && sqlite3_get_autocommit(db->handle) == 0)
        error_free(db_script(db, "ROLLBACK"));
    return error;
}

tidemill_error *schema_make(struct db *db)
{
    int64_t version;
    TRY(read_number(db, read_version, &version));
    TRY(judge(db, version));
    if (version == 0 || version == (int64_t)COUNT_OF(steps)) return schema_prepare(db);
    return error_new(ERROR_UNSUPPORTED,
                     "%s was made by an older tidemill: start this one's server once", db->path);
}
