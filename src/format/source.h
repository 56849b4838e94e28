/* SPDX-License-Identifier: Apache-2.0 */
/* source.h - several input files as one sequence of raw records, cut into chunks.
 *
 * Chunk boundaries are a function of the input and the configuration alone: a chunk ends after
 * chunk_rows records or with the record that makes its bytes reach chunk_bytes. Chunks span files.
 * Memory is bounded by chunk_bytes + record_bytes_max, whatever a line's length: of a longer record
 * the first RECORD_SAMPLE_BYTES are kept and the rest is skipped. */
#ifndef TIDEMILL_FORMAT_SOURCE_H
#define TIDEMILL_FORMAT_SOURCE_H

#include "format/tensor.h"
#include "io/io.h"

#define RECORD_SAMPLE_BYTES 256

enum format {
    FORMAT_AUTO,
    FORMAT_JSONL,
    FORMAT_CSV,
    FORMAT_NPY,
    FORMAT_NPZ,
    FORMAT_OPENAI_BATCH /* of outputs alone: JSONL as OpenAI's Batch API gives it */
};

/* By the name, compression endings ignored: .csv, .npy, .npz, .jsonl, .ndjson, .json.
 * AUTO when the name does not tell. */
enum format format_of_path(const char *path);

struct source_config {
    const char *const *paths; /* "-" is standard input; already expanded globs */
    size_t n_paths;
    enum format format;           /* AUTO: by each file's name; JSONL where that does not tell */
    enum compression compression; /* AUTO: by content */
    size_t record_bytes_max;
    size_t chunk_bytes;
    uint32_t chunk_rows;
    const uint64_t *line_numbers; /* NULL, or the number that record i bears instead of its own */
    size_t n_line_numbers;
};

/* Where a record begins. All zero (line 0 included) is the beginning of the input. */
struct source_position {
    uint32_t file;   /* index in paths */
    uint64_t offset; /* plain (decompressed) byte offset in that file; .npy/.npz: row number */
    uint64_t
        line; /* lines of that file before it (CSV: the header and lines inside quotes count) */
    uint64_t index; /* records of the whole input before it */
};

struct raw_record {
    struct slice bytes; /* JSONL: the line without its end; CSV: the record without its end;
                           .npy/.npz: the arrays' row bytes one after another. Cut to
                           RECORD_SAMPLE_BYTES when error is RECORD_TOO_LONG */
    uint64_t line;      /* 1-based line where it begins in its file; .npy/.npz: 1-based row */
    uint64_t size;      /* its real size in bytes */
    uint32_t file;
    enum error_code error; /* OK, RECORD_TOO_LONG, INVALID_CSV (quote never closed) */
};

struct raw_chunk {
    struct buffer bytes; /* what the records point into */
    struct raw_record *records;
    size_t n_records, records_capacity;
    struct source_position start, end; /* end: where the next chunk begins */
    bool is_last;                      /* no record follows */
};
void raw_chunk_free(struct raw_chunk *chunk);

/* What all files of one job have in common. Borrowed from the source. */
struct source_array {
    const char *name; /* .npz member without ".npy"; "" for .npy */
    enum tensor_type type;
    struct shape row_shape;
    size_t row_bytes; /* 0 for strings: packed, of any length */
};
struct source_schema {
    enum format format;
    const char *const *columns; /* CSV header */
    size_t n_columns;
    const struct source_array *arrays; /* .npy, .npz */
    size_t n_arrays;
};

struct source;
/* Opens the first file (for CSV: reads its header). `start` NULL: from the beginning; else goes on
 * there. Several files must agree: CSV in their columns, .npy/.npz in names, types and row shapes;
 * ERROR_INPUT names the file and the difference otherwise. Blank lines between JSONL records are
 * skipped (they count as lines, not as records); a UTF-8 byte order mark at a file's start and a CR
 * before a line's end are dropped; the last line needs no end. An empty file has no records. */
tidemill_error *source_open(const struct io *io, const struct source_config *config,
                            const struct source_position *start, struct source **ret);
const struct source_schema *source_schema(const struct source *source);
/* From the next chunk on: chunk_rows, and, so that chunks hold whole microbatches, a chunk that has
 * reached chunk_bytes goes on to the next multiple of `multiple` records (but not beyond 8 times
 * chunk_bytes). Until called, `multiple` is 1. */
void source_set_chunk_rows(struct source *source, uint32_t chunk_rows, uint32_t multiple);
/* Fills `chunk` (reusing its memory). An input without records gives one empty last chunk. */
tidemill_error *source_read_chunk(struct source *source, struct raw_chunk *chunk);
/* Share of the input's bytes on disk that were read, 0..1; negative: not known (a pipe). */
double source_progress(const struct source *source);
void source_close(struct source *source);

#endif
