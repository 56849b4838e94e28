/* SPDX-License-Identifier: Apache-2.0 */
/* server_resp_parse_test.c - the Redis protocol as clients, and others, send it. */
#include "server/resp_parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct resp_command command;

struct row {
    const char *name, *bytes;
    enum resp_parsed parsed;
    const char *words; /* joined by | */
    const char *left;  /* behind the command */
};

static const struct row rows[] = {
    {"an array", "*2\r\n$3\r\nGET\r\n$3\r\nq:1\r\n", RESP_WHOLE, "GET|q:1", ""},
    {"two in a row", "*1\r\n$4\r\nPING\r\nPING\r\n", RESP_WHOLE, "PING", "PING\r\n"},
    {"a line", "GET  q:1\r\nx", RESP_WHOLE, "GET|q:1", "x"},
    {"a line without CR", "PING\n", RESP_WHOLE, "PING", ""},
    {"an empty line", "\r\n", RESP_WHOLE, "", ""},
    {"an empty array", "*0\r\nx", RESP_WHOLE, "", "x"},
    {"a null array", "*-1\r\n", RESP_WHOLE, "", ""},
    {"an empty string", "*1\r\n$0\r\n\r\n", RESP_WHOLE, "", ""},
    {"a line end in a string", "*1\r\n$2\r\n\r\n\r\n", RESP_WHOLE, "\r\n", ""},
    {"nothing", "", RESP_MORE, NULL, NULL},
    {"a count that goes on", "*1", RESP_MORE, NULL, NULL},
    {"a CR that waits for its LF", "*1\r", RESP_MORE, NULL, NULL},
    {"a string that goes on", "*1\r\n$5\r\nPI", RESP_MORE, NULL, NULL},
    {"a line that goes on", "PING", RESP_MORE, NULL, NULL},
    {"10 GB", "*1\r\n$10000000000\r\n", RESP_BAD, "Protocol error: invalid bulk length", NULL},
    {"a byte too many", "*1\r\n$65537\r\n", RESP_BAD, "Protocol error: invalid bulk length", NULL},
    {"a number without end", "*1\r\n$00000000000000", RESP_BAD,
     "Protocol error: invalid bulk length", NULL},
    {"a negative string", "*1\r\n$-1\r\n", RESP_BAD, "Protocol error: invalid bulk length", NULL},
    {"many strings", "*1025\r\n", RESP_BAD, "Protocol error: invalid multibulk length", NULL},
    {"a billion strings", "*1000000000\r\n", RESP_BAD, "Protocol error: invalid multibulk length",
     NULL},
    {"no number", "*x\r\n", RESP_BAD, "Protocol error: invalid multibulk length", NULL},
    {"an array in an array", "*1\r\n*1\r\n", RESP_BAD, "Protocol error: expected '$'", NULL},
    {"a string that is longer than it says", "*1\r\n$1\r\nPING\r\n", RESP_BAD,
     "Protocol error: a bulk string does not end where it says", NULL},
    {"a lone CR", "*1\rx", RESP_BAD, "Protocol error: invalid multibulk length", NULL},
};

static void joined(struct buffer *out)
{
    for (size_t i = 0; i < command.n; i++) {
        if (i > 0) buffer_byte(out, '|');
        buffer_append(out, command.args[i].data, command.args[i].size);
    }
    buffer_byte(out, '\0');
}

static void check_row(const struct row *row)
{
    /* Without a NUL behind it, so that a read past the end is found. */
    size_t size = strlen(row->bytes), used = 99;
    char *bytes = malloc(size + (size == 0));
    assert_non_null(bytes);
    memcpy(bytes, row->bytes, size);
    const char *message = NULL;
    enum resp_parsed parsed = resp_parse(bytes, size, &command, &used, &message);
    if (parsed != row->parsed) fail_msg("%s: %d", row->name, (int)parsed);
    if (parsed == RESP_BAD) assert_string_equal(message, row->words);
    if (parsed == RESP_WHOLE) {
        struct buffer words = {0};
        joined(&words);
        assert_string_equal(words.data, row->words);
        assert_int_equal(size - used, strlen(row->left));
        buffer_free(&words);
    }
    free(bytes);
}

static void reads_commands(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) check_row(&rows[i]);
}

/* A thousand strings of 64 KiB are each allowed, but not together. */
static void bounds_the_whole_command(void **state)
{
    (void)state;
    struct buffer bytes = {0};
    buffer_text(&bytes, "*1000\r\n");
    for (int i = 0; i < 20; i++) {
        buffer_text(&bytes, "$65536\r\n");
        char *place = buffer_reserve(&bytes, 65536);
        assert_non_null(place);
        memset(place, 'x', 65536);
        bytes.size += 65536;
        buffer_text(&bytes, "\r\n");
    }
    const char *message = NULL;
    size_t used;
    assert_int_equal(resp_parse(bytes.data, RESP_COMMAND_BYTES_MAX, &command, &used, &message),
                     RESP_MORE);
    assert_int_equal(resp_parse(bytes.data, bytes.size, &command, &used, &message), RESP_BAD);
    assert_string_equal(message, "Protocol error: the command is too large");
    buffer_free(&bytes);
}

static void bounds_a_line(void **state)
{
    (void)state;
    char *line = malloc(RESP_INLINE_BYTES_MAX);
    assert_non_null(line);
    memset(line, 'x', RESP_INLINE_BYTES_MAX);
    const char *message = NULL;
    size_t used;
    assert_int_equal(resp_parse(line, RESP_INLINE_BYTES_MAX - 1, &command, &used, &message),
                     RESP_MORE);
    assert_int_equal(resp_parse(line, RESP_INLINE_BYTES_MAX, &command, &used, &message), RESP_BAD);
    for (size_t i = 1; i < 4000; i += 2) line[i] = ' ';
    line[RESP_INLINE_BYTES_MAX - 1] = '\n';
    assert_int_equal(resp_parse(line, RESP_INLINE_BYTES_MAX, &command, &used, &message), RESP_BAD);
    free(line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_commands),
        cmocka_unit_test(bounds_the_whole_command),
        cmocka_unit_test(bounds_a_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
