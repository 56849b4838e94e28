/* SPDX-License-Identifier: Apache-2.0 */
/* job_journal_test.c - what was appended is read back; a journal that was cut, torn, flipped or
 * lost by a disk tells the last state that held, or that it is damaged, and never anything else.
 *
 * A scenario is a list of steps. Its state after k steps is worked out here, step by step, apart
 * from the code that reads journals. */
#include "expect.h"

#include "job/journal.h"
#include "simdisk.h"

#include <errno.h>
#include <inttypes.h>

#define PATH "out/result.journal"
#define DEADLY_MAX 8
#define STEPS_MAX 32

enum step_kind { BEGIN, START, PLAN, ATTEMPT, COMMIT, FINAL, PUBLISHED };

struct step {
    enum step_kind kind;
    uint64_t record;                    /* ATTEMPT */
    struct journal_commit commit;       /* COMMIT */
    struct journal_plan plan;           /* PLAN */
    uint64_t output_bytes, error_bytes; /* FINAL, PUBLISHED */
};

/* A tail as an output has it: any bytes. */
static const char tail[] = "\0\n{\"type\":\"commit\"}\n0123456789abcdef {}\xff\xfe\r\n";

static const struct step steps[] = {
    {.kind = BEGIN},
    {.kind = START},
    {.kind = PLAN,
     .plan = {.is_set = true,
              .limits = {.rows_max = 256,
                         .tokens_max = {[7] = 512, [8] = 2048},
                         .call_tokens = 33,
                         .is_padded = true},
              .is_measured = true,
              .first_chunk = {.low = 0x0123456789abcdef, .high = 0x00fe},
              .decoder = "x=x\n\"id\"=gr\xc3\xbcn"}},
    {.kind = ATTEMPT, .record = 0},
    {.kind = ATTEMPT, .record = 1},
    {.kind = START}, /* the run before died in record 1 */
    {.kind = ATTEMPT, .record = 1},
    {.kind = START}, /* and again */
    {.kind = ATTEMPT, .record = 5},
    {.kind = START},
    {.kind = COMMIT,
     .commit = {.counts = {.records = 5, .ok = 4, .failed = 1}, /* record 5 is the next one */
                .chunk = {.file = 0, .offset = 0, .line = 0, .index = 0},
                .done_in_chunk = 5,
                .output = {.file_bytes = 100, .plain_bytes = 100, .tail = {tail, 0}},
                .errors = {.file_bytes = 0, .plain_bytes = 41, .tail = {tail, 1}},
                .wall_s = 1.25,
                .cpu_s = 2.5}},
    {.kind = ATTEMPT, .record = 5000000000}, /* the next one of the next commit */
    {.kind = COMMIT,
     .commit = {.counts = {.records = 5000000000, .ok = 4999999990, .failed = 10, .duplicates = 7},
                .chunk = {.file = 3, .offset = (uint64_t)1 << 40, .line = 77, .index = 4999999000},
                .done_in_chunk = 1000,
                .output = {.file_bytes = (uint64_t)1 << 41,
                           .plain_bytes = UINT64_MAX,
                           .tail = {tail, sizeof tail}},
                .errors = {.file_bytes = 1234, .plain_bytes = 5678, .tail = {tail, 2}},
                .wall_s = 86400.125,
                .cpu_s = 0.5}},
    {.kind = START},
    {.kind = FINAL, .output_bytes = 123456789012, .error_bytes = 17},
    {.kind = PUBLISHED, .output_bytes = 123456789012, .error_bytes = 17},
};

/* --- the state that must be ------------------------------------------------------------------- */

struct expected {
    bool exists, has_commit, has_attempt;
    const struct journal_plan *plan;
    const struct journal_commit *commit;
    const struct step *final;
    uint32_t starts;
    uint64_t deadly[DEADLY_MAX], attempt;
    size_t n_deadly;
};

static void end_run(struct expected *state)
{
    if (state->has_attempt) state->deadly[state->n_deadly++] = state->attempt;
    state->has_attempt = false;
}

static void take_step(struct expected *state, const struct step *step)
{
    size_t kept = 0;
    switch (step->kind) {
    case BEGIN: state->exists = true; return;
    case START:
        end_run(state);
        state->starts++;
        return;
    case PLAN: state->plan = &step->plan; return;
    case ATTEMPT:
        state->attempt = step->record;
        state->has_attempt = true;
        return;
    case COMMIT:
        state->commit = &step->commit;
        state->starts = 0;
        for (size_t i = 0; i < state->n_deadly; i++)
            if (state->deadly[i] >= step->commit.counts.records)
                state->deadly[kept++] = state->deadly[i];
        state->n_deadly = kept;
        if (state->attempt < step->commit.counts.records) state->has_attempt = false;
        return;
    case FINAL:
    case PUBLISHED: state->final = step;
    }
}

static struct expected state_after(size_t n_steps)
{
    struct expected state = {0};
    for (size_t i = 0; i < n_steps; i++) take_step(&state, &steps[i]);
    end_run(&state);
    return state;
}

static struct identity make_identity(void)
{
    struct identity identity = {0};
    expect_fine(
        identity_add(&identity, "0123456789abcdef of 4711 bytes", "model %s", "m \"1\".onnx"),
        "identity");
    expect_fine(identity_add(&identity, "", "option --%s", "post"), "identity");
    expect_fine(identity_add(&identity, "a\n\t\\\x01 gr\xc3\xbcn", "input %s", "gr\xc3\xbcn.jsonl"),
                "identity");
    return identity;
}

static bool same_spool(const struct spool_position *a, const struct spool_position *b)
{
    return a->file_bytes == b->file_bytes && a->plain_bytes == b->plain_bytes &&
           a->tail.size == b->tail.size &&
           (a->tail.size == 0 || memcmp(a->tail.data, b->tail.data, a->tail.size) == 0);
}

static bool same_commit(const struct journal_commit *a, const struct journal_commit *b)
{
    return a->counts.records == b->counts.records && a->counts.ok == b->counts.ok &&
           a->counts.failed == b->counts.failed && a->counts.duplicates == b->counts.duplicates &&
           a->chunk.file == b->chunk.file && a->chunk.offset == b->chunk.offset &&
           a->chunk.line == b->chunk.line && a->chunk.index == b->chunk.index &&
           a->done_in_chunk == b->done_in_chunk && same_spool(&a->output, &b->output) &&
           same_spool(&a->errors, &b->errors) && a->wall_s == b->wall_s && a->cpu_s == b->cpu_s;
}

/* What differs, or NULL. */
static const char *difference(const struct journal_state *found, const struct expected *expected)
{
    if (found->exists != expected->exists) return "exists";
    if (!expected->exists) return found->valid_bytes == 0 ? NULL : "valid bytes";
    struct identity identity = make_identity();
    tidemill_error *error = identity_compare(&found->identity, &identity);
    bool is_same = error == NULL && found->identity.n == identity.n;
    error_free(error);
    identity_free(&identity);
    if (!is_same) return "identity";
    if (found->starts_without_commit != expected->starts) return "starts";
    if (found->plan.is_set != (expected->plan != NULL)) return "plan";
    if (expected->plan != NULL &&
        (memcmp(&found->plan.limits, &expected->plan->limits, sizeof found->plan.limits) != 0 ||
         found->plan.is_measured != expected->plan->is_measured ||
         !digest_equal(found->plan.first_chunk, expected->plan->first_chunk)))
        return "plan's content";
    if (expected->plan != NULL && strcmp(found->plan.decoder, expected->plan->decoder) != 0)
        return "plan's decoder";
    if (found->has_commit != (expected->commit != NULL)) return "commit";
    if (expected->commit != NULL && !same_commit(&found->commit, expected->commit))
        return "commit's content";
    if (found->n_deadly != expected->n_deadly) return "number of deadly records";
    for (size_t i = 0; i < found->n_deadly; i++)
        if (found->deadly[i] != expected->deadly[i]) return "deadly record";
    if (found->final.is_set != (expected->final != NULL)) return "final";
    if (expected->final != NULL &&
        (found->final.is_published != (expected->final->kind == PUBLISHED) ||
         found->final.output_bytes != expected->final->output_bytes ||
         found->final.errors_bytes != expected->final->error_bytes))
        return "final's content";
    return NULL;
}

/* Reads the journal on the disk; it must tell the state after n_steps. */
static void expect_state(struct simdisk *disk, size_t n_steps, const char *row, size_t number)
{
    struct journal_state found;
    struct expected expected = state_after(n_steps);
    expect_fine(journal_read(simdisk_io(disk), PATH, &found), row);
    const char *what = difference(&found, &expected);
    if (what != NULL)
        fail_msg("%s %zu: %s differs from that after %zu steps", row, number, what, n_steps);
    journal_state_free(&found);
}

/* --- writing scenarios ------------------------------------------------------------------------ */

static tidemill_error *append(struct journal *journal, const struct step *step)
{
    struct journal_final final = {.is_set = true,
                                  .is_published = step->kind == PUBLISHED,
                                  .output_bytes = step->output_bytes,
                                  .errors_bytes = step->error_bytes};
    switch (step->kind) {
    case BEGIN: return NULL;
    case START: return journal_append_start(journal);
    case PLAN: return journal_append_plan(journal, &step->plan);
    case ATTEMPT: return journal_append_attempt(journal, step->record);
    case COMMIT: return journal_append_commit(journal, &step->commit);
    case FINAL:
    case PUBLISHED: return journal_append_final(journal, &final);
    }
    return NULL;
}

/* Opens the journal as it is on the disk, begun or not, and appends steps up to `end`. *ret_done:
 * the steps that succeeded, those before this call among them. */
static tidemill_error *go_on(const struct io *io, size_t end, size_t *ret_done)
{
    struct journal_state state;
    struct journal *journal = NULL;
    struct identity identity = make_identity();
    tidemill_error *error = journal_read(io, PATH, &state);
    if (error == NULL && !state.exists) *ret_done = 0;
    if (error == NULL) error = journal_open(io, PATH, &state, &identity, &journal);
    if (error == NULL && *ret_done == 0) *ret_done = 1;
    while (error == NULL && *ret_done < end) {
        error = append(journal, &steps[*ret_done]);
        if (error == NULL) ++*ret_done;
    }
    journal_close(journal);
    journal_state_free(&state);
    identity_free(&identity);
    return error;
}

static void write_steps(struct simdisk *disk, size_t n_steps)
{
    size_t done = 0;
    expect_fine(go_on(simdisk_io(disk), n_steps, &done), "writing");
    assert_int_equal(done, n_steps);
}

struct bytes {
    char *data;
    size_t size;
    size_t ends[STEPS_MAX]; /* of the file after i steps */
};

/* The journal of the first n_steps; the caller frees data. */
static struct bytes bytes_of(size_t n_steps)
{
    struct bytes bytes = {0};
    struct simdisk *disk = simdisk_new();
    for (size_t i = 1; i <= n_steps; i++) {
        size_t done = i - 1;
        expect_fine(go_on(simdisk_io(disk), i, &done), "writing"); /* a new process for each step */
        assert_non_null(simdisk_get(disk, PATH, &bytes.ends[i]));
    }
    const char *data = simdisk_get(disk, PATH, &bytes.size);
    bytes.data = malloc(bytes.size + 1);
    assert_non_null(bytes.data);
    if (bytes.size > 0) memcpy(bytes.data, data, bytes.size);
    simdisk_free(disk);
    return bytes;
}

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
        cmocka_unit_test(what_was_appended_is_read_back_after_every_step),
        cmocka_unit_test(a_journal_is_lines_of_text),
        cmocka_unit_test(a_journal_cut_at_any_byte_tells_the_last_whole_frame),
        cmocka_unit_test(a_torn_frame_of_any_content_is_cut_off),
        cmocka_unit_test(a_flipped_byte_is_damage_or_a_torn_end_and_never_a_wrong_state),
        cmocka_unit_test(lines_lost_doubled_or_swapped_in_the_middle_never_crash),
        cmocka_unit_test(frames_of_another_mind_are_refused),
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
