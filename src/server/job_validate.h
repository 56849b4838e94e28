/* SPDX-License-Identifier: Apache-2.0 */
/* job_validate.h - is an uploaded file a batch? One pass over its lines. */
#ifndef TIDEMILL_SERVER_JOB_VALIDATE_H
#define TIDEMILL_SERVER_JOB_VALIDATE_H

#include "base/base.h"
#include "io/io.h"
#include "store/store.h"

#include <stdatomic.h>

#define VALIDATE_ERRORS_MAX 100 /* told; the file is read no further */

struct validate_options {
    const struct io *io;
    const char *path;
    const char *endpoint; /* each line's url; NULL: any */
    const char *model;    /* "": the first line says which */
    size_t line_bytes_max;
    bool (*is_known)(void *context, const char *model);
    void *context;
    const _Atomic int *stop; /* not 0: give up with ERROR_INTERRUPTED. NULL: never */
};

struct validation {
    uint64_t records, bytes;
    char model[STORE_NAME_BYTES];
    size_t n_errors;      /* 0: it is one */
    struct buffer errors; /* [{"code","message","param","line"},...], ended by a NUL */
};
void validation_free(struct validation *validation);

/* An error is one of reading it. Memory: 24 bytes a line for its custom_id, and the longest line. */
tidemill_error *job_validate(const struct validate_options *options, struct validation *ret);

#endif
