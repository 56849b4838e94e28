/* SPDX-License-Identifier: Apache-2.0 */
/* format_decode_whole_test.c - JSON as it stands: for models that take the text of a value, of the whole
 * record, or of what a template makes of it. */
#include "expect.h"
#include "format_decoding.h"

#define MAPS_MAX 2

/* One input or two that take JSON; the second one may be missing in a record. */
static const struct value_spec inputs[] = {
    {.name = (char *)(uintptr_t) "request",
     .type = TENSOR_STRING,
     .shape = {.rank = 1, .dims = {-1}},
     .is_json = true},
    {.name = (char *)(uintptr_t) "extra",
     .type = TENSOR_STRING,
     .shape = {.rank = 1, .dims = {-1}},
     .is_json = true,
     .is_optional = true},
};

static const char *const csv_columns[] = {"id", "a", "say \"b\""};
static const struct source_schema jsonl = {.format = FORMAT_JSONL};
static const struct source_schema csv = {
    .format = FORMAT_CSV, .columns = csv_columns, .n_columns = COUNT_OF(csv_columns)};

struct case_row {
    const char *name;
    const struct source_schema *schema; /* NULL: JSONL */
    size_t n_inputs;                    /* 0: one */
    const char *maps[MAPS_MAX];
    const char *template_text;
    const char *sample; /* NULL: the record */
    const char *record;
    const char *found, *extra; /* the inputs' text; NULL: an error */
    enum error_code code;
    const char *message; /* a part of it */
};

static struct decoder_config config_of(const struct case_row *row)
{
    struct decoder_config config = {.schema = row->schema != NULL ? row->schema : &jsonl,
                                    .maps = row->maps,
                                    .template_text = row->template_text};
    while (config.n_maps < MAPS_MAX && row->maps[config.n_maps] != NULL) config.n_maps++;
    if (row->template_text != NULL) config.template_size = strlen(row->template_text);
    return config;
}

static void expect_input(const struct bench *bench, size_t i, const char *expected, const char *row)
{
    const struct record_input *input = &bench->record.inputs[i];
    uint32_t size;
    char text[512];
    assert_true(input->bytes >= sizeof size && input->bytes < sizeof text);
    memcpy(&size, bench_row(bench, i), sizeof size);
    if (size != input->bytes - sizeof size || input->shape.rank != 0) fail_msg("%s: packing", row);
    memcpy(text, (const char *)bench_row(bench, i) + sizeof size, size);
    text[size] = '\0';
    expect_text(text, expected, row);
}

static void check(const struct case_row *row)
{
    struct bench bench;
    size_t n_inputs = MAX(row->n_inputs, (size_t)1);
    const char *sample = row->sample != NULL ? row->sample : row->record;
    expect_fine(bench_open(&bench, config_of(row), inputs, n_inputs, sample), row->name);
    const struct record *record = bench_decode(&bench, row->record, strlen(row->record));
    if (row->found == NULL) {
        if (record->error != row->code)
            fail_msg("%s: %s, not %s", row->name, error_code_name(record->error),
                     error_code_name(row->code));
        if (strstr(record->message, row->message) == NULL)
            fail_msg("%s: '%s' is not in: %s", row->name, row->message, record->message);
        assert_int_equal(bench.area.used[0], 0); /* it leaves no trace */
    } else {
        if (record->error != ERROR_OK) fail_msg("%s: %s", row->name, record->message);
        expect_input(&bench, 0, row->found, row->name);
        if (row->extra != NULL) expect_input(&bench, 1, row->extra, row->name);
    }
    bench_close(&bench);
}

static void json_lines_are_taken_as_they_are(void **unused)
{
    (void)unused;
    static const struct case_row rows[] = {
        {.name = "the whole record",
         .record = "{ \"id\" : 1,\"x\":[1.50,\"\\u00e4\"]}",
         .found = "{ \"id\" : 1,\"x\":[1.50,\"\\u00e4\"]}"},
        {.name = "an empty one", .record = "{}", .found = "{}"},
        {.name = "a key that stands twice",
         .record = "{\"a\":1,\"a\":2}",
         .found = "{\"a\":1,\"a\":2}"},
        {.name = "the field of the input's name",
         .record = "{\"id\":1,\"request\":{\"b\": 12345678901234567890}}",
         .found = "{\"b\": 12345678901234567890}"},
        {.name = "... where the first record has none, the whole of each",
         .sample = "{\"a\":1}",
         .record = "{\"request\":7}",
         .found = "{\"request\":7}"},
        {.name = "a mapped field",
         .maps = {"request=body"},
         .record = "{\"body\":\"text\"}",
         .found = "\"text\""},
        {.name = "a number",
         .maps = {"request=body"},
         .record = "{\"body\":1e400}",
         .found = "1e400"},
        {.name = "null", .maps = {"request=body"}, .record = "{\"body\":null}", .found = "null"},
        {.name = "a pointer",
         .maps = {"request=/a/1"},
         .record = "{\"a\":[0,{\"b\":[]}]}",
         .found = "{\"b\":[]}"},
        {.name = "an optional field that is there",
         .n_inputs = 2,
         .maps = {"request=body", "extra=url"},
         .record = "{\"body\":{},\"url\":\"/v1\"}",
         .found = "{}",
         .extra = "\"/v1\""},
        {.name = "... and one that is not",
         .n_inputs = 2,
         .maps = {"request=body", "extra=url"},
         .sample = "{\"body\":{},\"url\":\"/v1\"}",
         .record = "{\"body\":{}}",
         .found = "{}",
         .extra = ""},
        {.name = "... and one that no record has",
         .n_inputs = 2,
         .record = "{\"x\":1}",
         .found = "{\"x\":1}",
         .extra = ""},
        {.name = "a field that is missing",
         .maps = {"request=body"},
         .sample = "{\"body\":1}",
         .record = "{\"bodi\":1}",
         .code = ERROR_MISSING_FIELD,
         .message = "'body'"},
        {.name = "not JSON",
         .sample = "{}",
         .record = "{\"a\":1",
         .code = ERROR_INVALID_JSON,
         .message = ""},
        {.name = "rubbish behind",
         .sample = "{}",
         .record = "{} x",
         .code = ERROR_INVALID_JSON,
         .message = ""},
        {.name = "not UTF-8",
         .sample = "{}",
         .record = "{\"a\":\"\xff\"}",
         .code = ERROR_INVALID_UTF8,
         .message = ""},
        {.name = "a leading zero deep inside",
         .sample = "{}",
         .record = "{\"a\":{\"b\":[01]}}",
         .code = ERROR_INVALID_JSON,
         .message = ""},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) check(&rows[i]);
}

static void csv_becomes_an_object_of_strings(void **unused)
{
    (void)unused;
    static const struct case_row rows[] = {
        {.name = "all cells",
         .schema = &csv,
         .record = "7,x,y",
         .found = "{\"id\":\"7\",\"a\":\"x\",\"say \\\"b\\\"\":\"y\"}"},
        {.name = "quotes and line ends",
         .schema = &csv,
         .record = "7,\"a \"\"b\"\"\nc\",",
         .found = "{\"id\":\"7\",\"a\":\"a \\\"b\\\"\\nc\",\"say \\\"b\\\"\":\"\"}"},
        {.name = "a cell is a string",
         .schema = &csv,
         .maps = {"request=a"},
         .record = "7,12,y",
         .found = "\"12\""},
        {.name = "a list",
         .schema = &csv,
         .maps = {"request=a"},
         .record = "7,\"[1,{}]\",y",
         .found = "[1,{}]"},
        {.name = "an object",
         .schema = &csv,
         .maps = {"request=a"},
         .record = "7,\"{\"\"k\"\": 1}\",y",
         .found = "{\"k\": 1}"},
        {.name = "what only begins like a list",
         .schema = &csv,
         .maps = {"request=a"},
         .record = "7,[sic],y",
         .found = "\"[sic]\""},
        {.name = "a cell that is not UTF-8",
         .schema = &csv,
         .sample = "7,x,y",
         .record = "7,\xff,y",
         .code = ERROR_INVALID_UTF8,
         .message = ""},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) check(&rows[i]);
}

static void templates_make_the_whole(void **unused)
{
    (void)unused;
    static const char body[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"About {{a}}: \"}],"
                               "\"n\":\"{{n}}\"}";
    static const struct case_row rows[] = {
        {.name = "from JSON",
         .template_text = body,
         .record = "{\"a\":\"x \\\"y\\\"\",\"n\":[1.0]}",
         .found = "{\"messages\":[{\"role\":\"user\",\"content\":\"About x \\\"y\\\": \"}],"
                  "\"n\":[1.0]}"},
        {.name = "from CSV",
         .schema = &csv,
         .template_text = "{\"q\":\"{{a}}\"}",
         .record = "7,12,y",
         .found = "{\"q\":\"12\"}"},
        {.name = "a part of what it makes",
         .template_text = "{\"b\":{\"q\":\"{{a}}\"}}",
         .maps = {"request=b"},
         .record = "{\"a\":[]}",
         .found = "{\"q\":[]}"},
        {.name = "a field that is missing",
         .template_text = "{\"q\":\"{{a}}\"}",
         .sample = "{\"a\":1}",
         .record = "{\"b\":1}",
         .code = ERROR_MISSING_FIELD,
         .message = "'a'"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) check(&rows[i]);
}

/* Deep nesting fails where it is, and is text in a cell. */
static void depth_is_bounded(void **unused)
{
    (void)unused;
    for (size_t depth = JSON_DEPTH_MAX - 1; depth <= JSON_DEPTH_MAX + 1; depth++) {
        char nested[2 * JSON_DEPTH_MAX + 8] = "", record[2 * JSON_DEPTH_MAX + 32], cells[300];
        char expected[2 * JSON_DEPTH_MAX + 16];
        bool is_fine = depth <= JSON_DEPTH_MAX;
        memset(nested, '[', depth);
        memset(nested + depth, ']', depth);
        snprintf(record, sizeof record, "{\"a\":%.*s}", (int)(2 * depth - 2), nested + 1);
        const struct case_row json = {.name = "a record",
                                      .sample = "{\"a\":1}",
                                      .record = record,
                                      .found = is_fine ? record : NULL,
                                      .code = ERROR_INVALID_JSON,
                                      .message = "nest"};
        check(&json);
        snprintf(cells, sizeof cells, "7,%s,y", nested);
        snprintf(expected, sizeof expected, is_fine ? "%s" : "\"%s\"", nested);
        const struct case_row cell = {.name = "a cell",
                                      .schema = &csv,
                                      .maps = {"request=a"},
                                      .record = cells,
                                      .found = expected};
        check(&cell);
    }
}

static void what_cannot_be_is_refused_at_once(void **unused)
{
    (void)unused;
    static const struct source_array array = {
        .name = "request", .type = TENSOR_FLOAT, .row_bytes = 4};
    const struct source_schema schemas[] = {
        {.format = FORMAT_NPY, .arrays = &array, .n_arrays = 1},
        {.format = FORMAT_NPZ, .arrays = &array, .n_arrays = 1},
    };
    struct bench bench;
    for (size_t i = 0; i < COUNT_OF(schemas); i++) {
        const struct case_row row = {.schema = &schemas[i]};
        expect_error(bench_open(&bench, config_of(&row), inputs, 1, ""), ERROR_UNSUPPORTED,
                     "JSONL or CSV", "arrays");
        decoder_free(bench.decoder);
    }
    const struct case_row joined = {.maps = {"request=a,b"}};
    expect_error(bench_open(&bench, config_of(&joined), inputs, 1, "{\"a\":1,\"b\":2}"),
                 ERROR_USAGE, "request", "fields joined");
    decoder_free(bench.decoder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_lines_are_taken_as_they_are),
        cmocka_unit_test(csv_becomes_an_object_of_strings),
        cmocka_unit_test(templates_make_the_whole),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(what_cannot_be_is_refused_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
