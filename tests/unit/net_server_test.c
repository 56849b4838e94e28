/* SPDX-License-Identifier: Apache-2.0 */
/* net_server_test.c - requests and answers as they should be: routes, methods, bodies, pipelines, threads. */
#include "net_client.h"

#include <pthread.h>
#include <stdatomic.h>

static void ok(struct exchange *exchange, void *context)
{
    (void)context;
    exchange_answer(exchange, 200, "text/plain", "ok", 2);
}

/* What the exchange says of itself. */
static void describe(struct exchange *exchange, void *context)
{
    (void)context;
    struct buffer text = {0};
    struct slice path = exchange_path(exchange), body = exchange_body(exchange);
    const char *q = exchange_query(exchange, "q"), *x = exchange_header(exchange, "x-thing");
    buffer_printf(&text, "%s %.*s", net_method_name(exchange_method(exchange)), (int)path.size,
                  path.data);
    for (size_t i = 0; i < 2; i++)
        if (*exchange_capture(exchange, i) != '\0')
            buffer_printf(&text, " %zu=%s", i, exchange_capture(exchange, i));
    if (q != NULL) buffer_printf(&text, " q=%s", q);
    if (x != NULL) buffer_printf(&text, " x=%s", x);
    if (body.size > 0) buffer_printf(&text, " body=%.*s", (int)body.size, body.data);
    exchange_answer_buffer(exchange, 200, "text/plain", &text);
}

static void large(struct exchange *exchange, void *context)
{
    (void)context;
    struct buffer body = {0};
    for (int i = 0; i < 300000; i++) buffer_printf(&body, "%07d\n", i);
    exchange_answer_buffer(exchange, 200, "text/plain", &body);
}

static void *answer_later(void *exchange)
{
    exchange_answer(exchange, 202, "text/plain", "later", 5);
    return NULL;
}

static void later(struct exchange *exchange, void *context)
{
    (void)context;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, answer_later, exchange), 0);
    pthread_detach(thread);
}

static const struct net_route routes[] = {
    {.method = NET_GET, .pattern = "/ok", .handle = ok},
    {.method = NET_GET, .pattern = "/pool", .handle = ok, .is_blocking = true},
    {.method = NET_GET, .pattern = "/large", .handle = large, .is_blocking = true},
    {.method = NET_GET, .pattern = "/later", .handle = later},
    {.method = NET_GET, .pattern = "/v1/files", .handle = describe},
    {.method = NET_POST, .pattern = "/v1/files", .handle = describe, .body = NET_BODY_WHOLE},
    {.method = NET_GET, .pattern = "/v1/files/{id}", .handle = describe},
    {.method = NET_DELETE, .pattern = "/v1/files/{id}", .handle = describe},
    {.method = NET_GET, .pattern = "/v1/files/{id}/content", .handle = describe},
    {.method = NET_GET, .pattern = "/v1/files/all", .handle = describe},
    {.method = NET_POST,
     .pattern = "/v1/models/{m}:predict",
     .handle = describe,
     .body = NET_BODY_WHOLE},
    {.method = NET_POST,
     .pattern = "/v2/{m}/v/{n}",
     .handle = describe,
     .body = NET_BODY_WHOLE,
     .is_blocking = true,
     .body_max = 10},
    {.method = NET_GET, .pattern = "/v1/models/{m}", .handle = describe},
};
static const struct net_options plain = {.routes = routes, .n_routes = COUNT_OF(routes)};

#define HOST " HTTP/1.1\r\nHost: a\r\n"

static void a_request_reaches_its_route(void **state)
{
    (void)state;
    static const struct {
        const char *request;
        int status;
        const char *body; /* NULL: any */
    } cases[] = {
        {"GET /ok" HOST "\r\n", 200, "ok"},
        {"GET /pool" HOST "\r\n", 200, "ok"},
        {"GET /later" HOST "\r\n", 202, "later"},
        {"HEAD /ok" HOST "\r\n", 200, ""},
        {"GET /v1/files" HOST "\r\n", 200, "GET /v1/files"},
        {"GET /v1/files?q=a%20b+c&r" HOST "\r\n", 200, "GET /v1/files q=a b c"},
        {"GET /v1/files?r=1&q=" HOST "\r\n", 200, "GET /v1/files q="},
        {"GET /v1/files?q" HOST "\r\n", 200, "GET /v1/files q="},
        {"GET /v1/files?&&q=1&q=2" HOST "\r\n", 200, "GET /v1/files q=1"},
        {"GET /v1/files/7" HOST "\r\n", 200, "GET /v1/files/7 0=7"},
        {"GET /v1/files/a%2Fb/content" HOST "\r\n", 200, "GET /v1/files/a%2Fb/content 0=a/b"},
        {"GET /v1/files/all" HOST "\r\n", 200, "GET /v1/files/all"},
        {"DELETE /v1/files/all" HOST "\r\n", 200, "DELETE /v1/files/all 0=all"},
        {"GET /v1/models/a:predict" HOST "\r\n", 200, "GET /v1/models/a:predict 0=a:predict"},
        {"POST /v1/models/a:predict" HOST "Content-Length: 3\r\n\r\nxyz", 200,
         "POST /v1/models/a:predict 0=a body=xyz"},
        {"POST /v2/m/v/1" HOST "Content-Length: 10\r\n\r\n0123456789", 200,
         "POST /v2/m/v/1 0=m 1=1 body=0123456789"},
        {"POST /v2/m/v/1" HOST
         "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n02\r\nde\r\n0\r\n\r\n",
         200, "POST /v2/m/v/1 0=m 1=1 body=abcde"},
        {"POST /v1/files" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n",
         200, "POST /v1/files body=a"},
        {"POST /v1/files" HOST "Content-Length: 0\r\n\r\n", 200, "POST /v1/files"},
        {"POST /v1/files" HOST "\r\n", 200, "POST /v1/files"},
        {"GET /v1/files" HOST "X-Thing: 1\r\nx-thing:  2 \r\nX-THING:3\r\n\r\n", 200,
         "GET /v1/files x=1, 2, 3"},
        {"GET /ok HTTP/1.0\r\n\r\n", 200, "ok"},
        {"\r\nGET /ok" HOST "\r\n", 200, "ok"},
        {"GET /ok" HOST "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 200, "ok"},
        {"OPTIONS /ok" HOST "\r\n", 204, ""},
        {"OPTIONS *" HOST "\r\n", 204, ""},
        {"GET /" HOST "\r\n", 404, NULL},
        {"GET /v1" HOST "\r\n", 404, NULL},
        {"GET /v1/files/" HOST "\r\n", 404, NULL},
        {"GET /v1/files/7/" HOST "\r\n", 404, NULL},
        {"GET /v1/models/:predict" HOST "\r\n", 200, NULL},
        {"POST /v1/models/:predict" HOST "\r\n", 405, NULL},
        {"PUT /ok" HOST "\r\n", 405, NULL},
        {"PUT /ok" HOST "Content-Length: 3\r\n\r\nabc", 405, NULL},
        {"TRACE /ok" HOST "\r\n", 501, NULL},
        {"CONNECT a:80" HOST "\r\n", 501, NULL},
        {"GET /v1/files?q=%zz" HOST "\r\n", 400, NULL},
        {"GET /v1/files/%00" HOST "\r\n", 400, NULL},
        {"GET /v1/files/%4" HOST "\r\n", 400, NULL},
        {"GET /v1/files/.." HOST "\r\n", 400, NULL},
        {"GET /v1/%2e%2E/ok" HOST "\r\n", 400, NULL},
        {"POST /v2/m/v/1" HOST "Content-Length: 11\r\n\r\n01234567890", 413, NULL},
        {"POST /v2/m/v/1" HOST "Transfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n",
         413, NULL},
        {"POST /v1/files" HOST "Expect: a-miracle\r\n\r\n", 417, NULL},
    };
    struct net_server *server = server_open(plain);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buffer body;
        int status = ask(server, cases[i].request, &body);
        if (status != cases[i].status) fail_msg("%s: %d %s", cases[i].request, status, body.data);
        if (cases[i].body != NULL) expect_text(body.data, cases[i].body, cases[i].request);
        buffer_free(&body);
    }
    server_close(server);
}

static void a_connection_is_kept(void **state)
{
    (void)state;
    struct net_server *server = server_open(plain);
    int fd = client_open(server);
    for (int i = 0; i < 50; i++) {
        struct answer answer;
        client_say(fd, i % 2 == 0 ? "GET /ok" HOST "\r\n" : "GET /pool" HOST "\r\n");
        client_answer(fd, false, &answer);
        assert_int_equal(answer.status, 200);
        assert_null(answer_header(&answer, "Connection"));
        assert_int_equal(strspn(answer_header(&answer, "X-Request-Id") + 4, "0123456789abcdef"),
                         24);
        answer_free(&answer);
    }
    struct net_stats stats;
    net_server_stats(server, &stats);
    assert_int_equal(stats.accepted, 1);
    assert_int_equal(stats.requests, 50);
    client_say(fd, "GET /ok" HOST "Connection: close\r\n\r\n");
    struct answer answer;
    client_answer(fd, false, &answer);
    assert_memory_equal(answer_header(&answer, "Connection"), "close", 5);
    answer_free(&answer);
    client_expect_end(fd);
    close(fd);
    server_close(server);
}

static void requests_ahead_are_answered_in_order(void **state)
{
    (void)state;
    struct net_server *server = server_open(plain);
    struct buffer requests = {0};
    for (int i = 0; i < 1000; i++) {
        buffer_text(&requests, i % 3 == 1 ? "POST " : "GET ");
        buffer_printf(&requests,
                      i % 3 == 0   ? "/v1/files/%d"
                      : i % 3 == 1 ? "/v2/m/v/%d"
                                   : "/v1/files/%d/content",
                      i);
        buffer_text(&requests, HOST);
        buffer_text(&requests, i % 3 == 1 ? "Content-Length: 2\r\n\r\nGE" : "\r\n");
    }
    int fd = client_open(server);
    client_send(fd, requests.data, requests.size);
    for (int i = 0; i < 1000; i++) {
        struct answer answer;
        char number[16];
        snprintf(number, sizeof number, "=%d", i);
        client_answer(fd, false, &answer);
        assert_int_equal(answer.status, 200);
        if (strstr(answer.body.data, number) == NULL) fail_msg("%d: %s", i, answer.body.data);
        answer_free(&answer);
    }
    close(fd);
    buffer_free(&requests);
    server_close(server);
}

static void a_large_answer_comes_whole(void **state)
{
    (void)state;
    struct net_server *server = server_open(plain);
    struct buffer body;
    assert_int_equal(ask(server, "GET /large" HOST "\r\n", &body), 200);
    assert_int_equal(body.size, 300000 * 8);
    assert_memory_equal(body.data + body.size - 8, "0299999\n", 8);
    buffer_free(&body);
    server_close(server);
}

static void a_wrong_table_is_refused(void **state)
{
    (void)state;
    static const struct {
        struct net_route routes[2];
        const char *part;
    } cases[] = {
        {{{.pattern = "/a", .handle = ok}, {.pattern = "/a", .handle = ok}}, "twice"},
        {{{.pattern = "/{a}", .handle = ok}, {.pattern = "/{b}", .handle = ok}}, "twice"},
        {{{.pattern = "a", .handle = ok}, {.pattern = "/a", .handle = ok}}, "begins with /"},
        {{{.pattern = "/a{b}", .handle = ok}, {.pattern = "/a", .handle = ok}}, "capture"},
        {{{.pattern = "/{b", .handle = ok}, {.pattern = "/a", .handle = ok}}, "capture"},
        {{{.pattern = "/{}", .handle = ok}, {.pattern = "/a", .handle = ok}}, "capture"},
        {{{.pattern = "/{a}{b}", .handle = ok}, {.pattern = "/a", .handle = ok}}, "two captures"},
        {{{.pattern = "/{a}/{b}/{c}/{d}/{e}", .handle = ok}, {.pattern = "/a", .handle = ok}},
         "too many"},
        {{{.pattern = "/a"}, {.pattern = "/b", .handle = ok}}, "handler"},
        {{{.pattern = "/a", .handle = ok, .body = NET_BODY_STREAM},
          {.pattern = "/b", .handle = ok}},
         "blocking"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct net_options options = {.routes = cases[i].routes, .n_routes = 2};
        struct net_server *server;
        expect_error(net_server_new(&options, &server), ERROR_USAGE, cases[i].part, cases[i].part);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_reaches_its_route),
        cmocka_unit_test(a_connection_is_kept),
        cmocka_unit_test(requests_ahead_are_answered_in_order),
        cmocka_unit_test(a_large_answer_comes_whole),
        cmocka_unit_test(a_wrong_table_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
