/* SPDX-License-Identifier: Apache-2.0 */
/* options.c - the table of options, and how one is set from text. */
#include "job/options.h"

#include "job/spec.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT(member) offsetof(struct job_spec, member)

const struct option job_options[] = {
    {.name = "model",
     .type = OPTION_PATH,
     .offset = AT(model),
     .value = "FILE",
     .short_name = 'm',
     .group = "Model",
     .help = "ONNX or GGUF file; the address of a server, http://HOST:PORT/..., or several with "
             "commas; 'exec:COMMAND', a program that answers; 'echo', which answers with its "
             "input"},
    {.name = "provider",
     .type = OPTION_STRING,
     .offset = AT(provider),
     .value = "NAME[:KEY=VALUE,...]",
     .default_text = "cpu",
     .shapes_answer = true,
     .shapes_output = true,
     .group = "Model",
     .help = "what computes: cpu, cuda, tensorrt or openvino, with its options"},
    {.name = "onnxruntime",
     .type = OPTION_PATH,
     .offset = AT(onnxruntime),
     .value = "PATH",
     .group = "Model",
     .help = "ONNX Runtime library to use; else $TIDEMILL_ONNXRUNTIME, else the system's"},
    {.name = "output-name",
     .type = OPTION_COMMAS,
     .offset = AT(output_names),
     .value = "NAME,...",
     .shapes_answer = true,
     .shapes_output = true,
     .group = "Model",
     .help = "the model's outputs that are wanted, in this order; all by default"},
    {.name = "batch-dimension",
     .type = OPTION_CHOICE,
     .offset = AT(batch_dimension),
     .choices = "auto|first|none",
     .default_text = "auto",
     .shapes_answer = true,
     .shapes_output = true,
     .group = "Model",
     .help = "whether the model's first dimension counts records"},
    {.name = "precision",
     .type = OPTION_CHOICE,
     .offset = AT(precision),
     .choices = "fp32|bf16|int8",
     .default_text = "fp32",
     .shapes_output = true,
     .shapes_answer = true,
     .group = "Model",
     .help =
         "what the model's matrix products are computed in; fp32 is the model as it is. int8 is "
         "measured against it on the first records"},
    {.name = "max-deviation",
     .type = OPTION_STRING,
     .offset = AT(max_deviation),
     .value = "SHARE",
     .default_text = "0.005",
     .group = "Model",
     .help =
         "refuse a lower precision when the first records' answers differ by more: 1 less their "
         "mean cosine similarity, or the mean relative difference of single numbers"},
    {.name = "timeout",
     .type = OPTION_DURATION,
     .offset = AT(timeout_ms),
     .value = "TIME",
     .default_text = "10m",
     .group = "Model",
     .help = "longest time for one call of the model; 0 waits for ever"},
    {.name = "isolate",
     .type = OPTION_FLAG,
     .offset = AT(is_isolated),
     .default_text = "true",
     .group = "Model",
     .help = "run the model in a process of its own, which may crash"},

    {.name = "protocol",
     .type = OPTION_CHOICE,
     .offset = AT(protocol),
     .choices = "auto|openai|kserve|tfserving|torchserve|json",
     .default_text = "auto",
     .shapes_answer = true,
     .shapes_output = true,
     .group = "Server",
     .help = "what the server speaks; auto goes by its address. json sends each record as it is"},
    {.name = "via",
     .type = OPTION_CHOICE,
     .offset = AT(via),
     .choices = "live|batch",
     .default_text = "live",
     .group = "Server",
     .help = "one request a record, or the server's own batch API, which is often half the price"},
    {.name = "max-inflight",
     .type = OPTION_COUNT,
     .offset = AT(inflight_max),
     .value = "N",
     .default_text = "128",
     .minimum = 1,
     .maximum = 4096,
     .group = "Server",
     .help = "requests under way at a time, at most; how many is found by measuring"},
    {.name = "rpm",
     .type = OPTION_COUNT,
     .offset = AT(requests_minute),
     .value = "N",
     .minimum = 1,
     .maximum = 1000000000,
     .group = "Server",
     .help = "requests a minute, at most"},
    {.name = "tpm",
     .type = OPTION_COUNT,
     .offset = AT(tokens_minute),
     .value = "N",
     .minimum = 1,
     .maximum = 1000000000000,
     .group = "Server",
     .help = "tokens a minute, at most, as the server counts them"},
    {.name = "retries",
     .type = OPTION_COUNT,
     .offset = AT(retries),
     .value = "N",
     .default_text = "5",
     .minimum = 0,
     .maximum = 1000,
     .group = "Server",
     .help = "further tries of a request that failed for a reason that may pass"},
    {.name = "patience",
     .type = OPTION_DURATION,
     .offset = AT(patience_ms),
     .value = "TIME",
     .default_text = "1h",
     .group = "Server",
     .help = "how long the server may be unreachable before the job stops at a checkpoint; 0 waits "
             "for ever"},
    {.name = "deadline",
     .type = OPTION_DURATION,
     .offset = AT(deadline_ms),
     .value = "TIME",
     .default_text = "0",
     .group = "Server",
     .help = "with --via batch: when this much time has passed, what is left is asked for one by "
             "one; 0 waits for the batch"},
    {.name = "header",
     .type = OPTION_LIST,
     .offset = AT(headers),
     .value = "NAME:VALUE",
     .group = "Server",
     .help = "header of every request; repeatable. Keys belong into --api-key-env"},
    {.name = "api-key-env",
     .type = OPTION_STRING,
     .offset = AT(key_variable),
     .value = "NAME",
     .default_text = "TIDEMILL_API_KEY",
     .group = "Server",
     .help = "environment variable that holds the key to send"},
    {.name = "ca-file",
     .type = OPTION_PATH,
     .offset = AT(ca_file),
     .value = "FILE",
     .group = "Server",
     .help = "certificates to trust (PEM), instead of the system's"},
    {.name = "insecure",
     .type = OPTION_FLAG,
     .offset = AT(is_insecure),
     .default_text = "false",
     .group = "Server",
     .help = "do not verify the server's certificate"},

    {.name = "task",
     .type = OPTION_CHOICE,
     .offset = AT(task),
     .choices = "auto|chat|completion|embedding|rerank",
     .default_text = "auto",
     .shapes_answer = true,
     .shapes_output = true,
     .group = "GGUF model",
     .help = "what the model is asked for; auto goes by the model and each record's fields"},
    {.name = "parallel",
     .type = OPTION_COUNT,
     .offset = AT(parallel),
     .value = "N|auto",
     .default_text = "auto",
     .minimum = 1,
     .maximum = 256,
     .has_auto = true,
     .group = "GGUF model",
     .help = "sequences that are generated at a time"},
    {.name = "context",
     .type = OPTION_COUNT,
     .offset = AT(context_tokens),
     .value = "N|auto",
     .default_text = "auto",
     .minimum = 1,
     .maximum = 1 << 28,
     .has_auto = true,
     .group = "GGUF model",
     .help = "tokens of KV memory for all sequences together"},
    {.name = "gpu-layers",
     .type = OPTION_COUNT,
     .offset = AT(gpu_layers),
     .value = "N|auto",
     .default_text = "auto",
     .minimum = 1,
     .maximum = 100000,
     .has_auto = true,
     .group = "GGUF model",
     .help = "layers on the GPU, where the library has one; auto is all"},
    {.name = "seed",
     .type = OPTION_COUNT,
     .offset = AT(seed),
     .value = "N",
     .default_text = "0",
     .minimum = 0,
     .maximum = 4294967295,
     .shapes_answer = true,
     .shapes_output = true,
     .group = "GGUF model",
     .help = "what the seeds of records that bring none are made from, with their number"},
    {.name = "llama-library",
     .type = OPTION_PATH,
     .offset = AT(llama_library),
     .value = "PATH",
     .group = "GGUF model",
     .help = "llama.cpp library to use; else $TIDEMILL_LLAMA, else the system's"},

    {.name = "input",
     .type = OPTION_LIST,
     .offset = AT(inputs),
     .value = "FILE",
     .short_name = 'i',
     .group = "Input",
     .help = "records: JSONL, CSV, .npy or .npz, also .gz or .zst; a pattern; - for standard "
             "input; repeatable"},
    {.name = "input-format",
     .type = OPTION_CHOICE,
     .offset = AT(input_format),
     .choices = "auto|jsonl|csv|npy|npz",
     .default_text = "auto",
     .shapes_output = true,
     .group = "Input",
     .help = "format of the input; auto goes by the names, JSONL where they do not tell"},
    {.name = "id",
     .type = OPTION_STRING,
     .offset = AT(id_field),
     .value = "FIELD",
     .shapes_output = true,
     .group = "Input",
     .help = "field that names a record; else custom_id or id where there is one, else the line "
             "number; '' is the line number"},
    {.name = "map",
     .type = OPTION_LIST,
     .offset = AT(maps),
     .value = "INPUT=FIELD",
     .shapes_output = true,
     .group = "Input",
     .help = "field that feeds a model input: a name, a /json/pointer, a list a,b,c, a range "
             "p0..p63; repeatable"},
    {.name = "template",
     .type = OPTION_PATH,
     .offset = AT(template_path),
     .value = "FILE",
     .group = "Input",
     .help = "JSON in which {{field}} is replaced by each record's field before it is read"},
    {.name = "pad",
     .type = OPTION_LIST,
     .offset = AT(pads),
     .value = "INPUT=VALUE",
     .shapes_answer = true,
     .shapes_output = true,
     .group = "Input",
     .help = "pad this model input along the dimension that varies, so that records of different "
             "lengths share a call; the usual token inputs are padded by themselves; repeatable"},
    {.name = "tokenizer",
     .type = OPTION_PATH,
     .offset = AT(tokenizer),
     .value = "FILE|none",
     .group = "Input",
     .help = "tokenizer.json that turns text into token ids; by default the one beside the model"},
    {.name = "max-length",
     .type = OPTION_COUNT,
     .offset = AT(max_length),
     .value = "N",
     .minimum = 1,
     .maximum = 1 << 20,
     .shapes_answer = true,
     .shapes_output = true,
     .group = "Input",
     .help = "tokens of one text, special ones included; longer text is cut; else what the "
             "tokenizer says"},
    {.name = "mask",
     .type = OPTION_LIST,
     .offset = AT(masks),
     .value = "INPUT",
     .shapes_answer = true,
     .shapes_output = true,
     .group = "Input",
     .help = "model input that is made of ones, as long as the record, where it brings none; "
             "repeatable"},
    {.name = "max-record-bytes",
     .type = OPTION_SIZE,
     .offset = AT(record_bytes_max),
     .value = "SIZE",
     .default_text = "16MiB",
     .minimum = 16,
     .maximum = (int64_t)1 << 32,
     .shapes_output = true,
     .group = "Input",
     .help = "a longer record is an error of its own"},
    {.name = "duplicate-ids",
     .type = OPTION_CHOICE,
     .offset = AT(duplicate_ids),
     .choices = "allow|error",
     .default_text = "allow",
     .shapes_output = true,
     .group = "Input",
     .help = "what to do with a record whose id was seen before; error remembers every id (about "
             "50 bytes a record)"},

    {.name = "output",
     .type = OPTION_PATH,
     .offset = AT(output),
     .value = "FILE",
     .short_name = 'o',
     .group = "Output",
     .help = "predictions in input order; format and compression by the name; - for standard "
             "output"},
    {.name = "output-format",
     .type = OPTION_CHOICE,
     .offset = AT(output_format),
     .choices = "auto|jsonl|csv|npy|npz|openai-batch",
     .default_text = "auto",
     .shapes_answer = true,
     .shapes_output = true,
     .group = "Output",
     .help = "format of the output; auto goes by the name, JSONL where it does not tell. "
             "openai-batch is JSONL as OpenAI's Batch API gives it"},
    {.name = "errors",
     .type = OPTION_PATH,
     .offset = AT(errors),
     .value = "FILE",
     .group = "Output",
     .help = "records that failed and why; OUTPUT.errors.jsonl by default"},
    {.name = "keep",
     .type = OPTION_COMMAS,
     .offset = AT(keep),
     .value = "FIELD,...|all",
     .shapes_answer = true,
     .shapes_output = true,
     .group = "Output",
     .help = "fields of the record to carry into the output"},
    {.name = "post",
     .type = OPTION_STRING,
     .offset = AT(post),
     .value = "STEP,...",
     .shapes_answer = true,
     .shapes_output = true,
     .group = "Output",
     .help = "what to make of numeric outputs: softmax, sigmoid, argmax, topk:K, none"},
    {.name = "labels",
     .type = OPTION_PATH,
     .offset = AT(labels),
     .value = "FILE",
     .group = "Output",
     .help = "names of the classes for argmax and topk, one a line"},
    {.name = "nonfinite",
     .type = OPTION_CHOICE,
     .offset = AT(nonfinite),
     .choices = "error|null|string",
     .default_text = "error",
     .shapes_answer = true,
     .shapes_output = true,
     .group = "Output",
     .help = "NaN and infinity: the record's error, null, or a string"},
    {.name = "summary",
     .type = OPTION_PATH,
     .offset = AT(summary),
     .value = "FILE",
     .group = "Output",
     .help = "write the summary as JSON"},

    {.name = "batch",
     .type = OPTION_COUNT,
     .offset = AT(batch),
     .value = "N|auto",
     .default_text = "auto",
     .minimum = 1,
     .maximum = 65536,
     .has_auto = true,
     .shapes_output = true,
     .short_name = 'b',
     .group = "Running",
     .help = "records in one call of the model; auto measures at the start"},
    {.name = "max-tokens",
     .type = OPTION_COUNT,
     .offset = AT(tokens_max),
     .value = "N|auto",
     .default_text = "auto",
     .minimum = 1,
     .maximum = 16777216,
     .has_auto = true,
     .shapes_output = true,
     .group = "Running",
     .help = "tokens in one call of a model whose records vary in length, padding included; auto "
             "measures at the start"},
    {.name = "instances",
     .type = OPTION_COUNT,
     .offset = AT(instances),
     .value = "N|auto",
     .default_text = "auto",
     .minimum = 1,
     .maximum = 1024,
     .has_auto = true,
     .group = "Running",
     .help = "model processes; auto adds them while the model is what the job waits for"},
    {.name = "threads",
     .type = OPTION_COUNT,
     .offset = AT(threads),
     .value = "N|auto",
     .default_text = "auto",
     .minimum = 1,
     .maximum = 1024,
     .has_auto = true,
     .group = "Running",
     .help = "threads of one model process"},
    {.name = "tune",
     .type = OPTION_CHOICE,
     .offset = AT(tune),
     .choices = "auto|always|off",
     .default_text = "auto",
     .group = "Running",
     .help =
         "what auto means for --batch, --max-tokens, --instances and --threads: take over what is "
         "remembered and measure where nothing is, measure always, or neither"},
    {.name = "order",
     .type = OPTION_CHOICE,
     .offset = AT(order),
     .choices = "auto|input|prefix",
     .default_text = "auto",
     .shapes_output = true,
     .group = "Running",
     .help =
         "order in which requests are made; prefix: prompts that begin alike one after another, "
         "for the prefix cache of what answers; auto does so for servers and GGUF models that "
         "generate text. Answers stay in the input's order"},
    {.name = "memory",
     .type = OPTION_SIZE,
     .offset = AT(memory_bytes),
     .value = "SIZE",
     .default_text = "0",
     .group = "Running",
     .help = "limit for all model processes together that --batch auto and --instances auto keep; "
             "0 is half of what is free"},
    {.name = "checkpoint-every",
     .type = OPTION_DURATION,
     .offset = AT(checkpoint_ms),
     .value = "TIME",
     .default_text = "5s",
     .minimum = 10,
     .maximum = 86400000,
     .group = "Running",
     .help = "most work that a kill can cost"},
    {.name = "dedup",
     .type = OPTION_CHOICE,
     .offset = AT(dedup),
     .choices = "auto|on|off",
     .default_text = "auto",
     .shapes_output = true,
     .group = "Running",
     .help = "run equal inputs once and give all of them the answer; auto does so where a call of "
             "the model costs more than finding them, and leaves out requests whose answers are "
             "drawn: generated at a temperature above 0 without a seed"},
    {.name = "dedup-memory",
     .type = OPTION_SIZE,
     .offset = AT(dedup_bytes),
     .value = "SIZE",
     .default_text = "64MiB",
     .minimum = 4096,
     .shapes_output = true,
     .maximum = (int64_t)1 << 40,
     .group = "Running",
     .help = "memory for the inputs seen, about 30 bytes each; later ones are not remembered"},
    {.name = "cache",
     .type = OPTION_PATH,
     .offset = AT(cache),
     .value = "DIR",
     .group = "Running",
     .help =
         "keep answers in this folder, and take those that other jobs put there; implies --dedup "
         "on"},
    {.name = "cache-max-bytes",
     .type = OPTION_SIZE,
     .offset = AT(cache_bytes_max),
     .value = "SIZE",
     .default_text = "0",
     .group = "Running",
     .help = "size of the cache's file at most; 0 is as it was, or 1 GiB"},
    {.name = "max-errors",
     .type = OPTION_STRING,
     .offset = AT(max_errors),
     .value = "N|P%",
     .group = "Running",
     .help = "stop, resumably, when more records failed: a count, or a share of those done"},
    {.name = "retry-errors",
     .type = OPTION_FLAG,
     .offset = AT(is_retry),
     .group = "Running",
     .help = "run the records of the error sink again and merge what they answer"},
    {.name = "dry-run",
     .type = OPTION_FLAG,
     .offset = AT(is_dry),
     .group = "Running",
     .help = "read and plan everything, run a few calls, and say what the job would do, take and "
             "cost; write nothing"},
    {.name = "force",
     .type = OPTION_FLAG,
     .offset = AT(is_forced),
     .group = "Running",
     .help = "start anew: drop the checkpoint or the finished output"},

    {.name = "price",
     .type = OPTION_STRING,
     .offset = AT(price),
     .value = "USD|INSTANCE",
     .group = "Cost and display",
     .help = "price of this machine: USD an hour, or an instance type such as c6i.large"},
    {.name = "price-in",
     .type = OPTION_STRING,
     .offset = AT(price_in),
     .value = "USD",
     .group = "Cost and display",
     .help = "price of a million prompt tokens, for the summary"},
    {.name = "price-out",
     .type = OPTION_STRING,
     .offset = AT(price_out),
     .value = "USD",
     .group = "Cost and display",
     .help = "price of a million generated tokens, for the summary"},
    {.name = "quiet",
     .type = OPTION_FLAG,
     .offset = AT(is_quiet),
     .short_name = 'q',
     .group = "Cost and display",
     .help = "no progress and no summary; errors only"},
    {.name = "log-format",
     .type = OPTION_CHOICE,
     .offset = AT(log_format),
     .choices = "text|json",
     .default_text = "text",
     .group = "Cost and display",
     .help = "form of progress and messages on standard error"},
};

const size_t n_job_options = COUNT_OF(job_options);
static_assert(COUNT_OF(job_options) <= JOB_OPTIONS_MAX, "whoever notes options has room for all");

const struct option *option_find(const char *name)
{
    for (size_t i = 0; i < n_job_options; i++)
        if (strcmp(job_options[i].name, name) == 0) return &job_options[i];
    return NULL;
}

static void *member(struct job_spec *spec, const struct option *option)
{
    return (char *)spec + option->offset;
}

/* --- numbers ------------------------------------------------------------------------------------ */

static bool parse_count(const struct option *option, const char *text, int64_t *ret)
{
    char *end;
    if (option->has_auto && strcmp(text, "auto") == 0) {
        *ret = 0;
        return true;
    }
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0) return false;
    *ret = value;
    return true;
}

static tidemill_error *set_number(struct job_spec *spec, const struct option *option,
                                  const char *text, const char *origin)
{
    int64_t value = 0;
    bool is_valid = option->type == OPTION_COUNT  ? parse_count(option, text, &value)
                    : option->type == OPTION_SIZE ? size_parse(text, &value)
                                                  : duration_parse(text, &value);
    if (!is_valid)
        return error_new(ERROR_USAGE, "%s: '%s' is not %s", origin, text,
                         option->type == OPTION_COUNT
                             ? (option->has_auto ? "a whole number or 'auto'" : "a whole number")
                         : option->type == OPTION_SIZE ? "a size such as 64MiB"
                                                       : "a time such as 5s, 250ms or 2m");
    bool is_auto = option->has_auto && value == 0 && strcmp(text, "auto") == 0;
    bool is_checked = option->minimum != 0 || option->maximum != 0;
    if (is_checked && !is_auto && (value < option->minimum || value > option->maximum))
        return error_new(ERROR_USAGE, "%s: %s is out of range (%lld to %lld%s)", origin, text,
                         (long long)option->minimum, (long long)option->maximum,
                         option->type == OPTION_SIZE       ? " bytes"
                         : option->type == OPTION_DURATION ? " ms"
                                                           : "");
    *(int64_t *)member(spec, option) = value;
    return NULL;
}

/* --- the other types ------------------------------------------------------------------------------ */

static tidemill_error *set_string(struct job_spec *spec, const struct option *option,
                                  const char *text)
{
    char *copy = strdup(text);
    if (copy == NULL) return error_memory();
    char **place = member(spec, option);
    free(*place);
    *place = copy;
    return NULL;
}

static tidemill_error *append_item(struct string_list *list, const char *text, size_t size)
{
    char **items = realloc(list->items, (list->n + 1) * sizeof *items);
    if (items == NULL) return error_memory();
    list->items = items;
    items[list->n] = strndup(text, size);
    if (items[list->n] == NULL) return error_memory();
    list->n++;
    return NULL;
}

static tidemill_error *append_list(struct job_spec *spec, const struct option *option,
                                   const char *text)
{
    struct string_list *list = member(spec, option);
    if (option->type == OPTION_LIST) return append_item(list, text, strlen(text));
    for (const char *p = text; *p != '\0';) {
        size_t size = strcspn(p, ",");
        if (size > 0) TRY(append_item(list, p, size));
        p += size + (p[size] == ',');
    }
    return NULL;
}

static tidemill_error *set_flag(struct job_spec *spec, const struct option *option,
                                const char *text, const char *origin)
{
    static const char *const truths[] = {"true", "yes", "on", "1"};
    static const char *const lies[] = {"false", "no", "off", "0"};
    for (size_t i = 0; i < COUNT_OF(truths); i++) {
        if (strcmp(text, truths[i]) == 0 || strcmp(text, lies[i]) == 0) {
            *(bool *)member(spec, option) = strcmp(text, truths[i]) == 0;
            return NULL;
        }
    }
    return error_new(ERROR_USAGE, "%s: '%s' is not true or false", origin, text);
}

static tidemill_error *set_choice(struct job_spec *spec, const struct option *option,
                                  const char *text, const char *origin)
{
    int place = 0;
    for (const char *p = option->choices; p != NULL; place++) {
        size_t size = strcspn(p, "|");
        if (strlen(text) == size && strncmp(p, text, size) == 0) {
            *(int *)member(spec, option) = place;
            return NULL;
        }
        p = p[size] == '|' ? p + size + 1 : NULL;
    }
    return error_new(ERROR_USAGE, "%s: '%s' is none of %s", origin, text, option->choices);
}

tidemill_error *option_set(struct job_spec *spec, const struct option *option, const char *text,
                           const char *origin)
{
    switch (option->type) {
    case OPTION_STRING:
    case OPTION_PATH: return set_string(spec, option, text);
    case OPTION_LIST:
    case OPTION_COMMAS: return append_list(spec, option, text);
    case OPTION_FLAG: return set_flag(spec, option, text, origin);
    case OPTION_CHOICE: return set_choice(spec, option, text, origin);
    case OPTION_COUNT:
    case OPTION_SIZE:
    case OPTION_DURATION: return set_number(spec, option, text, origin);
    }
    return error_new(ERROR_INTERNAL, "option %s has no type", option->name);
}

void option_clear(struct job_spec *spec, const struct option *option)
{
    if (option->type != OPTION_LIST && option->type != OPTION_COMMAS) return;
    struct string_list *list = member(spec, option);
    for (size_t i = 0; i < list->n; i++) free(list->items[i]);
    free(list->items);
    *list = (struct string_list){0};
}

static void choice_text(const struct option *option, int place, struct buffer *out)
{
    const char *p = option->choices;
    for (int i = 0; i < place; i++) p += strcspn(p, "|") + 1;
    buffer_append(out, p, strcspn(p, "|"));
}

void option_text(const struct job_spec *spec, const struct option *option, struct buffer *out)
{
    const void *place = (const char *)spec + option->offset;
    const struct string_list *list = place;
    const char *text = NULL;
    switch (option->type) {
    case OPTION_STRING:
    case OPTION_PATH:
        memcpy(&text, place, sizeof text);
        buffer_text(out, text == NULL ? "" : text);
        return;
    case OPTION_LIST:
    case OPTION_COMMAS:
        for (size_t i = 0; i < list->n; i++) {
            if (i > 0) buffer_text(out, option->type == OPTION_COMMAS ? "," : ", ");
            buffer_text(out, list->items[i]);
        }
        return;
    case OPTION_FLAG: buffer_text(out, *(const bool *)place ? "true" : "false"); return;
    case OPTION_CHOICE: choice_text(option, *(const int *)place, out); return;
    case OPTION_COUNT:
    case OPTION_SIZE:
    case OPTION_DURATION:
        if (option->has_auto && *(const int64_t *)place == 0)
            buffer_text(out, "auto");
        else
            buffer_printf(out, "%lld%s", (long long)*(const int64_t *)place,
                          option->type == OPTION_DURATION ? "ms" : "");
        return;
    }
}

/* --- mistyped names ---------------------------------------------------------------------------------- */

/* Levenshtein distance; names longer than the table count as far away. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[64];
    size_t length = strlen(b);
    if (length >= COUNT_OF(row)) return UINT_MAX;
    for (size_t j = 0; j <= length; j++) row[j] = (unsigned)j;
    for (size_t i = 0; a[i] != '\0'; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i + 1;
        for (size_t j = 0; j < length; j++) {
            unsigned replaced = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = MIN(MIN(row[j] + 1, row[j + 1] + 1), replaced);
        }
    }
    return row[length];
}

const char *option_suggest(const char *name)
{
    const char *best = NULL;
    unsigned best_distance = 4; /* farther is not a typing error */
    for (size_t i = 0; i < n_job_options; i++) {
        unsigned distance = edit_distance(name, job_options[i].name);
        if (distance < best_distance && distance < strlen(name)) {
            best = job_options[i].name;
            best_distance = distance;
        }
    }
    return best;
}
