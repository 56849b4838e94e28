/* SPDX-License-Identifier: Apache-2.0 */
/* access.h - who asks, and what they may: API keys, tenants, rates, monthly budgets.
 *
 * A key is "tdm_" and 43 characters (256 bits); only its SHA-256 is kept. Without any key in the store
 * everybody on loopback or a unix socket is tenant "default" and an administrator; the server does not
 * listen anywhere else then, unless told to. */
#ifndef TIDEMILL_SERVER_ACCESS_H
#define TIDEMILL_SERVER_ACCESS_H

#include "server/app.h"

tidemill_error *access_open(struct app *app, struct access **ret);
void access_close(struct access *access); /* NULL is fine */
/* net_options.before: finds the caller (Authorization: Bearer, x-api-key) and attaches it, or answers
 * 401, 403, 429 in the route's dialect. */
bool access_admit(struct exchange *exchange, const struct net_route *route, void *app);
/* A key given otherwise (Redis' AUTH); false: no such key. */
bool access_find(struct access *access, struct slice key, struct caller *ret);
bool access_has_keys(struct access *access);
bool access_may_queue(const struct caller *caller, const char *queue);

#endif
