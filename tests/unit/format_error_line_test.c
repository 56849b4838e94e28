/* SPDX-License-Identifier: Apache-2.0 */
/* format_error_line_test.c - lines of the error sink: always one valid JSON line, with as much of the
 * record as can be had; JSON strings and base64 on the way. */
#include "format/encode.h"

#include "expect.h"

#include <yyjson.h>

static const char *const columns[] = {"id", "a \"b\""};
static const struct source_array arrays[] = {
    {"x", TENSOR_FLOAT, {.rank = 1, .dims = {2}}, 8},
    {"n", TENSOR_INT16, {.rank = 0}, 2},
};
static const struct source_schema schemas[] = {
    [FORMAT_JSONL] = {.format = FORMAT_JSONL},
    [FORMAT_CSV] = {.format = FORMAT_CSV, .columns = columns, .n_columns = 2},
    [FORMAT_NPZ] = {.format = FORMAT_NPZ, .arrays = arrays, .n_arrays = 2},
};

#define BYTES(literal)                                                                             \
    {                                                                                              \
        literal, sizeof literal - 1                                                                \
    }
#define HEAD                                                                                       \
    "{\"id\":7,\"index\":16,\"line\":17,\"input\":\"a.jsonl\",\"code\":\"wrong_shape\","           \
    "\"message\":\"m\","

static const struct {
    const char *name;
    enum format format;
    struct slice bytes;
    enum error_code error;
    const char *tail;
} rows[] = {
    {"JSON as it is spelled, white space away", FORMAT_JSONL,
     BYTES(" { \"a b\" : [1.50 ,\t1E5, 12345678901234567890123] ,\r\"\\u0041\":\" \\\" \" } "), 0,
     "\"record\":{\"a b\":[1.50,1E5,12345678901234567890123],\"\\u0041\":\" \\\" \"}}\n"},
    {"a JSON value that is no object", FORMAT_JSONL, BYTES("3"), 0, "\"record\":3}\n"},
    {"broken JSON", FORMAT_JSONL, BYTES("{\"a\":\x01"), 0, "\"record\":\"{\\\"a\\\":\\u0001\"}\n"},
    {"half a surrogate pair is no JSON", FORMAT_JSONL, BYTES("\"\\ud800\""), 0,
     "\"record\":\"\\\"\\\\ud800\\\"\"}\n"},
    {"NaN is no JSON", FORMAT_JSONL, BYTES("[NaN]"), 0, "\"record\":\"[NaN]\"}\n"},
    {"a NUL", FORMAT_JSONL, BYTES("1\0"), 0, "\"record\":\"1\\u0000\"}\n"},
    {"not UTF-8", FORMAT_JSONL, BYTES("{\"a\":\"\xff\"}"), 0, "\"record_b64\":\"eyJhIjoi/yJ9\"}\n"},
    {"nothing at all", FORMAT_JSONL, BYTES(""), 0, "\"record\":\"\"}\n"},
    {"a cut record", FORMAT_JSONL, BYTES("{\"a"), ERROR_RECORD_TOO_LONG,
     "\"record\":\"{\\\"a\",\"record_truncated\":true,\"record_size\":99}\n"},
    {"cut in the middle of a character", FORMAT_JSONL, BYTES("\xc3\xa4\xe2\x82"),
     ERROR_RECORD_TOO_LONG,
     "\"record\":\"\xc3\xa4\",\"record_truncated\":true,\"record_size\":99}\n"},
    {"cut behind a character", FORMAT_JSONL, BYTES("\xe2\x82\xac"), ERROR_RECORD_TOO_LONG,
     "\"record\":\"\xe2\x82\xac\",\"record_truncated\":true,\"record_size\":99}\n"},
    {"cut bytes", FORMAT_JSONL, BYTES("\xff\x80\x80\x80\x80"), ERROR_RECORD_TOO_LONG,
     "\"record_b64\":\"/4CAgIA=\",\"record_truncated\":true,\"record_size\":99}\n"},
    {"a CSV row by column", FORMAT_CSV, BYTES("1,\"x,\"\"y\""), 0,
     "\"record\":{\"id\":\"1\",\"a \\\"b\\\"\":\"x,\\\"y\"}}\n"},
    {"a CSV row with a cell too many", FORMAT_CSV, BYTES("1,2,3"), 0, "\"record\":\"1,2,3\"}\n"},
    {"a CSV row with a cell too few", FORMAT_CSV, BYTES("1"), 0, "\"record\":\"1\"}\n"},
    {"a quote that is never closed", FORMAT_CSV, BYTES("1,\"2"), ERROR_INVALID_CSV,
     "\"record\":\"1,\\\"2\"}\n"},
    {"a CSV row that is not UTF-8", FORMAT_CSV, BYTES("1,\xff"), 0, "\"record_b64\":\"MSz/\"}\n"},
    {"rows of arrays", FORMAT_NPZ, BYTES("\0\0\x80?\0\0\0@\1\0"), 0,
     "\"record\":{\"x\":{\"b64\":\"AACAPwAAAEA=\",\"dtype\":\"float32\",\"shape\":[2]},"
     "\"n\":{\"b64\":\"AQA=\",\"dtype\":\"int16\",\"shape\":[]}}}\n"},
    {"rows of arrays of another size", FORMAT_NPZ, BYTES("abc"), 0, "\"record\":\"abc\"}\n"},
};

static void test_records(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct buffer out = {0};
        char *copy = malloc(rows[i].bytes.size + 1);
        assert_non_null(copy);
        memcpy(copy, rows[i].bytes.data, rows[i].bytes.size);
        struct raw_record raw = {
            .bytes = {copy, rows[i].bytes.size}, .line = 17, .size = 99, .error = rows[i].error};
        error_line_append(&out, &schemas[rows[i].format], &raw, "a.jsonl", 16,
                          (struct slice){"7", 1}, ERROR_WRONG_SHAPE, "m", NULL);
        buffer_byte(&out, '\0');
        assert_false(out.is_failed);
        if (strncmp(out.data, HEAD, sizeof HEAD - 1) != 0)
            fail_msg("%s: %s does not begin with %s", rows[i].name, out.data, HEAD);
        expect_text(out.data + sizeof HEAD - 1, rows[i].tail, rows[i].name);
        buffer_free(&out);
        free(copy);
    }
}

/* What OpenAI's clients read comes first, and ids are strings; what a retry reads follows. */
static void test_batch_lines(void **state)
{
    (void)state;
    static const struct {
        const char *name, *id, *custom_id;
        uint64_t index;
    } cases[] = {
        {"a number", "17", "\"17\"", 0},
        {"a string", "\"a\\u00e4\"", "\"a\\u00e4\"", 1},
        {"none", "", "null", 2},
    };
    char names[COUNT_OF(cases)][40] = {{0}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buffer out = {0};
        char expected[512];
        const struct digest job = {1, 2};
        struct raw_record raw = {.bytes = {"{}", 2}, .line = 17, .size = 2};
        error_line_append(&out, &schemas[FORMAT_JSONL], &raw, "a.jsonl", cases[i].index,
                          (struct slice){cases[i].id, strlen(cases[i].id)}, ERROR_MODEL_ERROR,
                          "say \"no\"", &job);
        buffer_byte(&out, '\0');
        memcpy(names[i], out.data + strlen("{\"id\":"), sizeof names[i] - 1);
        snprintf(expected, sizeof expected,
                 ",\"custom_id\":%s,\"response\":null,\"error\":{\"code\":\"model_error\","
                 "\"message\":\"say \\\"no\\\"\"},\"index\":%d,\"line\":17,"
                 "\"input\":\"a.jsonl\",\"code\":\"model_error\",\"record\":{}}\n",
                 cases[i].custom_id, (int)cases[i].index);
        const char *rest = strstr(out.data, ",\"custom_id\"");
        expect_text(rest, expected, cases[i].name);
        assert_int_equal(rest - out.data,
                         strlen("{\"id\":\"batch_req_0123456789abcdef0123456789abcdef\""));
        for (size_t k = 0; k < i; k++) assert_string_not_equal(names[i], names[k]);
        buffer_free(&out);
    }
}

/* Deep nesting would be an error to many readers of the sink: such a record is text. */
static void test_depth(void **state)
{
    (void)state;
    for (size_t depth = JSON_DEPTH_MAX - 1; depth <= JSON_DEPTH_MAX + 1; depth++) {
        char text[2 * JSON_DEPTH_MAX + 16];
        struct buffer out = {0};
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        struct raw_record raw = {.bytes = {text, 2 * depth}, .line = 1, .size = 2 * depth};
        error_line_append(&out, &schemas[FORMAT_JSONL], &raw, "-", 0, (struct slice){0},
                          ERROR_INVALID_JSON, NULL, NULL);
        buffer_byte(&out, '\0');
        bool is_text = strstr(out.data, "\"record\":\"[") != NULL;
        assert_int_equal(is_text, depth > JSON_DEPTH_MAX);
        assert_non_null(strstr(out.data, "{\"id\":null,"));
        assert_non_null(strstr(out.data, error_code_sentence(ERROR_INVALID_JSON)));
        buffer_free(&out);
    }
}

/* Whatever the bytes: one line, valid JSON. */
static void test_random_bytes_make_valid_lines(void **state)
{
    (void)state;
    uint64_t seed = random_seed("error lines");
    static const char alphabet[] = "{}[]\",:\\ \t\r\n01.e-truefalsn\xc3\xa4\xff\x00\x01u";
    for (int round = 0; round < 20000; round++) {
        char text[40], path[8];
        struct buffer out = {0};
        size_t size = random_below(&seed, sizeof text);
        for (size_t i = 0; i < size; i++)
            text[i] = alphabet[random_below(&seed, sizeof alphabet - 1)];
        for (size_t i = 0; i < sizeof path; i++) path[i] = (char)(1 + random_below(&seed, 255));
        path[sizeof path - 1] = '\0';
        static const struct digest job = {1, 2};
        static const enum format formats[] = {FORMAT_JSONL, FORMAT_CSV, FORMAT_NPZ};
        struct raw_record raw = {.bytes = {text, size}, .line = 1, .size = size};
        if (round % 5 == 0) raw.error = ERROR_RECORD_TOO_LONG;
        error_line_append(&out, &schemas[formats[round % 3]], &raw, path, 3,
                          (struct slice){"\"a\"", 3}, ERROR_INVALID_JSON, path,
                          round % 2 == 0 ? NULL : &job);
        assert_false(out.is_failed);
        assert_ptr_equal(memchr(out.data, '\n', out.size), out.data + out.size - 1);
        yyjson_doc *doc = yyjson_read(out.data, out.size, 0);
        if (doc == NULL) fail_msg("not JSON: %.*s", (int)out.size, out.data);
        yyjson_doc_free(doc);
        buffer_free(&out);
    }
}

/* --- strings -------------------------------------------------------------------------------------- */

static void test_json_strings(void **state)
{
    (void)state;
    static const struct {
        struct slice text;
        const char *json;
    } strings[] = {
        {BYTES(""), "\"\""},
        {BYTES("plain text of more than eight bytes"), "\"plain text of more than eight bytes\""},
        {BYTES("\"\\/"), "\"\\\"\\\\/\""},
        {BYTES("\b\t\n\v\f\r\x1f\x7f"), "\"\\b\\t\\n\\u000b\\f\\r\\u001f\x7f\""},
        {BYTES("a\0b"), "\"a\\u0000b\""},
        {BYTES("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"), "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {BYTES("\xc0\xaf"), "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {BYTES("\xed\xa0\x80x"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdx\""},
        {BYTES("1234567\"12345678\\"), "\"1234567\\\"12345678\\\\\""},
        {BYTES("\xe2\x82"), "\"\xef\xbf\xbd\xef\xbf\xbd\""},
    };
    for (size_t i = 0; i < COUNT_OF(strings); i++) {
        struct buffer out = {0};
        format_json_string(&out, strings[i].text.data, strings[i].text.size);
        buffer_byte(&out, '\0');
        expect_text(out.data, strings[i].json, strings[i].json);
        buffer_free(&out);
    }
}

static void test_random_strings_read_back(void **state)
{
    (void)state;
    uint64_t seed = random_seed("strings");
    for (int round = 0; round < 20000; round++) {
        char text[32];
        struct buffer out = {0};
        size_t size = random_below(&seed, sizeof text);
        for (size_t i = 0; i < size; i++)
            text[i] = (char)random_below(&seed, round % 2 == 0 ? 128 : 256);
        format_json_string(&out, text, size);
        yyjson_doc *doc = yyjson_read(out.data, out.size, 0);
        yyjson_val *back = yyjson_doc_get_root(doc);
        if (!yyjson_is_str(back)) fail_msg("not a string: %.*s", (int)out.size, out.data);
        if (format_is_utf8(text, size)) {
            assert_int_equal(yyjson_get_len(back), size);
            assert_memory_equal(yyjson_get_str(back), text, size);
        }
        yyjson_doc_free(doc);
        buffer_free(&out);
    }
}

/* --- base64 --------------------------------------------------------------------------------------- */

static void test_base64_of_rfc_4648(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    static const char *const bad[] = {"Z",
                                      "Zg",
                                      "Zg=",
                                      "Zg==\n",
                                      " Zg==",
                                      "Zh==",
                                      "Zm9=",
                                      "====",
                                      "Z===",
                                      "Zg==Zg==",
                                      "Zm-v",
                                      "Zm_v",
                                      "Zm=v",
                                      "Z=9v",
                                      "=Zg=",
                                      "Zm8=====",
                                      "Zm9v\xff\xff\xff\xff"};
    unsigned char bytes[32];
    size_t size;
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        struct buffer out = {0};
        format_base64(&out, pairs[i][0], strlen(pairs[i][0]));
        buffer_byte(&out, '\0');
        expect_text(out.data, pairs[i][1], pairs[i][0]);
        assert_true(parse_base64(pairs[i][1], strlen(pairs[i][1]), bytes, &size));
        assert_int_equal(size, strlen(pairs[i][0]));
        if (size > 0) assert_memory_equal(bytes, pairs[i][0], size);
        buffer_free(&out);
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        if (parse_base64(bad[i], strlen(bad[i]), bytes, &size)) fail_msg("'%s' was taken", bad[i]);
}

static void test_base64_round_trip(void **state)
{
    (void)state;
    uint64_t seed = random_seed("base64");
    for (int round = 0; round < 5000; round++) {
        unsigned char data[64], back[64 + 3];
        size_t size = random_below(&seed, sizeof data + 1), found = 0;
        struct buffer out = {0};
        for (size_t i = 0; i < size; i++) data[i] = (unsigned char)random_next(&seed);
        format_base64(&out, data, size);
        assert_int_equal(out.size, (size + 2) / 3 * 4);
        assert_true(parse_base64(out.data, out.size, back, &found));
        assert_int_equal(found, size);
        if (size > 0) assert_memory_equal(back, data, size);
        buffer_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_batch_lines),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_random_bytes_make_valid_lines),
        cmocka_unit_test(test_json_strings),
        cmocka_unit_test(test_random_strings_read_back),
        cmocka_unit_test(test_base64_of_rfc_4648),
        cmocka_unit_test(test_base64_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
