/* SPDX-License-Identifier: Apache-2.0 */
/* spec_yaml.c - a job file: one YAML mapping whose keys are the options' names. Values and lists of
 * values only, and every message has its line. */
#include "format/yaml_tree.h"
#include "io/io.h"
#include "job/options.h"
#include "job/spec.h"

#include <stdio.h>
#include <stdlib.h>

#define JOB_FILE_BYTES_MAX ((size_t)1 << 20)

struct job_file {
    struct job_spec *spec;
    const char *path;
};

static tidemill_error *wrong(const struct job_file *file, size_t line, const char *what)
{
    return error_new(ERROR_USAGE, "%s:%zu: %s", file->path, line, what);
}

static tidemill_error *find_option(const struct job_file *file, const struct yaml_tree *item,
                                   const struct option **ret)
{
    *ret = option_find(item->key);
    if (*ret != NULL) return NULL;
    const char *nearest = option_suggest(item->key);
    return error_new(ERROR_USAGE, "%s:%zu: unknown option '%s'%s%s%s", file->path, item->key_line,
                     item->key, nearest != NULL ? "; did you mean '" : "",
                     nearest != NULL ? nearest : "", nearest != NULL ? "'?" : "");
}

static tidemill_error *set_text(const struct job_file *file, const struct option *option,
                                const struct yaml_tree *value)
{
    char origin[512];
    if (value->kind != YAML_TREE_TEXT)
        return wrong(file, value->line, "expected a value or a list of values");
    snprintf(origin, sizeof origin, "%s:%zu: %s", file->path, value->line, option->name);
    return option_set(file->spec, option, value->text, origin);
}

static tidemill_error *set_value(const struct job_file *file, const struct option *option,
                                 const struct yaml_tree *value)
{
    if (value->kind != YAML_TREE_LIST) return set_text(file, option, value);
    if (option->type != OPTION_LIST && option->type != OPTION_COMMAS)
        return wrong(file, value->line, "this option takes one value, not a list");
    for (const struct yaml_tree *item = value->items; item != NULL; item = item->next)
        TRY(set_text(file, option, item));
    return NULL;
}

static tidemill_error *read_tree(const struct job_file *file, const struct yaml_tree *tree)
{
    bool seen[JOB_OPTIONS_MAX] = {false};
    if (tree == NULL) return NULL; /* an empty file sets nothing */
    if (tree->kind != YAML_TREE_MAP)
        return wrong(file, tree->line, "a job file is a mapping, 'option: value' a line");
    for (const struct yaml_tree *item = tree->items; item != NULL; item = item->next) {
        const struct option *option;
        TRY(find_option(file, item, &option));
        size_t place = (size_t)(option - job_options);
        if (seen[place]) return wrong(file, item->key_line, "this option stands twice");
        seen[place] = true;
        TRY(set_value(file, option, item));
    }
    return NULL;
}

tidemill_error *job_spec_load_yaml(struct job_spec *spec, const struct io *io, const char *path)
{
    char *text;
    size_t size;
    struct arena arena = {0};
    struct yaml_tree *tree;
    TRY(io_read_file(io, path, JOB_FILE_BYTES_MAX, &text, &size));
    tidemill_error *error = yaml_tree_read(&arena, path, text, size, &tree);
    if (error == NULL) error = read_tree(&(struct job_file){spec, path}, tree);
    arena_free(&arena);
    free(text);
    return error;
}
