/* SPDX-License-Identifier: Apache-2.0 */
/* config_print.c - what `tidemill check` shows: what is served, when windows close next in local time,
 * in which hours jobs run, and when an hour of work would. */
#include "server/config_parts.h"

#include <string.h>

#define HOUR_MS INT64_C(3600000)

/* --- units ------------------------------------------------------------------------------------------ */

static void print_duration(int64_t ms, struct buffer *out)
{
    static const struct {
        int64_t ms;
        const char *name;
    } units[] = {{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}};
    size_t i = 0;
    while (i + 1 < COUNT_OF(units) && (ms < units[i].ms || ms % units[i].ms != 0)) i++;
    buffer_printf(out, "%lld%s", (long long)(ms / units[i].ms), units[i].name);
}

/* "Thu 2026-01-01 22:00 +01:00" */
static void print_time(const struct zone *zone, int64_t time_ms, struct buffer *out)
{
    static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    struct local_time local = zone_local(zone, time_ms), utc = local;
    int64_t offset_min = (zone_moment(NULL, &utc) - time_ms / 1000 * 1000) / 60000;
    buffer_printf(out, "%s %04d-%02d-%02d %02d:%02d", days[local.weekday], local.year, local.month,
                  local.day, local.hour, local.minute);
    if (local.second != 0) buffer_printf(out, ":%02d", local.second);
    if (zone == NULL)
        buffer_text(out, " UTC");
    else
        buffer_printf(out, " %c%02lld:%02lld", offset_min < 0 ? '-' : '+',
                      (long long)(offset_min < 0 ? -offset_min : offset_min) / 60,
                      (long long)(offset_min < 0 ? -offset_min : offset_min) % 60);
}

/* --- a window ---------------------------------------------------------------------------------------- */

static void print_rule(const struct queue_config *queue, struct buffer *out)
{
    const struct window_rule *window = &queue->window;
    const char *separator = "";
    if (window->every_ms > 0) {
        buffer_text(out, "every ");
        print_duration(window->every_ms, out);
        separator = ", ";
    }
    if (window->has_at) {
        buffer_printf(out, "%sat '%s' (%s)", separator, queue->at, queue->zone_name);
        separator = ", ";
    }
    if (window->max_records > 0) {
        buffer_printf(out, "%sat %llu records", separator, (unsigned long long)window->max_records);
        separator = ", ";
    }
    if (window->max_bytes > 0)
        buffer_printf(out, "%sat %llu bytes", separator, (unsigned long long)window->max_bytes);
}

static void print_closings(const struct queue_config *queue, int64_t now_ms, struct buffer *out)
{
    int64_t at = now_ms;
    for (int i = 0; i < 3; i++) {
        at = window_close_at(&queue->window, queue->zone, at);
        if (at == INT64_MAX) {
            buffer_text(out, i == 0 ? "when it is full" : "");
            return;
        }
        buffer_text(out, i == 0 ? "" : ", ");
        print_time(queue->zone, at, out);
    }
}

/* --- hours ------------------------------------------------------------------------------------------- */

static bool is_alike(const struct tariff *tariff, size_t a, size_t b)
{
    return tariff->is_allowed[a] == tariff->is_allowed[b] &&
           (!tariff->is_allowed[a] || tariff->factor[a] == tariff->factor[b]);
}

/* The minute to begin with, so that a night is one: where jobs may run and did not before, or else where
 * the price changes. */
static size_t first_minute(const struct tariff *tariff)
{
    size_t first = 0;
    for (size_t i = 0; i < DAY_MINUTES; i++) {
        size_t before = (i + DAY_MINUTES - 1) % DAY_MINUTES;
        if (tariff->is_allowed[i] && !tariff->is_allowed[before]) return i;
        if (first == 0 && !is_alike(tariff, i, before)) first = i;
    }
    return first;
}

static void print_hours(const struct tariff *tariff, struct buffer *out)
{
    size_t first = first_minute(tariff), n = 0;
    for (size_t begin = 0, end; begin < DAY_MINUTES; begin = end) {
        size_t a = (first + begin) % DAY_MINUTES;
        for (end = begin + 1; end < DAY_MINUTES; end++)
            if (!is_alike(tariff, a, (first + end) % DAY_MINUTES)) break;
        if (!tariff->is_allowed[a]) continue;
        size_t z = (first + end) % DAY_MINUTES;
        buffer_printf(out, "%s%02zu:%02zu-%02zu:%02zu", n++ == 0 ? "" : ", ", a / 60, a % 60,
                      z / 60, z % 60);
        if (tariff->factor[a] != 1)
            buffer_printf(out, " at %g of the price", (double)tariff->factor[a]);
    }
}

/* What an hour of work that is ready then would do. */
static void print_plan(const struct queue_config *queue, int64_t ready_ms, struct buffer *out)
{
    struct run_plan plan;
    tidemill_error *error = tariff_plan(queue->tariff, queue->zone, ready_ms, HOUR_MS, 0, &plan);
    if (error != NULL) {
        error_free(error);
        buffer_text(out, "not known");
        return;
    }
    for (size_t i = 0; i < plan.n && i < 4; i++) {
        buffer_text(out, i == 0 ? "" : ", ");
        print_time(queue->zone, plan.slots[i].begin_ms, out);
        buffer_text(out, " for ");
        print_duration(plan.slots[i].end_ms - plan.slots[i].begin_ms, out);
    }
    if (plan.n > 4) buffer_printf(out, ", and %zu more pieces", plan.n - 4);
    if (plan.factor_mean != 1) buffer_printf(out, ", at %g of the price", plan.factor_mean);
    run_plan_free(&plan);
}

/* --- all of it ----------------------------------------------------------------------------------------- */

static void print_server(const struct server_config *config, struct buffer *out)
{
    const char *scheme = config->tls_certificate != NULL ? "https" : "http";
    buffer_text(out, "\nlistens at  ");
    for (size_t i = 0; i < config->listen.n; i++) {
        const char *address = config->listen.items[i];
        bool is_path = strncmp(address, "unix:", 5) == 0 || strncmp(address, "fd:", 3) == 0;
        buffer_printf(out, "%s%s%s%s", i == 0 ? "" : ", ", is_path ? "" : scheme,
                      is_path ? "" : "://", address);
    }
    if (config->resp != NULL) buffer_printf(out, ", redis://%s", config->resp);
    buffer_printf(out, "\nkeeps in    %s\nruns        %lld job%s at a time\n", config->data,
                  (long long)config->jobs_max, config->jobs_max == 1 ? "" : "s");
}

static void print_model(const struct model_config *model, struct buffer *out)
{
    buffer_printf(out, "\nmodel %s\n  is          %s\n  at once     ", model->name,
                  model->spec.model);
    if (model->is_sync) {
        buffer_printf(out, "up to %lld rows a call, the first waits %g ms for others\n",
                      (long long)model->max_batch, (double)model->max_delay_us / 1000);
        buffer_text(out, "  stays       ");
        if (model->keep_warm_ms >= 0) print_duration(model->keep_warm_ms, out);
        buffer_text(out, model->keep_warm_ms < 0 ? "always\n" : " after its last use\n");
    } else {
        buffer_text(out, "no, in jobs only\n");
    }
}

static void print_queue(const struct queue_config *queue, int64_t now_ms, struct buffer *out)
{
    buffer_printf(out, "\nqueue %s\n  model       %s\n  closes      ", queue->name,
                  queue->model->name);
    print_rule(queue, out);
    buffer_text(out, "\n  next        ");
    print_closings(queue, now_ms, out);
    buffer_text(out, "\n  runs        ");
    if (queue->tariff == NULL) {
        buffer_text(out, "at any hour\n");
    } else {
        int64_t ready = window_close_at(&queue->window, queue->zone, now_ms);
        print_hours(queue->tariff, out);
        buffer_printf(out, " (%s)\n  an hour's   ", queue->zone_name);
        print_plan(queue, ready == INT64_MAX ? now_ms : ready, out);
        buffer_byte(out, '\n');
    }
    for (size_t i = 0; i < queue->n_sinks; i++)
        buffer_printf(out, "  sends to    %s %s\n", queue->sinks[i].kind, queue->sinks[i].to);
}

void server_config_print(const struct server_config *config, int64_t now_ms, struct buffer *out)
{
    buffer_printf(out, "%s: %zu model%s, %zu queue%s\n", config->path, config->n_models,
                  config->n_models == 1 ? "" : "s", config->n_queues,
                  config->n_queues == 1 ? "" : "s");
    print_server(config, out);
    for (size_t i = 0; i < config->n_models; i++) print_model(&config->models[i], out);
    for (size_t i = 0; i < config->n_queues; i++) print_queue(&config->queues[i], now_ms, out);
}
