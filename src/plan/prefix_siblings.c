/* SPDX-License-Identifier: Apache-2.0 */
/* prefix_siblings.c - builds the trie from what neighbours share, and walks it depth first.
 *
 * A node is a range of sorted items that share at least `depth` units, and more than its parent's.
 * Only nodes where items part are made, so there are fewer of them than items. Nothing here recurses:
 * a trie may be as deep as it has items. */
#include "plan/prefix_siblings.h"

#include <assert.h>
#include <stdlib.h>

#define NO_NODE UINT32_MAX
#define NOTHING_BEFORE UINT32_MAX

struct trie_node {
    uint64_t shared; /* units shared inside; while it is open: shared by all items before it */
    uint32_t depth;
    uint32_t first, end; /* its items */
    uint32_t last_child; /* children are listed from the last to the first */
    uint32_t sibling_before;
};

struct trie_step {
    uint32_t node;
    uint32_t depth;  /* of the node that the step goes out from */
    bool is_singles; /* its subtrees are done, what is left are items of no subtree */
};

struct trie_child {
    uint64_t shared;
    uint32_t first;
    uint32_t node;
};

/* Where the walk has come to. */
struct walk {
    const uint32_t *order;
    uint32_t *new_order, *new_shared;
    uint32_t n_placed;
    uint32_t shared; /* between the item placed last and what comes next, as far as is known */
};

tidemill_error *siblings_open(struct siblings *siblings, size_t most)
{
    struct arena *arena = &siblings->arena;
    siblings->nodes = arena_calloc(arena, most + 1, sizeof *siblings->nodes);
    siblings->steps = arena_calloc(arena, most + 1, sizeof *siblings->steps);
    siblings->open = arena_calloc(arena, most + 1, sizeof *siblings->open);
    /* A node has at least two items. */
    siblings->children = arena_calloc(arena, most / 2 + 1, sizeof *siblings->children);
    bool has_all = siblings->nodes != NULL && siblings->steps != NULL && siblings->open != NULL &&
                   siblings->children != NULL;
    return has_all ? NULL : error_memory();
}

void siblings_close(struct siblings *siblings)
{
    arena_free(&siblings->arena);
}

static void add_child(struct trie_node *nodes, uint32_t parent, uint32_t child)
{
    nodes[child].sibling_before = nodes[parent].last_child;
    nodes[parent].last_child = child;
}

/* The innermost node is complete: item `end` is not in it. Returns it. */
static uint32_t close_node(struct trie_node *nodes, uint32_t node, uint32_t end, uint64_t shared)
{
    nodes[node].end = end;
    nodes[node].shared = shared - nodes[node].shared;
    return node;
}

/* Node 0 is the root. Item i closes the nodes that are deeper than what it shares with the one before,
 * and opens one of that depth unless there is one; it begins where the last one closed did. */
static void build(struct siblings *siblings, const uint32_t *shared, uint32_t n)
{
    struct trie_node *nodes = siblings->nodes;
    uint32_t *open = siblings->open, n_nodes = 1, last = 0; /* open[last]: the innermost */
    uint64_t sum = 0;
    nodes[0] = (struct trie_node){.end = n, .last_child = NO_NODE};
    open[0] = 0;
    for (uint32_t i = 1; i <= n; i++) {
        uint32_t depth = i < n ? shared[i] : 0;
        struct trie_node node = {.shared = sum, .depth = depth, .first = i - 1};
        uint32_t closed = NO_NODE;
        node.last_child = node.sibling_before = NO_NODE;
        while (nodes[open[last]].depth > depth) {
            if (closed != NO_NODE) add_child(nodes, open[last], closed);
            node.shared = nodes[open[last]].shared;
            node.first = nodes[open[last]].first;
            closed = close_node(nodes, open[last--], i, sum);
        }
        if (nodes[open[last]].depth < depth) {
            assert(n_nodes < n);
            nodes[n_nodes] = node;
            open[++last] = n_nodes++;
        }
        if (closed != NO_NODE) add_child(nodes, open[last], closed);
        sum += depth;
    }
}

/* Fills siblings->children in the order of their items; returns how many there are. */
static uint32_t list_children(struct siblings *siblings, uint32_t node)
{
    const struct trie_node *nodes = siblings->nodes;
    uint32_t n = 0, at;
    for (uint32_t c = nodes[node].last_child; c != NO_NODE; c = nodes[c].sibling_before) n++;
    at = n;
    for (uint32_t c = nodes[node].last_child; c != NO_NODE; c = nodes[c].sibling_before)
        siblings->children[--at] = (struct trie_child){nodes[c].shared, nodes[c].first, c};
    return n;
}

/* Those that share most last, since the last step is taken first; equal ones in reverse. */
static int compare_children(const void *a, const void *b)
{
    const struct trie_child *left = a, *right = b;
    if (left->shared != right->shared) return left->shared < right->shared ? -1 : 1;
    return left->first > right->first ? -1 : left->first < right->first;
}

static void place(struct walk *walk, uint32_t from, uint32_t end, uint32_t depth)
{
    for (uint32_t i = from; i < end; i++) {
        walk->new_order[walk->n_placed] = walk->order[i];
        walk->new_shared[walk->n_placed] = walk->n_placed == 0 ? 0 : MIN(walk->shared, depth);
        walk->n_placed++;
        walk->shared = NOTHING_BEFORE;
    }
}

/* Items of a node that are in none of its children. */
static void place_singles(struct siblings *siblings, uint32_t node, struct walk *walk)
{
    const struct trie_node *nodes = siblings->nodes;
    uint32_t from = nodes[node].first, n_children = list_children(siblings, node);
    for (uint32_t c = 0; c < n_children; c++) {
        const struct trie_node *child = &nodes[siblings->children[c].node];
        place(walk, from, child->first, nodes[node].depth);
        from = child->end;
    }
    place(walk, from, nodes[node].end, nodes[node].depth);
}

void siblings_arrange(struct siblings *siblings, const uint32_t *order, const uint32_t *shared,
                      uint32_t n, uint32_t *new_order, uint32_t *new_shared)
{
    struct walk walk = {order, new_order, new_shared, 0, NOTHING_BEFORE};
    struct trie_step *steps = siblings->steps;
    uint32_t n_steps = 0;
    build(siblings, shared, n);
    steps[n_steps++] = (struct trie_step){.node = 0, .depth = NOTHING_BEFORE};
    while (n_steps > 0) {
        struct trie_step step = steps[--n_steps];
        uint32_t depth = siblings->nodes[step.node].depth;
        walk.shared = MIN(walk.shared, step.depth);
        if (step.is_singles) {
            place_singles(siblings, step.node, &walk);
            continue;
        }
        uint32_t n_children = list_children(siblings, step.node);
        qsort(siblings->children, n_children, sizeof *siblings->children, compare_children);
        steps[n_steps++] = (struct trie_step){step.node, depth, true};
        for (uint32_t c = 0; c < n_children; c++)
            steps[n_steps++] = (struct trie_step){siblings->children[c].node, depth, false};
    }
    assert(walk.n_placed == n);
}
