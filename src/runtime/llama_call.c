/* SPDX-License-Identifier: Apache-2.0 */
/* llama_call.c - from a unit's record to tokens, and from what was generated to the unit's answer. */
#include "runtime/llama_parts.h"

#include <stdlib.h>

#define REFUSE(...) return error_new(ERROR_MODEL_ERROR, __VA_ARGS__)

/* The only string of a string tensor: its length, then its bytes. */
static tidemill_error *unpack_string(const struct model_input *input, struct slice *ret)
{
    uint32_t size;
    if (input->type != TENSOR_STRING || input->bytes < sizeof size)
        REFUSE("the record's text is broken");
    memcpy(&size, input->data, sizeof size);
    if (size != input->bytes - sizeof size) REFUSE("the record's text is broken");
    *ret = (struct slice){.data = (const char *)input->data + sizeof size, .size = size};
    return NULL;
}

tidemill_error *llama_call_tokenize(const struct llama *llama, struct slice text, bool add_special,
                                    bool parse_special, llama_token **ret, int32_t *ret_n)
{
    if (text.size > INT32_MAX / 2) REFUSE("the text has %zu bytes", text.size);
    int32_t capacity = (int32_t)text.size + 16;
    for (int tries = 0; tries < 2; tries++) {
        llama_token *tokens = malloc((size_t)capacity * sizeof *tokens);
        if (tokens == NULL) return error_memory();
        int32_t n = llama->api.tokenize(llama->vocab, text.data, (int32_t)text.size, tokens,
                                        capacity, add_special, parse_special);
        if (n >= 0) {
            *ret = tokens;
            *ret_n = n;
            return NULL;
        }
        free(tokens);
        if (n == INT32_MIN) break;
        capacity = -n;
    }
    REFUSE("the text cannot be made tokens");
}

/* The messages in the model's own form; ChatML where it names none. */
static tidemill_error *apply_template(const struct llama *llama, struct llama_request *request,
                                      struct slice *ret)
{
    const char *template = llama->api.model_chat_template(llama->weights, NULL);
    struct llama_chat_message *messages =
        arena_calloc(&request->arena, request->n_messages, sizeof *messages);
    if (messages == NULL) return error_memory();
    size_t bytes = 256;
    for (size_t i = 0; i < request->n_messages; i++) {
        messages[i].role = request->messages[i].role;
        messages[i].content = request->messages[i].content;
        bytes += 64 + 2 * (strlen(messages[i].role) + strlen(messages[i].content));
    }
    for (int tries = 0; tries < 2; tries++) {
        if (bytes > INT32_MAX / 2) REFUSE("the messages have %zu bytes", bytes);
        char *text = arena_alloc(&request->arena, bytes);
        if (text == NULL) return error_memory();
        int32_t n = llama->api.chat_apply_template(template != NULL ? template : "chatml", messages,
                                                   request->n_messages, true, text, (int32_t)bytes);
        if (n < 0)
            REFUSE("the model's chat template is none that llama.cpp's C interface knows; "
                   "send the prompt as text");
        *ret = (struct slice){.data = text, .size = (size_t)n};
        if ((size_t)n <= bytes) return NULL;
        bytes = (size_t)n;
    }
    REFUSE("the chat template has no end");
}

/* How much may be generated; a record that asks for more than there is is refused. */
static tidemill_error *choose_length(const struct llama *llama, struct llama_call *call)
{
    const struct llama_request *request = &call->request;
    int32_t limit = llama->n_sequence_max, left = limit - call->n_prompt;
    if (call->n_prompt == 0) REFUSE("the prompt is empty");
    if (left < 1)
        REFUSE("the prompt has %d tokens; %d with the answer is the limit (--context)",
               call->n_prompt, limit);
    if (request->tokens_max > left)
        REFUSE("the prompt has %d tokens and max_tokens is %d; %d in all is the limit (--context)",
               call->n_prompt, request->tokens_max, limit);
    int32_t usual =
        request->task == TASK_CHAT ? LLAMA_TOKENS_DEFAULT_CHAT : LLAMA_TOKENS_DEFAULT_COMPLETION;
    call->tokens_max = request->tokens_max > 0 ? request->tokens_max : MIN(usual, left);
    return NULL;
}

static tidemill_error *prepare_text(struct llama *llama, struct llama_call *call)
{
    struct llama_request *request = &call->request;
    struct slice prompt;
    if (request->task == TASK_CHAT)
        TRY(apply_template(llama, request, &prompt));
    else
        prompt = request->texts[0];
    TRY(llama_call_tokenize(llama, prompt, true, true, &call->prompt, &call->n_prompt));
    TRY(choose_length(llama, call));
    return llama_sample_prepare(llama, call);
}

/* A record of another kind than the model's; any head can say probabilities. */
static tidemill_error *check_kind(const struct llama *llama, enum llama_task task)
{
    static const char *const names[] = {
        [TASK_AUTO] = "",
        [TASK_CHAT] = "text",
        [TASK_COMPLETION] = "text",
        [TASK_EMBEDDING] = "embeddings",
        [TASK_RERANK] = "scores of documents",
        [TASK_CLASSIFY] = "labels",
    };
    bool is_same = strcmp(names[task], names[llama->purpose]) == 0;
    if (is_same || (task == TASK_CLASSIFY && llama->purpose == TASK_RERANK)) return NULL;
    REFUSE("the model makes %s, not %s", names[llama->purpose], names[task]);
}

static tidemill_error *prepare(struct llama *llama, struct llama_call *call)
{
    struct slice body, url;
    TRY(unpack_string(&call->unit->inputs[0], &body));
    TRY(unpack_string(&call->unit->inputs[1], &url));
    call->body = hash_bytes(body.data, body.size);
    TRY(llama_request_read(body, url, llama->options.task, llama->purpose, &call->request));
    TRY(check_kind(llama, call->request.task));
    return llama->takes_whole_texts ? llama_texts_prepare(llama, call) : prepare_text(llama, call);
}

tidemill_error *llama_call_new(struct llama *llama, struct model_unit *unit,
                               struct llama_call **ret)
{
    struct llama_call *call = calloc(1, sizeof *call);
    if (call == NULL) return error_memory();
    call->unit = unit;
    call->sequence = -1;
    call->output_index = -1;
    tidemill_error *error = prepare(llama, call);
    if (error != NULL)
        llama_call_free(llama, call);
    else
        *ret = call;
    return error;
}

/* What only a call that is still going needs. */
static void free_work(struct llama *llama, struct llama_call *call)
{
    if (call->sampler != NULL) llama->api.sampler_free(call->sampler);
    if (call->grammar != NULL) llama->api.sampler_free(call->grammar);
    call->sampler = call->grammar = NULL;
    llama_request_free(&call->request);
    buffer_free(&call->text);
    for (size_t i = 0; i < call->n_texts; i++) free(call->texts[i]);
    call->n_texts = 0;
    free(call->texts);
    free(call->n_tokens);
    free(call->vectors);
    free(call->logprobs);
    free(call->text_ends);
    call->texts = NULL;
    call->n_tokens = NULL;
    call->vectors = NULL;
    call->logprobs = NULL;
    call->text_ends = NULL;
}

void llama_call_free(struct llama *llama, struct llama_call *call)
{
    if (call == NULL) return;
    free_work(llama, call);
    free(call->prompt);
    free(call);
}

static tidemill_error *place_answer(const struct buffer *text, struct answer *answer)
{
    unsigned char *data = NULL;
    struct wire_value *value = NULL;
    struct shape shape = {.rank = 0};
    uint32_t size = (uint32_t)text->size;
    if (text->is_failed) return error_memory();
    if (text->size > UINT32_MAX - sizeof size)
        return error_new(ERROR_OUTPUT_TOO_LARGE, "the answer has %zu bytes", text->size);
    TRY(answer_place(answer, sizeof size + text->size, &data));
    memcpy(data, &size, sizeof size);
    memcpy(data + sizeof size, text->data, text->size);
    TRY(answer_add(answer, &value));
    answer_set_tensor(answer, value, TENSOR_STRING, &shape, data, sizeof size + text->size);
    return NULL;
}

static void write_answer(const struct llama *llama, const struct llama_call *call,
                         struct buffer *out)
{
    switch (call->request.task) {
    case TASK_EMBEDDING: llama_answer_vectors(llama, call, out); break;
    case TASK_RERANK: llama_answer_ranks(llama, call, out); break;
    case TASK_CLASSIFY: llama_answer_classes(llama, call, out); break;
    default: llama_answer_text(llama, call, out);
    }
}

void llama_call_finish(struct llama *llama, struct llama_call *call, tidemill_error *error)
{
    struct model_unit *unit = call->unit;
    struct buffer out = {0};
    if (error == NULL) {
        write_answer(llama, call, &out);
        error = place_answer(&out, &unit->answer);
    }
    buffer_free(&out);
    unit->error = error;
    unit->usage = (struct token_usage){.in = (uint64_t)call->n_prompt,
                                       .cached = (uint64_t)call->n_cached,
                                       .out = (uint64_t)call->n_generated};
    unit->is_done = true;
    call->unit = NULL;
    free_work(llama, call);
}
