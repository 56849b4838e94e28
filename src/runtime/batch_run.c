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
#define LOOKS_MAX 3   /* for a batch that may have been created: lists may lag behind */
#define PAGES_MAX 100 /* of a list */
#define CLEAN_UP_NS (5 * 1000 * MS_NS)

static void enter(struct batch *batch, enum batch_stage stage)
{
    batch->stage = stage;
    batch->due_ns = 1; /* at once */
    batch->interval_ns = 0;
}

/* Longer each time, or as long as the server says. */
static void pause_batch(struct batch *batch)
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

static const char *name_of(const struct batch *batch)
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

/* --- what is asked ------------------------------------------------------------------------------------------- */

static tidemill_error *ask(struct batch_runtime *runtime, struct batch *batch, const char *method,
                           char *url, const struct transfer_request *more)
{
    struct transfer_request request = {.fd = -1};
    if (url == NULL) return error_memory();
    if (more != NULL) request = *more;
    request.method = method;
    request.url = url;
    tidemill_error *error = transfer_start(&batch->transfer, runtime->multi, runtime->common,
                                           runtime->io, &request, batch);
    free(url);
    return error;
}

static const char *batches_path(const struct batch_runtime *runtime)
{
    return runtime->api.dialect == BATCH_OPENAI ? "/batches" : "/messages/batches";
}

static tidemill_error *ask_upload(struct batch_runtime *runtime, struct batch *batch)
{
    TRY(batch_upload_begin(runtime, batch));
    struct transfer_request request = {.source = &batch->upload.source, .is_file = true, .fd = -1};
    return ask(runtime, batch, "POST", batch_api_url(&runtime->api, "/files"), &request);
}

static tidemill_error *ask_create(struct batch_runtime *runtime, struct batch *batch)
{
    struct transfer_request request = {.fd = -1};
    struct buffer body = {0};
    if (runtime->api.dialect == BATCH_OPENAI) {
        batch_api_create(batch->input_file, batch->url, batch->tag, &body);
        if (body.is_failed) {
            buffer_free(&body);
            return error_memory();
        }
        request.body = (struct slice){body.data, body.size};
    } else {
        TRY(batch_upload_begin(runtime, batch));
        request.source = &batch->upload.source;
    }
    tidemill_error *error =
        ask(runtime, batch, "POST", batch_api_url(&runtime->api, "%s", batches_path(runtime)),
            &request);
    buffer_free(&body);
    return error;
}

static tidemill_error *ask_list(struct batch_runtime *runtime, struct batch *batch)
{
    bool is_openai = runtime->api.dialect == BATCH_OPENAI;
    return ask(runtime, batch, "GET",
               batch_api_url(&runtime->api, "%s?limit=%d%s%s%s", batches_path(runtime),
                             is_openai ? 100 : 1000, batch->page != NULL ? "&" : "",
                             batch->page == NULL ? ""
                             : is_openai         ? "after="
                                                 : "after_id=",
                             batch->page != NULL ? batch->page : ""),
               NULL);
}

/* Where part 0 or 1 of the results is; *ret NULL: there is none. */
static tidemill_error *results_url(struct batch_runtime *runtime, struct batch *batch, char **ret)
{
    const struct batch_object *object = &batch->object;
    *ret = NULL;
    if (runtime->api.dialect == BATCH_ANTHROPIC) {
        if (batch->part > 0 || object->results_url == NULL) return NULL;
        return batch_api_results_url(&runtime->api, object->results_url, ret);
    }
    const char *file = batch->part == 0 ? object->output_file : object->error_file;
    if (file == NULL) return NULL;
    *ret = batch_api_url(&runtime->api, "/files/%s/content", file);
    return *ret == NULL ? error_memory() : NULL;
}

static tidemill_error *ask_results(struct batch_runtime *runtime, struct batch *batch)
{
    char *url = NULL;
    if (batch->fd < 0) TRY(batch_download_begin(runtime, batch));
    for (; batch->part < 2; batch->part++) {
        TRY(results_url(runtime, batch, &url));
        if (url == NULL) continue;
        struct transfer_request request = {.fd = batch->fd};
        return ask(runtime, batch, "GET", url, &request);
    }
    enter(batch, BATCH_READING);
    return batch_sort(batch);
}

/* The input may go when the batch is over; its results when the job is. */
static const char *next_to_delete(struct batch *batch)
{
    const struct batch_object *object = &batch->object;
    const char *const files[] = {object->input_file, object->output_file, object->error_file};
    int n = batch->is_all_cleaned ? 3 : 1;
    while (batch->n_cleaned < n) {
        const char *file = files[batch->n_cleaned++];
        if (file != NULL) return file;
    }
    return NULL;
}

static tidemill_error *ask_delete(struct batch_runtime *runtime, struct batch *batch)
{
    const char *file = next_to_delete(batch);
    if (file != NULL)
        return ask(runtime, batch, "DELETE", batch_api_url(&runtime->api, "/files/%s", file), NULL);
    batch->stage = BATCH_IDLE;
    return NULL;
}

/* --- ends that are none ------------------------------------------------------------------------------------ */

/* All units that wait go elsewhere; `message` NULL: that was no failure of theirs. */
static tidemill_error *dissolve(struct batch_runtime *runtime, struct batch *batch,
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

static tidemill_error *forget(struct batch_runtime *runtime, struct batch *batch)
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
    if (n != 1) return dissolve(runtime, batch, message);
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
static tidemill_error *take_failure(struct batch_runtime *runtime, struct batch *batch)
{
    size_t n_blamed;
    const char *message = batch->object.message[0] != '\0' ? batch->object.message
                                                           : "the batch failed its validation";
    TRY(forget(runtime, batch));
    TRY(batch_sort(batch));
    TRY(blame_lines(runtime, batch, &n_blamed));
    if (n_blamed == 0) return refuse_whole(runtime, batch, message);
    log_event(LOG_WARNING, "batch %s: its validation refused %zu requests; the others go again",
              name_of(batch), n_blamed);
    return dissolve(runtime, batch, message);
}

/* --- what the answers mean ----------------------------------------------------------------------------------- */

static struct slice body_of(const struct batch *batch)
{
    const struct buffer *body = &batch->transfer.response.body;
    return (struct slice){body->data, body->size};
}

/* A 2xx that says nothing that we understand: as if it had failed. */
static void take_nonsense(struct batch *batch)
{
    log_event(LOG_WARNING,
              "batch %s: the server's answer is not what a batch API answers; asking "
              "again",
              name_of(batch));
    if (batch->failing_since_ns == 0) batch->failing_since_ns = clock_now_ns();
    pause_batch(batch);
}

static tidemill_error *note_content(struct batch_runtime *runtime, struct batch *batch)
{
    TRY(batch_state_note(&runtime->state, batch->tag, runtime->api.base,
                         batch->after != NULL ? batch->after : "", batch->keys, batch->n_sorted));
    enter(batch, BATCH_CREATING);
    return NULL;
}

static tidemill_error *take_cursor(struct batch_runtime *runtime, struct batch *batch)
{
    free(batch->after);
    batch->after = batch_list_first(body_of(batch));
    if (batch->after != NULL) return note_content(runtime, batch);
    take_nonsense(batch);
    return NULL;
}

static tidemill_error *take_upload(struct batch_runtime *runtime, struct batch *batch)
{
    free(batch->input_file);
    batch->input_file = batch_read_id(body_of(batch));
    if (batch->input_file != NULL) return note_content(runtime, batch);
    take_nonsense(batch);
    return NULL;
}

static tidemill_error *take_id(struct batch_runtime *runtime, struct batch *batch, char *id)
{
    free(batch->id);
    batch->id = id;
    TRY(batch_state_note_id(&runtime->state, batch->tag, id));
    enter(batch, BATCH_POLLING);
    return NULL;
}

static tidemill_error *take_created(struct batch_runtime *runtime, struct batch *batch)
{
    char *id = batch_read_id(body_of(batch));
    if (id == NULL) {
        enter(batch, BATCH_FINDING);
        take_nonsense(batch);
        return NULL;
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

/* It is in no list: it was not created. One of this run is created then; what one of an earlier run was
 * to ask goes into another. */
static tidemill_error *take_absence(struct batch_runtime *runtime, struct batch *batch)
{
    if (++batch->n_looks < LOOKS_MAX) {
        pause_batch(batch);
        return NULL;
    }
    batch->n_looks = 0;
    if (batch->past == NULL) {
        enter(batch, BATCH_CREATING);
        return NULL;
    }
    TRY(forget(runtime, batch));
    return dissolve(runtime, batch, NULL);
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
    if (!is_list) {
        take_nonsense(batch);
    } else if (last != NULL && ++batch->n_pages < PAGES_MAX) {
        batch->page = last;
        return NULL; /* due at once */
    } else {
        batch->n_pages = 0;
        free(last);
        return take_absence(runtime, batch);
    }
    return NULL;
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
        take_nonsense(batch);
        return NULL;
    }
    struct batch_object before = batch->object;
    batch->object = object;
    tell_progress(batch, &before);
    batch_object_free(&before);
    if (object.status == BATCH_FAILED) return take_failure(runtime, batch);
    if (object.status == BATCH_ENDED) {
        TRY(batch_download_begin(runtime, batch));
        enter(batch, BATCH_DOWNLOADING);
    } else if (batch_is_late(runtime) && !batch->is_cancelled) {
        enter(batch, BATCH_CANCELLING);
    } else {
        pause_batch(batch);
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
    batch->part_start = (uint64_t)status.st_size;
    batch->part++;
    enter(batch, BATCH_DOWNLOADING);
    return NULL;
}

/* --- answers that are none ----------------------------------------------------------------------------------- */

static tidemill_error *take_trouble(struct batch_runtime *runtime, struct batch *batch)
{
    int64_t now_ns = clock_now_ns(), patience_ms = runtime->options.http.patience_ms;
    const char *message = batch->transfer.message;
    if (batch->failing_since_ns == 0) {
        batch->failing_since_ns = now_ns;
        log_event(LOG_WARNING, "batch %s: %s; trying again", name_of(batch), message);
    }
    if (patience_ms > 0 && now_ns - batch->failing_since_ns > patience_ms * MS_NS)
        return error_new(ERROR_UNREACHABLE,
                         "%s: %s, for longer than --patience; the same command goes on",
                         runtime->api.target.origin, message);
    if (batch->stage == BATCH_CREATING && batch->transfer.is_in_doubt) enter(batch, BATCH_FINDING);
    pause_batch(batch);
    return NULL;
}

static tidemill_error *take_refusal(struct batch_runtime *runtime, struct batch *batch)
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
        if (batch->stage == BATCH_CREATING) TRY(forget(runtime, batch));
        return refuse_whole(runtime, batch, message);
    case BATCH_FINDING:
        log_event(LOG_WARNING, "the server does not list its batches: %s", message);
        batch->n_looks = LOOKS_MAX;
        return take_absence(runtime, batch);
    case BATCH_DOWNLOADING:
        log_event(LOG_WARNING, "batch %s: a part of its results is gone: %s", name_of(batch),
                  message);
        batch->part++;
        enter(batch, BATCH_DOWNLOADING);
        return NULL;
    case BATCH_POLLING:
        if (!is_missing) return take_trouble(runtime, batch);
        log_event(LOG_WARNING, "batch %s is gone from the server: %s", name_of(batch), message);
        TRY(forget(runtime, batch));
        return dissolve(runtime, batch, message);
    default: return NULL;
    }
}

static tidemill_error *cut_part(struct batch_runtime *runtime, struct batch *batch)
{
    const struct io *io = runtime->io;
    if (io->ftruncate(io->context, batch->fd, (off_t)batch->part_start) == 0) return NULL;
    return error_errno(ERROR_IO, errno, "cannot cut a batch's results");
}

static tidemill_error *take_answer(struct batch_runtime *runtime, struct batch *batch)
{
    batch->failing_since_ns = 0;
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
    if (transfer->write_errno != 0)
        return error_errno(ERROR_IO, transfer->write_errno, "cannot keep the results of batch %s",
                           name_of(batch));
    if (batch->stage == BATCH_CLEANING) return NULL; /* as it may */
    if (batch->stage == BATCH_CANCELLING) {          /* as it may: what counts is its status */
        batch->is_cancelled = true;
        enter(batch, BATCH_POLLING);
        return NULL;
    }
    if (transfer->outcome == HTTP_HOPELESS)
        return error_new(ERROR_UNREACHABLE, "%s: %s", runtime->api.target.origin,
                         transfer->message);
    if (transfer->outcome == HTTP_ANSWERED) return take_answer(runtime, batch);
    if (batch->stage == BATCH_DOWNLOADING) TRY(cut_part(runtime, batch));
    if (transfer->outcome == HTTP_REFUSED) return take_refusal(runtime, batch);
    return take_trouble(runtime, batch);
}

/* What a batch that is over need not keep until the job is. */
static void free_content(struct batch *batch)
{
    buffer_free(&batch->upload.line);
    buffer_free(&batch->window);
    free(batch->units);
    free(batch->keys);
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
            name_of(batch), (unsigned long long)batch->n_strange,
            (unsigned long long)batch->n_twice);
    for (size_t i = 0; i < batch->n_sorted; i++) n_missing += batch->units[i] != NULL;
    if (n_missing > 0 && !batch->is_second_look) { /* cut off on the way, perhaps */
        batch->is_second_look = true;
        TRY(batch_download_begin(runtime, batch));
        enter(batch, BATCH_DOWNLOADING);
        return NULL;
    }
    if (n_missing > 0)
        log_event(LOG_WARNING, "batch %s: its results lack %zu requests; they go again",
                  name_of(batch), n_missing);
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
    enter(batch, batch->past == NULL ? BATCH_CLEANING : BATCH_IDLE);
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
    if (batch_is_late(runtime)) return dissolve(runtime, batch, NULL);
    bool is_full = batch->is_full || batch->n_units >= runtime->units_max;
    if ((!is_full && !batch_is_settled(runtime)) || !is_turn(runtime)) return NULL;
    enter(batch, runtime->api.dialect == BATCH_OPENAI ? BATCH_UPLOADING : BATCH_CURSOR);
    return batch_sort(batch);
}

/* A batch of an earlier run is asked for when all that is in it and is still wanted has come. */
static void consider_past(struct batch_runtime *runtime, struct batch *batch)
{
    if (batch->past == NULL || batch->n_waiting == 0 || !batch_is_settled(runtime)) return;
    enter(batch, batch->id != NULL ? BATCH_POLLING : BATCH_FINDING);
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
        return dissolve(runtime, batch, NULL);
    return NULL;
}

tidemill_error *batch_attend(struct batch_runtime *runtime, struct batch *batch, int64_t now_ns)
{
    if (runtime->options.http.deadline_ms > 0) TRY(heed_deadline(runtime, batch));
    if (batch->transfer.easy != NULL || now_ns < batch->due_ns) return NULL;
    if (batch->stage == BATCH_IDLE) consider_past(runtime, batch);
    if (batch->stage == BATCH_COLLECTING) TRY(consider_closing(runtime, batch));
    switch (batch->stage) {
    case BATCH_CURSOR:
        return ask(runtime, batch, "GET", batch_api_url(&runtime->api, "/messages/batches?limit=1"),
                   NULL);
    case BATCH_UPLOADING: return ask_upload(runtime, batch);
    case BATCH_CREATING: return ask_create(runtime, batch);
    case BATCH_FINDING: return ask_list(runtime, batch);
    case BATCH_POLLING:
        return ask(runtime, batch, "GET",
                   batch_api_url(&runtime->api, "%s/%s", batches_path(runtime), batch->id), NULL);
    case BATCH_CANCELLING:
        return ask(runtime, batch, "POST",
                   batch_api_url(&runtime->api, "%s/%s/cancel", batches_path(runtime), batch->id),
                   NULL);
    case BATCH_DOWNLOADING: return ask_results(runtime, batch);
    case BATCH_CLEANING: return ask_delete(runtime, batch);
    case BATCH_IDLE:
    case BATCH_COLLECTING:
    case BATCH_READING: return NULL;
    }
    return NULL;
}

/* --- the end --------------------------------------------------------------------------------------------------- */

static bool is_cleaning(const struct batch_runtime *runtime)
{
    for (const struct batch *batch = runtime->batches; batch != NULL; batch = batch->next)
        if (batch->stage == BATCH_CLEANING) return true;
    return false;
}

/* The job takes the state file away when its output is published. */
void batch_clean_up(struct batch_runtime *runtime)
{
    int n_left, n_running;
    int64_t end_ns = clock_now_ns() + CLEAN_UP_NS;
    if (runtime->state.path != NULL && io_exists(runtime->io, runtime->state.path)) return;
    for (struct batch *batch = runtime->batches; batch != NULL; batch = batch->next) {
        if (batch->n_waiting > 0 || batch->object.status != BATCH_ENDED) continue;
        batch->is_all_cleaned = true;
        batch->stage = BATCH_CLEANING;
        batch->due_ns = 1;
    }
    while (is_cleaning(runtime) && clock_now_ns() < end_ns) {
        for (struct batch *batch = runtime->batches; batch != NULL; batch = batch->next)
            if (batch->stage == BATCH_CLEANING && batch->transfer.easy == NULL)
                error_free(ask_delete(runtime, batch));
        curl_multi_poll(runtime->multi, NULL, 0, 100, NULL);
        curl_multi_perform(runtime->multi, &n_running);
        for (CURLMsg *message; (message = curl_multi_info_read(runtime->multi, &n_left)) != NULL;) {
            void *owner = NULL;
            CURLcode code = message->data.result;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&owner);
            transfer_end(&((struct batch *)owner)->transfer, runtime->multi, code);
        }
    }
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
