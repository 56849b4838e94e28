/* SPDX-License-Identifier: Apache-2.0 */
/* io_reader_test.c - an input gives its plain bytes once and in order, or one sentence of what is
 * wrong; and what is hostile costs bounded memory. */
#include "io/compress.h"
#include "simdisk.h"
#include "tempdir.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <zlib.h>
#include <zstd.h>
#include <cmocka.h>

#define PATH "in/data"
#define BLOCK_BYTES ((size_t)1 << 20)

static const enum compression packings[] = {COMPRESSION_GZIP, COMPRESSION_ZSTD};

static void assert_fine(tidemill_error *error)
{
    if (error != NULL) fail_msg("%s", error_message(error));
}

/* The code, and a part of the sentence. */
static void assert_says(tidemill_error *error, enum error_code code, const char *part)
{
    assert_non_null(error);
    if (error_code_of(error) != code || strstr(error_message(error), part) == NULL) {
        fail_msg("%s: '%s', not %s with '%s'", error_code_name(error_code_of(error)),
                 error_message(error), error_code_name(code), part);
    }
    error_free(error);
}

/* Appends `data` as one member or frame. */
static void pack(struct buffer *packed, enum compression compression, const void *data, size_t size)
{
    struct compressor *compressor = NULL;
    struct slice frame;
    assert_fine(compressor_new(compression, size, &compressor));
    assert_fine(compressor_frame(compressor, data, size, &frame));
    buffer_append(packed, frame.data, frame.size);
    compressor_free(compressor);
    assert_false(packed->is_failed);
}

/* Reads all, at most `step` bytes a call; stops at an error. */
static tidemill_error *read_with(struct reader *reader, size_t step, struct buffer *plain)
{
    for (;;) {
        size_t count = 0;
        char *place = buffer_reserve(plain, step);
        assert_non_null(place);
        TRY(reader_read(reader, place, step, &count));
        if (count == 0) return NULL;
        assert_true(count <= step);
        plain->size += count;
        assert_int_equal(reader_offset(reader), plain->size);
    }
}

static tidemill_error *read_bytes(const struct buffer *bytes, enum compression compression,
                                  size_t step, struct buffer *plain)
{
    struct simdisk *disk = simdisk_new();
    struct reader *reader = NULL;
    simdisk_put(disk, PATH, bytes->data, bytes->size);
    tidemill_error *error = reader_open(simdisk_io(disk), PATH, compression, &reader);
    if (error == NULL) {
        error = read_with(reader, step, plain);
        if (error == NULL) assert_int_equal(reader_disk_offset(reader), bytes->size);
        assert_int_equal(reader_size_bytes(reader), bytes->size);
    }
    reader_close(reader);
    simdisk_free(disk);
    return error;
}

static void assert_reads(const struct buffer *bytes, enum compression compression, size_t step,
                         const struct buffer *expected)
{
    struct buffer plain = {0};
    assert_fine(read_bytes(bytes, compression, step, &plain));
    assert_int_equal(plain.size, expected->size);
    assert_true(plain.size == 0 || memcmp(plain.data, expected->data, plain.size) == 0);
    buffer_free(&plain);
}

static void fill_lines(struct buffer *text, size_t size)
{
    for (unsigned i = 0; text->size < size; i++)
        buffer_printf(text, "{\"n\":%u}\n", i * 2654435761u);
}

/* --- what is fine ----------------------------------------------------------------------------- */

static void test_every_packing_reads_back_in_any_step(void **state)
{
    (void)state;
    static const size_t steps[] = {1, 7, 4096, 1 << 20};
    struct buffer text = {0}, twice = {0};
    fill_lines(&text, 40000);
    buffer_append(&twice, text.data, text.size);
    buffer_append(&twice, text.data, text.size);
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        assert_reads(&text, COMPRESSION_NONE, steps[i], &text);
        assert_reads(&text, COMPRESSION_AUTO, steps[i], &text);
        for (size_t j = 0; j < COUNT_OF(packings); j++) {
            struct buffer packed = {0};
            pack(&packed, packings[j], text.data, text.size);
            assert_reads(&packed, packings[j], steps[i], &text);
            assert_reads(&packed, COMPRESSION_AUTO, steps[i], &text);
            /* Empty ones between do no harm. */
            pack(&packed, packings[j], "", 0);
            pack(&packed, packings[j], text.data, text.size);
            pack(&packed, packings[j], "", 0);
            assert_reads(&packed, packings[j], steps[i], &twice);
            buffer_free(&packed);
        }
    }
    buffer_free(&text);
    buffer_free(&twice);
}

static void test_empty_streams(void **state)
{
    (void)state;
    struct buffer nothing = {0}, plain = {0};
    assert_reads(&nothing, COMPRESSION_NONE, 100, &nothing);
    assert_reads(&nothing, COMPRESSION_AUTO, 100, &nothing);
    for (size_t i = 0; i < COUNT_OF(packings); i++) {
        struct buffer packed = {0};
        pack(&packed, packings[i], "", 0);
        assert_reads(&packed, packings[i], 100, &nothing);
        buffer_free(&packed);
        assert_says(read_bytes(&nothing, packings[i], 100, &plain), ERROR_INPUT, "is empty");
    }
    buffer_free(&plain);
}

static void test_zstd_skippable_frames_are_skipped(void **state)
{
    (void)state;
    struct buffer packed = {0}, text = {0};
    buffer_append(&packed, "\x52\x2a\x4d\x18\x03\0\0\0abc", 11);
    pack(&packed, COMPRESSION_ZSTD, "x\n", 2);
    buffer_append(&packed, "\x5f\x2a\x4d\x18\0\0\0\0", 8);
    buffer_text(&text, "x\n");
    assert_reads(&packed, COMPRESSION_AUTO, 100, &text);
    buffer_free(&packed);
    buffer_free(&text);
}

static void test_auto_goes_by_the_bytes_not_by_the_name(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *bytes;
        size_t size;
    } rows[] = {
        {"one byte of gzip's two", "\x1f", 1},
        {"gzip's two bytes, another method", "\x1f\x8b\x07\n", 4},
        {"zstd's first three bytes", "\x28\xb5\x2f", 3},
        {"NumPy", "\x93NUMPY", 6},
        {"a NUL", "\0", 1},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct buffer bytes = {0};
        buffer_append(&bytes, rows[i].bytes, rows[i].size);
        assert_reads(&bytes, COMPRESSION_AUTO, 100, &bytes);
        buffer_free(&bytes);
    }
}

static void test_compression_of_path(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        enum compression expected;
    } rows[] = {
        {"a.jsonl", COMPRESSION_NONE},      {"a.jsonl.gz", COMPRESSION_GZIP},
        {"a.zst", COMPRESSION_ZSTD},        {"a.gz.partial", COMPRESSION_NONE},
        {".gz", COMPRESSION_NONE},          {"", COMPRESSION_NONE},
        {"dir.gz/plain", COMPRESSION_NONE}, {"-", COMPRESSION_NONE},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        assert_int_equal(compression_of_path(rows[i].path), rows[i].expected);
    }
}

/* --- going on in the middle ------------------------------------------------------------------- */

static void test_skip_to_goes_on_at_the_byte(void **state)
{
    (void)state;
    static const enum compression kinds[] = {COMPRESSION_NONE, COMPRESSION_GZIP, COMPRESSION_ZSTD};
    struct buffer text = {0};
    fill_lines(&text, 300000);
    size_t offsets[] = {0, 1, 4095, text.size / 2, text.size - 1, text.size};
    for (size_t i = 0; i < COUNT_OF(kinds) * COUNT_OF(offsets); i++) {
        enum compression kind = kinds[i / COUNT_OF(offsets)];
        size_t offset = offsets[i % COUNT_OF(offsets)], count = 0;
        struct buffer bytes = {0}, rest = {0};
        if (kind == COMPRESSION_NONE) buffer_append(&bytes, text.data, text.size);
        if (kind != COMPRESSION_NONE) pack(&bytes, kind, text.data, text.size);
        struct simdisk *disk = simdisk_new();
        struct reader *reader = NULL;
        simdisk_put(disk, PATH, bytes.data, bytes.size);
        assert_fine(reader_open(simdisk_io(disk), PATH, COMPRESSION_AUTO, &reader));
        assert_int_equal(reader_is_seekable(reader), kind == COMPRESSION_NONE);
        assert_fine(reader_skip_to(reader, offset / 2)); /* twice, as a merge of ranges does */
        assert_fine(reader_skip_to(reader, offset));
        assert_int_equal(reader_offset(reader), offset);
        char *place = buffer_reserve(&rest, text.size + 1);
        do {
            assert_fine(reader_read(reader, place + rest.size, text.size + 1 - rest.size, &count));
            rest.size += count;
        } while (count > 0);
        assert_int_equal(rest.size, text.size - offset);
        assert_true(memcmp(rest.data, text.data + offset, rest.size) == 0);
        if (offset > 0) assert_says(reader_skip_to(reader, offset - 1), ERROR_INTERNAL, "go back");
        assert_says(reader_skip_to(reader, text.size + 1), ERROR_CHANGED, "start anew");
        reader_close(reader);
        simdisk_free(disk);
        buffer_free(&bytes);
        buffer_free(&rest);
    }
    buffer_free(&text);
}

/* --- what is broken --------------------------------------------------------------------------- */

static void test_a_stream_cut_anywhere_is_refused(void **state)
{
    (void)state;
    struct buffer text = {0};
    fill_lines(&text, 2000);
    for (size_t i = 0; i < COUNT_OF(packings); i++) {
        struct buffer packed = {0};
        pack(&packed, packings[i], text.data, text.size);
        size_t whole = packed.size;
        pack(&packed, packings[i], text.data, text.size);
        for (size_t size = 1; size < packed.size; size++) {
            struct buffer cut = {.data = packed.data, .size = size}, plain = {0};
            tidemill_error *error = read_bytes(&cut, packings[i], 512, &plain);
            if (size == whole) {
                assert_fine(error); /* between two members nothing tells that there was more */
            } else {
                assert_says(error, ERROR_INPUT, "is cut");
            }
            assert_true(plain.size <= 2 * text.size);
            assert_true(memcmp(plain.data, text.data, MIN(plain.size, text.size)) == 0);
            buffer_free(&plain);
        }
        buffer_free(&packed);
    }
    buffer_free(&text);
}

/* One flipped bit: noticed, or without effect on the content (a header's time, a flag nobody
 * reads). */
static void test_a_flipped_bit_never_gives_other_content(void **state)
{
    (void)state;
    struct buffer text = {0};
    fill_lines(&text, 1500);
    for (size_t i = 0; i < COUNT_OF(packings); i++) {
        struct buffer packed = {0};
        size_t noticed = 0;
        pack(&packed, packings[i], text.data, text.size);
        for (size_t bit = 0; bit < packed.size * 8; bit++) {
            struct buffer plain = {0};
            packed.data[bit / 8] ^= (char)(1 << bit % 8);
            tidemill_error *error = read_bytes(&packed, packings[i], 4096, &plain);
            packed.data[bit / 8] ^= (char)(1 << bit % 8);
            noticed += error != NULL;
            /* zstd: the magic of a frame may become that of a skippable one; the rest then
             * fails. */
            if (error == NULL) {
                assert_int_equal(plain.size, text.size);
                assert_true(memcmp(plain.data, text.data, text.size) == 0);
            }
            error_free(error);
            buffer_free(&plain);
        }
        assert_true(noticed > packed.size * 7);
        buffer_free(&packed);
    }
    buffer_free(&text);
}

static void test_what_is_wrong_is_said(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum compression compression;
        const char *bytes;
        size_t size;
        const char *says;
    } rows[] = {
        {"plain text named gzip", COMPRESSION_GZIP, "{\"a\":1}\n", 8, "no gzip stream"},
        {"plain text named zstd", COMPRESSION_ZSTD, "{\"a\":1}\n", 8, "no zstd stream"},
        {"one byte named gzip", COMPRESSION_GZIP, "{", 1, "gzip stream"},
        {"one byte named zstd", COMPRESSION_ZSTD, "{", 1, "zstd stream"},
        {"zstd with a window of 2 GiB", COMPRESSION_AUTO, "\x28\xb5\x2f\xfd\x04\xa8\x01\0\0", 9,
         "window of more than 128 MiB"},
        {"gzip with a broken block", COMPRESSION_AUTO, "\x1f\x8b\x08\0\0\0\0\0\0\xff\x07\0\0\0", 14,
         "gzip stream is broken"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct buffer bytes = {0}, plain = {0};
        buffer_append(&bytes, rows[i].bytes, rows[i].size);
        assert_says(read_bytes(&bytes, rows[i].compression, 100, &plain), ERROR_INPUT,
                    rows[i].says);
        buffer_free(&bytes);
        buffer_free(&plain);
    }
}

static void test_bytes_after_the_last_member_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *bytes;
        size_t size;
    } rows[] = {{"text", "some text", 9}, {"zeros", "\0\0\0\0\0\0\0\0", 8}, {"one byte", "x", 1}};
    for (size_t i = 0; i < COUNT_OF(packings) * COUNT_OF(rows); i++) {
        struct buffer bytes = {0}, plain = {0};
        pack(&bytes, packings[i / COUNT_OF(rows)], "good\n", 5);
        buffer_append(&bytes, rows[i % COUNT_OF(rows)].bytes, rows[i % COUNT_OF(rows)].size);
        assert_says(read_bytes(&bytes, COMPRESSION_AUTO, 100, &plain), ERROR_INPUT, PATH ", byte ");
        assert_int_equal(plain.size, 5);
        buffer_free(&bytes);
        buffer_free(&plain);
    }
}

/* --- bombs ------------------------------------------------------------------------------------ */

static long peak_kib(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

static void test_a_bomb_costs_bounded_memory_and_can_be_limited(void **state)
{
    (void)state;
    char *zeros = calloc(1, BLOCK_BYTES);
    char *place = malloc(BLOCK_BYTES);
    assert_true(zeros != NULL && place != NULL);
    for (size_t i = 0; i < COUNT_OF(packings); i++) {
        struct simdisk *disk = simdisk_new();
        struct buffer member = {0}, bomb = {0};
        struct reader *reader = NULL;
        size_t count = 0;
        pack(&member, packings[i], zeros, BLOCK_BYTES);
        for (int j = 0; j < 200; j++) buffer_append(&bomb, member.data, member.size);
        simdisk_put(disk, PATH, bomb.data, bomb.size);
        long before_kib = peak_kib();
        assert_fine(reader_open(simdisk_io(disk), PATH, COMPRESSION_AUTO, &reader));
        do {
            assert_fine(reader_read(reader, place, BLOCK_BYTES, &count));
        } while (count > 0);
        assert_int_equal(reader_offset(reader), 200 * BLOCK_BYTES);
        assert_true(peak_kib() - before_kib < 20 << 10);
        reader_close(reader);

        assert_fine(reader_open(simdisk_io(disk), PATH, COMPRESSION_AUTO, &reader));
        reader_limit(reader, 10 * BLOCK_BYTES);
        assert_fine(reader_skip_to(reader, 10 * BLOCK_BYTES));
        assert_says(reader_read(reader, place, 1, &count), ERROR_INPUT, "more than the 10485760");
        assert_int_equal(count, 0);
        reader_close(reader);
        buffer_free(&member);
        buffer_free(&bomb);
        simdisk_free(disk);
    }
    free(zeros);
    free(place);
}

/* --- the real disk ---------------------------------------------------------------------------- */

static void test_what_cannot_be_opened_is_said_in_one_sentence(void **state)
{
    (void)state;
    struct tempdir tempdir;
    struct reader *reader = NULL;
    char expected[512];
    tempdir_open(&tempdir);
    const char *missing = tempdir_path(&tempdir, "missing.jsonl");
    snprintf(expected, sizeof expected, "cannot read %s: No such file or directory; check the name",
             missing);
    assert_says(reader_open(&io_local, missing, COMPRESSION_AUTO, &reader), ERROR_INPUT, expected);
    snprintf(expected, sizeof expected,
             "%s is a directory; name files, or a pattern such as '%s/*.jsonl'", tempdir.path,
             tempdir.path);
    assert_says(reader_open(&io_local, tempdir.path, COMPRESSION_AUTO, &reader), ERROR_INPUT,
                expected);
    char slashed[128];
    snprintf(slashed, sizeof slashed, "%s//", tempdir.path);
    assert_says(reader_open(&io_local, slashed, COMPRESSION_AUTO, &reader), ERROR_INPUT, expected);
    const char *secret = tempdir_path(&tempdir, "secret");
    tempdir_write(secret, "x", 1);
    assert_int_equal(chmod(secret, 0), 0);
    if (geteuid() != 0) { /* nothing is forbidden to root */
        assert_says(reader_open(&io_local, secret, COMPRESSION_AUTO, &reader), ERROR_INPUT,
                    "Permission denied; check the permissions");
    }
    tempdir_close(&tempdir);
}

static void test_permission_and_limits_are_said(void **state)
{
    (void)state;
    static const struct {
        int errnum;
        const char *says;
    } rows[] = {
        {EACCES, "cannot read in/data: Permission denied; check the permissions"},
        {EMFILE, "cannot read in/data: Too many open files; raise the limit"},
        {ELOOP, "the symbolic links go in a circle"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct simdisk *disk = simdisk_new();
        struct reader *reader = NULL;
        simdisk_put(disk, PATH, "x", 1);
        simdisk_fail(disk, SIMDISK_OPEN, 1, SIMDISK_ONCE, rows[i].errnum);
        assert_says(reader_open(simdisk_io(disk), PATH, COMPRESSION_AUTO, &reader), ERROR_INPUT,
                    rows[i].says);
        simdisk_free(disk);
    }
}

/* Every call fails in turn: an error or the whole content, never less without an error. */
static void test_no_failing_read_skips_or_repeats_bytes(void **state)
{
    (void)state;
    static const enum compression kinds[] = {COMPRESSION_NONE, COMPRESSION_GZIP, COMPRESSION_ZSTD};
    static const enum simdisk_mode modes[] = {SIMDISK_ONCE, SIMDISK_FOREVER, SIMDISK_SHORT};
    struct buffer text = {0};
    fill_lines(&text, 900000);
    for (size_t i = 0; i < COUNT_OF(kinds) * COUNT_OF(modes); i++) {
        enum compression kind = kinds[i / COUNT_OF(modes)];
        enum simdisk_mode mode = modes[i % COUNT_OF(modes)];
        struct buffer bytes = {0};
        if (kind == COMPRESSION_NONE) buffer_append(&bytes, text.data, text.size);
        if (kind != COMPRESSION_NONE) pack(&bytes, kind, text.data, text.size);
        bool has_failed = true;
        uint64_t nth = 1;
        for (; has_failed; nth++) {
            struct simdisk *disk = simdisk_new();
            struct reader *reader = NULL;
            struct buffer plain = {0};
            simdisk_put(disk, PATH, bytes.data, bytes.size);
            bool is_short = mode == SIMDISK_SHORT;
            simdisk_fail(disk, is_short ? SIMDISK_READ : SIMDISK_ANY, nth, mode,
                         is_short ? 0 : EIO);
            tidemill_error *error = reader_open(simdisk_io(disk), PATH, COMPRESSION_AUTO, &reader);
            if (error == NULL) error = read_with(reader, 100000, &plain);
            reader_close(reader);
            has_failed = simdisk_has_failed(disk);
            assert_true(error == NULL || (has_failed && !is_short));
            if (error == NULL) assert_int_equal(plain.size, text.size);
            assert_true(plain.size == 0 || memcmp(plain.data, text.data, plain.size) == 0);
            error_free(error);
            buffer_free(&plain);
            simdisk_free(disk);
        }
        assert_true(nth > 2);
        buffer_free(&bytes);
    }
    buffer_free(&text);
}

/* Standard input is a pipe that gives a byte at a time; and a file that somebody has read from. */
static void read_stdin_in_child(int fd, enum compression compression, const struct buffer *expected)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct reader *reader = NULL;
        struct buffer plain = {0};
        dup2(fd, STDIN_FILENO);
        tidemill_error *error = reader_open(&io_local, "-", compression, &reader);
        if (error == NULL) error = read_with(reader, 1000, &plain);
        bool is_good = error == NULL && !reader_is_seekable(reader) &&
                       plain.size == expected->size &&
                       memcmp(plain.data, expected->data, plain.size) == 0;
        _exit(is_good ? 0 : 1);
    }
    close(fd);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_standard_input(void **state)
{
    (void)state;
    struct buffer text = {0};
    fill_lines(&text, 5000);
    for (size_t i = 0; i < COUNT_OF(packings); i++) {
        struct buffer packed = {0};
        int ends[2];
        pack(&packed, packings[i], text.data, text.size);
        assert_int_equal(pipe(ends), 0);
        fflush(NULL);
        pid_t writer = fork();
        assert_true(writer >= 0);
        if (writer == 0) {
            for (size_t j = 0; j < packed.size; j++) {
                if (write(ends[1], packed.data + j, 1) != 1) _exit(1);
            }
            _exit(0);
        }
        close(ends[1]);
        /* Somebody else may have made it non-blocking. */
        assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
        read_stdin_in_child(ends[0], COMPRESSION_AUTO, &text);
        assert_int_equal(waitpid(writer, NULL, 0), writer);
        buffer_free(&packed);
    }
    struct tempdir tempdir;
    tempdir_open(&tempdir);
    tempdir_write(tempdir_path(&tempdir, "f"), text.data, text.size);
    int fd = open(tempdir_path(&tempdir, "f"), O_RDONLY);
    assert_int_equal(lseek(fd, 100, SEEK_SET), 100);
    struct buffer rest = {.data = text.data + 100, .size = text.size - 100};
    read_stdin_in_child(fd, COMPRESSION_AUTO, &rest);
    tempdir_close(&tempdir);
    buffer_free(&text);
}

/* The beginning of a stream, flushed but not ended. Returns its size. */
static size_t pack_open_end(enum compression compression, struct buffer *text,
                            unsigned char packed[4096])
{
    if (compression == COMPRESSION_GZIP) {
        z_stream stream = {.next_in = (Bytef *)text->data, .avail_in = (uInt)text->size};
        assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY),
                         Z_OK);
        stream.next_out = packed;
        stream.avail_out = 4096;
        assert_int_equal(deflate(&stream, Z_SYNC_FLUSH), Z_OK);
        deflateEnd(&stream);
        return 4096 - stream.avail_out;
    }
    ZSTD_CCtx *context = ZSTD_createCCtx();
    ZSTD_inBuffer input = {.src = text->data, .size = text->size};
    ZSTD_outBuffer output = {.dst = packed, .size = 4096};
    assert_non_null(context);
    assert_int_equal(ZSTD_compressStream2(context, &output, &input, ZSTD_e_flush), 0);
    ZSTD_freeCCtx(context);
    return output.pos;
}

/* A sender that flushes and waits: what it sent can be read, in steps of any size. */
static void test_a_slow_pipe_holds_nothing_back(void **state)
{
    (void)state;
    struct buffer text = {0};
    fill_lines(&text, 3000);
    for (size_t i = 0; i < COUNT_OF(packings); i++) {
        unsigned char packed[4096];
        char path[32], back[4096];
        int ends[2];
        size_t total = 0, count = 0;
        size_t size = pack_open_end(packings[i], &text, packed);
        assert_int_equal(pipe(ends), 0);
        assert_int_equal(write(ends[1], packed, size), size);
        snprintf(path, sizeof path, "/dev/fd/%d", ends[0]);
        struct reader *reader = NULL;
        alarm(20); /* held back means waiting for ever */
        assert_fine(reader_open(&io_local, path, COMPRESSION_AUTO, &reader));
        for (size_t step = 1; total < text.size; step = step % 100 + 1) {
            assert_fine(reader_read(reader, back + total, MIN(step, text.size - total), &count));
            assert_true(count > 0);
            total += count;
        }
        assert_true(memcmp(back, text.data, total) == 0);
        close(ends[1]);
        assert_says(reader_read(reader, back, 1, &count), ERROR_INPUT, "is cut");
        alarm(0);
        reader_close(reader);
        close(ends[0]);
    }
    buffer_free(&text);
}

/* What has come is delivered; then the wait ends at once where somebody asks for it. */
static void test_waiting_for_a_pipe_can_be_cancelled(void **state)
{
    (void)state;
    static const enum compression kinds[] = {COMPRESSION_NONE, COMPRESSION_GZIP, COMPRESSION_AUTO};
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        struct io io = io_local;
        int ends[2];
        char path[32], back[8];
        size_t count = 0;
        struct reader *reader = NULL;
        assert_int_equal(pipe(ends), 0);
        snprintf(path, sizeof path, "/dev/fd/%d", ends[0]);
        io.cancel_fd = eventfd(0, EFD_CLOEXEC);
        assert_true(io.cancel_fd > 0);
        alarm(20); /* not cancelled means waiting for ever */
        if (kinds[i] == COMPRESSION_NONE) {
            assert_int_equal(write(ends[1], "abc", 3), 3);
            assert_fine(reader_open(&io, path, kinds[i], &reader));
            assert_fine(reader_read(reader, back, sizeof back, &count));
            assert_int_equal(count, 3);
        }
        assert_int_equal(eventfd_write(io.cancel_fd, 1), 0);
        tidemill_error *error = NULL;
        if (reader == NULL) error = reader_open(&io, path, kinds[i], &reader); /* AUTO waits here */
        if (error == NULL) error = reader_read(reader, back, sizeof back, &count);
        assert_says(error, ERROR_INTERRUPTED, path);
        alarm(0);
        reader_close(reader);
        close(io.cancel_fd);
        close(ends[0]);
        close(ends[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_packing_reads_back_in_any_step),
        cmocka_unit_test(test_empty_streams),
        cmocka_unit_test(test_zstd_skippable_frames_are_skipped),
        cmocka_unit_test(test_auto_goes_by_the_bytes_not_by_the_name),
        cmocka_unit_test(test_compression_of_path),
        cmocka_unit_test(test_skip_to_goes_on_at_the_byte),
        cmocka_unit_test(test_a_stream_cut_anywhere_is_refused),
        cmocka_unit_test(test_a_flipped_bit_never_gives_other_content),
        cmocka_unit_test(test_what_is_wrong_is_said),
        cmocka_unit_test(test_bytes_after_the_last_member_are_refused),
        cmocka_unit_test(test_a_bomb_costs_bounded_memory_and_can_be_limited),
        cmocka_unit_test(test_what_cannot_be_opened_is_said_in_one_sentence),
        cmocka_unit_test(test_permission_and_limits_are_said),
        cmocka_unit_test(test_no_failing_read_skips_or_repeats_bytes),
        cmocka_unit_test(test_standard_input),
        cmocka_unit_test(test_a_slow_pipe_holds_nothing_back),
        cmocka_unit_test(test_waiting_for_a_pipe_can_be_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
