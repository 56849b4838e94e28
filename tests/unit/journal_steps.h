/* SPDX-License-Identifier: Apache-2.0 */
/* journal_steps.h - one scenario that journals go through in tests: a list of steps, and the state that
 * must be after each, worked out step by step apart from the code that reads journals. */
#ifndef TIDEMILL_TESTS_JOURNAL_STEPS_H
#define TIDEMILL_TESTS_JOURNAL_STEPS_H

#include "expect.h"

#include "job/journal.h"
#include "simdisk.h"

#define PATH "out/result.journal"
#define DEADLY_MAX 8
#define STEPS_MAX 32
#define N_STEPS ((size_t)16) /* of the scenario */

enum step_kind { BEGIN, START, PLAN, ATTEMPT, COMMIT, FINAL, PUBLISHED };

struct step {
    enum step_kind kind;
    uint64_t record;                    /* ATTEMPT */
    struct journal_commit commit;       /* COMMIT */
    struct journal_plan plan;           /* PLAN */
    uint64_t output_bytes, error_bytes; /* FINAL, PUBLISHED */
};

extern const char tail[]; /* of an output: any bytes */
extern const struct step steps[N_STEPS];

struct expected {
    bool exists, has_commit, has_attempt;
    const struct journal_plan *plan;
    const struct journal_commit *commit;
    const struct step *final;
    uint32_t starts;
    uint64_t deadly[DEADLY_MAX], attempt;
    size_t n_deadly;
};

struct expected state_after(size_t n_steps);
/* NULL, or the name of what differs. */
const char *difference(const struct journal_state *found, const struct expected *expected);
bool same_commit(const struct journal_commit *a, const struct journal_commit *b);
/* Reads the journal and fails the test where it is not as after `n_steps`; `row`, `number` say where. */
void expect_state(struct simdisk *disk, size_t n_steps, const char *row, size_t number);

struct identity make_identity(void);
/* Opens the journal as it is on the disk, begun or not, and appends steps up to `end`. *ret_done: the
 * steps that succeeded, those before this call among them. */
tidemill_error *go_on(const struct io *io, size_t end, size_t *ret_done);
void write_steps(struct simdisk *disk, size_t n_steps);

struct bytes {
    char *data;
    size_t size;
    size_t ends[STEPS_MAX]; /* of the file after i steps */
};
/* The journal of the first n_steps; the caller frees data. */
struct bytes bytes_of(size_t n_steps);

#endif
