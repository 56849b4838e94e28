/* SPDX-License-Identifier: Apache-2.0 */
/* job_list.c - many jobs: pages, what the scheduler asks for, depths of queues. */
#include "store/parts.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Rows of one millisecond are told apart by seq. Four texts, so that each has its index. */
#define PAGE(where, compare, order)                                                                \
    JOB_ROW                                                                                        \
    "WHERE " where "kind = ?2 AND (?3 IS NULL OR queue = ?3) AND ((1 << state) & ?4) != 0 "        \
    "AND (?8 IS NULL OR substr(jobs.id, 1, length(?8)) = ?8) AND (created_at, seq) " compare       \
    " (?5, ?6) ORDER BY created_at " order ", seq " order " LIMIT ?7"
static const char page_of_tenant_up[] = PAGE("tenant = ?1 AND ", ">", "ASC");
static const char page_of_tenant_down[] = PAGE("tenant = ?1 AND ", "<", "DESC");
static const char page_of_all_up[] = PAGE("?1 IS NULL AND ", ">", "ASC");
static const char page_of_all_down[] = PAGE("?1 IS NULL AND ", "<", "DESC");
static const char select_place[] =
    "SELECT created_at, seq FROM jobs WHERE id = ?1 AND (?2 IS NULL OR tenant = ?2)";

static const char scan_alive[] =
    JOB_ROW "WHERE ended_at = 0 AND ((1 << state) & ?1) != 0 ORDER BY created_at, seq";
static const char scan_all[] = JOB_ROW "WHERE ((1 << state) & ?1) != 0 ORDER BY created_at, seq";

static const char select_depths[] =
    "SELECT queue, tenant, "
    "SUM(CASE WHEN state = 0 THEN windows.records ELSE total END"
    " - completed - failed - cancelled - expired), "
    "SUM(CASE WHEN state = 0 THEN windows.bytes ELSE jobs.bytes END), MIN(created_at) "
    "FROM jobs LEFT JOIN windows ON windows.id = jobs.id WHERE ended_at = 0 "
    "GROUP BY queue, tenant ORDER BY queue, tenant";

static_assert(STORE_OPEN == 0, "the statements say so");

void store_jobs_free(struct store_jobs *jobs)
{
    for (size_t i = 0; i < jobs->n; i++) store_job_free(&jobs->items[i]);
    free(jobs->items);
    *jobs = (struct store_jobs){0};
}

static tidemill_error *read_jobs(struct query *query, size_t limit, struct store_jobs *ret)
{
    tidemill_error *error = NULL;
    while (error == NULL && query_step(query)) {
        if (ret->n == limit) {
            ret->has_more = true;
            break;
        }
        struct store_job *items = rows_grow(ret->items, ret->n, sizeof *items);
        if (items == NULL) {
            error = error_memory();
            break;
        }
        ret->items = items;
        job_read(query, &items[ret->n++]);
    }
    tidemill_error *query_error = query_end(query);
    if (error == NULL)
        error = query_error;
    else
        error_free(query_error);
    if (error != NULL) store_jobs_free(ret);
    return error;
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

static tidemill_error *list(struct db *db, const struct store_page *page, enum store_kind kind,
                            const char *queue, unsigned states, struct store_jobs *ret)
{
    struct query query;
    int64_t place[2];
    bool is_found;
    TRY(find_place(db, page, place, &is_found));
    if (!is_found) return NULL;
    size_t limit = MIN(page->limit, (size_t)INT_MAX);
    query_start(&query, db, choose_page(page));
    query_text(&query, page->tenant);
    query_int(&query, kind);
    query_text(&query, queue);
    query_int(&query, states);
    query_int(&query, place[0]);
    query_int(&query, place[1]);
    query_int(&query, (int64_t)limit + 1);
    query_text(&query, page->prefix);
    return read_jobs(&query, limit, ret);
}

tidemill_error *store_job_list(struct store *store, const struct store_page *page,
                               enum store_kind kind, const char *queue, unsigned states,
                               struct store_jobs *ret)
{
    struct db *db;
    *ret = (struct store_jobs){0};
    TRY(reader_take(store, &db));
    tidemill_error *error = list(db, page, kind, queue, states, ret);
    reader_leave(store, db);
    return error;
}

/* --- for the scheduler ------------------------------------------------------------------------------- */

tidemill_error *store_job_scan(struct store *store, unsigned states, struct store_jobs *ret)
{
    struct db *db;
    struct query query;
    *ret = (struct store_jobs){0};
    TRY(reader_take(store, &db));
    query_start(&query, db, (states & STORE_TERMINAL) == 0 ? scan_alive : scan_all);
    query_int(&query, states);
    tidemill_error *error = read_jobs(&query, SIZE_MAX, ret);
    reader_leave(store, db);
    return error;
}

static void read_depth(struct query *query, struct store_depth *depth)
{
    column_text(query, depth->queue, sizeof depth->queue);
    column_text(query, depth->tenant, sizeof depth->tenant);
    depth->records = (uint64_t)column_int(query);
    depth->bytes = (uint64_t)column_int(query);
    depth->oldest_at = column_int(query);
}

static tidemill_error *read_depths(struct db *db, struct store_depth **ret, size_t *ret_n)
{
    struct query query;
    tidemill_error *error = NULL;
    query_start(&query, db, select_depths);
    while (error == NULL && query_step(&query)) {
        struct store_depth *items = rows_grow(*ret, *ret_n, sizeof *items);
        if (items == NULL) {
            error = error_memory();
            break;
        }
        *ret = items;
        read_depth(&query, &items[(*ret_n)++]);
    }
    tidemill_error *query_error = query_end(&query);
    if (error == NULL) return query_error;
    error_free(query_error);
    return error;
}

tidemill_error *store_depths(struct store *store, struct store_depth **ret, size_t *ret_n)
{
    struct db *db;
    *ret = NULL;
    *ret_n = 0;
    TRY(reader_take(store, &db));
    tidemill_error *error = read_depths(db, ret, ret_n);
    reader_leave(store, db);
    if (error == NULL) return NULL;
    free(*ret);
    *ret = NULL;
    *ret_n = 0;
    return error;
}
