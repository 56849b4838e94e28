/* SPDX-License-Identifier: Apache-2.0 */
/* route.c - a tree of segments. A node's children are tried in order of how much they say: literals,
 * then {name}suffix, then {name}; where the first that fits has not this method, the others are asked, so
 * that GET /v1/models/{m} and POST /v1/models/{m}:predict can stand side by side. */
#include "net/route.h"

#include <stdlib.h>
#include <string.h>

#define METHODS 7
#define SEGMENTS_MAX 32 /* also of a path: the search goes no deeper than the patterns do */

struct node {
    struct slice literal; /* the segment, or what stands behind the capture */
    bool is_capture;
    struct node *children; /* the first; the best first */
    struct node *next;
    const struct net_route *routes[METHODS];
};

struct route_table {
    struct node root;
    unsigned methods;
};

static void free_nodes(struct node *node)
{
    while (node != NULL) {
        struct node *next = node->next;
        free_nodes(node->children);
        free(node);
        node = next;
    }
}

void route_table_free(struct route_table *table)
{
    if (table == NULL) return;
    free_nodes(table->root.children);
    free(table);
}

/* Greater: tried earlier. */
static int rank(const struct node *node)
{
    if (!node->is_capture) return 1 << 16;
    return (int)node->literal.size;
}

static bool is_same(const struct node *node, bool is_capture, struct slice literal)
{
    return node->is_capture == is_capture && node->literal.size == literal.size &&
           memcmp(node->literal.data, literal.data, literal.size) == 0;
}

static struct node *child(struct node *parent, bool is_capture, struct slice literal)
{
    for (struct node *node = parent->children; node != NULL; node = node->next)
        if (is_same(node, is_capture, literal)) return node;
    struct node *node = calloc(1, sizeof *node);
    if (node == NULL) return NULL;
    node->literal = literal;
    node->is_capture = is_capture;
    struct node **place = &parent->children;
    while (*place != NULL && rank(*place) >= rank(node)) place = &(*place)->next;
    node->next = *place;
    *place = node;
    return node;
}

static tidemill_error *wrong(const struct net_route *route, const char *why)
{
    return error_new(ERROR_USAGE, "the route %s: %s", route->pattern, why);
}

/* One segment of a pattern: literal, {name} or {name}literal. */
static tidemill_error *add_segment(const struct net_route *route, struct slice segment,
                                   struct node **node, size_t *n_captures)
{
    const char *open = memchr(segment.data, '{', segment.size);
    if (open != NULL) {
        const char *close = memchr(segment.data, '}', segment.size);
        if (open != segment.data || close == NULL || close == open + 1)
            return wrong(route, "a capture is {name} or {name}literal");
        if (++*n_captures > NET_CAPTURES_MAX) return wrong(route, "too many captures");
        size_t skip = (size_t)(close + 1 - open);
        segment.data += skip;
        segment.size -= skip;
        if (memchr(segment.data, '{', segment.size) != NULL)
            return wrong(route, "two captures in one segment");
    }
    *node = child(*node, open != NULL, segment);
    return *node == NULL ? error_memory() : NULL;
}

static tidemill_error *add_route(struct route_table *table, const struct net_route *route)
{
    struct node *node = &table->root;
    const char *p = route->pattern;
    size_t n_captures = 0, n_segments = 0;
    if (p == NULL || *p != '/')
        return error_new(ERROR_USAGE, "a route has no pattern that begins with /");
    while (*p == '/') {
        const char *end = strchrnul(p + 1, '/');
        if (++n_segments > SEGMENTS_MAX) return wrong(route, "too many segments");
        TRY(add_segment(route, (struct slice){p + 1, (size_t)(end - p - 1)}, &node, &n_captures));
        p = end;
    }
    if ((unsigned)route->method >= METHODS) return wrong(route, "no such method");
    if (route->handle == NULL) return wrong(route, "it has no handler");
    if (route->body == NET_BODY_STREAM && !route->is_blocking)
        return wrong(route, "a STREAM body needs a blocking handler");
    if (node->routes[route->method] != NULL) return wrong(route, "it is there twice");
    node->routes[route->method] = route;
    table->methods |= 1u << route->method;
    if (route->method == NET_GET) table->methods |= 1u << NET_HEAD;
    return NULL;
}

tidemill_error *route_table_new(const struct net_route *routes, size_t n, struct route_table **ret)
{
    struct route_table *table = calloc(1, sizeof *table);
    if (table == NULL) return error_memory();
    for (size_t i = 0; i < n; i++) {
        tidemill_error *error = add_route(table, &routes[i]);
        if (error == NULL) continue;
        route_table_free(table);
        return error;
    }
    *ret = table;
    return NULL;
}

unsigned route_table_methods(const struct route_table *table)
{
    return table->methods | 1u << NET_OPTIONS;
}

/* The path ends in this node: true where it serves the method. */
static bool end_here(const struct node *node, enum net_method method, struct route_match *match)
{
    unsigned methods = 0;
    for (unsigned m = 0; m < METHODS; m++)
        if (node->routes[m] != NULL) methods |= 1u << m;
    if (methods == 0) return false;
    if (node->routes[NET_GET] != NULL) methods |= 1u << NET_HEAD;
    match->methods |= methods | 1u << NET_OPTIONS;
    match->route = node->routes[method];
    if (match->route == NULL && method == NET_HEAD) match->route = node->routes[NET_GET];
    return match->route != NULL;
}

static bool fits(const struct node *node, struct slice segment)
{
    size_t size = node->literal.size;
    if (!node->is_capture)
        return size == segment.size && memcmp(node->literal.data, segment.data, size) == 0;
    return segment.size > size &&
           memcmp(segment.data + segment.size - size, node->literal.data, size) == 0;
}

/* `path` begins with '/' or is empty. As deep as the patterns are. */
static bool find(const struct node *node, enum net_method method, struct slice path,
                 struct route_match *match, size_t n_captures)
{
    if (path.size == 0) {
        match->n_captures = n_captures;
        return end_here(node, method, match);
    }
    const char *slash = memchr(path.data + 1, '/', path.size - 1);
    const char *end = slash == NULL ? path.data + path.size : slash;
    struct slice segment = {path.data + 1, (size_t)(end - path.data - 1)};
    struct slice rest = {end, (size_t)(path.data + path.size - end)};
    for (const struct node *below = node->children; below != NULL; below = below->next) {
        if (!fits(below, segment)) continue;
        size_t n = n_captures;
        if (below->is_capture)
            match->captures[n++] = (struct slice){segment.data, segment.size - below->literal.size};
        if (find(below, method, rest, match, n)) return true;
    }
    return false;
}

void route_table_find(const struct route_table *table, enum net_method method, struct slice path,
                      struct route_match *ret)
{
    ret->route = NULL;
    ret->methods = 0;
    ret->n_captures = 0;
    if (path.size == 0 || path.data[0] != '/') return;
    if (!find(&table->root, method, path, ret, 0)) ret->route = NULL;
}
