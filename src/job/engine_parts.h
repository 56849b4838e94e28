/* SPDX-License-Identifier: Apache-2.0 */
/* engine_parts.h - the coordinator's state, as engine.c and engine_admit.c share it; nobody else's. */
#ifndef TIDEMILL_JOB_ENGINE_PARTS_H
#define TIDEMILL_JOB_ENGINE_PARTS_H

#include "job/engine.h"

#include <pthread.h>

struct engine {
    struct engine_config config;
    const struct model_signature *signature;

    struct queue *free_chunks, *decoded, *encoded, *pieces;
    struct workers *workers;
    pthread_t reader, writer;
    bool has_reader, has_writer;

    /* reader's, read by the coordinator once the thread says so */
    pthread_mutex_t mutex;
    tidemill_error *reader_error, *writer_error;
    bool is_reader_done;
    uint64_t n_chunks; /* in all, when the reader is done */

    /* coordinator's */
    struct chunk *waiting;       /* decoded out of turn, by number */
    struct chunk *first, **last; /* planned, in input order, not wholly released */
    struct microbatch *ready, **ready_last;
    struct slot *free_slots;
    struct decode_scratch *scratch; /* NULL until it is needed */
    uint64_t next_chunk_number;
    size_t n_in_flight, n_encoding;
    bool is_stopping;
    double stop_s;
    double started_s, observed_s;
    uint64_t n_left_behind; /* records of this run's chunks that were all released */
    double rate_rows_s;
    double rate_tokens_s;
    uint64_t rate_records, rate_tokens;
    double rate_s;
    double share_read, share_start;
};

void engine_fail_record(struct chunk *chunk, struct chunk_record *record, enum error_code code,
                        const char *message);
/* Nothing more will happen to the record; who waits for its answer gets it. */
tidemill_error *engine_finish_record(struct engine *engine, struct chunk *chunk, uint32_t index);

/* Plans the chunks that have been decoded. They come in any order and are admitted in the input's. */
tidemill_error *engine_take_decoded(struct engine *engine);

#endif
