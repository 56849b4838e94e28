/* SPDX-License-Identifier: Apache-2.0 */
/* net_body_test.c - bodies in pieces both ways: streams with backpressure, 100 Continue, forms, piecewise
 * answers, files and ranges. */
#include "net_client.h"
#include "tempdir.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

struct stage { /* of the test's handlers */
    _Atomic bool may_go;
    _Atomic int n_before, n_after, last_status;
    struct tempdir folder;
    uint64_t file_size;
};

static void wait_for_go(struct stage *stage)
{
    while (!atomic_load(&stage->may_go)) usleep(1000);
}

/* Counts what comes, after it was told to go. */
static void count_bytes(struct exchange *exchange, void *context)
{
    struct stage *stage = context;
    char piece[1000];
    size_t n, total = 0;
    uint64_t sum = 0;
    wait_for_go(stage);
    do {
        tidemill_error *error = exchange_read(exchange, piece, sizeof piece, &n);
        if (error != NULL) {
            exchange_refuse(exchange, 400, "%s", error_message(error));
            error_free(error);
            return;
        }
        for (size_t i = 0; i < n; i++) sum = sum * 31 + (unsigned char)piece[i];
        total += n;
    } while (n > 0);
    struct buffer text = {0};
    buffer_printf(&text, "%zu %016llx", total, (unsigned long long)sum);
    exchange_answer_buffer(exchange, 200, "text/plain", &text);
}

static void refuse_unread(struct exchange *exchange, void *context)
{
    (void)context;
    exchange_refuse(exchange, 409, "not now");
}

/* Says back what it hears, while it hears it. */
static void repeat_pieces(struct exchange *exchange, void *context)
{
    char piece[5000];
    size_t n;
    (void)context;
    exchange_begin(exchange, 200, "text/plain");
    for (;;) {
        tidemill_error *error = exchange_read(exchange, piece, sizeof piece, &n);
        if (error == NULL && n > 0) error = exchange_write(exchange, piece, n);
        if (error == NULL && n > 0) continue;
        exchange_end(exchange, error == NULL);
        error_free(error);
        return;
    }
}

static void pieces(struct exchange *exchange, void *context)
{
    (void)context;
    bool is_whole = exchange_query(exchange, "cut") == NULL;
    exchange_set_header(exchange, "X-Kind", "%s", "pieces\r\nX-Evil: 1");
    exchange_begin(exchange, 200, "text/plain");
    tidemill_error *error = NULL;
    for (int i = 0; i < 20000 && error == NULL; i++)
        error = exchange_write(exchange, "0123456789", 10);
    exchange_end(exchange, is_whole);
    error_free(error);
}

static void file(struct exchange *exchange, void *context)
{
    struct stage *stage = context;
    uint64_t offset, length;
    int status = exchange_range(exchange, stage->file_size, &offset, &length);
    if (status == 416) {
        exchange_set_header(exchange, "Content-Range", "bytes */%llu",
                            (unsigned long long)stage->file_size);
        exchange_refuse(exchange, 416, "no such range");
        return;
    }
    if (status == 206)
        exchange_set_header(exchange, "Content-Range", "bytes %llu-%llu/%llu",
                            (unsigned long long)offset, (unsigned long long)(offset + length - 1),
                            (unsigned long long)stage->file_size);
    int fd = open(tempdir_path(&stage->folder, "file"), O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    exchange_answer_file(exchange, status, "application/octet-stream", fd, offset, length);
}

static tidemill_error *form_begin(void *context, const char *name, const char *filename)
{
    buffer_printf(context, "[%s|%s|", name, filename);
    return NULL;
}

static tidemill_error *form_data(void *context, const void *data, size_t size)
{
    buffer_append(context, data, size);
    return NULL;
}

static tidemill_error *form_end(void *context)
{
    buffer_byte(context, ']');
    return NULL;
}

static void form(struct exchange *exchange, void *context)
{
    struct buffer text = {0};
    struct net_form parts = {&text, form_begin, form_data, form_end};
    (void)context;
    tidemill_error *error = exchange_read_form(exchange, &parts);
    if (error == NULL) {
        exchange_answer_buffer(exchange, 200, "text/plain", &text);
        return;
    }
    exchange_refuse(exchange, 400, "%s", error_message(error));
    error_free(error);
    buffer_free(&text);
}

static const struct net_route routes[] = {
    {.method = NET_POST,
     .pattern = "/count",
     .handle = count_bytes,
     .body = NET_BODY_STREAM,
     .is_blocking = true},
    {.method = NET_POST,
     .pattern = "/whole",
     .handle = count_bytes,
     .body = NET_BODY_WHOLE,
     .is_blocking = true},
    {.method = NET_POST,
     .pattern = "/refuse",
     .handle = refuse_unread,
     .body = NET_BODY_STREAM,
     .is_blocking = true},
    {.method = NET_POST,
     .pattern = "/repeat",
     .handle = repeat_pieces,
     .body = NET_BODY_STREAM,
     .is_blocking = true},
    {.method = NET_POST,
     .pattern = "/form",
     .handle = form,
     .body = NET_BODY_STREAM,
     .is_blocking = true},
    {.method = NET_POST,
     .pattern = "/form-whole",
     .handle = form,
     .body = NET_BODY_WHOLE,
     .is_blocking = true},
    {.method = NET_GET, .pattern = "/pieces", .handle = pieces, .is_blocking = true},
    {.method = NET_GET, .pattern = "/file", .handle = file},
};

static void after(struct exchange *exchange, void *context)
{
    struct stage *stage = context;
    atomic_store(&stage->last_status, exchange_status(exchange));
    atomic_fetch_add(&stage->n_after, 1);
}

static bool before(struct exchange *exchange, const struct net_route *route, void *context)
{
    struct stage *stage = context;
    (void)route;
    atomic_fetch_add(&stage->n_before, 1);
    if (exchange_header(exchange, "x-stranger") == NULL) return true;
    exchange_refuse(exchange, 401, "who are you?");
    return false;
}

static struct net_server *open_stage(struct stage *stage)
{
    struct net_options options = {.routes = routes,
                                  .n_routes = COUNT_OF(routes),
                                  .context = stage,
                                  .before = before,
                                  .after = after};
    return server_open(options);
}

#define HOST " HTTP/1.1\r\nHost: a\r\n"

/* --- streams ----------------------------------------------------------------------------------- */

static void fill(struct buffer *out, size_t size, uint64_t *ret_sum)
{
    uint64_t state = 7, sum = 0;
    char *p = buffer_reserve(out, size);
    for (size_t i = 0; i < size; i++) {
        p[i] = (char)random_next(&state);
        sum = sum * 31 + (unsigned char)p[i];
    }
    out->size += size;
    *ret_sum = sum;
}

struct sender {
    int fd;
    struct slice bytes;
    _Atomic size_t sent;
    _Atomic bool is_done;
};

static void *send_all(void *context)
{
    struct sender *sender = context;
    for (size_t at = 0; at < sender->bytes.size; at += 4096) {
        client_send(sender->fd, sender->bytes.data + at, MIN(4096, sender->bytes.size - at));
        atomic_store(&sender->sent, at);
    }
    atomic_store(&sender->is_done, true);
    return NULL;
}

/* Until a handler reads, no more is taken than the ring and the kernel's buffers hold. */
static void what_is_not_read_is_not_taken(void **state)
{
    (void)state;
    struct stage stage = {0};
    struct net_server *server = open_stage(&stage);
    struct buffer body = {0}, text = {0};
    uint64_t sum;
    size_t size = (size_t)32 << 20;
    fill(&body, size, &sum);
    int fd = client_open(server), small = 65536;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    buffer_printf(&text, "POST /count" HOST "Content-Length: %zu\r\n\r\n", size);
    client_send(fd, text.data, text.size);
    struct sender sender = {.fd = fd, .bytes = {body.data, body.size}};
    pthread_t thread;
    pthread_create(&thread, NULL, send_all, &sender);
    size_t seen = SIZE_MAX;
    while (seen != atomic_load(&sender.sent) || seen == 0) { /* until it stands still */
        seen = atomic_load(&sender.sent);
        usleep(200000);
    }
    struct net_stats stats;
    net_server_stats(server, &stats);
    assert_true(stats.bytes_in <= ((uint64_t)256 << 10) + text.size);
    assert_false(atomic_load(&sender.is_done));
    atomic_store(&stage.may_go, true);
    struct answer answer;
    client_answer(fd, false, &answer);
    char expected[64];
    snprintf(expected, sizeof expected, "%zu %016llx", size, (unsigned long long)sum);
    expect_text(answer.body.data, expected, "the sum");
    pthread_join(thread, NULL);
    answer_free(&answer);
    client_say(fd, "GET /nothing" HOST "\r\n"); /* and the connection goes on */
    client_answer(fd, false, &answer);
    assert_int_equal(answer.status, 404);
    answer_free(&answer);
    close(fd);
    buffer_free(&body);
    buffer_free(&text);
    server_close(server);
}

static void a_whole_body_may_be_read_in_pieces(void **state)
{
    (void)state;
    struct stage stage = {.may_go = true};
    struct net_server *server = open_stage(&stage);
    struct buffer body;
    assert_int_equal(ask(server, "POST /whole" HOST "Content-Length: 2\r\n\r\nab", &body), 200);
    expect_text(body.data, "2 0000000000000c21", "whole");
    buffer_free(&body);
    server_close(server);
}

static void a_body_is_asked_for_only_when_it_is_wanted(void **state)
{
    (void)state;
    static const struct {
        const char *head;
        bool is_continued;
        int status;
    } cases[] = {
        {"POST /count" HOST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n", true, 200},
        {"POST /count" HOST "Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n\r\n", true,
         200},
        {"POST /whole" HOST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n", true, 200},
        {"POST /count" HOST "Expect: 100-continue\r\nX-Stranger: 1\r\nContent-Length: 2\r\n\r\n",
         false, 401},
        {"POST /refuse" HOST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n", false, 409},
        {"POST /nothing" HOST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n", false, 404},
        {"POST /whole" HOST "Expect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n", false,
         413},
    };
    struct stage stage = {.may_go = true};
    struct net_server *server = open_stage(&stage);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct answer answer;
        int fd = client_open(server);
        client_say(fd, cases[i].head);
        client_answer(fd, false, &answer);
        if (cases[i].is_continued) {
            if (answer.status != 100) fail_msg("%s: %d", cases[i].head, answer.status);
            answer_free(&answer);
            client_say(fd, strstr(cases[i].head, "chunked") ? "2\r\nab\r\n0\r\n\r\n" : "ab");
            client_answer(fd, false, &answer);
        }
        if (answer.status != cases[i].status) fail_msg("%s: %d", cases[i].head, answer.status);
        assert_true(cases[i].is_continued || answer_header(&answer, "Connection: close") != NULL);
        answer_free(&answer);
        close(fd);
    }
    server_close(server);
}

/* The client goes away in the middle: the handler is told. */
static void a_body_that_ends_early_is_an_error(void **state)
{
    (void)state;
    struct stage stage = {.may_go = true};
    struct net_server *server = open_stage(&stage);
    for (int is_half = 0; is_half < 2; is_half++) {
        int fd = client_open(server);
        client_say(fd, "POST /count" HOST "Content-Length: 10\r\n\r\nabc");
        if (is_half) {
            struct answer answer;
            shutdown(fd, SHUT_WR);
            client_answer(fd, false, &answer);
            assert_int_equal(answer.status, 400);
            assert_non_null(strstr(answer.body.data, "closed the connection"));
            answer_free(&answer);
        }
        close(fd);
        while (atomic_load(&stage.n_after) <= is_half) usleep(1000);
    }
    server_close(server);
}

/* --- answers in pieces ------------------------------------------------------------------------- */

/* Takes the chunks apart; false: the last one is missing. */
static bool unchunk(struct buffer *heard, struct buffer *ret)
{
    const char *p = strstr(heard->data, "\r\n\r\n") + 4;
    for (;;) {
        char *end;
        size_t size = strtoull(p, &end, 16);
        if (end == p) return false;
        p = end + 2;
        if (size == 0) return true;
        buffer_append(ret, p, size);
        p += size + 2;
    }
}

static void an_answer_may_come_in_pieces(void **state)
{
    (void)state;
    static const struct {
        const char *request;
        bool is_chunked, is_whole;
    } cases[] = {
        {"GET /pieces" HOST "Connection: close\r\n\r\n", true, true},
        {"GET /pieces?cut=1" HOST "\r\n", true, false},
        {"GET /pieces HTTP/1.0\r\n\r\n", false, true},
    };
    struct stage stage = {0};
    struct net_server *server = open_stage(&stage);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buffer heard = {0}, body = {0};
        int fd = client_open(server);
        client_say(fd, cases[i].request);
        client_receive_all(fd, &heard);
        close(fd);
        assert_non_null(strstr(heard.data, "X-Kind: pieces  X-Evil: 1\r\n"));
        if (cases[i].is_chunked) {
            assert_int_equal(unchunk(&heard, &body), cases[i].is_whole);
        } else {
            const char *start = strstr(heard.data, "\r\n\r\n") + 4;
            buffer_append(&body, start, heard.size - (size_t)(start - heard.data));
        }
        if (cases[i].is_whole) assert_int_equal(body.size, 200000);
        buffer_free(&heard);
        buffer_free(&body);
    }
    struct buffer body;
    assert_int_equal(ask(server, "HEAD /pieces" HOST "\r\n", &body), 200);
    buffer_free(&body);
    server_close(server);
}

static void a_body_may_be_answered_while_it_comes(void **state)
{
    (void)state;
    struct stage stage = {0};
    struct net_server *server = open_stage(&stage);
    struct buffer body = {0}, text = {0}, heard = {0}, back = {0};
    uint64_t sum;
    size_t size = (size_t)4 << 20;
    fill(&body, size, &sum);
    int fd = client_open(server);
    buffer_printf(&text, "POST /repeat" HOST "Content-Length: %zu\r\n\r\n", size);
    client_send(fd, text.data, text.size);
    struct sender sender = {.fd = fd, .bytes = {body.data, body.size}};
    pthread_t thread;
    pthread_create(&thread, NULL, send_all, &sender);
    client_receive_all(fd, &heard);
    pthread_join(thread, NULL);
    assert_true(unchunk(&heard, &back));
    assert_int_equal(back.size, size);
    assert_memory_equal(back.data, body.data, size);
    close(fd);
    buffer_free(&body);
    buffer_free(&text);
    buffer_free(&heard);
    buffer_free(&back);
    server_close(server);
}

/* --- files ------------------------------------------------------------------------------------- */

static void a_file_and_its_ranges(void **state)
{
    (void)state;
    static const struct {
        const char *range;
        int status;
        size_t offset, length;
    } cases[] = {
        {"", 200, 0, 3000000},
        {"Range: bytes=0-0\r\n", 206, 0, 1},
        {"Range: bytes=10-2999999\r\n", 206, 10, 2999990},
        {"Range: bytes=2999990-\r\n", 206, 2999990, 10},
        {"Range: bytes=-5\r\n", 206, 2999995, 5},
        {"Range: bytes=-9999999999999999999999\r\n", 206, 0, 3000000},
        {"Range: bytes=5-99999999999999999999\r\n", 206, 5, 2999995},
        {"Range: bytes=3000000-\r\n", 416, 0, 0},
        {"Range: bytes=-0\r\n", 416, 0, 0},
        {"Range: bytes=1-2,4-5\r\n", 200, 0, 3000000},
        {"Range: bytes=5-2\r\n", 200, 0, 3000000},
        {"Range: bytes=-\r\n", 200, 0, 3000000},
        {"Range: lines=1-2\r\n", 200, 0, 3000000},
    };
    struct stage stage = {.file_size = 3000000};
    struct buffer content = {0};
    uint64_t sum;
    tempdir_open(&stage.folder);
    fill(&content, 3000000, &sum);
    tempdir_write(tempdir_path(&stage.folder, "file"), content.data, content.size);
    struct net_server *server = open_stage(&stage);
    int fd = client_open(server);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buffer request = {0};
        struct answer answer;
        buffer_printf(&request, "GET /file" HOST "%s\r\n", cases[i].range);
        client_send(fd, request.data, request.size);
        client_answer(fd, false, &answer);
        if (answer.status != cases[i].status) fail_msg("%s: %d", cases[i].range, answer.status);
        if (answer.status != 416) {
            assert_int_equal(answer.body.size, cases[i].length);
            assert_memory_equal(answer.body.data, content.data + cases[i].offset, cases[i].length);
        }
        answer_free(&answer);
        buffer_free(&request);
    }
    close(fd);
    /* A file that has become shorter: what is missing is seen. */
    assert_int_equal(truncate(tempdir_path(&stage.folder, "file"), 1000), 0);
    struct buffer heard = {0};
    fd = client_open(server);
    client_say(fd, "GET /file" HOST "\r\n");
    client_receive_all(fd, &heard);
    assert_true(heard.size > 1000 && heard.size < 2000);
    close(fd);
    buffer_free(&heard);
    buffer_free(&content);
    server_close(server);
    tempdir_close(&stage.folder);
}

/* --- forms ------------------------------------------------------------------------------------- */

#define PART(name) "--b\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n"

static void forms(void **state)
{
    (void)state;
    static const struct {
        const char *type, *body;
        int status;
        const char *text; /* the parts, or a part of the message */
    } cases[] = {
        {"multipart/form-data; boundary=b", PART("a") "1\r\n--b--\r\n", 200, "[a||1]"},
        {"multipart/form-data; boundary=\"b\"", PART("a") "\r\n--b--", 200, "[a||]"},
        {"Multipart/Form-Data; charset=x; Boundary=b",
         PART("a") "1\r\n" PART("c") "2\r\n--b--\r\nrest", 200, "[a||1][c||2]"},
        {"multipart/form-data; boundary=b", "preamble\r\n" PART("a") "\r\n--a\r\n-b\r\n--\r\n--b--",
         200, "[a||\r\n--a\r\n-b\r\n--]"},
        {"multipart/form-data; boundary=b",
         "--b  \r\nX: y\r\ncontent-disposition:form-data; filename=\"a \\\"b\\\".jsonl\"; "
         "name=file\r\n\r\n1\r\n--b--",
         200, "[file|a \"b\".jsonl|1]"},
        {"multipart/form-data; boundary=b", PART("a") "1\r\n--b\r\n\r\n2\r\n--b--", 400,
         "Content-Disposition"},
        {"multipart/form-data; boundary=b", PART("a") "1", 400, "last boundary"},
        {"multipart/form-data; boundary=b", PART("a") "1\r\n--b", 400, "last boundary"},
        {"multipart/form-data; boundary=b",
         "--b\r\nContent-Disposition: form-data\r\n\r\n\r\n--b--", 200, "[||]"},
        {"multipart/form-data; boundary=b", "", 400, "last boundary"},
        {"multipart/form-data; boundary=b", PART("a") "1\r\n--bx\r\n--b--", 400, "boundary's line"},
        {"multipart/form-data; boundary=b",
         "--b\r\nContent-Disposition: attachment; name=a\r\n\r\n1\r\n--b--", 400,
         "Content-Disposition"},
        {"multipart/form-data; boundary=b",
         "--b\r\nContent-Disposition: form-data; name=a; name=b\r\n\r\n1\r\n--b--", 400,
         "Content-Disposition"},
        {"multipart/form-data; boundary=b",
         "--b\r\nContent-Disposition: form-data; name=\"a\r\n\r\n1\r\n--b--", 400,
         "Content-Disposition"},
        {"multipart/form-data; boundary=b",
         "--b\r\nContent-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: "
         "base64\r\n\r\n1\r\n--b--",
         400, "encoded"},
        {"multipart/form-data", PART("a") "1\r\n--b--", 400, "boundary"},
        {"multipart/form-data; boundary=", PART("a") "1\r\n--b--", 400, "boundary"},
        {"multipart/mixed; boundary=b", PART("a") "1\r\n--b--", 400, "multipart/form-data"},
    };
    struct stage stage = {0};
    struct net_server *server = open_stage(&stage);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        for (int is_whole = 0; is_whole < 2; is_whole++) {
            struct buffer request = {0}, body;
            buffer_printf(
                &request, "POST /form%s" HOST "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n%s",
                is_whole ? "-whole" : "", cases[i].type, strlen(cases[i].body), cases[i].body);
            buffer_byte(&request, '\0');
            int status = ask(server, request.data, &body);
            bool is_right = cases[i].status == 200 ? strcmp(body.data, cases[i].text) == 0
                                                   : strstr(body.data, cases[i].text) != NULL;
            if (status != cases[i].status || !is_right)
                fail_msg("%zu: %d %s", i, status, body.data);
            buffer_free(&body);
            buffer_free(&request);
        }
    }
    server_close(server);
}

static void form_limits(void **state)
{
    (void)state;
    struct stage stage = {0};
    struct net_server *server = open_stage(&stage);
    for (int kind = 0; kind < 4; kind++) {
        struct buffer form_body = {0}, request = {0}, body;
        int n = kind == 0 ? 64 : 65;
        if (kind < 2) {
            for (int i = 0; i < n; i++) buffer_text(&form_body, PART("a") "1\r\n");
        } else if (kind == 2) {
            buffer_text(&form_body, "--b\r\nX: ");
            for (int i = 0; i < 9000; i++) buffer_byte(&form_body, 'x');
            buffer_text(&form_body, "\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n");
        } else {
            for (int i = 0; i < 1000000; i++) buffer_byte(&form_body, 'x');
        }
        buffer_text(&form_body, "\r\n--b--");
        buffer_printf(&request,
                      "POST /form-whole" HOST "Content-Type: multipart/form-data; boundary=b\r\n"
                      "Content-Length: %zu\r\n\r\n%s",
                      form_body.size, "");
        buffer_append(&request, form_body.data, form_body.size);
        buffer_byte(&request, '\0');
        int status = ask(server, request.data, &body);
        if (status != (kind == 0 ? 200 : 400)) fail_msg("%d: %d %s", kind, status, body.data);
        buffer_free(&body);
        buffer_free(&form_body);
        buffer_free(&request);
    }
    server_close(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_read_is_not_taken),
        cmocka_unit_test(a_whole_body_may_be_read_in_pieces),
        cmocka_unit_test(a_body_is_asked_for_only_when_it_is_wanted),
        cmocka_unit_test(a_body_that_ends_early_is_an_error),
        cmocka_unit_test(an_answer_may_come_in_pieces),
        cmocka_unit_test(a_body_may_be_answered_while_it_comes),
        cmocka_unit_test(a_file_and_its_ranges),
        cmocka_unit_test(forms),
        cmocka_unit_test(form_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
