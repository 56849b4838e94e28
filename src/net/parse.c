/* SPDX-License-Identifier: Apache-2.0 */
/* parse.c - what the parser finds becomes an exchange. llhttp is strict here, and we are stricter where
 * it is not: one Host, one Transfer-Encoding that says "chunked", no chunk extensions, a target that is
 * a path. Every limit of the head is checked before the byte that breaks it is kept. */
#include "net/impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

void exchange_fault(struct exchange *exchange, int status, const char *format, ...)
{
    if (exchange->fault != 0) return;
    exchange->fault = status;
    va_list values;
    va_start(values, format);
    vsnprintf(exchange->fault_text, sizeof exchange->fault_text, format, values);
    va_end(values);
}

static struct exchange *exchange_of(llhttp_t *parser)
{
    return ((struct conn *)parser->data)->exchange;
}

/* Stops the parser for good. */
static int stop(struct exchange *exchange)
{
    exchange->is_stopped = true;
    exchange->is_keep_alive = false;
    return HPE_USER;
}

static int keep(struct exchange *exchange, const char *at, size_t size)
{
    const struct net_limits *limits = &exchange->server->options.limits;
    struct buffer *text = &exchange->text;
    /* ": " and the line's end are not kept, but count. */
    if (size > limits->header_bytes ||
        text->size + 2 * exchange->n_headers > limits->header_bytes - size) {
        if (exchange->n_headers == 0)
            exchange_fault(exchange, 414, "the request's target is longer than %zu bytes",
                           limits->header_bytes);
        else
            exchange_fault(exchange, 431, "the request's head is larger than %zu bytes",
                           limits->header_bytes);
        return stop(exchange);
    }
    buffer_append(text, at, size);
    if (!text->is_failed) return 0;
    exchange_fault(exchange, 503, "out of memory");
    return stop(exchange);
}

static int refuse_malformed(struct exchange *exchange, const char *why)
{
    exchange_fault(exchange, 400, "%s", why);
    return stop(exchange);
}

/* How far into its request a byte stands. */
static uint64_t place_of(const llhttp_t *parser, const char *at)
{
    const struct conn *conn = parser->data;
    return conn->fed_bytes + (uint64_t)(at - conn->loop->view.data);
}

/* llhttp skips spaces in the request line; we take one. */
static int on_method(llhttp_t *parser, const char *at, size_t size)
{
    exchange_of(parser)->line_place = place_of(parser, at) + size + 1;
    return 0;
}

static int on_url(llhttp_t *parser, const char *at, size_t size)
{
    struct exchange *exchange = exchange_of(parser);
    if (exchange->text.size == 0 && place_of(parser, at) != exchange->line_place)
        return refuse_malformed(exchange, "the request line has more than one space in a row");
    exchange->line_place = place_of(parser, at) + size + strlen(" HTTP/");
    return keep(exchange, at, size);
}

static int on_version(llhttp_t *parser, const char *at, size_t size)
{
    struct exchange *exchange = exchange_of(parser);
    (void)size;
    if (exchange->has_version || place_of(parser, at) == exchange->line_place) {
        exchange->has_version = true;
        return 0;
    }
    return refuse_malformed(exchange, "the request line has more than one space in a row");
}

static int on_url_complete(llhttp_t *parser)
{
    struct exchange *exchange = exchange_of(parser);
    exchange->target_size = (uint32_t)exchange->text.size;
    return keep(exchange, "", 1);
}

/* Parsed, counted, forgotten. */
static int see_trailer(struct exchange *exchange, size_t size)
{
    const struct net_limits *limits = &exchange->server->options.limits;
    exchange->trailer_bytes += size + 2;
    if (exchange->trailer_bytes <= limits->header_bytes) return 0;
    exchange_fault(exchange, 431, "the request's trailers are larger than %zu bytes",
                   limits->header_bytes);
    return stop(exchange);
}

static int on_header_field(llhttp_t *parser, const char *at, size_t size)
{
    struct exchange *exchange = exchange_of(parser);
    const struct net_limits *limits = &exchange->server->options.limits;
    if (exchange->is_head_done) return see_trailer(exchange, size);
    if (!exchange->is_head_begun) {
        if (exchange->n_headers == limits->headers) {
            exchange_fault(exchange, 431, "the request has more than %zu headers", limits->headers);
            return stop(exchange);
        }
        struct header *header = &exchange->headers[exchange->n_headers++];
        *header = (struct header){.name = (uint32_t)exchange->text.size};
        exchange->is_head_begun = true;
    }
    return keep(exchange, at, size);
}

static int on_header_field_complete(llhttp_t *parser)
{
    struct exchange *exchange = exchange_of(parser);
    if (exchange->is_head_done) return 0;
    struct header *header = &exchange->headers[exchange->n_headers - 1];
    header->name_size = (uint32_t)exchange->text.size - header->name;
    int result = keep(exchange, "", 1);
    header->value = (uint32_t)exchange->text.size;
    return result;
}

static int on_header_value(llhttp_t *parser, const char *at, size_t size)
{
    struct exchange *exchange = exchange_of(parser);
    if (exchange->is_head_done) return see_trailer(exchange, size);
    return keep(exchange, at, size);
}

static bool is_host(const char *host, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)host[i];
        bool is_fine = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       (c != '\0' && strchr(".-_:[]~!$&'()*+;=%", c) != NULL);
        if (!is_fine) return false;
    }
    return true;
}

static int see_host(struct exchange *exchange, const char *value, size_t size)
{
    if (exchange->has_host) return refuse_malformed(exchange, "the request has two Host headers");
    exchange->has_host = true;
    return is_host(value, size) ? 0 : refuse_malformed(exchange, "the Host header is malformed");
}

static int see_length(struct exchange *exchange, const char *value, size_t size)
{
    bool is_number = size > 0 && size <= 18 && exchange->content_length < 0;
    for (size_t i = 0; is_number && i < size; i++) is_number = value[i] >= '0' && value[i] <= '9';
    if (!is_number) return refuse_malformed(exchange, "the Content-Length header is malformed");
    exchange->content_length = 0;
    for (size_t i = 0; i < size; i++)
        exchange->content_length = exchange->content_length * 10 + (value[i] - '0');
    return 0;
}

static int see_encoding(struct exchange *exchange, const char *value, size_t size)
{
    if (exchange->is_old || exchange->has_chunks || size != 7 || strcasecmp(value, "chunked") != 0)
        return refuse_malformed(exchange, "the only Transfer-Encoding taken is \"chunked\", once");
    exchange->has_chunks = true;
    return 0;
}

static int see_expect(struct exchange *exchange, const char *value)
{
    if (strcasecmp(value, "100-continue") == 0) {
        exchange->wants_continue = !exchange->is_old;
        return 0;
    }
    exchange_fault(exchange, 417, "the only Expect that is met is 100-continue");
    return stop(exchange); /* at once, however the head was cut into pieces */
}

/* The headers that say where a request ends, and who is meant. */
static int see_header(struct exchange *exchange, const struct header *header)
{
    const char *name = exchange->text.data + header->name;
    const char *value = exchange->text.data + header->value;
    switch (header->name_size) {
    case 4:
        if (strcasecmp(name, "host") == 0) return see_host(exchange, value, header->value_size);
        return 0;
    case 6: return strcasecmp(name, "expect") == 0 ? see_expect(exchange, value) : 0;
    case 14:
        if (strcasecmp(name, "content-length") != 0) return 0;
        return see_length(exchange, value, header->value_size);
    case 17:
        if (strcasecmp(name, "transfer-encoding") != 0) return 0;
        return see_encoding(exchange, value, header->value_size);
    default: return 0;
    }
}

static int on_header_value_complete(llhttp_t *parser)
{
    struct exchange *exchange = exchange_of(parser);
    if (exchange->is_head_done) return 0;
    struct buffer *text = &exchange->text;
    struct header *header = &exchange->headers[exchange->n_headers - 1];
    while (text->size > header->value &&
           (text->data[text->size - 1] == ' ' || text->data[text->size - 1] == '\t'))
        text->size--;
    header->value_size = (uint32_t)text->size - header->value;
    exchange->is_head_begun = false;
    int result = keep(exchange, "", 1);
    return result != 0 ? result : see_header(exchange, header);
}

static int see_version(struct exchange *exchange, const llhttp_t *parser)
{
    if (parser->http_major != 1 || parser->http_minor > 1)
        return refuse_malformed(exchange, "the request is not HTTP/1.0 or HTTP/1.1");
    exchange->is_old = parser->http_minor == 0;
    return 0;
}

static int on_version_complete(llhttp_t *parser)
{
    return see_version(exchange_of(parser), parser);
}

static bool method_of(const llhttp_t *parser, enum net_method *ret)
{
    static const struct {
        llhttp_method_t theirs;
        enum net_method ours;
    } methods[] = {{HTTP_GET, NET_GET},        {HTTP_HEAD, NET_HEAD},   {HTTP_POST, NET_POST},
                   {HTTP_PUT, NET_PUT},        {HTTP_PATCH, NET_PATCH}, {HTTP_DELETE, NET_DELETE},
                   {HTTP_OPTIONS, NET_OPTIONS}};
    for (size_t i = 0; i < COUNT_OF(methods); i++) {
        if (parser->method != methods[i].theirs) continue;
        *ret = methods[i].ours;
        return true;
    }
    return false;
}

static int on_headers_complete(llhttp_t *parser)
{
    struct exchange *exchange = exchange_of(parser);
    parser->upgrade = 0;                                     /* an offer that we may decline */
    if (see_version(exchange, parser) != 0) return HPE_USER; /* without one it is HTTP/0.9 */
    exchange->has_body = exchange->has_chunks || exchange->content_length > 0;
    exchange->is_keep_alive = llhttp_should_keep_alive(parser) != 0;
    if (!exchange->has_host && !exchange->is_old)
        return refuse_malformed(exchange, "the request has no Host header");
    if (exchange->has_chunks && exchange->content_length >= 0)
        return refuse_malformed(exchange, "Content-Length and Transfer-Encoding together");
    if (!method_of(parser, &exchange->method)) {
        exchange_fault(exchange, 501, "the method %s is not known here",
                       llhttp_method_name((llhttp_method_t)parser->method));
        return stop(exchange);
    }
    exchange_head_done(exchange);
    bool is_over = exchange->fault != 0 || exchange->is_answered;
    return is_over && exchange->has_body ? stop(exchange) : 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t size)
{
    struct exchange *exchange = exchange_of(parser);
    const struct net_route *route = exchange->route;
    exchange->conn->window_bytes += size;
    exchange->body_bytes += size;
    if (route->body == NET_BODY_STREAM) {
        stream_put(exchange->stream, at, size);
        return 0;
    }
    size_t limit = route->body == NET_BODY_NONE ? NET_DISCARD_BYTES
                   : route->body_max > 0        ? route->body_max
                                                : exchange->server->options.limits.body_bytes;
    if (exchange->body_bytes > limit) {
        exchange_fault(exchange, 413, "the body is larger than the %zu bytes that are taken here",
                       limit);
        return stop(exchange);
    }
    if (route->body == NET_BODY_NONE) return 0;
    buffer_append(&exchange->body, at, size);
    if (!exchange->body.is_failed) return 0;
    exchange_fault(exchange, 503, "out of memory");
    return stop(exchange);
}

/* Nobody needs them, and parsers disagree where they end. */
static int on_chunk_extension(llhttp_t *parser, const char *at, size_t size)
{
    (void)at, (void)size;
    return refuse_malformed(exchange_of(parser), "chunk extensions are not taken");
}

static int on_chunk_header(llhttp_t *parser)
{
    exchange_of(parser)->n_chunks++;
    return 0;
}

static int on_message_complete(llhttp_t *parser)
{
    struct exchange *exchange = exchange_of(parser);
    exchange->is_complete = true;
    if (exchange->route != NULL && exchange->route->body == NET_BODY_STREAM &&
        exchange->stream != NULL)
        stream_finish(exchange->stream, NULL);
    return HPE_PAUSED; /* what follows is another request's */
}

const llhttp_settings_t parse_settings = {
    .on_method = on_method,
    .on_url = on_url,
    .on_version = on_version,
    .on_url_complete = on_url_complete,
    .on_version_complete = on_version_complete,
    .on_header_field = on_header_field,
    .on_header_field_complete = on_header_field_complete,
    .on_header_value = on_header_value,
    .on_header_value_complete = on_header_value_complete,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_chunk_extension_name = on_chunk_extension,
    .on_chunk_header = on_chunk_header,
    .on_message_complete = on_message_complete,
};
