/* SPDX-License-Identifier: Apache-2.0 */
/* prefix_sort.c - merge sort that carries along how much each item shares with the one before it.
 *
 * LCP merge sort (Ng and Kakehi, "Merging string sequences by longest common prefixes", 2008): of the
 * heads of two runs, the one that shares more with the item written last comes first; only if both
 * share the same is there something to compare, and from there on. The one that loses then shares as
 * much more as was read, and that never shrinks: all comparisons together go over each item once at
 * most, and not beyond what it shares with its final neighbour. The word at which an item will be
 * compared next is kept beside it, so that most steps do not touch the item at all.
 *
 * Units are compared eight bytes at a time, as if zeros followed each item. That is the right order,
 * since no unit is less than zero; only where the padding takes part must lengths be looked at. */
#include "plan/prefix_sort.h"

#include <string.h>

#define WORD_BYTES 8
#define LINE_BYTES 64
#define AHEAD_BYTES 512

struct key {
    uint64_t word;   /* the one that unit number `shared` lies in; compares as the units do */
    uint32_t shared; /* units in common with the key before it in its run */
    uint32_t item;
};

struct sorter {
    const struct prefix_item *items;
    uint32_t unit_bytes;
    uint32_t units_a_word;
    uint32_t unit_bits, unit_bits_log2;
};

static uint64_t load(const char *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

/* As it lies in memory -> the first unit in the highest bits. */
static uint64_t comparable(uint64_t word, uint32_t unit_bytes)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (unit_bytes == 1) return __builtin_bswap64(word);
    if (unit_bytes == 4) return word << 32 | word >> 32;
#else
    (void)unit_bytes;
#endif
    return word;
}

static size_t size_of(const struct prefix_item *item, uint32_t unit_bytes)
{
    return (size_t)item->n_units * unit_bytes;
}

static uint64_t word_at(const struct prefix_item *item, uint32_t unit_bytes, size_t index)
{
    size_t size = size_of(item, unit_bytes), at = index * WORD_BYTES;
    const char *bytes = item->units;
    uint64_t word = 0;
    if (at < size) memcpy(&word, bytes + at, MIN(size - at, (size_t)WORD_BYTES));
    return comparable(word, unit_bytes);
}

static bool is_equal_line(const char *a, const char *b)
{
    uint64_t difference = 0;
    for (size_t i = 0; i < LINE_BYTES; i += WORD_BYTES) difference |= load(a + i) ^ load(b + i);
    return difference == 0;
}

/* The first word from `index` on that is not the same in both and is wholly in both. */
static size_t skip_equal_words(const struct prefix_item *a, const struct prefix_item *b,
                               uint32_t unit_bytes, size_t index)
{
    size_t end = size_of(a->n_units < b->n_units ? a : b, unit_bytes) / WORD_BYTES * WORD_BYTES;
    size_t at = index * WORD_BYTES;
    const char *left = a->units, *right = b->units;
    if (left == right) return MAX(at, end) / WORD_BYTES;
    for (size_t ahead = at; ahead < MIN(at + AHEAD_BYTES, end); ahead += LINE_BYTES) {
        __builtin_prefetch(left + ahead);
        __builtin_prefetch(right + ahead);
    }
    for (; at + LINE_BYTES <= end && is_equal_line(left + at, right + at); at += LINE_BYTES) {
        /* The two are not in a cache, and what follows is likely to be the same too. */
        __builtin_prefetch(left + MIN(at + AHEAD_BYTES, end));
        __builtin_prefetch(right + MIN(at + AHEAD_BYTES, end));
    }
    while (at < end && load(left + at) == load(right + at)) at += WORD_BYTES;
    return at / WORD_BYTES;
}

/* The loser's word, numbered `index`, is greater than the winner's. Where they part, the winner may
 * have ended: then the unit that it seems to have there is padding. */
static inline void part(const struct sorter *sorter, const struct key *winner, uint64_t winner_word,
                        struct key *loser, size_t index)
{
    uint32_t bit = (uint32_t)__builtin_clzll(winner_word ^ loser->word);
    uint32_t same = bit >> sorter->unit_bits_log2;
    uint64_t unit = winner_word << (same << sorter->unit_bits_log2) >> (64 - sorter->unit_bits);
    loser->shared = (uint32_t)index * sorter->units_a_word + same;
    if (unit == 0) loser->shared = MIN(loser->shared, sorter->items[winner->item].n_units);
}

/* Both share the same with the key written last, and their next words are equal, padding included. The
 * winner's key stays as it is: it still tells what it shares with its predecessor. */
__attribute__((noinline)) static bool is_right_first_beyond(const struct sorter *sorter,
                                                            struct key *left, struct key *right)
{
    const struct prefix_item *a = &sorter->items[left->item], *b = &sorter->items[right->item];
    uint32_t shorter = MIN(a->n_units, b->n_units);
    size_t index = left->shared / sorter->units_a_word;
    uint64_t l = left->word, r = right->word;
    if ((index + 1) * sorter->units_a_word <= shorter) {
        index = skip_equal_words(a, b, sorter->unit_bytes, index + 1);
        l = word_at(a, sorter->unit_bytes, index);
        r = word_at(b, sorter->unit_bytes, index);
    }
    bool is_right_first = l == r ? b->n_units < a->n_units : r < l;
    struct key *winner = is_right_first ? right : left, *loser = is_right_first ? left : right;
    loser->word = MAX(l, r);
    if (l == r)
        loser->shared = shorter;
    else
        part(sorter, winner, MIN(l, r), loser, index);
    return is_right_first;
}

/* Which head comes first; the other one then knows what it shares with that. */
static inline bool is_right_first(const struct sorter *sorter, struct key *left, struct key *right)
{
    if (left->shared != right->shared) return right->shared > left->shared;
    if (left->word == right->word) return is_right_first_beyond(sorter, left, right);
    bool is_first = right->word < left->word;
    struct key *winner = is_first ? right : left, *loser = is_first ? left : right;
    part(sorter, winner, winner->word, loser, left->shared / sorter->units_a_word);
    return is_first;
}

/* Runs from[0 .. half) and from[half .. n) -> to[0 .. n). */
static void merge(const struct sorter *sorter, struct key *from, size_t half, size_t n,
                  struct key *to)
{
    struct key *left = from, *left_end = from + half, *right = left_end, *right_end = from + n;
    while (left < left_end && right < right_end)
        *to++ = is_right_first(sorter, left, right) ? *right++ : *left++;
    if (left < left_end) memcpy(to, left, (size_t)(left_end - left) * sizeof *to);
    if (right < right_end) memcpy(to, right, (size_t)(right_end - right) * sizeof *to);
}

/* Both arrays hold the same at first; `to` is sorted then. As deep as n has bits, so at most 32. */
static void sort_keys(const struct sorter *sorter, struct key *from, struct key *to, size_t n)
{
    size_t half = n / 2;
    if (half == 0) return;
    sort_keys(sorter, to, from, half);
    sort_keys(sorter, to + half, from + half, n - half);
    merge(sorter, from, half, n, to);
}

tidemill_error *prefix_sort(const struct prefix_item *items, size_t n, uint32_t unit_bytes,
                            uint32_t *order, uint32_t *shared)
{
    CLEANUP(arena_free) struct arena scratch = {0};
    struct key *keys = arena_calloc(&scratch, n, sizeof *keys);
    struct key *spare = arena_calloc(&scratch, n, sizeof *spare);
    struct sorter sorter = {
        .items = items,
        .unit_bytes = unit_bytes,
        .units_a_word = WORD_BYTES / unit_bytes,
        .unit_bits = unit_bytes * 8,
        .unit_bits_log2 = (uint32_t)__builtin_ctz(unit_bytes * 8),
    };
    if (keys == NULL || spare == NULL) return error_memory();
    for (size_t i = 0; i < n; i++)
        spare[i] = keys[i] =
            (struct key){.word = word_at(&items[i], unit_bytes, 0), .item = (uint32_t)i};
    sort_keys(&sorter, spare, keys, n);

    for (size_t i = 0; i < n; i++) {
        order[i] = keys[i].item;
        shared[i] = keys[i].shared;
    }
    return NULL;
}

uint32_t prefix_common_units(const struct prefix_item *a, const struct prefix_item *b,
                             uint32_t unit_bytes, uint32_t most)
{
    struct prefix_item left = {a->units, MIN(a->n_units, most), 0};
    struct prefix_item right = {b->units, MIN(b->n_units, most), 0};
    uint32_t shorter = MIN(left.n_units, right.n_units);
    size_t at = skip_equal_words(&left, &right, unit_bytes, 0) * (WORD_BYTES / unit_bytes);
    for (; at < shorter; at++) {
        const char *l = (const char *)left.units + at * unit_bytes;
        if (memcmp(l, (const char *)right.units + at * unit_bytes, unit_bytes) != 0) break;
    }
    return (uint32_t)at;
}
