/* SPDX-License-Identifier: Apache-2.0 */
/* duplicates.h - which ids a job has seen: 128-bit digests of the ids in an open-addressing table,
 * with the line of the first one. Memory grows with the number of records (24 bytes each, at most
 * three quarters full), which is why --duplicate-ids error has to be asked for. */
#ifndef TIDEMILL_JOB_DUPLICATES_H
#define TIDEMILL_JOB_DUPLICATES_H

#include "base/base.h"

struct id_set;

struct id_set *id_set_new(void); /* NULL when out of memory */
void id_set_free(struct id_set *set);
/* Adds the id. *ret_first_line is 0 when it is new, else the line that it was first seen on. */
tidemill_error *id_set_add(struct id_set *set, struct slice id, uint64_t line,
                           uint64_t *ret_first_line);

#endif
