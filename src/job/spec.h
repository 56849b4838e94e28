/* SPDX-License-Identifier: Apache-2.0 */
/* spec.h - what a job is, as parsed and checked; options.c has the meaning of each part. */
#ifndef TIDEMILL_JOB_SPEC_H
#define TIDEMILL_JOB_SPEC_H

#include "base/base.h"
#include "runtime/runtime.h"

struct io;

struct string_list {
    char **items;
    size_t n;
};

enum dedup { DEDUP_AUTO, DEDUP_ON, DEDUP_OFF };
enum order { ORDER_AUTO, ORDER_INPUT, ORDER_PREFIX };
enum via { VIA_LIVE, VIA_BATCH };
enum tune { TUNE_AUTO, TUNE_ALWAYS, TUNE_OFF };

struct job_spec {
    /* input */
    struct string_list inputs; /* as given; patterns are expanded by job_spec_check */
    int input_format;          /* enum format */
    char *id_field;
    struct string_list maps;
    char *template_path;
    struct string_list pads;
    int64_t record_bytes_max;
    char *tokenizer;    /* NULL: the one beside the model; "none" */
    int64_t max_length; /* tokens; 0: what the tokenizer says */
    struct string_list masks;
    /* output */
    char *output;
    char *errors;
    char *summary;
    int output_format;
    struct string_list keep;
    struct string_list output_names;
    char *post;
    char *labels;
    int nonfinite;     /* enum nonfinite_policy */
    int duplicate_ids; /* 0 allow, 1 error */
    /* model */
    char *model;
    char *provider;
    char *onnxruntime;
    int batch_dimension; /* enum batch_dimension */
    int precision;       /* enum precision */
    char *max_deviation;
    int64_t timeout_ms;
    bool is_isolated;
    /* servers */
    int protocol; /* enum http_protocol */
    int via;      /* enum via */
    int64_t inflight_max;
    int64_t requests_minute, tokens_minute; /* 0: no limit */
    int64_t retries;
    int64_t patience_ms; /* 0: for ever */
    int64_t deadline_ms; /* from the start of a run; 0: none */
    struct string_list headers;
    char *key_variable;
    char *ca_file;
    bool is_insecure;
    /* GGUF models */
    char *llama_library;
    int task;                         /* enum, see the option */
    int64_t parallel, context_tokens; /* 0: auto */
    int64_t gpu_layers;               /* 0: all that fit; else one more than that many */
    int64_t seed;
    /* running */
    int64_t batch;      /* 0: measured */
    int64_t tokens_max; /* of a microbatch; 0: measured */
    int64_t instances;  /* 0: auto */
    int64_t threads;    /* 0: auto */
    int tune;           /* enum tune */
    int order;          /* enum order */
    int64_t memory_bytes;
    int64_t checkpoint_ms;
    char *max_errors;
    int dedup;               /* enum dedup */
    int64_t dedup_bytes;     /* of the index of inputs seen */
    char *cache;             /* folder; NULL: none */
    int64_t cache_bytes_max; /* 0: the cache's own */
    bool is_forced;
    bool is_retry;
    bool is_dry;
    /* cost and display */
    char *price;
    char *price_in, *price_cached, *price_out; /* USD per million tokens */
    bool is_quiet;
    int log_format;

    /* worked out by job_spec_check */
    struct string_list input_paths; /* patterns expanded, sorted within a pattern */
    bool is_errors_default;         /* errors was made from output */
    bool keep_all;
    bool to_stdout;
    uint64_t max_errors_count;          /* UINT64_MAX: no limit */
    double max_errors_share;            /* > 1: no limit */
    double price_usd_hour;              /* 0: none */
    double usd_in, usd_cached, usd_out; /* per million tokens */
    double deviation_max;
    /* set by job_close alone: what becomes of records that have no answer yet; OK: they run */
    enum error_code close_code;
    /* set by job_retry alone: the records' numbers in the job's input */
    const uint64_t *line_numbers;
    size_t n_line_numbers;
};

/* Defaults from the options table. */
tidemill_error *job_spec_init(struct job_spec *spec);
void job_spec_free(struct job_spec *spec);
/* All options as they are set, for a job of its own; what job_spec_check works out is not copied. *ret is
 * to be freed also after an error. */
tidemill_error *job_spec_copy(const struct job_spec *spec, struct job_spec *ret);
/* Reads a YAML file of options; later option_set calls override. Unknown keys are errors with their
 * line and the nearest known name. */
tidemill_error *job_spec_load_yaml(struct job_spec *spec, const struct io *io, const char *path);
/* Checks that the parts fit together, and works out the rest. */
tidemill_error *job_spec_check(struct job_spec *spec, const struct io *io);

/* The part of it that knows nothing of input and output: for who brings those later. No I/O. */
tidemill_error *job_spec_check_model(struct job_spec *spec);

/* How the spec says that its model is opened. Threads, instances and what wakes it are the caller's. The
 * strings are the spec's. */
struct runtime_options job_spec_runtime(const struct job_spec *spec);

/* The tokenizer.json that text would be read with: --tokenizer, or else the one beside the model,
 * where there is one. *ret malloc'ed; NULL: none. */
tidemill_error *job_spec_tokenizer(const struct job_spec *spec, const struct io *io, char **ret);

#endif
