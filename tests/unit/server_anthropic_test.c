/* SPDX-License-Identifier: Apache-2.0 */
/* server_anthropic_test.c - messages as chat completions and back. */
#include "server/anthropic_convert.h"

#include "expect.h"

static const struct {
    const char *name, *request, *line; /* line NULL: refused, and `says` is in the reason */
    const char *says;
} requests[] = {
    {"text",
     "{\"custom_id\":\"a-1\",\"params\":{\"model\":\"m\",\"max_tokens\":5,\"messages\":[{\"role\":"
     "\"user\","
     "\"content\":\"hi\"}]}}",
     "{\"custom_id\":\"a-1\",\"method\":\"POST\",\"url\":\"/v1/chat/"
     "completions\",\"body\":{\"model\":\"m\","
     "\"max_tokens\":5,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}}\n",
     NULL},
    {"blocks, system, sampling",
     "{\"custom_id\":\"a\",\"params\":{\"model\":\"m\",\"max_tokens\":5,\"temperature\":0.5,\"top_"
     "k\":3,"
     "\"stop_sequences\":[\"x\"],\"system\":[{\"type\":\"text\",\"text\":\"be\"},{\"type\":"
     "\"text\",\"text\":"
     "\" "
     "kind\"}],\"messages\":[{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":"
     "\"\\n\"}]}]}}",
     "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/chat/"
     "completions\",\"body\":{\"model\":\"m\","
     "\"max_tokens\":5,\"temperature\":0.5,\"top_k\":3,\"stop\":[\"x\"],\"messages\":[{\"role\":"
     "\"system\","
     "\"content\":\"be kind\"},{\"role\":\"assistant\",\"content\":\"\\n\"}]}}\n",
     NULL},
    {"an empty list of stops is none",
     "{\"custom_id\":\"a\",\"params\":{\"model\":\"m\",\"max_tokens\":5,\"stop_sequences\":[],"
     "\"messages\":"
     "[{\"role\":\"user\",\"content\":\"\"}]}}",
     "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/chat/"
     "completions\",\"body\":{\"model\":\"m\","
     "\"max_tokens\":5,\"messages\":[{\"role\":\"user\",\"content\":\"\"}]}}\n",
     NULL},
    {"no id", "{\"params\":{}}", NULL, "custom_id"},
    {"an id with a quote", "{\"custom_id\":\"a\\\"\",\"params\":{}}", NULL, "custom_id"},
    {"no params", "{\"custom_id\":\"a\"}", NULL, "model"},
    {"no limit", "{\"custom_id\":\"a\",\"params\":{\"model\":\"m\",\"messages\":[]}}", NULL,
     "max_tokens"},
    {"no messages",
     "{\"custom_id\":\"a\",\"params\":{\"model\":\"m\",\"max_tokens\":1,\"messages\":[]}}", NULL,
     "at least one message"},
    {"a role of another kind",
     "{\"custom_id\":\"a\",\"params\":{\"model\":\"m\",\"max_tokens\":1,\"messages\":[{\"role\":"
     "\"system\","
     "\"content\":\"\"}]}}",
     NULL, "role"},
    {"not an object", "7", NULL, "custom_id"},
};

static void test_requests(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(requests); i++) {
        struct buffer out = {0};
        yyjson_doc *doc = yyjson_read(requests[i].request, strlen(requests[i].request), 0);
        assert_non_null(doc);
        tidemill_error *error = anthropic_line(yyjson_doc_get_root(doc), &out);
        yyjson_doc_free(doc);
        buffer_byte(&out, '\0');
        if (requests[i].line != NULL) {
            if (error != NULL) fail_msg("%s: %s", requests[i].name, error_message(error));
            assert_string_equal(out.data, requests[i].line);
        } else {
            if (error == NULL || strstr(error_message(error), requests[i].says) == NULL)
                fail_msg("%s: '%s'", requests[i].name, error_message(error));
            error_free(error);
        }
        buffer_free(&out);
    }
}

static const struct {
    const char *line, *result;
} results[] = {
    {"{\"id\":\"batch_req_12\",\"custom_id\":\"a\",\"response\":{\"status_code\":200,\"body\":{"
     "\"model\":\"m\","
     "\"choices\":[{\"message\":{\"content\":\"yes\"},\"finish_reason\":\"length\"}],\"usage\":{"
     "\"prompt_tokens\":3,\"completion_tokens\":4}}},\"error\":null}",
     "{\"custom_id\":\"a\",\"result\":{\"type\":\"succeeded\",\"message\":{\"id\":\"msg_12\","
     "\"type\":"
     "\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[{\"type\":\"text\",\"text\":"
     "\"yes\"}],"
     "\"stop_reason\":\"max_tokens\",\"stop_sequence\":null,\"usage\":{\"input_tokens\":3,"
     "\"output_tokens\":4}}}}\n"},
    {"{\"custom_id\":\"a\",\"response\":null,\"error\":{\"code\":\"batch_expired\",\"message\":"
     "\"late\"}}",
     "{\"custom_id\":\"a\",\"result\":{\"type\":\"expired\"}}\n"},
    {"{\"custom_id\":\"a\",\"response\":null,\"error\":{\"code\":\"batch_cancelled\",\"message\":"
     "\"\"}}",
     "{\"custom_id\":\"a\",\"result\":{\"type\":\"canceled\"}}\n"},
    {"{\"custom_id\":\"a\",\"response\":{\"status_code\":400,\"body\":{\"error\":{\"message\":"
     "\"no\"}}},"
     "\"error\":null}",
     "{\"custom_id\":\"a\",\"result\":{\"type\":\"errored\",\"error\":{\"type\":\"error\","
     "\"error\":{\"type\":"
     "\"invalid_request_error\",\"message\":\"no\"},\"request_id\":null}}}\n"},
    {"{\"custom_id\":\"a\",\"response\":null,\"error\":{\"code\":\"upstream\",\"message\":\"down\"}"
     "}",
     "{\"custom_id\":\"a\",\"result\":{\"type\":\"errored\",\"error\":{\"type\":\"error\","
     "\"error\":{\"type\":"
     "\"api_error\",\"message\":\"down\"},\"request_id\":null}}}\n"},
};

static void test_results(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(results); i++) {
        struct buffer out = {0};
        anthropic_result((struct slice){results[i].line, strlen(results[i].line)}, &out);
        buffer_byte(&out, '\0');
        assert_string_equal(out.data, results[i].result);
        buffer_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_results),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
