/* SPDX-License-Identifier: Apache-2.0 */
/* request.c - what a handler may ask about its exchange. */
#include "net/impl.h"

#include <stdlib.h>
#include <strings.h>

const char *net_method_name(enum net_method method)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
    return names[method];
}

enum net_method exchange_method(const struct exchange *exchange)
{
    return exchange->method;
}

const struct net_route *exchange_route(const struct exchange *exchange)
{
    return exchange->route;
}

struct slice exchange_path(const struct exchange *exchange)
{
    return (struct slice){exchange->path_size == 0 ? "" : exchange->text.data, exchange->path_size};
}

const char *exchange_capture(const struct exchange *exchange, size_t i)
{
    return i < exchange->n_captures ? exchange->text.data + exchange->captures[i] : "";
}

const char *exchange_query(const struct exchange *exchange, const char *name)
{
    const char *p = exchange->text.data + exchange->query;
    for (size_t i = 0; i < exchange->n_query; i++) {
        const char *value = p + strlen(p) + 1;
        if (strcmp(p, name) == 0) return value;
        p = value + strlen(value) + 1;
    }
    return NULL;
}

static bool is_named(const struct exchange *exchange, size_t i, const char *name, size_t size)
{
    const struct header *header = &exchange->headers[i];
    return header->name_size == size &&
           strncasecmp(exchange->text.data + header->name, name, size) == 0;
}

/* Kept with the exchange, so that what was returned stays. */
static const char *join(struct exchange *exchange, size_t first, const char *name, size_t name_size)
{
    size_t size = 1;
    for (struct joined *j = exchange->joined; j != NULL; j = j->next)
        if (j->header == first) return j->text;
    for (size_t i = first; i < exchange->n_headers; i++)
        if (is_named(exchange, i, name, name_size)) size += exchange->headers[i].value_size + 2;
    struct joined *joined = malloc(sizeof *joined + size);
    if (joined == NULL) return exchange->text.data + exchange->headers[first].value;
    char *p = joined->text;
    for (size_t i = first; i < exchange->n_headers; i++) {
        const struct header *header = &exchange->headers[i];
        if (!is_named(exchange, i, name, name_size)) continue;
        if (i > first) {
            memcpy(p, ", ", 2);
            p += 2;
        }
        memcpy(p, exchange->text.data + header->value, header->value_size);
        p += header->value_size;
    }
    *p = '\0';
    joined->header = first;
    joined->next = exchange->joined;
    exchange->joined = joined;
    return joined->text;
}

const char *exchange_header(const struct exchange *exchange, const char *name)
{
    size_t size = strlen(name), first = SIZE_MAX;
    for (size_t i = 0; i < exchange->n_headers; i++) {
        if (!is_named(exchange, i, name, size)) continue;
        if (first != SIZE_MAX) return join((struct exchange *)exchange, first, name, size);
        first = i;
    }
    return first == SIZE_MAX ? NULL : exchange->text.data + exchange->headers[first].value;
}

struct slice exchange_body(const struct exchange *exchange)
{
    return (struct slice){exchange->body.size == 0 ? "" : exchange->body.data, exchange->body.size};
}

int64_t exchange_body_length(const struct exchange *exchange)
{
    if (exchange->has_chunks) return -1;
    return exchange->content_length < 0 ? 0 : exchange->content_length;
}

const char *exchange_peer(const struct exchange *exchange)
{
    return exchange->conn->peer;
}

bool exchange_is_gone(const struct exchange *exchange)
{
    return atomic_load_explicit(&exchange->is_gone, memory_order_relaxed);
}

double exchange_age_s(const struct exchange *exchange)
{
    if (exchange->started_ns == 0) return 0; /* refused before its head was whole */
    return (double)(clock_now_ns() - exchange->started_ns) * 1e-9;
}

const char *exchange_id(const struct exchange *exchange)
{
    return exchange->id;
}

void exchange_set_user(struct exchange *exchange, void *user)
{
    exchange->user = user;
}

void *exchange_user(const struct exchange *exchange)
{
    return exchange->user;
}

int exchange_status(const struct exchange *exchange)
{
    return exchange->status;
}

uint64_t exchange_bytes_out(const struct exchange *exchange)
{
    return exchange->bytes_out;
}
