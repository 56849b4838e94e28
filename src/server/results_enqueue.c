/* SPDX-License-Identifier: Apache-2.0 */
/* results_enqueue.c - a miss becomes a record of the queue, once until the window that takes it has ended.
 *
 * The record is {KEY_FIELD: key}: for queues whose key is what their model is asked with. What was asked
 * for is kept in memory only; after a restart a key may be asked for once more in the same window, which
 * costs one record (none where equal inputs run once). */
#include "server/results_parts.h"

#include "format/format.h"
#include "server/request_id.h"
#include "server/requests.h"
#include "server/scheduler.h"

#include <stdio.h>
#include <stdlib.h>

#define SLOTS_START 1024
#define SLOTS_MAX ((size_t)1 << 20)
#define WANTED_AGE_MS (INT64_C(24) * 3600 * 1000)

struct asked_slot {
    struct digest key;
    bool is_used, is_accepted;
    char window[STORE_ID_BYTES];
    uint64_t n;
    int64_t asked_at;
    struct result_ask *asks; /* of those who wait for the id */
};

struct asked {
    pthread_mutex_t mutex;
    struct asked_slot *slots; /* open addressing, a power of two */
    size_t n_slots, n_used;
};

/* A record on its way to the store. */
struct asking {
    struct store_accept accept; /* first: `done` gets it */
    struct results *results;
    struct digest key;
    struct buffer line;
    char queue[STORE_NAME_BYTES], tenant[STORE_NAME_BYTES], model[STORE_NAME_BYTES];
};

struct asked *asked_new(void)
{
    struct asked *asked = calloc(1, sizeof *asked);
    if (asked == NULL) return NULL;
    asked->n_slots = SLOTS_START;
    asked->slots = calloc(asked->n_slots, sizeof *asked->slots);
    if (asked->slots == NULL) {
        free(asked);
        return NULL;
    }
    pthread_mutex_init(&asked->mutex, NULL);
    return asked;
}

void asked_free(struct asked *asked)
{
    if (asked == NULL) return;
    pthread_mutex_destroy(&asked->mutex);
    free(asked->slots);
    free(asked);
}

/* --- the table; its mutex is held ------------------------------------------------------------------ */

/* The key's slot, or the free one where it would go. */
static struct asked_slot *slot_of(struct asked_slot *slots, size_t n_slots, struct digest key)
{
    size_t i = key.low & (n_slots - 1);
    while (slots[i].is_used && !digest_equal(slots[i].key, key)) i = (i + 1) & (n_slots - 1);
    return &slots[i];
}

/* Moves all slots but those of `window` (NULL: none) into a table of `n_slots`. */
static bool rebuild(struct asked *asked, size_t n_slots, const char *window)
{
    struct asked_slot *slots = calloc(n_slots, sizeof *slots);
    if (slots == NULL) return false;
    size_t n_used = 0;
    for (size_t i = 0; i < asked->n_slots; i++) {
        const struct asked_slot *slot = &asked->slots[i];
        if (!slot->is_used) continue;
        if (window != NULL && slot->is_accepted && strcmp(slot->window, window) == 0) continue;
        *slot_of(slots, n_slots, slot->key) = *slot;
        n_used++;
    }
    free(asked->slots);
    asked->slots = slots;
    asked->n_slots = n_slots;
    asked->n_used = n_used;
    return true;
}

static void drop_slot(struct asked *asked, struct digest key)
{
    struct asked_slot *slot = slot_of(asked->slots, asked->n_slots, key);
    if (!slot->is_used) return;
    size_t mask = asked->n_slots - 1, hole = (size_t)(slot - asked->slots);
    asked->n_used--;
    /* Linear probing without marks: what would not be found past the hole moves into it. */
    for (size_t i = (hole + 1) & mask; asked->slots[i].is_used; i = (i + 1) & mask) {
        size_t home = asked->slots[i].key.low & mask;
        if (((i - home) & mask) < ((i - hole) & mask)) continue;
        asked->slots[hole] = asked->slots[i];
        hole = i;
    }
    asked->slots[hole] = (struct asked_slot){0};
}

static bool has_room(struct asked *asked)
{
    if (asked->n_used < asked->n_slots / 2) return true;
    return asked->n_slots < SLOTS_MAX && rebuild(asked, asked->n_slots * 2, NULL);
}

void asked_forget(struct asked *asked, const char *window)
{
    pthread_mutex_lock(&asked->mutex);
    bool is_there = false;
    for (size_t i = 0; i < asked->n_slots && !is_there; i++)
        is_there = asked->slots[i].is_used && asked->slots[i].is_accepted &&
                   strcmp(asked->slots[i].window, window) == 0;
    if (is_there) rebuild(asked, asked->n_slots, window);
    pthread_mutex_unlock(&asked->mutex);
}

void results_window_ended(struct results *results, const char *window)
{
    asked_forget(results->asked, window);
}

/* --- one record ------------------------------------------------------------------------------------ */

static void name_request(const char *window, uint64_t n, char text[REQUEST_ID_BYTES])
{
    struct request_id id = {.first = n, .n = 1, .dialect = DIALECT_TIDEMILL};
    memcpy(id.window, window, sizeof id.window);
    request_id_text(&id, text);
}

static void tell(struct result_ask *asks, const char *id, const tidemill_error *error)
{
    while (asks != NULL) {
        struct result_ask *next = asks->next;
        asks->done(asks, id, error);
        asks = next;
    }
}

/* Notes what came of it and takes out who waits for that. */
static struct result_ask *settle(struct asking *asking, const tidemill_error *error)
{
    struct asked *asked = asking->results->asked;
    pthread_mutex_lock(&asked->mutex);
    struct asked_slot *slot = slot_of(asked->slots, asked->n_slots, asking->key);
    struct result_ask *asks = slot->is_used ? slot->asks : NULL;
    if (slot->is_used && error == NULL) {
        slot->asks = NULL;
        slot->is_accepted = true;
        memcpy(slot->window, asking->accept.window, sizeof slot->window);
        slot->n = asking->accept.first;
    } else {
        drop_slot(asked, asking->key);
    }
    pthread_mutex_unlock(&asked->mutex);
    return asks;
}

static void asking_done(struct store_accept *accept, tidemill_error *error)
{
    struct asking *asking = (struct asking *)accept;
    char id[REQUEST_ID_BYTES];
    struct app *app = asking->results->app;
    requests_settle(app, asking->queue, asking->tenant, 1, error == NULL);
    if (error == NULL) scheduler_accepted(app->scheduler, accept);
    struct result_ask *asks = settle(asking, error);
    if (error == NULL) name_request(accept->window, accept->first, id);
    tell(asks, error == NULL ? id : NULL, error);
    error_free(error);
    buffer_free(&asking->line);
    free(asking);
}

static struct asking *asking_new(struct results *results, const struct queue_config *queue,
                                 const char *tenant, struct slice key, struct digest digest)
{
    struct asking *asking = calloc(1, sizeof *asking);
    if (asking == NULL) return NULL;
    const char *field = queue->key_field == NULL ? "id" : queue->key_field;
    asking->results = results;
    asking->key = digest;
    snprintf(asking->queue, sizeof asking->queue, "%s", queue->name);
    snprintf(asking->tenant, sizeof asking->tenant, "%s", tenant);
    snprintf(asking->model, sizeof asking->model, "%s", queue->model->name);
    buffer_byte(&asking->line, '{');
    format_json_string(&asking->line, field, strlen(field));
    buffer_byte(&asking->line, ':');
    format_json_string(&asking->line, key.data, key.size);
    buffer_text(&asking->line, "}\n");
    if (asking->line.is_failed) {
        free(asking);
        return NULL;
    }
    asking->accept = (struct store_accept){
        .queue = asking->queue,
        .tenant = asking->tenant,
        .model = asking->model,
        .priority = queue->priority,
        .ready_at = window_close_at(&queue->window, queue->zone, store_now()),
        .lines = asking->line.data,
        .bytes = asking->line.size,
        .n = 1,
        .done = asking_done,
    };
    return asking;
}

enum asked_as { ASKED_NEW, ASKED_ON_ITS_WAY, ASKED_BEFORE, ASKED_TOO_MUCH };

/* Whether this key is the one to send; chains `ask` where its id is not known yet. */
static enum asked_as note(struct asked *asked, struct digest key, struct result_ask *ask,
                          char id[REQUEST_ID_BYTES])
{
    enum asked_as as = ASKED_NEW;
    int64_t now = store_now();
    if (ask != NULL) ask->next = NULL;
    pthread_mutex_lock(&asked->mutex);
    bool is_full = !has_room(asked);
    struct asked_slot *slot = slot_of(asked->slots, asked->n_slots, key);
    bool is_known = slot->is_used && (!slot->is_accepted || now - slot->asked_at < WANTED_AGE_MS);
    if (is_known && slot->is_accepted) {
        as = ASKED_BEFORE;
        name_request(slot->window, slot->n, id);
    } else if (is_known) {
        as = ASKED_ON_ITS_WAY;
        if (ask != NULL) ask->next = slot->asks;
        if (ask != NULL) slot->asks = ask;
    } else if (is_full && !slot->is_used) {
        as = ASKED_TOO_MUCH;
    } else {
        if (!slot->is_used) asked->n_used++;
        *slot = (struct asked_slot){.key = key, .is_used = true, .asked_at = now, .asks = ask};
    }
    pthread_mutex_unlock(&asked->mutex);
    return as;
}

/* It cannot be sent: those who came meanwhile are told, too. */
static void give_up(struct results *results, struct digest key, tidemill_error *error)
{
    struct asked *asked = results->asked;
    pthread_mutex_lock(&asked->mutex);
    struct asked_slot *slot = slot_of(asked->slots, asked->n_slots, key);
    struct result_ask *asks = slot->is_used ? slot->asks : NULL;
    drop_slot(asked, key);
    pthread_mutex_unlock(&asked->mutex);
    tell(asks, NULL, error);
    error_free(error);
}

static void send_record(struct results *results, const struct queue_config *queue,
                        const char *tenant, struct slice key, struct digest digest)
{
    if (!requests_admit(results->app, queue, tenant, 1)) {
        give_up(results, digest,
                error_new(ERROR_LOCKED, "queue %s holds as many of your records as it may",
                          queue->name));
        return;
    }
    struct asking *asking = asking_new(results, queue, tenant, key, digest);
    if (asking == NULL) {
        requests_settle(results->app, queue->name, tenant, 1, false);
        give_up(results, digest, error_memory());
        return;
    }
    store_accept(results->app->store, &asking->accept);
}

void asked_enqueue(struct results *results, const struct queue_config *queue, const char *tenant,
                   struct slice key, struct digest digest, struct result_ask *ask)
{
    char id[REQUEST_ID_BYTES];
    switch (note(results->asked, digest, ask, id)) {
    case ASKED_NEW: send_record(results, queue, tenant, key, digest); break;
    case ASKED_ON_ITS_WAY: break;
    case ASKED_BEFORE: tell(ask, id, NULL); break;
    case ASKED_TOO_MUCH: {
        tidemill_error *error =
            error_new(ERROR_LOCKED, "too many keys are being asked for at a time");
        tell(ask, NULL, error);
        error_free(error);
        break;
    }
    }
}
