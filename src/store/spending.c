/* SPDX-License-Identifier: Apache-2.0 */
/* spending.c - what tenants spent, by the hour. It outlives the jobs, and never goes back: a job that
 * runs again costs again. */
#include "store/parts.h"

#define HOUR_MS ((int64_t)3600 * 1000)

static const char add_spent[] = "INSERT INTO spending (tenant, hour, usd) VALUES (?1, ?2, ?3) "
                                "ON CONFLICT (tenant, hour) DO UPDATE SET usd = usd + ?3";
static const char select_spent[] =
    "SELECT COALESCE(SUM(usd), 0.0) FROM spending WHERE tenant = ?1 AND hour >= ?2";

tidemill_error *spending_add(struct store *store, const char *tenant, int64_t time, double usd)
{
    struct query query;
    if (!(usd > 0)) return NULL;
    query_start(&query, &store->db, add_spent);
    query_text(&query, tenant);
    query_int(&query, time / HOUR_MS);
    query_real(&query, usd);
    return query_run(&query);
}

tidemill_error *store_spent(struct store *store, const char *tenant, int64_t since, double *ret_usd)
{
    struct db *db;
    struct query query;
    *ret_usd = 0;
    TRY(reader_take(store, &db));
    query_start(&query, db, select_spent);
    query_text(&query, tenant);
    query_int(&query, since / HOUR_MS);
    if (query_step(&query)) *ret_usd = column_real(&query);
    tidemill_error *error = query_end(&query);
    reader_leave(store, db);
    return error;
}
