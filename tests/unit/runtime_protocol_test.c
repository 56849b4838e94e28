/* SPDX-License-Identifier: Apache-2.0 */
/* runtime_protocol_test.c - which server an address means, and what it is asked, one row a case. */
#include "targets.h"

/* --- addresses --- */

static const struct {
    const char *address;
    enum http_protocol asked, found;
    const char *origin, *path, *health, *metadata;
} addresses[] = {
    {"http://h:8000/v1/chat/completions", PROTOCOL_AUTO, PROTOCOL_OPENAI, "http://h:8000",
     "/v1/chat/completions", "/v1/models", NULL},
    {"https://h/v1/responses", PROTOCOL_AUTO, PROTOCOL_OPENAI, "https://h", "/v1/responses",
     "/v1/models", NULL},
    {"http://h/v1", PROTOCOL_AUTO, PROTOCOL_OPENAI, "http://h", NULL, "/v1/models", NULL},
    {"http://h/v1/", PROTOCOL_AUTO, PROTOCOL_OPENAI, "http://h", NULL, "/v1/models", NULL},
    {"http://h:1", PROTOCOL_OPENAI, PROTOCOL_OPENAI, "http://h:1", NULL, "/v1/models", NULL},
    {"https://h/openai/v1/embeddings", PROTOCOL_AUTO, PROTOCOL_OPENAI, "https://h/openai",
     "/v1/embeddings", "/v1/models", NULL},
    {"https://h/v1/gateway/v1/chat/completions", PROTOCOL_AUTO, PROTOCOL_OPENAI,
     "https://h/v1/gateway", "/v1/chat/completions", "/v1/models", NULL},
    {"https://h/v10/chat/completions", PROTOCOL_AUTO, PROTOCOL_OPENAI, "https://h",
     "/v10/chat/completions", NULL, NULL},
    {"https://h/api/v1", PROTOCOL_AUTO, PROTOCOL_OPENAI, "https://h/api", NULL, "/v1/models", NULL},
    {"https://h/openai/deployments/m/chat/completions?api-version=1", PROTOCOL_AUTO,
     PROTOCOL_OPENAI, "https://h", "/openai/deployments/m/chat/completions?api-version=1", NULL,
     NULL},
    {"http://[::1]:8000/v1/completions", PROTOCOL_AUTO, PROTOCOL_OPENAI, "http://[::1]:8000",
     "/v1/completions", "/v1/models", NULL},
    {"http://h/v1/models/m:predict", PROTOCOL_AUTO, PROTOCOL_TFSERVING, "http://h",
     "/v1/models/m:predict", "/v1/models/m", NULL},
    {"http://h/v1/models/m", PROTOCOL_AUTO, PROTOCOL_TFSERVING, "http://h", "/v1/models/m:predict",
     "/v1/models/m", NULL},
    {"http://h/v1/models/m/versions/2", PROTOCOL_TFSERVING, PROTOCOL_TFSERVING, "http://h",
     "/v1/models/m/versions/2:predict", "/v1/models/m/versions/2", NULL},
    {"http://h/v1/projects/p/endpoints/e:predict", PROTOCOL_AUTO, PROTOCOL_TFSERVING, "http://h",
     "/v1/projects/p/endpoints/e:predict", NULL, NULL},
    {"http://h/v1/models/m:predict", PROTOCOL_OPENAI, PROTOCOL_OPENAI, "http://h",
     "/v1/models/m:predict", "/v1/models", NULL},
    {"http://h/v2/models/m/infer", PROTOCOL_AUTO, PROTOCOL_KSERVE, "http://h", "/v2/models/m/infer",
     "/v2/health/ready", "/v2/models/m"},
    {"http://h/v2/models/m/versions/3", PROTOCOL_AUTO, PROTOCOL_KSERVE, "http://h",
     "/v2/models/m/versions/3/infer", "/v2/health/ready", "/v2/models/m/versions/3"},
    {"http://h/x/v2/models/m/", PROTOCOL_KSERVE, PROTOCOL_KSERVE, "http://h",
     "/x/v2/models/m/infer", "/x/v2/health/ready", "/x/v2/models/m"},
    {"http://h/predictions/m/1.0", PROTOCOL_AUTO, PROTOCOL_TORCHSERVE, "http://h",
     "/predictions/m/1.0", "/ping", NULL},
    {"http://h/score", PROTOCOL_JSON, PROTOCOL_JSON, "http://h", "/score", NULL, NULL},
    {"HTTP://h", PROTOCOL_JSON, PROTOCOL_JSON, "http://h", "/", NULL, NULL},
};

static void expect_text_or_null(const char *found, const char *expected, const char *row)
{
    if (expected == NULL)
        expect_text(found == NULL ? "NULL" : found, "NULL", row);
    else
        expect_text(found, expected, row);
}

static void test_addresses(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(addresses); i++) {
        const char *row = addresses[i].address;
        struct http_target target;
        expect_fine(http_target_parse(row, addresses[i].asked, &target), row);
        if (target.protocol != addresses[i].found)
            fail_msg("%s: protocol %d", row, target.protocol);
        expect_text(target.origin, addresses[i].origin, row);
        expect_text_or_null(target.path, addresses[i].path, row);
        expect_text_or_null(target.health_path, addresses[i].health, row);
        expect_text_or_null(target.metadata_path, addresses[i].metadata, row);
        if (target.is_batched != (target.protocol == PROTOCOL_TFSERVING)) fail_msg("%s: rows", row);
        http_target_free(&target);
    }
}

static const struct {
    const char *address;
    enum http_protocol protocol;
    const char *part, *secret;
} refused_addresses[] = {
    {"http://h/score", PROTOCOL_AUTO, "add --protocol openai, kserve, tfserving", NULL},
    {"http://h/", PROTOCOL_AUTO, "http://HOST:8000/v2/models/NAME/infer", NULL},
    {"ftp://h/v1", PROTOCOL_AUTO, "does not begin with http://", NULL},
    {"h/v1", PROTOCOL_AUTO, "does not begin with http://", NULL},
    {"http://user:hunter2@h/v1", PROTOCOL_AUTO, "--api-key-env", "hunter2"},
    {"http://key@h/v1", PROTOCOL_AUTO, "--api-key-env", "key@"},
    {"http://h:99999/v1", PROTOCOL_AUTO, "cannot be read: ", NULL},
    {"http://h/score?key=hunter2", PROTOCOL_AUTO, "does not tell", "hunter2"},
    {"http://h/v1?a=b", PROTOCOL_AUTO, "no path", NULL},
    {"http://h/v1/chat/completions#x", PROTOCOL_AUTO, "fragment", NULL},
    {"http://h/a b", PROTOCOL_JSON, "'http://h/a b'", NULL},
    {"http://h/a\\b", PROTOCOL_JSON, "must be written as %XX", NULL},
    {"http://h/v1/models/m:classify", PROTOCOL_AUTO, "':classify' is not served", NULL},
    {"http://h/v1/models/:predict", PROTOCOL_AUTO, "none of TF Serving's models", NULL},
    {"http://h/x", PROTOCOL_TFSERVING, "none of TF Serving's models", NULL},
    {"http://h/v2/models/", PROTOCOL_KSERVE, "none of KServe's models", NULL},
    {"http://h/x", PROTOCOL_TORCHSERVE, "none of TorchServe's models", NULL},
};

static void test_refused_addresses(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(refused_addresses); i++) {
        const char *row = refused_addresses[i].address, *secret = refused_addresses[i].secret;
        struct http_target target;
        tidemill_error *error = http_target_parse(row, refused_addresses[i].protocol, &target);
        if (secret != NULL && strstr(error_message(error), secret) != NULL)
            fail_msg("%s: told in: %s", row, error_message(error));
        expect_error(error, ERROR_USAGE, refused_addresses[i].part, row);
        assert_null(target.origin);
    }
}

static void test_record_paths(void **state)
{
    (void)state;
    static const char *const refused[] = {
        "",      "v1/x",  "http://h/v1", "//h/v1", "/v1/../admin", "/a b",  "/a\tb", "/a\nb",
        "/a\\b", "/\x7f", "/\xc3\xa9",   "/a#b",   "/%2e%2E/x",    "/.%2e", "/%2E.",
    };
    char path[2048], message[512], longest[2049];
    assert_int_equal(http_record_path(slice_of("/v1/chat/completions"), path, message), ERROR_OK);
    assert_string_equal(path, "/v1/chat/completions");
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        if (http_record_path(slice_of(refused[i]), path, message) != ERROR_WRONG_TYPE)
            fail_msg("taken: %s", refused[i]);
    }
    memset(longest, 'x', sizeof longest);
    longest[0] = '/';
    assert_int_equal(http_record_path((struct slice){longest, 2047}, path, message), ERROR_OK);
    assert_int_equal(strlen(path), 2047);
    assert_int_equal(http_record_path((struct slice){longest, 2048}, path, message),
                     ERROR_WRONG_TYPE);
    assert_int_equal(http_record_path((struct slice){"/a\0b", 4}, path, message), ERROR_WRONG_TYPE);
}

/* --- requests --- */

static const struct request_case {
    const char *row, *address, *metadata;
    const char *rows[3];
    enum error_code code;
    const char *expected; /* the body, or a part of the message */
    size_t blamed;
} requests[] = {
    {"as it is",
     OPENAI,
     NULL,
     {" {\"model\":\"m\",\"temperature\":1.50}"},
     ERROR_OK,
     " {\"model\":\"m\",\"temperature\":1.50}",
     0},
    {"no object", OPENAI, NULL, {"[1]"}, ERROR_WRONG_TYPE, "--template", 0},
    {"nothing", OPENAI, NULL, {""}, ERROR_WRONG_TYPE, "is an object", 0},
    {"any JSON", "http://h/score", NULL, {"[1,2e400]"}, ERROR_OK, "[1,2e400]", 0},
    {"nothing at all", "http://h/score", NULL, {""}, ERROR_WRONG_TYPE, "nothing to send", 0},
    {"torchserve", TORCH, NULL, {"\"text\""}, ERROR_OK, "\"text\"", 0},
    {"instances",
     TF,
     NULL,
     {"[1.0]", "{\"a\":2}", "\"x\""},
     ERROR_OK,
     "{\"instances\":[[1.0],{\"a\":2},\"x\"]}",
     0},
    {"instance missing", TF, NULL, {"1", ""}, ERROR_WRONG_TYPE, "nothing to send", 1},
    {"stacked",
     KSERVE,
     META_ONE,
     {"{\"x\":[1,2.50]}", "{\"x\":[3e1,4],\"id\":7}"},
     ERROR_OK,
     "{\"inputs\":[{\"name\":\"x\",\"shape\":[2,2],\"datatype\":\"FP32\",\"data\":[1,2.50,3e1,4]}]"
     "}",
     0},
    {"without the name",
     KSERVE,
     META_ONE,
     {"[1,2]"},
     ERROR_OK,
     "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,2],\"datatype\":\"FP32\",\"data\":[1,2]}]}",
     0},
    {"two inputs",
     KSERVE,
     META_TWO,
     {"{\"a\":[1,-2],\"b\":\"p\\n\\\"\"}", "{\"b\":\"q\",\"a\":[3,4]}"},
     ERROR_OK,
     "{\"inputs\":[{\"name\":\"a\",\"shape\":[2,2],\"datatype\":\"INT64\",\"data\":[1,-2,3,4]},"
     "{\"name\":\"b\",\"shape\":[2],\"datatype\":\"BYTES\",\"data\":[\"p\\n\\\"\",\"q\"]}]}",
     0},
    {"no batch",
     KSERVE,
     META_ALONE,
     {"[[1,2,3],[4,5,6]]"},
     ERROR_OK,
     "{\"inputs\":[{\"name\":\"x\",\"shape\":[2,3],\"datatype\":\"UINT8\",\"data\":[1,2,3,4,5,6]}]"
     "}",
     0},
    {"empty rows",
     KSERVE,
     META_TWO,
     {"{\"a\":[],\"b\":\"\"}"},
     ERROR_OK,
     "{\"inputs\":[{\"name\":\"a\",\"shape\":[1,0],\"datatype\":\"INT64\",\"data\":[]},"
     "{\"name\":\"b\",\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[\"\"]}]}",
     0},
    {"scalar",
     KSERVE,
     META_BOOL,
     {"true", "{\"x\":false}"},
     ERROR_OK,
     "{\"inputs\":[{\"name\":\"x\",\"shape\":[2],\"datatype\":\"BOOL\",\"data\":[true,false]}]}",
     0},
    {"too short",
     KSERVE,
     META_ONE,
     {"[1,2]", "[1]"},
     ERROR_WRONG_SHAPE,
     "input 'x': expected shape [2], found [1]",
     1},
    {"too deep", KSERVE, META_ONE, {"[[1,2]]"}, ERROR_WRONG_SHAPE, "found [1, 2]", 0},
    {"ragged", KSERVE, META_ALONE, {"[[1,2],[3]]"}, ERROR_WRONG_SHAPE, "differ in length", 0},
    {"ragged below", KSERVE, META_ALONE, {"[[1,2],[3,[4]]]"}, ERROR_WRONG_SHAPE, "differ", 0},
    {"an object inside", KSERVE, META_ONE, {"[1,{}]"}, ERROR_WRONG_SHAPE, "hold objects", 0},
    {"nine deep", KSERVE, META_ONE, {"[[[[[[[[[1]]]]]]]]]"}, ERROR_WRONG_SHAPE, "deeper than 8", 0},
    {"rows that differ",
     KSERVE,
     META_TWO,
     {"{\"a\":[1],\"b\":\"\"}", "{\"a\":[1,2],\"b\":\"\"}"},
     ERROR_WRONG_SHAPE,
     "shape [2], but [1] in the records",
     1},
    {"input missing",
     KSERVE,
     META_TWO,
     {"{\"a\":[1],\"b\":\"\"}", "{\"a\":[1]}"},
     ERROR_MISSING_FIELD,
     "input 'b' is not there",
     1},
    {"which input", KSERVE, META_TWO, {"[1]"}, ERROR_WRONG_TYPE, "expected an object", 0},
    {"text for a number",
     KSERVE,
     META_ONE,
     {"[1,\"2\"]"},
     ERROR_WRONG_TYPE,
     "expected a number (FP32), found a string",
     0},
    {"null", KSERVE, META_ONE, {"[1,null]"}, ERROR_WRONG_TYPE, "found null", 0},
    {"a fraction", KSERVE, META_ALONE, {"[[1.5],[2]]"}, ERROR_WRONG_TYPE, "a whole number", 0},
    {"below zero", KSERVE, META_ALONE, {"[[-1],[2]]"}, ERROR_WRONG_TYPE, "from 0 (UINT8)", 0},
    {"largest and smallest",
     KSERVE,
     META_INTS,
     {"{\"i\":-128,\"u\":18446744073709551615}", "{\"i\":127,\"u\":0}"},
     ERROR_OK,
     "{\"inputs\":[{\"name\":\"i\",\"shape\":[2],\"datatype\":\"INT8\",\"data\":[-128,127]},"
     "{\"name\":\"u\",\"shape\":[2],\"datatype\":\"UINT64\",\"data\":[18446744073709551615,0]}]}",
     0},
    {"above INT8",
     KSERVE,
     META_INTS,
     {"{\"i\":0,\"u\":0}", "{\"i\":128,\"u\":0}"},
     ERROR_OUT_OF_RANGE,
     "input 'i': 128 does not fit INT8",
     1},
    {"below INT8", KSERVE, META_INTS, {"{\"i\":-129,\"u\":0}"}, ERROR_OUT_OF_RANGE, "-129", 0},
    {"above UINT8", KSERVE, META_ALONE, {"[[256],[2]]"}, ERROR_OUT_OF_RANGE, "256", 0},
    {"above UINT64",
     KSERVE,
     META_INTS,
     {"{\"i\":0,\"u\":18446744073709551616}"},
     ERROR_OUT_OF_RANGE,
     "does not fit UINT64",
     0},
    {"above FP32", KSERVE, META_ONE, {"[1,2]", "[1,3.5e38]"}, ERROR_OUT_OF_RANGE, "FP32", 1},
    {"a number for text",
     KSERVE,
     META_TWO,
     {"{\"a\":[1],\"b\":2}"},
     ERROR_WRONG_TYPE,
     "a string",
     0},
    {"a number for truth", KSERVE, META_BOOL, {"1"}, ERROR_WRONG_TYPE, "true or false", 0},
    {"not JSON", KSERVE, META_ONE, {"[1,2]", "[1,"}, ERROR_INVALID_JSON, "not JSON", 1},
};

/* Behind KServe's id, which is as good as any. */
static const char *without_id(const char *body)
{
    const size_t size = strlen("{\"id\":\"0123456789abcdef\",");
    return strncmp(body, "{\"id\":\"", 7) == 0 && strlen(body) > size ? body + size : body;
}

static void test_requests(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(requests); i++) {
        const struct request_case *c = &requests[i];
        struct http_target target = open_target(c->address, c->metadata);
        struct buffer out = {0};
        struct slice rows[3];
        size_t n = 0, blamed;
        char message[512] = "";
        for (; n < 3 && c->rows[n] != NULL; n++) rows[n] = slice_of(c->rows[n]);
        buffer_text(&out, "kept");
        enum error_code code = http_request_body(&target, rows, n, &out, &blamed, message);
        buffer_byte(&out, '\0');
        if (code != c->code) fail_msg("%s: %s: %s", c->row, error_code_name(code), message);
        bool has_id = c->metadata != NULL && code == ERROR_OK;
        expect_text(code == ERROR_OK ? without_id(out.data + 4) : out.data,
                    code == ERROR_OK ? c->expected + has_id : "kept", c->row);
        if (code != ERROR_OK && strstr(message, c->expected) == NULL)
            fail_msg("%s: '%s' is not in: %s", c->row, c->expected, message);
        if (code != ERROR_OK && blamed != c->blamed) fail_msg("%s: blames %zu", c->row, blamed);
        buffer_free(&out);
        http_target_free(&target);
    }
}

static const struct {
    const char *metadata;
    bool is_batched;
    const char *part; /* of the error; NULL: fine */
} metadata[] = {
    {META_ONE, true, NULL},
    {META_TWO, true, NULL},
    {META_ALONE, false, NULL},
    {"{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1]}],"
     "\"outputs\":[{\"name\":\"y\",\"shape\":[3]}]}",
     false, NULL},
    {"{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1]},"
     "{\"name\":\"z\",\"datatype\":\"FP32\",\"shape\":[1]}]}",
     false, NULL},
    {"{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\"}]}", false, NULL},
    {"{\"inputs\":[]}", false, "--protocol json"},
    {"{\"error\":\"unknown model\"}", false, "unknown model"},
    {"[]", false, "no list of inputs"},
    {"<html>", false, "not JSON"},
    {"{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP16\",\"shape\":[-1]}]}", false, "FP16"},
    {"{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,1,1,1,1,1,1,1,1]}]}", false,
     "more than 8"},
    {"{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":\"s\"}]}", false, "shape"},
    {"{\"inputs\":[{\"datatype\":\"FP32\",\"shape\":[]}]}", false, "without name"},
};

static void test_metadata(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(metadata); i++) {
        const char *row = metadata[i].metadata;
        struct http_target target = open_target(KSERVE, NULL);
        tidemill_error *error = http_target_take_metadata(&target, slice_of(row));
        if (metadata[i].part != NULL)
            expect_error(error, ERROR_MODEL_LOAD, metadata[i].part, row);
        else
            expect_fine(error, row);
        if (target.is_batched != metadata[i].is_batched) fail_msg("%s: batched", row);
        http_target_free(&target);
    }
    struct http_target other = open_target(TF, NULL);
    expect_fine(http_target_take_metadata(&other, slice_of("x")), "no metadata");
    http_target_free(&other);
}

/* --- errors --- */

static const struct {
    int status;
    const char *body, *expected;
} errors[] = {
    {400, "{\"error\":{\"message\":\"bad\\nmodel\",\"type\":\"t\"}}",
     "the server answered 400 (bad request): bad model"},
    {404, "{\"error\":\"no such model\"}", "the server answered 404 (not found): no such model"},
    {503, "{\"code\":503,\"type\":\"x\",\"message\":\"full\"}",
     "the server answered 503 (unavailable): full"},
    {422, "{\"detail\":[{\"msg\":\"field required\"}]}",
     "the server answered 422 (the request does not fit): field required"},
    {500, "  oops\x1b[31m\n", "the server answered 500 (internal error): oops [31m"},
    {502, "<html>no</html>", "the server answered 502 (bad gateway)"},
    {418, "{\"a\":1}", "the server answered 418"},
    {302, "", "the server answered 302 (a redirect, which is not followed)"},
    {500,
     "\xff\xc2\x9b"
     "A",
     "the server answered 500 (internal error): ?  A"},
};

static void test_errors(void **state)
{
    (void)state;
    char message[512], body[3000] = "";
    for (size_t i = 0; i < COUNT_OF(errors); i++) {
        http_error_text(errors[i].status, slice_of(errors[i].body), message);
        expect_text(message, errors[i].expected, errors[i].body);
    }
    for (size_t shift = 0; shift < 4; shift++) { /* cut between characters */
        memset(body, 'x', shift);
        for (size_t i = shift; i + 4 < sizeof body; i += 3) memcpy(body + i, "\xe2\x82\xac", 4);
        http_error_text(500, slice_of(body), message);
        assert_true(strlen(message) > 505);
        assert_null(strchr(message, '?'));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),    cmocka_unit_test(test_refused_addresses),
        cmocka_unit_test(test_record_paths), cmocka_unit_test(test_requests),
        cmocka_unit_test(test_metadata),     cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
