/* SPDX-License-Identifier: Apache-2.0 */
/* spec.c - defaults, and the checks that need more than one option to be seen at once. */
#include "job/spec.h"

#include "cost/cost.h"
#include "io/io.h"
#include "job/options.h"

#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOAD_TIMEOUT_MS (10 * 60 * 1000)

tidemill_error *job_spec_init(struct job_spec *spec)
{
    *spec = (struct job_spec){0};
    for (size_t i = 0; i < n_job_options; i++) {
        const struct option *option = &job_options[i];
        if (option->default_text != NULL)
            TRY(option_set(spec, option, option->default_text, option->name));
    }
    return NULL;
}

static void free_list(struct string_list *list)
{
    for (size_t i = 0; i < list->n; i++) free(list->items[i]);
    free(list->items);
    *list = (struct string_list){0};
}

void job_spec_free(struct job_spec *spec)
{
    for (size_t i = 0; i < n_job_options; i++) option_release(spec, &job_options[i]);
    free_list(&spec->input_paths);
    *spec = (struct job_spec){0};
}

tidemill_error *job_spec_copy(const struct job_spec *spec, struct job_spec *ret)
{
    *ret = (struct job_spec){0};
    for (size_t i = 0; i < n_job_options; i++) TRY(option_copy(&job_options[i], spec, ret));
    ret->is_errors_default = spec->is_errors_default;
    return NULL;
}

static tidemill_error *add_path(struct string_list *list, const char *path)
{
    char **items = realloc(list->items, (list->n + 1) * sizeof *items);
    if (items == NULL) return error_memory();
    list->items = items;
    items[list->n] = strdup(path);
    if (items[list->n] == NULL) return error_memory();
    list->n++;
    return NULL;
}

/* Whether two names are one file: equal, or the same inode. */
static bool is_one_file(const struct io *io, const char *a, const char *b)
{
    struct stat one, other;
    if (a == NULL || b == NULL || strcmp(a, "-") == 0) return false;
    if (strcmp(a, b) == 0) return true;
    return io->stat(io->context, a, &one) == 0 && io->stat(io->context, b, &other) == 0 &&
           one.st_ino != 0 && one.st_ino == other.st_ino && one.st_dev == other.st_dev;
}

/* A name that exists is that file, whatever characters are in it; else it may be a pattern. */
static tidemill_error *expand_input(struct job_spec *spec, const struct io *io, const char *input)
{
    struct stat status;
    if (io->stat(io->context, input, &status) == 0 && S_ISDIR(status.st_mode))
        return error_new(ERROR_INPUT,
                         "%s is a directory; name files, or a pattern such as '%s/*.jsonl'", input,
                         input);
    bool is_plain = strcmp(input, "-") == 0 || strpbrk(input, "*?[") == NULL;
    if (is_plain || io_exists(io, input)) return add_path(&spec->input_paths, input);
    size_t n_before = spec->input_paths.n;
    glob_t found;
    if (glob(input, 0, NULL, &found) != 0)
        return error_new(ERROR_INPUT, "no file matches '%s'", input);
    tidemill_error *error = NULL;
    for (size_t i = 0; i < found.gl_pathc && error == NULL; i++) {
        bool is_ours = is_one_file(io, found.gl_pathv[i], spec->output) ||
                       is_one_file(io, found.gl_pathv[i], spec->errors);
        if (!is_ours) error = add_path(&spec->input_paths, found.gl_pathv[i]);
    }
    globfree(&found);
    if (error == NULL && spec->input_paths.n == n_before)
        return error_new(ERROR_INPUT, "no file matches '%s' but the job's own output", input);
    return error;
}

static tidemill_error *check_inputs(struct job_spec *spec, const struct io *io)
{
    if (spec->inputs.n == 0)
        return error_new(ERROR_USAGE,
                         "no input: name one with --input FILE (- for standard input)");
    free_list(&spec->input_paths);
    size_t n_standard_input = 0;
    for (size_t i = 0; i < spec->inputs.n; i++) {
        TRY(expand_input(spec, io, spec->inputs.items[i]));
        n_standard_input += strcmp(spec->inputs.items[i], "-") == 0;
    }
    if (n_standard_input > 1)
        return error_new(ERROR_USAGE, "--input -: standard input can be read only once");
    return NULL;
}

/* Nothing that is written may be something that is read. */
static tidemill_error *check_overlap(const struct job_spec *spec, const struct io *io)
{
    const struct {
        const char *option, *path;
    } written[] = {
        {"--output", spec->output}, {"--errors", spec->errors}, {"--summary", spec->summary}};
    for (size_t w = 0; w < COUNT_OF(written); w++) {
        for (size_t i = 0; i < spec->input_paths.n; i++)
            if (is_one_file(io, written[w].path, spec->input_paths.items[i]))
                return error_new(ERROR_USAGE, "%s %s is an input too; give it another name",
                                 written[w].option, written[w].path);
        const char *const read[] = {spec->model, spec->labels, spec->template_path,
                                    spec->tokenizer};
        for (size_t r = 0; r < COUNT_OF(read); r++)
            if (is_one_file(io, written[w].path, read[r]))
                return error_new(ERROR_USAGE, "%s %s is what the job reads; give it another name",
                                 written[w].option, written[w].path);
        for (size_t v = 0; v < w; v++)
            if (is_one_file(io, written[w].path, written[v].path))
                return error_new(ERROR_USAGE, "%s and %s are one file; give them two names",
                                 written[w].option, written[v].option);
    }
    return NULL;
}

static tidemill_error *check_output(struct job_spec *spec, const struct io *io)
{
    struct stat status;
    if (spec->output == NULL || spec->output[0] == '\0')
        return error_new(ERROR_USAGE,
                         "no output: name one with --output FILE (- for standard output)");
    spec->to_stdout = strcmp(spec->output, "-") == 0;
    if (spec->to_stdout) return NULL;
    if (io->stat(io->context, spec->output, &status) == 0 && S_ISDIR(status.st_mode))
        return error_new(
            ERROR_USAGE,
            "--output %s is a directory; name a file in it, such as %s/predictions.jsonl",
            spec->output, spec->output);
    if (io->stat(io->context, spec->output, &status) == 0 && !S_ISREG(status.st_mode))
        return error_new(ERROR_USAGE,
                         "--output %s is not a plain file; use --output - and redirect it",
                         spec->output);
    if (spec->is_errors_default) {
        free(spec->errors);
        spec->errors = NULL;
    }
    if (spec->errors != NULL) return NULL;
    spec->is_errors_default = true;
    if (asprintf(&spec->errors, "%s.errors.jsonl", spec->output) < 0) {
        spec->errors = NULL;
        return error_memory();
    }
    return NULL;
}

static tidemill_error *check_max_errors(struct job_spec *spec)
{
    spec->max_errors_count = UINT64_MAX;
    spec->max_errors_share = INFINITY;
    if (spec->max_errors == NULL) return NULL;
    char *end;
    double number = strtod(spec->max_errors, &end);
    bool is_share = strcmp(end, "%") == 0;
    if (end == spec->max_errors || (*end != '\0' && !is_share) || !(number >= 0 && number < 1e18) ||
        (is_share && number > 100) || (!is_share && number != floor(number)))
        return error_new(ERROR_USAGE, "--max-errors: '%s' is not a count or a share such as 1%%",
                         spec->max_errors);
    if (is_share)
        spec->max_errors_share = number / 100;
    else
        spec->max_errors_count = (uint64_t)number;
    return NULL;
}

static tidemill_error *check_max_deviation(struct job_spec *spec)
{
    char *end;
    const char *text = spec->max_deviation;
    spec->deviation_max = text != NULL ? strtod(text, &end) : 0;
    if (text == NULL ||
        (end != text && *end == '\0' && spec->deviation_max >= 0 && spec->deviation_max <= 2))
        return NULL;
    return error_new(ERROR_USAGE, "--max-deviation: '%s' is not a number from 0 to 2", text);
}

static tidemill_error *check_token_price(const char *option, const char *text, double *ret)
{
    char *end;
    *ret = text != NULL ? strtod(text, &end) : 0;
    if (text == NULL || (end != text && *end == '\0' && *ret >= 0 && *ret < 1e6)) return NULL;
    return error_new(ERROR_USAGE, "%s: '%s' is not USD for a million tokens", option, text);
}

static tidemill_error *check_price(struct job_spec *spec)
{
    spec->price_usd_hour = 0;
    if (spec->price == NULL) return NULL;
    char *end;
    double number = strtod(spec->price, &end);
    if (end != spec->price && *end == '\0' && number >= 0 && number < 1e6) {
        spec->price_usd_hour = number;
        return NULL;
    }
    const struct instance_price *instance = cost_instance_find(spec->price);
    if (instance == NULL)
        return error_new(ERROR_USAGE,
                         "--price: '%s' is neither USD an hour nor a known instance type; "
                         "'tidemill prices' lists them",
                         spec->price);
    spec->price_usd_hour = instance->usd_hour;
    return NULL;
}

/* What only some models understand is not left out in silence where it would change an answer. */
static tidemill_error *check_kind(const struct job_spec *spec)
{
    enum model_kind kind = model_kind(spec->model);
    if (spec->precision != PRECISION_FP32 && kind != MODEL_ONNX)
        return error_new(ERROR_USAGE, "--precision is for ONNX models; %s has its own",
                         spec->model);
    if (spec->via == VIA_BATCH && kind != MODEL_HTTP)
        return error_new(ERROR_USAGE, "--via batch needs a server: --model http://HOST:PORT/...");
    return NULL;
}

static tidemill_error *check_values(struct job_spec *spec)
{
    TRY(check_max_errors(spec));
    TRY(check_max_deviation(spec));
    TRY(check_price(spec));
    TRY(check_token_price("--price-in", spec->price_in, &spec->usd_in));
    TRY(check_token_price("--price-cached", spec->price_cached, &spec->usd_cached));
    if (spec->price_cached != NULL && spec->price_in == NULL)
        return error_new(ERROR_USAGE, "--price-cached needs --price-in: the price of the others");
    TRY(check_token_price("--price-out", spec->price_out, &spec->usd_out));
    spec->keep_all = spec->keep.n == 1 && strcmp(spec->keep.items[0], "all") == 0;
    return NULL;
}

tidemill_error *job_spec_check_model(struct job_spec *spec)
{
    if (spec->model == NULL || spec->model[0] == '\0')
        return error_new(ERROR_USAGE, "no model: name one with --model FILE");
    TRY(check_kind(spec));
    return check_values(spec);
}

tidemill_error *job_spec_check(struct job_spec *spec, const struct io *io)
{
    if (spec->model == NULL || spec->model[0] == '\0')
        return error_new(ERROR_USAGE, "no model: name one with --model FILE");
    TRY(check_kind(spec));
    TRY(check_output(spec, io));
    if (!spec->is_retry) TRY(check_inputs(spec, io));
    TRY(check_overlap(spec, io));
    if (spec->is_retry && spec->to_stdout)
        return error_new(ERROR_USAGE, "--retry-errors needs the output file of the finished job");
    if (spec->is_retry && spec->is_dry)
        return error_new(ERROR_USAGE, "--dry-run says nothing of --retry-errors; leave one out");
    return check_values(spec);
}

/* --- files beside the model --------------------------------------------------------------------------- */

struct runtime_options job_spec_runtime(const struct job_spec *spec)
{
    return (struct runtime_options){
        .model = spec->model,
        .onnxruntime = spec->onnxruntime,
        .provider = spec->provider,
        .output_names = (const char *const *)spec->output_names.items,
        .n_output_names = spec->output_names.n,
        .batch_dimension = (enum batch_dimension)spec->batch_dimension,
        .precision = (enum precision)spec->precision,
        .is_isolated = spec->is_isolated,
        .timeout_ms = (int)MIN(spec->timeout_ms, (int64_t)INT32_MAX),
        .load_timeout_ms = LOAD_TIMEOUT_MS,
        .http =
            {
                .protocol = (enum http_protocol)spec->protocol,
                .inflight_max = (int)spec->inflight_max,
                .requests_minute = spec->requests_minute,
                .tokens_minute = spec->tokens_minute,
                .retries = (int)spec->retries,
                .patience_ms = spec->patience_ms,
                .key = spec->key_variable != NULL ? getenv(spec->key_variable) : NULL,
                .headers = (const char *const *)spec->headers.items,
                .n_headers = spec->headers.n,
                .ca_file = spec->ca_file,
                .is_insecure = spec->is_insecure,
                .is_batch = spec->via == VIA_BATCH,
                .deadline_ms = spec->deadline_ms,
                .state_beside = spec->to_stdout ? NULL : spec->output,
            },
        .llama =
            {
                .parallel = (int)spec->parallel,
                .context = spec->context_tokens,
                .gpu_layers = (int)spec->gpu_layers - 1,
                .seed = (uint64_t)spec->seed,
                .task = (enum llama_task)spec->task,
                .library = spec->llama_library,
            },
    };
}

tidemill_error *job_spec_tokenizer(const struct job_spec *spec, const struct io *io, char **ret)
{
    const char *given = spec->tokenizer;
    *ret = NULL;
    if (given != NULL && strcmp(given, "none") == 0) return NULL;
    if (given != NULL && given[0] != '\0') {
        *ret = strdup(given);
        return *ret == NULL ? error_memory() : NULL;
    }
    if (model_kind(spec->model) != MODEL_ONNX || !io_exists(io, spec->model)) return NULL;
    const char *slash = strrchr(spec->model, '/');
    int folder = slash == NULL ? 0 : (int)(slash - spec->model) + 1;
    if (asprintf(ret, "%.*stokenizer.json", folder, spec->model) < 0) {
        *ret = NULL;
        return error_memory();
    }
    if (io_exists(io, *ret)) return NULL;
    free(*ret);
    *ret = NULL;
    return NULL;
}
