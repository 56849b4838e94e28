/* SPDX-License-Identifier: Apache-2.0 */
/* window_check.c - at open: is each window's file what was accepted?
 *
 * What is behind the row's bytes was never acknowledged and is cut off. A file that is shorter or has
 * another checksum was damaged. Nothing of it is run or thrown away then: its job becomes FAILED,
 * all its open records count as failed, `corrupt` in its details says what is wrong, and the file stays as it
 * is for a person to look at. */
#include "store/parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <yyjson.h>

#define READ_BYTES ((size_t)1 << 20)

static const char select_windows[] =
    "SELECT windows.id, records, windows.bytes, digest_low, digest_high, windows.sum FROM windows "
    "JOIN jobs ON jobs.id = windows.id WHERE jobs.ended_at = 0";

/* --- one file ------------------------------------------------------------------------------------- */

static tidemill_error *cut(struct store *store, int fd, const char *path, uint64_t bytes)
{
    struct stat status;
    if (store->io->fstat(store->io->context, fd, &status) != 0)
        return error_errno(ERROR_IO, errno, "cannot look at %s", path);
    if ((uint64_t)status.st_size < bytes)
        return error_new(ERROR_CORRUPT, "%s has %llu bytes of the %llu that were accepted", path,
                         (unsigned long long)status.st_size, (unsigned long long)bytes);
    if ((uint64_t)status.st_size == bytes) return NULL;
    if (store->io->ftruncate(store->io->context, fd, (off_t)bytes) == 0) return NULL;
    return error_errno(ERROR_IO, errno, "cannot cut %s", path);
}

static tidemill_error *open_window(struct store *store, const char *id, char **ret_path,
                                   int *ret_fd)
{
    TRY(place_path(store, "windows", id, ret_path));
    if (io_exists(store->io, *ret_path)) return io_open(store->io, *ret_path, O_RDWR, 0, ret_fd);
    return error_new(ERROR_CORRUPT, "%s is not there", *ret_path);
}

tidemill_error *window_cut(struct store *store, const char *id, uint64_t bytes)
{
    int fd = -1;
    char *path = NULL;
    tidemill_error *error = open_window(store, id, &path, &fd);
    if (error == NULL) error = cut(store, fd, path, bytes);
    io_close(store->io, fd);
    free(path);
    return error;
}

static tidemill_error *hash_file(struct store *store, int fd, const char *path,
                                 struct hash_state *hash)
{
    size_t size = 0;
    char *block = malloc(READ_BYTES);
    if (block == NULL) return error_memory();
    tidemill_error *error;
    do {
        error = io_read_all(store->io, fd, path, block, READ_BYTES, &size);
        if (error == NULL) hash_state_add(hash, block, size);
    } while (error == NULL && size == READ_BYTES);
    free(block);
    return error;
}

static tidemill_error *verify(struct store *store, int fd, const char *path,
                              const struct window_row *row, struct hash_state *hash)
{
    TRY(cut(store, fd, path, row->bytes));
    TRY(hash_file(store, fd, path, hash));
    if (digest_equal(hash_state_digest(hash), row->digest)) return NULL;
    return error_new(ERROR_CORRUPT, "%s: its %llu bytes fail their checksum", path,
                     (unsigned long long)row->bytes);
}

tidemill_error *window_verify(struct store *store, const struct window_row *row,
                              struct hash_state *hash)
{
    int fd = -1;
    char *path = NULL;
    tidemill_error *error = open_window(store, row->id, &path, &fd);
    if (error == NULL) error = verify(store, fd, path, row, hash);
    io_close(store->io, fd);
    free(path);
    return error;
}

/* --- what becomes of a damaged one ------------------------------------------------------------------- */

/* `details` with "corrupt": the message; malloc'ed. */
static char *add_reason(const char *details, const char *message)
{
    yyjson_doc *old = details == NULL ? NULL : yyjson_read(details, strlen(details), 0);
    yyjson_mut_doc *doc = old == NULL ? yyjson_mut_doc_new(NULL) : yyjson_doc_mut_copy(old, NULL);
    char *text = NULL;
    if (doc != NULL) {
        yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
        if (!yyjson_mut_is_obj(root)) yyjson_mut_doc_set_root(doc, root = yyjson_mut_obj(doc));
        yyjson_mut_obj_add_strcpy(doc, root, "corrupt", message);
        text = yyjson_mut_write(doc, 0, NULL);
    }
    yyjson_mut_doc_free(doc);
    yyjson_doc_free(old);
    return text;
}

static tidemill_error *fail_job(struct store *store, const char *id, const char *message)
{
    struct store_job job;
    bool is_found, is_done;
    TRY(job_select(&store->db, NULL, id, &job, &is_found));
    if (!is_found) return NULL;
    char *details = add_reason(job.details, message);
    free(job.details);
    job.details = details;
    job.counts.failed =
        job.counts.total - job.counts.completed - job.counts.cancelled - job.counts.expired;
    job.state = STORE_FAILED;
    tidemill_error *error = job_save_row(store, &job, ~STORE_TERMINAL, &is_done);
    store_job_free(&job);
    return error;
}

static tidemill_error *check_one(struct store *store, const struct window_row *row)
{
    struct hash_state *hash = hash_state_new();
    if (hash == NULL) return error_memory();
    tidemill_error *error = window_verify(store, row, hash);
    hash_state_free(hash);
    if (error_code_of(error) != ERROR_CORRUPT) return error;
    log_event(LOG_ERROR, "%s; its job fails", error_message(error));
    tidemill_error *fail_error = fail_job(store, row->id, error_message(error));
    error_free(error);
    return fail_error;
}

/* --- all of them ------------------------------------------------------------------------------------- */

static tidemill_error *read_rows(struct store *store, struct window_row **ret, size_t *ret_n)
{
    struct query query;
    query_start(&query, &store->db, select_windows);
    while (query_step(&query)) {
        struct window_row *rows = rows_grow(*ret, *ret_n, sizeof *rows);
        if (rows == NULL) {
            error_free(query_end(&query));
            return error_memory();
        }
        *ret = rows;
        struct window_row *row = &rows[(*ret_n)++];
        column_text(&query, row->id, sizeof row->id);
        row->records = (uint64_t)column_int(&query);
        row->bytes = (uint64_t)column_int(&query);
        row->digest = column_digest(&query);
        column_sum(&query, "window", row->id);
    }
    return query_end(&query);
}

tidemill_error *windows_check(struct store *store)
{
    size_t n = 0;
    struct window_row *rows = NULL;
    tidemill_error *error = read_rows(store, &rows, &n);
    for (size_t i = 0; i < n && error == NULL; i++) error = check_one(store, &rows[i]);
    free(rows);
    return error;
}
