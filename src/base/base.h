/* SPDX-License-Identifier: Apache-2.0 */
/* base.h - the way into the room that every other room stands on. It knows nothing of inference. */
#ifndef TIDEMILL_BASE_BASE_H
#define TIDEMILL_BASE_BASE_H

#include "base/arena.h"   /* memory that dies with its chunk */
#include "base/buffer.h"  /* bytes that grow */
#include "base/clock.h"   /* time, handed in where it matters */
#include "base/error.h"   /* errors as values */
#include "base/hash.h"    /* fingerprints and checksums */
#include "base/log.h"     /* lines for people and for machines */
#include "base/nearest.h" /* the name that was meant */
#include "base/queue.h"   /* where threads meet */
#include "base/units.h"   /* sizes and times as people write them */

#include <stddef.h>
#include <stdint.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* Bytes that somebody else owns; not ended by a NUL. */
struct slice {
    const char *data;
    size_t size;
};

/* Runs `function(&variable)` when the variable goes out of scope. */
#define CLEANUP(function) __attribute__((cleanup(function)))

/* Checked arithmetic on sizes: true means it overflowed, and *result is not to be used. */
static inline bool size_mul(size_t a, size_t b, size_t *result)
{
    return __builtin_mul_overflow(a, b, result);
}

static inline bool size_add(size_t a, size_t b, size_t *result)
{
    return __builtin_add_overflow(a, b, result);
}

#endif
