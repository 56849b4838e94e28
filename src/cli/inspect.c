/* SPDX-License-Identifier: Apache-2.0 */
/* inspect.c - tidemill inspect: what a model takes and gives, and a record that it would take. */
#include "cli/cli.h"

#include "io/io.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REGION_BYTES ((size_t)1 << 20)
#define SAMPLE_NUMBERS_MAX 8

static const char *kind_text(const struct value_spec *spec)
{
    static char text[64];
    if (spec->is_json) return "JSON";
    switch (spec->kind) {
    case VALUE_TENSOR: return tensor_type_name(spec->type);
    case VALUE_SEQUENCE:
        snprintf(text, sizeof text, "sequence of %s", tensor_type_name(spec->type));
        return text;
    case VALUE_MAP:
        snprintf(text, sizeof text, "map %s -> %s", tensor_type_name(spec->key_type),
                 tensor_type_name(spec->type));
        return text;
    }
    return "?";
}

static void print_values(const char *title, const struct value_spec *specs, size_t n)
{
    char shape[256];
    printf("%s:\n", title);
    for (size_t i = 0; i < n; i++) {
        shape[0] = '\0';
        if (!specs[i].is_json && specs[i].shape.rank >= 0)
            shape_text(&specs[i].shape, specs[i].dim_names, shape, sizeof shape);
        printf("  %-20s %s %s\n", specs[i].name, kind_text(&specs[i]), shape);
    }
}

static bool takes_json(const struct model_signature *signature)
{
    return signature->n_inputs > 0 && signature->inputs[0].is_json;
}

static void print_batching(const struct model_signature *signature)
{
    if (takes_json(signature))
        puts(signature->is_batched ? "batch: several records a call"
                                   : "batch: none; a record is a call");
    else if (signature->batch_fixed > 0)
        printf("batch: exactly %lld records a call; the last call is padded\n",
               (long long)signature->batch_fixed);
    else if (signature->is_batched)
        puts("batch: the first dimension counts records");
    else
        puts("batch: none; a record is a call (--batch-dimension first says otherwise)");
}

static const char *sample_element(enum tensor_type type)
{
    switch (type) {
    case TENSOR_STRING: return "\"text\"";
    case TENSOR_BOOL: return "true";
    case TENSOR_FLOAT:
    case TENSOR_DOUBLE:
    case TENSOR_FLOAT16:
    case TENSOR_BFLOAT16: return "0.5";
    default: return "1";
    }
}

/* Nested arrays of the row's shape, an unknown dimension as 3; long ones are cut with "...". */
static void print_sample_value(const struct value_spec *spec, const struct shape *row)
{
    size_t last = row->rank > 0 ? (size_t)MAX(row->dims[row->rank - 1], (int64_t)-1) : 0;
    size_t n = row->rank > 0 && row->dims[row->rank - 1] < 0 ? 3 : last;
    for (int32_t d = 0; d < row->rank; d++) putchar('[');
    for (size_t i = 0; i < MIN(n, (size_t)SAMPLE_NUMBERS_MAX) && row->rank > 0; i++)
        printf("%s%s", i == 0 ? "" : ",", sample_element(spec->type));
    if (n > SAMPLE_NUMBERS_MAX) printf(",... %zu in all", n);
    for (int32_t d = 0; d < row->rank; d++) fputs(d == 0 ? "]" : ",...]", stdout);
    if (row->rank == 0) fputs(sample_element(spec->type), stdout);
}

static bool takes_tokens(const struct value_spec *spec)
{
    return strcmp(spec->name, "input_ids") == 0 &&
           (spec->type == TENSOR_INT64 || spec->type == TENSOR_INT32);
}

/* Does decoding make this input where a record has text or token ids? */
static bool is_made(const struct value_spec *spec)
{
    static const char *const made[] = {"attention_mask", "token_type_ids", "position_ids"};
    for (size_t i = 0; i < COUNT_OF(made); i++)
        if (strcmp(spec->name, made[i]) == 0) return true;
    return false;
}

static const struct value_spec *tokens_input(const struct model_signature *signature)
{
    for (size_t i = 0; i < signature->n_inputs; i++)
        if (takes_tokens(&signature->inputs[i])) return &signature->inputs[i];
    return NULL;
}

/* What text would be read with; *ret_has_text: something that works. */
static tidemill_error *print_tokenizer(const struct job_spec *spec, bool *ret_has_text)
{
    const struct tokenizer_options options = {.max_length = (size_t)spec->max_length};
    struct tokenizer *tokenizer;
    char *path;
    TRY(job_spec_tokenizer(spec, &io_local, &path));
    if (path == NULL) {
        puts("tokenizer: none; a tokenizer.json beside the model, or --tokenizer, lets it take "
             "text");
        return NULL;
    }
    tidemill_error *error = tokenizer_open(&io_local, path, &options, &tokenizer);
    *ret_has_text = error == NULL;
    if (error != NULL) {
        printf("tokenizer: %s; it cannot be used: %s\n", path, error_message(error));
        error_free(error);
    } else {
        printf("tokenizer: %s; ", path);
        if (tokenizer_max_length(tokenizer) > 0)
            printf("text is cut at %zu tokens; ", tokenizer_max_length(tokenizer));
        printf("padding is %lld (tokenizers %s)\n", (long long)tokenizer_pad_id(tokenizer),
               tokenizer_version(tokenizer));
        tokenizer_close(tokenizer);
    }
    free(path);
    return NULL;
}

/* A text model's record is its text; the other inputs follow. */
static bool print_ready_text(const struct model_signature *signature)
{
    for (size_t i = 0; i < signature->n_inputs; i++)
        if (!takes_tokens(&signature->inputs[i]) && !is_made(&signature->inputs[i])) return false;
    puts("map: --map input_ids=text   (not needed where a field is called text, or is the only one "
         "with text; --map input_ids=a,b takes a pair)\n"
         "sample record: {\"id\":1,\"text\":\"a sentence\"}");
    return true;
}

static void print_ready(const struct model_signature *signature)
{
    fputs("map:", stdout);
    for (size_t i = 0; i < signature->n_inputs; i++)
        printf(" --map %s=%s", signature->inputs[i].name, signature->inputs[i].name);
    fputs("   (not needed where fields bear the inputs' names)\nsample record: {\"id\":1", stdout);
    for (size_t i = 0; i < signature->n_inputs; i++) {
        struct shape row = value_row_shape(&signature->inputs[i], signature->is_batched);
        printf(",\"%s\":", signature->inputs[i].name);
        print_sample_value(&signature->inputs[i], &row);
    }
    puts("}");
}

/* A model that takes JSON takes any; what it makes of it, its address may tell. */
static void print_json_ready(const struct job_spec *spec, const char *input)
{
    enum model_kind kind = model_kind(spec->model);
    bool is_embedding = strstr(spec->model, "/embeddings") != NULL ||
                        spec->task == TASK_EMBEDDING || spec->task == TASK_CLASSIFY;
    bool is_chat = kind == MODEL_LLAMA || strstr(spec->model, "/chat/completions") != NULL;
    printf(
        "map: --map %s=FIELD   (not needed where the field is called %s, or the record as a whole "
        "is what is asked; --template makes it from rows)\nsample record: {\"id\":1,\"%s\":{",
        input, input, input);
    if (spec->task == TASK_RERANK)
        fputs("\"query\":\"a question\",\"documents\":[\"a text\",\"another\"]", stdout);
    else if (is_embedding)
        fputs("\"input\":\"a text\"", stdout);
    else if (is_chat)
        fputs("\"messages\":[{\"role\":\"user\",\"content\":\"a question\"}]", stdout);
    else
        fputs("\"any\":\"JSON\"", stdout);
    puts("}}");
}

static void print_signature(const struct model_signature *signature)
{
    print_values("inputs", signature->inputs, signature->n_inputs);
    print_values("outputs", signature->outputs, signature->n_outputs);
    print_batching(signature);
}

static tidemill_error *inspect(const struct job_spec *spec)
{
    struct shared_region region = {.fd = -1};
    struct runtime *runtime = NULL;
    struct runtime_options options = job_spec_runtime(spec);
    options.threads = options.instances_max = 1;
    TRY(shared_region_new(REGION_BYTES, &region));
    tidemill_error *error = runtime_open(&options, &region, &runtime);
    if (error == NULL) {
        const struct model_signature *signature = runtime_signature(runtime);
        printf("%s: %s\n", spec->model, runtime_description(runtime));
        print_signature(signature);
        bool has_text = false;
        if (tokens_input(signature) != NULL) error = print_tokenizer(spec, &has_text);
        if (takes_json(signature))
            print_json_ready(spec, signature->inputs[0].name);
        else if (!has_text || !print_ready_text(signature))
            print_ready(signature);
    }
    runtime_close(runtime);
    shared_region_free(&region);
    return error;
}

int cli_inspect(int argc, char **argv)
{
    struct job_spec spec;
    const char *words[1];
    size_t n_words;
    bool wants_help;
    tidemill_error *error =
        cli_parse_job(argc, argv, &spec, words, COUNT_OF(words), &n_words, &wants_help);
    if (error == NULL && wants_help) {
        puts("Usage: tidemill inspect MODEL [--provider=...] [--onnxruntime=PATH] "
             "[--batch-dimension=...]\n"
             "Show a model's inputs and outputs, types and shapes, and a record that it takes.");
        job_spec_free(&spec);
        return 0;
    }
    if (error == NULL && n_words == 1)
        error = option_set(&spec, option_find("model"), words[0], "MODEL");
    if (error == NULL && spec.model == NULL)
        error = error_new(ERROR_USAGE, "name a model: tidemill inspect MODEL");
    if (error == NULL) error = inspect(&spec);
    job_spec_free(&spec);
    return error == NULL ? 0 : cli_fail(error);
}
