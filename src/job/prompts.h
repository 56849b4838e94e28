/* SPDX-License-Identifier: Apache-2.0 */
/* prompts.h - whether and why requests' prompts are looked at, and their order in a chunk. */
#ifndef TIDEMILL_JOB_PROMPTS_H
#define TIDEMILL_JOB_PROMPTS_H

#include "format/prompt.h"
#include "job/spec.h"
#include "plan/plan.h"

struct chunk;

/* The job's; all zero: prompts are not read. */
struct prompting {
    bool is_read;       /* into chunk_record.prompt */
    bool is_ordered;    /* those that begin alike run one after another */
    bool is_generating; /* as prompt_read wants it, where no url says it */
    int url_input;      /* of the signature: a request's own url; -1: it has none */
};

/* ERROR_USAGE: --order prefix for a model that takes no JSON. */
tidemill_error *prompting_decide(const struct job_spec *spec,
                                 const struct model_signature *signature, struct prompting *ret);

/* Puts the rows (of records of the chunk) into the order of plan_prefix_order, and notes in the chunk how
 * much is shared. A function of the rows alone. */
tidemill_error *prompts_order(struct chunk *chunk, struct plan_row *rows, size_t n_rows);

#endif
