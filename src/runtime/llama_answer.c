/* SPDX-License-Identifier: Apache-2.0 */
/* llama_answer.c - answers in OpenAI's form. Nothing in them depends on the clock: "id" is made from the
 * record, "created" is 0. Tokens may end in the middle of a character: what is not UTF-8 becomes U+FFFD. */
#include "runtime/llama_parts.h"

void llama_append_piece(const struct llama *llama, llama_token token, struct buffer *out)
{
    for (int32_t size = 64, n;; size = -n) {
        char *place = buffer_reserve(out, (size_t)size);
        if (place == NULL) return;
        n = llama->api.token_to_piece(llama->vocab, token, place, size, 0, false);
        if (n > 0) out->size += (size_t)n;
        if (n >= 0 || n < -(1 << 20) || -n <= size) return;
    }
}

static void append_json_text(struct buffer *out, const char *text, size_t size)
{
    buffer_byte(out, '"');
    for (size_t i = 0; i < size;) {
        unsigned char byte = (unsigned char)text[i];
        size_t step = wire_utf8_length((const unsigned char *)text + i, size - i);
        if (step == 0)
            buffer_text(out, "\xef\xbf\xbd");
        else if (byte == '"' || byte == '\\')
            buffer_printf(out, "\\%c", byte);
        else if (byte == '\n')
            buffer_text(out, "\\n");
        else if (byte < 0x20 || byte == 0x7f)
            buffer_printf(out, "\\u%04x", byte);
        else
            buffer_append(out, text + i, step);
        i += MAX(step, (size_t)1);
    }
    buffer_byte(out, '"');
}

static void append_head(const struct llama *llama, const struct llama_call *call, const char *id,
                        const char *object, struct buffer *out)
{
    char digest[DIGEST_TEXT_BYTES];
    const char *model = call->request.model != NULL ? call->request.model : llama->name;
    digest_text(call->body, digest);
    buffer_byte(out, '{');
    if (id != NULL) buffer_printf(out, "\"id\":\"%s-%s\",", id, digest);
    buffer_printf(out, "\"object\":\"%s\",", object);
    if (id != NULL) buffer_text(out, "\"created\":0,");
    buffer_text(out, "\"model\":");
    append_json_text(out, model, strlen(model));
}

/* {"token":"..","logprob":-1.5,"bytes":[..]  without the end */
static void append_token(const struct llama *llama, const struct token_logprob *one,
                         struct buffer *scratch, struct buffer *out)
{
    scratch->size = 0;
    llama_append_piece(llama, one->token, scratch);
    buffer_text(out, "{\"token\":");
    append_json_text(out, scratch->data, scratch->size);
    buffer_printf(out, ",\"logprob\":%.9g,\"bytes\":[", (double)one->logprob);
    for (size_t i = 0; i < scratch->size; i++)
        buffer_printf(out, "%s%d", i > 0 ? "," : "", (unsigned char)scratch->data[i]);
    buffer_byte(out, ']');
}

/* Of the tokens that the answer has something of: those of a stop string are not in it. */
static void append_logprobs(const struct llama *llama, const struct llama_call *call,
                            struct buffer *out)
{
    struct buffer scratch = {0};
    size_t n_top = (size_t)call->request.n_top_logprobs, width = 1 + n_top;
    buffer_text(out, ",\"logprobs\":{\"content\":[");
    for (size_t i = 0; i < (size_t)call->n_generated; i++) {
        const struct token_logprob *row = call->logprobs + i * width;
        size_t begin = i > 0 ? call->text_ends[i - 1] : 0;
        if (begin >= call->text.size && call->text_ends[i] > call->text.size) break;
        if (i > 0) buffer_byte(out, ',');
        append_token(llama, row, &scratch, out);
        buffer_text(out, ",\"top_logprobs\":[");
        for (size_t k = 1; k < width && row[k].token >= 0; k++) {
            if (k > 1) buffer_byte(out, ',');
            append_token(llama, &row[k], &scratch, out);
            buffer_byte(out, '}');
        }
        buffer_text(out, "]}");
    }
    buffer_text(out, "]}");
    if (scratch.is_failed) out->is_failed = true;
    buffer_free(&scratch);
}

void llama_answer_text(const struct llama *llama, const struct llama_call *call, struct buffer *out)
{
    bool is_chat = call->request.task == TASK_CHAT;
    append_head(llama, call, is_chat ? "chatcmpl" : "cmpl",
                is_chat ? "chat.completion" : "text_completion", out);
    buffer_text(out, ",\"choices\":[{\"index\":0,");
    buffer_text(out, is_chat ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"text\":");
    append_json_text(out, call->text.data, call->text.size);
    if (is_chat) buffer_byte(out, '}');
    if (call->request.n_top_logprobs >= 0)
        append_logprobs(llama, call, out);
    else
        buffer_text(out, ",\"logprobs\":null");
    buffer_printf(out, ",\"finish_reason\":\"%s\"}],\"usage\":{\"prompt_tokens\":%d,", call->finish,
                  call->n_prompt);
    buffer_printf(out, "\"completion_tokens\":%d,\"total_tokens\":%d,", call->n_generated,
                  call->n_prompt + call->n_generated);
    buffer_printf(out, "\"prompt_tokens_details\":{\"cached_tokens\":%d}}}", call->n_cached);
}

void llama_answer_vectors(const struct llama *llama, const struct llama_call *call,
                          struct buffer *out)
{
    append_head(llama, call, NULL, "list", out);
    buffer_text(out, ",\"data\":[");
    for (size_t i = 0; i < call->n_texts; i++) {
        const float *vector = call->vectors + i * (size_t)llama->n_embd;
        buffer_printf(out, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":[",
                      i > 0 ? "," : "", i);
        for (int32_t k = 0; k < llama->n_embd; k++)
            buffer_printf(out, "%s%.9g", k > 0 ? "," : "", (double)vector[k]);
        buffer_text(out, "]}");
    }
    buffer_printf(out, "],\"usage\":{\"prompt_tokens\":%d,\"total_tokens\":%d}}", call->n_prompt,
                  call->n_prompt);
}
