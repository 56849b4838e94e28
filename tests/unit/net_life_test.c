/* SPDX-License-Identifier: Apache-2.0 */
/* net_life_test.c - clients that are slow, silent, half there or gone; answers that come late; the server's
 * own end. Deadlines are short here; nothing is asserted about how long a wait took. */
#include "net_client.h"
#include "tempdir.h"

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/un.h>

#define KEPT_MAX 16

struct stage {
    struct exchange *kept[KEPT_MAX];
    _Atomic int n_kept, n_after, n_nothing, n_cut;
    _Atomic bool may_go;
    struct tempdir folder;
};

static void ok(struct exchange *exchange, void *context)
{
    (void)context;
    exchange_answer(exchange, 200, "text/plain", "ok", 2);
}

/* Somebody else answers, when the test wants it. */
static void keep(struct exchange *exchange, void *context)
{
    struct stage *stage = context;
    int n = atomic_load(&stage->n_kept);
    stage->kept[n] = exchange;
    atomic_store(&stage->n_kept, n + 1);
}

static void slow_handler(struct exchange *exchange, void *context)
{
    struct stage *stage = context;
    atomic_fetch_add(&stage->n_kept, 1);
    while (!atomic_load(&stage->may_go)) usleep(1000);
    exchange_answer(exchange, 200, "text/plain", "at last", 7);
}

static void read_all(struct exchange *exchange, void *context)
{
    char piece[4096];
    size_t n = 1;
    (void)context;
    while (n > 0) {
        tidemill_error *error = exchange_read(exchange, piece, sizeof piece, &n);
        if (error == NULL) continue;
        exchange_refuse(exchange, 408, "%s", error_message(error));
        error_free(error);
        return;
    }
    exchange_answer(exchange, 200, "text/plain", "ok", 2);
}

static void endless(struct exchange *exchange, void *context)
{
    struct stage *stage = context;
    char piece[4096] = {0};
    exchange_begin(exchange, 200, "text/plain");
    tidemill_error *error = NULL;
    while (error == NULL) error = exchange_write(exchange, piece, sizeof piece);
    if (error_code_of(error) == ERROR_IO) atomic_fetch_add(&stage->n_cut, 1);
    error_free(error);
    exchange_end(exchange, false);
}

#define GIB ((uint64_t)1 << 30)

static void sparse_file(struct exchange *exchange, void *context)
{
    struct stage *stage = context;
    int fd = open(tempdir_path(&stage->folder, "gib"), O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    exchange_answer_file(exchange, 200, "application/octet-stream", fd, 0, GIB);
}

static const struct net_route routes[] = {
    {.method = NET_GET, .pattern = "/ok", .handle = ok},
    {.method = NET_POST, .pattern = "/whole", .handle = ok, .body = NET_BODY_WHOLE},
    {.method = NET_GET, .pattern = "/keep", .handle = keep},
    {.method = NET_GET, .pattern = "/slow", .handle = slow_handler, .is_blocking = true},
    {.method = NET_POST,
     .pattern = "/read",
     .handle = read_all,
     .body = NET_BODY_STREAM,
     .is_blocking = true},
    {.method = NET_GET, .pattern = "/endless", .handle = endless, .is_blocking = true},
    {.method = NET_GET, .pattern = "/gib", .handle = sparse_file},
};

static void after(struct exchange *exchange, void *context)
{
    struct stage *stage = context;
    if (exchange_status(exchange) == 0) atomic_fetch_add(&stage->n_nothing, 1);
    atomic_fetch_add(&stage->n_after, 1);
}

static struct net_options options_of(struct stage *stage)
{
    return (struct net_options){
        .routes = routes, .n_routes = COUNT_OF(routes), .context = stage, .after = after};
}

static void wait_for(_Atomic int *counter, int n)
{
    for (int i = 0; atomic_load(counter) < n; i++) {
        if (i > CLIENT_WAIT_MS) fail_msg("%d instead of %d", atomic_load(counter), n);
        usleep(1000);
    }
}

static void wait_until_alone(struct net_server *server)
{
    struct net_stats stats = {.connections = 1};
    for (int i = 0; stats.connections > 0; i++) {
        if (i > CLIENT_WAIT_MS)
            fail_msg("%llu connections are left", (unsigned long long)stats.connections);
        usleep(1000);
        net_server_stats(server, &stats);
    }
}

#define HOST " HTTP/1.1\r\nHost: a\r\n"

static void expect_status(int fd, int status)
{
    struct answer answer;
    client_answer(fd, false, &answer);
    if (answer.status != status)
        fail_msg("%d instead of %d: %s", answer.status, status, answer.body.data);
    answer_free(&answer);
}

/* --- slow -------------------------------------------------------------------------------------- */

/* One byte now and then does not keep it: the deadline is the head's, not the byte's. */
static void a_head_that_comes_slowly_is_given_up(void **state)
{
    (void)state;
    struct stage stage = {0};
    struct net_options options = options_of(&stage);
    options.limits.header_ms = 300;
    struct net_server *server = server_open(options);
    int fd = client_open(server);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    client_say(fd, "GET /ok" HOST);
    while (poll(&wait, 1, 20) == 0) client_say(fd, "X: 1\r\n");
    expect_status(fd, 408);
    client_expect_end(fd);
    close(fd);
    server_close(server);
}

static void a_body_that_comes_slowly_is_given_up(void **state)
{
    (void)state;
    static const char *const paths[] = {"POST /whole", "POST /read"};
    struct stage stage = {0};
    struct net_options options = options_of(&stage);
    options.limits.body_window_ms = 300;
    struct net_server *server = server_open(options);
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        int fd = client_open(server);
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        client_say(fd, paths[i]);
        client_say(fd, HOST "Content-Length: 100000\r\n\r\n");
        while (poll(&wait, 1, 20) == 0) client_say(fd, "x");
        expect_status(fd, 408);
        client_expect_end(fd);
        close(fd);
    }
    server_close(server);
}

/* The same rate of the slowest that is fine: many windows go by. */
static void a_body_that_comes_steadily_is_taken(void **state)
{
    (void)state;
    struct stage stage = {0};
    struct net_options options = options_of(&stage);
    options.limits.body_window_ms = 200;
    options.limits.body_rate = 50;
    struct net_server *server = server_open(options);
    char piece[1000] = {0};
    int fd = client_open(server);
    client_say(fd, "POST /read" HOST "Content-Length: 50000\r\n\r\n");
    for (int i = 0; i < 50; i++) {
        client_send(fd, piece, sizeof piece);
        usleep(20000);
    }
    expect_status(fd, 200);
    close(fd);
    server_close(server);
}

static void an_idle_connection_is_closed(void **state)
{
    (void)state;
    struct stage stage = {0};
    struct net_options options = options_of(&stage);
    options.limits.idle_ms = 200;
    struct net_server *server = server_open(options);
    int fresh = client_open(server), used = client_open(server);
    client_say(used, "GET /ok" HOST "\r\n");
    expect_status(used, 200);
    client_expect_end(used);
    client_expect_end(fresh);
    close(fresh);
    close(used);
    server_close(server);
}

/* An answer that nobody takes: the connection is reset, the handler is told. */
static void a_client_that_takes_nothing_is_cut_off(void **state)
{
    (void)state;
    struct stage stage = {0};
    struct net_options options = options_of(&stage);
    options.limits.write_ms = 300;
    struct net_server *server = server_open(options);
    int fd = client_open(server);
    client_say(fd, "GET /endless" HOST "\r\n");
    wait_for(&stage.n_cut, 1);
    wait_for(&stage.n_after, 1);
    close(fd);
    server_close(server);
}

static size_t resident_bytes(void)
{
    long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_int_equal(fscanf(file, "%ld %ld", &pages, &resident), 2);
    fclose(file);
    return (size_t)resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* Slower than the deadline for taking nothing, but never nothing. */
static void a_slow_reader_of_a_large_file_gets_all_of_it(void **state)
{
    (void)state;
    struct stage stage = {0};
    tempdir_open(&stage.folder);
    tempdir_write(tempdir_path(&stage.folder, "gib"), "", 0);
    assert_int_equal(truncate(tempdir_path(&stage.folder, "gib"), (off_t)GIB), 0);
    struct net_options options = options_of(&stage);
    options.limits.write_ms = 2000;
    struct net_server *server = server_open(options);
    size_t before = resident_bytes();
    int fd = client_open(server);
    client_say(fd, "GET /gib" HOST "Connection: close\r\n\r\n");
    static char piece[1 << 20];
    uint64_t total = 0;
    size_t n;
    for (int i = 0; (n = client_receive(fd, piece, sizeof piece)) > 0; i++) {
        if (i < 20) usleep(50000);
        total += n;
    }
    assert_true(total > GIB && total < GIB + 1000);
    assert_true(resident_bytes() < before + ((size_t)16 << 20));
    close(fd);
    server_close(server);
    tempdir_close(&stage.folder);
}

/* --- many -------------------------------------------------------------------------------------- */

/* README.md promises 1 KiB of ours for an idle connection; the kernel has its own. */
static void idle_connections_cost_little(void **state)
{
    (void)state;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
    size_t n = MIN(10000, (size_t)limit.rlim_cur / 2 - 100);
    struct stage stage = {0};
    struct net_server *server = server_open(options_of(&stage));
    int *fds = malloc(n * sizeof *fds);
    assert_non_null(fds);
    for (size_t i = 0; i < 300; i++) fds[i] = client_open(server); /* what is allocated once */
    for (size_t i = 0; i < 300; i++) {
        client_say(fds[i], "GET /ok" HOST "\r\n");
        expect_status(fds[i], 200);
    }
    size_t before = resident_bytes();
    for (size_t i = 300; i < n; i++) {
        fds[i] = client_open(server);
        client_say(fds[i], "GET /ok" HOST "\r\n");
        expect_status(fds[i], 200);
    }
    size_t each = (resident_bytes() - before) / (n - 300);
    print_message("%zu idle connections, %zu bytes each\n", n, each);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(each <= 1024);
#endif
    client_say(fds[0], "GET /ok" HOST "\r\n");
    expect_status(fds[0], 200);
    for (size_t i = 0; i < n; i++) close(fds[i]);
    wait_until_alone(server);
    free(fds);
    server_close(server);
}

static void connections_beyond_the_limit_wait(void **state)
{
    (void)state;
    struct stage stage = {0};
    struct net_options options = options_of(&stage);
    options.limits.connections = 2;
    struct net_server *server = server_open(options);
    int first = client_open(server), second = client_open(server);
    client_say(first, "GET /ok" HOST "\r\n");
    expect_status(first, 200);
    client_say(second, "GET /ok" HOST "\r\n");
    expect_status(second, 200);
    int third = client_open(server);
    struct pollfd wait = {.fd = third, .events = POLLIN};
    client_say(third, "GET /ok" HOST "\r\n");
    assert_int_equal(poll(&wait, 1, 300), 0);
    close(first);
    expect_status(third, 200);
    close(second);
    close(third);
    server_close(server);
}

static void connections_of_an_address_are_limited(void **state)
{
    (void)state;
    struct stage stage = {0};
    struct net_options options = options_of(&stage);
    options.limits.connections_address = 2;
    struct net_server *server = server_open(options);
    int first = client_open(server), second = client_open(server), third = client_open(server);
    client_say(first, "GET /ok" HOST "\r\n");
    expect_status(first, 200);
    client_expect_end(third);
    close(third);
    close(second);
    wait_until_alone((close(first), server));
    assert_int_equal(ask(server, "GET /ok" HOST "\r\n", NULL), 200);
    server_close(server);
}

/* Without a descriptor left the server waits for one; it does not turn in circles, and goes on then. */
static void without_descriptors_connections_wait(void **state)
{
    (void)state;
    struct stage stage = {0};
    struct net_server *server = server_open(options_of(&stage));
    struct rlimit limit, low;
    int waiting = client_open(server); /* the client's own are there before they are used up */
    client_say(waiting, "GET /ok" HOST "\r\n");
    expect_status(waiting, 200);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(server_port(server))};
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), last = dup(fd);
    getrlimit(RLIMIT_NOFILE, &limit);
    low = (struct rlimit){.rlim_cur = (rlim_t)last, .rlim_max = limit.rlim_max};
    close(last);
    setrlimit(RLIMIT_NOFILE, &low);
    assert_int_equal(connect(fd, (struct sockaddr *)&name, sizeof name), 0);
    client_say(fd, "GET /ok" HOST "\r\n");
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    double busy = clock_process_cpu_s();
    assert_int_equal(poll(&wait, 1, 1000), 0);
    busy = clock_process_cpu_s() - busy;
    client_say(waiting, "GET /ok" HOST "\r\n");
    expect_status(waiting, 200);
    setrlimit(RLIMIT_NOFILE, &limit);
    expect_status(fd, 200);
    if (busy > 0.5) fail_msg("%.2f s of processor in a second of waiting", busy);
    close(fd);
    close(waiting);
    server_close(server);
}

/* --- gone -------------------------------------------------------------------------------------- */

static void a_client_that_sends_no_more_is_answered(void **state)
{
    (void)state;
    struct stage stage = {0};
    struct net_server *server = server_open(options_of(&stage));
    struct buffer heard = {0};
    int fd = client_open(server);
    client_say(fd, "GET /ok" HOST "\r\nGET /keep" HOST "\r\nGET /ok" HOST "\r\n");
    shutdown(fd, SHUT_WR);
    wait_for(&stage.n_kept, 1);
    exchange_answer(stage.kept[0], 201, "text/plain", "kept", 4);
    client_receive_all(fd, &heard);
    const char *second = strstr(heard.data, "HTTP/1.1 201");
    assert_non_null(second);
    assert_non_null(strstr(second, "HTTP/1.1 200"));
    close(fd);
    buffer_free(&heard);
    /* half a request is nobody's */
    fd = client_open(server);
    client_say(fd, "GET /ok" HOST);
    shutdown(fd, SHUT_WR);
    client_expect_end(fd);
    close(fd);
    server_close(server);
}

static void hang_up(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd);
}

static void an_exchange_outlives_its_client(void **state)
{
    (void)state;
    struct stage stage = {0};
    struct net_server *server = server_open(options_of(&stage));
    for (int i = 0; i < 2; i++) {
        int fd = client_open(server);
        client_say(fd, "GET /keep" HOST "\r\n");
        wait_for(&stage.n_kept, i + 1);
        hang_up(fd);
        wait_until_alone(server);
        assert_true(exchange_is_gone(stage.kept[i]));
        assert_memory_equal(exchange_peer(stage.kept[i]), "127.0.0.1:", 10);
        exchange_set_header(stage.kept[i], "X-Thing", "%d", 1);
        exchange_answer(stage.kept[i], 200, "text/plain", "too late", 8);
        wait_for(&stage.n_nothing, i + 1);
    }
    assert_int_equal(ask(server, "GET /ok" HOST "\r\n", NULL), 200);
    server_close(server);
}

static void a_client_may_reset_in_the_middle_of_an_answer(void **state)
{
    (void)state;
    struct stage stage = {0};
    tempdir_open(&stage.folder);
    tempdir_write(tempdir_path(&stage.folder, "gib"), "", 0);
    assert_int_equal(truncate(tempdir_path(&stage.folder, "gib"), (off_t)GIB), 0);
    struct net_server *server = server_open(options_of(&stage));
    for (int i = 0; i < 20; i++) {
        char piece[4096];
        int fd = client_open(server);
        client_say(fd, i % 2 == 0 ? "GET /endless" HOST "\r\n" : "GET /gib" HOST "\r\n");
        assert_true(client_receive(fd, piece, sizeof piece) > 0);
        hang_up(fd);
    }
    wait_for(&stage.n_after, 20);
    wait_until_alone(server);
    server_close(server);
    tempdir_close(&stage.folder);
}

/* --- the end ----------------------------------------------------------------------------------- */

static void *stop(void *server)
{
    net_server_stop(server, CLIENT_WAIT_MS);
    return NULL;
}

static void a_stop_waits_for_what_is_under_way(void **state)
{
    (void)state;
    struct stage stage = {0};
    struct net_server *server = server_open(options_of(&stage));
    int idle = client_open(server), busy = client_open(server);
    client_say(idle, "GET /ok" HOST "\r\n");
    expect_status(idle, 200);
    client_say(busy, "GET /slow" HOST "\r\n");
    wait_for(&stage.n_kept, 1);
    pthread_t thread;
    pthread_create(&thread, NULL, stop, server);
    client_expect_end(idle);
    atomic_store(&stage.may_go, true);
    struct answer answer;
    client_answer(busy, false, &answer);
    assert_int_equal(answer.status, 200);
    assert_non_null(answer_header(&answer, "Connection: close"));
    answer_free(&answer);
    client_expect_end(busy);
    pthread_join(thread, NULL);
    close(idle);
    close(busy);
    net_server_free(server);
}

/* Kept by somebody who answers after the server's end: nothing breaks, the client saw it close. */
static void whoever_is_left_is_cut_off(void **state)
{
    (void)state;
    struct stage stage = {0};
    struct net_server *server = server_open(options_of(&stage));
    int kept = client_open(server), body = client_open(server), out = client_open(server);
    client_say(kept, "GET /keep" HOST "\r\n");
    wait_for(&stage.n_kept, 1);
    client_say(body, "POST /read" HOST "Content-Length: 10\r\n\r\n");
    client_say(out, "GET /endless" HOST "\r\n");
    char piece[100];
    assert_true(client_receive(out, piece, sizeof piece) > 0);
    net_server_stop(server, 1);
    client_expect_end(kept);
    assert_int_equal(atomic_load(&stage.n_cut), 1);
    exchange_answer(stage.kept[0], 200, "text/plain", "after the end", 13);
    wait_for(&stage.n_after, 3);
    close(kept);
    close(body);
    close(out);
    net_server_free(server);
}

/* --- addresses --------------------------------------------------------------------------------- */

static int say_at_unix(const char *path, int type)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    snprintf(name.sun_path, sizeof name.sun_path, "%s", path);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&name, sizeof name) == 0) return fd;
    close(fd);
    return -1;
}

static void many_addresses(void **state)
{
    (void)state;
    struct stage stage = {0};
    tempdir_open(&stage.folder);
    char path[100], inherited[32];
    snprintf(path, sizeof path, "unix:%s", tempdir_path(&stage.folder, "socket"));
    struct sockaddr_in name = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    bind(fd, (struct sockaddr *)&name, sizeof name);
    listen(fd, 16);
    snprintf(inherited, sizeof inherited, "fd:%d", fd);
    const char *const given[] = {"127.0.0.1:0", path, inherited, "[::1]:0"};
    struct net_options options = options_of(&stage);
    options.addresses = given;
    options.n_addresses = 4;
    int v6 = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 loopback = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    if (v6 < 0 || bind(v6, (struct sockaddr *)&loopback, sizeof loopback) != 0)
        options.n_addresses = 3;
    close(v6);
    struct net_server *server = server_open(options);
    const char *const *addresses;
    assert_int_equal(net_server_addresses(server, &addresses), options.n_addresses);
    expect_text(addresses[1], path, "unix");
    assert_int_equal(strncmp(addresses[2], "0.0.0.0:", 8), 0);
    if (options.n_addresses == 4) assert_int_equal(strncmp(addresses[3], "[::1]:", 6), 0);
    int client = say_at_unix(path + 5, SOCK_STREAM);
    client_say(client, "GET /keep" HOST "\r\n");
    wait_for(&stage.n_kept, 1);
    expect_text(exchange_peer(stage.kept[0]), "unix", "peer");
    exchange_answer(stage.kept[0], 200, NULL, NULL, 0);
    expect_status(client, 200);
    close(client);
    /* a second server there is refused, a third after the end is not */
    struct net_server *second;
    options.addresses = &given[1];
    options.n_addresses = 1;
    expect_error(net_server_new(&options, &second), ERROR_USAGE, "another process", path);
    server_close(server);
    assert_int_equal(access(path + 5, F_OK), -1);
    int left = socket(AF_UNIX, SOCK_STREAM, 0); /* what a killed process leaves */
    struct sockaddr_un old = {.sun_family = AF_UNIX};
    snprintf(old.sun_path, sizeof old.sun_path, "%s", path + 5);
    assert_int_equal(bind(left, (struct sockaddr *)&old, sizeof old), 0);
    close(left);
    server = server_open(options);
    client = say_at_unix(path + 5, SOCK_STREAM);
    client_say(client, "GET /ok" HOST "\r\n");
    expect_status(client, 200);
    close(client);
    server_close(server);
    tempdir_close(&stage.folder);
}

static void wrong_addresses_are_told(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",
                                        "8080",
                                        ":8080",
                                        "127.0.0.1",
                                        "127.0.0.1:",
                                        "127.0.0.1:x",
                                        "127.0.0.1:65536",
                                        "127.0.0.1:-1",
                                        "::1:80",
                                        "[::1]",
                                        "[]:80",
                                        "unix:",
                                        "fd:",
                                        "fd:x",
                                        "fd:0x3",
                                        "fd:99999",
                                        "unix:/nowhere/at/all",
                                        "unix:/dev/null",
                                        "256.1.1.1:80"};
    struct stage stage = {0};
    struct net_server *server = server_open(options_of(&stage)), *second;
    struct net_options options = options_of(&stage);
    options.n_addresses = 1;
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        options.addresses = &wrong[i];
        tidemill_error *error = net_server_new(&options, &second);
        if (error == NULL) fail_msg("%s was taken", wrong[i]);
        expect_error(error, ERROR_USAGE, "listen on", wrong[i]);
    }
    const char *const *addresses;
    net_server_addresses(server, &addresses);
    options.addresses = addresses;
    expect_error(net_server_new(&options, &second), ERROR_USAGE, "taken", "a second one");
    server_close(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_that_comes_slowly_is_given_up),
        cmocka_unit_test(a_body_that_comes_slowly_is_given_up),
        cmocka_unit_test(a_body_that_comes_steadily_is_taken),
        cmocka_unit_test(an_idle_connection_is_closed),
        cmocka_unit_test(a_client_that_takes_nothing_is_cut_off),
        cmocka_unit_test(a_slow_reader_of_a_large_file_gets_all_of_it),
        cmocka_unit_test(idle_connections_cost_little),
        cmocka_unit_test(connections_beyond_the_limit_wait),
        cmocka_unit_test(connections_of_an_address_are_limited),
        cmocka_unit_test(without_descriptors_connections_wait),
        cmocka_unit_test(a_client_that_sends_no_more_is_answered),
        cmocka_unit_test(an_exchange_outlives_its_client),
        cmocka_unit_test(a_client_may_reset_in_the_middle_of_an_answer),
        cmocka_unit_test(a_stop_waits_for_what_is_under_way),
        cmocka_unit_test(whoever_is_left_is_cut_off),
        cmocka_unit_test(many_addresses),
        cmocka_unit_test(wrong_addresses_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
