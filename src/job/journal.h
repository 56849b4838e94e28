/* SPDX-License-Identifier: Apache-2.0 */
/* journal.h - what survives a kill: which job this is, what was decided, what is committed. */
#ifndef TIDEMILL_JOB_JOURNAL_H
#define TIDEMILL_JOB_JOURNAL_H

#include "format/source.h"
#include "io/io.h"
#include "job/job.h"
#include "plan/plan.h"

/* One named part of a job's identity; the value is a digest or a text. */
struct identity_part {
    char *name; /* "model digits.onnx", "input a.jsonl", "option --post" */
    char *value;
};

struct identity {
    struct identity_part *parts;
    size_t n;
};

tidemill_error *identity_add(struct identity *identity, const char *value, const char *name_format,
                             ...) __attribute__((format(printf, 3, 4)));
void identity_free(struct identity *identity);
/* NULL when equal; else ERROR_CHANGED naming the first part that differs. */
tidemill_error *identity_compare(const struct identity *begun, const struct identity *now);

/* Where a choice came from. */
enum tuned_from { TUNED_USUAL, TUNED_GIVEN, TUNED_MEASURED, TUNED_REMEMBERED };

const char *tuned_from_name(enum tuned_from from);

/* Decided once a job and kept, so that microbatch boundaries never depend on when it was killed. */
struct journal_plan {
    bool is_set;
    struct plan_limits limits;
    enum tuned_from batch_from, parallel_from;
    int instances, threads;    /* model processes and the threads of each; 0: not told */
    bool is_deduped;           /* equal inputs run once */
    struct digest first_chunk; /* of the raw bytes of the input's first chunk */
    const char *decoder;       /* what was decided on fields: decoder_description. May be NULL */
};

/* A point up to which every record is in the output or in the error sink. */
struct journal_commit {
    struct job_counts counts;
    struct source_position chunk; /* the chunk that holds the next record */
    uint64_t done_in_chunk;       /* records of that chunk that are done */
    struct spool_position output, errors;
    double wall_s, cpu_s; /* of all runs so far */
};

/* What all runs took together. */
struct journal_bill {
    struct token_usage tokens, lost;
    double wall_s, cpu_s;
};

struct journal_final {
    bool is_set;       /* output and errors are complete under their temporary names */
    bool is_published; /* ... and were renamed */
    uint64_t output_bytes, errors_bytes;
};

/* What reading a journal tells. Strings and tails are malloc'ed: journal_state_free. */
struct journal_state {
    bool exists;
    struct identity identity;
    struct journal_plan plan;
    struct journal_commit commit; /* all zero: nothing yet, but tokens that were paid for */
    bool has_commit;
    struct journal_final final;
    struct journal_bill final_bill; /* at `final`: without a commit behind it */
    uint32_t starts_without_commit; /* runs that ended before they committed anything */
    uint64_t
        *deadly; /* records in which careful runs died, one entry a death; not committed since */
    size_t n_deadly;
    uint64_t attempt; /* while reading: the last attempt of the run */
    bool has_attempt;
    struct token_usage paid;                          /* while reading: by the run so far */
    uint64_t valid_bytes;                             /* what is behind is a torn frame */
    struct buffer first_line, plan_line, commit_line; /* as they stand in the file */
};

/* ERROR_CORRUPT when a frame fails its checksum and one that was synced follows, or an unknown
 * version. */
tidemill_error *journal_read(const struct io *io, const char *path, struct journal_state *ret);
void journal_state_free(struct journal_state *state);

struct journal;
/* Opens for appending; cuts off a torn frame. `state` from journal_read: continue; NULL: begin anew
 * with this identity (written and synced at once). */
tidemill_error *journal_open(const struct io *io, const char *path,
                             const struct journal_state *state, const struct identity *identity,
                             struct journal **ret);
void journal_close(struct journal *journal);

/* Each appends one frame; all but attempts and what was paid are synced. On error nothing more may be
 * appended. */
tidemill_error *journal_append_start(struct journal *journal);
tidemill_error *journal_append_plan(struct journal *journal, const struct journal_plan *plan);
tidemill_error *journal_append_attempt(struct journal *journal, uint64_t record_index);
/* `tokens`: of all runs together, as a commit would have them now. */
tidemill_error *journal_append_paid(struct journal *journal, const struct token_usage *tokens);
tidemill_error *journal_append_commit(struct journal *journal, const struct journal_commit *commit);
tidemill_error *journal_append_final(struct journal *journal, const struct journal_final *final);

#endif
