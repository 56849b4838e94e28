/* SPDX-License-Identifier: Apache-2.0 */
/* serving_gather.c - which calls go together, and when. Pure: no clock, no threads.
 *
 * Waiting costs the one who waits, and helps only if somebody else comes meanwhile. Who comes is not
 * known; but callers that wait for answers come back when they have them. So the most calls that were
 * there at once lately are expected again: `peak_calls`, which falls by an eighth with each microbatch.
 *
 *     full                                   now
 *     all hosts are busy                     when one is idle: until then waiting costs nothing
 *     a host is idle, all expected are here  now
 *     else                                   when the first one has waited delay */
#include "server/serving_parts.h"

#include <stdlib.h>

#define SCAN_MAX 4096 /* tickets looked at for a microbatch */

int64_t gather_due_ns(const struct gather *gather, uint32_t n_calls, uint64_t n_rows,
                      int64_t came_ns, uint32_t n_batches, uint32_t n_running)
{
    uint32_t share = (gather->peak_calls + gather->hosts - 1) / MAX(gather->hosts, 1U);
    bool is_full = n_rows >= gather->rows_max;
    bool are_all_here = n_calls >= share || n_calls + n_running >= gather->peak_calls;
    if (!gather->is_stacking || is_full) return INT64_MIN;
    if (n_batches >= gather->hosts) return INT64_MAX;
    return are_all_here ? INT64_MIN : came_ns + gather->delay_ns;
}

void gather_note(struct gather *gather, uint32_t n_calls)
{
    uint32_t peak = gather->peak_calls;
    peak -= (peak + 7) / 8;
    gather->peak_calls = MAX(peak, n_calls);
}

static struct stack *stack_new(size_t n_pieces)
{
    return calloc(1, sizeof(struct stack) + n_pieces * sizeof(struct piece));
}

static void take(struct stack *stack, struct ticket *ticket, uint32_t n_rows)
{
    stack->pieces[stack->n_pieces++] =
        (struct piece){.ticket = ticket, .first = ticket->n_taken, .n_rows = n_rows};
    stack->n_rows += n_rows;
    ticket->n_taken += n_rows;
}

/* How many tickets the microbatch may come to have. */
static size_t count_fitting(const struct gather *gather, const struct ticket *first)
{
    size_t n = 0;
    uint64_t rows = 0;
    for (const struct ticket *t = first; t != NULL && n < SCAN_MAX; t = t->next, n++) {
        if (rows >= gather->rows_max) break;
        rows += t->row_key == first->row_key ? t->n_rows - t->n_taken : 0;
    }
    return MAX(n, (size_t)1);
}

struct stack *gather_take(const struct gather *gather, struct ticket **waiting)
{
    struct ticket *first = *waiting;
    size_t n_max = gather->is_stacking ? count_fitting(gather, first) : 1;
    struct stack *stack = stack_new(n_max);
    if (stack == NULL) return NULL;
    take(stack, first, MIN(first->n_rows - first->n_taken, gather->rows_max));
    if (first->n_taken < first->n_rows) return stack;
    uint64_t key = first->row_key;
    *waiting = first->next;
    struct ticket **place = waiting;
    for (size_t n = 1; n < n_max && *place != NULL; n++) {
        struct ticket *ticket = *place;
        bool fits = ticket->row_key == key && ticket->n_taken == 0 &&
                    ticket->n_rows <= gather->rows_max - stack->n_rows;
        if (!fits) {
            place = &ticket->next;
            continue;
        }
        *place = ticket->next;
        take(stack, ticket, ticket->n_rows);
    }
    return stack;
}

static void copy_pieces(struct stack *to, const struct piece *pieces, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to->pieces[to->n_pieces++] = pieces[i];
        to->n_rows += pieces[i].n_rows;
    }
}

bool gather_halve(const struct stack *stack, struct stack **left, struct stack **right)
{
    size_t n = stack->n_pieces / 2;
    *left = stack_new(n);
    *right = stack_new(stack->n_pieces - n);
    if (*left == NULL || *right == NULL) {
        free(*left);
        free(*right);
        return false;
    }
    copy_pieces(*left, stack->pieces, n);
    copy_pieces(*right, stack->pieces + n, stack->n_pieces - n);
    return true;
}
