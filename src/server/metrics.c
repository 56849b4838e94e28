/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.c - counting, and the page that shows it (metrics_page.c). Requests are counted without a
 * lock; jobs, which end seldom, under one. */
#include "server/metrics_parts.h"

#include <stdlib.h>

static const double bounds_s[METRICS_BUCKETS] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005,
                                                 0.01,   0.025,   0.05,   0.1,   0.25,   0.5,
                                                 1,      2.5,     5,      10,    30,     60};

double metrics_bound_s(size_t bucket)
{
    return bounds_s[bucket];
}

tidemill_error *metrics_new(struct app *app, struct metrics **ret)
{
    struct metrics *metrics = calloc(1, sizeof *metrics);
    if (metrics == NULL) return error_memory();
    metrics->routes = calloc(app->n_routes + 1, sizeof *metrics->routes);
    metrics->models = calloc(METRICS_MODELS_MAX, sizeof *metrics->models);
    if (metrics->routes == NULL || metrics->models == NULL) {
        metrics_free(metrics);
        return error_memory();
    }
    pthread_mutex_init(&metrics->mutex, NULL);
    metrics->app = app;
    metrics->started_at = store_now();
    *ret = metrics;
    return NULL;
}

void metrics_free(struct metrics *metrics)
{
    if (metrics == NULL) return;
    if (metrics->app != NULL) pthread_mutex_destroy(&metrics->mutex);
    free(metrics->routes);
    free(metrics->models);
    free(metrics);
}

/* --- requests ----------------------------------------------------------------------------------- */

static struct route_metrics *route_of(struct metrics *metrics, const struct net_route *route)
{
    size_t place = route != NULL ? (size_t)(route - metrics->app->routes) : metrics->app->n_routes;
    return &metrics->routes[MIN(place, metrics->app->n_routes)];
}

static void count(struct route_metrics *route, int status, double seconds)
{
    size_t class = status >= 100 && status < 600 ? (size_t)status / 100 : 0, bucket = 0;
    atomic_fetch_add_explicit(&route->by_class[class], 1, memory_order_relaxed);
    while (bucket < METRICS_BUCKETS && seconds > bounds_s[bucket]) bucket++;
    atomic_fetch_add_explicit(&route->buckets[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&route->sum_us, (uint64_t)(seconds * 1e6), memory_order_relaxed);
}

/* What is asked thousands of times a second has no line of its own, unless it fails. */
static bool is_worth_a_line(const struct net_route *route, int status)
{
    if (status == 0 || status >= 500) return true;
    const struct route_info *info = route != NULL ? route->data : NULL;
    return info == NULL || !info->is_quiet;
}

static void log_request(struct exchange *exchange, int status)
{
    const struct net_route *route = exchange_route(exchange);
    const struct caller *caller = exchange_user(exchange);
    struct slice path = exchange_path(exchange);
    char status_text[16], duration[32], bytes[32];
    snprintf(status_text, sizeof status_text, "%d", status);
    snprintf(duration, sizeof duration, "%.3f", exchange_age_s(exchange) * 1e3);
    snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)exchange_bytes_out(exchange));
    const struct log_field fields[] = {
        {"status", status_text},
        {"duration_ms", duration},
        {"bytes", bytes},
        {"operation", route != NULL ? route->operation : NULL},
        {"tenant", caller != NULL ? caller->tenant : NULL},
        {"key_id", caller != NULL ? caller->key_id : NULL},
        {"peer", exchange_peer(exchange)},
        {"traceparent", exchange_header(exchange, "traceparent")},
        {"request_id", exchange_id(exchange)},
    };
    log_fields(LOG_INFO, fields, COUNT_OF(fields), "%s %.*s",
               net_method_name(exchange_method(exchange)), (int)MIN(path.size, (size_t)512),
               path.data);
}

void metrics_request(struct exchange *exchange, void *context)
{
    struct app *app = context;
    const struct net_route *route = exchange_route(exchange);
    int status = exchange_status(exchange);
    count(route_of(app->metrics, route), status, exchange_age_s(exchange));
    if (is_worth_a_line(route, status)) log_request(exchange, status);
    free(exchange_user(exchange));
    exchange_set_user(exchange, NULL);
}

/* --- jobs --------------------------------------------------------------------------------------- */

/* Of a model; a name beyond the room that there is shares the last place. */
static struct model_metrics *model_of(struct metrics *metrics, const char *name)
{
    size_t i = 0;
    while (i < metrics->n_models && strcmp(metrics->models[i].name, name) != 0) i++;
    if (i == metrics->n_models) {
        if (i == METRICS_MODELS_MAX) return &metrics->models[i - 1];
        snprintf(metrics->models[i].name, sizeof metrics->models[i].name, "%s", name);
        metrics->n_models++;
    }
    return &metrics->models[i];
}

void metrics_job(struct metrics *metrics, const struct store_job *job,
                 const struct job_summary *summary)
{
    pthread_mutex_lock(&metrics->mutex);
    struct model_metrics *model = model_of(metrics, job->model);
    metrics->ended[job->kind][job->state]++;
    metrics->completed += job->counts.completed;
    metrics->failed += job->counts.failed;
    metrics->cancelled += job->counts.cancelled;
    metrics->expired += job->counts.expired;
    if (summary != NULL) {
        metrics->reused += summary->counts.reused;
        metrics->cached += summary->counts.cached;
        model->rows += summary->run_rows;
        model->batch_rows = summary->batch;
        model->tokens_run += summary->tokens;
        model->padding += summary->padded_tokens - MIN(summary->tokens, summary->padded_tokens);
        model->tokens_in += summary->counts.tokens.in;
        model->tokens_cached += summary->counts.tokens.cached;
        model->tokens_out += summary->counts.tokens.out;
        model->seconds += summary->run_wall_s;
        if (summary->cost.usd > 0) model->cost_usd += summary->cost.usd;
    }
    pthread_mutex_unlock(&metrics->mutex);
}
