/* SPDX-License-Identifier: Apache-2.0 */
/* merge.h - the error sink read back, and retried answers put where they belong. */
#ifndef TIDEMILL_JOB_MERGE_H
#define TIDEMILL_JOB_MERGE_H

#include "format/format.h"
#include "job/journal.h"

/* One line of the error sink. */
struct failed_record {
    uint64_t index;  /* place in the job */
    char *input;     /* name of its file, as JSON text */
    bool is_carried; /* not to be run again: its line stays as it is */
};

struct failed_records {
    struct failed_record *items; /* in the job's order */
    size_t n;
    uint64_t *lines; /* line numbers of those that run again */
    size_t n_lines;
};

/* Records that were not kept whole cannot run again. `carry_duplicates`: nor can those with an id seen
 * before, because the retry does not see the others. */
tidemill_error *failed_records_read(const struct io *io, const char *errors_path,
                                    bool carry_duplicates, struct failed_records *ret);
/* The records that run again, complete and synced: the input of the retry. JSONL, one a line; or, where
 * the job's input is CSV, a CSV with the columns of the first record that was kept by column. */
tidemill_error *failed_records_write_input(const struct io *io, const char *errors_path,
                                           const struct failed_records *failed,
                                           const char *input_path, bool is_csv);
/* Whether the error sink's records came from CSV: by the input's name in its first line. */
tidemill_error *failed_records_are_csv(const struct io *io, const char *errors_path, bool *ret);
void failed_records_free(struct failed_records *failed);

struct merge_files {
    const struct io *io;
    const char *output, *errors;             /* of the finished job */
    const char *retry_output, *retry_errors; /* of the retry; the latter may be absent */
    enum format output_format;               /* JSONL or CSV */
    uint64_t records_total;
};

/* Writes OUTPUT.partial and ERRORS.partial, complete and synced, and fills their sizes. ERROR_CHANGED
 * when the files do not hold together (a line too many or too few). */
tidemill_error *merge_retried(const struct merge_files *files, const struct failed_records *failed,
                              struct journal_final *ret);

#endif
