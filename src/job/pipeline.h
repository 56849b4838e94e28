/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline.h - what moves through a running job: chunks and microbatches, and who owns them when.
 *
 *   reader thread   fills a free chunk                                   -> workers
 *   worker threads  decode its records into shared memory                -> coordinator
 *   coordinator     plans, submits microbatches, polls the model hosts   -> workers
 *   worker threads  encode a microbatch's answers into bytes             -> coordinator
 *   coordinator     hands finished records on, in input order            -> writer
 *   writer thread   appends, commits, gives the chunk back               -> reader
 *
 * A chunk or microbatch has one owner at a time; it changes hands through a queue. The number of
 * chunks and slots is fixed at the start, and everything else hangs on them: that is what bounds
 * memory. */
#ifndef TIDEMILL_JOB_PIPELINE_H
#define TIDEMILL_JOB_PIPELINE_H

#include "format/format.h"
#include "job/job.h"
#include "job/padding.h"
#include "job/prompts.h"
#include "plan/plan.h"
#include "runtime/runtime.h"

struct microbatch;

/* Moved by whoever owns the record's microbatch; others look at is_finished alone. */
enum record_state {
    RECORD_PENDING,  /* not answered yet */
    RECORD_ANSWERED, /* `text` is its output */
    RECORD_FAILED,   /* decoded.error and decoded.message say why */
    RECORD_SKIPPED,  /* written by an earlier run; in a microbatch only for the others' sake */
};

/* Where an answer came from. */
enum answer_origin { ORIGIN_MODEL, ORIGIN_EQUAL /* a record with the same input */, ORIGIN_CACHE };

/* A record that waits for the answer of another one with the same input. */
struct follower {
    struct chunk *chunk;
    uint32_t index;
    struct follower *next;
};

struct chunk_record {
    struct record decoded;
    enum record_state state;
    bool is_finished; /* the coordinator's: nothing more will happen to it */
    const char *text; /* its line: in its microbatch's `out`, or in the chunk's arena */
    size_t size;
    size_t head_size;        /* of it; what is behind is the answer */
    struct buffer *own_text; /* where `text` lies alone; NULL: with others' */
    struct prompt prompt;    /* where the job reads prompts */

    /* only in jobs that run equal inputs once (reuse.h) */
    struct digest key;
    bool has_key;
    bool is_key_own; /* no other record can have it, be its input the same: the answer is drawn */
    bool is_awaited; /* others may take over what comes of it */
    bool is_copy;    /* not in the plan: its answer is another record's, or the cache's */
    bool was_run;    /* an earlier run brought its answer, which was not written out yet */
    enum answer_origin origin;
    struct slice cached; /* found in the cache, in the chunk's arena; data NULL: not */
    struct follower *followers;
};

struct chunk {
    struct raw_chunk raw;
    struct chunk_record *records; /* raw.n_records of them */
    size_t records_capacity;
    struct arena arena; /* what decoding and planning allocate */
    struct tensor_area area;
    size_t area_offset;                /* of area.base in the shared region */
    const struct padding *padding;     /* the job's; borrowed */
    const struct prompting *prompting; /* the job's; borrowed; NULL: none */
    uint64_t number;                   /* 0, 1, ... in input order */
    tidemill_error *error;             /* decoding it failed as a whole: out of memory */
    double share_read; /* of the input when this chunk had been read; negative: not known */

    /* the coordinator's */
    struct plan plan;
    uint64_t prompt_bytes, prompt_bytes_shared; /* of its plan; the latter with the prompt before */
    struct microbatch *microbatches;            /* all of them, to be freed with the chunk */
    size_t n_finished_prefix;                   /* records [0, this) are finished */
    size_t n_released;                          /* records [0, this) went to the writer */
    struct chunk *next;                         /* in input order */
};

/* Shared memory for one microbatch in flight. */
struct slot {
    size_t gather_offset, gather_capacity; /* for rows that do not lie side by side */
    size_t output_offset, output_capacity;
    struct slot *next;
};

struct microbatch {
    struct chunk *chunk;
    const uint32_t *rows; /* indices in the chunk */
    uint32_t n_rows;
    struct slot *slot;
    struct value *values; /* the answer; borrowed data lies in the slot */
    size_t n_values;
    enum error_code code; /* of the whole microbatch, when the answer could not be used */
    const char *message;
    struct buffer out;  /* encoded answers */
    struct arena arena; /* messages of rows that failed */
    struct microbatch *next_in_chunk, *next_ready, *next_task;
};

/* Records [from, to) of a chunk, finished, for the writer. */
struct piece {
    struct chunk *chunk;
    size_t from, to;
    bool is_chunk_done; /* the chunk goes back to the reader after this */
};

/* `padding` is borrowed; it need not be filled yet. */
tidemill_error *chunk_new(const struct shared_region *region, size_t offset, size_t size,
                          size_t n_inputs, const struct padding *padding, struct chunk **ret);
/* Makes it ready to be filled again; gives large shared memory back to the system. */
void chunk_recycle(struct chunk *chunk, const struct shared_region *region);
void chunk_free(struct chunk *chunk);
/* Gives back what the lines of records [from, to) took, once they are written: a chunk of prompts may have
 * long answers. */
void chunk_forget_lines(struct chunk *chunk, size_t from, size_t to);
struct reuse;
/* All records into tensors; failures are marked in the records. `reuse` (may be NULL) gives keys, and
 * what the cache has; text whose answer is there stays text. */
tidemill_error *chunk_decode(struct chunk *chunk, const struct decoder *decoder,
                             struct decode_scratch *scratch, const struct reuse *reuse);
/* The rows that can be run, for the planner; they lie in the chunk's arena. */
tidemill_error *chunk_rows(struct chunk *chunk, const struct model_signature *signature,
                           struct plan_row **ret_rows, size_t *ret_n);
/* The rows that can be run, planned into microbatches (linked in order at chunk->microbatches). */
tidemill_error *chunk_plan(struct chunk *chunk, const struct model_signature *signature,
                           const struct plan_limits *limits);

/* `rows` of `chunk` as tensors for one call: in place where they lie side by side and are of one
 * length, else copied into the slot, shorter ones padded. Fills n_inputs entries of `inputs`.
 * `rows_padded` >= n_rows repeats the last row. */
/* Length of a decoded record along the padded dimension; 0 where nothing is padded. */
uint32_t record_length(const struct record *record, const struct padding *padding);
tidemill_error *microbatch_inputs(const struct microbatch *microbatch,
                                  const struct model_signature *signature,
                                  const struct shared_region *region, uint32_t rows_padded,
                                  struct work_input *inputs);
/* Encodes the answers of microbatch->values: records become ANSWERED or FAILED. Sets
 * microbatch->code when the values do not fit the rows; then the records are left as they were. */
void microbatch_encode(struct microbatch *microbatch, const struct encoder *encoder,
                       struct encode_scratch *scratch);
/* Gives large answers' pages back to the system, once they are encoded. */
void microbatch_trim(const struct microbatch *microbatch, const struct shared_region *region);

#endif
