/* SPDX-License-Identifier: Apache-2.0 */
/* io_simdisk_test.c - the simulated disk loses what a real one may lose, and nothing else. */
#include "simdisk.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FLAGS (O_RDWR | O_CREAT)

static int open_file(const struct io *io, const char *path, int flags)
{
    int fd = io->open(io->context, path, flags, 0666);
    assert_true(fd >= 0);
    return fd;
}

static void write_text(const struct io *io, int fd, const char *text)
{
    assert_int_equal(io->write(io->context, fd, text, strlen(text)), strlen(text));
}

static void sync_directory(const struct io *io, const char *path)
{
    int fd = open_file(io, path, O_RDONLY | O_DIRECTORY);
    assert_int_equal(io->fsync(io->context, fd), 0);
    assert_int_equal(io->close(io->context, fd), 0);
}

static void assert_content(struct simdisk *disk, const char *path, const char *expected)
{
    size_t size = 0;
    const char *data = simdisk_get(disk, path, &size);
    if (expected == NULL) {
        assert_null(data);
        return;
    }
    assert_non_null(data);
    assert_int_equal(size, strlen(expected));
    assert_memory_equal(data, expected, size);
}

static void test_what_lasts_depends_on_what_was_synced(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool sync_file, sync_directory;
        const char *after_loss; /* seed 0: nothing that was not synced */
    } rows[] = {
        {"nothing", false, false, NULL},
        {"content but no name", true, false, NULL},
        {"name but no content", false, true, ""},
        {"both", true, true, "text"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (uint64_t seed = 0; seed <= 1; seed++) {
            struct simdisk *disk = simdisk_new();
            const struct io *io = simdisk_io(disk);
            int fd = open_file(io, "d/f", FLAGS);
            write_text(io, fd, "text");
            if (rows[i].sync_file) assert_int_equal(io->fdatasync(io->context, fd), 0);
            if (rows[i].sync_directory) sync_directory(io, "d");
            sync_directory(io, "another");
            assert_content(disk, "d/f", "text");
            simdisk_crash(disk, seed);
            assert_content(disk, "d/f", seed == 1 ? "text" : rows[i].after_loss);
            assert_int_equal(io->write(io->context, fd, "x", 1), -1);
            assert_int_equal(errno, EBADF);
            simdisk_free(disk);
        }
    }
}

static void test_names_change_when_the_directory_is_synced(void **state)
{
    (void)state;
    struct simdisk *disk = simdisk_new();
    const struct io *io = simdisk_io(disk);
    simdisk_put(disk, "d/a", "A", 1);
    simdisk_put(disk, "d/b", "B", 1);
    assert_int_equal(io->rename(io->context, "d/a", "d/b"), 0);
    assert_content(disk, "d/a", NULL);
    assert_content(disk, "d/b", "A");
    simdisk_crash(disk, 0);
    assert_content(disk, "d/a", "A");
    assert_content(disk, "d/b", "B");
    assert_int_equal(io->rename(io->context, "d/a", "d/b"), 0);
    assert_int_equal(io->rename(io->context, "d/a", "d/b"), -1);
    sync_directory(io, "d");
    assert_int_equal(io->unlink(io->context, "d/b"), 0);
    simdisk_crash(disk, 0);
    assert_content(disk, "d/a", NULL);
    assert_content(disk, "d/b", "A");
    simdisk_free(disk);
}

/* Two sectors written over old ones: each is old or new, all four mixes occur, and no other. */
static void test_writes_tear_at_sectors(void **state)
{
    (void)state;
    char old[1024], new[1024];
    unsigned seen = 0;
    memset(old, 'o', sizeof old);
    memset(new, 'n', sizeof new);
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct simdisk *disk = simdisk_new();
        const struct io *io = simdisk_io(disk);
        size_t size = 0;
        simdisk_put(disk, "f", old, sizeof old);
        int fd = open_file(io, "f", FLAGS);
        assert_int_equal(io->pwrite(io->context, fd, new, sizeof new, 0), sizeof new);
        simdisk_crash(disk, seed);
        const char *data = simdisk_get(disk, "f", &size);
        assert_int_equal(size, sizeof old);
        for (size_t i = 0; i < size; i++) {
            assert_int_equal(data[i], data[i & ~(size_t)511]);
            assert_true(data[i] == 'o' || data[i] == 'n');
        }
        seen |= 1u << ((data[0] == 'n') + 2 * (data[512] == 'n'));
        simdisk_free(disk);
    }
    assert_int_equal(seen, 15);
}

static void test_the_same_seed_gives_the_same_crash(void **state)
{
    (void)state;
    for (uint64_t seed = 2; seed < 30; seed++) {
        struct simdisk *disk = simdisk_new();
        const struct io *io = simdisk_io(disk);
        char text[4000];
        size_t size = 0, again_size = 0;
        memset(text, 'x', sizeof text);
        int fd = open_file(io, "f", FLAGS);
        sync_directory(io, ".");
        assert_int_equal(io->write(io->context, fd, text, sizeof text), sizeof text);
        struct simdisk *copy = simdisk_copy(disk);
        simdisk_crash(disk, seed);
        simdisk_crash(copy, seed);
        const char *data = simdisk_get(disk, "f", &size);
        const char *again = simdisk_get(copy, "f", &again_size);
        assert_int_equal(size, again_size);
        assert_true(memcmp(data, again, size) == 0);
        simdisk_free(disk);
        simdisk_free(copy);
    }
}

/* fsync fails once and succeeds then: what the first should have written is lost all the same. */
static void test_a_failed_sync_drops_the_data(void **state)
{
    (void)state;
    struct simdisk *disk = simdisk_new();
    const struct io *io = simdisk_io(disk);
    simdisk_put(disk, "f", "", 0);
    int fd = open_file(io, "f", FLAGS);
    write_text(io, fd, "lost");
    simdisk_fail(disk, SIMDISK_SYNC, 1, SIMDISK_ONCE, EIO);
    assert_int_equal(io->fsync(io->context, fd), -1);
    assert_int_equal(errno, EIO);
    assert_int_equal(io->fsync(io->context, fd), 0);
    assert_content(disk, "f", "lost"); /* still in memory, as if all were well */
    simdisk_crash(disk, 1);
    assert_content(disk, "f", "");
    simdisk_free(disk);
}

static void test_a_full_disk_takes_what_fits(void **state)
{
    (void)state;
    struct simdisk *disk = simdisk_new();
    const struct io *io = simdisk_io(disk);
    simdisk_put(disk, "a", "123", 3);
    simdisk_set_capacity(disk, 5);
    int fd = open_file(io, "b", FLAGS);
    assert_int_equal(io->write(io->context, fd, "abcd", 4), 2);
    assert_int_equal(io->write(io->context, fd, "cd", 2), -1);
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(io->pwrite(io->context, fd, "AB", 2, 0), 2); /* over what is there */
    assert_int_equal(io->unlink(io->context, "a"), 0);
    assert_int_equal(io->write(io->context, fd, "cd", 2), 2);
    assert_content(disk, "b", "ABcd");
    simdisk_free(disk);
}

static void test_faults_strike_the_call_that_was_named(void **state)
{
    (void)state;
    static const struct {
        enum simdisk_mode mode;
        int errnum;
        int results
            [4]; /* of four writes of two bytes, from the first call on; the second is named */
    } rows[] = {
        {SIMDISK_ONCE, EIO, {2, -1, 2, 2}},
        {SIMDISK_FOREVER, EIO, {2, -1, -1, -1}},
        {SIMDISK_SHORT, 0, {2, 1, 2, 2}},
        {SIMDISK_SHORT, EIO, {2, 1, -1, 2}},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct simdisk *disk = simdisk_new();
        const struct io *io = simdisk_io(disk);
        int fd = open_file(io, "f", FLAGS);
        simdisk_fail(disk, SIMDISK_WRITE, 2, rows[i].mode, rows[i].errnum);
        for (size_t j = 0; j < 4; j++) {
            assert_int_equal(simdisk_has_failed(disk), j >= 2);
            assert_int_equal(io->write(io->context, fd, "xy", 2), rows[i].results[j]);
        }
        assert_int_equal(simdisk_calls(disk, SIMDISK_WRITE), 4);
        assert_int_equal(simdisk_calls(disk, SIMDISK_ANY), 4);
        simdisk_free(disk);
    }
}

static void test_files_behave(void **state)
{
    (void)state;
    struct simdisk *disk = simdisk_new();
    const struct io *io = simdisk_io(disk);
    char back[8] = {0};
    struct stat status;
    assert_int_equal(io->open(io->context, "f", O_RDONLY, 0), -1);
    assert_int_equal(errno, ENOENT);
    int fd = open_file(io, "f", FLAGS | O_EXCL);
    assert_int_equal(io->open(io->context, "f", FLAGS | O_EXCL, 0), -1);
    assert_int_equal(errno, EEXIST);
    write_text(io, fd, "abc");
    int other = open_file(io, "f", O_RDONLY);
    assert_int_equal(io->read(io->context, other, back, 2), 2);
    assert_int_equal(io->read(io->context, other, back, 8), 1);
    assert_int_equal(back[0], 'c');
    assert_int_equal(io->read(io->context, other, back, 8), 0);
    assert_int_equal(io->pread(io->context, other, back, 8, 1), 2);
    assert_int_equal(io->ftruncate(io->context, fd, 5), 0);
    assert_int_equal(io->fstat(io->context, other, &status), 0);
    assert_int_equal(status.st_size, 5);
    assert_true(S_ISREG(status.st_mode) && status.st_mtime > 0);
    assert_int_equal(io->unlink(io->context, "f"), 0);
    assert_int_equal(io->pread(io->context, other, back, 8, 0), 5); /* open files stay */
    assert_int_equal(io->stat(io->context, "f", &status), -1);
    assert_int_equal(io->close(io->context, other), 0);
    assert_int_equal(io->close(io->context, other), -1);
    assert_int_equal(simdisk_file_count(disk), 0);
    simdisk_free(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_lasts_depends_on_what_was_synced),
        cmocka_unit_test(test_names_change_when_the_directory_is_synced),
        cmocka_unit_test(test_writes_tear_at_sectors),
        cmocka_unit_test(test_the_same_seed_gives_the_same_crash),
        cmocka_unit_test(test_a_failed_sync_drops_the_data),
        cmocka_unit_test(test_a_full_disk_takes_what_fits),
        cmocka_unit_test(test_faults_strike_the_call_that_was_named),
        cmocka_unit_test(test_files_behave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
