/* SPDX-License-Identifier: Apache-2.0 */
/* sync.h - a request that is answered at once by a model, whatever its dialect: from the handler to the
 * answer. A dialect reads the body into calls and writes their values; all else is done here.
 *
 *     handler (a pool's thread)   prefer_async, where asked for; is the model's signature known?
 *     there, or the model's       read: the body becomes calls
 *     the model's thread          the last call is done: write, answer
 *
 * No thread waits for a model: while it loads, requests lie in its list. */
#ifndef TIDEMILL_SERVER_SYNC_H
#define TIDEMILL_SERVER_SYNC_H

#include "server/serving.h"

#include <yyjson.h>

struct sync;

struct sync_dialect {
    enum dialect dialect;
    /* The body into sync->calls (their inputs, or their body); what it makes lies in the arena. */
    tidemill_error *(*read)(struct sync *sync);
    /* The calls' values as the body of the answer. */
    tidemill_error *(*write)(struct sync *sync, struct buffer *out);
    /* The body as records, a line each, as `tidemill run` reads them. The signature may be NULL. */
    tidemill_error *(*lines)(struct sync *sync, struct buffer *out, uint64_t *ret_n);
    void (*release)(void *own); /* of what sync_begin was given; NULL: nothing to do */
};

struct sync {
    struct app *app;
    struct exchange *exchange;
    const struct sync_dialect *dialect;
    const char *model;
    struct slice url, body;
    int64_t header_bytes; /* KServe: of the JSON before binary tensors; -1: all */
    struct arena arena;   /* lives until the answer is written */
    yyjson_doc *doc;      /* freed with it */
    const struct model_signature *signature;
    struct serving_call *calls;
    size_t n_calls;
    void *own;               /* the dialect's; begins as what sync_begin was given */
    void *given;             /* that */
    const char *answer_type; /* "application/json" unless changed */
    size_t
        answer_header; /* KServe: of the answer's JSON before binary tensors; 0: there are none */

    struct serving_waiter waiter; /* sync.c's */
    _Atomic size_t n_left;
};

/* Answers it, now or later. `model` is copied. `own` is released in any case. */
void sync_begin(struct app *app, struct exchange *exchange, const struct sync_dialect *dialect,
                const char *model, int64_t header_bytes, void *own);
/* For read: `n` empty calls. */
tidemill_error *sync_make_calls(struct sync *sync, size_t n);
/* For write. The string that is the only value of call 0, for models that answer JSON. */
tidemill_error *sync_json_answer(const struct sync *sync, struct slice *ret);

/* Whether the model is one of ours, at once or in queues; false: 404 was answered. */
bool sync_check_model(struct app *app, struct exchange *exchange, const char *model);
/* Versions are all "1"; NULL is fine. False: 404 was answered. */
bool sync_check_version(struct exchange *exchange, const char *model, const char *version);

#endif
