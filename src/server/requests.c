/* SPDX-License-Identifier: Apache-2.0 */
/* requests.c - how many records wait, by tenant and queue, and clients that wait for an answer.
 *
 * The counts are kept in memory, as every accept asks for them; the store has the truth, and is asked when
 * the server starts and whenever a job has ended. What is on its way into the store meanwhile counts on
 * top; a count may so be high by that for a moment, never low. */
#include "server/requests.h"

#include "server/delivery.h"
#include "server/delivery_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define LISTS 1024
#define WAITERS_MAX 10000
#define LOOK_MS 200 /* while somebody waits: for deadlines, and a stop */

struct count {
    struct count *next;
    char queue[STORE_NAME_BYTES], tenant[STORE_NAME_BYTES];
    uint64_t waiting;   /* in the store, when that was last asked, and accepted since */
    uint64_t under_way; /* admitted and not settled */
};

struct waiter {
    struct waiter *next;
    struct exchange *exchange;
    struct request_id id;
    int64_t until;
    bool is_due; /* its window has ended, or it has just come */
};

struct requests {
    struct app *app;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct count *counts[LISTS];
    struct waiter *waiters;
    size_t n_waiters;
    bool is_stale, has_due, is_stopping;
    pthread_t thread;
};

/* --- counts; the mutex is held ------------------------------------------------------------------------ */

static struct count *find_count(struct requests *requests, const char *queue, const char *tenant,
                                bool is_made)
{
    uint64_t hash =
        hash_checksum(queue, strlen(queue)) * 31 + hash_checksum(tenant, strlen(tenant));
    struct count **list = &requests->counts[hash % LISTS];
    for (struct count *count = *list; count != NULL; count = count->next)
        if (strcmp(count->queue, queue) == 0 && strcmp(count->tenant, tenant) == 0) return count;
    struct count *count = is_made ? calloc(1, sizeof *count) : NULL;
    if (count == NULL) return NULL;
    memcpy(count->queue, queue, strnlen(queue, sizeof count->queue - 1));
    memcpy(count->tenant, tenant, strnlen(tenant, sizeof count->tenant - 1));
    count->next = *list;
    *list = count;
    return count;
}

static void set_counts(struct requests *requests, const struct store_depth *depths, size_t n)
{
    pthread_mutex_lock(&requests->mutex);
    for (size_t i = 0; i < LISTS; i++)
        for (struct count *count = requests->counts[i]; count != NULL; count = count->next)
            count->waiting = 0;
    for (size_t i = 0; i < n; i++) {
        struct count *count = find_count(requests, depths[i].queue, depths[i].tenant, true);
        if (count != NULL) count->waiting = depths[i].records;
    }
    pthread_mutex_unlock(&requests->mutex);
}

static tidemill_error *count_anew(struct requests *requests)
{
    struct store_depth *depths = NULL;
    size_t n = 0;
    TRY(store_depths(requests->app->store, &depths, &n));
    set_counts(requests, depths, n);
    free(depths);
    return NULL;
}

bool requests_admit(struct app *app, const struct queue_config *queue, const char *tenant,
                    uint64_t n)
{
    struct requests *requests = delivery_requests(app->delivery);
    if (requests == NULL || queue->records_max <= 0) return true;
    pthread_mutex_lock(&requests->mutex);
    struct count *count = find_count(requests, queue->name, tenant, true);
    uint64_t room = (uint64_t)queue->records_max;
    uint64_t taken = count == NULL ? 0 : count->waiting + count->under_way;
    bool is_admitted = count != NULL && taken <= room && n <= room - taken;
    if (is_admitted) count->under_way += n;
    pthread_mutex_unlock(&requests->mutex);
    return is_admitted;
}

void requests_settle(struct app *app, const char *queue, const char *tenant, uint64_t n,
                     bool is_accepted)
{
    struct requests *requests = delivery_requests(app->delivery);
    if (requests == NULL) return;
    pthread_mutex_lock(&requests->mutex);
    struct count *count = find_count(requests, queue, tenant, false);
    if (count != NULL) {
        count->under_way -= MIN(n, count->under_way);
        if (is_accepted) count->waiting += n;
    }
    pthread_mutex_unlock(&requests->mutex);
}

/* --- waiters --------------------------------------------------------------------------------------------- */

void requests_wait(struct requests *requests, struct exchange *exchange,
                   const struct request_id *id, int64_t until)
{
    struct waiter *waiter = NULL;
    pthread_mutex_lock(&requests->mutex);
    bool has_room = requests->n_waiters < WAITERS_MAX && !requests->is_stopping;
    if (has_room && (waiter = calloc(1, sizeof *waiter)) != NULL) {
        *waiter = (struct waiter){requests->waiters, exchange, *id, until, true};
        requests->waiters = waiter;
        requests->n_waiters++;
        requests->has_due = true;
        pthread_cond_signal(&requests->changed);
    }
    pthread_mutex_unlock(&requests->mutex);
    if (waiter == NULL) request_answer(requests->app, exchange, id, true);
}

void requests_job_ended(struct requests *requests, const char *job)
{
    pthread_mutex_lock(&requests->mutex);
    requests->is_stale = true;
    for (struct waiter *waiter = requests->waiters; waiter != NULL; waiter = waiter->next) {
        if (strcmp(waiter->id.window, job) != 0) continue;
        waiter->is_due = true;
        requests->has_due = true;
    }
    pthread_cond_signal(&requests->changed);
    pthread_mutex_unlock(&requests->mutex);
}

/* Those to be looked at now. */
static struct waiter *take_due(struct requests *requests, int64_t now)
{
    struct waiter *due = NULL, **place = &requests->waiters, *waiter;
    while ((waiter = *place) != NULL) {
        bool is_over = requests->is_stopping || requests->app->is_stopping || now >= waiter->until;
        if (is_over) waiter->until = 0;
        if (!waiter->is_due && !is_over && !exchange_is_gone(waiter->exchange)) {
            place = &waiter->next;
            continue;
        }
        *place = waiter->next;
        waiter->next = due;
        due = waiter;
        requests->n_waiters--;
    }
    requests->has_due = false;
    return due;
}

/* Answers, or puts it back: it has just come, and its window has not ended. */
static void look_at(struct requests *requests, struct waiter *waiter)
{
    bool is_last = waiter->until == 0 || exchange_is_gone(waiter->exchange);
    if (request_answer(requests->app, waiter->exchange, &waiter->id, is_last)) {
        free(waiter);
        return;
    }
    pthread_mutex_lock(&requests->mutex);
    waiter->next = requests->waiters;
    requests->waiters = waiter;
    requests->n_waiters++;
    pthread_mutex_unlock(&requests->mutex);
}

/* While it is looked at it is in no list, and an end that comes just then would pass it by: so who is put
 * back is looked at once more after the next end, or by its deadline at the latest; to be sure, ends that
 * came meanwhile make all due. */
static void look_at_all(struct requests *requests, struct waiter *due)
{
    for (struct waiter *next; due != NULL; due = next) {
        next = due->next;
        due->is_due = false;
        look_at(requests, due);
    }
}

static void sleep_a_while(struct requests *requests)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += LOOK_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    if (requests->waiters == NULL)
        pthread_cond_wait(&requests->changed, &requests->mutex);
    else
        pthread_cond_timedwait(&requests->changed, &requests->mutex, &until);
}

static void complain(tidemill_error *error)
{
    if (error == NULL) return;
    log_event(LOG_WARNING, "what waits in queues cannot be counted: %s", error_message(error));
    error_free(error);
}

static void *run(void *context)
{
    struct requests *requests = context;
    pthread_mutex_lock(&requests->mutex);
    for (;;) {
        bool is_stopping = requests->is_stopping, was_stale = requests->is_stale;
        requests->is_stale = false;
        if (was_stale) /* an end that came while somebody was looked at */
            for (struct waiter *w = requests->waiters; w != NULL; w = w->next) w->is_due = true;
        struct waiter *due = take_due(requests, store_now());
        pthread_mutex_unlock(&requests->mutex);
        look_at_all(requests, due);
        if (was_stale) complain(count_anew(requests));
        pthread_mutex_lock(&requests->mutex);
        if (is_stopping) break;
        if (!requests->is_stale && !requests->has_due && !requests->is_stopping)
            sleep_a_while(requests);
    }
    pthread_mutex_unlock(&requests->mutex);
    return NULL;
}

/* --- start and stop -------------------------------------------------------------------------------------- */

static void free_requests(struct requests *requests)
{
    for (size_t i = 0; i < LISTS; i++) {
        for (struct count *count = requests->counts[i], *next; count != NULL; count = next) {
            next = count->next;
            free(count);
        }
    }
    pthread_cond_destroy(&requests->changed);
    pthread_mutex_destroy(&requests->mutex);
    free(requests);
}

tidemill_error *requests_start(struct app *app, struct requests **ret)
{
    struct requests *requests = calloc(1, sizeof *requests);
    if (requests == NULL) return error_memory();
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&requests->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&requests->mutex, NULL);
    requests->app = app;
    tidemill_error *error = count_anew(requests);
    int code = error == NULL ? pthread_create(&requests->thread, NULL, run, requests) : 0;
    if (code != 0) error = error_errno(ERROR_MEMORY, code, "cannot start a thread");
    if (error != NULL) {
        free_requests(requests);
        return error;
    }
    *ret = requests;
    return NULL;
}

void requests_stop(struct requests *requests)
{
    if (requests == NULL) return;
    pthread_mutex_lock(&requests->mutex);
    requests->is_stopping = true;
    pthread_cond_signal(&requests->changed);
    pthread_mutex_unlock(&requests->mutex);
    pthread_join(requests->thread, NULL);
    free_requests(requests);
}
