/* SPDX-License-Identifier: Apache-2.0 */
/* prefix_cache.h - a simulated prefix cache: which blocks of which prompts it would have had.
 *
 * A block is known by all that stands before it: it is a node of the trie of all requests. The cache
 * holds a number of blocks and drops the one that was used least recently; of one request the later
 * blocks count as used before the earlier ones, so that a block never goes before what follows it.
 * Requests come one after another. */
#ifndef TIDEMILL_BENCH_PREFIX_CACHE_H
#define TIDEMILL_BENCH_PREFIX_CACHE_H

#include <stddef.h>
#include <stdint.h>

/* Requests as paths of nodes: request i has nodes[first[i] .. first[i + 1]). */
struct block_paths {
    uint32_t *nodes;
    size_t *first;
    size_t n_requests, n_blocks;
    uint32_t n_nodes; /* distinct prefix blocks: what must be computed at least */
    size_t longest;   /* request, in blocks */
};

/* `ids`: blocks of all requests one after another, request i at first[i]; borrowed. */
void block_paths_make(const uint32_t *ids, size_t *first, size_t n_requests,
                      struct block_paths *ret);
void block_paths_free(struct block_paths *paths);

/* Blocks found in a cache of `capacity` blocks, at least the longest request, if the requests come in
 * this order. */
size_t prefix_cache_hits(const struct block_paths *paths, const uint32_t *order, size_t capacity);

#endif
