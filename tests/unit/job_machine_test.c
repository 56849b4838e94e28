/* SPDX-License-Identifier: Apache-2.0 */
/* job_machine_test.c - cores and memory as /proc and the cgroup tell them, with a fallback for
 * every file that is missing or odd; and the names beside an output. */
#include "expect.h"

#include "job/machine.h"
#include "job/paths.h"
#include "simdisk.h"

#define MIB ((uint64_t)1 << 20)

static void put(struct simdisk *disk, const char *path, const char *text)
{
    if (text != NULL) simdisk_put(disk, path, text, strlen(text));
}

static void memory_is_the_tighter_of_machine_and_cgroup(void **unused)
{
    (void)unused;
    static const char meminfo[] = "MemTotal:       8388608 kB\nMemFree:          1024 kB\n"
                                  "MemAvailable:    1048576 kB\nBuffers: 5 kB\n";
    static const struct {
        const char *name, *meminfo, *limit, *used;
        uint64_t expected;
    } rows[] = {
        {"no file at all", NULL, NULL, NULL, 0},
        {"no cgroup", meminfo, NULL, NULL, 1024 * MIB},
        {"a cgroup without limit", meminfo, "max\n", "1048576\n", 1024 * MIB},
        {"a tighter cgroup", meminfo, "536870912\n", "104857600\n", 412 * MIB},
        {"a wider cgroup", meminfo, "8589934592\n", "0\n", 1024 * MIB},
        {"a cgroup that is full is not 'unknown'", meminfo, "1000\n", "2000\n", 1},
        {"a limit without use", meminfo, "1000\n", NULL, 1024 * MIB},
        {"a cgroup alone", NULL, "536870912\n", "0\n", 512 * MIB},
        {"an old kernel's meminfo", "MemTotal: 100 kB\n", NULL, NULL, 0},
        {"an empty meminfo", "", NULL, NULL, 0},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct simdisk *disk = simdisk_new();
        put(disk, "/proc/meminfo", rows[i].meminfo);
        put(disk, "/sys/fs/cgroup/memory.max", rows[i].limit);
        put(disk, "/sys/fs/cgroup/memory.current", rows[i].used);
        uint64_t found = machine_memory_free_bytes(simdisk_io(disk));
        if (found != rows[i].expected)
            fail_msg("%s: %llu", rows[i].name, (unsigned long long)found);
        simdisk_free(disk);
    }
}

static void cores_are_at_least_one_and_at_most_the_quota(void **unused)
{
    (void)unused;
    static const struct {
        const char *name, *quota;
        int most; /* 0: what the scheduler lets */
    } rows[] = {
        {"no quota file", NULL, 0},
        {"no quota", "max 100000\n", 0},
        {"a tenth of a core", "10000 100000\n", 1},
        {"one core", "100000 100000\n", 1},
        {"one and a half", "150000 100000\n", 2},
        {"more than there are", "100000000 100000\n", 0},
        {"no period", "100000\n", 1},
        {"a period of zero", "100000 0\n", 0},
        {"an empty file", "", 0},
        {"words", "unlimited\n", 0},
    };
    struct simdisk *empty = simdisk_new();
    int all = machine_cores(simdisk_io(empty));
    assert_true(all >= 1);
    simdisk_free(empty);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct simdisk *disk = simdisk_new();
        put(disk, "/sys/fs/cgroup/cpu.max", rows[i].quota);
        int expected = rows[i].most == 0 ? all : MIN(all, rows[i].most);
        int found = machine_cores(simdisk_io(disk));
        if (found != expected) fail_msg("%s: %d cores", rows[i].name, found);
        simdisk_free(disk);
    }
}

static void peak_memory_is_read_from_the_status(void **unused)
{
    (void)unused;
    struct simdisk *disk = simdisk_new();
    assert_int_equal(machine_peak_memory_bytes(simdisk_io(disk)), 0);
    put(disk, "/proc/self/status", "Name:\ttidemill\nVmPeak:\t 9999 kB\nVmHWM:\t    2048 kB\n");
    assert_int_equal(machine_peak_memory_bytes(simdisk_io(disk)), 2 * MIB);
    simdisk_free(disk);
    assert_true(machine_peak_memory_bytes(&io_local) > 0); /* the real one */
    assert_true(machine_memory_free_bytes(&io_local) > 0);
}

static void names_beside_an_output_only_get_longer(void **unused)
{
    (void)unused;
    static const struct {
        const char *path, *ending, *expected;
    } rows[] = {
        {"out.jsonl", ".journal", "out.jsonl.journal"},
        {"a b/%s.csv.gz", ".partial", "a b/%s.csv.gz.partial"},
        {"", ".lock", ".lock"},
        {"x", "", "x"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char *path = path_with(rows[i].path, rows[i].ending);
        expect_text(path, rows[i].expected, rows[i].path);
        free(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_the_tighter_of_machine_and_cgroup),
        cmocka_unit_test(cores_are_at_least_one_and_at_most_the_quota),
        cmocka_unit_test(peak_memory_is_read_from_the_status),
        cmocka_unit_test(names_beside_an_output_only_get_longer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
