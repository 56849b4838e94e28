/* SPDX-License-Identifier: Apache-2.0 */
/* run_parts.h - one run of a job, as run.c, run_open.c, run_plan.c and run_bill.c share it; nobody else's. */
#ifndef TIDEMILL_JOB_RUN_PARTS_H
#define TIDEMILL_JOB_RUN_PARTS_H

#include "job/deviation.h"
#include "job/engine.h"
#include "job/job.h"
#include "job/journal.h"
#include "job/resources.h"
#include "job/reuse.h"
#include "job/sink.h"
#include "job/tune.h"

struct run {
    const struct job_spec *spec;
    const struct io *io;
    const struct job_observer *observer;
    struct job_stop *stop;
    struct job_summary *summary;
    double started_s, started_cpu_s;

    char *journal_path, *lock_path;
    struct file_lock *lock;
    struct identity identity;
    struct journal_state state;
    struct journal *journal;

    struct resources resources; /* chunks[0] is the first one read */
    struct tuning tuning;
    struct runtime *runtime; /* tuning's; it may become another one while the plan is made */
    struct source_config source_config;
    struct source *source;
    char *template_text, *labels_text;
    size_t template_size;
    struct string_list labels;
    enum format output_format;
    struct digest batch_job; /* of this job, for FORMAT_OPENAI_BATCH */
    struct padding padding;
    struct prompting prompting;
    bool is_dynamic;             /* records may differ in shape */
    struct tokenizer *tokenizer; /* NULL: the input brings no text */
    struct decoder *decoder;
    struct encoder *encoder;
    struct sink *sink;
    struct id_set *ids;
    struct reuse *reuse; /* NULL: every record runs */
    struct journal_plan plan;
    struct engine_work work;
    struct deviation deviation; /* of a lower precision, once it is measured */
};

/* run_open.c: the model, the input and its first chunk, what reads and what writes records. */
tidemill_error *run_open_model(struct run *run);
tidemill_error *run_open_input(struct run *run);
tidemill_error *run_decode_first_chunk(struct run *run);

/* run_plan.c: what the journal keeps, or what is decided now. */
tidemill_error *run_check_precision(struct run *run);
tidemill_error *run_decide_plan(struct run *run);
void run_set_chunk_rows(struct run *run);
/* `config` is filled, for run_open_answers. */
tidemill_error *run_open_reuse(struct run *run, struct reuse_config *config);
tidemill_error *run_open_answers(struct run *run, const struct reuse_config *config);

/* run_bill.c */
void run_tell_tuned(struct job_summary *summary, const struct journal_plan *plan);
void run_fill_summary(struct run *run);

#endif
