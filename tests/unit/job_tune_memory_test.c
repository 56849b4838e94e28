/* SPDX-License-Identifier: Apache-2.0 */
/* job_tune_memory_test.c - what was measured is found again, under its own key alone; broken, foreign and
 * impossible files are passed over and replaced; a file is never torn. */
#include "expect.h"
#include "simdisk.h"

#include "job/tune_memory.h"

#include <errno.h>

#define PATH "/cache/tidemill/tune.json"

static const struct tune_key some_key = {
    .model = "0123", .provider = "cpu", .outputs = "", .cpu = "A \"fast\" one", .cores = 8};

static struct tune_entry some_entry(void)
{
    struct tune_entry entry = {.library = "ONNX Runtime 1.32.0 (cpu)",
                               .instances = 4,
                               .threads = 2,
                               .is_parallel_measured = true,
                               .rows = 181,
                               .call_tokens = 17,
                               .rate_rows_s = 1234.5,
                               .host_bytes = 1 << 28,
                               .budget_s = 1.5};
    entry.tokens[7] = 1448;
    return entry;
}

static void keep(const struct io *io, const struct tune_key *key, const struct tune_entry *entry)
{
    expect_fine(tune_memory_keep(io, PATH, key, entry), "keep");
}

static void what_was_kept_is_found(void **unused)
{
    (void)unused;
    struct simdisk *disk = simdisk_new();
    const struct io *io = simdisk_io(disk);
    struct tune_entry entry = some_entry(), found;
    assert_false(tune_memory_find(io, PATH, &some_key, &found)); /* nothing there yet */
    keep(io, &some_key, &entry);
    simdisk_crash(disk, 1); /* it was synced */
    assert_true(tune_memory_find(io, PATH, &some_key, &found));
    assert_int_equal(strlen(found.date), 20);
    memset(found.date, 0, sizeof found.date);
    assert_string_equal(found.library, entry.library);
    memset(found.library, 0, sizeof found.library);
    memset(entry.library, 0, sizeof entry.library);
    assert_memory_equal(&found, &entry, sizeof entry);
    assert_int_equal(simdisk_file_count(disk), 1); /* no temporary file stays */
    simdisk_free(disk);
}

/* One part of the key differs each time. */
static void other_keys_are_others(void **unused)
{
    (void)unused;
    struct simdisk *disk = simdisk_new();
    struct tune_entry entry = some_entry(), found;
    struct tune_key others[5];
    for (size_t i = 0; i < COUNT_OF(others); i++) others[i] = some_key;
    others[0].model = "0124";
    others[1].provider = "cpu:x=1";
    others[2].outputs = "y,";
    others[3].cpu = "another";
    others[4].cores = 4;
    keep(simdisk_io(disk), &some_key, &entry);
    for (size_t i = 0; i < COUNT_OF(others); i++)
        if (tune_memory_find(simdisk_io(disk), PATH, &others[i], &found))
            fail_msg("key %zu was taken for the other one", i);
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        entry.rows = (uint32_t)i + 1;
        keep(simdisk_io(disk), &others[i], &entry);
    }
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        assert_true(tune_memory_find(simdisk_io(disk), PATH, &others[i], &found));
        assert_int_equal(found.rows, i + 1);
    }
    assert_true(tune_memory_find(simdisk_io(disk), PATH, &some_key, &found));
    assert_int_equal(found.rows, 181);
    simdisk_free(disk);
}

static void the_oldest_make_room(void **unused)
{
    (void)unused;
    struct simdisk *disk = simdisk_new();
    struct tune_entry entry = some_entry(), found;
    struct tune_key key = some_key;
    size_t size;
    for (key.cores = 1; key.cores <= 300; key.cores++) keep(simdisk_io(disk), &key, &entry);
    key.cores = 1;
    assert_false(tune_memory_find(simdisk_io(disk), PATH, &key, &found));
    key.cores = 300;
    assert_true(tune_memory_find(simdisk_io(disk), PATH, &key, &found));
    simdisk_get(disk, PATH, &size);
    assert_in_range(size, 1, 1 << 20);
    simdisk_free(disk);
}

#define HEAD "{\"tidemill_tune\":1,\"entries\":["
#define KEY                                                                                        \
    "{\"model\":\"0123\",\"provider\":\"cpu\",\"outputs\":\"\",\"cpu\":\"A \\\"fast\\\" "          \
    "one\",\"cores\":8,"
#define TOKENS "\"tokens\":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],\"call_tokens\":0,"

static const struct {
    const char *name, *text;
} broken[] = {
    {"empty", ""},
    {"not JSON", "hello"},
    {"cut off", HEAD KEY "\"instances\":4,"},
    {"someone else's", "{\"entries\":{}}"},
    {"another version", "{\"tidemill_tune\":2,\"entries\":[]}"},
    {"entries of another kind", HEAD "1,null,[],\"x\",{}]}"},
    {"an entry without numbers", HEAD KEY "\"rows\":1}]}"},
    {"a million threads",
     HEAD KEY TOKENS "\"instances\":4,\"threads\":1000000,\"rows\":1,\"host_bytes\":1}]}"},
    {"no process", HEAD KEY TOKENS "\"instances\":0,\"threads\":1,\"rows\":1,\"host_bytes\":1}]}"},
    {"a negative batch",
     HEAD KEY TOKENS "\"instances\":1,\"threads\":1,\"rows\":-1,\"host_bytes\":1}]}"},
    {"a broken batch",
     HEAD KEY TOKENS "\"instances\":1,\"threads\":1,\"rows\":1.5,\"host_bytes\":1}]}"},
    {"classes of another version",
     HEAD KEY "\"tokens\":[1,2],\"call_tokens\":0,\"instances\":1,\"threads\":1,\"rows\":1,"
              "\"host_bytes\":1}]}"},
};

static void broken_files_are_passed_over_and_replaced(void **unused)
{
    (void)unused;
    log_configure(LOG_ERROR, LOG_FORMAT_TEXT);
    for (size_t i = 0; i < COUNT_OF(broken); i++) {
        struct simdisk *disk = simdisk_new();
        struct tune_entry entry = some_entry(), found;
        simdisk_put(disk, PATH, broken[i].text, strlen(broken[i].text));
        if (tune_memory_find(simdisk_io(disk), PATH, &some_key, &found))
            fail_msg("%s: was taken", broken[i].name);
        keep(simdisk_io(disk), &some_key, &entry);
        if (!tune_memory_find(simdisk_io(disk), PATH, &some_key, &found))
            fail_msg("%s: was not replaced", broken[i].name);
        simdisk_free(disk);
    }
}

static void a_huge_file_is_not_read(void **unused)
{
    (void)unused;
    struct simdisk *disk = simdisk_new();
    struct tune_entry found;
    size_t size = (size_t)2 << 20;
    char *text = malloc(size);
    assert_non_null(text);
    memset(text, ' ', size);
    memcpy(text, HEAD "]}", strlen(HEAD "]}"));
    simdisk_put(disk, PATH, text, size);
    assert_false(tune_memory_find(simdisk_io(disk), PATH, &some_key, &found));
    free(text);
    simdisk_free(disk);
}

/* Whatever call fails, what is there afterwards is the old file or the new one. */
static void failures_leave_old_or_new(void **unused)
{
    (void)unused;
    for (uint64_t nth = 1; nth < 40; nth++) {
        struct simdisk *disk = simdisk_new();
        struct tune_entry entry = some_entry(), found;
        keep(simdisk_io(disk), &some_key, &entry);
        entry.rows = 7;
        simdisk_fail(disk, SIMDISK_ANY, nth, SIMDISK_FOREVER, EIO);
        error_free(tune_memory_keep(simdisk_io(disk), PATH, &some_key, &entry));
        simdisk_fail(disk, SIMDISK_ANY, 0, SIMDISK_ONCE, 0);
        simdisk_crash(disk, nth);
        assert_true(tune_memory_find(simdisk_io(disk), PATH, &some_key, &found));
        assert_true(found.rows == 7 || found.rows == 181);
        simdisk_free(disk);
    }
}

static void the_path_follows_the_environment(void **unused)
{
    (void)unused;
    static const struct {
        const char *cache, *home, *path;
    } rows[] = {
        {"/c", "/h", "/c/tidemill/tune.json"},
        {NULL, "/h", "/h/.cache/tidemill/tune.json"},
        {"relative", "/h", "/h/.cache/tidemill/tune.json"},
        {"", "/h", "/h/.cache/tidemill/tune.json"},
        {NULL, NULL, NULL},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char *path;
        unsetenv("XDG_CACHE_HOME");
        unsetenv("HOME");
        if (rows[i].cache != NULL) setenv("XDG_CACHE_HOME", rows[i].cache, 1);
        if (rows[i].home != NULL) setenv("HOME", rows[i].home, 1);
        expect_fine(tune_memory_path(&path), "path");
        if (rows[i].path == NULL)
            assert_null(path);
        else
            expect_text(path, rows[i].path, "path");
        free(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_kept_is_found),
        cmocka_unit_test(other_keys_are_others),
        cmocka_unit_test(the_oldest_make_room),
        cmocka_unit_test(broken_files_are_passed_over_and_replaced),
        cmocka_unit_test(a_huge_file_is_not_read),
        cmocka_unit_test(failures_leave_old_or_new),
        cmocka_unit_test(the_path_follows_the_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
