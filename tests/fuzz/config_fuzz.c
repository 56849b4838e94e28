/* SPDX-License-Identifier: Apache-2.0 */
/* config_fuzz.c - any bytes as tidemill.yaml, on a disk where every file is there. What is taken has
 * models, a queue for each, windows that close, and is shown without a byte read too far. */
#include "server/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PATH "fuzz/tidemill.yaml"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool is_true)
{
    if (!is_true) abort();
}

struct input {
    const uint8_t *data;
    size_t size, at;
};

static int open_input(void *context, const char *path, int flags, mode_t mode)
{
    (void)context, (void)flags, (void)mode;
    if (strcmp(path, PATH) == 0) return 1000;
    errno = EACCES;
    return -1;
}

static int close_input(void *context, int fd)
{
    (void)context, (void)fd;
    return 0;
}

static ssize_t read_input(void *context, int fd, void *data, size_t size)
{
    struct input *input = context;
    (void)fd;
    size = MIN(size, input->size - input->at);
    if (size > 0) memcpy(data, input->data + input->at, size);
    input->at += size;
    return (ssize_t)size;
}

static int stat_any(void *context, const char *path, struct stat *status)
{
    const struct input *input = context;
    (void)path;
    *status = (struct stat){.st_mode = S_IFREG, .st_size = (off_t)input->size};
    return 0;
}

static int fstat_any(void *context, int fd, struct stat *status)
{
    (void)fd;
    return stat_any(context, PATH, status);
}

static void check(const struct server_config *config)
{
    struct buffer out = {0};
    require(config->n_models > 0 && config->n_queues > 0 && config->listen.n > 0);
    require(config->data != NULL && config->jobs_max > 0);
    for (size_t i = 0; i < config->n_models; i++) {
        const struct model_config *model = &config->models[i];
        bool has_queue = false;
        require(server_config_model(config, model->name) == model && model->spec.model != NULL);
        for (size_t k = 0; k < config->n_queues; k++) has_queue |= config->queues[k].model == model;
        require(has_queue && model->owner != NULL);
    }
    for (size_t i = 0; i < config->n_queues; i++) {
        const struct queue_config *queue = &config->queues[i];
        const struct window_rule *window = &queue->window;
        require(server_config_queue(config, queue->name) == queue && queue->model != NULL);
        require(window->every_ms > 0 || window->has_at || window->max_records > 0 ||
                window->max_bytes > 0);
        require(window->has_at == (queue->at != NULL));
        require((queue->on_miss == ON_MISS_DEFAULT) == (queue->default_value != NULL));
    }
    server_config_print(config, 1774656000000, &out);
    require(out.size > 0);
    buffer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.data = data, .size = size};
    struct io io = io_local;
    struct server_config *config;
    io.context = &input;
    io.open = open_input;
    io.close = close_input;
    io.read = read_input;
    io.stat = stat_any;
    io.fstat = fstat_any;
    tidemill_error *error = server_config_load(&io, PATH, &config);
    require((error == NULL) == (config != NULL));
    if (error == NULL) check(config);
    if (error != NULL && error_code_of(error) == ERROR_USAGE)
        require(strncmp(error_message(error), PATH ":", strlen(PATH ":")) == 0);
    error_free(error);
    server_config_free(config);
    return 0;
}
