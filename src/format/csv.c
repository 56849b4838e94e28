/* SPDX-License-Identifier: Apache-2.0 */
/* csv.c - the grammar of RFC 4180: memchr where no quotes are, a small machine where they are. */
#include "format/csv.h"

static const char *find(const char *p, const char *end, int byte)
{
    return p == end ? NULL : memchr(p, byte, (size_t)(end - p));
}

static uint64_t count_lines(const char *p, const char *end)
{
    uint64_t count = 0;
    while ((p = find(p, end, '\n')) != NULL) {
        count++;
        p++;
    }
    return count;
}

/* The machine, from a record that has a quote somewhere. */
static const char *find_end_quoted(const char *p, const char *end, enum csv_state *state,
                                   uint64_t *lines)
{
    while (p < end) {
        if (*state == CSV_QUOTED) {
            const char *quote = find(p, end, '"');
            *lines += count_lines(p, quote == NULL ? end : quote);
            if (quote == NULL) return NULL;
            *state = CSV_QUOTE_IN_QUOTED;
            p = quote + 1;
            continue;
        }
        char c = *p;
        if (c == '\n') return p;
        if (c == '"' && *state != CSV_PLAIN) {
            *state = CSV_QUOTED;
        } else {
            *state = c == ',' ? CSV_CELL_START : CSV_PLAIN;
        }
        p++;
    }
    return NULL;
}

const char *csv_find_end(const char *p, const char *end, enum csv_state *state, uint64_t *lines)
{
    if (*state == CSV_CELL_START || *state == CSV_PLAIN) {
        const char *newline = find(p, end, '\n');
        const char *stop = newline == NULL ? end : newline;
        if (find(p, stop, '"') == NULL) {
            if (stop > p) *state = stop[-1] == ',' ? CSV_CELL_START : CSV_PLAIN;
            return newline;
        }
    }
    return find_end_quoted(p, end, state, lines);
}

/* One cell that begins with a quote at `p`; *ret_next: the comma behind it, or the end. */
static const char *split_quoted(const char *p, const char *end, struct arena *arena,
                                struct slice *cell, const char **ret_next, bool *is_memory_short)
{
    const char *first = ++p, *quote;
    size_t doubled = 0;
    while ((quote = find(p, end, '"')) != NULL && quote + 1 < end && quote[1] == '"') {
        doubled++;
        p = quote + 2;
    }
    if (quote == NULL) return "a quoted cell is never closed";
    *ret_next = quote + 1;
    if (quote + 1 < end && quote[1] != ',') return "text follows a quoted cell";
    *cell = (struct slice){first, (size_t)(quote - first)};
    if (doubled == 0) return NULL;
    char *copy = arena_alloc(arena, cell->size), *out = copy;
    if (copy == NULL) {
        *is_memory_short = true;
        return "out of memory";
    }
    for (p = first; p < quote; p++) {
        *out++ = *p;
        if (*p == '"') p++;
    }
    *cell = (struct slice){copy, (size_t)(out - copy)};
    return NULL;
}

const char *csv_split(struct slice record, struct slice *cells, size_t capacity,
                      struct arena *arena, size_t *ret_n, bool *is_memory_short)
{
    const char *p = record.data, *end = p + record.size;
    *ret_n = 0;
    *is_memory_short = false;
    if (record.size > 0 && memchr(p, '\0', record.size) != NULL) return "it has a NUL byte";
    for (;;) {
        struct slice cell, ignored;
        struct slice *place = *ret_n < capacity ? &cells[*ret_n] : &ignored;
        if (p < end && *p == '"') {
            const char *error = split_quoted(p, end, arena, &cell, &p, is_memory_short);
            if (error != NULL) return error;
        } else {
            const char *first = p;
            while (p < end && *p != ',') p++;
            cell = (struct slice){first, (size_t)(p - first)};
        }
        *place = cell;
        (*ret_n)++;
        if (p == end) return NULL;
        p++; /* the comma; behind it there is one more cell, maybe an empty one */
    }
}
