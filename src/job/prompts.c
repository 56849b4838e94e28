/* SPDX-License-Identifier: Apache-2.0 */
/* prompts.c - an order in which an engine's prefix cache finds what it computed: see plan/prefix.h. */
#include "job/pipeline.h"

/* A block of vLLM is 16 tokens, about as many words of four letters: what shares less shares nothing. */
#define GROUP_BYTES_MIN 64
#define BYTES_A_TOKEN 4

static int find_input(const struct model_signature *signature, const char *name)
{
    for (size_t i = 0; i < signature->n_inputs; i++)
        if (strcmp(signature->inputs[i].name, name) == 0) return (int)i;
    return -1;
}

/* Whether what is asked generates text, as far as address and options tell. Of servers, only those that
 * are asked in OpenAI's words have a url. */
static bool generates(const struct job_spec *spec, const struct prompting *prompting)
{
    switch (model_kind(spec->model)) {
    case MODEL_HTTP: return prompting->url_input >= 0 && strstr(spec->model, "/embeddings") == NULL;
    case MODEL_LLAMA:
        return spec->task == TASK_AUTO || spec->task == TASK_CHAT || spec->task == TASK_COMPLETION;
    default: return false;
    }
}

/* Answers come in the order of the prompts and are written in the input's: so they must be kept meanwhile,
 * or a kill would cost more than a checkpoint's interval. */
static bool is_order_useful(const struct job_spec *spec, const struct prompting *prompting)
{
    bool is_kept = spec->dedup != DEDUP_OFF || spec->cache != NULL;
    return is_kept && generates(spec, prompting);
}

tidemill_error *prompting_decide(const struct job_spec *spec,
                                 const struct model_signature *signature, struct prompting *ret)
{
    bool is_json = signature->n_inputs > 0 && signature->inputs[0].is_json;
    *ret = (struct prompting){0};
    if (!is_json && spec->order == ORDER_PREFIX)
        return error_new(ERROR_USAGE, "--order prefix is for models that take JSON, such as "
                                      "servers and GGUF models");
    if (!is_json) return NULL;
    ret->url_input = find_input(signature, "url");
    ret->is_generating = strstr(spec->model, "/responses") != NULL;
    ret->is_ordered =
        spec->order == ORDER_PREFIX || (spec->order == ORDER_AUTO && is_order_useful(spec, ret));
    ret->is_read = ret->is_ordered || spec->dedup == DEDUP_AUTO ||
                   (spec->dedup == DEDUP_OFF && spec->cache != NULL);
    return NULL;
}

static struct prefix_item item_of(const struct prompt *prompt)
{
    return (struct prefix_item){
        .units = prompt->text.data,
        .n_units = (uint32_t)MIN(prompt->text.size, (size_t)UINT32_MAX),
        .cost = MIN(prompt->tokens_max, UINT32_MAX / BYTES_A_TOKEN) * BYTES_A_TOKEN,
    };
}

tidemill_error *prompts_order(struct chunk *chunk, struct plan_row *rows, size_t n_rows)
{
    static const struct prefix_options options = {
        .unit_bytes = 1, .block_units = 1, .group_min_units = GROUP_BYTES_MIN};
    struct prefix_plan plan;
    struct prefix_item *items = arena_calloc(&chunk->arena, n_rows + 1, sizeof *items);
    struct plan_row *copy = arena_calloc(&chunk->arena, n_rows + 1, sizeof *copy);
    if (items == NULL || copy == NULL) return error_memory();
    for (size_t i = 0; i < n_rows; i++) {
        items[i] = item_of(&chunk->records[rows[i].index].prompt);
        copy[i] = rows[i];
    }
    TRY(plan_prefix_order(items, n_rows, &options, &chunk->arena, &plan));
    for (size_t i = 0; i < n_rows; i++) rows[i] = copy[plan.order[i]];
    chunk->prompt_bytes = plan.total_units;
    chunk->prompt_bytes_shared = plan.shared_units;
    return NULL;
}
