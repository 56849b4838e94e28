/* SPDX-License-Identifier: Apache-2.0 */
/* server_resp_test.c - the Redis protocol over a socket: what is answered, to whom, and what a client that
 * floods, stalls or lies gets. */
#include "results_fakes.h"
#include "server/resp_parts.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>

#include <cmocka.h>

static struct fake_server server;
static struct resp *resp;

static int open_server(void **state)
{
    (void)state;
    fake_open(&server);
    fake_put(&server, "default", "plain", "{\"id\":\"k\",\"v\":1}\n{\"id\":\"l\",\"v\":2}\n", 1000);
    fake_put(&server, "b", "plain", "{\"id\":\"k\",\"of\":\"b\"}\n", 1000);
    tidemill_error *error = resp_start(&server.app, "127.0.0.1:0", &resp);
    if (error != NULL) fail_msg("%s", error_message(error));
    return 0;
}

static int close_server(void **state)
{
    (void)state;
    resp_stop(resp);
    fake_close(&server);
    return 0;
}

static int dial(void)
{
    struct sockaddr_in name = {.sin_family = AF_INET};
    inet_pton(AF_INET, "127.0.0.1", &name.sin_addr);
    name.sin_port = htons((uint16_t)strtol(strrchr(resp_address(resp), ':') + 1, NULL, 10));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&name, sizeof name), 0);
    struct timeval limit = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
}

static void say(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        assert_true(n > 0);
        data += n;
        size -= (size_t)n;
    }
}

static void say_text(int fd, const char *text)
{
    say(fd, text, strlen(text));
}

static void hear(int fd, const char *expected)
{
    char text[4096];
    size_t size = strlen(expected), n = 0;
    while (n < size) {
        ssize_t some = recv(fd, text + n, size - n, 0);
        if (some <= 0) break;
        n += (size_t)some;
    }
    text[n] = '\0';
    assert_string_equal(text, expected);
}

static bool is_closed(int fd)
{
    char byte;
    return recv(fd, &byte, 1, 0) <= 0;
}

struct row {
    const char *said, *heard;
};

#define VALUE "$16\r\n{\"id\":\"k\",\"v\":1}\r\n"

static const struct row rows[] = {
    {"PING\r\n", "+PONG\r\n"},
    {"*2\r\n$4\r\nping\r\n$2\r\nhi\r\n", "$2\r\nhi\r\n"},
    {"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", "$0\r\n\r\n"},
    {"GET plain:k\r\n", VALUE},
    {"GET plain:x\r\n", "$-1\r\n"},
    {"GET nosuch:k\r\n", "$-1\r\n"},
    {"GET k\r\n", "$-1\r\n"},
    {"GET :k\r\n", "$-1\r\n"},
    {"GET plain:\r\n", "$-1\r\n"},
    {"GET usual:x\r\n", "$11\r\n{\"label\":0}\r\n"},
    {"MGET plain:k plain:x plain:k\r\n", "*3\r\n" VALUE "$-1\r\n" VALUE},
    {"EXISTS plain:k plain:x plain:l usual:x\r\n", ":2\r\n"},
    {"STRLEN plain:k\r\n", ":16\r\n"},
    {"STRLEN plain:x\r\n", ":0\r\n"},
    {"TTL plain:k\r\n", ":-1\r\n"},
    {"PTTL plain:x\r\n", ":-2\r\n"},
    {"TYPE plain:k\r\n", "+string\r\n"},
    {"SELECT 0\r\n", "+OK\r\n"},
    {"SELECT 1\r\n", "-ERR DB index is out of range\r\n"},
    {"CLIENT SETINFO LIB-NAME x\r\n", "+OK\r\n"},
    {"CLIENT SETNAME me\r\nCLIENT GETNAME\r\n", "+OK\r\n$2\r\nme\r\n"},
    {"CLIENT KILL x\r\n", "-ERR unknown subcommand 'KILL'. Try SETINFO, SETNAME, GETNAME, ID\r\n"},
    {"COMMAND\r\n", "*0\r\n"},
    {"CONFIG GET save\r\n", "*0\r\n"},
    {"DBSIZE\r\n", ":3\r\n"},
    {"SET plain:k v\r\n", "-ERR unknown command 'SET'\r\n"},
    {"FLUSHALL\r\n", "-ERR unknown command 'FLUSHALL'\r\n"},
    {"*1\r\n$8\r\nFOO\r\nBAR\r\n", "-ERR unknown command 'FOO  BAR'\r\n"},
    {"GET\r\n", "-ERR wrong number of arguments for 'get' command\r\n"},
    {"HELLO 4\r\n", "-NOPROTO unsupported protocol version\r\n"},
    {"HELLO 3 NONSENSE\r\n", "-ERR Syntax error in HELLO\r\n"},
    {"AUTH nothing\r\n", "-WRONGPASS invalid username-password pair or user is disabled.\r\n"},
    {"RESET\r\n", "+RESET\r\n"},
    {"\r\n\r\nPING\r\n", "+PONG\r\n"},
};

static void answers_commands(void **state)
{
    (void)state;
    int fd = dial();
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        say(fd, rows[i].said, strlen(rows[i].said));
        hear(fd, rows[i].heard);
    }
    say_text(fd, "QUIT\r\nPING\r\n");
    hear(fd, "+OK\r\n");
    assert_true(is_closed(fd));
    close(fd);
}

static void speaks_the_newer_protocol(void **state)
{
    (void)state;
    int fd = dial();
    const char *hello = "HELLO 3 SETNAME me\r\n";
    say(fd, hello, strlen(hello));
    hear(fd, "%7\r\n$6\r\nserver\r\n$8\r\ntidemill\r\n$7\r\nversion\r\n");
    hear(fd, "$5\r\n" TIDEMILL_VERSION "\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n"
             "$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n"
             "$7\r\nmodules\r\n*0\r\n");
    say_text(fd, "GET plain:x\r\nCONFIG GET x\r\n");
    hear(fd, "_\r\n%0\r\n");
    close(fd);
}

/* One byte at a time, and all at once, are the same. */
static void takes_commands_in_pieces(void **state)
{
    (void)state;
    static const char bytes[] = "*2\r\n$3\r\nGET\r\n$7\r\nplain:k\r\nPING\r\n";
    int fd = dial();
    for (size_t i = 0; i < sizeof bytes - 1; i++) say(fd, bytes + i, 1);
    hear(fd, VALUE "+PONG\r\n");
    close(fd);
}

static void wants_a_key_where_there_are_keys(void **state)
{
    (void)state;
    fake.key = "tdm_secret";
    fake.key_tenant = "b";
    int fd = dial();
    say_text(fd, "GET plain:k\r\nFOO\r\nHELLO 3\r\nAUTH wrong\r\n");
    hear(fd, "-NOAUTH Authentication required.\r\n-NOAUTH Authentication required.\r\n"
             "-NOAUTH HELLO must be called with the client already authenticated, or with AUTH "
             "<user> <key>\r\n-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    const char *auth = "AUTH anybody tdm_secret\r\nGET plain:k\r\nGET plain:l\r\nDBSIZE\r\n";
    say(fd, auth, strlen(auth));
    hear(fd, "+OK\r\n$19\r\n{\"id\":\"k\",\"of\":\"b\"}\r\n$-1\r\n"
             "-NOPERM this needs an administrator's key\r\n");
    say_text(fd, "RESET\r\nGET plain:k\r\n");
    hear(fd, "+RESET\r\n-NOAUTH Authentication required.\r\n");
    close(fd);
    fake.key_queues = "usual"; /* of which it may use this one alone */
    fd = dial();
    auth = "AUTH tdm_secret\r\nGET plain:k\r\n";
    say(fd, auth, strlen(auth));
    hear(fd, "+OK\r\n$-1\r\n");
    close(fd);
}

/* A key that is revoked while its owner is connected. */
static void forgets_a_revoked_key(void **state)
{
    (void)state;
    struct resp_client client = {.has_key = true, .key = "tdm_secret", .protocol = 2};
    fake.key = "tdm_other";
    resp_check_caller(&server.app, &client);
    assert_false(client.has_key || client.is_open);
}

static void refuses_what_it_cannot_understand(void **state)
{
    (void)state;
    static const char *const said[] = {"*1\r\n$10000000000\r\n", "*2000\r\n", "*1\r\n:1\r\n"};
    static const char *const heard[] = {"-ERR Protocol error: invalid bulk length\r\n",
                                        "-ERR Protocol error: invalid multibulk length\r\n",
                                        "-ERR Protocol error: expected '$'\r\n"};
    for (size_t i = 0; i < COUNT_OF(said); i++) {
        int fd = dial();
        say_text(fd, "PING\r\n");
        say(fd, said[i], strlen(said[i]));
        hear(fd, "+PONG\r\n");
        hear(fd, heard[i]);
        assert_true(is_closed(fd));
        close(fd);
    }
}

#define FLOOD 200000

static void *flood(void *context)
{
    struct buffer bytes = {0};
    for (int i = 0; i < FLOOD; i++) buffer_text(&bytes, "GET plain:k\r\n");
    say(*(int *)context, bytes.data, bytes.size);
    buffer_free(&bytes);
    return NULL;
}

/* Asks for megabytes and does not take them at first: all of them come in the end, others are served
 * meanwhile. */
static void waits_for_a_client_that_does_not_read(void **state)
{
    (void)state;
    int fd = dial(), other = dial();
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, flood, &fd), 0);
    for (int i = 0; i < 100; i++) {
        say_text(other, "PING\r\n");
        hear(other, "+PONG\r\n");
    }
    for (int i = 0; i < FLOOD; i++) hear(fd, VALUE);
    pthread_join(thread, NULL);
    close(fd);
    close(other);
}

/* Gone in the middle of whatever it did. */
static void outlives_clients_that_go(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        int fd = dial();
        for (int k = 0; k < i * 20; k++) say_text(fd, "MGET plain:k plain:k\r\n");
        say(fd, "*2\r\n$3\r\nGE", (size_t)(i % 11));
        struct linger hard = {.l_onoff = 1};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        close(fd);
    }
    int fd = dial();
    say_text(fd, "PING\r\n");
    hear(fd, "+PONG\r\n");
    close(fd);
}

static void listens_only_where_it_may(void **state)
{
    (void)state;
    struct resp *other = NULL;
    static const char *const wrong[] = {"0.0.0.0:0", "127.0.0.1", ":0", "127.0.0.1:x", "unix:"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        tidemill_error *error = resp_start(&server.app, wrong[i], &other);
        if (error == NULL) fail_msg("%s", wrong[i]);
        assert_int_equal(error_code_of(error), ERROR_USAGE);
        error_free(error);
    }
    char address[128];
    snprintf(address, sizeof address, "unix:%s", tempdir_path(&fake.folder, "socket"));
    assert_null(resp_start(&server.app, address, &other));
    struct resp *second = NULL;
    tidemill_error *error = resp_start(&server.app, address, &second);
    assert_int_equal(error_code_of(error), ERROR_USAGE);
    error_free(error);
    resp_stop(other);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_server, close_server)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(answers_commands),
        TEST(speaks_the_newer_protocol),
        TEST(takes_commands_in_pieces),
        TEST(wants_a_key_where_there_are_keys),
        TEST(forgets_a_revoked_key),
        TEST(refuses_what_it_cannot_understand),
        TEST(waits_for_a_client_that_does_not_read),
        TEST(outlives_clients_that_go),
        TEST(listens_only_where_it_may),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
