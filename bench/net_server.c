/* SPDX-License-Identifier: Apache-2.0 */
/* net_server.c - the server of src/net with a constant answer on one loop, for bench/http_answers.py to load. Prints
 * its address, runs until its standard input ends. GET /ok: answered on the loop; GET /pool: by a thread of
 * the pool; POST /echo: what was sent. */
#include "net/net.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void ok(struct exchange *exchange, void *context)
{
    (void)context;
    exchange_answer(exchange, 200, "text/plain", "ok", 2);
}

static void echo(struct exchange *exchange, void *context)
{
    (void)context;
    struct slice body = exchange_body(exchange);
    exchange_answer(exchange, 200, "text/plain", body.data, body.size);
}

int main(int argc, char **argv)
{
    static const struct net_route routes[] = {
        {.method = NET_GET, .pattern = "/ok", .handle = ok, .operation = "ok"},
        {.method = NET_GET,
         .pattern = "/pool",
         .handle = ok,
         .is_blocking = true,
         .operation = "pool"},
        {.method = NET_POST,
         .pattern = "/echo",
         .body = NET_BODY_WHOLE,
         .handle = echo,
         .operation = "echo"},
    };
    const char *address = argc > 1 ? argv[1] : "127.0.0.1:0";
    struct net_options options = {
        .addresses = &address,
        .n_addresses = 1,
        .routes = routes,
        .n_routes = COUNT_OF(routes),
        .loops = 1,
        .pool_threads = 4,
    };
    struct net_server *server;
    const char *const *addresses;
    char byte;
    signal(SIGPIPE, SIG_IGN);
    tidemill_error *error = net_server_new(&options, &server);
    if (error == NULL) error = net_server_start(server);
    if (error != NULL) {
        fprintf(stderr, "net_server: %s\n", error_message(error));
        return 1;
    }
    net_server_addresses(server, &addresses);
    printf("%s\n", addresses[0]);
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    net_server_stop(server, 1000);
    net_server_free(server);
    return 0;
}
