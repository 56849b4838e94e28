/* SPDX-License-Identifier: Apache-2.0 */
/* store_accept.c - accepts/s of the store beside what the disk can do.
 *
 *     store_accept [FOLDER] [SECONDS]      on the disk that is meant: FOLDER is made and left
 *
 * single: so many threads, each with one record at a time, waiting for each. batched: one thread,
 * so many records an accept. The floor of each: a loop of write and fdatasync of the same bytes, in the same pieces as the
 * store wrote them (single: as many records a sync as callers; batched: an accept's). A line of JSON
 * each. */
#include "store/store.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORD                                                                                     \
    "{\"id\":\"12345678\",\"x\":[0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8],\"name\":\"benchmark\"}\n"
#define RECORD_BYTES (sizeof RECORD - 1)

struct run {
    struct store *store;
    const char *lines;
    uint64_t n; /* records of an accept */
    double seconds;
    atomic_bool is_over;
    atomic_uint_fast64_t accepts;
};

struct caller {
    struct store_accept accept;
    sem_t is_done;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "store_accept: %s: %s\n", what, why);
    exit(1);
}

static void note_done(struct store_accept *accept, tidemill_error *error)
{
    struct caller *caller = accept->context;
    if (error != NULL) die("accept", error_message(error));
    sem_post(&caller->is_done);
}

static void *call(void *argument)
{
    struct run *run = argument;
    struct caller caller;
    sem_init(&caller.is_done, 0, 0);
    while (!run->is_over) {
        caller.accept = (struct store_accept){
            .queue = "bench",
            .tenant = "t",
            .model = "m",
            .lines = run->lines,
            .bytes = run->n * RECORD_BYTES,
            .n = run->n,
            .done = note_done,
            .context = &caller,
        };
        store_accept(run->store, &caller.accept);
        while (sem_wait(&caller.is_done) != 0) continue;
        run->accepts++;
    }
    sem_destroy(&caller.is_done);
    return NULL;
}

/* Records/s. */
static double measure_store(struct run *run, size_t callers)
{
    pthread_t threads[256];
    run->is_over = false;
    run->accepts = 0;
    double start_s = clock_now_s();
    for (size_t i = 0; i < callers; i++)
        if (pthread_create(&threads[i], NULL, call, run) != 0) die("thread", "cannot be started");
    usleep((useconds_t)(run->seconds * 1e6));
    run->is_over = true;
    for (size_t i = 0; i < callers; i++) pthread_join(threads[i], NULL);
    return (double)(run->accepts * run->n) / (clock_now_s() - start_s);
}

/* Records/s of write and fdatasync. */
static double measure_floor(const struct run *run, const char *folder, uint64_t records)
{
    char path[512];
    size_t size = records * RECORD_BYTES;
    char *data = malloc(size);
    uint64_t n = 0;
    snprintf(path, sizeof path, "%s/floor", folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
    if (data == NULL || fd < 0) die(path, "cannot be written");
    for (uint64_t i = 0; i < records; i++) memcpy(data + i * RECORD_BYTES, RECORD, RECORD_BYTES);
    double start_s = clock_now_s();
    while (clock_now_s() - start_s < run->seconds) {
        if (write(fd, data, size) != (ssize_t)size || fdatasync(fd) != 0) die(path, "not written");
        n += records;
    }
    double rate = (double)n / (clock_now_s() - start_s);
    close(fd);
    unlink(path);
    free(data);
    return rate;
}

static void measure(struct run *run, const char *folder, const char *name, size_t callers,
                    uint64_t records)
{
    char *lines = malloc(records * RECORD_BYTES);
    if (lines == NULL) die(name, "out of memory");
    for (uint64_t i = 0; i < records; i++) memcpy(lines + i * RECORD_BYTES, RECORD, RECORD_BYTES);
    run->lines = lines;
    run->n = records;
    double rate = measure_store(run, callers);
    double floor = measure_floor(run, folder, callers * records);
    printf("{\"mode\":\"%s\",\"callers\":%zu,\"records_per_accept\":%llu,\"records_s\":%.0f,"
           "\"floor_records_s\":%.0f,\"ratio\":%.2f}\n",
           name, callers, (unsigned long long)records, rate, floor, rate / floor);
    fflush(stdout);
    free(lines);
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "store-bench";
    struct run run = {.seconds = argc > 2 ? atof(argv[2]) : 3};
    log_configure(LOG_WARNING, LOG_FORMAT_TEXT);
    tidemill_error *error = store_open(&io_local, folder, &run.store);
    if (error != NULL) die("open", error_message(error));
    measure(&run, folder, "single", 1, 1);
    measure(&run, folder, "single", 64, 1);
    measure(&run, folder, "single", 256, 1);
    measure(&run, folder, "batched", 1, 100);
    measure(&run, folder, "batched", 1, 1000);
    measure(&run, folder, "batched", 4, 1000);
    store_close(run.store);
    return 0;
}
