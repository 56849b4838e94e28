/* SPDX-License-Identifier: Apache-2.0 */
/* resp.c - the Redis protocol's sockets: a few threads, each with an epoll of its own. The first one
 * accepts, and hands clients out in turn.
 *
 * A client that is idle holds no buffers: what is read goes through its thread's, and what is answered, too.
 * Only a command that is not whole, or an answer that the socket did not take, is kept with the client. While
 * it does not take its answers, nothing more is read from it. */
#include "server/resp_parts.h"

#include "server/access.h"
#include "server/listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 8
#define CLIENTS_MAX 10000
#define EVENTS 256
#define IN_BYTES ((size_t)64 << 10)
#define OUT_BYTES_MAX ((size_t)1 << 20) /* that wait for a client before no more is run */
#define KEEP_BYTES ((size_t)1 << 20)
#define SWEEP_MS 5000
#define STUCK_S 60.0
#define FULL_PAUSE_NS (10 * 1000 * 1000L)

struct resp_thread {
    struct resp *resp;
    pthread_t thread;
    bool has_thread;
    int epoll_fd, wake_fd;
    pthread_mutex_t mutex; /* of the list: the accepting thread adds to it */
    struct resp_client *clients;
    char *input; /* IN_BYTES */
    struct buffer output;
    struct result result;
    struct resp_command command;
};

struct resp {
    struct app *app;
    int listen_fd;
    char address[128];
    char *socket_path; /* of a unix socket; NULL */
    struct resp_thread threads[THREADS_MAX];
    size_t n_threads, turn;
    _Atomic size_t n_clients;
    _Atomic bool is_stopping;
    uint64_t next_id; /* the accepting thread's */
};

/* --- one client ------------------------------------------------------------------------------------- */

static void close_client(struct resp_thread *thread, struct resp_client *client)
{
    pthread_mutex_lock(&thread->mutex);
    if (client->previous != NULL)
        client->previous->next = client->next;
    else
        thread->clients = client->next;
    if (client->next != NULL) client->next->previous = client->previous;
    pthread_mutex_unlock(&thread->mutex);
    close(client->fd);
    buffer_free(&client->in);
    buffer_free(&client->out);
    free(client);
    atomic_fetch_sub(&thread->resp->n_clients, 1);
}

static size_t waiting(const struct resp_client *client)
{
    return client->out.size - client->out_sent;
}

static void listen_for(struct resp_thread *thread, struct resp_client *client)
{
    struct epoll_event event = {.events = waiting(client) > 0 ? EPOLLOUT : EPOLLIN,
                                .data.ptr = client};
    epoll_ctl(thread->epoll_fd, EPOLL_CTL_MOD, client->fd, &event);
}

/* How much of it the socket took; -1: the client is gone. */
static ssize_t send_some(struct resp_client *client, const char *data, size_t size)
{
    size_t sent = 0;
    while (sent < size) {
        ssize_t n = send(client->fd, data + sent, size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
        if (n < 0) return -1;
        sent += (size_t)n;
    }
    if (sent > 0) client->out_since_s = clock_now_s();
    return (ssize_t)sent;
}

/* Runs what is whole in `size` bytes, up to a bound on answers; how much of it is done with. */
static size_t run_commands(struct resp_thread *thread, struct resp_client *client, const char *data,
                           size_t size)
{
    struct resp_session session = {
        .app = thread->resp->app, .client = client, .out = &thread->output};
    size_t done = 0, used;
    const char *message = NULL;
    session.result = thread->result;
    while (!client->is_closing && thread->output.size < OUT_BYTES_MAX) {
        enum resp_parsed parsed =
            resp_parse(data + done, size - done, &thread->command, &used, &message);
        if (parsed == RESP_MORE) break;
        if (parsed == RESP_BAD) {
            resp_error(&thread->output, "ERR %s", message);
            client->is_closing = true;
            break;
        }
        done += used;
        if (thread->command.n > 0) resp_run(&session, &thread->command);
    }
    thread->result = session.result;
    return client->is_closing ? size : done;
}

/* Sends what was answered; what the socket does not take waits with the client. False: it is closed. */
static bool send_output(struct resp_thread *thread, struct resp_client *client)
{
    struct buffer *output = &thread->output;
    bool is_failed = output->is_failed || thread->result.value.is_failed;
    ssize_t sent = is_failed ? -1 : send_some(client, output->data, output->size);
    if (sent >= 0) {
        buffer_append(&client->out, output->data + sent, output->size - (size_t)sent);
        is_failed = client->out.is_failed;
    }
    buffer_reset(output, KEEP_BYTES);
    buffer_reset(&thread->result.value, KEEP_BYTES);
    if (sent >= 0 && !is_failed && !(client->is_closing && waiting(client) == 0)) return true;
    close_client(thread, client);
    return false;
}

/* Keeps what is left of `data` for when more comes; `data` may be the client's own buffer. */
static bool keep_rest(struct resp_client *client, const char *data, size_t done, size_t size)
{
    size_t rest = size - done;
    if (client->in.data != NULL && data == client->in.data) {
        memmove(client->in.data, client->in.data + done, rest);
        client->in.size = rest;
    } else {
        buffer_append(&client->in, data + done, rest);
    }
    if (client->in.size == 0) buffer_free(&client->in);
    return !client->in.is_failed;
}

/* Runs and answers until nothing whole is left, or the client does not take its answers. */
static void serve(struct resp_thread *thread, struct resp_client *client, const char *data,
                  size_t size)
{
    size_t done = 0, n;
    resp_check_caller(thread->resp->app, client);
    do {
        n = run_commands(thread, client, data + done, size - done);
        done += n;
        if (!send_output(thread, client)) return;
    } while (n > 0 && done < size && waiting(client) == 0);
    if (!keep_rest(client, data, done, size)) {
        close_client(thread, client);
        return;
    }
    if (waiting(client) > 0) listen_for(thread, client);
}

static void receive(struct resp_thread *thread, struct resp_client *client)
{
    char *place = thread->input;
    bool is_fresh = client->in.size == 0;
    if (!is_fresh && (place = buffer_reserve(&client->in, IN_BYTES)) == NULL) {
        close_client(thread, client);
        return;
    }
    ssize_t n = recv(client->fd, place, IN_BYTES, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (n <= 0) {
        close_client(thread, client);
        return;
    }
    if (is_fresh) {
        serve(thread, client, place, (size_t)n);
        return;
    }
    client->in.size += (size_t)n;
    serve(thread, client, client->in.data, client->in.size);
}

/* The socket takes more: first what waits, then what was read and not run yet. */
static void go_on(struct resp_thread *thread, struct resp_client *client)
{
    ssize_t sent = send_some(client, client->out.data + client->out_sent, waiting(client));
    if (sent < 0) {
        close_client(thread, client);
        return;
    }
    client->out_sent += (size_t)sent;
    if (waiting(client) > 0) return;
    buffer_free(&client->out);
    client->out_sent = 0;
    if (client->is_closing) {
        close_client(thread, client);
        return;
    }
    listen_for(thread, client);
    if (client->in.size > 0) serve(thread, client, client->in.data, client->in.size);
}

/* --- new ones --------------------------------------------------------------------------------------- */

static void add_client(struct resp_thread *thread, struct resp_client *client)
{
    pthread_mutex_lock(&thread->mutex);
    client->next = thread->clients;
    if (client->next != NULL) client->next->previous = client;
    thread->clients = client;
    pthread_mutex_unlock(&thread->mutex);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    if (epoll_ctl(thread->epoll_fd, EPOLL_CTL_ADD, client->fd, &event) != 0)
        close_client(thread, client);
}

static void welcome(struct resp *resp, int fd)
{
    static const char full[] = "-ERR max number of clients reached\r\n";
    int on = 1;
    struct resp_client *client = NULL;
    if (atomic_load(&resp->n_clients) < CLIENTS_MAX) client = calloc(1, sizeof *client);
    if (client == NULL) {
        send(fd, full, sizeof full - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    atomic_fetch_add(&resp->n_clients, 1);
    client->fd = fd;
    client->id = ++resp->next_id;
    client->protocol = 2;
    client->out_since_s = clock_now_s();
    add_client(&resp->threads[resp->turn++ % resp->n_threads], client);
}

static void accept_clients(struct resp *resp)
{
    for (int i = 0; i < EVENTS; i++) {
        int fd = accept4(resp->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            welcome(resp, fd);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return;
        /* No descriptors left: the client waits in the kernel, and we do not spin. */
        nanosleep(&(struct timespec){.tv_nsec = FULL_PAUSE_NS}, NULL);
        return;
    }
}

/* --- threads ---------------------------------------------------------------------------------------- */

/* Closes who has not taken its answers for a while. */
static void sweep(struct resp_thread *thread)
{
    double now_s = clock_now_s();
    struct resp_client *next;
    pthread_mutex_lock(&thread->mutex);
    struct resp_client *client = thread->clients;
    pthread_mutex_unlock(&thread->mutex);
    /* Others only put new ones in front. */
    for (; client != NULL; client = next) {
        next = client->next;
        if (waiting(client) > 0 && now_s - client->out_since_s > STUCK_S)
            close_client(thread, client);
    }
}

static void handle(struct resp_thread *thread, const struct epoll_event *event)
{
    struct resp *resp = thread->resp;
    if (event->data.ptr == &resp->listen_fd) {
        accept_clients(resp);
        return;
    }
    if (event->data.ptr == NULL) return; /* woken to stop */
    struct resp_client *client = event->data.ptr;
    if (waiting(client) > 0)
        go_on(thread, client);
    else
        receive(thread, client);
}

static void *run(void *context)
{
    struct resp_thread *thread = context;
    struct epoll_event events[EVENTS];
    double swept_s = clock_now_s();
    while (!atomic_load(&thread->resp->is_stopping)) {
        int n = epoll_wait(thread->epoll_fd, events, EVENTS, SWEEP_MS);
        for (int i = 0; i < n; i++) handle(thread, &events[i]);
        if (clock_now_s() - swept_s < SWEEP_MS / 1e3) continue;
        sweep(thread);
        swept_s = clock_now_s();
    }
    return NULL;
}

static tidemill_error *watch(struct resp_thread *thread, int fd, void *pointer)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = pointer};
    if (epoll_ctl(thread->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        return error_errno(ERROR_IO, errno, "cannot watch a socket");
    return NULL;
}

static tidemill_error *prepare_thread(struct resp *resp, struct resp_thread *thread)
{
    thread->resp = resp;
    pthread_mutex_init(&thread->mutex, NULL);
    thread->epoll_fd = thread->wake_fd = -1;
    resp->n_threads++;
    if ((thread->input = malloc(IN_BYTES)) == NULL) return error_memory();
    thread->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    thread->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (thread->epoll_fd < 0 || thread->wake_fd < 0)
        return error_errno(ERROR_IO, errno, "cannot make an epoll");
    return watch(thread, thread->wake_fd, NULL);
}

static tidemill_error *start_thread(struct resp_thread *thread)
{
    int code = pthread_create(&thread->thread, NULL, run, thread);
    if (code != 0) return error_errno(ERROR_MEMORY, code, "cannot start a thread");
    thread->has_thread = true;
    return NULL;
}

/* --- the address ------------------------------------------------------------------------------------ */

static tidemill_error *address_error(const char *address, const char *why)
{
    return error_new(ERROR_USAGE, "resp: cannot listen on '%s': %s", address, why);
}

static tidemill_error *bind_unix(struct resp *resp, const char *address)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    const char *path = address + strlen("unix:");
    if (path[0] == '\0' || strlen(path) >= sizeof name.sun_path)
        return address_error(address, "the path is empty or too long");
    memcpy(name.sun_path, path, strlen(path) + 1);
    resp->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (resp->listen_fd < 0) return error_errno(ERROR_IO, errno, "cannot make a socket");
    int code = bind(resp->listen_fd, (struct sockaddr *)&name, sizeof name);
    if (code != 0 && errno == EADDRINUSE) {
        /* Left behind by a kill, unless somebody answers there. */
        int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        bool is_dead = probe >= 0 && connect(probe, (struct sockaddr *)&name, sizeof name) != 0 &&
                       errno == ECONNREFUSED;
        if (probe >= 0) close(probe);
        if (!is_dead) return address_error(address, "somebody else listens there");
        resp->app->io->unlink(resp->app->io->context, path);
        code = bind(resp->listen_fd, (struct sockaddr *)&name, sizeof name);
    }
    if (code != 0) return address_error(address, strerror(errno));
    resp->socket_path = strdup(path);
    snprintf(resp->address, sizeof resp->address, "%s", address);
    return resp->socket_path == NULL ? error_memory() : NULL;
}

static tidemill_error *split_address(const char *address, char host[64], const char **ret_port)
{
    const char *colon = strrchr(address, ':');
    size_t size = colon == NULL ? 0 : (size_t)(colon - address);
    if (size >= 2 && address[0] == '[' && address[size - 1] == ']') {
        address++;
        size -= 2;
    }
    if (colon == NULL || colon[1] == '\0' || size == 0 || size >= 64)
        return address_error(address, "it is not HOST:PORT, [HOST]:PORT or unix:PATH");
    memcpy(host, address, size);
    host[size] = '\0';
    *ret_port = colon + 1;
    return NULL;
}

static void note_port(struct resp *resp, const char *address)
{
    struct sockaddr_storage name;
    socklen_t size = sizeof name;
    char port[8] = "0";
    if (getsockname(resp->listen_fd, (struct sockaddr *)&name, &size) == 0)
        getnameinfo((struct sockaddr *)&name, size, NULL, 0, port, sizeof port, NI_NUMERICSERV);
    int host_size = (int)(strrchr(address, ':') - address);
    snprintf(resp->address, sizeof resp->address, "%.*s:%s", host_size, address, port);
}

static tidemill_error *bind_inet(struct resp *resp, const char *address)
{
    char host[64];
    const char *port = NULL;
    int on = 1;
    struct addrinfo *found = NULL;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    TRY(split_address(address, host, &port));
    int code = getaddrinfo(host, port, &hints, &found);
    if (code != 0) return address_error(address, gai_strerror(code));
    resp->listen_fd =
        socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, found->ai_protocol);
    if (resp->listen_fd >= 0) setsockopt(resp->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    code = resp->listen_fd < 0 || bind(resp->listen_fd, found->ai_addr, found->ai_addrlen) != 0;
    int failed = errno;
    freeaddrinfo(found);
    if (code != 0) return address_error(address, strerror(failed));
    note_port(resp, address);
    return NULL;
}

static tidemill_error *open_socket(struct resp *resp, const char *address)
{
    struct server_config *config = resp->app->config;
    if (!listen_is_local(address) && !config->is_insecure && !access_has_keys(resp->app->access))
        return address_error(address, "it can be reached from other machines, and there is no API "
                                      "key: make one ('tidemill key create'), listen on 127.0.0.1, "
                                      "or set 'insecure: true'");
    if (strncmp(address, "unix:", 5) == 0)
        TRY(bind_unix(resp, address));
    else
        TRY(bind_inet(resp, address));
    if (listen(resp->listen_fd, SOMAXCONN) != 0) return address_error(address, strerror(errno));
    return NULL;
}

/* --- start and stop --------------------------------------------------------------------------------- */

static size_t threads_wanted(const struct server_config *config)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    long n = config->loops > 0 ? config->loops : (processors + 1) / 2;
    return (size_t)MAX(MIN(n, THREADS_MAX), 1);
}

static tidemill_error *start_all(struct resp *resp, const char *address)
{
    size_t n = threads_wanted(resp->app->config);
    TRY(open_socket(resp, address));
    for (size_t i = 0; i < n; i++) TRY(prepare_thread(resp, &resp->threads[i]));
    TRY(watch(&resp->threads[0], resp->listen_fd, &resp->listen_fd));
    for (size_t i = 0; i < n; i++) TRY(start_thread(&resp->threads[i]));
    return NULL;
}

tidemill_error *resp_start(struct app *app, const char *address, struct resp **ret)
{
    struct resp *resp = calloc(1, sizeof *resp);
    if (resp == NULL) return error_memory();
    resp->app = app;
    resp->listen_fd = -1;
    tidemill_error *error = start_all(resp, address);
    if (error != NULL) {
        resp_stop(resp);
        return error;
    }
    log_event(LOG_INFO, "the Redis protocol is served on %s", resp->address);
    *ret = resp;
    return NULL;
}

const char *resp_address(const struct resp *resp)
{
    return resp->address;
}

static void free_thread(struct resp_thread *thread)
{
    while (thread->clients != NULL) close_client(thread, thread->clients);
    if (thread->epoll_fd >= 0) close(thread->epoll_fd);
    if (thread->wake_fd >= 0) close(thread->wake_fd);
    buffer_free(&thread->output);
    buffer_free(&thread->result.value);
    free(thread->input);
    pthread_mutex_destroy(&thread->mutex);
}

void resp_stop(struct resp *resp)
{
    if (resp == NULL) return;
    atomic_store(&resp->is_stopping, true);
    for (size_t i = 0; i < resp->n_threads; i++)
        if (resp->threads[i].wake_fd >= 0) eventfd_write(resp->threads[i].wake_fd, 1);
    for (size_t i = 0; i < resp->n_threads; i++)
        if (resp->threads[i].has_thread) pthread_join(resp->threads[i].thread, NULL);
    for (size_t i = 0; i < resp->n_threads; i++) free_thread(&resp->threads[i]);
    if (resp->listen_fd >= 0) close(resp->listen_fd);
    if (resp->socket_path != NULL) resp->app->io->unlink(resp->app->io->context, resp->socket_path);
    free(resp->socket_path);
    free(resp);
}
