/* SPDX-License-Identifier: Apache-2.0 */
/* yaml_tree.h - a YAML file as a tree that knows its lines. Only what a configuration needs: texts, lists
 * and mappings with names as keys, one document; no aliases, and nested at most so deep. */
#ifndef TIDEMILL_FORMAT_YAML_TREE_H
#define TIDEMILL_FORMAT_YAML_TREE_H

#include "base/base.h"

enum yaml_tree_kind { YAML_TREE_TEXT, YAML_TREE_LIST, YAML_TREE_MAP };

struct yaml_tree {
    enum yaml_tree_kind kind;
    size_t line;            /* from 1 */
    const char *text;       /* of a TEXT */
    bool is_plain;          /* a TEXT without quotes */
    const char *key;        /* of an item of a MAP; keys may stand twice */
    size_t key_line;        /* the line to tell of an item */
    struct yaml_tree *next; /* in its list or mapping */
    struct yaml_tree *items;
    size_t n;
};

/* *ret NULL: the file is empty. All of it is the arena's. ERROR_USAGE: "PATH:LINE: not valid YAML: ...". */
tidemill_error *yaml_tree_read(struct arena *arena, const char *path, const char *text, size_t size,
                               struct yaml_tree **ret);
/* The item of a mapping; NULL: there is none, or `map` is none. */
const struct yaml_tree *yaml_tree_find(const struct yaml_tree *map, const char *key);

#endif
