/* SPDX-License-Identifier: Apache-2.0 */
/* serving.h - models that answer at once: each has a thread that owns its runtime, loads it when it
 * is first asked, gathers calls into microbatches (max_batch rows, max_delay), and lets it go when
 * nobody asked for keep_warm. */
#ifndef TIDEMILL_SERVER_SERVING_H
#define TIDEMILL_SERVER_SERVING_H

#include "server/app.h"

#include "format/tensor.h"

struct serving_input { /* rows of one of the model's inputs, row behind row */
    const char *name;
    enum tensor_type type;
    struct shape shape; /* whole; the first dimension counts rows where the model has batches */
    const void *data;   /* strings as the runtime has them */
    size_t bytes;
};

struct serving_call {
    const char *model;
    /* Tensors, in any order; or JSON for a model that takes it: body, and the path it was sent to. */
    const struct serving_input *inputs;
    size_t n_inputs;
    struct slice url, body;
    /* Called once, on the model's thread: must not wait. Values are the call's rows alone and belong to
     * it: free(values) after. */
    void (*done)(struct serving_call *call);
    void *context;
    tidemill_error *error; /* of the call; the caller's */
    struct value *values;
    size_t n_values;
    struct token_usage usage;
    /* serving's own */
    struct serving_call *next;
    void *own[4];
};

tidemill_error *serving_start(struct app *app, struct serving **ret);
void serving_stop(struct serving *serving); /* NULL is fine */
/* Any thread; never waits. What the call points to stays until `done`. A full queue is ERROR_LOCKED
 * (503), an unknown model ERROR_INPUT (404), at once through `done`. */
void serving_ask(struct serving *serving, struct serving_call *call);
/* The model's inputs and outputs: loads it, so it may wait (a pool's thread). A copy:
 * model_signature_free. */
tidemill_error *serving_signature(struct serving *serving, const char *model,
                                  struct model_signature *ret);
bool serving_is_loaded(struct serving *serving, const char *model);

struct serving_stats {
    uint64_t calls, rows, batches, refused;
    uint64_t waiting;
    bool is_loaded;
};
bool serving_stats(struct serving *serving, const char *model, struct serving_stats *ret);

#endif
