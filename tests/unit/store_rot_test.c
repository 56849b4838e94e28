/* SPDX-License-Identifier: Apache-2.0 */
/* store_rot_test.c - single bytes of the database, of its log and of windows change on the disk: the
 * store says so, or nothing that is seen has changed. Never a crash, never a wrong answer. */
#include "store_faults.h"
#include "store_world.h"

#include <sys/wait.h>

#define FLIPS 250

struct image {
    struct fixture f;
    char path[160];
    char *data;
    size_t size;
    char *seen; /* of the store as it was */
};

static void load(struct image *image, const char *name)
{
    snprintf(image->path, sizeof image->path, "%s/%s", image->f.path, name);
    expect_fine(io_read_file(&io_local, image->path, (size_t)1 << 30, &image->data, &image->size),
                name);
}

/* All steps, closed; the folder in memory where that can be had. */
static void make(struct image *image)
{
    struct buffer text = {0};
    struct fixture *f = &image->f;
    *f = (struct fixture){0};
    snprintf(f->tempdir.path, sizeof f->tempdir.path, "/dev/shm/tidemill-test-XXXXXX");
    if (mkdtemp(f->tempdir.path) == NULL) tempdir_open(&f->tempdir);
    snprintf(f->path, sizeof f->path, "%s/data", f->tempdir.path);
    fixture_open(f);
    for (size_t i = 0; i < STEPS; i++) expect_fine(steps[i](f->store), "step");
    expect_fine(see(f->store, &text), "see");
    image->seen = text.data;
    store_close(f->store);
    f->store = NULL;
}

static void put(const struct image *image, size_t at, unsigned char flip)
{
    image->data[at] = (char)((unsigned char)image->data[at] ^ flip);
    tempdir_write(image->path, image->data, image->size);
    image->data[at] = (char)((unsigned char)image->data[at] ^ flip);
}

static void drop(struct image *image)
{
    tempdir_close(&image->f.tempdir);
    free(image->data);
    free(image->seen);
}

/* true: it was said. */
static bool is_detected(struct image *image, struct buffer *text)
{
    struct store *store = NULL;
    tidemill_error *error = store_open(&io_local, image->f.path, &store);
    if (error == NULL) error = see(store, text);
    store_close(store);
    bool is_error = error != NULL;
    if (is_error) assert_true(strlen(error_message(error)) > 10);
    error_free(error);
    return is_error;
}

static void flips_of_the_database_are_detected_or_harmless(void **state)
{
    struct image image = {0};
    struct buffer text = {0};
    uint64_t seed = random_seed("flips_of_the_database");
    int n_detected = 0;
    (void)state;
    make(&image);
    load(&image, "store.db");
    for (int i = 0; i < FLIPS; i++) {
        size_t at = i < 100 ? (size_t)i : random_below(&seed, image.size);
        unsigned char flip = (unsigned char)(1u << random_below(&seed, 8));
        put(&image, at, flip);
        if (is_detected(&image, &text))
            n_detected++;
        else if (strcmp(text.data, image.seen) != 0)
            fail_msg("byte %zu ^ %d: seen is\n%s\nnot\n%s", at, flip, text.data, image.seen);
    }
    print_message("%d of %d detected, the others harmless\n", n_detected, FLIPS);
    assert_true(n_detected > FLIPS / 10);
    tempdir_write(image.path, image.data, image.size);
    assert_false(is_detected(&image, &text));
    expect_text(text.data, image.seen, "as it was");
    buffer_free(&text);
    drop(&image);
}

/* --- the content of rows: where SQLite itself sees nothing ------------------------------------------------ */

static void a_changed_value_of_a_row_is_detected(void **state)
{
    static const char *const words[] = {"file-in", "file-out", "batch_1",     "key_1",
                                        "evt_1",   "\"a\":1",  "batch_output"};
    struct image image = {0};
    struct buffer text = {0};
    (void)state;
    make(&image);
    load(&image, "store.db");
    for (size_t w = 0; w < COUNT_OF(words); w++)
        for (char *place = image.data, *end = image.data + image.size;
             (place = memmem(place, (size_t)(end - place), words[w], strlen(words[w]))) != NULL;
             place++) {
            put(&image, (size_t)(place - image.data), 1);
            if (!is_detected(&image, &text)) expect_text(text.data, image.seen, words[w]);
        }
    buffer_free(&text);
    drop(&image);
}

/* --- the log ---------------------------------------------------------------------------------------------- */

#define LOG_STEPS (STEPS - 1) /* the last removes a file, which does not come back */

/* As a kill leaves it: all is in the log, nothing in the database. */
static void make_killed(struct image *image, char *seen[STEPS + 1])
{
    struct buffer text = {0};
    struct fixture *f = &image->f;
    int status;
    *f = (struct fixture){0};
    snprintf(f->tempdir.path, sizeof f->tempdir.path, "/dev/shm/tidemill-test-XXXXXX");
    if (mkdtemp(f->tempdir.path) == NULL) tempdir_open(&f->tempdir);
    snprintf(f->path, sizeof f->path, "%s/data", f->tempdir.path);
    fixture_open(f);
    for (size_t i = 0; i <= STEPS; i++) {
        if (i > 0) expect_fine(steps[i - 1](f->store), "step");
        expect_fine(see(f->store, &text), "see");
        seen[i] = strdup(text.data);
    }
    fixture_end(f);
    tempdir_open(&f->tempdir);
    snprintf(f->path, sizeof f->path, "%s/data", f->tempdir.path);
    pid_t child = fork();
    if (child == 0) {
        fixture_open(f);
        for (size_t i = 0; i < LOG_STEPS; i++) error_free(steps[i](f->store));
        _exit(KILLED);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), KILLED);
    buffer_free(&text);
}

/* A copy of the killed folder, one byte of its log changed. */
static void put_copy(const struct image *image, const struct image *copy, size_t at,
                     unsigned char flip)
{
    char command[512];
    snprintf(command, sizeof command, "rm -rf %s && cp -a %s %s", copy->f.path, image->f.path,
             copy->f.path);
    assert_int_equal(system(command), 0);
    put(copy, at, flip);
}

static void flips_of_the_log_are_detected_but_in_its_last_transaction(void **state)
{
    struct image image = {0}, copy = {0};
    char *seen[STEPS + 1];
    struct buffer text = {0};
    uint64_t seed = random_seed("flips_of_the_log");
    int n_detected = 0, n_late = 0, n = 60;
    (void)state;
    make_killed(&image, seen);
    copy.f = image.f;
    snprintf(copy.f.path, sizeof copy.f.path, "%s/copy", image.f.tempdir.path);
    load(&image, "store.db-wal");
    snprintf(copy.path, sizeof copy.path, "%s/store.db-wal", copy.f.path);
    copy.data = image.data;
    copy.size = image.size;
    for (int i = 0; i < n; i++) {
        size_t at = i < 32 ? (size_t)i : random_below(&seed, image.size);
        put_copy(&image, &copy, at, (unsigned char)(1u << random_below(&seed, 8)));
        if (is_detected(&copy, &text))
            n_detected++;
        else if (strcmp(text.data, seen[LOG_STEPS - 1]) == 0)
            n_late++;
        else
            expect_text(text.data, seen[LOG_STEPS], "a flip of the log");
    }
    print_message("%d of %d detected, %d took the last change along\n", n_detected, n, n_late);
    assert_true(n_detected > n / 2);
    put_copy(&image, &copy, 0, 0);
    assert_false(is_detected(&copy, &text));
    expect_text(text.data, seen[LOG_STEPS], "as it was");
    for (size_t i = 0; i <= STEPS; i++) free(seen[i]);
    buffer_free(&text);
    drop(&image);
}

/* --- windows --------------------------------------------------------------------------------------------- */

static char *find_window(struct image *image, const char *content)
{
    struct store *store;
    struct store_jobs jobs;
    char *id = NULL;
    expect_fine(store_open(&io_local, image->f.path, &store), "open");
    expect_fine(store_job_scan(store, ~STORE_TERMINAL, &jobs), "scan");
    for (size_t i = 0; i < jobs.n; i++) {
        char *path;
        if (jobs.items[i].kind != STORE_WINDOW) continue;
        expect_fine(store_window_path(store, jobs.items[i].id, &path), "path");
        char *found = slurp(path);
        if (strcmp(found, content) == 0) id = strdup(jobs.items[i].id);
        free(found);
        free(path);
    }
    store_jobs_free(&jobs);
    store_close(store);
    assert_non_null(id);
    return id;
}

static void expect_failed(struct image *image, const char *id, int records)
{
    struct store *store;
    struct store_accept more = accept_of("r", "t", "next\n");
    expect_fine(store_open(&io_local, image->f.path, &store), "open");
    struct store_job job = get_job(store, id);
    assert_int_equal(job.state, STORE_FAILED);
    assert_int_equal(job.counts.total, records);
    assert_int_equal(job.counts.failed, records);
    if (job.details == NULL || strstr(job.details, "\"corrupt\":\"") == NULL)
        fail_msg("no reason in: %s", job.details);
    expect_fine(accept_and_wait(store, &more), "the next window");
    assert_string_not_equal(more.window, id);
    store_job_free(&job);
    store_close(store);
}

static void a_damaged_window_fails_its_job(void **state)
{
    static const char content[] = "one\ntwo\nthree\n";
    (void)state;
    for (size_t at = 0; at < sizeof content - 1; at += 3) {
        struct image image = {0};
        make(&image);
        char *id = find_window(&image, content), name[64];
        snprintf(name, sizeof name, "windows/%s", id);
        load(&image, name);
        put(&image, at, 4);
        expect_failed(&image, id, 3);
        expect_failed(&image, id, 3); /* and stays so */
        free(id);
        drop(&image);
    }
}

static void a_window_that_is_short_or_gone_fails_its_job(void **state)
{
    (void)state;
    for (int is_gone = 0; is_gone < 2; is_gone++) {
        struct image image = {0};
        make(&image);
        char *id = find_window(&image, "four\n"), name[64];
        snprintf(name, sizeof name, "windows/%s", id);
        load(&image, name);
        if (is_gone)
            assert_int_equal(remove(image.path), 0);
        else
            tempdir_write(image.path, "fou", 3);
        expect_failed(&image, id, 1);
        free(id);
        drop(&image);
    }
}

/* What was never acknowledged is no damage. */
static void bytes_behind_a_window_are_cut_off(void **state)
{
    struct image image = {0};
    struct buffer text = {0};
    (void)state;
    make(&image);
    char *id = find_window(&image, "four\n"), name[64];
    snprintf(name, sizeof name, "windows/%s", id);
    load(&image, name);
    tempdir_write(image.path, "four\nfi", 7);
    assert_false(is_detected(&image, &text));
    expect_text(text.data, image.seen, "seen");
    free(id);
    buffer_free(&text);
    drop(&image);
}

static void something_else_than_a_database_is_refused(void **state)
{
    struct image image = {0};
    struct store *store;
    (void)state;
    make(&image);
    load(&image, "store.db");
    char *text = malloc(image.size);
    memset(text, 'x', image.size);
    tempdir_write(image.path, text, image.size);
    expect_error(store_open(&io_local, image.f.path, &store), ERROR_CORRUPT, "store.db", "text");
    tempdir_write(image.path, image.data, image.size / 2);
    expect_error(store_open(&io_local, image.f.path, &store), ERROR_CORRUPT, "store.db", "half");
    free(text);
    drop(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flips_of_the_database_are_detected_or_harmless),
        cmocka_unit_test(a_changed_value_of_a_row_is_detected),
        cmocka_unit_test(flips_of_the_log_are_detected_but_in_its_last_transaction),
        cmocka_unit_test(a_damaged_window_fails_its_job),
        cmocka_unit_test(a_window_that_is_short_or_gone_fails_its_job),
        cmocka_unit_test(bytes_behind_a_window_are_cut_off),
        cmocka_unit_test(something_else_than_a_database_is_refused),
    };
    log_configure(LOG_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
