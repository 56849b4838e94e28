/* SPDX-License-Identifier: Apache-2.0 */
/* reuse.c - who runs, who follows, who is answered already. */
#include "job/reuse.h"

#include "cache/cache.h"

#include <string.h>

#define SHARED_AT_ONCE 512

/* --- keys ----------------------------------------------------------------------------------------- */

static void add_size(struct hash_key *hash, uint64_t size)
{
    hash_key_add(hash, &size, sizeof size);
}

/* An answer that is drawn is its record's own: the key has the record's number then. */
static struct digest key_of(const struct reuse *reuse, const struct chunk *chunk, uint32_t index)
{
    struct hash_key hash;
    const struct record *record = &chunk->records[index].decoded;
    hash_key_start(&hash, reuse->domain);
    if (chunk->records[index].is_key_own) add_size(&hash, chunk->raw.start.index + index);
    for (uint32_t i = 0; i < record->n_texts; i++) {
        add_size(&hash, record->text[i].size);
        hash_key_add(&hash, record->text[i].data, record->text[i].size);
    }
    for (size_t i = 0; i < reuse->n_inputs; i++) {
        const struct record_input *input = &record->inputs[i];
        if (record->n_texts > 0 && input->bytes == 0) continue; /* its tokens are the text's */
        hash_key_add(&hash, &input->shape.rank, sizeof input->shape.rank);
        hash_key_add(&hash, input->shape.dims, (size_t)input->shape.rank * sizeof(int64_t));
        add_size(&hash, input->bytes);
        hash_key_add(&hash, chunk->area.base + input->offset, input->bytes);
    }
    return hash_key_end(&hash);
}

bool reuse_look(const struct reuse *reuse, struct chunk *chunk, uint32_t index)
{
    struct chunk_record *record = &chunk->records[index];
    record->is_key_own = record->prompt.is_sampled && !reuse->is_collapsing;
    record->key = key_of(reuse, chunk, index);
    record->has_key = true;
    if (answers_peek(reuse->answers, record->key, chunk->raw.start.index)) return false;
    if (reuse->cache == NULL || record->is_key_own) return true;
    struct buffer found = {0};
    if (cache_get(reuse->cache, record->key, &found)) {
        record->cached.data = arena_copy(&chunk->arena, found.data, found.size);
        record->cached.size = found.size;
    }
    buffer_free(&found);
    return record->cached.data == NULL;
}

/* --- answers that others gave ---------------------------------------------------------------------- */

static void fail_copy(struct chunk *chunk, struct chunk_record *record, enum error_code code,
                      struct slice message)
{
    char *copy = arena_copy(&chunk->arena, message.data, message.size);
    record->state = RECORD_FAILED;
    record->is_finished = true;
    record->decoded.error = code;
    record->decoded.message = copy != NULL ? copy : error_code_sentence(code);
}

/* The record's own head before an answer that another one got. */
static tidemill_error *give_answer(struct reuse *reuse, struct chunk *chunk, uint32_t index,
                                   struct slice answer)
{
    struct chunk_record *record = &chunk->records[index];
    buffer_reset(&reuse->line, (size_t)1 << 20);
    enum error_code code = encoder_append_head(reuse->encoder, &record->decoded,
                                               chunk->raw.start.index + index, &reuse->line);
    record->head_size = reuse->line.size;
    buffer_append(&reuse->line, answer.data, answer.size);
    if (reuse->line.is_failed) return error_memory();
    if (code != ERROR_OK) {
        const char *sentence = error_code_sentence(code);
        fail_copy(chunk, record, code, (struct slice){sentence, strlen(sentence)});
        return NULL;
    }
    record->text = arena_copy(&chunk->arena, reuse->line.data, reuse->line.size);
    if (record->text == NULL) return error_memory();
    record->size = reuse->line.size;
    record->state = RECORD_ANSWERED;
    record->is_finished = true;
    return NULL;
}

static tidemill_error *give(struct reuse *reuse, struct chunk *chunk, uint32_t index,
                            const struct answer_info *info)
{
    if (info->kind != ANSWER_FAILED) return give_answer(reuse, chunk, index, info->bytes);
    fail_copy(chunk, &chunk->records[index], info->code, info->bytes);
    return NULL;
}

/* --- admission ------------------------------------------------------------------------------------ */

static tidemill_error *follow(struct chunk *chunk, uint32_t index, const struct digest *owner)
{
    struct chunk_record *first =
        (struct chunk_record *)((uintptr_t)owner - offsetof(struct chunk_record, key));
    struct follower *follower = arena_alloc(&chunk->arena, sizeof *follower);
    if (follower == NULL) return error_memory();
    *follower = (struct follower){.chunk = chunk, .index = index, .next = first->followers};
    first->followers = follower;
    return NULL;
}

/* A key that nobody had: the cache's answer counts as the first one, else the record runs. */
static tidemill_error *admit_new(struct reuse *reuse, struct chunk *chunk, uint32_t index)
{
    struct chunk_record *record = &chunk->records[index];
    record->is_awaited = answers_expect(reuse->answers, &record->key);
    if (record->cached.data == NULL) return NULL;
    struct answer_info info = {.first_index = chunk->raw.start.index + index,
                               .kind = ANSWER_OF_CACHE,
                               .bytes = record->cached};
    record->is_awaited = false;
    record->is_copy = true;
    record->origin = ORIGIN_CACHE;
    TRY(answers_settle(reuse->answers, record->key, &info));
    return give_answer(reuse, chunk, index, record->cached);
}

/* An answer that is there. That of the record itself, from a run that ended before it was written
 * out, leaves its place in the plan, so that microbatches are what they were. */
static tidemill_error *admit_known(struct reuse *reuse, struct chunk *chunk, uint32_t index,
                                   const struct answer_info *info, bool is_done)
{
    struct chunk_record *record = &chunk->records[index];
    bool is_own = info->first_index == chunk->raw.start.index + index;
    record->is_copy = !is_own || info->kind == ANSWER_OF_CACHE;
    record->was_run = !record->is_copy;
    record->origin = info->kind == ANSWER_OF_CACHE ? ORIGIN_CACHE
                     : is_own                      ? ORIGIN_MODEL
                                                   : ORIGIN_EQUAL;
    return is_done ? NULL : give(reuse, chunk, index, info);
}

static tidemill_error *admit_record(struct reuse *reuse, struct chunk *chunk, uint32_t index,
                                    bool is_done)
{
    struct chunk_record *record = &chunk->records[index];
    enum answer_state state;
    const struct digest *owner = NULL;
    struct answer_info info;
    TRY(answers_find(reuse->answers, record->key, &reuse->found, &state, &owner, &info));
    if (state == ANSWER_KNOWN) return admit_known(reuse, chunk, index, &info, is_done);
    if (is_done) return NULL; /* it ran, and was not remembered */
    if (state == ANSWER_NEW) return admit_new(reuse, chunk, index);
    record->is_copy = true;
    record->origin = ORIGIN_EQUAL;
    return follow(chunk, index, owner);
}

tidemill_error *reuse_admit(struct reuse *reuse, struct chunk *chunk, size_t n_done)
{
    for (uint32_t i = 0; i < chunk->raw.n_records; i++)
        if (chunk->records[i].state == RECORD_PENDING && chunk->records[i].has_key)
            TRY(admit_record(reuse, chunk, i, i < n_done));
    return NULL;
}

/* --- settling --------------------------------------------------------------------------------------- */

tidemill_error *reuse_settle(struct reuse *reuse, struct chunk *chunk, uint32_t index)
{
    struct chunk_record *record = &chunk->records[index];
    if (!record->is_awaited) return NULL;
    struct answer_info info = {.first_index = chunk->raw.start.index + index};
    if (record->state == RECORD_FAILED) {
        const char *message = record->decoded.message;
        info.kind = ANSWER_FAILED;
        info.code = record->decoded.error;
        info.bytes = (struct slice){message, strlen(message)};
    } else {
        info.bytes =
            (struct slice){record->text + record->head_size, record->size - record->head_size};
    }
    record->is_awaited = false;
    TRY(answers_settle(reuse->answers, record->key, &info));
    for (struct follower *f = record->followers; f != NULL; f = f->next)
        TRY(give(reuse, f->chunk, f->index, &info));
    record->followers = NULL;
    return NULL;
}

/* --- the cache -------------------------------------------------------------------------------------- */

/* Also a put of nothing: it keeps what was asked for lately. */
static void put(struct reuse *reuse, const struct cache_entry *entries, size_t n)
{
    if (reuse->is_cache_broken) return;
    tidemill_error *error = cache_put(reuse->cache, entries, n);
    if (error == NULL) return;
    log_event(LOG_WARNING, "going on without putting answers into the cache: %s",
              error_message(error));
    error_free(error);
    reuse->is_cache_broken = true;
}

/* The file of answers comes first: killed in between, this job must know its own answers by it, and not
 * take them for another job's. */
tidemill_error *reuse_share(struct reuse *reuse, const struct chunk *chunk, size_t from, size_t to)
{
    struct cache_entry entries[SHARED_AT_ONCE];
    size_t n = 0;
    if (reuse->cache == NULL) return NULL;
    TRY(answers_flush(reuse->answers, false));
    for (size_t i = from; i < to; i++) {
        const struct chunk_record *record = &chunk->records[i];
        bool is_new = record->state == RECORD_ANSWERED && record->origin == ORIGIN_MODEL;
        if (!is_new || !record->has_key || record->is_key_own) continue;
        entries[n++] = (struct cache_entry){.key = record->key,
                                            .value = record->text + record->head_size,
                                            .size = record->size - record->head_size};
        if (n < SHARED_AT_ONCE) continue;
        put(reuse, entries, n);
        n = 0;
    }
    if (n > 0 || to == chunk->raw.n_records) put(reuse, entries, n);
    return NULL;
}
