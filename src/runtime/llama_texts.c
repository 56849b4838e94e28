/* SPDX-License-Identifier: Apache-2.0 */
/* llama_texts.c - the texts of a record made tokens: each alone, to be embedded or classified, or each
 * document with the query, to be ranked. A pair is put together as llama-server does it, token for
 * token: models were trained on that form. */
#include "runtime/llama_parts.h"

#include <stdlib.h>

#define REFUSE(...) return error_new(ERROR_MODEL_ERROR, __VA_ARGS__)

struct tokens {
    llama_token *data;
    int32_t n;
};

/* The template with query and document in their places. Neither is looked through for more of them. */
static tidemill_error *fill_template(const char *template, struct slice query,
                                     struct slice document, struct buffer *out)
{
    static const char query_mark[] = "{query}", document_mark[] = "{document}";
    while (*template != '\0') {
        if (strncmp(template, query_mark, sizeof query_mark - 1) == 0) {
            buffer_append(out, query.data, query.size);
            template += sizeof query_mark - 1;
        } else if (strncmp(template, document_mark, sizeof document_mark - 1) == 0) {
            buffer_append(out, document.data, document.size);
            template += sizeof document_mark - 1;
        } else {
            buffer_byte(out, *template ++);
        }
    }
    return out->is_failed ? error_memory() : NULL;
}

static tidemill_error *pair_by_template(const struct llama *llama, const char *template,
                                        struct slice query, struct slice document,
                                        struct tokens *ret)
{
    struct buffer text = {0};
    tidemill_error *error = fill_template(template, query, document, &text);
    if (error == NULL)
        error = llama_call_tokenize(llama, (struct slice){text.data, text.size}, false, true,
                                    &ret->data, &ret->n);
    buffer_free(&text);
    return error;
}

/* A vocabulary may ask for a token that it does not have. */
static void put(struct tokens *out, bool is_wanted, llama_token token)
{
    if (is_wanted && token != LLAMA_TOKEN_NULL) out->data[out->n++] = token;
}

static void put_all(struct tokens *out, const struct tokens *more)
{
    if (more->n > 0) memcpy(out->data + out->n, more->data, (size_t)more->n * sizeof *out->data);
    out->n += more->n;
}

/* Begin, query, end, separator, document, end: those of the marks that the vocabulary asks for. */
static tidemill_error *join(const struct llama *llama, const struct tokens *query,
                            const struct tokens *document, struct tokens *ret)
{
    const struct llama_library *api = &llama->api;
    const struct llama_vocab *vocab = llama->vocab;
    llama_token end = api->vocab_eos(vocab);
    if (end == LLAMA_TOKEN_NULL) end = api->vocab_sep(vocab);
    ret->data = malloc(((size_t)query->n + (size_t)document->n + 4) * sizeof *ret->data);
    if (ret->data == NULL) return error_memory();
    put(ret, api->vocab_get_add_bos(vocab), api->vocab_bos(vocab));
    put_all(ret, query);
    put(ret, api->vocab_get_add_eos(vocab), end);
    put(ret, api->vocab_get_add_sep(vocab), api->vocab_sep(vocab));
    put_all(ret, document);
    put(ret, api->vocab_get_add_eos(vocab), end);
    return NULL;
}

static tidemill_error *pair_by_marks(const struct llama *llama, const struct tokens *query,
                                     struct slice text, struct tokens *ret)
{
    struct tokens document = {0};
    TRY(llama_call_tokenize(llama, text, false, false, &document.data, &document.n));
    tidemill_error *error = join(llama, query, &document, ret);
    free(document.data);
    return error;
}

static tidemill_error *check_length(const struct llama *llama, const struct llama_call *call,
                                    size_t i)
{
    int32_t limit = MIN(llama->n_batch, llama->n_sequence_max), n = call->n_tokens[i];
    bool is_pair = call->request.task == TASK_RERANK;
    if (n == 0) REFUSE("text %zu is empty", i);
    if (n <= limit) return NULL;
    if (is_pair) REFUSE("document %zu has %d tokens with the query; %d is the limit", i, n, limit);
    REFUSE("text %zu has %d tokens; %d is the limit", i, n, limit);
}

static tidemill_error *prepare_one(struct llama *llama, struct llama_call *call, size_t i,
                                   const char *template, const struct tokens *query)
{
    const struct llama_request *request = &call->request;
    struct tokens tokens = {0};
    struct slice text = request->texts[i];
    if (request->task != TASK_RERANK)
        TRY(llama_call_tokenize(llama, text, true, true, &tokens.data, &tokens.n));
    else if (template != NULL)
        TRY(pair_by_template(llama, template, request->query, text, &tokens));
    else
        TRY(pair_by_marks(llama, query, text, &tokens));
    call->texts[i] = tokens.data;
    call->n_tokens[i] = tokens.n;
    call->n_texts++;
    call->n_prompt += tokens.n;
    return check_length(llama, call, i);
}

tidemill_error *llama_texts_prepare(struct llama *llama, struct llama_call *call)
{
    const struct llama_request *request = &call->request;
    const char *template = llama->api.model_chat_template(llama->weights, "rerank");
    struct tokens query = {0};
    size_t n = request->n_texts;
    call->texts = calloc(n, sizeof(llama_token *));
    call->n_tokens = calloc(n, sizeof *call->n_tokens);
    call->vectors = calloc(n * (size_t)llama->n_out, sizeof *call->vectors);
    if (call->texts == NULL || call->n_tokens == NULL || call->vectors == NULL)
        return error_memory();
    tidemill_error *error = NULL;
    if (request->task == TASK_RERANK && template == NULL)
        error = llama_call_tokenize(llama, request->query, false, false, &query.data, &query.n);
    for (size_t i = 0; error == NULL && i < n; i++)
        error = prepare_one(llama, call, i, template, &query);
    free(query.data);
    return error;
}
