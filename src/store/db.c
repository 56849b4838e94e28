/* SPDX-License-Identifier: Apache-2.0 */
/* db.c - connections and their settings; what SQLite's result codes mean here.
 *
 * WAL: readers wait for nobody. synchronous=FULL: a commit is on the disk when it returns. The log is
 * copied into the database by the writer (wal_autocheckpoint is off), as SQLite's own way of doing it
 * swallows a sync that fails. */
#include "store/db.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char settings[] = "PRAGMA journal_mode=WAL;"
                               "PRAGMA synchronous=FULL;"
                               "PRAGMA foreign_keys=ON;"
                               "PRAGMA trusted_schema=OFF;"
                               "PRAGMA cell_size_check=ON;"
                               "PRAGMA temp_store=MEMORY;"
                               "PRAGMA wal_autocheckpoint=0;";
static const char reader_settings[] = "PRAGMA query_only=ON;"
                                      "PRAGMA trusted_schema=OFF;"
                                      "PRAGMA cell_size_check=ON;"
                                      "PRAGMA temp_store=MEMORY;";

static bool is_sync_error(int code)
{
    return code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_DIR_FSYNC;
}

static bool is_full(const struct db *db, int code)
{
    int cause = sqlite3_system_errno(db->handle); /* of the memory that connections share */
    return code == SQLITE_FULL || (code == SQLITE_IOERR_SHMSIZE && cause == ENOSPC);
}

static enum error_code meaning_of(const struct db *db, int code)
{
    if (is_full(db, code)) return ERROR_NO_SPACE;
    switch (code & 0xff) {
    case SQLITE_NOMEM: return ERROR_MEMORY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return ERROR_CORRUPT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return ERROR_LOCKED;
    case SQLITE_CONSTRAINT: return ERROR_EXISTS;
    case SQLITE_TOOBIG: return ERROR_USAGE;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY: return ERROR_IO;
    default: return ERROR_INTERNAL;
    }
}

static const char *advice_for(enum error_code meaning)
{
    switch (meaning) {
    case ERROR_NO_SPACE: return "; free some space";
    case ERROR_CORRUPT: return "; bring back a copy of the folder";
    case ERROR_LOCKED: return "; another program is writing to it";
    default: return "";
    }
}

tidemill_error *db_error(struct db *db, const char *verb)
{
    int code = sqlite3_extended_errcode(db->handle);
    enum error_code meaning = meaning_of(db, code);
    db->is_full = meaning == ERROR_NO_SPACE;
    if (is_sync_error(code) && !db->is_full) db->has_sync_error = true;
    if (meaning == ERROR_MEMORY) return error_memory();
    return error_new(meaning, "cannot %s %s: %s (%d)%s", verb, db->path, sqlite3_errmsg(db->handle),
                     code, advice_for(meaning));
}

tidemill_error *db_script(struct db *db, const char *sql)
{
    return sqlite3_exec(db->handle, sql, NULL, NULL, NULL) == SQLITE_OK ? NULL
                                                                        : db_error(db, "change");
}

static tidemill_error *configure(struct db *db, enum db_mode mode)
{
    sqlite3_extended_result_codes(db->handle, 1);
    sqlite3_busy_timeout(db->handle, DB_BUSY_MS);
    /* A hostile or broken file shall not run anything of its own. */
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    return db_script(db, mode == DB_WRITE ? settings : reader_settings);
}

tidemill_error *db_open(const char *path, enum db_mode mode, struct db *ret)
{
    int flags =
        mode == DB_WRITE ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
    *ret = (struct db){.path = strdup(path)};
    if (ret->path == NULL) return error_memory();
    /* Each connection has one user at a time: no mutex of its own. */
    int code = sqlite3_open_v2(path, &ret->handle, flags | SQLITE_OPEN_NOMUTEX, NULL);
    tidemill_error *error = NULL;
    if (ret->handle == NULL)
        error = error_memory();
    else
        error = code != SQLITE_OK ? db_error(ret, "open") : configure(ret, mode);
    if (error != NULL) db_close(ret);
    return error;
}

void db_close(struct db *db)
{
    for (size_t i = 0; i < db->n_kept; i++) sqlite3_finalize(db->kept[i].statement);
    sqlite3_close(db->handle);
    free(db->path);
    *db = (struct db){0};
}

tidemill_error *db_run(struct db *db, const char *sql)
{
    struct query query;
    query_start(&query, db, sql);
    return query_run(&query);
}

int64_t db_changes(struct db *db)
{
    return sqlite3_changes64(db->handle);
}
