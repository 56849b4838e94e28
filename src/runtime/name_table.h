/* SPDX-License-Identifier: Apache-2.0 */
/* name_table.h - from names to small numbers, for a graph with many of them. Names are borrowed. All
 * zero is a valid empty table. */
#ifndef TIDEMILL_RUNTIME_NAME_TABLE_H
#define TIDEMILL_RUNTIME_NAME_TABLE_H

#include "base/base.h"

#define NAME_NONE UINT32_MAX

struct name_entry;

struct name_table {
    struct name_entry *entries;
    size_t n, capacity; /* a power of two, at most three quarters in use */
};

/* What the name stands for; NAME_NONE: it is not there. */
uint32_t name_table_get(const struct name_table *table, struct slice name);
/* Adds the name, or changes what it stands for. */
tidemill_error *name_table_put(struct name_table *table, struct slice name, uint32_t value);
void name_table_free(struct name_table *table);

#endif
