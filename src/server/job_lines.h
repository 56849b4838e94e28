/* SPDX-License-Identifier: Apache-2.0 */
/* job_lines.h - a JSONL file record by record, cut as the engine cuts it: blank lines are none, lines
 * of any length cost bounded memory. */
#ifndef TIDEMILL_SERVER_JOB_LINES_H
#define TIDEMILL_SERVER_JOB_LINES_H

#include "format/source.h"

struct job_lines {
    const char *paths[1];
    struct source_config config;
    struct source *source;
    struct raw_chunk chunk;
    size_t next;
};

/* `path` must outlive it. `ret` must not move, and wants its close also after an error. */
tidemill_error *job_lines_open(const struct io *io, const char *path, size_t line_bytes_max,
                               struct job_lines *ret);
/* *ret NULL at the end. Valid until the next call. */
tidemill_error *job_lines_next(struct job_lines *lines, const struct raw_record **ret);
void job_lines_close(struct job_lines *lines);

#endif
