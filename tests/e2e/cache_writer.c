/* SPDX-License-Identifier: Apache-2.0 */
/* cache_writer.c - a process to be killed: puts and gets values that tell their keys, for ever.
 *
 *     cache_writer write|read|fill FOLDER MAX_BYTES SEED
 *
 * write: puts and gets until it is killed. read: only gets, for a tenth of a second. fill: puts until an
 * error or 16 MiB. Prints "hits=N misses=N rejected=N" at its end; exit status 9 for a wrong value, 3
 * for an error, whose message goes to standard error. */
#include "cache/cache.h"

#include <stdio.h>
#include <stdlib.h>

#define KEYS 20000
#define BATCH 200
#define VALUE_BYTES_MAX 1200

static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    return z ^ (z >> 31);
}

static size_t make_value(uint64_t number, char *value)
{
    uint64_t state = number;
    size_t size = next(&state) % VALUE_BYTES_MAX;
    for (size_t i = 0; i < size; i++) value[i] = (char)(next(&state) >> 11);
    return size;
}

static struct digest key_of(uint64_t number)
{
    return hash_bytes(&number, sizeof number);
}

static void get_some(struct cache *cache, uint64_t *state)
{
    struct buffer out = {0};
    char value[VALUE_BYTES_MAX];
    for (int i = 0; i < BATCH; i++) {
        uint64_t number = next(state) % KEYS;
        out.size = 0;
        if (!cache_get(cache, key_of(number), &out)) continue;
        size_t size = make_value(number, value);
        if (out.size != size || (size > 0 && memcmp(out.data, value, size) != 0)) _Exit(9);
    }
    buffer_free(&out);
}

static tidemill_error *put_some(struct cache *cache, uint64_t *state)
{
    static char values[BATCH][VALUE_BYTES_MAX];
    struct cache_entry entries[BATCH];
    for (size_t i = 0; i < BATCH; i++) {
        uint64_t number = next(state) % KEYS;
        entries[i] = (struct cache_entry){key_of(number), values[i], make_value(number, values[i])};
    }
    return cache_put(cache, entries, BATCH);
}

static tidemill_error *work(struct cache *cache, char mode, uint64_t seed)
{
    double end_s = clock_now_s() + 0.1;
    for (int turn = 0; mode == 'w' || (mode == 'r' ? clock_now_s() < end_s : turn < 140); turn++) {
        if (mode != 'r') TRY(put_some(cache, &seed));
        get_some(cache, &seed);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct cache *cache = NULL;
    struct cache_stats stats;
    if (argc != 5) return 2;
    struct cache_options options = {.path = argv[2], .bytes_max = strtoull(argv[3], NULL, 10)};
    tidemill_error *error = cache_open(&io_local, &options, &cache);
    if (error == NULL) {
        error = work(cache, argv[1][0], strtoull(argv[4], NULL, 10));
        cache_get_stats(cache, &stats);
        printf("hits=%llu misses=%llu rejected=%llu\n", (unsigned long long)stats.hits,
               (unsigned long long)stats.misses, (unsigned long long)stats.rejected);
    }
    if (error != NULL) fprintf(stderr, "%s\n", error_message(error));
    int status = error == NULL ? 0 : 3;
    error_free(error);
    cache_close(cache);
    return status;
}
