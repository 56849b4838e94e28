/* SPDX-License-Identifier: Apache-2.0 */
/* app.h - the running server, as its own files see it. Who owns what:
 *
 *     app.c         start, stop, reload; the only file that knows all the others
 *     config.c      tidemill.yaml
 *     scheduler.c   windows close, jobs start, end, are resumed
 *     job_*.c       one job: its input, its files, its end
 *     serving.c     models that answer at once, through a micro-batcher
 *     results.c     answers by key, in memory
 *     delivery.c    webhooks and sinks
 *     access.c      keys, tenants, quotas
 *     metrics.c     /metrics
 *     openai_*.c, anthropic.c, kserve.c, tfserving.c, torchserve.c, queues.c, admin.c   routes
 *
 * A dialect has a table of routes (routes.h) and is added to routes.c; everything else about a request
 * is the same for all: who it is, what it may, ids, logs, metrics. */
#ifndef TIDEMILL_SERVER_APP_H
#define TIDEMILL_SERVER_APP_H

#include "cache/cache.h"
#include "net/net.h"
#include "server/config.h"
#include "store/store.h"

#include <pthread.h>
#include <stdatomic.h>

struct scheduler;
struct serving;
struct results;
struct delivery;
struct access;
struct metrics;

struct app {
    const struct io *io;
    /* A reload replaces it; the old one stays until the stop, as what runs may still look at it. Take it
     * once where two looks must agree. */
    struct server_config *_Atomic config;
    struct store *store;
    struct net_server *net;
    const struct net_route *routes; /* all of them */
    size_t n_routes;
    struct scheduler *scheduler;
    struct serving *serving;
    struct results *results;
    struct delivery *delivery;
    struct access *access;
    struct metrics *metrics;
    _Atomic int is_stopping, n_followers;
};

/* Who asks: from the key, or the default tenant where none is needed. Attached to the exchange. */
struct caller {
    char tenant[STORE_NAME_BYTES];
    char key_id[STORE_ID_BYTES]; /* "" without */
    bool is_admin;
    bool has_queues;  /* else all */
    char queues[512]; /* names with commas */
};
const struct caller *app_caller(struct exchange *exchange);

/* How a dialect says that something is wrong. */
enum dialect {
    DIALECT_TIDEMILL, /* {"error":{"message","type","param","code"}}, as OpenAI */
    DIALECT_OPENAI,
    DIALECT_ANTHROPIC, /* {"type":"error","error":{"type","message"},"request_id"} */
    DIALECT_KSERVE,    /* {"error":"..."}; TF Serving, too */
    DIALECT_TFSERVING,
    DIALECT_TORCHSERVE /* {"code","type","message"} */
};

/* What a route is, beside its handler: net_route.data. */
struct route_info {
    enum dialect dialect;
    enum { ROUTE_OPEN, ROUTE_USER, ROUTE_ADMIN } access; /* OPEN: no key is needed */
    const char *summary;                                 /* one line, for the OpenAPI document */
    bool is_quiet; /* has no line in the log for each request, unless it fails */
};

/* Answers with an error in the dialect of its route. `code` may be NULL; `param` likewise. */
void app_refuse(struct exchange *exchange, int status, const char *code, const char *param,
                const char *format, ...) __attribute__((format(printf, 5, 6)));
/* The same from an error of ours: its HTTP status goes by its code (NO_SPACE 507, USAGE and those of
 * records 400, MEMORY 503, ...). Frees it. */
void app_refuse_error(struct exchange *exchange, tidemill_error *error);
int app_error_status(enum error_code code);
/* net_options.refuse. */
void app_refuse_status(struct exchange *exchange, int status, const char *message, void *context);

#endif
