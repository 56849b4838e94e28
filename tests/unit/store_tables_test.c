/* SPDX-License-Identifier: Apache-2.0 */
/* store_tables_test.c - opening, files, keys, deliveries, replies, copies. */
#include "store_steps.h"

#include <sqlite3.h>

/* --- opening ---------------------------------------------------------------------------------------- */

static void two_servers_cannot_have_one_store(void **state)
{
    struct fixture f;
    struct store *second = NULL;
    (void)state;
    fixture_begin(&f);
    expect_error(store_open(&io_local, f.path, &second), ERROR_LOCKED, NULL, "second");
    assert_null(second);
    store_close(f.store);
    fixture_open(&f); /* the lock went with it */
    fixture_end(&f);
}

static void a_folder_in_a_folder_that_is_not_there_is_refused(void **state)
{
    struct store *store;
    (void)state;
    expect_error(store_open(&io_local, "/nowhere/at/all", &store), ERROR_IO, "/nowhere",
                 "no folder");
}

static void change_database(struct fixture *f, const char *sql)
{
    char path[160];
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/store.db", f->path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void a_newer_store_is_left_alone(void **state)
{
    struct fixture f;
    struct store *store;
    (void)state;
    fixture_begin(&f);
    store_close(f.store);
    change_database(&f, "PRAGMA user_version = 99");
    expect_error(store_open(&io_local, f.path, &store), ERROR_UNSUPPORTED, "newer", "open");
    expect_error(store_open_beside(&io_local, f.path, &store), ERROR_UNSUPPORTED, "newer",
                 "beside");
    change_database(&f, "PRAGMA user_version = 1; PRAGMA application_id = 7");
    expect_error(store_open(&io_local, f.path, &store), ERROR_CORRUPT, "another program",
                 "foreign");
    change_database(&f, "PRAGMA application_id = 1952738668");
    fixture_open(&f);
    fixture_end(&f);
}

static void what_no_row_knows_is_removed(void **state)
{
    struct fixture f;
    char path[6][256];
    static const char *const names[] = {"files/file-lost", "files/upload-x", "windows/win_lost",
                                        "jobs/batch_x",    "jobs/batch_x/a", "files/file-kept"};
    (void)state;
    fixture_begin(&f);
    struct store_file file = {.id = "file-kept"};
    expect_fine(upload(f.store, "t", "x\n", &file), "a file with a row");
    store_close(f.store);
    for (size_t i = 0; i < 6; i++) snprintf(path[i], sizeof path[i], "%s/%s", f.path, names[i]);
    for (size_t i = 0; i < 3; i++) tempdir_write(path[i], "x", 1);
    expect_fine(io_make_directory(&io_local, path[3], 0700), "folder");
    tempdir_write(path[4], "x", 1);
    fixture_open(&f);
    for (size_t i = 0; i < 5; i++) assert_false(io_exists(&io_local, path[i]));
    assert_true(io_exists(&io_local, path[5]));
    store_file_free(&file);
    fixture_end(&f);
}

static void ids_cannot_be_guessed(void **state)
{
    char a[STORE_ID_BYTES], b[STORE_ID_BYTES];
    (void)state;
    store_new_id("file-", a);
    store_new_id("file-", b);
    assert_int_equal(strlen(a), 5 + 24);
    assert_string_not_equal(a, b);
    assert_int_equal(strspn(a + 5, "0123456789abcdef"), 24);
}

/* --- files --------------------------------------------------------------------------------------------- */

static void a_file_comes_back_whole(void **state)
{
    struct fixture f;
    struct store_file file = {.expires_at = 99, .created_at = 5}, found;
    bool is_found;
    char *path;
    (void)state;
    fixture_begin(&f);
    file.filename = strdup("../../etc/passwd");
    expect_fine(upload(f.store, "t", "{}\n{}\n{}", &file), "upload");
    assert_int_equal(file.lines, 3);
    for (int i = 0; i < 2; i++) {
        expect_fine(store_file_get(f.store, "t", file.id, &found, &is_found), "get");
        assert_true(is_found);
        expect_text(found.filename, "../../etc/passwd", "name");
        expect_text(found.purpose, "batch", "purpose");
        assert_int_equal(found.bytes, 8);
        assert_int_equal(found.lines, 3);
        assert_int_equal(found.created_at, 5);
        assert_int_equal(found.expires_at, 99);
        assert_true(digest_equal(found.digest, hash_bytes("{}\n{}\n{}", 8)));
        store_file_free(&found);
        expect_fine(store_file_path(f.store, file.id, &path), "path");
        char *content = slurp(path);
        expect_text(content, "{}\n{}\n{}", "content");
        free(content);
        free(path);
        fixture_reopen(&f);
    }
    expect_fine(store_file_get(f.store, "u", file.id, &found, &is_found), "foreign");
    assert_false(is_found);
    expect_fine(store_file_delete(f.store, "u", file.id, &is_found), "foreign");
    assert_false(is_found);
    expect_fine(store_file_path(f.store, file.id, &path), "path");
    expect_fine(store_file_delete(f.store, "t", file.id, &is_found), "delete");
    assert_true(is_found);
    assert_false(io_exists(&io_local, path));
    expect_fine(store_file_delete(f.store, "t", file.id, &is_found), "twice");
    assert_false(is_found);
    expect_error(store_file_path(f.store, "../store.db", &path), ERROR_USAGE, NULL, "a path");
    free(path);
    store_file_free(&file);
    fixture_end(&f);
}

static void an_upload_that_is_dropped_leaves_nothing(void **state)
{
    struct fixture f;
    struct store_upload *upload_;
    struct store_files files;
    struct store_page page = {.limit = 9};
    (void)state;
    fixture_begin(&f);
    expect_fine(store_upload_new(f.store, &upload_), "new");
    expect_fine(store_upload_write(upload_, "x", 1), "write");
    store_upload_drop(upload_);
    store_upload_drop(NULL);
    struct store_file file = {.id = "file-1"}, same = {.id = "file-1"}, bad = {.id = "../x"};
    expect_fine(upload(f.store, "t", "", &file), "an empty one");
    assert_int_equal(file.lines, 0);
    expect_error(upload(f.store, "t", "other", &same), ERROR_EXISTS, NULL, "an id twice");
    expect_error(upload(f.store, "t", "other", &bad), ERROR_USAGE, NULL, "an id that is a path");
    expect_fine(store_file_list(f.store, &page, NULL, &files), "list");
    assert_int_equal(files.n, 1);
    assert_int_equal(files.items[0].bytes, 0);
    store_files_free(&files);
    store_file_free(&file);
    store_file_free(&same);
    store_file_free(&bad);
    fixture_end(&f);
}

static void files_are_listed_and_expire(void **state)
{
    struct fixture f;
    struct store_files files;
    size_t n;
    (void)state;
    fixture_begin(&f);
    for (int i = 0; i < 300; i++) {
        struct store_file file = {.created_at = 7, .expires_at = i % 2 == 0 ? 0 : 1000 + i};
        snprintf(file.id, sizeof file.id, "file-%03d", i);
        snprintf(file.purpose, sizeof file.purpose, i % 3 == 0 ? "user_data" : "batch");
        expect_fine(upload(f.store, i == 299 ? "u" : "t", "x", &file), "upload");
        store_file_free(&file);
    }
    struct store_page page = {.tenant = "t", .after = "file-290", .limit = 3, .is_ascending = true};
    expect_fine(store_file_list(f.store, &page, "user_data", &files), "list");
    assert_int_equal(files.n, 3);
    assert_false(files.has_more);
    expect_text(files.items[0].id, "file-291", "first");
    expect_text(files.items[2].id, "file-297", "last");
    store_files_free(&files);
    page = (struct store_page){.limit = 2};
    expect_fine(store_file_list(f.store, &page, NULL, &files), "newest");
    assert_true(files.has_more);
    expect_text(files.items[0].id, "file-299", "newest");
    store_files_free(&files);
    page = (struct store_page){.tenant = "t", .after = "file-299", .limit = 2};
    expect_fine(store_file_list(f.store, &page, NULL, &files), "behind a foreign one");
    assert_int_equal(files.n, 0);
    store_files_free(&files);
    expect_fine(store_file_expire(f.store, 1000, &n), "none yet");
    assert_int_equal(n, 0);
    expect_fine(store_file_expire(f.store, 1011, &n), "some");
    assert_int_equal(n, 6);
    expect_fine(store_file_expire(f.store, INT64_MAX, &n), "the rest");
    assert_int_equal(n, 144);
    page = (struct store_page){.limit = 1000};
    expect_fine(store_file_list(f.store, &page, NULL, &files), "what is left");
    assert_int_equal(files.n, 150);
    store_files_free(&files);
    fixture_end(&f);
}

/* --- keys ------------------------------------------------------------------------------------------------ */

static void keys_are_kept_and_revoked(void **state)
{
    struct fixture f;
    struct store_keys keys;
    struct store *beside;
    int64_t version, later;
    bool is_found;
    struct store_key key = {.id = "key_1",
                            .name = "laptop",
                            .tenant = "t",
                            .hash = {1, 2, 3},
                            .hint = "tdm_abc",
                            .is_admin = true,
                            .requests_minute = 60,
                            .budget_usd = 2.5};
    (void)state;
    fixture_begin(&f);
    key.queues = (char *)(uintptr_t) "night,day";
    expect_fine(store_key_version(f.store, &version), "version");
    expect_fine(store_open_beside(&io_local, f.path, &beside), "beside the server");
    expect_fine(store_key_add(beside, &key), "add");
    expect_error(store_key_add(beside, &key), ERROR_EXISTS, NULL, "twice");
    store_close(beside);
    expect_fine(store_key_version(f.store, &later), "version");
    assert_true(later > version);
    expect_fine(store_key_list(f.store, &keys), "list");
    assert_int_equal(keys.n, 1);
    assert_memory_equal(keys.items[0].hash, key.hash, sizeof key.hash);
    expect_text(keys.items[0].queues, "night,day", "queues");
    expect_text(keys.items[0].hint, "tdm_abc", "hint");
    assert_true(keys.items[0].is_admin);
    assert_int_equal(keys.items[0].revoked_at, 0);
    assert_int_equal(keys.items[0].requests_minute, 60);
    store_keys_free(&keys);
    expect_fine(store_key_revoke(f.store, "key_2", &is_found), "no such key");
    assert_false(is_found);
    expect_fine(store_key_revoke(f.store, "key_1", &is_found), "revoke");
    assert_true(is_found);
    expect_fine(store_key_version(f.store, &version), "version");
    assert_true(version > later);
    expect_fine(store_key_list(f.store, &keys), "list");
    int64_t revoked_at = keys.items[0].revoked_at;
    assert_true(revoked_at > 0);
    store_keys_free(&keys);
    expect_fine(store_key_revoke(f.store, "key_1", &is_found), "again");
    expect_fine(store_key_list(f.store, &keys), "list");
    assert_int_equal(keys.items[0].revoked_at, revoked_at);
    store_keys_free(&keys);
    fixture_end(&f);
}

static void a_key_may_come_before_the_first_server(void **state)
{
    struct fixture f;
    struct store_keys keys;
    struct store_key key = {.id = "key_1", .tenant = "t"};
    (void)state;
    f = (struct fixture){0};
    tempdir_open(&f.tempdir);
    snprintf(f.path, sizeof f.path, "%s/data", f.tempdir.path);
    expect_fine(store_open_beside(&io_local, f.path, &f.store), "beside nobody");
    expect_fine(store_key_add(f.store, &key), "add");
    store_close(f.store);
    fixture_open(&f);
    expect_fine(store_key_list(f.store, &keys), "list");
    assert_int_equal(keys.n, 1);
    assert_null(keys.items[0].queues);
    store_keys_free(&keys);
    fixture_end(&f);
}

/* --- deliveries, replies ------------------------------------------------------------------------------- */

static void a_delivery_is_tried_until_it_is_done(void **state)
{
    struct fixture f;
    struct store_delivery *due;
    size_t n;
    struct store_delivery delivery = {.id = "evt_1", .job = "batch_1", .next_at = 10};
    (void)state;
    fixture_begin(&f);
    delivery.target = (char *)(uintptr_t) "https://example.org";
    delivery.body = (char *)(uintptr_t) "{}";
    expect_fine(store_delivery_add(f.store, &delivery), "add");
    expect_fine(store_delivery_due(f.store, 9, 5, &due, &n), "not yet");
    assert_int_equal(n, 0);
    store_deliveries_free(due, n);
    expect_fine(store_delivery_tried(f.store, "evt_1", 20, "503"), "tried");
    expect_fine(store_delivery_add(f.store, &delivery), "left alone");
    expect_fine(store_delivery_due(f.store, 19, 5, &due, &n), "not yet");
    assert_int_equal(n, 0);
    store_deliveries_free(due, n);
    expect_fine(store_delivery_due(f.store, 20, 5, &due, &n), "due");
    assert_int_equal(n, 1);
    assert_int_equal(due[0].attempts, 1);
    expect_text(due[0].body, "{}", "body");
    expect_text(due[0].target, "https://example.org", "target");
    expect_text(due[0].job, "batch_1", "job");
    store_deliveries_free(due, n);
    expect_fine(store_delivery_tried(f.store, "evt_1", 0, "200"), "done");
    expect_fine(store_delivery_add(f.store, &delivery), "not again");
    expect_fine(store_delivery_due(f.store, INT64_MAX, 5, &due, &n), "due");
    assert_int_equal(n, 0);
    store_deliveries_free(due, n);
    expect_fine(store_delivery_tried(f.store, "evt_none", 5, "x"), "no such one");
    fixture_end(&f);
}

static void the_first_reply_stays(void **state)
{
    struct fixture f;
    struct buffer reply = {0};
    struct digest digest;
    bool is_found;
    size_t n;
    (void)state;
    fixture_begin(&f);
    struct slice first = {"a\0b", 3}, second = {"c", 1};
    expect_fine(store_reply_put(f.store, "t", "k", hash_bytes("1", 1), first, &is_found), "put");
    assert_false(is_found);
    expect_fine(store_reply_put(f.store, "t", "k", hash_bytes("2", 1), second, &is_found), "again");
    assert_true(is_found);
    expect_fine(store_reply_get(f.store, "t", "k", &digest, &reply, &is_found), "get");
    assert_true(is_found && digest_equal(digest, hash_bytes("1", 1)));
    assert_int_equal(reply.size, 3);
    assert_memory_equal(reply.data, "a\0b", 3);
    expect_fine(store_reply_get(f.store, "u", "k", &digest, &reply, &is_found), "foreign");
    assert_false(is_found);
    expect_fine(store_file_expire(f.store, store_now() + (int64_t)25 * 3600000, &n), "a day later");
    expect_fine(store_reply_get(f.store, "t", "k", &digest, &reply, &is_found), "get");
    assert_false(is_found);
    buffer_free(&reply);
    fixture_end(&f);
}

static void spending_outlives_its_job(void **state)
{
    struct fixture f;
    size_t n;
    double usd;
    bool is_done;
    (void)state;
    fixture_begin(&f);
    struct store_job job = job_of("batch_1", "t", STORE_RUNNING);
    expect_fine(store_job_add(f.store, &job), "add");
    job.cost_usd = 1.5;
    expect_fine(store_job_save(f.store, &job, ~0u, &is_done), "some");
    job.cost_usd = 2;
    job.state = STORE_STOPPED;
    expect_fine(store_job_save(f.store, &job, ~0u, &is_done), "more");
    expect_fine(store_job_purge(f.store, NULL, INT64_MAX, &n), "purge");
    assert_int_equal(n, 1);
    expect_fine(store_spent(f.store, "t", 0, &usd), "spent");
    assert_true(usd == 2);
    expect_fine(store_spent(f.store, "u", 0, &usd), "another tenant");
    assert_true(usd == 0);
    expect_fine(store_spent(f.store, "t", store_now() + (int64_t)2 * 3600000, &usd), "later");
    assert_true(usd == 0);
    fixture_end(&f);
}

static void a_copy_is_a_store(void **state)
{
    struct fixture f, copy = {0};
    char path[256];
    (void)state;
    fixture_begin(&f);
    struct store_job job = job_of("batch_1", "t", STORE_RUNNING);
    expect_fine(store_job_add(f.store, &job), "add");
    tempdir_open(&copy.tempdir);
    snprintf(copy.path, sizeof copy.path, "%s/data", copy.tempdir.path);
    expect_fine(io_make_directory(&io_local, copy.path, 0700), "folder");
    snprintf(path, sizeof path, "%s/store.db", copy.path);
    expect_fine(store_backup(f.store, path), "copy");
    expect_error(store_backup(f.store, path), ERROR_EXISTS, NULL, "onto a file");
    fixture_open(&copy);
    struct store_job found = get_job(copy.store, "batch_1");
    assert_int_equal(found.state, STORE_RUNNING);
    store_job_free(&found);
    assert_null(store_health(copy.store));
    fixture_end(&copy);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_servers_cannot_have_one_store),
        cmocka_unit_test(a_folder_in_a_folder_that_is_not_there_is_refused),
        cmocka_unit_test(a_newer_store_is_left_alone),
        cmocka_unit_test(what_no_row_knows_is_removed),
        cmocka_unit_test(ids_cannot_be_guessed),
        cmocka_unit_test(a_file_comes_back_whole),
        cmocka_unit_test(an_upload_that_is_dropped_leaves_nothing),
        cmocka_unit_test(files_are_listed_and_expire),
        cmocka_unit_test(keys_are_kept_and_revoked),
        cmocka_unit_test(a_key_may_come_before_the_first_server),
        cmocka_unit_test(a_delivery_is_tried_until_it_is_done),
        cmocka_unit_test(the_first_reply_stays),
        cmocka_unit_test(spending_outlives_its_job),
        cmocka_unit_test(a_copy_is_a_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
