/* SPDX-License-Identifier: Apache-2.0 */
/* config_section.c - a mapping of tidemill.yaml, read by the table of keys. */
#include "server/config_parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS_MAX 128

tidemill_error *config_wrong(const struct config_reading *reading, size_t line, const char *format,
                             ...)
{
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return error_new(ERROR_USAGE, "%s:%zu: %s", reading->path, line, message);
}

/* --- keys ----------------------------------------------------------------------------------------- */

static const struct config_key *find_key(enum config_section section, const char *name)
{
    for (size_t i = 0; i < n_config_keys; i++)
        if (config_keys[i].section == section && strcmp(config_keys[i].option.name, name) == 0)
            return &config_keys[i];
    return NULL;
}

/* A mistyped one, or one that belongs elsewhere. */
static tidemill_error *unknown_key(const struct config_reading *reading,
                                   enum config_section section, const struct yaml_tree *item)
{
    struct nearest nearest = {.typed = item->key};
    for (size_t i = 0; i < n_config_keys; i++)
        if (config_keys[i].section == section) nearest_try(&nearest, config_keys[i].option.name);
    for (size_t i = 0; section == SECTION_MODEL && i < n_job_options; i++)
        nearest_try(&nearest, job_options[i].name);
    const char *owner = NULL;
    for (size_t i = 0; i < n_config_keys && owner == NULL; i++)
        if (strcmp(config_keys[i].option.name, item->key) == 0)
            owner = config_section_names[config_keys[i].section];
    if (owner != NULL)
        return config_wrong(reading, item->key_line, "unknown key '%s' of %s; it is one of %s",
                            item->key, config_section_names[section], owner);
    if (nearest.best != NULL)
        return config_wrong(reading, item->key_line, "unknown key '%s'; did you mean '%s'?",
                            item->key, nearest.best);
    return config_wrong(reading, item->key_line, "unknown key '%.80s' of %s", item->key,
                        config_section_names[section]);
}

/* --- values --------------------------------------------------------------------------------------- */

tidemill_error *config_text(const struct config_reading *reading, const struct yaml_tree *value,
                            const char **ret)
{
    if (value->kind != YAML_TREE_TEXT)
        return config_wrong(reading, value->line, "%s%sexpected a value, not a %s",
                            value->key != NULL ? value->key : "", value->key != NULL ? ": " : "",
                            value->kind == YAML_TREE_LIST ? "list" : "mapping");
    *ret = value->text;
    return NULL;
}

tidemill_error *config_resolve(const struct config_reading *reading, char **path)
{
    const char *slash = strrchr(reading->path, '/');
    char *resolved;
    if (slash == NULL || **path == '/' || **path == '\0') return NULL;
    if (asprintf(&resolved, "%.*s/%s", (int)(slash - reading->path), reading->path, *path) < 0)
        return error_memory();
    free(*path);
    *path = resolved;
    return NULL;
}

static tidemill_error *read_option(const struct config_reading *reading,
                                   const struct option *option, const struct yaml_tree *value,
                                   void *base)
{
    const char *text;
    char origin[512];
    TRY(config_text(reading, value, &text));
    bool is_text = option->type == OPTION_STRING || option->type == OPTION_PATH;
    if (is_text && text[0] == '\0')
        return config_wrong(reading, value->line, "%s: expected a value", option->name);
    snprintf(origin, sizeof origin, "%s:%zu: %s", reading->path, value->line, option->name);
    TRY(option_assign(base, option, text, origin));
    if (option->type != OPTION_PATH) return NULL;
    return config_resolve(reading, (char **)((char *)base + option->offset));
}

static tidemill_error *read_key(const struct config_reading *reading, const struct config_key *key,
                                const struct yaml_tree *value, void *base)
{
    if (key->read != NULL) return key->read(reading, key, value, base);
    if (key->inner == SECTION_SERVER) return read_option(reading, &key->option, value, base);
    return config_read_section(reading, key->inner, value, (char *)base + key->option.offset);
}

static tidemill_error *read_items(const struct config_reading *reading, enum config_section section,
                                  const struct yaml_tree *node, void *base, bool seen[KEYS_MAX])
{
    for (const struct yaml_tree *item = node->items; item != NULL; item = item->next) {
        const struct config_key *key = find_key(section, item->key);
        if (key == NULL && section == SECTION_MODEL) {
            bool is_known;
            TRY(config_model_option(reading, node, item, base, &is_known));
            if (is_known) continue;
        }
        if (key == NULL) return unknown_key(reading, section, item);
        size_t place = (size_t)(key - config_keys);
        if (seen[place])
            return config_wrong(reading, item->key_line, "'%s' stands twice", item->key);
        seen[place] = true;
        TRY(read_key(reading, key, item, base));
    }
    return NULL;
}

/* A default is read as if it stood in the file. */
static tidemill_error *read_default(const struct config_reading *reading,
                                    const struct config_key *key, void *base)
{
    if (key->inner != SECTION_SERVER)
        return config_read_section(reading, key->inner, NULL, (char *)base + key->option.offset);
    if (key->option.default_text == NULL) return NULL;
    struct yaml_tree value = {.text = key->option.default_text, .is_plain = true};
    return read_key(reading, key, &value, base);
}

tidemill_error *config_read_section(const struct config_reading *reading,
                                    enum config_section section, const struct yaml_tree *node,
                                    void *base)
{
    bool seen[KEYS_MAX] = {false};
    if (node != NULL && node->kind != YAML_TREE_MAP)
        return config_wrong(reading, node->line, "%s%sexpected a mapping, 'key: value' a line",
                            node->key != NULL ? node->key : "", node->key != NULL ? ": " : "");
    if (node != NULL) TRY(read_items(reading, section, node, base, seen));
    for (size_t i = 0; i < n_config_keys; i++)
        if (config_keys[i].section == section && !seen[i])
            TRY(read_default(reading, &config_keys[i], base));
    return NULL;
}

void config_free_section(enum config_section section, void *base)
{
    for (size_t i = 0; i < n_config_keys; i++) {
        const struct config_key *key = &config_keys[i];
        if (key->section != section) continue;
        if (key->inner != SECTION_SERVER)
            config_free_section(key->inner, (char *)base + key->option.offset);
        else if (key->read == NULL || key->has_storage)
            option_release(base, &key->option);
    }
}
