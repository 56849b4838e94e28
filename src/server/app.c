/* SPDX-License-Identifier: Apache-2.0 */
/* app.c - the server as a whole: opened from the bottom up, closed from the top down. */
#include "server/app.h"

#include "server/access.h"
#include "server/delivery.h"
#include "server/listen.h"
#include "server/metrics.h"
#include "server/results.h"
#include "server/routes.h"
#include "server/scheduler.h"
#include "server/server.h"
#include "server/serving.h"
#include "server/supervisor.h"

#include <stdlib.h>

struct server {
    struct app app;
    struct server_options options;
    struct server_config **configs; /* all that were loaded */
    size_t n_configs;
    struct string_list sockets; /* of the service manager */
    struct resp *resp;
};

static void free_list(struct string_list *list)
{
    for (size_t i = 0; i < list->n; i++) free(list->items[i]);
    free(list->items);
    *list = (struct string_list){0};
}

/* The newest one is app.config. */
static tidemill_error *load_config(struct server *server)
{
    struct server_config **configs =
        realloc(server->configs, (server->n_configs + 1) * sizeof(struct server_config *));
    if (configs == NULL) return error_memory();
    server->configs = configs;
    struct server_config *config;
    TRY(server_config_load(server->app.io, server->options.config_path, &config));
    configs[server->n_configs++] = config;
    server->app.config = config;
    return NULL;
}

static const struct string_list *addresses(const struct server *server)
{
    struct server_config *config = server->app.config;
    if (server->sockets.n > 0) return &server->sockets;
    return server->options.listen.n > 0 ? &server->options.listen : &config->listen;
}

/* Who can reach it from elsewhere needs a key. */
static tidemill_error *check_addresses(const struct server *server)
{
    struct server_config *config = server->app.config;
    const struct string_list *list = addresses(server);
    if (config->is_insecure || access_has_keys(server->app.access)) return NULL;
    for (size_t i = 0; i < list->n; i++)
        if (!listen_is_local(list->items[i]))
            return error_new(
                ERROR_USAGE,
                "'%s' can be reached from other machines, and there is no API key: make "
                "one ('tidemill key create'), listen on 127.0.0.1, or set 'insecure: "
                "true'",
                list->items[i]);
    return NULL;
}

static tidemill_error *open_net(struct server *server)
{
    struct app *app = &server->app;
    struct server_config *config = app->config;
    const struct string_list *list = addresses(server);
    struct net_options options = {
        .addresses = (const char *const *)list->items,
        .n_addresses = list->n,
        .routes = app->routes,
        .n_routes = app->n_routes,
        .typed_routes = queue_typed_routes,
        .n_typed_routes = n_queue_typed_routes,
        .loops = config->loops,
        .tls_certificate = config->tls_certificate,
        .tls_key = config->tls_key,
        .limits = {.body_bytes = (size_t)config->body_bytes_max},
        .context = app,
        .before = access_admit,
        .refuse = app_refuse_status,
        .after = metrics_request,
    };
    TRY(check_addresses(server));
    return net_server_new(&options, &app->net);
}

static tidemill_error *open_all(struct server *server)
{
    struct app *app = &server->app;
    TRY(supervisor_sockets(&server->sockets));
    TRY(load_config(server));
    struct server_config *config = app->config;
    const char *data = server->options.data != NULL ? server->options.data : config->data;
    TRY(store_open(app->io, data, &app->store));
    TRY(access_open(app, &app->access));
    TRY(routes_join(&app->routes, &app->n_routes));
    TRY(metrics_new(app, &app->metrics));
    TRY(open_net(server)); /* binds, and is told the first request once all else is there */
    TRY(results_open(app, &app->results));
    TRY(delivery_start(app, &app->delivery));
    TRY(serving_start(app, &app->serving));
    TRY(scheduler_start(app, &app->scheduler));
    if (config->resp != NULL) TRY(resp_start(app, config->resp, &server->resp));
    return net_server_start(app->net);
}

/* Accepts under way have come back once a later change has: they tell the scheduler, which ends next. */
static void wait_for_accepts(struct app *app)
{
    size_t n;
    if (app->store != NULL) error_free(store_file_expire(app->store, 0, &n));
}

static void close_all(struct server *server)
{
    struct app *app = &server->app;
    struct server_config *config = app->config;
    app->is_stopping = 1;
    if (app->net != NULL) net_server_stop(app->net, (int)config->stop_ms);
    resp_stop(server->resp);
    wait_for_accepts(app);
    scheduler_stop(app->scheduler);
    serving_stop(app->serving);
    delivery_stop(app->delivery);
    net_server_free(app->net);
    results_close(app->results);
    metrics_free(app->metrics);
    access_close(app->access);
    store_close(app->store);
    free((void *)(uintptr_t)app->routes);
    for (size_t i = 0; i < server->n_configs; i++) server_config_free(server->configs[i]);
    free(server->configs);
    free_list(&server->sockets);
    free(server);
}

tidemill_error *server_start(const struct io *io, const struct server_options *options,
                             struct server **ret)
{
    struct server *server = calloc(1, sizeof *server);
    if (server == NULL) return error_memory();
    server->app.io = io;
    server->options = *options;
    tidemill_error *error = open_all(server);
    if (error != NULL) {
        close_all(server);
        return error;
    }
    supervisor_notify("READY=1");
    *ret = server;
    return NULL;
}

static bool is_same(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static void warn_of_restart(const struct server_config *old, const struct server_config *now)
{
    bool is_listen_same = old->listen.n == now->listen.n;
    for (size_t i = 0; is_listen_same && i < old->listen.n; i++)
        is_listen_same = is_same(old->listen.items[i], now->listen.items[i]);
    if (is_listen_same && is_same(old->data, now->data) && is_same(old->resp, now->resp) &&
        is_same(old->tls_certificate, now->tls_certificate) && is_same(old->tls_key, now->tls_key))
        return;
    log_event(LOG_WARNING, "%s: listen, data, resp and tls take a restart; the rest holds now",
              now->path);
}

tidemill_error *server_reload(struct server *server)
{
    struct server_config *old = server->app.config;
    supervisor_notify("RELOADING=1");
    tidemill_error *error = load_config(server);
    if (error == NULL) {
        warn_of_restart(old, server->app.config);
        scheduler_wake(server->app.scheduler);
        error = serving_reload(server->app.serving);
    }
    supervisor_notify("READY=1");
    return error;
}

void server_stop(struct server *server)
{
    supervisor_notify("STOPPING=1");
    close_all(server);
}

size_t server_addresses(const struct server *server, const char *const **ret)
{
    return net_server_addresses(server->app.net, ret);
}
