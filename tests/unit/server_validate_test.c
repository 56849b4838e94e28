/* SPDX-License-Identifier: Apache-2.0 */
/* server_validate_test.c - files that are a batch, and what is said of those that are none. */
#include "expect.h"
#include "tempdir.h"

#include "server/job_validate.h"

#include <string.h>

#include <yyjson.h>

#define LINE(id)                                                                                   \
    "{\"custom_id\":\"" id "\",\"method\":\"POST\",\"url\":\"/v1/"                                 \
    "x\",\"body\":{\"model\":\"m\"}}\n"

static struct tempdir folder;

static bool is_m_or_n(void *context, const char *model)
{
    (void)context;
    return strcmp(model, "m") == 0 || strcmp(model, "n") == 0;
}

static tidemill_error *validate(const char *text, size_t size, const char *model,
                                const _Atomic int *stop, struct validation *ret)
{
    const char *path = tempdir_path(&folder, "batch.jsonl");
    tempdir_write(path, text, size);
    const struct validate_options options = {.io = &io_local,
                                             .path = path,
                                             .endpoint = "/v1/x",
                                             .model = model,
                                             .line_bytes_max = 300,
                                             .is_known = is_m_or_n,
                                             .stop = stop};
    return job_validate(&options, ret);
}

/* "code@line code@line": of all complaints. */
static void tell(const struct validation *found, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    yyjson_doc *doc = yyjson_read(found->errors.data, strlen(found->errors.data), 0);
    yyjson_val *list = yyjson_doc_get_root(doc), *item;
    yyjson_arr_iter items;
    assert_true(yyjson_is_arr(list));
    assert_int_equal(yyjson_arr_size(list), found->n_errors);
    yyjson_arr_iter_init(list, &items);
    while ((item = yyjson_arr_iter_next(&items)) != NULL && used < size) {
        assert_true(yyjson_get_len(yyjson_obj_get(item, "message")) > 10);
        assert_non_null(yyjson_obj_get(item, "param"));
        used += (size_t)snprintf(out + used, size - used, "%s%s@%d", used > 0 ? " " : "",
                                 yyjson_get_str(yyjson_obj_get(item, "code")),
                                 yyjson_get_int(yyjson_obj_get(item, "line")));
    }
    yyjson_doc_free(doc);
}

static const struct {
    const char *name, *text, *expected; /* "": it is a batch, of `records` */
    uint64_t records;
} rows[] = {
    {"one line", LINE("a"), "", 1},
    {"two lines, blank ones, CR, no last end",
     "\n" LINE("a") "\r\n  \n"
                    "{\"body\":{\"model\":\"m\",\"stream\":false},\"url\":\"/v1/x\","
                    "\"method\":\"POST\",\"custom_id\":\"b\",\"more\":1}\r",
     "", 2},
    {"a mark at its start", "\xEF\xBB\xBF" LINE("a"), "", 1},
    {"empty", "", "empty_file@0", 0},
    {"blank", " \n\n", "empty_file@0", 0},
    {"no JSON", LINE("a") "{\"custom_id\":\n", "invalid_json_line@2", 2},
    {"not UTF-8", "{\"custom_id\":\"\xff\"}\n", "invalid_json_line@1", 1},
    {"gzip", "\x1f\x8b\x08", "invalid_json_line@1", 1},
    {"an array", "[1]\n", "invalid_json_line@1", 1},
    {"a name twice",
     "{\"custom_id\":\"a\",\"custom_id\":\"b\",\"method\":\"POST\",\"url\":\"/v1/x\","
     "\"body\":{\"model\":\"m\"}}\n",
     "invalid_json_line@1", 1},
    {"no id", "{\"method\":\"POST\",\"url\":\"/v1/x\",\"body\":{\"model\":\"m\"}}\n",
     "missing_required_parameter@1", 1},
    {"a number for an id",
     "{\"custom_id\":1,\"method\":\"POST\",\"url\":\"/v1/x\",\"body\":{\"model\":\"m\"}}\n",
     "invalid_custom_id@1", 1},
    {"an empty id", LINE(""), "invalid_custom_id@1", 1},
    {"an id twice", LINE("a") LINE("b") LINE("a"), "duplicate_custom_id@3", 3},
    {"an id twice, spelled otherwise", LINE("a") LINE("\\u0061"), "duplicate_custom_id@2", 2},
    {"nothing but an id", "{\"custom_id\":\"a\"}\n",
     "missing_required_parameter@1 missing_required_parameter@1 missing_required_parameter@1", 1},
    {"GET",
     "{\"custom_id\":\"a\",\"method\":\"GET\",\"url\":\"/v1/x\",\"body\":{\"model\":\"m\"}}\n",
     "invalid_method@1", 1},
    {"another url",
     "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/y\",\"body\":{\"model\":\"m\"}}\n",
     "invalid_url@1", 1},
    {"a body that is none",
     "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/x\",\"body\":[]}\n", "invalid_body@1",
     1},
    {"a body without a model",
     "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/x\",\"body\":{}}\n",
     "missing_required_parameter@1", 1},
    {"a model that is not here",
     "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/x\",\"body\":{\"model\":\"z\"}}\n",
     "model_not_found@1", 1},
    {"a NUL in the model's name",
     LINE("a") "{\"custom_id\":\"b\",\"method\":\"POST\",\"url\":\"/v1/x\","
               "\"body\":{\"model\":\"m\\u0000z\"}}\n",
     "mismatched_model@2", 2},
    {"two models",
     LINE("a") "{\"custom_id\":\"b\",\"method\":\"POST\",\"url\":\"/v1/x\","
               "\"body\":{\"model\":\"n\"}}\n",
     "mismatched_model@2", 2},
    {"streams",
     "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/x\","
     "\"body\":{\"model\":\"m\",\"stream\":true}}\n",
     "invalid_request@1", 1},
};

static void files_are_batches_or_not(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct validation found;
        char text[512];
        expect_fine(validate(rows[i].text, strlen(rows[i].text), "", NULL, &found), rows[i].name);
        tell(&found, text, sizeof text);
        if (strcmp(text, rows[i].expected) != 0 || found.records != rows[i].records)
            fail_msg("%s: %s, %d records", rows[i].name, text, (int)found.records);
        if (found.n_errors == 0) assert_string_equal(found.model, "m");
        validation_free(&found);
    }
}

static void a_long_or_deep_line_is_named(void **unused)
{
    (void)unused;
    struct buffer text = {0};
    struct validation found;
    char told[512];
    buffer_text(&text, LINE("a") "{\"custom_id\":\"");
    for (int i = 0; i < 400; i++) buffer_byte(&text, 'x');
    buffer_text(&text, "\"}\n");
    for (int i = 0; i < 200; i++) buffer_byte(&text, '[');
    buffer_byte(&text, '\n');
    expect_fine(validate(text.data, text.size, "", NULL, &found), "long");
    tell(&found, told, sizeof told);
    assert_string_equal(told, "line_too_long@2 invalid_json_line@3");
    validation_free(&found);
    buffer_free(&text);
}

static void the_batchs_own_model_counts(void **unused)
{
    (void)unused;
    struct validation found;
    char told[512];
    expect_fine(validate(LINE("a"), strlen(LINE("a")), "n", NULL, &found), "other");
    tell(&found, told, sizeof told);
    assert_string_equal(told, "mismatched_model@1");
    validation_free(&found);
}

static void a_hundred_complaints_are_enough(void **unused)
{
    (void)unused;
    struct buffer text = {0};
    struct validation found;
    char told[16384];
    for (int i = 0; i < 5000; i++) buffer_text(&text, "nothing\n");
    expect_fine(validate(text.data, text.size, "", NULL, &found), "many");
    tell(&found, told, sizeof told);
    assert_int_equal(found.n_errors, VALIDATE_ERRORS_MAX);
    assert_true(found.records <= VALIDATE_ERRORS_MAX); /* the rest is not read */
    validation_free(&found);
    buffer_free(&text);
}

static void it_stops_when_told(void **unused)
{
    (void)unused;
    struct validation found;
    _Atomic int stop = 1;
    tidemill_error *error = validate(LINE("a"), strlen(LINE("a")), "", &stop, &found);
    assert_int_equal(error_code_of(error), ERROR_INTERRUPTED);
    error_free(error);
    validation_free(&found);
}

static int open_folder(void **unused)
{
    (void)unused;
    tempdir_open(&folder);
    return 0;
}

static int close_folder(void **unused)
{
    (void)unused;
    tempdir_close(&folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_batches_or_not),
        cmocka_unit_test(a_long_or_deep_line_is_named),
        cmocka_unit_test(the_batchs_own_model_counts),
        cmocka_unit_test(a_hundred_complaints_are_enough),
        cmocka_unit_test(it_stops_when_told),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
