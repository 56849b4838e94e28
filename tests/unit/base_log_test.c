/* SPDX-License-Identifier: Apache-2.0 */
/* base_log_test.c - one line an event whatever is in it: no record can forge a line, move the
 * cursor or break the JSON. Standard error is a pipe meanwhile. */
#include "expect.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <yyjson.h>

#define THREADS 4
#define EVENTS 100

struct capture {
    int saved, read_end;
    char text[65536];
};

static void capture_begin(struct capture *capture)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) abort();
    capture->saved = dup(STDERR_FILENO);
    if (capture->saved < 0 || dup2(ends[1], STDERR_FILENO) < 0) abort();
    close(ends[1]);
    capture->read_end = ends[0];
}

/* What was written since, ended with a NUL; less than a pipe holds. */
static const char *capture_end(struct capture *capture)
{
    size_t size = 0;
    if (dup2(capture->saved, STDERR_FILENO) < 0) abort(); /* closes the pipe's writing end */
    close(capture->saved);
    for (ssize_t n; size < sizeof capture->text - 1; size += (size_t)n) {
        n = read(capture->read_end, capture->text + size, sizeof capture->text - 1 - size);
        if (n <= 0) break;
    }
    close(capture->read_end);
    capture->text[size] = '\0';
    log_configure(LOG_INFO, LOG_FORMAT_TEXT);
    return capture->text;
}

static const struct {
    const char *name, *message, *text;
} messages[] = {
    {"plain text is changed", "3 rows, 100% \"done\"", "3 rows, 100% \"done\""},
    {"an empty message makes no line", "", ""},
    {"a line feed forges a line", "a\ntidemill: error: b", "a\\x0atidemill: error: b"},
    {"a carriage return hides the line", "a\rb", "a\\x0db"},
    {"an escape moves the cursor", "\033[2Jgone", "\\x1b[2Jgone"},
    {"a bell rings", "\a\b\t\v\f\x01\x1f", "\\x07\\x08\\x09\\x0b\\x0c\\x01\\x1f"},
    {"delete takes a letter back", "a\x7f", "a\\x7f"},
    {"a backslash ends the string", "C:\\new \\", "C:\\new \\"},
    {"UTF-8 is cut up", "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x8c\x8a",
     "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x8c\x8a"},
};

static void text_lines_have_no_control_characters(void **unused)
{
    (void)unused;
    static const struct {
        enum log_level level;
        const char *prefix;
    } levels[] = {
        {LOG_ERROR, "tidemill: error: "},
        {LOG_WARNING, "tidemill: warning: "},
        {LOG_INFO, ""},
        {LOG_DEBUG, ""},
    };
    static struct capture capture;
    for (size_t i = 0; i < COUNT_OF(messages) * COUNT_OF(levels); i++) {
        size_t m = i / COUNT_OF(levels), l = i % COUNT_OF(levels);
        char expected[200];
        snprintf(expected, sizeof expected, "%s%s\n", levels[l].prefix, messages[m].text);
        log_configure(LOG_DEBUG, LOG_FORMAT_TEXT);
        capture_begin(&capture);
        log_event(levels[l].level, "%s", messages[m].message);
        expect_text(capture_end(&capture), expected, messages[m].name);
    }
}

static void assert_json(const char *line, const char *message, const char *level, const char *name)
{
    size_t size = strlen(line);
    if (size == 0 || strchr(line, '\n') != line + size - 1) fail_msg("%s: not one line", name);
    yyjson_doc *doc = yyjson_read(line, size, 0);
    if (doc == NULL) fail_msg("%s: not JSON: %s", name, line);
    yyjson_val *root = yyjson_doc_get_root(doc);
    expect_text(yyjson_get_str(yyjson_obj_get(root, "message")), message, name);
    expect_text(yyjson_get_str(yyjson_obj_get(root, "level")), level, name);
    const char *time = yyjson_get_str(yyjson_obj_get(root, "time"));
    unsigned year, month, day, hour, minute, second, ms;
    int end = 0;
    assert_int_equal(sscanf(time, "%4u-%2u-%2uT%2u:%2u:%2u.%3uZ%n", &year, &month, &day, &hour,
                            &minute, &second, &ms, &end),
                     7);
    assert_int_equal(strlen(time), end);
    assert_int_equal(yyjson_obj_size(root), 3);
    yyjson_doc_free(doc);
}

static void json_lines_read_back_to_the_message(void **unused)
{
    (void)unused;
    static struct capture capture;
    for (size_t i = 0; i < COUNT_OF(messages); i++) {
        log_configure(LOG_INFO, LOG_FORMAT_JSON);
        assert_true(log_is_json());
        capture_begin(&capture);
        log_event(LOG_WARNING, "%s", messages[i].message);
        assert_json(capture_end(&capture), messages[i].message, "warning", messages[i].name);
        assert_false(log_is_json());
    }
}

static void levels_above_the_limit_are_silent(void **unused)
{
    (void)unused;
    static struct capture capture;
    for (int limit = LOG_ERROR; limit <= LOG_DEBUG; limit++) {
        int n_lines = 0;
        log_configure((enum log_level)limit, LOG_FORMAT_TEXT);
        capture_begin(&capture);
        for (int level = LOG_ERROR; level <= LOG_DEBUG; level++)
            log_event((enum log_level)level, "x");
        for (const char *p = capture_end(&capture); *p != '\0'; p++) n_lines += *p == '\n';
        assert_int_equal(n_lines, limit + 1);
    }
}

static void long_events_are_one_whole_line(void **unused)
{
    (void)unused;
    static struct capture capture;
    capture_begin(&capture);
    log_event(LOG_INFO, "%030000d|%d", 0, 7);
    const char *text = capture_end(&capture);
    assert_int_equal(strlen(text), 30003);
    assert_string_equal(text + 30000, "|7\n");
}

static void a_status_is_taken_away_before_an_event(void **unused)
{
    (void)unused;
    static struct capture capture;
    capture_begin(&capture);
    log_status(""); /* nothing there: nothing to take away */
    log_status("10%");
    log_status("20%");
    log_event(LOG_INFO, "event");
    log_event(LOG_INFO, "another");
    log_status("30%");
    log_status("");
    log_status("");
    expect_text(capture_end(&capture),
                "\r\033[K10%\r\033[K20%\r\033[Kevent\nanother\n\r\033[K30%\r\033[K", "status");
}

static void *log_lines(void *argument)
{
    int letter = *(const int *)argument;
    for (int i = 0; i < EVENTS; i++)
        log_event(LOG_INFO, "%c%c%c%c%c%c%c%c", letter, letter, letter, letter, letter, letter,
                  letter, letter);
    return NULL;
}

static void lines_of_several_threads_do_not_mix(void **unused)
{
    (void)unused;
    static struct capture capture;
    pthread_t threads[THREADS];
    int letters[THREADS] = {'a', 'b', 'c', 'd'}, counts[THREADS] = {0};
    capture_begin(&capture);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, log_lines, &letters[i]) != 0) abort();
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    const char *text = capture_end(&capture);
    assert_int_equal(strlen(text), THREADS * EVENTS * 9);
    for (const char *line = text; *line != '\0'; line += 9) {
        assert_int_equal(strspn(line, (char[]){line[0], '\0'}), 8);
        assert_int_equal(line[8], '\n');
        counts[line[0] - 'a']++;
    }
    for (int i = 0; i < THREADS; i++) assert_int_equal(counts[i], EVENTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_lines_have_no_control_characters),
        cmocka_unit_test(json_lines_read_back_to_the_message),
        cmocka_unit_test(levels_above_the_limit_are_silent),
        cmocka_unit_test(long_events_are_one_whole_line),
        cmocka_unit_test(a_status_is_taken_away_before_an_event),
        cmocka_unit_test(lines_of_several_threads_do_not_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
