/* SPDX-License-Identifier: Apache-2.0 */
/* head.c - the head of a request is there: which route, may they, how much will come. Decides all that
 * can be decided before any of the body is taken. */
#include "net/impl.h"

#include <stdio.h>
#include <strings.h>

static void set_allow(struct exchange *exchange, unsigned methods)
{
    char text[64];
    size_t size = 0;
    for (unsigned m = 0; m <= NET_OPTIONS; m++) {
        if ((methods >> m & 1) == 0) continue;
        size += (size_t)snprintf(text + size, sizeof text - size, "%s%s", size == 0 ? "" : ", ",
                                 net_method_name((enum net_method)m));
    }
    exchange_set_header(exchange, "Allow", "%s", text);
}

static void answer_options(struct exchange *exchange, unsigned methods)
{
    set_allow(exchange, methods);
    struct exchange *outer = exchange->loop->current;
    exchange->loop->current = exchange;
    exchange->is_seen = true;
    exchange_answer(exchange, 204, NULL, NULL, 0);
    exchange->loop->current = outer;
}

/* Room for all that is decoded later, so that nothing moves; the captures now. */
static bool keep_captures(struct exchange *exchange, const struct route_match *match)
{
    struct buffer *text = &exchange->text;
    size_t query = exchange->target_size - exchange->path_size;
    ptrdiff_t starts[NET_CAPTURES_MAX];
    for (size_t i = 0; i < match->n_captures; i++) starts[i] = match->captures[i].data - text->data;
    if (buffer_reserve(text, exchange->path_size + 2 * query + NET_CAPTURES_MAX + 4) == NULL) {
        exchange_fault(exchange, 503, "out of memory");
        return false;
    }
    for (size_t i = 0; i < match->n_captures; i++) {
        exchange->captures[i] = (uint32_t)text->size;
        ptrdiff_t n = percent_decode(text->data + starts[i], match->captures[i].size, false,
                                     text->data + text->size);
        if (n < 0) {
            exchange_fault(exchange, 400, "the path has a malformed percent-encoding");
            return false;
        }
        text->size += (size_t)n + 1;
    }
    exchange->n_captures = match->n_captures;
    if (exchange->path_size < exchange->target_size && !exchange_decode_query(exchange)) {
        exchange_fault(exchange, 400, "the query has a malformed percent-encoding");
        return false;
    }
    return true;
}

/* "application/json; charset=utf-8" is of the type application/json. */
static bool is_type(const char *text, const char *type)
{
    size_t size = strlen(type);
    return strncasecmp(text, type, size) == 0 &&
           (text[size] == '\0' || strchr("; \t", text[size]) != NULL);
}

static const struct net_route *route_by_type(const struct exchange *exchange,
                                             const struct net_route *route)
{
    const struct net_options *options = &exchange->server->options;
    if (route == NULL || route->body == NET_BODY_NONE || options->n_typed_routes == 0) return route;
    const char *type = exchange_header(exchange, "content-type");
    if (type == NULL) return route;
    for (size_t i = 0; i < options->n_typed_routes; i++) {
        const struct net_typed_route *typed = &options->typed_routes[i];
        if (typed->route.method == route->method && is_type(type, typed->type) &&
            strcmp(typed->route.pattern, route->pattern) == 0)
            return &typed->route;
    }
    return route;
}

static bool find_route(struct exchange *exchange)
{
    struct route_match match;
    struct slice path = exchange_path(exchange);
    route_table_find(exchange->server->routes, exchange->method, path, &match);
    exchange->route = route_by_type(exchange, match.route);
    if (match.route != NULL) return keep_captures(exchange, &match);
    if (match.methods == 0) {
        exchange_fault(exchange, 404, "there is nothing at %.*s", (int)MIN(path.size, 100),
                       path.data);
    } else if (exchange->method == NET_OPTIONS) {
        answer_options(exchange, match.methods);
    } else {
        set_allow(exchange, match.methods);
        exchange_fault(exchange, 405, "the method %s is not allowed here",
                       net_method_name(exchange->method));
    }
    return false;
}

static bool take_target(struct exchange *exchange)
{
    const char *target = exchange->text.data;
    size_t path_size = 0;
    if (exchange->method == NET_OPTIONS && exchange->target_size == 1 && target[0] == '*') {
        exchange->path_size = 1;
        answer_options(exchange, route_table_methods(exchange->server->routes));
        return false;
    }
    if (!target_check(target, exchange->target_size, &path_size)) {
        exchange_fault(exchange, 400, "the request's target is not a plain path");
        exchange->is_keep_alive = false;
        return false;
    }
    exchange->path_size = (uint32_t)path_size;
    return true;
}

static bool check_length(struct exchange *exchange)
{
    const struct net_route *route = exchange->route;
    if (route->body == NET_BODY_STREAM) return true;
    size_t limit = route->body == NET_BODY_NONE ? NET_DISCARD_BYTES
                   : route->body_max > 0        ? route->body_max
                                                : exchange->server->options.limits.body_bytes;
    if (exchange->content_length <= 0 || (uint64_t)exchange->content_length <= limit) return true;
    exchange_fault(exchange, 413,
                   "the body of %lld bytes is larger than the %zu that are taken here",
                   (long long)exchange->content_length, limit);
    return false;
}

static bool ask_before(struct exchange *exchange)
{
    const struct net_options *options = &exchange->server->options;
    exchange->is_seen = true;
    if (options->before == NULL) return true;
    struct exchange *outer = exchange->loop->current;
    exchange->loop->current = exchange;
    bool may = options->before(exchange, exchange->route, options->context);
    exchange->loop->current = outer;
    return may;
}

static void expect_body(struct exchange *exchange)
{
    bool is_stream = exchange->route->body == NET_BODY_STREAM;
    if (exchange->stream == NULL) exchange->stream = stream_new();
    if (exchange->stream == NULL || (is_stream && !stream_open(exchange->stream)))
        exchange_fault(exchange, 503, "out of memory");
    if (is_stream) return; /* 100 Continue when the handler begins to read */
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (exchange->wants_continue && exchange->has_body)
        conn_cork(exchange->conn, go_on, sizeof go_on - 1);
}

void exchange_head_done(struct exchange *exchange)
{
    exchange->is_head_done = true;
    exchange->started_ns = clock_now_ns();
    counter_add(&exchange->loop->counters.requests, 1);
    if (exchange->fault != 0 || !take_target(exchange) || !find_route(exchange)) return;
    if (!check_length(exchange) || !ask_before(exchange)) return;
    expect_body(exchange);
}
