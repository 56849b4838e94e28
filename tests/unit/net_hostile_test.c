/* SPDX-License-Identifier: Apache-2.0 */
/* net_hostile_test.c - what two parsers could understand differently is refused with 400, the connection is
 * closed, and what stands behind it is never seen as a request. And what is too large is refused by name. */
#include "net_client.h"

#include <stdatomic.h>

static _Atomic int n_seen, n_smuggled;

static void see(struct exchange *exchange, void *context)
{
    (void)context;
    atomic_fetch_add(&n_seen, 1);
    exchange_answer(exchange, 200, "text/plain", "ok", 2);
}

static void smuggled(struct exchange *exchange, void *context)
{
    (void)context;
    atomic_fetch_add(&n_smuggled, 1);
    exchange_answer(exchange, 200, "text/plain", "smuggled", 8);
}

static void drain(struct exchange *exchange, void *context)
{
    char piece[4096];
    size_t n;
    (void)context;
    do {
        tidemill_error *error = exchange_read(exchange, piece, sizeof piece, &n);
        if (error != NULL) {
            bool is_large = strstr(error_message(error), "larger") != NULL;
            exchange_refuse(exchange, is_large ? 431 : 400, "%s", error_message(error));
            error_free(error);
            return;
        }
    } while (n > 0);
    atomic_fetch_add(&n_seen, 1);
    exchange_answer(exchange, 200, "text/plain", "ok", 2);
}

static const struct net_route routes[] = {
    {.method = NET_GET, .pattern = "/a", .handle = see},
    {.method = NET_POST, .pattern = "/a", .handle = see, .body = NET_BODY_WHOLE},
    {.method = NET_POST,
     .pattern = "/s",
     .handle = drain,
     .body = NET_BODY_STREAM,
     .is_blocking = true},
    {.method = NET_POST, .pattern = "/none", .handle = see},
    {.method = NET_GET, .pattern = "/smuggled", .handle = smuggled},
    {.method = NET_POST, .pattern = "/smuggled", .handle = smuggled, .body = NET_BODY_WHOLE},
};

#define BEHIND "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
#define HEAD(line) line " HTTP/1.1\r\nHost: a\r\n"
#define POST HEAD("POST /a")
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"

struct hostile {
    const char *name, *bytes;
    size_t size; /* 0: strlen */
};

static const struct hostile malformed[] = {
    {"length and chunks",
     POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" BEHIND, 0},
    {"chunks and length",
     POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" BEHIND, 0},
    {"chunks and length 0",
     POST "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n" BEHIND, 0},
    {"two lengths", POST "Content-Length: 0\r\nContent-Length: 38\r\n\r\n" BEHIND, 0},
    {"two equal lengths", POST "Content-Length: 0\r\nContent-Length: 0\r\n\r\n" BEHIND, 0},
    {"a list of lengths", POST "Content-Length: 0, 38\r\n\r\n" BEHIND, 0},
    {"a list of equal lengths", POST "Content-Length: 0, 0\r\n\r\n" BEHIND, 0},
    {"length +", POST "Content-Length: +0\r\n\r\n" BEHIND, 0},
    {"length -", POST "Content-Length: -1\r\n\r\n" BEHIND, 0},
    {"length with a space", POST "Content-Length: 0 0\r\n\r\n" BEHIND, 0},
    {"length in hexadecimal", POST "Content-Length: 0x0\r\n\r\n" BEHIND, 0},
    {"length with a point", POST "Content-Length: 0.0\r\n\r\n" BEHIND, 0},
    {"length empty", POST "Content-Length: \r\n\r\n" BEHIND, 0},
    {"length beyond 64 bits", POST "Content-Length: 18446744073709551616\r\n\r\n" BEHIND, 0},
    {"length of 19 digits", POST "Content-Length: 0000000000000000000\r\n\r\n" BEHIND, 0},
    {"length with a vertical tab", POST "Content-Length: \v0\r\n\r\n" BEHIND, 0},
    {"encoding xchunked", POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" BEHIND, 0},
    {"encoding identity", POST "Transfer-Encoding: identity\r\n\r\n" BEHIND, 0},
    {"encoding chunked, identity",
     POST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" BEHIND, 0},
    {"encoding gzip, chunked", POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" BEHIND, 0},
    {"encoding twice",
     POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" BEHIND, 0},
    {"encoding, then another",
     POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" BEHIND, 0},
    {"encoding with a vertical tab", POST "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n" BEHIND,
     0},
    {"encoding in quotes", POST "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n" BEHIND, 0},
    {"encoding with a comma", POST "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n" BEHIND, 0},
    {"encoding empty", POST "Transfer-Encoding:\r\n\r\n" BEHIND, 0},
    {"encoding with a parameter", POST "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n" BEHIND, 0},
    {"encoding and a space before the colon",
     POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" BEHIND, 0},
    {"encoding folded", POST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" BEHIND, 0},
    {"encoding in HTTP/1.0",
     "POST /a HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" BEHIND, 0},
    {"length and a space before the colon", POST "Content-Length : 38\r\n\r\n" BEHIND, 0},
    {"length and a tab before the colon", POST "Content-Length\t: 38\r\n\r\n" BEHIND, 0},
    {"a folded header", POST "X: a\r\n b\r\n\r\n" BEHIND, 0},
    {"a header folded by a tab", POST "X: a\r\n\tb\r\n\r\n" BEHIND, 0},
    {"a first header that begins with a space", "GET /a HTTP/1.1\r\n Host: a\r\n\r\n" BEHIND, 0},
    {"LF behind the request line", "GET /a HTTP/1.1\nHost: a\r\n\r\n" BEHIND, 0},
    {"LF behind a header", HEAD("GET /a") "X: a\nY: b\r\n\r\n" BEHIND, 0},
    {"LF for the empty line", HEAD("GET /a") "X: a\r\n\n" BEHIND, 0},
    {"LF alone everywhere", "GET /a HTTP/1.1\nHost: a\n\n" BEHIND, 0},
    {"CR in a header's value", HEAD("GET /a") "X: a\rY: b\r\n\r\n" BEHIND, 0},
    {"CR behind the request line", "GET /a HTTP/1.1\rHost: a\r\n\r\n" BEHIND, 0},
    {"CR CR LF", HEAD("GET /a") "X: a\r\r\n\r\n" BEHIND, 0},
    {"NUL in a header's value", HEAD("GET /a") "X: a\0b\r\n\r\n" BEHIND,
     sizeof(HEAD("GET /a") "X: a\0b\r\n\r\n" BEHIND) - 1},
    {"NUL in a header's name", HEAD("GET /a") "X\0: a\r\n\r\n" BEHIND,
     sizeof(HEAD("GET /a") "X\0: a\r\n\r\n" BEHIND) - 1},
    {"NUL in the target", "GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n" BEHIND,
     sizeof("GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n" BEHIND) - 1},
    {"a control character in a value",
     HEAD("GET /a") "X: a\x01"
                    "b\r\n\r\n" BEHIND,
     0},
    {"a name with a space", HEAD("GET /a") "X Y: a\r\n\r\n" BEHIND, 0},
    {"a name in brackets", HEAD("GET /a") "(X): a\r\n\r\n" BEHIND, 0},
    {"a header without a colon", HEAD("GET /a") "X\r\n\r\n" BEHIND, 0},
    {"a header without a name", HEAD("GET /a") ": a\r\n\r\n" BEHIND, 0},
    {"chunk size 0x", CHUNKED "0x1\r\na\r\n0\r\n\r\n" BEHIND, 0},
    {"chunk size +", CHUNKED "+1\r\na\r\n0\r\n\r\n" BEHIND, 0},
    {"chunk size -", CHUNKED "-1\r\na\r\n0\r\n\r\n" BEHIND, 0},
    {"chunk size empty", CHUNKED "\r\na\r\n0\r\n\r\n" BEHIND, 0},
    {"chunk size with a space before", CHUNKED " 1\r\na\r\n0\r\n\r\n" BEHIND, 0},
    {"chunk size with a space behind", CHUNKED "1 \r\na\r\n0\r\n\r\n" BEHIND, 0},
    {"chunk size with a _", CHUNKED "1_0\r\na\r\n0\r\n\r\n" BEHIND, 0},
    {"chunk size beyond 64 bits", CHUNKED "10000000000000001\r\na\r\n0\r\n\r\n" BEHIND, 0},
    {"chunk size of many f", CHUNKED "ffffffffffffffffff\r\na\r\n0\r\n\r\n" BEHIND, 0},
    {"a chunk without its CRLF", CHUNKED "1\r\na0\r\n\r\n" BEHIND, 0},
    {"a chunk that is longer than it says", CHUNKED "1\r\nab\r\n0\r\n\r\n" BEHIND, 0},
    {"LF behind a chunk's size", CHUNKED "1\na\r\n0\r\n\r\n" BEHIND, 0},
    {"LF behind a chunk", CHUNKED "1\r\na\n0\r\n\r\n" BEHIND, 0},
    {"LF behind the last chunk", CHUNKED "0\n\r\n" BEHIND, 0},
    {"CR behind a chunk's size", CHUNKED "1\ra\r\n0\r\n\r\n" BEHIND, 0},
    {"a chunk extension", CHUNKED "1;x=y\r\na\r\n0\r\n\r\n" BEHIND, 0},
    {"a chunk extension with LF", CHUNKED "1;x\na\r\n0\r\n\r\n" BEHIND, 0},
    {"a length among the trailers", CHUNKED "0\r\nContent-Length: 38\r\n\r\n" BEHIND, 0},
    {"an encoding among the trailers", CHUNKED "0\r\nTransfer-Encoding: chunked\r\n\r\n" BEHIND, 0},
    {"a folded trailer", CHUNKED "0\r\nX: a\r\n b\r\n\r\n" BEHIND, 0},
    {"a trailer with LF", CHUNKED "0\r\nX: a\n\r\n" BEHIND, 0},
    {"HTTP/2.0", "GET /a HTTP/2.0\r\nHost: a\r\n\r\n" BEHIND, 0},
    {"HTTP/0.9", "GET /a HTTP/0.9\r\nHost: a\r\n\r\n" BEHIND, 0},
    {"HTTP/1.2", "GET /a HTTP/1.2\r\nHost: a\r\n\r\n" BEHIND, 0},
    {"HTTP/1.10", "GET /a HTTP/1.10\r\nHost: a\r\n\r\n" BEHIND, 0},
    {"HTTP/01.1", "GET /a HTTP/01.1\r\nHost: a\r\n\r\n" BEHIND, 0},
    {"http/1.1", "GET /a http/1.1\r\nHost: a\r\n\r\n" BEHIND, 0},
    {"HTTP 1.1", "GET /a HTTP 1.1\r\nHost: a\r\n\r\n" BEHIND, 0},
    {"no version", "GET /a\r\nHost: a\r\n\r\n" BEHIND, 0},
    {"two spaces before the version", "GET /a  HTTP/1.1\r\nHost: a\r\n\r\n" BEHIND, 0},
    {"a space behind the version", "GET /a HTTP/1.1 \r\nHost: a\r\n\r\n" BEHIND, 0},
    {"two spaces before the target", "GET  /a HTTP/1.1\r\nHost: a\r\n\r\n" BEHIND, 0},
    {"a space before the method", " GET /a HTTP/1.1\r\nHost: a\r\n\r\n" BEHIND, 0},
    {"a tab for a space", "GET\t/a\tHTTP/1.1\r\nHost: a\r\n\r\n" BEHIND, 0},
    {"an unknown method", "SMUGGLE /a HTTP/1.1\r\nHost: a\r\n\r\n" BEHIND, 0},
    {"a method in small letters", "get /a HTTP/1.1\r\nHost: a\r\n\r\n" BEHIND, 0},
    {"HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" BEHIND, 0},
    {"TLS where there is none", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" BEHIND,
     11 + sizeof BEHIND - 1},
    {"an absolute target", HEAD("GET http://b/a") "\r\n" BEHIND, 0},
    {"a target of another scheme", HEAD("GET file:///a") "\r\n" BEHIND, 0},
    {"a target that is no path", HEAD("GET a") "\r\n" BEHIND, 0},
    {"a target *", HEAD("GET *") "\r\n" BEHIND, 0},
    {"a target with a fragment", HEAD("GET /a#b") "\r\n" BEHIND, 0},
    {"a target with a backslash", HEAD("GET /a\\..\\b") "\r\n" BEHIND, 0},
    {"a target with bytes beyond ASCII", HEAD("GET /\xc3\xa4") "\r\n" BEHIND, 0},
    {"a target with ..", HEAD("GET /b/../a") "\r\n" BEHIND, 0},
    {"a target with %2e%2e", HEAD("GET /b/%2e%2e/a") "\r\n" BEHIND, 0},
    {"no Host", "GET /a HTTP/1.1\r\n\r\n" BEHIND, 0},
    {"two Hosts", "GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" BEHIND, 0},
    {"two equal Hosts", "GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n" BEHIND, 0},
    {"a Host with a space", "GET /a HTTP/1.1\r\nHost: a b\r\n\r\n" BEHIND, 0},
    {"a Host with a path", "GET /a HTTP/1.1\r\nHost: a/b\r\n\r\n" BEHIND, 0},
    {"a Host with a user", "GET /a HTTP/1.1\r\nHost: u@a\r\n\r\n" BEHIND, 0},
    {"a Host and a space before the colon", "GET /a HTTP/1.1\r\nHost : a\r\n\r\n" BEHIND, 0},
};

/* The whole of what the server says, in pieces of `step` bytes (0: at once). */
static void say_and_hear(struct net_server *server, const char *bytes, size_t size, size_t step,
                         struct buffer *ret)
{
    int fd = client_open(server);
    if (step == 0) step = size;
    for (size_t at = 0; at < size; at += step) client_send(fd, bytes + at, MIN(step, size - at));
    client_receive_all(fd, ret);
    close(fd);
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)) != NULL; p += strlen(what)) n++;
    return n;
}

static void what_is_ambiguous_is_refused_and_the_connection_closed(void **state)
{
    (void)state;
    struct net_options options = {.routes = routes, .n_routes = COUNT_OF(routes)};
    struct net_server *server = server_open(options);
    for (size_t i = 0; i < COUNT_OF(malformed); i++) {
        const struct hostile *row = &malformed[i];
        size_t size = row->size > 0 ? row->size : strlen(row->bytes);
        for (size_t step = 0; step < 2; step++) {
            struct buffer heard = {0};
            say_and_hear(server, row->bytes, size, step, &heard);
            if (heard.size < 12 || memcmp(heard.data, "HTTP/1.1 400", 12) != 0)
                fail_msg("%s: %s", row->name, heard.data);
            if (count(heard.data, "HTTP/1.1 ") != 1) fail_msg("%s: %s", row->name, heard.data);
            if (strstr(heard.data, "Connection: close") == NULL) fail_msg("%s: kept", row->name);
            buffer_free(&heard);
        }
    }
    assert_int_equal(atomic_load(&n_smuggled), 0);
    server_close(server);
}

/* The same, where the body is read by a handler. */
static void a_streamed_body_is_refused_as_well(void **state)
{
    (void)state;
    struct net_options options = {.routes = routes, .n_routes = COUNT_OF(routes)};
    struct net_server *server = server_open(options);
    size_t n = 0;
    for (size_t i = 0; i < COUNT_OF(malformed); i++) {
        const struct hostile *row = &malformed[i];
        struct buffer heard = {0}, bytes = {0};
        if (strncmp(row->bytes, "POST /a", 7) != 0) continue;
        buffer_text(&bytes, "POST /s");
        buffer_text(&bytes, row->bytes + 7);
        say_and_hear(server, bytes.data, bytes.size, 0, &heard);
        if (heard.size < 12 || memcmp(heard.data, "HTTP/1.1 400", 12) != 0)
            fail_msg("%s: %s", row->name, heard.data);
        if (count(heard.data, "HTTP/1.1 ") != 1) fail_msg("%s: %s", row->name, heard.data);
        buffer_free(&heard);
        buffer_free(&bytes);
        n++;
    }
    assert_true(n > 40);
    assert_int_equal(atomic_load(&n_smuggled), 0);
    server_close(server);
}

/* --- limits ------------------------------------------------------------------------------------ */

static void repeat(struct buffer *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) buffer_text(out, text);
}

static void many_headers(struct buffer *out)
{
    buffer_text(out, HEAD("GET /a"));
    repeat(out, "X: 1\r\n", 10000);
    buffer_text(out, "\r\n");
}

static void some_headers_too_many(struct buffer *out)
{
    buffer_text(out, HEAD("GET /a"));
    repeat(out, "X: 1\r\n", 100);
    buffer_text(out, "\r\n");
}

static void large_header(struct buffer *out)
{
    buffer_text(out, HEAD("GET /a") "X: ");
    repeat(out, "0123456789abcdef", 1 << 16);
    buffer_text(out, "\r\n\r\n");
}

static void large_name(struct buffer *out)
{
    buffer_text(out, HEAD("GET /a"));
    repeat(out, "0123456789abcdef", 1 << 16);
    buffer_text(out, ": 1\r\n\r\n");
}

static void long_target(struct buffer *out)
{
    buffer_text(out, "GET /a?");
    repeat(out, "0123456789", 10000);
    buffer_text(out, " HTTP/1.1\r\nHost: a\r\n\r\n");
}

static void empty_lines(struct buffer *out)
{
    buffer_text(out, "GET /a HTTP/1.1\r\nHost:");
    repeat(out, "          ", 10000);
    buffer_text(out, "a\r\n\r\n");
}

static void long_body(struct buffer *out)
{
    buffer_text(out, HEAD("POST /a") "Content-Length: 1001\r\n\r\n");
    repeat(out, "0123456789a", 91);
}

static void long_body_in_chunks(struct buffer *out)
{
    buffer_text(out, HEAD("POST /a") "Transfer-Encoding: chunked\r\n\r\n");
    repeat(out, "1\r\na\r\n", 1001);
    buffer_text(out, "0\r\n\r\n");
}

static void huge_length(struct buffer *out)
{
    buffer_text(out, HEAD("POST /a") "Content-Length: 999999999999999999\r\n\r\n");
}

static void huge_chunk(struct buffer *out)
{
    buffer_text(out, HEAD("POST /a") "Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n");
    repeat(out, "0123456789", 200);
}

static void body_of_none(struct buffer *out)
{
    buffer_text(out, HEAD("POST /none") "Transfer-Encoding: chunked\r\n\r\n");
    repeat(out, "a\r\n0123456789\r\n", 10000);
    buffer_text(out, "0\r\n\r\n");
}

static void many_trailers(struct buffer *out)
{
    buffer_text(out, HEAD("POST /a") "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n");
    repeat(out, "X: 1\r\n", 10000);
    buffer_text(out, "\r\n");
}

static void long_trailer_of_a_stream(struct buffer *out)
{
    buffer_text(out, HEAD("POST /s") "Transfer-Encoding: chunked\r\n\r\n0\r\nX: ");
    repeat(out, "0123456789", 100000);
    buffer_text(out, "\r\n\r\n");
}

static void long_chunk_size(struct buffer *out)
{
    buffer_text(out, HEAD("POST /a") "Transfer-Encoding: chunked\r\n\r\n");
    repeat(out, "0000000000", 10000);
    buffer_text(out, "1\r\na\r\n0\r\n\r\n");
}

static void what_is_too_large_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        void (*make)(struct buffer *out);
        int status;
        const char *part;
    } cases[] = {
        {"10,000 headers", many_headers, 431, "100 headers"},
        {"101 headers", some_headers_too_many, 431, "100 headers"},
        {"a header of 1 MB", large_header, 431, "16384 bytes"},
        {"a header's name of 1 MB", large_name, 431, "16384 bytes"},
        {"a target of 100 KB", long_target, 414, "16384 bytes"},
        {"100 KB of blanks", empty_lines, 431, "16384 bytes"},
        {"a body", long_body, 413, "1000"},
        {"a body in chunks", long_body_in_chunks, 413, "1000"},
        {"a length of 18 digits", huge_length, 413, "1000"},
        {"a chunk of 2^60", huge_chunk, 413, "1000"},
        {"the body of a route that takes none", body_of_none, 413, "65536"},
        {"10,000 trailers", many_trailers, 431, "trailers"},
        {"a trailer of 1 MB", long_trailer_of_a_stream, 431, "trailers"},
        {"a chunk size of 100 KB", long_chunk_size, 400, ""},
    };
    struct net_options options = {.routes = routes, .n_routes = COUNT_OF(routes)};
    options.limits.body_bytes = 1000;
    struct net_server *server = server_open(options);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buffer bytes = {0}, heard = {0};
        char status[16];
        cases[i].make(&bytes);
        buffer_text(&bytes, BEHIND);
        say_and_hear(server, bytes.data, bytes.size, 0, &heard);
        snprintf(status, sizeof status, "HTTP/1.1 %d", cases[i].status);
        if (strncmp(heard.data, status, strlen(status)) != 0 ||
            strstr(heard.data, cases[i].part) == NULL || count(heard.data, "HTTP/1.1") != 1)
            fail_msg("%s: %s", cases[i].name, heard.data);
        buffer_free(&bytes);
        buffer_free(&heard);
    }
    assert_int_equal(atomic_load(&n_smuggled), 0);
    server_close(server);
}

/* Leading zeros and any number of tiny chunks are fine, and cost no memory. */
static void tiny_chunks_are_taken(void **state)
{
    (void)state;
    static const char *const routes_of[] = {"POST /a", "POST /s"};
    struct net_options options = {.routes = routes, .n_routes = COUNT_OF(routes)};
    struct net_server *server = server_open(options);
    for (size_t r = 0; r < COUNT_OF(routes_of); r++) {
        struct buffer bytes = {0}, heard = {0};
        buffer_printf(&bytes, "%s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                      routes_of[r]);
        repeat(&bytes, "1\r\na\r\n", 500000);
        buffer_text(&bytes, "0000\r\n\r\nGET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        say_and_hear(server, bytes.data, bytes.size, 0, &heard);
        assert_int_equal(count(heard.data, "HTTP/1.1 200"), 2);
        buffer_free(&bytes);
        buffer_free(&heard);
    }
    server_close(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_ambiguous_is_refused_and_the_connection_closed),
        cmocka_unit_test(a_streamed_body_is_refused_as_well),
        cmocka_unit_test(what_is_too_large_is_refused_by_name),
        cmocka_unit_test(tiny_chunks_are_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
