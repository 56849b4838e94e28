/* SPDX-License-Identifier: Apache-2.0 */
/* purge.c - jobs that are deleted, one or all that ended long ago, with all that they left. Rows go
 * first, in pieces; files after the commit. And where jobs and windows have their files.
 *
 * The input of a batch goes along if no other job has it and it has no time of its own to expire. */
#include "store/parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PURGE_MAX 128 /* of one transaction */

static const char select_ended[] =
    "SELECT id, input_file, output_file, error_file FROM jobs WHERE ended_at > 0 AND "
    "ended_at < ?1 AND (?2 IS NULL OR queue = ?2) ORDER BY ended_at LIMIT ?3";
static const char select_one[] = "SELECT id, input_file, output_file, error_file FROM jobs WHERE "
                                 "id = ?1 AND ended_at > 0 AND (?2 IS NULL OR tenant = ?2)";
static const char delete_job[] = "DELETE FROM jobs WHERE id = ?1"; /* and its window's row */
static const char delete_deliveries[] = "DELETE FROM deliveries WHERE job = ?1";
static const char delete_input[] =
    "DELETE FROM files WHERE id = ?1 AND expires_at = 0 AND "
    "NOT EXISTS (SELECT 1 FROM jobs WHERE input_file <> '' AND input_file = ?1)";

struct ended {
    char id[STORE_ID_BYTES];
    char files[3][STORE_ID_BYTES]; /* input, output, errors; "": none */
};

/* --- rows ------------------------------------------------------------------------------------------ */

static void read_ended(struct query *query, struct ended *job)
{
    column_text(query, job->id, sizeof job->id);
    for (size_t i = 0; i < COUNT_OF(job->files); i++)
        column_text(query, job->files[i], sizeof job->files[i]);
}

static tidemill_error *delete_by_id(struct store *store, const char *sql, const char *id)
{
    struct query query;
    query_start(&query, &store->db, sql);
    query_text(&query, id);
    return query_run(&query);
}

/* An input that stays is no longer the job's. */
static tidemill_error *delete_rows(struct store *store, struct ended *job)
{
    TRY(delete_by_id(store, delete_deliveries, job->id));
    TRY(delete_by_id(store, delete_job, job->id));
    TRY(file_delete_row(store, job->files[1]));
    TRY(file_delete_row(store, job->files[2]));
    TRY(delete_by_id(store, delete_input, job->files[0]));
    if (db_changes(&store->db) == 0) job->files[0][0] = '\0';
    return NULL;
}

/* --- files ----------------------------------------------------------------------------------------- */

static void remove_place(struct store *store, const char *folder, const char *id)
{
    char *path;
    tidemill_error *error = place_path(store, folder, id, &path);
    if (error == NULL) {
        if (store->io->unlink(store->io->context, path) != 0 && errno != ENOENT)
            place_remove_tree(store, path);
        free(path);
    }
    error_free(error);
}

static void remove_files(struct store *store, const struct ended *job)
{
    for (size_t i = 0; i < COUNT_OF(job->files); i++) file_remove_content(store, job->files[i]);
    remove_place(store, "windows", job->id);
    remove_place(store, "jobs", job->id);
}

/* --- one ------------------------------------------------------------------------------------------- */

struct removal {
    const char *tenant, *id;
    struct ended job;
    bool is_found;
};

static tidemill_error *apply_removal(struct store *store, void *context)
{
    struct removal *removal = context;
    struct query query;
    query_start(&query, &store->db, select_one);
    query_text(&query, removal->id);
    query_text(&query, removal->tenant);
    removal->is_found = query_step(&query);
    if (removal->is_found) read_ended(&query, &removal->job);
    TRY(query_end(&query));
    return removal->is_found ? delete_rows(store, &removal->job) : NULL;
}

static void after_removal(struct store *store, void *context)
{
    const struct removal *removal = context;
    if (removal->is_found) remove_files(store, &removal->job);
}

tidemill_error *store_job_delete(struct store *store, const char *tenant, const char *id,
                                 bool *ret_found)
{
    struct removal removal = {.tenant = tenant, .id = id};
    struct write write = {
        .apply = apply_removal, .after = after_removal, .context = &removal, .is_vital = true};
    *ret_found = false;
    TRY(store_write(store, &write));
    *ret_found = removal.is_found;
    return NULL;
}

/* --- all that ended long ago ------------------------------------------------------------------------- */

struct purge {
    const char *queue;
    int64_t before;
    struct ended *jobs; /* PURGE_MAX */
    size_t n;
};

static tidemill_error *find_ended(struct store *store, struct purge *purge)
{
    struct query query;
    purge->n = 0;
    query_start(&query, &store->db, select_ended);
    query_int(&query, purge->before);
    query_text(&query, purge->queue);
    query_int(&query, PURGE_MAX);
    while (purge->n < PURGE_MAX && query_step(&query)) read_ended(&query, &purge->jobs[purge->n++]);
    return query_end(&query);
}

static tidemill_error *apply_purge(struct store *store, void *context)
{
    struct purge *purge = context;
    TRY(find_ended(store, purge));
    for (size_t i = 0; i < purge->n; i++) TRY(delete_rows(store, &purge->jobs[i]));
    return NULL;
}

static void after_purge(struct store *store, void *context)
{
    const struct purge *purge = context;
    for (size_t i = 0; i < purge->n; i++) remove_files(store, &purge->jobs[i]);
}

tidemill_error *store_job_purge(struct store *store, const char *queue, int64_t before,
                                size_t *ret_n)
{
    struct purge purge = {
        .queue = queue, .before = before, .jobs = calloc(PURGE_MAX, sizeof *purge.jobs)};
    tidemill_error *error = NULL;
    *ret_n = 0;
    if (purge.jobs == NULL) return error_memory();
    do {
        struct write write = {
            .apply = apply_purge, .after = after_purge, .context = &purge, .is_vital = true};
        error = store_write(store, &write);
        if (error == NULL) *ret_n += purge.n;
    } while (error == NULL && purge.n == PURGE_MAX);
    free(purge.jobs);
    return error;
}

/* --- places ---------------------------------------------------------------------------------------- */

tidemill_error *store_job_folder(struct store *store, const char *id, char **ret)
{
    if (!is_id(id)) return error_new(ERROR_USAGE, "this is no job's id");
    TRY(place_path(store, "jobs", id, ret));
    tidemill_error *error = io_make_directory(store->io, *ret, 0700);
    if (error == NULL) error = store_sync_failed(store, io_sync_directory(store->io, *ret));
    if (error == NULL) return NULL;
    free(*ret);
    *ret = NULL;
    return error;
}

tidemill_error *store_window_path(struct store *store, const char *id, char **ret)
{
    if (!is_id(id)) return error_new(ERROR_USAGE, "this is no window's id");
    return place_path(store, "windows", id, ret);
}
