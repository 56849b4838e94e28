/* SPDX-License-Identifier: Apache-2.0 */
/* job_disk_test.c - whole jobs on the simulated disk: every call fails once, for ever, by half, the
 * power goes, and the same job run again ends with the bytes of an undisturbed run. */
#include "job/job.h"
#include "simdisk.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_RECORDS 400
#define INPUTS 170 /* different ones: the others are equal to an earlier one */
#define OUTPUT "/data/out.jsonl"
#define ERRORS "/data/out.jsonl.errors.jsonl"
#define RUNS_MAX 5

static const char *output_name, *errors_name;

static void put_input(struct simdisk *disk)
{
    struct buffer text = {0};
    for (int i = 0; i < N_RECORDS; i++) {
        if (i % 37 == 5)
            buffer_text(&text, "{broken\n");
        else
            buffer_printf(&text, "{\"id\":%d,\"x\":[%d,%d.5]}\n", i, i % INPUTS, i % 10);
    }
    simdisk_put(disk, "/data/in.jsonl", text.data, text.size);
    buffer_free(&text);
}

static void set(struct job_spec *spec, const char *name, const char *value)
{
    tidemill_error *error = option_set(spec, option_find(name), value, name);
    assert_null(error);
}

/* One run of the job; returns its error's code. */
static enum error_code run_job(const struct io *io, const char *more_name, const char *more_value)
{
    struct job_spec spec;
    struct job_stop stop;
    struct job_summary summary;
    assert_null(job_spec_init(&spec));
    set(&spec, "model", "echo:width=2,row_latency_us=10");
    set(&spec, "isolate", "false");
    set(&spec, "input", "/data/in.jsonl");
    set(&spec, "output", output_name);
    set(&spec, "batch", "16");
    set(&spec, "instances", "1");
    set(&spec, "checkpoint-every", "10ms");
    set(&spec, "max-record-bytes", "4096");
    /* compressed: every record runs; plain: equal inputs run once */
    set(&spec, "dedup", strstr(output_name, ".gz") != NULL ? "off" : "on");
    if (more_name != NULL) set(&spec, more_name, more_value);
    tidemill_error *error = job_spec_check(&spec, io);
    assert_null(job_stop_init(&stop));
    if (error == NULL) error = job_run(&spec, io, NULL, &stop, &summary);
    enum error_code code = error_code_of(error);
    if (error != NULL) assert_true(strlen(error_message(error)) > 10);
    error_free(error);
    job_stop_fini(&stop);
    job_spec_free(&spec);
    return code;
}

struct content {
    char *data;
    size_t size;
};

static struct content copy_file(struct simdisk *disk, const char *path)
{
    struct content content = {0};
    const char *data = simdisk_get(disk, path, &content.size);
    assert_non_null(data);
    content.data = malloc(content.size + 1);
    assert_non_null(content.data);
    memcpy(content.data, data, content.size);
    return content;
}

static struct content output, errors; /* of the undisturbed run */

static void make_reference(const char *path)
{
    static char errors_path[256];
    output_name = path;
    snprintf(errors_path, sizeof errors_path, "%s.errors.jsonl", path);
    errors_name = errors_path;
    free(output.data);
    free(errors.data);
    struct simdisk *disk = simdisk_new();
    put_input(disk);
    assert_int_equal(run_job(simdisk_io(disk), NULL, NULL), ERROR_OK);
    output = copy_file(disk, output_name);
    errors = copy_file(disk, errors_name);
    simdisk_free(disk);
}

static void expect_whole_or_absent(struct simdisk *disk, const char *path,
                                   const struct content *whole)
{
    size_t size;
    const char *data = simdisk_get(disk, path, &size);
    if (data == NULL) return;
    assert_int_equal(size, whole->size);
    assert_memory_equal(data, whole->data, size);
}

/* The run before was this process too, which lives on: what makes a real lock stale is missing. */
static void remove_lock(struct simdisk *disk)
{
    char path[256];
    const struct io *io = simdisk_io(disk);
    snprintf(path, sizeof path, "%s.lock", output_name);
    io->unlink(io->context, path);
}

/* After whatever happened: run until done, and compare. */
static void finish_and_compare(struct simdisk *disk)
{
    expect_whole_or_absent(disk, output_name, &output);
    enum error_code code = ERROR_IO;
    for (int run = 0; run < RUNS_MAX && code != ERROR_OK; run++) {
        remove_lock(disk);
        code = run_job(simdisk_io(disk), NULL, NULL);
    }
    assert_int_equal(code, ERROR_OK);
    size_t size;
    assert_non_null(simdisk_get(disk, output_name, &size));
    expect_whole_or_absent(disk, output_name, &output);
    expect_whole_or_absent(disk, errors_name, &errors);
    for (size_t i = 0; i < simdisk_file_count(disk); i++) {
        const char *path = simdisk_file_path(disk, i);
        assert_null(strstr(path, ".partial"));
        assert_null(strstr(path, ".lock"));
        assert_null(strstr(path, ".answers"));
    }
}

static uint64_t calls_of_a_job(void)
{
    struct simdisk *disk = simdisk_new();
    put_input(disk);
    simdisk_fail(disk, SIMDISK_ANY, 0, SIMDISK_ONCE, 0);
    assert_int_equal(run_job(simdisk_io(disk), NULL, NULL), ERROR_OK);
    uint64_t calls = simdisk_calls(disk, SIMDISK_ANY);
    simdisk_free(disk);
    return calls;
}

/* The nth call fails in that way, then perhaps the power goes. */
static void disturb(uint64_t nth, enum simdisk_mode mode, int errnum, bool has_crash, uint64_t seed)
{
    struct simdisk *disk = simdisk_new();
    put_input(disk);
    simdisk_fail(disk, SIMDISK_ANY, nth, mode, errnum);
    run_job(simdisk_io(disk), NULL, NULL); /* may end well: some calls may fail unharmed */
    simdisk_fail(disk, SIMDISK_ANY, 0, SIMDISK_ONCE, 0);
    if (has_crash) simdisk_crash(disk, seed);
    finish_and_compare(disk);
    simdisk_free(disk);
}

struct disturbance {
    const char *name;
    enum simdisk_mode mode;
    int errnum;
    bool has_crash;
};

static const struct disturbance disturbances[] = {
    {"one call fails", SIMDISK_ONCE, EIO, false},
    {"one call fails, then the power", SIMDISK_ONCE, EIO, true},
    {"disk full from some call on", SIMDISK_FOREVER, ENOSPC, false},
    {"everything fails from some call on, then the power", SIMDISK_FOREVER, EIO, true},
    {"one call does half", SIMDISK_SHORT, 0, false},
};

static void disturb_everywhere(void)
{
    uint64_t calls = calls_of_a_job(), seed = 0;
    assert_true(calls > 20);
    for (size_t d = 0; d < COUNT_OF(disturbances); d++) {
        for (uint64_t nth = 1; nth <= calls; nth++) {
            const struct disturbance *how = &disturbances[d];
            printf("%s, call %llu of %llu, seed %llu\r", how->name, (unsigned long long)nth,
                   (unsigned long long)calls, (unsigned long long)seed);
            disturb(nth, how->mode, how->errnum, how->has_crash, seed++);
        }
    }
    printf("\n");
}

static void test_every_call_fails(void **state)
{
    (void)state;
    make_reference(OUTPUT);
    disturb_everywhere();
}

static void test_every_call_fails_with_compression(void **state)
{
    (void)state;
    make_reference(OUTPUT ".gz");
    disturb_everywhere();
}

static void test_small_disk_then_room(void **state)
{
    (void)state;
    make_reference(OUTPUT);
    size_t input_bytes;
    for (uint64_t room = 0; room < output.size + 4096; room += 997) {
        struct simdisk *disk = simdisk_new();
        put_input(disk);
        simdisk_get(disk, "/data/in.jsonl", &input_bytes);
        simdisk_set_capacity(disk, input_bytes + 1 + room);
        enum error_code code = run_job(simdisk_io(disk), NULL, NULL);
        assert_true(code == ERROR_NO_SPACE || code == ERROR_OK);
        simdisk_set_capacity(disk, 0);
        finish_and_compare(disk);
        simdisk_free(disk);
    }
}

static void test_failed_sync_is_final(void **state)
{
    (void)state;
    make_reference(OUTPUT);
    for (uint64_t nth = 4; nth <= 8; nth++) { /* the first ones are the lock's and the journal's */
        struct simdisk *disk = simdisk_new();
        put_input(disk);
        simdisk_fail(disk, SIMDISK_SYNC, nth, SIMDISK_ONCE, EIO);
        enum error_code code = run_job(simdisk_io(disk), NULL, NULL);
        if (simdisk_has_failed(disk)) assert_int_equal(code, ERROR_IO);
        simdisk_crash(disk, nth);
        finish_and_compare(disk);
        simdisk_free(disk);
    }
}

static void test_changed_input_is_refused(void **state)
{
    (void)state;
    make_reference(OUTPUT);
    struct simdisk *disk = simdisk_new();
    put_input(disk);
    simdisk_fail(disk, SIMDISK_RENAME, 1, SIMDISK_FOREVER, EIO);
    assert_int_equal(run_job(simdisk_io(disk), NULL, NULL), ERROR_IO);
    simdisk_fail(disk, SIMDISK_ANY, 0, SIMDISK_ONCE, 0);
    simdisk_put(disk, "/data/in.jsonl", "{\"id\":1,\"x\":[1,2]}\n", 19);
    assert_int_equal(run_job(simdisk_io(disk), NULL, NULL), ERROR_CHANGED);
    assert_int_equal(run_job(simdisk_io(disk), "force", "true"), ERROR_OK);
    simdisk_free(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_call_fails),
        cmocka_unit_test(test_every_call_fails_with_compression),
        cmocka_unit_test(test_small_disk_then_room),
        cmocka_unit_test(test_failed_sync_is_final),
        cmocka_unit_test(test_changed_input_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
