/* SPDX-License-Identifier: Apache-2.0 */
/* llama_reference.c - llama.cpp's own greedy answer, one prompt at a time, decoded at once, then one
 * token a decode: what the llama runtime's answers are compared with. Reads records from standard input, a JSON object a line
 * with "prompt" and "max_tokens"; writes an answer a line, each token's bytes in hexadecimal and a space.
 *
 * With "scores" behind the model: the head's numbers for each record's "input"; of several texts, which are
 * joined, the first has the vocabulary's marks around it and the others have none. */
#include "runtime/llama_library.h"
#include "runtime/llama_request.h"

#include <stdio.h>
#include <stdlib.h>

#define TOKENS_MAX 4096
#define N_CONTEXT 4096
#define N_BATCH 2048

struct reference {
    struct llama_library api;
    struct llama_model *model;
    struct llama_context *context;
    const struct llama_vocab *vocab;
};

static void be_silent(enum ggml_log_level level, const char *text, void *data)
{
    (void)level;
    (void)text;
    (void)data;
}

static llama_token likeliest(const float *logits, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

/* Asks for the logits of the last one. */
static void decode(struct reference *r, const llama_token *tokens, int32_t n, int32_t position)
{
    struct llama_batch batch = r->api.batch_init(n, 0, 1);
    batch.n_tokens = n;
    for (int32_t i = 0; i < n; i++) {
        batch.token[i] = tokens[i];
        batch.pos[i] = position + i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = i == n - 1;
    }
    if (r->api.decode(r->context, batch) != 0) abort();
    r->api.batch_free(batch);
}

static void answer(struct reference *r, const struct llama_request *request)
{
    llama_token tokens[TOKENS_MAX];
    int32_t n = r->api.tokenize(r->vocab, request->texts[0].data, (int32_t)request->texts[0].size,
                                tokens, TOKENS_MAX, true, true);
    int32_t position = n;
    r->api.memory_clear(r->api.get_memory(r->context), true);
    decode(r, tokens, n, 0);
    for (int32_t i = 0; i < request->tokens_max; i++) {
        char piece[256];
        llama_token token =
            likeliest(r->api.get_logits_ith(r->context, -1), r->api.vocab_n_tokens(r->vocab));
        if (r->api.vocab_is_eog(r->vocab, token)) break;
        int32_t size = r->api.token_to_piece(r->vocab, token, piece, sizeof piece, 0, false);
        for (int32_t k = 0; k < size; k++) printf("%02x", (unsigned char)piece[k]);
        putchar(' ');
        decode(r, &token, 1, position++);
    }
    putchar('\n');
}

static void score(struct reference *r, const struct llama_request *request)
{
    llama_token tokens[TOKENS_MAX];
    int32_t n = 0;
    for (size_t i = 0; i < request->n_texts; i++)
        n += r->api.tokenize(r->vocab, request->texts[i].data, (int32_t)request->texts[i].size,
                             tokens + n, TOKENS_MAX - n, i == 0, true);
    llama_memory_t memory = r->api.get_memory(r->context);
    if (memory != NULL) r->api.memory_clear(memory, true);
    decode(r, tokens, n, 0);
    const float *scores = r->api.get_embeddings_seq(r->context, 0);
    for (uint32_t i = 0; i < r->api.model_n_cls_out(r->model); i++)
        printf("%.9g ", (double)scores[i]);
    putchar('\n');
}

static tidemill_error *run(struct reference *r, const char *model, bool is_scores)
{
    TRY(llama_library_open(NULL, &r->api));
    r->api.log_set(be_silent, NULL);
    r->api.backend_init();
    r->model = r->api.model_load_from_file(model, r->api.model_default_params());
    if (r->model == NULL) return error_new(ERROR_MODEL_LOAD, "no model");
    r->vocab = r->api.model_get_vocab(r->model);
    struct llama_context_params params = r->api.context_default_params();
    params.n_ctx = N_CONTEXT;
    params.n_batch = N_BATCH;
    params.n_threads = params.n_threads_batch = 1;
    if (is_scores) {
        params.embeddings = true;
        params.pooling_type = LLAMA_POOLING_TYPE_RANK;
        params.n_ubatch = N_BATCH;
    }
    r->context = r->api.init_from_model(r->model, params);
    if (r->context == NULL) return error_new(ERROR_MODEL_LOAD, "no context");
    static char line[1 << 20];
    while (fgets(line, sizeof line, stdin) != NULL) {
        struct llama_request request;
        TRY(llama_request_read((struct slice){line, strlen(line)}, (struct slice){"", 0},
                               is_scores ? TASK_EMBEDDING : TASK_COMPLETION, TASK_COMPLETION,
                               &request));
        if (is_scores)
            score(r, &request);
        else
            answer(r, &request);
        llama_request_free(&request);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct reference reference = {0};
    bool is_scores = argc == 3 && strcmp(argv[2], "scores") == 0;
    tidemill_error *error = argc == 2 || is_scores ? run(&reference, argv[1], is_scores)
                                                   : error_new(ERROR_USAGE, "MODEL [scores]");
    if (reference.context != NULL) reference.api.free(reference.context);
    if (reference.model != NULL) reference.api.model_free(reference.model);
    if (error == NULL) return 0;
    fprintf(stderr, "%s\n", error_message(error));
    error_free(error);
    return 1;
}
