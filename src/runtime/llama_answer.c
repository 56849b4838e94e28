/* SPDX-License-Identifier: Apache-2.0 */
/* llama_answer.c - answers in OpenAI's form. Nothing in them depends on the clock: "id" is made from the
 * record, "created" is 0. Tokens may end in the middle of a character: what is not UTF-8 becomes U+FFFD. */
#include "runtime/llama_parts.h"

#include <math.h>
#include <stdlib.h>

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

/* The end of a list and of the answer. */
static void append_usage(const struct llama_call *call, struct buffer *out)
{
    buffer_printf(out, "],\"usage\":{\"prompt_tokens\":%d,\"total_tokens\":%d}}", call->n_prompt,
                  call->n_prompt);
}

void llama_answer_vectors(const struct llama *llama, const struct llama_call *call,
                          struct buffer *out)
{
    append_head(llama, call, NULL, "list", out);
    buffer_text(out, ",\"data\":[");
    for (size_t i = 0; i < call->n_texts; i++) {
        const float *vector = call->vectors + i * (size_t)llama->n_out;
        buffer_printf(out, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":[",
                      i > 0 ? "," : "", i);
        for (int32_t k = 0; k < llama->n_out; k++)
            buffer_printf(out, "%s%.9g", k > 0 ? "," : "", (double)vector[k]);
        buffer_text(out, "]}");
    }
    append_usage(call, out);
}

/* Ranks: as Jina and llama-server answer. */

struct rank {
    size_t document;
    float score;
};

/* The best first; equals as they came. */
static int compare_ranks(const void *a, const void *b)
{
    const struct rank *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->document < y->document ? -1 : 1;
}

/* A head with several outputs has its "yes" first. */
static struct rank *sort_ranks(const struct llama *llama, const struct llama_call *call)
{
    struct rank *ranks = calloc(call->n_texts, sizeof *ranks);
    for (size_t i = 0; ranks != NULL && i < call->n_texts; i++)
        ranks[i] = (struct rank){i, call->vectors[i * (size_t)llama->n_out]};
    if (ranks != NULL) qsort(ranks, call->n_texts, sizeof *ranks, compare_ranks);
    return ranks;
}

void llama_answer_ranks(const struct llama *llama, const struct llama_call *call,
                        struct buffer *out)
{
    const struct llama_request *request = &call->request;
    struct rank *ranks = sort_ranks(llama, call);
    size_t n = request->top_n > 0 ? MIN((size_t)request->top_n, call->n_texts) : call->n_texts;
    if (ranks == NULL) out->is_failed = true;
    append_head(llama, call, NULL, "list", out);
    buffer_text(out, ",\"results\":[");
    for (size_t i = 0; ranks != NULL && i < n; i++) {
        const struct slice *document = &request->texts[ranks[i].document];
        buffer_printf(out, "%s{\"index\":%zu,\"relevance_score\":%.9g", i > 0 ? "," : "",
                      ranks[i].document, (double)ranks[i].score);
        if (request->returns_documents) {
            buffer_text(out, ",\"document\":{\"text\":");
            append_json_text(out, document->data, document->size);
            buffer_byte(out, '}');
        }
        buffer_byte(out, '}');
    }
    append_usage(call, out);
    free(ranks);
}

/* Classes: as vLLM answers. */

/* Of scores, in place: one is a yes or no of its own, several exclude each other. */
static void make_probabilities(float *scores, int32_t n)
{
    double max = (double)scores[0], sum = 0;
    if (n == 1) {
        scores[0] = (float)(1 / (1 + exp(-(double)scores[0])));
        return;
    }
    for (int32_t i = 1; i < n; i++) max = fmax(max, (double)scores[i]);
    for (int32_t i = 0; i < n; i++) sum += exp((double)scores[i] - max);
    for (int32_t i = 0; i < n; i++) scores[i] = (float)(exp((double)scores[i] - max) / sum);
}

/* LABEL_0 and so on where the model names none, as Hugging Face's configurations have it. */
static void append_label(const struct llama *llama, int32_t class, struct buffer *out)
{
    const char *label = llama->api.model_cls_label(llama->weights, (uint32_t) class);
    if (label != NULL)
        append_json_text(out, label, strlen(label));
    else
        buffer_printf(out, "\"LABEL_%d\"", class);
}

static void append_class(const struct llama *llama, float *scores, size_t index, struct buffer *out)
{
    int32_t n = llama->n_out, best = 0;
    if (!llama->has_probabilities) make_probabilities(scores, n);
    for (int32_t i = 1; i < n; i++)
        if (scores[i] > scores[best]) best = i;
    buffer_printf(out, "%s{\"index\":%zu,\"label\":", index > 0 ? "," : "", index);
    append_label(llama, best, out);
    buffer_text(out, ",\"probs\":[");
    for (int32_t i = 0; i < n; i++)
        buffer_printf(out, "%s%.9g", i > 0 ? "," : "", (double)scores[i]);
    buffer_printf(out, "],\"num_classes\":%d}", n);
}

void llama_answer_classes(const struct llama *llama, const struct llama_call *call,
                          struct buffer *out)
{
    append_head(llama, call, "classify", "list", out);
    buffer_text(out, ",\"data\":[");
    for (size_t i = 0; i < call->n_texts; i++)
        append_class(llama, call->vectors + i * (size_t)llama->n_out, i, out);
    append_usage(call, out);
}
