/* SPDX-License-Identifier: Apache-2.0 */
/* runtime_batch_results_test.c - lines of a batch's results: whose they are, what they say, and what is
 * done with what nobody should send. */
#include "expect.h"

#include "runtime/batch_results.h"

#define TAG "0123456789abcdef0123456789abcdef"
#define DEEP "[[[[[[[[[[[[[[[["

struct row {
    const char *name;
    enum batch_dialect dialect;
    const char *line;
    enum batch_verdict verdict;
    uint64_t index;
    const char *text; /* the body, or in the message */
};

static const struct row rows[] = {
    {"an answer", BATCH_OPENAI,
     "{\"custom_id\":\"tidemill-7\",\"response\":{\"status_code\":200,\"body\":{\"a\":1.50}},"
     "\"error\":null}",
     BATCH_ANSWERED, 7, "{\"a\":1.50}"},
    {"numbers stay as they are", BATCH_OPENAI,
     "{\"custom_id\":\"tidemill-0\",\"response\":{\"status_code\":200,\"body\":"
     "[1e3,12345678901234567890123,-0]}}",
     BATCH_ANSWERED, 0, "[1e3,12345678901234567890123,-0]"},
    {"a refusal", BATCH_OPENAI,
     "{\"custom_id\":\"tidemill-7\",\"response\":{\"status_code\":400,\"body\":{\"error\":"
     "{\"message\":\"too\\nlong\"}}}}",
     BATCH_REFUSED, 7, "400: too long"},
    {"too many requests", BATCH_OPENAI,
     "{\"custom_id\":\"tidemill-7\",\"response\":{\"status_code\":429,\"body\":null}}", BATCH_AGAIN,
     7, "429"},
    {"the server's failure", BATCH_OPENAI,
     "{\"custom_id\":\"tidemill-7\",\"response\":{\"status_code\":503}}", BATCH_AGAIN, 7, "503"},
    {"expired", BATCH_OPENAI,
     "{\"custom_id\":\"tidemill-7\",\"response\":null,\"error\":{\"code\":\"batch_expired\"}}",
     BATCH_AGAIN, 7, "batch_expired"},
    {"neither", BATCH_OPENAI, "{\"custom_id\":\"tidemill-7\"}", BATCH_AGAIN, 7, "no answer"},
    {"200 without a body", BATCH_OPENAI,
     "{\"custom_id\":\"tidemill-7\",\"response\":{\"status_code\":200}}", BATCH_AGAIN, 7, "200"},
    {"a status that is no number", BATCH_OPENAI,
     "{\"custom_id\":\"tidemill-7\",\"response\":{\"status_code\":\"200\",\"body\":{}}}",
     BATCH_AGAIN, 7, "0"},
    {"torn", BATCH_OPENAI, "{\"custom_id\":\"tidemill-7\",\"respon", BATCH_STRANGE, 0, ""},
    {"no object", BATCH_OPENAI, "\"tidemill-7\"", BATCH_STRANGE, 0, ""},
    {"deep", BATCH_OPENAI, DEEP DEEP DEEP, BATCH_STRANGE, 0, ""},
    {"no id", BATCH_OPENAI, "{\"response\":{}}", BATCH_STRANGE, 0, ""},
    {"somebody's id", BATCH_OPENAI, "{\"custom_id\":\"request-7\"}", BATCH_STRANGE, 0, ""},
    {"an id with a zero before", BATCH_OPENAI, "{\"custom_id\":\"tidemill-07\"}", BATCH_STRANGE, 7,
     ""},
    {"an id with more behind", BATCH_OPENAI, "{\"custom_id\":\"tidemill-7x\"}", BATCH_STRANGE, 7,
     ""},
    {"an id with a NUL", BATCH_OPENAI, "{\"custom_id\":\"tidemill-7\\u0000\"}", BATCH_STRANGE, 7,
     ""},
    {"a negative id", BATCH_OPENAI, "{\"custom_id\":\"tidemill--7\"}", BATCH_STRANGE, 0, NULL},
    {"an id that overflows", BATCH_OPENAI, "{\"custom_id\":\"tidemill-99999999999999999999999\"}",
     BATCH_STRANGE, 0, NULL},
    {"a message", BATCH_ANTHROPIC,
     "{\"custom_id\":\"tidemill-7-0123456789abcdef\",\"result\":{\"type\":\"succeeded\","
     "\"message\":{\"content\":[]}}}",
     BATCH_ANSWERED, 7, "{\"content\":[]}"},
    {"another batch's", BATCH_ANTHROPIC,
     "{\"custom_id\":\"tidemill-7-1123456789abcdef\",\"result\":{\"type\":\"succeeded\","
     "\"message\":{}}}",
     BATCH_STRANGE, 7, ""},
    {"a wrong request", BATCH_ANTHROPIC,
     "{\"custom_id\":\"tidemill-7-0123456789abcdef\",\"result\":{\"type\":\"errored\",\"error\":"
     "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"no\"}}}}",
     BATCH_REFUSED, 7, "no"},
    {"overloaded", BATCH_ANTHROPIC,
     "{\"custom_id\":\"tidemill-7-0123456789abcdef\",\"result\":{\"type\":\"errored\",\"error\":"
     "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"later\"}}}}",
     BATCH_AGAIN, 7, "later"},
    {"canceled", BATCH_ANTHROPIC,
     "{\"custom_id\":\"tidemill-7-0123456789abcdef\",\"result\":{\"type\":\"canceled\"}}",
     BATCH_AGAIN, 7, "canceled"},
    {"no result", BATCH_ANTHROPIC, "{\"custom_id\":\"tidemill-7-0123456789abcdef\"}", BATCH_AGAIN,
     7, "no answer"},
};

static void lines_are_what_they_say(void **unused)
{
    (void)unused;
    struct buffer body = {0};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const struct row *row = &rows[i];
        struct batch_result result = {.body = &body};
        struct slice line = {row->line, strlen(row->line)};
        expect_fine(batch_result_read(row->dialect, TAG, line, &result), row->name);
        if (result.verdict != row->verdict) fail_msg("%s: verdict %d", row->name, result.verdict);
        if (row->text != NULL && result.index != row->index)
            fail_msg("%s: index %llu", row->name, (unsigned long long)result.index);
        buffer_byte(&body, '\0');
        if (row->verdict == BATCH_ANSWERED)
            expect_text(body.data, row->text, row->name);
        else if (row->text != NULL && strstr(result.message, row->text) == NULL)
            fail_msg("%s: '%s'", row->name, result.message);
    }
    buffer_free(&body);
}

/* A message is cut between characters, never in one. */
static void long_messages_are_cut(void **unused)
{
    (void)unused;
    struct buffer line = {0}, body = {0};
    for (size_t shift = 0; shift < 4; shift++) {
        line.size = 0;
        buffer_text(&line,
                    "{\"custom_id\":\"tidemill-1\",\"error\":{\"code\":\"c\",\"message\":\"");
        for (size_t i = 0; i < shift; i++) buffer_byte(&line, 'x');
        for (int i = 0; i < 300; i++) buffer_text(&line, "\xe2\x82\xac");
        buffer_text(&line, "\"}}");
        struct batch_result result = {.body = &body};
        expect_fine(
            batch_result_read(BATCH_OPENAI, TAG, (struct slice){line.data, line.size}, &result),
            "long");
        size_t size = strlen(result.message);
        assert_in_range(size, 500, 511);
        assert_memory_equal(result.message + size - 3, "\xe2\x82\xac", 3);
    }
    buffer_free(&line);
    buffer_free(&body);
}

static void ids_fit(void **unused)
{
    (void)unused;
    char id[BATCH_ID_BYTES];
    batch_custom_id(BATCH_ANTHROPIC, UINT64_MAX, TAG, id);
    expect_text(id, "tidemill-18446744073709551615-0123456789abcdef", "the longest");
    batch_custom_id(BATCH_OPENAI, 12, TAG, id);
    expect_text(id, "tidemill-12", "OpenAI's");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_what_they_say),
        cmocka_unit_test(long_messages_are_cut),
        cmocka_unit_test(ids_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
