/* SPDX-License-Identifier: Apache-2.0 */
/* config_load.c - tidemill.yaml from file to struct, and back to nothing. */
#include "server/config_parts.h"

#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX ((size_t)4 << 20)

/* Models before queues, wherever they stand: queues name them. */
static tidemill_error *read_tree(const struct config_reading *reading, const struct yaml_tree *root)
{
    if (root == NULL) return config_wrong(reading, 1, "the file is empty; it needs models");
    if (root->kind != YAML_TREE_MAP)
        return config_wrong(reading, root->line, "expected a mapping, 'key: value' a line");
    TRY(config_read_section(reading, SECTION_SERVER, root, reading->config));
    TRY(config_queues(reading, yaml_tree_find(root, "queues")));
    return config_check(reading, root);
}

static tidemill_error *read_file(const struct config_reading *reading, struct arena *arena)
{
    char *text;
    size_t size;
    struct yaml_tree *root;
    if (!io_exists(reading->io, reading->path))
        return error_new(ERROR_USAGE, "%s is not there; examples/serve has one to begin with",
                         reading->path);
    TRY(io_read_file(reading->io, reading->path, FILE_BYTES_MAX, &text, &size));
    tidemill_error *error = yaml_tree_read(arena, reading->path, text, size, &root);
    free(text);
    return error != NULL ? error : read_tree(reading, root);
}

tidemill_error *server_config_load(const struct io *io, const char *path,
                                   struct server_config **ret)
{
    struct arena arena = {0};
    struct server_config *config = calloc(1, sizeof *config);
    struct config_reading reading = {.io = io, .path = path, .config = config};
    *ret = NULL;
    if (config == NULL) return error_memory();
    config->path = strdup(path);
    tidemill_error *error = config->path == NULL ? error_memory() : read_file(&reading, &arena);
    arena_free(&arena);
    if (error != NULL) {
        server_config_free(config);
        return error;
    }
    *ret = config;
    return NULL;
}

static void free_queue(struct queue_config *queue)
{
    config_free_section(SECTION_QUEUE, queue);
    for (size_t i = 0; i < queue->n_sinks; i++) {
        free(queue->sinks[i].kind);
        free(queue->sinks[i].to);
    }
    free(queue->sinks);
    free(queue->tariff);
    zone_free(queue->zone);
    free(queue->name);
}

void server_config_free(struct server_config *config)
{
    if (config == NULL) return;
    for (size_t i = 0; i < config->n_models; i++) {
        config_free_section(SECTION_MODEL, &config->models[i]);
        job_spec_free(&config->models[i].spec);
        free(config->models[i].name);
    }
    for (size_t i = 0; i < config->n_queues; i++) free_queue(&config->queues[i]);
    config_free_section(SECTION_SERVER, config);
    free(config->models);
    free(config->queues);
    free(config->path);
    free(config);
}

struct model_config *server_config_model(const struct server_config *config, const char *name)
{
    for (size_t i = 0; i < config->n_models; i++)
        if (strcmp(config->models[i].name, name) == 0) return &config->models[i];
    return NULL;
}

struct queue_config *server_config_queue(const struct server_config *config, const char *name)
{
    for (size_t i = 0; i < config->n_queues; i++)
        if (strcmp(config->queues[i].name, name) == 0) return &config->queues[i];
    return NULL;
}
