/* SPDX-License-Identifier: Apache-2.0 */
/* workers.c - a small thread pool over two lists of tasks. */
#include "job/workers.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>

struct worker {
    pthread_t thread;
    struct workers *pool;
    struct decode_scratch *decode;
    struct encode_scratch *encode;
};

struct workers {
    struct workers_config config;
    pthread_mutex_t mutex;
    pthread_cond_t has_task;
    struct chunk *chunks, **chunks_end;
    struct microbatch *microbatches, **microbatches_end;
    bool is_stopping;
    int n_started;
    struct worker threads[];
};

static bool take_task(struct workers *pool, struct chunk **ret_chunk, struct microbatch **ret_mb)
{
    *ret_chunk = NULL;
    *ret_mb = NULL;
    pthread_mutex_lock(&pool->mutex);
    while (!pool->is_stopping && pool->chunks == NULL && pool->microbatches == NULL)
        pthread_cond_wait(&pool->has_task, &pool->mutex);
    bool is_running = !pool->is_stopping;
    if (is_running && pool->microbatches != NULL) {
        *ret_mb = pool->microbatches;
        pool->microbatches = (*ret_mb)->next_task;
        if (pool->microbatches == NULL) pool->microbatches_end = &pool->microbatches;
    } else if (is_running) {
        *ret_chunk = pool->chunks;
        pool->chunks = (*ret_chunk)->next;
        if (pool->chunks == NULL) pool->chunks_end = &pool->chunks;
        (*ret_chunk)->next = NULL;
    }
    pthread_mutex_unlock(&pool->mutex);
    return is_running;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct workers *pool = worker->pool;
    struct chunk *chunk;
    struct microbatch *mb;
    while (take_task(pool, &chunk, &mb)) {
        if (mb != NULL) {
            microbatch_encode(mb, pool->config.encoder, worker->encode);
            queue_push(pool->config.encoded, mb);
        } else {
            chunk->error =
                chunk_decode(chunk, pool->config.decoder, worker->decode, pool->config.reuse);
            queue_push(pool->config.decoded, chunk);
        }
        eventfd_write(pool->config.wake_fd, 1);
    }
    return NULL;
}

static tidemill_error *start_worker(struct workers *pool, struct worker *worker)
{
    worker->pool = pool;
    worker->decode = decode_scratch_new();
    worker->encode = encode_scratch_new();
    if (worker->decode == NULL || worker->encode == NULL) return error_memory();
    int errnum = pthread_create(&worker->thread, NULL, work, worker);
    if (errnum != 0) return error_errno(ERROR_MEMORY, errnum, "cannot start a thread");
    pool->n_started++;
    return NULL;
}

tidemill_error *workers_start(const struct workers_config *config, struct workers **ret)
{
    size_t n = (size_t)config->n_threads;
    struct workers *pool = calloc(1, sizeof *pool + n * sizeof pool->threads[0]);
    if (pool == NULL) return error_memory();
    pool->config = *config;
    pool->chunks_end = &pool->chunks;
    pool->microbatches_end = &pool->microbatches;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->has_task, NULL);
    for (size_t i = 0; i < n; i++) {
        tidemill_error *error = start_worker(pool, &pool->threads[i]);
        if (error != NULL) {
            workers_stop(pool);
            return error;
        }
    }
    *ret = pool;
    return NULL;
}

void workers_decode(struct workers *workers, struct chunk *chunk)
{
    pthread_mutex_lock(&workers->mutex);
    chunk->next = NULL;
    *workers->chunks_end = chunk;
    workers->chunks_end = &chunk->next;
    pthread_cond_signal(&workers->has_task);
    pthread_mutex_unlock(&workers->mutex);
}

void workers_encode(struct workers *workers, struct microbatch *microbatch)
{
    pthread_mutex_lock(&workers->mutex);
    microbatch->next_task = NULL;
    *workers->microbatches_end = microbatch;
    workers->microbatches_end = &microbatch->next_task;
    pthread_cond_signal(&workers->has_task);
    pthread_mutex_unlock(&workers->mutex);
}

void workers_stop(struct workers *workers)
{
    if (workers == NULL) return;
    pthread_mutex_lock(&workers->mutex);
    workers->is_stopping = true;
    pthread_cond_broadcast(&workers->has_task);
    pthread_mutex_unlock(&workers->mutex);
    for (int i = 0; i < workers->config.n_threads; i++) {
        struct worker *worker = &workers->threads[i];
        if (i < workers->n_started) pthread_join(worker->thread, NULL);
        decode_scratch_free(worker->decode);
        encode_scratch_free(worker->encode);
    }
    pthread_cond_destroy(&workers->has_task);
    pthread_mutex_destroy(&workers->mutex);
    free(workers);
}
