/* SPDX-License-Identifier: Apache-2.0 */
/* format_decode_text_test.c - text and the inputs that are made: which field, which inputs, both ways of
 * reading JSON; and tokens into the area. */
#include "expect.h"
#include "format_decoding.h"
#include "tempdir.h"

#include "io/io.h"

static const struct source_schema jsonl = {.format = FORMAT_JSONL};
static const int64_t any[] = {-1};

/* Decoding never asks the tokenizer: that there is one is enough. */
static const struct tokenizer *stand_in(void)
{
    return (const struct tokenizer *)(const void *)&jsonl;
}

/* --- which field -------------------------------------------------------------------------------------- */

static void the_field_with_the_text_is_found(void **unused)
{
    (void)unused;
    static const struct {
        const char *sample, *description, *map, *keep; /* description NULL: not mapped */
    } rows[] = {
        {"{\"text\":\"x\"}", "input_ids=text (text)", NULL, NULL},
        {"{\"body\":\"x\",\"text\":\"y\"}", "input_ids=text (text)", NULL, NULL},
        {"{\"body\":\"x\",\"text\":[1]}", "input_ids=body (text)", NULL, NULL},
        {"{\"a\":\"x\",\"b\":1}", "input_ids=a (text)", NULL, NULL},
        {"{\"a\":\"x\",\"b\":\"y\"}", NULL, NULL, NULL},
        {"{\"a\":\"x\",\"b\":\"y\"}", "input_ids=b (text)", NULL, "a"},
        {"{\"text\":\"x\",\"b\":\"y\"}", "input_ids=text (text)", NULL, "text"},
        {"{\"id\":\"x\",\"b\":\"y\"}", "input_ids=b (text)", NULL, NULL},
        {"{\"input_ids\":\"x\",\"text\":\"y\"}", "input_ids=input_ids (text)", NULL, NULL},
        {"{\"input_ids\":[1],\"text\":\"y\"}", "input_ids=input_ids\n", NULL, NULL},
        {"{\"tokens\":[1]}", "input_ids=tokens\n", NULL, NULL},
        {"{\"a\":{\"b\":[\"x\"]}}", "input_ids=/a/b/0 (text)", "input_ids=/a/b/0", NULL},
        {"{\"a\":\"x\",\"b\":\"y\"}", "input_ids=b,a (text)", "input_ids=b,a", NULL},
        {"{\"a\":1,\"b\":2}", "input_ids=b,a\n", "input_ids=b,a", NULL},
        {"not JSON", "input_ids=input_ids\n", NULL, NULL},
    };
    const struct value_spec inputs[] = {test_input("input_ids", TENSOR_INT64, 1, any),
                                        test_input("attention_mask", TENSOR_INT64, 1, any)};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct decoder_config config = {.schema = &jsonl,
                                        .maps = &rows[i].map,
                                        .n_maps = rows[i].map != NULL,
                                        .keep = &rows[i].keep,
                                        .n_keep = rows[i].keep != NULL,
                                        .tokenizer = stand_in()};
        struct bench bench;
        tidemill_error *error = bench_open(&bench, config, inputs, 2, rows[i].sample);
        if (rows[i].description == NULL) {
            expect_error(error, ERROR_USAGE, "--map input_ids=a", rows[i].sample);
            continue;
        }
        expect_fine(error, rows[i].sample);
        const char *found = decoder_description(bench.decoder);
        if (strncmp(found, rows[i].description, strlen(rows[i].description)) != 0)
            fail_msg("%s: %s", rows[i].sample, found);
        bench_close(&bench);
    }
}

static void a_tokenizer_is_missed_where_there_is_text(void **unused)
{
    (void)unused;
    const struct value_spec ids = test_input("input_ids", TENSOR_INT32, 1, any);
    const struct model_signature signature = {
        .inputs = (struct value_spec *)(uintptr_t)&ids, .n_inputs = 1, .is_batched = true};
    const struct decoder_config config = {.schema = &jsonl, .signature = &signature};
    static const char text[] = "{\"a\":\"x\"}", list[] = "{\"a\":[1]}";
    struct decoder *decoder;
    bool brings_text = false;
    expect_error(decoder_new(&config, (struct slice){text, sizeof text - 1}, &decoder), ERROR_USAGE,
                 "field 'a' holds text: put a tokenizer.json", "text");
    expect_fine(decoder_brings_text(&config, (struct slice){text, sizeof text - 1}, &brings_text),
                "asked");
    assert_true(brings_text);
    expect_fine(decoder_brings_text(&config, (struct slice){list, sizeof list - 1}, &brings_text),
                "asked");
    assert_false(brings_text);
}

/* --- records -------------------------------------------------------------------------------------------- */

static void text_is_left_for_later(void **unused)
{
    (void)unused;
    static const struct {
        const char *record, *first, *second;
        enum error_code code;
    } rows[] = {
        {"{\"a\":\"x\",\"b\":\"y\"}", "x", "y", ERROR_OK},
        {"{\"b\":\"\",\"a\":\"\\u00e9\\n\\\"\"}", "\xc3\xa9\n\"", "", ERROR_OK},
        {"{\"a\":\"1\",\"a\":\"2\",\"b\":\"\\ud83d\\ude00\"}", "1", "\xf0\x9f\x98\x80", ERROR_OK},
        {"{\"a\":\"x\"}", NULL, NULL, ERROR_MISSING_FIELD},
        {"{\"a\":\"x\",\"b\":1}", NULL, NULL, ERROR_WRONG_TYPE},
        {"{\"a\":\"x\",\"b\":\"\\ud800\"}", NULL, NULL, ERROR_INVALID_JSON},
        {"{\"a\":\"x\",\"b\":\"\xff\"}", NULL, NULL, ERROR_INVALID_UTF8},
        {"{\"a\":\"x\",\"b\":\"y\"", NULL, NULL, ERROR_INVALID_JSON},
    };
    static const char *const maps[] = {"input_ids=a,b"};
    const struct value_spec inputs[] = {test_input("input_ids", TENSOR_INT64, 1, any),
                                        test_input("attention_mask", TENSOR_BOOL, 1, any)};
    const struct decoder_config config = {
        .schema = &jsonl, .maps = maps, .n_maps = 1, .tokenizer = stand_in()};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (int is_fast = 0; is_fast < 2; is_fast++) {
            struct bench bench;
            expect_fine(bench_open(&bench, config, inputs, 2, rows[0].record), "open");
            if (is_fast == 0) decoder_disable_fast(bench.decoder);
            const struct record *record =
                bench_decode(&bench, rows[i].record, strlen(rows[i].record));
            if (record->error != rows[i].code) fail_msg("%s: %s", rows[i].record, record->message);
            assert_int_equal(record->n_texts, rows[i].code == ERROR_OK ? 2 : 0);
            if (record->n_texts > 0) {
                const char *const wanted[] = {rows[i].first, rows[i].second};
                for (size_t k = 0; k < 2; k++) {
                    assert_int_equal(record->text[k].size, strlen(wanted[k]));
                    assert_memory_equal(record->text[k].data, wanted[k], strlen(wanted[k]));
                    assert_int_equal(record->inputs[k].bytes, 0);
                    assert_int_equal(bench.area.used[k], 0);
                }
            }
            bench_close(&bench);
        }
    }
}

static void what_is_absent_is_made(void **unused)
{
    (void)unused;
    static const struct {
        const char *record;
        enum error_code code;
        int64_t mask[3], positions[3];
        size_t n;
    } rows[] = {
        {"{\"input_ids\":[5,6,7]}", ERROR_OK, {1, 1, 1}, {0, 1, 2}, 3},
        {"{\"input_ids\":[]}", ERROR_OK, {0}, {0}, 0},
        {"{\"input_ids\":[5,6],\"attention_mask\":[0,1]}", ERROR_OK, {0, 1}, {0, 1}, 2},
        {"{\"position_ids\":[8],\"input_ids\":[5]}", ERROR_OK, {1}, {8}, 1},
        {"{\"input_ids\":[5],\"attention_mask\":null}", ERROR_WRONG_TYPE, {0}, {0}, 0},
        {"{\"attention_mask\":[1]}", ERROR_MISSING_FIELD, {0}, {0}, 0},
        {"{\"input_ids\":[[5]]}", ERROR_OK, {1}, {0}, 1},
    };
    const struct value_spec inputs[] = {test_input("position_ids", TENSOR_INT64, 1, any),
                                        test_input("attention_mask", TENSOR_INT64, 1, any),
                                        test_input("input_ids", TENSOR_INT64, 1, any)};
    const struct decoder_config config = {.schema = &jsonl};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (int is_fast = 0; is_fast < 2; is_fast++) {
            struct bench bench;
            expect_fine(bench_open(&bench, config, inputs, 3, rows[0].record), "open");
            if (is_fast == 0) decoder_disable_fast(bench.decoder);
            const struct record *record =
                bench_decode(&bench, rows[i].record, strlen(rows[i].record));
            if (record->error != rows[i].code) fail_msg("%s: %s", rows[i].record, record->message);
            for (size_t k = 0; k < 3 && record->error == ERROR_OK; k++) {
                assert_int_equal(record->inputs[k].bytes, rows[i].n * 8);
                assert_int_equal(record->inputs[k].shape.dims[0], rows[i].n);
                assert_int_equal(bench.area.used[k], rows[i].n * 8);
            }
            if (record->error == ERROR_OK) {
                assert_memory_equal(bench_row(&bench, 0), rows[i].positions, rows[i].n * 8);
                assert_memory_equal(bench_row(&bench, 1), rows[i].mask, rows[i].n * 8);
            }
            bench_close(&bench);
        }
    }
}

/* --- tokens --------------------------------------------------------------------------------------------- */

/* Words between white space; the id of "large" fits no int32. */
static const char words_json[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[],"
    "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"WhitespaceSplit\"},\"post_processor\":null,"
    "\"decoder\":null,\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"?\","
    "\"vocab\":{\"?\":0,\"a\":1,\"b\":2,\"<pad>\":7,\"large\":3000000000}}}";

/* NULL where the library is not built: then the test is left out. */
static struct tokenizer *open_words(size_t max_length)
{
    struct tempdir folder;
    struct tokenizer_library library;
    struct tokenizer *tokenizer = NULL;
    tidemill_error *error = tokenizer_library_open(&library);
    if (error != NULL) {
        print_message("left out: %s\n", error_message(error));
        error_free(error);
        return NULL;
    }
    tempdir_open(&folder);
    const char *path = tempdir_path(&folder, "tokenizer.json");
    tempdir_write(path, words_json, sizeof words_json - 1);
    const struct tokenizer_options options = {.max_length = max_length};
    expect_fine(tokenizer_open(&io_local, path, &options, &tokenizer), "open");
    tempdir_close(&folder);
    return tokenizer;
}

/* Decodes without forgetting what is in the area. */
static void decode_more(struct bench *bench, const char *text, struct record *ret)
{
    const struct raw_record raw = {.bytes = {text, strlen(text)}, .line = 1, .size = strlen(text)};
    decoder_decode(bench->decoder, bench->scratch, &raw, &bench->area, &bench->arena, ret);
}

static void tokenize(struct bench *bench, struct record *record)
{
    decoder_tokenize(bench->decoder, bench->scratch, &bench->area, &bench->arena, record);
}

static void tokens_go_into_the_area_in_the_order_of_the_calls(void **unused)
{
    (void)unused;
    struct tokenizer *tokenizer = open_words(0);
    if (tokenizer == NULL) skip();
    assert_int_equal(tokenizer_pad_id(tokenizer), 7);
    assert_int_equal(tokenizer_max_length(tokenizer), 0);
    const struct value_spec inputs[] = {test_input("x", TENSOR_INT64, 0, NULL),
                                        test_input("input_ids", TENSOR_INT32, 1, any),
                                        test_input("attention_mask", TENSOR_INT64, 1, any)};
    const struct decoder_config config = {.schema = &jsonl, .tokenizer = tokenizer};
    struct bench bench;
    struct record first, second, large;
    expect_fine(bench_open(&bench, config, inputs, 3, "{\"x\":1,\"text\":\"a\"}"), "open");
    decode_more(&bench, "{\"x\":10,\"text\":\"a b c\"}", &first);
    decode_more(&bench, "{\"x\":20,\"text\":\"b\"}", &second);
    decode_more(&bench, "{\"x\":30,\"text\":\"a large one\"}", &large);
    tokenize(&bench, &second);
    tokenize(&bench, &large);
    tokenize(&bench, &first);
    assert_int_equal(first.error | second.error, ERROR_OK);
    assert_int_equal(first.n_texts + second.n_texts + large.n_texts, 0);
    assert_int_equal(large.error, ERROR_OUT_OF_RANGE);
    assert_string_equal(large.message,
                        "field 'text': 3000000000 does not fit int32 of input 'input_ids'");
    static const int32_t ids[] = {2, 1, 2, 0};
    static const int64_t ones[] = {1, 1, 1, 1};
    assert_memory_equal(bench.area.base + second.inputs[1].offset, ids, sizeof ids);
    assert_memory_equal(bench.area.base + second.inputs[2].offset, ones, sizeof ones);
    assert_int_equal(first.inputs[1].offset, second.inputs[1].offset + 4);
    assert_int_equal(first.inputs[1].shape.dims[0], 3);
    assert_int_equal(bench.area.used[1], sizeof ids);
    bench_close(&bench);
    tokenizer_close(tokenizer);
}

static void a_full_area_is_the_record_s_error(void **unused)
{
    (void)unused;
    struct tokenizer *tokenizer = open_words(3);
    if (tokenizer == NULL) skip();
    const struct value_spec inputs[] = {test_input("input_ids", TENSOR_INT64, 1, any),
                                        test_input("attention_mask", TENSOR_INT64, 1, any)};
    const struct decoder_config config = {.schema = &jsonl, .tokenizer = tokenizer};
    struct bench bench;
    struct record fits, tight;
    expect_fine(bench_open(&bench, config, inputs, 2, "{\"text\":\"a\"}"), "open");
    bench.area.input_capacity = 40;
    decode_more(&bench, "{\"text\":\"a b a b a b\"}", &fits);
    decode_more(&bench, "{\"text\":\"a b a b a b\"}", &tight);
    tokenize(&bench, &fits);
    tokenize(&bench, &tight);
    assert_int_equal(fits.error, ERROR_OK);
    assert_int_equal(fits.inputs[1].bytes, 24); /* cut to 3 tokens */
    assert_int_equal(tight.error, ERROR_MEMORY);
    assert_int_equal(bench.area.used[0], 24);
    bench_close(&bench);
    tokenizer_close(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_field_with_the_text_is_found),
        cmocka_unit_test(a_tokenizer_is_missed_where_there_is_text),
        cmocka_unit_test(text_is_left_for_later),
        cmocka_unit_test(what_is_absent_is_made),
        cmocka_unit_test(tokens_go_into_the_area_in_the_order_of_the_calls),
        cmocka_unit_test(a_full_area_is_the_record_s_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
