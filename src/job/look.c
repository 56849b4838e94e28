/* SPDX-License-Identifier: Apache-2.0 */
/* look.c - how far a job is, from its journal alone: for who shows it while it runs, or hands on what a
 * run that was stopped has done. */
#include "job/job.h"
#include "job/journal.h"
#include "job/paths.h"

#include <stdlib.h>

static void fill(const struct journal_state *state, struct job_state *ret)
{
    const struct journal_final *final = &state->final;
    *ret = (struct job_state){
        .exists = state->has_commit || final->is_set,
        .counts = state->commit.counts,
        .wall_s = state->commit.wall_s,
        .output_bytes = state->commit.output.file_bytes,
        .errors_bytes = state->commit.errors.file_bytes,
        .is_complete = final->is_set,
        .is_published = final->is_published,
    };
    if (!final->is_set) return;
    ret->output_bytes = final->output_bytes;
    ret->errors_bytes = final->errors_bytes;
}

tidemill_error *job_look(const struct io *io, const char *output, struct job_state *ret)
{
    struct journal_state state = {0};
    *ret = (struct job_state){0};
    char *path = path_with(output, ".journal");
    if (path == NULL) return error_memory();
    tidemill_error *error = journal_read(io, path, &state);
    if (error == NULL && state.exists) fill(&state, ret);
    journal_state_free(&state);
    free(path);
    return error;
}
