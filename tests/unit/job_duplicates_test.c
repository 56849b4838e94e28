/* SPDX-License-Identifier: Apache-2.0 */
/* job_duplicates_test.c - no id is lost however many there are, and a second one names the
 * first. */
#include "expect.h"

#include "job/duplicates.h"

#define IDS ((uint64_t)1000000)

static uint64_t add(struct id_set *set, const void *id, size_t size, uint64_t line)
{
    uint64_t first_line = UINT64_MAX;
    expect_fine(id_set_add(set, (struct slice){id, size}, line, &first_line), "add");
    return first_line;
}

/* The i-th random id: 8 bytes that differ for each i, and up to 24 more. */
static size_t id_of(uint64_t seed, uint64_t i, char id[32])
{
    uint64_t state = seed + i;
    memcpy(id, &i, sizeof i);
    size_t size = 8 + random_below(&state, 25);
    for (size_t k = 8; k < size; k++) id[k] = (char)random_next(&state);
    return size;
}

static void a_million_ids_are_all_remembered(void **unused)
{
    (void)unused;
    uint64_t seed = random_seed(__func__);
    struct id_set *set = id_set_new();
    assert_non_null(set);
    char id[32];
    for (uint64_t i = 0; i < IDS; i++) {
        size_t size = id_of(seed, i, id);
        uint64_t found = add(set, id, size, i + 1);
        if (found != 0) fail_msg("id %llu was not seen before", (unsigned long long)i);
    }
    for (uint64_t i = 0; i < IDS; i++) {
        size_t size = id_of(seed, i, id);
        uint64_t found = add(set, id, size, IDS + i + 1);
        if (found != i + 1)
            fail_msg("id %llu was first seen on line %llu", (unsigned long long)i,
                     (unsigned long long)found);
    }
    for (uint64_t i = IDS; i < IDS + 1000; i++) {
        size_t size = id_of(seed, i, id);
        assert_int_equal(add(set, id, size, 1), 0);
    }
    id_set_free(set);
}

static void ids_with_duplicates_among_them_agree_with_a_plain_table(void **unused)
{
    (void)unused;
    enum { DIFFERENT = 20000, ADDED = 60000 };
    static uint64_t first_lines[DIFFERENT];
    uint64_t state = random_seed(__func__);
    struct id_set *set = id_set_new();
    for (uint64_t line = 1; line <= ADDED; line++) {
        char id[32];
        uint64_t i = random_below(&state, DIFFERENT);
        int size = snprintf(id, sizeof id, "row-%llu", (unsigned long long)i);
        assert_int_equal(add(set, id, (size_t)size, line), first_lines[i]);
        if (first_lines[i] == 0) first_lines[i] = line;
    }
    id_set_free(set);
}

static void ids_are_compared_whole(void **unused)
{
    (void)unused;
    static const struct {
        const char *name, *id;
        size_t size;
        uint64_t first_line;
    } rows[] = {
        {"an empty id", "", 0, 0},
        {"a letter", "a", 1, 0},
        {"one that begins the same", "ab", 2, 0},
        {"another case", "A", 1, 0},
        {"a NUL inside", "a\0b", 3, 0},
        {"another behind the NUL", "a\0c", 3, 0},
        {"a NUL at the end", "a\0", 2, 0},
        {"the letter again", "a", 1, 2},
        {"the empty one again", "", 0, 1},
        {"the NUL again", "a\0b", 3, 5},
        {"the letter a third time", "a", 1, 2},
    };
    struct id_set *set = id_set_new();
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (add(set, rows[i].id, rows[i].size, i + 1) != rows[i].first_line)
            fail_msg("%s", rows[i].name);
    id_set_free(set);
    id_set_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_million_ids_are_all_remembered),
        cmocka_unit_test(ids_with_duplicates_among_them_agree_with_a_plain_table),
        cmocka_unit_test(ids_are_compared_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
