/* SPDX-License-Identifier: Apache-2.0 */
/* results_parts.h - what the files of results share. */
#ifndef TIDEMILL_SERVER_RESULTS_PARTS_H
#define TIDEMILL_SERVER_RESULTS_PARTS_H

#include "server/result_lines.h"
#include "server/results.h"

struct asked; /* results_enqueue.c: what misses asked for */

/* When a queue's window closes next, as reckoned last. */
struct close_memo {
    const struct queue_config *queue;
    int64_t from, until;
};
#define CLOSE_MEMOS 64

struct results {
    struct app *app;
    struct cache *cache;
    struct asked *asked;
    pthread_mutex_t memo_mutex;
    struct close_memo memos[CLOSE_MEMOS];
    _Atomic uint64_t n_found[RESULT_ENQUEUED + 1];
    _Atomic bool is_stopping;
    pthread_t refill;
    bool has_refill;
};

/* The part of a key that all of a queue's have in common, hashed once. */
struct results_scope {
    struct hash_key start;
};
void results_scope_init(struct results_scope *scope, const char *tenant, const char *queue);
struct digest results_key(const struct results_scope *scope, struct slice key);

/* The value's bytes are appended to `ret->value`. */
bool results_get_key(struct results *results, struct digest key, struct result *ret);
enum result_found results_find_key(struct results *results, const struct queue_config *queue,
                                   const char *tenant, struct slice key, struct digest digest,
                                   struct result *ret, struct result_ask *ask);

/* What stands behind each value in the cache. */
struct result_tail {
    int64_t made_at;
    struct digest etag;
};

/* --- results_enqueue.c ---------------------------------------------------------------------------- */

struct asked *asked_new(void);
void asked_free(struct asked *asked);
void asked_enqueue(struct results *results, const struct queue_config *queue, const char *tenant,
                   struct slice key, struct digest digest, struct result_ask *ask);
/* The window has ended: its keys may be asked for again. */
void asked_forget(struct asked *asked, const char *window);

/* --- results_put.c -------------------------------------------------------------------------------- */

/* `is_older_kept`: what is there and newer stays. */
tidemill_error *results_put_output(struct results *results, const struct store_job *job,
                                   bool keeps_newer);
#endif
