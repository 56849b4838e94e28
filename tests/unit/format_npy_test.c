/* SPDX-License-Identifier: Apache-2.0 */
/* format_npy_test.c - .npy and .npz files made here byte by byte, read through the source and the
 * decoder. */
#include "format/npy.h"
#include "format_decoding.h"
#include "tempdir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <zlib.h>

#include <cmocka.h>

static struct tempdir folder;

static int setup(void **state)
{
    (void)state;
    tempdir_open(&folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tempdir_close(&folder);
    return 0;
}

static void put(struct buffer *out, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) buffer_byte(out, (char)(value >> (8 * i)));
}

static void add_npy(struct buffer *out, int version, const char *header, const void *data,
                    size_t size)
{
    buffer_append(out, "\x93NUMPY", 6);
    buffer_byte(out, (char)version);
    buffer_byte(out, 0);
    put(out, strlen(header), version == 1 ? 2 : 4);
    buffer_text(out, header);
    buffer_append(out, data, size);
}

struct header_case {
    const char *header;
    const char *complaint; /* NULL: fine */
};

static const struct header_case headers[] = {
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }", NULL},
    {"{\"shape\":(3L,),\"descr\":\"|u1\",\"fortran_order\":False}\n", NULL},
    {"{'descr': '>i8', 'fortran_order': True, 'shape': (3,), }", NULL},
    {"{'descr': '<U5', 'fortran_order': False, 'shape': (3, 2), }", NULL},
    {"{'descr': '<f4', 'fortran_order': True, 'shape': (3, 4), }", "Fortran order"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (), }", "no rows"},
    {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }", "structured"},
    {"{'descr': '|O', 'fortran_order': False, 'shape': (3,), }", "Python objects"},
    {"{'descr': '<c8', 'fortran_order': False, 'shape': (3,), }", "element type '<c8'"},
    {"{'descr': '<f16', 'fortran_order': False, 'shape': (3,), }", "element type"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 0), }", "empty"},
    {"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 99999999999, 99999999999), }",
     "more than"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }", "not a .npy header"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", "not a .npy"},
    {"{'descr': '<f4', 'fortran_order': False, ", "not a .npy header"},
    {"{'descr': '<f4'}", "not a .npy header"},
    {"", "not a .npy header"},
};

static void test_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(headers); i++) {
        struct npy_header header;
        size_t size = strlen(headers[i].header);
        tidemill_error *error = npy_parse_header(headers[i].header, size, "a.npy", &header);
        if (headers[i].complaint == NULL) {
            assert_string_equal(error_message(error), "");
            assert_int_equal(header.n_rows, 3);
            continue;
        }
        assert_int_equal(error_code_of(error), ERROR_INPUT);
        assert_non_null(strstr(error_message(error), headers[i].complaint));
        error_free(error);
    }
}

static tidemill_error *open_source(const char *path, enum format format,
                                   const struct source_position *start, struct source **ret)
{
    struct source_config config = {
        .paths = &path,
        .n_paths = 1,
        .format = format,
        .compression = COMPRESSION_AUTO,
        .record_bytes_max = 1000,
        .chunk_bytes = 1 << 20,
        .chunk_rows = 2,
    };
    return source_open(&io_local, &config, start, ret);
}

/* Bytes of all records in hexadecimal, '|' behind each, '!' before those with an error. */
static char *read_hex(const char *path, enum format format, uint64_t first_row)
{
    struct source *source = NULL;
    struct raw_chunk chunk = {0};
    struct buffer out = {0};
    struct source_position start = {.offset = first_row, .line = first_row, .index = first_row};
    assert_string_equal(error_message(open_source(path, format, &start, &source)), "");
    for (uint64_t line = first_row + 1; !chunk.is_last;) {
        assert_string_equal(error_message(source_read_chunk(source, &chunk)), "");
        for (size_t i = 0; i < chunk.n_records; i++, line++) {
            const struct raw_record *record = &chunk.records[i];
            assert_int_equal(record->line, line);
            if (record->error != ERROR_OK) buffer_byte(&out, '!');
            for (size_t k = 0; k < record->bytes.size; k++) {
                buffer_printf(&out, "%02x", (unsigned char)record->bytes.data[k]);
            }
            buffer_byte(&out, '|');
        }
    }
    buffer_byte(&out, '\0');
    raw_chunk_free(&chunk);
    source_close(source);
    return out.data;
}

struct file_case {
    const char *header;
    const char *data;
    size_t size;
    const char *expected;
};

static const struct file_case files[] = {
    {"{'descr': '<i2', 'fortran_order': False, 'shape': (3, 2), }", "\1\0\2\0\3\0\4\0\5\0\6\0", 12,
     "01000200|03000400|05000600|"},
    {"{'descr': '>i2', 'fortran_order': False, 'shape': (3,), }", "\0\1\0\2\0\3", 6,
     "0100|0200|0300|"},
    {"{'descr': '|S3', 'fortran_order': False, 'shape': (3,), }",
     "abc"
     "d\0\0"
     "\xff\0\0",
     9, "03000000616263|0100000064|!01000000ff|"},
    {"{'descr': '<U2', 'fortran_order': False, 'shape': (2,), }",
     "\xe9\0\0\0"
     "b\0\0\0"
     "\0\xd8\0\0"
     "\0\0\0\0",
     16, "03000000c3a962|!00000000|"},
    {"{'descr': '>U1', 'fortran_order': False, 'shape': (1, 2), }", "\0\0\0a\0\0\0\0", 8,
     "010000006100000000|"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 2), }", "", 0, ""},
};

static void test_files(void **state)
{
    (void)state;
    const char *path = tempdir_path(&folder, "a.npy");
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        for (int version = 1; version <= 3; version++) {
            struct buffer bytes = {0};
            add_npy(&bytes, version, files[i].header, files[i].data, files[i].size);
            tempdir_write(path, bytes.data, bytes.size);
            char *found = read_hex(path, FORMAT_NPY, 0);
            assert_string_equal(found, files[i].expected);
            free(found);
            buffer_free(&bytes);
        }
    }
}

static void check_refused(const void *data, size_t size, enum format format, const char *part)
{
    const char *path = tempdir_path(&folder, "bad");
    struct source *source = NULL;
    struct raw_chunk chunk = {0};
    tempdir_write(path, data, size);
    tidemill_error *error = open_source(path, format, NULL, &source);
    while (error == NULL && !chunk.is_last) error = source_read_chunk(source, &chunk);
    assert_int_equal(error_code_of(error), ERROR_INPUT);
    if (strstr(error_message(error), part) == NULL) print_error("%s\n", error_message(error));
    assert_non_null(strstr(error_message(error), part));
    error_free(error);
    raw_chunk_free(&chunk);
    source_close(source);
}

/* --- npz ---------------------------------------------------------------------------------------------- */

struct zip_member {
    const char *name;
    const char *descr; /* type and shape */
    const void *data;
    size_t size;
};

static void deflate_raw(const struct buffer *plain, struct buffer *out)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    size_t bound = deflateBound(&z, plain->size);
    z.next_in = (unsigned char *)plain->data;
    z.avail_in = (uInt)plain->size;
    z.next_out = (unsigned char *)buffer_reserve(out, bound);
    z.avail_out = (uInt)bound;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    out->size += z.total_out;
    deflateEnd(&z);
}

static void make_zip(struct buffer *out, const struct zip_member *members, size_t n,
                     bool is_deflated, bool is_zip64)
{
    struct buffer directory = {0};
    for (size_t i = 0; i < n; i++) {
        struct buffer plain = {0}, packed = {0};
        size_t header_at = out->size, name_size = strlen(members[i].name);
        add_npy(&plain, 1, members[i].descr, members[i].data, members[i].size);
        if (is_deflated) deflate_raw(&plain, &packed);
        if (!is_deflated) buffer_append(&packed, plain.data, plain.size);
        uint64_t crc = crc32(0, (unsigned char *)plain.data, (uInt)plain.size);
        buffer_append(out, "PK\3\4", 4);
        put(out, 20, 2), put(out, 0, 2), put(out, is_deflated ? 8 : 0, 2), put(out, 0, 4);
        put(out, crc, 4), put(out, packed.size, 4), put(out, plain.size, 4);
        put(out, name_size, 2), put(out, 0, 2);
        buffer_text(out, members[i].name);
        buffer_append(out, packed.data, packed.size);
        buffer_append(&directory, "PK\1\2", 4);
        put(&directory, 20, 2), put(&directory, 20, 2), put(&directory, 0, 2);
        put(&directory, is_deflated ? 8 : 0, 2), put(&directory, 0, 4), put(&directory, crc, 4);
        put(&directory, is_zip64 ? UINT32_MAX : packed.size, 4);
        put(&directory, is_zip64 ? UINT32_MAX : plain.size, 4);
        put(&directory, name_size, 2), put(&directory, is_zip64 ? 28 : 0, 2);
        put(&directory, 0, 2), put(&directory, 0, 2), put(&directory, 0, 2), put(&directory, 0, 4);
        put(&directory, is_zip64 ? UINT32_MAX : header_at, 4);
        buffer_text(&directory, members[i].name);
        if (is_zip64) {
            put(&directory, 1, 2), put(&directory, 24, 2), put(&directory, plain.size, 8);
            put(&directory, packed.size, 8), put(&directory, header_at, 8);
        }
        buffer_free(&plain);
        buffer_free(&packed);
    }
    size_t at = out->size, end64 = at + directory.size;
    buffer_append(out, directory.data, directory.size);
    if (is_zip64) {
        buffer_append(out, "PK\6\6", 4);
        put(out, 44, 8), put(out, 45, 2), put(out, 45, 2), put(out, 0, 8);
        put(out, n, 8), put(out, n, 8), put(out, directory.size, 8), put(out, at, 8);
        buffer_append(out, "PK\6\7", 4);
        put(out, 0, 4), put(out, end64, 8), put(out, 1, 4);
    }
    buffer_append(out, "PK\5\6", 4);
    put(out, 0, 4), put(out, is_zip64 ? 0xffff : n, 2), put(out, is_zip64 ? 0xffff : n, 2);
    put(out, is_zip64 ? UINT32_MAX : directory.size, 4);
    put(out, is_zip64 ? UINT32_MAX : at, 4), put(out, 0, 2);
    buffer_free(&directory);
}

static const struct zip_member members[] = {
    {"x.npy", "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 2), }", "\1\2\3\4\5\6", 6},
    {"y.npy", "{'descr': '<i2', 'fortran_order': False, 'shape': (3,), }", "\7\0\10\0\11\0", 6},
};

static void test_archives(void **state)
{
    (void)state;
    const char *path = tempdir_path(&folder, "a.npz");
    for (int form = 0; form < 4; form++) {
        struct buffer bytes = {0};
        make_zip(&bytes, members, 2, form % 2 == 1, form >= 2);
        tempdir_write(path, bytes.data, bytes.size);
        char *found = read_hex(path, FORMAT_NPZ, 0);
        assert_string_equal(found, "01020700|03040800|05060900|");
        free(found);
        found = read_hex(path, FORMAT_NPZ, 2);
        assert_string_equal(found, "05060900|");
        free(found);
        buffer_free(&bytes);
    }
}

static void test_broken_archives(void **state)
{
    (void)state;
    struct buffer bytes = {0};
    make_zip(&bytes, members, 2, false, false);
    check_refused(bytes.data, bytes.size / 2, FORMAT_NPZ, "no directory");
    check_refused(bytes.data, 10, FORMAT_NPZ, "too short");
    char *data = memmem(bytes.data, bytes.size, "\1\2\3\4\5\6", 6);
    assert_non_null(data);
    data[1] = 9;
    check_refused(bytes.data, bytes.size, FORMAT_NPZ, "array 'x' fails its checksum");
    bytes.size = 0;
    struct zip_member other[] = {members[0], members[1]};
    other[1].descr = "{'descr': '<i2', 'fortran_order': False, 'shape': (4,), }";
    make_zip(&bytes, other, 2, false, false);
    check_refused(bytes.data, bytes.size, FORMAT_NPZ, "array 'y' has 4 rows, array 'x' has 3");
    bytes.size = 0;
    other[1] = members[1];
    other[1].name = "y.txt";
    make_zip(&bytes, other, 2, false, false);
    check_refused(bytes.data, bytes.size, FORMAT_NPZ, "'y.txt' is not a .npy array");
    bytes.size = 0;
    add_npy(&bytes, 1, members[0].descr, "\1\2\3", 3);
    check_refused(bytes.data, bytes.size, FORMAT_NPY, "ends in row 2 of 3");
    check_refused("\x93NUMPY\4\0\0\0\0\0", 12, FORMAT_NPY, "version 4");
    check_refused("\x93NUM", 4, FORMAT_NPY, "ends within");
    buffer_free(&bytes);
}

/* --- rows as inputs ------------------------------------------------------------------------------------ */

static void test_rows_as_inputs(void **state)
{
    (void)state;
    struct bench bench;
    int64_t dims[] = {2};
    struct source_array arrays[] = {{"x", TENSOR_DOUBLE, {1, {2}}, 16},
                                    {"name", TENSOR_STRING, {0}, 0},
                                    {"n", TENSOR_INT32, {0}, 4}};
    const struct source_schema schema = {.format = FORMAT_NPZ, .arrays = arrays, .n_arrays = 3};
    struct value_spec inputs[] = {test_input("x", TENSOR_FLOAT, 1, dims),
                                  test_input("n", TENSOR_UINT8, 0, NULL)};
    struct decoder_config config = {.schema = &schema, .id_field = "name"};
    assert_string_equal(error_message(bench_open(&bench, config, inputs, 2, "")), "");
    struct buffer row = {0};
    double x[] = {0.5, 1e300};
    buffer_append(&row, x, sizeof x);
    buffer_append(&row, "\3\0\0\0a\"b", 7);
    buffer_append(&row, "\5\0\0\0", 4);
    const struct record *record = bench_decode(&bench, row.data, row.size);
    assert_int_equal(record->error, ERROR_NOT_FINITE);
    assert_string_equal(record->message, "field 'x': element 1 is not finite in float32");
    x[1] = 0.25;
    memcpy(row.data, x, sizeof x);
    record = bench_decode(&bench, row.data, row.size);
    assert_int_equal(record->error, ERROR_OK);
    assert_memory_equal(bench_row(&bench, 0), ((float[]){0.5f, 0.25f}), 8);
    assert_memory_equal(bench_row(&bench, 1), "\5", 1);
    assert_memory_equal(record->id.data, "\"a\\\"b\"", 6);
    row.data[row.size - 3] = 1; /* 261 */
    record = bench_decode(&bench, row.data, row.size);
    assert_int_equal(record->error, ERROR_OUT_OF_RANGE);
    assert_string_equal(record->message, "field 'n': element 0 does not fit uint8");
    bench_close(&bench);
    buffer_free(&row);
}

static void test_single_array_of_wrong_shape(void **state)
{
    (void)state;
    struct bench bench;
    int64_t dims[] = {3};
    struct source_array arrays[] = {{"", TENSOR_FLOAT, {1, {2}}, 8}};
    const struct source_schema schema = {.format = FORMAT_NPY, .arrays = arrays, .n_arrays = 1};
    struct value_spec input = test_input("x", TENSOR_FLOAT, 1, dims);
    struct decoder_config config = {.schema = &schema};
    assert_string_equal(error_message(bench_open(&bench, config, &input, 1, "")), "");
    const struct record *record = bench_decode(&bench, "\0\0\0\0\0\0\0\0", 8);
    assert_int_equal(record->error, ERROR_WRONG_SHAPE);
    assert_string_equal(record->message, "field 'x': expected 3 numbers, found 2");
    assert_memory_equal(record->id.data, "17", 2);
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers),        cmocka_unit_test(test_files),
        cmocka_unit_test(test_archives),       cmocka_unit_test(test_broken_archives),
        cmocka_unit_test(test_rows_as_inputs), cmocka_unit_test(test_single_array_of_wrong_shape),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
