/* SPDX-License-Identifier: Apache-2.0 */
/* format_csv_test.c - cells of a record, and CSV records as model inputs. */
#include "format/csv.h"
#include "format_decoding.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct split_case {
    const char *text;
    const char *expected; /* cells in <>; or the complaint */
};

static const struct split_case splits[] = {
    {"", "<>"},
    {"a", "<a>"},
    {"a,b", "<a><b>"},
    {",", "<><>"},
    {"a,", "<a><>"},
    {"\"a,b\",c", "<a,b><c>"},
    {"\"a\"\"b\",\"\"", "<a\"b><>"},
    {"\"\"\"\"", "<\">"},
    {"\"a\nb\"", "<a\nb>"},
    {"a\"b,c", "<a\"b><c>"},
    {" \"a\"", "< \"a\">"},
    {"\"a\"b", "text follows a quoted cell"},
    {"\"a", "a quoted cell is never closed"},
    {"\"a\"\"", "a quoted cell is never closed"},
};

static void test_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(splits); i++) {
        struct arena arena = {0};
        struct slice cells[4];
        char found[128] = "";
        size_t n, size = strlen(splits[i].text);
        bool is_memory_short;
        char *text = malloc(size + 1);
        assert_non_null(text);
        memcpy(text, splits[i].text, size);
        const char *wrong =
            csv_split((struct slice){text, size}, cells, 4, &arena, &n, &is_memory_short);
        for (size_t k = 0; wrong == NULL && k < n; k++) {
            size_t used = strlen(found);
            snprintf(found + used, sizeof found - used, "<%.*s>", (int)cells[k].size,
                     cells[k].data);
        }
        assert_string_equal(wrong == NULL ? found : wrong, splits[i].expected);
        free(text);
        arena_free(&arena);
    }
}

static const char *const columns[] = {"id", "a", "b", "c"};
static const struct source_schema schema = {
    .format = FORMAT_CSV, .columns = columns, .n_columns = 4};

struct row_case {
    const char *text;
    enum error_code code;
    const char *expected; /* the message; or the three numbers */
};

static const struct row_case rows[] = {
    {"1,2,3,4", ERROR_OK, "2 3 4"},
    {"1, 2 ,\"+3.5\",\t-.5e1", ERROR_OK, "2 3.5 -5"},
    {"1,2,3", ERROR_INVALID_CSV, "found 3 cells, the header has 4"},
    {"1,2,3,4,5", ERROR_INVALID_CSV, "found 5 cells, the header has 4"},
    {"1,\"2\"x,3,4", ERROR_INVALID_CSV, "not valid CSV: text follows a quoted cell"},
    {"1,2,,4", ERROR_WRONG_TYPE, "field 'b': expected a number, found an empty cell"},
    {"1,2,x,4", ERROR_WRONG_TYPE, "field 'b': expected a number, found x"},
    {"1,2,3 4,4", ERROR_WRONG_TYPE, "field 'b': expected a number, found 3 4"},
    {"1,2,0x10,4", ERROR_WRONG_TYPE, "field 'b': expected a number, found 0x10"},
    {"1,2,nan,4", ERROR_NOT_FINITE, "field 'b': nan is not finite in float32"},
    {"1,2,1e60,4", ERROR_NOT_FINITE, "field 'b': 1e60 is not finite in float32"},
    {"1,2,\xff,4", ERROR_INVALID_UTF8, "the record is not valid UTF-8"},
    {",2,3,4", ERROR_INVALID_ID,
     "id field 'id': expected a string or number, found an empty string"},
};

static void test_rows(void **state)
{
    (void)state;
    struct bench bench;
    int64_t dims[] = {3};
    struct value_spec input = test_input("x", TENSOR_FLOAT, 1, dims);
    struct decoder_config config = {.schema = &schema};
    assert_null(bench_open(&bench, config, &input, 1, ""));
    assert_string_equal(decoder_description(bench.decoder), "x=a..c\nid=id");
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const struct record *record = bench_decode(&bench, rows[i].text, strlen(rows[i].text));
        char found[64];
        assert_int_equal(record->error, rows[i].code);
        if (rows[i].code != ERROR_OK) {
            assert_string_equal(record->message, rows[i].expected);
            continue;
        }
        const float *x = bench_row(&bench, 0);
        snprintf(found, sizeof found, "%g %g %g", (double)x[0], (double)x[1], (double)x[2]);
        assert_string_equal(found, rows[i].expected);
        assert_memory_equal(record->id.data, "\"1\"", 3);
    }
    assert_int_equal(bench_decode(&bench, "1,\0,3,4", 7)->error, ERROR_INVALID_CSV);
    bench_close(&bench);
}

static void test_lists_and_strings_in_cells(void **state)
{
    (void)state;
    struct bench bench;
    int64_t dims[] = {2};
    struct value_spec inputs[] = {test_input("a", TENSOR_INT32, 1, dims),
                                  test_input("b", TENSOR_STRING, 0, NULL),
                                  test_input("c", TENSOR_BOOL, 0, NULL)};
    const char *const keep[] = {"b", "id"};
    struct decoder_config config = {.schema = &schema, .keep = keep, .n_keep = 2};
    assert_null(bench_open(&bench, config, inputs, 3, ""));
    const char *text = "7,\"[5, 6]\",\"say \"\"hi\"\"\n\",True";
    const struct record *record = bench_decode(&bench, text, strlen(text));
    assert_int_equal(record->error, ERROR_OK);
    assert_memory_equal(bench_row(&bench, 0), ((int32_t[]){5, 6}), 8);
    assert_memory_equal(bench_row(&bench, 1), "\x09\0\0\0say \"hi\"\n", 13);
    assert_memory_equal(bench_row(&bench, 2), "\1", 1);
    assert_int_equal(record->n_kept, 2);
    assert_memory_equal(record->kept[0].key.data, "\"b\"", 3);
    assert_int_equal(record->kept[0].value.size, 14);
    assert_memory_equal(record->kept[0].value.data, "\"say \\\"hi\\\"\\n\"", 14);
    text = "7,\"[5, 6\",x,1";
    record = bench_decode(&bench, text, strlen(text));
    assert_int_equal(record->error, ERROR_INVALID_JSON);
    assert_memory_equal(record->message, "field 'a': not valid JSON", 25);
    text = "7,5,x,1";
    record = bench_decode(&bench, text, strlen(text));
    assert_int_equal(record->error, ERROR_WRONG_SHAPE);
    assert_string_equal(record->message, "field 'a': expected 2 numbers, found 1");
    bench_close(&bench);
}

static void test_maps(void **state)
{
    (void)state;
    struct bench bench;
    int64_t dims[] = {2};
    struct value_spec input = test_input("x", TENSOR_FLOAT, 1, dims);
    const char *map = "x=c,a";
    struct decoder_config config = {.schema = &schema, .maps = &map, .n_maps = 1, .keep_all = true};
    assert_null(bench_open(&bench, config, &input, 1, ""));
    const struct record *record = bench_decode(&bench, "1,2,3,4", 7);
    assert_int_equal(record->error, ERROR_OK);
    assert_memory_equal(bench_row(&bench, 0), ((float[]){4, 2}), 8);
    assert_int_equal(record->n_kept, 3);
    bench_close(&bench);
    map = "x=b..c";
    assert_null(bench_open(&bench, config, &input, 1, ""));
    record = bench_decode(&bench, "1,2,3,4", 7);
    assert_memory_equal(bench_row(&bench, 0), ((float[]){3, 4}), 8);
    bench_close(&bench);
    config.n_maps = 0;
    tidemill_error *error = bench_open(&bench, config, &input, 1, "");
    assert_int_equal(error_code_of(error), ERROR_USAGE);
    assert_non_null(
        strstr(error_message(error), "there is id, a, b, c. Say which it is: --map x=a"));
    error_free(error);
    config.id_field = "key";
    error = bench_open(&bench, config, &input, 1, "");
    assert_string_equal(error_message(error),
                        "--id: there is no field 'key'; there is id, a, b, c");
    error_free(error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_lists_and_strings_in_cells),
        cmocka_unit_test(test_maps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
