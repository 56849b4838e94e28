/* SPDX-License-Identifier: Apache-2.0 */
/* machine.c - reads /proc and the cgroup files; every answer has a fallback. */
#include "job/machine.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROC_FILE_BYTES_MAX ((size_t)1 << 16)

/* A small file's text, or NULL. The caller frees. */
static char *read_text(const struct io *io, const char *path)
{
    char *text = NULL;
    size_t size;
    tidemill_error *error = io_read_file(io, path, PROC_FILE_BYTES_MAX, &text, &size);
    if (error == NULL) return text;
    error_free(error);
    return NULL;
}

/* "Key:   123 kB" in such a file -> bytes; 0 when it is not there. */
static uint64_t kilobytes_of(const struct io *io, const char *path, const char *key)
{
    char *text = read_text(io, path);
    const char *line = text == NULL ? NULL : strstr(text, key);
    uint64_t bytes = line == NULL ? 0 : strtoull(line + strlen(key), NULL, 10) * 1024;
    free(text);
    return bytes;
}

/* Cores that the cgroup's quota is worth, rounded up; 0: no quota. */
static int quota_cores(const struct io *io)
{
    double quota, period = 100000;
    int cores = 0;
    char *text = read_text(io, "/sys/fs/cgroup/cpu.max");
    if (text != NULL && sscanf(text, "%lf %lf", &quota, &period) >= 1 && period > 0)
        cores = (int)(quota / period + 0.99);
    free(text);
    return cores;
}

int machine_cores(const struct io *io)
{
    cpu_set_t allowed;
    int cores = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
    int quota = quota_cores(io);
    if (quota > 0) cores = MIN(cores, quota);
    return MAX(cores, 1);
}

uint64_t machine_memory_free_bytes(const struct io *io)
{
    uint64_t bytes = kilobytes_of(io, "/proc/meminfo", "MemAvailable:");
    char *limit = read_text(io, "/sys/fs/cgroup/memory.max");
    char *used = read_text(io, "/sys/fs/cgroup/memory.current");
    if (limit != NULL && used != NULL && limit[0] >= '0' && limit[0] <= '9') {
        uint64_t limit_bytes = strtoull(limit, NULL, 10), used_bytes = strtoull(used, NULL, 10);
        uint64_t left = limit_bytes > used_bytes ? limit_bytes - used_bytes : 1;
        bytes = bytes == 0 ? left : MIN(bytes, left);
    }
    free(limit);
    free(used);
    return bytes;
}

/* "Key  : value" in the head of /proc/cpuinfo, which is long where there are many cores. */
static bool cpu_field(const char *text, const char *key, char *ret, size_t size)
{
    const char *line = strstr(text, key), *colon = line == NULL ? NULL : strchr(line, ':');
    if (colon == NULL) return false;
    colon += 1 + strspn(colon + 1, " \t");
    snprintf(ret, size, "%.*s", (int)strcspn(colon, "\n"), colon);
    return true;
}

void machine_cpu_name(const struct io *io, char *ret, size_t size)
{
    static const char *const keys[] = {"model name", "Model", "CPU part", "cpu"};
    char text[4096] = "";
    int fd;
    size_t n = 0;
    snprintf(ret, size, "unknown");
    tidemill_error *error = io_open(io, "/proc/cpuinfo", O_RDONLY, 0, &fd);
    if (error == NULL) {
        error = io_read_all(io, fd, "/proc/cpuinfo", text, sizeof text - 1, &n);
        io_close(io, fd);
    }
    text[error == NULL ? n : 0] = '\0';
    error_free(error);
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        if (cpu_field(text, keys[i], ret, size)) return;
}

uint64_t machine_peak_memory_bytes(const struct io *io)
{
    return kilobytes_of(io, "/proc/self/status", "VmHWM:");
}
