/* SPDX-License-Identifier: Apache-2.0 */
/* batch_run.c - a batch's way through its stages: what is asked in each, and what the answer means.
 *
 * The one request that must not be made twice is the one that creates a batch. What will be in it is noted
 * before; where the server may have acted and did not say so, its list of batches is asked before
 * another try. */
#include "runtime/batch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define MS_NS INT64_C(1000000)
#define PAUSE_FIRST_NS (250 * MS_NS) /* doubles */
#define PAUSE_MAX_NS (60 * 1000 * MS_NS)
#define RETRY_AFTER_MAX_NS (5 * 60 * 1000 * MS_NS) /* whatever the server says */
#define RETRY_AFTER_MIN_NS (10 * MS_NS)
#define PAGES_MAX 100 /* of a list */

void batch_enter(struct batch *batch, enum batch_stage stage)
{
    batch->stage = stage;
    batch->due_ns = 1; /* at once */
    batch->interval_ns = 0;
}

/* Longer each time, or as long as the server says. */
void batch_pause(struct batch *batch)
{
    int64_t told_ms = batch->transfer.response.retry_after_ms;
    batch->interval_ns = MIN(MAX(2 * batch->interval_ns, PAUSE_FIRST_NS), PAUSE_MAX_NS);
    int64_t pause_ns = batch->interval_ns;
    if (told_ms >= 0 && told_ms <= RETRY_AFTER_MAX_NS / MS_NS)
        pause_ns = MAX(told_ms * MS_NS, RETRY_AFTER_MIN_NS);
    else if (told_ms >= 0)
        pause_ns = RETRY_AFTER_MAX_NS;
    batch->due_ns = clock_now_ns() + pause_ns;
}

const char *batch_name(const struct batch *batch)
{
    return batch->id != NULL ? batch->id : "not created yet";
}

static void put_thousands(uint64_t n, char ret[32])
{
    char digits[24];
    int size = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n), at = 0;
    for (int i = 0; i < size; i++) {
        if (i > 0 && (size - i) % 3 == 0) ret[at++] = ',';
        ret[at++] = digits[i];
    }
    ret[at] = '\0';
}

/* --- what the answers mean ----------------------------------------------------------------------------------- */

static struct slice body_of(const struct batch *batch)
{
    const struct buffer *body = &batch->transfer.response.body;
    return (struct slice){body->data, body->size};
}

static tidemill_error *note_content(struct batch_runtime *runtime, struct batch *batch)
{
    TRY(batch_state_note(&runtime->state, batch->tag, runtime->api.base,
                         batch->after != NULL ? batch->after : "", batch->keys, batch->n_sorted));
    batch->failing_since_ns = 0;
    batch_enter(batch, BATCH_CREATING);
    return NULL;
}

static tidemill_error *take_cursor(struct batch_runtime *runtime, struct batch *batch)
{
    free(batch->after);
    batch->after = batch_list_first(body_of(batch));
    if (batch->after != NULL) return note_content(runtime, batch);
    return batch_take_nonsense(runtime, batch);
}

static tidemill_error *take_upload(struct batch_runtime *runtime, struct batch *batch)
{
    free(batch->input_file);
    batch->input_file = batch_read_id(body_of(batch));
    if (batch->input_file != NULL) return note_content(runtime, batch);
    return batch_take_nonsense(runtime, batch);
}

static tidemill_error *take_id(struct batch_runtime *runtime, struct batch *batch, char *id)
{
    free(batch->id);
    batch->id = id;
    batch->failing_since_ns = batch->looking_since_ns = 0;
    TRY(batch_state_note_id(&runtime->state, batch->tag, id));
    batch_enter(batch, BATCH_POLLING);
    return NULL;
}

static tidemill_error *take_created(struct batch_runtime *runtime, struct batch *batch)
{
    char *id = batch_read_id(body_of(batch));
    if (id == NULL) {
        batch_enter(batch, BATCH_FINDING);
        return batch_take_nonsense(runtime, batch);
    }
    char count[32];
    put_thousands(batch->n_waiting, count);
    log_event(LOG_INFO, "batch %s: %s requests", id, count);
    return take_id(runtime, batch, id);
}

static bool is_known(void *context, const char *id)
{
    const struct batch_runtime *runtime = context;
    for (const struct batch *batch = runtime->batches; batch != NULL; batch = batch->next)
        if (batch->id != NULL && strcmp(batch->id, id) == 0) return true;
    return false;
}

static tidemill_error *take_list(struct batch_runtime *runtime, struct batch *batch)
{
    char *id, *last;
    struct batch_search search = {
        .tag = batch->tag,
        .after = batch->after != NULL ? batch->after : "",
        .n_requests = batch->past != NULL ? batch->past->n_keys : batch->n_sorted,
        .is_known = is_known,
        .context = runtime,
    };
    bool is_list = batch_list_find(runtime->api.dialect, body_of(batch), &search, &id, &last);
    free(batch->page);
    batch->page = NULL;
    if (id != NULL) {
        free(last);
        log_event(LOG_INFO, "batch %s was created already", id);
        return take_id(runtime, batch, id);
    }
    if (!is_list) return batch_take_nonsense(runtime, batch);
    if (last != NULL && ++batch->n_pages < PAGES_MAX) {
        batch->page = last;
        return NULL; /* due at once */
    }
    batch->n_pages = 0;
    free(last);
    return batch_take_absence(runtime, batch);
}

static void tell_progress(const struct batch *batch, const struct batch_object *before)
{
    char done[32], total[32];
    if (batch->object.n_done == before->n_done) return;
    put_thousands(batch->object.n_done, done);
    put_thousands(MAX(batch->object.n_total, batch->object.n_done), total);
    log_event(LOG_INFO, "batch %s: %s of %s done", batch->id, done, total);
}

static tidemill_error *take_progress(struct batch_runtime *runtime, struct batch *batch)
{
    struct batch_object object;
    if (!batch_object_read(runtime->api.dialect, body_of(batch), &object)) {
        return batch_take_nonsense(runtime, batch);
    }
    struct batch_object before = batch->object;
    batch->failing_since_ns = 0;
    batch->n_missing = 0;
    batch->object = object;
    tell_progress(batch, &before);
    batch_object_free(&before);
    if (object.status == BATCH_FAILED) return batch_take_failure(runtime, batch);
    if (object.status == BATCH_ENDED) {
        TRY(batch_download_begin(runtime, batch));
        batch_enter(batch, BATCH_DOWNLOADING);
    } else if (batch_is_late(runtime) && !batch->is_cancelled) {
        batch_enter(batch, BATCH_CANCELLING);
    } else {
        batch_pause(batch);
    }
    return NULL;
}

/* A part is whole: the next one begins on a line of its own. */
static tidemill_error *take_part(struct batch_runtime *runtime, struct batch *batch)
{
    struct stat status;
    const struct io *io = runtime->io;
    TRY(io_write_all(io, batch->fd, "a batch's results", "\n", 1));
    if (io->fstat(io->context, batch->fd, &status) != 0)
        return error_errno(ERROR_IO, errno, "cannot look at a batch's results");
    batch->failing_since_ns = 0;
    batch->part_start = (uint64_t)status.st_size;
    batch->part++;
    batch_enter(batch, BATCH_DOWNLOADING);
    return NULL;
}

static tidemill_error *cut_part(struct batch_runtime *runtime, struct batch *batch)
{
    const struct io *io = runtime->io;
    if (io->ftruncate(io->context, batch->fd, (off_t)batch->part_start) == 0) return NULL;
    return error_errno(ERROR_IO, errno, "cannot cut a batch's results");
}

static tidemill_error *take_answer(struct batch_runtime *runtime, struct batch *batch)
{
    switch (batch->stage) {
    case BATCH_CURSOR: return take_cursor(runtime, batch);
    case BATCH_UPLOADING: return take_upload(runtime, batch);
    case BATCH_CREATING: return take_created(runtime, batch);
    case BATCH_FINDING: return take_list(runtime, batch);
    case BATCH_POLLING: return take_progress(runtime, batch);
    case BATCH_DOWNLOADING: return take_part(runtime, batch);
    default: return NULL;
    }
}

tidemill_error *batch_answered(struct batch_runtime *runtime, struct batch *batch, CURLcode code)
{
    struct transfer *transfer = &batch->transfer;
    transfer_end(transfer, runtime->multi, code);
    if (batch_is_watch(batch)) return batch_take_watch(runtime, batch);
    if (transfer->write_errno != 0)
        return error_errno(ERROR_IO, transfer->write_errno, "cannot keep the results of batch %s",
                           batch_name(batch));
    if (batch->stage == BATCH_CLEANING) return NULL; /* as it may */
    if (batch->stage == BATCH_CANCELLING) {          /* as it may: what counts is its status */
        batch->is_cancelled = true;
        batch_enter(batch, BATCH_POLLING);
        return NULL;
    }
    if (transfer->outcome == HTTP_HOPELESS)
        return error_new(ERROR_UNREACHABLE, "%s: %s", runtime->api.target.origin,
                         transfer->message);
    if (transfer->outcome == HTTP_ANSWERED) return take_answer(runtime, batch);
    if (batch->stage == BATCH_DOWNLOADING) TRY(cut_part(runtime, batch));
    if (transfer->outcome == HTTP_REFUSED) return batch_take_refusal(runtime, batch);
    return batch_take_trouble(runtime, batch);
}

/* What a batch that is over need not keep until the job is. */
static void free_content(struct batch *batch)
{
    buffer_free(&batch->upload.line);
    buffer_free(&batch->window);
    free(batch->units);
    free(batch->keys);
    free(batch->places);
    batch->places = NULL;
    batch->units = NULL;
    batch->keys = NULL;
    batch->capacity = 0;
}

tidemill_error *batch_read_through(struct batch_runtime *runtime, struct batch *batch)
{
    size_t n_missing = 0, n_later = 0;
    if (batch->n_strange + batch->n_twice > 0)
        log_event(
            LOG_WARNING,
            "batch %s: of the lines of its results, %llu are not of its requests and %llu came "
            "twice; they are not used",
            batch_name(batch), (unsigned long long)batch->n_strange,
            (unsigned long long)batch->n_twice);
    for (size_t i = 0; i < batch->n_sorted; i++) n_missing += batch->units[i] != NULL;
    if (n_missing > 0 && !batch->is_second_look) { /* cut off on the way, perhaps */
        batch->is_second_look = true;
        TRY(batch_download_begin(runtime, batch));
        batch_enter(batch, BATCH_DOWNLOADING);
        return NULL;
    }
    if (n_missing > 0)
        log_event(LOG_WARNING, "batch %s: its results lack %zu requests; they go again",
                  batch_name(batch), n_missing);
    io_close(runtime->io, batch->fd);
    batch->fd = -1;
    batch->is_second_look = false;
    for (size_t i = 0; i < batch->n_sorted; i++) {
        struct batch_unit *unit = batch->units[i];
        batch->units[i] = NULL;
        if (unit != NULL) TRY(batch_unit_again(runtime, unit, "the batch's results lack it"));
    }
    for (size_t i = batch->n_sorted; i < batch->n_units; i++) /* came while the others were read */
        batch->units[n_later++] = batch->units[i];
    batch->n_units = batch->n_waiting = n_later;
    batch->n_sorted = 0;
    if (n_later == 0) free_content(batch);
    batch_enter(batch, batch->past == NULL ? BATCH_CLEANING : BATCH_IDLE);
    return NULL;
}

/* --- the clock ------------------------------------------------------------------------------------------------ */

/* After a server refused a batch for its size, one goes after another. */
static bool is_turn(const struct batch_runtime *runtime)
{
    if (runtime->units_max == BATCH_UNITS_MAX) return true;
    for (const struct batch *batch = runtime->batches; batch != NULL; batch = batch->next)
        if (batch->stage != BATCH_COLLECTING && batch->n_waiting > 0) return false;
    return true;
}

static tidemill_error *consider_closing(struct batch_runtime *runtime, struct batch *batch)
{
    if (batch_is_late(runtime)) return batch_dissolve(runtime, batch, NULL);
    bool is_full = batch->is_full || batch->n_units >= runtime->units_max;
    if ((!is_full && !batch_is_settled(runtime)) || !is_turn(runtime)) return NULL;
    if (batch->n_units > runtime->units_max) return batch_dissolve(runtime, batch, NULL);
    batch_enter(batch, runtime->api.dialect == BATCH_OPENAI ? BATCH_UPLOADING : BATCH_CURSOR);
    return batch_sort(batch);
}

/* A batch of an earlier run is asked for when all that is in it and is still wanted has come. */
static void consider_past(struct batch_runtime *runtime, struct batch *batch)
{
    if (batch->past == NULL || batch->n_waiting == 0 || !batch_is_settled(runtime)) return;
    batch_enter(batch, batch->id != NULL ? BATCH_POLLING : BATCH_FINDING);
}

/* Near the deadline, what was not created is not created any more; a little later, nothing is waited for. */
static tidemill_error *heed_deadline(struct batch_runtime *runtime, struct batch *batch)
{
    bool is_early = batch->stage == BATCH_UPLOADING || batch->stage == BATCH_CURSOR;
    bool is_coming = batch->stage == BATCH_DOWNLOADING || batch->stage == BATCH_READING ||
                     batch->stage == BATCH_CLEANING;
    if (batch->stage == BATCH_POLLING && batch_is_late(runtime) && !batch->is_cancelled &&
        batch->failing_since_ns == 0)
        batch->due_ns = 1;
    if (batch->n_waiting == 0 || is_coming) return NULL;
    if (batch_is_over(runtime) || (is_early && batch_is_late(runtime)))
        return batch_dissolve(runtime, batch, NULL);
    return NULL;
}

tidemill_error *batch_attend(struct batch_runtime *runtime, struct batch *batch, int64_t now_ns)
{
    if (runtime->options.http.deadline_ms > 0) TRY(heed_deadline(runtime, batch));
    if (batch->transfer.easy != NULL || now_ns < batch->due_ns) return NULL;
    if (batch->stage == BATCH_IDLE) consider_past(runtime, batch);
    if (batch->stage == BATCH_COLLECTING) TRY(consider_closing(runtime, batch));
    return batch_ask(runtime, batch);
}

void batch_free(struct batch_runtime *runtime, struct batch *batch)
{
    transfer_free(&batch->transfer, runtime->multi);
    io_close(runtime->io, batch->fd);
    batch_object_free(&batch->object);
    free_content(batch);
    free(batch->upload.source.context);
    free(batch->after);
    free(batch->id);
    free(batch->input_file);
    free(batch->page);
    free(batch);
}
