/* SPDX-License-Identifier: Apache-2.0 */
/* format_template_test.c - templates: what stands in the places, and records made from rows. */
#include "format/template.h"
#include "format_decoding.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct expand_case {
    const char *text;
    const char *a, *b; /* JSON of the fields a and b */
    const char *expected;
};

static const struct expand_case expansions[] = {
    {"{\"x\":\"{{a}}\"}", "[1,2]", "0", "{\"x\":[1,2]}"},
    {"{\"x\":\"{{ a }}\"}", "\"q\\\"\"", "0", "{\"x\":\"q\\\"\"}"},
    {"{\"x\":\"<{{a}}-{{b}}>\"}", "\"q\\n\"", "1.50", "{\"x\":\"<q\\n-1.50>\"}"},
    {"{\"x\":\"{{a}} \"}", "{\"k\":\"v\\\\\"}", "0", "{\"x\":\"{\\\"k\\\":\\\"v\\\\\\\\\\\"} \"}"},
    {"{\"x\":\"{{a}}{{a}}\"}", "\"z\"", "0", "{\"x\":\"zz\"}"},
    {"{\"{{a}}\":1}", "\"key\"", "0", "{\"key\":1}"},
    {"{\"x\":\"{{a\",\"y\":\"}}\"}", "1", "2", "{\"x\":\"{{a\",\"y\":\"}}\"}"},
    {"{\"x\":[\"{{b}}\", \"{{a}}\"]}", "null", "true", "{\"x\":[true, null]}"},
    {"{\"x\":\"\\\"{{a}}\\\"\"}", "\"s\"", "0", "{\"x\":\"\\\"s\\\"\"}"},
};

static void test_expansion(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(expansions); i++) {
        const struct expand_case *c = &expansions[i];
        struct arena arena = {0};
        struct buffer out = {0};
        struct template_text *template_text;
        struct slice values[2];
        assert_null(template_compile(c->text, strlen(c->text), &arena, &template_text));
        for (size_t k = 0; k < template_n_fields(template_text); k++) {
            const char *value = strcmp(template_field(template_text, k), "a") == 0 ? c->a : c->b;
            values[k] = (struct slice){value, strlen(value)};
        }
        template_expand(template_text, values, &out);
        buffer_byte(&out, '\0');
        assert_string_equal(out.data, c->expected);
        buffer_free(&out);
        arena_free(&arena);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const refused[] = {"", "[1]", "{\"x\":{{a}}}", "{\"x\":\"{{}}\"}",
                                          "{\"x\":\"{{a\\n}}\"}"};
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        struct arena arena = {0};
        struct template_text *template_text;
        tidemill_error *error =
            template_compile(refused[i], strlen(refused[i]), &arena, &template_text);
        assert_int_equal(error_code_of(error), ERROR_USAGE);
        error_free(error);
        arena_free(&arena);
    }
}

static struct bench open_template(const struct source_schema *schema, const char *text,
                                  const char *sample)
{
    struct bench bench;
    static const char *const keep[] = {"note"};
    struct value_spec inputs[] = {test_input("prompt", TENSOR_STRING, 0, NULL),
                                  test_input("t", TENSOR_FLOAT, 0, NULL)};
    struct decoder_config config = {
        .schema = schema,
        .template_text = text,
        .template_size = strlen(text),
        .keep = keep,
        .n_keep = 1,
    };
    assert_string_equal(error_message(bench_open(&bench, config, inputs, 2, sample)), "");
    return bench;
}

static const char template_of_records[] =
    "{\n \"prompt\": \"Say {{word}}!\",\n \"t\": \"{{temperature}}\"\n}\n";

static void test_records_from_json(void **state)
{
    (void)state;
    const struct source_schema schema = {.format = FORMAT_JSONL};
    const char *text = "{\"id\":5,\"word\":\"h\\u00e9\\\"\",\"temperature\":0.5,\"note\":[1]}";
    struct bench bench = open_template(&schema, template_of_records, text);
    const struct record *record = bench_decode(&bench, text, strlen(text));
    assert_int_equal(record->error, ERROR_OK);
    assert_memory_equal(bench_row(&bench, 0), "\x09\0\0\0Say h\xc3\xa9\"!", 13);
    assert_memory_equal(bench_row(&bench, 1), &(float){0.5f}, 4);
    assert_memory_equal(record->id.data, "5", 1);
    assert_int_equal(record->n_kept, 1);
    assert_memory_equal(record->kept[0].value.data, "[1]", 3);
    text = "{\"id\":5,\"word\":\"x\"}";
    record = bench_decode(&bench, text, strlen(text));
    assert_int_equal(record->error, ERROR_MISSING_FIELD);
    assert_string_equal(record->message, "field 'temperature' of the template: not there");
    bench_close(&bench);
}

static void test_records_from_csv(void **state)
{
    (void)state;
    static const char *const columns[] = {"id", "word", "temperature", "note"};
    const struct source_schema schema = {.format = FORMAT_CSV, .columns = columns, .n_columns = 4};
    struct bench bench =
        open_template(&schema, "{\"prompt\":\"{{word}}\",\"t\":1,\"u\":\"{{temperature}}\"}", "");
    const struct record *record = bench_decode(&bench, "a,12,0.5,n", 10);
    assert_int_equal(record->error, ERROR_OK);
    assert_memory_equal(bench_row(&bench, 0),
                        "\x02\0\0\0"
                        "12",
                        6); /* a cell is a string */
    assert_memory_equal(record->kept[0].value.data, "\"n\"", 3);
    bench_close(&bench);
}

static void test_missing_columns(void **state)
{
    (void)state;
    struct bench bench;
    static const char *const columns[] = {"id"};
    const struct source_schema schema = {.format = FORMAT_CSV, .columns = columns, .n_columns = 1};
    struct value_spec input = test_input("x", TENSOR_FLOAT, 0, NULL);
    struct decoder_config config = {
        .schema = &schema, .template_text = "{\"x\":\"{{y}}\"}", .template_size = 13};
    tidemill_error *error = bench_open(&bench, config, &input, 1, "");
    assert_int_equal(error_code_of(error), ERROR_USAGE);
    assert_string_equal(error_message(error), "--template: there is no field 'y'; there is id");
    error_free(error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expansion),         cmocka_unit_test(test_refused),
        cmocka_unit_test(test_records_from_json), cmocka_unit_test(test_records_from_csv),
        cmocka_unit_test(test_missing_columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
