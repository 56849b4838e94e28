/* SPDX-License-Identifier: Apache-2.0 */
/* collect.c - at open: files and folders that no row knows are removed.
 *
 * They are what a kill leaves between a file and its row, on either side: uploads that were never
 * acknowledged, windows of a group that did not commit, the content of rows that were deleted. A row
 * whose content is missing is told of, and stays. */
#include "store/parts.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char has_file[] = "SELECT 1 FROM files WHERE id = ?1";
static const char has_window[] = "SELECT 1 FROM windows WHERE id = ?1 "
                                 "UNION ALL SELECT 1 FROM jobs WHERE id = ?1";
static const char has_job[] = "SELECT 1 FROM jobs WHERE id = ?1";
static const char all_files[] = "SELECT id, bytes FROM files";

static tidemill_error *is_known(struct store *store, const char *sql, const char *id, bool *ret)
{
    struct query query;
    query_start(&query, &store->db, sql);
    query_text(&query, id);
    *ret = query_step(&query);
    return query_end(&query);
}

static tidemill_error *judge_entry(struct store *store, const char *folder, const char *name,
                                   const char *sql)
{
    bool is_kept;
    char *path;
    TRY(is_known(store, sql, name, &is_kept));
    if (is_kept) return NULL;
    TRY(place_path(store, folder, name, &path));
    if (store->io->unlink(store->io->context, path) != 0) place_remove_tree(store, path);
    log_event(LOG_INFO, "removed %s, which was never finished or is no longer known", path);
    free(path);
    return NULL;
}

static tidemill_error *collect(struct store *store, const char *folder, const char *sql)
{
    char *path;
    TRY(place_path(store, folder, NULL, &path));
    DIR *entries = opendir(path);
    tidemill_error *error = NULL;
    if (entries == NULL) error = error_errno(ERROR_IO, errno, "cannot read the folder %s", path);
    for (struct dirent *entry; error == NULL && (entry = readdir(entries)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            error = judge_entry(store, folder, entry->d_name, sql);
    if (entries != NULL) closedir(entries);
    free(path);
    return error;
}

static void tell_if_missing(struct store *store, const char *id, uint64_t bytes)
{
    char *path;
    struct stat status;
    tidemill_error *error = place_path(store, "files", id, &path);
    if (error == NULL) {
        if (store->io->stat(store->io->context, path, &status) != 0 ||
            (uint64_t)status.st_size != bytes)
            log_event(LOG_ERROR, "%s is not there, or not the %llu bytes that it had", path,
                      (unsigned long long)bytes);
        free(path);
    }
    error_free(error);
}

static tidemill_error *look_for_files(struct store *store)
{
    struct query query;
    query_start(&query, &store->db, all_files);
    while (query_step(&query)) {
        char id[STORE_ID_BYTES];
        column_text(&query, id, sizeof id);
        tell_if_missing(store, id, (uint64_t)column_int(&query));
    }
    return query_end(&query);
}

tidemill_error *collect_orphans(struct store *store)
{
    TRY(collect(store, "files", has_file));
    TRY(collect(store, "windows", has_window));
    TRY(collect(store, "jobs", has_job));
    return look_for_files(store);
}
