/* SPDX-License-Identifier: Apache-2.0 */
/* io_fingerprint_test.c - another content, size or sampled block gives another fingerprint; the
 * same content elsewhere and later does not. */
#include "simdisk.h"
#include "tempdir.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PATH "in/data"

static void assert_fine(tidemill_error *error)
{
    if (error != NULL) fail_msg("%s", error_message(error));
}

static struct digest fingerprint_of(const void *data, size_t size)
{
    struct simdisk *disk = simdisk_new();
    struct digest digest = {0};
    uint64_t size_found = 0;
    simdisk_put(disk, PATH, data, size);
    assert_fine(io_fingerprint(simdisk_io(disk), PATH, &digest, &size_found));
    assert_int_equal(size_found, size);
    simdisk_free(disk);
    return digest;
}

static void test_any_byte_and_the_size_count(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 63, 256, 3000};
    char data[3001] = {0};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        size_t size = sizes[i];
        struct digest before = fingerprint_of(data, size);
        assert_true(digest_equal(before, fingerprint_of(data, size)));
        for (size_t byte = 0; byte < size; byte++) {
            data[byte] ^= 1;
            assert_false(digest_equal(before, fingerprint_of(data, size)));
            data[byte] ^= 1;
        }
        assert_false(digest_equal(before, fingerprint_of(data, size - 1)));
        assert_false(digest_equal(before, fingerprint_of(data, size + 1)));
    }
}

/* Small reads of the disk give the same fingerprint as large ones. */
static void test_short_reads_change_nothing(void **state)
{
    (void)state;
    size_t size = (size_t)3 << 20;
    char *data = calloc(1, size);
    assert_non_null(data);
    for (size_t i = 0; i < size; i += 1001) data[i] = (char)i;
    struct digest expected = fingerprint_of(data, size), digest;
    uint64_t size_found;
    for (uint64_t nth = 1; nth <= 4; nth++) {
        struct simdisk *disk = simdisk_new();
        simdisk_put(disk, PATH, data, size);
        simdisk_fail(disk, SIMDISK_READ, nth, SIMDISK_SHORT, 0);
        assert_fine(io_fingerprint(simdisk_io(disk), PATH, &digest, &size_found));
        assert_true(nth == 4 || simdisk_has_failed(disk));
        assert_true(digest_equal(expected, digest));
        simdisk_free(disk);
    }
    free(data);
}

static void test_every_failing_call_is_an_error(void **state)
{
    (void)state;
    for (uint64_t nth = 1;; nth++) {
        struct simdisk *disk = simdisk_new();
        struct digest digest;
        uint64_t size_found;
        simdisk_put(disk, PATH, "abc", 3);
        simdisk_fail(disk, SIMDISK_ANY, nth, SIMDISK_ONCE, EIO);
        tidemill_error *error = io_fingerprint(simdisk_io(disk), PATH, &digest, &size_found);
        bool has_failed = simdisk_has_failed(disk);
        /* close is the last call, and tells nothing about what was read */
        bool is_close = simdisk_calls(disk, SIMDISK_CLOSE) == 1 &&
                        simdisk_calls(disk, SIMDISK_ANY) == nth && error == NULL;
        assert_true(!has_failed || error != NULL || is_close);
        error_free(error);
        simdisk_free(disk);
        if (!has_failed) break;
        assert_true(nth < 10);
    }
}

/* A sparse file just beyond the limit: the first, the last and the sampled blocks count. */
static void test_large_files_are_sampled_to_both_ends(void **state)
{
    (void)state;
    struct tempdir tempdir;
    struct digest before, after;
    uint64_t size = FINGERPRINT_WHOLE_BYTES + 12345, size_found = 0;
    tempdir_open(&tempdir);
    const char *path = tempdir_path(&tempdir, "large");
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    assert_fine(io_fingerprint(&io_local, path, &before, &size_found));
    assert_true(size_found == size);
    const struct {
        const char *name;
        uint64_t offset;
        bool counts;
    } rows[] = {
        {"first byte", 0, true},
        {"last byte of the first block", 65535, true},
        {"byte after the first block", 65536, false},
        {"second block", (size - 65536) / 1023, true},
        {"first byte of the last block", size - 65536, true},
        {"last byte", size - 1, true},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        assert_int_equal(pwrite(fd, "x", 1, (off_t)rows[i].offset), 1);
        assert_fine(io_fingerprint(&io_local, path, &after, &size_found));
        if (digest_equal(before, after) == rows[i].counts) fail_msg("%s", rows[i].name);
        assert_int_equal(pwrite(fd, "\0", 1, (off_t)rows[i].offset), 1);
    }
    assert_int_equal(ftruncate(fd, (off_t)size + 1), 0);
    assert_fine(io_fingerprint(&io_local, path, &after, &size_found));
    assert_false(digest_equal(before, after));
    close(fd);
    tempdir_close(&tempdir);
}

static void test_what_has_no_fingerprint_is_refused_at_once(void **state)
{
    (void)state;
    struct tempdir tempdir;
    struct digest digest;
    uint64_t size;
    tempdir_open(&tempdir);
    const char *fifo = tempdir_path(&tempdir, "fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    const char *const paths[] = {fifo, tempdir.path, "/nonexistent", "/dev/null"};
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        tidemill_error *error = io_fingerprint(&io_local, paths[i], &digest, &size);
        assert_int_equal(error_code_of(error), ERROR_INPUT);
        assert_non_null(strstr(error_message(error), paths[i]));
        error_free(error);
    }
    tempdir_close(&tempdir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_byte_and_the_size_count),
        cmocka_unit_test(test_short_reads_change_nothing),
        cmocka_unit_test(test_every_failing_call_is_an_error),
        cmocka_unit_test(test_large_files_are_sampled_to_both_ends),
        cmocka_unit_test(test_what_has_no_fingerprint_is_refused_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
