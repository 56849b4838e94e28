/* SPDX-License-Identifier: Apache-2.0 */
/* serving.h - models that answer at once: each has a thread that owns its runtime, loads it when it
 * is first asked, gathers calls into microbatches (max_batch rows, max_delay), and lets it go when
 * nobody asked for keep_warm.
 *
 * When a microbatch goes (serving_gather.c): at once when it is full. Else when the model has nothing to
 * do, and either nobody else is likely to come (as many calls are there as there were at most lately) or
 * its first call has waited max_delay. So one caller alone never waits, and callers who come and go
 * together run together.
 *
 * Hosts, and the memory of the model, are serving's own: a job of the same model has others. */
#ifndef TIDEMILL_SERVER_SERVING_H
#define TIDEMILL_SERVER_SERVING_H

#include "server/app.h"

#include "format/tensor.h"

struct serving_input { /* rows of one of the model's inputs, row behind row */
    const char *name;
    enum tensor_type type;
    struct shape shape; /* whole; the first dimension counts rows where the model has batches */
    const void *data;   /* strings packed, as tensor.h says */
    size_t bytes;
};

struct serving_call {
    const char *model;
    /* Tensors, in any order; or JSON for a model that takes it (n_inputs 0): body, and the path it was
     * sent to, or nothing. */
    const struct serving_input *inputs;
    size_t n_inputs;
    struct slice url, body;
    /* Called once, on the model's thread or the caller's: must not wait. Values are the call's rows
     * alone, tensors in the order of the signature's outputs, and belong to it: free(values) after. */
    void (*done)(struct serving_call *call);
    void *context;
    tidemill_error *error; /* of the call; the caller's. Then there are no values */
    struct value *values;
    size_t n_values;
    struct token_usage usage; /* of calls that ran alone */
};

/* Takes the models of app->config as it is now, which must stay until serving_stop. Loads none; `app`
 * stays, too. */
tidemill_error *serving_start(struct app *app, struct serving **ret);
/* app->config was replaced. Models that changed are others from now on: the old ones end when all that
 * they were asked is answered. Those that did not change stay loaded. An error leaves all as it was. */
tidemill_error *serving_reload(struct serving *serving);
/* Answers all that wait or run with ERROR_INTERRUPTED, ends the hosts. NULL is fine. */
void serving_stop(struct serving *serving);
/* Any thread; never waits. What the call points to stays until `done`. A full queue is ERROR_LOCKED
 * (503), an unknown model ERROR_INPUT (404), at once through `done`. */
void serving_ask(struct serving *serving, struct serving_call *call);

/* Who wants to know a model's inputs and outputs. */
struct serving_waiter {
    const char *model;
    /* Called once: at once, or on the model's thread when it is loaded; must not wait. */
    void (*ready)(struct serving_waiter *waiter);
    void *context;
    const struct model_signature *signature; /* lives until serving_stop */
    const char *description;                 /* of the runtime; likewise */
    tidemill_error *error;                   /* the caller's; as of serving_ask */
    struct serving_waiter *next;             /* serving's own */
};
/* Any thread; never waits. Loads the model the first time. */
void serving_when_known(struct serving *serving, struct serving_waiter *waiter);
/* The same, waiting: for a pool's thread. *ret lives until serving_stop. */
tidemill_error *serving_signature(struct serving *serving, const char *model,
                                  const struct model_signature **ret);
/* ... and only if it is known already; NULL: not. Never waits. */
const struct model_signature *serving_known_signature(struct serving *serving, const char *model);
/* Whether there is such a model that answers at once; NULL: no. Its place in the configuration. */
const struct model_config *serving_model(struct serving *serving, const char *model);
bool serving_is_loaded(struct serving *serving, const char *model);
/* Whether a call may be tried now: false while a model that did not load waits for its next try. */
bool serving_is_ready(struct serving *serving, const char *model);

struct serving_stats {
    uint64_t calls, rows, batches, refused;
    uint64_t waiting;
    bool is_loaded;
};
bool serving_stats(struct serving *serving, const char *model, struct serving_stats *ret);

#endif
