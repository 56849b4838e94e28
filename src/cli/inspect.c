/* SPDX-License-Identifier: Apache-2.0 */
/* inspect.c - tidemill inspect: what a model takes and gives, and a record that it would take. */
#include "cli/cli.h"

#include "io/io.h"

#include <stdio.h>
#include <string.h>

#define REGION_BYTES ((size_t)1 << 20)
#define SAMPLE_NUMBERS_MAX 8

static const char *kind_text(const struct value_spec *spec)
{
    static char text[64];
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
        if (specs[i].shape.rank >= 0)
            shape_text(&specs[i].shape, specs[i].dim_names, shape, sizeof shape);
        printf("  %-20s %s %s\n", specs[i].name, kind_text(&specs[i]), shape);
    }
}

static void print_batching(const struct model_signature *signature)
{
    if (signature->batch_fixed > 0)
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

static tidemill_error *inspect(const struct job_spec *spec)
{
    struct shared_region region = {.fd = -1};
    struct runtime *runtime = NULL;
    struct runtime_options options = {
        .model = spec->model,
        .onnxruntime = spec->onnxruntime,
        .provider = spec->provider,
        .output_names = (const char *const *)spec->output_names.items,
        .n_output_names = spec->output_names.n,
        .batch_dimension = (enum batch_dimension)spec->batch_dimension,
        .threads = 1,
        .instances_max = 1,
        .is_isolated = spec->is_isolated,
    };
    TRY(shared_region_new(REGION_BYTES, &region));
    tidemill_error *error = runtime_open(&options, &region, &runtime);
    if (error == NULL) {
        const struct model_signature *signature = runtime_signature(runtime);
        printf("%s: %s\n", spec->model, runtime_description(runtime));
        print_values("inputs", signature->inputs, signature->n_inputs);
        print_values("outputs", signature->outputs, signature->n_outputs);
        print_batching(signature);
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
