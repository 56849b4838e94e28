/* SPDX-License-Identifier: Apache-2.0 */
/* base_buffer_test.c - a buffer holds what was appended; after a failed append it says so for
 * good. */
#include "expect.h"

#define MODEL_BYTES ((size_t)1 << 20)

/* More than can be: the doubling stops before, and malloc is not asked. */
static size_t impossible(void)
{
    volatile size_t size = SIZE_MAX / 2 + 2;
    return size;
}

static void appends_of_any_kind_hold_what_was_given(void **unused)
{
    (void)unused;
    struct buffer buffer = {0};
    char *model = malloc(MODEL_BYTES), piece[700];
    size_t size = 0;
    assert_non_null(model);
    uint64_t state = random_seed(__func__);
    while (size + sizeof piece < MODEL_BYTES) {
        size_t n = random_below(&state, sizeof piece - 1);
        memset(piece, 'a' + (int)random_below(&state, 26), n);
        piece[n] = '\0';
        switch (random_below(&state, 5)) {
        case 0: buffer_append(&buffer, piece, n); break;
        case 1: buffer_text(&buffer, piece); break;
        case 2: buffer_printf(&buffer, "%s", piece); break;
        case 3:
            n = 1;
            piece[0] = '\0';
            buffer_byte(&buffer, '\0');
            break;
        default: {
            char *place = buffer_reserve(&buffer, n + 1);
            assert_non_null(place);
            memcpy(place, piece, n);
            buffer.size += n;
        }
        }
        memcpy(model + size, piece, n);
        size += n;
        assert_true(buffer.capacity >= buffer.size);
    }
    assert_false(buffer.is_failed);
    assert_int_equal(buffer.size, size);
    assert_memory_equal(buffer.data, model, size);
    buffer_free(&buffer);
    free(model);
}

static void growth_doubles_and_so_is_not_quadratic(void **unused)
{
    (void)unused;
    struct buffer buffer = {0};
    size_t n_growths = 0, capacity = 0;
    for (size_t i = 0; i < 1000000; i++) {
        buffer_byte(&buffer, 'x');
        if (buffer.capacity != capacity) n_growths++;
        capacity = buffer.capacity;
    }
    assert_int_equal(buffer.size, 1000000);
    assert_in_range(n_growths, 1, 16);
    buffer_free(&buffer);
}

static void reserve_has_room_and_adds_nothing(void **unused)
{
    (void)unused;
    static const size_t sizes[] = {1, 255, 256, 257, 511, 1025, 100000};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct buffer buffer = {0};
        buffer_text(&buffer, "abc");
        char *place = buffer_reserve(&buffer, sizes[i]);
        assert_non_null(place);
        assert_ptr_equal(place, buffer.data + 3);
        memset(place, 'x', sizes[i]); /* the sanitizer would see too little room */
        assert_int_equal(buffer.size, 3);
        buffer_free(&buffer);
    }
}

static void room_for_nothing_is_not_out_of_memory(void **unused)
{
    (void)unused;
    struct buffer buffer = {0};
    assert_non_null(buffer_reserve(&buffer, 0));
    assert_false(buffer.is_failed);
    buffer_free(&buffer);
}

static void failure_sticks_to_the_end_of_a_row_of_appends(void **unused)
{
    (void)unused;
    struct buffer buffer = {0};
    buffer_text(&buffer, "before");
    assert_null(buffer_reserve(&buffer, impossible()));
    assert_true(buffer.is_failed);
    assert_null(buffer_reserve(&buffer, 1));
    assert_null(buffer_reserve(&buffer, 10000));
    buffer_text(&buffer, "after");
    buffer_byte(&buffer, '!');
    buffer_printf(&buffer, "%d", 5);
    for (int i = 0; i < 1000; i++) buffer_append(&buffer, "0123456789", 10);
    assert_true(buffer.is_failed);
    assert_true(buffer.size <= buffer.capacity);
    buffer_free(&buffer);
}

static void a_size_that_wraps_round_is_no_memory(void **unused)
{
    (void)unused;
    struct buffer buffer = {0};
    volatile size_t all = SIZE_MAX;
    buffer_text(&buffer, "0123456789");
    assert_null(buffer_reserve(&buffer, all - 5)); /* size + extra would wrap */
    assert_true(buffer.is_failed);
    buffer_free(&buffer);
}

static void reset_heals_and_keeps_memory_up_to_a_limit(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        size_t filled, keep_bytes;
        bool is_kept;
    } rows[] = {
        {"a small buffer was freed", 100, 4096, true},
        {"a buffer at the limit was freed", 4096, 4096, true},
        {"a large buffer was kept", 4097, 4096, false},
        {"nothing was to be kept", 1, 0, false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct buffer buffer = {0};
        for (size_t k = 0; k < rows[i].filled; k++) buffer_byte(&buffer, 'x');
        assert_null(buffer_reserve(&buffer, impossible()));
        buffer_reset(&buffer, rows[i].keep_bytes);
        if ((buffer.capacity > 0) != rows[i].is_kept) fail_msg("%s", rows[i].name);
        assert_false(buffer.is_failed);
        assert_int_equal(buffer.size, 0);
        buffer_text(&buffer, "again");
        assert_memory_equal(buffer.data, "again", 5);
        buffer_free(&buffer);
    }
}

static void empty_appends_to_an_empty_buffer_are_fine(void **unused)
{
    (void)unused;
    struct buffer buffer = {0};
    buffer_append(&buffer, NULL, 0);
    buffer_text(&buffer, "");
    buffer_printf(&buffer, "%s", "");
    assert_int_equal(buffer.size, 0);
    assert_false(buffer.is_failed);
    buffer_free(&buffer);
    buffer_free(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_of_any_kind_hold_what_was_given),
        cmocka_unit_test(growth_doubles_and_so_is_not_quadratic),
        cmocka_unit_test(reserve_has_room_and_adds_nothing),
        cmocka_unit_test(room_for_nothing_is_not_out_of_memory),
        cmocka_unit_test(failure_sticks_to_the_end_of_a_row_of_appends),
        cmocka_unit_test(a_size_that_wraps_round_is_no_memory),
        cmocka_unit_test(reset_heals_and_keeps_memory_up_to_a_limit),
        cmocka_unit_test(empty_appends_to_an_empty_buffer_are_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
