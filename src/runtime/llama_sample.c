/* SPDX-License-Identifier: Apache-2.0 */
/* llama_sample.c - the next token of a call: llama.cpp's samplers in llama-server's order (bias,
 * penalties, top_k, top_p, min_p, temperature), the likeliest one where the temperature is 0.
 *
 * A grammar is asked about the token that was chosen without it, and about all only if that one will
 * not do: mostly it will. */
#include "runtime/llama_parts.h"

#include <math.h>
#include <stdlib.h>

#define LOGPROB_MIN (-9999.0)   /* of what cannot be: JSON has no infinity */
#define PENALTY_TOKENS_MAX 4096 /* of the answer's end are looked at */

/* Of the job's seed and the record's number, each bit of which counts (splitmix64's finish). */
static uint32_t make_seed(uint64_t seed, uint64_t index)
{
    uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + index + 1;
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)(x ^ x >> 31);
}

static bool has_penalties(const struct llama_request *r)
{
    return r->repeat_penalty != 1 || r->presence_penalty != 0 || r->frequency_penalty != 0;
}

static tidemill_error *make_sampler(struct llama *llama, struct llama_call *call)
{
    const struct llama_library *api = &llama->api;
    const struct llama_request *r = &call->request;
    struct llama_sampler *chain = api->sampler_chain_init(api->sampler_chain_default_params());
    if (chain == NULL) return error_memory();
    call->sampler = chain;
    if (r->n_biases > 0) {
        struct llama_logit_bias *biases = malloc(r->n_biases * sizeof *biases);
        if (biases == NULL) return error_memory();
        for (size_t i = 0; i < r->n_biases; i++)
            biases[i] = (struct llama_logit_bias){r->biases[i].token, r->biases[i].bias};
        api->sampler_chain_add(
            chain, api->sampler_init_logit_bias(llama->n_vocab, (int32_t)r->n_biases, biases));
        free(biases);
    }
    if (has_penalties(r))
        api->sampler_chain_add(chain,
                               api->sampler_init_penalties(
                                   llama->n_vocab, MIN(call->tokens_max, PENALTY_TOKENS_MAX),
                                   r->repeat_penalty, r->frequency_penalty, r->presence_penalty));
    if (r->temperature == 0) {
        api->sampler_chain_add(chain, api->sampler_init_greedy());
        return NULL;
    }
    if (r->top_k > 0) api->sampler_chain_add(chain, api->sampler_init_top_k(r->top_k));
    if (r->top_p < 1) api->sampler_chain_add(chain, api->sampler_init_top_p(r->top_p, 1));
    if (r->min_p > 0) api->sampler_chain_add(chain, api->sampler_init_min_p(r->min_p, 1));
    if (r->temperature != 1) api->sampler_chain_add(chain, api->sampler_init_temp(r->temperature));
    uint32_t seed = r->has_seed ? r->seed : make_seed(llama->options.seed, call->unit->index);
    if (seed == LLAMA_DEFAULT_SEED) seed = 0; /* which would be a random one */
    api->sampler_chain_add(chain, api->sampler_init_dist(seed));
    return NULL;
}

tidemill_error *llama_sample_prepare(struct llama *llama, struct llama_call *call)
{
    const struct llama_request *r = &call->request;
    for (size_t i = 0; i < r->n_biases; i++)
        if (r->biases[i].token >= llama->n_vocab)
            return error_new(ERROR_MODEL_ERROR, "'logit_bias' has token %d; the model has %d",
                             r->biases[i].token, llama->n_vocab);
    if (r->grammar != NULL) {
        call->grammar = llama->api.sampler_init_grammar(llama->vocab, r->grammar, "root");
        if (call->grammar == NULL)
            return error_new(ERROR_MODEL_ERROR, "the grammar is not one that llama.cpp can read");
    }
    if (r->temperature == 0 && r->n_biases == 0 && !has_penalties(r) && r->grammar == NULL)
        return NULL;
    return make_sampler(llama, call);
}

static llama_token likeliest(const float *logits, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static llama_token_data_array fill_candidates(struct llama *llama, const float *logits)
{
    for (int32_t i = 0; i < llama->n_vocab; i++)
        llama->candidates[i] = (llama_token_data){.id = i, .logit = logits[i]};
    return (llama_token_data_array){
        .data = llama->candidates, .size = (size_t)llama->n_vocab, .selected = -1};
}

static bool grammar_takes(const struct llama *llama, struct llama_call *call, llama_token token)
{
    llama_token_data one = {.id = token, .logit = 1};
    llama_token_data_array array = {.data = &one, .size = 1, .selected = -1};
    llama->api.sampler_apply(call->grammar, &array);
    return one.logit > -INFINITY;
}

static tidemill_error *check_finite(float logit)
{
    return isfinite(logit) ? NULL
                           : error_new(ERROR_MODEL_ERROR, "the model's logits are not finite");
}

static tidemill_error *choose(struct llama *llama, struct llama_call *call, const float *logits,
                              llama_token *ret)
{
    llama_token_data_array array = fill_candidates(llama, logits);
    llama->api.sampler_apply(call->sampler, &array);
    bool is_chosen = array.selected >= 0 && (size_t)array.selected < array.size;
    if (is_chosen) *ret = array.data[array.selected].id;
    if (call->grammar != NULL && (!is_chosen || !grammar_takes(llama, call, *ret))) {
        array = fill_candidates(llama, logits);
        llama->api.sampler_apply(call->grammar, &array);
        bool has_any = false;
        for (size_t i = 0; i < array.size && !has_any; i++)
            has_any = array.data[i].logit > -INFINITY;
        if (!has_any)
            return error_new(ERROR_MODEL_ERROR, "the grammar allows no token of this model");
        llama->api.sampler_apply(call->sampler, &array);
        is_chosen = array.selected >= 0 && (size_t)array.selected < array.size;
        if (is_chosen) *ret = array.data[array.selected].id;
    }
    if (!is_chosen) return error_new(ERROR_MODEL_ERROR, "no token can be sampled");
    TRY(check_finite(logits[*ret]));
    llama->api.sampler_accept(call->sampler, *ret);
    if (call->grammar != NULL) llama->api.sampler_accept(call->grammar, *ret);
    return NULL;
}

/* Logarithms of the model's own probabilities, before temperature and the rest, as OpenAI's are. */
static tidemill_error *note_logprobs(struct llama *llama, struct llama_call *call,
                                     const float *logits, llama_token chosen)
{
    size_t n_top = (size_t)call->request.n_top_logprobs, width = 1 + n_top;
    size_t n = (size_t)call->n_generated;
    if (n == call->logprobs_capacity) {
        size_t capacity = MAX(2 * n, (size_t)16);
        struct token_logprob *more =
            realloc(call->logprobs, capacity * width * sizeof *call->logprobs);
        if (more != NULL) call->logprobs = more;
        size_t *ends = realloc(call->text_ends, capacity * sizeof *call->text_ends);
        if (ends != NULL) call->text_ends = ends;
        if (more == NULL || ends == NULL) return error_memory();
        call->logprobs_capacity = capacity;
    }
    float max = logits[likeliest(logits, llama->n_vocab)];
    double sum = 0;
    for (int32_t i = 0; i < llama->n_vocab; i++) sum += exp((double)logits[i] - (double)max);
    double offset = (double)max + log(sum);
    struct token_logprob *row = call->logprobs + n * width, *top = row + 1;
    row[0] =
        (struct token_logprob){chosen, (float)MAX((double)logits[chosen] - offset, LOGPROB_MIN)};
    size_t n_kept = 0; /* sorted, the likeliest first; equals by number */
    for (int32_t i = 0; i < llama->n_vocab && n_top > 0; i++) {
        float logprob = (float)MAX((double)logits[i] - offset, LOGPROB_MIN);
        if (n_kept == n_top && logprob <= top[n_top - 1].logprob) continue;
        size_t place = n_kept < n_top ? n_kept++ : n_top - 1;
        for (; place > 0 && top[place - 1].logprob < logprob; place--) top[place] = top[place - 1];
        top[place] = (struct token_logprob){i, logprob};
    }
    for (; n_kept < n_top; n_kept++) top[n_kept] = (struct token_logprob){-1, 0};
    return NULL;
}

tidemill_error *llama_sample_next(struct llama *llama, struct llama_call *call, llama_token *ret)
{
    const float *logits = llama->api.get_logits_ith(llama->context, call->output_index);
    if (logits == NULL) return error_new(ERROR_MODEL_ERROR, "llama.cpp gave no logits");
    if (call->sampler != NULL)
        TRY(choose(llama, call, logits, ret));
    else
        *ret = likeliest(logits, llama->n_vocab);
    TRY(check_finite(logits[*ret]));
    bool is_end = llama->api.vocab_is_eog(llama->vocab, *ret);
    if (call->request.n_top_logprobs >= 0 && !is_end) TRY(note_logprobs(llama, call, logits, *ret));
    return NULL;
}
