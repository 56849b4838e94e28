/* SPDX-License-Identifier: Apache-2.0 */
/* base_error_test.c - errors keep their code through any number of contexts, and end the process
 * with the status that the table and the manual promise. */
#include "expect.h"

#include <errno.h>

static void contexts_come_before_the_message_in_order(void **unused)
{
    (void)unused;
    tidemill_error *error = error_new(ERROR_WRONG_SHAPE, "expected %d numbers, found %d", 64, 63);
    error = error_context(error, "field '%s'", "x");
    error = error_context(error, "reading %s:%d", "train.jsonl", 17);
    assert_int_equal(error_code_of(error), ERROR_WRONG_SHAPE);
    expect_text(error_message(error),
                "reading train.jsonl:17: field 'x': expected 64 numbers, found 63", "chain");
    error_free(error);
}

static void nothing_stays_nothing(void **unused)
{
    (void)unused;
    assert_null(error_context(NULL, "reading %s", "a"));
    assert_int_equal(error_code_of(NULL), ERROR_OK);
    expect_text(error_message(NULL), "", "no error");
    error_free(NULL);
}

static void percent_signs_of_a_message_are_not_read_as_formats(void **unused)
{
    (void)unused;
    tidemill_error *error = error_new(ERROR_USAGE, "%s", "100%s %n %d");
    error = error_context(error, "%s", "50%d");
    expect_text(error_message(error), "50%d: 100%s %n %d", "percent");
    error_free(error);
}

static void long_messages_are_whole(void **unused)
{
    (void)unused;
    size_t size = 100000;
    char *text = malloc(size + 1);
    assert_non_null(text);
    memset(text, 'x', size);
    text[size] = '\0';
    tidemill_error *error = error_new(ERROR_IO, "%s", text);
    error = error_context(error, "%s", text);
    assert_int_equal(strlen(error_message(error)), 2 * size + 2);
    assert_memory_equal(error_message(error) + size, ": xx", 4);
    error_free(error);
    free(text);
}

static void out_of_memory_needs_no_memory(void **unused)
{
    (void)unused;
    tidemill_error *error = error_memory();
    assert_int_equal(error_code_of(error), ERROR_MEMORY);
    expect_text(error_message(error), error_code_sentence(ERROR_MEMORY), "message");
    assert_ptr_equal(error_context(error, "reading %s", "a"), error);
    error_free(error);
    error_free(error); /* a static one: freeing does nothing */
    assert_int_equal(error_code_of(error), ERROR_MEMORY);
}

static void errno_decides_what_kind_of_error_it_is(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        enum error_code given;
        int errnum;
        enum error_code expected;
    } rows[] = {
        {"a full disk is told as an I/O error", ERROR_IO, ENOSPC, ERROR_NO_SPACE},
        {"a full quota is told as an I/O error", ERROR_IO, EDQUOT, ERROR_NO_SPACE},
        {"a full disk is told as an input error", ERROR_INPUT, ENOSPC, ERROR_NO_SPACE},
        {"no memory is told as an I/O error", ERROR_IO, ENOMEM, ERROR_MEMORY},
        {"a broken disk lost its code", ERROR_IO, EIO, ERROR_IO},
        {"a missing input lost its code", ERROR_INPUT, ENOENT, ERROR_INPUT},
        {"a model without permission lost its code", ERROR_MODEL_LOAD, EACCES, ERROR_MODEL_LOAD},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char expected[200];
        snprintf(expected, sizeof expected, "cannot read a%%b: %s", strerror(rows[i].errnum));
        tidemill_error *error = error_errno(rows[i].given, rows[i].errnum, "cannot read %s", "a%b");
        expect_text(error_message(error), expected, rows[i].name);
        expect_error(error, rows[i].expected, NULL, rows[i].name);
    }
}

static void errnos_without_a_name_are_told_as_numbers(void **unused)
{
    (void)unused;
    expect_error(error_errno(ERROR_IO, 99999, "a"), ERROR_IO, "99999", "an unknown errno");
}

static void names_are_different_and_sentences_fit_one_line(void **unused)
{
    (void)unused;
    for (int code = 0; code < ERROR_CODE_COUNT; code++) {
        const char *name = error_code_name((enum error_code)code);
        const char *sentence = error_code_sentence((enum error_code)code);
        assert_true(name[0] != '\0' &&
                    strspn(name, "abcdefghijklmnopqrstuvwxyz_0123456789") == strlen(name));
        assert_true(sentence[0] != '\0' && strchr(sentence, '\n') == NULL);
        for (int other = 0; other < code; other++)
            assert_string_not_equal(name, error_code_name((enum error_code)other));
    }
}

static void the_exit_status_is_what_scripts_rely_on(void **unused)
{
    (void)unused;
    static const struct {
        enum error_code code;
        int status;
    } rows[] = {
        {ERROR_OK, 0},           {ERROR_INVALID_JSON, 1},
        {ERROR_HOST_TIMEOUT, 1}, {ERROR_TOO_MANY_ERRORS, 1},
        {ERROR_USAGE, 2},        {ERROR_INPUT, 2},
        {ERROR_CHANGED, 2},      {ERROR_EXISTS, 2},
        {ERROR_LOCKED, 2},       {ERROR_MODEL_LOAD, 3},
        {ERROR_IO, 3},           {ERROR_NO_SPACE, 3},
        {ERROR_CORRUPT, 3},      {ERROR_MEMORY, 3},
        {ERROR_INTERRUPTED, 75},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (error_code_exit_status(rows[i].code) != rows[i].status)
            fail_msg("%s ends with %d", error_code_name(rows[i].code),
                     error_code_exit_status(rows[i].code));
    for (int code = 1; code < ERROR_CODE_COUNT; code++)
        assert_int_not_equal(error_code_exit_status((enum error_code)code), 0);
}

static void codes_outside_the_table_have_an_answer(void **unused)
{
    (void)unused;
    static const int codes[] = {-1, ERROR_CODE_COUNT, 1000000};
    for (size_t i = 0; i < COUNT_OF(codes); i++) {
        volatile enum error_code code = (enum error_code)codes[i];
        expect_text(error_code_name(code), "unknown", "name");
        assert_int_equal(error_code_exit_status(code), 3);
        assert_non_null(error_code_sentence(code));
    }
}

static tidemill_error *try_twice(tidemill_error *first, tidemill_error *second)
{
    TRY(first);
    TRY(second);
    return NULL;
}

static void try_returns_the_first_error(void **unused)
{
    (void)unused;
    assert_null(try_twice(NULL, NULL));
    expect_error(try_twice(NULL, error_new(ERROR_IO, "second")), ERROR_IO, "second", "second");
    expect_error(try_twice(error_new(ERROR_INPUT, "first"), NULL), ERROR_INPUT, "first", "first");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contexts_come_before_the_message_in_order),
        cmocka_unit_test(nothing_stays_nothing),
        cmocka_unit_test(percent_signs_of_a_message_are_not_read_as_formats),
        cmocka_unit_test(long_messages_are_whole),
        cmocka_unit_test(out_of_memory_needs_no_memory),
        cmocka_unit_test(errno_decides_what_kind_of_error_it_is),
        cmocka_unit_test(errnos_without_a_name_are_told_as_numbers),
        cmocka_unit_test(names_are_different_and_sentences_fit_one_line),
        cmocka_unit_test(the_exit_status_is_what_scripts_rely_on),
        cmocka_unit_test(codes_outside_the_table_have_an_answer),
        cmocka_unit_test(try_returns_the_first_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
