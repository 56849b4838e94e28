/* SPDX-License-Identifier: Apache-2.0 */
/* yaml_tree.c - libyaml's events, put together. The depth is bounded before libyaml is asked for more:
 * brackets cost it more the deeper they are. */
#include "format/yaml_tree.h"

#include <stdio.h>
#include <string.h>

#include <yaml.h>

#define DEPTH_MAX 16

struct reading {
    struct arena *arena;
    const char *path;
    yaml_parser_t parser;
    yaml_event_t event; /* the present one */
};

static tidemill_error *next_event(struct reading *reading)
{
    yaml_event_delete(&reading->event);
    if (yaml_parser_parse(&reading->parser, &reading->event)) return NULL;
    memset(&reading->event, 0, sizeof reading->event);
    if (reading->parser.error == YAML_MEMORY_ERROR) return error_memory();
    return error_new(ERROR_USAGE, "%s:%zu: not valid YAML: %s", reading->path,
                     reading->parser.problem_mark.line + 1,
                     reading->parser.problem != NULL ? reading->parser.problem : "unknown problem");
}

static size_t line_of(const struct reading *reading)
{
    return reading->event.start_mark.line + 1;
}

static tidemill_error *wrong(const struct reading *reading, const char *what)
{
    return error_new(ERROR_USAGE, "%s:%zu: %s", reading->path, line_of(reading), what);
}

/* The text of the present event, which is a scalar. */
static tidemill_error *take_text(struct reading *reading, const char **ret)
{
    const char *text = (const char *)reading->event.data.scalar.value;
    size_t size = reading->event.data.scalar.length;
    if (strlen(text) != size) return wrong(reading, "a NUL inside of a text");
    *ret = arena_copy(reading->arena, text, size);
    return *ret == NULL ? error_memory() : NULL;
}

static tidemill_error *read_node(struct reading *reading, int depth, struct yaml_tree **ret);

/* The present event is an item's first: a key where it is a mapping's. */
static tidemill_error *read_item(struct reading *reading, bool is_map, int depth,
                                 struct yaml_tree **ret)
{
    const char *key = NULL;
    size_t line = line_of(reading);
    if (is_map) {
        if (reading->event.type != YAML_SCALAR_EVENT)
            return wrong(reading, "expected a name before the colon");
        TRY(take_text(reading, &key));
        TRY(next_event(reading));
    }
    TRY(read_node(reading, depth, ret));
    (*ret)->key = key;
    (*ret)->key_line = line;
    return NULL;
}

static tidemill_error *read_items(struct reading *reading, struct yaml_tree *node, int depth)
{
    bool is_map = node->kind == YAML_TREE_MAP;
    yaml_event_type_t end = is_map ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT;
    struct yaml_tree **place = &node->items;
    if (depth == DEPTH_MAX) return wrong(reading, "nested too deeply");
    for (;;) {
        TRY(next_event(reading));
        if (reading->event.type == end) return NULL;
        TRY(read_item(reading, is_map, depth + 1, place));
        place = &(*place)->next;
        node->n++;
    }
}

/* The present event is the node's first; leaves its last one as the present. */
static tidemill_error *read_node(struct reading *reading, int depth, struct yaml_tree **ret)
{
    struct yaml_tree *node = arena_calloc(reading->arena, 1, sizeof *node);
    if (node == NULL) return error_memory();
    node->line = line_of(reading);
    *ret = node;
    switch (reading->event.type) {
    case YAML_SCALAR_EVENT:
        node->is_plain = reading->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        return take_text(reading, &node->text);
    case YAML_SEQUENCE_START_EVENT: node->kind = YAML_TREE_LIST; break;
    case YAML_MAPPING_START_EVENT: node->kind = YAML_TREE_MAP; break;
    case YAML_ALIAS_EVENT: return wrong(reading, "expected a value, not an alias (*name)");
    default: return wrong(reading, "expected a value");
    }
    return read_items(reading, node, depth);
}

static tidemill_error *read_document(struct reading *reading, struct yaml_tree **ret)
{
    do TRY(next_event(reading));
    while (reading->event.type == YAML_STREAM_START_EVENT ||
           reading->event.type == YAML_DOCUMENT_START_EVENT);
    if (reading->event.type == YAML_STREAM_END_EVENT) return NULL;
    TRY(read_node(reading, 0, ret));
    do TRY(next_event(reading));
    while (reading->event.type == YAML_DOCUMENT_END_EVENT);
    if (reading->event.type != YAML_STREAM_END_EVENT)
        return wrong(reading, "a second document; one file has one");
    return NULL;
}

tidemill_error *yaml_tree_read(struct arena *arena, const char *path, const char *text, size_t size,
                               struct yaml_tree **ret)
{
    struct reading reading = {.arena = arena, .path = path};
    *ret = NULL;
    if (!yaml_parser_initialize(&reading.parser)) return error_memory();
    yaml_parser_set_input_string(&reading.parser, (const unsigned char *)text, size);
    tidemill_error *error = read_document(&reading, ret);
    yaml_event_delete(&reading.event);
    yaml_parser_delete(&reading.parser);
    return error;
}

const struct yaml_tree *yaml_tree_find(const struct yaml_tree *map, const char *key)
{
    if (map == NULL || map->kind != YAML_TREE_MAP) return NULL;
    for (const struct yaml_tree *item = map->items; item != NULL; item = item->next)
        if (strcmp(item->key, key) == 0) return item;
    return NULL;
}
