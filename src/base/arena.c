/* SPDX-License-Identifier: Apache-2.0 */
/* arena.c - blocks that double up to 1 MiB; a larger object gets a block of its own. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES_MIN ((size_t)16 << 10)
#define BLOCK_BYTES_MAX ((size_t)1 << 20)

struct arena_block {
    struct arena_block *next;
    size_t capacity;
    _Alignas(16) unsigned char bytes[];
};

static struct arena_block *add_block(struct arena *arena, size_t size)
{
    size_t capacity = arena->blocks == NULL ? BLOCK_BYTES_MIN : arena->blocks->capacity * 2;
    if (capacity > BLOCK_BYTES_MAX) capacity = BLOCK_BYTES_MAX;
    if (capacity < size) capacity = size;
    struct arena_block *block = malloc(sizeof *block + capacity);
    if (block == NULL) return NULL;
    block->capacity = capacity;
    block->next = arena->blocks;
    arena->blocks = block;
    arena->used = 0;
    return block;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    if (size > SIZE_MAX / 2) return NULL;
    size = (size + 15) & ~(size_t)15;
    struct arena_block *block = arena->blocks;
    if (block == NULL || block->capacity - arena->used < size) {
        block = add_block(arena, size);
        if (block == NULL) return NULL;
    }
    void *memory = block->bytes + arena->used;
    arena->used += size;
    return memory;
}

void *arena_calloc(struct arena *arena, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) return NULL;
    void *memory = arena_alloc(arena, total);
    if (memory != NULL) memset(memory, 0, total);
    return memory;
}

char *arena_copy(struct arena *arena, const void *data, size_t size)
{
    if (size == SIZE_MAX) return NULL;
    char *copy = arena_alloc(arena, size + 1);
    if (copy == NULL) return NULL;
    if (size > 0) memcpy(copy, data, size);
    copy[size] = '\0';
    return copy;
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    char *text = length < 0 ? NULL : arena_alloc(arena, (size_t)length + 1);
    if (text != NULL) vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    va_end(arguments);
    return text;
}

void arena_reset(struct arena *arena)
{
    struct arena_block *kept = NULL;
    for (struct arena_block *block = arena->blocks, *next; block != NULL; block = next) {
        next = block->next;
        bool is_better = kept == NULL || block->capacity > kept->capacity;
        if (block->capacity <= BLOCK_BYTES_MAX && is_better) {
            free(kept);
            kept = block;
        } else {
            free(block);
        }
    }
    if (kept != NULL) kept->next = NULL;
    arena->blocks = kept;
    arena->used = 0;
}

void arena_free(struct arena *arena)
{
    for (struct arena_block *block = arena->blocks, *next; block != NULL; block = next) {
        next = block->next;
        free(block);
    }
    *arena = (struct arena){0};
}
