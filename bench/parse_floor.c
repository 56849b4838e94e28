/* SPDX-License-Identifier: Apache-2.0 */
/* parse_floor.c - the floor for JSONL: yyjson reads lines into rows of floats, and nothing else.
 *
 * The file is mapped and shared out by bytes among the processes; a line belongs to the one in
 * whose part it begins. Prints a line of JSON: rows/s and processor seconds per million rows. */
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
#define POOL_BYTES (4 << 20) /* for yyjson: it asks for no memory of the system */
#define PROCESSES_MAX 256

static float row[NUMBERS_MAX];
static char pool[POOL_BYTES];

struct input {
    const char *text, *field;
    size_t size;
};

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void die(const char *what)
{
    fprintf(stderr, "parse_floor: %s\n", what);
    exit(1);
}

/* Numbers of the field of one line -> row. */
static void parse_line(const char *line, size_t length, const char *field,
                       const yyjson_alc *allocator)
{
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)line, length, 0, allocator, NULL);
    yyjson_val *array = yyjson_obj_get(yyjson_doc_get_root(doc), field), *number;
    if (!yyjson_is_arr(array)) die("a line without the field, or not JSON");
    size_t i, n;
    if (yyjson_arr_size(array) > NUMBERS_MAX) die("too many numbers");
    yyjson_arr_foreach(array, i, n, number) row[i] = (float)yyjson_get_num(number);
    yyjson_doc_free(doc);
}

/* Lines that begin in [from, to). Returns how many. */
static uint64_t parse(const struct input *input, size_t from, size_t to)
{
    const char *line = input->text + from, *end = input->text + input->size;
    uint64_t n_rows = 0;
    yyjson_alc allocator;
    yyjson_alc_pool_init(&allocator, pool, sizeof pool);
    if (from > 0) {
        const char *before = memchr(line - 1, '\n', (size_t)(end - line) + 1);
        line = before == NULL ? end : before + 1;
    }
    while (line < input->text + to) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        size_t length = (size_t)((newline == NULL ? end : newline) - line);
        parse_line(line, length, input->field, &allocator);
        n_rows++;
        line += length + 1;
    }
    return n_rows;
}

static void map_input(const char *path, struct input *ret)
{
    struct stat status;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &status) != 0) die("cannot open the file");
    ret->size = (size_t)status.st_size;
    ret->text = mmap(NULL, ret->size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (ret->text == MAP_FAILED) die("cannot map the file");
}

static uint64_t parse_in_processes(const struct input *input, size_t processes)
{
    uint64_t total = 0;
    uint64_t *rows = mmap(NULL, PROCESSES_MAX * sizeof *rows, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if ((void *)rows == MAP_FAILED) die("no memory");
    for (size_t p = 0; p < processes; p++) {
        size_t from = input->size / processes * p;
        size_t to = p + 1 == processes ? input->size : input->size / processes * (p + 1);
        pid_t pid = fork();
        if (pid < 0) die("cannot start a process");
        if (pid > 0) continue;
        rows[p] = parse(input, from, to);
        _exit(0);
    }
    for (size_t p = 0; p < processes; p++) {
        int status;
        if (wait(&status) < 0 || status != 0) die("a process failed");
    }
    for (size_t p = 0; p < processes; p++) total += rows[p];
    return total;
}

int main(int argc, char **argv)
{
    struct input input;
    struct rusage usage;
    int processes = argc == 4 ? atoi(argv[3]) : 0;
    if (processes < 1 || processes > PROCESSES_MAX) {
        fputs("usage: parse_floor FILE FIELD PROCESSES\n", stderr);
        return 2;
    }
    input.field = argv[2];
    map_input(argv[1], &input);
    double started_s = now_s();
    uint64_t rows = parse_in_processes(&input, (size_t)processes);
    double seconds = now_s() - started_s;
    getrusage(RUSAGE_CHILDREN, &usage);
    double cpu_s = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                   (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
    printf("{\"rows\":%llu,\"rows_per_s\":%.1f,\"cpu_s_per_million\":%.4f}\n",
           (unsigned long long)rows, (double)rows / seconds, cpu_s / (double)rows * 1e6);
    return 0;
}
