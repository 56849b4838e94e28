/* SPDX-License-Identifier: Apache-2.0 */
/* io_files_test.c - whole files: publishing leaves the old or the whole new one whatever happens;
 * reading and writing neither skip, repeat nor spin; sentences say what to do. */
#include "simdisk.h"
#include "tempdir.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

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

/* --- publish ---------------------------------------------------------------------------------- */

static char new_data[5000];

/* What every writer of a whole file does. */
static tidemill_error *write_and_publish(const struct io *io, const char *from, const char *to)
{
    int fd = -1;
    TRY(io_open(io, from, O_WRONLY | O_CREAT | O_TRUNC, 0666, &fd));
    tidemill_error *error = io_write_all(io, fd, from, new_data, sizeof new_data);
    if (error == NULL && io->fsync(io->context, fd) != 0) error = error_new(ERROR_IO, "no sync");
    io_close(io, fd);
    return error != NULL ? error : io_publish(io, from, to);
}

static void assert_old_or_new(struct simdisk *disk, const char *path, bool has_old,
                              bool must_be_new)
{
    size_t size = 0;
    const char *data = simdisk_get(disk, path, &size);
    if (data == NULL) {
        assert_false(has_old || must_be_new);
        return;
    }
    bool is_new = size == sizeof new_data && memcmp(data, new_data, size) == 0;
    bool is_old = size == 3 && memcmp(data, "old", 3) == 0;
    assert_true(is_new || (has_old && is_old));
    assert_true(is_new || !must_be_new);
}

/* Stops before each call in turn (all later ones fail: a kill), then loses power in many ways. */
static void test_publish_leaves_old_or_whole_new_in_every_crash(void **state)
{
    (void)state;
    static const struct {
        const char *name, *from, *to;
        bool has_old, has_remains;
    } rows[] = {
        {"first time", "d/out.partial", "d/out", false, false},
        {"over an old one", "d/out.partial", "d/out", true, false},
        {"remains of a kill", "d/out.partial", "d/out", true, true},
        {"from another folder", "tmp/x", "d/out", true, false},
        {"without a folder", "out.partial", "out", true, false},
        {"in the root", "/out.partial", "/out", true, false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (uint64_t nth = 1;; nth++) {
            struct simdisk *disk = simdisk_new();
            if (rows[i].has_old) simdisk_put(disk, rows[i].to, "old", 3);
            if (rows[i].has_remains) simdisk_put(disk, rows[i].from, "torn", 4);
            simdisk_fail(disk, SIMDISK_ANY, nth, SIMDISK_FOREVER, EIO);
            tidemill_error *error = write_and_publish(simdisk_io(disk), rows[i].from, rows[i].to);
            bool is_done = error == NULL;
            bool has_failed = simdisk_has_failed(disk);
            error_free(error);
            for (uint64_t seed = 0; seed < 60; seed++) {
                struct simdisk *copy = simdisk_copy(disk);
                simdisk_crash(copy, seed);
                assert_old_or_new(copy, rows[i].to, rows[i].has_old, is_done);
                /* And the same command again brings it to an end. */
                assert_fine(write_and_publish(simdisk_io(copy), rows[i].from, rows[i].to));
                simdisk_crash(copy, 0);
                assert_old_or_new(copy, rows[i].to, rows[i].has_old, true);
                simdisk_free(copy);
            }
            simdisk_free(disk);
            if (!has_failed) break;
            assert_true(nth < 50);
        }
    }
}

static void test_publish_without_sync_would_be_noticed(void **state)
{
    (void)state;
    size_t torn = 0;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct simdisk *disk = simdisk_new();
        const struct io *io = simdisk_io(disk);
        int fd = -1;
        size_t size = 0;
        assert_fine(io_open(io, "a", O_WRONLY | O_CREAT, 0666, &fd));
        assert_fine(io_write_all(io, fd, "a", new_data, sizeof new_data));
        io_close(io, fd);
        assert_fine(io_publish(io, "a", "b"));
        simdisk_crash(disk, seed);
        const char *data = simdisk_get(disk, "b", &size);
        assert_non_null(data);
        torn += size != sizeof new_data || memcmp(data, new_data, size) != 0;
        simdisk_free(disk);
    }
    assert_true(torn > 10);
}

static void test_a_folder_that_cannot_be_synced_is_let_pass(void **state)
{
    (void)state;
    static const struct {
        int errnum;
        enum error_code code;
    } rows[] = {{EINVAL, ERROR_OK}, {ENOTSUP, ERROR_OK}, {EIO, ERROR_IO}, {ENOSPC, ERROR_NO_SPACE}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct simdisk *disk = simdisk_new();
        simdisk_fail(disk, SIMDISK_SYNC, 1, SIMDISK_ONCE, rows[i].errnum);
        tidemill_error *error = io_sync_directory(simdisk_io(disk), "d/f");
        assert_true(simdisk_has_failed(disk));
        assert_int_equal(error_code_of(error), rows[i].code);
        error_free(error);
        simdisk_free(disk);
    }
}

/* --- reading and writing ---------------------------------------------------------------------- */

static void test_read_file_knows_its_limit(void **state)
{
    (void)state;
    static const struct {
        size_t size, size_max;
        bool is_fine;
    } rows[] = {
        {0, 0, true},        {1, 0, false},          {10, 10, true},     {11, 10, false},
        {4096, 4096, true},  {4097, 4096, false},    {4095, 9999, true}, {5000, 5000, true},
        {5000, 4999, false}, {5000, SIZE_MAX, true},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (uint64_t nth = 0; nth < 4; nth++) { /* with short reads, too */
            struct simdisk *disk = simdisk_new();
            char *data = NULL;
            size_t size = 0;
            simdisk_put(disk, "f", new_data, rows[i].size);
            simdisk_fail(disk, SIMDISK_READ, nth, SIMDISK_SHORT, 0);
            tidemill_error *error =
                io_read_file(simdisk_io(disk), "f", rows[i].size_max, &data, &size);
            if (rows[i].is_fine) {
                assert_fine(error);
                assert_int_equal(size, rows[i].size);
                assert_true(memcmp(data, new_data, size) == 0);
                assert_int_equal(data[size], '\0');
                free(data);
            } else {
                assert_says(error, ERROR_IO, "f is larger than the");
            }
            simdisk_free(disk);
        }
    }
}

static void test_read_file_reads_what_says_it_is_empty(void **state)
{
    (void)state;
    char *data = NULL;
    size_t size = 0;
    assert_fine(io_read_file(&io_local, "/proc/self/stat", 1 << 16, &data, &size));
    assert_true(size > 20);
    free(data);
}

static ssize_t write_nothing(void *context, int fd, const void *data, size_t size)
{
    (void)context, (void)fd, (void)data, (void)size;
    return 0;
}

static void test_a_write_of_nothing_does_not_spin(void **state)
{
    (void)state;
    struct io io = io_local;
    io.write = write_nothing;
    assert_says(io_write_all(&io, 1, "p", "x", 1), ERROR_NO_SPACE, "cannot write p: ");
}

static void on_alarm(int number)
{
    (void)number;
}

/* A full, non-blocking pipe and a storm of signals: everything arrives, once. */
static void test_interrupted_and_busy_pipes_lose_nothing(void **state)
{
    (void)state;
    enum { TOTAL = 1 << 20 };
    int ends[2];
    unsigned char *data = malloc(TOTAL);
    assert_non_null(data);
    for (size_t i = 0; i < TOTAL; i++) data[i] = (unsigned char)(i * 7 + i / 251);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0); /* one end busy, one interrupted */
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART: calls are interrupted */
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 500}, {0, 500}}, NULL);
    if (pid == 0) {
        close(ends[0]);
        usleep(20000); /* the other end waits, and is interrupted */
        tidemill_error *error = io_write_all(&io_local, ends[1], "pipe", data, TOTAL);
        _exit(error == NULL ? 0 : 1);
    }
    close(ends[1]);
    unsigned char *back = malloc(TOTAL + 1);
    size_t size = 0;
    int status = 0;
    assert_non_null(back);
    assert_fine(io_read_all(&io_local, ends[0], "pipe", back, TOTAL + 1, &size));
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
    assert_int_equal(size, TOTAL);
    assert_true(memcmp(back, data, TOTAL) == 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(ends[0]);
    free(data);
    free(back);
}

static void test_exists_in_doubt(void **state)
{
    (void)state;
    assert_true(io_exists(&io_local, "/"));
    assert_false(io_exists(&io_local, "/nonexistent"));
    assert_false(io_exists(&io_local, "/dev/null/x"));
    struct simdisk *disk = simdisk_new();
    simdisk_fail(disk, SIMDISK_STAT, 1, SIMDISK_ONCE, EACCES);
    assert_true(io_exists(simdisk_io(disk), "unknown"));
    assert_false(io_exists(simdisk_io(disk), "unknown"));
    simdisk_free(disk);
}

static void test_descriptors_do_not_leak_into_programs(void **state)
{
    (void)state;
    int fd = -1;
    assert_fine(io_open(&io_local, "/dev/null", O_RDONLY, 0, &fd));
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    io_close(&io_local, fd);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    io_close(&io_local, -1);
}

/* --- sentences -------------------------------------------------------------------------------- */

static void test_real_limits_are_named(void **state)
{
    (void)state;
    struct tempdir tempdir;
    int fd = -1;
    tempdir_open(&tempdir);
    /* In a child: limits cannot be raised again. */
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){100, 100});
        tidemill_error *error =
            io_open(&io_local, tempdir_path(&tempdir, "f"), O_WRONLY | O_CREAT, 0600, &fd);
        if (error == NULL) error = io_write_all(&io_local, fd, "f", new_data, 200);
        if (strstr(error_message(error), "File too large; raise the limit on file sizes") == NULL) {
            _exit(1);
        }
        setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, 0});
        error = io_open(&io_local, "/dev/null", O_RDONLY, 0, &fd);
        _exit(strstr(error_message(error), "ulimit -n") == NULL ? 2 : 0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    tempdir_close(&tempdir);
}

static void test_sentences_say_what_where_and_what_to_do(void **state)
{
    (void)state;
    static const struct {
        int errnum;
        int flags;
        enum error_code code;
        const char *says;
    } rows[] = {
        {ENOSPC, O_WRONLY, ERROR_NO_SPACE,
         "cannot write d/f: No space left on device; free some space and run the same command "
         "again"},
        {EDQUOT, O_WRONLY, ERROR_NO_SPACE, "cannot write d/f: Disk quota exceeded; delete files"},
        {ENOMEM, O_RDONLY, ERROR_MEMORY, "cannot read d/f: Cannot allocate memory"},
        {ENOENT, O_RDONLY, ERROR_IO, "cannot read d/f: No such file or directory; check the name"},
        {ENOENT, O_WRONLY, ERROR_IO, "check that the folder is there"},
        {EROFS, O_RDWR, ERROR_IO, "the file system is read-only; choose another place"},
        {ENFILE, O_RDONLY, ERROR_IO, "the whole machine has too many files open"},
        {EIO, O_WRONLY, ERROR_IO, "check the system log"},
        {EDOM, O_WRONLY, ERROR_IO, "cannot write d/f: Numerical argument out of domain"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct simdisk *disk = simdisk_new();
        int fd = -1;
        simdisk_fail(disk, SIMDISK_OPEN, 1, SIMDISK_ONCE, rows[i].errnum);
        assert_says(io_open(simdisk_io(disk), "d/f", rows[i].flags, 0, &fd), rows[i].code,
                    rows[i].says);
        simdisk_free(disk);
    }
}

int main(void)
{
    for (size_t i = 0; i < sizeof new_data; i++) new_data[i] = (char)('a' + i % 23);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_publish_leaves_old_or_whole_new_in_every_crash),
        cmocka_unit_test(test_publish_without_sync_would_be_noticed),
        cmocka_unit_test(test_a_folder_that_cannot_be_synced_is_let_pass),
        cmocka_unit_test(test_read_file_knows_its_limit),
        cmocka_unit_test(test_read_file_reads_what_says_it_is_empty),
        cmocka_unit_test(test_a_write_of_nothing_does_not_spin),
        cmocka_unit_test(test_interrupted_and_busy_pipes_lose_nothing),
        cmocka_unit_test(test_exists_in_doubt),
        cmocka_unit_test(test_descriptors_do_not_leak_into_programs),
        cmocka_unit_test(test_real_limits_are_named),
        cmocka_unit_test(test_sentences_say_what_where_and_what_to_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
