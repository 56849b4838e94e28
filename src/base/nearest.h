/* SPDX-License-Identifier: Apache-2.0 */
/* nearest.h - the known name that a mistyped one is nearest to. */
#ifndef TIDEMILL_BASE_NEAREST_H
#define TIDEMILL_BASE_NEAREST_H

/* Begin with {.typed = name}, show it each name, then `best` is the nearest; NULL: none is near. */
struct nearest {
    const char *typed, *best;
    unsigned distance; /* of the best; 0: there is none yet */
};
void nearest_try(struct nearest *nearest, const char *name);

#endif
