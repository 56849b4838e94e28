/* SPDX-License-Identifier: Apache-2.0 */
/* nearest.c - edit distance, for messages about mistyped names. */
#include "base/base.h"

#include <limits.h>
#include <string.h>

#define DISTANCE_MAX 3U /* farther is not a typing error */

/* Levenshtein distance; names longer than the table count as far away. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[64];
    size_t length = strlen(b);
    if (length >= COUNT_OF(row)) return UINT_MAX;
    for (size_t j = 0; j <= length; j++) row[j] = (unsigned)j;
    for (size_t i = 0; a[i] != '\0'; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i + 1;
        for (size_t j = 0; j < length; j++) {
            unsigned replaced = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = MIN(MIN(row[j] + 1, row[j + 1] + 1), replaced);
        }
    }
    return row[length];
}

void nearest_try(struct nearest *nearest, const char *name)
{
    unsigned distance = edit_distance(nearest->typed, name);
    unsigned limit = nearest->best == NULL ? DISTANCE_MAX + 1 : nearest->distance;
    if (distance >= limit || distance >= strlen(nearest->typed)) return;
    nearest->best = name;
    nearest->distance = distance;
}
