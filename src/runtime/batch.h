/* SPDX-License-Identifier: Apache-2.0 */
/* batch.h - the parts of runtime_batch: units that wait for answers, and batches that hold them.
 *
 *     COLLECTING -> [CURSOR] -> [UPLOADING] -> CREATING -> POLLING -> DOWNLOADING -> READING -> CLEANING -> IDLE
 *                                              |   ^      |   ^
 *                                              v   |      v   |
 *                                             FINDING   CANCELLING
 *
 * batch_run.c takes a batch from one stage to the next, batch_ask.c makes the stage's request, batch_trouble.c
 * knows what follows a refusal; batch_upload.c makes what is sent, batch_download.c reads what came. What a batch
 * asks stands in the state file before it is created (batch_state.h), so that a killed job finds it again: a batch
 * of an earlier run is IDLE until the engine submits what it holds.
 *
 * One that may have been created and is in no list is lost: its requests are asked for again, and a batch of
 * its own, which holds nothing, looks for it from then on (batch_lost.c):
 *
 *     WATCHING <-> DOOMING
 *
 *
 * A unit is in one place: free, in a batch, among those that have ended, or with the live runtime. */
#ifndef TIDEMILL_RUNTIME_BATCH_H
#define TIDEMILL_RUNTIME_BATCH_H

#include "runtime/batch_api.h"
#include "runtime/batch_state.h"
#include "runtime/batch_transfer.h"
#include "runtime/impl.h"

#define BATCH_UNITS_MAX 50000                     /* OpenAI's limit; Anthropic's is twice that */
#define BATCH_BYTES_MAX ((uint64_t)200 * 1000000) /* the same, of a file */

struct batch_unit {
    struct batch_unit *next; /* in a list of one place */
    uint64_t id;             /* the caller's */
    struct batch_unit_key key;
    struct work_input
        inputs[2]; /* body and url; they stay where they are until it is handed back */
    size_t output_offset, output_capacity;
    uint64_t line_bytes; /* in a batch, all that separates lines included */
    const char *url;     /* one of batch_runtime.urls */
    int tries;           /* that came to nothing */
    char *message;       /* of one that has ended without an answer */
    enum error_code code;
};

struct batch_unit_list {
    struct batch_unit *first, *last;
    size_t n;
};

void batch_unit_push(struct batch_unit_list *list, struct batch_unit *unit);
struct batch_unit *batch_unit_pop(struct batch_unit_list *list); /* NULL: empty */

/* A unit's line in the file of results. */
struct batch_place {
    uint64_t offset, size; /* size 0: there is none */
};

enum batch_stage {
    BATCH_IDLE,
    BATCH_COLLECTING,
    BATCH_CURSOR, /* Anthropic: which batch is the newest before ours? */
    BATCH_UPLOADING,
    BATCH_CREATING,
    BATCH_FINDING, /* was it created? */
    BATCH_POLLING,
    BATCH_CANCELLING,
    BATCH_DOWNLOADING,
    BATCH_READING,
    BATCH_CLEANING, /* what the server need not keep any more */
    BATCH_WATCHING, /* do those that were lost show up? */
    BATCH_DOOMING,  /* one did: it is cancelled */
};

struct batch {
    struct batch *next;
    enum batch_stage stage;
    int n_missing; /* polls in a row that did not find it */
    char tag[BATCH_TAG_BYTES];
    struct batch_past *past; /* NULL: of this run */
    const char *url;

    /* what waits for it; the first n_sorted are sorted, and keys[i] is the key of units[i] */
    struct batch_unit **units; /* NULL: answered */
    struct batch_unit_key *keys;
    size_t n_units, n_sorted, capacity, n_waiting;
    uint64_t bytes;
    bool is_full; /* of bytes */
    bool is_second_look;

    /* what the server knows it by */
    char *after, *id, *input_file;
    int n_cleaned;       /* of files that were to be deleted */
    bool is_all_cleaned; /* the results too */
    struct batch_object object;
    bool is_cancelled;
    char *page; /* of a list, when there was one before */
    int n_pages;
    int64_t looking_since_ns; /* FINDING: since it was not there first; 0: it was not looked for */
    size_t doomed;            /* DOOMING: which of those that are lost */

    /* the request under way, and when there may be another */
    struct transfer transfer;
    int64_t due_ns, interval_ns;
    int64_t failing_since_ns; /* 0: it gets on */

    /* of an upload */
    struct {
        struct transfer_source source;
        struct buffer line;
        size_t line_at, next;
    } upload;
    /* of results */
    int fd, part;
    uint64_t part_start, read_offset;
    struct buffer window;
    size_t window_at;
    struct batch_place *places; /* n_sorted of them; NULL: lines are still to be found */
    size_t next_place;
    bool is_skipping; /* a line that is too long */
    uint64_t n_strange, n_twice;
};

struct batch_runtime {
    struct runtime base;
    const struct shared_region *region;
    struct runtime_options options; /* borrowed strings */
    const struct io *io;
    struct batch_api api;
    struct http_common *common;
    CURLM *multi;
    struct batch_state state;
    struct batch *batches; /* newest first */
    char **urls;
    size_t n_urls;

    struct batch_unit *units;
    struct batch_unit_list free, ended, stragglers;
    size_t units_max; /* in one batch: less after a server refused one as a whole */
    bool has_backlog, is_used;
    int64_t opened_ns, submitted_ns;

    struct runtime *live; /* NULL until the deadline comes near */
    char *live_model;     /* its address, where that is not ours */
    size_t n_live;
    struct buffer body, text; /* scratch */
};

/* --- units (batch_units.c) ----------------------------------------------------------------------------------- */

/* Text `i` of a unit's record, in the region: 0 is the body, 1 its url or empty. */
struct slice batch_unit_text(const struct batch_runtime *runtime, const struct batch_unit *unit,
                             size_t i);
/* A unit that got no answer: into another batch, or to the live runtime, or, tried often enough, back
 * with `message`. */
tidemill_error *batch_unit_again(struct batch_runtime *runtime, struct batch_unit *unit,
                                 const char *message);
tidemill_error *batch_unit_fail(struct batch_runtime *runtime, struct batch_unit *unit,
                                enum error_code code, const char *message);
tidemill_error *batch_collect(struct batch_runtime *runtime, struct batch_unit *unit);
tidemill_error *batch_attach(struct batch *batch, struct batch_unit *unit);

void batch_make_tag(const struct batch_runtime *runtime, char tag[BATCH_TAG_BYTES]);
/* A new one, first in the list. */
tidemill_error *batch_add(struct batch_runtime *runtime, struct batch **ret);

/* Nothing was submitted for a while, and no more is to come now. */
bool batch_is_settled(const struct batch_runtime *runtime);

/* --- the deadline (batch_live.c) --------------------------------------------------------------------------- */

/* 85 % of --deadline are over: no more batches. 95 %: none is waited for. */
bool batch_is_late(const struct batch_runtime *runtime);
bool batch_is_over(const struct batch_runtime *runtime);

#define BATCH_ANTHROPIC_VERSION "anthropic-version: 2023-06-01"
bool batch_has_version_header(const struct http_options *options); /* the user's own */

/* Gives stragglers to the live runtime as far as it has room. */
tidemill_error *batch_submit_stragglers(struct batch_runtime *runtime);
/* Adds what it answered behind done[*ret_n]. */
tidemill_error *batch_poll_live(struct batch_runtime *runtime, int timeout_ms, int wake_fd,
                                struct runtime_done *done, size_t capacity, size_t *ret_n);

/* --- stages (batch_run.c) --------------------------------------------------------------------------------- */

/* Starts what is due. */
tidemill_error *batch_attend(struct batch_runtime *runtime, struct batch *batch, int64_t now_ns);
/* After its request ended with `code`. */
tidemill_error *batch_answered(struct batch_runtime *runtime, struct batch *batch, CURLcode code);
/* After all its results were read: what they lack is asked for again. */
tidemill_error *batch_read_through(struct batch_runtime *runtime, struct batch *batch);
/* The job is over and nobody needs the results any more: deletes them, for a few seconds. */
void batch_clean_up(struct batch_runtime *runtime);
void batch_free(struct batch_runtime *runtime, struct batch *batch);

void batch_enter(struct batch *batch, enum batch_stage stage);
/* Until the next request: longer each time, or as long as the server says. */
void batch_pause(struct batch *batch);
const char *batch_name(const struct batch *batch); /* for the log */

/* --- requests (batch_ask.c) -------------------------------------------------------------------------------- */

/* Starts the request that the stage makes, if it makes one. */
tidemill_error *batch_ask(struct batch_runtime *runtime, struct batch *batch);

/* --- trouble (batch_trouble.c) ------------------------------------------------------------------------------ */

/* All units that wait go elsewhere; `message` NULL: that was no failure of theirs. */
tidemill_error *batch_dissolve(struct batch_runtime *runtime, struct batch *batch,
                               const char *message);
/* Nothing is to be had from it any more: also for later runs. */
tidemill_error *batch_forget(struct batch_runtime *runtime, struct batch *batch);
/* Its validation failed. */
tidemill_error *batch_take_failure(struct batch_runtime *runtime, struct batch *batch);
/* A 2xx that says nothing that we understand: as if the request had failed. */
tidemill_error *batch_take_nonsense(struct batch_runtime *runtime, struct batch *batch);
/* A request failed for a reason that may pass; or that will not. */
tidemill_error *batch_take_trouble(struct batch_runtime *runtime, struct batch *batch);
tidemill_error *batch_take_refusal(struct batch_runtime *runtime, struct batch *batch);

/* --- what was lost (batch_lost.c) ---------------------------------------------------------------------------- */

/* The server's list of batches does not have it: looks again, for long enough, then gives it up. */
tidemill_error *batch_take_absence(struct batch_runtime *runtime, struct batch *batch);
/* No more looks: its requests are asked for again. */
tidemill_error *batch_give_up(struct batch_runtime *runtime, struct batch *batch);
/* From now on those that are lost are looked for. */
tidemill_error *batch_watch(struct batch_runtime *runtime);
bool batch_is_watch(const struct batch *batch);
/* Its request ended. */
tidemill_error *batch_take_watch(struct batch_runtime *runtime, struct batch *watch);

/* --- what is sent (batch_upload.c) ------------------------------------------------------------------------ */

/* Bytes of the unit's request in a batch, and its digest. ERROR_OK, or a record's error. */
enum error_code batch_measure(struct batch_runtime *runtime, struct batch_unit *unit,
                              char message[512]);
/* Makes the source of an upload, of units that are sorted. */
tidemill_error *batch_upload_begin(struct batch_runtime *runtime, struct batch *batch);
tidemill_error *batch_sort(struct batch *batch); /* also forgets answered ones */

/* --- what came (batch_download.c) --------------------------------------------------------------------------- */

tidemill_error *batch_download_begin(struct batch_runtime *runtime, struct batch *batch);
/* Up to `capacity` answers from the file. *ret_is_over: all was read. */
tidemill_error *batch_read(struct batch_runtime *runtime, struct batch *batch,
                           struct runtime_done *done, size_t capacity, size_t *ret_n,
                           bool *ret_is_over);

#endif
