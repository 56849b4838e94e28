/* SPDX-License-Identifier: Apache-2.0 */
/* query.c - one use of a kept statement: bind in order, step, read in order, with a sum over a row. */
#include "store/db.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- sums --------------------------------------------------------------------------------------- */

/* The kind of a value counts, too, and its place does: the sum so far is multiplied. */
static void add_to_sum(struct query *query, int kind, const void *data, size_t size)
{
    uint64_t mixed = query->sum * 0x9e3779b97f4a7c15u + (uint64_t)kind;
    query->sum = mixed ^ hash_checksum(data, size);
}

static void add_int(struct query *query, int64_t value)
{
    add_to_sum(query, SQLITE_INTEGER, &value, sizeof value);
}

static void add_real(struct query *query, double value)
{
    add_to_sum(query, SQLITE_FLOAT, &value, sizeof value);
}

/* --- binding ------------------------------------------------------------------------------------ */

static sqlite3_stmt *find_kept(const struct db *db, const char *sql)
{
    for (size_t i = 0; i < db->n_kept; i++)
        if (db->kept[i].sql == sql) return db->kept[i].statement;
    return NULL;
}

static tidemill_error *prepare(struct db *db, const char *sql, sqlite3_stmt **ret)
{
    if ((*ret = find_kept(db, sql)) != NULL) return NULL;
    if (db->n_kept == DB_STATEMENTS_MAX)
        return error_new(ERROR_INTERNAL, "more statements than DB_STATEMENTS_MAX are in use");
    if (sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL) != SQLITE_OK)
        return db_error(db, "use");
    db->kept[db->n_kept].sql = sql;
    db->kept[db->n_kept++].statement = *ret;
    return NULL;
}

void query_start(struct query *query, struct db *db, const char *sql)
{
    *query = (struct query){.db = db, .next = 1};
    query->error = prepare(db, sql, &query->statement);
}

static void note_bound(struct query *query, int code)
{
    query->next++;
    if (code != SQLITE_OK && query->error == NULL) query->error = db_error(query->db, "use");
}

void query_int(struct query *query, int64_t value)
{
    if (query->error != NULL) return;
    add_int(query, value);
    note_bound(query, sqlite3_bind_int64(query->statement, query->next, value));
}

void query_real(struct query *query, double value)
{
    if (query->error != NULL) return;
    value += 0.0; /* -0 comes back as 0 */
    add_real(query, value);
    note_bound(query, sqlite3_bind_double(query->statement, query->next, value));
}

void query_text(struct query *query, const char *text)
{
    if (query->error != NULL) return;
    if (text == NULL) {
        add_to_sum(query, SQLITE_NULL, "", 0);
        note_bound(query, sqlite3_bind_null(query->statement, query->next));
        return;
    }
    size_t size = strlen(text);
    add_to_sum(query, SQLITE_TEXT, text, size);
    note_bound(query, sqlite3_bind_text64(query->statement, query->next, text, size, SQLITE_STATIC,
                                          SQLITE_UTF8));
}

void query_blob(struct query *query, const void *data, size_t size)
{
    if (query->error != NULL) return;
    add_to_sum(query, SQLITE_BLOB, data, size);
    /* A NULL pointer would be NULL, and not an empty blob. */
    note_bound(query, sqlite3_bind_blob64(query->statement, query->next, size == 0 ? "" : data,
                                          size, SQLITE_STATIC));
}

void query_digest(struct query *query, struct digest digest)
{
    query_int(query, (int64_t)digest.low);
    query_int(query, (int64_t)digest.high);
}

void query_sum(struct query *query)
{
    if (query->error != NULL) return;
    note_bound(query, sqlite3_bind_int64(query->statement, query->next, (int64_t)query->sum));
}

/* --- stepping ----------------------------------------------------------------------------------- */

bool query_step(struct query *query)
{
    if (query->error != NULL) return false;
    int code = sqlite3_step(query->statement);
    if (code == SQLITE_ROW) {
        query->next = 0;
        column_start(query);
        return true;
    }
    if (code != SQLITE_DONE)
        query->error =
            db_error(query->db, sqlite3_stmt_readonly(query->statement) ? "read" : "write");
    return false;
}

tidemill_error *query_end(struct query *query)
{
    if (query->statement != NULL) {
        sqlite3_reset(query->statement);
        sqlite3_clear_bindings(query->statement);
    }
    tidemill_error *error = query->error;
    query->error = NULL;
    return error;
}

tidemill_error *query_run(struct query *query)
{
    (void)query_step(query);
    return query_end(query);
}

void *rows_grow(void *items, size_t n, size_t size)
{
    bool is_full = n == 0 || (n >= 16 && (n & (n - 1)) == 0);
    return is_full ? realloc(items, MAX(n * 2, 16) * size) : items;
}

/* --- columns ------------------------------------------------------------------------------------ */

void column_start(struct query *query)
{
    query->sum = 0;
}

int64_t column_int(struct query *query)
{
    int64_t value = sqlite3_column_int64(query->statement, query->next++);
    add_int(query, value);
    return value;
}

double column_real(struct query *query)
{
    double value = sqlite3_column_double(query->statement, query->next++);
    add_real(query, value);
    return value;
}

bool column_is_null(const struct query *query)
{
    return sqlite3_column_type(query->statement, query->next) == SQLITE_NULL;
}

static void note(struct query *query, tidemill_error *error)
{
    if (query->error == NULL)
        query->error = error;
    else
        error_free(error);
}

void column_text(struct query *query, char *text, size_t size)
{
    const void *data = sqlite3_column_text(query->statement, query->next);
    size_t length = (size_t)sqlite3_column_bytes(query->statement, query->next);
    query->next++;
    text[0] = '\0';
    add_to_sum(query, SQLITE_TEXT, data == NULL ? "" : data, length);
    if (length >= size)
        note(query, error_new(ERROR_CORRUPT, "%s has a text of %zu bytes where at most %zu may be",
                              query->db->path, length, size - 1));
    else if (length > 0)
        memcpy(text, data, length + 1);
}

char *column_string(struct query *query)
{
    if (column_is_null(query)) {
        add_to_sum(query, SQLITE_NULL, "", 0);
        query->next++;
        return NULL;
    }
    const char *data = (const char *)sqlite3_column_text(query->statement, query->next);
    size_t length = (size_t)sqlite3_column_bytes(query->statement, query->next++);
    add_to_sum(query, SQLITE_TEXT, data == NULL ? "" : data, length);
    char *text = malloc(length + 1);
    if (text == NULL || data == NULL) {
        note(query, error_memory());
        free(text);
        return NULL;
    }
    memcpy(text, data, length + 1);
    return text;
}

void column_blob(struct query *query, void *data, size_t size)
{
    const void *found = sqlite3_column_blob(query->statement, query->next);
    size_t length = (size_t)sqlite3_column_bytes(query->statement, query->next++);
    memset(data, 0, size);
    add_to_sum(query, SQLITE_BLOB, length == 0 ? "" : found, length);
    if (length != size)
        note(query, error_new(ERROR_CORRUPT, "%s has %zu bytes where %zu must be", query->db->path,
                              length, size));
    else if (size > 0)
        memcpy(data, found, size);
}

void column_buffer(struct query *query, struct buffer *buffer)
{
    const void *found = sqlite3_column_blob(query->statement, query->next);
    size_t length = (size_t)sqlite3_column_bytes(query->statement, query->next++);
    add_to_sum(query, SQLITE_BLOB, length == 0 ? "" : found, length);
    buffer_append(buffer, found, length);
    if (buffer->is_failed) note(query, error_memory());
}

struct digest column_digest(struct query *query)
{
    uint64_t low = (uint64_t)column_int(query);
    return (struct digest){.low = low, .high = (uint64_t)column_int(query)};
}

void column_sum(struct query *query, const char *what, const char *id)
{
    uint64_t sum = (uint64_t)sqlite3_column_int64(query->statement, query->next++);
    if (sum != query->sum)
        note(query,
             error_new(
                 ERROR_CORRUPT,
                 "%s: the row of the %s %s fails its checksum; bring back a copy of the folder",
                 query->db->path, what, id));
    column_start(query);
}

static void add_column(struct query *query)
{
    sqlite3_stmt *statement = query->statement;
    int type = sqlite3_column_type(statement, query->next);
    if (type == SQLITE_INTEGER) {
        (void)column_int(query);
        return;
    }
    if (type == SQLITE_FLOAT) {
        (void)column_real(query);
        return;
    }
    const void *data = type == SQLITE_TEXT
                           ? (const void *)sqlite3_column_text(statement, query->next)
                           : sqlite3_column_blob(statement, query->next);
    size_t size = (size_t)sqlite3_column_bytes(statement, query->next++);
    add_to_sum(query, type, data == NULL ? "" : data, data == NULL ? 0 : size);
}

void column_all(struct query *query, const char *what)
{
    int n = sqlite3_column_count(query->statement);
    const char *id = (const char *)sqlite3_column_text(query->statement, 0);
    char name[64];
    snprintf(name, sizeof name, "%s", id == NULL ? "" : id);
    while (query->next < n - 1) add_column(query);
    column_sum(query, what, name);
}
