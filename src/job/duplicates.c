/* SPDX-License-Identifier: Apache-2.0 */
/* duplicates.c - linear probing over digests; the digest is its own hash. */
#include "job/duplicates.h"

#include <stdlib.h>

#define ENTRIES_MIN ((size_t)1 << 12)

struct entry {
    struct digest id;
    uint64_t line; /* 0: empty */
};

struct id_set {
    struct entry *entries;
    size_t n_entries; /* a power of two */
    size_t n_used;
};

struct id_set *id_set_new(void)
{
    struct id_set *set = calloc(1, sizeof *set);
    if (set == NULL) return NULL;
    set->n_entries = ENTRIES_MIN;
    set->entries = calloc(set->n_entries, sizeof *set->entries);
    if (set->entries == NULL) {
        free(set);
        return NULL;
    }
    return set;
}

void id_set_free(struct id_set *set)
{
    if (set == NULL) return;
    free(set->entries);
    free(set);
}

/* Where the id is, or where it would go. */
static struct entry *find(struct entry *entries, size_t n_entries, struct digest id)
{
    size_t place = id.low & (n_entries - 1);
    while (entries[place].line != 0 && !digest_equal(entries[place].id, id))
        place = (place + 1) & (n_entries - 1);
    return &entries[place];
}

static tidemill_error *grow(struct id_set *set)
{
    size_t n_entries = set->n_entries * 2;
    struct entry *entries = calloc(n_entries, sizeof *entries);
    if (entries == NULL) return error_memory();
    for (size_t i = 0; i < set->n_entries; i++)
        if (set->entries[i].line != 0)
            *find(entries, n_entries, set->entries[i].id) = set->entries[i];
    free(set->entries);
    set->entries = entries;
    set->n_entries = n_entries;
    return NULL;
}

tidemill_error *id_set_add(struct id_set *set, struct slice id, uint64_t line,
                           uint64_t *ret_first_line)
{
    if (set->n_used >= set->n_entries / 4 * 3) TRY(grow(set));
    struct digest digest = hash_bytes(id.data, id.size);
    struct entry *entry = find(set->entries, set->n_entries, digest);
    *ret_first_line = entry->line;
    if (entry->line != 0) return NULL;
    *entry = (struct entry){.id = digest, .line = line};
    set->n_used++;
    return NULL;
}
