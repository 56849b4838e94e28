/* SPDX-License-Identifier: Apache-2.0 */
/* pool.c - the life of one host: start, work, answers, deadline. How it ends is in death.c. */
#include "runtime/pool.h"

#include <errno.h>

#define MS_NS INT64_C(1000000)
#define DYING_MS 10000 /* after SIGKILL; then the kernel holds it */

void unit_list_push(struct unit_list *list, struct unit *unit)
{
    unit->next = NULL;
    if (list->last != NULL)
        list->last->next = unit;
    else
        list->first = unit;
    list->last = unit;
    list->length++;
}

void unit_list_push_first(struct unit_list *list, struct unit *unit)
{
    unit->next = list->first;
    list->first = unit;
    if (list->last == NULL) list->last = unit;
    list->length++;
}

struct unit *unit_list_pop(struct unit_list *list)
{
    struct unit *unit = list->first;
    if (unit == NULL) return NULL;
    list->first = unit->next;
    if (list->first == NULL) list->last = NULL;
    list->length--;
    return unit;
}

size_t hosts_count(const struct hosts *hosts, enum slot_state state)
{
    size_t count = 0;
    for (size_t i = 0; i < hosts->n_slots; i++) count += hosts->slots[i].state == state;
    return count;
}

bool slot_is_coming(const struct slot *slot)
{
    return slot->state == SLOT_LOADING || (slot->is_wanted && slot->state != SLOT_READY);
}

void hosts_fail(struct hosts *hosts, tidemill_error *error)
{
    if (hosts->failure == NULL)
        hosts->failure = error;
    else
        error_free(error);
}

void slot_kill(struct hosts *hosts, struct slot *slot, enum death_cause cause,
               tidemill_error *reason, int64_t now_ns)
{
    if (slot->state == SLOT_DYING) {
        error_free(reason);
        return;
    }
    uint64_t resident;
    slot_sample_memory(hosts, slot, &resident);
    process_kill(&slot->process);
    slot->state = SLOT_DYING;
    slot->cause = cause;
    slot->reason = reason;
    slot->deadline_ns = now_ns + DYING_MS * MS_NS;
}

static tidemill_error *start(struct hosts *hosts, struct slot *slot)
{
    TRY(shared_region_new(sizeof(struct wire_board), &slot->board));
    TRY(hosts->is_isolated ? process_start(hosts->program, &slot->process)
                           : process_start_thread(&slot->process));
    int fds[] = {hosts->region->fd, slot->board.fd};
    int r = wire_send_with_fds(slot->process.fd, hosts->open_message.data, hosts->open_message.size,
                               fds, COUNT_OF(fds));
    /* A host that is gone already is found out by the end of its socket. */
    if (r != 0 && r != ECONNRESET)
        return error_errno(ERROR_HOST_FAILED, r, "cannot talk to a model process");
    return NULL;
}

void slot_start(struct hosts *hosts, struct slot *slot, int64_t now_ns)
{
    slot->state = SLOT_LOADING;
    slot->was_ready = false;
    slot->n_sent = 0;
    slot->start_ns = now_ns;
    slot->deadline_ns = hosts->load_timeout_ms > 0 ? now_ns + hosts->load_timeout_ms * MS_NS : 0;
    slot->process = PROCESS_NONE;
    hosts->hosts_started++;
    tidemill_error *error = start(hosts, slot);
    if (error != NULL) slot_kill(hosts, slot, DEATH_LOAD_FAILED, error, now_ns);
}

bool hosts_take_many(const struct hosts *hosts)
{
    return hosts->units_max > UNITS_OF_ONE;
}

/* units[0] runs from now on. */
static void begin_head(const struct hosts *hosts, struct slot *slot, int64_t now_ns)
{
    if (hosts_take_many(hosts)) return; /* slot_check_deadline looks at each */
    slot->deadline_ns =
        slot->n_units > 0 && hosts->timeout_ms > 0 ? now_ns + hosts->timeout_ms * MS_NS : 0;
}

void slot_give(struct hosts *hosts, struct slot *slot, struct unit *unit, int64_t now_ns)
{
    unit->work.seq = ++hosts->last_seq;
    unit->given_ns = now_ns;
    unit->begun_ns = 0;
    slot->units[slot->n_units++] = unit;
    if (slot->n_units == 1) begin_head(hosts, slot, now_ns);
    slot_send(hosts, slot, now_ns);
}

/* A socket holds one or two hundred of these: a host that is slow to read must not make the engine wait. */
void slot_send(struct hosts *hosts, struct slot *slot, int64_t now_ns)
{
    while (slot->state == SLOT_READY && slot->n_sent < slot->n_units) {
        const struct wire_work *work = &slot->units[slot->n_sent]->work;
        size_t size = offsetof(struct wire_work, inputs) + work->n_inputs * sizeof work->inputs[0];
        int r = wire_try_send(slot->process.fd, work, size);
        if (r == EAGAIN) return; /* until poll finds room */
        slot->n_sent++;
        /* If the host is gone the end of the socket says so, and the unit goes to another. */
        if (r != 0 && r != ECONNRESET)
            slot_kill(hosts, slot, DEATH_NONSENSE,
                      error_errno(ERROR_HOST_CRASHED, r, "cannot send work to the model process"),
                      now_ns);
    }
}

/* Messages from the host. Each returns an error when the message is not what it should be. */

/* Now that it is known how many a host takes. As many again wait for the caller. */
static tidemill_error *allocate_units(struct hosts *hosts, size_t units_max)
{
    hosts->units_max = units_max;
    hosts->n_units = hosts->n_slots * units_max * 2;
    hosts->places = calloc(hosts->n_slots * units_max, sizeof(struct unit *));
    hosts->units = calloc(hosts->n_units, sizeof *hosts->units);
    if (hosts->places == NULL || hosts->units == NULL) return error_memory();
    for (size_t i = 0; i < hosts->n_slots; i++)
        hosts->slots[i].units = hosts->places + i * units_max;
    for (size_t i = 0; i < hosts->n_units; i++) unit_list_push(&hosts->free, &hosts->units[i]);
    return NULL;
}

static tidemill_error *take_ready(struct hosts *hosts, struct slot *slot, size_t size,
                                  int64_t now_ns)
{
    if (slot->state != SLOT_LOADING || slot->was_ready)
        return error_new(ERROR_HOST_CRASHED, "the model process says twice that it is ready");
    if (hosts->ready_message.size == 0) {
        uint32_t units_max = 0;
        TRY(wire_read_ready(hosts->message, size, &hosts->base.signature, hosts->base.description,
                            sizeof hosts->base.description, &units_max));
        TRY(allocate_units(hosts, units_max));
        buffer_append(&hosts->ready_message, hosts->message, size);
        if (hosts->ready_message.is_failed) return error_memory();
        hosts->load_ns = now_ns - slot->start_ns;
    } else if (size != hosts->ready_message.size ||
               memcmp(hosts->message, hosts->ready_message.data, size) != 0) {
        return error_new(ERROR_CHANGED, "the model is not the one that was loaded at the start");
    }
    slot->was_ready = slot->has_served = true;
    slot->state = SLOT_READY;
    slot->deadline_ns = 0; /* that of loading */
    slot->heard_ns = now_ns;
    hosts->load_failures_in_a_row = 0;
    hosts->saturated_ns = 0;
    begin_head(hosts, slot, now_ns);
    return NULL;
}

static tidemill_error *take_load_failed(struct hosts *hosts, size_t size)
{
    struct wire_load_failed message;
    if (size != sizeof message)
        return error_new(ERROR_HOST_CRASHED, "the model process sent a broken message");
    memcpy(&message, hosts->message, sizeof message);
    wire_clean_text(message.message, sizeof message.message);
    enum error_code code = ERROR_MODEL_LOAD;
    if (message.code == ERROR_UNSUPPORTED || message.code == ERROR_MEMORY ||
        message.code == ERROR_USAGE)
        code = (enum error_code)message.code;
    return error_new(code, "%s", message.message);
}

static void finish_unit(struct hosts *hosts, struct slot *slot, size_t place, int64_t now_ns)
{
    struct unit *unit = slot->units[place];
    slot->heard_ns = now_ns;
    slot->n_units--;
    slot->n_sent--;
    memmove(slot->units + place, slot->units + place + 1,
            (slot->n_units - place) * sizeof(struct unit *));
    begin_head(hosts, slot, now_ns);
    unit_list_push(&hosts->done, unit);
    hosts->deaths_in_a_row = 0;
}

/* The place of the unit that a reply is for; n_units: none. */
static size_t find_unit(const struct hosts *hosts, const struct slot *slot, uint64_t seq)
{
    size_t n = hosts_take_many(hosts) ? slot->n_sent : MIN(slot->n_sent, (size_t)1);
    for (size_t i = 0; i < n; i++)
        if (slot->units[i]->work.seq == seq) return i;
    return slot->n_units;
}

/* A host may lie: counts are bounded, so that sums are. */
static struct token_usage usage_of(const struct wire_reply *reply)
{
    const uint64_t most = (uint64_t)1 << 40;
    struct token_usage usage = {.in = MIN(reply->usage.in, most),
                                .out = MIN(reply->usage.out, most)};
    usage.cached = MIN(reply->usage.cached, usage.in);
    return usage;
}

/* What a model's own processes took. A host may lie: it is bounded by what is possible. */
static void note_outside(struct hosts *hosts, struct slot *slot, const struct wire_reply *reply)
{
    if (reply->outside_cpu_s > 0 && reply->outside_cpu_s < 1e6)
        hosts->ended_cpu_s += reply->outside_cpu_s;
    slot->outside_memory_bytes = MIN(reply->outside_memory_bytes, (uint64_t)1 << 50);
}

static tidemill_error *take_reply(struct hosts *hosts, struct slot *slot, size_t size,
                                  int64_t now_ns)
{
    struct wire_reply reply;
    if (size != sizeof reply || slot->n_units == 0)
        return error_new(ERROR_HOST_CRASHED, "the model process answered what nobody asked");
    memcpy(&reply, hosts->message, sizeof reply);
    size_t place = find_unit(hosts, slot, reply.seq);
    if (place == slot->n_units)
        return error_new(ERROR_HOST_CRASHED, "the model process answered out of order");
    struct unit *unit = slot->units[place];
    if (reply.code == ERROR_HOST_CRASHED) { /* a process of its own died: it goes too */
        note_outside(hosts, slot, &reply);
        wire_clean_text(reply.message, sizeof reply.message);
        return error_new(ERROR_HOST_CRASHED, "%s", reply.message);
    }
    if (reply.code != ERROR_OK && reply.code != ERROR_MODEL_ERROR &&
        reply.code != ERROR_OUTPUT_TOO_LARGE)
        return error_new(ERROR_HOST_CRASHED, "the model process answered an unknown code");

    struct runtime_done *done = &unit->done;
    *done = (struct runtime_done){
        .id = unit->id, .code = (enum error_code)reply.code, .usage = usage_of(&reply)};
    if (done->code == ERROR_OK) {
        TRY(wire_read_values(hosts->region->base + unit->work.output_offset,
                             (size_t)unit->work.output_capacity, reply.table_offset, reply.n_values,
                             &hosts->base.signature, &done->values));
        done->n_values = reply.n_values;
    } else {
        memcpy(done->message, reply.message, sizeof done->message);
        wire_clean_text(done->message, sizeof done->message);
    }
    int64_t run_ns = MIN(MAX(reply.run_ns, INT64_C(0)), now_ns - unit->given_ns);
    done->run_s = (double)run_ns * 1e-9;
    hosts->busy_s += done->run_s;
    note_outside(hosts, slot, &reply);
    finish_unit(hosts, slot, place, now_ns);
    return NULL;
}

static void take_message(struct hosts *hosts, struct slot *slot, size_t size, int64_t now_ns)
{
    struct wire_header header;
    memcpy(&header, hosts->message, sizeof header);
    enum death_cause cause = DEATH_NONSENSE;
    tidemill_error *error;
    if (header.type == WIRE_READY) {
        error = take_ready(hosts, slot, size, now_ns);
    } else if (header.type == WIRE_LOAD_FAILED && slot->state == SLOT_LOADING) {
        error = take_load_failed(hosts, size);
        cause = DEATH_LOAD_FAILED;
    } else if (header.type == WIRE_REPLY) {
        error = take_reply(hosts, slot, size, now_ns);
    } else {
        error = error_new(ERROR_HOST_CRASHED, "the model process sent an unknown message");
    }
    if (error == NULL) return;
    if (error_code_of(error) == ERROR_MEMORY && cause == DEATH_NONSENSE)
        hosts_fail(hosts, error); /* the engine's own memory */
    else
        slot_kill(hosts, slot, cause, error, now_ns);
}

void slot_receive(struct hosts *hosts, struct slot *slot, int64_t now_ns)
{
    /* A host may be gone and its last answers still there: ECONNRESET comes once, then they do. */
    for (int resets = 0; slot->state == SLOT_LOADING || slot->state == SLOT_READY;) {
        size_t size;
        int r = wire_receive(slot->process.fd, hosts->message, WIRE_MESSAGE_BYTES_MAX, NULL, 0,
                             false, &size);
        if (r == EAGAIN) return;
        if (r == ECONNRESET && resets++ == 0) continue;
        if (r == 0 && size > 0)
            take_message(hosts, slot, size, now_ns);
        else if (r == EPROTO)
            slot_kill(hosts, slot, DEATH_NONSENSE,
                      error_new(ERROR_HOST_CRASHED, "the model process sent a broken message"),
                      now_ns);
        else
            slot_kill(hosts, slot, DEATH_OWN, NULL, now_ns);
    }
}

/* Each unit has its time, from when it was seen to have reached the model. One that waits in the socket
 * has none, as others keep the model busy; but where no unit is in the model, the host is to take the
 * oldest at once, and has the same time for it. */
static void set_deadline_of_many(const struct hosts *hosts, struct slot *slot, int64_t now_ns)
{
    const struct wire_board *board = (const struct wire_board *)slot->board.base;
    uint64_t started_seq = atomic_load(&board->started_seq);
    int64_t limit_ns = hosts->timeout_ms * MS_NS, first_ns = now_ns;
    bool is_any_begun = false;
    for (size_t i = 0; i < slot->n_units; i++) {
        struct unit *unit = slot->units[i];
        if (unit->begun_ns == 0 && unit->work.seq <= started_seq) unit->begun_ns = now_ns;
        if (unit->begun_ns == 0) continue;
        first_ns = MIN(first_ns, unit->begun_ns);
        is_any_begun = true;
    }
    if (slot->n_units > 0 && !is_any_begun)
        first_ns = MAX(slot->units[0]->given_ns, slot->heard_ns);
    slot->deadline_ns = slot->n_units > 0 ? first_ns + limit_ns : 0;
}

void slot_check_deadline(struct hosts *hosts, struct slot *slot, int64_t now_ns)
{
    if (slot->state == SLOT_READY && hosts_take_many(hosts) && hosts->timeout_ms > 0)
        set_deadline_of_many(hosts, slot, now_ns);
    if (slot->deadline_ns == 0 || now_ns < slot->deadline_ns) return;
    if (slot->state != SLOT_LOADING && slot->state != SLOT_READY) return;
    slot_kill(hosts, slot, DEATH_TIMEOUT, NULL, now_ns);
}

void slot_sample_memory(struct hosts *hosts, const struct slot *slot, uint64_t *ret_now)
{
    uint64_t peak = 0;
    *ret_now = 0;
    if (slot->state == SLOT_NONE) return;
    process_memory(&slot->process, ret_now, &peak);
    *ret_now += slot->outside_memory_bytes;
    hosts->peak_memory_bytes =
        MAX(hosts->peak_memory_bytes, MAX(peak + slot->outside_memory_bytes, *ret_now));
}
