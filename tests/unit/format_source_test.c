/* SPDX-License-Identifier: Apache-2.0 */
/* format_source_test.c - lines and CSV records over real files: where they begin and end, whatever
 * the chunk size; going on at every position; memory with lines that do not end. */
#include "format/source.h"
#include "tempdir.h"

#include <setjmp.h>
#include <stdarg.h>

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

static struct source_config config_of(const char *const *paths, size_t n)
{
    return (struct source_config){
        .paths = paths,
        .n_paths = n,
        .compression = COMPRESSION_AUTO,
        .record_bytes_max = 1000,
        .chunk_bytes = 1 << 20,
        .chunk_rows = 1000,
    };
}

/* "line:bytes|" of each record, '!' before those with an error. */
static void add_chunk(struct buffer *out, const struct raw_chunk *chunk)
{
    for (size_t i = 0; i < chunk->n_records; i++) {
        const struct raw_record *record = &chunk->records[i];
        buffer_printf(out, "%s%llu:%.*s|", record->error == ERROR_OK ? "" : "!",
                      (unsigned long long)record->line, (int)MIN(record->bytes.size, 40),
                      record->bytes.data);
    }
}

static char *read_from(const struct source_config *config, const struct source_position *start,
                       struct source_position *middle, size_t middle_chunk)
{
    struct source *source = NULL;
    struct raw_chunk chunk = {0};
    struct buffer out = {0};
    tidemill_error *error = source_open(&io_local, config, start, &source);
    assert_string_equal(error_message(error), "");
    for (size_t i = 0; !chunk.is_last; i++) {
        assert_null(source_read_chunk(source, &chunk));
        assert_true(chunk.n_records <= config->chunk_rows);
        assert_true(chunk.n_records > 0 || chunk.is_last);
        if (middle != NULL && i == middle_chunk) {
            *middle = chunk.end;
            out.size = 0; /* what follows is what the second reading must give */
        } else {
            add_chunk(&out, &chunk);
        }
    }
    buffer_byte(&out, '\0');
    raw_chunk_free(&chunk);
    source_close(source);
    return out.data;
}

struct text_case {
    const char *name; /* of the file */
    const char *text;
    const char *expected;
};

static const struct text_case cases[] = {
    {"empty.jsonl", "", ""},
    {"blank.jsonl", "\n\n \r\n\t\n", ""},
    {"plain.jsonl", "{}\n{\"a\":1}\n", "1:{}|2:{\"a\":1}|"},
    {"noend.jsonl", "a\nb", "1:a|2:b|"},
    {"crlf.jsonl", "a\r\n\r\nb\r\nc\r", "1:a|3:b|4:c|"},
    {"bom.jsonl", "\xEF\xBB\xBF{}\n{}", "1:{}|2:{}|"},
    {"shortbom.jsonl", "\xEF\xBB", "1:\xEF\xBB|"},
    {"gaps.jsonl", "\n\na\n  \n b \n\n\n", "3:a|5: b |"},
    {"header.csv", "id,x\n", ""},
    {"plain.csv", "id,x\n1,2\n3,4", "2:1,2|3:3,4|"},
    {"quoted.csv", "id,x\n1,\"a\nb\"\n2,\"c\"\"\r\nd\"\r\n3,e\n",
     "2:1,\"a\nb\"|4:2,\"c\"\"\r\nd\"|6:3,e|"},
    {"inches.csv", "id,x\n1,5\" disk\n2,3\"\n", "2:1,5\" disk|3:2,3\"|"},
    {"open.csv", "id,x\n1,2\n3,\"never\nclosed\n", "2:1,2|!3:3,\"never\nclosed\n|"},
    {"head.csv", "\xEF\xBB\xBF\n\"i\nd\",x\r\n1,2\r\n\n3,4\n", "4:1,2|6:3,4|"},
};

static void test_texts_under_all_chunk_sizes(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *path = tempdir_path(&folder, cases[i].name);
        tempdir_write(path, cases[i].text, strlen(cases[i].text));
        for (uint32_t rows = 1; rows < 5; rows++) {
            for (size_t bytes = 1; bytes < 12; bytes += 3) {
                struct source_config config = config_of(&path, 1);
                config.chunk_rows = rows;
                config.chunk_bytes = bytes;
                char *found = read_from(&config, NULL, NULL, 0);
                assert_string_equal(found, cases[i].expected);
                free(found);
            }
        }
    }
}

static void test_going_on_at_every_chunk(void **state)
{
    (void)state;
    static const char *const texts[] = {"id,x\n1,\"a\nb\"\n\n2,c\n", "id,x\r\n", "",
                                        "id,x\n3,d\n4,e"};
    const char *paths[COUNT_OF(texts)];
    char copies[COUNT_OF(texts)][300];
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        snprintf(copies[i], sizeof copies[i], "%s/%zu.csv", folder.path, i);
        tempdir_write(copies[i], texts[i], strlen(texts[i]));
        paths[i] = copies[i];
    }
    struct source_config config = config_of(paths, COUNT_OF(texts));
    config.chunk_rows = 1;
    char *all = read_from(&config, NULL, NULL, 0);
    assert_string_equal(all, "2:1,\"a\nb\"|5:2,c|2:3,d|3:4,e|");
    free(all);
    for (size_t chunk = 0; chunk < 4; chunk++) {
        struct source_position middle = {0};
        char *expected = read_from(&config, NULL, &middle, chunk);
        assert_int_equal(middle.index, chunk + 1);
        if (chunk < 3) {
            char *found = read_from(&config, &middle, NULL, 0);
            assert_string_equal(found, expected);
            free(found);
        }
        free(expected);
    }
}

/* Lines of many sizes around the block's and the limit's, against a plain loop. */
static void test_long_lines(void **state)
{
    (void)state;
    const size_t sizes[] = {1000, 1001, 1002, 300000, 999, 262144, 5, 262143, 1000000, 1};
    struct buffer text = {0};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        for (size_t k = 0; k < sizes[i]; k++) buffer_byte(&text, (char)('a' + i));
        buffer_text(&text, i % 2 == 0 ? "\n" : "\r\n");
    }
    const char *path = tempdir_path(&folder, "long.jsonl");
    tempdir_write(path, text.data, text.size);
    buffer_free(&text);
    for (uint32_t rows = 1; rows < 20; rows += 6) {
        struct source_config config = config_of(&path, 1);
        config.chunk_rows = rows;
        struct source *source = NULL;
        struct raw_chunk chunk = {0};
        size_t n = 0;
        assert_null(source_open(&io_local, &config, NULL, &source));
        while (!chunk.is_last) {
            assert_null(source_read_chunk(source, &chunk));
            assert_true(chunk.bytes.capacity <= (size_t)2 << 20);
            for (size_t i = 0; i < chunk.n_records; i++, n++) {
                const struct raw_record *record = &chunk.records[i];
                bool is_long = sizes[n] > 1000;
                assert_int_equal(record->size, sizes[n]);
                assert_int_equal(record->error, is_long ? ERROR_RECORD_TOO_LONG : ERROR_OK);
                assert_int_equal(record->bytes.size, is_long ? 256 : sizes[n]);
                assert_int_equal(record->bytes.data[0], 'a' + (int)n);
                assert_int_equal(record->line, n + 1);
            }
        }
        assert_int_equal(n, COUNT_OF(sizes));
        assert_true(source_progress(source) == 1);
        raw_chunk_free(&chunk);
        source_close(source);
    }
}

static void test_many_records(void **state)
{
    (void)state;
    const size_t n_records = 50001;
    struct buffer text = {0};
    for (size_t i = 0; i < n_records; i++) buffer_printf(&text, "{\"id\":%zu}\n", i);
    const char *path = tempdir_path(&folder, "many.jsonl");
    tempdir_write(path, text.data, text.size);
    struct source_config config = config_of(&path, 1);
    config.chunk_rows = 4096;
    struct source *source = NULL;
    struct raw_chunk chunk = {0};
    size_t n = 0;
    assert_null(source_open(&io_local, &config, NULL, &source));
    while (!chunk.is_last) {
        assert_null(source_read_chunk(source, &chunk));
        for (size_t i = 0; i < chunk.n_records; i++, n++) {
            char expected[32];
            int size = snprintf(expected, sizeof expected, "{\"id\":%zu}", n);
            assert_int_equal(chunk.records[i].bytes.size, size);
            assert_memory_equal(chunk.records[i].bytes.data, expected, (size_t)size);
        }
    }
    assert_int_equal(n, n_records);
    assert_int_equal(chunk.end.index, n_records);
    raw_chunk_free(&chunk);
    source_close(source);
    buffer_free(&text);
}

static void test_line_numbers_given(void **state)
{
    (void)state;
    const char *path = tempdir_path(&folder, "numbers.jsonl");
    const uint64_t numbers[] = {7, 90};
    tempdir_write(path, "a\nb\nc\n", 6);
    struct source_config config = config_of(&path, 1);
    config.line_numbers = numbers;
    config.n_line_numbers = 2;
    char *found = read_from(&config, NULL, NULL, 0);
    assert_string_equal(found, "7:a|90:b|3:c|");
    free(found);
}

static void check_refused(const char *const *paths, size_t n, const char *part)
{
    struct source_config config = config_of(paths, n);
    struct source *source = NULL;
    struct raw_chunk chunk = {0};
    tidemill_error *error = source_open(&io_local, &config, NULL, &source);
    while (error == NULL && !chunk.is_last) error = source_read_chunk(source, &chunk);
    assert_int_equal(error_code_of(error), ERROR_INPUT);
    if (strstr(error_message(error), part) == NULL) print_error("%s\n", error_message(error));
    assert_non_null(strstr(error_message(error), part));
    error_free(error);
    raw_chunk_free(&chunk);
    source_close(source);
}

static void test_files_that_do_not_agree(void **state)
{
    (void)state;
    const char *a = tempdir_path(&folder, "a.csv"), *b = tempdir_path(&folder, "b.csv");
    const char *c = tempdir_path(&folder, "c.csv"), *d = tempdir_path(&folder, "d.jsonl");
    tempdir_write(a, "id,x\n1,2\n", 9);
    tempdir_write(b, "id,y\n1,2\n", 9);
    tempdir_write(c, "id\n1\n", 5);
    tempdir_write(d, "{}\n", 3);
    check_refused((const char *const[]){a, b}, 2, "column 2 is 'y', in the files before it 'x'");
    check_refused((const char *const[]){a, c}, 2, "has 1 columns, the files before it have 2");
    check_refused((const char *const[]){a, d}, 2, "inputs must be of one format");
    tempdir_write(c, "id,\"x\n1\n", 8);
    check_refused((const char *const[]){c}, 1, "never closed");
    tempdir_write(c, "id,\xff\n", 5);
    check_refused((const char *const[]){c}, 1, "not UTF-8");
}

static void test_formats_by_name(void **state)
{
    (void)state;
    assert_int_equal(format_of_path("a/b.jsonl.gz"), FORMAT_JSONL);
    assert_int_equal(format_of_path("b.NDJSON"), FORMAT_JSONL);
    assert_int_equal(format_of_path("b.csv.zst"), FORMAT_CSV);
    assert_int_equal(format_of_path("b.npz"), FORMAT_NPZ);
    assert_int_equal(format_of_path("b.npy.gz"), FORMAT_NPY);
    assert_int_equal(format_of_path("csv"), FORMAT_AUTO);
    assert_int_equal(format_of_path("-"), FORMAT_AUTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts_under_all_chunk_sizes),
        cmocka_unit_test(test_going_on_at_every_chunk),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_many_records),
        cmocka_unit_test(test_line_numbers_given),
        cmocka_unit_test(test_files_that_do_not_agree),
        cmocka_unit_test(test_formats_by_name),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
