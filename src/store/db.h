/* SPDX-License-Identifier: Apache-2.0 */
/* db.h - SQLite behind a few calls: connections, kept statements, rows with a checksum. Inside this
 * room.
 *
 * A statement is a string constant; it is prepared at its first use and kept with its connection.
 * Values are only ever bound. A query is used in one go:
 *
 *     query_start(&query, db, select_job);
 *     query_text(&query, id);                    binds in order
 *     while (query_step(&query))
 *         column_text(&query, job.id, sizeof job.id);   reads in order
 *     TRY(query_end(&query));                    always; tells the first failure of all of them
 *
 * SQLite's pages have no checksum. So every row that matters ends with `sum`, over the columns before
 * it: query_sum binds it, column_sum compares it. A byte that the disk changed is an error, not a
 * wrong answer. */
#ifndef TIDEMILL_STORE_DB_H
#define TIDEMILL_STORE_DB_H

#include "base/base.h"

#include <sqlite3.h>

#define DB_STATEMENTS_MAX 96
#define DB_BUSY_MS 10000 /* another process (`tidemill key`) writes */

struct db {
    sqlite3 *handle;
    char *path;
    struct {
        const char *sql; /* told apart by address */
        sqlite3_stmt *statement;
    } kept[DB_STATEMENTS_MAX];
    size_t n_kept;
    bool is_full;        /* the last error was a full disk */
    bool has_sync_error; /* a sync failed, once: nothing can be believed any more */
};

enum db_mode { DB_WRITE, DB_READ };
/* CORRUPT: it is no database, or one of something else. */
tidemill_error *db_open(const char *path, enum db_mode mode, struct db *ret);
void db_close(struct db *db); /* all zero is fine */
/* What went wrong just now; `verb` as in "cannot <verb> DATA/store.db". */
tidemill_error *db_error(struct db *db, const char *verb);
/* One statement without values and rows. */
tidemill_error *db_run(struct db *db, const char *sql);
/* Several of them, not kept: schemas. */
tidemill_error *db_script(struct db *db, const char *sql);
int64_t db_changes(struct db *db); /* rows that the last statement changed */

struct query {
    struct db *db;
    sqlite3_stmt *statement; /* NULL: it could not be prepared */
    int next;                /* parameter or column */
    uint64_t sum;
    tidemill_error *error; /* the first one */
};
void query_start(struct query *query, struct db *db, const char *sql);
void query_int(struct query *query, int64_t value);
void query_real(struct query *query, double value);
void query_text(struct query *query, const char *text); /* NULL: NULL. Must live until query_end. */
void query_blob(struct query *query, const void *data, size_t size);
void query_digest(struct query *query, struct digest digest); /* two columns */
void query_sum(struct query *query);
/* Next row. false: there is none (any more), or something went wrong, now or before. */
bool query_step(struct query *query);
/* What went wrong, if anything did. */
tidemill_error *query_end(struct query *query);
/* Step and end of one that has no rows. */
tidemill_error *query_run(struct query *query);
/* Room for one more than n in an array that grows by doubling; NULL when out of memory. */
void *rows_grow(void *items, size_t n, size_t size);
/* Begins to read the row's columns: called by query_step. Where a row has two sums, between them. */
void column_start(struct query *query);
int64_t column_int(struct query *query);
double column_real(struct query *query);
bool column_is_null(const struct query *query); /* the next one */
void column_text(struct query *query, char *text, size_t size);
char *column_string(struct query *query); /* malloc'ed; NULL: NULL */
void column_blob(struct query *query, void *data, size_t size);
void column_buffer(struct query *query, struct buffer *buffer);
struct digest column_digest(struct query *query);
/* Whatever they are, with the sum at the end. */
void column_all(struct query *query, const char *what);
/* `what`, `id` for the message. */
void column_sum(struct query *query, const char *what, const char *id);

#endif
