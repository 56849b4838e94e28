/* SPDX-License-Identifier: Apache-2.0 */
/* job_index.h - where in a window's output and error file its records stand. Made by one pass over the
 * files when somebody asks, in memory, and lengthened as a running job commits: nothing on the disk that
 * could be wrong.
 *
 * Both files are in input order and each record is in one of them. An error line begins {"id":LINE, so one
 * that names a later record says that those before are in the output. Every INDEX_STEP records the place
 * in both files is kept; what is between is read. */
#ifndef TIDEMILL_SERVER_JOB_INDEX_H
#define TIDEMILL_SERVER_JOB_INDEX_H

#include "io/io.h"
#include "store/store.h"

#include <pthread.h>

#define INDEX_STEP 256
#define INDEXES_KEPT 32 /* jobs asked for lately */

struct index_place {
    uint64_t output, errors; /* bytes before the record in each file */
};

struct index_files {
    const char *output, *errors; /* paths; NULL: there is none */
    uint64_t output_bytes, errors_bytes;
};

struct job_index {
    char id[STORE_ID_BYTES];
    char made_of[STORE_ID_BYTES]; /* the output's id; "" of a running job */
    uint64_t used;                /* 0: free */
    struct index_place *places;
    size_t n_places, capacity;
    uint64_t records;       /* so far */
    struct index_place end; /* of these */
};

struct job_indexes {
    pthread_mutex_t mutex;
    struct job_index items[INDEXES_KEPT];
    uint64_t clock;
};

void job_indexes_init(struct job_indexes *indexes);
void job_indexes_free(struct job_indexes *indexes);
void job_indexes_forget(struct job_indexes *indexes, const char *id);

/* The line of record `n` (from 0), without its newline. *ret_found false: it is in neither file yet. */
tidemill_error *job_indexes_find(struct job_indexes *indexes, const struct io *io, const char *id,
                                 const char *made_of, const struct index_files *files, uint64_t n,
                                 struct buffer *line, bool *ret_is_error, bool *ret_found);

#endif
