/* SPDX-License-Identifier: Apache-2.0 */
/* io_spool_test.c - an output file goes on after any kill, failure or power loss, to the same
 * bytes. */
#include "simdisk.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PATH "out/result.partial"
#define FINAL "out/result"

static const enum compression compressions[] = {COMPRESSION_NONE, COMPRESSION_GZIP,
                                                COMPRESSION_ZSTD};

/* Text that compresses like real output, from a seed. */
static void fill_text(char *data, size_t size, unsigned seed)
{
    unsigned state = seed * 2654435761u + 1;
    for (size_t i = 0; i < size; i++) {
        state = state * 1664525u + 1013904223u;
        data[i] = i % 40 == 39 ? '\n' : "0123456789abcdef{}\":,"[(state >> 24) % 21];
    }
}

static void assert_fine(tidemill_error *error)
{
    if (error != NULL) fail_msg("%s", error_message(error));
}

static void assert_code(tidemill_error *error, enum error_code code)
{
    assert_non_null(error);
    if (error_code_of(error) != code) {
        fail_msg("%s, not %s: %s", error_code_name(error_code_of(error)), error_code_name(code),
                 error_message(error));
    }
    error_free(error);
}

/* A position as a journal keeps it: with a tail of its own. */
struct record {
    struct spool_position position;
    char *tail;
};

static void record_take(struct record *record, const struct spool_position *position)
{
    free(record->tail);
    record->tail = malloc(position->tail.size + 1);
    assert_non_null(record->tail);
    memcpy(record->tail, position->tail.data, position->tail.size);
    record->position = *position;
    record->position.tail.data = record->tail;
}

struct file {
    char *data;
    size_t size;
};

static struct file file_copy(struct simdisk *disk, const char *path)
{
    struct file copy = {0};
    const char *data = simdisk_get(disk, path, &copy.size);
    assert_non_null(data);
    copy.data = malloc(copy.size + 1);
    assert_non_null(copy.data);
    memcpy(copy.data, data, copy.size);
    return copy;
}

static void assert_file(struct simdisk *disk, const char *path, const struct file *expected)
{
    size_t size = 0;
    const char *data = simdisk_get(disk, path, &size);
    assert_non_null(data);
    assert_int_equal(size, expected->size);
    assert_true(memcmp(data, expected->data, size) == 0);
}

/* The file that an undisturbed run writes. */
static struct file write_reference(enum compression compression, const char *data, size_t size)
{
    struct simdisk *disk = simdisk_new();
    struct spool *spool = NULL;
    uint64_t file_bytes = 0;
    assert_fine(spool_open(simdisk_io(disk), PATH, compression, NULL, &spool));
    assert_fine(spool_append(spool, data, size));
    assert_fine(spool_finish(spool, &file_bytes));
    spool_close(spool);
    struct file reference = file_copy(disk, PATH);
    assert_int_equal(file_bytes, reference.size);
    simdisk_free(disk);
    return reference;
}

/* --- resume ----------------------------------------------------------------------------------- */

/* Writes `cut` bytes and a checkpoint, then others that a kill forgets (more than will follow),
 * then goes on. */
static void resume_at(enum compression compression, const char *data, size_t size, size_t cut,
                      const struct file *reference)
{
    struct simdisk *disk = simdisk_new();
    struct spool *spool = NULL;
    struct spool_position position;
    struct record record = {0};
    uint64_t file_bytes = 0;
    assert_fine(spool_open(simdisk_io(disk), PATH, compression, NULL, &spool));
    assert_fine(spool_append(spool, data, cut));
    assert_fine(spool_checkpoint(spool, cut % 2 == 0, &position));
    record_take(&record, &position);
    assert_int_equal(position.plain_bytes, cut);
    assert_fine(spool_append(spool, data, size));
    assert_fine(spool_append(spool, "?", 1));
    assert_fine(spool_checkpoint(spool, false, &position));
    spool_close(spool);

    assert_fine(spool_open(simdisk_io(disk), PATH, compression, &record.position, &spool));
    assert_fine(spool_append(spool, data + cut, size - cut));
    assert_fine(spool_finish(spool, &file_bytes));
    spool_close(spool);
    assert_int_equal(file_bytes, reference->size);
    assert_file(disk, PATH, reference);
    free(record.tail);
    simdisk_free(disk);
}

static void test_resume_at_every_byte_of_a_small_file(void **state)
{
    (void)state;
    char data[300];
    fill_text(data, sizeof data, 1);
    for (size_t i = 0; i < COUNT_OF(compressions); i++) {
        struct file reference = write_reference(compressions[i], data, sizeof data);
        for (size_t cut = 0; cut <= sizeof data; cut++) {
            resume_at(compressions[i], data, sizeof data, cut, &reference);
        }
        free(reference.data);
    }
}

static void test_resume_around_every_frame_boundary(void **state)
{
    (void)state;
    static const size_t sizes[] = {SPOOL_FRAME_BYTES - 1, SPOOL_FRAME_BYTES, SPOOL_FRAME_BYTES + 1,
                                   SPOOL_FRAME_BYTES * 2 + 777};
    char *data = malloc(SPOOL_FRAME_BYTES * 3);
    assert_non_null(data);
    fill_text(data, SPOOL_FRAME_BYTES * 3, 2);
    for (size_t i = 0; i < COUNT_OF(compressions) * COUNT_OF(sizes); i++) {
        enum compression compression = compressions[i / COUNT_OF(sizes)];
        size_t size = sizes[i % COUNT_OF(sizes)];
        struct file reference = write_reference(compression, data, size);
        for (size_t boundary = 0; boundary <= size; boundary += SPOOL_FRAME_BYTES) {
            for (int step = -1; step <= 1; step++) {
                size_t cut = boundary + (size_t)step;
                if (cut > size) continue; /* also -1 */
                resume_at(compression, data, size, cut, &reference);
            }
        }
        free(reference.data);
    }
    free(data);
}

static void test_bytes_do_not_depend_on_checkpoints(void **state)
{
    (void)state;
    size_t size = SPOOL_FRAME_BYTES * 2 + 4321;
    char *data = malloc(size);
    assert_non_null(data);
    fill_text(data, size, 3);
    for (size_t i = 0; i < COUNT_OF(compressions); i++) {
        struct file reference = write_reference(compressions[i], data, size);
        for (unsigned seed = 1; seed <= 8; seed++) {
            struct simdisk *disk = simdisk_new();
            struct spool *spool = NULL;
            struct spool_position position;
            unsigned random = seed;
            uint64_t file_bytes = 0;
            assert_fine(spool_open(simdisk_io(disk), PATH, compressions[i], NULL, &spool));
            for (size_t done = 0, step; done < size; done += step) {
                random = random * 1664525u + 1013904223u;
                step = MIN(size - done, (size_t)(random >> (seed % 2 == 0 ? 12 : 17)));
                assert_fine(spool_append(spool, data + done, step));
                if (random % 3 == 0)
                    assert_fine(spool_checkpoint(spool, random % 5 == 0, &position));
            }
            assert_fine(spool_finish(spool, &file_bytes));
            spool_close(spool);
            assert_file(disk, PATH, &reference);
            simdisk_free(disk);
        }
        free(reference.data);
    }
    free(data);
}

static void test_what_was_written_is_read_back(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, SPOOL_FRAME_BYTES, SPOOL_FRAME_BYTES * 3 + 5};
    char *data = malloc(SPOOL_FRAME_BYTES * 4);
    char *back = malloc(SPOOL_FRAME_BYTES * 4);
    assert_true(data != NULL && back != NULL);
    fill_text(data, SPOOL_FRAME_BYTES * 4, 4);
    for (size_t i = 0; i < COUNT_OF(compressions) * COUNT_OF(sizes); i++) {
        enum compression compression = compressions[i / COUNT_OF(sizes)];
        size_t size = sizes[i % COUNT_OF(sizes)], total = 0, count = 0;
        struct file written = write_reference(compression, data, size);
        assert_true(size == 0 || written.size > 0);
        assert_true(compression == COMPRESSION_NONE || written.size > 0);
        struct simdisk *disk = simdisk_new();
        simdisk_put(disk, PATH, written.data, written.size);
        struct reader *reader = NULL;
        assert_fine(reader_open(simdisk_io(disk), PATH, compression, &reader));
        do {
            assert_fine(reader_read(reader, back + total, SPOOL_FRAME_BYTES * 4 - total, &count));
            total += count;
        } while (count > 0);
        reader_close(reader);
        assert_int_equal(total, size);
        assert_true(memcmp(back, data, size) == 0);
        simdisk_free(disk);
        free(written.data);
    }
    free(data);
    free(back);
}

static void test_a_compressed_header_says_nothing_of_time_and_machine(void **state)
{
    (void)state;
    struct file gzip = write_reference(COMPRESSION_GZIP, "x", 1);
    static const unsigned char header[] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255};
    assert_true(gzip.size > sizeof header);
    assert_true(memcmp(gzip.data, header, sizeof header) == 0);
    free(gzip.data);
}

/* --- positions that make no sense ------------------------------------------------------------- */

static void test_unsound_positions_are_refused(void **state)
{
    (void)state;
    static char tail[SPOOL_FRAME_BYTES];
    static const struct {
        const char *name;
        enum compression compression;
        uint64_t file_bytes, plain_bytes;
        size_t tail_size;
        size_t present; /* bytes on disk; 0: no file */
    } rows[] = {
        {"file shorter than recorded", COMPRESSION_NONE, 11, 11, 0, 10},
        {"file missing", COMPRESSION_NONE, 1, 1, 0, 0},
        {"compressed file missing", COMPRESSION_GZIP, 30, SPOOL_FRAME_BYTES, 0, 0},
        {"plain file with a tail", COMPRESSION_NONE, 5, 5, 1, 10},
        {"plain counts differ", COMPRESSION_NONE, 5, 6, 0, 10},
        {"tail of a whole frame", COMPRESSION_ZSTD, 0, SPOOL_FRAME_BYTES, SPOOL_FRAME_BYTES, 10},
        {"tail longer than all", COMPRESSION_ZSTD, 0, 3, 4, 10},
        {"cut inside a frame", COMPRESSION_ZSTD, 5, SPOOL_FRAME_BYTES + 1, 0, 10},
        {"larger than any file", COMPRESSION_NONE, UINT64_MAX, UINT64_MAX, 0, 10},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct simdisk *disk = simdisk_new();
        struct spool *spool = NULL;
        struct spool_position position = {.file_bytes = rows[i].file_bytes,
                                          .plain_bytes = rows[i].plain_bytes,
                                          .tail = {tail, rows[i].tail_size}};
        if (rows[i].present > 0) simdisk_put(disk, PATH, tail, rows[i].present);
        tidemill_error *error =
            spool_open(simdisk_io(disk), PATH, rows[i].compression, &position, &spool);
        if (error == NULL) fail_msg("accepted: %s", rows[i].name);
        assert_code(error, ERROR_CORRUPT);
        /* A refusal changes nothing. */
        size_t size = 0;
        assert_int_equal(simdisk_get(disk, PATH, &size) != NULL, rows[i].present > 0);
        assert_int_equal(size, rows[i].present);
        simdisk_free(disk);
    }
}

static void test_patch_overwrites_the_start_only(void **state)
{
    (void)state;
    struct simdisk *disk = simdisk_new();
    struct spool *spool = NULL;
    struct spool_position position;
    uint64_t file_bytes = 0;
    assert_fine(spool_open(simdisk_io(disk), PATH, COMPRESSION_NONE, NULL, &spool));
    assert_fine(spool_append(spool, "count=????\n", 11));
    assert_fine(spool_checkpoint(spool, true, &position));
    assert_fine(spool_append(spool, "a\nb\n", 4));
    assert_fine(spool_patch(spool, 6, "0002", 4));
    assert_fine(spool_append(spool, "c\n", 2));
    assert_fine(spool_finish(spool, &file_bytes));
    spool_close(spool);
    assert_int_equal(file_bytes, 17);
    assert_file(disk, PATH, &(struct file){(char *)"count=0002\na\nb\nc\n", 17});
    simdisk_free(disk);
}

/* --- failures --------------------------------------------------------------------------------- */

/* One attempt of a job: opens (at the record, if there is one), appends with a checkpoint every so
 * often, finishes, publishes. Leaves in `record` what was checkpointed. */
static tidemill_error *attempt(const struct io *io, enum compression compression, const char *data,
                               size_t size, struct record *record, bool *has_record)
{
    struct spool *spool = NULL;
    TRY(spool_open(io, PATH, compression, *has_record ? &record->position : NULL, &spool));
    tidemill_error *error = NULL;
    size_t step_max = size / 7 + 1;
    uint64_t done = *has_record ? record->position.plain_bytes : 0, ignored;
    while (error == NULL && done < size) {
        size_t step = MIN(step_max, (size_t)(size - done));
        struct spool_position position;
        error = spool_append(spool, data + done, step);
        if (error == NULL) error = spool_checkpoint(spool, true, &position);
        if (error != NULL) break;
        done += step;
        record_take(record, &position);
        *has_record = true;
    }
    if (error == NULL) error = spool_finish(spool, &ignored);
    if (error != NULL) {
        /* A spool that failed stays so: a second sync that succeeds must not be believed. */
        assert_code(spool_append(spool, "x", 1), ERROR_IO);
        assert_code(spool_checkpoint(spool, true, &(struct spool_position){0}), ERROR_IO);
        assert_code(spool_finish(spool, &ignored), ERROR_IO);
    }
    spool_close(spool);
    return error != NULL ? error : io_publish(io, PATH, FINAL);
}

/* Fails call `nth`, then the power goes in the way that `seed` says, then runs to the end. False:
 * the fault did not strike, the job makes fewer calls. */
static bool survive(enum compression compression, enum simdisk_call call, uint64_t nth,
                    enum simdisk_mode mode, int errnum, uint64_t seed, const char *data,
                    size_t size, const struct file *reference)
{
    struct simdisk *disk = simdisk_new();
    struct record record = {0};
    bool has_record = false;
    simdisk_fail(disk, call, nth, mode, errnum);
    tidemill_error *error =
        attempt(simdisk_io(disk), compression, data, size, &record, &has_record);
    bool has_failed = simdisk_has_failed(disk);
    size_t final_size = 0;
    assert_true(error == NULL || has_failed);
    simdisk_crash(disk, seed);
    const char *final = simdisk_get(disk, FINAL, &final_size);
    if (final != NULL) {
        assert_file(disk, FINAL, reference); /* whole, whenever the name is there */
    } else {
        assert_non_null(error); /* published means published */
        assert_fine(attempt(simdisk_io(disk), compression, data, size, &record, &has_record));
        assert_file(disk, FINAL, reference);
    }
    error_free(error);
    free(record.tail);
    simdisk_free(disk);
    return has_failed;
}

static void test_no_failing_call_loses_a_checkpointed_byte(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum simdisk_call call;
        int errnum;
    } rows[] = {
        {"open", SIMDISK_OPEN, EMFILE},        {"write: full", SIMDISK_WRITE, ENOSPC},
        {"write: broken", SIMDISK_WRITE, EIO}, {"write: short only", SIMDISK_WRITE, 0},
        {"sync", SIMDISK_SYNC, EIO},           {"stat", SIMDISK_STAT, EIO},
        {"rename", SIMDISK_RENAME, EACCES},    {"any call", SIMDISK_ANY, EIO},
    };
    static const enum simdisk_mode modes[] = {SIMDISK_ONCE, SIMDISK_FOREVER, SIMDISK_SHORT};
    size_t size = 5000;
    char *data = malloc(size);
    assert_non_null(data);
    fill_text(data, size, 5);
    for (size_t i = 0; i < COUNT_OF(compressions); i++) {
        struct file reference = write_reference(compressions[i], data, size);
        for (size_t j = 0; j < COUNT_OF(rows) * COUNT_OF(modes); j++) {
            enum simdisk_mode mode = modes[j % COUNT_OF(modes)];
            /* Only what has a length can be short. */
            bool is_short = mode == SIMDISK_SHORT;
            if (is_short && rows[j / COUNT_OF(modes)].call != SIMDISK_WRITE) continue;
            if (!is_short && rows[j / COUNT_OF(modes)].errnum == 0) continue;
            for (uint64_t seed = 0; seed < 6; seed++) {
                uint64_t nth = 1;
                while (survive(compressions[i], rows[j / COUNT_OF(modes)].call, nth, mode,
                               rows[j / COUNT_OF(modes)].errnum, seed, data, size, &reference)) {
                    nth++;
                }
                if (nth == 1)
                    fail_msg("the fault never struck: %s", rows[j / COUNT_OF(modes)].name);
            }
        }
        free(reference.data);
    }
    free(data);
}

static void test_frames_survive_power_loss_in_the_middle(void **state)
{
    (void)state;
    size_t size = SPOOL_FRAME_BYTES + SPOOL_FRAME_BYTES / 2;
    char *data = malloc(size);
    assert_non_null(data);
    fill_text(data, size, 6);
    for (size_t i = 0; i < COUNT_OF(compressions); i++) {
        struct file reference = write_reference(compressions[i], data, size);
        for (uint64_t seed = 0; seed < 12; seed++) {
            survive(compressions[i], SIMDISK_ANY, 4 + seed, SIMDISK_FOREVER, EIO, seed, data, size,
                    &reference);
        }
        free(reference.data);
    }
    free(data);
}

static void test_full_disk_says_what_to_do_and_goes_on_later(void **state)
{
    (void)state;
    char data[5000];
    fill_text(data, sizeof data, 7);
    struct file reference = write_reference(COMPRESSION_NONE, data, sizeof data);
    for (uint64_t capacity = 1; capacity < sizeof data; capacity += 97) {
        struct simdisk *disk = simdisk_new();
        struct record record = {0};
        bool has_record = false;
        simdisk_set_capacity(disk, capacity);
        tidemill_error *error =
            attempt(simdisk_io(disk), COMPRESSION_NONE, data, sizeof data, &record, &has_record);
        assert_non_null(error);
        assert_string_equal(error_message(error),
                            "cannot write " PATH ": No space left on device; free some space and "
                            "run the same command again");
        assert_code(error, ERROR_NO_SPACE);
        simdisk_set_capacity(disk, 0);
        assert_fine(
            attempt(simdisk_io(disk), COMPRESSION_NONE, data, sizeof data, &record, &has_record));
        assert_file(disk, FINAL, &reference);
        free(record.tail);
        simdisk_free(disk);
    }
    free(reference.data);
}

/* --- standard output -------------------------------------------------------------------------- */

/* In a child, because it is about descriptor 1. Returns the exit status. */
static int run_with_stdout(int fd, const char *data, size_t size)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0) {
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
    }
    signal(SIGPIPE, SIG_IGN);
    dup2(fd, STDOUT_FILENO);
    struct spool *spool = NULL;
    struct spool_position position;
    uint64_t file_bytes;
    tidemill_error *error = spool_open(&io_local, "-", COMPRESSION_NONE, NULL, &spool);
    if (error == NULL) error = spool_append(spool, data, size);
    if (error == NULL) error = spool_checkpoint(spool, true, &position);
    if (error == NULL) error = spool_finish(spool, &file_bytes);
    bool is_clear = error == NULL || strstr(error_message(error), "standard output") != NULL;
    int status = !is_clear ? 254 : (int)error_code_of(error);
    spool_close(spool);
    error_free(error);
    _exit(status);
}

static void test_stdout_takes_a_pipe(void **state)
{
    (void)state;
    int ends[2];
    char back[8] = {0};
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(run_with_stdout(ends[1], "hello\n", 6), ERROR_OK);
    assert_int_equal(read(ends[0], back, sizeof back), 6);
    assert_string_equal(back, "hello\n");
    close(ends[0]);
    assert_int_equal(run_with_stdout(ends[1], "hello\n", 6), ERROR_IO);
    close(ends[1]);
}

static void test_stdout_cannot_be_resumed(void **state)
{
    (void)state;
    struct spool *spool = NULL;
    struct spool_position position = {.file_bytes = 3, .plain_bytes = 3};
    assert_code(spool_open(&io_local, "-", COMPRESSION_NONE, &position, &spool), ERROR_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resume_at_every_byte_of_a_small_file),
        cmocka_unit_test(test_resume_around_every_frame_boundary),
        cmocka_unit_test(test_bytes_do_not_depend_on_checkpoints),
        cmocka_unit_test(test_what_was_written_is_read_back),
        cmocka_unit_test(test_a_compressed_header_says_nothing_of_time_and_machine),
        cmocka_unit_test(test_unsound_positions_are_refused),
        cmocka_unit_test(test_patch_overwrites_the_start_only),
        cmocka_unit_test(test_no_failing_call_loses_a_checkpointed_byte),
        cmocka_unit_test(test_frames_survive_power_loss_in_the_middle),
        cmocka_unit_test(test_full_disk_says_what_to_do_and_goes_on_later),
        cmocka_unit_test(test_stdout_takes_a_pipe),
        cmocka_unit_test(test_stdout_cannot_be_resumed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
