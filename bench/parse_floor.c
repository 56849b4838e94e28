/* SPDX-License-Identifier: Apache-2.0 */
/* parse_floor.c - the floor for JSONL: yyjson reads each line of a file into a row of floats, and
 * nothing else. One JSON line with rows/s and processor seconds.
 *
 * parse_floor FILE FIELD PROCESSES
 */
#include <yyjson.h>

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NUMBERS_MAX 65536

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Lines that begin in [from, to). Returns the rows; the sum keeps the work from being left out. */
static uint64_t parse(const char *text, size_t size, size_t from, size_t to, const char *field,
                      volatile float *sum)
{
    static float row[NUMBERS_MAX];
    static char pool[1 << 20];
    uint64_t rows = 0;
    yyjson_alc allocator;
    yyjson_alc_pool_init(&allocator, pool, sizeof pool);
    const char *p = text + from, *end = text + size;
    if (from > 0) p = (const char *)memchr(p - 1, '\n', (size_t)(end - p) + 1) + 1;
    while (p < text + to) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        size_t length = (size_t)((newline == NULL ? end : newline) - p);
        yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)p, length, 0, &allocator, NULL);
        yyjson_val *array = yyjson_obj_get(yyjson_doc_get_root(doc), field), *number;
        size_t i, n;
        yyjson_arr_foreach(array, i, n, number) row[i] = (float)yyjson_get_num(number);
        *sum += row[rows % 8];
        rows++;
        yyjson_doc_free(doc);
        p += length + 1;
    }
    return rows;
}

int main(int argc, char **argv)
{
    struct stat status;
    if (argc != 4) {
        fputs("usage: parse_floor FILE FIELD PROCESSES\n", stderr);
        return 2;
    }
    int fd = open(argv[1], O_RDONLY), processes = atoi(argv[3]);
    if (fd < 0 || fstat(fd, &status) != 0 || processes < 1) return 1;
    size_t size = (size_t)status.st_size;
    const char *text = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    uint64_t *rows = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (text == MAP_FAILED || (void *)rows == MAP_FAILED) return 1;
    double started_s = now_s();
    for (size_t p = 0; p < (size_t)processes; p++) {
        if (fork() != 0) continue;
        volatile float sum = 0;
        size_t n = (size_t)processes;
        rows[p] = parse(text, size, size / n * p, p + 1 == n ? size : size / n * (p + 1), argv[2],
                        &sum);
        _exit(0);
    }
    uint64_t total = 0;
    for (int p = 0; p < processes; p++) wait(NULL);
    double seconds = now_s() - started_s;
    for (int p = 0; p < processes; p++) total += rows[p];
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    double cpu_s = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                   (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
    printf("{\"rows\":%llu,\"rows_per_s\":%.1f,\"cpu_s_per_million\":%.4f}\n",
           (unsigned long long)total, (double)total / seconds, cpu_s / (double)total * 1e6);
    return 0;
}
