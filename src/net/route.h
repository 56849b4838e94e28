/* SPDX-License-Identifier: Apache-2.0 */
/* route.h - a table of routes, compiled once into a tree of segments. Looking one up allocates nothing. */
#ifndef TIDEMILL_NET_ROUTE_H
#define TIDEMILL_NET_ROUTE_H

#include "net/net.h"

struct route_table;

struct route_match {
    const struct net_route *route; /* NULL: no route for this method */
    unsigned methods;              /* that the path has, a bit each; 0: no such path */
    struct slice captures[NET_CAPTURES_MAX];
    size_t n_captures;
};

/* ERROR_USAGE: a pattern is malformed, or two routes are the same. */
tidemill_error *route_table_new(const struct net_route *routes, size_t n, struct route_table **ret);
void route_table_free(struct route_table *table); /* NULL is fine */
/* Literal segments before captures with something behind them, and those before whole segments. */
void route_table_find(const struct route_table *table, enum net_method method, struct slice path,
                      struct route_match *ret);
unsigned route_table_methods(const struct route_table *table); /* all there are, for OPTIONS * */

#endif
