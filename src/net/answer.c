/* SPDX-License-Identifier: Apache-2.0 */
/* answer.c - an answer is put together by whoever gives it, on any thread, in the exchange's own buffers;
 * then the loop has it. The date is the loop's to fill in: it formats one a second. */
#include "net/impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {402, "Payment Required"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {425, "Too Early"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {507, "Insufficient Storage"},
        {529, "Overloaded"},
    };
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (texts[i].status == status) return texts[i].text;
    return "Status";
}

/* A line ends where we end it: control characters become spaces. */
static void append_clean(struct buffer *out, const char *text, size_t size)
{
    size_t start = out->size;
    buffer_append(out, text, size);
    if (out->is_failed) return;
    for (size_t i = start; i < out->size; i++) {
        unsigned char c = (unsigned char)out->data[i];
        if (c < ' ' || c == 0x7f) out->data[i] = ' ';
    }
}

void exchange_set_header(struct exchange *exchange, const char *name, const char *format, ...)
{
    struct buffer *extra = &exchange->extra;
    char value[512];
    va_list values;
    va_start(values, format);
    int size = vsnprintf(value, sizeof value, format, values);
    va_end(values);
    buffer_text(extra, name);
    buffer_append(extra, ": ", 2);
    if (size >= 0 && (size_t)size < sizeof value) {
        append_clean(extra, value, (size_t)size);
    } else if (size > 0) { /* a long one */
        char *text = malloc((size_t)size + 1);
        va_start(values, format);
        if (text == NULL || vsnprintf(text, (size_t)size + 1, format, values) != size)
            extra->is_failed = true;
        else
            append_clean(extra, text, (size_t)size);
        va_end(values);
        free(text);
    }
    buffer_append(extra, "\r\n", 2);
}

static void append_number(struct buffer *out, uint64_t number)
{
    char digits[20], *p = digits + sizeof digits;
    do {
        *--p = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    buffer_append(out, p, (size_t)(digits + sizeof digits - p));
}

#define LITERAL(buffer, text) buffer_append(buffer, text, sizeof(text) - 1)

static void status_line(struct buffer *out, int status)
{
    if (status == 200) {
        LITERAL(out, "HTTP/1.1 200 OK\r\nDate: ");
        return;
    }
    LITERAL(out, "HTTP/1.1 ");
    append_number(out, (uint64_t)status);
    buffer_byte(out, ' ');
    buffer_text(out, status_text(status));
    LITERAL(out, "\r\nDate: ");
}

/* All of the request has come: the connection can go on. */
static bool is_body_taken(struct exchange *exchange)
{
    if (!exchange->has_body) return true;
    if (exchange->is_stopped) return false;
    if (exchange->is_dispatched && exchange->route->body == NET_BODY_STREAM)
        return stream_is_finished(exchange->stream);
    return exchange->is_complete;
}

/* Size < 0: it is not known, so in chunks; or, for HTTP/1.0, up to the end. */
void answer_head(struct exchange *exchange, const char *type, int64_t size)
{
    struct buffer *out = &exchange->out;
    int status = exchange->status;
    out->size = 0;
    exchange->has_no_body = exchange->method == NET_HEAD || status == 204 || status == 304;
    exchange->is_closing = !exchange->is_keep_alive || !is_body_taken(exchange) ||
                           atomic_load(&exchange->server->stage) != STAGE_RUN;
    if (size < 0) {
        exchange->is_chunked = !exchange->is_old;
        if (exchange->is_old) exchange->is_closing = true;
    }
    status_line(out, status);
    exchange->date = out->size;
    LITERAL(out, "                             \r\n");
    if (type != NULL) {
        LITERAL(out, "Content-Type: ");
        buffer_text(out, type);
        LITERAL(out, "\r\n");
    }
    if (status != 204 && status != 304 && size >= 0) {
        LITERAL(out, "Content-Length: ");
        append_number(out, (uint64_t)size);
        LITERAL(out, "\r\n");
    } else if (exchange->is_chunked && status != 204 && status != 304) {
        LITERAL(out, "Transfer-Encoding: chunked\r\n");
    }
    buffer_append(out, exchange->extra.data, exchange->extra.size);
    if (exchange->is_closing)
        LITERAL(out, "Connection: close\r\n");
    else if (exchange->is_old)
        LITERAL(out, "Connection: keep-alive\r\n");
    LITERAL(out, "X-Request-Id: ");
    buffer_append(out, exchange->id, NET_ID_BYTES - 1);
    LITERAL(out, "\r\n\r\n");
}

void answer_done(struct exchange *exchange)
{
    if (loop_is_here(exchange->loop) && exchange->loop->current == exchange)
        exchange->is_answered = true;
    else
        mail_post(exchange, MAIL_ANSWERED);
}

/* Without memory for an answer there is none: the client sees the connection close. */
static void answer_failed(struct exchange *exchange)
{
    exchange->status = 0;
    exchange->is_closing = true;
    buffer_free(&exchange->out);
    buffer_free(&exchange->big);
}

static void check_memory(struct exchange *exchange)
{
    if (exchange->out.is_failed || exchange->extra.is_failed || exchange->big.is_failed)
        answer_failed(exchange);
}

void exchange_answer(struct exchange *exchange, int status, const char *type, const void *body,
                     size_t size)
{
    exchange->status = status;
    if (type == NULL) size = 0;
    answer_head(exchange, type, (int64_t)size);
    struct buffer *into = size <= NET_SMALL_BYTES ? &exchange->out : &exchange->big;
    if (!exchange->has_no_body) buffer_append(into, body, size);
    check_memory(exchange);
    answer_done(exchange);
}

void exchange_answer_buffer(struct exchange *exchange, int status, const char *type,
                            struct buffer *body)
{
    struct buffer taken = *body;
    *body = (struct buffer){0};
    if (taken.is_failed) {
        buffer_free(&taken);
        exchange_refuse(exchange, 500, "out of memory");
        return;
    }
    if (taken.size <= NET_SMALL_BYTES) {
        exchange_answer(exchange, status, type, taken.data, taken.size);
        buffer_free(&taken);
        return;
    }
    exchange->status = status;
    answer_head(exchange, type, (int64_t)taken.size);
    if (exchange->has_no_body)
        buffer_free(&taken);
    else
        exchange->big = taken;
    check_memory(exchange);
    answer_done(exchange);
}

void exchange_answer_file(struct exchange *exchange, int status, const char *type, int fd,
                          uint64_t offset, uint64_t size)
{
    exchange->status = status;
    answer_head(exchange, type, (int64_t)size);
    exchange->file = fd;
    exchange->file_offset = offset;
    exchange->file_left = exchange->has_no_body ? 0 : size;
    check_memory(exchange);
    answer_done(exchange);
}

static void append_json(struct buffer *out, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '"' || c == '\\') buffer_byte(out, '\\');
        buffer_byte(out, c < ' ' || c >= 0x7f ? '?' : (char)c);
    }
}

void answer_refuse(struct exchange *exchange, int status, const char *message)
{
    const struct net_options *options = &exchange->server->options;
    if (options->refuse != NULL) {
        options->refuse(exchange, status, message, options->context);
        return;
    }
    struct buffer body = {0};
    LITERAL(&body, "{\"error\":{\"message\":\"");
    append_json(&body, message);
    LITERAL(&body, "\"}}\n");
    exchange_answer(exchange, status, "application/json", body.data, body.size);
    buffer_free(&body);
}

void exchange_refuse(struct exchange *exchange, int status, const char *format, ...)
{
    char message[1024];
    va_list values;
    va_start(values, format);
    vsnprintf(message, sizeof message, format, values);
    va_end(values);
    answer_refuse(exchange, status, message);
}
