/* SPDX-License-Identifier: Apache-2.0 */
/* engine.h - the loop that takes records through the model: everything between an opened source and
 * a sink. job/run.c builds one, runs it, and deals with what came of it. */
#ifndef TIDEMILL_JOB_ENGINE_H
#define TIDEMILL_JOB_ENGINE_H

#include "job/duplicates.h"
#include "job/pipeline.h"
#include "job/reuse.h"
#include "job/sink.h"

/* What went through the model in this run. */
struct engine_work {
    uint64_t rows;
    uint64_t tokens, padded_tokens;             /* 0 where nothing is padded */
    uint64_t prompt_bytes, prompt_bytes_shared; /* 0 where prompts are not put in order */
};

struct engine_config {
    const struct job_spec *spec;
    const struct job_observer *observer; /* may be NULL */
    struct job_stop *stop;
    struct source *source;      /* the reader thread's while the engine runs */
    struct chunk *first_chunk;  /* already read and decoded, or NULL */
    struct chunk **free_chunks; /* the others */
    size_t n_free_chunks;
    size_t skip_in_first_chunk; /* records of it that an earlier run has done */
    uint64_t first_chunk_number;
    const struct shared_region *region;
    struct slot *slots; /* list */
    size_t n_slots;
    const struct decoder *decoder;
    const struct encoder *encoder;
    struct runtime *runtime;
    struct sink *sink;
    struct id_set *ids;  /* NULL: duplicates are allowed */
    struct reuse *reuse; /* NULL: every record runs */
    struct plan_limits limits;
    struct engine_work *work; /* counted as it goes */
    int n_workers;
    bool is_careful;        /* earlier runs died without progress: one record at a time */
    const uint64_t *deadly; /* careful: records in which runs died, one entry a death */
    size_t n_deadly;
};

/* Runs until the input's end or a stop. NULL: every record was written (not yet published). */
tidemill_error *engine_run(const struct engine_config *config);

#endif
