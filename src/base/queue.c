/* SPDX-License-Identifier: Apache-2.0 */
/* queue.c - ring of pointers under one mutex. A few thousand operations a second pass through it
 * (it carries chunks and microbatches, not records), so nothing cleverer is needed. */
#include "base/queue.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

struct queue {
    pthread_mutex_t mutex;
    pthread_cond_t has_item, has_room;
    size_t capacity, head, length;
    bool is_closed;
    void *items[];
};

struct queue *queue_new(size_t capacity)
{
    struct queue *queue = calloc(1, sizeof *queue + capacity * sizeof queue->items[0]);
    if (queue == NULL) return NULL;
    queue->capacity = capacity;
    pthread_mutex_init(&queue->mutex, NULL);
    pthread_cond_init(&queue->has_item, NULL);
    pthread_cond_init(&queue->has_room, NULL);
    return queue;
}

void queue_free(struct queue *queue)
{
    if (queue == NULL) return;
    pthread_cond_destroy(&queue->has_room);
    pthread_cond_destroy(&queue->has_item);
    pthread_mutex_destroy(&queue->mutex);
    free(queue);
}

static void put(struct queue *queue, void *item)
{
    queue->items[(queue->head + queue->length++) % queue->capacity] = item;
    pthread_cond_signal(&queue->has_item);
}

static void *take(struct queue *queue)
{
    void *item = queue->items[queue->head];
    queue->head = (queue->head + 1) % queue->capacity;
    queue->length--;
    pthread_cond_signal(&queue->has_room);
    return item;
}

bool queue_push(struct queue *queue, void *item)
{
    pthread_mutex_lock(&queue->mutex);
    while (queue->length == queue->capacity && !queue->is_closed)
        pthread_cond_wait(&queue->has_room, &queue->mutex);
    bool is_open = !queue->is_closed;
    if (is_open) put(queue, item);
    pthread_mutex_unlock(&queue->mutex);
    return is_open;
}

bool queue_try_push(struct queue *queue, void *item)
{
    pthread_mutex_lock(&queue->mutex);
    bool has_room = queue->length < queue->capacity && !queue->is_closed;
    if (has_room) put(queue, item);
    pthread_mutex_unlock(&queue->mutex);
    return has_room;
}

void *queue_pop(struct queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    while (queue->length == 0 && !queue->is_closed)
        pthread_cond_wait(&queue->has_item, &queue->mutex);
    void *item = queue->length > 0 ? take(queue) : NULL;
    pthread_mutex_unlock(&queue->mutex);
    return item;
}

void *queue_try_pop(struct queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    void *item = queue->length > 0 ? take(queue) : NULL;
    pthread_mutex_unlock(&queue->mutex);
    return item;
}

void *queue_pop_timed(struct queue *queue, int timeout_ms, bool *ret_is_closed)
{
    int64_t deadline_ns = clock_now_ns() + (int64_t)timeout_ms * 1000000;
    struct timespec deadline = {.tv_sec = deadline_ns / 1000000000,
                                .tv_nsec = deadline_ns % 1000000000};
    pthread_mutex_lock(&queue->mutex);
    while (queue->length == 0 && !queue->is_closed) {
        if (pthread_cond_clockwait(&queue->has_item, &queue->mutex, CLOCK_MONOTONIC, &deadline) ==
            ETIMEDOUT)
            break;
    }
    void *item = queue->length > 0 ? take(queue) : NULL;
    *ret_is_closed = item == NULL && queue->is_closed;
    pthread_mutex_unlock(&queue->mutex);
    return item;
}

void queue_close(struct queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->is_closed = true;
    pthread_cond_broadcast(&queue->has_item);
    pthread_cond_broadcast(&queue->has_room);
    pthread_mutex_unlock(&queue->mutex);
}

size_t queue_length(struct queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    size_t length = queue->length;
    pthread_mutex_unlock(&queue->mutex);
    return length;
}
