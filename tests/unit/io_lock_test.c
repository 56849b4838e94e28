/* SPDX-License-Identifier: Apache-2.0 */
/* io_lock_test.c - at most one process has the lock; a dead one's is no obstacle; a live one's
 * never goes away. */
#include "simdisk.h"
#include "tempdir.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define PATH "job/lock"
#define BOOT "11111111-2222-3333-4444-555555555555"
#define NO_SUCH_PID 2000000000 /* beyond any kernel's maximum */

static void assert_fine(tidemill_error *error)
{
    if (error != NULL) fail_msg("%s", error_message(error));
}

static void assert_says(tidemill_error *error, enum error_code code, const char *part)
{
    assert_non_null(error);
    if (error_code_of(error) != code || strstr(error_message(error), part) == NULL) {
        fail_msg("%s: '%s', not %s with '%s'", error_code_name(error_code_of(error)),
                 error_message(error), error_code_name(code), part);
    }
    error_free(error);
}

/* A process of a machine that exists only on the simulated disk. */
static void put_process(struct simdisk *disk, long long pid, char process_state,
                        unsigned long long start)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/%lld/stat", pid);
    /* The name of the program is chosen to mislead. */
    int size =
        snprintf(text, sizeof text,
                 "%lld (a) b (c) %c 1 1 1 0 -1 4194560 9 9 9 9 9 9 9 9 20 0 1 0 %llu 99 99\n", pid,
                 process_state, start);
    simdisk_put(disk, path, text, (size_t)size);
}

static struct simdisk *new_machine(void)
{
    struct simdisk *disk = simdisk_new();
    simdisk_put(disk, "/proc/sys/kernel/hostname", "here\n", 5);
    simdisk_put(disk, "/proc/sys/kernel/random/boot_id", BOOT "\n", strlen(BOOT) + 1);
    put_process(disk, getpid(), 'R', 1000);
    put_process(disk, 77, 'S', 7700);
    put_process(disk, 78, 'Z', 7800);
    return disk;
}

static void put_lock(struct simdisk *disk, const char *path, const char *host, long long pid,
                     unsigned long long start, const char *boot)
{
    char text[512];
    int size = snprintf(text, sizeof text,
                        "host=%s\npid=%lld\nstart=%llu\nboot=%s\nsince=2026-01-02T03:04:05Z\n",
                        host, pid, start, boot);
    simdisk_put(disk, path, text, (size_t)size);
}

static bool has_file(struct simdisk *disk, const char *path)
{
    size_t size;
    return simdisk_get(disk, path, &size) != NULL;
}

/* --- on a machine of our own making ----------------------------------------------------------- */

static void test_the_file_names_its_holder(void **state)
{
    (void)state;
    struct simdisk *disk = new_machine();
    struct file_lock *lock = NULL;
    char expected[256];
    size_t size = 0;
    assert_fine(file_lock_take(simdisk_io(disk), PATH, &lock));
    snprintf(expected, sizeof expected, "host=here\npid=%d\nstart=1000\nboot=" BOOT "\nsince=20",
             getpid());
    const char *text = simdisk_get(disk, PATH, &size);
    assert_true(size > strlen(expected) && memcmp(text, expected, strlen(expected)) == 0);
    assert_memory_equal(text + size - 2, "Z\n", 2);
    file_lock_release(lock);
    assert_false(has_file(disk, PATH));
    file_lock_release(NULL);
    simdisk_free(disk);
}

static void test_held_or_stale(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *host;
        long long pid;
        unsigned long long start;
        const char *boot;
        const char *says; /* NULL: stale, taken over */
    } rows[] = {
        {"alive", "here", 77, 7700, BOOT, "pid 77 on here, since 2026-01-02T03:04:05Z"},
        {"no such pid", "here", NO_SUCH_PID, 7700, BOOT, NULL},
        {"pid beyond all numbers", "here", INT64_MAX, 7700, BOOT, NULL},
        {"pid used again", "here", 77, 7699, BOOT, NULL},
        {"a zombie", "here", 78, 7800, BOOT, NULL},
        {"boot could not be read", "here", 77, 7700, "unknown", "pid 77 on here"},
        {"start could not be read", "here", 77, 0, BOOT, "pid 77 on here"},
        {"hidden in /proc, but there", "here", 1, 5, BOOT, "pid 1 on here"},
        {"before a reboot", "here", 77, 7700, "0-0", NULL},
        {"our own pid of before a reboot", "here", 0, 1000, "0-0", NULL},
        {"our own pid of another start", "here", 0, 999, BOOT, NULL},
        {"other host", "there", 77, 7700, BOOT, "if it is dead, remove job/lock"},
        {"other host, no such pid", "there", NO_SUCH_PID, 1, BOOT, "pid 2000000000 on there"},
        {"other host, other boot", "there", 77, 7700, "0-0", "from here this cannot be told"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct simdisk *disk = new_machine();
        struct file_lock *lock = NULL;
        long long pid = rows[i].pid == 0 ? getpid() : rows[i].pid;
        put_lock(disk, PATH, rows[i].host, pid, rows[i].start, rows[i].boot);
        size_t count = simdisk_file_count(disk);
        tidemill_error *error = file_lock_take(simdisk_io(disk), PATH, &lock);
        if (rows[i].says != NULL) {
            assert_says(error, ERROR_LOCKED, rows[i].says);
            assert_true(has_file(disk, PATH));
        } else {
            if (error != NULL) fail_msg("%s: %s", rows[i].name, error_message(error));
            assert_int_equal(simdisk_file_count(disk), count); /* nothing else lies about */
            file_lock_release(lock);
            assert_false(has_file(disk, PATH));
        }
        simdisk_free(disk);
    }
}

static void test_a_lock_file_that_is_not_whole_counts_as_stale_after_a_while(void **state)
{
    (void)state;
    static const char whole[] =
        "host=here\npid=77\nstart=7700\nboot=" BOOT "\nsince=2026-01-02T03:04:05Z\n";
    static const struct {
        const char *name;
        const char *text;
        size_t size;
    } rows[] = {
        {"empty", "", 0},
        {"garbage", "rubbish\n", 8},
        {"zeros", "\0\0\0\0", 4},
        {"without the last end of line", whole, sizeof whole - 2},
        {"half", whole, 30},
        {"more behind it", "host=h\npid=1\nstart=1\nboot=b\nsince=s\nx", 37},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct simdisk *disk = new_machine();
        struct file_lock *lock = NULL;
        simdisk_set_time(disk, time(NULL) - 60);
        simdisk_put(disk, PATH, rows[i].text, rows[i].size);
        simdisk_set_time(disk, 0);
        tidemill_error *error = file_lock_take(simdisk_io(disk), PATH, &lock);
        if (error != NULL) fail_msg("%s: %s", rows[i].name, error_message(error));
        file_lock_release(lock);
        simdisk_free(disk);
    }
}

static void test_a_young_half_written_file_is_waited_for(void **state)
{
    (void)state;
    struct simdisk *disk = new_machine();
    struct file_lock *lock = NULL;
    simdisk_set_time(disk, time(NULL) - 9); /* stale in about two seconds */
    simdisk_put(disk, PATH, "host=", 5);
    simdisk_set_time(disk, 0);
    double start_s = clock_now_s();
    assert_fine(file_lock_take(simdisk_io(disk), PATH, &lock));
    assert_true(clock_now_s() - start_s > 0.5);
    file_lock_release(lock);
    simdisk_free(disk);
}

static void test_left_over_takeovers_are_no_obstacle_and_go_away(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int level; /* files of a dead process: the lock and so many suffixes */
        bool has_lock;
    } rows[] = {{"killed while removing", 1, true},
                {"killed after removing", 1, false},
                {"killed twice", 2, true},
                {"killed at the second level only", 2, false}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct simdisk *disk = new_machine();
        struct file_lock *lock = NULL;
        size_t count = simdisk_file_count(disk);
        if (rows[i].has_lock) put_lock(disk, PATH, "here", NO_SUCH_PID, 1, BOOT);
        if (rows[i].level >= 1 && (rows[i].has_lock || rows[i].level == 1)) {
            put_lock(disk, PATH ".takeover", "here", NO_SUCH_PID, 1, BOOT);
        }
        if (rows[i].level >= 2) {
            put_lock(disk, PATH ".takeover.takeover", "here", NO_SUCH_PID, 1, BOOT);
        }
        assert_fine(file_lock_take(simdisk_io(disk), PATH, &lock));
        assert_int_equal(simdisk_file_count(disk), count + 1);
        file_lock_release(lock);
        assert_int_equal(simdisk_file_count(disk), count);
        simdisk_free(disk);
    }
}

static void test_a_live_takeover_of_another_host_is_not_waited_for(void **state)
{
    (void)state;
    struct simdisk *disk = new_machine();
    struct file_lock *lock = NULL;
    put_lock(disk, PATH, "here", NO_SUCH_PID, 1, BOOT);
    put_lock(disk, PATH ".takeover", "there", 5, 1, BOOT);
    double start_s = clock_now_s();
    assert_says(file_lock_take(simdisk_io(disk), PATH, &lock), ERROR_LOCKED, PATH ".takeover");
    assert_true(clock_now_s() - start_s < 2);
    simdisk_free(disk);
}

/* Release removes our file and no other. */
static void test_release_leaves_the_lock_of_another(void **state)
{
    (void)state;
    struct simdisk *disk = new_machine();
    struct file_lock *lock = NULL;
    assert_fine(file_lock_take(simdisk_io(disk), PATH, &lock));
    assert_int_equal(simdisk_io(disk)->unlink(simdisk_io(disk)->context, PATH), 0);
    put_lock(disk, PATH, "there", 5, 1, BOOT);
    file_lock_release(lock);
    assert_true(has_file(disk, PATH));
    simdisk_free(disk);
}

/* Each call of a takeover fails in turn; then the power goes; then the lock can be had. */
static void test_no_failing_call_makes_a_lock_that_cannot_be_had(void **state)
{
    (void)state;
    for (int mode = SIMDISK_ONCE; mode <= SIMDISK_FOREVER; mode++) {
        bool has_failed = true;
        for (uint64_t nth = 1; has_failed; nth++) {
            struct simdisk *disk = new_machine();
            struct file_lock *lock = NULL;
            put_lock(disk, PATH, "here", NO_SUCH_PID, 1, BOOT);
            simdisk_set_time(disk, time(NULL) - 60); /* so that the rest need not wait */
            simdisk_fail(disk, SIMDISK_ANY, nth, (enum simdisk_mode)mode, EIO);
            tidemill_error *error = file_lock_take(simdisk_io(disk), PATH, &lock);
            assert_true(error != NULL || lock != NULL);
            if (error == NULL && mode == SIMDISK_ONCE) assert_true(has_file(disk, PATH));
            if (error == NULL) file_lock_release(lock);
            has_failed = simdisk_has_failed(disk);
            error_free(error);

            simdisk_crash(disk, nth);
            simdisk_put(disk, "/proc/sys/kernel/random/boot_id", "next\n", 5);
            simdisk_set_time(disk, 0);
            lock = NULL;
            error = file_lock_take(simdisk_io(disk), PATH, &lock);
            if (error != NULL) fail_msg("call %d: %s", (int)nth, error_message(error));
            file_lock_release(lock);
            simdisk_free(disk);
        }
    }
}

/* Whatever cannot be read about a live holder, its lock stays. */
static void test_no_failing_call_takes_a_live_lock(void **state)
{
    (void)state;
    for (int mode = SIMDISK_ONCE; mode <= SIMDISK_SHORT; mode++) {
        bool has_failed = true;
        for (uint64_t nth = 1; has_failed; nth++) {
            struct simdisk *disk = new_machine();
            struct file_lock *lock = NULL;
            put_process(disk, getppid(), 'S', 5);
            put_lock(disk, PATH, "here", getppid(), 5, BOOT);
            simdisk_fail(disk, SIMDISK_ANY, nth, (enum simdisk_mode)mode, EMFILE);
            tidemill_error *error = file_lock_take(simdisk_io(disk), PATH, &lock);
            has_failed = simdisk_has_failed(disk);
            assert_non_null(error);
            assert_true(has_file(disk, PATH));
            error_free(error);
            simdisk_free(disk);
        }
    }
}

static void test_trouble_is_said(void **state)
{
    (void)state;
    struct simdisk *disk = new_machine();
    struct file_lock *lock = NULL;
    simdisk_set_capacity(disk, 1);
    assert_says(file_lock_take(simdisk_io(disk), PATH, &lock), ERROR_NO_SPACE,
                "cannot write job/lock: No space left on device; free some space");
    assert_false(has_file(disk, PATH));
    simdisk_free(disk);
    assert_says(file_lock_take(&io_local, "/nonexistent/folder/lock", &lock), ERROR_IO,
                "No such file or directory; check that the folder is there");
}

/* --- real processes --------------------------------------------------------------------------- */

static void test_a_second_process_is_refused_and_a_killed_one_is_replaced(void **state)
{
    (void)state;
    struct tempdir tempdir;
    int ends[2];
    char byte, part[64];
    tempdir_open(&tempdir);
    const char *path = tempdir_path(&tempdir, "lock");
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct file_lock *mine = NULL;
        if (file_lock_take(&io_local, path, &mine) != NULL) _exit(1);
        if (write(ends[1], "x", 1) != 1) _exit(1);
        pause();
        _exit(0);
    }
    assert_int_equal(read(ends[0], &byte, 1), 1);
    struct file_lock *lock = NULL;
    snprintf(part, sizeof part, "pid %d on ", (int)pid);
    assert_says(file_lock_take(&io_local, path, &lock), ERROR_LOCKED, part);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_fine(file_lock_take(&io_local, path, &lock));
    struct file_lock *again = NULL;
    snprintf(part, sizeof part, "pid %d on ", (int)getpid());
    assert_says(file_lock_take(&io_local, path, &again), ERROR_LOCKED, part);
    file_lock_release(lock);
    assert_int_equal(access(path, F_OK), -1);
    close(ends[0]);
    close(ends[1]);
    tempdir_close(&tempdir);
}

/* What the processes of a race share. `inside` counts who believes to have the lock. */
struct race {
    _Atomic int inside, taken, collisions, surprises;
    _Atomic int is_started;
};

static void race_once(const char *path, struct race *race, bool leave_behind)
{
    while (!race->is_started) usleep(20);
    struct file_lock *lock = NULL;
    tidemill_error *error = file_lock_take(&io_local, path, &lock);
    if (error != NULL) {
        if (error_code_of(error) != ERROR_LOCKED) race->surprises++;
        error_free(error);
        return;
    }
    if (race->inside++ != 0) race->collisions++;
    race->taken++;
    usleep(300);
    race->inside--;
    if (!leave_behind) file_lock_release(lock);
}

static void test_many_takers_of_a_stale_lock_never_share_it(void **state)
{
    (void)state;
    struct tempdir tempdir;
    tempdir_open(&tempdir);
    const char *path = tempdir_path(&tempdir, "lock");
    struct race *race =
        mmap(NULL, sizeof *race, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(race != MAP_FAILED);
    for (int round = 0; round < 60; round++) {
        char host[256], text[512];
        pid_t pids[6];
        assert_int_equal(gethostname(host, sizeof host), 0);
        int size =
            snprintf(text, sizeof text, "host=%s\npid=%d\nstart=1\nboot=before\nsince=long ago\n",
                     host, NO_SUCH_PID);
        tempdir_write(path, text, (size_t)size);
        *race = (struct race){0};
        fflush(NULL);
        for (size_t i = 0; i < COUNT_OF(pids); i++) {
            pids[i] = fork();
            assert_true(pids[i] >= 0);
            if (pids[i] == 0) {
                race_once(path, race, i % 2 == 0);
                _exit(0);
            }
        }
        race->is_started = 1;
        for (size_t i = 0; i < COUNT_OF(pids); i++) {
            assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
        }
        assert_int_equal(race->collisions, 0);
        assert_int_equal(race->surprises, 0);
        assert_true(race->taken >= 1);
    }
    munmap(race, sizeof *race);
    tempdir_close(&tempdir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_file_names_its_holder),
        cmocka_unit_test(test_held_or_stale),
        cmocka_unit_test(test_a_lock_file_that_is_not_whole_counts_as_stale_after_a_while),
        cmocka_unit_test(test_a_young_half_written_file_is_waited_for),
        cmocka_unit_test(test_left_over_takeovers_are_no_obstacle_and_go_away),
        cmocka_unit_test(test_a_live_takeover_of_another_host_is_not_waited_for),
        cmocka_unit_test(test_release_leaves_the_lock_of_another),
        cmocka_unit_test(test_no_failing_call_makes_a_lock_that_cannot_be_had),
        cmocka_unit_test(test_no_failing_call_takes_a_live_lock),
        cmocka_unit_test(test_trouble_is_said),
        cmocka_unit_test(test_a_second_process_is_refused_and_a_killed_one_is_replaced),
        cmocka_unit_test(test_many_takers_of_a_stale_lock_never_share_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
