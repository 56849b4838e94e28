/* SPDX-License-Identifier: Apache-2.0 */
/* source_parts.h - what source.c, source_text.c and source_rows.c share; nobody else's. */
#ifndef TIDEMILL_FORMAT_SOURCE_PARTS_H
#define TIDEMILL_FORMAT_SOURCE_PARTS_H

#include "format/npy.h"
#include "format/source.h"

#define SOURCE_BLOCK_BYTES ((size_t)256 << 10)

struct source {
    const struct io *io;
    struct source_config config; /* paths: our copy */
    struct source_schema schema;
    struct source_position position; /* of the next record */
    uint32_t chunk_multiple;         /* of records in a chunk that its bytes have filled */
    bool is_open;                    /* a file is open */
    bool has_schema;

    struct reader *reader; /* JSONL and CSV */
    char *block;           /* plain bytes of the file; [at, size) are not consumed yet */
    size_t block_at, block_size;
    uint64_t block_offset; /* of block[0] in the file */
    bool is_at_end;        /* the reader has no more */

    struct array_file *arrays; /* .npy and .npz */

    uint64_t *sizes_bytes; /* on disk, of each file */
    uint64_t total_bytes;  /* 0: not known */
    uint64_t done_bytes;   /* of files that are finished */
};

const char *source_path(const struct source *source);
/* A new record at the chunk's end; NULL when out of memory. */
struct raw_record *source_add_record(struct source *source, struct raw_chunk *chunk);
/* Whether a chunk of so many records and bytes ends here. */
bool source_is_full(const struct source *source, size_t n_records, size_t bytes);
/* Closes the file and opens the next one, if there is one. */
tidemill_error *source_next_file(struct source *source);

tidemill_error *source_text_open(struct source *source);
tidemill_error *source_text_skip_to(struct source *source, uint64_t offset);
tidemill_error *source_text_read(struct source *source, struct raw_chunk *chunk);

tidemill_error *source_rows_open(struct source *source);
tidemill_error *source_rows_read(struct source *source, struct raw_chunk *chunk);

#endif
