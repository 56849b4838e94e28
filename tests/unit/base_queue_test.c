/* SPDX-License-Identifier: Apache-2.0 */
/* base_queue_test.c - what threads push comes out once, in order, never more than the capacity
 * waits, and closing ends every wait. Also run under the thread sanitizer. */
#include "expect.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define PRODUCERS 4
#define CONSUMERS 3
#define ITEMS 5000 /* a producer */

/* Numbers as items; 0 would be NULL. */
static void *item(uintptr_t number)
{
    return (void *)number;
}

static void sleep_ms(long ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

static pthread_t start(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, body, argument) != 0) abort();
    return thread;
}

static void join(pthread_t thread)
{
    if (pthread_join(thread, NULL) != 0) abort();
}

/* --- one thread ------------------------------------------------------------------------------- */

static void items_come_out_in_the_order_they_went_in(void **unused)
{
    (void)unused;
    static const size_t capacities[] = {1, 2, 3, 7, 64};
    for (size_t c = 0; c < COUNT_OF(capacities); c++) {
        struct queue *queue = queue_new(capacities[c]);
        assert_non_null(queue);
        uintptr_t in = 0, out = 0;
        uint64_t state = random_seed(__func__);
        for (int step = 0; step < 20000; step++) {
            if (random_below(&state, 2) == 0) {
                bool has_room = in - out < capacities[c];
                assert_int_equal(queue_try_push(queue, item(in + 1)), has_room);
                in += has_room;
            } else {
                void *found = queue_try_pop(queue);
                assert_ptr_equal(found, in > out ? item(out + 1) : NULL);
                out += found != NULL;
            }
            assert_int_equal(queue_length(queue), in - out);
        }
        queue_free(queue);
    }
}

static void a_closed_queue_takes_nothing_and_gives_what_is_left(void **unused)
{
    (void)unused;
    bool is_closed = true;
    struct queue *queue = queue_new(4);
    assert_true(queue_push(queue, item(1)));
    assert_true(queue_push(queue, item(2)));
    assert_true(queue_push(queue, item(3)));
    queue_close(queue);
    queue_close(queue);
    assert_false(queue_push(queue, item(4)));
    assert_false(queue_try_push(queue, item(4)));
    assert_ptr_equal(queue_pop(queue), item(1));
    assert_ptr_equal(queue_pop_timed(queue, 0, &is_closed), item(2));
    assert_false(is_closed);
    assert_ptr_equal(queue_try_pop(queue), item(3));
    assert_null(queue_pop(queue));
    assert_null(queue_try_pop(queue));
    assert_null(queue_pop_timed(queue, 10000, &is_closed)); /* at once */
    assert_true(is_closed);
    queue_free(queue);
    queue_free(NULL);
}

static void a_timed_pop_waits_as_long_as_it_was_told(void **unused)
{
    (void)unused;
    static const int timeouts_ms[] = {0, 1, 30, 1000};
    struct queue *queue = queue_new(1);
    for (size_t i = 0; i < COUNT_OF(timeouts_ms) - 1; i++) {
        bool is_closed = true;
        double started_s = clock_now_s();
        assert_null(queue_pop_timed(queue, timeouts_ms[i], &is_closed));
        double waited_s = clock_now_s() - started_s;
        assert_false(is_closed);
        assert_true(waited_s >= timeouts_ms[i] / 1000.0);
        assert_true(waited_s < timeouts_ms[i] / 1000.0 + 5); /* a busy machine */
    }
    queue_free(queue);
}

/* --- several ---------------------------------------------------------------------------------- */

struct crowd {
    struct queue *queue;
    size_t capacity;
    atomic_uint_fast64_t n_taken, sum_taken;
    atomic_bool is_too_long, is_out_of_order;
    uint64_t sums[PRODUCERS];
};

struct producer {
    struct crowd *crowd;
    uintptr_t number;
};

static void *produce(void *argument)
{
    struct producer *producer = argument;
    for (uintptr_t i = 1; i <= ITEMS; i++) {
        void *next = item(producer->number * 1000000 + i);
        if (i % 7 == 0 && queue_try_push(producer->crowd->queue, next)) continue;
        if (!queue_push(producer->crowd->queue, next)) abort();
    }
    return NULL;
}

static void *consume(void *argument)
{
    struct crowd *crowd = argument;
    uintptr_t last[PRODUCERS] = {0};
    for (unsigned turn = 0;; turn++) {
        bool is_closed = false;
        void *found = turn % 3 == 0   ? queue_try_pop(crowd->queue)
                      : turn % 3 == 1 ? queue_pop_timed(crowd->queue, 1, &is_closed)
                                      : queue_pop(crowd->queue);
        if (queue_length(crowd->queue) > crowd->capacity) crowd->is_too_long = true;
        if (found == NULL) {
            if (is_closed || turn % 3 == 2) return NULL;
            continue;
        }
        uintptr_t number = (uintptr_t)found / 1000000, i = (uintptr_t)found % 1000000;
        if (i <= last[number]) crowd->is_out_of_order = true;
        last[number] = i;
        crowd->n_taken++;
        crowd->sum_taken += (uintptr_t)found;
    }
}

static void every_item_of_many_threads_comes_out_once(void **unused)
{
    (void)unused;
    static const size_t capacities[] = {1, 2, 16};
    uint64_t expected = 0;
    for (uint64_t p = 0; p < PRODUCERS; p++)
        expected += p * 1000000 * ITEMS + (uint64_t)ITEMS * (ITEMS + 1) / 2;
    for (size_t c = 0; c < COUNT_OF(capacities); c++) {
        struct crowd crowd = {.queue = queue_new(capacities[c]), .capacity = capacities[c]};
        struct producer producers[PRODUCERS];
        pthread_t producing[PRODUCERS], consuming[CONSUMERS];
        for (size_t i = 0; i < CONSUMERS; i++) consuming[i] = start(consume, &crowd);
        for (size_t i = 0; i < PRODUCERS; i++) {
            producers[i] = (struct producer){&crowd, i};
            producing[i] = start(produce, &producers[i]);
        }
        for (size_t i = 0; i < PRODUCERS; i++) join(producing[i]);
        queue_close(crowd.queue);
        for (size_t i = 0; i < CONSUMERS; i++) join(consuming[i]);
        assert_int_equal(crowd.n_taken, PRODUCERS * ITEMS);
        assert_int_equal(crowd.sum_taken, expected);
        assert_false(crowd.is_too_long);
        assert_false(crowd.is_out_of_order);
        queue_free(crowd.queue);
    }
}

struct waiter {
    struct queue *queue;
    atomic_bool is_done;
    void *popped;
    bool was_pushed;
};

static void *wait_push(void *argument)
{
    struct waiter *waiter = argument;
    waiter->was_pushed = queue_push(waiter->queue, item(9));
    waiter->is_done = true;
    return NULL;
}

static void *wait_pop(void *argument)
{
    struct waiter *waiter = argument;
    waiter->popped = queue_pop(waiter->queue);
    waiter->is_done = true;
    return NULL;
}

static void *wait_pop_timed(void *argument)
{
    struct waiter *waiter = argument;
    bool is_closed;
    waiter->popped = queue_pop_timed(waiter->queue, 60000, &is_closed);
    waiter->is_done = true;
    return NULL;
}

static void a_full_queue_holds_its_producer_until_there_is_room(void **unused)
{
    (void)unused;
    struct waiter waiter = {.queue = queue_new(2)};
    assert_true(queue_push(waiter.queue, item(1)));
    assert_true(queue_push(waiter.queue, item(2)));
    pthread_t thread = start(wait_push, &waiter);
    sleep_ms(30);
    assert_false(waiter.is_done);
    assert_int_equal(queue_length(waiter.queue), 2);
    assert_ptr_equal(queue_pop(waiter.queue), item(1));
    join(thread);
    assert_true(waiter.was_pushed);
    assert_ptr_equal(queue_pop(waiter.queue), item(2));
    assert_ptr_equal(queue_pop(waiter.queue), item(9));
    queue_free(waiter.queue);
}

static void an_item_wakes_who_waits_for_it(void **unused)
{
    (void)unused;
    static void *(*const bodies[])(void *) = {wait_pop, wait_pop_timed};
    for (size_t i = 0; i < COUNT_OF(bodies); i++) {
        struct waiter waiter = {.queue = queue_new(1)};
        pthread_t thread = start(bodies[i], &waiter);
        sleep_ms(20);
        assert_false(waiter.is_done);
        assert_true(queue_push(waiter.queue, item(5)));
        join(thread);
        assert_ptr_equal(waiter.popped, item(5));
        queue_free(waiter.queue);
    }
}

static void closing_ends_every_wait(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        void *(*body)(void *);
        bool is_full;
    } rows[] = {
        {"a push waits for ever", wait_push, true},
        {"a pop waits for ever", wait_pop, false},
        {"a timed pop waits to its end", wait_pop_timed, false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct waiter waiters[4];
        pthread_t threads[4];
        struct queue *queue = queue_new(1);
        if (rows[i].is_full) assert_true(queue_push(queue, item(1)));
        for (size_t k = 0; k < 4; k++) {
            waiters[k] = (struct waiter){.queue = queue};
            threads[k] = start(rows[i].body, &waiters[k]);
        }
        sleep_ms(20);
        double closed_s = clock_now_s();
        queue_close(queue);
        for (size_t k = 0; k < 4; k++) {
            join(threads[k]);
            if (waiters[k].was_pushed || waiters[k].popped != NULL) fail_msg("%s", rows[i].name);
        }
        if (clock_now_s() - closed_s > 20) fail_msg("%s", rows[i].name);
        queue_free(queue);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_come_out_in_the_order_they_went_in),
        cmocka_unit_test(a_closed_queue_takes_nothing_and_gives_what_is_left),
        cmocka_unit_test(a_timed_pop_waits_as_long_as_it_was_told),
        cmocka_unit_test(every_item_of_many_threads_comes_out_once),
        cmocka_unit_test(a_full_queue_holds_its_producer_until_there_is_room),
        cmocka_unit_test(an_item_wakes_who_waits_for_it),
        cmocka_unit_test(closing_ends_every_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
