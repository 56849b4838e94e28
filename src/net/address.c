/* SPDX-License-Identifier: Apache-2.0 */
/* address.c - how many connections each address has: a hash table with as many entries as addresses are
 * connected, under a lock, and there only where such a limit was asked for. */
#include "net/impl.h"

#include <stdlib.h>

#define BUCKETS 1024

struct entry {
    struct entry *next;
    struct in6_addr address;
    size_t n;
};

struct address_table {
    pthread_mutex_t lock;
    size_t limit;
    struct entry *buckets[BUCKETS];
};

tidemill_error *address_table_new(size_t limit, struct address_table **ret)
{
    struct address_table *table = calloc(1, sizeof *table);
    if (table == NULL) return error_memory();
    pthread_mutex_init(&table->lock, NULL);
    table->limit = limit;
    *ret = table;
    return NULL;
}

static struct entry **place_of(struct address_table *table, const struct in6_addr *address)
{
    struct entry **place = &table->buckets[hash_checksum(address, sizeof *address) % BUCKETS];
    while (*place != NULL && memcmp(&(*place)->address, address, sizeof *address) != 0)
        place = &(*place)->next;
    return place;
}

bool address_add(struct address_table *table, const struct in6_addr *address)
{
    bool is_added = false;
    pthread_mutex_lock(&table->lock);
    struct entry **place = place_of(table, address);
    if (*place == NULL && (*place = calloc(1, sizeof **place)) != NULL)
        (*place)->address = *address;
    if (*place != NULL && (*place)->n < table->limit) {
        (*place)->n++;
        is_added = true;
    }
    pthread_mutex_unlock(&table->lock);
    return is_added;
}

void address_remove(struct address_table *table, const struct in6_addr *address)
{
    pthread_mutex_lock(&table->lock);
    struct entry **place = place_of(table, address), *entry = *place;
    if (entry != NULL && --entry->n == 0) {
        *place = entry->next;
        free(entry);
    }
    pthread_mutex_unlock(&table->lock);
}

void address_table_free(struct address_table *table)
{
    if (table == NULL) return;
    for (size_t i = 0; i < BUCKETS; i++) {
        while (table->buckets[i] != NULL) {
            struct entry *next = table->buckets[i]->next;
            free(table->buckets[i]);
            table->buckets[i] = next;
        }
    }
    pthread_mutex_destroy(&table->lock);
    free(table);
}
