/* SPDX-License-Identifier: Apache-2.0 */
/* store_world.h - a small history of a store in steps, each of which may be repeated, and a text that
 * says all that can be seen of a store. After a fault the text must be that after the steps that were
 * acknowledged, or after one more. */
#ifndef TIDEMILL_TESTS_STORE_WORLD_H
#define TIDEMILL_TESTS_STORE_WORLD_H

#include "store_steps.h"

#include <dirent.h>

#define BIT(state) (1u << (state))

/* --- what is seen ------------------------------------------------------------------------------------ */

static inline size_t count_entries(const char *path, const char *folder)
{
    char full[256];
    size_t n = 0;
    snprintf(full, sizeof full, "%s/%s", path, folder);
    DIR *entries = opendir(full);
    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;)
        n += entry->d_name[0] != '.';
    if (entries != NULL) closedir(entries);
    return n;
}

static inline void see_content(struct buffer *text, char *path)
{
    char *content = slurp(path);
    for (char *c = content; c != NULL && *c != '\0'; c++)
        if (*c == '\n') *c = '|';
    buffer_text(text, content == NULL ? "(gone)" : content);
    buffer_byte(text, '\n');
    free(content);
    free(path);
}

static inline tidemill_error *see_jobs(struct store *store, struct buffer *text)
{
    struct store_jobs jobs;
    TRY(store_job_scan(store, ~0u, &jobs));
    for (size_t i = 0; i < jobs.n; i++) {
        char *path;
        const struct store_job *job = &jobs.items[i];
        bool is_window = job->kind == STORE_WINDOW;
        buffer_printf(text, "%s %s %s/%s %s total=%d ok=%d bytes=%d ready=%d out=%s in=%s %s: ",
                      is_window ? "window" : job->id, store_state_name(job->state), job->tenant,
                      job->queue, job->model, (int)job->counts.total, (int)job->counts.completed,
                      (int)job->bytes, (int)job->ready_at, job->output_file, job->input_file,
                      job->details == NULL ? "" : job->details);
        if (!is_window)
            buffer_byte(text, '\n');
        else if (store_window_path(store, job->id, &path) == NULL)
            see_content(text, path);
    }
    store_jobs_free(&jobs);
    return NULL;
}

static inline tidemill_error *see_files(struct store *store, struct buffer *text)
{
    struct store_files files;
    struct store_page page = {.limit = 100, .is_ascending = true};
    TRY(store_file_list(store, &page, NULL, &files));
    for (size_t i = 0; i < files.n; i++) {
        char *path, digest[DIGEST_TEXT_BYTES];
        const struct store_file *file = &files.items[i];
        digest_text(file->digest, digest);
        buffer_printf(text, "%s %s %s %s %d %d %s: ", file->id, file->tenant, file->purpose,
                      file->filename, (int)file->bytes, (int)file->lines, digest);
        if (store_file_path(store, file->id, &path) == NULL) see_content(text, path);
    }
    store_files_free(&files);
    return NULL;
}

static inline tidemill_error *see_rest(struct store *store, struct buffer *text)
{
    struct store_delivery *due;
    struct store_keys keys;
    size_t n;
    TRY(store_delivery_due(store, INT64_MAX, 100, &due, &n));
    for (size_t i = 0; i < n; i++)
        buffer_printf(text, "%s %s %s %d\n", due[i].id, due[i].target, due[i].body,
                      due[i].attempts);
    store_deliveries_free(due, n);
    TRY(store_key_list(store, &keys));
    for (size_t i = 0; i < keys.n; i++)
        buffer_printf(text, "%s %s\n", keys.items[i].id, keys.items[i].tenant);
    store_keys_free(&keys);
    return NULL;
}

static inline tidemill_error *see(struct store *store, struct buffer *text)
{
    text->size = 0;
    TRY(see_jobs(store, text));
    TRY(see_files(store, text));
    TRY(see_rest(store, text));
    buffer_byte(text, '\0');
    return NULL;
}

/* --- what is done ------------------------------------------------------------------------------------ */

/* Repeated: what is done already is no error. */
static inline tidemill_error *but_done(tidemill_error *error)
{
    if (error_code_of(error) != ERROR_EXISTS) return error;
    error_free(error);
    return NULL;
}

static inline tidemill_error *accept_with_key(struct store *store, const char *queue,
                                              const char *lines)
{
    struct store_accept accept = accept_of(queue, "t", lines);
    accept.idempotency_key = lines;
    return accept_and_wait(store, &accept);
}

static inline tidemill_error *step_accept_1(struct store *store)
{
    return accept_with_key(store, "q", "one\n");
}

static inline tidemill_error *step_accept_2(struct store *store)
{
    return accept_with_key(store, "q", "two\nthree\n");
}

static inline tidemill_error *step_accept_3(struct store *store)
{
    return accept_with_key(store, "r", "four\n");
}

static inline tidemill_error *step_upload(struct store *store)
{
    struct store_file file = {.id = "file-in", .created_at = 1};
    tidemill_error *error = but_done(upload(store, "t", "a\nb\n", &file));
    store_file_free(&file);
    return error;
}

static inline tidemill_error *step_add(struct store *store)
{
    struct store_job job = job_of("batch_1", "t", STORE_VALIDATING);
    snprintf(job.input_file, sizeof job.input_file, "file-in");
    job.created_at = 1;
    job.details = (char *)(uintptr_t) "{\"a\":1}";
    return but_done(store_job_add(store, &job));
}

/* false: it is not there, or not in that state: the step was done before. */
static inline tidemill_error *load_in(struct store *store, enum store_state state,
                                      struct store_job *job, bool *ret_is)
{
    TRY(store_job_get(store, "t", "batch_1", job, ret_is));
    if (!*ret_is || job->state == state) return NULL;
    store_job_free(job);
    *ret_is = false;
    return NULL;
}

static inline tidemill_error *step_run(struct store *store)
{
    struct store_job job;
    bool is_there, is_done;
    TRY(load_in(store, STORE_VALIDATING, &job, &is_there));
    if (!is_there) return NULL;
    job.state = STORE_FINALIZING;
    job.counts.total = 2;
    tidemill_error *error = store_job_save(store, &job, BIT(STORE_VALIDATING), &is_done);
    store_job_free(&job);
    return error;
}

static inline tidemill_error *step_close(struct store *store)
{
    struct store_jobs jobs;
    bool is_done;
    struct store_page page = {.limit = 9};
    TRY(store_job_list(store, &page, STORE_WINDOW, "q", BIT(STORE_OPEN), &jobs));
    tidemill_error *error = NULL;
    for (size_t i = 0; i < jobs.n && error == NULL; i++)
        if (jobs.items[i].counts.total == 3)
            error = store_window_close(store, jobs.items[i].id, 7, &is_done);
    store_jobs_free(&jobs);
    return error;
}

static inline tidemill_error *step_accept_4(struct store *store)
{
    return accept_with_key(store, "q", "five\n");
}

static inline tidemill_error *begin_output(struct store *store, struct store_upload **ret)
{
    TRY(store_upload_new(store, ret));
    tidemill_error *error = store_upload_write(*ret, "A\nB\n", 4);
    if (error != NULL) store_upload_drop(*ret);
    return error;
}

static inline tidemill_error *step_finish(struct store *store)
{
    struct store_job job;
    struct store_upload *output;
    bool is_there, is_done;
    struct store_file file = {
        .id = "file-out", .tenant = "t", .purpose = "batch_output", .created_at = 2};
    TRY(load_in(store, STORE_FINALIZING, &job, &is_there));
    if (!is_there) return NULL;
    job.state = STORE_COMPLETED;
    job.counts.completed = 2;
    snprintf(job.output_file, sizeof job.output_file, "file-out");
    tidemill_error *error = begin_output(store, &output);
    if (error == NULL)
        error = store_job_finish(store, &job, BIT(STORE_FINALIZING), &output, &file, 1, &is_done);
    store_job_free(&job);
    return error;
}

static inline tidemill_error *step_deliver(struct store *store)
{
    struct store_delivery delivery = {.id = "evt_1", .job = "batch_1", .next_at = 5};
    delivery.target = delivery.body = (char *)(uintptr_t) "x";
    return store_delivery_add(store, &delivery);
}

static inline tidemill_error *step_key(struct store *store)
{
    struct store_key key = {.id = "key_1", .tenant = "t", .hash = {1}};
    return but_done(store_key_add(store, &key));
}

static inline tidemill_error *step_delete(struct store *store)
{
    bool is_found;
    return store_file_delete(store, "t", "file-in", &is_found);
}

static tidemill_error *(*const steps[])(struct store *) = {
    step_accept_1, step_accept_2, step_accept_3, step_upload,  step_add, step_run,
    step_close,    step_accept_4, step_finish,   step_deliver, step_key, step_delete,
};
#define STEPS COUNT_OF(steps)

#endif
