/* SPDX-License-Identifier: Apache-2.0 */
/* csv.h - RFC 4180: where a record ends, and what cells it has.
 *
 * A quote counts only as the first byte of a cell; elsewhere it is a byte like another, as most
 * programs that write CSV expect. Inside quotes "" is a quote, and commas and line ends are text. */
#ifndef TIDEMILL_FORMAT_CSV_H
#define TIDEMILL_FORMAT_CSV_H

#include "base/base.h"

enum csv_state { CSV_CELL_START, CSV_PLAIN, CSV_QUOTED, CSV_QUOTE_IN_QUOTED };

/* Looks for the '\n' that ends the record and returns it; NULL: not in [p, end), go on with what
 * follows and the same *state (CSV_CELL_START at a record's first byte). Adds the line ends that
 * are text to *lines. */
const char *csv_find_end(const char *p, const char *end, enum csv_state *state, uint64_t *lines);

/* Cuts a record into cells. Stores the first `capacity` of them; *ret_n counts all. A cell with ""
 * inside is copied into the arena, others point into the record. NULL, or a static sentence on what
 * is wrong. *is_memory_short: that is what was wrong. */
const char *csv_split(struct slice record, struct slice *cells, size_t capacity,
                      struct arena *arena, size_t *ret_n, bool *is_memory_short);

#endif
