/* SPDX-License-Identifier: Apache-2.0 */
/* delivery.c - what is to be told, from the store, by two lanes: a few threads for webhooks, so that one
 * receiver that hangs does not hold up the others, and one for sinks, which keeps their jobs in order.
 *
 * The store has each delivery until it is done; a thread looks for what is due, marks in memory what it
 * takes, tries it, and writes down when to try again. Killed anywhere, it is due again at the next start,
 * under the same id. */
#include "server/delivery.h"

#include "plan/plan.h"
#include "server/delivery_parts.h"
#include "server/requests.h"
#include "server/results.h"
#include "server/webhook.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <curl/curl.h>
#include <sodium/randombytes.h>

#define WEBHOOK_THREADS 4
#define THREADS (WEBHOOK_THREADS + 1)
#define DUE_MAX 256
#define LOOK_MS 500
#define GIVE_UP_MS (INT64_C(3) * 24 * 3600 * 1000)
#define PAUSE_BASE_S 1.0
#define PAUSE_MAX_S 3600.0
#define PAUSE_MIN_S 0.5

struct lane_thread {
    struct delivery *delivery;
    pthread_t thread;
    bool has_thread, is_for_sinks;
    uint64_t random;
    char taken[STORE_ID_BYTES]; /* under way; "": none. The delivery's mutex */
};

struct delivery {
    struct app *app;
    struct requests *requests;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_stopping;
    unsigned n_changes;
    struct lane_thread threads[THREADS];
};

struct requests *delivery_requests(struct delivery *delivery)
{
    return delivery == NULL ? NULL : delivery->requests;
}

/* --- noting what is to be delivered ------------------------------------------------------------------ */

static tidemill_error *add(struct delivery *delivery, const struct store_job *job,
                           const struct buffer *target)
{
    struct buffer body = {0};
    struct store_delivery row = {0};
    if (target->is_failed) return error_memory();
    webhook_event_id(job, target->data, row.id);
    webhook_body(job, row.id, &body);
    buffer_byte(&body, '\0');
    memcpy(row.job, job->id, sizeof row.job);
    row.target = target->data;
    row.body = body.data;
    row.next_at = row.created_at = store_now();
    tidemill_error *error =
        body.is_failed ? error_memory() : store_delivery_add(delivery->app->store, &row);
    buffer_free(&body);
    return error;
}

static tidemill_error *add_webhook(struct delivery *delivery, const struct store_job *job,
                                   const struct webhook_config *webhook)
{
    struct buffer target = {0};
    if (webhook->url == NULL) return NULL;
    buffer_printf(&target, "webhook %s %s",
                  webhook->secret_variable == NULL ? "-" : webhook->secret_variable, webhook->url);
    buffer_byte(&target, '\0');
    tidemill_error *error = add(delivery, job, &target);
    buffer_free(&target);
    return error;
}

static tidemill_error *add_sinks(struct delivery *delivery, const struct store_job *job,
                                 const struct queue_config *queue)
{
    for (size_t i = 0; i < queue->n_sinks && job->output_file[0] != '\0'; i++) {
        struct buffer target = {0};
        buffer_printf(&target, "%s %s", queue->sinks[i].kind, queue->sinks[i].to);
        buffer_byte(&target, '\0');
        tidemill_error *error = add(delivery, job, &target);
        buffer_free(&target);
        TRY(error);
    }
    return NULL;
}

static tidemill_error *add_all(struct delivery *delivery, const struct store_job *job)
{
    const struct server_config *config = delivery->app->config;
    const struct queue_config *queue =
        job->queue[0] == '\0' ? NULL : server_config_queue(config, job->queue);
    if (webhook_event_type(job) == NULL) return NULL;
    TRY(add_webhook(delivery, job, queue == NULL ? &config->webhook : &queue->webhook));
    return queue == NULL ? NULL : add_sinks(delivery, job, queue);
}

tidemill_error *delivery_job_ended(struct delivery *delivery, const struct store_job *job)
{
    if (delivery == NULL) return NULL;
    if (delivery->app->results != NULL && job->kind == STORE_WINDOW)
        results_window_ended(delivery->app->results, job->id);
    requests_job_ended(delivery->requests, job->id);
    TRY(add_all(delivery, job));
    pthread_mutex_lock(&delivery->mutex);
    delivery->n_changes++;
    pthread_cond_broadcast(&delivery->changed);
    pthread_mutex_unlock(&delivery->mutex);
    return NULL;
}

/* --- one try ------------------------------------------------------------------------------------------- */

struct sink_kind {
    const char *name;
    tidemill_error *(*send)(const struct sink_source *source, const char *to);
};

static const struct sink_kind sink_kinds[] = {
    {"jsonl", sink_jsonl},
    {"directory", sink_directory},
    {"redis", sink_redis},
    {"http", sink_http},
};

/* What a target is behind its kind; NULL: it is of another kind. */
static const char *behind(const char *target, const char *kind)
{
    size_t size = strlen(kind);
    if (strncmp(target, kind, size) != 0 || target[size] != ' ') return NULL;
    return target + size + 1;
}

static tidemill_error *send_answers(struct app *app, const struct store_delivery *delivery,
                                    const struct store_job *job, const struct sink_kind *kind,
                                    const char *to)
{
    const struct queue_config *queue = server_config_queue(app->config, job->queue);
    const char *key_field = queue == NULL ? NULL : queue->key_field;
    char *path = NULL;
    TRY(sink_make_file(app, job, key_field, &path));
    struct sink_source source = {
        .app = app, .event = delivery->id, .job = job, .key_field = key_field, .path = path};
    tidemill_error *error = kind->send(&source, to);
    app->io->unlink(app->io->context, path);
    free(path);
    return error;
}

static tidemill_error *send_to_sink(struct app *app, const struct store_delivery *delivery,
                                    const struct sink_kind *kind, const char *to)
{
    struct store_job job = {0};
    bool is_found;
    TRY(store_job_get(app->store, NULL, delivery->job, &job, &is_found));
    if (!is_found) return NULL; /* its time is over, and its answers are gone */
    tidemill_error *error = NULL;
    if (job.output_file[0] != '\0') error = send_answers(app, delivery, &job, kind, to);
    store_job_free(&job);
    return error;
}

static enum delivery_end try_sink(struct app *app, const struct store_delivery *delivery,
                                  char outcome[DELIVERY_OUTCOME_BYTES])
{
    for (size_t i = 0; i < COUNT_OF(sink_kinds); i++) {
        const char *to = behind(delivery->target, sink_kinds[i].name);
        if (to == NULL) continue;
        tidemill_error *error = send_to_sink(app, delivery, &sink_kinds[i], to);
        if (error == NULL) return DELIVERY_DONE;
        snprintf(outcome, DELIVERY_OUTCOME_BYTES, "%s", error_message(error));
        error_free(error);
        return DELIVERY_AGAIN;
    }
    snprintf(outcome, DELIVERY_OUTCOME_BYTES, "nobody knows this kind of target");
    return DELIVERY_GONE;
}

static enum delivery_end try_once(struct app *app, const struct store_delivery *delivery,
                                  char outcome[DELIVERY_OUTCOME_BYTES])
{
    const char *what = behind(delivery->target, "webhook");
    return what != NULL ? delivery_webhook(app, delivery, what, outcome)
                        : try_sink(app, delivery, outcome);
}

/* When next; 0: never. */
static int64_t next_at(struct lane_thread *thread, const struct store_delivery *delivery,
                       enum delivery_end end)
{
    int64_t now = store_now();
    if (end != DELIVERY_AGAIN) return 0;
    double pause_s =
        backoff_s(PAUSE_BASE_S, PAUSE_MAX_S, (uint32_t)delivery->attempts, &thread->random);
    int64_t next = now + (int64_t)(MAX(pause_s, PAUSE_MIN_S) * 1000);
    return next - delivery->created_at > GIVE_UP_MS ? 0 : next;
}

static void deliver(struct lane_thread *thread, const struct store_delivery *delivery)
{
    struct app *app = thread->delivery->app;
    char outcome[DELIVERY_OUTCOME_BYTES] = "delivered";
    enum delivery_end end = try_once(app, delivery, outcome);
    int64_t next = next_at(thread, delivery, end);
    if (end != DELIVERY_DONE)
        log_event(LOG_WARNING, "%s of %s is not delivered%s: %s", delivery->id, delivery->job,
                  next == 0 ? ", and given up" : " yet", outcome);
    tidemill_error *error = store_delivery_tried(app->store, delivery->id, next, outcome);
    if (error != NULL)
        log_event(LOG_WARNING, "%s will be delivered again: %s", delivery->id,
                  error_message(error));
    error_free(error);
}

/* --- the threads ----------------------------------------------------------------------------------------- */

static bool is_taken(const struct delivery *delivery, const char *id)
{
    for (size_t i = 0; i < THREADS; i++)
        if (strcmp(delivery->threads[i].taken, id) == 0) return true;
    return false;
}

/* One of the due ones that nobody has, of this thread's lane; -1: none. */
static int take(struct lane_thread *thread, const struct store_delivery *due, size_t n)
{
    struct delivery *delivery = thread->delivery;
    int taken = -1;
    pthread_mutex_lock(&delivery->mutex);
    for (size_t i = 0; i < n && taken < 0; i++) {
        bool is_webhook = behind(due[i].target, "webhook") != NULL;
        if (is_webhook == thread->is_for_sinks || is_taken(delivery, due[i].id)) continue;
        memcpy(thread->taken, due[i].id, sizeof thread->taken);
        taken = (int)i;
    }
    pthread_mutex_unlock(&delivery->mutex);
    return taken;
}

/* Looks again once it has it: another thread may have been done with it between the look and the taking. */
static bool is_still_due(struct app *app, const char *id)
{
    struct store_delivery *due = NULL;
    size_t n = 0;
    bool is_due = false;
    tidemill_error *error = store_delivery_due(app->store, store_now(), DUE_MAX, &due, &n);
    for (size_t i = 0; i < n && !is_due; i++) is_due = strcmp(due[i].id, id) == 0;
    if (error == NULL) store_deliveries_free(due, n);
    error_free(error);
    return is_due;
}

/* False: nothing is due. */
static bool deliver_one(struct lane_thread *thread)
{
    struct delivery *delivery = thread->delivery;
    struct store_delivery *due = NULL;
    size_t n = 0;
    tidemill_error *error =
        store_delivery_due(delivery->app->store, store_now(), DUE_MAX, &due, &n);
    if (error != NULL) {
        log_event(LOG_WARNING, "deliveries cannot be read: %s", error_message(error));
        error_free(error);
        return false;
    }
    int i = take(thread, due, n);
    if (i >= 0 && is_still_due(delivery->app, due[i].id)) deliver(thread, &due[i]);
    store_deliveries_free(due, n);
    pthread_mutex_lock(&delivery->mutex);
    thread->taken[0] = '\0';
    pthread_mutex_unlock(&delivery->mutex);
    return i >= 0;
}

static void sleep_a_while(struct delivery *delivery, unsigned n_changes)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += LOOK_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    if (delivery->n_changes == n_changes && !delivery->is_stopping)
        pthread_cond_timedwait(&delivery->changed, &delivery->mutex, &until);
}

static void *run(void *context)
{
    struct lane_thread *thread = context;
    struct delivery *delivery = thread->delivery;
    for (;;) {
        pthread_mutex_lock(&delivery->mutex);
        unsigned n_changes = delivery->n_changes;
        bool is_stopping = delivery->is_stopping;
        pthread_mutex_unlock(&delivery->mutex);
        if (is_stopping) return NULL;
        if (deliver_one(thread)) continue;
        pthread_mutex_lock(&delivery->mutex);
        sleep_a_while(delivery, n_changes);
        pthread_mutex_unlock(&delivery->mutex);
    }
}

static tidemill_error *start_threads(struct delivery *delivery)
{
    for (size_t i = 0; i < THREADS; i++) {
        struct lane_thread *thread = &delivery->threads[i];
        thread->delivery = delivery;
        thread->is_for_sinks = i == WEBHOOK_THREADS;
        randombytes_buf(&thread->random, sizeof thread->random);
    }
    for (size_t i = 0; i < THREADS; i++) {
        struct lane_thread *thread = &delivery->threads[i];
        int code = pthread_create(&thread->thread, NULL, run, thread);
        if (code != 0) return error_errno(ERROR_MEMORY, code, "cannot start a thread");
        thread->has_thread = true;
    }
    return NULL;
}

tidemill_error *delivery_start(struct app *app, struct delivery **ret)
{
    struct delivery *delivery = calloc(1, sizeof *delivery);
    if (delivery == NULL) return error_memory();
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&delivery->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&delivery->mutex, NULL);
    delivery->app = app;
    tidemill_error *error = requests_start(app, &delivery->requests);
    if (error == NULL && curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        error = error_new(ERROR_MEMORY, "libcurl does not start");
    if (error == NULL) error = start_threads(delivery);
    if (error != NULL)
        delivery_stop(delivery);
    else
        *ret = delivery;
    return error;
}

void delivery_stop(struct delivery *delivery)
{
    if (delivery == NULL) return;
    pthread_mutex_lock(&delivery->mutex);
    delivery->is_stopping = true;
    pthread_cond_broadcast(&delivery->changed);
    pthread_mutex_unlock(&delivery->mutex);
    for (size_t i = 0; i < THREADS; i++)
        if (delivery->threads[i].has_thread) pthread_join(delivery->threads[i].thread, NULL);
    requests_stop(delivery->requests);
    pthread_cond_destroy(&delivery->changed);
    pthread_mutex_destroy(&delivery->mutex);
    free(delivery);
}
