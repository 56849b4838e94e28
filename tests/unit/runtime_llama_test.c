/* SPDX-License-Identifier: Apache-2.0 */
/* runtime_llama_test.c - what needs no llama.cpp: records read as requests, stop strings found, JSON
 * schemas made grammars. */
#include "runtime/llama_grammar.h"
#include "runtime/llama_request.h"
#include "runtime/llama_schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct slice slice_of(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static tidemill_error *read_record(const char *body, struct llama_request *ret)
{
    return llama_request_read(slice_of(body), slice_of(""), TASK_AUTO, TASK_COMPLETION, ret);
}

static void fields_are_read(void **state)
{
    (void)state;
    struct llama_request r;
    assert_null(read_record(
        "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":"
        "[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]},"
        "{\"role\":\"assistant\",\"content\":null}],\"max_tokens\":9,\"temperature\":0,"
        "\"top_p\":0.5,\"top_k\":40,\"min_p\":0.25,\"seed\":4294967298,\"stop\":\"x\","
        "\"presence_penalty\":-1.5,\"logprobs\":true,\"top_logprobs\":4,\"logit_bias\":{\"7\":-100}"
        ","
        "\"model\":\"m\",\"unknown\":[1]}",
        &r));
    assert_int_equal(r.task, TASK_CHAT);
    assert_int_equal(r.n_messages, 3);
    assert_string_equal(r.messages[1].content, "ab");
    assert_string_equal(r.messages[2].content, "");
    assert_int_equal(r.tokens_max, 9);
    assert_true(r.temperature == 0 && r.top_p == 0.5F && r.min_p == 0.25F && r.top_k == 40);
    assert_true(r.presence_penalty == -1.5F && r.repeat_penalty == 1);
    assert_true(r.has_seed && r.seed == (2 ^ 1));
    assert_int_equal(r.n_stops, 1);
    assert_int_equal(r.n_top_logprobs, 4);
    assert_int_equal(r.n_biases, 1);
    assert_true(r.biases[0].token == 7 && r.biases[0].bias == -100);
    assert_string_equal(r.model, "m");
    llama_request_free(&r);
    assert_null(read_record("{\"prompt\":\"x\",\"max_tokens\":null}", &r));
    assert_true(r.temperature == 1 && r.top_p == 1 && r.tokens_max == 0 && !r.has_seed);
    assert_int_equal(r.n_top_logprobs, -1);
    llama_request_free(&r);
}

static void tasks_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *body, *url;
        enum llama_task given, task;
        enum llama_task purpose;
    } cases[] = {
        {"{\"messages\":[{\"role\":\"user\"}]}", "", TASK_AUTO, TASK_CHAT, TASK_COMPLETION},
        {"{\"prompt\":\"x\"}", "", TASK_AUTO, TASK_COMPLETION, TASK_COMPLETION},
        {"{\"input\":\"x\"}", "", TASK_AUTO, TASK_EMBEDDING, TASK_COMPLETION},
        {"{\"text\":\"x\"}", "", TASK_AUTO, TASK_COMPLETION, TASK_COMPLETION},
        {"{\"text\":\"x\"}", "", TASK_AUTO, TASK_EMBEDDING, TASK_EMBEDDING},
        {"\"x\"", "", TASK_AUTO, TASK_EMBEDDING, TASK_EMBEDDING},
        {"{\"text\":\"x\"}", "", TASK_EMBEDDING, TASK_EMBEDDING, TASK_COMPLETION},
        {"{\"input\":\"x\"}", "/v1/completions", TASK_AUTO, TASK_COMPLETION, TASK_COMPLETION},
        {"{\"query\":\"x\",\"documents\":[\"y\"]}", "", TASK_AUTO, TASK_RERANK, TASK_COMPLETION},
        {"{\"query\":\"x\",\"documents\":[\"y\"]}", "/rerank", TASK_AUTO, TASK_RERANK,
         TASK_CLASSIFY},
        {"{\"query\":\"x\",\"documents\":[\"y\"],\"input\":\"z\"}", "/v1/reranking", TASK_AUTO,
         TASK_RERANK, TASK_CLASSIFY},
        {"{\"query\":\"x\",\"documents\":[\"y\"],\"input\":\"z\"}", "/classify", TASK_AUTO,
         TASK_CLASSIFY, TASK_RERANK},
        {"{\"input\":[\"x\",\"y\"]}", "", TASK_AUTO, TASK_CLASSIFY, TASK_CLASSIFY},
        {"{\"input\":\"x\"}", "/v1/embeddings", TASK_AUTO, TASK_EMBEDDING, TASK_CLASSIFY},
        {"{\"input\":\"x\"}", "", TASK_AUTO, TASK_EMBEDDING, TASK_RERANK},
        {"\"x\"", "", TASK_AUTO, TASK_CLASSIFY, TASK_CLASSIFY},
        {"{\"input\":\"x\"}", "", TASK_CLASSIFY, TASK_CLASSIFY, TASK_RERANK},
        {"{\"prompt\":\"x\",\"messages\":[{\"role\":\"user\"}]}", "/v1/chat/completions", TASK_AUTO,
         TASK_CHAT, TASK_COMPLETION},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct llama_request r;
        tidemill_error *error = llama_request_read(slice_of(cases[i].body), slice_of(cases[i].url),
                                                   cases[i].given, cases[i].purpose, &r);
        if (error != NULL) fail_msg("%s: %s", cases[i].body, error_message(error));
        if (r.task != cases[i].task) fail_msg("%s: task %d", cases[i].body, (int)r.task);
        llama_request_free(&r);
    }
}

static void assert_text(struct slice slice, const char *text)
{
    assert_int_equal(slice.size, strlen(text));
    assert_memory_equal(slice.data, text, slice.size);
}

static void rerank_fields_are_read(void **state)
{
    (void)state;
    struct llama_request r;
    assert_null(read_record("{\"query\":\"q\",\"documents\":[\"a\",{\"text\":\"bc\",\"n\":1},\"\"],"
                            "\"top_n\":2,\"return_documents\":true,\"model\":\"m\"}",
                            &r));
    assert_int_equal(r.task, TASK_RERANK);
    assert_int_equal(r.n_texts, 3);
    assert_text(r.query, "q");
    assert_text(r.texts[1], "bc");
    assert_text(r.texts[2], "");
    assert_int_equal(r.top_n, 2);
    assert_true(r.returns_documents);
    assert_string_equal(r.model, "m");
    llama_request_free(&r);
    assert_null(read_record("{\"query\":\"q\",\"documents\":[\"a\"],\"top_n\":null}", &r));
    assert_int_equal(r.top_n, 0);
    assert_false(r.returns_documents);
    llama_request_free(&r);
}

static void wrong_fields_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *body, *part;
    } cases[] = {
        {"[1]", "neither"},
        {"{", "JSON"},
        {"{}", "prompt"},
        {"{\"prompt\":3}", "prompt"},
        {"{\"prompt\":[\"a\",\"b\"]}", "prompt"},
        {"{\"prompt\":\"x\",\"max_tokens\":0}", "max_tokens"},
        {"{\"prompt\":\"x\",\"max_tokens\":1.5}", "max_tokens"},
        {"{\"prompt\":\"x\",\"max_tokens\":1e300}", "max_tokens"},
        {"{\"prompt\":\"x\",\"temperature\":-0.1}", "temperature"},
        {"{\"prompt\":\"x\",\"top_p\":\"1\"}", "top_p"},
        {"{\"prompt\":\"x\",\"seed\":1.5}", "seed"},
        {"{\"prompt\":\"x\",\"stop\":\"\"}", "stop"},
        {"{\"prompt\":\"x\",\"stop\":[1]}", "stop"},
        {"{\"prompt\":\"x\",\"logit_bias\":{\"a\":1}}", "logit_bias"},
        {"{\"prompt\":\"x\",\"logit_bias\":{\"99999999999\":1}}", "logit_bias"},
        {"{\"prompt\":\"x\",\"logit_bias\":{\"1\":101}}", "logit_bias"},
        {"{\"prompt\":\"x\",\"logprobs\":21}", "logprobs"},
        {"{\"prompt\":\"x\",\"n\":2}", "'n'"},
        {"{\"prompt\":\"x\",\"echo\":true}", "echo"},
        {"{\"prompt\":\"x\",\"grammar\":3}", "grammar"},
        {"{\"prompt\":\"x\",\"response_format\":{\"type\":\"xml\"}}", "response_format"},
        {"{\"prompt\":\"x\",\"response_format\":{\"type\":\"json_schema\"}}", "schema"},
        {"{\"messages\":[{\"role\":\"a\\u0000b\"}]}", "NUL"},
        {"{\"query\":1,\"documents\":[\"a\"]}", "query"},
        {"{\"query\":\"q\",\"documents\":[]}", "documents"},
        {"{\"query\":\"q\",\"documents\":\"a\"}", "documents"},
        {"{\"query\":\"q\",\"documents\":[1]}", "documents"},
        {"{\"query\":\"q\",\"documents\":[{\"title\":\"a\"}]}", "documents"},
        {"{\"query\":\"q\",\"documents\":[\"a\"],\"top_n\":0}", "top_n"},
        {"{\"query\":\"q\",\"documents\":[\"a\"],\"top_n\":1.5}", "top_n"},
        {"{\"query\":\"q\",\"documents\":[\"a\"],\"return_documents\":1}", "return_documents"},
        {"{\"query\":\"q\",\"documents\":[\"a\"],\"truncate_prompt_tokens\":9}", "truncate"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct llama_request r;
        tidemill_error *error = read_record(cases[i].body, &r);
        if (error == NULL) fail_msg("%s was taken", cases[i].body);
        if (error_code_of(error) != ERROR_MODEL_ERROR ||
            strstr(error_message(error), cases[i].part) == NULL)
            fail_msg("%s: %s", cases[i].body, error_message(error));
        error_free(error);
        llama_request_free(&r);
    }
}

/* Whatever the pieces in which a text comes, a stop string is found in the piece that ends it. */
static void stops_are_found_across_pieces(void **state)
{
    (void)state;
    struct llama_request r;
    const char *text = "aab aabc\nUser: aabd";
    assert_null(read_record("{\"prompt\":\"x\",\"stop\":[\"\\nUser:\",\"aabd\",\"zz\"]}", &r));
    for (size_t step = 1; step <= 19; step++) {
        size_t found = SIZE_MAX, seen = 0, size = 0;
        for (; found == SIZE_MAX && size < strlen(text); seen = size) {
            size = MIN(size + step, strlen(text));
            found = llama_find_stop(&r, text, size, seen);
        }
        assert_int_equal(found, 8);
        assert_true(size >= 14 && size < 14 + step);
    }
    assert_true(llama_find_stop(&r, "zy", 2, 0) == SIZE_MAX);
    assert_true(llama_find_stop(&r, "", 0, 0) == SIZE_MAX);
    llama_request_free(&r);
}

static tidemill_error *convert(const char *schema, struct buffer *grammar)
{
    yyjson_doc *doc = yyjson_read(schema, strlen(schema), 0);
    assert_non_null(doc);
    tidemill_error *error = llama_schema_to_grammar(yyjson_doc_get_root(doc), grammar);
    yyjson_doc_free(doc);
    return error;
}

static void schemas_become_grammars(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *rules;
    } cases[] = {
        {"{\"type\":\"integer\"}", "s0 ::= integer\n"},
        {"{\"type\":[\"boolean\",\"null\"]}", "s0 ::= boolean | null\n"},
        {"{\"type\":\"string\",\"minLength\":1,\"maxLength\":3}",
         "s0 ::= \"\\\"\" char{1,3} \"\\\"\"\n"},
        {"{\"enum\":[\"a\\\"b\",1]}", "s0 ::= \"\\\"a\\\\\\\"b\\\"\" | \"1\"\n"},
        {"{\"type\":\"array\",\"items\":{\"const\":null},\"minItems\":1,\"maxItems\":2}",
         "s0 ::= \"[\" ws (s1 (ws \",\" ws s1){0,1}) ws \"]\"\ns1 ::= \"null\"\n"},
        {"{\"type\":\"array\",\"maxItems\":0}", "s0 ::= \"[\" ws \"]\"\n"},
        {"{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":true},\"required\":[\"b\"]}",
         "s0 ::= \"{\" ws s0f0 ws \"}\"\n"
         "s0p0 ::= \"\\\"a\\\"\" ws \":\" ws s1\n"
         "s0f0 ::= s0p0 s0a1 | s0f1\n"
         "s0a0 ::= ws \",\" ws s0p0 s0a1 | s0a1\n"
         "s0p1 ::= \"\\\"b\\\"\" ws \":\" ws s2\n"
         "s0f1 ::= s0p1 s0a2\n"
         "s0a1 ::= ws \",\" ws s0p1 s0a2\n"
         "s0f2 ::= \"\"\ns0a2 ::= \"\"\n"
         "s1 ::= value\ns2 ::= value\n"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buffer grammar = {0};
        char start[2048];
        tidemill_error *error = convert(cases[i].schema, &grammar);
        if (error != NULL) fail_msg("%s: %s", cases[i].schema, error_message(error));
        buffer_byte(&grammar, '\0');
        snprintf(start, sizeof start, "root ::= s0\n%sws ::=", cases[i].rules);
        if (strncmp(grammar.data, start, strlen(start)) != 0)
            fail_msg("%s: %s", cases[i].schema, grammar.data);
        buffer_free(&grammar);
    }
}

static void schemas_that_cannot_be_kept_are_refused(void **state)
{
    (void)state;
    static const char *const schemas[] = {
        "{\"type\":\"string\",\"pattern\":\"a\"}",
        "{\"type\":\"number\",\"minimum\":1}",
        "{\"$ref\":\"#/x\"}",
        "{\"allOf\":[{}]}",
        "{\"type\":\"text\"}",
        "{\"enum\":[]}",
        "{\"type\":\"object\",\"required\":[\"a\"]}",
        "{\"type\":\"string\",\"minLength\":4,\"maxLength\":3}",
        "{\"type\":\"array\",\"maxItems\":-1}",
        "{\"type\":\"array\",\"items\":[1]}",
        "{\"type\":\"array\",\"maxItems\":1000000}",
        "false",
        "3",
    };
    for (size_t i = 0; i < COUNT_OF(schemas); i++) {
        struct buffer grammar = {0};
        tidemill_error *error = convert(schemas[i], &grammar);
        if (error == NULL) fail_msg("%s was taken", schemas[i]);
        assert_int_equal(error_code_of(error), ERROR_MODEL_ERROR);
        error_free(error);
        buffer_free(&grammar);
    }
}

/* Nested as deep as a record can be: no call within a call. */
static void deep_schemas_are_bounded(void **state)
{
    (void)state;
    struct buffer text = {0}, grammar = {0};
    for (int i = 0; i < 5000; i++) buffer_text(&text, "{\"type\":\"array\",\"items\":");
    buffer_text(&text, "true");
    for (int i = 0; i < 5000; i++) buffer_byte(&text, '}');
    buffer_byte(&text, '\0');
    tidemill_error *error = convert(text.data, &grammar);
    assert_non_null(error);
    assert_non_null(strstr(error_message(error), "parts"));
    error_free(error);
    buffer_free(&grammar);
    buffer_free(&text);
}

/* What llama.cpp would write out is counted, and nothing that only looks like it. */
static void grammars_have_a_budget(void **state)
{
    (void)state;
    static const struct {
        const char *grammar, *part; /* NULL: it is taken */
    } cases[] = {
        {"root ::= \"x\"{2000}", NULL},
        {"root ::= [a-z]{0,2000} \"y\"*", NULL},
        {"root ::= \"x\"{2001}", "2001 times; 2000"},
        {"root ::= \"x\"{0,100000}", "100000 times"},
        {"root ::= \"x\"{100000,}", "100000 times"},
        {"root ::= \"x\" { 3 , # so many\n 100000 }", "100000 times"},
        {"root ::= \"x\"{99999999999999999999999}", "more than 4294967295 times"},
        {"root ::= (\"x\"{200}){200}", NULL},
        {"root ::= (\"x\"{250}){250}", "copies"},
        {"root ::= ((\"x\"{40}){40} | \"y\"){40}", "copies"},
        {"root ::= \"x\"{40}{40}{40}", "copies"},
        {"root ::= (\"x\"{2000})* (\"y\"{2000}){2}", NULL},
        {"root ::= (\"x\"{2000})*{40}", "copies"},
        {"root ::= \"abcdefghijklmnopqrstuvwxyz\"{2000}", NULL},
        {"root ::= [a-zA-Z0-9_.,:;?!]{2000} \" \" [a-zA-Z0-9_.,:;?!]{0,2000}", NULL},
        {"root ::= .{2000} <tokens>{2000} a{2000}\na ::= b{2000}\nb ::= c{2000}", NULL},
        {"root ::= \"x{9999}\" [{9999}] # {9999}\n\"\\\"{9999}\"", NULL},
        {"root ::= <\">{9999} \"\"", "9999 times"},
        {"root ::= \"((((\" [(\\](] # ((((", NULL},
        {"# to the line's end\rroot ::= \"x\"{9999}", "9999 times"},
        {"", NULL},
        {"root ::= \"", NULL},
        {"root ::= \"\\", NULL},
        {"}{){(}[", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        tidemill_error *error = llama_grammar_check(cases[i].grammar);
        if ((error == NULL) != (cases[i].part == NULL) ||
            (error != NULL && (error_code_of(error) != ERROR_MODEL_ERROR ||
                               strstr(error_message(error), cases[i].part) == NULL)))
            fail_msg("%s: %s", cases[i].grammar, error == NULL ? "taken" : error_message(error));
        error_free(error);
    }
}

/* Many small repetitions are one large one. */
static void repetitions_add_up(void **state)
{
    (void)state;
    for (int n = 24; n <= 26; n++) {
        struct buffer text = {0};
        buffer_text(&text, "root ::=");
        for (int i = 0; i < n; i++) buffer_text(&text, " [a]{0,2000}");
        buffer_byte(&text, '\0');
        tidemill_error *error = llama_grammar_check(text.data);
        assert_int_equal(error == NULL, n * 2000 <= LLAMA_GRAMMAR_COPIES_MAX);
        error_free(error);
        buffer_free(&text);
    }
}

/* A long text is as much as many rules. */
static void long_texts_count(void **state)
{
    (void)state;
    static const char *const quotes[] = {"\"\"", "[]"};
    for (int n = 300; n <= 500; n += 200) {
        for (size_t i = 0; i < COUNT_OF(quotes); i++) {
            char text[1024];
            int at = snprintf(text, sizeof text, "root ::= %c", quotes[i][0]);
            memset(text + at, 'a', (size_t)n);
            snprintf(text + at + n, sizeof text - (size_t)(at + n), "%c{2000}", quotes[i][1]);
            tidemill_error *error = llama_grammar_check(text);
            assert_int_equal(error == NULL, n == 300);
            error_free(error);
        }
    }
}

static void parentheses_have_a_limit(void **state)
{
    (void)state;
    char text[256] = "";
    for (int n = 64; n <= 65; n++) {
        memset(text, '(', (size_t)n);
        tidemill_error *error = llama_grammar_check(text);
        assert_int_equal(error == NULL, n == 64);
        error_free(error);
    }
}

/* Every part of a schema is within its limit, all of them together are not. */
static void schemas_have_a_budget(void **state)
{
    (void)state;
    for (int n = 40; n <= 60; n += 20) {
        struct buffer text = {0};
        struct llama_request r;
        buffer_text(&text,
                    "{\"prompt\":\"x\",\"response_format\":{\"type\":\"json_schema\",\"schema\":{"
                    "\"type\":\"object\",\"properties\":{\"a\":{}");
        for (int i = 0; i < n; i++)
            buffer_printf(&text, ",\"p%d\":{\"type\":\"%s\",\"max%s\":1000}", i,
                          i % 2 ? "string" : "array", i % 2 ? "Length" : "Items");
        buffer_text(&text, "}}}}");
        buffer_byte(&text, '\0');
        tidemill_error *error = read_record(text.data, &r);
        assert_int_equal(error == NULL, n == 40);
        if (error != NULL) assert_non_null(strstr(error_message(error), "response_format"));
        if (error != NULL) assert_non_null(strstr(error_message(error), "copies"));
        error_free(error);
        llama_request_free(&r);
        buffer_free(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_read),
        cmocka_unit_test(tasks_are_told_apart),
        cmocka_unit_test(rerank_fields_are_read),
        cmocka_unit_test(wrong_fields_are_named),
        cmocka_unit_test(stops_are_found_across_pieces),
        cmocka_unit_test(schemas_become_grammars),
        cmocka_unit_test(schemas_that_cannot_be_kept_are_refused),
        cmocka_unit_test(deep_schemas_are_bounded),
        cmocka_unit_test(grammars_have_a_budget),
        cmocka_unit_test(repetitions_add_up),
        cmocka_unit_test(long_texts_count),
        cmocka_unit_test(parentheses_have_a_limit),
        cmocka_unit_test(schemas_have_a_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
