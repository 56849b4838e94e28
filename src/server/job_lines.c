/* SPDX-License-Identifier: Apache-2.0 */
/* job_lines.c - a JSONL file record by record, through the engine's own source. */
#include "server/job_lines.h"

#define CHUNK_BYTES ((size_t)1 << 20)
#define CHUNK_ROWS 2048

tidemill_error *job_lines_open(const struct io *io, const char *path, size_t line_bytes_max,
                               struct job_lines *ret)
{
    *ret = (struct job_lines){.paths = {path}};
    ret->config = (struct source_config){
        .paths = ret->paths,
        .n_paths = 1,
        .format = FORMAT_JSONL,
        .compression = COMPRESSION_NONE,
        .record_bytes_max = line_bytes_max,
        .chunk_bytes = CHUNK_BYTES,
        .chunk_rows = CHUNK_ROWS,
    };
    TRY(source_open(io, &ret->config, NULL, &ret->source));
    return source_read_chunk(ret->source, &ret->chunk);
}

tidemill_error *job_lines_next(struct job_lines *lines, const struct raw_record **ret)
{
    *ret = NULL;
    while (lines->next == lines->chunk.n_records) {
        if (lines->chunk.is_last) return NULL;
        TRY(source_read_chunk(lines->source, &lines->chunk));
        lines->next = 0;
    }
    *ret = &lines->chunk.records[lines->next++];
    return NULL;
}

void job_lines_close(struct job_lines *lines)
{
    source_close(lines->source);
    raw_chunk_free(&lines->chunk);
    *lines = (struct job_lines){0};
}
