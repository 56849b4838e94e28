/* SPDX-License-Identifier: Apache-2.0 */
/* pool.c - threads that run handlers which may wait. Bodies that are read piece by piece can keep a
 * thread as long as a slow client likes; so a quarter of the threads takes none of them. */
#include "net/impl.h"

#include <stdlib.h>

struct line { /* of exchanges that wait; each connection has one at most, which bounds it */
    struct exchange *first, **last;
};

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t change;
    struct line plain, streams;
    int n_threads, n_idle, n_streaming, streaming_max;
    bool is_stopping;
    void *context;
    pthread_t threads[];
};

static void line_push(struct line *line, struct exchange *exchange)
{
    exchange->next = NULL;
    *line->last = exchange;
    line->last = &exchange->next;
}

static struct exchange *line_pop(struct line *line)
{
    struct exchange *exchange = line->first;
    if (exchange == NULL) return NULL;
    line->first = exchange->next;
    if (line->first == NULL) line->last = &line->first;
    return exchange;
}

static bool is_streaming(const struct exchange *exchange)
{
    return exchange->route->body == NET_BODY_STREAM;
}

static struct exchange *pick(struct pool *pool)
{
    struct exchange *exchange = line_pop(&pool->plain);
    if (exchange == NULL && pool->n_streaming < pool->streaming_max)
        exchange = line_pop(&pool->streams);
    return exchange;
}

/* NULL: the pool is stopping and nothing is left to refuse. */
static struct exchange *wait_for_work(struct pool *pool)
{
    struct exchange *exchange;
    pthread_mutex_lock(&pool->lock);
    while ((exchange = pick(pool)) == NULL && !pool->is_stopping) {
        pool->n_idle++;
        pthread_cond_wait(&pool->change, &pool->lock);
        pool->n_idle--;
    }
    if (exchange != NULL && is_streaming(exchange)) pool->n_streaming++;
    pthread_mutex_unlock(&pool->lock);
    return exchange;
}

static void ended(struct pool *pool, bool was_streaming)
{
    if (!was_streaming) return;
    pthread_mutex_lock(&pool->lock);
    pool->n_streaming--;
    if (pool->streams.first != NULL) pthread_cond_signal(&pool->change);
    pthread_mutex_unlock(&pool->lock);
}

static void *work(void *context)
{
    struct pool *pool = context;
    struct exchange *exchange;
    while ((exchange = wait_for_work(pool)) != NULL) {
        bool was_streaming = is_streaming(exchange); /* after its answer it is not ours */
        if (atomic_load(&exchange->server->stage) >= STAGE_CUT)
            exchange_refuse(exchange, 503, "the server is stopping");
        else
            exchange->route->handle(exchange, pool->context);
        ended(pool, was_streaming);
    }
    return NULL;
}

void pool_push(struct pool *pool, struct exchange *exchange)
{
    pthread_mutex_lock(&pool->lock);
    line_push(is_streaming(exchange) ? &pool->streams : &pool->plain, exchange);
    if (pool->n_idle > 0) pthread_cond_signal(&pool->change);
    pthread_mutex_unlock(&pool->lock);
}

tidemill_error *pool_new(int threads, void *context, struct pool **ret)
{
    struct pool *pool = calloc(1, sizeof *pool + (size_t)threads * sizeof pool->threads[0]);
    if (pool == NULL) return error_memory();
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->change, NULL);
    pool->plain.last = &pool->plain.first;
    pool->streams.last = &pool->streams.first;
    pool->streaming_max = MAX(1, threads - threads / 4);
    pool->context = context;
    for (; pool->n_threads < threads; pool->n_threads++) {
        int failure = pthread_create(&pool->threads[pool->n_threads], NULL, work, pool);
        if (failure == 0) continue;
        pool_stop(pool);
        pool_free(pool);
        return error_errno(ERROR_INTERNAL, failure, "a thread for the server's handlers");
    }
    *ret = pool;
    return NULL;
}

void pool_stop(struct pool *pool)
{
    if (pool == NULL) return;
    pthread_mutex_lock(&pool->lock);
    pool->is_stopping = true;
    pool->streaming_max = pool->n_threads;
    pthread_cond_broadcast(&pool->change);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->n_threads; i++) pthread_join(pool->threads[i], NULL);
    pool->n_threads = 0;
}

void pool_free(struct pool *pool)
{
    if (pool == NULL) return;
    pthread_cond_destroy(&pool->change);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}
