/* SPDX-License-Identifier: Apache-2.0 */
/* store_faults_test.c - the process is killed, the disk is full, a sync fails, at every k-th call of the
 * system, SQLite's among them. What was acknowledged is there; what was not is whole or absent; and
 * the history goes on to the same end. */
#include "store_faults.h"
#include "store_world.h"

#include <sys/mman.h>
#include <sys/wait.h>

/* After no step, one step, ...; each before the store is closed. */
static char *expected[STEPS + 1];

/* What a child tells before it dies. */
static struct progress {
    atomic_int done;       /* steps that were acknowledged */
    atomic_int is_tried;   /* the one after them was begun */
    atomic_int is_through; /* came to its end */
    atomic_int code;       /* the first error's */
} * progress;

static tidemill_error *run_from(struct store *store, size_t first)
{
    for (size_t i = first; i < STEPS; i++) {
        progress->is_tried = 1;
        TRY(steps[i](store));
        progress->done = (int)i + 1;
        progress->is_tried = 0;
    }
    return NULL;
}

static int set_up(void **state)
{
    struct fixture f;
    struct buffer text = {0};
    (void)state;
    progress =
        mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (progress == MAP_FAILED) return -1;
    log_configure(LOG_ERROR, LOG_FORMAT_TEXT);
    fixture_begin(&f);
    for (size_t i = 0; i <= STEPS; i++) {
        if (i > 0) expect_fine(steps[i - 1](f.store), "undisturbed");
        expect_fine(see(f.store, &text), "see");
        expected[i] = strdup(text.data);
        if (i > 0) assert_string_not_equal(expected[i], expected[i - 1]);
    }
    fixture_reopen(&f);
    expect_fine(see(f.store, &text), "see");
    expect_text(text.data, expected[STEPS], "after a restart");
    buffer_free(&text);
    fixture_end(&f);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i <= STEPS; i++) free(expected[i]);
    munmap(progress, sizeof *progress);
    return 0;
}

/* --- children ------------------------------------------------------------------------------------------ */

/* In memory where that can be had: there are thousands of files. */
static void begin_folder(struct fixture *f)
{
    *f = (struct fixture){0};
    snprintf(f->tempdir.path, sizeof f->tempdir.path, "/dev/shm/tidemill-test-XXXXXX");
    if (mkdtemp(f->tempdir.path) == NULL) tempdir_open(&f->tempdir);
    snprintf(f->path, sizeof f->path, "%s/data", f->tempdir.path);
    memset(progress, 0, sizeof *progress);
}

/* Opens, goes on, closes; with whatever fault is armed. Exits. */
static _Noreturn void live(const struct fixture *f)
{
    struct store *store = NULL;
    tidemill_error *error = store_open(&io_local, f->path, &store);
    if (error == NULL) error = run_from(store, (size_t)progress->done);
    store_close(store);
    progress->code = (int)error_code_of(error);
    progress->is_through = error == NULL;
    _exit(error == NULL ? 0 : 1);
}

/* A lock that was not written to its end is waited for, as its writer may live. Not here. */
static void age_locks(const struct fixture *f)
{
    static const char *const names[] = {"store.lock", "store.lock.takeover"};
    struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char path[160];
        snprintf(path, sizeof path, "%s/%s", f->path, names[i]);
        (void)utimensat(AT_FDCWD, path, times, 0);
    }
}

static int run_child(const struct fixture *f, enum fault_kind kind, unsigned calls, int errnum,
                     long at)
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        faults_arm(kind, calls, errnum, at);
        live(f);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    age_locks(f);
    if (!WIFEXITED(status)) fail_msg("the child at %ld: status %x", at, status);
    return WEXITSTATUS(status);
}

/* --- afterwards ------------------------------------------------------------------------------------------ */

static void expect_between(const char *found, const char *row)
{
    int done = progress->done;
    if (strcmp(found, expected[done]) == 0) return;
    if (progress->is_tried && done < (int)STEPS && strcmp(found, expected[done + 1]) == 0) return;
    fail_msg("%s: after %d steps%s there is:\n%s\nnot:\n%s", row, done,
             progress->is_tried ? " and a tried one" : "", found, expected[done]);
}

static void expect_tidy(const struct fixture *f, const char *row)
{
    struct store_files files;
    struct store_jobs jobs;
    struct store_page page = {.limit = 100};
    size_t n_windows = 0;
    expect_fine(store_file_list(f->store, &page, NULL, &files), row);
    expect_fine(store_job_scan(f->store, ~0u, &jobs), row);
    for (size_t i = 0; i < jobs.n; i++) n_windows += jobs.items[i].kind == STORE_WINDOW;
    assert_int_equal(count_entries(f->path, "files"), files.n);
    assert_int_equal(count_entries(f->path, "windows"), n_windows);
    store_jobs_free(&jobs);
    store_files_free(&files);
}

/* The fault is over: what was acknowledged is there, and the rest can be done. */
static void expect_recovery(struct fixture *f, const char *row)
{
    struct buffer text = {0};
    faults_disarm();
    expect_fine(store_open(&io_local, f->path, &f->store), row);
    expect_fine(see(f->store, &text), row);
    expect_between(text.data, row);
    expect_tidy(f, row);
    expect_fine(run_from(f->store, (size_t)progress->done), row);
    expect_fine(see(f->store, &text), row);
    expect_text(text.data, expected[STEPS], row);
    fixture_reopen(f);
    expect_fine(see(f->store, &text), row);
    expect_text(text.data, expected[STEPS], row);
    buffer_free(&text);
    fixture_end(f);
}

/* --- kills ------------------------------------------------------------------------------------------------ */

/* The process dies on the k-th call, for every k; and then again while it recovers, at some call. */
static void kill_everywhere(enum fault_kind kind, unsigned calls)
{
    char row[64];
    bool is_over = false;
    long k = 1;
    uint64_t seed = random_seed("kill_everywhere");
    for (; !is_over; k++) {
        struct fixture f;
        begin_folder(&f);
        snprintf(row, sizeof row, "killed at call %ld", k);
        int status = run_child(&f, kind, calls, 0, k);
        is_over = status == 0;
        if (!is_over) {
            assert_int_equal(status, KILLED);
            long again = 1 + (long)random_below(&seed, 12);
            run_child(&f, kind, calls, 0, again);
        }
        expect_recovery(&f, row);
    }
    print_message("%ld calls\n", k - 1);
    assert_true(k > 100);
}

static void killed_before_any_call(void **state)
{
    (void)state;
    kill_everywhere(FAULT_KILL, CALL_WRITE | CALL_SYNC | CALL_NAME);
}

static void killed_in_the_middle_of_any_write(void **state)
{
    (void)state;
    kill_everywhere(FAULT_KILL_HALF, CALL_WRITE);
}

/* --- a full disk ------------------------------------------------------------------------------------------ */

static tidemill_error *open_patiently(struct fixture *f, const char *row)
{
    tidemill_error *error = store_open(&io_local, f->path, &f->store);
    if (error == NULL) return NULL;
    expect_error(error, ERROR_NO_SPACE, NULL, row);
    faults_disarm();
    return store_open(&io_local, f->path, &f->store);
}

/* Every step that meets the full disk says so; then there is room, and it goes on without a restart. */
static bool fill_at(enum fault_kind kind, int errnum, long k)
{
    struct fixture f;
    struct buffer text = {0};
    char row[64];
    begin_folder(&f);
    snprintf(row, sizeof row, "full at call %ld", k);
    faults_arm(kind, CALL_WRITE, errnum, k);
    expect_fine(open_patiently(&f, row), row);
    for (size_t i = 0; i < STEPS; i++) {
        tidemill_error *error = run_from(f.store, (size_t)progress->done);
        if (error == NULL) break;
        expect_error(error, ERROR_NO_SPACE, NULL, row);
        faults_disarm();
        expect_fine(see(f.store, &text), row);
        if (strcmp(text.data, expected[progress->done]) != 0)
            fail_msg("%s: after %d steps there is:\n%s\nnot:\n%s", row, progress->done, text.data,
                     expected[progress->done]);
    }
    bool has_hit = faults.has_hit;
    faults_disarm();
    expect_fine(see(f.store, &text), row);
    expect_text(text.data, expected[STEPS], row);
    expect_tidy(&f, row);
    buffer_free(&text);
    store_close(f.store);
    progress->is_tried = 0;
    expect_recovery(&f, row);
    return has_hit;
}

static void a_disk_that_is_full_at_any_write(void **state)
{
    static const struct {
        enum fault_kind kind;
        int errnum, stride;
    } rows[] = {{FAULT_ONCE, ENOSPC, 1}, {FAULT_FOREVER, ENOSPC, 2}, {FAULT_ONCE, EDQUOT, 7}};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        long k = 1;
        while (fill_at(rows[i].kind, rows[i].errnum, k)) k += rows[i].stride;
        assert_true(k > 100);
    }
}

static bool has_reserve(const struct fixture *f)
{
    char path[160];
    snprintf(path, sizeof path, "%s/reserve", f->path);
    return io_exists(&io_local, path);
}

/* Not a byte more: what has happened can still be noted, nothing new is taken in. */
static void a_full_disk_has_room_for_what_has_happened(void **state)
{
    struct fixture f;
    bool is_done;
    (void)state;
    begin_folder(&f);
    fixture_open(&f);
    expect_fine(step_accept_1(f.store), "accept");
    expect_fine(step_add(f.store), "add");
    assert_true(has_reserve(&f));
    assert_null(store_health(f.store));
    faults.room = 0;
    expect_error(step_accept_2(f.store), ERROR_NO_SPACE, NULL, "accept");
    expect_error(step_upload(f.store), ERROR_NO_SPACE, NULL, "upload");
    assert_true(has_reserve(&f));
    expect_error(store_health(f.store), ERROR_NO_SPACE, NULL, "health");
    struct store_job job = get_job(f.store, "batch_1");
    job.state = STORE_FAILED;
    expect_fine(store_job_save(f.store, &job, ~0u, &is_done), "it has failed");
    assert_true(is_done);
    assert_false(has_reserve(&f));
    faults.room = -1;
    expect_fine(step_accept_2(f.store), "there is room again");
    assert_null(store_health(f.store));
    /* It may have been tried a moment ago: a second later it is made. */
    for (int i = 0; i < 300 && !has_reserve(&f); i++) {
        usleep(10000);
        expect_fine(store_job_save(f.store, &job, 0, &is_done), "some change");
    }
    assert_true(has_reserve(&f));
    store_job_free(&job);
    fixture_end(&f);
}

/* --- a sync that fails ------------------------------------------------------------------------------------ */

/* Once, and then all is well: nobody may believe it. */
static bool fail_sync_at(enum fault_kind kind, long k)
{
    struct fixture f;
    char row[64];
    begin_folder(&f);
    snprintf(row, sizeof row, "sync %ld fails", k);
    faults_arm(kind, CALL_SYNC, EIO, k);
    tidemill_error *error = store_open(&io_local, f.path, &f.store);
    bool is_open = error == NULL;
    if (is_open) error = run_from(f.store, 0);
    bool has_hit = faults.has_hit;
    if (error != NULL) expect_error(error, ERROR_IO, NULL, row);
    if (has_hit && is_open && progress->done < (int)STEPS) {
        for (size_t i = (size_t)progress->done; i < STEPS; i++) {
            error = steps[i](f.store);
            /* step_run and its like do nothing where the job is not there */
            if (error != NULL) expect_error(error, ERROR_IO, NULL, row);
        }
        expect_error(step_deliver(f.store), ERROR_IO, "start the server again", row);
        expect_error(store_health(f.store), ERROR_IO, NULL, row);
    }
    store_close(is_open ? f.store : NULL);
    expect_recovery(&f, row);
    return has_hit;
}

static void a_sync_that_fails_is_final(void **state)
{
    long k = 1;
    (void)state;
    while (fail_sync_at(FAULT_ONCE, k)) k++;
    assert_true(k > 20);
    for (k = 1; fail_sync_at(FAULT_FOREVER, k);) k += 3;
}

static void a_network_file_system_is_refused(void **state)
{
    struct fixture f;
    (void)state;
    begin_folder(&f);
    faults.network = 0x6969;
    expect_error(store_open(&io_local, f.path, &f.store), ERROR_UNSUPPORTED, "NFS", "NFS");
    faults.network = 0;
    fixture_open(&f);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_before_any_call),
        cmocka_unit_test(killed_in_the_middle_of_any_write),
        cmocka_unit_test(a_disk_that_is_full_at_any_write),
        cmocka_unit_test(a_full_disk_has_room_for_what_has_happened),
        cmocka_unit_test(a_sync_that_fails_is_final),
        cmocka_unit_test(a_network_file_system_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
