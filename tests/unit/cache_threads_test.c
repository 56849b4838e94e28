/* SPDX-License-Identifier: Apache-2.0 */
/* cache_threads_test.c - more threads than LMDB has readers by default, at one cache, while it is
 * filled, cut and opened again: right values or misses. Also run under the thread sanitizer. */
#include "expect.h"
#include "tempdir.h"

#include "cache/cache.h"

#include <pthread.h>
#include <stdatomic.h>

#define READING 150
#define WRITING 3
#define KEYS 4000
#define VALUE_BYTES 120

struct crowd {
    const char *path;
    struct cache *cache;
    atomic_bool is_wrong, is_over;
    atomic_uint_fast64_t hits;
};

static struct digest key_of(uint64_t number)
{
    return hash_bytes(&number, sizeof number);
}

static void make_value(uint64_t number, char *value)
{
    uint64_t state = number;
    for (size_t i = 0; i < VALUE_BYTES; i++) value[i] = (char)random_next(&state);
}

static void note_error(struct crowd *crowd, tidemill_error *error)
{
    if (error == NULL) return;
    crowd->is_wrong = true;
    fprintf(stderr, "%s\n", error_message(error));
    error_free(error);
}

static void *read_all(void *argument)
{
    struct crowd *crowd = argument;
    struct buffer out = {0};
    uint64_t state = (uint64_t)(uintptr_t)&out, hits = 0;
    for (int i = 0; i < 400; i++) {
        char value[VALUE_BYTES];
        uint64_t number = random_below(&state, KEYS);
        out.size = 0;
        if (!cache_get(crowd->cache, key_of(number), &out)) continue;
        hits++;
        make_value(number, value);
        if (out.size != VALUE_BYTES || memcmp(value, out.data, VALUE_BYTES) != 0)
            crowd->is_wrong = true;
    }
    crowd->hits += hits;
    buffer_free(&out);
    return NULL;
}

static void *write_all(void *argument)
{
    struct crowd *crowd = argument;
    uint64_t state = (uint64_t)(uintptr_t)&state;
    while (!crowd->is_over) {
        static const size_t n = 100;
        char values[100][VALUE_BYTES];
        struct cache_entry entries[100];
        for (size_t i = 0; i < n; i++) {
            uint64_t number = random_below(&state, KEYS);
            make_value(number, values[i]);
            entries[i] = (struct cache_entry){key_of(number), values[i], VALUE_BYTES};
        }
        tidemill_error *error = cache_put(crowd->cache, entries, n);
        note_error(crowd, error);
    }
    return NULL;
}

static void *disturb(void *argument)
{
    struct crowd *crowd = argument;
    for (int i = 0; !crowd->is_over; i++) {
        struct cache *again = NULL;
        struct cache_stats stats;
        struct cache_options options = {.path = crowd->path};
        uint64_t dropped;
        tidemill_error *error = cache_open(&io_local, &options, &again);
        if (error == NULL) cache_get_stats(again, &stats);
        if (error == NULL && i % 8 == 0) error = cache_prune(again, 1 << 18, &dropped);
        note_error(crowd, error);
        cache_close(again);
    }
    return NULL;
}

static void many_threads_get_right_values_or_none(void **unused)
{
    (void)unused;
    struct tempdir folder;
    struct crowd crowd = {0};
    pthread_t reading[READING], writing[WRITING], disturbing;
    tempdir_open(&folder);
    crowd.path = tempdir_path(&folder, "c");
    struct cache_options options = {.path = crowd.path, .bytes_max = 1 << 20};
    expect_fine(cache_open(&io_local, &options, &crowd.cache), "open");
    for (int i = 0; i < WRITING; i++)
        if (pthread_create(&writing[i], NULL, write_all, &crowd) != 0) abort();
    if (pthread_create(&disturbing, NULL, disturb, &crowd) != 0) abort();
    for (int i = 0; i < READING; i++)
        if (pthread_create(&reading[i], NULL, read_all, &crowd) != 0) abort();
    for (int i = 0; i < READING; i++) pthread_join(reading[i], NULL);
    while (crowd.hits == 0) read_all(&crowd); /* a machine that had other things to do */
    crowd.is_over = true;
    for (int i = 0; i < WRITING; i++) pthread_join(writing[i], NULL);
    pthread_join(disturbing, NULL);
    assert_false(crowd.is_wrong);
    cache_close(crowd.cache);
    tempdir_close(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_threads_get_right_values_or_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
