/* SPDX-License-Identifier: Apache-2.0 */
/* server_stage.c - a server without its routes, for the tests of jobs. */
#include "server_stage.h"

#include <pthread.h>
#include <time.h>

#define WAIT_MS 60000

_Atomic int64_t stage_clock_ahead_ms;

/* --- configuration ------------------------------------------------------------------------------ */

void stage_set(struct stage *stage, const char *model, const char *option, const char *value)
{
    struct model_config *config = server_config_model(&stage->config, model);
    assert_non_null(config);
    expect_fine(option_set(&config->spec, option_find(option), value, option), option);
}

static int64_t now(void)
{
    return store_now() + stage_clock_ahead_ms;
}

static void init_models(struct stage *stage)
{
    static const struct {
        const char *name, *model;
    } models[STAGE_MODELS] = {{"m", "echo:json=1"},
                              {"v", "echo:width=2"},
                              {"slow", "echo:json=1,row_latency_us=2000"},
                              {"broken", "echo:load_fail=1"}};
    for (size_t i = 0; i < STAGE_MODELS; i++) {
        stage->models[i].name = (char *)(uintptr_t)models[i].name;
        expect_fine(job_spec_init(&stage->models[i].spec), "spec");
        stage_set(stage, models[i].name, "model", models[i].model);
        stage_set(stage, models[i].name, "batch", "16");
        stage_set(stage, models[i].name, "instances", "1");
        stage_set(stage, models[i].name, "tune", "off");
        stage_set(stage, models[i].name, "checkpoint-every", "50ms");
    }
}

static struct tariff night;

void stage_init(struct stage *stage, const char *path)
{
    *stage = (struct stage){.path = path, .tuning = scheduler_tuning_usual};
    stage->tuning.now = now;
    stage->tuning.pause_ms = 20;
    stage->tuning.pause_max_ms = 100;
    stage->tuning.tries_max = 4;
    stage->tuning.look_ms = 200;
    stage->config = (struct server_config){.path = (char *)(uintptr_t) "tidemill.yaml",
                                           .jobs_max = 2,
                                           .models = stage->models,
                                           .n_models = STAGE_MODELS,
                                           .queues = stage->queues,
                                           .n_queues = STAGE_QUEUES};
    init_models(stage);
    tariff_init(&night);
    expect_fine(tariff_allow(&night, "22:00-06:00"), "hours");
    stage->queues[0] =
        (struct queue_config){.name = (char *)(uintptr_t) "q",
                              .model = &stage->models[1],
                              .window = {.every_ms = 3600 * 1000, .max_records = 100}};
    stage->queues[1] = (struct queue_config){.name = (char *)(uintptr_t) "quick",
                                             .model = &stage->models[1],
                                             .window = {.max_records = 1}};
    stage->queues[2] = (struct queue_config){.name = (char *)(uintptr_t) "night",
                                             .model = &stage->models[1],
                                             .window = {.max_records = 1},
                                             .tariff = &night};
    stage->app = (struct app){.io = &io_local, .config = &stage->config};
}

void stage_open(struct stage *stage)
{
    expect_fine(store_open(&io_local, stage->path, &stage->app.store), "store");
}

void stage_start(struct stage *stage)
{
    if (stage->app.store == NULL) stage_open(stage);
    expect_fine(scheduler_start_with(&stage->app, &stage->tuning, &stage->app.scheduler), "start");
}

void stage_stop(struct stage *stage)
{
    scheduler_stop(stage->app.scheduler);
    store_close(stage->app.store);
    stage->app.scheduler = NULL;
    stage->app.store = NULL;
}

void stage_free(struct stage *stage)
{
    for (size_t i = 0; i < STAGE_MODELS; i++) job_spec_free(&stage->models[i].spec);
}

/* --- work --------------------------------------------------------------------------------------- */

void stage_lines(struct buffer *out, const char *model, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buffer_printf(out,
                      "{\"custom_id\":\"r%zu\",\"method\":\"POST\",\"url\":\"/v1/x\",\"body\":"
                      "{\"model\":\"%s\",\"q\":%zu}}\n",
                      i, model, i);
    assert_false(out->is_failed);
}

static void upload(struct stage *stage, const char *tenant, struct slice lines,
                   char id[STORE_ID_BYTES])
{
    struct store_upload *upload;
    struct store_file file = {.purpose = "batch", .filename = strdup("in.jsonl")};
    snprintf(file.tenant, sizeof file.tenant, "%s", tenant);
    expect_fine(store_upload_new(stage->app.store, &upload), "upload");
    expect_fine(store_upload_write(upload, lines.data, lines.size), "upload");
    expect_fine(store_upload_keep(upload, &file), "upload");
    memcpy(id, file.id, STORE_ID_BYTES);
    store_file_free(&file);
}

void stage_add_batch(struct stage *stage, const char *id, const char *tenant, struct slice lines,
                     int64_t deadline_in_ms, double budget_usd)
{
    struct store_job job = {.kind = STORE_BATCH, .state = STORE_VALIDATING};
    job.created_at = job.ready_at = store_now();
    if (deadline_in_ms > 0) job.deadline_at = job.created_at + deadline_in_ms;
    job.budget_usd = budget_usd;
    job.details = strdup("{\"endpoint\":\"/v1/x\"}");
    snprintf(job.id, sizeof job.id, "%s", id);
    snprintf(job.tenant, sizeof job.tenant, "%s", tenant);
    upload(stage, tenant, lines, job.input_file);
    expect_fine(store_job_add(stage->app.store, &job), "add");
    store_job_free(&job);
    if (stage->app.scheduler != NULL) scheduler_wake(stage->app.scheduler);
}

struct waiter {
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    bool is_done;
    struct stage *stage;
};

static void note_accepted(struct store_accept *accept, tidemill_error *error)
{
    struct waiter *waiter = accept->context;
    expect_fine(error, "accept");
    if (waiter->stage->app.scheduler != NULL)
        scheduler_accepted(waiter->stage->app.scheduler, accept);
    pthread_mutex_lock(&waiter->mutex);
    waiter->is_done = true;
    pthread_cond_signal(&waiter->condition);
    pthread_mutex_unlock(&waiter->mutex);
}

void stage_accept(struct stage *stage, const char *queue, const char *tenant, size_t n,
                  char window[STORE_ID_BYTES])
{
    struct buffer lines = {0};
    struct waiter waiter = {
        .mutex = PTHREAD_MUTEX_INITIALIZER, .condition = PTHREAD_COND_INITIALIZER, .stage = stage};
    const struct queue_config *config = server_config_queue(&stage->config, queue);
    for (size_t i = 0; i < n; i++) buffer_printf(&lines, "{\"x\":[%zu,%zu]}\n", i, i + 1);
    struct store_accept accept = {.queue = queue,
                                  .tenant = tenant,
                                  .model = config->model->name,
                                  .ready_at = store_now(),
                                  .lines = lines.data,
                                  .bytes = lines.size,
                                  .n = n,
                                  .done = note_accepted,
                                  .context = &waiter};
    store_accept(stage->app.store, &accept);
    pthread_mutex_lock(&waiter.mutex);
    while (!waiter.is_done) pthread_cond_wait(&waiter.condition, &waiter.mutex);
    pthread_mutex_unlock(&waiter.mutex);
    memcpy(window, accept.window, STORE_ID_BYTES);
    buffer_free(&lines);
}

/* --- what came of it ---------------------------------------------------------------------------- */

static void expect_whole(const struct store_job *job)
{
    const struct store_counts *counts = &job->counts;
    uint64_t ended = counts->completed + counts->failed + counts->cancelled + counts->expired;
    assert_true(ended <= counts->total);
    if ((STORE_TERMINAL >> job->state & 1) != 0) assert_true(ended == counts->total);
}

struct store_job stage_wait(struct stage *stage, const char *id, unsigned states)
{
    struct store_job job = {0};
    for (int64_t until = clock_now_ns() + WAIT_MS * INT64_C(1000000); clock_now_ns() < until;) {
        bool is_found;
        expect_fine(store_job_get(stage->app.store, NULL, id, &job, &is_found), id);
        assert_true(is_found);
        expect_whole(&job);
        if ((states >> job.state & 1) != 0) return job;
        store_job_free(&job);
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    fail_msg("%s is still %s", id, store_state_name(job.state));
    return job;
}

char *stage_content(struct stage *stage, const char *file, size_t *ret_size)
{
    char *path, *data = NULL;
    *ret_size = 0;
    if (file[0] == '\0') return strdup("");
    expect_fine(store_file_path(stage->app.store, file, &path), file);
    expect_fine(io_read_file(&io_local, path, (size_t)1 << 30, &data, ret_size), file);
    free(path);
    return data;
}

size_t stage_count_lines(const char *text)
{
    size_t n = 0;
    for (; (text = strchr(text, '\n')) != NULL; text++) n++;
    return n;
}

bool stage_is_host(int argc, char **argv, int *ret)
{
    setenv("TIDEMILL_BINARY", "/proc/self/exe", 1);
    if (argc < 3 || strcmp(argv[1], "host") != 0) return false;
    *ret = host_main(argc - 1, argv + 1);
    return true;
}
