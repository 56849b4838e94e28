/* SPDX-License-Identifier: Apache-2.0 */
/* batch_trouble.c - what becomes of a batch that a server refuses, loses, or does not speak of. */
#include "runtime/batch.h"

#include <stdio.h>
#include <stdlib.h>

#define MS_NS INT64_C(1000000)
#define MISSING_MAX 5 /* times that a batch is not there before it is gone: a copy may lag behind */

/* --- ends that are none ------------------------------------------------------------------------------------ */

/* All units that wait go elsewhere; `message` NULL: that was no failure of theirs. */
tidemill_error *batch_dissolve(struct batch_runtime *runtime, struct batch *batch,
                               const char *message)
{
    size_t n = batch->n_units;
    batch->n_units = batch->n_sorted = batch->n_waiting = 0;
    batch->bytes = 0;
    transfer_free(&batch->transfer, runtime->multi);
    batch->stage = BATCH_IDLE;
    for (size_t i = 0; i < n; i++) {
        struct batch_unit *unit = batch->units[i];
        batch->units[i] = NULL;
        if (unit == NULL) continue;
        TRY(message == NULL ? batch_collect(runtime, unit)
                            : batch_unit_again(runtime, unit, message));
    }
    return NULL;
}

tidemill_error *batch_forget(struct batch_runtime *runtime, struct batch *batch)
{
    if (batch->past != NULL) batch->past->is_gone = true;
    return batch_state_note_gone(&runtime->state, batch->tag);
}

/* The server wants none of it. Smaller ones may be taken, and show which record is to blame. */
static tidemill_error *refuse_whole(struct batch_runtime *runtime, struct batch *batch,
                                    const char *message)
{
    size_t n = batch->n_waiting;
    log_event(LOG_WARNING, "the server refused a batch of %zu requests: %s", n, message);
    runtime->units_max = MIN(runtime->units_max, MAX(n / 2, (size_t)1));
    if (n != 1) return batch_dissolve(runtime, batch, NULL); /* ends: half as many each time */
    struct batch_unit *unit = batch->units[0];
    batch->n_units = batch->n_waiting = 0;
    batch->stage = BATCH_IDLE;
    return batch_unit_fail(runtime, unit, ERROR_UPSTREAM, message);
}

static tidemill_error *blame_lines(struct batch_runtime *runtime, struct batch *batch,
                                   size_t *ret_n)
{
    const struct batch_object *object = &batch->object;
    *ret_n = 0;
    for (size_t i = 0; i < object->n_complaints; i++) {
        uint64_t line = object->complaints[i].line;
        size_t n = batch->past != NULL ? batch->past->n_keys : batch->n_sorted;
        if (line >= n) continue;
        uint64_t index =
            batch->past != NULL ? batch->past->keys[line].index : batch->keys[line].index;
        for (size_t u = 0; u < batch->n_sorted; u++) {
            struct batch_unit *unit = batch->units[u];
            if (unit == NULL || unit->key.index != index) continue;
            batch->units[u] = NULL;
            batch->n_waiting--;
            *ret_n += 1;
            TRY(batch_unit_fail(runtime, unit, ERROR_UPSTREAM, object->complaints[i].message));
        }
    }
    return NULL;
}

/* Nothing of a batch that fails its validation was run. */
tidemill_error *batch_take_failure(struct batch_runtime *runtime, struct batch *batch)
{
    size_t n_blamed;
    const char *message = batch->object.message[0] != '\0' ? batch->object.message
                                                           : "the batch failed its validation";
    TRY(batch_forget(runtime, batch));
    TRY(batch_sort(batch));
    TRY(blame_lines(runtime, batch, &n_blamed));
    if (n_blamed == 0) return refuse_whole(runtime, batch, message);
    log_event(LOG_WARNING, "batch %s: its validation refused %zu requests; the others go again",
              batch_name(batch), n_blamed);
    return batch_dissolve(runtime, batch, message);
}

/* --- answers that are none ----------------------------------------------------------------------------------- */

tidemill_error *batch_take_trouble(struct batch_runtime *runtime, struct batch *batch)
{
    int64_t now_ns = clock_now_ns(), patience_ms = runtime->options.http.patience_ms;
    const char *message = batch->transfer.message;
    if (batch->failing_since_ns == 0) {
        batch->failing_since_ns = now_ns;
        log_event(LOG_WARNING, "batch %s: %s; trying again", batch_name(batch), message);
    }
    if (patience_ms > 0 && now_ns - batch->failing_since_ns > patience_ms * MS_NS)
        return error_new(ERROR_UNREACHABLE,
                         "%s: %s, for longer than --patience; the same command goes on",
                         runtime->api.target.origin, message);
    if (batch->stage == BATCH_CREATING && batch->transfer.is_in_doubt)
        batch_enter(batch, BATCH_FINDING);
    batch_pause(batch);
    return NULL;
}

tidemill_error *batch_take_nonsense(struct batch_runtime *runtime, struct batch *batch)
{
    snprintf(batch->transfer.message, sizeof batch->transfer.message,
             "the answer is not what a batch API answers");
    return batch_take_trouble(runtime, batch);
}

tidemill_error *batch_take_refusal(struct batch_runtime *runtime, struct batch *batch)
{
    const char *message = batch->transfer.message;
    bool is_missing = batch->transfer.response.status == 404;
    switch (batch->stage) {
    case BATCH_CURSOR:
    case BATCH_UPLOADING:
    case BATCH_CREATING:
        if (is_missing && batch->stage != BATCH_CREATING)
            return error_new(ERROR_UNREACHABLE,
                             "%s has no batch API at %s (%s); leave --via batch out",
                             runtime->api.target.origin, runtime->api.base, message);
        if (batch->stage == BATCH_CREATING) TRY(batch_forget(runtime, batch));
        return refuse_whole(runtime, batch, message);
    case BATCH_FINDING:
        log_event(LOG_WARNING, "the server does not list its batches: %s", message);
        return batch_give_up(runtime, batch);
    case BATCH_DOWNLOADING:
        log_event(LOG_WARNING, "batch %s: a part of its results is gone: %s", batch_name(batch),
                  message);
        batch->part++;
        batch_enter(batch, BATCH_DOWNLOADING);
        return NULL;
    case BATCH_POLLING:
        if (!is_missing || ++batch->n_missing < MISSING_MAX)
            return batch_take_trouble(runtime, batch);
        log_event(LOG_WARNING, "batch %s is gone from the server: %s", batch_name(batch), message);
        TRY(batch_forget(runtime, batch));
        return batch_dissolve(runtime, batch, message);
    default: return NULL;
    }
}
