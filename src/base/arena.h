/* SPDX-License-Identifier: Apache-2.0 */
/* arena.h - bump allocation for what lives as long as one chunk: no free per object, no malloc per
 * record once warm. Not thread-safe: an arena has one owner at a time. */
#ifndef TIDEMILL_BASE_ARENA_H
#define TIDEMILL_BASE_ARENA_H

#include <stddef.h>

struct arena_block;

/* All zero is a valid empty arena. */
struct arena {
    struct arena_block *blocks; /* newest first */
    size_t used;                /* in the newest block */
};

/* `size` bytes aligned to 16, not zeroed; NULL when out of memory. */
void *arena_alloc(struct arena *arena, size_t size);
void *arena_calloc(struct arena *arena, size_t count, size_t size);
/* Copy of `size` bytes followed by a NUL; NULL when out of memory. */
char *arena_copy(struct arena *arena, const void *data, size_t size);
/* printf into the arena; NULL when out of memory. */
char *arena_printf(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Forgets everything but keeps one block of memory (at most 1 MiB) for the next use. */
void arena_reset(struct arena *arena);
void arena_free(struct arena *arena);

#endif
