/* SPDX-License-Identifier: Apache-2.0 */
/* deliveries.c - what others are to be told, until they have been. A row stays when it is done, so that
 * adding it again does nothing; it goes with its job. */
#include "store/parts.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS "id, job, target, body, attempts, next_at, created_at, outcome, sum"

static const char insert_delivery[] =
    "INSERT INTO deliveries (" COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) "
    "ON CONFLICT (id) DO NOTHING";
static const char update_delivery[] =
    "UPDATE deliveries SET (" COLUMNS ") = (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) WHERE id = ?1";
static const char select_delivery[] = "SELECT " COLUMNS " FROM deliveries WHERE id = ?1";
static const char select_due[] = "SELECT " COLUMNS " FROM deliveries WHERE next_at > 0 AND "
                                 "next_at <= ?1 ORDER BY next_at LIMIT ?2";

static void delivery_free(struct store_delivery *delivery)
{
    free(delivery->target);
    free(delivery->body);
}

void store_deliveries_free(struct store_delivery *deliveries, size_t n)
{
    for (size_t i = 0; i < n; i++) delivery_free(&deliveries[i]);
    free(deliveries);
}

/* --- rows ----------------------------------------------------------------------------------------- */

static tidemill_error *write_row(struct store *store, const char *sql,
                                 const struct store_delivery *delivery, const char *outcome)
{
    struct query query;
    query_start(&query, &store->db, sql);
    query_text(&query, delivery->id);
    query_text(&query, delivery->job);
    query_text(&query, delivery->target);
    query_text(&query, delivery->body);
    query_int(&query, delivery->attempts);
    query_int(&query, delivery->next_at);
    query_int(&query, delivery->created_at);
    query_text(&query, outcome);
    query_sum(&query);
    return query_run(&query);
}

static void read_delivery(struct query *query, struct store_delivery *delivery)
{
    *delivery = (struct store_delivery){0};
    column_text(query, delivery->id, sizeof delivery->id);
    column_text(query, delivery->job, sizeof delivery->job);
    delivery->target = column_string(query);
    delivery->body = column_string(query);
    delivery->attempts = (int)column_int(query);
    delivery->next_at = column_int(query);
    delivery->created_at = column_int(query);
    free(column_string(query));
    column_sum(query, "delivery", delivery->id);
}

/* --- adding ----------------------------------------------------------------------------------------- */

static tidemill_error *apply_add(struct store *store, void *context)
{
    return write_row(store, insert_delivery, context, NULL);
}

tidemill_error *store_delivery_add(struct store *store, const struct store_delivery *delivery)
{
    struct store_delivery row = *delivery;
    struct write write = {.apply = apply_add, .context = &row, .is_vital = true};
    if (!is_id(row.id) || row.target == NULL || row.body == NULL)
        return error_new(ERROR_USAGE, "a delivery needs an id, a target and a body");
    if (row.created_at == 0) row.created_at = store_now();
    if (row.next_at == 0) row.next_at = row.created_at;
    return store_write(store, &write);
}

/* --- what is due -------------------------------------------------------------------------------------- */

static tidemill_error *read_due(struct db *db, int64_t now, size_t limit,
                                struct store_delivery **ret, size_t *ret_n)
{
    struct query query;
    query_start(&query, db, select_due);
    query_int(&query, now);
    query_int(&query, (int64_t)MIN(limit, (size_t)INT_MAX));
    while (query_step(&query)) {
        struct store_delivery *items = rows_grow(*ret, *ret_n, sizeof *items);
        if (items == NULL) {
            error_free(query_end(&query));
            return error_memory();
        }
        *ret = items;
        read_delivery(&query, &items[(*ret_n)++]);
    }
    return query_end(&query);
}

tidemill_error *store_delivery_due(struct store *store, int64_t now, size_t limit,
                                   struct store_delivery **ret, size_t *ret_n)
{
    struct db *db;
    *ret = NULL;
    *ret_n = 0;
    TRY(reader_take(store, &db));
    tidemill_error *error = read_due(db, now, limit, ret, ret_n);
    reader_leave(store, db);
    if (error == NULL) return NULL;
    store_deliveries_free(*ret, *ret_n);
    *ret = NULL;
    *ret_n = 0;
    return error;
}

/* --- what was tried --------------------------------------------------------------------------------- */

struct attempt {
    const char *id, *outcome;
    int64_t next_at;
};

static tidemill_error *apply_tried(struct store *store, void *context)
{
    const struct attempt *attempt = context;
    struct store_delivery delivery = {0};
    struct query query;
    query_start(&query, &store->db, select_delivery);
    query_text(&query, attempt->id);
    bool is_found = query_step(&query);
    if (is_found) read_delivery(&query, &delivery);
    tidemill_error *error = query_end(&query);
    if (error == NULL && is_found) {
        delivery.attempts++;
        delivery.next_at = attempt->next_at;
        if (attempt->next_at == 0) delivery.body[0] = '\0'; /* nobody needs it any more */
        error = write_row(store, update_delivery, &delivery, attempt->outcome);
    }
    delivery_free(&delivery);
    return error;
}

tidemill_error *store_delivery_tried(struct store *store, const char *id, int64_t next_at,
                                     const char *outcome)
{
    struct attempt attempt = {.id = id, .outcome = outcome, .next_at = next_at};
    struct write write = {.apply = apply_tried, .context = &attempt, .is_vital = true};
    return store_write(store, &write);
}
