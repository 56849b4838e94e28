/* SPDX-License-Identifier: Apache-2.0 */
/* serving.c - models that answer at once, as other threads see them: a list of those that wait, a mutex
 * and an eventfd for each. What the model's thread does with them is in serving_model.c. */
#include "server/serving_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

struct serving {
    const struct app *app;
    pthread_mutex_t mutex; /* for the list */
    struct served *models; /* newest first: of two with one name the first is asked */
    int stop_fd;
};

/* --- start and stop ------------------------------------------------------------------------------------- */

static tidemill_error *watch(int epoll_fd, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0) return NULL;
    return error_errno(ERROR_IO, errno, "serving: epoll_ctl");
}

static tidemill_error *open_descriptors(struct served *m)
{
    m->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    m->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    m->wake_fd = epoll_create1(EPOLL_CLOEXEC);
    if (m->event_fd < 0 || m->timer_fd < 0 || m->wake_fd < 0)
        return error_errno(ERROR_IO, errno, "model '%s': no descriptor is left", m->config->name);
    TRY(watch(m->wake_fd, m->event_fd));
    return watch(m->wake_fd, m->timer_fd);
}

static void init_model(struct served *m, const struct io *io, const struct model_config *config,
                       int stop_fd)
{
    *m = (struct served){.io = io,
                         .config = config,
                         .stop_fd = stop_fd,
                         .event_fd = -1,
                         .timer_fd = -1,
                         .wake_fd = -1,
                         .region = {.fd = -1},
                         .random_state = (uint64_t)clock_now_ns()};
    m->asked_last = &m->asked;
    m->waiters_last = &m->waiters;
    m->waiting_last = &m->waiting;
    pthread_mutex_init(&m->mutex, NULL);
}

static tidemill_error *start_model(struct served *m)
{
    TRY(open_descriptors(m));
    int status = pthread_create(&m->thread, NULL, served_run, m);
    if (status != 0)
        return error_errno(ERROR_MEMORY, status, "model '%s': no thread", m->config->name);
    m->has_thread = true;
    return NULL;
}

static void free_model(struct served *m);

static tidemill_error *make_model(struct serving *serving, const struct model_config *config,
                                  struct served **ret)
{
    struct served *m = calloc(1, sizeof *m);
    if (m == NULL) return error_memory();
    init_model(m, serving->app->io, config, serving->stop_fd);
    tidemill_error *error = start_model(m);
    if (error == NULL)
        *ret = m;
    else
        free_model(m);
    return error;
}

tidemill_error *serving_start(struct app *app, struct serving **ret)
{
    struct serving *serving = calloc(1, sizeof *serving);
    if (serving == NULL) return error_memory();
    serving->app = app;
    pthread_mutex_init(&serving->mutex, NULL);
    serving->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    tidemill_error *error = NULL;
    if (serving->stop_fd < 0)
        error = error_errno(ERROR_IO, errno, "serving: no descriptor is left");
    if (error == NULL) error = serving_reload(serving);
    if (error == NULL)
        *ret = serving;
    else
        serving_stop(serving);
    return error;
}

static void ask_to_stop(struct served *m)
{
    pthread_mutex_lock(&m->mutex);
    m->is_stopping = true;
    pthread_mutex_unlock(&m->mutex);
    if (m->event_fd >= 0) eventfd_write(m->event_fd, 1);
}

static void free_model(struct served *m)
{
    if (m->has_thread) pthread_join(m->thread, NULL);
    for (struct known *known = m->known, *next; known != NULL; known = next) {
        next = known->next;
        model_signature_free(&known->signature);
        free(known->description);
        free(known);
    }
    if (m->wake_fd >= 0) close(m->wake_fd);
    if (m->timer_fd >= 0) close(m->timer_fd);
    if (m->event_fd >= 0) close(m->event_fd);
    pthread_mutex_destroy(&m->mutex);
    free(m);
}

void serving_stop(struct serving *serving)
{
    if (serving == NULL) return;
    if (serving->stop_fd >= 0) eventfd_write(serving->stop_fd, 1);
    for (struct served *m = serving->models; m != NULL; m = m->next) ask_to_stop(m);
    for (struct served *m = serving->models, *next; m != NULL; m = next) {
        next = m->next;
        free_model(m);
    }
    if (serving->stop_fd >= 0) close(serving->stop_fd);
    pthread_mutex_destroy(&serving->mutex);
    free(serving);
}

/* --- reloading ------------------------------------------------------------------------------------------ */

static bool is_same_spec(const struct job_spec *a, const struct job_spec *b)
{
    bool is_same = true;
    for (size_t i = 0; i < n_job_options && is_same; i++) {
        struct buffer texts[2] = {{0}};
        option_text(a, &job_options[i], &texts[0]);
        option_text(b, &job_options[i], &texts[1]);
        is_same = !texts[0].is_failed && !texts[1].is_failed && texts[0].size == texts[1].size &&
                  (texts[0].size == 0 || memcmp(texts[0].data, texts[1].data, texts[0].size) == 0);
        buffer_free(&texts[0]);
        buffer_free(&texts[1]);
    }
    return is_same;
}

static bool is_same_model(const struct model_config *a, const struct model_config *b)
{
    return strcmp(a->name, b->name) == 0 && a->keep_warm_ms == b->keep_warm_ms &&
           a->max_batch == b->max_batch && a->max_delay_us == b->max_delay_us &&
           a->queue_max == b->queue_max && is_same_spec(&a->spec, &b->spec);
}

static const struct model_config *config_of(const struct server_config *config, const char *name)
{
    const struct model_config *model = server_config_model(config, name);
    return model != NULL && model->is_sync ? model : NULL;
}

static struct served *find(struct serving *serving, const char *name);

/* Those that are new or changed, as a list. */
static tidemill_error *make_models(struct serving *serving, const struct server_config *config,
                                   struct served **list)
{
    for (size_t i = 0; i < config->n_models; i++) {
        const struct model_config *model = &config->models[i];
        const struct served *old = find(serving, model->name);
        struct served *m = NULL;
        if (!model->is_sync || (old != NULL && is_same_model(old->config, model))) continue;
        TRY(make_model(serving, model, &m));
        m->next = *list;
        *list = m;
    }
    return NULL;
}

static void retire(struct served *m)
{
    pthread_mutex_lock(&m->mutex);
    m->is_retired = true;
    pthread_mutex_unlock(&m->mutex);
    eventfd_write(m->event_fd, 1);
}

static bool is_in(const struct served *list, const char *name)
{
    for (; list != NULL; list = list->next)
        if (strcmp(list->config->name, name) == 0) return true;
    return false;
}

tidemill_error *serving_reload(struct serving *serving)
{
    const struct server_config *config = serving->app->config;
    struct served *made = NULL, **last = &made;
    tidemill_error *error = make_models(serving, config, &made);
    if (error != NULL) {
        for (struct served *m = made, *next; m != NULL; m = next) {
            next = m->next;
            ask_to_stop(m);
            free_model(m);
        }
        return error;
    }
    pthread_mutex_lock(&serving->mutex);
    for (struct served *m = serving->models; m != NULL; m = m->next)
        if (is_in(made, m->config->name) || config_of(config, m->config->name) == NULL) retire(m);
    while (*last != NULL) last = &(*last)->next;
    *last = serving->models;
    serving->models = made;
    pthread_mutex_unlock(&serving->mutex);
    return NULL;
}

/* --- asking ----------------------------------------------------------------------------------------------- */

/* The one that is asked now; NULL: none. Models stay until the stop. */
static struct served *find(struct serving *serving, const char *name)
{
    struct served *found = NULL;
    pthread_mutex_lock(&serving->mutex);
    for (struct served *m = serving->models; m != NULL && found == NULL; m = m->next) {
        if (strcmp(m->config->name, name) != 0) continue;
        pthread_mutex_lock(&m->mutex);
        if (!m->is_retired) found = m;
        pthread_mutex_unlock(&m->mutex);
    }
    pthread_mutex_unlock(&serving->mutex);
    return found;
}

static tidemill_error *unknown(const char *name)
{
    return error_new(ERROR_INPUT, "there is no model '%.100s' that answers at once", name);
}

/* With the mutex: whether one more may wait. */
static tidemill_error *make_room(struct served *m)
{
    if (m->is_stopping) return error_new(ERROR_INTERRUPTED, "the server is stopping; try again");
    if (m->n_waiting >= (uint64_t)m->config->queue_max) {
        m->stats.refused++;
        return error_new(ERROR_LOCKED, "model '%s' is busy: %llu requests wait already; try again",
                         m->config->name, (unsigned long long)m->n_waiting);
    }
    m->n_waiting++;
    m->stats.waiting = m->n_waiting;
    return NULL;
}

static void fail_call(struct serving_call *call, tidemill_error *error)
{
    call->error = error;
    call->values = NULL;
    call->n_values = 0;
    call->done(call);
}

static tidemill_error *add_call(struct served *m, struct ticket *ticket)
{
    pthread_mutex_lock(&m->mutex);
    tidemill_error *error = make_room(m);
    bool is_first = m->asked == NULL;
    if (error == NULL) {
        m->stats.calls++;
        *m->asked_last = ticket;
        m->asked_last = &ticket->next;
    }
    pthread_mutex_unlock(&m->mutex);
    if (error == NULL && is_first) eventfd_write(m->event_fd, 1);
    return error;
}

void serving_ask(struct serving *serving, struct serving_call *call)
{
    struct served *m = find(serving, call->model);
    call->usage = (struct token_usage){0};
    if (m == NULL) {
        fail_call(call, unknown(call->model));
        return;
    }
    struct ticket *ticket = calloc(1, sizeof *ticket);
    if (ticket == NULL) {
        fail_call(call, error_memory());
        return;
    }
    ticket->call = call;
    ticket->came_ns = clock_now_ns();
    tidemill_error *error = add_call(m, ticket);
    if (error == NULL) return;
    free(ticket);
    fail_call(call, error);
}

static tidemill_error *add_waiter(struct served *m, struct serving_waiter *waiter, bool *ret_known)
{
    tidemill_error *error = NULL;
    pthread_mutex_lock(&m->mutex);
    const struct known *known = m->known;
    if (known != NULL) {
        waiter->signature = &known->signature;
        waiter->description = known->description;
    } else if ((error = make_room(m)) == NULL) {
        *m->waiters_last = waiter;
        m->waiters_last = &waiter->next;
    }
    pthread_mutex_unlock(&m->mutex);
    *ret_known = known != NULL;
    if (known == NULL && error == NULL) eventfd_write(m->event_fd, 1);
    return error;
}

void serving_when_known(struct serving *serving, struct serving_waiter *waiter)
{
    struct served *m = find(serving, waiter->model);
    bool is_known = false;
    waiter->signature = NULL;
    waiter->description = NULL;
    waiter->next = NULL;
    waiter->error = NULL;
    tidemill_error *error = m == NULL ? unknown(waiter->model) : add_waiter(m, waiter, &is_known);
    if (error == NULL && !is_known) return; /* the model's thread has it now */
    waiter->error = error;
    waiter->ready(waiter);
}

struct meeting {
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    bool is_ready;
};

static void meet(struct serving_waiter *waiter)
{
    struct meeting *meeting = waiter->context;
    pthread_mutex_lock(&meeting->mutex);
    meeting->is_ready = true;
    pthread_cond_signal(&meeting->condition);
    pthread_mutex_unlock(&meeting->mutex);
}

tidemill_error *serving_signature(struct serving *serving, const char *model,
                                  const struct model_signature **ret)
{
    struct meeting meeting = {.mutex = PTHREAD_MUTEX_INITIALIZER,
                              .condition = PTHREAD_COND_INITIALIZER};
    struct serving_waiter waiter = {.model = model, .ready = meet, .context = &meeting};
    serving_when_known(serving, &waiter);
    pthread_mutex_lock(&meeting.mutex);
    while (!meeting.is_ready) pthread_cond_wait(&meeting.condition, &meeting.mutex);
    pthread_mutex_unlock(&meeting.mutex);
    pthread_cond_destroy(&meeting.condition);
    pthread_mutex_destroy(&meeting.mutex);
    *ret = waiter.signature;
    return waiter.error;
}

/* --- looking ----------------------------------------------------------------------------------------------- */

const struct model_signature *serving_known_signature(struct serving *serving, const char *model)
{
    struct served *m = find(serving, model);
    if (m == NULL) return NULL;
    pthread_mutex_lock(&m->mutex);
    const struct known *known = m->known;
    pthread_mutex_unlock(&m->mutex);
    return known == NULL ? NULL : &known->signature;
}

const struct model_config *serving_model(struct serving *serving, const char *model)
{
    struct served *m = find(serving, model);
    return m == NULL ? NULL : m->config;
}

bool serving_is_loaded(struct serving *serving, const char *model)
{
    struct serving_stats stats;
    return serving_stats(serving, model, &stats) && stats.is_loaded;
}

bool serving_is_ready(struct serving *serving, const char *model)
{
    struct served *m = find(serving, model);
    if (m == NULL) return false;
    pthread_mutex_lock(&m->mutex);
    bool is_ready = !m->is_stopping && !(m->is_backing_off && clock_now_ns() < m->retry_ns);
    pthread_mutex_unlock(&m->mutex);
    return is_ready;
}

bool serving_stats(struct serving *serving, const char *model, struct serving_stats *ret)
{
    struct served *m = find(serving, model);
    if (m == NULL) return false;
    pthread_mutex_lock(&m->mutex);
    *ret = m->stats;
    pthread_mutex_unlock(&m->mutex);
    return true;
}
