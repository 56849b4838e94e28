/* SPDX-License-Identifier: Apache-2.0 */
/* llama_parts.h - the inside of a GGUF model: the loaded model, the calls in it, and the loop that
 * takes them all one step further.
 *
 *     llama.c         open, close, a unit in, a step
 *     llama_head.c    whether the file has a head that ranks or classifies
 *     llama_call.c    a unit's record read and made tokens; its answer written
 *     llama_texts.c   whole texts made tokens, alone or as pairs of query and document
 *     llama_batch.c   which calls have a sequence, what of the KV memory is whose, one decode a step
 *     llama_sample.c  the next token of a call
 *     llama_embed.c   embeddings and scores: whole texts, many a step
 *     llama_answer.c  the answer as JSON
 *
 * A call is QUEUED until the KV memory has room for its prompt and the longest answer that it may
 * give; then it has a sequence, and nothing can run out. If its prompt begins like one that is there,
 * it takes the cells of that: it WAITS until the other has computed them, and they are not computed
 * twice. A finished call's prompt stays for a while, as RESIDENT. */
#ifndef TIDEMILL_RUNTIME_LLAMA_PARTS_H
#define TIDEMILL_RUNTIME_LLAMA_PARTS_H

#include "runtime/llama_library.h"
#include "runtime/llama_request.h"
#include "runtime/model.h"

#include <stdatomic.h>

#define LLAMA_SHARED_MIN 16 /* tokens of a common beginning that are worth sharing */
/* Prompts kept after their call's end, at most; and of those whose beginning nobody shared yet, as what is
 * kept makes attention a little slower: 3% for four short ones. */
#define LLAMA_RESIDENTS 4
#define LLAMA_RESIDENTS_ALONE 1

enum call_state { CALL_QUEUED, CALL_WAITING, CALL_PROMPT, CALL_RUNNING, CALL_RESIDENT };

struct token_logprob {
    llama_token token;
    float logprob;
};

struct llama_call {
    struct llama_call *next; /* in the queue */
    struct model_unit *unit; /* NULL: RESIDENT */
    struct llama_request request;
    struct digest body; /* of the record */
    enum call_state state;

    llama_token *prompt;
    int32_t n_prompt;
    int32_t tokens_max; /* to be generated */
    /* KV memory. Cells before `own` belong to `parent`'s chain; this call pays for the rest. */
    llama_seq_id sequence;
    struct llama_call *parent;
    int32_t own;
    int32_t shared; /* WAITING: how much of the parent it waits for */
    int32_t n_done; /* of its tokens are in the KV memory */
    int32_t n_cached;
    bool is_shared;    /* its prompt's beginning was another's, too */
    uint64_t admitted; /* when, as a number that grows */

    struct buffer text; /* generated */
    size_t text_seen;
    int32_t n_generated;
    llama_token last;              /* sampled, not yet decoded */
    int32_t output_index;          /* of its logits in this step's batch; -1: none */
    const char *finish;            /* "stop", "length" */
    struct llama_sampler *sampler; /* NULL: the likeliest token */
    struct llama_sampler *grammar;
    /* With logprobs: for each token generated 1 + n_top_logprobs, the chosen one first. */
    struct token_logprob *logprobs;
    size_t *text_ends; /* of `text`, after each token */
    size_t logprobs_capacity;

    /* Of a model that takes whole texts; a pair of query and document is one. */
    llama_token **texts; /* tokens of each */
    int32_t *n_tokens;
    size_t n_texts, texts_given, texts_done;
    float *vectors; /* n_texts x n_out: embeddings, or scores */
};

struct llama {
    struct model model;
    struct llama_library api;
    struct llama_model *weights;
    struct llama_context *context;
    const struct llama_vocab *vocab;
    llama_memory_t memory; /* NULL: the model has none */
    char name[128];        /* of the file */
    struct llama_options options;
    enum llama_pooling_type pooling;
    enum llama_task purpose; /* what it makes: COMPLETION, EMBEDDING, RERANK, CLASSIFY */
    bool takes_whole_texts;  /* for embeddings or scores, not to go on with */
    bool has_probabilities;  /* its scores are */
    bool can_share;          /* parts of sequences can be copied */
    int32_t n_vocab, n_batch, n_parallel;
    int32_t n_out;                   /* numbers that a whole text gives */
    int32_t n_cells, n_sequence_max; /* KV memory; of one sequence */

    struct llama_batch batch;
    struct llama_call **calls; /* by sequence number; NULL: free. n_sequences */
    int32_t n_sequences;
    int32_t n_active; /* calls with a sequence that are not RESIDENT */
    int32_t cells_reserved;
    uint64_t n_admitted;
    struct llama_call *queue, **queue_last;
    size_t n_queued;
    llama_token_data *candidates; /* n_vocab */
    atomic_bool is_cancelled;
};

/* Whether the model's file has a classification head; UNKNOWN where it is one of several files. */
enum llama_head { HEAD_NONE, HEAD_THERE, HEAD_UNKNOWN };
tidemill_error *llama_head_find(const struct llama *llama, const char *path, enum llama_head *ret);

/* Reads the unit's record. The call is the unit's until llama_call_finish. */
tidemill_error *llama_call_new(struct llama *llama, struct model_unit *unit,
                               struct llama_call **ret);
/* Writes the answer, or takes `error` for one, marks the unit done; the call keeps its prompt only. */
void llama_call_finish(struct llama *llama, struct llama_call *call, tidemill_error *error);
void llama_call_free(struct llama *llama, struct llama_call *call);

/* The caller frees *ret. */
tidemill_error *llama_call_tokenize(const struct llama *llama, struct slice text, bool add_special,
                                    bool parse_special, llama_token **ret, int32_t *ret_n);
/* The request's texts as tokens, each alone or with the query. */
tidemill_error *llama_texts_prepare(struct llama *llama, struct llama_call *call);

/* Gives calls of the queue sequences, in order, while there is room. */
void llama_batch_admit(struct llama *llama);
void llama_batch_step(struct llama *llama);
void llama_embed_step(struct llama *llama);

tidemill_error *llama_sample_prepare(struct llama *llama, struct llama_call *call);
/* The next token, from the logits of `output_index`; notes logprobs. */
tidemill_error *llama_sample_next(struct llama *llama, struct llama_call *call, llama_token *ret);

/* The answer as JSON (llama_answer.c). */
void llama_answer_text(const struct llama *llama, const struct llama_call *call,
                       struct buffer *out);
void llama_answer_vectors(const struct llama *llama, const struct llama_call *call,
                          struct buffer *out);
void llama_answer_ranks(const struct llama *llama, const struct llama_call *call,
                        struct buffer *out);
void llama_answer_classes(const struct llama *llama, const struct llama_call *call,
                          struct buffer *out);
/* Bytes of a token's text, in `out`; control tokens have none. */
void llama_append_piece(const struct llama *llama, llama_token token, struct buffer *out);

#endif
