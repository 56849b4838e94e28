/* SPDX-License-Identifier: Apache-2.0 */
/* prefix_sort.h - items in the order of their units, and what neighbours have in common. */
#ifndef TIDEMILL_PLAN_PREFIX_SORT_H
#define TIDEMILL_PLAN_PREFIX_SORT_H

#include "plan/prefix.h"

/* Fills `order` with the numbers of the n items in the order of their units (a prefix before what it
 * begins; equal ones as they came), and shared[i] with the units that place i has in common with place
 * i - 1; shared[0] is 0. Needs 32 bytes an item meanwhile. */
tidemill_error *prefix_sort(const struct prefix_item *items, size_t n, uint32_t unit_bytes,
                            uint32_t *order, uint32_t *shared);

/* Units that two items have in common at their beginning; looks no further than `most`. */
uint32_t prefix_common_units(const struct prefix_item *a, const struct prefix_item *b,
                             uint32_t unit_bytes, uint32_t most);

#endif
