/* SPDX-License-Identifier: Apache-2.0 */
/* llama_embed.c - embeddings and scores: as many whole texts a step as the batch takes, each its own
 * sequence, pooled as the model says. Embeddings are brought to length 1, as llama-server does; scores
 * are left as they are.
 *
 * What else is in a step changes the last digits of a sum of floats. So the pairs of a record to be
 * ranked have their steps to themselves: its scores are the same bytes wherever a job was stopped. */
#include "runtime/llama_parts.h"

#include <math.h>

struct placed_text {
    struct llama_call *call;
    size_t text;
};

static void add_text(struct llama *llama, llama_seq_id sequence, const llama_token *tokens,
                     int32_t n)
{
    struct llama_batch *batch = &llama->batch;
    for (int32_t k = 0; k < n; k++) {
        int32_t i = batch->n_tokens++;
        batch->token[i] = tokens[k];
        batch->pos[i] = k;
        batch->n_seq_id[i] = 1;
        batch->seq_id[i][0] = sequence;
        batch->logits[i] = true;
    }
}

static bool wants_own_steps(const struct llama_call *call)
{
    return call->request.task == TASK_RERANK;
}

/* Texts of the queue's calls, in order, while they fit. */
static int32_t fill(struct llama *llama, struct placed_text *placed)
{
    int32_t n = 0;
    llama->batch.n_tokens = 0;
    for (struct llama_call *call = llama->queue; call != NULL; call = call->next) {
        if (n > 0 && wants_own_steps(call)) return n;
        for (; call->texts_given < call->n_texts; call->texts_given++) {
            size_t i = call->texts_given;
            if (n == llama->n_sequences ||
                call->n_tokens[i] > llama->n_batch - llama->batch.n_tokens)
                return n;
            add_text(llama, n, call->texts[i], call->n_tokens[i]);
            placed[n++] = (struct placed_text){call, i};
        }
        if (n > 0 && wants_own_steps(call)) return n;
    }
    return n;
}

static tidemill_error *take_vector(struct llama *llama, llama_seq_id sequence, float *vector)
{
    const float *found = llama->api.get_embeddings_seq(llama->context, sequence);
    double sum = 0;
    if (found == NULL) return error_new(ERROR_MODEL_ERROR, "llama.cpp gave no embedding");
    for (int32_t i = 0; i < llama->n_out; i++) sum += (double)found[i] * (double)found[i];
    double scale = sum > 0 ? 1 / sqrt(sum) : 0;
    if (llama->pooling == LLAMA_POOLING_TYPE_RANK) scale = 1;
    for (int32_t i = 0; i < llama->n_out; i++) vector[i] = (float)((double)found[i] * scale);
    return isfinite(sum) ? NULL : error_new(ERROR_MODEL_ERROR, "the model's output is not finite");
}

/* The calls at the queue's head whose texts are all done. */
static void finish_done(struct llama *llama)
{
    while (llama->queue != NULL && llama->queue->texts_done == llama->queue->n_texts) {
        struct llama_call *call = llama->queue;
        llama->queue = call->next;
        if (llama->queue == NULL) llama->queue_last = &llama->queue;
        llama->n_queued--;
        if (call->unit != NULL) llama_call_finish(llama, call, NULL);
        llama_call_free(llama, call);
    }
}

void llama_embed_step(struct llama *llama)
{
    struct placed_text placed[256];
    int32_t n = fill(llama, placed);
    if (n == 0) return;
    int32_t code = llama->api.decode(llama->context, llama->batch);
    for (int32_t i = 0; i < n; i++) {
        struct llama_call *call = placed[i].call;
        tidemill_error *error = NULL;
        if (call->unit == NULL) continue; /* failed already */
        call->texts_done++;
        if (code != 0)
            error = error_new(ERROR_MODEL_ERROR, "llama.cpp cannot decode the batch (%d)", code);
        else
            error = take_vector(llama, i, call->vectors + placed[i].text * (size_t)llama->n_out);
        if (error == NULL) continue;
        llama_call_finish(llama, call, error);
        call->texts_done = call->texts_given = call->n_texts; /* none any more */
    }
    if (llama->memory != NULL) llama->api.memory_clear(llama->memory, false);
    finish_done(llama);
}
