/* SPDX-License-Identifier: Apache-2.0 */
/* job_answers_test.c - what equal inputs share: nothing is taken for another, nothing torn is
 * believed, and memory is bounded. */
#include "expect.h"
#include "simdisk.h"

#include "job/answers.h"

#define PATH "/data/out.answers"
#define MEMORY_BYTES ((uint64_t)1 << 20)

static struct answers *open_answers(struct simdisk *disk, bool is_resumed, uint64_t n_expected)
{
    struct answers *answers = NULL;
    uint64_t n_known;
    expect_fine(answers_open(simdisk_io(disk), PATH, MEMORY_BYTES, is_resumed, &answers, &n_known),
                "open");
    assert_int_equal(n_known, n_expected);
    return answers;
}

static struct digest key_of(uint64_t i)
{
    return hash_bytes(&i, sizeof i);
}

static size_t answer_of(uint64_t i, char text[4096])
{
    size_t size =
        i % 9 == 0 ? 3000 : (size_t)snprintf(text, 4096, "answer %llu", (unsigned long long)i);
    if (i % 9 == 0) memset(text, 'a' + (int)(i % 26), size);
    return size;
}

static void settle(struct answers *answers, struct digest key, uint64_t i)
{
    char text[4096];
    size_t size = answer_of(i, text);
    struct answer_info info = {.first_index = i, .bytes = {text, size}};
    expect_fine(answers_settle(answers, key, &info), "settle");
}

static void add(struct answers *answers, struct digest *key, uint64_t i)
{
    assert_true(answers_expect(answers, key));
    settle(answers, *key, i);
}

static enum answer_state find(struct answers *answers, struct digest key, uint64_t i)
{
    static struct buffer scratch;
    enum answer_state state;
    const struct digest *owner = NULL;
    struct answer_info info;
    char text[4096];
    expect_fine(answers_find(answers, key, &scratch, &state, &owner, &info), "find");
    if (state != ANSWER_KNOWN) return state;
    assert_int_equal(info.first_index, i);
    assert_int_equal(info.bytes.size, answer_of(i, text));
    assert_memory_equal(info.bytes.data, text, info.bytes.size);
    return state;
}

static void a_key_is_new_then_awaited_then_known(void **unused)
{
    (void)unused;
    struct simdisk *disk = simdisk_new();
    struct answers *answers = open_answers(disk, false, 0);
    struct digest key = key_of(5), twin = {key.low, key.high ^ 1};
    assert_int_equal(find(answers, key, 5), ANSWER_NEW);
    assert_false(answers_peek(answers, key, 100));
    assert_true(answers_expect(answers, &key));
    assert_int_equal(find(answers, key, 5), ANSWER_AWAITED);
    assert_true(answers_peek(answers, key, 100));
    /* one half in common is not enough: not with an awaited one, not with a known one */
    assert_int_equal(find(answers, twin, 6), ANSWER_NEW);
    assert_false(answers_peek(answers, twin, 100));
    settle(answers, key, 5);
    assert_int_equal(find(answers, key, 5), ANSWER_KNOWN);
    assert_int_equal(find(answers, twin, 6), ANSWER_NEW);
    assert_true(answers_peek(answers, key, 6));
    assert_false(answers_peek(answers, key, 5)); /* that is the record itself */
    add(answers, &twin, 6);
    assert_int_equal(find(answers, twin, 6), ANSWER_KNOWN);
    assert_int_equal(find(answers, key, 5), ANSWER_KNOWN);
    answers_close(answers);
    simdisk_free(disk);
}

static void failures_are_kept_with_their_code(void **unused)
{
    (void)unused;
    struct simdisk *disk = simdisk_new();
    struct answers *answers = open_answers(disk, false, 0);
    struct digest key = key_of(1);
    struct buffer scratch = {0};
    enum answer_state state;
    const struct digest *owner;
    struct answer_info info = {
        .first_index = 1, .kind = ANSWER_FAILED, .code = ERROR_MODEL_ERROR, .bytes = {"bad", 3}};
    assert_true(answers_expect(answers, &key));
    expect_fine(answers_settle(answers, key, &info), "settle");
    info = (struct answer_info){0};
    expect_fine(answers_find(answers, key, &scratch, &state, &owner, &info), "find");
    assert_int_equal(state, ANSWER_KNOWN);
    assert_int_equal(info.kind, ANSWER_FAILED);
    assert_int_equal(info.code, ERROR_MODEL_ERROR);
    assert_memory_equal(info.bytes.data, "bad", 3);
    buffer_free(&scratch);
    answers_close(answers);
    simdisk_free(disk);
}

#define N_KEPT 2000

static void a_file_is_taken_over(void **unused)
{
    (void)unused;
    static struct digest keys[N_KEPT];
    struct simdisk *disk = simdisk_new();
    struct answers *answers = open_answers(disk, false, 0);
    for (uint64_t i = 0; i < N_KEPT; i++) {
        keys[i] = key_of(i);
        add(answers, &keys[i], i);
    }
    expect_fine(answers_flush(answers, true), "flush");
    struct digest lost = key_of(N_KEPT);
    add(answers, &lost, N_KEPT); /* not flushed: dies with the process */
    answers_close(answers);
    simdisk_crash(disk, 1); /* what was synced survives that */
    answers = open_answers(disk, true, N_KEPT);
    for (uint64_t i = 0; i < N_KEPT; i++) assert_int_equal(find(answers, keys[i], i), ANSWER_KNOWN);
    assert_int_equal(find(answers, lost, N_KEPT), ANSWER_NEW);
    answers_close(answers);
    answers = open_answers(disk, false, 0); /* a new job begins anew */
    assert_int_equal(find(answers, keys[0], 0), ANSWER_NEW);
    answers_close(answers);
    simdisk_free(disk);
}

/* Cut at every byte, then every byte flipped: what is found is right, and it can be added to. */
static void damage_is_never_believed(void **unused)
{
    (void)unused;
    static struct digest keys[12];
    struct simdisk *disk = simdisk_new();
    struct answers *answers = open_answers(disk, false, 0);
    for (uint64_t i = 0; i < 10; i++) {
        keys[i] = key_of(i + 1);
        add(answers, &keys[i], i + 1);
    }
    expect_fine(answers_flush(answers, true), "flush");
    answers_close(answers);
    size_t size;
    const char *data = simdisk_get(disk, PATH, &size);
    char *whole = malloc(size), *copy = malloc(size);
    assert_non_null(whole);
    assert_non_null(copy);
    memcpy(whole, data, size);
    for (size_t i = 0; i < 2 * size; i++) {
        uint64_t n_known, n_found = 0;
        memcpy(copy, whole, size);
        if (i >= size) copy[i - size] = (char)(copy[i - size] ^ 0x10);
        simdisk_put(disk, PATH, copy, i < size ? i : size);
        expect_fine(answers_open(simdisk_io(disk), PATH, MEMORY_BYTES, true, &answers, &n_known),
                    "open");
        assert_true(n_known < 10);
        for (uint64_t k = 0; k < 10; k++) n_found += find(answers, keys[k], k + 1) == ANSWER_KNOWN;
        assert_int_equal(n_found, n_known);
        keys[10] = key_of(99);
        add(answers, &keys[10], 99);
        expect_fine(answers_flush(answers, false), "flush");
        assert_int_equal(find(answers, keys[10], 99), ANSWER_KNOWN);
        answers_close(answers);
    }
    free(whole);
    free(copy);
    simdisk_free(disk);
}

static void a_full_index_forgets_no_old_input_and_takes_no_new_one(void **unused)
{
    (void)unused;
    enum { SLOTS = MEMORY_BYTES / 16, ROOM = SLOTS / 4 * 3 };
    static struct digest keys[ROOM + 1];
    struct simdisk *disk = simdisk_new();
    struct answers *answers = open_answers(disk, false, 0);
    for (uint64_t i = 0; i < ROOM; i++) {
        keys[i] = key_of(i);
        assert_true(answers_expect(answers, &keys[i]));
    }
    keys[ROOM] = key_of(ROOM);
    assert_false(answers_expect(answers, &keys[ROOM]));
    settle(answers, keys[ROOM], ROOM); /* nobody waits for it: nothing happens */
    assert_int_equal(find(answers, keys[ROOM], ROOM), ANSWER_NEW);
    for (uint64_t i = 0; i < ROOM; i++) settle(answers, keys[i], i);
    for (uint64_t i = 0; i < ROOM; i++) assert_int_equal(find(answers, keys[i], i), ANSWER_KNOWN);
    answers_close(answers);
    simdisk_free(disk);
}

static void a_full_disk_is_told(void **unused)
{
    (void)unused;
    struct simdisk *disk = simdisk_new();
    struct answers *answers = open_answers(disk, false, 0);
    struct digest key = key_of(9);
    add(answers, &key, 9);
    simdisk_set_capacity(disk, 100);
    expect_error(answers_flush(answers, true), ERROR_NO_SPACE, PATH, "flush");
    answers_close(answers);
    simdisk_free(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_new_then_awaited_then_known),
        cmocka_unit_test(failures_are_kept_with_their_code),
        cmocka_unit_test(a_file_is_taken_over),
        cmocka_unit_test(damage_is_never_believed),
        cmocka_unit_test(a_full_index_forgets_no_old_input_and_takes_no_new_one),
        cmocka_unit_test(a_full_disk_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
