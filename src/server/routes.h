/* SPDX-License-Identifier: Apache-2.0 */
/* routes.h - the tables of routes, one a dialect; routes.c puts them together, and the OpenAPI
 * document (openapi.c) is made from the same. */
#ifndef TIDEMILL_SERVER_ROUTES_H
#define TIDEMILL_SERVER_ROUTES_H

#include "server/app.h"

/* Each ends with a row without a pattern. Handlers get the app as context. */
extern const struct net_route openai_file_routes[];  /* /v1/files */
extern const struct net_route openai_batch_routes[]; /* /v1/batches */
extern const struct net_route openai_model_routes[]; /* /v1/models, /v1/chat/completions, ... */
extern const struct net_route anthropic_routes[];    /* /v1/messages/batches */
extern const struct net_route kserve_routes[];       /* /v2 */
extern const struct net_route tfserving_routes[];    /* /v1/models/{model}:predict */
extern const struct net_route torchserve_routes[];   /* /predictions, /ping */
extern const struct net_route queue_routes[];        /* /v1/queues, /v1/requests */
extern const struct net_typed_route queue_typed_routes[]; /* its bodies of lines */
extern const size_t n_queue_typed_routes;
extern const struct net_route result_routes[]; /* /v1/results */
extern const struct net_route
    admin_routes[]; /* /healthz, /readyz, /metrics, /openapi.json, /v1/admin */

/* All of them in one table; *ret is malloc'ed. */
tidemill_error *routes_join(const struct net_route **ret, size_t *ret_n);

/* `Prefer: respond-async` (prefer.c): whether a request asks to wait for its queue's window, and until
 * when. A dialect's handler calls it first; true: it has been answered (202, or an error), the record
 * `lines` (n of them) waits in the queue whose model this is. `reply_kind` goes into /v1/requests/{id}
 * so that its answer comes in the dialect's own shape. */
/* Whether it asks for that: then its lines are worth making. */
bool prefer_wants_async(struct exchange *exchange);
bool prefer_async(struct app *app, struct exchange *exchange, const char *model,
                  enum dialect dialect, struct slice lines, uint64_t n);

#endif
