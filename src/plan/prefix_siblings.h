/* SPDX-License-Identifier: Apache-2.0 */
/* prefix_siblings.h - the order of siblings in the trie of sorted items. */
#ifndef TIDEMILL_PLAN_PREFIX_SIBLINGS_H
#define TIDEMILL_PLAN_PREFIX_SIBLINGS_H

#include "plan/prefix.h"

struct trie_node;
struct trie_step;
struct trie_child;

/* Room for one trie at a time. */
struct siblings {
    struct arena arena;
    struct trie_node *nodes;
    struct trie_step *steps;
    struct trie_child *children; /* of one node */
    uint32_t *open;              /* the nodes that the present item lies in */
};

/* For tries of at most `most` items. */
tidemill_error *siblings_open(struct siblings *siblings, size_t most);
void siblings_close(struct siblings *siblings);

/* Sorted items, each with what it shares with the one before it -> the same items depth first: at each
 * node the subtrees that share most inside come first, equal ones as they were, then the single items.
 * What is shared in all stays the same. new_shared[0] is 0, whatever shared[0] is. */
void siblings_arrange(struct siblings *siblings, const uint32_t *order, const uint32_t *shared,
                      uint32_t n, uint32_t *new_order, uint32_t *new_shared);

#endif
