/* SPDX-License-Identifier: Apache-2.0 */
/* config_queue.c - the models and queues of tidemill.yaml, each under its name; and a queue for each
 * model that none names. */
#include "server/config_parts.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define ITEMS_MAX 4096U

/* --- names ---------------------------------------------------------------------------------------- */

/* Names are parts of paths, of addresses and of keys. */
static bool is_name(const char *name)
{
    size_t size = strlen(name);
    if (size == 0 || size > CONFIG_NAME_MAX || !isalnum((unsigned char)name[0])) return false;
    for (size_t i = 0; i < size; i++)
        if (!isalnum((unsigned char)name[i]) && strchr("._-", name[i]) == NULL) return false;
    return true;
}

static tidemill_error *check_name(const struct config_reading *reading,
                                  const struct yaml_tree *items, const struct yaml_tree *item,
                                  const char *what)
{
    if (!is_name(item->key))
        return config_wrong(
            reading, item->key_line,
            "%s '%.80s': a name has letters, digits, '.', '_' and '-', begins with a "
            "letter or digit, and is at most %d long",
            what, item->key, CONFIG_NAME_MAX);
    for (; items != item; items = items->next)
        if (strcmp(items->key, item->key) == 0)
            return config_wrong(reading, item->key_line, "%s '%s' stands twice (line %zu)", what,
                                item->key, items->key_line);
    return NULL;
}

static tidemill_error *check_items(const struct config_reading *reading,
                                   const struct yaml_tree *value, const char *what)
{
    if (value->kind != YAML_TREE_MAP)
        return config_wrong(reading, value->line, "%ss: expected a mapping, 'NAME: {...}' an item",
                            what);
    if (value->n > ITEMS_MAX)
        return config_wrong(reading, value->line, "more than %u %ss", ITEMS_MAX, what);
    return NULL;
}

/* --- models ----------------------------------------------------------------------------------------- */

static tidemill_error *read_model(const struct config_reading *reading,
                                  const struct yaml_tree *item, struct model_config *model)
{
    model->name = strdup(item->key);
    if (model->name == NULL) return error_memory();
    TRY(config_model_init(model));
    TRY(config_read_section(reading, SECTION_MODEL, item, model));
    return config_model_check(reading, item, model);
}

tidemill_error *config_models(const struct config_reading *reading, const struct config_key *key,
                              const struct yaml_tree *value, void *base)
{
    struct server_config *config = base;
    (void)key;
    TRY(check_items(reading, value, "model"));
    config->models = calloc(value->n + 1, sizeof *config->models);
    if (config->models == NULL) return error_memory();
    for (const struct yaml_tree *item = value->items; item != NULL; item = item->next) {
        TRY(check_name(reading, value->items, item, "model"));
        TRY(read_model(reading, item, &config->models[config->n_models++]));
    }
    return NULL;
}

/* --- queues ----------------------------------------------------------------------------------------- */

tidemill_error *config_later(const struct config_reading *reading, const struct config_key *key,
                             const struct yaml_tree *value, void *base)
{
    (void)reading, (void)key, (void)value, (void)base;
    return NULL;
}

tidemill_error *config_queue_model(const struct config_reading *reading,
                                   const struct config_key *key, const struct yaml_tree *value,
                                   void *base)
{
    struct queue_config *queue = base;
    const char *name;
    TRY(config_text(reading, value, &name));
    queue->model = server_config_model(reading->config, name);
    if (queue->model != NULL) return NULL;
    struct nearest nearest = {.typed = name};
    for (size_t i = 0; i < reading->config->n_models; i++)
        nearest_try(&nearest, reading->config->models[i].name);
    return config_wrong(reading, value->line, "%s: there is no model '%.80s'%s%s%s",
                        key->option.name, name, nearest.best != NULL ? "; did you mean '" : "",
                        nearest.best != NULL ? nearest.best : "", nearest.best != NULL ? "'?" : "");
}

/* The window that a queue without one has. */
static tidemill_error *usual_window(const struct config_reading *reading,
                                    struct queue_config *queue)
{
    struct yaml_tree every = {.key = "every", .text = "5m", .is_plain = true};
    struct yaml_tree window = {.kind = YAML_TREE_MAP, .items = &every, .n = 1};
    return config_read_section(reading, SECTION_WINDOW, &window, queue);
}

static bool has_window(const struct window_rule *window)
{
    return window->every_ms > 0 || window->has_at || window->max_records > 0 ||
           window->max_bytes > 0;
}

static tidemill_error *check_queue(const struct config_reading *reading,
                                   const struct yaml_tree *item, struct queue_config *queue)
{
    const struct yaml_tree *window = yaml_tree_find(item, "window");
    if (queue->model == NULL) queue->model = server_config_model(reading->config, queue->name);
    if (queue->model == NULL)
        return config_wrong(reading, item->key_line,
                            "queue '%s': there is no model of its name; name one with model",
                            queue->name);
    if (window == NULL) TRY(usual_window(reading, queue));
    if (!has_window(&queue->window))
        return config_wrong(reading, window->key_line,
                            "window: never closes; give it every, at, max_records or max_bytes");
    bool has_default = queue->default_value != NULL,
         uses_default = queue->on_miss == ON_MISS_DEFAULT;
    if (uses_default && !has_default)
        return config_wrong(reading, yaml_tree_find(item, "on_miss")->line,
                            "on_miss: default needs a value: default");
    if (has_default && !uses_default)
        return config_wrong(reading, yaml_tree_find(item, "default")->line,
                            "default: is used with 'on_miss: default' only");
    return NULL;
}

static tidemill_error *read_queue(const struct config_reading *reading, const char *name,
                                  const struct yaml_tree *item, struct queue_config *queue)
{
    queue->name = strdup(name);
    if (queue->name == NULL) return error_memory();
    TRY(config_read_section(reading, SECTION_QUEUE, item, queue));
    return check_queue(reading, item, queue);
}

static bool has_queue(const struct server_config *config, const struct model_config *model)
{
    for (size_t i = 0; i < config->n_queues; i++)
        if (config->queues[i].model == model) return true;
    return false;
}

/* A queue for each model that has none. */
static tidemill_error *add_queues(const struct config_reading *reading,
                                  const struct yaml_tree *node)
{
    struct server_config *config = reading->config;
    for (size_t i = 0; i < config->n_models; i++) {
        struct model_config *model = &config->models[i];
        if (has_queue(config, model)) continue;
        const struct yaml_tree *taken = yaml_tree_find(node, model->name);
        if (taken != NULL)
            return config_wrong(
                reading, taken->key_line,
                "queue '%s' runs model '%s', and model '%s' has no queue; give it one", model->name,
                server_config_queue(config, model->name)->model->name, model->name);
        struct queue_config *queue = &config->queues[config->n_queues++];
        queue->model = model;
        TRY(read_queue(reading, model->name, NULL, queue));
    }
    return NULL;
}

tidemill_error *config_queues(const struct config_reading *reading, const struct yaml_tree *node)
{
    struct server_config *config = reading->config;
    if (node != NULL) TRY(check_items(reading, node, "queue"));
    size_t n = (node != NULL ? node->n : 0) + config->n_models;
    config->queues = calloc(n + 1, sizeof *config->queues);
    if (config->queues == NULL) return error_memory();
    for (const struct yaml_tree *item = node != NULL ? node->items : NULL; item != NULL;
         item = item->next) {
        TRY(check_name(reading, node->items, item, "queue"));
        TRY(read_queue(reading, item->key, item, &config->queues[config->n_queues++]));
    }
    return add_queues(reading, node);
}
