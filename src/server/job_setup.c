/* SPDX-License-Identifier: Apache-2.0 */
/* job_setup.c - a model's options and a job of the store -> what the engine is told. */
#include "server/scheduler_parts.h"

#include <stdio.h>
#include <stdlib.h>

tidemill_error *job_path(struct app *app, const char *id, const char *name, char **ret)
{
    if (asprintf(ret, "%s/jobs/%s/%s", store_path(app->store), id, name) >= 0) return NULL;
    *ret = NULL;
    return error_memory();
}

tidemill_error *job_input_path(struct app *app, const struct store_job *job, char **ret)
{
    return job->kind == STORE_WINDOW ? store_window_path(app->store, job->id, ret)
                                     : store_file_path(app->store, job->input_file, ret);
}

static tidemill_error *set(struct job_spec *spec, const char *name, const char *text)
{
    return option_set(spec, option_find(name), text, name);
}

/* Equal inputs of one tenant are paid once. What one tenant asked must not show in how fast or how cheap
 * another is answered, so each has a folder; a model that names a cache of its own shares it. */
static tidemill_error *set_cache(struct app *app, const struct store_job *job,
                                 struct job_spec *spec)
{
    char *path;
    if (spec->cache != NULL || spec->dedup == DEDUP_OFF) return NULL;
    if (asprintf(&path, "%s/cache", store_path(app->store)) < 0) return error_memory();
    tidemill_error *error = io_make_directory(app->io, path, 0700);
    free(path);
    if (error != NULL) return error;
    if (asprintf(&path, "%s/cache/%s", store_path(app->store), job->tenant) < 0)
        return error_memory();
    error = set(spec, "cache", path);
    free(path);
    if (spec->cache_bytes_max == 0) spec->cache_bytes_max = app->config->cache_bytes;
    return error;
}

/* A batch's request is its line's body; servers and GGUF models look there by themselves. */
static tidemill_error *set_batch(struct job_spec *spec)
{
    enum model_kind kind = model_kind(spec->model);
    TRY(set(spec, "output-format", "openai-batch"));
    TRY(set(spec, "id", "custom_id"));
    if (spec->maps.n > 0 || (kind != MODEL_ECHO && kind != MODEL_EXEC)) return NULL;
    return set(spec, "map", "record=body");
}

/* A window's records come from many callers, who name them as they like, or not at all: here a record is
 * its place. */
static tidemill_error *set_window(struct app *app, const struct store_job *job,
                                  struct job_spec *spec)
{
    const struct queue_config *queue = server_config_queue(app->config, job->queue);
    TRY(set(spec, "output-format", "jsonl"));
    TRY(set(spec, "id", ""));
    return queue == NULL || queue->max_errors == NULL ? NULL
                                                      : set(spec, "max-errors", queue->max_errors);
}

static tidemill_error *set_files(struct app *app, const struct store_job *job,
                                 struct job_spec *spec)
{
    char *input, *output = NULL;
    TRY(job_input_path(app, job, &input));
    tidemill_error *error = set(spec, "input", input);
    free(input);
    if (error == NULL) error = set(spec, "input-format", "jsonl");
    if (error == NULL) error = job_path(app, job->id, "output.jsonl", &output);
    if (error == NULL) error = set(spec, "output", output);
    free(output);
    return error;
}

tidemill_error *job_setup(struct app *app, const struct store_job *job, struct job_spec *ret)
{
    *ret = (struct job_spec){0};
    const struct model_config *model = server_config_model(app->config, job->model);
    if (model == NULL)
        return error_new(ERROR_USAGE, "the model '%s' is not in %s any more", job->model,
                         app->config->path);
    TRY(job_spec_copy(&model->spec, ret));
    TRY(set_files(app, job, ret));
    TRY(job->kind == STORE_BATCH ? set_batch(ret) : set_window(app, job, ret));
    TRY(set_cache(app, job, ret));
    return job_spec_check(ret, app->io);
}
