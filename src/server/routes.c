/* SPDX-License-Identifier: Apache-2.0 */
/* routes.c - the dialects' tables as one. */
#include "server/routes.h"

#include <stdlib.h>

static const struct net_route *const tables[] = {
    result_routes,    queue_routes,  openai_file_routes, openai_batch_routes, openai_model_routes,
    anthropic_routes, kserve_routes, tfserving_routes,   torchserve_routes,   admin_routes,
};

tidemill_error *routes_join(const struct net_route **ret, size_t *ret_n)
{
    size_t n = 0, k = 0;
    for (size_t t = 0; t < COUNT_OF(tables); t++)
        for (const struct net_route *route = tables[t]; route->pattern != NULL; route++) n++;
    struct net_route *all = calloc(n, sizeof *all);
    if (all == NULL) return error_memory();
    for (size_t t = 0; t < COUNT_OF(tables); t++)
        for (const struct net_route *route = tables[t]; route->pattern != NULL; route++)
            all[k++] = *route;
    *ret = all;
    *ret_n = n;
    return NULL;
}
