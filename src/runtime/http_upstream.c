/* SPDX-License-Identifier: Apache-2.0 */
/* http_upstream.c - which of the servers is asked, and for how long one is left alone.
 *
 * A server is up, or down. It goes down when no connection comes about, or after FAILURES_MAX failures
 * in a row; then it is asked after growing pauses, first by http_health.c where that can be, then by one call
 * at a time, and the first answer of any kind but a failure brings it up again. */
#include "runtime/http.h"

#define FAILURES_MAX 5
#define PAUSE_MAX_S 30.0
#define RETRY_AFTER_MAX_S 600.0 /* a server that asks for more is asked again all the same */

struct http_upstream *http_choose_upstream(struct http *http, double now_s, double *next_s)
{
    struct http_upstream *best = NULL;
    for (size_t i = 0; i < http->n_upstreams; i++) {
        struct http_upstream *upstream = &http->upstreams[i];
        bool is_checked = upstream->target.health_path != NULL && !upstream->may_probe;
        if (upstream->is_down && (upstream->is_probing || is_checked)) continue;
        if (upstream->not_before_s > now_s) {
            *next_s = MIN(*next_s, upstream->not_before_s);
            continue;
        }
        /* who is down is asked first when its pause is over: else it never comes back */
        bool is_better =
            best == NULL || (upstream->is_down && !best->is_down) ||
            (upstream->is_down == best->is_down && upstream->n_under_way < best->n_under_way);
        if (is_better) best = upstream;
    }
    return best;
}

static bool is_any_up(const struct http *http)
{
    for (size_t i = 0; i < http->n_upstreams; i++)
        if (!http->upstreams[i].is_down) return true;
    return false;
}

static void pause_it(struct http *http, struct http_upstream *upstream, double now_s)
{
    double pause_s = http->backoff_base_s;
    for (uint32_t i = 0; i < upstream->pauses && pause_s < PAUSE_MAX_S; i++) pause_s *= 2;
    upstream->pauses++;
    upstream->not_before_s = now_s + MIN(pause_s, PAUSE_MAX_S);
}

static void go_down(struct http *http, struct http_upstream *upstream, double now_s,
                    const char *why)
{
    if (!upstream->is_down) {
        upstream->is_down = true;
        upstream->down_since_s = now_s;
        upstream->pauses = 0;
        log_event(LOG_WARNING, "%s: %s; waiting for it, what is done is kept",
                  upstream->target.origin, why);
    }
    /* one pause for all that were under way */
    if (upstream->not_before_s <= now_s) pause_it(http, upstream, now_s);
    if (!is_any_up(http) && http->down_since_s < 0) http->down_since_s = now_s;
}

void http_upstream_answered(struct http *http, struct http_upstream *upstream, double now_s)
{
    upstream->failures = 0;
    if (!upstream->is_down) return;
    upstream->is_down = upstream->may_probe = false;
    upstream->not_before_s = 0;
    http->down_since_s = -1;
    log_event(LOG_INFO, "%s answers again, after %.0f s", upstream->target.origin,
              now_s - upstream->down_since_s);
}

void http_upstream_failed(struct http *http, struct http_upstream *upstream, double now_s,
                          const char *why)
{
    if (++upstream->failures >= FAILURES_MAX || upstream->is_down)
        go_down(http, upstream, now_s, why);
}

void http_upstream_unreachable(struct http *http, struct http_upstream *upstream, double now_s,
                               const char *why)
{
    go_down(http, upstream, now_s, why);
}

void http_upstream_busy(struct http *http, struct http_upstream *upstream, double now_s,
                        int64_t retry_after_ms, uint32_t tries)
{
    double pause_s = retry_after_ms >= 0
                         ? MIN((double)retry_after_ms * 1e-3, RETRY_AFTER_MAX_S)
                         : backoff_s(http->backoff_base_s, PAUSE_MAX_S, tries, &http->random_state);
    upstream->not_before_s = MAX(upstream->not_before_s, now_s + pause_s);
}
