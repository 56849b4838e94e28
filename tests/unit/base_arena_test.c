/* SPDX-License-Identifier: Apache-2.0 */
/* base_arena_test.c - an arena's objects are aligned, apart from each other and last until a
 * reset. */
#include "expect.h"

#define OBJECTS 2000

struct object {
    unsigned char *memory;
    size_t size;
    unsigned char mark;
};

static void assert_marked(const struct object *objects, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < objects[i].size; k++)
            if (objects[i].memory[k] != objects[i].mark) fail_msg("object %zu was written over", i);
}

static size_t random_size(uint64_t *state)
{
    switch (random_below(state, 16)) {
    case 0: return 0;
    case 1: return 16384 + random_below(state, 3) - 1;            /* a first block */
    case 2: return ((size_t)1 << 20) + random_below(state, 1000); /* larger than any block */
    default: return random_below(state, 300);
    }
}

static void objects_are_aligned_and_apart(void **unused)
{
    (void)unused;
    struct arena arena = {0};
    struct object *objects = calloc(OBJECTS, sizeof *objects);
    assert_non_null(objects);
    uint64_t state = random_seed(__func__);
    for (size_t i = 0; i < OBJECTS; i++) {
        size_t size = i < 1900 ? random_below(&state, 300) : random_size(&state);
        objects[i] = (struct object){arena_alloc(&arena, size), size, (unsigned char)(i | 1)};
        assert_non_null(objects[i].memory);
        assert_int_equal((uintptr_t)objects[i].memory % 16, 0);
        memset(objects[i].memory, objects[i].mark, size);
    }
    assert_marked(objects, OBJECTS);
    arena_free(&arena);
    free(objects);
}

static void a_large_object_does_not_end_the_small_ones(void **unused)
{
    (void)unused;
    struct arena arena = {0};
    struct object objects[3];
    static const size_t sizes[] = {100, (size_t)5 << 20, 100};
    for (size_t i = 0; i < 3; i++) {
        objects[i] =
            (struct object){arena_alloc(&arena, sizes[i]), sizes[i], (unsigned char)(7 + i)};
        assert_non_null(objects[i].memory);
        memset(objects[i].memory, objects[i].mark, sizes[i]);
    }
    assert_marked(objects, 3);
    arena_free(&arena);
}

static void reset_keeps_memory_for_the_next_chunk(void **unused)
{
    (void)unused;
    struct arena arena = {0};
    assert_non_null(arena_alloc(&arena, 1000));
    arena_reset(&arena);
    const struct arena_block *kept = arena.blocks;
    assert_non_null(kept);
    for (int chunk = 0; chunk < 100; chunk++) {
        for (int i = 0; i < 10; i++) assert_non_null(arena_alloc(&arena, 1000));
        arena_reset(&arena);
        assert_ptr_equal(arena.blocks, kept); /* warm: no malloc any more */
        assert_int_equal(arena.used, 0);
    }
    arena_free(&arena);
}

static void reset_keeps_the_largest_block_of_many(void **unused)
{
    (void)unused;
    struct arena arena = {0};
    for (int i = 0; i < 3000; i++) assert_non_null(arena_alloc(&arena, 1000));
    arena_reset(&arena);
    const struct arena_block *kept = arena.blocks;
    for (int i = 0; i < 1000; i++) assert_non_null(arena_alloc(&arena, 1000));
    assert_ptr_equal(arena.blocks, kept); /* nearly 1 MiB fits the block that was kept */
    arena_free(&arena);
}

static void reset_gives_a_huge_object_back(void **unused)
{
    (void)unused;
    struct arena arena = {0};
    assert_non_null(arena_alloc(&arena, (size_t)64 << 20));
    arena_reset(&arena);
    assert_null(arena.blocks);
    assert_non_null(arena_alloc(&arena, 1));
    arena_free(&arena);
}

static void free_leaves_an_arena_that_works(void **unused)
{
    (void)unused;
    struct arena arena = {0};
    arena_free(&arena); /* an empty one */
    arena_reset(&arena);
    assert_non_null(arena_alloc(&arena, 10));
    arena_free(&arena);
    assert_null(arena.blocks);
    assert_non_null(arena_alloc(&arena, 10));
    arena_free(&arena);
}

static void calloc_gives_zeros_where_bytes_were(void **unused)
{
    (void)unused;
    struct arena arena = {0};
    void *memory = arena_alloc(&arena, 8000);
    assert_non_null(memory);
    memset(memory, 0xff, 8000);
    arena_reset(&arena);
    unsigned char *zeros = arena_calloc(&arena, 1000, 8);
    assert_non_null(zeros);
    for (size_t i = 0; i < 8000; i++) assert_int_equal(zeros[i], 0);
    arena_free(&arena);
}

static void text_is_copied_and_ended(void **unused)
{
    (void)unused;
    struct arena arena = {0};
    char *copy = arena_copy(&arena, "ab\0cd", 5);
    assert_memory_equal(copy, "ab\0cd\0", 6);
    assert_string_equal(arena_copy(&arena, NULL, 0), "");
    assert_string_equal(arena_printf(&arena, "%s-%d", "row", 17), "row-17");
    assert_string_equal(arena_printf(&arena, "%s", ""), "");
    char *wide = arena_printf(&arena, "%070000d", 5);
    assert_int_equal(strlen(wide), 70000);
    assert_int_equal(wide[69999], '5');
    arena_free(&arena);
}

static void sizes_that_overflow_are_no_memory(void **unused)
{
    (void)unused;
    struct arena arena = {0};
    volatile size_t half = SIZE_MAX / 2 + 1; /* volatile: compilers warn of such constants */
    assert_null(arena_alloc(&arena, half));
    assert_null(arena_alloc(&arena, half + (half - 1)));
    assert_null(arena_calloc(&arena, half, 2));
    assert_null(arena_calloc(&arena, 3, half));
    assert_null(arena_copy(&arena, "", half + (half - 1)));
    assert_non_null(arena_alloc(&arena, 1)); /* and nothing is broken */
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_are_aligned_and_apart),
        cmocka_unit_test(a_large_object_does_not_end_the_small_ones),
        cmocka_unit_test(reset_keeps_memory_for_the_next_chunk),
        cmocka_unit_test(reset_keeps_the_largest_block_of_many),
        cmocka_unit_test(reset_gives_a_huge_object_back),
        cmocka_unit_test(free_leaves_an_arena_that_works),
        cmocka_unit_test(calloc_gives_zeros_where_bytes_were),
        cmocka_unit_test(text_is_copied_and_ended),
        cmocka_unit_test(sizes_that_overflow_are_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
