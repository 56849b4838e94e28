/* SPDX-License-Identifier: Apache-2.0 */
/* runtime_answers_test.c - how servers answer, at once and in a stream, one row a case. */
#include "targets.h"

#define OUTPUT(shape, data)                                                                        \
    "{\"outputs\":[{\"name\":\"y\",\"datatype\":\"FP32\",\"shape\":" shape ",\"data\":" data "}]}"

static const struct answer_case {
    const char *row, *address, *metadata;
    size_t n;
    const char *body;
    const char *texts[3]; /* none: an error */
    const char *part;     /* of the message */
    struct token_usage usage;
} answers[] = {
    {"compact, as it is",
     OPENAI,
     NULL,
     1,
     "{ \"b\": 1.50,\n\"a\":[1e400, -0],\"u\":\"\\u00e9\\n\",\"b\":2 }\n",
     {"{\"b\":1.50,\"a\":[1e400,-0],\"u\":\"\xc3\xa9\\n\",\"b\":2}"},
     NULL,
     {0}},
    {"usage",
     OPENAI,
     NULL,
     1,
     "{\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":3,\"prompt_tokens_details\":"
     "{\"cached_tokens\":8}},\"error\":null}",
     {"{\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":3,\"prompt_tokens_details\":"
      "{\"cached_tokens\":8}},\"error\":null}"},
     NULL,
     {12, 8, 3}},
    {"usage of responses",
     OPENAI,
     NULL,
     1,
     "{\"usage\":{\"input_tokens\":5,\"output_tokens\":6,\"input_tokens_details\":{\"cached_"
     "tokens\":4}}}",
     {"{\"usage\":{\"input_tokens\":5,\"output_tokens\":6,\"input_tokens_details\":{\"cached_"
      "tokens\":4}}}"},
     NULL,
     {5, 4, 6}},
    {"usage of messages",
     OPENAI,
     NULL,
     1,
     "{\"usage\":{\"input_tokens\":5,\"output_tokens\":6,\"cache_read_input_tokens\":100,"
     "\"cache_creation_input_tokens\":1000}}",
     {"{\"usage\":{\"input_tokens\":5,\"output_tokens\":6,\"cache_read_input_tokens\":100,"
      "\"cache_creation_input_tokens\":1000}}"},
     NULL,
     {1105, 100, 6}},
    {"absurd usage",
     OPENAI,
     NULL,
     1,
     "{\"usage\":{\"prompt_tokens\":-1,\"completion_tokens\":99999999999999999999}}",
     {"{\"usage\":{\"prompt_tokens\":-1,\"completion_tokens\":99999999999999999999}}"},
     NULL,
     {0}},
    {"error in a 200",
     OPENAI,
     NULL,
     1,
     "{\"error\":{\"message\":\"no\\u0007 room\"}}",
     {NULL},
     "an error: no  room",
     {0}},
    {"a list", OPENAI, NULL, 1, "[]", {NULL}, "a list, not an object", {0}},
    {"cut short", OPENAI, NULL, 1, "{\"a\":1", {NULL}, "the answer is not JSON", {0}},
    {"NaN", OPENAI, NULL, 1, "{\"a\":NaN}", {NULL}, "not JSON", {0}},
    {"not UTF-8", OPENAI, NULL, 1, "{\"a\":\"\xff\"}", {NULL}, "not UTF-8", {0}},
    {"empty", OPENAI, NULL, 1, "", {NULL}, "empty", {0}},
    {"two values", OPENAI, NULL, 1, "{}{}", {NULL}, "not JSON", {0}},
    {"any value", "http://h/score", NULL, 1, " 1.0 ", {"1.0"}, NULL, {0}},
    {"no JSON", "http://h/score", NULL, 1, "fine", {NULL}, "not JSON", {0}},
    {"predictions",
     TF,
     NULL,
     3,
     "{\"predictions\":[[1.0, 2],{\"a\" : 1},\"x\"]}",
     {"[1.0,2]", "{\"a\":1}", "\"x\""},
     NULL,
     {0}},
    {"too few",
     TF,
     NULL,
     3,
     "{\"predictions\":[1,2]}",
     {NULL},
     "expected 3 predictions, found 2",
     {0}},
    {"too many",
     TF,
     NULL,
     1,
     "{\"predictions\":[1,2]}",
     {NULL},
     "expected 1 prediction, found 2",
     {0}},
    {"tf's error", TF, NULL, 1, "{\"error\":\"bad\"}", {NULL}, "no list of predictions: bad", {0}},
    {"tf's NaN", TF, NULL, 2, "{\"predictions\":[1,NaN]}", {NULL}, "not JSON", {0}},
    {"torch", TORCH, NULL, 1, "[ 1 ]", {"[1]"}, NULL, {0}},
    {"torch's text", TORCH, NULL, 1, "tabby \"cat\"\n", {"\"tabby \\\"cat\\\"\\n\""}, NULL, {0}},
    {"torch, cut short", TORCH, NULL, 1, " {\"a\":", {NULL}, "not JSON", {0}},
    {"torch's image", TORCH, NULL, 1, "\x89PNG", {NULL}, "not UTF-8", {0}},
    {"torch, nothing", TORCH, NULL, 1, "", {NULL}, "empty", {0}},
    {"flat",
     KSERVE,
     META_ONE,
     2,
     OUTPUT("[2,2]", "[1,2.0,3,null]"),
     {"{\"y\":[1,2.0]}", "{\"y\":[3,null]}"},
     NULL,
     {0}},
    {"nested",
     KSERVE,
     META_ONE,
     2,
     OUTPUT("[2,2,1]", "[[[1],[2]],[[3],[4]]]"),
     {"{\"y\":[[1],[2]]}", "{\"y\":[[3],[4]]}"},
     NULL,
     {0}},
    {"one scalar a row",
     KSERVE,
     META_ONE,
     3,
     OUTPUT("[3]", "[true,\"a\",-0.0]"),
     {"{\"y\":true}", "{\"y\":\"a\"}", "{\"y\":-0.0}"},
     NULL,
     {0}},
    {"nothing a row",
     KSERVE,
     META_ONE,
     2,
     OUTPUT("[2,0]", "[]"),
     {"{\"y\":[]}", "{\"y\":[]}"},
     NULL,
     {0}},
    {"nothing, much of it",
     KSERVE,
     META_ONE,
     1,
     OUTPUT("[1,900000000,0]", "[]"),
     {"{\"y\":[]}"},
     NULL,
     {0}},
    {"no batch",
     KSERVE,
     META_ALONE,
     1,
     OUTPUT("[2,2]", "[1,2,3,4]"),
     {"{\"y\":[[1,2],[3,4]]}"},
     NULL,
     {0}},
    {"no dimension", KSERVE, META_ALONE, 1, OUTPUT("[]", "[7]"), {"{\"y\":7}"}, NULL, {0}},
    {"two outputs",
     KSERVE,
     META_ONE,
     2,
     "{\"outputs\":[{\"name\":\"p\",\"shape\":[2],\"data\":[1,2]},"
     "{\"name\":\"q\\n\",\"shape\":[2,1],\"data\":[3,4]}],\"id\":\"x\"}",
     {"{\"p\":1,\"q\\n\":[3]}", "{\"p\":2,\"q\\n\":[4]}"},
     NULL,
     {0}},
    {"rows missing",
     KSERVE,
     META_ONE,
     3,
     OUTPUT("[2,1]", "[1,2]"),
     {NULL},
     "expected 3 rows in output 'y', found 2",
     {0}},
    {"data missing",
     KSERVE,
     META_ONE,
     2,
     OUTPUT("[2,2]", "[1,2,3]"),
     {NULL},
     "not of its shape",
     {0}},
    {"other nesting",
     KSERVE,
     META_ONE,
     2,
     OUTPUT("[2,2]", "[[1,2,3,4]]"),
     {NULL},
     "not of its shape",
     {0}},
    {"ragged answer",
     KSERVE,
     META_ONE,
     2,
     OUTPUT("[2,2]", "[[1,2,3],[4]]"),
     {NULL},
     "not of its shape",
     {0}},
    {"objects", KSERVE, META_ONE, 1, OUTPUT("[1]", "[{}]"), {NULL}, "not of its shape", {0}},
    {"below zero", KSERVE, META_ONE, 1, OUTPUT("[1,-1]", "[1]"), {NULL}, "not of its shape", {0}},
    {"overflow",
     KSERVE,
     META_ONE,
     1,
     OUTPUT("[1,999999999999999,999999999999999]", "[1]"),
     {NULL},
     "not of its shape",
     {0}},
    {"overflow of nothing",
     KSERVE,
     META_ONE,
     1,
     OUTPUT("[1,0,999999999999999,999999999999999]", "[]"),
     {"{\"y\":[]}"},
     NULL,
     {0}},
    {"same name",
     KSERVE,
     META_ONE,
     1,
     "{\"outputs\":[{\"name\":\"p\",\"shape\":[1],\"data\":[1]},{\"name\":\"p\",\"shape\":[1],"
     "\"data\":[1]}]}",
     {NULL},
     "is there twice",
     {0}},
    {"binary",
     KSERVE,
     META_ONE,
     1,
     "{\"outputs\":[{\"name\":\"p\",\"shape\":[1]}]}",
     {NULL},
     "has no data",
     {0}},
    {"no outputs",
     KSERVE,
     META_ONE,
     1,
     "{\"error\":\"oh\"}",
     {NULL},
     "no outputs, or more than 64: oh",
     {0}},
};

static void check_answer(const struct answer_case *c, bool is_stream)
{
    struct http_target target = open_target(c->address, c->metadata);
    struct buffer text = {0};
    size_t ends[3], start = 0;
    struct http_answer answer = {.text = &text, .ends = ends};
    buffer_text(&text, "kept");
    char *copy = strdup(c->body); /* of its size: a sanitizer sees reads behind it */
    enum error_code code =
        http_answer_read(&target, (struct slice){copy, strlen(copy)}, is_stream, c->n, &answer);
    if ((code == ERROR_OK) != (c->texts[0] != NULL))
        fail_msg("%s: %s: %s", c->row, error_code_name(code), answer.message);
    if (code != ERROR_OK) {
        assert_int_equal(code, ERROR_UPSTREAM);
        assert_int_equal(text.size, 4);
        if (strstr(answer.message, c->part) == NULL)
            fail_msg("%s: '%s' is not in: %s", c->row, c->part, answer.message);
    }
    for (size_t i = 0; code == ERROR_OK && i < c->n; start = ends[i++]) {
        char *found = strndup(text.data + 4 + start, ends[i] - start);
        expect_text(found, c->texts[i], c->row);
        free(found);
    }
    if (code == ERROR_OK && start + 4 != text.size) fail_msg("%s: more text", c->row);
    if (memcmp(&answer.usage, &c->usage, sizeof c->usage) != 0)
        fail_msg("%s: usage %llu %llu %llu", c->row, (unsigned long long)answer.usage.in,
                 (unsigned long long)answer.usage.cached, (unsigned long long)answer.usage.out);
    free(copy);
    buffer_free(&text);
    http_target_free(&target);
}

static void test_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(answers); i++) check_answer(&answers[i], false);
}

static void test_depth(void **state)
{
    (void)state;
    for (size_t depth = 127; depth <= 129; depth++) {
        char body[300] = "{\"a\":";
        memset(body + 5, '[', depth - 1);
        memset(body + 4 + depth, ']', depth - 1);
        body[3 + 2 * depth] = '}';
        check_answer(
            &(struct answer_case){
                "depth", OPENAI, NULL, 1, body, {depth > 128 ? NULL : body}, "nested deeper", {0}},
            false);
    }
}

/* --- streams --- */

#define CHUNK(choices)                                                                             \
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":" choices "}\n\n"
#define DONE "data: [DONE]\n\n"
#define CHAT(choices) "{\"id\":\"c\",\"object\":\"chat.completion\",\"choices\":" choices "}"

static const struct answer_case streams[] = {
    {"a chat",
     OPENAI,
     NULL,
     1,
     CHUNK("[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":"
           "null}]")
         CHUNK("[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Hel\\u00e9\"}}]")
             CHUNK("[{\"index\":0,\"delta\":{\"content\":\"lo\\n\"},\"finish_reason\":\"stop\"}]")
                 DONE,
     {CHAT("[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Hel\xc3\xa9lo\\n\"},"
           "\"finish_reason\":\"stop\"}]")},
     NULL,
     {0}},
    {"usage at the end",
     OPENAI,
     NULL,
     1,
     "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}],\"usage\":null}\n\n"
     "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n" DONE,
     {"{\"choices\":[{\"index\":0,\"message\":{\"content\":\"a\"}}],"
      "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}"},
     NULL,
     {3, 0, 2}},
    {"choices by index",
     OPENAI,
     NULL,
     1,
     CHUNK("[{\"index\":1,\"delta\":{\"content\":\"b\"}}]")
         CHUNK("[{\"index\":0,\"delta\":{\"content\":\"a\"}}]")
             CHUNK("[{\"index\":1,\"delta\":{\"content\":\"B\"}}]") DONE,
     {CHAT("[{\"index\":0,\"message\":{\"content\":\"a\"}},{\"index\":1,\"message\":{\"content\":"
           "\"bB\"}}]")},
     NULL,
     {0}},
    {"tools",
     OPENAI,
     NULL,
     1,
     CHUNK("[{\"index\":0,\"delta\":{\"content\":null,\"tool_calls\":[{\"index\":0,\"id\":\"t\","
           "\"type\":\"function\","
           "\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}}]")
         CHUNK("[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":"
               "\"{\\\"a\\\"\"}}]}}]") CHUNK("[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":"
                                             "0,\"function\":{\"arguments\":\":1}\"}}]}}]") DONE,
     {CHAT("[{\"index\":0,\"message\":{\"content\":null,\"tool_calls\":[{\"id\":\"t\",\"type\":"
           "\"function\","
           "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}}]}}]")},
     NULL,
     {0}},
    {"logprobs",
     OPENAI,
     NULL,
     1,
     CHUNK("[{\"index\":0,\"delta\":{},\"logprobs\":{\"content\":[{\"token\":\"a\",\"logprob\":-0."
           "10}]}}]") CHUNK("[{\"index\":0,\"delta\":{},\"logprobs\":{\"content\":[{\"token\":"
                            "\"b\",\"logprob\":-2e-3}]}}]") DONE,
     {CHAT("[{\"index\":0,\"message\":{},\"logprobs\":{\"content\":[{\"token\":\"a\",\"logprob\":-"
           "0.10},"
           "{\"token\":\"b\",\"logprob\":-2e-3}]}}]")},
     NULL,
     {0}},
    {"completions, CR LF, comments",
     OPENAI,
     NULL,
     1,
     ": hi\r\n\r\nevent: x\r\ndata:{\"object\":\"text_completion\",\r\ndata: "
     "\"choices\":[{\"index\":0,\"text\":\"a\"}]}\r\n\r\n"
     "data: "
     "{\"object\":\"text_completion\",\"choices\":[{\"index\":0,\"text\":\"b\"}]}\r\n\r\ndata: "
     "[DONE]",
     {"{\"object\":\"text_completion\",\"choices\":[{\"index\":0,\"text\":\"ab\"}]}"},
     NULL,
     {0}},
    {"responses",
     OPENAI,
     NULL,
     1,
     "event: response.created\ndata: "
     "{\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\n"
     "event: response.completed\ndata: "
     "{\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"error\":null,"
     "\"usage\":{\"input_tokens\":7,\"output_tokens\":8}}}\n\n",
     {"{\"id\":\"r\",\"error\":null,\"usage\":{\"input_tokens\":7,\"output_tokens\":8}}"},
     NULL,
     {7, 0, 8}},
    {"what follows the end",
     OPENAI,
     NULL,
     1,
     "data: {\"a\":1}\n\n" DONE "data: {\"a\":2}\n\n",
     {"{\"a\":1}"},
     NULL,
     {0}},
    {"cut short",
     OPENAI,
     NULL,
     1,
     CHUNK("[{\"index\":0,\"delta\":{\"content\":\"a\"}}]"),
     {NULL},
     "cut short",
     {0}},
    {"cut in a line",
     OPENAI,
     NULL,
     1,
     "data: {\"a\":1}\n\ndata: {\"choi",
     {NULL},
     "cut short",
     {0}},
    {"cut in the end", OPENAI, NULL, 1, "data: {\"a\":1}\n\ndata: [DON", {NULL}, "cut short", {0}},
    {"cut between", OPENAI, NULL, 1, "data: {\"a\":1}\n", {NULL}, "cut short", {0}},
    {"nothing", OPENAI, NULL, 1, "", {NULL}, "cut short", {0}},
    {"only the end", OPENAI, NULL, 1, DONE, {NULL}, "no answer", {0}},
    {"an error",
     OPENAI,
     NULL,
     1,
     "data: {\"error\":{\"message\":\"gone\"}}\n\n" DONE,
     {NULL},
     "error: gone",
     {0}},
    {"not JSON", OPENAI, NULL, 1, "data: {\"a\":NaN}\n\n" DONE, {NULL}, "not JSON", {0}},
    {"not UTF-8",
     OPENAI,
     NULL,
     1,
     "data: {\"a\":\"\xed\xa0\x80\"}\n\n" DONE,
     {NULL},
     "not UTF-8",
     {0}},
    {"not an object", OPENAI, NULL, 1, "data: 1\n\n" DONE, {NULL}, "not an object", {0}},
    {"a change of type",
     OPENAI,
     NULL,
     1,
     "data: {\"a\":1}\n\ndata: {\"a\":\"1\"}\n\n" DONE,
     {NULL},
     "contradicts",
     {0}},
    {"a huge index",
     OPENAI,
     NULL,
     1,
     CHUNK("[{\"index\":99999,\"delta\":{}}]") DONE,
     {NULL},
     "contradicts",
     {0}},
    {"another kind",
     OPENAI,
     NULL,
     1,
     "data: {\"type\":\"message_start\"}\n\n",
     {NULL},
     "cannot be put together",
     {0}},
    {"no streams", TF, NULL, 1, DONE, {NULL}, "stream of events", {0}},
};

static void test_streams(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(streams); i++) check_answer(&streams[i], true);
}

/* Every cut of a stream is seen, wherever it falls before the end's own line. */
static void test_cut_streams(void **state)
{
    (void)state;
    const char *whole = streams[0].body;
    size_t size = strlen(whole) - strlen("]\n\n");
    struct http_target target = open_target(OPENAI, NULL);
    for (size_t cut = 0; cut < size; cut++) {
        struct buffer text = {0};
        size_t end;
        struct http_answer answer = {.text = &text, .ends = &end};
        enum error_code code =
            http_answer_read(&target, (struct slice){whole, cut}, true, 1, &answer);
        if (code != ERROR_UPSTREAM) fail_msg("cut at %zu: taken", cut);
        buffer_free(&text);
    }
    http_target_free(&target);
}

/* Many fields with long names, and then the last of them for ever: the search for it must end. */
static void test_a_stream_that_is_out_to_harm(void **state)
{
    (void)state;
    char name[1024];
    struct buffer body = {0}, text = {0};
    size_t end;
    struct http_answer answer = {.text = &text, .ends = &end};
    struct http_target target = open_target(OPENAI, NULL);
    memset(name, 'x', sizeof name);
    for (int i = 0; i < 4000; i++)
        buffer_printf(&body, "data: {\"%d%.*s\":1}\n\n", MIN(i, 2000) + 1000, 1020, name);
    buffer_text(&body, "data: [DONE]\n\n");
    assert_false(body.is_failed);
    struct slice stream = {body.data, body.size};
    assert_int_equal(http_answer_read(&target, stream, true, 1, &answer), ERROR_UPSTREAM);
    assert_non_null(strstr(answer.message, "too many fields"));
    buffer_free(&body);
    buffer_free(&text);
    http_target_free(&target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_cut_streams),
        cmocka_unit_test(test_a_stream_that_is_out_to_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
