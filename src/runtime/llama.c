/* SPDX-License-Identifier: Apache-2.0 */
/* llama.c - GGUF models through llama.cpp: loaded once a host, asked many records at a time. */
#include "runtime/llama_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CONTEXT_MIN 256 /* a batch holds a token of each sequence, and is no larger than this */
#define PARALLEL_DEFAULT 16
#define CONTEXT_EACH 1024  /* tokens of KV memory for each sequence, where --context is auto */
#define CONTEXT_LEAST 4096 /* but so many for all of them, if the model can have one so long */
#define BATCH_TOKENS 2048
#define EMBEDDING_TOKENS_MAX 8192 /* one text; attention within it needs memory by the square */
#define EMBEDDING_SEQUENCES 64
#define WAITING_MAX 32 /* units in the socket, so that the model never waits */

/* The last thing that llama.cpp complained of on this thread. */
static _Thread_local char last_complaint[512];

static void log_message(enum ggml_log_level level, const char *text, void *user_data)
{
    (void)user_data;
    if (level != GGML_LOG_LEVEL_ERROR) return;
    size_t length = strcspn(text, "\n");
    if (length == 0) return;
    snprintf(last_complaint, sizeof last_complaint, "%.*s", (int)MIN(length, (size_t)500), text);
    wire_clean_text(last_complaint, sizeof last_complaint);
}

static bool should_abort(void *data)
{
    return atomic_load(&((struct llama *)data)->is_cancelled);
}

static tidemill_error *load_weights(struct llama *llama, const struct model_options *options)
{
    struct llama_model_params params = llama->api.model_default_params();
    if (access(options->model, R_OK) != 0) /* llama.cpp would not say why */
        return error_errno(ERROR_MODEL_LOAD, errno, "cannot read the model '%s'", options->model);
    params.n_gpu_layers = options->llama.gpu_layers;
    last_complaint[0] = '\0';
    llama->weights = llama->api.model_load_from_file(options->model, params);
    if (llama->weights == NULL)
        return error_new(ERROR_MODEL_LOAD, "the model '%s' does not load: %s", options->model,
                         last_complaint[0] != '\0' ? last_complaint : "llama.cpp gives no reason");
    if (llama->api.model_has_encoder(llama->weights) &&
        llama->api.model_has_decoder(llama->weights))
        return error_new(ERROR_UNSUPPORTED,
                         "the model '%s' is an encoder with a decoder; only "
                         "decoders and encoders alone are supported",
                         options->model);
    if (llama->api.model_is_diffusion(llama->weights))
        return error_new(ERROR_UNSUPPORTED, "the model '%s' is a diffusion model", options->model);
    llama->vocab = llama->api.model_get_vocab(llama->weights);
    llama->n_vocab = llama->api.vocab_n_tokens(llama->vocab);
    if (llama->n_vocab <= 0)
        return error_new(ERROR_MODEL_LOAD, "the model '%s' has no vocabulary", options->model);
    return NULL;
}

/* A quarter of the machine's memory may be KV memory; not of what is free: that changes, and the hosts of
 * a job must choose alike. The bytes are those of heads as wide as usual. */
static int64_t tokens_in_memory(const struct llama *llama)
{
    const struct llama_library *api = &llama->api;
    int64_t n_head = MAX(api->model_n_head(llama->weights), 1);
    int64_t width = (int64_t)api->model_n_embd(llama->weights) *
                    MAX(api->model_n_head_kv(llama->weights), 1) / n_head;
    int64_t bytes = 2 * 2 * width * MAX(api->model_n_layer(llama->weights), 1);
    int64_t all_bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    return MAX(all_bytes / 4 / MAX(bytes, INT64_C(1)), INT64_C(512));
}

static uint32_t choose_context(const struct llama *llama, int32_t n_trained)
{
    if (llama->options.context > 0) return (uint32_t)llama->options.context;
    int64_t least = MIN(CONTEXT_LEAST, n_trained);
    int64_t wanted = MAX((int64_t)llama->n_parallel * MIN(CONTEXT_EACH, n_trained), least);
    return (uint32_t)MIN(wanted, tokens_in_memory(llama));
}

static void set_text_params(struct llama *llama, int32_t n_trained,
                            struct llama_context_params *params)
{
    llama->n_parallel = llama->options.parallel > 0 ? llama->options.parallel : PARALLEL_DEFAULT;
    llama->n_sequences = MIN(llama->n_parallel + LLAMA_RESIDENTS, 256);
    params->n_ctx = MAX(choose_context(llama, n_trained), (uint32_t)CONTEXT_MIN);
    params->n_batch = BATCH_TOKENS;
    params->n_seq_max = (uint32_t)llama->n_sequences;
    params->n_outputs_max = params->n_seq_max; /* llama.cpp wants no fewer */
    params->kv_unified = true;
    params->swa_full = true; /* else beginnings could not be shared */
}

/* A text is one piece: pooling and attention in both directions want all of it at once. */
static void set_embedding_params(struct llama *llama, int32_t n_trained,
                                 struct llama_context_params *params)
{
    int32_t n = MIN(n_trained, EMBEDDING_TOKENS_MAX);
    if (llama->options.context > 0) n = (int32_t)MIN(llama->options.context, (int64_t)n);
    llama->n_parallel = llama->options.parallel > 0 ? llama->options.parallel : EMBEDDING_SEQUENCES;
    llama->n_sequences = llama->n_parallel;
    params->embeddings = true;
    params->n_ctx = params->n_batch = params->n_ubatch = (uint32_t)MAX(n, 1);
    params->n_outputs_max = 0;
    params->n_seq_max = (uint32_t)llama->n_sequences;
    params->kv_unified = true;
}

/* In place of the one that there may be. */
static tidemill_error *make_context(struct llama *llama, const struct model_options *options,
                                    enum llama_pooling_type pooling)
{
    int32_t n_trained = MAX(llama->api.model_n_ctx_train(llama->weights), 1);
    struct llama_context_params params = llama->api.context_default_params();
    params.n_threads = params.n_threads_batch = MAX(options->threads, 1);
    params.abort_callback = should_abort;
    params.abort_callback_data = llama;
    params.pooling_type = pooling;
    if (llama->takes_whole_texts)
        set_embedding_params(llama, n_trained, &params);
    else
        set_text_params(llama, n_trained, &params);
    if (llama->context != NULL) llama->api.free(llama->context);
    last_complaint[0] = '\0';
    llama->context = llama->api.init_from_model(llama->weights, params);
    if (llama->context == NULL)
        return error_new(ERROR_MODEL_LOAD,
                         "the model '%s' cannot be run with %u tokens of KV memory: %s",
                         options->model, params.n_ctx,
                         last_complaint[0] != '\0' ? last_complaint : "no reason given");
    llama->pooling = llama->api.pooling_type(llama->context);
    llama->n_cells = (int32_t)llama->api.n_ctx(llama->context);
    llama->n_sequence_max = MIN(llama->n_cells, n_trained);
    llama->n_batch = (int32_t)llama->api.n_batch(llama->context);
    llama->memory = llama->api.get_memory(llama->context);
    return NULL;
}

static bool asks_for_scores(enum llama_task task)
{
    return task == TASK_RERANK || task == TASK_CLASSIFY;
}

/* Whether the model's architecture ends in a softmax itself, as llama.cpp builds it. */
static bool ends_in_softmax(const struct llama *llama)
{
    static const char *const names[] = {"qwen3", "qwen3vl"};
    char text[64] = "";
    llama->api.model_meta_val_str(llama->weights, "general.architecture", text, sizeof text);
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(text, names[i]) == 0) return true;
    return false;
}

/* One score, or a form for query and document: made to rank. Several labels: to classify. */
static tidemill_error *set_purpose(struct llama *llama, const struct model_options *options)
{
    const struct llama_library *api = &llama->api;
    enum llama_task task = options->llama.task;
    bool is_rank = llama->takes_whole_texts && llama->pooling == LLAMA_POOLING_TYPE_RANK;
    llama->purpose = llama->takes_whole_texts ? TASK_EMBEDDING : TASK_COMPLETION;
    llama->n_out = api->model_n_embd_out(llama->weights);
    if (!is_rank) return NULL;
    llama->n_out = (int32_t)api->model_n_cls_out(llama->weights);
    llama->has_probabilities = llama->n_out > 1 && ends_in_softmax(llama);
    bool can_rank = llama->n_out == 1 || api->model_chat_template(llama->weights, "rerank") != NULL;
    llama->purpose = can_rank ? TASK_RERANK : TASK_CLASSIFY;
    if (task == TASK_EMBEDDING)
        return error_new(ERROR_USAGE, "the model '%s' %s: it makes no embeddings", options->model,
                         can_rank ? "ranks documents" : "classifies texts");
    if (task == TASK_RERANK && !can_rank)
        return error_new(ERROR_USAGE, "the model '%s' tells %d labels apart: it ranks no documents",
                         options->model, llama->n_out);
    return NULL;
}

static tidemill_error *check_head(const struct llama *llama, const struct model_options *options)
{
    enum llama_head head;
    if (!llama->takes_whole_texts || llama->pooling != LLAMA_POOLING_TYPE_RANK) return NULL;
    TRY(llama_head_find(llama, options->model, &head));
    if (head != HEAD_NONE) return NULL;
    return error_new(asks_for_scores(options->llama.task) ? ERROR_USAGE : ERROR_MODEL_LOAD,
                     "the model '%s' has no classification head: it can neither rank nor classify",
                     options->model);
}

/* An encoder whose file says no pooling, as those of many rerankers do: its head tells. */
static tidemill_error *open_encoder(struct llama *llama, const struct model_options *options)
{
    enum llama_head head;
    TRY(llama_head_find(llama, options->model, &head));
    if (head != HEAD_THERE || options->llama.task != TASK_AUTO)
        return error_new(ERROR_USAGE, "the model '%s' is an encoder that says no pooling%s",
                         options->model, head == HEAD_THERE ? "; it ranks or classifies" : "");
    llama->takes_whole_texts = true;
    return make_context(llama, options, LLAMA_POOLING_TYPE_RANK);
}

/* What the model is for stands in its context: a second one where the first was of the wrong kind. */
static tidemill_error *open_context(struct llama *llama, const struct model_options *options)
{
    enum llama_task task = options->llama.task;
    llama->takes_whole_texts = task == TASK_EMBEDDING || asks_for_scores(task) ||
                               !llama->api.model_has_decoder(llama->weights);
    TRY(make_context(llama, options,
                     asks_for_scores(task) ? LLAMA_POOLING_TYPE_RANK
                                           : LLAMA_POOLING_TYPE_UNSPECIFIED));
    bool has_pooling = llama->pooling != LLAMA_POOLING_TYPE_NONE;
    bool is_encoder = llama->memory == NULL;
    if (is_encoder && !has_pooling) {
        TRY(open_encoder(llama, options));
    } else if (!llama->takes_whole_texts && has_pooling && task == TASK_AUTO) {
        llama->takes_whole_texts = true;
        TRY(make_context(llama, options, LLAMA_POOLING_TYPE_UNSPECIFIED));
    }
    if (llama->takes_whole_texts && !is_encoder && !has_pooling)
        return error_new(ERROR_USAGE,
                         "the model '%s' makes text: it says no pooling for embeddings",
                         options->model);
    if (!llama->takes_whole_texts && is_encoder)
        return error_new(ERROR_USAGE, "the model '%s' is an encoder: it makes no text",
                         options->model);
    TRY(check_head(llama, options));
    return set_purpose(llama, options);
}

static tidemill_error *allocate(struct llama *llama)
{
    llama->batch = llama->api.batch_init(llama->n_batch, 0, 1);
    llama->calls = calloc((size_t)llama->n_sequences, sizeof(struct llama_call *));
    llama->candidates = calloc((size_t)llama->n_vocab, sizeof *llama->candidates);
    llama->queue_last = &llama->queue;
    if (llama->batch.token == NULL || llama->calls == NULL || llama->candidates == NULL)
        return error_memory();
    return NULL;
}

static tidemill_error *open_llama(struct llama *llama, const struct model_options *options)
{
    const char *name = strrchr(options->model, '/');
    llama->options = options->llama;
    llama->options.library = NULL;
    snprintf(llama->name, sizeof llama->name, "%s", name != NULL ? name + 1 : options->model);
    setenv("GGML_NO_BACKTRACE", "1", 0); /* it would start a debugger */
    TRY(llama_library_open(options->llama.library, &llama->api));
    llama->api.log_set(log_message, NULL);
    llama->api.backend_init();
    TRY(load_weights(llama, options));
    TRY(open_context(llama, options));
    TRY(allocate(llama));
    llama->can_share = llama->memory != NULL && !llama->api.model_is_recurrent(llama->weights) &&
                       !llama->api.model_is_hybrid(llama->weights);
    TRY(signature_make_json(&llama->model.signature, "body", "response", false));
    TRY(signature_add_optional(&llama->model.signature, "url"));
    llama->model.units_max =
        (uint32_t)MAX(llama->n_parallel + MIN(llama->n_parallel, WAITING_MAX), UNITS_OF_ONE + 1);
    char text[64];
    llama->api.model_desc(llama->weights, text, sizeof text);
    snprintf(llama->model.description, sizeof llama->model.description, "llama.cpp %s (%s)",
             llama->api.version(), text);
    return NULL;
}

static void llama_close(struct model *model)
{
    struct llama *llama = (struct llama *)model;
    for (int32_t i = 0; llama->calls != NULL && i < llama->n_sequences; i++)
        llama_call_free(llama, llama->calls[i]);
    for (struct llama_call *call = llama->queue, *next; call != NULL; call = next) {
        next = call->next;
        llama_call_free(llama, call);
    }
    if (llama->batch.token != NULL) llama->api.batch_free(llama->batch);
    if (llama->context != NULL) llama->api.free(llama->context);
    if (llama->weights != NULL) llama->api.model_free(llama->weights);
    model_signature_free(&model->signature);
    free(llama->calls);
    free(llama->candidates);
    free(llama);
}

static tidemill_error *llama_open(const struct model_options *options, struct model **ret)
{
    struct llama *llama = calloc(1, sizeof *llama);
    if (llama == NULL) return error_memory();
    llama->model.impl = &model_llama;
    tidemill_error *error = open_llama(llama, options);
    if (error == NULL)
        *ret = &llama->model;
    else
        llama_close(&llama->model);
    return error;
}

/* A queue of one: what waits further behind waits in the socket, and is not blamed for what happens. */
static bool llama_has_room(const struct model *model)
{
    const struct llama *llama = (const struct llama *)model;
    if (llama->takes_whole_texts) return llama->n_queued < (size_t)llama->n_parallel;
    return llama->n_queued == 0 && llama->n_active < llama->n_parallel;
}

static void llama_give(struct model *model, struct model_unit *unit)
{
    struct llama *llama = (struct llama *)model;
    struct llama_call *call;
    tidemill_error *error = llama_call_new(llama, unit, &call);
    if (error != NULL) {
        unit->error = error;
        unit->is_done = true;
        return;
    }
    *llama->queue_last = call;
    llama->queue_last = &call->next;
    llama->n_queued++;
    if (!llama->takes_whole_texts) llama_batch_admit(llama);
}

static void llama_step(struct model *model)
{
    struct llama *llama = (struct llama *)model;
    if (llama->takes_whole_texts)
        llama_embed_step(llama);
    else
        llama_batch_step(llama);
}

static void llama_cancel(struct model *model)
{
    atomic_store(&((struct llama *)model)->is_cancelled, true);
}

const struct model_impl model_llama = {.name = "llama",
                                       .open = llama_open,
                                       .has_room = llama_has_room,
                                       .give = llama_give,
                                       .step = llama_step,
                                       .cancel = llama_cancel,
                                       .close = llama_close};
