/* SPDX-License-Identifier: Apache-2.0 */
/* reuse.h - equal inputs run once: a record takes its answer from an earlier one of the job, from one
 * that is on its way, or from the cache that jobs share.
 *
 *   worker       decodes a record, makes its key, asks the cache
 *   coordinator  admits a chunk: each record is new, or follows one that is awaited, or is answered
 *   coordinator  settles a record that is finished: its followers take over what came of it
 *
 * A key covers the record's input as the model gets it (the text, or each tensor's shape and bytes);
 * equal keys are taken for equal inputs (128 bits of BLAKE2b). A request whose answer is drawn
 * (prompt.h) is equal to itself alone, unless --dedup on says otherwise: it has a key so that a job
 * that goes on after a kill knows its answer. */
#ifndef TIDEMILL_JOB_REUSE_H
#define TIDEMILL_JOB_REUSE_H

#include "job/answers.h"
#include "job/journal.h"
#include "job/pipeline.h"

struct cache;

struct reuse {
    struct answers *answers;
    struct cache *cache;  /* NULL: none */
    bool is_cache_broken; /* the writer's: said once, then not tried again */
    struct digest domain; /* of the model and all that shapes an answer */
    bool is_collapsing;   /* also requests whose answers are drawn */
    size_t n_inputs;
    const struct encoder *encoder;
    struct buffer found, line; /* the coordinator's */
};

/* What a job's reuse is made of; all borrowed. */
struct reuse_config {
    const struct io *io;
    const struct job_spec *spec;
    const struct identity *identity;
    const struct encoder *encoder;
    enum format output_format;
    const char *runtime; /* the library and its version */
    size_t n_inputs;
};

/* Opens the cache, if one is asked for. */
tidemill_error *reuse_open(const struct reuse_config *config, struct reuse **ret);
/* Then, once the job has begun, the file of answers beside the output. `is_resumed`: with what an
 * earlier run left in it. */
tidemill_error *reuse_open_answers(struct reuse *reuse, const struct reuse_config *config,
                                   bool is_resumed);
void reuse_free(struct reuse *reuse); /* what it points to as well, the encoder excepted */

/* Gives the record its key and looks it up in the cache. From a worker, before text becomes tokens.
 * False: its input is not needed, since an earlier record or the cache has its answer. */
bool reuse_look(const struct reuse *reuse, struct chunk *chunk, uint32_t index);

/* Decides for each record of a decoded chunk whether it runs. The first `n_done` were written by an
 * earlier run. Chunks come in input order. */
tidemill_error *reuse_admit(struct reuse *reuse, struct chunk *chunk, size_t n_done);

/* Record `index` is answered or failed: notes that, and answers whoever has the same input. */
tidemill_error *reuse_settle(struct reuse *reuse, struct chunk *chunk, uint32_t index);

/* Puts the model's answers among records [from, to), which are written, into the cache. The writer's.
 * A cache that fails is said once and done without; errors are those of the file of answers. */
tidemill_error *reuse_share(struct reuse *reuse, const struct chunk *chunk, size_t from, size_t to);

#endif
