/* SPDX-License-Identifier: Apache-2.0 */
/* results.h - predictions by key, in memory: what a queue's last windows answered, under each record's
 * key. An LMDB cache of its own (DATA/results), so it may forget; the windows' outputs are the truth. */
#ifndef TIDEMILL_SERVER_RESULTS_H
#define TIDEMILL_SERVER_RESULTS_H

#include "server/app.h"

tidemill_error *results_open(struct app *app, struct results **ret);
void results_close(struct results *results); /* NULL is fine */
/* Puts the answers of a window that ended, however it did: each line of output under its record's key
 * (KEY_FIELD; without one "id" or "custom_id"), which takes the place of the line's "id". Which record a
 * line is of, the line itself says. Blocking; again is harmless. */
tidemill_error *results_put_window(struct results *results, const struct store_job *job);

struct result {
    struct buffer value; /* appended to: JSON, as the output has it */
    int64_t made_at;     /* when its window was done */
    struct digest etag;
};
/* False: a miss. Any thread, never waits. */
bool results_get(struct results *results, const char *tenant, const char *queue, struct slice key,
                 struct result *ret);

/* Who wants to know which request will answer. `done` is called once, from any thread, maybe before
 * what it was handed to returns; must not wait. Without an error `request_id` is "req_...". */
struct result_ask {
    void (*done)(struct result_ask *ask, const char *request_id, const tidemill_error *error);
    void *context;
    struct result_ask *next; /* results' own */
};
/* The same, counted, with the queue's ON_MISS: what `GET /v1/results` and the Redis protocol share.
 * A queue whose misses are enqueued makes the record {KEY_FIELD: key} of the key, once until its window
 * has ended; so it does for an answer older than its ttl, which is STALE and served meanwhile. `ask`
 * (NULL: nobody) is told of the request only where ENQUEUED is returned. */
enum result_found { RESULT_FRESH, RESULT_STALE, RESULT_DEFAULT, RESULT_MISS, RESULT_ENQUEUED };
enum result_found results_find(struct results *results, const struct queue_config *queue,
                               const char *tenant, struct slice key, struct result *ret,
                               struct result_ask *ask);
/* When a newer answer may come: the queue's window that is open now, or would be, closes. */
int64_t results_next_close(struct results *results, const struct queue_config *queue, int64_t now);

/* What was asked for in a window may be asked for again: it has ended, with an answer or without. */
void results_window_ended(struct results *results, const char *window);

struct results_stats {
    uint64_t hits, stale, misses, defaults, enqueued;
    uint64_t entries; /* answers that are kept */
};
void results_stats(struct results *results, struct results_stats *ret);

/* The Redis protocol over it (resp.c): GET, MGET, EXISTS, TTL, PING, HELLO, AUTH, ... on a thread of its
 * own. Keys are QUEUE:KEY. */
struct resp;
tidemill_error *resp_start(struct app *app, const char *address, struct resp **ret);
const char *resp_address(const struct resp *resp);
void resp_stop(struct resp *resp); /* NULL is fine */

#endif
