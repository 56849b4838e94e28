/* SPDX-License-Identifier: Apache-2.0 */
/* llama_batch.c - sequences, KV memory, and one decode a step.
 *
 * Cells: a call that shares the first `own` tokens of its parent pays for its own cells only, those of
 * its prompt behind them and those that its answer may need. The parent may end first. Then the cells
 * that its children use stay, so someone must pay for them: the child that shares the most takes its
 * parent's place in the chain, and the other children become that child's. Thus the cells in use are
 * never more than those reserved, and never more than there are. */
#include "runtime/llama_parts.h"

/* Of a call, whole. */
static int32_t cells_of(const struct llama_call *call)
{
    int32_t answer = call->state == CALL_RESIDENT ? 0 : call->tokens_max;
    return call->n_prompt + answer - call->own;
}

static int32_t common_length(const struct llama_call *a, const struct llama_call *b)
{
    int32_t n = MIN(a->n_prompt, b->n_prompt), i = 0;
    while (i < n && a->prompt[i] == b->prompt[i]) i++;
    return i;
}

/* Leaves the chain; children keep what they use. */
static void leave_chain(struct llama *llama, struct llama_call *call)
{
    struct llama_call *heir = NULL;
    for (int32_t i = 0; i < llama->n_sequences; i++) {
        struct llama_call *other = llama->calls[i];
        if (other != NULL && other->parent == call && (heir == NULL || other->own > heir->own))
            heir = other;
    }
    if (heir == NULL) return;
    for (int32_t i = 0; i < llama->n_sequences; i++) {
        struct llama_call *other = llama->calls[i];
        if (other != NULL && other->parent == call && other != heir) other->parent = heir;
    }
    int32_t own = MIN(heir->own, call->own); /* it may share less than the call itself did */
    llama->cells_reserved += heir->own - own;
    heir->parent = call->parent;
    heir->own = heir->shared = own;
}

/* What a call waits for may be there now. */
static void stop_waiting(struct llama *llama, struct llama_call *call)
{
    if (call->parent != NULL && call->shared > 0) {
        if (call->parent->state == CALL_WAITING || call->parent->n_done < call->shared) return;
        llama->api.memory_seq_cp(llama->memory, call->parent->sequence, call->sequence, 0,
                                 call->shared);
    }
    call->n_cached = call->n_done = call->parent != NULL ? call->shared : 0;
    call->state = CALL_PROMPT;
}

/* Gives the sequence back. The call is to be freed by the caller. */
static void release(struct llama *llama, struct llama_call *call)
{
    for (int32_t i = 0; i < llama->n_sequences; i++) { /* who waited takes what there is */
        struct llama_call *other = llama->calls[i];
        if (other != NULL && other->parent == call && other->state == CALL_WAITING)
            stop_waiting(llama, other);
    }
    llama->api.memory_seq_rm(llama->memory, call->sequence, -1, -1);
    llama->cells_reserved -= cells_of(call);
    leave_chain(llama, call);
    if (call->state != CALL_RESIDENT) llama->n_active--;
    llama->calls[call->sequence] = NULL;
}

/* The resident that was admitted first, of those alone or of all; NULL: none. */
static struct llama_call *oldest_resident(const struct llama *llama, bool is_alone,
                                          const struct llama_call *spared, int32_t *ret_count)
{
    struct llama_call *oldest = NULL;
    *ret_count = 0;
    for (int32_t i = 0; i < llama->n_sequences; i++) {
        struct llama_call *call = llama->calls[i];
        if (call == NULL || call->state != CALL_RESIDENT) continue;
        if (is_alone && call->is_shared) continue;
        ++*ret_count;
        if (call != spared && (oldest == NULL || call->admitted < oldest->admitted)) oldest = call;
    }
    return oldest;
}

static void end_call(struct llama *llama, struct llama_call *call, tidemill_error *error)
{
    bool is_kept = error == NULL && llama->can_share;
    int32_t n_residents;
    llama_call_finish(llama, call, error);
    if (!is_kept) {
        release(llama, call);
        llama_call_free(llama, call);
        return;
    }
    /* Only the prompt stays: the answer's cells, and those never used, are given back. */
    llama->api.memory_seq_rm(llama->memory, call->sequence, call->n_prompt, -1);
    llama->cells_reserved -= cells_of(call);
    call->state = CALL_RESIDENT;
    llama->cells_reserved += cells_of(call);
    llama->n_active--;
    struct llama_call *oldest = oldest_resident(llama, true, NULL, &n_residents);
    if (n_residents <= LLAMA_RESIDENTS_ALONE) {
        oldest = oldest_resident(llama, false, NULL, &n_residents);
        if (n_residents <= LLAMA_RESIDENTS) return;
    }
    release(llama, oldest);
    llama_call_free(llama, oldest);
}

/* The call whose prompt begins most like this one's; *ret_length 0: none does. The last token is always
 * computed: its logits are wanted. */
static struct llama_call *find_parent(const struct llama *llama, const struct llama_call *call,
                                      int32_t *ret_length)
{
    struct llama_call *best = NULL;
    *ret_length = 0;
    for (int32_t i = 0; i < llama->n_sequences && llama->can_share; i++) {
        struct llama_call *other = llama->calls[i];
        if (other == NULL) continue;
        int32_t length = MIN(common_length(other, call), call->n_prompt - 1);
        /* Of equals the one that is furthest, so that there is nothing to wait for. */
        bool is_better = length > *ret_length ||
                         (length == *ret_length && best != NULL && other->n_done > best->n_done);
        if (length < LLAMA_SHARED_MIN || !is_better) continue;
        best = other;
        *ret_length = length;
    }
    return best;
}

static int32_t free_sequence(const struct llama *llama)
{
    for (int32_t i = 0; i < llama->n_sequences; i++)
        if (llama->calls[i] == NULL) return i;
    return -1;
}

/* False: there is no room yet. Residents go when something else needs their place. */
static bool admit(struct llama *llama, struct llama_call *call)
{
    for (;;) {
        int32_t length, n_residents;
        struct llama_call *parent = find_parent(llama, call, &length);
        int32_t cells = call->n_prompt + call->tokens_max - length;
        int32_t sequence = free_sequence(llama);
        if (sequence >= 0 && llama->n_active < llama->n_parallel &&
            cells <= llama->n_cells - llama->cells_reserved) {
            call->sequence = sequence;
            call->parent = parent;
            call->own = call->shared = call->n_cached = length;
            call->state = CALL_WAITING;
            if (parent != NULL) call->is_shared = parent->is_shared = true;
            call->admitted = ++llama->n_admitted;
            llama->calls[sequence] = call;
            llama->cells_reserved += cells;
            llama->n_active++;
            return true;
        }
        struct llama_call *oldest = oldest_resident(llama, false, parent, &n_residents);
        /* Sharing with the only resident left may be what keeps it from fitting. */
        if (oldest == NULL && llama->n_active == 0)
            oldest = oldest_resident(llama, false, NULL, &n_residents);
        if (oldest == NULL || llama->n_active >= llama->n_parallel) return false;
        release(llama, oldest);
        llama_call_free(llama, oldest);
    }
}

void llama_batch_admit(struct llama *llama)
{
    while (llama->queue != NULL && admit(llama, llama->queue)) {
        struct llama_call *call = llama->queue;
        llama->queue = call->next;
        if (llama->queue == NULL) llama->queue_last = &llama->queue;
        call->next = NULL;
        llama->n_queued--;
    }
}

static void add_token(struct llama *llama, const struct llama_call *call, llama_token token,
                      int32_t position, bool is_output)
{
    struct llama_batch *batch = &llama->batch;
    int32_t i = batch->n_tokens++;
    batch->token[i] = token;
    batch->pos[i] = position;
    batch->n_seq_id[i] = 1;
    batch->seq_id[i][0] = call->sequence;
    batch->logits[i] = is_output;
}

/* As much of the prompt as fits into the batch. */
static void add_prompt(struct llama *llama, struct llama_call *call)
{
    while (call->n_done < call->n_prompt && llama->batch.n_tokens < llama->n_batch) {
        bool is_last = call->n_done == call->n_prompt - 1;
        if (is_last) call->output_index = llama->batch.n_tokens;
        add_token(llama, call, call->prompt[call->n_done], call->n_done, is_last);
        call->n_done++;
    }
}

/* One token of each that is generating, then prompts, the oldest first. */
static void fill_batch(struct llama *llama)
{
    llama->batch.n_tokens = 0;
    for (int32_t i = 0; i < llama->n_sequences; i++) {
        struct llama_call *call = llama->calls[i];
        if (call == NULL) continue;
        call->output_index = -1;
        if (call->state == CALL_WAITING) stop_waiting(llama, call);
        if (call->state != CALL_RUNNING) continue;
        call->output_index = llama->batch.n_tokens;
        add_token(llama, call, call->last, call->n_done++, true);
    }
    for (uint64_t after = 0; llama->batch.n_tokens < llama->n_batch;) {
        struct llama_call *next = NULL;
        for (int32_t i = 0; i < llama->n_sequences; i++) {
            struct llama_call *call = llama->calls[i];
            if (call == NULL || call->state != CALL_PROMPT || call->admitted <= after) continue;
            if (next == NULL || call->admitted < next->admitted) next = call;
        }
        if (next == NULL) return;
        after = next->admitted;
        add_prompt(llama, next);
    }
}

/* The token that was sampled: the answer's end, or one more piece of it. */
static void take_token(struct llama *llama, struct llama_call *call, llama_token token)
{
    if (llama->api.vocab_is_eog(llama->vocab, token)) {
        call->finish = "stop";
        return;
    }
    llama_append_piece(llama, token, &call->text);
    if (call->text_ends != NULL) call->text_ends[call->n_generated] = call->text.size;
    call->n_generated++;
    call->last = token;
    call->state = CALL_RUNNING;
    size_t stop =
        llama_find_stop(&call->request, call->text.data, call->text.size, call->text_seen);
    call->text_seen = call->text.size;
    if (stop != SIZE_MAX) {
        call->text.size = stop;
        call->finish = "stop";
    } else if (call->n_generated == call->tokens_max) {
        call->finish = "length";
    }
}

static void take_outputs(struct llama *llama)
{
    for (int32_t i = 0; i < llama->n_sequences; i++) {
        struct llama_call *call = llama->calls[i];
        if (call == NULL || call->output_index < 0) continue;
        llama_token token = 0;
        tidemill_error *error = llama_sample_next(llama, call, &token);
        call->output_index = -1;
        if (error == NULL) take_token(llama, call, token);
        if (error == NULL && call->text.is_failed) error = error_memory();
        if (error != NULL || call->finish != NULL) end_call(llama, call, error);
    }
}

/* Nothing in the KV memory can be relied on now. */
static void fail_all(struct llama *llama, int32_t code)
{
    for (int32_t i = 0; i < llama->n_sequences; i++) {
        struct llama_call *call = llama->calls[i];
        if (call == NULL) continue;
        if (call->unit != NULL)
            llama_call_finish(llama, call,
                              error_new(ERROR_MODEL_ERROR,
                                        atomic_load(&llama->is_cancelled)
                                            ? "cancelled"
                                            : "llama.cpp cannot decode the batch (%d)",
                                        code));
        llama_call_free(llama, call);
        llama->calls[i] = NULL;
    }
    llama->api.memory_clear(llama->memory, true);
    llama->n_active = llama->cells_reserved = 0;
}

void llama_batch_step(struct llama *llama)
{
    llama_batch_admit(llama);
    fill_batch(llama);
    if (llama->batch.n_tokens == 0) return;
    int32_t code = llama->api.decode(llama->context, llama->batch);
    if (code != 0)
        fail_all(llama, code);
    else
        take_outputs(llama);
    llama_batch_admit(llama);
}
