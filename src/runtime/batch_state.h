/* SPDX-License-Identifier: Apache-2.0 */
/* batch_state.h - the file that keeps a killed job from paying for its batches twice.
 *
 * A line a fact, each synced before what it speaks of happens or is relied on:
 *
 *     <checksum> <JSON>\n     checksum: XXH3-64 of the JSON text, 16 hexadecimal digits
 *
 *     {"type":"batch","tag":T,"server":S,"after":ID,"indices":[...],"digests":"32 digits each ..."}
 *                                          before the batch is created: what will be in it
 *     {"type":"id","tag":T,"id":ID}        it was created
 *     {"type":"gone","tag":T}              nothing is to be had from it
 *     {"type":"lost","tag":T}              it was looked for and is not there; it may still show up
 *     {"type":"lost","tag":T,"again":U}    the same; from now on another one, U, stands for what it asks
 *     {"type":"found","tag":T}             one that was lost did show up, and was dealt with
 *
 * A torn line at the end is cut off: what it would have said had not happened yet. One writer: the job's
 * lock sees to that. */
#ifndef TIDEMILL_RUNTIME_BATCH_STATE_H
#define TIDEMILL_RUNTIME_BATCH_STATE_H

#include "io/io.h"
#include "runtime/batch_results.h"

/* A request: the record's number and what was asked. */
struct batch_unit_key {
    uint64_t index;
    struct digest digest;
};

/* Where in `keys`, ascending by index, the request with this number is; SIZE_MAX: it is not there. */
size_t batch_unit_find(const struct batch_unit_key *keys, size_t n, uint64_t index);

/* A batch of an earlier run. */
struct batch_past {
    char tag[BATCH_TAG_BYTES];
    char *server; /* where it was made */
    char *after;  /* the newest batch there before this one; "": none, or not needed */
    char *id;     /* NULL: it may have been created, or not */
    bool is_gone;
    struct batch_unit_key *keys; /* ascending by index */
    size_t n_keys;
};

/* One that may have been created, was not found, and was asked for again. */
struct batch_lost {
    char tag[BATCH_TAG_BYTES];
    char *server;
};

struct batch_state {
    const struct io *io;
    char *path; /* NULL: nothing is kept */
    int fd;
    struct batch_past *past; /* oldest first */
    size_t n_past;
    struct batch_lost *lost; /* also those of this run, and where nothing is kept */
    size_t n_lost;
};

/* Reads what is there. `path` NULL: a state that keeps nothing. A missing file is an empty one; it is opened,
 * or made, with the first note. ERROR_IO, ERROR_NO_SPACE; ERROR_CORRUPT: a line in the middle fails its checksum. */
tidemill_error *batch_state_open(const struct io *io, const char *path, struct batch_state *ret);
void batch_state_close(struct batch_state *state); /* all zero is fine */

tidemill_error *batch_state_note(struct batch_state *state, const char *tag, const char *server,
                                 const char *after, const struct batch_unit_key *keys,
                                 size_t n_keys);
tidemill_error *batch_state_note_id(struct batch_state *state, const char *tag, const char *id);
tidemill_error *batch_state_note_gone(struct batch_state *state, const char *tag);
/* `again`: the tag of what takes its place, or NULL. */
tidemill_error *batch_state_note_lost(struct batch_state *state, const char *tag,
                                      const char *server, const char *again);
tidemill_error *batch_state_note_found(struct batch_state *state, const char *tag);

/* The job has taken the file away: nothing is kept from now on. */
void batch_state_end_file(struct batch_state *state);

/* Whether the batch asked just this. */
bool batch_past_has(const struct batch_past *past, const struct batch_unit_key *key);
bool batch_past_has_index(const struct batch_past *past, uint64_t index);

#endif
