/* SPDX-License-Identifier: Apache-2.0 */
/* death.c - what follows the end of a host: who is to blame, what is tried again, and when to stop.
 *
 * Only a unit that the host had begun is blamed, and only if there is no other: see pool.h. Deaths in a row without one answer end the job;
 * a death with a single record in the model does not count, as the culprit is found and the engine
 * goes on without it. */
#include "runtime/pool.h"

#include <stdio.h>

#define MS_NS INT64_C(1000000)
/* The engine halves a microbatch until it has the culprits: that many deaths are to be expected. */
#define DEATHS_IN_A_ROW_MAX 48
#define LOAD_FAILURES_IN_A_ROW_MAX 5
#define BACK_OFF_FREE 24 /* so many restarts at once */
#define BACK_OFF_MS_MAX 250

static int64_t back_off_ns(int failures, int free_of_charge)
{
    int64_t ms = 0;
    if (failures > free_of_charge)
        ms = MIN(INT64_C(10) << MIN(failures - free_of_charge, 10), BACK_OFF_MS_MAX);
    return ms * MS_NS;
}

static void restart_later(struct slot *slot, int64_t wait_ns, int64_t now_ns)
{
    slot->is_wanted = true;
    slot->start_ns = now_ns + wait_ns;
}

/* The text of a death in the middle of a call. */
static void call_text(const struct hosts *hosts, const struct slot *slot,
                      const struct process_end *end, char *text, size_t size)
{
    if (slot->cause == DEATH_TIMEOUT) {
        snprintf(text, size, "no answer after %d ms", hosts->timeout_ms);
    } else if (slot->reason != NULL) {
        snprintf(text, size, "%s", error_message(slot->reason));
    } else {
        process_end_text(end, text, size);
        size_t length = strlen(text);
        if (!end->is_signalled) snprintf(text + length, size - length, " in the middle of a call");
    }
}

static void blame(struct hosts *hosts, const struct slot *slot, struct unit *unit, const char *text)
{
    enum error_code code = slot->cause == DEATH_TIMEOUT ? ERROR_HOST_TIMEOUT : ERROR_HOST_CRASHED;
    unit->done = (struct runtime_done){.id = unit->id, .code = code};
    snprintf(unit->done.message, sizeof unit->done.message, "%s", text);
    unit_list_push(&hosts->done, unit);
}

/* Whether the unit may have been what the host died of. */
static bool may_be_guilty(const struct hosts *hosts, const struct slot *slot,
                          const struct unit *unit, int64_t now_ns)
{
    const struct wire_board *board = (const struct wire_board *)slot->board.base;
    if (slot->cause == DEATH_TIMEOUT)
        return unit->begun_ns != 0 && now_ns - unit->begun_ns >= hosts->timeout_ms * MS_NS;
    return unit->work.seq <= atomic_load(&board->started_seq);
}

static void clear_suspects(struct hosts *hosts)
{
    for (struct unit *unit = hosts->pending.first; unit != NULL; unit = unit->next)
        unit->is_suspect = false;
}

/* Of a host that kept many: as empty_slot. The suspects go first, or the others would wait for a host
 * that has nothing else to do. */
static bool empty_slot_of_many(struct hosts *hosts, struct slot *slot, const char *text,
                               int64_t now_ns)
{
    size_t n_guilty = 0, n = slot->n_units;
    for (size_t i = 0; i < n; i++) n_guilty += may_be_guilty(hosts, slot, slot->units[i], now_ns);
    /* A timeout is only beyond doubt where the unit had the host to itself. */
    bool is_sure = n_guilty == 1 && (slot->cause != DEATH_TIMEOUT || n == 1);
    if (is_sure) clear_suspects(hosts);
    for (int is_suspect = 0; is_suspect < 2; is_suspect++) {
        for (size_t i = n; i > 0; i--) {
            struct unit *unit = slot->units[i - 1];
            bool may_be = may_be_guilty(hosts, slot, unit, now_ns);
            if (may_be != (is_suspect == 1)) continue;
            if (may_be) unit->is_suspect = true;
            if (may_be && is_sure)
                blame(hosts, slot, unit, text);
            else
                unit_list_push_first(&hosts->pending, unit);
        }
    }
    slot->n_units = 0;
    return is_sure;
}

/* Hands back the unit that killed the host, and the others to hosts to come. True: one was blamed. */
static bool empty_slot(struct hosts *hosts, struct slot *slot, const char *text,
                       uint32_t *ret_n_rows)
{
    const struct wire_board *board = (const struct wire_board *)slot->board.base;
    size_t first = 0;
    if (slot->n_units > 0 && (slot->cause == DEATH_TIMEOUT || slot->cause == DEATH_NONSENSE ||
                              atomic_load(&board->started_seq) == slot->units[0]->work.seq)) {
        *ret_n_rows = slot->units[0]->work.n_rows;
        blame(hosts, slot, slot->units[0], text);
        first = 1;
    }
    for (size_t i = slot->n_units; i > first; i--)
        unit_list_push_first(&hosts->pending, slot->units[i - 1]);
    slot->n_units = 0;
    return first == 1;
}

static void died_at_work(struct hosts *hosts, struct slot *slot, const struct process_end *end,
                         int64_t now_ns)
{
    char text[512];
    uint32_t n_rows = 0;
    call_text(hosts, slot, end, text, sizeof text);
    bool is_many = hosts_take_many(hosts);
    bool is_blamed = is_many ? empty_slot_of_many(hosts, slot, text, now_ns)
                             : empty_slot(hosts, slot, text, &n_rows);
    if (is_blamed && (is_many || n_rows == 1))
        hosts->deaths_in_a_row = 0;
    else
        hosts->deaths_in_a_row++;
    hosts->restarts++;
    restart_later(slot, back_off_ns(hosts->deaths_in_a_row, BACK_OFF_FREE), now_ns);
    if (hosts->deaths_in_a_row >= DEATHS_IN_A_ROW_MAX)
        hosts_fail(hosts, error_new(ERROR_HOST_FAILED,
                                    "the model process died %d times in a row without one "
                                    "answer; the last time: %s",
                                    hosts->deaths_in_a_row, text));
}

/* Takes slot->reason, or says why the host did not get ready. */
static tidemill_error *load_error(const struct hosts *hosts, struct slot *slot,
                                  const struct process_end *end)
{
    if (slot->reason != NULL) {
        tidemill_error *reason = slot->reason;
        slot->reason = NULL;
        if (error_code_of(reason) != ERROR_HOST_CRASHED) return reason;
        tidemill_error *error = error_new(ERROR_MODEL_LOAD, "%s", error_message(reason));
        error_free(reason);
        return error;
    }
    if (slot->cause == DEATH_TIMEOUT)
        return error_new(ERROR_MODEL_LOAD, "model '%s' was not loaded after %d ms", hosts->model,
                         hosts->load_timeout_ms);
    char text[128];
    process_end_text(end, text, sizeof text);
    return error_new(ERROR_MODEL_LOAD, "the process that was loading model '%s' %s%s", hosts->model,
                     end->is_signalled ? "was " : "", text);
}

static void died_at_loading(struct hosts *hosts, struct slot *slot, const struct process_end *end,
                            int64_t now_ns)
{
    tidemill_error *error = load_error(hosts, slot, end);
    if (hosts->is_opening) {
        hosts_fail(hosts, error);
        return;
    }
    int failures = ++hosts->load_failures_in_a_row;
    bool has_others = hosts_count(hosts, SLOT_READY) > 0;
    bool is_hopeless =
        failures >= LOAD_FAILURES_IN_A_ROW_MAX || error_code_of(error) == ERROR_CHANGED;
    if (has_others && (is_hopeless || !slot->has_served)) {
        log_event(LOG_WARNING, "one model process fewer, as it does not start: %s",
                  error_message(error));
    } else if (is_hopeless) {
        hosts_fail(
            hosts,
            error_new(error_code_of(error) == ERROR_CHANGED ? ERROR_CHANGED : ERROR_HOST_FAILED,
                      "the model process does not start again: %s", error_message(error)));
    } else {
        hosts->restarts++;
        restart_later(slot, back_off_ns(failures + 2, 0), now_ns);
    }
    error_free(error);
}

void slot_bury(struct hosts *hosts, struct slot *slot, int64_t now_ns)
{
    struct process_end end = {.status = -1};
    if (!process_reap(&slot->process, 0, &end)) {
        if (now_ns < slot->deadline_ns) return;
        bool is_thread = slot->process.thread != NULL;
        process_abandon(&slot->process);
        if (is_thread) { /* it may yet write its answer: the output area is not ours to hand back */
            slot->state = SLOT_NONE;
            slot->is_wanted = false;
            slot->n_units = 0;
            hosts_fail(hosts, error_new(ERROR_HOST_FAILED,
                                        "a call of the model that hangs cannot be ended "
                                        "without process isolation"));
            return;
        }
    }
    hosts->ended_cpu_s += end.cpu_s;
    slot->state = SLOT_NONE;
    slot->is_wanted = false;
    slot->deadline_ns = 0;
    if (slot->was_ready)
        died_at_work(hosts, slot, &end, now_ns);
    else
        died_at_loading(hosts, slot, &end, now_ns);
    error_free(slot->reason);
    slot->reason = NULL;
    shared_region_free(&slot->board);
}

void slot_close(struct slot *slot)
{
    struct process_end end;
    if (slot->state != SLOT_NONE) {
        if (slot->state != SLOT_DYING) process_kill(&slot->process);
        if (!process_reap(&slot->process, 5000, &end)) process_abandon(&slot->process);
    }
    error_free(slot->reason);
    slot->reason = NULL;
    shared_region_free(&slot->board);
    slot->state = SLOT_NONE;
}
