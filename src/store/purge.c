/* SPDX-License-Identifier: Apache-2.0 */
/* purge.c - retention: jobs that ended long ago, with all that they left. Rows first, in pieces; files
 * after the commit. And where jobs and windows have their files. */
#include "store/parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PURGE_MAX 128 /* of one transaction */

static const char select_ended[] =
    "SELECT id, output_file, error_file FROM jobs WHERE ended_at > 0 AND ended_at < ?1 AND "
    "(?2 IS NULL OR queue = ?2) ORDER BY ended_at LIMIT ?3";
static const char delete_job[] = "DELETE FROM jobs WHERE id = ?1"; /* and its window's row */
static const char delete_deliveries[] = "DELETE FROM deliveries WHERE job = ?1";

struct ended {
    char id[STORE_ID_BYTES], output_file[STORE_ID_BYTES], error_file[STORE_ID_BYTES];
};

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
    while (purge->n < PURGE_MAX && query_step(&query)) {
        struct ended *job = &purge->jobs[purge->n++];
        column_text(&query, job->id, sizeof job->id);
        column_text(&query, job->output_file, sizeof job->output_file);
        column_text(&query, job->error_file, sizeof job->error_file);
    }
    return query_end(&query);
}

static tidemill_error *delete_by_id(struct store *store, const char *sql, const char *id)
{
    struct query query;
    query_start(&query, &store->db, sql);
    query_text(&query, id);
    return query_run(&query);
}

static tidemill_error *apply_purge(struct store *store, void *context)
{
    struct purge *purge = context;
    TRY(find_ended(store, purge));
    for (size_t i = 0; i < purge->n; i++) {
        const struct ended *job = &purge->jobs[i];
        TRY(file_delete_row(store, job->output_file));
        TRY(file_delete_row(store, job->error_file));
        TRY(delete_by_id(store, delete_deliveries, job->id));
        TRY(delete_by_id(store, delete_job, job->id));
    }
    return NULL;
}

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

static void after_purge(struct store *store, void *context)
{
    const struct purge *purge = context;
    for (size_t i = 0; i < purge->n; i++) {
        const struct ended *job = &purge->jobs[i];
        if (job->output_file[0] != '\0') file_remove_content(store, job->output_file);
        if (job->error_file[0] != '\0') file_remove_content(store, job->error_file);
        remove_place(store, "windows", job->id);
        remove_place(store, "jobs", job->id);
    }
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

/* --- places --------------------------------------------------------------------------------------- */

tidemill_error *store_job_folder(struct store *store, const char *id, char **ret)
{
    if (!is_id(id)) return error_new(ERROR_USAGE, "this is no job's id");
    TRY(place_path(store, "jobs", id, ret));
    tidemill_error *error = io_make_directory(store->io, *ret, 0700);
    if (error == NULL) error = io_sync_directory(store->io, *ret);
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
