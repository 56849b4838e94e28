/* SPDX-License-Identifier: Apache-2.0 */
/* runtime_protobuf_test.c - fields come back as they were put; bytes cut off anywhere are refused; names
 * are found again. */
#include "runtime/name_table.h"
#include "runtime/protobuf.h"

#include "expect.h"

static struct slice text_slice(const char *bytes, size_t size)
{
    return (struct slice){bytes, size};
}

static void fields_come_back(void **state)
{
    static const uint64_t numbers[] = {0, 1, 127, 128, 16384, UINT64_MAX};
    struct buffer out = {0};
    struct pb_field field;
    (void)state;
    for (size_t i = 0; i < COUNT_OF(numbers); i++) pb_put_number(&out, 3, numbers[i]);
    pb_put_text(&out, 1000, "name");
    size_t outer = pb_begin(&out, 2);
    size_t inner = pb_begin(&out, 9);
    pb_put_number(&out, 1, 5);
    pb_end(&out, inner);
    pb_end(&out, outer);

    struct pb_reader reader = pb_read((struct slice){out.data, out.size});
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        assert_true(pb_next(&reader, &field));
        assert_int_equal(field.number, 3);
        assert_true(field.wire == PB_VARINT && field.value == numbers[i]);
    }
    assert_true(pb_next(&reader, &field) && field.number == 1000);
    assert_true(slice_equal(field.bytes, slice_of("name")));
    assert_true(pb_next(&reader, &field) && field.number == 2);
    struct pb_reader message = pb_read(field.bytes);
    assert_true(pb_next(&message, &field) && field.number == 9);
    message = pb_read(field.bytes);
    assert_true(pb_next(&message, &field) && field.number == 1 && field.value == 5);
    assert_false(pb_next(&message, &field) || message.is_broken);
    assert_false(pb_next(&reader, &field) || reader.is_broken);
    buffer_free(&out);
}

static void whole_fields_copy_the_message(void **state)
{
    static const char bytes[] = "\x08\x96\x01\x12\x03"
                                "abc"
                                "\x1d\1\2\3\4\x21\1\2\3\4\5\6\7\10";
    struct buffer out = {0};
    struct pb_field field;
    (void)state;
    struct pb_reader reader = pb_read(text_slice(bytes, sizeof bytes - 1));
    while (pb_next(&reader, &field)) pb_put_raw(&out, field.whole);
    assert_false(reader.is_broken);
    assert_int_equal(out.size, sizeof bytes - 1);
    assert_memory_equal(out.data, bytes, out.size);
    buffer_free(&out);
}

static void broken_bytes_are_refused(void **state)
{
    static const struct {
        const char *name;
        const char *bytes;
        size_t size;
    } rows[] = {
        {"key cut off", "\x88", 1},
        {"number cut off", "\x08\x96", 2},
        {"number of eleven bytes", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12},
        {"length leads out",
         "\x12\x04"
         "abc",
         5},
        {"length near 2^64",
         "\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
         "abc",
         14},
        {"fixed 32 cut off", "\x1d\1\2\3", 4},
        {"fixed 64 cut off", "\x21\1\2\3\4\5\6\7", 8},
        {"group", "\x0b\x0c", 2},
        {"wire type 7", "\x0f\1", 2},
        {"field 0",
         "\x02\x01"
         "a",
         3},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct pb_field field;
        struct pb_reader reader = pb_read(text_slice(rows[i].bytes, rows[i].size));
        if (pb_next(&reader, &field) || !reader.is_broken) fail_msg("%s: was read", rows[i].name);
        if (pb_next(&reader, &field)) fail_msg("%s: went on", rows[i].name);
    }
}

static void names_are_found_again(void **state)
{
    enum { COUNT = 5000 };
    static char texts[COUNT][16];
    struct name_table table = {0};
    (void)state;
    assert_int_equal(name_table_get(&table, slice_of("x")), NAME_NONE);
    for (uint32_t i = 0; i < COUNT; i++) {
        snprintf(texts[i], sizeof texts[i], "%u", (unsigned)(i * 7));
        expect_fine(name_table_put(&table, slice_of(texts[i]), i), texts[i]);
    }
    expect_fine(name_table_put(&table, slice_of("7"), 123456), "again");
    assert_int_equal(table.n, COUNT);
    assert_int_equal(name_table_get(&table, slice_of("7")), 123456);
    for (uint32_t i = 2; i < COUNT; i++)
        assert_int_equal(name_table_get(&table, slice_of(texts[i])), i);
    assert_int_equal(name_table_get(&table, slice_of("8")), NAME_NONE);
    assert_int_equal(name_table_get(&table, text_slice("70", 1)), 123456);
    name_table_free(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_come_back),
        cmocka_unit_test(whole_fields_copy_the_message),
        cmocka_unit_test(broken_bytes_are_refused),
        cmocka_unit_test(names_are_found_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
