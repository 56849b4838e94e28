/* SPDX-License-Identifier: Apache-2.0 */
/* prefix_cache.c - the trie as a hash table of edges, and a cache as a list from new to old. */
#include "prefix_cache.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

static void *make(size_t count, size_t size)
{
    void *memory = calloc(count + 1, size);
    if (memory == NULL) {
        fputs("prefix_cache: out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

/* --- paths ------------------------------------------------------------------------------------------ */

struct edge {
    uint32_t parent, id, node; /* node 0: free */
};

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void block_paths_make(const uint32_t *ids, size_t *first, size_t n_requests,
                      struct block_paths *ret)
{
    struct block_paths paths = {.first = first, .n_requests = n_requests};
    size_t n_slots = 16;
    paths.n_blocks = first[n_requests];
    while (n_slots < paths.n_blocks * 2) n_slots *= 2;
    struct edge *edges = make(n_slots, sizeof *edges);
    paths.nodes = make(paths.n_blocks, sizeof *paths.nodes);
    for (size_t r = 0; r < n_requests; r++) {
        uint32_t parent = NONE;
        for (size_t b = first[r]; b < first[r + 1]; b++) {
            size_t slot = mix((uint64_t)parent << 32 | ids[b]) & (n_slots - 1);
            while (edges[slot].node != 0 &&
                   (edges[slot].parent != parent || edges[slot].id != ids[b]))
                slot = (slot + 1) & (n_slots - 1);
            if (edges[slot].node == 0) edges[slot] = (struct edge){parent, ids[b], ++paths.n_nodes};
            parent = paths.nodes[b] = edges[slot].node - 1;
        }
        if (first[r + 1] - first[r] > paths.longest) paths.longest = first[r + 1] - first[r];
    }
    free(edges);
    *ret = paths;
}

void block_paths_free(struct block_paths *paths)
{
    free(paths->nodes);
}

/* --- cache ------------------------------------------------------------------------------------------ */

/* A ring through `n_nodes`, which stands for the list's ends: its `newer` is the oldest. */
struct cache {
    uint32_t *newer, *older;
    bool *is_held;
    size_t n_held;
    uint32_t ends;
};

static void take_out(struct cache *cache, uint32_t node)
{
    cache->newer[cache->older[node]] = cache->newer[node];
    cache->older[cache->newer[node]] = cache->older[node];
}

static void put_newest(struct cache *cache, uint32_t node)
{
    uint32_t newest = cache->older[cache->ends];
    cache->older[node] = newest;
    cache->newer[node] = cache->ends;
    cache->newer[newest] = node;
    cache->older[cache->ends] = node;
}

static void drop_oldest(struct cache *cache)
{
    uint32_t oldest = cache->newer[cache->ends];
    take_out(cache, oldest);
    cache->is_held[oldest] = false;
    cache->n_held--;
}

/* Returns how many of the request's blocks were there. */
static size_t serve(struct cache *cache, const uint32_t *nodes, size_t n, size_t capacity)
{
    size_t hits = 0;
    while (hits < n && cache->is_held[nodes[hits]]) take_out(cache, nodes[hits++]);
    while (cache->n_held + (n - hits) > capacity) drop_oldest(cache);
    for (size_t b = n; b-- > 0;) {
        put_newest(cache, nodes[b]);
        cache->is_held[nodes[b]] = true;
    }
    cache->n_held += n - hits;
    return hits;
}

size_t prefix_cache_hits(const struct block_paths *paths, const uint32_t *order, size_t capacity)
{
    struct cache cache = {.ends = paths->n_nodes};
    size_t hits = 0;
    cache.newer = make(paths->n_nodes + 1, sizeof *cache.newer);
    cache.older = make(paths->n_nodes + 1, sizeof *cache.older);
    cache.is_held = make(paths->n_nodes, sizeof *cache.is_held);
    cache.newer[cache.ends] = cache.older[cache.ends] = cache.ends;
    for (size_t i = 0; i < paths->n_requests; i++) {
        size_t first = paths->first[order[i]], n = paths->first[order[i] + 1] - first;
        hits += serve(&cache, paths->nodes + first, n, capacity);
    }
    free(cache.newer);
    free(cache.older);
    free(cache.is_held);
    return hits;
}
