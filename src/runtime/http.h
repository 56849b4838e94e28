/* SPDX-License-Identifier: Apache-2.0 */
/* http.h - the inside of the runtime that asks servers.
 *
 * A call is one submitted unit of work. It is in exactly one place: the free list, under way (a handle
 * of libcurl has it), the waiting list, or the done list. What a server may be asked is decided where
 * calls leave the waiting list (http_start_due); what an answer means where they end (http_call.c). All
 * of it runs in the thread that polls. */
#ifndef TIDEMILL_RUNTIME_HTTP_H
#define TIDEMILL_RUNTIME_HTTP_H

#include "plan/plan.h"
#include "runtime/http_handle.h"
#include "runtime/http_protocol.h"
#include "runtime/impl.h"

/* A question whether a server is up. */
struct http_check {
    CURL *handle; /* NULL: not asked yet */
    struct http_response response;
};

/* One of the servers that --model names. */
struct http_upstream {
    struct http_target target;
    uint32_t n_under_way;
    uint32_t failures; /* in a row */
    bool is_down;      /* asked by one check, or one call, at a time until that is answered */
    bool is_probing;   /* ... which is under way */
    bool may_probe;    /* its check was answered, or can say nothing: one record asks it */
    uint32_t pauses;   /* since it went down */
    double down_since_s;
    double not_before_s; /* it asked for a pause, or is down */
    struct http_check check;
};

struct http_call {
    struct http_call *next;
    uint32_t n_rows;
    struct buffer body;
    char path[2048];
    CURL *handle;
    struct http_response response;
    struct http_upstream *upstream; /* while under way */
    uint32_t tries, busy_tries;     /* that were answered, or timed out; answered with "later" */
    bool is_retry;                  /* the budget for retries pays */
    bool is_probe;                  /* asks a server that is down */
    double due_s, started_s;
    struct runtime_done done;
};

struct http_list {
    struct http_call *first, **last;
    size_t length;
};

struct http {
    struct runtime base;
    const struct shared_region *region;
    CURLM *multi;
    int epoll_fd; /* the sockets of `multi`; -1: not made */
    struct http_common *common;
    struct http_upstream *upstreams;
    size_t n_upstreams;
    struct http_call *calls;
    size_t n_calls;
    struct http_list free, waiting, done;
    size_t n_under_way;
    uint32_t n_before; /* under way before those ended that ended together */
    int timeout_ms, retries;
    double patience_s; /* 0: for ever */
    double backoff_base_s;
    uint64_t random_state;

    struct inflight climb;
    struct rate requests, tokens;
    struct retry_budget budget;
    bool has_tokens;     /* answers are measured by the tokens that they hold */
    double next_s;       /* when a waiting call may start; INFINITY: not by the clock */
    double down_since_s; /* since when no server is up; negative: one is */
    double busy_s;
    tidemill_error *failure;
};

void http_list_push(struct http_list *list, struct http_call *call);
struct http_call *http_list_pop(struct http_list *list); /* NULL: empty */

/* http_upstream.c: which server is asked next; NULL: none now, and *next_s is lowered to when one may
 * be. */
struct http_upstream *http_choose_upstream(struct http *http, double now_s, double *next_s);
void http_upstream_answered(struct http *http, struct http_upstream *upstream, double now_s);
void http_upstream_failed(struct http *http, struct http_upstream *upstream, double now_s,
                          const char *why);
void http_upstream_unreachable(struct http *http, struct http_upstream *upstream, double now_s,
                               const char *why);
/* It asked for a pause. retry_after_ms negative: it did not say how long. */
void http_upstream_busy(struct http *http, struct http_upstream *upstream, double now_s,
                        int64_t retry_after_ms, uint32_t tries);

/* http_health.c: asks those that are down and whose pause is over; lowers http->next_s. */
void http_check_due(struct http *http, double now_s);
/* False: the handle is not a check's. */
bool http_check_ended(struct http *http, const CURL *handle, CURLcode code, double now_s);
void http_check_end(struct http *http, struct http_upstream *upstream);

/* http_metadata.c: from whichever server answers first, for all of them, as they serve one model. Waits
 * with patience for one that is up. ERROR_UNREACHABLE, ERROR_MODEL_LOAD, ERROR_INTERRUPTED by wake_fd. */
tidemill_error *http_fetch_metadata(struct http *http, int wake_fd);

/* http_wait.c: once `multi` is there, and nothing is under way. */
tidemill_error *http_wait_open(struct http *http);
void http_wait_close(struct http *http); /* after `multi` */
/* What is due by libcurl's clock: transfers that were added begin here. */
void http_attend_timers(struct http *http);
/* Until a socket is ready, which is attended to, or libcurl's clock, the time (ms, >= 0) or wake_fd (-1:
 * none) end it. True: wake_fd did. */
bool http_wait(struct http *http, int timeout_ms, int wake_fd);

/* http_call.c */
/* Fills the call from the work: path and body. Where a record cannot be asked for, call->done says so
 * already, and this is false. */
bool http_call_make(struct http *http, struct http_call *call, const struct runtime_work *work);
void http_start_due(struct http *http, double now_s);
/* The transfer of a call ended. */
void http_call_ended(struct http *http, struct http_call *call, CURLcode code, double now_s);
/* The first failure stays. Takes `error`. */
void http_fail(struct http *http, tidemill_error *error);

#endif
