/* SPDX-License-Identifier: Apache-2.0 */
/* admin.c - what operators ask: is it alive, is it ready, what does it do, how is it spoken to; and a
 * copy of the store while it is in use. */
#include "server/json_out.h"
#include "server/metrics.h"
#include "server/openapi.h"
#include "server/routes.h"

#include <stdio.h>
#include <stdlib.h>

static void healthz(struct exchange *exchange, void *context)
{
    (void)context;
    exchange_answer(exchange, 200, "text/plain", "ok\n", 3);
}

/* Ready: the store takes changes, and no stop is under way. */
static void readyz(struct exchange *exchange, void *context)
{
    struct app *app = context;
    tidemill_error *error = store_health(app->store);
    if (app->is_stopping) {
        app_refuse(exchange, 503, "stopping", NULL, "the server is stopping");
    } else if (error != NULL) {
        app_refuse(exchange, 503, error_code_name(error_code_of(error)), NULL, "%s",
                   error_message(error));
    } else {
        exchange_answer(exchange, 200, "text/plain", "ready\n", 6);
    }
    error_free(error);
}

static void show_metrics(struct exchange *exchange, void *context)
{
    struct app *app = context;
    struct buffer page = {0};
    tidemill_error *error = metrics_render(app->metrics, &page);
    if (error == NULL) {
        exchange_answer_buffer(exchange, 200, "text/plain; version=0.0.4", &page);
        return;
    }
    buffer_free(&page);
    app_refuse_error(exchange, error);
}

static void show_openapi(struct exchange *exchange, void *context)
{
    struct app *app = context;
    struct buffer document = {0};
    openapi_write(app->routes, app->n_routes, &document);
    exchange_answer_buffer(exchange, 200, "application/json", &document);
}

/* Into DATA/backups, under the time's name. */
static tidemill_error *make_backup(struct app *app, char **ret_path)
{
    struct buffer path = {0};
    buffer_printf(&path, "%s/backups", store_path(app->store));
    buffer_byte(&path, '\0');
    if (path.is_failed) return error_memory();
    tidemill_error *error = io_make_directory(app->io, path.data, 0700);
    path.size--;
    buffer_printf(&path, "/store-%lld.db", (long long)store_now());
    buffer_byte(&path, '\0');
    if (error == NULL && path.is_failed) error = error_memory();
    if (error == NULL) error = store_backup(app->store, path.data);
    if (error == NULL)
        *ret_path = path.data;
    else
        buffer_free(&path);
    return error;
}

static void backup(struct exchange *exchange, void *context)
{
    char *path = NULL;
    tidemill_error *error = make_backup(context, &path);
    if (error != NULL) {
        app_refuse_error(exchange, error);
        return;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_strcpy(doc, root, "path", path);
    json_answer(exchange, 200, doc, root);
    free(path);
}

#define INFO(access, summary)                                                                      \
    &(const struct route_info)                                                                     \
    {                                                                                              \
        DIALECT_TIDEMILL, access, summary, true                                                    \
    }

const struct net_route admin_routes[] = {
    {.method = NET_GET,
     .pattern = "/healthz",
     .handle = healthz,
     .operation = "healthz",
     .data = INFO(ROUTE_OPEN, "Whether the process lives")},
    {.method = NET_GET,
     .pattern = "/readyz",
     .is_blocking = true,
     .handle = readyz,
     .operation = "readyz",
     .data = INFO(ROUTE_OPEN, "Whether it takes requests: the store can be written")},
    {.method = NET_GET,
     .pattern = "/metrics",
     .is_blocking = true,
     .handle = show_metrics,
     .operation = "metrics",
     .data = INFO(ROUTE_ADMIN, "Prometheus metrics")},
    {.method = NET_GET,
     .pattern = "/openapi.json",
     .is_blocking = true,
     .handle = show_openapi,
     .operation = "openapi",
     .data = INFO(ROUTE_OPEN, "This interface, as an OpenAPI 3.1 document")},
    {.method = NET_POST,
     .pattern = "/v1/admin/backup",
     .body = NET_BODY_WHOLE,
     .is_blocking = true,
     .handle = backup,
     .operation = "backup",
     .data = INFO(ROUTE_ADMIN, "Copy the store while it is in use")},
    {0},
};
