/* SPDX-License-Identifier: Apache-2.0 */
/* server.c - starts and stops loops and the pool. A stop goes in stages: no new connections and none that
 * is idle; then whoever is left is cut off; then handlers end, then the loops. */
#include "net/impl.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

static void fill_limits(struct net_limits *limits)
{
#define DEFAULT(field, value)                                                                      \
    if (limits->field == 0) limits->field = value
    DEFAULT(header_bytes, (size_t)16 << 10);
    DEFAULT(headers, 100);
    DEFAULT(body_bytes, (size_t)64 << 20);
    DEFAULT(connections, 16384);
    DEFAULT(header_ms, 10000);
    DEFAULT(idle_ms, 75000);
    DEFAULT(body_rate, 1024);
    DEFAULT(body_window_ms, 30000);
    DEFAULT(write_ms, 60000);
#undef DEFAULT
}

static int default_loops(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN) / 2;
    return n < 1 ? 1 : n > 64 ? 64 : (int)n;
}

static tidemill_error *open_listeners(struct net_server *server)
{
    const struct net_options *options = &server->options;
    server->listeners = calloc(options->n_addresses + 1, sizeof *server->listeners);
    server->addresses = calloc(options->n_addresses + 1, sizeof *server->addresses);
    if (server->listeners == NULL || server->addresses == NULL) return error_memory();
    for (size_t i = 0; i < options->n_addresses; i++) {
        struct listener *listener = &server->listeners[i];
        server->n_listeners = i + 1;
        TRY(listener_open(options->addresses[i], server->tls != NULL, listener));
        server->addresses[i] = listener->address;
    }
    return NULL;
}

static tidemill_error *make_loops(struct net_server *server)
{
    int n = server->options.loops > 0 ? server->options.loops : default_loops();
    server->loops = calloc((size_t)n, sizeof *server->loops);
    if (server->loops == NULL) return error_memory();
    for (int i = 0; i < n; i++) {
        server->n_loops = (size_t)i + 1;
        TRY(loop_init(&server->loops[i], server));
    }
    return NULL;
}

static tidemill_error *fill(struct net_server *server)
{
    const struct net_options *options = &server->options;
    TRY(route_table_new(options->routes, options->n_routes, &server->routes));
    if (options->tls_certificate != NULL)
        TRY(tls_context(options->tls_certificate, options->tls_key, &server->tls));
    if (options->limits.connections_address > 0)
        TRY(address_table_new(options->limits.connections_address, &server->by_address));
    TRY(open_listeners(server));
    return make_loops(server);
}

tidemill_error *net_server_new(const struct net_options *options, struct net_server **ret)
{
    struct net_server *server = calloc(1, sizeof *server);
    if (server == NULL) return error_memory();
    server->options = *options;
    fill_limits(&server->options.limits);
    pthread_mutex_init(&server->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&server->quiet, &attributes);
    pthread_condattr_destroy(&attributes);
    tidemill_error *error = fill(server);
    if (error != NULL) {
        net_server_free(server);
        return error;
    }
    *ret = server;
    return NULL;
}

static tidemill_error *listen_all(struct net_server *server)
{
    for (size_t i = 0; i < server->n_listeners; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &server->listeners[i]};
        if (epoll_ctl(server->loops[0].epoll, EPOLL_CTL_ADD, server->listeners[i].fd, &event) != 0)
            return error_errno(ERROR_INTERNAL, errno, "listening on %s", server->addresses[i]);
    }
    return NULL;
}

tidemill_error *net_server_start(struct net_server *server)
{
    int threads = server->options.pool_threads > 0 ? server->options.pool_threads : 32;
    TRY(pool_new(threads, server->options.context, &server->pool));
    atomic_store(&server->stage, STAGE_RUN);
    TRY(listen_all(server));
    for (size_t i = 0; i < server->n_loops; i++) TRY(loop_start(&server->loops[i]));
    return NULL;
}

size_t net_server_addresses(const struct net_server *server, const char *const **ret)
{
    *ret = server->addresses;
    return server->n_listeners;
}

/* --- stopping ---------------------------------------------------------------------------------- */

static void enter(struct net_server *server, enum server_stage stage)
{
    atomic_store(&server->stage, (int)stage);
    for (size_t i = 0; i < server->n_loops; i++) loop_wake(&server->loops[i]);
}

/* wait_ms < 0: as long as it takes, which is a round of each loop. */
static void wait_until_quiet(struct net_server *server, int wait_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&server->lock);
    int failure = 0;
    while (atomic_load(&server->n_conns) > 0 && failure == 0)
        failure = wait_ms < 0 ? pthread_cond_wait(&server->quiet, &server->lock)
                              : pthread_cond_timedwait(&server->quiet, &server->lock, &until);
    pthread_mutex_unlock(&server->lock);
}

void net_server_stop(struct net_server *server, int wait_ms)
{
    if (atomic_load(&server->stage) != STAGE_RUN) return;
    bool is_running = server->loops[server->n_loops - 1].is_started;
    enter(server, STAGE_STOP);
    for (size_t i = 0; i < server->n_listeners; i++) { /* the next of its kind may listen now */
        if (server->listeners[i].unix_path != NULL)
            io_local.unlink(io_local.context, server->listeners[i].unix_path);
    }
    if (is_running) wait_until_quiet(server, MAX(wait_ms, 0));
    enter(server, STAGE_CUT);
    if (is_running) wait_until_quiet(server, -1);
    pool_stop(server->pool);
    enter(server, STAGE_END);
    for (size_t i = 0; i < server->n_loops; i++) loop_join(&server->loops[i]);
}

void net_server_free(struct net_server *server)
{
    if (server == NULL) return;
    if (atomic_load(&server->n_exchanges) > 0) {
        log_event(LOG_ERROR, "%zu HTTP requests were never answered; their memory is not returned",
                  atomic_load(&server->n_exchanges));
        return;
    }
    for (size_t i = 0; i < server->n_loops; i++) loop_free(&server->loops[i]);
    for (size_t i = 0; i < server->n_listeners; i++) listener_close(&server->listeners[i]);
    free(server->loops);
    free(server->listeners);
    free(server->addresses);
    route_table_free(server->routes);
    pool_free(server->pool);
    tls_context_free(server->tls);
    address_table_free(server->by_address);
    pthread_cond_destroy(&server->quiet);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

void net_server_stats(struct net_server *server, struct net_stats *ret)
{
    *ret = (struct net_stats){.connections = atomic_load(&server->n_conns)};
    for (size_t i = 0; i < server->n_loops; i++) {
        struct loop_counters *counters = &server->loops[i].counters;
        ret->accepted += atomic_load_explicit(&counters->accepted, memory_order_relaxed);
        ret->requests += atomic_load_explicit(&counters->requests, memory_order_relaxed);
        ret->bytes_in += atomic_load_explicit(&counters->bytes_in, memory_order_relaxed);
        ret->bytes_out += atomic_load_explicit(&counters->bytes_out, memory_order_relaxed);
        ret->refused += atomic_load_explicit(&counters->refused, memory_order_relaxed);
    }
}
