/* SPDX-License-Identifier: Apache-2.0 */
/* answers.h - what was answered already, by the key of the input: equal inputs run once a job.
 *
 * An index in memory of a fixed size at most, and a file beside the output that holds the answers.
 * The file is what makes a resumed job plan as it did before: it knows which record was the first with
 * its input, and what was answered in chunks that were not yet written out. Every frame has a
 * checksum; what is torn is cut off.
 *
 * Entries are made when records are admitted, in input order, and never go: so what is in the index
 * is a function of the input alone. When it is full, inputs that are new are not remembered.
 *
 * Thread-safe: workers peek, the coordinator does the rest, the writer syncs. */
#ifndef TIDEMILL_JOB_ANSWERS_H
#define TIDEMILL_JOB_ANSWERS_H

#include "io/io.h"

struct answers;

enum answer_kind {
    ANSWER_OF_MODEL, /* the record ran; the answer is the part of its line behind the head */
    ANSWER_OF_CACHE, /* the same, from another job */
    ANSWER_FAILED,   /* the record failed; the answer is the message */
};

struct answer_info {
    uint64_t first_index; /* of the record in the job */
    enum answer_kind kind;
    enum error_code code; /* with ANSWER_FAILED */
    struct slice bytes;   /* borrowed; from answers_find: lies in the caller's buffer */
};

/* `path` NULL: an unnamed file, for a job that cannot be resumed. `is_resumed`: takes over what is in
 * the file; ret_n_known says how many. `memory_bytes` bounds the index. */
tidemill_error *answers_open(const struct io *io, const char *path, uint64_t memory_bytes,
                             bool is_resumed, struct answers **ret, uint64_t *ret_n_known);
void answers_close(struct answers *answers); /* NULL is fine; the file stays */

/* Whether a record before `index` is known to have this key. From any thread. */
bool answers_peek(struct answers *answers, struct digest key, uint64_t index);

enum answer_state {
    ANSWER_NEW,     /* nobody had this input */
    ANSWER_AWAITED, /* a record with it is on its way: *ret_owner */
    ANSWER_KNOWN,   /* *ret_info */
};
/* `scratch` takes the answer's bytes. ERROR_IO, ERROR_CORRUPT when the file cannot be read back. */
tidemill_error *answers_find(struct answers *answers, struct digest key, struct buffer *scratch,
                             enum answer_state *ret_state, const struct digest **ret_owner,
                             struct answer_info *ret_info);
/* A key that was new; whoever keeps it at `owner` will settle it. False: the index is full. */
bool answers_expect(struct answers *answers, const struct digest *owner);
/* The answer that was awaited; without an entry, nothing happens. */
tidemill_error *answers_settle(struct answers *answers, struct digest key,
                               const struct answer_info *info);
/* Everything settled so far survives a kill; with `is_synced` also power loss. */
tidemill_error *answers_flush(struct answers *answers, bool is_synced);

#endif
