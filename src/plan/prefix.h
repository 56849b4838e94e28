/* SPDX-License-Identifier: Apache-2.0 */
/* prefix.h - an order of prompts in which a prefix cache computes each shared prefix once.
 *
 * An engine with a prefix cache computes a prompt only from where it differs from what it has cached.
 * All prompts of a job form a trie, and visiting it depth first is best whenever the cache holds the
 * longest prompt (SGLang, arXiv 2312.07104, theorem 3.1): each node of the trie is computed once.
 * Sorted prompts are such an order. What is free is the order of siblings: the one whose items share
 * most comes first, single items last. Pure, as the whole room is. */
#ifndef TIDEMILL_PLAN_PREFIX_H
#define TIDEMILL_PLAN_PREFIX_H

#include "base/base.h"

/* A prompt as an array of units: bytes, or ids of tokens or blocks in the machine's byte order. It is
 * borrowed and need not be aligned; items may share memory, which makes their comparison quick. */
struct prefix_item {
    const void *units; /* may be NULL if n_units is 0 */
    uint32_t n_units;
    uint32_t
        cost; /* expected work besides its units, counted in units: say, tokens to be generated */
};

struct prefix_options {
    uint32_t unit_bytes;      /* 1, 4 or 8 */
    uint32_t block_units;     /* an engine reuses whole blocks of so many units; 1: any length */
    uint32_t group_min_units; /* neighbours that share fewer are of two groups; 0: block_units */
};

/* Items order[first .. first + count): what one of them computes, others of it can use. */
struct prefix_group {
    uint32_t first, count;
    uint64_t total_units;  /* of its items */
    uint64_t shared_units; /* of these, what is shared inside the group */
    uint64_t cost;         /* sum of its items' */
};

struct prefix_plan {
    uint32_t *order;                /* numbers of items in the order of execution */
    uint32_t *shared_with_previous; /* by place in `order`: units in common with the item before,
                                       rounded down to whole blocks */
    size_t n;
    struct prefix_group *groups; /* the one with the most work first, so that the tail is short */
    size_t n_groups;
    uint64_t total_units;  /* of all items */
    uint64_t shared_units; /* sum of shared_with_previous: what a cache of one path saves */
};

/* Orders `n` items, fewer than 2^32. The plan is a function of the items alone. Equal items of a group
 * keep their input order; but for which of equal items comes where, the input order does not matter.
 *
 * Within a group the order is depth first. With group_min_units <= block_units groups have no block in
 * common, so shared_units is the most that any order can give: all whole blocks but the distinct ones.
 * Each group beyond the first costs less than group_min_units where that is larger.
 *
 * Takes O(n log n) steps and compares as many units as neighbours share, whatever the items are.
 * Allocates the plan from `arena`: 8 bytes an item, 32 a group; needs up to 64 bytes an item more
 * meanwhile. Fails for want of memory only. */
tidemill_error *plan_prefix_order(const struct prefix_item *items, size_t n,
                                  const struct prefix_options *options, struct arena *arena,
                                  struct prefix_plan *ret);

/* Cuts a plan for `n_workers` (>= 1) that have a cache each: worker k takes the places
 * [cuts[k], cuts[k + 1]) of plan->order; `cuts` has n_workers + 1 elements. A range may be empty.
 *
 * An item's work is what it does not share with the one before, plus its cost. A cut falls where least
 * is shared within `slack_percent` (at most 25) of a worker's even part around the even place, so a
 * worker's work is at most (1 + 2 slack) * total / n_workers + 2 * the largest n_units + cost of an
 * item. Returns the units that are computed again: what is shared across the cuts. */
uint64_t plan_prefix_cut(const struct prefix_item *items, const struct prefix_plan *plan,
                         uint32_t n_workers, uint32_t slack_percent, uint32_t *cuts);

#endif
