/* SPDX-License-Identifier: Apache-2.0 */
/* batch_lost.c - batches that may have been created, as nobody said whether they were.
 *
 * One is looked for in the server's list, which may lag behind, for up to a minute. If it is not there its
 * requests are asked for again, under another tag; should it show up after all, it is cancelled, so that
 * at most what it did until then is paid for twice. Anthropic's batches bear no tag: one that looks like
 * ours may be somebody else's, so there none is cancelled. */
#include "runtime/batch.h"

#include <stdlib.h>

#define MS_NS INT64_C(1000000)
#define LOOK_NS_MAX (60 * 1000 * MS_NS)
#define LOOK_SHARE 4 /* of --patience: no longer than a quarter of it */
#define PAGES_MAX 100

/* --- looking for one ------------------------------------------------------------------------------------------ */

/* Answers bring Retry-After for those that get none; how often we look is ours to say. */
static void pause_looks(struct batch *batch)
{
    batch->transfer.response.retry_after_ms = -1;
    batch_pause(batch);
}

static bool looks_again(const struct batch_runtime *runtime, struct batch *batch)
{
    int64_t now_ns = clock_now_ns(), patience_ms = runtime->options.http.patience_ms;
    int64_t span_ns = LOOK_NS_MAX;
    if (patience_ms > 0) span_ns = MIN(span_ns, patience_ms * MS_NS / LOOK_SHARE);
    if (batch->looking_since_ns == 0) batch->looking_since_ns = now_ns;
    int64_t end_ns = batch->looking_since_ns + span_ns;
    if (now_ns >= end_ns) return false;
    pause_looks(batch);
    batch->due_ns = MIN(batch->due_ns, end_ns);
    return true;
}

tidemill_error *batch_take_absence(struct batch_runtime *runtime, struct batch *batch)
{
    return looks_again(runtime, batch) ? NULL : batch_give_up(runtime, batch);
}

/* --- giving one up ---------------------------------------------------------------------------------------------- */

static tidemill_error *note_lost(struct batch_runtime *runtime, struct batch *batch,
                                 const char *again)
{
    TRY(batch_state_note_lost(&runtime->state, batch->tag, runtime->api.base, again));
    return batch_watch(runtime);
}

/* Of this run: it is created again, of the file that is there already. */
static tidemill_error *create_again(struct batch_runtime *runtime, struct batch *batch)
{
    char tag[BATCH_TAG_BYTES];
    if (runtime->api.dialect ==
        BATCH_OPENAI) { /* Anthropic: the tag is part of its requests' ids */
        batch_make_tag(runtime, tag);
        TRY(note_lost(runtime, batch, tag));
        memcpy(batch->tag, tag, sizeof batch->tag);
    }
    batch_enter(batch, BATCH_CREATING);
    return NULL;
}

tidemill_error *batch_give_up(struct batch_runtime *runtime, struct batch *batch)
{
    batch->looking_since_ns = 0;
    log_event(LOG_WARNING, "a batch may have been created and the server does not list it: its "
                           "requests are asked for again");
    if (batch->past == NULL) return create_again(runtime, batch);
    batch->past->is_gone = true;
    TRY(runtime->api.dialect == BATCH_OPENAI ? note_lost(runtime, batch, NULL)
                                             : batch_forget(runtime, batch));
    return batch_dissolve(runtime, batch, NULL);
}

/* --- watching for those that were given up --------------------------------------------------------------------- */

bool batch_is_watch(const struct batch *batch)
{
    return batch->stage == BATCH_WATCHING || batch->stage == BATCH_DOOMING;
}

static bool is_of_this_server(const struct batch_runtime *runtime, const struct batch_lost *lost)
{
    return strcmp(lost->server, runtime->api.base) == 0;
}

tidemill_error *batch_watch(struct batch_runtime *runtime)
{
    const struct batch_state *state = &runtime->state;
    struct batch *watch = runtime->batches;
    size_t n = 0;
    for (size_t i = 0; i < state->n_lost; i++) n += is_of_this_server(runtime, &state->lost[i]);
    if (n == 0 || runtime->api.dialect != BATCH_OPENAI) return NULL;
    while (watch != NULL && !batch_is_watch(watch)) watch = watch->next;
    if (watch != NULL) return NULL;
    TRY(batch_add(runtime, &watch));
    batch_enter(watch, BATCH_WATCHING);
    return NULL;
}

/* The page of the list that came. */
static tidemill_error *take_page(struct batch_runtime *runtime, struct batch *watch)
{
    const struct buffer *body = &watch->transfer.response.body;
    const struct slice text = {body->data, body->size};
    char *id = NULL, *last = NULL;
    free(watch->page);
    watch->page = NULL;
    for (size_t i = 0; i < runtime->state.n_lost && id == NULL; i++) {
        const struct batch_lost *lost = &runtime->state.lost[i];
        struct batch_search search = {.tag = lost->tag, .after = ""};
        free(last);
        batch_list_find(runtime->api.dialect, text, &search, &id, &last);
        watch->doomed = i;
    }
    if (id != NULL) {
        free(last);
        free(watch->id);
        watch->id = id;
        batch_enter(watch, BATCH_DOOMING);
        return NULL;
    }
    watch->page = last;
    if (last != NULL && ++watch->n_pages < PAGES_MAX) return NULL; /* due at once */
    free(watch->page);
    watch->page = NULL;
    watch->n_pages = 0;
    pause_looks(watch);
    return NULL;
}

/* It was cancelled, or it cannot be. */
static tidemill_error *take_end(struct batch_runtime *runtime, struct batch *watch)
{
    struct batch_state *state = &runtime->state;
    if (watch->transfer.outcome == HTTP_ANSWERED)
        log_event(LOG_WARNING,
                  "batch %s was created after all, and its requests were asked for again: "
                  "it is cancelled",
                  watch->id);
    else
        log_event(
            LOG_WARNING,
            "batch %s was created after all, and its requests were asked for again; it cannot "
            "be cancelled (%s): what it did is paid for twice",
            watch->id, watch->transfer.message);
    TRY(batch_state_note_found(state, state->lost[watch->doomed].tag));
    free(watch->id);
    watch->id = NULL;
    batch_enter(watch, BATCH_WATCHING);
    if (state->n_lost == 0) watch->stage = BATCH_IDLE;
    return NULL;
}

tidemill_error *batch_take_watch(struct batch_runtime *runtime, struct batch *watch)
{
    enum http_outcome outcome = watch->transfer.outcome;
    bool is_over = outcome == HTTP_ANSWERED || outcome == HTTP_REFUSED;
    if (watch->stage == BATCH_DOOMING && is_over) return take_end(runtime, watch);
    if (watch->stage == BATCH_WATCHING && outcome == HTTP_ANSWERED)
        return take_page(runtime, watch);
    if (outcome == HTTP_REFUSED)
        watch->stage = BATCH_IDLE; /* it does not list its batches */
    else
        batch_pause(watch);
    return NULL;
}
