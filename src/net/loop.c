/* SPDX-License-Identifier: Apache-2.0 */
/* loop.c - a thread that owns connections: events (edge-triggered, so that one epoll_ctl a connection is
 * enough), mail from other threads, deadlines. */
#include "net/impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX 256
#define ACCEPT_RETRY_MS 100

tidemill_error *loop_init(struct loop *loop, struct net_server *server)
{
    loop->server = server;
    loop->epoll = loop->event = -1;
    loop->mail_last = &loop->mail;
    pthread_mutex_init(&loop->lock, NULL);
    loop->input = malloc(NET_READ_BYTES);
    if (loop->input == NULL) return error_memory();
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    loop->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->epoll < 0 || loop->event < 0)
        return error_errno(ERROR_INTERNAL, errno, "a loop for connections");
    if (getrandom(&loop->random, sizeof loop->random, 0) != sizeof loop->random)
        loop->random = (uint64_t)clock_now_ns();
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = loop};
    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->event, &event) != 0)
        return error_errno(ERROR_INTERNAL, errno, "a loop for connections");
    return NULL;
}

void loop_free(struct loop *loop)
{
    if (loop->epoll >= 0) close(loop->epoll);
    if (loop->event >= 0) close(loop->event);
    conn_free_dead(loop);
    exchange_free_list(loop->free_exchanges);
    buffer_free(&loop->cork);
    free(loop->input);
    free(loop->file_bytes);
    pthread_mutex_destroy(&loop->lock);
}

bool loop_is_here(const struct loop *loop)
{
    return pthread_equal(loop->self, pthread_self());
}

void loop_wake(struct loop *loop)
{
    eventfd_write(loop->event, 1);
}

/* --- mail -------------------------------------------------------------------------------------- */

/* The loop has ended, its connections with it: only the exchange itself is left. Under the lock. */
static void settle_late(struct exchange *exchange, unsigned what)
{
    if ((what & MAIL_ANSWERED) == 0) return;
    conn_answered(exchange);
}

void mail_post(struct exchange *exchange, enum mail what)
{
    struct loop *loop = exchange->loop;
    bool is_first = false;
    pthread_mutex_lock(&loop->lock);
    if (loop->is_dead) {
        settle_late(exchange, what);
    } else {
        unsigned before = atomic_fetch_or(&exchange->mail, (unsigned)what);
        if (before == 0) {
            is_first = loop->mail == NULL;
            exchange->mail_next = NULL;
            *loop->mail_last = exchange;
            loop->mail_last = &exchange->mail_next;
        }
    }
    if (is_first) loop_wake(loop);
    pthread_mutex_unlock(&loop->lock);
}

static void read_mail(struct exchange *exchange, unsigned what)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct conn *conn = exchange->conn;
    bool is_open = !conn->is_closed;
    if ((what & MAIL_MORE) != 0) exchange->is_begun = true;
    if ((what & MAIL_CONTINUE) != 0 && is_open && !exchange->is_begun && !exchange->is_complete &&
        !exchange->is_stopped && (what & MAIL_ANSWERED) == 0)
        conn_cork(conn, go_on, sizeof go_on - 1);
    if ((what & MAIL_ANSWERED) != 0) conn_answered(exchange);
    if (is_open) conn_run(conn);
}

static void read_all_mail(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    struct exchange *mail = loop->mail;
    struct conn *arrived = loop->arrived;
    loop->mail = NULL;
    loop->mail_last = &loop->mail;
    loop->arrived = NULL;
    pthread_mutex_unlock(&loop->lock);
    while (arrived != NULL) {
        struct conn *next = arrived->next;
        arrived->next = NULL;
        conn_begin(loop, arrived);
        arrived = next;
    }
    while (mail != NULL) { /* from the exchange on it may be posted again */
        struct exchange *next = mail->mail_next;
        read_mail(mail, atomic_exchange(&mail->mail, 0));
        mail = next;
    }
}

void loop_give(struct loop *loop, struct conn *conn)
{
    pthread_mutex_lock(&loop->lock);
    conn->next = loop->arrived;
    loop->arrived = conn;
    loop_wake(loop);
    pthread_mutex_unlock(&loop->lock);
}

/* --- rounds ------------------------------------------------------------------------------------ */

static void look_at_clock(struct loop *loop)
{
    struct timespec wall;
    loop->now_ms = clock_now_ns() / 1000000;
    clock_gettime(CLOCK_REALTIME_COARSE, &wall);
    if (wall.tv_sec == loop->wall_s) return;
    loop->wall_s = wall.tv_sec;
    struct tm tm;
    gmtime_r(&wall.tv_sec, &tm);
    static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    char text[64];
    snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday,
             months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
    memcpy(loop->date, text, NET_DATE_BYTES);
}

static bool is_listener(const struct loop *loop, const void *pointer)
{
    const struct net_server *server = loop->server;
    const struct listener *listener = pointer;
    return listener >= server->listeners && listener < server->listeners + server->n_listeners;
}

static void see_conn(struct conn *conn, uint32_t events)
{
    if (conn->is_closed) return;
    if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
        conn_close(conn);
        return;
    }
    if ((events & EPOLLIN) != 0) conn->can_read = true;
    if ((events & EPOLLOUT) != 0) conn->can_write = true;
    if ((events & EPOLLRDHUP) != 0) {
        conn->can_read = conn->is_peer_done = true;
        if (conn->exchange != NULL)
            atomic_store_explicit(&conn->exchange->is_gone, true, memory_order_relaxed);
    }
    if (conn->ssl != NULL) conn->can_read = conn->can_write = true;
    conn_run(conn);
}

static void see_event(struct loop *loop, const struct epoll_event *event)
{
    if (event->data.ptr == loop) {
        eventfd_t count;
        eventfd_read(loop->event, &count);
        read_all_mail(loop);
    } else if (is_listener(loop, event->data.ptr))
        loop_accept(loop, event->data.ptr);
    else
        see_conn(event->data.ptr, event->events);
}

static void run_ready(struct loop *loop)
{
    struct conn *conn = loop->ready;
    loop->ready = NULL;
    while (conn != NULL) {
        struct conn *next = conn->ready_next;
        conn->is_ready = false;
        conn_run(conn);
        conn = next;
    }
}

static void run_deadlines(struct loop *loop)
{
    struct timer *timer;
    while ((timer = wheel_expired(&loop->wheel, loop->now_ms)) != NULL)
        conn_expired((struct conn *)timer);
}

/* The first loop accepts for all. */
static void see_accepting(struct loop *loop)
{
    struct net_server *server = loop->server;
    if (!loop->is_accept_paused || loop->stage_seen != STAGE_RUN) return;
    if (!atomic_exchange(&server->has_room, false) && loop->now_ms < loop->accept_again_ms) return;
    loop->accept_again_ms = loop->now_ms + ACCEPT_RETRY_MS;
    if (atomic_load(&server->n_conns) < server->options.limits.connections)
        loop_accept_pause(loop, false);
}

static void close_some(struct loop *loop, bool is_all)
{
    struct conn *next;
    for (struct conn *conn = loop->conns; conn != NULL; conn = next) {
        next = conn->next;
        bool is_idle = conn->exchange == NULL && conn->out.size == 0 && conn->in.size == 0;
        if (is_all || (is_idle && !conn->is_lingering)) conn_close(conn);
    }
}

static void see_stage(struct loop *loop)
{
    int stage = atomic_load(&loop->server->stage);
    if (stage == loop->stage_seen) return;
    if (loop->stage_seen == STAGE_RUN && loop == loop->server->loops) loop_accept_end(loop);
    loop->stage_seen = stage;
    loop->is_accept_paused = false;
    if (stage >= STAGE_STOP) close_some(loop, stage >= STAGE_CUT);
}

static int wait_ms(const struct loop *loop)
{
    if (loop->ready != NULL) return 0;
    int wait = wheel_wait_ms(&loop->wheel, loop->now_ms);
    if (loop->is_accept_paused && (wait < 0 || wait > ACCEPT_RETRY_MS)) wait = ACCEPT_RETRY_MS;
    return wait;
}

static void run_round(struct loop *loop)
{
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(loop->epoll, events, EVENTS_MAX, wait_ms(loop));
    look_at_clock(loop);
    for (int i = 0; i < n; i++) see_event(loop, &events[i]);
    run_ready(loop);
    run_deadlines(loop);
    see_accepting(loop);
    see_stage(loop);
    conn_free_dead(loop);
}

/* What was posted until now, and nothing any more. */
static void die(struct loop *loop)
{
    read_all_mail(loop);
    close_some(loop, true);
    pthread_mutex_lock(&loop->lock);
    loop->is_dead = true;
    pthread_mutex_unlock(&loop->lock);
    read_all_mail(loop);
    close_some(loop, true);
    conn_free_dead(loop);
}

static void *run(void *context)
{
    struct loop *loop = context;
    loop->self = pthread_self();
    look_at_clock(loop);
    wheel_init(&loop->wheel, loop->now_ms);
    loop->stage_seen = STAGE_RUN;
    while (loop->stage_seen != STAGE_END) run_round(loop);
    die(loop);
    return NULL;
}

tidemill_error *loop_start(struct loop *loop)
{
    int failure = pthread_create(&loop->thread, NULL, run, loop);
    if (failure != 0) return error_errno(ERROR_INTERNAL, failure, "a thread for connections");
    loop->is_started = true;
    return NULL;
}

void loop_join(struct loop *loop)
{
    if (loop->is_started) pthread_join(loop->thread, NULL);
    loop->is_started = false;
}
