/* SPDX-License-Identifier: Apache-2.0 */
/* job_retry_disk_test.c - a retry on the simulated disk: killed at each of its calls, and run again, it ends
 * with the bytes of one that nothing disturbed, and every token that it took is on the bill once. */
#include "job/job.h"
#include "job/journal.h"
#include "simdisk.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OUTPUT "/data/out.jsonl"
#define ERRORS OUTPUT ".errors.jsonl"
#define JOURNAL OUTPUT ".journal"
#define RETRY_JOURNAL OUTPUT ".retry.out.journal"
#define RUNS_MAX 5
#define CALLS_MAX 1000

/* This process lives on, which one that was killed does not. */
static const char *const locks[] = {OUTPUT ".lock", OUTPUT ".retry.out.lock"};

static void set(struct job_spec *spec, const char *name, const char *value)
{
    tidemill_error *error = option_set(spec, option_find(name), value, name);
    assert_null(error);
}

static enum error_code run_job(struct simdisk *disk, bool is_retry)
{
    const struct io *io = simdisk_io(disk);
    struct job_spec spec;
    struct job_stop stop;
    struct job_summary summary;
    for (size_t i = 0; i < COUNT_OF(locks); i++) io->unlink(io->context, locks[i]);
    assert_null(job_spec_init(&spec));
    set(&spec, "model", "echo:json=1,usage=1"); /* a token a word */
    set(&spec, "isolate", "false");
    set(&spec, "input", "/data/in.jsonl");
    set(&spec, "output", OUTPUT);
    set(&spec, "instances", "1");
    if (is_retry) set(&spec, "retry-errors", "true");
    assert_null(job_spec_check(&spec, io));
    assert_null(job_stop_init(&stop));
    tidemill_error *error = is_retry ? job_retry(&spec, io, NULL, &stop, &summary)
                                     : job_run(&spec, io, NULL, &stop, &summary);
    enum error_code code = error_code_of(error);
    error_free(error);
    job_stop_fini(&stop);
    job_spec_free(&spec);
    return code;
}

static void put_text(struct simdisk *disk, const char *path, const char *text)
{
    simdisk_put(disk, path, text, strlen(text));
}

/* A finished job of five records, two of which failed; the first of these is mended now. */
static struct simdisk *finished_job(void)
{
    static const char broken[] = "\"record\":\"{one\"", mended[] = "\"record\":{\"q\":\"seven\"}";
    struct simdisk *disk = simdisk_new();
    put_text(disk, "/data/in.jsonl",
             "{\"q\":\"a b c\"}\n{one\n{\"q\":\"d e\"}\n{two\n{\"q\":\"f\"}\n");
    assert_int_equal(run_job(disk, false), ERROR_OK);
    struct buffer errors = {0};
    size_t size;
    const char *text = simdisk_get(disk, ERRORS, &size);
    const char *place = memmem(text, size, broken, strlen(broken));
    assert_non_null(place);
    buffer_append(&errors, text, (size_t)(place - text));
    buffer_text(&errors, mended);
    place += strlen(broken);
    buffer_append(&errors, place, (size_t)(text + size - place));
    simdisk_put(disk, ERRORS, errors.data, errors.size);
    buffer_free(&errors);
    return disk;
}

static struct journal_state read_journal(struct simdisk *disk, const char *path)
{
    struct journal_state state;
    assert_null(journal_read(simdisk_io(disk), path, &state));
    return state;
}

static struct token_usage bill_of(struct simdisk *disk)
{
    struct journal_state state = read_journal(disk, JOURNAL);
    struct token_usage tokens = state.commit.counts.tokens;
    journal_state_free(&state);
    return tokens;
}

/* From here on nothing is asked any more. */
static bool is_retry_answered(struct simdisk *disk)
{
    struct journal_state state = read_journal(disk, RETRY_JOURNAL);
    bool is_answered = state.final.is_set;
    journal_state_free(&state);
    return is_answered;
}

static size_t count_publications(struct simdisk *disk)
{
    static const char mark[] = "\"published\"";
    size_t size, n = 0;
    const char *text = simdisk_get(disk, JOURNAL, &size), *end = text + size;
    for (; (text = memmem(text, (size_t)(end - text), mark, strlen(mark))) != NULL; text++) n++;
    return n;
}

/* Where records fail again, the next retry asks the same: it must ask, not find it answered. */
static void expect_no_retry_that_was_merged(struct simdisk *disk)
{
    size_t size;
    if (count_publications(disk) == 2) assert_null(simdisk_get(disk, RETRY_JOURNAL, &size));
}

static void finish(struct simdisk *disk, bool is_retry)
{
    enum error_code code = ERROR_IO;
    for (int run = 0; run < RUNS_MAX && code != ERROR_OK; run++) code = run_job(disk, is_retry);
    assert_int_equal(code, ERROR_OK);
}

static void expect_same(struct simdisk *disk, struct simdisk *whole, const char *path)
{
    size_t size, whole_size;
    const char *data = simdisk_get(disk, path, &size);
    const char *expected = simdisk_get(whole, path, &whole_size);
    assert_non_null(data);
    assert_int_equal(size, whole_size);
    assert_memory_equal(data, expected, size);
}

/* What the next command may be. */
enum next { NEXT_RETRY, NEXT_RUN_THEN_RETRY };

/* Killed at the nth call. False: the retry ended before. */
static bool kill_at(uint64_t nth, bool has_crash, enum next next, struct simdisk *whole,
                    bool *was_answered)
{
    struct simdisk *disk = finished_job();
    simdisk_fail(disk, SIMDISK_ANY, nth, SIMDISK_FOREVER, EIO);
    run_job(disk, true);
    bool has_struck = simdisk_has_failed(disk);
    simdisk_fail(disk, SIMDISK_ANY, 0, SIMDISK_ONCE, 0);
    if (has_crash) simdisk_crash(disk, nth);
    expect_no_retry_that_was_merged(disk);
    *was_answered |= is_retry_answered(disk);
    if (next == NEXT_RUN_THEN_RETRY) finish(disk, false);
    finish(disk, true);
    expect_same(disk, whole, OUTPUT);
    expect_same(disk, whole, ERRORS);
    struct token_usage bill = bill_of(disk), expected = bill_of(whole);
    if (*was_answered && (bill.in != expected.in || bill.out != expected.out))
        fail_msg("killed at call %llu: %llu tokens on the bill, not %llu", (unsigned long long)nth,
                 (unsigned long long)bill.in, (unsigned long long)expected.in);
    assert_true(bill.in >= expected.in);
    simdisk_free(disk);
    return has_struck;
}

static void kill_everywhere(bool has_crash, enum next next)
{
    struct simdisk *whole = finished_job();
    assert_int_equal(run_job(whole, true), ERROR_OK);
    uint64_t nth = 1, n_answered = 0;
    bool was_answered = false;
    while (nth < CALLS_MAX && kill_at(nth, has_crash, next, whole, &was_answered)) {
        n_answered += was_answered;
        nth++;
    }
    assert_true(nth > 50 && nth < CALLS_MAX);
    assert_true(n_answered > 20);
    simdisk_free(whole);
}

static void killed_anywhere_a_retry_is_billed_once(void **state)
{
    (void)state;
    kill_everywhere(false, NEXT_RETRY);
}

static void so_it_is_when_the_power_fails(void **state)
{
    (void)state;
    kill_everywhere(true, NEXT_RETRY);
}

static void so_it_is_when_the_job_is_run_in_between(void **state)
{
    (void)state;
    kill_everywhere(false, NEXT_RUN_THEN_RETRY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_anywhere_a_retry_is_billed_once),
        cmocka_unit_test(so_it_is_when_the_power_fails),
        cmocka_unit_test(so_it_is_when_the_job_is_run_in_between),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
