/* SPDX-License-Identifier: Apache-2.0 */
/* store_steps.h - what the store's tests share: an open store in a folder of its own, accepts that are
 * waited for, whole files and uploads in one call. */
#ifndef TIDEMILL_TESTS_STORE_STEPS_H
#define TIDEMILL_TESTS_STORE_STEPS_H

#include "expect.h"
#include "tempdir.h"

#include "store/store.h"

#include <semaphore.h>

struct fixture {
    struct tempdir tempdir;
    char path[128];
    struct store *store;
};

static inline void fixture_open(struct fixture *fixture)
{
    expect_fine(store_open(&io_local, fixture->path, &fixture->store), "open");
}

static inline void fixture_reopen(struct fixture *fixture)
{
    store_close(fixture->store);
    fixture->store = NULL;
    fixture_open(fixture);
}

static inline void fixture_begin(struct fixture *fixture)
{
    *fixture = (struct fixture){0};
    tempdir_open(&fixture->tempdir);
    snprintf(fixture->path, sizeof fixture->path, "%s/data", fixture->tempdir.path);
    fixture_open(fixture);
}

static inline void fixture_end(struct fixture *fixture)
{
    store_close(fixture->store);
    tempdir_close(&fixture->tempdir);
}

/* An accept that is waited for. */
struct waiting {
    struct store_accept accept;
    sem_t is_done;
    tidemill_error *error;
};

static inline void waiting_done(struct store_accept *accept, tidemill_error *error)
{
    struct waiting *waiting = accept->context;
    waiting->error = error;
    sem_post(&waiting->is_done);
}

static inline tidemill_error *accept_and_wait(struct store *store, struct store_accept *accept)
{
    struct waiting waiting = {.accept = *accept};
    sem_init(&waiting.is_done, 0, 0);
    waiting.accept.done = waiting_done;
    waiting.accept.context = &waiting;
    store_accept(store, &waiting.accept);
    while (sem_wait(&waiting.is_done) != 0) continue;
    sem_destroy(&waiting.is_done);
    *accept = waiting.accept;
    return waiting.error;
}

static inline struct store_accept accept_of(const char *queue, const char *tenant,
                                            const char *lines)
{
    uint64_t n = 0;
    for (const char *c = lines; *c != '\0'; c++) n += *c == '\n';
    return (struct store_accept){
        .queue = queue,
        .tenant = tenant,
        .model = "m",
        .ready_at = 1000,
        .lines = lines,
        .bytes = strlen(lines),
        .n = n,
    };
}

/* Content of a file, with a NUL; NULL: there is none. free it. */
static inline char *slurp(const char *path)
{
    char *data = NULL;
    size_t size;
    tidemill_error *error = io_read_file(&io_local, path, (size_t)1 << 30, &data, &size);
    error_free(error);
    return error == NULL ? data : NULL;
}

static inline void expect_window(struct store *store, const char *id, const char *lines,
                                 const char *row)
{
    char *path;
    expect_fine(store_window_path(store, id, &path), row);
    char *found = slurp(path);
    expect_text(found, lines, row);
    free(found);
    free(path);
}

static inline tidemill_error *upload(struct store *store, const char *tenant, const char *content,
                                     struct store_file *file)
{
    struct store_upload *new;
    file->filename = file->filename == NULL ? strdup("in.jsonl") : file->filename;
    snprintf(file->tenant, sizeof file->tenant, "%s", tenant);
    if (file->purpose[0] == '\0') snprintf(file->purpose, sizeof file->purpose, "batch");
    TRY(store_upload_new(store, &new));
    tidemill_error *error = store_upload_write(new, content, strlen(content));
    if (error == NULL) return store_upload_keep(new, file);
    store_upload_drop(new);
    return error;
}

static inline struct store_job job_of(const char *id, const char *tenant, enum store_state state)
{
    struct store_job job = {.kind = STORE_BATCH, .state = state};
    snprintf(job.id, sizeof job.id, "%s", id);
    snprintf(job.tenant, sizeof job.tenant, "%s", tenant);
    snprintf(job.model, sizeof job.model, "m");
    return job;
}

/* A job that must be there. store_job_free it. */
static inline struct store_job get_job(struct store *store, const char *id)
{
    struct store_job job;
    bool is_found = false;
    expect_fine(store_job_get(store, NULL, id, &job, &is_found), id);
    if (!is_found) fail_msg("there is no job %s", id);
    return job;
}

#endif
