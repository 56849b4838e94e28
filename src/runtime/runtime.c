/* SPDX-License-Identifier: Apache-2.0 */
/* runtime.c - the set of hosts as the engine sees it: capacity, submit, poll. */
#include "runtime/runtime.h"

#include "runtime/model.h"
#include "runtime/pool.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define MS_NS INT64_C(1000000)
/* All hosts busy for that long, or for the time a host needs to load: then another may pay. */
#define GROW_NS_MIN (300 * MS_NS)
#define GROW_BUSY_SHARE 0.6 /* of that time inside the model */
#define GAP_NS (50 * MS_NS) /* a host may wait for so long and count as busy */
#define SAMPLE_NS (500 * MS_NS)
#define REAP_MS 5    /* between looks at a dying host that has no pidfd */
#define DONE_UNITS 2 /* answers that wait for the caller, a host */

/* Opening. */

static void append_string(struct buffer *buffer, const char *text)
{
    if (text != NULL) buffer_text(buffer, text);
    buffer_byte(buffer, '\0');
}

static tidemill_error *make_open_message(const struct runtime_options *options, size_t region_bytes,
                                         struct buffer *buffer)
{
    struct wire_open wire = {.header = {.version = WIRE_VERSION, .type = WIRE_OPEN},
                             .region_bytes = region_bytes,
                             .batch_dimension = options->batch_dimension,
                             .precision = options->precision,
                             .threads = (uint32_t)MAX(options->threads, 1),
                             .n_output_names = (uint32_t)options->n_output_names,
                             .is_json_log = log_is_json()};
    if (options->n_output_names > MODEL_VALUES_MAX)
        return error_new(ERROR_USAGE, "%zu outputs asked for; %d is the limit",
                         options->n_output_names, MODEL_VALUES_MAX);
    buffer_append(buffer, &wire, sizeof wire);
    append_string(buffer, options->model);
    append_string(buffer, options->onnxruntime);
    append_string(buffer, options->provider);
    for (size_t i = 0; i < options->n_output_names; i++)
        append_string(buffer, options->output_names[i]);
    if (buffer->is_failed) return error_memory();
    if (buffer->size > WIRE_MESSAGE_BYTES_MAX)
        return error_new(ERROR_USAGE, "the model's path and options are too long");
    return NULL;
}

static tidemill_error *allocate(struct runtime *runtime)
{
    runtime->n_units = runtime->n_slots * (SLOT_UNITS + DONE_UNITS);
    runtime->slots = calloc(runtime->n_slots, sizeof *runtime->slots);
    runtime->units = calloc(runtime->n_units, sizeof *runtime->units);
    runtime->polled = calloc(2 * runtime->n_slots + 1, sizeof *runtime->polled);
    runtime->message = malloc(WIRE_MESSAGE_BYTES_MAX);
    if (runtime->slots == NULL || runtime->units == NULL || runtime->polled == NULL ||
        runtime->message == NULL)
        return error_memory();
    for (size_t i = 0; i < runtime->n_slots; i++) {
        runtime->slots[i].process = PROCESS_NONE;
        runtime->slots[i].board.fd = -1;
    }
    for (size_t i = 0; i < runtime->n_units; i++)
        unit_list_push(&runtime->free, &runtime->units[i]);
    return NULL;
}

static tidemill_error *copy_failure(const struct runtime *runtime)
{
    if (runtime->failure == NULL) return NULL;
    enum error_code code = error_code_of(runtime->failure);
    if (code == ERROR_MEMORY) return error_memory();
    return error_new(code, "%s", error_message(runtime->failure));
}

static bool is_any_coming(const struct runtime *runtime)
{
    for (size_t i = 0; i < runtime->n_slots; i++)
        if (slot_is_coming(&runtime->slots[i]) || runtime->slots[i].state == SLOT_DYING)
            return true;
    return false;
}

static tidemill_error *open_hosts(struct runtime *runtime, const struct runtime_options *options)
{
    TRY(model_check_file(options->model));
    TRY(make_open_message(options, runtime->region->size, &runtime->open_message));
    if (runtime->is_isolated)
        TRY(process_find_program(options->host_program, runtime->program, sizeof runtime->program));
    TRY(allocate(runtime));
    int wake_fd = options->wake_fd > 0 ? options->wake_fd : -1;
    size_t n_first = runtime->is_growing ? 1 : runtime->n_slots;
    for (size_t i = 0; i < n_first; i++) runtime->slots[i].is_wanted = true;
    runtime->is_opening = true;
    while (is_any_coming(runtime)) {
        size_t n_done;
        TRY(runtime_poll(runtime, -1, wake_fd, NULL, 0, &n_done));
        struct pollfd item = {.fd = wake_fd, .events = POLLIN};
        if (poll(&item, 1, 0) > 0)
            return error_new(ERROR_INTERRUPTED, "stopped while the model was loading");
    }
    runtime->is_opening = false;
    return NULL;
}

tidemill_error *runtime_open(const struct runtime_options *options,
                             const struct shared_region *region, struct runtime **ret)
{
    *ret = NULL;
    struct runtime *runtime = calloc(1, sizeof *runtime);
    if (runtime == NULL) return error_memory();
    runtime->region = region;
    runtime->is_isolated = options->is_isolated;
    runtime->is_growing = options->is_growing;
    runtime->timeout_ms = options->timeout_ms;
    runtime->load_timeout_ms = options->load_timeout_ms;
    runtime->n_slots = (size_t)MAX(options->instances_max, 1);
    snprintf(runtime->model, sizeof runtime->model, "%s", options->model);
    tidemill_error *error = open_hosts(runtime, options);
    if (error != NULL)
        runtime_close(runtime);
    else
        *ret = runtime;
    return error;
}

const struct model_signature *runtime_signature(const struct runtime *runtime)
{
    return &runtime->signature;
}

const char *precision_name(enum precision precision)
{
    static const char *const names[] = {"fp32", "bf16", "int8"};
    return names[precision];
}

const char *runtime_description(const struct runtime *runtime)
{
    return runtime->description;
}

void runtime_end_hosts(struct runtime *runtime)
{
    /* All first, so that they end side by side. */
    for (size_t i = 0; runtime->slots != NULL && i < runtime->n_slots; i++)
        if (runtime->slots[i].state == SLOT_LOADING || runtime->slots[i].state == SLOT_READY)
            slot_kill(runtime, &runtime->slots[i], DEATH_OWN, NULL, clock_now_ns());
    for (size_t i = 0; runtime->slots != NULL && i < runtime->n_slots; i++)
        slot_close(&runtime->slots[i]);
}

void runtime_close(struct runtime *runtime)
{
    if (runtime == NULL) return;
    runtime_end_hosts(runtime);
    for (struct unit *unit; (unit = unit_list_pop(&runtime->done)) != NULL;)
        free(unit->done.values);
    model_signature_free(&runtime->signature);
    buffer_free(&runtime->open_message);
    buffer_free(&runtime->ready_message);
    error_free(runtime->failure);
    free(runtime->slots);
    free(runtime->units);
    free(runtime->polled);
    free(runtime->message);
    free(runtime);
}

/* Work in. */

size_t runtime_capacity(const struct runtime *runtime)
{
    if (runtime->failure != NULL) return 0;
    size_t room = SLOT_UNITS * runtime_count(runtime, SLOT_READY);
    size_t taken = runtime->pending.length;
    for (size_t i = 0; i < runtime->n_slots; i++)
        if (runtime->slots[i].state == SLOT_READY) taken += runtime->slots[i].n_units;
    return room > taken ? MIN(room - taken, runtime->free.length) : 0;
}

/* The READY host with the fewest units; NULL when all are full. */
static struct slot *choose_slot(struct runtime *runtime)
{
    struct slot *best = NULL;
    for (size_t i = 0; i < runtime->n_slots; i++) {
        struct slot *slot = &runtime->slots[i];
        if (slot->state != SLOT_READY || slot->n_units == SLOT_UNITS) continue;
        if (best == NULL || slot->n_units < best->n_units) best = slot;
    }
    return best;
}

static void dispatch(struct runtime *runtime, int64_t now_ns)
{
    struct slot *slot;
    while (runtime->pending.length > 0 && (slot = choose_slot(runtime)) != NULL)
        slot_give(runtime, slot, unit_list_pop(&runtime->pending), now_ns);
}

static bool is_in_region(const struct runtime *runtime, size_t offset, size_t bytes)
{
    return offset <= runtime->region->size && bytes <= runtime->region->size - offset;
}

static tidemill_error *copy_work(const struct runtime *runtime, const struct runtime_work *work,
                                 struct unit *unit)
{
    if (!is_in_region(runtime, work->output_offset, work->output_capacity))
        return error_new(ERROR_INTERNAL, "an output area outside the region");
    unit->id = work->id;
    unit->work.header = (struct wire_header){.version = WIRE_VERSION, .type = WIRE_WORK};
    unit->work.n_rows = work->n_rows;
    unit->work.n_inputs = (uint32_t)runtime->signature.n_inputs;
    unit->work.output_offset = work->output_offset;
    unit->work.output_capacity = work->output_capacity;
    for (size_t i = 0; i < runtime->signature.n_inputs; i++) {
        const struct work_input *input = &work->inputs[i];
        if (input->shape.rank < 0 || input->shape.rank > TENSOR_RANK_MAX ||
            !is_in_region(runtime, input->offset, input->bytes))
            return error_new(ERROR_INTERNAL, "input %zu lies outside the region", i);
        struct wire_input *wire = &unit->work.inputs[i];
        wire->type = input->type;
        wire->rank = input->shape.rank;
        memcpy(wire->dims, input->shape.dims, sizeof wire->dims);
        wire->offset = input->offset;
        wire->bytes = input->bytes;
    }
    return NULL;
}

tidemill_error *runtime_submit(struct runtime *runtime, const struct runtime_work *work)
{
    TRY(copy_failure(runtime));
    struct unit *unit = unit_list_pop(&runtime->free);
    if (unit == NULL) return error_new(ERROR_INTERNAL, "more work than the runtime can take");
    tidemill_error *error = copy_work(runtime, work, unit);
    if (error != NULL) {
        unit_list_push(&runtime->free, unit);
        return error;
    }
    unit_list_push(&runtime->pending, unit);
    dispatch(runtime, clock_now_ns());
    return NULL;
}

void runtime_hint_backlog(struct runtime *runtime, bool has_backlog)
{
    runtime->has_backlog = has_backlog;
}

/* Growing. */

static bool is_saturated(const struct runtime *runtime)
{
    size_t n_ready = 0;
    for (size_t i = 0; i < runtime->n_slots; i++) {
        const struct slot *slot = &runtime->slots[i];
        if (slot_is_coming(slot) || slot->state == SLOT_DYING) return false;
        if (slot->state != SLOT_READY) continue;
        n_ready++;
        if (slot->n_units == 0) return false;
    }
    return n_ready > 0 && n_ready < runtime->n_slots && runtime->has_backlog;
}

/* Hosts that always hold work may still wait for others to take their answers: only time inside the
 * model counts. No call that ended in all that time means long calls. */
static bool is_model_busy(const struct runtime *runtime, int64_t now_ns)
{
    double busy_s = runtime->busy_s - runtime->saturated_busy_s;
    double held_s = (double)(now_ns - runtime->saturated_ns) * 1e-9 *
                    (double)runtime_count(runtime, SLOT_READY);
    return busy_s <= 0 || busy_s >= GROW_BUSY_SHARE * held_s;
}

static void begin_saturation(struct runtime *runtime, int64_t now_ns)
{
    runtime->saturated_ns = now_ns;
    runtime->saturated_busy_s = runtime->busy_s;
}

/* False: as many as there may be are there or on their way. */
static bool want_one(struct runtime *runtime, int64_t now_ns)
{
    for (size_t i = 0; i < runtime->n_slots; i++) {
        struct slot *slot = &runtime->slots[i];
        if (slot->state != SLOT_NONE || slot->is_wanted) continue;
        slot->is_wanted = true;
        slot->start_ns = now_ns;
        return true;
    }
    return false;
}

/* Starts another host when all have been busy for long enough to make up for loading it. */
static void consider_growing(struct runtime *runtime, int64_t now_ns)
{
    if (!runtime->is_growing || runtime->is_opening) return;
    if (!is_saturated(runtime)) {
        if (now_ns - runtime->last_saturated_ns > GAP_NS) runtime->saturated_ns = 0;
        return;
    }
    runtime->last_saturated_ns = now_ns;
    if (runtime->saturated_ns == 0) begin_saturation(runtime, now_ns);
    if (now_ns - runtime->saturated_ns < MAX(runtime->load_ns, GROW_NS_MIN)) return;
    if (!is_model_busy(runtime, now_ns)) {
        begin_saturation(runtime, now_ns);
        return;
    }
    want_one(runtime, now_ns);
    runtime->saturated_ns = 0;
}

void runtime_want_hosts(struct runtime *runtime, int n)
{
    size_t n_there = 0;
    if (!runtime->is_growing) return;
    for (size_t i = 0; i < runtime->n_slots; i++)
        n_there += runtime->slots[i].state != SLOT_NONE || runtime->slots[i].is_wanted;
    for (; n_there < (size_t)MAX(n, 0); n_there++)
        if (!want_one(runtime, clock_now_ns())) return;
}

/* Work out. */

static size_t deliver(struct runtime *runtime, struct runtime_done *done, size_t capacity)
{
    size_t count = 0;
    for (struct unit *unit; count < capacity && (unit = unit_list_pop(&runtime->done)) != NULL;) {
        done[count++] = unit->done;
        unit_list_push(&runtime->free, unit);
    }
    return count;
}

/* Everything that is due by the clock. */
static void attend(struct runtime *runtime, int64_t now_ns)
{
    for (size_t i = 0; i < runtime->n_slots; i++) {
        struct slot *slot = &runtime->slots[i];
        slot_check_deadline(runtime, slot, now_ns);
        if (slot->state == SLOT_DYING) slot_bury(runtime, slot, now_ns);
        if (slot->state == SLOT_NONE && slot->is_wanted && slot->start_ns <= now_ns &&
            runtime->failure == NULL)
            slot_start(runtime, slot, now_ns);
    }
    dispatch(runtime, now_ns);
    consider_growing(runtime, now_ns);
    if (now_ns - runtime->sampled_ns >= SAMPLE_NS) {
        uint64_t resident;
        runtime->sampled_ns = now_ns;
        for (size_t i = 0; i < runtime->n_slots; i++)
            slot_sample_memory(runtime, &runtime->slots[i], &resident);
    }
}

/* When the clock next brings something, at most until end_ns. */
static int wait_ms(const struct runtime *runtime, int64_t now_ns, int64_t end_ns)
{
    int64_t next_ns = end_ns;
    for (size_t i = 0; i < runtime->n_slots; i++) {
        const struct slot *slot = &runtime->slots[i];
        if (slot->state == SLOT_DYING && slot->process.pidfd < 0)
            next_ns = MIN(next_ns, now_ns + REAP_MS * MS_NS);
        if (slot->deadline_ns != 0 && slot->state != SLOT_NONE)
            next_ns = MIN(next_ns, slot->deadline_ns);
        if (slot->state == SLOT_NONE && slot->is_wanted) next_ns = MIN(next_ns, slot->start_ns);
    }
    if (runtime->saturated_ns != 0)
        next_ns =
            MIN(next_ns, MAX(runtime->saturated_ns + MAX(runtime->load_ns, GROW_NS_MIN), now_ns));
    if (next_ns == INT64_MAX) return -1;
    int64_t ms = (next_ns - now_ns + MS_NS - 1) / MS_NS;
    return (int)MIN(MAX(ms, INT64_C(0)), INT64_C(1) << 30);
}

/* Waits for messages, ends of processes, and the wake descriptor. True: somebody woke us. */
static bool wait_for_hosts(struct runtime *runtime, int timeout_ms, int wake_fd)
{
    size_t count = 0;
    for (size_t i = 0; i < runtime->n_slots; i++) {
        const struct slot *slot = &runtime->slots[i];
        bool is_live = slot->state == SLOT_LOADING || slot->state == SLOT_READY;
        int pidfd = slot->state != SLOT_NONE ? slot->process.pidfd : -1;
        runtime->polled[count++] =
            (struct pollfd){.fd = is_live ? slot->process.fd : -1, .events = POLLIN};
        runtime->polled[count++] = (struct pollfd){.fd = pidfd, .events = POLLIN};
    }
    runtime->polled[count++] = (struct pollfd){.fd = wake_fd, .events = POLLIN};
    if (poll(runtime->polled, count, timeout_ms) <= 0) return false;

    int64_t now_ns = clock_now_ns();
    for (size_t i = 0; i < runtime->n_slots; i++) {
        struct slot *slot = &runtime->slots[i];
        bool has_message = runtime->polled[2 * i].revents != 0;
        bool is_over = runtime->polled[2 * i + 1].revents != 0;
        if (has_message || is_over) slot_receive(runtime, slot, now_ns);
        if (is_over && (slot->state == SLOT_LOADING || slot->state == SLOT_READY))
            slot_kill(runtime, slot, DEATH_OWN, NULL, now_ns);
    }
    return runtime->polled[count - 1].revents != 0;
}

tidemill_error *runtime_poll(struct runtime *runtime, int timeout_ms, int wake_fd,
                             struct runtime_done *done, size_t done_capacity, size_t *ret_n)
{
    *ret_n = 0;
    int64_t now_ns = clock_now_ns();
    int64_t end_ns = timeout_ms < 0 ? INT64_MAX : now_ns + timeout_ms * MS_NS;
    size_t capacity = runtime_capacity(runtime);
    for (bool is_first = true, is_woken = false;; is_first = false, now_ns = clock_now_ns()) {
        attend(runtime, now_ns);
        *ret_n = deliver(runtime, done, done_capacity);
        if (*ret_n > 0) return NULL;
        if (runtime->failure != NULL) return copy_failure(runtime);
        if (runtime->is_opening && !is_any_coming(runtime)) return NULL;
        bool has_room = !runtime->is_opening && runtime_capacity(runtime) > capacity;
        if (!is_first && (is_woken || has_room || now_ns >= end_ns)) return NULL;
        is_woken = wait_for_hosts(runtime, wait_ms(runtime, now_ns, end_ns), wake_fd);
    }
}

void runtime_get_stats(struct runtime *runtime, struct runtime_stats *ret)
{
    *ret = (struct runtime_stats){.hosts_started = runtime->hosts_started,
                                  .restarts = runtime->restarts,
                                  .busy_s = runtime->busy_s,
                                  .cpu_s = runtime->ended_cpu_s};
    for (size_t i = 0; i < runtime->n_slots; i++) {
        const struct slot *slot = &runtime->slots[i];
        uint64_t resident;
        if (slot->state == SLOT_NONE) continue;
        slot_sample_memory(runtime, slot, &resident);
        ret->hosts += slot->state == SLOT_READY || slot->state == SLOT_LOADING;
        ret->memory_bytes += resident;
        ret->cpu_s += process_cpu_s(&slot->process);
    }
    ret->peak_memory_bytes = runtime->peak_memory_bytes;
}
