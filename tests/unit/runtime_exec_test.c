/* SPDX-License-Identifier: Apache-2.0 */
/* runtime_exec_test.c - a command's words, and what frames may hold. */
#include "expect.h"

#include "runtime/exec.h"

#include <stdlib.h>

static void words_are_split_as_a_shell_does(void **state)
{
    (void)state;
    static const struct {
        const char *command, *words[6];
    } cases[] = {
        {"a", {"a"}},
        {"  a  b\tc\n", {"a", "b", "c"}},
        {"python3 'my handler.py' --x=\"1 2\"", {"python3", "my handler.py", "--x=1 2"}},
        {"a\\ b c\\'d", {"a b", "c'd"}},
        {"a '' \"\" b", {"a", "", "", "b"}},
        {"'a\\b' \"a\\b\" \"a\\\"b\"", {"a\\b", "a\\b", "a\"b"}},
        {"a$HOME;ls|x `y`", {"a$HOME;ls|x", "`y`"}},
        {"x'y'\"z\"w", {"xyzw"}},
        {"a\\", {"a\\"}},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char **words;
        expect_fine(exec_split_command(cases[i].command, &words), cases[i].command);
        size_t n = 0;
        for (; cases[i].words[n] != NULL; n++) {
            assert_non_null(words[n]);
            assert_string_equal(words[n], cases[i].words[n]);
        }
        assert_null(words[n]);
        free(words);
    }
}

static void what_is_no_command_is_told(void **state)
{
    (void)state;
    static const char *const commands[] = {"", "  ", "a 'b", "a \"b", "\"a\\\""};
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        char **words;
        tidemill_error *error = exec_split_command(commands[i], &words);
        assert_int_equal(error_code_of(error), ERROR_USAGE);
        error_free(error);
    }
}

static void add_text(struct buffer *out, const char *text)
{
    uint32_t size = (uint32_t)strlen(text);
    buffer_append(out, &size, sizeof size);
    buffer_append(out, text, size);
}

static void records_become_one_list(void **state)
{
    (void)state;
    struct buffer rows = {0}, frame = {0};
    add_text(&rows, "{\"a\":1}");
    add_text(&rows, "2");
    add_text(&rows, "\"x\"");
    const unsigned char *at = (unsigned char *)rows.data, *end = at + rows.size;
    expect_fine(exec_append_request(&frame, &at, end, 2), "two");
    expect_fine(exec_append_request(&frame, &at, end, 1), "one");
    assert_memory_equal(frame.data, "\x0b\0\0\0[{\"a\":1},2]\x05\0\0\0[\"x\"]", 15 + 9);
    assert_int_equal(frame.size, 15 + 9);
    tidemill_error *error = exec_append_request(&frame, &at, end, 1);
    assert_non_null(error);
    error_free(error);
    buffer_free(&rows);
    buffer_free(&frame);
}

static void results_become_packed_strings(void **state)
{
    (void)state;
    static const struct {
        const char *payload, *texts[4];
    } cases[] = {
        {"{\"results\":[1,\"a\"]}", {"1", "\"a\""}},
        {" { \"x\" : [9] , \"results\" : [ {\"b\":[1,2]} , null ] } ", {"{\"b\":[1,2]}", "null"}},
        {"{\"results\":[1e400,-0.0]}", {"1e400", "-0.0"}},
        {"{\"results\":[[\n1,\r\n \"a\\n b\"\n],\"c\"]}", {"[1,\"a\\n b\"]", "\"c\""}},
        {"{\"results\":[0,0],\"errors\":{\"1\":\"bad\"}}",
         {"0", "\x01"
               "bad"}},
        {"{\"errors\":{\"0\":\"\"},\"results\":[null,\"]\"]}",
         {"\x01the handler failed it, and did not say why", "\"]\""}},
        {"{\"results\":[0,0],\"errors\":{\"7\":\"who?\",\"01\":\"no\"}}", {"0", "0"}},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buffer out = {0}, expected = {0};
        struct slice payload = {cases[i].payload, strlen(cases[i].payload)};
        expect_fine(exec_append_results(payload, 2, &out), cases[i].payload);
        for (size_t k = 0; k < 2; k++) add_text(&expected, cases[i].texts[k]);
        assert_int_equal(out.size, expected.size);
        assert_memory_equal(out.data, expected.data, out.size);
        buffer_free(&out);
        buffer_free(&expected);
    }
}

static void replies_that_are_none_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *payload, *words;
    } cases[] = {
        {"", "not valid JSON"},
        {"[1,2]", "not a JSON object"},
        {"{\"results\":[1,2]", "not valid JSON"},
        {"{\"results\":[1]}", "1 results for 2 records"},
        {"{\"results\":[1,2,3]}", "3 results for 2 records"},
        {"{\"results\":{\"0\":1}}", "without a list"},
        {"{}", "without a list"},
        {"{\"results\":[1,NaN]}", "NaN is not JSON"},
        {"{\"error\":\"out of luck\"}", "out of luck"},
        {"{\"error\":1,\"results\":[1,2]}", "the handler failed"},
        {"{\"results\":[1,\"\xff\"]}", "not UTF-8"},
        {"{\"r\\u0065sults\":[1,2]}", "plain key"},
        {"{\"r\\u0065sults\":[1,2],\"results\":[]}", "several"},
        {"{\"results\":[1,2],\"results\":[1,2]}", "several"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buffer out = {0};
        struct slice payload = {cases[i].payload, strlen(cases[i].payload)};
        tidemill_error *error = exec_append_results(payload, 2, &out);
        assert_int_equal(error_code_of(error), ERROR_MODEL_ERROR);
        if (strstr(error_message(error), cases[i].words) == NULL)
            fail_msg("%s: %s", cases[i].payload, error_message(error));
        error_free(error);
        buffer_free(&out);
    }
}

static void depth_is_limited(void **state)
{
    (void)state;
    struct buffer deep = {0}, out = {0};
    buffer_text(&deep, "{\"results\":[");
    for (int i = 0; i < 100000; i++) buffer_byte(&deep, '[');
    tidemill_error *error = exec_append_results((struct slice){deep.data, deep.size}, 1, &out);
    assert_int_equal(error_code_of(error), ERROR_MODEL_ERROR);
    error_free(error);
    buffer_free(&deep);
    buffer_free(&out);
}

static void a_hello_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *payload;
        bool is_fine;
        uint32_t batch_max;
    } cases[] = {
        {"{\"tidemill\":1}", true, 0},
        {"{\"tidemill\":1,\"name\":\"n\",\"batch\":64}", true, 64},
        {"{\"tidemill\":1,\"batch\":99999999999}", true, UINT32_MAX},
        {"{\"tidemill\":1,\"batch\":-1}", true, UINT32_MAX},
        {"{\"tidemill\":2}", false, 0},
        {"{\"tidemill\":\"1\"}", false, 0},
        {"{}", false, 0},
        {"hello", false, 0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct exec_hello hello;
        struct slice payload = {cases[i].payload, strlen(cases[i].payload)};
        tidemill_error *error = exec_read_hello(payload, &hello);
        assert_int_equal(error_code_of(error), cases[i].is_fine ? ERROR_OK : ERROR_MODEL_LOAD);
        if (cases[i].is_fine) assert_int_equal(hello.batch_max, cases[i].batch_max);
        error_free(error);
    }
}

/* Programs that say what a case needs, with the shell's printf: 4 is their output, 3 their input. */
static void start_shell(struct exec_process *process, const char *script)
{
    char *words[] = {(char[]){"sh"}, (char[]){"-c"}, strdup(script), NULL};
    expect_fine(exec_start(words, process), script);
    free(words[2]);
}

static void frames_are_exchanged(void **state)
{
    (void)state;
    static const struct {
        const char *name, *script;
        enum error_code code;
        const char *words; /* of the payload, or of the error */
    } cases[] = {
        {"whole", "printf '\\003\\0\\0\\0abc' >&4; read x <&3", ERROR_OK, "abc"},
        {"in pieces",
         "printf '\\003\\0' >&4; sleep 0.05; printf '\\0\\0ab' >&4; sleep 0.05; printf c >&4",
         ERROR_OK, "abc"},
        {"empty", "printf '\\0\\0\\0\\0' >&4", ERROR_OK, ""},
        {"no length", "printf '\\003\\0' >&4", ERROR_HOST_CRASHED, "in the middle of a frame"},
        {"half", "printf '\\003\\0\\0\\0ab' >&4", ERROR_HOST_CRASHED, "in the middle of a frame"},
        {"none", "exit 3", ERROR_HOST_CRASHED, "the handler ended"},
        {"huge", "printf '\\377\\377\\377\\377' >&4; read x <&3", ERROR_HOST_CRASHED, "more than"},
        {"closed by one who lives", "exec 4>&-; read x <&3", ERROR_HOST_CRASHED,
         "the handler ended"},
        {"held by a worker of one who is gone", "sleep 60 & exit 3", ERROR_HOST_CRASHED,
         "the handler ended"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct exec_process process;
        struct buffer reply = {0};
        start_shell(&process, cases[i].script);
        tidemill_error *error = exec_exchange(&process, NULL, 100, &reply);
        buffer_byte(&reply, '\0');
        if (error_code_of(error) != cases[i].code)
            fail_msg("%s: %s", cases[i].name, error != NULL ? error_message(error) : "fine");
        const char *text = error != NULL ? error_message(error) : reply.data;
        if (strstr(text, cases[i].words) == NULL) fail_msg("%s: %s", cases[i].name, text);
        error_free(error);
        exec_stop(&process, 0, NULL, 0);
        buffer_free(&reply);
    }
}

static void what_does_not_fit_is_read_past(void **state)
{
    (void)state;
    struct exec_process process;
    struct buffer reply = {0};
    start_shell(&process, "printf '\\006\\0\\0\\0abcdef\\002\\0\\0\\0xy' >&4; read x <&3");
    tidemill_error *error = exec_exchange(&process, NULL, 5, &reply);
    assert_int_equal(error_code_of(error), ERROR_OUTPUT_TOO_LARGE);
    assert_int_equal(reply.size, 0); /* nor kept */
    error_free(error);
    expect_fine(exec_exchange(&process, NULL, 5, &reply), "the next frame");
    assert_int_equal(reply.size, 2);
    assert_memory_equal(reply.data, "xy", 2);
    exec_stop(&process, 0, NULL, 0);
    buffer_free(&reply);
}

static void an_answer_before_the_question_is_told(void **state)
{
    (void)state;
    struct exec_process process;
    struct buffer request = {0}, reply = {0};
    start_shell(&process, "printf '\\0\\0\\0\\0' >&4; sleep 60");
    for (int i = 0; i < 4 << 20; i++) buffer_byte(&request, 'x'); /* more than a pipe holds */
    tidemill_error *error = exec_exchange(&process, &request, 100, &reply);
    assert_int_equal(error_code_of(error), ERROR_HOST_CRASHED);
    assert_non_null(strstr(error_message(error), "before it had read all"));
    error_free(error);
    exec_stop(&process, 0, NULL, 0);
    buffer_free(&request);
    buffer_free(&reply);
}

static void an_end_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *script, *text;
    } cases[] = {
        {"exit 3", "exited with status 3"},
        {"kill -SEGV $$", "killed by SIGSEGV"},
        {"sleep 60", ""}, /* not by itself */
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct exec_process process;
        char text[160];
        start_shell(&process, cases[i].script);
        exec_stop(&process, cases[i].text[0] != '\0' ? 10000 : 50, text, sizeof text);
        assert_string_equal(text, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_split_as_a_shell_does),
        cmocka_unit_test(what_is_no_command_is_told),
        cmocka_unit_test(records_become_one_list),
        cmocka_unit_test(results_become_packed_strings),
        cmocka_unit_test(replies_that_are_none_are_told),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(a_hello_is_read),
        cmocka_unit_test(frames_are_exchanged),
        cmocka_unit_test(what_does_not_fit_is_read_past),
        cmocka_unit_test(an_answer_before_the_question_is_told),
        cmocka_unit_test(an_end_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
