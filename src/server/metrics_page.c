/* SPDX-License-Identifier: Apache-2.0 */
/* metrics_page.c - /metrics, in Prometheus' text format (version 0.0.4). */
#include "server/metrics_parts.h"
#include "server/results.h"
#include "server/serving.h"

#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

enum metric {
#define METRIC_ROW(code, name, type, help) METRIC_##code,
#include "server/metrics.def"
#undef METRIC_ROW
    METRIC_COUNT
};

static const struct {
    const char *name, *type, *help;
} rows[METRIC_COUNT] = {
#define METRIC_ROW(code, name, type, help) {name, type, help},
#include "server/metrics.def"
#undef METRIC_ROW
};

static void head(struct buffer *out, enum metric metric)
{
    buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", rows[metric].name, rows[metric].help,
                  rows[metric].name, rows[metric].type);
}

/* Names of ours hold nothing that would have to be escaped. `label` NULL: none. */
static void line(struct buffer *out, enum metric metric, const char *label, const char *value,
                 double number)
{
    buffer_text(out, rows[metric].name);
    if (label != NULL) buffer_printf(out, "{%s=\"%s\"}", label, value);
    buffer_printf(out, " %.17g\n", number);
}

static void alone(struct buffer *out, enum metric metric, double number)
{
    head(out, metric);
    line(out, metric, NULL, NULL, number);
}

/* --- the process -------------------------------------------------------------------------------- */

static double resident_bytes(const struct io *io)
{
    char *text = NULL;
    size_t size;
    unsigned long long pages = 0;
    tidemill_error *error = io_read_file(io, "/proc/self/statm", 4096, &text, &size);
    if (error != NULL)
        error_free(error);
    else
        sscanf(text, "%*u %llu", &pages);
    free(text);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static double open_descriptors(void)
{
    double n = 0;
    DIR *folder = opendir("/proc/self/fd");
    if (folder == NULL) return 0;
    while (readdir(folder) != NULL) n++;
    closedir(folder);
    return n - 3; /* ".", "..", and its own */
}

static void process(const struct metrics *metrics, struct buffer *out)
{
    head(out, METRIC_BUILD);
    line(out, METRIC_BUILD, "version", TIDEMILL_VERSION, 1);
    alone(out, METRIC_UPTIME, (double)metrics->started_at / 1e3);
    alone(out, METRIC_CPU, clock_process_cpu_s());
    alone(out, METRIC_MEMORY, resident_bytes(metrics->app->io));
    alone(out, METRIC_FDS, open_descriptors());
}

/* --- requests ----------------------------------------------------------------------------------- */

static const char *operation_of(const struct app *app, size_t i)
{
    return i < app->n_routes ? app->routes[i].operation : "none";
}

static uint64_t load(const atomic_uint_fast64_t *number)
{
    return atomic_load_explicit(number, memory_order_relaxed);
}

static void histogram(const struct route_metrics *route, const char *operation, struct buffer *out)
{
    const char *name = rows[METRIC_LATENCY].name;
    uint64_t sum = 0;
    for (size_t b = 0; b < METRICS_BUCKETS; b++) {
        sum += load(&route->buckets[b]);
        buffer_printf(out, "%s_bucket{operation=\"%s\",le=\"%g\"} %llu\n", name, operation,
                      metrics_bound_s(b), (unsigned long long)sum);
    }
    sum += load(&route->buckets[METRICS_BUCKETS]);
    buffer_printf(out, "%s_bucket{operation=\"%s\",le=\"+Inf\"} %llu\n", name, operation,
                  (unsigned long long)sum);
    buffer_printf(out, "%s_sum{operation=\"%s\"} %.6f\n", name, operation,
                  (double)load(&route->sum_us) / 1e6);
    buffer_printf(out, "%s_count{operation=\"%s\"} %llu\n", name, operation,
                  (unsigned long long)sum);
}

static bool is_used(const struct route_metrics *route)
{
    for (size_t c = 0; c < COUNT_OF(route->by_class); c++)
        if (load(&route->by_class[c]) > 0) return true;
    return false;
}

static void requests(const struct metrics *metrics, struct buffer *out)
{
    static const char *const classes[] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};
    const struct app *app = metrics->app;
    struct net_stats stats;
    net_server_stats(app->net, &stats);
    alone(out, METRIC_CONNECTIONS, (double)stats.connections);
    alone(out, METRIC_HTTP_IN, (double)stats.bytes_in);
    alone(out, METRIC_HTTP_OUT, (double)stats.bytes_out);
    alone(out, METRIC_HTTP_REFUSED, (double)stats.refused);
    head(out, METRIC_REQUESTS);
    for (size_t i = 0; i <= app->n_routes; i++)
        for (size_t c = 0; c < COUNT_OF(classes); c++)
            if (load(&metrics->routes[i].by_class[c]) > 0)
                buffer_printf(out, "%s{operation=\"%s\",code=\"%s\"} %llu\n",
                              rows[METRIC_REQUESTS].name, operation_of(app, i), classes[c],
                              (unsigned long long)load(&metrics->routes[i].by_class[c]));
    head(out, METRIC_LATENCY);
    for (size_t i = 0; i <= app->n_routes; i++)
        if (is_used(&metrics->routes[i])) histogram(&metrics->routes[i], operation_of(app, i), out);
}

/* --- queues and jobs ---------------------------------------------------------------------------- */

/* Tenants of one queue together: their names are nobody's business here. */
static size_t sum_by_queue(struct store_depth *depths, size_t n)
{
    size_t n_kept = 0;
    for (size_t i = 0; i < n; i++) {
        size_t k = 0;
        while (k < n_kept && strcmp(depths[k].queue, depths[i].queue) != 0) k++;
        if (k == n_kept) {
            depths[n_kept++] = depths[i];
            continue;
        }
        depths[k].records += depths[i].records;
        depths[k].bytes += depths[i].bytes;
        depths[k].oldest_at = MIN(depths[k].oldest_at, depths[i].oldest_at);
    }
    return n_kept;
}

static tidemill_error *queues(const struct app *app, struct buffer *out)
{
    struct store_depth *depths = NULL;
    size_t n = 0;
    TRY(store_depths(app->store, &depths, &n));
    int64_t now = store_now();
    n = sum_by_queue(depths, n);
    head(out, METRIC_QUEUE_RECORDS);
    for (size_t i = 0; i < n; i++)
        line(out, METRIC_QUEUE_RECORDS, "queue", depths[i].queue, (double)depths[i].records);
    head(out, METRIC_QUEUE_BYTES);
    for (size_t i = 0; i < n; i++)
        line(out, METRIC_QUEUE_BYTES, "queue", depths[i].queue, (double)depths[i].bytes);
    head(out, METRIC_QUEUE_OLDEST);
    for (size_t i = 0; i < n; i++)
        line(out, METRIC_QUEUE_OLDEST, "queue", depths[i].queue,
             (double)MAX(now - depths[i].oldest_at, 0) / 1e3);
    free(depths);
    return NULL;
}

static tidemill_error *job_states(const struct app *app, struct buffer *out)
{
    struct store_jobs jobs = {0};
    uint64_t by_state[STORE_STATES] = {0};
    TRY(store_job_scan(app->store, ~STORE_TERMINAL & ((1u << STORE_STATES) - 1), &jobs));
    for (size_t i = 0; i < jobs.n; i++) by_state[jobs.items[i].state]++;
    store_jobs_free(&jobs);
    head(out, METRIC_JOBS_STATE);
    for (int s = 0; s < STORE_COMPLETED; s++)
        line(out, METRIC_JOBS_STATE, "state", store_state_name((enum store_state)s),
             (double)by_state[s]);
    return NULL;
}

static void jobs_ended(const struct metrics *metrics, struct buffer *out)
{
    static const char *const kinds[] = {"batch", "window"};
    head(out, METRIC_JOBS);
    for (int k = 0; k < 2; k++)
        for (int s = STORE_COMPLETED; s < STORE_STATES; s++)
            buffer_printf(out, "%s{kind=\"%s\",state=\"%s\"} %llu\n", rows[METRIC_JOBS].name,
                          kinds[k], store_state_name((enum store_state)s),
                          (unsigned long long)metrics->ended[k][s]);
    head(out, METRIC_RECORDS);
    line(out, METRIC_RECORDS, "outcome", "completed", (double)metrics->completed);
    line(out, METRIC_RECORDS, "outcome", "failed", (double)metrics->failed);
    line(out, METRIC_RECORDS, "outcome", "cancelled", (double)metrics->cancelled);
    line(out, METRIC_RECORDS, "outcome", "expired", (double)metrics->expired);
    head(out, METRIC_REUSED);
    line(out, METRIC_REUSED, "from", "job", (double)metrics->reused);
    line(out, METRIC_REUSED, "from", "cache", (double)metrics->cached);
}

/* --- models ------------------------------------------------------------------------------------- */

static void token_lines(const struct model_metrics *model, struct buffer *out)
{
    const struct {
        const char *type;
        uint64_t n;
    } types[] = {{"run", model->tokens_run},
                 {"in", model->tokens_in},
                 {"cached", model->tokens_cached},
                 {"out", model->tokens_out}};
    for (size_t i = 0; i < COUNT_OF(types); i++)
        if (types[i].n > 0)
            buffer_printf(out, "%s{model=\"%s\",type=\"%s\"} %llu\n", rows[METRIC_TOKENS].name,
                          model->name, types[i].type, (unsigned long long)types[i].n);
}

static void models(const struct metrics *metrics, struct buffer *out)
{
    const struct {
        enum metric metric;
        size_t offset;
    } numbers[] = {{METRIC_ROWS, offsetof(struct model_metrics, rows)},
                   {METRIC_BATCH, offsetof(struct model_metrics, batch_rows)},
                   {METRIC_PADDING, offsetof(struct model_metrics, padding)}};
    for (size_t k = 0; k < COUNT_OF(numbers); k++) {
        head(out, numbers[k].metric);
        for (size_t i = 0; i < metrics->n_models; i++) {
            const char *base = (const char *)&metrics->models[i];
            uint64_t number;
            memcpy(&number, base + numbers[k].offset, sizeof number);
            line(out, numbers[k].metric, "model", metrics->models[i].name, (double)number);
        }
    }
    head(out, METRIC_TOKENS);
    for (size_t i = 0; i < metrics->n_models; i++) token_lines(&metrics->models[i], out);
    head(out, METRIC_JOB_SECONDS);
    for (size_t i = 0; i < metrics->n_models; i++)
        line(out, METRIC_JOB_SECONDS, "model", metrics->models[i].name, metrics->models[i].seconds);
    head(out, METRIC_COST);
    for (size_t i = 0; i < metrics->n_models; i++)
        line(out, METRIC_COST, "model", metrics->models[i].name, metrics->models[i].cost_usd);
}

static void serving_lines(const struct app *app, enum metric metric, struct buffer *out)
{
    head(out, metric);
    for (size_t i = 0; i < app->config->n_models; i++) {
        struct serving_stats stats;
        const char *model = app->config->models[i].name;
        if (!serving_stats(app->serving, model, &stats)) continue;
        double number = metric == METRIC_SYNC_CALLS     ? (double)stats.calls
                        : metric == METRIC_SYNC_ROWS    ? (double)stats.rows
                        : metric == METRIC_SYNC_BATCHES ? (double)stats.batches
                        : metric == METRIC_SYNC_REFUSED ? (double)stats.refused
                        : metric == METRIC_SYNC_WAITING ? (double)stats.waiting
                                                        : (double)stats.is_loaded;
        line(out, metric, "model", model, number);
    }
}

static void results_lines(const struct app *app, struct buffer *out)
{
    struct results_stats stats = {0};
    results_stats(app->results, &stats);
    head(out, METRIC_RESULTS);
    line(out, METRIC_RESULTS, "outcome", "hit", (double)stats.hits);
    line(out, METRIC_RESULTS, "outcome", "stale", (double)stats.stale);
    line(out, METRIC_RESULTS, "outcome", "miss", (double)stats.misses);
    line(out, METRIC_RESULTS, "outcome", "default", (double)stats.defaults);
    line(out, METRIC_RESULTS, "outcome", "enqueued", (double)stats.enqueued);
}

tidemill_error *metrics_render(struct metrics *metrics, struct buffer *out)
{
    process(metrics, out);
    requests(metrics, out);
    TRY(queues(metrics->app, out));
    TRY(job_states(metrics->app, out));
    pthread_mutex_lock(&metrics->mutex);
    jobs_ended(metrics, out);
    models(metrics, out);
    pthread_mutex_unlock(&metrics->mutex);
    for (int m = METRIC_SYNC_CALLS; m <= METRIC_SYNC_LOADED; m++)
        serving_lines(metrics->app, (enum metric)m, out);
    results_lines(metrics->app, out);
    return NULL;
}
