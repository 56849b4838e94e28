/* SPDX-License-Identifier: Apache-2.0 */
/* sink_directory.c - a file for each window: TO/WINDOW.jsonl, complete when it is there. Sending it again
 * replaces it with the same bytes. */
#include "server/delivery_parts.h"

#include <stdio.h>
#include <stdlib.h>

#define COPY_BYTES ((size_t)256 << 10)

static tidemill_error *copy(struct spool *spool, struct reader *reader)
{
    char *data = malloc(COPY_BYTES);
    tidemill_error *error = data == NULL ? error_memory() : NULL;
    for (size_t n = 1; error == NULL && n > 0;) {
        error = reader_read(reader, data, COPY_BYTES, &n);
        if (error == NULL) error = spool_append(spool, data, n);
    }
    free(data);
    return error;
}

static tidemill_error *copy_to(const struct io *io, const char *from, const char *to)
{
    struct reader *reader;
    struct spool *spool = NULL;
    uint64_t bytes;
    TRY(reader_open(io, from, COMPRESSION_NONE, &reader));
    tidemill_error *error = spool_open(io, to, COMPRESSION_NONE, NULL, &spool);
    if (error == NULL) error = copy(spool, reader);
    if (error == NULL) error = spool_finish(spool, &bytes);
    spool_close(spool);
    reader_close(reader);
    return error;
}

tidemill_error *sink_directory(const struct sink_source *source, const char *to)
{
    const struct io *io = source->app->io;
    char *final = NULL, *partial = NULL;
    TRY(io_make_directory(io, to, 0755));
    int size = asprintf(&final, "%s/%s.jsonl", to, source->job->id);
    if (size >= 0) size = asprintf(&partial, "%s/.%s.partial", to, source->job->id);
    if (size < 0) {
        free(final);
        return error_memory();
    }
    tidemill_error *error = copy_to(io, source->path, partial);
    if (error == NULL) error = io_publish(io, partial, final);
    free(partial);
    free(final);
    return error;
}
