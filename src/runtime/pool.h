/* SPDX-License-Identifier: Apache-2.0 */
/* pool.h - the inside of a runtime of hosts: processes, the units of work in them, and what becomes of both.
 *
 * A slot is a place for a host; a unit is one submitted work. A unit is in exactly one place: the free
 * list, a slot, the pending list (it was in a host that died before it began it), or the done list.
 *
 *     NONE --start--> LOADING --READY--> READY --death--> DYING --reaped--> NONE
 *                        `-----LOAD_FAILED, death, time over--^
 *
 * Most models have one unit running and one waiting in the socket, so that they never wait: units_max is
 * UNITS_OF_ONE. Others keep many in the model and finish them in any order; what the socket has no room for
 * waits in the slot until poll finds some. When a host dies with one unit in the model, that one is blamed.
 * With several, each is a suspect: it runs again, alone in a host, and is blamed if that dies too; then the
 * other suspects are cleared.
 *
 * Death is noticed by the end of the socket or by the pidfd, whichever comes first; answers that were
 * sent before it still count. Units leave a slot only once its process is gone (or held by the kernel
 * for good after SIGKILL), so nobody writes into an output area any more when poll hands it back. */
#ifndef TIDEMILL_RUNTIME_POOL_H
#define TIDEMILL_RUNTIME_POOL_H

#include "runtime/impl.h"
#include "runtime/process.h"
#include "runtime/wire.h"

enum slot_state { SLOT_NONE, SLOT_LOADING, SLOT_READY, SLOT_DYING };
enum death_cause { DEATH_OWN, DEATH_TIMEOUT, DEATH_NONSENSE, DEATH_LOAD_FAILED };

struct unit {
    struct unit *next;
    uint64_t id;
    int64_t given_ns; /* to a host */
    int64_t begun_ns; /* when it was seen to have reached the model; 0: not yet. Of many only */
    bool is_suspect;  /* a host died with this and others in the model: it is to run alone */
    struct wire_work work;
    struct runtime_done done;
};

struct unit_list {
    struct unit *first, *last;
    size_t length;
};

struct slot {
    enum slot_state state;
    bool is_wanted;      /* NONE: start a host at start_ns */
    bool was_ready;      /* this host has answered READY */
    bool has_served;     /* so has one before it */
    int64_t start_ns;    /* when it was, or is to be, started */
    int64_t deadline_ns; /* LOADING, READY: kill; DYING: give it up; 0: none */
    int64_t heard_ns;    /* when it was ready, or last answered */
    struct process process;
    uint64_t outside_memory_bytes; /* of the model's own processes */
    struct shared_region board;
    struct unit **units;    /* room for units_max; in the order of giving */
    size_t n_units, n_sent; /* the first n_sent are sent; the socket had no room for the others */
    enum death_cause cause;
    tidemill_error *reason; /* of DEATH_NONSENSE and DEATH_LOAD_FAILED */
};

struct hosts {
    struct runtime base;
    const struct shared_region *region;
    struct buffer open_message, ready_message;
    char program[4096];
    char model[256]; /* for messages */
    bool is_isolated, is_growing, is_opening;
    int timeout_ms, load_timeout_ms;

    struct slot *slots;
    size_t n_slots;
    size_t units_max;     /* of one host, as its READY says */
    struct unit **places; /* of all slots */
    struct unit *units;
    size_t n_units;
    struct unit_list free, pending, done;
    uint64_t last_seq;
    unsigned char *message; /* WIRE_MESSAGE_BYTES_MAX */
    struct pollfd *polled;  /* 2 a slot and one more */

    int deaths_in_a_row, load_failures_in_a_row;
    tidemill_error *failure; /* nothing works any more */

    bool has_backlog;
    int64_t saturated_ns;      /* since when all hosts have been busy; 0: they are not */
    double saturated_busy_s;   /* busy_s at that moment */
    int64_t last_saturated_ns; /* small gaps do not count */
    int64_t load_ns;           /* how long the first host took */
    int64_t sampled_ns;

    int hosts_started, restarts;
    double ended_cpu_s, busy_s;
    uint64_t peak_memory_bytes;
};

void unit_list_push(struct unit_list *list, struct unit *unit);
void unit_list_push_first(struct unit_list *list, struct unit *unit);
struct unit *unit_list_pop(struct unit_list *list); /* NULL: empty */

size_t hosts_count(const struct hosts *hosts, enum slot_state state);
bool slot_is_coming(const struct slot *slot); /* loading, or about to be started or restarted */

void slot_start(struct hosts *hosts, struct slot *slot, int64_t now_ns);
/* Whether hosts keep many units in the model at a time and answer in any order. */
bool hosts_take_many(const struct hosts *hosts);
/* Gives a unit to a host that is READY and has room. */
void slot_give(struct hosts *hosts, struct slot *slot, struct unit *unit, int64_t now_ns);
/* Sends what the host was given, as far as its socket has room. Never waits. */
void slot_send(struct hosts *hosts, struct slot *slot, int64_t now_ns);
/* Takes what the host has sent. */
void slot_receive(struct hosts *hosts, struct slot *slot, int64_t now_ns);
void slot_check_deadline(struct hosts *hosts, struct slot *slot, int64_t now_ns);
/* Goes on with a host that is DYING: reaps it if it is over, and deals with what it held. */
void slot_bury(struct hosts *hosts, struct slot *slot, int64_t now_ns);
/* Kills it; SLOT_DYING from now on. Takes `reason`. */
void slot_kill(struct hosts *hosts, struct slot *slot, enum death_cause cause,
               tidemill_error *reason, int64_t now_ns);
void slot_sample_memory(struct hosts *hosts, const struct slot *slot, uint64_t *ret_now);
/* What is left of a slot when the hosts end. */
void slot_close(struct slot *slot);

/* The first failure stays. Takes `error`. */
void hosts_fail(struct hosts *hosts, tidemill_error *error);

#endif
