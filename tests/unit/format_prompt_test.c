/* SPDX-License-Identifier: Apache-2.0 */
/* format_prompt_test.c - what is seen in requests: their beginnings, and whether answers are drawn. */
#include "expect.h"

#include "format/prompt.h"

/* '|' stands for the separator in expected texts. */
static void expect_prompt(const char *json, bool is_generating, const char *text,
                          uint32_t tokens_max, bool is_sampled, const char *row)
{
    struct arena arena = {0};
    struct prompt found;
    size_t size = strlen(json);
    char *copy = malloc(size + 1); /* exact, so that a sanitizer sees a byte too far */
    assert_non_null(copy);
    memcpy(copy, json, size);
    assert_true(prompt_read((struct slice){copy, size}, is_generating, &arena, &found));
    free(copy);
    char seen[512];
    assert_true(found.text.size < sizeof seen);
    for (size_t i = 0; i < found.text.size; i++) seen[i] = found.text.data[i];
    for (size_t i = 0; i < found.text.size; i++)
        if (seen[i] == '\0') seen[i] = '|';
    seen[found.text.size] = '\0';
    expect_text(seen, text, row);
    if (found.tokens_max != tokens_max) fail_msg("%s: %u tokens", row, found.tokens_max);
    if (found.is_sampled != is_sampled) fail_msg("%s: is_sampled %d", row, found.is_sampled);
    arena_free(&arena);
}

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static void texts_are_found_where_engines_read_them(void **unused)
{
    (void)unused;
    static const struct {
        const char *name, *json, *text;
        uint32_t tokens_max;
    } rows[] = {
        {"a message", "{" HI "}", "|user|hi|", 0},
        {"keys in another order", "{\"messages\":[{\"content\":\"hi\",\"role\":\"user\"}]}",
         "|user|hi|", 0},
        {"model before all", "{" HI ",\"model\":\"m\"}", "m|user|hi|", 0},
        {"two messages",
         "{\"messages\":[{\"role\":\"system\",\"content\":\"be\"},{\"role\":\"user\",\"content\":"
         "\"x\"}]}",
         "|system|be|user|x|", 0},
        {"what is escaped is not its spelling",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"\\u0068\\n\"}]}", "|user|h\n|", 0},
        {"parts",
         "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
         "{\"type\":\"text\",\"text\":\"b\"}]}]}",
         "|user|ab|", 0},
        {"a picture among parts",
         "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"},{\"text\":\"b\"}]"
         "}]}",
         "|user|{\"type\":\"image_url\"}b|", 0},
        {"no content, calls of tools",
         "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[1]}]}",
         "|assistant|[1]|", 0},
        {"tools come first", "{\"tools\":[{\"a\":1}]," HI "}", "|[{\"a\":1}]user|hi|", 0},
        {"a prompt", "{\"prompt\":\"once\",\"max_tokens\":16}", "|once", 16},
        {"several prompts", "{\"prompt\":[\"a\",\"b\"]}", "|ab", 0},
        {"ids of tokens", "{\"prompt\":[1684300900,1684300900]}", "|dddddddd", 0},
        {"lists of ids", "{\"prompt\":[[1,2],[3]]}", "|[1,2][3]", 0},
        {"an input", "{\"input\":\"x\"}", "|x", 0},
        {"instructions and input",
         "{\"input\":[{\"role\":\"user\",\"content\":\"q\"}],\"instructions\":\"be\"}",
         "|beuser|q|", 0},
        {"a line of a batch",
         "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{" HI
         ",\"model\":\"m\"}}",
         "m|user|hi|", 0},
        {"of two keys the last", "{\"prompt\":\"a\",\"prompt\":\"b\"}", "|b", 0},
        {"max_completion_tokens", "{" HI ",\"max_completion_tokens\":7}", "|user|hi|", 7},
        {"more tokens than fit", "{" HI ",\"max_tokens\":1e30}", "|user|hi|", INT32_MAX},
        {"fewer than none", "{" HI ",\"max_tokens\":-3}", "|user|hi|", 0},
        {"a text for a number", "{" HI ",\"max_tokens\":\"9\"}", "|user|hi|", 0},
        {"nothing of it", "{\"x\":[1,2],\"id\":3}", "", 0},
        {"not an object", "[1]", "", 0},
        {"not JSON", "{\"prompt\":\"a\"", "", 0},
        {"nothing", "", "", 0},
        {"messages that are none", "{\"messages\":7}", "|", 0},
        {"messages of numbers and lists", "{\"messages\":[true,[\"a\"],null]}", "|[\"a\"]", 0},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        bool is_sampled = strstr(rows[i].json, "messages") != NULL ||
                          (strstr(rows[i].json, "prompt") != NULL && rows[i].text[0] != '\0') ||
                          strstr(rows[i].json, "instructions") != NULL;
        expect_prompt(rows[i].json, false, rows[i].text, rows[i].tokens_max, is_sampled,
                      rows[i].name);
    }
}

static void answers_are_drawn_unless_something_says_not(void **unused)
{
    (void)unused;
    static const struct {
        const char *name, *json;
        bool is_generating, is_sampled;
    } rows[] = {
        {"no temperature is 1", "{" HI "}", false, true},
        {"a temperature", "{" HI ",\"temperature\":0.7}", false, true},
        {"none at all", "{" HI ",\"temperature\":0}", false, false},
        {"0.0", "{" HI ",\"temperature\":0.0}", false, false},
        {"null is not 0", "{" HI ",\"temperature\":null}", false, true},
        {"\"0\" is not 0", "{" HI ",\"temperature\":\"0\"}", false, true},
        {"a seed", "{" HI ",\"seed\":17}", false, false},
        {"no seed but null", "{" HI ",\"seed\":null}", false, true},
        {"a seed of 0", "{" HI ",\"temperature\":1,\"seed\":0}", false, false},
        {"the last temperature counts", "{" HI ",\"temperature\":0,\"temperature\":1}", false,
         true},
        {"a prompt", "{\"prompt\":\"x\"}", false, true},
        {"an embedding", "{\"input\":\"x\",\"model\":\"m\"}", false, false},
        {"an embedding in an order for text", "{\"input\":\"x\"}", true, true},
        {"a response by its fields", "{\"input\":\"x\",\"max_output_tokens\":5}", false, true},
        {"a response by its temperature", "{\"input\":\"x\",\"temperature\":1}", false, true},
        {"a response at 0", "{\"input\":\"x\",\"temperature\":0}", true, false},
        {"a response by its url", "{\"url\":\"/v1/responses\",\"body\":{\"input\":\"x\"}}", false,
         true},
        {"an embedding by its url", "{\"url\":\"/v1/embeddings\",\"body\":{\"input\":\"x\"}}", true,
         false},
        {"a chat by its url", "{\"url\":\"/v1/chat/completions\",\"body\":{" HI "}}", false, true},
        {"a score", "{\"query\":\"x\",\"documents\":[\"a\"]}", true, false},
        {"not JSON", "{" HI, true, false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct arena arena = {0};
        struct prompt found;
        struct slice json = {rows[i].json, strlen(rows[i].json)};
        assert_true(prompt_read(json, rows[i].is_generating, &arena, &found));
        if (found.is_sampled != rows[i].is_sampled) fail_msg("%s", rows[i].name);
        arena_free(&arena);
    }
}

/* However deep: nothing here goes down with it. */
static void depth_is_harmless(void **unused)
{
    (void)unused;
    static const char begin[] = "{\"prompt\":";
    size_t depth = 200000, size = sizeof begin - 1;
    char *json = malloc(size + 2 * depth + 1);
    assert_non_null(json);
    memcpy(json, begin, size);
    memset(json + size, '[', depth);
    memset(json + size + depth, ']', depth);
    json[size + 2 * depth] = '}';
    struct arena arena = {0};
    struct prompt found;
    assert_true(prompt_read((struct slice){json, size + 2 * depth + 1}, false, &arena, &found));
    assert_true(found.is_sampled && found.text.size == 1 + 2 * depth - 2);
    arena_free(&arena);
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_found_where_engines_read_them),
        cmocka_unit_test(answers_are_drawn_unless_something_says_not),
        cmocka_unit_test(depth_is_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
