/* SPDX-License-Identifier: Apache-2.0 */
/* exchange.c - the life of an exchange: taken from the loop's free list, given to its handler, returned.
 * Its buffers are kept while they are small. */
#include "net/impl.h"

#include <stdlib.h>
#include <unistd.h>

#define KEEP_BYTES ((size_t)16 << 10)

static struct exchange *make(struct loop *loop)
{
    struct exchange *exchange = calloc(1, sizeof *exchange);
    if (exchange == NULL) return NULL;
    exchange->headers = calloc(loop->server->options.limits.headers, sizeof *exchange->headers);
    if (exchange->headers == NULL) {
        free(exchange);
        return NULL;
    }
    exchange->loop = loop;
    exchange->server = loop->server;
    return exchange;
}

/* splitmix64: every state is a good one. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void make_id(struct loop *loop, char id[NET_ID_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    uint64_t high = next_random(&loop->random), low = next_random(&loop->random);
    memcpy(id, "req_", 4);
    for (size_t i = 0; i < 16; i++) id[4 + i] = digits[high >> (4 * i) & 15];
    for (size_t i = 0; i < 8; i++) id[20 + i] = digits[low >> (4 * i) & 15];
    id[28] = '\0';
}

static void reset(struct exchange *exchange)
{
    exchange->next = exchange->mail_next = NULL;
    atomic_store_explicit(&exchange->mail, 0, memory_order_relaxed);
    atomic_store_explicit(&exchange->is_gone, false, memory_order_relaxed);
    exchange->route = NULL;
    exchange->method = NET_GET;
    exchange->target_size = exchange->path_size = exchange->query = 0;
    exchange->n_headers = exchange->n_captures = exchange->n_query = 0;
    exchange->body_read = exchange->date = exchange->big_sent = 0;
    exchange->content_length = -1;
    exchange->started_ns = 0;
    exchange->user = NULL;
    exchange->has_body = exchange->has_chunks = exchange->wants_continue = exchange->is_old = false;
    exchange->is_keep_alive = false;
    exchange->has_version = exchange->has_host = exchange->is_head_begun = exchange->is_head_done =
        false;
    exchange->is_complete = exchange->is_dispatched = exchange->is_answered = false;
    exchange->is_seen = exchange->is_corked = exchange->is_stopped = false;
    exchange->is_begun = false;
    exchange->fault = 0;
    exchange->line_place = 0;
    exchange->body_bytes = exchange->trailer_bytes = exchange->n_chunks = 0;
    exchange->status = 0;
    exchange->is_closing = exchange->has_no_body = false;
    exchange->is_chunked = exchange->is_whole = false;
    exchange->file = -1;
    exchange->file_offset = exchange->file_left = exchange->bytes_out = 0;
}

struct exchange *exchange_take(struct loop *loop)
{
    struct exchange *exchange = loop->free_exchanges;
    if (exchange != NULL) {
        loop->free_exchanges = exchange->next;
        loop->n_free_exchanges--;
    } else {
        exchange = make(loop);
        if (exchange == NULL) return NULL;
    }
    reset(exchange);
    make_id(loop, exchange->id);
    atomic_fetch_add_explicit(&loop->server->n_exchanges, 1, memory_order_relaxed);
    return exchange;
}

static void clear(struct exchange *exchange)
{
    buffer_reset(&exchange->text, KEEP_BYTES);
    buffer_reset(&exchange->body, 0);
    buffer_reset(&exchange->extra, KEEP_BYTES);
    buffer_reset(&exchange->out, 2 * KEEP_BYTES);
    buffer_free(&exchange->big);
    if (exchange->file >= 0) close(exchange->file);
    if (exchange->stream != NULL) stream_reset(exchange->stream);
    while (exchange->joined != NULL) {
        struct joined *next = exchange->joined->next;
        free(exchange->joined);
        exchange->joined = next;
    }
}

static void destroy(struct exchange *exchange)
{
    buffer_free(&exchange->text);
    buffer_free(&exchange->body);
    buffer_free(&exchange->extra);
    buffer_free(&exchange->out);
    stream_free(exchange->stream);
    free(exchange->headers);
    free(exchange);
}

void exchange_free_list(struct exchange *list)
{
    while (list != NULL) {
        struct exchange *next = list->next;
        destroy(list);
        list = next;
    }
}

void exchange_recycle(struct exchange *exchange)
{
    struct loop *loop = exchange->loop;
    const struct net_options *options = &loop->server->options;
    if (exchange->is_seen && options->after != NULL) options->after(exchange, options->context);
    clear(exchange);
    atomic_fetch_sub_explicit(&loop->server->n_exchanges, 1, memory_order_release);
    if (loop->n_free_exchanges == NET_FREE_EXCHANGES) {
        destroy(exchange);
        return;
    }
    exchange->next = loop->free_exchanges;
    loop->free_exchanges = exchange;
    loop->n_free_exchanges++;
}

void exchange_dispatch(struct exchange *exchange)
{
    const struct net_route *route = exchange->route;
    exchange->is_dispatched = true;
    if (route->is_blocking) {
        pool_push(exchange->server->pool, exchange);
        return;
    }
    exchange->loop->current = exchange;
    route->handle(exchange, exchange->server->options.context);
    exchange->loop->current = NULL;
}

void exchange_refuse_here(struct exchange *exchange, int status, const char *message)
{
    struct exchange *outer = exchange->loop->current;
    exchange->loop->current = exchange;
    exchange->is_seen = true;
    counter_add(&exchange->loop->counters.refused, 1);
    answer_refuse(exchange, status, message);
    exchange->loop->current = outer;
}
