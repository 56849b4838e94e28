/* SPDX-License-Identifier: Apache-2.0 */
/* server_request_id_test.c - names of accepted requests: what was written reads back, what was not is
 * refused. */
#include "server/request_id.h"

#include "expect.h"

static const struct {
    const char *text;
    struct request_id id;
} good[] = {
    {"req_0123456789abcdef01234567_0", {"win_0123456789abcdef01234567", 0, 1, DIALECT_TIDEMILL}},
    {"req_ab_18446744073709551615", {"win_ab", UINT64_MAX, 1, DIALECT_TIDEMILL}},
    {"req_ab_7.3", {"win_ab", 7, 3, DIALECT_TIDEMILL}},
    {"req_ab_7.1k", {"win_ab", 7, 1, DIALECT_KSERVE}},
    {"req_ab_7.64f", {"win_ab", 7, 64, DIALECT_TFSERVING}},
    {"req_ab_7.1t", {"win_ab", 7, 1, DIALECT_TORCHSERVE}},
    {"req_ab_7.1o", {"win_ab", 7, 1, DIALECT_OPENAI}},
};

static void test_names_read_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        struct request_id read;
        char text[REQUEST_ID_BYTES];
        request_id_text(&good[i].id, text);
        assert_string_equal(text, good[i].text);
        if (!request_id_parse(text, &read)) fail_msg("'%s' is not read", text);
        assert_string_equal(read.window, good[i].id.window);
        assert_true(read.first == good[i].id.first && read.n == good[i].id.n &&
                    read.dialect == good[i].id.dialect);
    }
}

static void test_what_is_no_name_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "req_",
        "req__0",
        "req_ab",
        "req_ab_",
        "req_ab_x",
        "req_ab_07",
        "req_ab_-1",
        "win_ab_0",
        "req_AB_0",
        "req_../x_0",
        "req_ab_0.",
        "req_ab_0.0",
        "req_ab_0.0k",
        "req_ab_0.1",
        "req_ab_0.2z",
        "req_ab_0.2kk",
        "req_ab_0 ",
        "req_ab_18446744073709551616",
        "req_0123456789abcdef0123456789abcdef0123456789abcdef_0",
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct request_id read;
        if (request_id_parse(bad[i], &read)) fail_msg("'%s' was taken for a name", bad[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_read_back),
        cmocka_unit_test(test_what_is_no_name_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
