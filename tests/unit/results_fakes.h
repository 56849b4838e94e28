/* SPDX-License-Identifier: Apache-2.0 */
/* results_fakes.h - what stands around results in their tests: a store that takes records and does
 * nothing with them, keys that are compared as text. For one file each: these are definitions. */
#ifndef TIDEMILL_TESTS_RESULTS_FAKES_H
#define TIDEMILL_TESTS_RESULTS_FAKES_H

#include "server/access.h"
#include "server/request_id.h"
#include "server/requests.h"
#include "server/results_parts.h"
#include "server/scheduler.h"
#include "tempdir.h"

#include <stdio.h>

#include <sodium/core.h>

struct fake_accept {
    struct store_accept *accept;
    char line[256];
};

static struct {
    struct tempdir folder;
    int64_t now; /* 0: the clock's */
    struct fake_accept accepts[16];
    size_t n_accepts;
    bool is_full;
    const char *key, *key_tenant, *key_queues; /* the one that is known; NULL: none */
    bool key_is_admin;
    uint64_t settled, scheduled;
} fake;

struct fake_server {
    struct app app;
    struct server_config config;
    struct model_config model;
    struct queue_config queues[3];
};

const char *store_path(const struct store *store)
{
    (void)store;
    return fake.folder.path;
}

int64_t store_now(void)
{
    struct timespec now;
    if (fake.now != 0) return fake.now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void store_accept(struct store *store, struct store_accept *accept)
{
    (void)store;
    if (fake.n_accepts == COUNT_OF(fake.accepts)) abort();
    struct fake_accept *taken = &fake.accepts[fake.n_accepts++];
    taken->accept = accept;
    snprintf(taken->line, sizeof taken->line, "%.*s", (int)accept->bytes, accept->lines);
}

tidemill_error *store_file_path(struct store *store, const char *id, char **ret)
{
    (void)store;
    *ret = strdup(tempdir_path(&fake.folder, id));
    return NULL;
}

tidemill_error *store_window_path(struct store *store, const char *id, char **ret)
{
    return store_file_path(store, id, ret);
}

tidemill_error *store_job_list(struct store *store, const struct store_page *page,
                               enum store_kind kind, const char *queue, unsigned states,
                               struct store_jobs *ret)
{
    (void)store, (void)page, (void)kind, (void)queue, (void)states;
    *ret = (struct store_jobs){0};
    return NULL;
}

void store_jobs_free(struct store_jobs *jobs)
{
    (void)jobs;
}

struct queue_config *server_config_queue(const struct server_config *config, const char *name)
{
    for (size_t i = 0; i < config->n_queues; i++)
        if (strcmp(config->queues[i].name, name) == 0) return &config->queues[i];
    return NULL;
}

void scheduler_accepted(struct scheduler *scheduler, const struct store_accept *accept)
{
    (void)scheduler, (void)accept;
    fake.scheduled++;
}

bool requests_admit(struct app *app, const struct queue_config *queue, const char *tenant,
                    uint64_t n)
{
    (void)app, (void)queue, (void)tenant, (void)n;
    return !fake.is_full;
}

void requests_settle(struct app *app, const char *queue, const char *tenant, uint64_t n,
                     bool is_accepted)
{
    (void)app, (void)queue, (void)tenant, (void)is_accepted;
    fake.settled += n;
}

bool access_has_keys(struct access *access)
{
    (void)access;
    return fake.key != NULL;
}

bool access_find(struct access *access, struct slice key, struct caller *ret)
{
    (void)access;
    if (fake.key == NULL || key.size != strlen(fake.key) ||
        memcmp(key.data, fake.key, key.size) != 0)
        return false;
    *ret = (struct caller){.is_admin = fake.key_is_admin, .has_queues = fake.key_queues != NULL};
    snprintf(ret->tenant, sizeof ret->tenant, "%s", fake.key_tenant);
    if (fake.key_queues != NULL) snprintf(ret->queues, sizeof ret->queues, "%s", fake.key_queues);
    return true;
}

bool access_may_queue(const struct caller *caller, const char *queue)
{
    return !caller->has_queues || strcmp(caller->queues, queue) == 0;
}

/* Three queues: "plain" (a miss is a miss), "usual" (a default), "asked" (enqueued, stale after 10 s). */
static inline void fake_open(struct fake_server *server)
{
    memset(&fake, 0, sizeof fake);
    if (sodium_init() < 0) abort();
    tempdir_open(&fake.folder);
    *server = (struct fake_server){.model = {.name = (char *)(uintptr_t) "m"}};
    static const struct queue_config queues[] = {
        {.name = (char *)(uintptr_t) "plain"},
        {.name = (char *)(uintptr_t) "usual",
         .on_miss = ON_MISS_DEFAULT,
         .default_value = (char *)(uintptr_t) "{\"label\":0}"},
        {.name = (char *)(uintptr_t) "asked",
         .on_miss = ON_MISS_ENQUEUE,
         .key_field = (char *)(uintptr_t) "text",
         .ttl_ms = 10000,
         .window = {.every_ms = 60000}},
    };
    for (size_t i = 0; i < COUNT_OF(queues); i++) {
        memcpy(&server->queues[i], &queues[i], sizeof queues[i]);
        server->queues[i].model = &server->model;
    }
    server->config.queues = server->queues;
    server->config.n_queues = COUNT_OF(queues);
    server->config.loops = 2;
    server->app.io = &io_local;
    server->app.config = &server->config;
    tidemill_error *error = results_open(&server->app, &server->app.results);
    if (error != NULL) {
        fprintf(stderr, "%s\n", error_message(error));
        abort();
    }
}

static inline void fake_close(struct fake_server *server)
{
    results_close(server->app.results);
    tempdir_close(&fake.folder);
}

/* A line of output as the engine makes it: with the record's place as its id. */
static inline void fake_answer(struct buffer *out, const char *line, size_t size, unsigned place)
{
    static const char head[] = "{\"id\":";
    size_t i = 1;
    if (strncmp(line, head, sizeof head - 1) == 0) {
        i = sizeof head - 1;
        while (i < size && line[i] != ',' && line[i] != '}') i++;
        buffer_printf(out, "{\"id\":%u", place);
    } else {
        buffer_printf(out, "{\"id\":%u,", place);
    }
    buffer_append(out, line + i, size - i);
    buffer_byte(out, '\n');
}

/* A window of `tenant` with these records, each answered with what it holds. A record "-" failed. */
static inline struct store_job fake_window(const char *tenant, const char *queue, const char *lines,
                                           int64_t done_at)
{
    struct store_job job = {.kind = STORE_WINDOW, .state = STORE_COMPLETED};
    static unsigned n;
    struct buffer answers = {0};
    unsigned place = 1;
    snprintf(job.id, sizeof job.id, "win_%06x", ++n);
    snprintf(job.tenant, sizeof job.tenant, "%s", tenant);
    snprintf(job.queue, sizeof job.queue, "%s", queue);
    snprintf(job.output_file, sizeof job.output_file, "file-%06x", n);
    job.state_at[STORE_COMPLETED] = done_at;
    for (const char *line = lines; *line != '\0'; place++) {
        size_t size = strcspn(line, "\n");
        if (line[0] != '-') fake_answer(&answers, line, size, place);
        line += size + (line[size] == '\n');
    }
    tempdir_write(tempdir_path(&fake.folder, job.id), lines, strlen(lines));
    tempdir_write(tempdir_path(&fake.folder, job.output_file), answers.data, answers.size);
    buffer_free(&answers);
    return job;
}

static inline void fake_put(struct fake_server *server, const char *tenant, const char *queue,
                            const char *lines, int64_t done_at)
{
    struct store_job job = fake_window(tenant, queue, lines, done_at);
    tidemill_error *error = results_put_window(server->app.results, &job);
    if (error == NULL) return;
    fprintf(stderr, "%s\n", error_message(error));
    abort();
}

#endif
