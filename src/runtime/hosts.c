/* SPDX-License-Identifier: Apache-2.0 */
/* hosts.c - models that live in hosts: the set of them as the engine sees it. */
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
#define REAP_MS 5 /* between looks at a dying host that has no pidfd */

static struct hosts *hosts_of(struct runtime *runtime)
{
    return (struct hosts *)runtime; /* its first member */
}

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
                             .llama_parallel = options->llama.parallel,
                             .llama_gpu_layers = options->llama.gpu_layers,
                             .llama_task = options->llama.task,
                             .llama_context = options->llama.context,
                             .llama_seed = options->llama.seed,
                             .n_output_names = (uint32_t)options->n_output_names,
                             .is_json_log = log_is_json()};
    if (options->n_output_names > MODEL_VALUES_MAX)
        return error_new(ERROR_USAGE, "%zu outputs asked for; %d is the limit",
                         options->n_output_names, MODEL_VALUES_MAX);
    buffer_append(buffer, &wire, sizeof wire);
    append_string(buffer, options->model);
    append_string(buffer, options->onnxruntime);
    append_string(buffer, options->provider);
    append_string(buffer, options->llama.library);
    for (size_t i = 0; i < options->n_output_names; i++)
        append_string(buffer, options->output_names[i]);
    if (buffer->is_failed) return error_memory();
    if (buffer->size > WIRE_MESSAGE_BYTES_MAX)
        return error_new(ERROR_USAGE, "the model's path and options are too long");
    return NULL;
}

static tidemill_error *allocate(struct hosts *hosts)
{
    hosts->slots = calloc(hosts->n_slots, sizeof *hosts->slots);
    hosts->polled = calloc(2 * hosts->n_slots + 1, sizeof *hosts->polled);
    hosts->message = malloc(WIRE_MESSAGE_BYTES_MAX);
    if (hosts->slots == NULL || hosts->polled == NULL || hosts->message == NULL)
        return error_memory();
    for (size_t i = 0; i < hosts->n_slots; i++) {
        hosts->slots[i].process = PROCESS_NONE;
        hosts->slots[i].board.fd = -1;
    }
    return NULL;
}

static tidemill_error *copy_failure(const struct hosts *hosts)
{
    if (hosts->failure == NULL) return NULL;
    enum error_code code = error_code_of(hosts->failure);
    if (code == ERROR_MEMORY) return error_memory();
    return error_new(code, "%s", error_message(hosts->failure));
}

static bool is_any_coming(const struct hosts *hosts)
{
    for (size_t i = 0; i < hosts->n_slots; i++)
        if (slot_is_coming(&hosts->slots[i]) || hosts->slots[i].state == SLOT_DYING) return true;
    return false;
}

static tidemill_error *open_hosts(struct hosts *hosts, const struct runtime_options *options)
{
    if (model_kind(options->model) == MODEL_ONNX) TRY(model_check_file(options->model));
    TRY(make_open_message(options, hosts->region->size, &hosts->open_message));
    if (hosts->is_isolated)
        TRY(process_find_program(options->host_program, hosts->program, sizeof hosts->program));
    TRY(allocate(hosts));
    int wake_fd = options->wake_fd > 0 ? options->wake_fd : -1;
    size_t n_first = hosts->is_growing ? 1 : hosts->n_slots;
    for (size_t i = 0; i < n_first; i++) hosts->slots[i].is_wanted = true;
    hosts->is_opening = true;
    while (is_any_coming(hosts)) {
        size_t n_done;
        TRY(runtime_poll(&hosts->base, -1, wake_fd, NULL, 0, &n_done));
        struct pollfd item = {.fd = wake_fd, .events = POLLIN};
        if (poll(&item, 1, 0) > 0)
            return error_new(ERROR_INTERRUPTED, "stopped while the model was loading");
    }
    hosts->is_opening = false;
    return NULL;
}

static tidemill_error *hosts_open(const struct runtime_options *options,
                                  const struct shared_region *region, struct runtime **ret)
{
    struct hosts *hosts = calloc(1, sizeof *hosts);
    if (hosts == NULL) return error_memory();
    hosts->base.impl = &runtime_hosts;
    hosts->region = region;
    hosts->is_isolated = options->is_isolated;
    hosts->is_growing = options->is_growing;
    hosts->timeout_ms = options->timeout_ms;
    hosts->load_timeout_ms = options->load_timeout_ms;
    hosts->n_slots = (size_t)MAX(options->instances_max, 1);
    snprintf(hosts->model, sizeof hosts->model, "%s", options->model);
    tidemill_error *error = open_hosts(hosts, options);
    if (error != NULL)
        runtime_close(&hosts->base);
    else
        *ret = &hosts->base;
    return error;
}

static void hosts_end(struct runtime *runtime)
{
    struct hosts *hosts = hosts_of(runtime);
    /* All first, so that they end side by side. */
    for (size_t i = 0; hosts->slots != NULL && i < hosts->n_slots; i++)
        if (hosts->slots[i].state == SLOT_LOADING || hosts->slots[i].state == SLOT_READY)
            slot_kill(hosts, &hosts->slots[i], DEATH_OWN, NULL, clock_now_ns());
    for (size_t i = 0; hosts->slots != NULL && i < hosts->n_slots; i++)
        slot_close(&hosts->slots[i]);
}

static void hosts_close(struct runtime *runtime)
{
    struct hosts *hosts = hosts_of(runtime);
    hosts_end(runtime);
    for (struct unit *unit; (unit = unit_list_pop(&hosts->done)) != NULL;) free(unit->done.values);
    model_signature_free(&hosts->base.signature);
    buffer_free(&hosts->open_message);
    buffer_free(&hosts->ready_message);
    error_free(hosts->failure);
    free(hosts->slots);
    free(hosts->places);
    free(hosts->units);
    free(hosts->polled);
    free(hosts->message);
    free(hosts);
}

/* Work in. */

static size_t room_of(const struct hosts *hosts)
{
    if (hosts->failure != NULL) return 0;
    size_t room = hosts->units_max * hosts_count(hosts, SLOT_READY);
    size_t taken = hosts->pending.length;
    for (size_t i = 0; i < hosts->n_slots; i++)
        if (hosts->slots[i].state == SLOT_READY) taken += hosts->slots[i].n_units;
    return room > taken ? MIN(room - taken, hosts->free.length) : 0;
}

/* The READY host with the fewest units; NULL when all are full. A suspect is to be alone. */
static struct slot *choose_slot(struct hosts *hosts, const struct unit *unit)
{
    struct slot *best = NULL;
    for (size_t i = 0; i < hosts->n_slots; i++) {
        struct slot *slot = &hosts->slots[i];
        if (slot->state != SLOT_READY || slot->n_units == hosts->units_max) continue;
        if (slot->n_units > 0 && (unit->is_suspect || slot->units[0]->is_suspect)) continue;
        if (best == NULL || slot->n_units < best->n_units) best = slot;
    }
    return best;
}

static void dispatch(struct hosts *hosts, int64_t now_ns)
{
    struct slot *slot;
    while (hosts->pending.length > 0 && (slot = choose_slot(hosts, hosts->pending.first)) != NULL)
        slot_give(hosts, slot, unit_list_pop(&hosts->pending), now_ns);
}

static bool is_in_region(const struct hosts *hosts, size_t offset, size_t bytes)
{
    return offset <= hosts->region->size && bytes <= hosts->region->size - offset;
}

static tidemill_error *copy_work(const struct hosts *hosts, const struct runtime_work *work,
                                 struct unit *unit)
{
    if (!is_in_region(hosts, work->output_offset, work->output_capacity))
        return error_new(ERROR_INTERNAL, "an output area outside the region");
    unit->id = work->id;
    unit->is_suspect = false;
    unit->work.header = (struct wire_header){.version = WIRE_VERSION, .type = WIRE_WORK};
    unit->work.index = work->index;
    unit->work.n_rows = work->n_rows;
    unit->work.n_inputs = (uint32_t)hosts->base.signature.n_inputs;
    unit->work.output_offset = work->output_offset;
    unit->work.output_capacity = work->output_capacity;
    for (size_t i = 0; i < hosts->base.signature.n_inputs; i++) {
        const struct work_input *input = &work->inputs[i];
        if (input->shape.rank < 0 || input->shape.rank > TENSOR_RANK_MAX ||
            !is_in_region(hosts, input->offset, input->bytes))
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

static tidemill_error *hosts_submit(struct runtime *runtime, const struct runtime_work *work)
{
    struct hosts *hosts = hosts_of(runtime);
    TRY(copy_failure(hosts));
    struct unit *unit = unit_list_pop(&hosts->free);
    if (unit == NULL) return error_new(ERROR_INTERNAL, "more work than the runtime can take");
    tidemill_error *error = copy_work(hosts, work, unit);
    if (error != NULL) {
        unit_list_push(&hosts->free, unit);
        return error;
    }
    unit_list_push(&hosts->pending, unit);
    dispatch(hosts, clock_now_ns());
    return NULL;
}

static void hosts_hint_backlog(struct runtime *runtime, bool has_backlog)
{
    struct hosts *hosts = hosts_of(runtime);
    hosts->has_backlog = has_backlog;
}

/* Growing. */

static bool is_saturated(const struct hosts *hosts)
{
    size_t n_ready = 0;
    for (size_t i = 0; i < hosts->n_slots; i++) {
        const struct slot *slot = &hosts->slots[i];
        if (slot_is_coming(slot) || slot->state == SLOT_DYING) return false;
        if (slot->state != SLOT_READY) continue;
        n_ready++;
        if (slot->n_units == 0) return false;
    }
    return n_ready > 0 && n_ready < hosts->n_slots && hosts->has_backlog;
}

/* Hosts that always hold work may still wait for others to take their answers: only time inside the
 * model counts. No call that ended in all that time means long calls. */
static bool is_model_busy(const struct hosts *hosts, int64_t now_ns)
{
    double busy_s = hosts->busy_s - hosts->saturated_busy_s;
    double held_s =
        (double)(now_ns - hosts->saturated_ns) * 1e-9 * (double)hosts_count(hosts, SLOT_READY);
    return busy_s <= 0 || busy_s >= GROW_BUSY_SHARE * held_s;
}

static void begin_saturation(struct hosts *hosts, int64_t now_ns)
{
    hosts->saturated_ns = now_ns;
    hosts->saturated_busy_s = hosts->busy_s;
}

/* False: as many as there may be are there or on their way. */
static bool want_one(struct hosts *hosts, int64_t now_ns)
{
    for (size_t i = 0; i < hosts->n_slots; i++) {
        struct slot *slot = &hosts->slots[i];
        if (slot->state != SLOT_NONE || slot->is_wanted) continue;
        slot->is_wanted = true;
        slot->start_ns = now_ns;
        return true;
    }
    return false;
}

/* Starts another host when all have been busy for long enough to make up for loading it. */
static void consider_growing(struct hosts *hosts, int64_t now_ns)
{
    if (!hosts->is_growing || hosts->is_opening) return;
    if (!is_saturated(hosts)) {
        if (now_ns - hosts->last_saturated_ns > GAP_NS) hosts->saturated_ns = 0;
        return;
    }
    hosts->last_saturated_ns = now_ns;
    if (hosts->saturated_ns == 0) begin_saturation(hosts, now_ns);
    if (now_ns - hosts->saturated_ns < MAX(hosts->load_ns, GROW_NS_MIN)) return;
    if (!is_model_busy(hosts, now_ns)) {
        begin_saturation(hosts, now_ns);
        return;
    }
    want_one(hosts, now_ns);
    hosts->saturated_ns = 0;
}

static void hosts_want_hosts(struct runtime *runtime, int n)
{
    struct hosts *hosts = hosts_of(runtime);
    size_t n_there = 0;
    if (!hosts->is_growing) return;
    for (size_t i = 0; i < hosts->n_slots; i++)
        n_there += hosts->slots[i].state != SLOT_NONE || hosts->slots[i].is_wanted;
    for (; n_there < (size_t)MAX(n, 0); n_there++)
        if (!want_one(hosts, clock_now_ns())) return;
}

/* Work out. */

static size_t deliver(struct hosts *hosts, struct runtime_done *done, size_t capacity)
{
    size_t count = 0;
    for (struct unit *unit; count < capacity && (unit = unit_list_pop(&hosts->done)) != NULL;) {
        done[count++] = unit->done;
        unit_list_push(&hosts->free, unit);
    }
    return count;
}

/* Everything that is due by the clock. */
static void attend(struct hosts *hosts, int64_t now_ns)
{
    for (size_t i = 0; i < hosts->n_slots; i++) {
        struct slot *slot = &hosts->slots[i];
        slot_check_deadline(hosts, slot, now_ns);
        if (slot->state == SLOT_DYING) slot_bury(hosts, slot, now_ns);
        if (slot->state == SLOT_NONE && slot->is_wanted && slot->start_ns <= now_ns &&
            hosts->failure == NULL)
            slot_start(hosts, slot, now_ns);
    }
    dispatch(hosts, now_ns);
    consider_growing(hosts, now_ns);
    if (now_ns - hosts->sampled_ns >= SAMPLE_NS) {
        uint64_t resident;
        hosts->sampled_ns = now_ns;
        for (size_t i = 0; i < hosts->n_slots; i++)
            slot_sample_memory(hosts, &hosts->slots[i], &resident);
    }
}

/* When the clock next brings something, at most until end_ns. */
static int wait_ms(const struct hosts *hosts, int64_t now_ns, int64_t end_ns)
{
    int64_t next_ns = end_ns;
    for (size_t i = 0; i < hosts->n_slots; i++) {
        const struct slot *slot = &hosts->slots[i];
        if (slot->state == SLOT_DYING && slot->process.pidfd < 0)
            next_ns = MIN(next_ns, now_ns + REAP_MS * MS_NS);
        if (slot->deadline_ns != 0 && slot->state != SLOT_NONE)
            next_ns = MIN(next_ns, slot->deadline_ns);
        if (slot->state == SLOT_NONE && slot->is_wanted) next_ns = MIN(next_ns, slot->start_ns);
    }
    if (hosts->saturated_ns != 0)
        next_ns = MIN(next_ns, MAX(hosts->saturated_ns + MAX(hosts->load_ns, GROW_NS_MIN), now_ns));
    if (next_ns == INT64_MAX) return -1;
    int64_t ms = (next_ns - now_ns + MS_NS - 1) / MS_NS;
    return (int)MIN(MAX(ms, INT64_C(0)), INT64_C(1) << 30);
}

/* Waits for messages, ends of processes, and the wake descriptor. True: somebody woke us. */
static bool wait_for_hosts(struct hosts *hosts, int timeout_ms, int wake_fd)
{
    size_t count = 0;
    for (size_t i = 0; i < hosts->n_slots; i++) {
        const struct slot *slot = &hosts->slots[i];
        bool is_live = slot->state == SLOT_LOADING || slot->state == SLOT_READY;
        int pidfd = slot->state != SLOT_NONE ? slot->process.pidfd : -1;
        bool has_unsent = slot->state == SLOT_READY && slot->n_sent < slot->n_units;
        hosts->polled[count++] =
            (struct pollfd){.fd = is_live ? slot->process.fd : -1,
                            .events = (short)(has_unsent ? POLLIN | POLLOUT : POLLIN)};
        hosts->polled[count++] = (struct pollfd){.fd = pidfd, .events = POLLIN};
    }
    hosts->polled[count++] = (struct pollfd){.fd = wake_fd, .events = POLLIN};
    if (poll(hosts->polled, count, timeout_ms) <= 0) return false;

    int64_t now_ns = clock_now_ns();
    for (size_t i = 0; i < hosts->n_slots; i++) {
        struct slot *slot = &hosts->slots[i];
        bool has_message = (hosts->polled[2 * i].revents & ~POLLOUT) != 0;
        bool has_room = (hosts->polled[2 * i].revents & POLLOUT) != 0;
        bool is_over = hosts->polled[2 * i + 1].revents != 0;
        if (has_message || is_over) slot_receive(hosts, slot, now_ns);
        if (has_room) slot_send(hosts, slot, now_ns);
        if (is_over && (slot->state == SLOT_LOADING || slot->state == SLOT_READY))
            slot_kill(hosts, slot, DEATH_OWN, NULL, now_ns);
    }
    return hosts->polled[count - 1].revents != 0;
}

static tidemill_error *hosts_poll(struct runtime *runtime, int timeout_ms, int wake_fd,
                                  struct runtime_done *done, size_t done_capacity, size_t *ret_n)
{
    struct hosts *hosts = hosts_of(runtime);
    *ret_n = 0;
    int64_t now_ns = clock_now_ns();
    int64_t end_ns = timeout_ms < 0 ? INT64_MAX : now_ns + timeout_ms * MS_NS;
    size_t capacity = room_of(hosts);
    for (bool is_first = true, is_woken = false;; is_first = false, now_ns = clock_now_ns()) {
        attend(hosts, now_ns);
        *ret_n = deliver(hosts, done, done_capacity);
        if (*ret_n > 0) return NULL;
        if (hosts->failure != NULL) return copy_failure(hosts);
        if (hosts->is_opening && !is_any_coming(hosts)) return NULL;
        bool has_room = !hosts->is_opening && room_of(hosts) > capacity;
        if (!is_first && (is_woken || has_room || now_ns >= end_ns)) return NULL;
        is_woken = wait_for_hosts(hosts, wait_ms(hosts, now_ns, end_ns), wake_fd);
    }
}

static void hosts_get_stats(struct runtime *runtime, struct runtime_stats *ret)
{
    struct hosts *hosts = hosts_of(runtime);
    *ret = (struct runtime_stats){.hosts_started = hosts->hosts_started,
                                  .restarts = hosts->restarts,
                                  .busy_s = hosts->busy_s,
                                  .cpu_s = hosts->ended_cpu_s};
    for (size_t i = 0; i < hosts->n_slots; i++) {
        const struct slot *slot = &hosts->slots[i];
        uint64_t resident;
        if (slot->state == SLOT_NONE) continue;
        slot_sample_memory(hosts, slot, &resident);
        ret->hosts += slot->state == SLOT_READY || slot->state == SLOT_LOADING;
        ret->memory_bytes += resident;
        ret->cpu_s += process_cpu_s(&slot->process);
    }
    ret->peak_memory_bytes = hosts->peak_memory_bytes;
}

static size_t hosts_capacity(const struct runtime *runtime)
{
    return room_of((const struct hosts *)runtime);
}

const struct runtime_impl runtime_hosts = {
    .open = hosts_open,
    .capacity = hosts_capacity,
    .submit = hosts_submit,
    .poll = hosts_poll,
    .hint_backlog = hosts_hint_backlog,
    .want_hosts = hosts_want_hosts,
    .get_stats = hosts_get_stats,
    .end = hosts_end,
    .close = hosts_close,
};
