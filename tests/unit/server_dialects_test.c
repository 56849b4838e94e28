/* SPDX-License-Identifier: Apache-2.0 */
/* server_dialects_test.c - requests of KServe's and TF Serving's clients as tensors, tensors as their
 * answers; what is refused, and with which words. */
#include "server/dialects.h"
#include "server/kserve.h"
#include "server/tensor_json.h"
#include "server/tfserving.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEXT(literal)                                                                              \
    (struct slice)                                                                                 \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }

/* x float32 [batch, 2] and t string [batch] (optional) -> y float32 [batch, 2]; whole: the same without a
 * batch; json: a text a row. */
static struct value_spec plain_inputs[] = {
    {.name = (char *)(uintptr_t) "x", .type = TENSOR_FLOAT, .shape = {2, {-1, 2}}}};
static struct value_spec plain_outputs[] = {
    {.name = (char *)(uintptr_t) "y", .type = TENSOR_FLOAT, .shape = {2, {-1, 2}}}};
static struct value_spec two_inputs[] = {
    {.name = (char *)(uintptr_t) "a", .type = TENSOR_INT64, .shape = {1, {-1}}},
    {.name = (char *)(uintptr_t) "b", .type = TENSOR_STRING, .shape = {1, {-1}}}};
static struct value_spec two_outputs[] = {
    {.name = (char *)(uintptr_t) "s", .type = TENSOR_STRING, .shape = {1, {-1}}},
    {.name = (char *)(uintptr_t) "n_bytes", .type = TENSOR_STRING, .shape = {1, {-1}}}};
static struct value_spec json_inputs[] = {{.name = (char *)(uintptr_t) "record",
                                           .type = TENSOR_STRING,
                                           .shape = {1, {-1}},
                                           .is_json = true}};
static struct value_spec json_outputs[] = {{.name = (char *)(uintptr_t) "response",
                                            .type = TENSOR_STRING,
                                            .shape = {1, {-1}},
                                            .is_json = true}};
static struct value_spec whole_inputs[] = {
    {.name = (char *)(uintptr_t) "x", .type = TENSOR_FLOAT, .shape = {1, {2}}}};
static struct value_spec whole_outputs[] = {
    {.name = (char *)(uintptr_t) "y", .type = TENSOR_FLOAT, .shape = {1, {2}}}};

static const struct model_signature plain = {plain_inputs, plain_outputs, 1, 1, true, 0};
static const struct model_signature two = {two_inputs, two_outputs, 2, 2, true, 0};
static const struct model_signature json = {json_inputs, json_outputs, 1, 1, true, 0};
static const struct model_signature whole = {whole_inputs, whole_outputs, 1, 1, false, 0};

static void assert_fine(tidemill_error *error)
{
    if (error != NULL) fail_msg("%s", error_message(error));
}

static void assert_text(const struct buffer *out, const char *wanted)
{
    if (out->size != strlen(wanted) || memcmp(out->data, wanted, out->size) != 0)
        fail_msg("found %.*s\nwanted %s", (int)out->size, out->data, wanted);
}

/* "float32 [2, 2] 1,2,3,4" */
static void describe(const struct serving_input *input, struct buffer *out)
{
    char shape[128];
    size_t count;
    shape_text(&input->shape, NULL, shape, sizeof shape);
    buffer_printf(out, "%s %s %s ", input->name, tensor_type_name(input->type), shape);
    struct element_walk walk = element_walk_of(
        &(struct value){.type = input->type, .data = input->data, .bytes = input->bytes}, "x");
    walk.is_bare = true;
    assert_true(shape_count(&input->shape, &count));
    assert_fine(element_walk_flat(&walk, count, out));
}

/* --- KServe: requests ------------------------------------------------------------------------------------------ */

#define KSERVE_X(shape, data)                                                                      \
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":" shape ",\"data\":" data "}]}"
#define KSERVE_TYPE(type, data)                                                                    \
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"" type "\",\"shape\":[2],\"data\":" data "}]}"

static const struct {
    const char *name, *body;
    const char *wanted; /* of the first input; or an error's part */
} kserve_cases[] = {
    {"flat", KSERVE_X("[2,2]", "[1,2.5,-3,4e1]"), "x float32 [2, 2] 1.0,2.5,-3.0,40.0"},
    {"nested", KSERVE_X("[2,2]", "[[1,2],[3,4]]"), "x float32 [2, 2] 1.0,2.0,3.0,4.0"},
    {"NaN as a token", KSERVE_X("[2]", "[NaN,-Infinity]"), "x float32 [2] NaN,-Infinity"},
    {"a scalar", KSERVE_X("[]", "[5]"), "x float32 [] 5.0"},
    {"nothing", KSERVE_X("[0,2]", "[]"), "x float32 [0, 2] "},
    {"BOOL", KSERVE_TYPE("BOOL", "[true,false]"), "x bool [2] true,false"},
    {"UINT8", KSERVE_TYPE("UINT8", "[0,255]"), "x uint8 [2] 0,255"},
    {"UINT16", KSERVE_TYPE("UINT16", "[0,65535]"), "x uint16 [2] 0,65535"},
    {"UINT32", KSERVE_TYPE("UINT32", "[0,4294967295]"), "x uint32 [2] 0,4294967295"},
    {"UINT64", KSERVE_TYPE("UINT64", "[0,18446744073709551615]"),
     "x uint64 [2] 0,18446744073709551615"},
    {"INT8", KSERVE_TYPE("INT8", "[-128,127]"), "x int8 [2] -128,127"},
    {"INT16", KSERVE_TYPE("INT16", "[-32768,1]"), "x int16 [2] -32768,1"},
    {"INT32", KSERVE_TYPE("INT32", "[-2147483648,1]"), "x int32 [2] -2147483648,1"},
    {"INT64", KSERVE_TYPE("INT64", "[-9223372036854775808,9007199254740993]"),
     "x int64 [2] -9223372036854775808,9007199254740993"},
    {"FP64", KSERVE_TYPE("FP64", "[0.1,1e-300]"), "x float64 [2] 0.1,1e-300"},
    {"BYTES", KSERVE_TYPE("BYTES", "[\"a\\u00e9\",\"\"]"), "x string [2] \"a\xc3\xa9\",\"\""},
    {"too large", KSERVE_TYPE("UINT8", "[0,256]"), "'x': 256 does not fit uint8"},
    {"a fraction", KSERVE_TYPE("INT32", "[0,1.5]"), "expected a whole number (int32), found 1.5"},
    {"a string for a number", KSERVE_TYPE("FP32", "[0,\"1\"]"), "found a string"},
    {"a number for a string", KSERVE_TYPE("BYTES", "[\"\",1]"), "expected a string"},
    {"FP16 as JSON", KSERVE_TYPE("FP16", "[0,1]"), "FP16 travels as binary data only"},
    {"no such type", KSERVE_TYPE("FP8", "[0,1]"), "there is no datatype 'FP8'"},
    {"too few", KSERVE_X("[2,2]", "[1,2,3]"), "has shape [2, 2], but data of shape [3]"},
    {"nested otherwise", KSERVE_X("[2,3]", "[[1,2],[3,4],[5,6]]"), "but data of shape [3, 2]"},
    {"ragged", KSERVE_X("[2,2]", "[[1,2],[3]]"), "its lists differ in length"},
    {"half nested", KSERVE_X("[3]", "[1,[2],3]"), "nested to different depths"},
    {"a shape that is none", KSERVE_X("[-1]", "[1]"), "'shape' holds -1"},
    {"a huge shape", KSERVE_X("[999999999999,999999999999]", "[1]"), "but data of shape [1]"},
    {"too many dimensions", KSERVE_X("[1,1,1,1,1,1,1,1,1]", "[1]"), "at most 8 sizes"},
    {"no data", "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1]}]}",
     "'data' is nothing"},
    {"no name", "{\"inputs\":[{\"datatype\":\"FP32\",\"shape\":[1]}]}", "input 0 has no name"},
    {"a name with NUL", "{\"inputs\":[{\"name\":\"x\\u0000\",\"datatype\":\"FP32\"}]}", "no name"},
    {"no inputs", "{}", "no list of 'inputs'"},
    {"no object", "[]", "the request is a list"},
    {"not JSON", "{", "the body is not JSON"},
    {"nothing at all", "", "the body is empty"},
    {"not UTF-8", "{\"id\":\"\xff\"}", "not UTF-8"},
    {"an id that is a number", "{\"id\":7,\"inputs\":[]}", "'id' is no string"},
    {"binary without a header",
     "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1],\"parameters\":{"
     "\"binary_data_size\":4}}]}",
     "no header 'Inference-Header-Content-Length'"},
    {"shared memory",
     "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1],\"parameters\":{"
     "\"shared_memory_region\":\"r\"}}]}",
     "shared memory is not offered"},
    {"classification",
     "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[1]}],"
     "\"outputs\":[{\"name\":\"y\",\"parameters\":{\"classification\":3}}]}",
     "neither classification"},
    {"an output twice", "{\"outputs\":[{\"name\":\"y\"},{\"name\":\"y\"}]}", "asked for twice"},
};

static void kserve_requests_become_tensors(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(kserve_cases); i++) {
        struct arena arena = {0};
        struct kserve_request request;
        struct buffer out = {0};
        const char *body = kserve_cases[i].body;
        tidemill_error *error =
            kserve_read((struct slice){body, strlen(body)}, -1, &arena, &request);
        if (error != NULL)
            buffer_text(&out, error_message(error));
        else
            describe(&request.inputs[0], &out);
        buffer_byte(&out, '\0');
        bool is_right = error != NULL ? strstr(out.data, kserve_cases[i].wanted) != NULL
                                      : strcmp(out.data, kserve_cases[i].wanted) == 0;
        if (!is_right) fail_msg("%s: %s", kserve_cases[i].name, out.data);
        error_free(error);
        yyjson_doc_free(request.doc);
        buffer_free(&out);
        arena_free(&arena);
    }
}

#define HEADER                                                                                     \
    "{\"id\":\"7\",\"parameters\":{\"binary_data_output\":true},\"inputs\":[{\"name\":\"x\","      \
    "\"datatype\":\"FP32\",\"shape\":[1,2],\"parameters\":{\"binary_data_size\":8}}]}"

static void kserve_binary_tensors_are_taken_from_behind_the_header(void **state)
{
    (void)state;
    static const struct {
        int64_t header_bytes;
        size_t binary_bytes;
        const char *problem;
    } cases[] = {
        {sizeof HEADER - 1, 8, NULL},
        {sizeof HEADER - 1, 7, "'binary_data_size' of 8, but 7 bytes are left"},
        {sizeof HEADER - 1, 9, "1 bytes are left behind"},
        {sizeof HEADER + 7, 0, "'Inference-Header-Content-Length' is"},
        {3, 8, "not JSON"},
        {0, 8, "empty"},
    };
    const float numbers[4] = {1.5F, -2, 0, 0};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buffer body = {0};
        struct arena arena = {0};
        struct kserve_request request;
        buffer_text(&body, HEADER);
        buffer_append(&body, numbers, cases[i].binary_bytes);
        tidemill_error *error = kserve_read((struct slice){body.data, body.size},
                                            cases[i].header_bytes, &arena, &request);
        if (cases[i].problem == NULL) {
            assert_fine(error);
            assert_string_equal(request.id, "7");
            assert_true(request.is_binary);
            assert_memory_equal(request.inputs[0].data, numbers, 8);
        } else if (error == NULL || strstr(error_message(error), cases[i].problem) == NULL) {
            fail_msg("%zu: %s", i, error_message(error));
        }
        error_free(error);
        yyjson_doc_free(request.doc);
        arena_free(&arena);
        buffer_free(&body);
    }
}

/* --- KServe: answers --------------------------------------------------------------------------------------------- */

static const float answer_numbers[] = {1.5F, -2, 0.1F, 1e20F};

static struct value answer_value(void)
{
    return (struct value){.type = TENSOR_FLOAT,
                          .shape = {2, {2, 2}},
                          .data = (const unsigned char *)answer_numbers,
                          .bytes = sizeof answer_numbers};
}

static void kserve_answers_are_json_or_binary(void **state)
{
    (void)state;
    struct value value = answer_value();
    struct buffer out = {0};
    size_t header_bytes;
    struct kserve_request request = {.id = "a\"b"};
    assert_fine(kserve_write(&request, "m", &plain, &value, &out, &header_bytes));
    assert_int_equal(header_bytes, 0);
    assert_text(&out,
                "{\"model_name\":\"m\",\"model_version\":\"1\",\"id\":\"a\\\"b\",\"outputs\":[{"
                "\"name\":\"y\",\"datatype\":\"FP32\",\"shape\":[2,2],\"data\":[1.5,-2.0,0.1,"
                "1e+20]}]}");
    buffer_free(&out);

    struct kserve_wanted wanted = {.name = "y", .is_binary = true};
    request = (struct kserve_request){.outputs = &wanted, .n_outputs = 1};
    out = (struct buffer){0};
    assert_fine(kserve_write(&request, "m", &plain, &value, &out, &header_bytes));
    assert_int_equal(out.size, header_bytes + sizeof answer_numbers);
    assert_memory_equal(out.data + header_bytes, answer_numbers, sizeof answer_numbers);
    out.size = header_bytes;
    assert_text(&out,
                "{\"model_name\":\"m\",\"model_version\":\"1\",\"outputs\":[{\"name\":\"y\","
                "\"datatype\":\"FP32\",\"shape\":[2,2],\"parameters\":{\"binary_data_size\":16}}]"
                "}");
    buffer_free(&out);
}

static void kserve_answers_that_json_cannot_carry_are_errors(void **state)
{
    (void)state;
    const float numbers[] = {1, 0.0F / 0.0F};
    struct value value = {.type = TENSOR_FLOAT,
                          .shape = {2, {1, 2}},
                          .data = (const unsigned char *)numbers,
                          .bytes = sizeof numbers};
    struct kserve_request request = {0};
    struct buffer out = {0};
    size_t header_bytes;
    tidemill_error *error = kserve_write(&request, "m", &plain, &value, &out, &header_bytes);
    assert_int_equal(error_code_of(error), ERROR_OUTPUT_NOT_FINITE);
    error_free(error);
    out.size = 0;
    request.is_binary = true;
    assert_fine(kserve_write(&request, "m", &plain, &value, &out, &header_bytes));
    buffer_free(&out);
}

static void kserve_requests_are_held_against_the_model(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        const struct model_signature *signature;
        const char *wanted; /* of the first input; or an error's part */
    } cases[] = {
        {KSERVE_X("[1,2]", "[1,2]"), &plain, "x float32 [1, 2] 1.0,2.0"},
        {KSERVE_X("[1,2]", "[1,2]"), &whole, "x float32 [2] 1.0,2.0"},
        {KSERVE_X("[2]", "[1,2]"), &whole, "x float32 [2] 1.0,2.0"},
        {KSERVE_X("[1,2]", "[1,2]"), &two, "unexpected input 'x'"},
        {"{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[1]}],"
         "\"outputs\":[{"
         "\"name\":\"z\"}]}",
         &plain, "unexpected output 'z'"},
        {"{\"inputs\":[{\"name\":\"record\",\"datatype\":\"BYTES\",\"shape\":[1],\"data\":[\"{"
         "\\\"a\\\":"
         "1}\"]}]}",
         &json, "record string [1] \"{\\\"a\\\":1}\""},
        {"{\"inputs\":[{\"name\":\"record\",\"datatype\":\"BYTES\",\"shape\":[1],\"data\":[\"{\"]}]"
         "}",
         &json, "input 'record': the body is not JSON"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct arena arena = {0};
        struct kserve_request request;
        struct buffer out = {0};
        assert_fine(kserve_read((struct slice){cases[i].body, strlen(cases[i].body)}, -1, &arena,
                                &request));
        tidemill_error *error = kserve_fit(&request, cases[i].signature);
        if (error != NULL)
            buffer_text(&out, error_message(error));
        else
            describe(&request.inputs[0], &out);
        buffer_byte(&out, '\0');
        if (strstr(out.data, cases[i].wanted) == NULL) fail_msg("%zu: %s", i, out.data);
        error_free(error);
        yyjson_doc_free(request.doc);
        buffer_free(&out);
        arena_free(&arena);
    }
}

/* --- TF Serving: requests ------------------------------------------------------------------------------------------- */

static const struct {
    const char *name, *body;
    enum tf_verb verb;
    const struct model_signature *signature;
    const char *wanted; /* inputs, calls apart by " | "; or an error's part */
} tf_cases[] = {
    {"rows of values", "{\"instances\":[[1,2],[3,4]]}", TF_PREDICT, &plain,
     "x float32 [2, 2] 1.0,2.0,3.0,4.0"},
    {"rows of objects",
     "{\"signature_name\":\"serving_default\",\"instances\":[{\"x\":[1,2],\"id\":1}]}", TF_PREDICT,
     &plain, "x float32 [1, 2] 1.0,2.0"},
    {"bare tokens", "{\"instances\":[[NaN,Infinity],[-Infinity,0]]}", TF_PREDICT, &plain,
     "x float32 [2, 2] NaN,Infinity,-Infinity,0.0"},
    {"several inputs", "{\"instances\":[{\"a\":1,\"b\":\"u\"},{\"b\":{\"b64\":\"AP8=\"},\"a\":2}]}",
     TF_PREDICT, &two, "a int64 [2] 1,2; b"},
    {"columns", "{\"inputs\":{\"a\":[1,2],\"b\":[\"u\",\"v\"]}}", TF_PREDICT, &two,
     "a int64 [2] 1,2; b string [2] \"u\",\"v\""},
    {"the only column", "{\"inputs\":[[1,2]]}", TF_PREDICT, &plain, "x float32 [1, 2] 1.0,2.0"},
    {"the only column by name", "{\"inputs\":{\"x\":[[1,2]]}}", TF_PREDICT, &plain,
     "x float32 [1, 2] 1.0,2.0"},
    {"rows for a model without batches", "{\"instances\":[[1,2],[3,4]]}", TF_PREDICT, &whole,
     "x float32 [2] 1.0,2.0 | x float32 [2] 3.0,4.0"},
    {"JSON as it stands", "{\"instances\":[{\"k\":[1, 2.50]},\"s\",null]}", TF_PREDICT, &json,
     "record string [3] \"{\\\"k\\\":[1,2.50]}\",\"\\\"s\\\"\",\"null\""},
    {"examples with a context",
     "{\"context\":{\"b\":\"c\"},\"examples\":[{\"a\":1},{\"a\":2,\"b\":\"d\"}]}", TF_CLASSIFY,
     &two, "a int64 [2] 1,2; b string [2] \"c\",\"d\""},
    {"both", "{\"instances\":[1],\"inputs\":[1]}", TF_PREDICT, &plain,
     "both 'instances' and 'inputs'"},
    {"neither", "{}", TF_PREDICT, &plain, "no 'instances', nor 'inputs'"},
    {"no rows", "{\"instances\":[]}", TF_PREDICT, &plain, "'instances' is empty"},
    {"no list", "{\"instances\":7}", TF_PREDICT, &plain, "'instances' is a number"},
    {"another signature", "{\"signature_name\":\"train\",\"instances\":[1]}", TF_PREDICT, &plain,
     "not train"},
    {"an input is missing", "{\"instances\":[{\"a\":1,\"b\":\"\"},{\"b\":\"\"}]}", TF_PREDICT, &two,
     "instance 1 has no 'a'"},
    {"a value for two inputs", "{\"instances\":[1]}", TF_PREDICT, &two, "instance 0 is a number"},
    {"rows of two shapes", "{\"instances\":[[1,2],[1,2,3]]}", TF_PREDICT, &plain,
     "its values differ in shape"},
    {"a list among numbers", "{\"instances\":[1,[1]]}", TF_PREDICT, &plain, "differ in shape"},
    {"bad base64", "{\"instances\":[{\"a\":1,\"b\":{\"b64\":\"?\"}}]}", TF_PREDICT, &two,
     "not base64"},
    {"an example that is none", "{\"examples\":[1]}", TF_REGRESS, &two, "example 0 is a number"},
};

static void tf_requests_become_calls(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(tf_cases); i++) {
        struct arena arena = {0};
        struct tf_request request;
        struct buffer out = {0};
        const char *body = tf_cases[i].body;
        tidemill_error *error = tf_read((struct slice){body, strlen(body)}, tf_cases[i].verb,
                                        tf_cases[i].signature, &arena, &request);
        bool has_bytes = strstr(body, "AP8=") != NULL; /* not UTF-8: not to be described */
        for (size_t c = 0; error == NULL && c < request.n_calls; c++) {
            if (c > 0) buffer_text(&out, " | ");
            for (size_t k = 0; k < request.calls[c].n_inputs; k++) {
                if (k > 0) buffer_text(&out, "; ");
                if (has_bytes && k == 1) {
                    buffer_text(&out, request.calls[c].inputs[k].name);
                    assert_int_equal(request.calls[c].inputs[k].bytes, 4 + 1 + 4 + 2);
                } else {
                    describe(&request.calls[c].inputs[k], &out);
                }
            }
        }
        if (error != NULL) buffer_text(&out, error_message(error));
        buffer_byte(&out, '\0');
        bool is_right = error != NULL ? strstr(out.data, tf_cases[i].wanted) != NULL
                                      : strcmp(out.data, tf_cases[i].wanted) == 0;
        if (!is_right) fail_msg("%s: %s", tf_cases[i].name, out.data);
        error_free(error);
        yyjson_doc_free(request.doc);
        buffer_free(&out);
        arena_free(&arena);
    }
}

/* --- TF Serving: answers ---------------------------------------------------------------------------------------------- */

static void tf_answers_by_rows_and_columns(void **state)
{
    (void)state;
    static const unsigned char strings[] = "\1\0\0\0a\2\0\0\0bc";
    struct value numbers = answer_value(), texts[2], *first = &numbers, *second = texts;
    texts[0] = texts[1] = (struct value){
        .type = TENSOR_STRING, .shape = {1, {2}}, .data = strings, .bytes = sizeof strings - 1};
    static const struct {
        struct tf_request request;
        const struct model_signature *signature;
        const char *wanted;
    } cases[] = {
        {{.n_rows = 2, .n_calls = 1}, &plain, "{\"predictions\":[[1.5,-2.0],[0.1,1e+20]]}"},
        {{.n_rows = 2, .n_calls = 1, .is_columnar = true},
         &plain,
         "{\"outputs\":[[1.5,-2.0],[0.1,1e+20]]}"},
        {{.n_rows = 2, .n_calls = 1, .verb = TF_CLASSIFY},
         &plain,
         "{\"results\":[[[\"0\",1.5],[\"1\",-2.0]],[[\"0\",0.1],[\"1\",1e+20]]]}"},
        {{.n_rows = 2, .n_calls = 1},
         &two,
         "{\"predictions\":[{\"s\":\"a\",\"n_bytes\":{\"b64\":\"YQ==\"}},{\"s\":\"bc\",\"n_bytes\":"
         "{\"b64\":"
         "\"YmM=\"}}]}"},
        {{.n_rows = 2, .n_calls = 1, .is_columnar = true},
         &two,
         "{\"outputs\":{\"s\":[\"a\",\"bc\"],\"n_bytes\":[{\"b64\":\"YQ==\"},{\"b64\":\"YmM=\"}]}"
         "}"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buffer out = {0};
        struct value *const *values = cases[i].signature == &plain ? &first : &second;
        assert_fine(tf_write(&cases[i].request, cases[i].signature, values, &out));
        assert_text(&out, cases[i].wanted);
        buffer_free(&out);
    }
}

static void tf_regress_answers_a_number_a_row(void **state)
{
    (void)state;
    const double numbers[] = {0.5, 2};
    struct value value = {.type = TENSOR_DOUBLE,
                          .shape = {2, {2, 1}},
                          .data = (const unsigned char *)numbers,
                          .bytes = sizeof numbers};
    struct value *values = &value;
    struct tf_request request = {.n_rows = 2, .n_calls = 1, .verb = TF_REGRESS};
    struct buffer out = {0};
    assert_fine(tf_write(&request, &plain, &values, &out));
    assert_text(&out, "{\"results\":[0.5,2.0]}");
    buffer_free(&out);
    value = answer_value(); /* two numbers a row */
    tidemill_error *error = tf_write(&request, &plain, &values, &out);
    assert_int_equal(error_code_of(error), ERROR_UNSUPPORTED);
    error_free(error);
    buffer_free(&out);
}

/* --- requests that wait ------------------------------------------------------------------------------------------------- */

static void requests_that_wait_become_records(void **state)
{
    (void)state;
    struct buffer out = {0};
    struct arena arena = {0};
    struct kserve_request request;
    uint64_t n;
    assert_fine(kserve_read(TEXT(KSERVE_X("[2,2]", "[1,2,3,4]")), -1, &arena, &request));
    assert_fine(kserve_lines(&request, NULL, &out, &n));
    assert_int_equal(n, 2);
    assert_text(&out, "{\"x\":[1.0,2.0]}\n{\"x\":[3.0,4.0]}\n");
    out.size = 0;
    assert_fine(
        tf_lines(TEXT("{\"instances\":[[1,2.50],{\"x\":[ 3,4]}]}"), TF_PREDICT, &plain, &out, &n));
    assert_text(&out, "{\"x\":[1,2.50]}\n{\"x\":[3,4]}\n");
    tidemill_error *error = tf_lines(TEXT("{\"instances\":[1]}"), TF_PREDICT, NULL, &out, &n);
    assert_int_equal(error_code_of(error), ERROR_WRONG_TYPE);
    error_free(error);
    buffer_free(&out);
    yyjson_doc_free(request.doc);
    arena_free(&arena);
}

static void lines_of_output_become_answers(void **state)
{
    (void)state;
    static const struct slice lines[] = {{"{\"id\":1,\"y\":[1.5,2]}", 20},
                                         {"{\"id\":2,\"y\":[3,4.25]}", 21}};
    static const struct slice response[] = {{"{\"id\":1,\"response\":{\"a\":[1]}}", 29}};
    static const struct {
        enum dialect dialect;
        const struct model_signature *signature;
        const struct slice *lines;
        size_t n;
        const char *wanted;
    } cases[] = {
        {DIALECT_KSERVE, &plain, lines, 2,
         "{\"model_name\":\"m\",\"model_version\":\"1\",\"outputs\":[{\"name\":\"y\",\"datatype\":"
         "\"FP32\","
         "\"shape\":[2,2],\"data\":[1.5,2.0,3.0,4.25]}]}"},
        {DIALECT_KSERVE, NULL, lines, 2,
         "{\"model_name\":\"m\",\"model_version\":\"1\",\"outputs\":[{\"name\":\"y\",\"datatype\":"
         "\"FP64\","
         "\"shape\":[2,2],\"data\":[1.5,2.0,3.0,4.25]}]}"},
        {DIALECT_KSERVE, NULL, response, 1,
         "{\"model_name\":\"m\",\"model_version\":\"1\",\"outputs\":[{\"name\":\"response\","
         "\"datatype\":"
         "\"BYTES\",\"shape\":[1],\"data\":[\"{\\\"a\\\":[1]}\"]}]}"},
        {DIALECT_TFSERVING, NULL, lines, 2, "{\"predictions\":[[1.5,2],[3,4.25]]}"},
        {DIALECT_TORCHSERVE, NULL, lines, 1, "[1.5,2]"},
        {DIALECT_OPENAI, NULL, response, 1, "{\"a\":[1]}"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buffer out = {0};
        assert_fine(dialect_reply(cases[i].dialect, "m", cases[i].signature, cases[i].lines,
                                  cases[i].n, &out));
        assert_text(&out, cases[i].wanted);
        buffer_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kserve_requests_become_tensors),
        cmocka_unit_test(kserve_binary_tensors_are_taken_from_behind_the_header),
        cmocka_unit_test(kserve_answers_are_json_or_binary),
        cmocka_unit_test(kserve_answers_that_json_cannot_carry_are_errors),
        cmocka_unit_test(kserve_requests_are_held_against_the_model),
        cmocka_unit_test(tf_requests_become_calls),
        cmocka_unit_test(tf_answers_by_rows_and_columns),
        cmocka_unit_test(tf_regress_answers_a_number_a_row),
        cmocka_unit_test(requests_that_wait_become_records),
        cmocka_unit_test(lines_of_output_become_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
