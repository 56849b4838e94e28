/* SPDX-License-Identifier: Apache-2.0 */
/* sink.h - finished records -> output and error files, committed as they grow, published when
 * complete. Owns the journal while a job runs. */
#ifndef TIDEMILL_JOB_SINK_H
#define TIDEMILL_JOB_SINK_H

#include "job/journal.h"
#include "job/pipeline.h"
#include "job/reuse.h"

struct sink;

struct sink_config {
    const struct io *io;
    const struct job_spec *spec;
    const struct encoder *encoder;
    const struct source_schema *schema;
    struct reuse *reuse;                /* NULL, or what equal inputs share */
    struct journal *journal;            /* borrowed; NULL with standard output */
    const struct journal_state *resume; /* where to go on; NULL or without a commit: at the start */
    enum format output_format;
    const struct digest *batch_job; /* as in error_line_append */
};

/* Opens (or continues) the temporary files. */
tidemill_error *sink_open(const struct sink_config *config, struct sink **ret);
/* Appends a piece; commits when it is time. ERROR_TOO_MANY_ERRORS after a commit at the record that
 * passed the limit. On any other error: only sink_close. */
tidemill_error *sink_write(struct sink *sink, const struct piece *piece);
/* Milliseconds until a commit is due (0: now); call sink_commit then, also when nothing arrives. */
int sink_commit_due_ms(const struct sink *sink);
/* Makes everything written so far survive power loss. A no-op when nothing is new. */
tidemill_error *sink_commit(struct sink *sink);
/* Before a record of which an earlier run died is tried again (careful mode). Thread-safe. */
tidemill_error *sink_note_attempt(struct sink *sink, uint64_t record_index);
/* Everything was written: complete the files, sync, give them their names. */
tidemill_error *sink_finish(struct sink *sink);
/* Counts of all runs so far. Thread-safe. */
struct job_counts sink_counts(struct sink *sink);
/* Wall and processor seconds of earlier runs, from the journal; the sink adds this run's to it. */
void sink_set_clock(struct sink *sink, double started_s, double started_cpu_s);
void sink_times(const struct sink *sink, double *ret_wall_s, double *ret_cpu_s);
void sink_add_host_cpu(struct sink *sink, double cpu_s); /* model hosts' seconds so far */
/* What one more call of the model took; paid, whatever becomes of its answer. Thread-safe. */
void sink_add_tokens(struct sink *sink, const struct token_usage *usage);
/* So that a kill before the next commit does not take it off the bill. Thread-safe. */
tidemill_error *sink_note_paid(struct sink *sink);
void sink_close(
    struct sink *sink); /* NULL is fine; files that are not finished stay for a resume */

/* Completes a publication that a kill cut short (journal has `final`, not `published`). */
tidemill_error *sink_publish_again(const struct io *io, const struct job_spec *spec,
                                   struct journal *journal, const struct journal_final *final);

#endif
