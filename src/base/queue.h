/* SPDX-License-Identifier: Apache-2.0 */
/* queue.h - bounded queue of pointers: the only place where threads meet.
 *
 * A full queue makes the producer wait, which is what bounds the pipeline's memory. Closing wakes
 * everybody: pushes fail at once, pops drain what is left and then fail. */
#ifndef TIDEMILL_BASE_QUEUE_H
#define TIDEMILL_BASE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

struct queue;

struct queue *queue_new(size_t capacity); /* NULL when out of memory */
void queue_free(struct queue *queue);     /* items that are left belong to the caller, still */

bool queue_push(struct queue *queue, void *item);     /* waits for room; false: closed */
bool queue_try_push(struct queue *queue, void *item); /* false: full or closed */
void *queue_pop(struct queue *queue);                 /* waits; NULL: closed and empty */
void *queue_try_pop(struct queue *queue);             /* NULL: nothing now */
/* Waits at most timeout_ms. NULL: nothing came, or, with *ret_is_closed, nothing will. */
void *queue_pop_timed(struct queue *queue, int timeout_ms, bool *ret_is_closed);
void queue_close(struct queue *queue);
size_t queue_length(struct queue *queue);

#endif
