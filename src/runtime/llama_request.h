/* SPDX-License-Identifier: Apache-2.0 */
/* llama_request.h - what one record asks of a GGUF model: the body of an OpenAI request, or of a
 * /rerank or /classify as servers have them, read and checked. Knows nothing of llama.cpp. */
#ifndef TIDEMILL_RUNTIME_LLAMA_REQUEST_H
#define TIDEMILL_RUNTIME_LLAMA_REQUEST_H

#include "runtime/runtime.h"

#define LLAMA_TOP_LOGPROBS_MAX 20
#define LLAMA_TOKENS_DEFAULT_CHAT 512      /* where a record says no max_tokens */
#define LLAMA_TOKENS_DEFAULT_COMPLETION 16 /* OpenAI's */

struct llama_text_message {
    const char *role, *content;
};

struct llama_bias {
    int32_t token;
    float bias;
};

/* Strings end with a NUL and belong to the arena. */
struct llama_request {
    struct arena arena;
    enum llama_task task;                /* not AUTO */
    struct llama_text_message *messages; /* CHAT */
    size_t n_messages;
    struct slice *texts; /* COMPLETION: one prompt; EMBEDDING, CLASSIFY: all; RERANK: documents */
    size_t n_texts;
    struct slice query; /* RERANK */
    int32_t top_n;      /* RERANK: so many results; 0: all */
    bool returns_documents;
    const char *model; /* as the record calls it; NULL */

    int32_t tokens_max; /* 0: not said */
    float temperature, top_p, min_p;
    int32_t top_k; /* 0: off */
    float repeat_penalty, presence_penalty, frequency_penalty;
    bool has_seed;
    uint32_t seed;
    struct slice *stops;
    size_t n_stops;
    int32_t n_top_logprobs; /* beside the chosen one; -1: no logprobs */
    const char *grammar;    /* GBNF; NULL: none */
    struct llama_bias *biases;
    size_t n_biases;
};

/* Reads the text of a JSON value. `url` (may be empty) is the path of an OpenAI batch line, which tells
 * the kind of request; `task` AUTO goes by it, then by the fields, then by what the model is for,
 * `purpose`: COMPLETION, EMBEDDING, RERANK or CLASSIFY. ERROR_MODEL_ERROR says what is wrong with it. To
 * be freed in either case. */
tidemill_error *llama_request_read(struct slice body, struct slice url, enum llama_task task,
                                   enum llama_task purpose, struct llama_request *ret);
void llama_request_free(struct llama_request *request);

/* Where the earliest of the stop strings begins in `text`, of which the bytes before `seen` were looked
 * at in earlier calls; SIZE_MAX: nowhere. */
size_t llama_find_stop(const struct llama_request *request, const char *text, size_t size,
                       size_t seen);

#endif
