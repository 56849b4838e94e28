/* SPDX-License-Identifier: Apache-2.0 */
/* format_encode_array_test.c - answers as .npy and .npz: bytes of heads and rows, what fails, and
 * archives read back by our own reader, on a disk where every single call fails once. */
#include "format/npy.h"
#include "format_encoding.h"
#include "simdisk.h"

#include <errno.h>
#include <math.h>

#define ROWS_PATH "/out.npz.rows"
#define ARCHIVE_PATH "/out.npz.partial"

/* --- heads ---------------------------------------------------------------------------------------- */

static void test_heads(void **state)
{
    (void)state;
    static const struct {
        const char *post;
        struct value_spec output;
        uint64_t n_rows;
        const char *text;
    } heads[] = {
        {NULL, SPEC(FLOAT, "x", SHAPE(-1, 10)), 12,
         "{'descr': '<f4', 'fortran_order': False, 'shape': (12, 10), }"},
        {NULL, SPEC(DOUBLE, "x", SHAPE(-1)), 0,
         "{'descr': '<f8', 'fortran_order': False, 'shape': (0,), }"},
        {NULL, SPEC(BOOL, "x", SHAPE(-1, 2, 3)), UINT64_MAX,
         "{'descr': '|b1', 'fortran_order': False, 'shape': (18446744073709551615, 2, 3), }"},
        {NULL, SPEC(BFLOAT16, "x", SHAPE(-1, 1)), 1,
         "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1), }"},
        {NULL, SPEC(FLOAT16, "x", SHAPE(-1, 1)), 1,
         "{'descr': '<f2', 'fortran_order': False, 'shape': (1, 1), }"},
        {"argmax", SPEC(FLOAT, "x", SHAPE(-1, 10)), 3,
         "{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }"},
        {"argmax", SPEC(FLOAT, "x", SHAPE(-1, 7, 10)), 3,
         "{'descr': '<i8', 'fortran_order': False, 'shape': (3, 7), }"},
    };
    for (size_t i = 0; i < COUNT_OF(heads); i++) {
        struct encoding_case row = {.name = heads[i].text,
                                    .format = FORMAT_NPY,
                                    .post = heads[i].post,
                                    .outputs = {heads[i].output}};
        struct encoding encoding;
        struct buffer first = {0};
        struct npy_header header;
        expect_fine(encoding_open(&encoding, &row), row.name);
        encoder_begin(encoding.encoder, &first);
        assert_true(encoder_finish_header(encoding.encoder, heads[i].n_rows, &encoding.out));
        assert_int_equal(first.size, 128);
        assert_int_equal(encoding.out.size, 128);
        assert_memory_equal(encoding.out.data, "\x93NUMPY\1\0\x76\0", 10);
        assert_int_equal(encoding.out.data[127], '\n');
        assert_memory_equal(encoding.out.data + 10, heads[i].text, strlen(heads[i].text));
        for (size_t k = 10 + strlen(heads[i].text); k < 127; k++)
            assert_int_equal(encoding.out.data[k], ' ');
        if (heads[i].n_rows < INT64_MAX)
            expect_fine(npy_parse_header(encoding.out.data + 10, 118, "x", &header), row.name);
        buffer_free(&first);
        encoding_close(&encoding);
    }
}

static const struct encoding_case refused[] = {
    {.name = "strings",
     .format = FORMAT_NPZ,
     .outputs = {SPEC(STRING, "s", SHAPE(-1))},
     .code = ERROR_USAGE,
     .message = "output 's' cannot be an array"},
    {.name = "a map",
     .format = FORMAT_NPY,
     .outputs = {SPEC_OTHER(MAP, "m")},
     .code = ERROR_USAGE,
     .message = "output 'm' cannot be an array"},
    {.name = "rows of unknown size",
     .format = FORMAT_NPY,
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, -1))},
     .code = ERROR_USAGE,
     .message = "output 'x' has a dimension"},
    {.name = "two outputs in one .npy",
     .format = FORMAT_NPY,
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1)), SPEC(FLOAT, "y", SHAPE(-1))},
     .code = ERROR_USAGE,
     .message = "2 outputs"},
    {.name = "kept fields",
     .format = FORMAT_NPZ,
     .keep = {"a"},
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1))},
     .code = ERROR_USAGE,
     .message = "--keep"},
    {.name = "labels",
     .format = FORMAT_NPY,
     .post = "argmax",
     .labels = {"a"},
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 1))},
     .code = ERROR_USAGE,
     .message = "--labels"},
    {.name = "the k largest",
     .format = FORMAT_NPY,
     .post = "topk:2",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 4))},
     .code = ERROR_USAGE,
     .message = "topk"},
    {.name = "no classes",
     .format = FORMAT_NPY,
     .post = "argmax",
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 0))},
     .code = ERROR_USAGE,
     .message = "no classes"},
    {.name = "a head longer than 128 bytes",
     .format = FORMAT_NPY,
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 0, INT64_MAX, INT64_MAX, 1))},
     .code = ERROR_USAGE,
     .message = "too large"},
    {.name = "another shape than declared",
     .format = FORMAT_NPY,
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 2))},
     .values = {VALUE(FLOAT, SHAPE(1, 2, 1), float, 1, 2)},
     .code = ERROR_MODEL_ERROR,
     .message = "output 'x' has shape [2, 1] a record, the model declares [2]"},
    {.name = "NaN in the second output",
     .format = FORMAT_NPZ,
     .outputs = {SPEC(FLOAT, "x", SHAPE(-1)), SPEC(DOUBLE, "y", SHAPE(-1, 2))},
     .values = {VALUE(FLOAT, SHAPE(1), float, 1),
                VALUE(DOUBLE, SHAPE(1, 2), double, 1, (double)NAN)},
     .code = ERROR_OUTPUT_NOT_FINITE,
     .message = "output 'y' has NaN at [1]"},
};

static void test_what_arrays_cannot_hold(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(refused); i++) check_case(&refused[i]);
}

/* --- rows ----------------------------------------------------------------------------------------- */

static const struct encoding_case mixed = {
    .name = "mixed",
    .format = FORMAT_NPZ,
    .outputs = {SPEC(FLOAT, "a/x", SHAPE(-1, 2)), SPEC(BFLOAT16, "a_x", SHAPE(-1)),
                SPEC(INT16, "n", SHAPE(-1, 1)), SPEC(FLOAT16, "h", SHAPE(-1))},
    .values = {VALUE(FLOAT, SHAPE(3, 2), float, 1, 2, 3, 4, 5, 6),
               VALUE(BFLOAT16, SHAPE(3), uint16_t, 0x3f80, 0x4000, 0x4040),
               VALUE(INT16, SHAPE(3, 1), int16_t, 1, -2, 3),
               VALUE(FLOAT16, SHAPE(3), uint16_t, 0x3c00, 0x0001, 0x7bff)},
    .n_rows = 3,
};

#define MIXED_ROW_BYTES 16

/* Rows 0, 1, a failed one and 2 of `mixed`, as the engine would collect them. */
static void append_mixed(struct encoding *encoding)
{
    for (uint32_t row = 0; row < 3; row++) {
        struct encoding_case one = mixed;
        const char *message = "";
        one.row = row;
        assert_int_equal(encoding_append(encoding, &one, &message), ERROR_OK);
        if (row == 1) encoder_append_failed(encoding->encoder, &encoding->out);
    }
}

static void test_rows(void **state)
{
    (void)state;
    static const unsigned char expected[4 * MIXED_ROW_BYTES] =
        "\0\0\x80\x3f\0\0\0\x40\0\0\x80\x3f\1\0\0\x3c"
        "\0\0\x40\x40\0\0\x80\x40\0\0\0\x40\xfe\xff\1\0"
        "\0\0\xc0\x7f\0\0\xc0\x7f\0\0\xc0\x7f\0\0\0\x7e"
        "\0\0\xa0\x40\0\0\xc0\x40\0\0\x40\x40\3\0\xff\x7b";
    struct encoding encoding;
    expect_fine(encoding_open(&encoding, &mixed), "mixed");
    assert_true(encoder_must_assemble(encoding.encoder));
    encoder_begin(encoding.encoder, &encoding.out);
    assert_int_equal(encoding.out.size, 0);
    assert_false(encoder_finish_header(encoding.encoder, 4, &encoding.out));
    append_mixed(&encoding);
    assert_int_equal(encoding.out.size, sizeof expected);
    assert_memory_equal(encoding.out.data, expected, sizeof expected);
    encoding_close(&encoding);
}

static const struct encoding_case argmax = {
    .name = "argmax",
    .format = FORMAT_NPY,
    .post = "softmax,argmax",
    .outputs = {SPEC(FLOAT, "x", SHAPE(-1, 2, 3))},
    .values = {VALUE(FLOAT, SHAPE(1, 2, 3), float, 1, 3, 2, 7, 7, 0)},
    .text = "",
};

static void test_argmax_rows(void **state)
{
    (void)state;
    static const int64_t expected[4] = {1, 0, 0, 0};
    struct encoding encoding;
    const char *message = "";
    expect_fine(encoding_open(&encoding, &argmax), argmax.name);
    assert_false(encoder_must_assemble(encoding.encoder));
    assert_int_equal(encoding_append(&encoding, &argmax, &message), ERROR_OK);
    encoder_append_failed(encoding.encoder, &encoding.out);
    assert_int_equal(encoding.out.size, sizeof expected);
    assert_memory_equal(encoding.out.data, expected, sizeof expected);
    encoding_close(&encoding);
}

/* --- archives ------------------------------------------------------------------------------------- */

static tidemill_error *assemble(struct simdisk *disk, const struct encoding *encoding,
                                uint64_t n_rows)
{
    return encoder_assemble(encoding->encoder, simdisk_io(disk), ROWS_PATH, n_rows, ARCHIVE_PATH);
}

static struct simdisk *disk_with_rows(struct encoding *encoding)
{
    struct simdisk *disk = simdisk_new();
    expect_fine(encoding_open(encoding, &mixed), "mixed");
    append_mixed(encoding);
    simdisk_put(disk, ROWS_PATH, encoding->out.data, encoding->out.size);
    return disk;
}

static void check_archive(struct simdisk *disk, const struct encoding *encoding, uint64_t n_rows)
{
    static const struct {
        const char *name;
        size_t offset, bytes;
    } members[] = {{"a_x", 0, 8}, {"a_x.1", 8, 4}, {"n", 12, 2}, {"h", 14, 2}};
    struct array_file *file;
    size_t n;
    expect_fine(
        array_file_open(simdisk_io(disk), ARCHIVE_PATH, COMPRESSION_AUTO, FORMAT_NPZ, &file),
        "open");
    const struct source_array *arrays = array_file_arrays(file, &n);
    assert_int_equal(n, COUNT_OF(members));
    assert_int_equal(array_file_rows(file), n_rows);
    for (size_t i = 0; i < n; i++) {
        expect_text(arrays[i].name, members[i].name, "name");
        assert_int_equal(arrays[i].row_bytes, members[i].bytes);
    }
    struct buffer rows = {0};
    for (uint64_t row = 0; row < n_rows; row++) {
        enum error_code code;
        expect_fine(array_file_read_row(file, &rows, &code), "row");
        assert_int_equal(code, ERROR_OK);
    }
    assert_int_equal(rows.size, n_rows * MIXED_ROW_BYTES);
    if (n_rows > 0) assert_memory_equal(rows.data, encoding->out.data, rows.size);
    buffer_free(&rows);
    array_file_close(file);
}

static void test_archive_reads_back(void **state)
{
    (void)state;
    struct encoding encoding;
    struct simdisk *disk = disk_with_rows(&encoding);
    for (uint64_t n_rows = 0; n_rows <= 4; n_rows += 4) {
        expect_fine(assemble(disk, &encoding, n_rows), "assemble");
        expect_fine(io_sync_directory(simdisk_io(disk), ARCHIVE_PATH), "the folder");
        simdisk_crash(disk, 0); /* complete and synced: a power loss takes nothing */
        if (n_rows > 0) check_archive(disk, &encoding, n_rows);
    }
    expect_error(assemble(disk, &encoding, 5), ERROR_CORRUPT, "shorter", "rows are missing");
    simdisk_free(disk);
    encoding_close(&encoding);
}

/* More rows than are copied at once, and the same bytes each time. */
static void test_many_rows(void **state)
{
    (void)state;
    enum { ROWS = 200003 };
    struct encoding encoding;
    struct simdisk *disk = disk_with_rows(&encoding);
    struct buffer all = {0};
    size_t size, size_again;
    uint64_t seed = 1;
    for (size_t i = 0; i < ROWS * MIXED_ROW_BYTES / 8; i++) {
        uint64_t word = random_next(&seed);
        buffer_append(&all, &word, sizeof word);
    }
    assert_false(all.is_failed);
    simdisk_put(disk, ROWS_PATH, all.data, all.size);
    buffer_free(&encoding.out);
    encoding.out = all;
    expect_fine(assemble(disk, &encoding, ROWS), "assemble");
    check_archive(disk, &encoding, ROWS);
    const char *bytes = simdisk_get(disk, ARCHIVE_PATH, &size);
    char *copy = malloc(size);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    expect_fine(assemble(disk, &encoding, ROWS), "assemble again");
    bytes = simdisk_get(disk, ARCHIVE_PATH, &size_again);
    assert_int_equal(size_again, size);
    assert_memory_equal(copy, bytes, size);
    free(copy);
    simdisk_free(disk);
    encoding_close(&encoding);
}

/* Each call on the disk fails in turn: an error comes back, and the next try is whole. */
static void test_every_call_fails_once(void **state)
{
    (void)state;
    struct encoding encoding;
    struct simdisk *disk = disk_with_rows(&encoding);
    uint64_t nth = 1;
    for (bool has_failed = true; has_failed; nth++) {
        simdisk_fail(disk, SIMDISK_ANY, nth, SIMDISK_ONCE, EIO);
        tidemill_error *error = assemble(disk, &encoding, 4);
        has_failed = simdisk_has_failed(disk);
        if (error != NULL) assert_true(has_failed); /* what fails in close() comes after the sync */
        error_free(error);
        simdisk_fail(disk, SIMDISK_ANY, 0, SIMDISK_ONCE, 0);
        expect_fine(assemble(disk, &encoding, 4), "the next try");
        check_archive(disk, &encoding, 4);
    }
    assert_true(nth > 10);
    simdisk_set_capacity(disk, 700);
    expect_error(assemble(disk, &encoding, 4), ERROR_NO_SPACE, NULL, "a full disk");
    simdisk_free(disk);
    encoding_close(&encoding);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_what_arrays_cannot_hold),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_argmax_rows),
        cmocka_unit_test(test_archive_reads_back),
        cmocka_unit_test(test_many_rows),
        cmocka_unit_test(test_every_call_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
