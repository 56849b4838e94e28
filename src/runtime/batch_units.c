/* SPDX-License-Identifier: Apache-2.0 */
/* batch_units.c - units of work in their lists, and into batches. */
#include "runtime/batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

void batch_unit_push(struct batch_unit_list *list, struct batch_unit *unit)
{
    unit->next = NULL;
    if (list->first == NULL)
        list->first = unit;
    else
        list->last->next = unit;
    list->last = unit;
    list->n++;
}

struct batch_unit *batch_unit_pop(struct batch_unit_list *list)
{
    struct batch_unit *unit = list->first;
    if (unit == NULL) return NULL;
    list->first = unit->next;
    list->n--;
    return unit;
}

struct slice batch_unit_text(const struct batch_runtime *runtime, const struct batch_unit *unit,
                             size_t i)
{
    const unsigned char *data = runtime->region->base + unit->inputs[i].offset;
    uint32_t size;
    if (unit->inputs[i].bytes < sizeof size) return (struct slice){0};
    memcpy(&size, data, sizeof size);
    size_t room = unit->inputs[i].bytes - sizeof size;
    return (struct slice){(const char *)data + sizeof size, MIN((size_t)size, room)};
}

tidemill_error *batch_unit_fail(struct batch_runtime *runtime, struct batch_unit *unit,
                                enum error_code code, const char *message)
{
    free(unit->message);
    unit->code = code;
    unit->message = strdup(message);
    if (unit->message == NULL) return error_memory();
    batch_unit_push(&runtime->ended, unit);
    return NULL;
}

tidemill_error *batch_unit_again(struct batch_runtime *runtime, struct batch_unit *unit,
                                 const char *message)
{
    if (unit->tries++ >= runtime->options.http.retries)
        return batch_unit_fail(runtime, unit, ERROR_UPSTREAM, message);
    return batch_collect(runtime, unit);
}

tidemill_error *batch_attach(struct batch *batch, struct batch_unit *unit)
{
    if (batch->n_units == batch->capacity) {
        size_t capacity = MAX(2 * batch->capacity, (size_t)256);
        struct batch_unit **units = realloc(batch->units, capacity * sizeof *units);
        if (units == NULL) return error_memory();
        batch->units = units;
        batch->capacity = capacity;
    }
    batch->units[batch->n_units++] = unit;
    batch->n_waiting++;
    batch->bytes += unit->line_bytes;
    return NULL;
}

void batch_make_tag(const struct batch_runtime *runtime, char tag[BATCH_TAG_BYTES])
{
    /* only has to differ from all others at that server: nobody gains by guessing it */
    uint64_t parts[4] = {(uint64_t)clock_now_ns(), (uint64_t)getpid(), (uint64_t)(uintptr_t)tag,
                         runtime->state.n_past};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    parts[2] ^= (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    digest_text(hash_bytes(parts, sizeof parts), tag);
}

tidemill_error *batch_add(struct batch_runtime *runtime, struct batch **ret)
{
    struct batch *batch = *ret = calloc(1, sizeof *batch);
    if (batch == NULL) return error_memory();
    batch->fd = -1;
    batch->next = runtime->batches;
    runtime->batches = batch;
    return NULL;
}

/* All requests of a batch go to one endpoint. */
tidemill_error *batch_collect(struct batch_runtime *runtime, struct batch_unit *unit)
{
    if (batch_is_late(runtime)) {
        batch_unit_push(&runtime->stragglers, unit);
        return NULL;
    }
    for (struct batch *batch = runtime->batches; batch != NULL; batch = batch->next) {
        if (batch->stage != BATCH_COLLECTING || batch->url != unit->url || batch->is_full) continue;
        batch->is_full = batch->n_units >= runtime->units_max ||
                         batch->bytes + unit->line_bytes > BATCH_BYTES_MAX;
        if (!batch->is_full) return batch_attach(batch, unit);
    }
    struct batch *batch;
    TRY(batch_add(runtime, &batch));
    batch->stage = BATCH_COLLECTING;
    batch->url = unit->url;
    batch_make_tag(runtime, batch->tag);
    return batch_attach(batch, unit);
}
