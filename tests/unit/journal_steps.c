/* SPDX-License-Identifier: Apache-2.0 */
/* journal_steps.c - the scenario, and how it is written. */
#include "journal_steps.h"

const char tail[] = "\0\n{\"type\":\"commit\"}\n0123456789abcdef {}\xff\xfe\r\n";

const struct step steps[N_STEPS] = {
    {.kind = BEGIN},
    {.kind = START},
    {.kind = PLAN,
     .plan = {.is_set = true,
              .limits = {.rows_max = 256,
                         .tokens_max = {[7] = 512, [8] = 2048},
                         .call_tokens = 33,
                         .is_padded = true},
              .batch_from = TUNED_MEASURED,
              .parallel_from = TUNED_REMEMBERED,
              .instances = 2,
              .threads = 3,
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
     .commit = {.counts = {.records = 5000000000,
                           .ok = 4999999990,
                           .failed = 10,
                           .duplicates = 7,
                           .reused = 6,
                           .cached = 5,
                           .tokens = {(uint64_t)1 << 62, 3, UINT64_MAX}},
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

struct expected state_after(size_t n_steps)
{
    struct expected state = {0};
    for (size_t i = 0; i < n_steps; i++) take_step(&state, &steps[i]);
    end_run(&state);
    return state;
}

struct identity make_identity(void)
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

bool same_commit(const struct journal_commit *a, const struct journal_commit *b)
{
    return a->counts.records == b->counts.records && a->counts.ok == b->counts.ok &&
           a->counts.failed == b->counts.failed && a->counts.duplicates == b->counts.duplicates &&
           a->counts.reused == b->counts.reused && a->counts.cached == b->counts.cached &&
           a->counts.tokens.in == b->counts.tokens.in &&
           a->counts.tokens.cached == b->counts.tokens.cached &&
           a->counts.tokens.out == b->counts.tokens.out && a->chunk.file == b->chunk.file &&
           a->chunk.offset == b->chunk.offset && a->chunk.line == b->chunk.line &&
           a->chunk.index == b->chunk.index && a->done_in_chunk == b->done_in_chunk &&
           same_spool(&a->output, &b->output) && same_spool(&a->errors, &b->errors) &&
           a->wall_s == b->wall_s && a->cpu_s == b->cpu_s;
}

/* What differs, or NULL. */
const char *difference(const struct journal_state *found, const struct expected *expected)
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
         found->plan.batch_from != expected->plan->batch_from ||
         found->plan.parallel_from != expected->plan->parallel_from ||
         found->plan.instances != expected->plan->instances ||
         found->plan.threads != expected->plan->threads ||
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
void expect_state(struct simdisk *disk, size_t n_steps, const char *row, size_t number)
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

tidemill_error *go_on(const struct io *io, size_t end, size_t *ret_done)
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

void write_steps(struct simdisk *disk, size_t n_steps)
{
    size_t done = 0;
    expect_fine(go_on(simdisk_io(disk), n_steps, &done), "writing");
    assert_int_equal(done, n_steps);
}

struct bytes bytes_of(size_t n_steps)
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
