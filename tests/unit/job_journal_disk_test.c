/* SPDX-License-Identifier: Apache-2.0 */
/* job_journal_disk_test.c - disks that fail, fill and lose power under a journal; and journals that are
 * begun or written anew. What was synced is there, and what is there is never wrong. */
#include "journal_steps.h"

#include <errno.h>

/* --- a disk that fails ------------------------------------------------------------------------ */

/* What was appended with success is there; the step that failed may be there or not. */
static size_t expect_done(struct simdisk *disk, size_t done, size_t number)
{
    struct journal_state found;
    expect_fine(journal_read(simdisk_io(disk), PATH, &found), "reading after trouble");
    struct expected expected = state_after(done),
                    next = state_after(MIN(done + 1, COUNT_OF(steps)));
    const char *what = difference(&found, &expected);
    bool has_next = what != NULL && done < COUNT_OF(steps) && difference(&found, &next) == NULL;
    if (what != NULL && !has_next)
        fail_msg("trouble %zu: %s differs from that after %zu steps", number, what, done);
    journal_state_free(&found);
    return done + has_next;
}

static void a_full_disk_costs_the_frame_that_found_no_room(void **unused)
{
    (void)unused;
    struct bytes bytes = bytes_of(COUNT_OF(steps));
    for (size_t capacity = 1; capacity < bytes.size; capacity++) {
        struct simdisk *disk = simdisk_new();
        size_t whole = 0, done = 0;
        while (bytes.ends[whole + 1] <= capacity) whole++;
        simdisk_set_capacity(disk, capacity);
        expect_error(go_on(simdisk_io(disk), COUNT_OF(steps), &done), ERROR_NO_SPACE, PATH,
                     "a full disk");
        assert_int_equal(done, whole);
        expect_state(disk, whole, "full at", capacity);
        simdisk_set_capacity(disk, 0);
        expect_fine(go_on(simdisk_io(disk), COUNT_OF(steps), &done), "room again");
        expect_state(disk, COUNT_OF(steps), "room again after", capacity);
        simdisk_free(disk);
    }
    free(bytes.data);
}

static void a_frame_that_was_not_synced_is_not_counted(void **unused)
{
    (void)unused;
    struct simdisk *disk = simdisk_new();
    size_t done = 0;
    expect_fine(go_on(simdisk_io(disk), 11, &done), "writing");
    done = 12; /* an attempt is not synced: the commit behind it is what fails */
    simdisk_fail(disk, SIMDISK_SYNC, 1, SIMDISK_ONCE, EIO);
    tidemill_error *error = go_on(simdisk_io(disk), 13, &done);
    expect_error(error, ERROR_IO, "what is not synced is not counted as done", "a failed sync");
    assert_int_equal(done, 12);
    simdisk_crash(disk, 0);
    expect_state(disk, 11, "the power failed after a failed sync", 0);
    simdisk_free(disk);
}

static void every_call_may_fail_and_the_journal_goes_on(void **unused)
{
    (void)unused;
    static const struct {
        enum simdisk_mode mode;
        int errnum;
    } faults[] = {
        {SIMDISK_ONCE, EIO}, {SIMDISK_ONCE, ENOSPC}, {SIMDISK_FOREVER, EIO},
        {SIMDISK_SHORT, 0},  {SIMDISK_SHORT, EIO},
    };
    for (size_t f = 0; f < COUNT_OF(faults); f++) {
        bool has_struck = true;
        for (uint64_t nth = 1; has_struck; nth++) {
            struct simdisk *disk = simdisk_new();
            size_t done = 0;
            simdisk_fail(disk, SIMDISK_ANY, nth, faults[f].mode, faults[f].errnum);
            tidemill_error *error = go_on(simdisk_io(disk), COUNT_OF(steps), &done);
            has_struck = simdisk_has_failed(disk);
            simdisk_fail(disk, SIMDISK_ANY, 0, SIMDISK_ONCE, 0);
            done = expect_done(disk, done, nth);
            error_free(error);
            expect_fine(go_on(simdisk_io(disk), COUNT_OF(steps), &done), "going on");
            expect_state(disk, COUNT_OF(steps), "gone on after call", nth);
            simdisk_free(disk);
            assert_true(nth < 10000);
        }
    }
}

/* --- power loss ------------------------------------------------------------------------------- */

static int fail_sync(void *context, int fd)
{
    (void)context, (void)fd;
    errno = EIO;
    return -1;
}

/* A sync that fails and leaves what was written on its way: the power goes in the middle of it. */
static void power_loss_in_the_middle_of_a_sync_costs_one_frame(void **unused)
{
    (void)unused;
    for (size_t n = 2; n <= COUNT_OF(steps); n++) {
        bool has_attempts = steps[n - 1].kind == ATTEMPT || steps[n - 2].kind == ATTEMPT;
        if (has_attempts) continue; /* more than one frame on its way: see below */
        struct simdisk *disk = simdisk_new();
        size_t done = n - 1;
        write_steps(disk, n - 1);
        struct io io = *simdisk_io(disk);
        io.fdatasync = fail_sync;
        expect_error(go_on(&io, n, &done), ERROR_IO, PATH, "the sync");
        for (uint64_t seed = 0; seed < 60; seed++) {
            struct simdisk *other = simdisk_copy(disk);
            simdisk_crash(other, seed);
            size_t left = expect_done(other, n - 1, seed);
            expect_fine(go_on(simdisk_io(other), COUNT_OF(steps), &left), "going on");
            expect_state(other, COUNT_OF(steps), "after the power loss", seed);
            simdisk_crash(other, 0);
            expect_state(other, COUNT_OF(steps), "after another one", seed);
            simdisk_free(other);
        }
        simdisk_free(disk);
    }
}

static void power_loss_before_the_first_sync_leaves_no_job(void **unused)
{
    (void)unused;
    struct simdisk *disk = simdisk_new();
    struct io io = *simdisk_io(disk);
    size_t done = 0;
    io.fdatasync = fail_sync;
    expect_error(go_on(&io, 1, &done), ERROR_IO, PATH, "the first sync");
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct simdisk *other = simdisk_copy(disk);
        simdisk_crash(other, seed);
        size_t left = expect_done(other, 0, seed);
        expect_fine(go_on(simdisk_io(other), COUNT_OF(steps), &left), "beginning anew");
        expect_state(other, COUNT_OF(steps), "begun anew after", seed);
        simdisk_free(other);
    }
    simdisk_free(disk);
}

/* Attempts are not synced: any of them may be lost, in any order, with the frame behind them. */
static void power_loss_among_attempts_keeps_what_was_synced(void **unused)
{
    (void)unused;
    for (int has_commit = 0; has_commit < 2; has_commit++) {
        struct simdisk *disk = simdisk_new();
        struct journal_state state;
        struct journal *journal;
        struct journal_commit commit = {.counts = {.records = 100, .ok = 100},
                                        .done_in_chunk = 100};
        write_steps(disk, 3);
        struct io io = *simdisk_io(disk);
        expect_fine(journal_read(&io, PATH, &state), "read");
        expect_fine(journal_open(&io, PATH, &state, NULL, &journal), "open");
        journal_state_free(&state);
        for (uint64_t i = 0; i < 100; i++)
            expect_fine(journal_append_attempt(journal, i), "attempt");
        io.fdatasync = fail_sync;
        if (has_commit)
            expect_error(journal_append_commit(journal, &commit), ERROR_IO, PATH, "commit");
        journal_close(journal);
        for (uint64_t seed = 0; seed < 200; seed++) {
            struct simdisk *other = simdisk_copy(disk);
            simdisk_crash(other, seed);
            expect_fine(journal_read(simdisk_io(other), PATH, &state), "after the power loss");
            assert_int_equal(state.plan.limits.rows_max, 256);
            assert_int_equal(state.identity.n, 3);
            assert_false(state.has_commit);
            journal_state_free(&state);
            simdisk_free(other);
        }
        simdisk_free(disk);
    }
}

/* --- begun anew, written anew ----------------------------------------------------------------- */

static void beginning_anew_forgets_the_job_before(void **unused)
{
    (void)unused;
    struct simdisk *disk = simdisk_new();
    struct journal *journal;
    struct journal_state found;
    struct identity identity = {0};
    write_steps(disk, COUNT_OF(steps));
    expect_fine(identity_add(&identity, "other", "model"), "identity");
    expect_fine(journal_open(simdisk_io(disk), PATH, NULL, &identity, &journal), "open");
    journal_close(journal);
    expect_fine(journal_read(simdisk_io(disk), PATH, &found), "read");
    expect_fine(identity_compare(&found.identity, &identity), "identity");
    assert_true(found.exists);
    assert_false(found.has_commit);
    assert_false(found.final.is_set);
    assert_false(found.plan.is_set);
    journal_state_free(&found);
    identity_free(&identity);
    simdisk_free(disk);
}

/* A commit with a tail of this size, so that few of them make a journal too large. */
#define LARGE_TAIL ((size_t)700 << 10)

static struct journal_commit large_commit(uint64_t records, const char *data)
{
    return (struct journal_commit){
        .counts = {.records = records, .ok = records},
        .done_in_chunk = records,
        .output = {.file_bytes = records, .plain_bytes = records, .tail = {data, LARGE_TAIL}},
        .errors = {.tail = {data, 0}},
    };
}

static void a_journal_that_grows_is_written_anew_and_says_the_same(void **unused)
{
    (void)unused;
    char *data = calloc(1, LARGE_TAIL);
    assert_non_null(data);
    struct simdisk *disk = simdisk_new();
    write_steps(disk, 3);
    struct journal_state state;
    struct journal *journal;
    expect_fine(journal_read(simdisk_io(disk), PATH, &state), "read");
    expect_fine(journal_open(simdisk_io(disk), PATH, &state, NULL, &journal), "open");
    journal_state_free(&state);
    size_t size_max = 0, size;
    for (uint64_t records = 1; records <= 40; records++) {
        struct journal_commit commit = large_commit(records, data);
        expect_fine(journal_append_commit(journal, &commit), "commit");
        simdisk_get(disk, PATH, &size);
        size_max = MAX(size_max, size);
        struct simdisk *other = simdisk_copy(disk);
        simdisk_crash(other, records % 3); /* what was committed holds, whatever is lost */
        expect_fine(journal_read(simdisk_io(other), PATH, &state), "read");
        assert_true(same_commit(&state.commit, &commit));
        assert_int_equal(state.plan.limits.rows_max, 256);
        assert_int_equal(state.identity.n, 3);
        assert_int_equal(state.starts_without_commit, 0);
        journal_state_free(&state);
        simdisk_free(other);
    }
    assert_in_range(size_max, 8 << 20, 11 << 20);
    assert_int_equal(simdisk_file_count(disk), 1); /* no copy is left beside it */
    journal_close(journal);
    simdisk_free(disk);
    free(data);
}

/* Every call of the commit that writes the journal anew fails once: the commit is there all the
 * same when it succeeded, and the one before it at least when it did not. */
static void writing_anew_may_fail_at_any_call(void **unused)
{
    (void)unused;
    char *data = calloc(1, LARGE_TAIL);
    assert_non_null(data);
    bool has_struck = true;
    for (uint64_t nth = 1; has_struck; nth++) {
        struct simdisk *disk = simdisk_new();
        struct journal_state state;
        struct journal *journal;
        struct identity identity = make_identity();
        uint64_t records = 0;
        tidemill_error *error = NULL;
        expect_fine(journal_open(simdisk_io(disk), PATH, NULL, &identity, &journal), "open");
        while (error == NULL && records < 9) {
            struct journal_commit commit = large_commit(records + 1, data);
            if (records == 8) simdisk_fail(disk, SIMDISK_ANY, nth, SIMDISK_ONCE, ENOSPC);
            error = journal_append_commit(journal, &commit);
            if (error == NULL) records++;
        }
        has_struck = simdisk_has_failed(disk);
        simdisk_fail(disk, SIMDISK_ANY, 0, SIMDISK_ONCE, 0);
        assert_true(has_struck || error == NULL);
        error_free(error);
        journal_close(journal);
        for (uint64_t seed = 0; seed < 3; seed++) {
            struct simdisk *other = simdisk_copy(disk);
            simdisk_crash(other, seed);
            expect_fine(journal_read(simdisk_io(other), PATH, &state), "read");
            if (state.commit.counts.records != records &&
                state.commit.counts.records != records + 1)
                fail_msg("call %llu: %llu records of %llu", (unsigned long long)nth,
                         (unsigned long long)state.commit.counts.records,
                         (unsigned long long)records);
            expect_fine(identity_compare(&state.identity, &identity), "identity");
            journal_state_free(&state);
            simdisk_free(other);
        }
        identity_free(&identity);
        simdisk_free(disk);
        assert_true(nth < 1000);
    }
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_costs_the_frame_that_found_no_room),
        cmocka_unit_test(a_frame_that_was_not_synced_is_not_counted),
        cmocka_unit_test(every_call_may_fail_and_the_journal_goes_on),
        cmocka_unit_test(power_loss_in_the_middle_of_a_sync_costs_one_frame),
        cmocka_unit_test(power_loss_before_the_first_sync_leaves_no_job),
        cmocka_unit_test(power_loss_among_attempts_keeps_what_was_synced),
        cmocka_unit_test(beginning_anew_forgets_the_job_before),
        cmocka_unit_test(a_journal_that_grows_is_written_anew_and_says_the_same),
        cmocka_unit_test(writing_anew_may_fail_at_any_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
