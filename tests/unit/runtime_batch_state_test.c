/* SPDX-License-Identifier: Apache-2.0 */
/* runtime_batch_state_test.c - what batches hold survives crashes, and nothing that did not. */
#include "expect.h"
#include "simdisk.h"

#include "runtime/batch_state.h"

#define PATH "/out.jsonl.upstream"
#define TAG_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define TAG_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static const struct batch_unit_key keys[] = {
    {3, {1, 2}}, {4, {0xfedcba9876543210, UINT64_MAX}}, {90, {5, 6}}};

static void open_state(const struct io *io, struct batch_state *state)
{
    expect_fine(batch_state_open(io, PATH, state), "open");
}

static void note_a(struct batch_state *state)
{
    expect_fine(batch_state_note(state, TAG_A, "https://host/v1", "after\"1", keys, COUNT_OF(keys)),
                "note");
}

static void what_was_noted_is_there(void **unused)
{
    (void)unused;
    struct simdisk *disk = simdisk_new();
    const struct io *io = simdisk_io(disk);
    struct batch_state state;
    open_state(io, &state);
    assert_int_equal(simdisk_file_count(disk), 0); /* nothing noted, nothing made */
    note_a(&state);
    expect_fine(batch_state_note_id(&state, TAG_A, "batch_1"), "id");
    expect_fine(batch_state_note(&state, TAG_B, "s", "", keys, 1), "second");
    expect_fine(batch_state_note_gone(&state, TAG_B), "gone");
    batch_state_close(&state);
    simdisk_crash(disk, 1);

    open_state(io, &state);
    assert_int_equal(state.n_past, 2);
    const struct batch_past *past = &state.past[0];
    expect_text(past->tag, TAG_A, "tag");
    expect_text(past->server, "https://host/v1", "server");
    expect_text(past->after, "after\"1", "after");
    expect_text(past->id, "batch_1", "id");
    assert_false(past->is_gone);
    assert_int_equal(past->n_keys, 3);
    assert_memory_equal(past->keys, keys, sizeof keys);
    assert_null(state.past[1].id);
    assert_true(state.past[1].is_gone);
    batch_state_close(&state);
    simdisk_free(disk);
}

static void expect_lost(const struct batch_state *state, const char *tag)
{
    assert_int_equal(state->n_lost, 1);
    expect_text(state->lost[0].tag, tag, "lost");
    expect_text(state->lost[0].server, "https://host/v1", "its server");
}

/* What may still show up is looked for by later runs too; what took its place stands for its requests. */
static void what_was_lost_is_looked_for_until_it_is_found(void **unused)
{
    (void)unused;
    struct simdisk *disk = simdisk_new();
    const struct io *io = simdisk_io(disk);
    struct batch_state state;
    open_state(io, &state);
    note_a(&state);
    expect_fine(batch_state_note_lost(&state, TAG_A, "https://host/v1", TAG_B), "lost");
    expect_lost(&state, TAG_A);
    batch_state_close(&state);
    simdisk_crash(disk, 1);

    open_state(io, &state);
    expect_lost(&state, TAG_A);
    assert_int_equal(state.n_past, 1);
    expect_text(state.past[0].tag, TAG_B, "what took its place");
    assert_false(state.past[0].is_gone);
    expect_fine(batch_state_note_found(&state, TAG_A), "found");
    expect_fine(batch_state_note_lost(&state, TAG_B, "https://host/v1", NULL), "lost again");
    expect_lost(&state, TAG_B);
    batch_state_close(&state);
    simdisk_crash(disk, 2);

    open_state(io, &state);
    expect_lost(&state, TAG_B);
    assert_true(state.past[0].is_gone);
    batch_state_close(&state);
    simdisk_free(disk);
}

static void units_are_found_by_all_they_ask(void **unused)
{
    (void)unused;
    struct batch_unit_key own[COUNT_OF(keys)];
    memcpy(own, keys, sizeof own);
    struct batch_past past = {.keys = own, .n_keys = COUNT_OF(keys)};
    for (size_t i = 0; i < COUNT_OF(keys); i++) assert_true(batch_past_has(&past, &keys[i]));
    assert_false(batch_past_has(&past, &(struct batch_unit_key){4, {1, 2}})); /* asked otherwise */
    assert_false(batch_past_has(&past, &(struct batch_unit_key){5, {1, 2}}));
    assert_false(batch_past_has_index(&past, 0));
    assert_false(batch_past_has_index(&past, 91));
    assert_true(batch_past_has_index(&past, 90));
}

/* A crash at any byte of the file: whole lines stay, the torn one goes, and more can be appended. */
static void a_torn_line_is_cut_off(void **unused)
{
    (void)unused;
    struct simdisk *disk = simdisk_new();
    const struct io *io = simdisk_io(disk);
    struct batch_state state;
    char *data;
    size_t size;
    open_state(io, &state);
    note_a(&state);
    expect_fine(batch_state_note_id(&state, TAG_A, "batch_1"), "id");
    batch_state_close(&state);
    expect_fine(io_read_file(io, PATH, 1 << 20, &data, &size), "read");
    size_t first = (size_t)((char *)memchr(data, '\n', size) - data) + 1;
    for (size_t cut = 0; cut <= size; cut++) {
        int fd;
        expect_fine(io_open(io, PATH, O_WRONLY | O_TRUNC | O_CREAT, 0600, &fd), "open");
        expect_fine(io_write_all(io, fd, PATH, data, cut), "write");
        io_close(io, fd);
        open_state(io, &state);
        assert_int_equal(state.n_past, cut >= first);
        assert_int_equal(state.n_past == 1 && state.past[0].id != NULL, cut == size);
        expect_fine(batch_state_note(&state, TAG_B, "s", "", keys, 1), "more");
        batch_state_close(&state);
        open_state(io, &state);
        assert_int_equal(state.n_past, 1 + (cut >= first));
        batch_state_close(&state);
    }
    free(data);
    simdisk_free(disk);
}

static void a_changed_line_is_told(void **unused)
{
    (void)unused;
    struct simdisk *disk = simdisk_new();
    const struct io *io = simdisk_io(disk);
    struct batch_state state;
    int fd;
    open_state(io, &state);
    note_a(&state);
    expect_fine(batch_state_note_id(&state, TAG_A, "batch_1"), "id");
    batch_state_close(&state);
    expect_fine(io_open(io, PATH, O_WRONLY, 0600, &fd), "open");
    assert_int_equal(io->pwrite(io->context, fd, "X", 1, 40), 1);
    io_close(io, fd);
    expect_error(batch_state_open(io, PATH, &state), ERROR_CORRUPT, PATH, "changed");
    batch_state_close(&state);
    simdisk_free(disk);
}

/* A line with a right checksum and a wrong content is no line of ours either. */
static void nonsense_is_not_believed(void **unused)
{
    (void)unused;
    static const char *const lines[] = {
        "{}",
        "{\"type\":\"batch\"}",
        "{\"type\":\"id\",\"tag\":\"x\",\"id\":\"y\"}",
        "{\"type\":\"batch\",\"tag\":\"t\",\"server\":\"s\",\"after\":\"\",\"indices\":[1,1],"
        "\"digests\":\"00000000000000000000000000000000"
        "00000000000000000000000000000000\"}",
        "{\"type\":\"batch\",\"tag\":\"t\",\"server\":\"s\",\"after\":\"\",\"indices\":[1],"
        "\"digests\":\"0\"}",
        "{\"type\":\"batch\",\"tag\":\"" TAG_A TAG_A "\",\"server\":\"s\",\"after\":\"\","
        "\"indices\":[],\"digests\":\"\"}",
    };
    struct simdisk *disk = simdisk_new();
    const struct io *io = simdisk_io(disk);
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        struct buffer text = {0};
        struct batch_state state;
        int fd;
        for (int k = 0; k < 2; k++)
            buffer_printf(&text, "%016llx %s\n",
                          (unsigned long long)hash_checksum(lines[i], strlen(lines[i])), lines[i]);
        expect_fine(io_open(io, PATH, O_WRONLY | O_TRUNC | O_CREAT, 0600, &fd), "open");
        expect_fine(io_write_all(io, fd, PATH, text.data, text.size), "write");
        io_close(io, fd);
        expect_error(batch_state_open(io, PATH, &state), ERROR_CORRUPT, NULL, lines[i]);
        batch_state_close(&state);
        buffer_free(&text);
    }
    simdisk_free(disk);
}

static void without_a_path_nothing_is_kept(void **unused)
{
    (void)unused;
    struct simdisk *disk = simdisk_new();
    struct batch_state state;
    expect_fine(batch_state_open(simdisk_io(disk), NULL, &state), "open");
    note_a(&state);
    expect_fine(batch_state_note_id(&state, TAG_A, "x"), "id");
    batch_state_close(&state);
    assert_int_equal(simdisk_file_count(disk), 0);
    simdisk_free(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_noted_is_there),
        cmocka_unit_test(what_was_lost_is_looked_for_until_it_is_found),
        cmocka_unit_test(units_are_found_by_all_they_ask),
        cmocka_unit_test(a_torn_line_is_cut_off),
        cmocka_unit_test(a_changed_line_is_told),
        cmocka_unit_test(nonsense_is_not_believed),
        cmocka_unit_test(without_a_path_nothing_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
