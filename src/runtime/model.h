/* SPDX-License-Identifier: Apache-2.0 */
/* model.h - what a model is to its host: open, run, close. One table of functions a kind of model.
 *
 * A model lives in one host and is called from one thread, apart from `cancel`, which may come from
 * any thread at any time between open and close and makes a running call end early, if it can. */
#ifndef TIDEMILL_RUNTIME_MODEL_H
#define TIDEMILL_RUNTIME_MODEL_H

#include "runtime/answer.h"
#include "runtime/runtime.h"

/* Borrowed for the time of open. */
struct model_options {
    const char *model;
    const char *onnxruntime; /* NULL: look for it */
    const char *provider;    /* NULL: "cpu" */
    struct llama_options llama;
    const char *const *output_names;
    size_t n_output_names; /* 0: all */
    enum batch_dimension batch_dimension;
    enum precision precision;
    int threads;
};

struct model_input {
    enum tensor_type type;
    struct shape shape;
    const unsigned char *data; /* in shared memory, read-only by convention */
    size_t bytes;
};

struct model;

/* One unit in a model that keeps many at a time. The host owns it; the model may point to it until it
 * has set is_done. */
struct model_unit {
    uint64_t index; /* of its record in the job */
    struct model_input inputs[MODEL_VALUES_MAX];
    uint32_t n_rows;
    struct answer answer;
    bool is_done;
    tidemill_error *error; /* with is_done: the call failed, see `run` */
    struct token_usage usage;
    void *state; /* the model's */
};

struct model_impl {
    const char *name;
    tidemill_error *(*open)(const struct model_options *options, struct model **ret);
    /* As many inputs as the signature has, of its types; shapes are the caller's business. An error
     * means that the call failed: ERROR_OUTPUT_TOO_LARGE, ERROR_HOST_CRASHED when a
     * process of the model's own died of it, or ERROR_MODEL_ERROR for all else. */
    tidemill_error *(*run)(struct model *model, const struct model_input *inputs, uint32_t n_rows,
                           struct answer *answer);
    /* A model that keeps many units at a time has these instead of `run`, and says in `units_max` how many
     * it may be sent. `has_room`: whether `give` may be called. `step` goes on with all that were given
     * and sets is_done, error and usage of those that are finished, in any order; it is called while
     * there are some. */
    bool (*has_room)(const struct model *model);
    void (*give)(struct model *model, struct model_unit *unit);
    void (*step)(struct model *model);
    void (*cancel)(struct model *model);
    void (*close)(struct model *model);
};

/* Every implementation's model begins with this. */
struct model {
    const struct model_impl *impl;
    struct model_signature signature;
    uint32_t units_max;    /* 0: `run`, one at a time */
    char description[160]; /* "ONNX Runtime 1.22.0 (cpu)" */
};

extern const struct model_impl model_echo;  /* "echo", "echo:option=value,..." */
extern const struct model_impl model_exec;  /* "exec:COMMAND" */
extern const struct model_impl model_llama; /* a path that ends in .gguf */
extern const struct model_impl model_onnx;  /* everything else: a path */

/* What can be said about a model file without loading it; the engine asks before it starts a host.
 * Fine for "echo". */
tidemill_error *model_check_file(const char *path);

/* The signature of a model that takes the text of a JSON value and answers with one. is_batched: any
 * number of them a call, else one. */
tidemill_error *signature_make_json(struct model_signature *signature, const char *input,
                                    const char *output, bool is_batched);

/* One more input of text that a record may lack, to a signature of signature_make_json. */
tidemill_error *signature_add_optional(struct model_signature *signature, const char *name);

/* Decides is_batched and batch_fixed from the declared shapes. ERROR_MODEL_LOAD when FIRST is asked
 * of a model whose shapes contradict it. */
tidemill_error *signature_detect_batch(struct model_signature *signature,
                                       enum batch_dimension batch_dimension);

#endif
