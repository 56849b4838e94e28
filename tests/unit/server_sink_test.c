/* SPDX-License-Identifier: Apache-2.0 */
/* server_sink_test.c - sinks that write files: what is there after a kill at each point is neither lost
 * nor doubled. */
#include "server/delivery_parts.h"
#include "tempdir.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define BYTES_MAX (1 << 20)

static struct tempdir folder;
static struct app app = {.io = &io_local};
static struct store_job job = {.id = "win_1"};

static int open_folder(void **state)
{
    (void)state;
    tempdir_open(&folder);
    return 0;
}

static int close_folder(void **state)
{
    (void)state;
    tempdir_close(&folder);
    return 0;
}

/* The file's content; the next call makes it invalid. */
static const char *content(const char *name)
{
    static char text[BYTES_MAX];
    FILE *file = fopen(tempdir_path(&folder, name), "rb");
    if (file == NULL) return "";
    size_t size = fread(text, 1, sizeof text - 1, file);
    text[size] = '\0';
    fclose(file);
    return text;
}

static void write_text(const char *name, const char *text)
{
    tempdir_write(tempdir_path(&folder, name), text, strlen(text));
}

static void append(const char *event, const char *lines)
{
    char from[256], to[256];
    snprintf(from, sizeof from, "%s", tempdir_path(&folder, "from"));
    snprintf(to, sizeof to, "%s", tempdir_path(&folder, "to"));
    write_text("from", lines);
    struct sink_source source = {.app = &app, .event = event, .job = &job, .path = from};
    tidemill_error *error = sink_jsonl(&source, to);
    if (error != NULL) fail_msg("%s", error_message(error));
}

static void appends_each_event_once(void **state)
{
    (void)state;
    append("evt_1", "a\nb\n");
    append("evt_2", "c\n");
    append("evt_1", "a\nb\n");
    append("evt_2", "c\n");
    assert_string_equal(content("to"), "a\nb\nc\n");
}

struct row {
    const char *name, *journal, *to, *expected;
};

/* "a\nb\nc\n" of evt_2 is to stand behind "x\n". */
static const struct row rows[] = {
    {"nothing was noted", "", "x\n", "x\na\nb\nc\n"},
    {"noted, nothing written", "begin evt_2 2\n", "x\n", "x\na\nb\nc\n"},
    {"in the middle of a line", "begin evt_2 2\n", "x\na\nb", "x\na\nb\nc\n"},
    {"all written, not noted", "begin evt_2 2\n", "x\na\nb\nc\n", "x\na\nb\nc\n"},
    {"in the middle of the note", "begin evt_2 2\n\nend ev", "x\na\nb\nc\n", "x\na\nb\nc\n"},
    {"in the middle of the first note", "\nbegin evt", "x\n", "x\na\nb\nc\n"},
    {"noted as done", "begin evt_2 2\n\nend evt_2\n", "x\n", "x\n"},
    {"another event's note", "begin evt_3 0\n", "x\n", "x\na\nb\nc\n"},
    {"somebody wrote meanwhile", "begin evt_2 2\n", "x\nmine\n", "x\nmine\na\nb\nc\n"},
    {"somebody wrote behind it", "begin evt_2 2\n", "x\na\nb\nc\nmine\n", "x\na\nb\nc\nmine\n"},
    {"the file was replaced", "begin evt_2 20\n", "", "a\nb\nc\n"},
};

static void goes_on_where_a_kill_left_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        write_text("to.journal", rows[i].journal);
        write_text("to", rows[i].to);
        append("evt_2", "a\nb\nc\n");
        if (strcmp(content("to"), rows[i].expected) != 0)
            fail_msg("%s: %s", rows[i].name, content("to"));
        append("evt_2", "a\nb\nc\n"); /* and never again */
        assert_string_equal(content("to"), rows[i].expected);
    }
}

/* Larger than the blocks that are compared. */
static void finds_where_a_large_one_was_cut(void **state)
{
    (void)state;
    struct buffer lines = {0};
    for (int i = 0; i < 90000; i++) buffer_printf(&lines, "%05d\n", i);
    size_t size = lines.size;
    buffer_byte(&lines, '\0');
    static const size_t cuts[] = {1, (256 << 10) - 1, 256 << 10, (256 << 10) + 1, 512 << 10};
    for (size_t i = 0; i < COUNT_OF(cuts); i++) {
        write_text("to.journal", "begin evt_2 0\n");
        tempdir_write(tempdir_path(&folder, "to"), lines.data, cuts[i]);
        append("evt_2", lines.data);
        assert_int_equal(strlen(content("to")), size);
        assert_string_equal(content("to"), lines.data);
    }
    buffer_free(&lines);
}

static void publishes_whole_files(void **state)
{
    (void)state;
    char from[256], to[256];
    snprintf(from, sizeof from, "%s", tempdir_path(&folder, "from"));
    snprintf(to, sizeof to, "%s", tempdir_path(&folder, "each"));
    struct sink_source source = {.app = &app, .event = "evt_1", .job = &job, .path = from};
    for (int i = 0; i < 2; i++) {
        write_text("from", "a\nb\n");
        tidemill_error *error = sink_directory(&source, to);
        if (error != NULL) fail_msg("%s", error_message(error));
        assert_string_equal(content("each/win_1.jsonl"), "a\nb\n");
        assert_string_equal(content("each/.win_1.partial"), "");
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_folder, close_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(appends_each_event_once),
        TEST(goes_on_where_a_kill_left_it),
        TEST(finds_where_a_large_one_was_cut),
        TEST(publishes_whole_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
