/* SPDX-License-Identifier: Apache-2.0 */
/* engine_admit.c - decoded chunks on their way into the plan: in the input's order, without duplicates,
 * what an earlier run has done, and, in careful mode, records that kill. */
#include "job/engine_parts.h"

#include <stdio.h>
#include <string.h>

/* A record in which this many runs died is not tried again. */
#define CAREFUL_DEATHS_MAX 3

void engine_fail_record(struct chunk *chunk, struct chunk_record *record, enum error_code code,
                        const char *message)
{
    char *copy = arena_copy(&chunk->arena, message, strlen(message));
    record->state = RECORD_FAILED;
    record->is_finished = true;
    record->decoded.error = code;
    record->decoded.message = copy != NULL ? copy : error_code_sentence(code);
}

static tidemill_error *refuse_duplicates(struct engine *engine, struct chunk *chunk)
{
    for (size_t i = 0; i < chunk->raw.n_records; i++) {
        struct chunk_record *record = &chunk->records[i];
        uint64_t first_line;
        if (record->decoded.id.size == 0) continue;
        TRY(id_set_add(engine->config.ids, record->decoded.id, chunk->raw.records[i].line,
                       &first_line));
        if (first_line == 0 || record->state == RECORD_FAILED) continue;
        char message[64];
        snprintf(message, sizeof message, "line %llu has the same id",
                 (unsigned long long)first_line);
        engine_fail_record(chunk, record, ERROR_DUPLICATE_ID, message);
    }
    return NULL;
}

static void refuse_poison(struct engine *engine, struct chunk *chunk)
{
    for (size_t i = 0; i < chunk->raw.n_records; i++) {
        uint64_t index = chunk->raw.start.index + i;
        size_t n_deaths = 0;
        for (size_t d = 0; d < engine->config.n_deadly; d++)
            n_deaths += engine->config.deadly[d] == index;
        if (n_deaths >= CAREFUL_DEATHS_MAX && chunk->records[i].state == RECORD_PENDING)
            engine_fail_record(chunk, &chunk->records[i], ERROR_HOST_CRASHED,
                               "each run that tried this record died");
    }
}

/* What an earlier run wrote stays in the plan, so that microbatches are what they were, but is not
 * written again. */
static void skip_done(struct chunk *chunk, size_t n_done)
{
    for (size_t i = 0; i < n_done && i < chunk->raw.n_records; i++)
        if (chunk->records[i].state == RECORD_PENDING) chunk->records[i].state = RECORD_SKIPPED;
    chunk->n_finished_prefix = chunk->n_released = MIN(n_done, chunk->raw.n_records);
}

static bool is_all_done(const struct microbatch *mb)
{
    for (uint32_t r = 0; r < mb->n_rows; r++)
        if (mb->chunk->records[mb->rows[r]].state == RECORD_PENDING) return false;
    return true;
}

static void push_ready(struct engine *engine, struct microbatch *mb)
{
    mb->next_ready = NULL;
    *engine->ready_last = mb;
    engine->ready_last = &mb->next_ready;
}

static void count_work(const struct microbatch *mb, struct engine_work *work)
{
    uint64_t longest = 0, tokens = 0;
    for (uint32_t r = 0; r < mb->n_rows; r++) {
        uint32_t length =
            record_length(&mb->chunk->records[mb->rows[r]].decoded, mb->chunk->padding);
        longest = MAX(longest, (uint64_t)length);
        tokens += length;
    }
    work->rows += mb->n_rows;
    work->tokens += tokens;
    work->padded_tokens += longest * mb->n_rows;
}

static tidemill_error *plan_and_queue(struct engine *engine, struct chunk *chunk)
{
    struct plan_limits limits = engine->config.limits;
    if (engine->config.is_careful || !engine->signature->is_batched) limits.rows_max = 1;
    TRY(chunk_plan(chunk, engine->signature, &limits));
    for (struct microbatch *mb = chunk->microbatches; mb != NULL; mb = mb->next_in_chunk) {
        if (is_all_done(mb)) continue;
        push_ready(engine, mb);
        count_work(mb, engine->config.work);
    }
    engine->config.work->prompt_bytes += chunk->prompt_bytes;
    engine->config.work->prompt_bytes_shared += chunk->prompt_bytes_shared;
    *engine->last = chunk;
    engine->last = &chunk->next;
    return NULL;
}

tidemill_error *engine_finish_record(struct engine *engine, struct chunk *chunk, uint32_t index)
{
    chunk->records[index].is_finished = true;
    return engine->config.reuse != NULL ? reuse_settle(engine->config.reuse, chunk, index) : NULL;
}

/* A worker leaves text alone where it finds an answer. A record whose answer is its own, from an earlier
 * run, has a place in the plan all the same, and so has one whose answer is not to be used (the index
 * of inputs is full): that takes its length. */
static tidemill_error *tokenize_rest(struct engine *engine, struct chunk *chunk)
{
    for (size_t i = 0; i < chunk->raw.n_records; i++) {
        struct chunk_record *record = &chunk->records[i];
        bool is_left = record->decoded.error == ERROR_OK && record->decoded.n_texts > 0;
        if (!is_left || record->is_copy) continue;
        if (engine->scratch == NULL) engine->scratch = decode_scratch_new();
        if (engine->scratch == NULL) return error_memory();
        decoder_tokenize(engine->config.decoder, engine->scratch, &chunk->area, &chunk->arena,
                         &record->decoded);
        if (record->decoded.error == ERROR_OK) continue;
        record->state = RECORD_FAILED;
        TRY(engine_finish_record(engine, chunk, (uint32_t)i));
    }
    return NULL;
}

static tidemill_error *admit_chunk(struct engine *engine, struct chunk *chunk)
{
    if (chunk->error != NULL) {
        tidemill_error *error = chunk->error;
        chunk->error = NULL;
        return error;
    }
    bool is_first = chunk->number == engine->config.first_chunk_number;
    if (engine->config.ids != NULL) TRY(refuse_duplicates(engine, chunk));
    if (engine->config.is_careful) refuse_poison(engine, chunk);
    size_t n_done = is_first ? engine->config.skip_in_first_chunk : 0;
    if (engine->config.reuse != NULL) {
        TRY(reuse_admit(engine->config.reuse, chunk, n_done));
        TRY(tokenize_rest(engine, chunk));
    }
    skip_done(chunk, n_done);
    TRY(plan_and_queue(engine, chunk));
    engine->next_chunk_number++;
    engine->share_read = chunk->share_read;
    return NULL;
}

tidemill_error *engine_take_decoded(struct engine *engine)
{
    struct chunk *chunk;
    while ((chunk = queue_try_pop(engine->decoded)) != NULL) {
        chunk->next = engine->waiting;
        engine->waiting = chunk;
    }
    for (struct chunk **place = &engine->waiting; *place != NULL;) {
        if ((*place)->number != engine->next_chunk_number) {
            place = &(*place)->next;
            continue;
        }
        chunk = *place;
        *place = chunk->next;
        chunk->next = NULL;
        TRY(admit_chunk(engine, chunk));
        place = &engine->waiting;
    }
    return NULL;
}
