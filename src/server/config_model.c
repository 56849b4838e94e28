/* SPDX-License-Identifier: Apache-2.0 */
/* config_model.c - the keys of a model that are the options of `tidemill run`: all but those that say
 * where records come from, where answers go, and what one run does. */
#include "server/config_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *why;
} refused[] = {
    {"input", "records come through the server's API"},
    {"input-format", "records come through the server's API, as JSON"},
    {"output", "answers go where the server keeps them; `sinks` of a queue sends them on"},
    {"output-format", "who asks for the answers chooses their format"},
    {"errors", "failed records are kept with the answers"},
    {"summary", "the server tells each job's summary"},
    {"retry-errors", "a job is retried through the server's API"},
    {"dry-run", "it is for one run; 'tidemill check' looks at all of this file"},
    {"force", "it is for one run"},
    {"quiet", "it is for one run"},
    {"log-format", "it is for the whole process"},
    {"id", "a record is named by its place or its custom_id; `key_field` of a queue says what its "
           "answer is kept under"},
};

/* The key as an option's name: keys of this file have underscores, those of a job file dashes. */
static const struct option *find(const char *key)
{
    char name[64];
    size_t size = strlen(key);
    if (size >= sizeof name) return NULL;
    for (size_t i = 0; i <= size; i++) name[i] = key[i] == '_' ? '-' : key[i];
    return option_find(name);
}

static tidemill_error *set(const struct config_reading *reading, const struct option *option,
                           const struct yaml_tree *value, struct job_spec *spec)
{
    char origin[512];
    const char *text;
    TRY(config_text(reading, value, &text));
    snprintf(origin, sizeof origin, "%s:%zu: %s", reading->path, value->line, option->name);
    return option_set(spec, option, text, origin);
}

static tidemill_error *set_value(const struct config_reading *reading, const struct option *option,
                                 const struct yaml_tree *value, struct job_spec *spec)
{
    bool is_list = option->type == OPTION_LIST || option->type == OPTION_COMMAS;
    if (value->kind != YAML_TREE_LIST) return set(reading, option, value, spec);
    if (!is_list)
        return config_wrong(reading, value->line, "%s: takes one value, not a list", option->name);
    for (const struct yaml_tree *item = value->items; item != NULL; item = item->next)
        TRY(set(reading, option, item, spec));
    return NULL;
}

/* An option stands twice under two spellings, too. */
static bool stands_before(const struct yaml_tree *items, const struct yaml_tree *item,
                          const struct option *option)
{
    for (; items != item; items = items->next)
        if (find(items->key) == option) return true;
    return false;
}

tidemill_error *config_model_option(const struct config_reading *reading,
                                    const struct yaml_tree *model_node,
                                    const struct yaml_tree *item, struct model_config *model,
                                    bool *ret_is_known)
{
    const struct option *option = find(item->key);
    *ret_is_known = option != NULL;
    if (option == NULL) return NULL;
    for (size_t i = 0; i < COUNT_OF(refused); i++)
        if (strcmp(option->name, refused[i].name) == 0)
            return config_wrong(reading, item->key_line, "'%s' is not for a server: %s", item->key,
                                refused[i].why);
    if (stands_before(model_node->items, item, option))
        return config_wrong(reading, item->key_line, "'%s' stands twice", item->key);
    return set_value(reading, option, item, &model->spec);
}

tidemill_error *config_model_init(struct model_config *model)
{
    TRY(job_spec_init(&model->spec));
    return option_set(&model->spec, option_find("input-format"), "jsonl", "input-format");
}

/* --- after all keys ------------------------------------------------------------------------------- */

static size_t line_of(const struct yaml_tree *node, const struct option *option)
{
    for (const struct yaml_tree *item = node->items; item != NULL; item = item->next)
        if (find(item->key) == option) return item->line;
    return node->key_line;
}

/* Whether an option's value is a path here, and not a library's name or a word. */
static bool is_path(const struct option *option, const struct job_spec *spec, const char *text)
{
    if (option->type != OPTION_PATH || text == NULL || text[0] == '\0') return false;
    if (strcmp(option->name, "model") == 0) {
        enum model_kind kind = model_kind(spec->model);
        return kind == MODEL_ONNX || kind == MODEL_LLAMA;
    }
    if (strcmp(option->name, "tokenizer") == 0) return strcmp(text, "none") != 0;
    if (strcmp(option->name, "onnxruntime") == 0 || strcmp(option->name, "llama-library") == 0)
        return strchr(text, '/') != NULL; /* else the loader looks for it */
    return true;
}

static tidemill_error *find_files(const struct config_reading *reading,
                                  const struct yaml_tree *node, struct job_spec *spec)
{
    for (size_t i = 0; i < n_job_options; i++) {
        const struct option *option = &job_options[i];
        char **path = (char **)((char *)spec + option->offset);
        if (option->type != OPTION_PATH || !is_path(option, spec, *path)) continue;
        TRY(config_resolve(reading, path));
        bool is_made = strcmp(option->name, "cache") == 0; /* where it is not there */
        if (!is_made && !io_exists(reading->io, *path))
            return config_wrong(reading, line_of(node, option), "%s: %s is not there", option->name,
                                *path);
    }
    return NULL;
}

/* Messages about options begin with "--NAME": here the key has that name, and a line. */
static tidemill_error *tell_line(const struct config_reading *reading, const struct yaml_tree *node,
                                 tidemill_error *error)
{
    char name[64];
    const char *message = error_message(error);
    if (error_code_of(error) != ERROR_USAGE) return error;
    size_t line = node->key_line, skip = 0;
    if (strncmp(message, "--", 2) == 0) {
        size_t size = strcspn(message + 2, ": ");
        snprintf(name, sizeof name, "%.*s", (int)MIN(size, sizeof name - 1), message + 2);
        const struct option *option = option_find(name);
        if (option != NULL) line = line_of(node, option);
        skip = 2;
    }
    tidemill_error *told = config_wrong(reading, line, "%s", message + skip);
    error_free(error);
    return told;
}

tidemill_error *config_model_check(const struct config_reading *reading,
                                   const struct yaml_tree *node, struct model_config *model)
{
    if (model->spec.model == NULL || model->spec.model[0] == '\0')
        return config_wrong(reading, node->key_line, "model '%s' names no file or address: model",
                            model->name);
    tidemill_error *error = job_spec_check_model(&model->spec);
    if (error != NULL) return tell_line(reading, node, error);
    return find_files(reading, node, &model->spec);
}
