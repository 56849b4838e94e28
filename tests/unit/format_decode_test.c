/* SPDX-License-Identifier: Apache-2.0 */
/* format_decode_test.c - JSON records: what is accepted, what is refused and with which words; ids,
 * kept fields and maps; and that the plain way and the tree never differ. */
#include "format_decoding.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include <cmocka.h>

static const struct source_schema jsonl = {.format = FORMAT_JSONL};

static struct bench open_one(enum tensor_type type, int rank, const int64_t *dims, bool is_fast)
{
    struct bench bench;
    struct value_spec input = test_input("x", type, rank, dims);
    struct decoder_config config = {.schema = &jsonl, .id_field = "id"};
    assert_null(bench_open(&bench, config, &input, 1, ""));
    if (!is_fast) decoder_disable_fast(bench.decoder);
    return bench;
}

/* --- grammar ----------------------------------------------------------------------------------------- */

struct grammar_case {
    const char *text; /* stands as the value of a field that does not matter */
    enum error_code code;
    size_t size; /* 0: strlen */
};

static const struct grammar_case grammar[] = {
    {"0", ERROR_OK, 0},
    {"-0", ERROR_OK, 0},
    {"1e999", ERROR_OK, 0},
    {"-1.5E+10", ERROR_OK, 0},
    {"123456789012345678901234567890", ERROR_OK, 0},
    {"\"\"", ERROR_OK, 0},
    {"\"a\\n\\u00e9\\\"\\\\\\/\"", ERROR_OK, 0},
    {"\"\\ud83d\\ude00\"", ERROR_OK, 0},
    {"\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"", ERROR_OK, 0},
    {"\"\x7f\"", ERROR_OK, 0},
    {"\"\\u0000\"", ERROR_OK, 0},
    {" [ ] ", ERROR_OK, 0},
    {"[[],{},[{}]]", ERROR_OK, 0},
    {"{\"a\":{\"b\":[1,2,{\"c\":null}]},\"a\":true}", ERROR_OK, 0},
    {"true", ERROR_OK, 0},
    {"01", ERROR_INVALID_JSON, 0},
    {"-", ERROR_INVALID_JSON, 0},
    {"+1", ERROR_INVALID_JSON, 0},
    {"1.", ERROR_INVALID_JSON, 0},
    {".5", ERROR_INVALID_JSON, 0},
    {"1e", ERROR_INVALID_JSON, 0},
    {"1e+", ERROR_INVALID_JSON, 0},
    {"0x10", ERROR_INVALID_JSON, 0},
    {"NaN", ERROR_INVALID_JSON, 0},
    {"Infinity", ERROR_INVALID_JSON, 0},
    {"nul", ERROR_INVALID_JSON, 0},
    {"truE", ERROR_INVALID_JSON, 0},
    {"'a'", ERROR_INVALID_JSON, 0},
    {"\"a", ERROR_INVALID_JSON, 0},
    {"\"\\x\"", ERROR_INVALID_JSON, 0},
    {"\"\\u12g4\"", ERROR_INVALID_JSON, 0},
    {"\"\\ud800\"", ERROR_INVALID_JSON, 0},
    {"\"\\udc00\"", ERROR_INVALID_JSON, 0},
    {"\"\\ud800\\u0041\"", ERROR_INVALID_JSON, 0},
    {"\"\n\"", ERROR_INVALID_JSON, 0},
    {"\"\0\"", ERROR_INVALID_JSON, 3},
    {"\0", ERROR_INVALID_JSON, 1},
    {"[1,]", ERROR_INVALID_JSON, 0},
    {"[,1]", ERROR_INVALID_JSON, 0},
    {"[1 2]", ERROR_INVALID_JSON, 0},
    {"[1}", ERROR_INVALID_JSON, 0},
    {"{\"a\":1,}", ERROR_INVALID_JSON, 0},
    {"{a:1}", ERROR_INVALID_JSON, 0},
    {"{\"a\" 1}", ERROR_INVALID_JSON, 0},
    {"{\"a\":}", ERROR_INVALID_JSON, 0},
    {"[1] // no", ERROR_INVALID_JSON, 0},
    {"", ERROR_INVALID_JSON, 0},
    {"}", ERROR_INVALID_JSON, 0},
    {"1}{", ERROR_INVALID_JSON, 0},
    {"\f1", ERROR_INVALID_JSON, 0},
    {"\xc2\xa0"
     "1",
     ERROR_INVALID_JSON, 0},
    {"\"\xff\"", ERROR_INVALID_UTF8, 0},
    {"\"\xc0\xaf\"", ERROR_INVALID_UTF8, 0},
    {"\"\xed\xa0\x80\"", ERROR_INVALID_UTF8, 0},
    {"\"\xf4\x90\x80\x80\"", ERROR_INVALID_UTF8, 0},
    {"\"\xe2\x82\"", ERROR_INVALID_UTF8, 0},
    {"\x80", ERROR_INVALID_UTF8, 0},
};

static void test_grammar(void **state)
{
    (void)state;
    for (int is_fast = 0; is_fast < 2; is_fast++) {
        struct bench bench = open_one(TENSOR_FLOAT, 0, NULL, is_fast != 0);
        for (size_t i = 0; i < COUNT_OF(grammar); i++) {
            char text[256] = "{\"v\":";
            size_t size = grammar[i].size == 0 ? strlen(grammar[i].text) : grammar[i].size, n = 5;
            memcpy(text + n, grammar[i].text, size);
            n += size;
            memcpy(text + n, ",\"id\":1,\"x\":2}", 14);
            enum error_code code = bench_decode(&bench, text, n + 14)->error;
            if (code != grammar[i].code) {
                print_error("%s: %s, fast %d\n", text, error_code_name(code), is_fast);
            }
            assert_int_equal(code, grammar[i].code);
        }
        bench_close(&bench);
    }
}

static void test_depth(void **state)
{
    (void)state;
    const size_t deep = 100000;
    char *text = malloc(2 * deep + 64);
    assert_non_null(text);
    for (int is_fast = 0; is_fast < 2; is_fast++) {
        struct bench bench = open_one(TENSOR_FLOAT, 0, NULL, is_fast != 0);
        size_t depths[] = {JSON_DEPTH_MAX - 1, JSON_DEPTH_MAX, deep};
        for (size_t i = 0; i < COUNT_OF(depths); i++) {
            size_t n = (size_t)snprintf(text, 64, "{\"id\":1,\"x\":1,\"v\":");
            memset(text + n, '[', depths[i]);
            memset(text + n + depths[i], ']', depths[i]);
            n += 2 * depths[i];
            text[n++] = '}';
            enum error_code code = bench_decode(&bench, text, n)->error;
            assert_int_equal(code, i == 0 ? ERROR_OK : ERROR_INVALID_JSON);
        }
        bench_close(&bench);
    }
    free(text);
}

/* --- values ------------------------------------------------------------------------------------------- */

struct value_case {
    enum tensor_type type;
    int rank;
    int64_t dims[3];
    const char *value;
    enum error_code code;
    const char *expected; /* the message; or the row's bytes in hexadecimal */
};

static const struct value_case values[] = {
    {TENSOR_FLOAT, 1, {3}, "[1,2.5,-0]", ERROR_OK, "0000803f0000204000000080"},
    {TENSOR_FLOAT, 1, {2}, "[ 16777217 , 1e-3 ]", ERROR_OK, "0000804b6f12833a"},
    {TENSOR_DOUBLE, 0, {0}, "0.1", ERROR_OK, "9a9999999999b93f"},
    {TENSOR_DOUBLE, 1, {1}, "9007199254740993", ERROR_OK, "0000000000004043"},
    {TENSOR_UINT8, 1, {3}, "[0,255,1e2]", ERROR_OK, "00ff64"},
    {TENSOR_INT8, 1, {2}, "[-128,127.0]", ERROR_OK, "807f"},
    {TENSOR_INT64,
     1,
     {-1},
     "[-9223372036854775808,9223372036854775807]",
     ERROR_OK,
     "0000000000000080ffffffffffffff7f"},
    {TENSOR_UINT64, 0, {0}, "18446744073709551615", ERROR_OK, "ffffffffffffffff"},
    {TENSOR_BOOL, 1, {4}, "[true,false,1,0]", ERROR_OK, "01000100"},
    {TENSOR_FLOAT16, 1, {2}, "[1,65504]", ERROR_OK, "003cff7b"},
    {TENSOR_INT4, 1, {4}, "[1,-8,7,-1]", ERROR_OK, "81f7"},
    {TENSOR_STRING, 0, {0}, "\"h\\u00e9\"", ERROR_OK, "0300000068c3a9"},
    {TENSOR_STRING, 1, {2}, "[\"a\",\"\"]", ERROR_OK, "010000006100000000"},
    {TENSOR_INT32, 2, {2, 2}, "[[1,2],[3,4]]", ERROR_OK, "01000000020000000300000004000000"},
    {TENSOR_UINT8, 2, {2, 2}, "[1,2,3,4]", ERROR_OK, "01020304"},
    {TENSOR_UINT8, 2, {2, 2}, "[[[1,2],[3,4]]]", ERROR_OK, "01020304"},
    {TENSOR_UINT8, 2, {-1, 2}, "[[1,2],[3,4],[5,6]]", ERROR_OK, "010203040506"},
    {TENSOR_UINT8,
     2,
     {-1, -1},
     "[]",
     ERROR_WRONG_SHAPE,
     "field 'x': expected shape [?, ?], found [0]"},
    {TENSOR_UINT8, 1, {-1}, "[]", ERROR_OK, ""},
    {TENSOR_UINT8, 1, {1}, "7", ERROR_OK, "07"},
    {TENSOR_UINT8, 0, {0}, "[7]", ERROR_OK, "07"},
    {TENSOR_FLOAT, 1, {1}, "{\"b64\":\"AACAPw==\"}", ERROR_OK, "0000803f"},
    {TENSOR_FLOAT,
     1,
     {2},
     "{\"b64\":\"AQI=\",\"dtype\":\"int8\",\"shape\":[2]}",
     ERROR_OK,
     "0000803f00000040"},
    {TENSOR_FLOAT,
     1,
     {2},
     "{\"b64\":\"AQI=\"}",
     ERROR_WRONG_SHAPE,
     "field 'x': float32[2] does not take 2 bytes"},
    {TENSOR_FLOAT,
     1,
     {2},
     "{\"b64\":\"!!\"}",
     ERROR_WRONG_TYPE,
     "field 'x': \"b64\" is not base64"},
    {TENSOR_FLOAT,
     1,
     {2},
     "{\"b64\":\"AQI=\",\"dtype\":\"int7\"}",
     ERROR_WRONG_TYPE,
     "field 'x': unknown dtype int7"},
    {TENSOR_FLOAT,
     1,
     {1},
     "{\"b64\":\"AADAfw==\"}",
     ERROR_NOT_FINITE,
     "field 'x': element 0 is not finite in float32"},
    {TENSOR_FLOAT,
     1,
     {2},
     "{}",
     ERROR_WRONG_TYPE,
     "field 'x': expected 2 numbers, found an object without \"b64\""},
    {TENSOR_FLOAT,
     1,
     {64},
     "[1,2,3]",
     ERROR_WRONG_SHAPE,
     "field 'x': expected 64 numbers, found 3"},
    {TENSOR_FLOAT, 1, {64}, "1", ERROR_WRONG_SHAPE, "field 'x': expected 64 numbers, found 1"},
    {TENSOR_FLOAT,
     3,
     {3, 2, 2},
     "[[1,2],[3,4]]",
     ERROR_WRONG_SHAPE,
     "field 'x': expected shape [3, 2, 2], found [2, 2]"},
    {TENSOR_FLOAT,
     2,
     {-1, -1},
     "[[1,2],[3,4],[5,6],[7,8,9]]",
     ERROR_WRONG_SHAPE,
     "field 'x': row 3 has 3 numbers, others have 2"},
    {TENSOR_FLOAT,
     2,
     {-1, -1},
     "[[1,2],3]",
     ERROR_WRONG_SHAPE,
     "field 'x': row 1 is a number, others are lists"},
    {TENSOR_FLOAT,
     1,
     {-1},
     "[1,[2]]",
     ERROR_WRONG_SHAPE,
     "field 'x': element 1 is a list, others are not"},
    {TENSOR_FLOAT,
     0,
     {0},
     "\"a\"",
     ERROR_WRONG_TYPE,
     "field 'x': expected a number, found a string"},
    {TENSOR_FLOAT, 1, {2}, "null", ERROR_WRONG_TYPE, "field 'x': expected 2 numbers, found null"},
    {TENSOR_FLOAT,
     1,
     {2},
     "[1,true]",
     ERROR_WRONG_TYPE,
     "field 'x': expected a number, found true"},
    {TENSOR_STRING, 0, {0}, "5", ERROR_WRONG_TYPE, "field 'x': expected a string, found a number"},
    {TENSOR_UINT8, 1, {2}, "[1,300]", ERROR_OUT_OF_RANGE, "field 'x': 300 does not fit uint8"},
    {TENSOR_UINT8, 1, {2}, "[1,-1]", ERROR_OUT_OF_RANGE, "field 'x': -1 does not fit uint8"},
    {TENSOR_INT64,
     0,
     {0},
     "9223372036854775808",
     ERROR_OUT_OF_RANGE,
     "field 'x': 9223372036854775808 does not fit int64"},
    {TENSOR_INT64,
     0,
     {0},
     "1.5",
     ERROR_WRONG_TYPE,
     "field 'x': expected a whole number for int64, found 1.5"},
    {TENSOR_BOOL, 0, {0}, "2", ERROR_OUT_OF_RANGE, "field 'x': 2 does not fit bool"},
    {TENSOR_BOOL,
     0,
     {0},
     "\"true\"",
     ERROR_WRONG_TYPE,
     "field 'x': expected a boolean, found a string"},
    {TENSOR_FLOAT, 0, {0}, "1e39", ERROR_NOT_FINITE, "field 'x': 1e39 is not finite in float32"},
    {TENSOR_DOUBLE,
     0,
     {0},
     "-1e999",
     ERROR_NOT_FINITE,
     "field 'x': -1e999 is not finite in float64"},
    {TENSOR_FLOAT, 0, {0}, "\"NaN\"", ERROR_NOT_FINITE, "field 'x': NaN is not finite in float32"},
    {TENSOR_INT4,
     1,
     {-1},
     "[1,2,3]",
     ERROR_WRONG_SHAPE,
     "field 'x': a row of int4 needs an even number of elements"},
};

static void check_value(const struct value_case *c, bool is_fast)
{
    struct bench bench = open_one(c->type, c->rank, c->dims, is_fast);
    char text[512], hex[256] = "";
    int size = snprintf(text, sizeof text, "{\"id\":1,\"x\":%s}", c->value);
    const struct record *record = bench_decode(&bench, text, (size_t)size);
    if (record->error != c->code) print_error("%s: %s\n", c->value, record->message);
    assert_int_equal(record->error, c->code);
    if (c->code != ERROR_OK) {
        assert_string_equal(record->message, c->expected);
        assert_int_equal(bench.area.used[0], 0);
    } else {
        const unsigned char *row = bench_row(&bench, 0);
        for (size_t i = 0; i < record->inputs[0].bytes; i++)
            snprintf(hex + 2 * i, 3, "%02x", row[i]);
        assert_string_equal(hex, c->expected);
        assert_int_equal(bench.area.used[0], record->inputs[0].bytes);
    }
    bench_close(&bench);
}

static void test_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        check_value(&values[i], true);
        check_value(&values[i], false);
    }
}

static void test_nonfinite_let_through(void **state)
{
    (void)state;
    struct bench bench;
    int64_t dims[] = {4};
    struct value_spec input = test_input("x", TENSOR_FLOAT, 1, dims);
    struct decoder_config config = {.schema = &jsonl, .nonfinite = NONFINITE_NULL};
    const char *text = "{\"x\":[\"NaN\",\"-Infinity\",1e999,\"Infinity\"]}";
    assert_null(bench_open(&bench, config, &input, 1, text));
    assert_int_equal(bench_decode(&bench, text, strlen(text))->error, ERROR_OK);
    const float *row = bench_row(&bench, 0);
    assert_true(isnan(row[0]) && row[1] == -INFINITY && row[2] == INFINITY && row[3] == INFINITY);
    bench_close(&bench);
}

/* --- ids, kept fields, maps -------------------------------------------------------------------------- */

struct id_case {
    const char *text;
    const char *id;
    enum error_code code;
};

static const struct id_case ids[] = {
    {"{\"id\":12345678901234567890123456789,\"x\":1}", "12345678901234567890123456789", ERROR_OK},
    {"{\"x\":1,\"id\" : \"a\\u0062\"}", "\"a\\u0062\"", ERROR_OK},
    {"{\"x\":1,\"id\":-1.50e3}", "-1.50e3", ERROR_OK},
    {"{\"x\":1,\"id\":1,\"id\":2}", "1", ERROR_OK},
    {"{\"x\":1,\"i\\u0064\":3}", "3", ERROR_OK},
    {"{\"x\":1,\"id\":\"\"}", "17", ERROR_INVALID_ID},
    {"{\"x\":1,\"id\":null}", "17", ERROR_INVALID_ID},
    {"{\"x\":1,\"id\":[1]}", "17", ERROR_INVALID_ID},
    {"{\"x\":1}", "17", ERROR_INVALID_ID},
    {"{\"id\":\"q\",\"x\":true}", "\"q\"", ERROR_WRONG_TYPE},
    {"{\"id\":\"q\"}", "\"q\"", ERROR_MISSING_FIELD},
    {"[1]", "17", ERROR_WRONG_TYPE},
};

static void test_ids(void **state)
{
    (void)state;
    for (int is_fast = 0; is_fast < 2; is_fast++) {
        struct bench bench = open_one(TENSOR_FLOAT, 0, NULL, is_fast != 0);
        for (size_t i = 0; i < COUNT_OF(ids); i++) {
            const struct record *record = bench_decode(&bench, ids[i].text, strlen(ids[i].text));
            assert_int_equal(record->error, ids[i].code);
            assert_int_equal(record->id.size, strlen(ids[i].id));
            assert_memory_equal(record->id.data, ids[i].id, record->id.size);
        }
        bench_close(&bench);
    }
}

static void kept_text(const struct record *record, struct buffer *out)
{
    out->size = 0;
    for (size_t i = 0; i < record->n_kept; i++) {
        const struct kept_field *kept = &record->kept[i];
        buffer_printf(out, "%.*s=%.*s;", (int)kept->key.size, kept->key.data, (int)kept->value.size,
                      kept->value.data);
    }
    buffer_byte(out, '\0');
}

static void test_kept(void **state)
{
    (void)state;
    const char *text = "{\"id\":1,\"x\":2,\"a\": {\"b\" : [1, 2]} ,\"c\":1e05,\"c\":2}";
    const char *const keep[] = {"c", "absent", "a"};
    struct value_spec input = test_input("x", TENSOR_FLOAT, 0, NULL);
    struct buffer found = {0};
    for (int round = 0; round < 4; round++) {
        struct bench bench;
        struct decoder_config config = {.schema = &jsonl};
        if (round % 2 == 0) {
            config.keep = keep;
            config.n_keep = 3;
        } else {
            config.keep_all = true;
        }
        assert_null(bench_open(&bench, config, &input, 1, text));
        if (round >= 2) decoder_disable_fast(bench.decoder);
        kept_text(bench_decode(&bench, text, strlen(text)), &found);
        assert_string_equal(found.data, round % 2 == 0
                                            ? "\"c\"=1e05;\"a\"={\"b\" : [1, 2]};"
                                            : "\"x\"=2;\"a\"={\"b\" : [1, 2]};\"c\"=1e05;");
        bench_close(&bench);
    }
    buffer_free(&found);
}

struct map_case {
    const char *maps[2];
    const char *sample;
    const char *expected; /* description, or the error's beginning */
    bool is_error;
};

static const struct map_case map_cases[] = {
    {{NULL}, "{\"id\":1,\"x\":[1,2],\"y\":3}", "x=x\nid=id", false},
    {{NULL}, "{\"custom_id\":\"a\",\"id\":1,\"x\":[1,2]}", "x=x\nid=custom_id", false},
    {{NULL}, "{\"id\":1,\"pixels\":[1,2]}", "x=pixels\nid=id", false},
    {{NULL}, "broken", "x=x\nid=line number", false},
    {{"x=a"}, "{\"a\":[1,2],\"b\":1}", "x=a\nid=line number", false},
    {{"x=a,b"}, "{\"a\":1,\"b\":2}", "x=a,b\nid=line number", false},
    {{"x=p0..p1"}, "{\"p0\":1,\"p1\":2}", "x=p0..p1\nid=line number", false},
    {{"x=/a/1"}, "{\"a\":[0,[1,2]]}", "x=/a/1\nid=line number", false},
    {{NULL},
     "{\"id\":1,\"a\":[1,2],\"b\":3}",
     "model input 'x' (float32[2] a record) finds no field of its name; there is id, a, b. Say "
     "which it is: --map x=a",
     true},
    {{"y=a"}, "{\"a\":1}", "--map y=a: not INPUT=FIELD; the model's inputs are: x", true},
    {{"x=c"}, "{\"a\":1,\"b\":2}", "--map x=c: there is no field 'c'; there is a, b", true},
    {{"x=p0..p2"},
     "{\"p0\":1,\"p1\":1,\"p2\":1}",
     "model input 'x' takes 2 values, --map gives it 3 fields",
     true},
    {{"x=p9..q1"}, "{\"p9\":1}", "--map x=p9..q1: 'p9..q1' is no range like p0..p63", true},
};

static void test_maps(void **state)
{
    (void)state;
    int64_t dims[] = {2};
    struct value_spec input = test_input("x", TENSOR_FLOAT, 1, dims);
    for (size_t i = 0; i < COUNT_OF(map_cases); i++) {
        const struct map_case *c = &map_cases[i];
        struct bench bench;
        struct decoder_config config = {
            .schema = &jsonl, .maps = c->maps, .n_maps = c->maps[0] != NULL};
        tidemill_error *error = bench_open(&bench, config, &input, 1, c->sample);
        if (c->is_error) {
            assert_int_equal(error_code_of(error), ERROR_USAGE);
            assert_string_equal(error_message(error), c->expected);
            error_free(error);
            continue;
        }
        assert_string_equal(error_message(error), "");
        assert_string_equal(decoder_description(bench.decoder), c->expected);
        bool is_record = c->sample[0] == '{';
        const struct record *record = bench_decode(&bench, c->sample, strlen(c->sample));
        assert_int_equal(record->error, is_record ? ERROR_OK : ERROR_INVALID_JSON);
        bench_close(&bench);
    }
}

static void test_long_keys_and_many_fields(void **state)
{
    (void)state;
    struct buffer text = {0};
    struct bench bench;
    struct value_spec input = test_input("x", TENSOR_FLOAT, 0, NULL);
    struct decoder_config config = {.schema = &jsonl, .keep_all = true};
    assert_null(bench_open(&bench, config, &input, 1, "{\"id\":1,\"x\":1}"));
    buffer_text(&text, "{\"id\":1,\"");
    for (int i = 0; i < 1000000; i++) buffer_byte(&text, 'k');
    buffer_text(&text, "\":1");
    for (int i = 0; i < 200000; i++) buffer_printf(&text, ",\"f%d\":%d", i % 150000, i);
    buffer_text(&text, ",\"x\":5}");
    const struct record *record = bench_decode(&bench, text.data, text.size);
    assert_int_equal(record->error, ERROR_OK);
    assert_int_equal(record->n_kept, 150002);
    buffer_free(&text);
    bench_close(&bench);
}

static void test_no_room(void **state)
{
    (void)state;
    int64_t dims[] = {-1};
    for (int is_fast = 0; is_fast < 2; is_fast++) {
        struct bench bench = open_one(TENSOR_DOUBLE, 1, dims, is_fast != 0);
        bench.area.input_capacity = 24;
        const char *fits = "{\"id\":1,\"x\":[1,2,3]}", *not = "{\"id\":1,\"x\":[1,2,3,4]}";
        assert_int_equal(bench_decode(&bench, fits, strlen(fits))->error, ERROR_OK);
        assert_int_equal(bench_decode(&bench, not, strlen(not ))->error, ERROR_MEMORY);
        assert_int_equal(bench.area.used[0], 0);
        bench_close(&bench);
    }
}

/* --- property: the two ways agree -------------------------------------------------------------------- */

static uint64_t random_state;

static uint32_t pick(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

static void add_number(struct buffer *out)
{
    switch (pick(10)) {
    case 0: buffer_printf(out, "%.17g", (double)pick(1000000) / 7919); break;
    case 1: buffer_printf(out, "-%u", pick(1000)); break;
    case 2: buffer_printf(out, "%u%08u%08u", pick(200), pick(100000000), pick(100000000)); break;
    case 3: buffer_printf(out, "%u.%u%s", pick(10), pick(100), pick(3) == 0 ? "e-2" : ""); break;
    case 4: buffer_printf(out, "0%u", pick(30)); break;
    default: {
        static const uint32_t limits[] = {10, 17, 256, 70000, 100000000};
        buffer_printf(out, "%u", pick(limits[pick(5)]));
    }
    }
}

static void add_list(struct buffer *out, uint32_t count)
{
    static const char *const separators[] = {",", ", ", " ,", ",\t"};
    const char *separator = separators[pick(8) < 6 ? pick(2) : pick(4)];
    bool is_small = pick(3) > 0;
    uint32_t limit = pick(3) == 0 ? 12345 : pick(2) == 0 ? 256 : 20;
    buffer_byte(out, '[');
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) buffer_text(out, separator);
        if (is_small) {
            buffer_printf(out, "%u", pick(limit));
        } else {
            add_number(out);
        }
    }
    if (pick(20) == 0) buffer_text(out, separator);
    buffer_byte(out, ']');
}

static void add_record(struct buffer *out)
{
    static const char *const extras[] = {
        "\"k\":\"v\\n\",", "\"k\":[1,{\"a\":null}],", "\"k\":\"\xc3\xa9\",", "",
        "\"x\":[9],",      "\"\\u0078\":[1,2],",      "\"k\":tru,",          "\"k\":-0.5e3,",
    };
    buffer_printf(out, "{%s", extras[pick(8)]);
    buffer_printf(out, "\"id\":%u,", pick(1000));
    buffer_text(out, "\"x\":");
    if (pick(6) == 0) {
        buffer_byte(out, '[');
        for (uint32_t i = 0, n = 1 + pick(3); i < n; i++) {
            if (i > 0) buffer_byte(out, ',');
            add_list(out, 20);
        }
        buffer_byte(out, ']');
    } else {
        add_list(out, pick(4) == 0 ? pick(90) : 40);
    }
    buffer_printf(out, "%s}", pick(5) == 0 ? ",\"k\":1" : "");
    if (pick(10) == 0 && out->size > 0) out->data[pick((uint32_t)out->size)] = (char)pick(128);
}

static void check_agreement(const struct value_spec *input, int rounds)
{
    struct bench fast, tree;
    struct decoder_config config = {.schema = &jsonl, .id_field = "id", .keep_all = true};
    struct buffer text = {0};
    size_t n_fine = 0;
    assert_null(bench_open(&fast, config, input, 1, ""));
    assert_null(bench_open(&tree, config, input, 1, ""));
    decoder_disable_fast(tree.decoder);
    for (int i = 0; i < rounds; i++) {
        text.size = 0;
        add_record(&text);
        const struct record *a = bench_decode(&fast, text.data, text.size);
        const struct record *b = bench_decode(&tree, text.data, text.size);
        assert_int_equal(a->error, b->error);
        assert_true(a->id.size == b->id.size && a->n_kept == b->n_kept);
        assert_memory_equal(a->id.data, b->id.data, a->id.size);
        arena_reset(&fast.arena);
        if (a->error != ERROR_OK) continue;
        n_fine++;
        assert_int_equal(a->inputs[0].bytes, b->inputs[0].bytes);
        assert_memory_equal(bench_row(&fast, 0), bench_row(&tree, 0), a->inputs[0].bytes);
        assert_int_equal(a->inputs[0].shape.rank, b->inputs[0].shape.rank);
        arena_reset(&tree.arena);
    }
    assert_true(n_fine > 0 && n_fine < (size_t)rounds);
    buffer_free(&text);
    bench_close(&fast);
    bench_close(&tree);
}

static void test_both_ways_agree(void **state)
{
    (void)state;
    const char *text = getenv("TIDEMILL_SEED");
    uint64_t seed = text != NULL ? strtoull(text, NULL, 10) : (uint64_t)time(NULL);
    print_message("seed %llu (TIDEMILL_SEED sets it)\n", (unsigned long long)seed);
    random_state = seed;
    static const enum tensor_type types[] = {TENSOR_FLOAT, TENSOR_DOUBLE, TENSOR_INT64,
                                             TENSOR_INT32, TENSOR_UINT8,  TENSOR_FLOAT16};
    static const struct shape shapes[] = {{1, {40}}, {1, {-1}}, {2, {2, 20}}, {2, {-1, 20}}};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        for (size_t k = 0; k < COUNT_OF(shapes); k++) {
            struct value_spec input = test_input("x", types[i], shapes[k].rank, shapes[k].dims);
            check_agreement(&input, 2000);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grammar), cmocka_unit_test(test_depth),
        cmocka_unit_test(test_values),  cmocka_unit_test(test_nonfinite_let_through),
        cmocka_unit_test(test_ids),     cmocka_unit_test(test_kept),
        cmocka_unit_test(test_maps),    cmocka_unit_test(test_long_keys_and_many_fields),
        cmocka_unit_test(test_no_room), cmocka_unit_test(test_both_ways_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
