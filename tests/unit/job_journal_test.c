/* SPDX-License-Identifier: Apache-2.0 */
/* job_journal_test.c - what was appended is read back; a journal that was cut, torn or flipped tells the
 * last state that held, or that it is damaged, and never anything else. */
#include "journal_steps.h"

#include <inttypes.h>

/* --- reading back ----------------------------------------------------------------------------- */

static void what_was_appended_is_read_back_after_every_step(void **unused)
{
    (void)unused;
    struct simdisk *disk = simdisk_new();
    expect_state(disk, 0, "no file", 0);
    for (size_t n = 1, done = 0; n <= COUNT_OF(steps); n++) {
        expect_fine(go_on(simdisk_io(disk), n, &done), "writing");
        expect_state(disk, n, "step", n);
    }
    simdisk_free(disk);
    for (size_t n = 1; n <= COUNT_OF(steps); n++) { /* and in one go */
        disk = simdisk_new();
        write_steps(disk, n);
        expect_state(disk, n, "steps", n);
        simdisk_free(disk);
    }
}

static void a_journal_is_lines_of_text(void **unused)
{
    (void)unused;
    struct bytes bytes = bytes_of(COUNT_OF(steps));
    size_t n_lines = 0;
    for (size_t i = 0; i < bytes.size; i++) {
        assert_true(bytes.data[i] == '\n' || (unsigned char)bytes.data[i] >= 0x20);
        n_lines += bytes.data[i] == '\n';
    }
    assert_int_equal(n_lines, COUNT_OF(steps));
    free(bytes.data);
}

/* --- cut at every byte ------------------------------------------------------------------------ */

static void a_journal_cut_at_any_byte_tells_the_last_whole_frame(void **unused)
{
    (void)unused;
    struct bytes bytes = bytes_of(COUNT_OF(steps));
    for (size_t cut = 0; cut <= bytes.size; cut++) {
        size_t whole = 0;
        while (whole < COUNT_OF(steps) && bytes.ends[whole + 1] <= cut) whole++;
        struct simdisk *disk = simdisk_new();
        simdisk_put(disk, PATH, bytes.data, cut);
        expect_state(disk, whole, "cut at", cut);
        size_t done = whole, size;
        expect_fine(go_on(simdisk_io(disk), COUNT_OF(steps), &done), "going on");
        expect_state(disk, COUNT_OF(steps), "gone on after", cut);
        const char *data = simdisk_get(disk, PATH, &size);
        if (size != bytes.size || memcmp(data, bytes.data, size) != 0)
            fail_msg("gone on after %zu: other bytes", cut);
        simdisk_free(disk);
    }
    free(bytes.data);
}

static void a_torn_frame_of_any_content_is_cut_off(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        size_t size;
        const char *torn;
    } rows[] = {
        {"zeros", 600, NULL},
        {"a line feed", 1, "\n"},
        {"line feeds", 3, "\n\n\n"},
        {"a checksum alone", 17, "0123456789abcdef "},
        {"a frame with a wrong checksum", 35, "0123456789abcdef {\"type\":\"start\"}\n\n"},
        {"a frame of nothing", 18, "2d06800538d394c2 \n"}, /* its checksum is right */
        {"text", 13, "hello, world\n"},
    };
    static const char zeros[600];
    for (size_t n = 0; n <= COUNT_OF(steps); n += 5) {
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
            struct bytes bytes = bytes_of(n);
            struct buffer all = {0};
            struct simdisk *disk = simdisk_new();
            buffer_append(&all, bytes.data, bytes.size);
            buffer_append(&all, rows[i].torn == NULL ? zeros : rows[i].torn, rows[i].size);
            simdisk_put(disk, PATH, all.data, all.size);
            expect_state(disk, n, rows[i].name, n);
            size_t done = n;
            expect_fine(go_on(simdisk_io(disk), COUNT_OF(steps), &done), rows[i].name);
            expect_state(disk, COUNT_OF(steps), rows[i].name, n);
            simdisk_free(disk);
            buffer_free(&all);
            free(bytes.data);
        }
    }
}

/* --- what a kill takes is on the bill --------------------------------------------------------- */

static void expect_bill(struct simdisk *disk, uint64_t in, uint64_t lost_in, const char *when)
{
    struct journal_state found;
    expect_fine(journal_read(simdisk_io(disk), PATH, &found), when);
    const struct job_counts *counts = &found.commit.counts;
    if (counts->tokens.in != in || counts->lost.in != lost_in || counts->tokens.out != 2 * in ||
        counts->lost.out != 2 * lost_in)
        fail_msg("%s: %d tokens, %d of them lost", when, (int)counts->tokens.in,
                 (int)counts->lost.in);
    journal_state_free(&found);
}

static struct token_usage tokens_of(uint64_t in)
{
    return (struct token_usage){.in = in, .cached = 0, .out = 2 * in};
}

/* One run: what it pays for, in all, and whether it commits that. Ends by a kill. */
static void run_and_die(struct simdisk *disk, uint64_t paid, bool is_committed)
{
    struct journal *journal;
    struct journal_state state;
    struct identity identity = make_identity();
    const struct io *io = simdisk_io(disk);
    expect_fine(journal_read(io, PATH, &state), "reading");
    expect_fine(journal_open(io, PATH, &state, &identity, &journal), "opening");
    expect_fine(journal_append_start(journal), "starting");
    struct journal_commit commit = {
        .counts = state.commit.counts, .output.tail = {"", 0}, .errors.tail = {"", 0}};
    struct token_usage tokens = tokens_of(paid);
    expect_fine(journal_append_paid(journal, &tokens), "noting");
    commit.counts.tokens = tokens;
    if (is_committed) expect_fine(journal_append_commit(journal, &commit), "committing");
    journal_close(journal);
    journal_state_free(&state);
    identity_free(&identity);
}

static void what_was_paid_for_after_the_last_commit_is_on_the_bill(void **unused)
{
    (void)unused;
    struct simdisk *disk = simdisk_new();
    run_and_die(disk, 7, false);
    expect_bill(disk, 7, 7, "no commit at all");
    run_and_die(disk, 10, true);
    expect_bill(disk, 10, 7, "a commit that holds it");
    run_and_die(disk, 25, false);
    expect_bill(disk, 25, 22, "more after the commit");
    run_and_die(disk, 30, false);
    expect_bill(disk, 30, 27, "and in the next run");
    run_and_die(disk, 31, true);
    expect_bill(disk, 31, 27, "all of it in a commit");
    simdisk_free(disk);
}

/* It is not synced: the power may take it, and what it leaves is a torn end, no damage. */
static void what_was_paid_for_may_be_torn(void **unused)
{
    (void)unused;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct simdisk *disk = simdisk_new();
        struct journal_state found;
        run_and_die(disk, 10, true);
        run_and_die(disk, 25, false);
        simdisk_crash(disk, seed);
        expect_fine(journal_read(simdisk_io(disk), PATH, &found), "after power loss");
        assert_true(found.commit.counts.tokens.in == 10 || found.commit.counts.tokens.in == 25);
        journal_state_free(&found);
        simdisk_free(disk);
    }
}

/* --- every byte changed ----------------------------------------------------------------------- */

/* Whether byte `place` lies where a torn write may: in the last frame, or before nothing but attempts.
 * What is lost then is all from its frame on. */
static bool is_in_tail(const struct bytes *bytes, size_t n_steps, size_t place, size_t *ret_left)
{
    size_t frame = 0;
    while (bytes->ends[frame + 1] <= place) frame++;
    *ret_left = frame;
    for (size_t i = frame + 1; i < n_steps; i++)
        if (steps[i].kind != ATTEMPT) return false;
    return true;
}

static void flip(const struct bytes *bytes, size_t n_steps, size_t place, char value)
{
    struct journal_state found;
    struct simdisk *disk = simdisk_new();
    char *copy = malloc(bytes->size);
    assert_non_null(copy);
    memcpy(copy, bytes->data, bytes->size);
    copy[place] = value;
    simdisk_put(disk, PATH, copy, bytes->size);
    tidemill_error *error = journal_read(simdisk_io(disk), PATH, &found);
    if (error != NULL) {
        expect_error(error, ERROR_CORRUPT, PATH ":", "flip");
        assert_false(found.exists); /* nothing is left in the state, and nothing leaks */
    } else {
        size_t left;
        if (!is_in_tail(bytes, n_steps, place, &left))
            fail_msg("byte %zu of %zu steps: damage was not seen", place, n_steps);
        struct expected expected = state_after(left);
        const char *what = difference(&found, &expected);
        if (what != NULL) fail_msg("byte %zu of %zu steps: wrong %s", place, n_steps, what);
        journal_state_free(&found);
    }
    free(copy);
    simdisk_free(disk);
}

static void a_flipped_byte_is_damage_or_a_torn_end_and_never_a_wrong_state(void **unused)
{
    (void)unused;
    for (size_t n = 1; n <= COUNT_OF(steps); n++) {
        struct bytes bytes = bytes_of(n);
        bool is_whole = n == COUNT_OF(steps);
        size_t from = is_whole || n < 3 ? 0 : bytes.ends[n - 2]; /* the rest was flipped before */
        for (size_t place = from; place < bytes.size; place++) {
            for (int bit = 0; bit < 8; bit++)
                flip(&bytes, n, place, (char)(bytes.data[place] ^ 1 << bit));
            if (bytes.data[place] != '\n') flip(&bytes, n, place, '\n');
            if (bytes.data[place] != '\0') flip(&bytes, n, place, '\0');
        }
        free(bytes.data);
    }
}

static void lines_lost_doubled_or_swapped_in_the_middle_never_crash(void **unused)
{
    (void)unused;
    struct bytes bytes = bytes_of(COUNT_OF(steps));
    uint64_t state = random_seed(__func__);
    for (int round = 0; round < 500; round++) {
        struct buffer all = {0};
        struct journal_state found;
        struct simdisk *disk = simdisk_new();
        for (uint64_t n = random_below(&state, 30); n > 0; n--) {
            size_t line = random_below(&state, COUNT_OF(steps));
            buffer_append(&all, bytes.data + bytes.ends[line],
                          bytes.ends[line + 1] - bytes.ends[line]);
        }
        if (all.size > 0) all.size -= random_below(&state, 2) * random_below(&state, all.size);
        simdisk_put(disk, PATH, all.data == NULL ? "" : all.data, all.size);
        tidemill_error *error = journal_read(simdisk_io(disk), PATH, &found);
        if (error == NULL) journal_state_free(&found);
        error_free(error);
        simdisk_free(disk);
        buffer_free(&all);
    }
    free(bytes.data);
}

/* --- frames that hold but make no sense ------------------------------------------------------- */

static void put_frame(struct buffer *out, const char *json)
{
    buffer_printf(out, "%016" PRIx64 " %s\n", hash_checksum(json, strlen(json)), json);
}

static void frames_of_another_mind_are_refused(void **unused)
{
    (void)unused;
    static const char job[] = "{\"type\":\"job\",\"version\":1,\"identity\":[[\"model\",\"x\"]]}";
    static const struct {
        const char *name, *first, *second;
        enum error_code code;
        const char *part;
    } rows[] = {
        {"a later version", "{\"type\":\"job\",\"version\":2,\"identity\":[]}", NULL, ERROR_CHANGED,
         "is of journal version 2"},
        {"no version", "{\"type\":\"job\",\"identity\":[]}", NULL, ERROR_CHANGED, "version 0"},
        {"not begun with a job", "{\"type\":\"start\"}", NULL, ERROR_CORRUPT, ":1:"},
        {"no identity", "{\"type\":\"job\",\"version\":1}", NULL, ERROR_CORRUPT, ":1:"},
        {"an identity of numbers", "{\"type\":\"job\",\"version\":1,\"identity\":[[1,2]]}", NULL,
         ERROR_CORRUPT, ":1:"},
        {"an unknown type", job, "{\"type\":\"surprise\"}", ERROR_CORRUPT, ":2:"},
        {"no type", job, "{}", ERROR_CORRUPT, ":2:"},
        {"not an object", job, "[1]", ERROR_CORRUPT, ":2:"},
        {"a plan of no rows", job,
         "{\"type\":\"plan\",\"batch\":0,\"first_chunk\":\"0123456789abcdef0123456789abcdef\"}",
         ERROR_CORRUPT, ":2:"},
        {"a plan without token budgets and digest", job, "{\"type\":\"plan\",\"batch\":8}",
         ERROR_CORRUPT, ":2:"},
        {"a commit whose sum is wrong", job,
         "{\"type\":\"commit\",\"ok\":5,\"failed\":0,\"chunk\":[0,0,0,0],\"done_in_chunk\":4,"
         "\"output\":[0,0,\"\"],\"errors\":[0,0,\"\"]}",
         ERROR_CORRUPT, ":2:"},
        {"a commit without a tail", job,
         "{\"type\":\"commit\",\"ok\":4,\"failed\":0,\"chunk\":[0,0,0,0],\"done_in_chunk\":4,"
         "\"output\":[0,0],\"errors\":[0,0,\"\"]}",
         ERROR_CORRUPT, ":2:"},
        {"a commit with a tail that is not base64", job,
         "{\"type\":\"commit\",\"ok\":4,\"failed\":0,\"chunk\":[0,0,0,0],\"done_in_chunk\":4,"
         "\"output\":[0,0,\"\"],\"errors\":[0,0,\"?\"]}",
         ERROR_CORRUPT, ":2:"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct buffer text = {0};
        struct journal_state found;
        struct simdisk *disk = simdisk_new();
        put_frame(&text, rows[i].first);
        if (rows[i].second != NULL) put_frame(&text, rows[i].second);
        simdisk_put(disk, PATH, text.data, text.size);
        expect_error(journal_read(simdisk_io(disk), PATH, &found), rows[i].code, rows[i].part,
                     rows[i].name);
        assert_false(found.exists);
        simdisk_free(disk);
        buffer_free(&text);
    }
}

static void a_commit_of_an_older_version_tells_no_tokens(void **unused)
{
    (void)unused;
    struct buffer text = {0};
    struct journal_state found;
    struct simdisk *disk = simdisk_new();
    put_frame(&text, "{\"type\":\"job\",\"version\":1,\"identity\":[]}");
    put_frame(&text, "{\"type\":\"commit\",\"ok\":4,\"failed\":0,\"chunk\":[0,0,0,0],"
                     "\"done_in_chunk\":4,\"output\":[1,1,\"\"],\"errors\":[0,0,\"\"]}");
    simdisk_put(disk, PATH, text.data, text.size);
    expect_fine(journal_read(simdisk_io(disk), PATH, &found), "no tokens");
    assert_true(found.has_commit && found.commit.counts.ok == 4);
    assert_true(found.commit.counts.tokens.in == 0 && found.commit.counts.tokens.out == 0);
    journal_state_free(&found);
    simdisk_free(disk);
    buffer_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_paid_for_after_the_last_commit_is_on_the_bill),
        cmocka_unit_test(what_was_paid_for_may_be_torn),
        cmocka_unit_test(what_was_appended_is_read_back_after_every_step),
        cmocka_unit_test(a_journal_is_lines_of_text),
        cmocka_unit_test(a_journal_cut_at_any_byte_tells_the_last_whole_frame),
        cmocka_unit_test(a_torn_frame_of_any_content_is_cut_off),
        cmocka_unit_test(a_flipped_byte_is_damage_or_a_torn_end_and_never_a_wrong_state),
        cmocka_unit_test(lines_lost_doubled_or_swapped_in_the_middle_never_crash),
        cmocka_unit_test(frames_of_another_mind_are_refused),
        cmocka_unit_test(a_commit_of_an_older_version_tells_no_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
