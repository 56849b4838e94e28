/* SPDX-License-Identifier: Apache-2.0 */
/* name_table.c - a hash table with open addressing; nothing is ever taken out. */
#include "runtime/name_table.h"

#include <stdlib.h>

#define CAPACITY_FIRST 64

struct name_entry {
    struct slice name; /* data NULL: the place is free */
    uint64_t hash;
    uint32_t value;
};

/* The name's entry, or the free place where it belongs. The table is never full. */
static struct name_entry *find(struct name_entry *entries, size_t capacity, uint64_t hash,
                               struct slice name)
{
    for (size_t i = (size_t)hash & (capacity - 1);; i = (i + 1) & (capacity - 1)) {
        struct name_entry *entry = &entries[i];
        if (entry->name.data == NULL) return entry;
        if (entry->hash == hash && entry->name.size == name.size &&
            memcmp(entry->name.data, name.data, name.size) == 0)
            return entry;
    }
}

static tidemill_error *grow(struct name_table *table)
{
    size_t capacity = table->capacity == 0 ? CAPACITY_FIRST : 2 * table->capacity;
    struct name_entry *entries = calloc(capacity, sizeof *entries);
    if (entries == NULL) return error_memory();
    for (size_t i = 0; i < table->capacity; i++) {
        const struct name_entry *entry = &table->entries[i];
        if (entry->name.data != NULL) *find(entries, capacity, entry->hash, entry->name) = *entry;
    }
    free(table->entries);
    table->entries = entries;
    table->capacity = capacity;
    return NULL;
}

uint32_t name_table_get(const struct name_table *table, struct slice name)
{
    if (table->capacity == 0 || name.data == NULL) return NAME_NONE;
    uint64_t hash = hash_checksum(name.data, name.size);
    const struct name_entry *entry = find(table->entries, table->capacity, hash, name);
    return entry->name.data != NULL ? entry->value : NAME_NONE;
}

tidemill_error *name_table_put(struct name_table *table, struct slice name, uint32_t value)
{
    if (4 * (table->n + 1) > 3 * table->capacity) TRY(grow(table));
    if (name.data == NULL) name = (struct slice){"", 0};
    uint64_t hash = hash_checksum(name.data, name.size);
    struct name_entry *entry = find(table->entries, table->capacity, hash, name);
    table->n += entry->name.data == NULL;
    *entry = (struct name_entry){.name = name, .hash = hash, .value = value};
    return NULL;
}

void name_table_free(struct name_table *table)
{
    free(table->entries);
    *table = (struct name_table){0};
}
