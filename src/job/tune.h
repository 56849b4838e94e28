/* SPDX-License-Identifier: Apache-2.0 */
/* tune.h - what a job runs with: model processes x threads, and how large microbatches are. Both are
 * given, remembered, measured on the job's first records, or the usual ones.
 *
 *   tuning_open     recalls what is known, and opens the model with it
 *   tuning_decide   fills the plan; may open the model in other ways and keep the best
 *   tuning_keep     remembers what was measured */
#ifndef TIDEMILL_JOB_TUNE_H
#define TIDEMILL_JOB_TUNE_H

#include "job/calibrate.h"
#include "job/identity.h"
#include "job/resources.h"
#include "job/tune_memory.h"

struct tuning {
    const struct job_spec *spec;
    const struct io *io;
    struct job_stop *stop;
    struct resources *resources;    /* its threads and instances_max follow what is chosen */
    struct runtime_options options; /* that the model is opened with */
    int instances_usual, threads_usual;

    struct runtime *runtime; /* in use; the owner closes it */
    struct runtime *first; /* its hosts are ended; others hold its signature. NULL: it is in use */
    double load_s;         /* opening the model took so long */
    double spent_s;        /* on deciding */
    double ended_cpu_s;    /* of hosts that are gone with their runtimes */

    char *memory_path; /* NULL: nothing is remembered */
    char model_text[DIGEST_TEXT_BYTES], cpu[128];
    struct buffer outputs;   /* and the precision, where it is not the model's own */
    struct tune_entry entry; /* recalled, then what was found */
    bool is_recalled;        /* entry is from the memory and fits */
    bool is_worth_keeping;
};

/* `tuning` has its first four members set. `identity` has the model's parts when it has any; `begun` is
 * the plan of a job that goes on. The model is open on success. */
tidemill_error *tuning_open(struct tuning *tuning, const struct identity *identity,
                            const struct journal_plan *begun);
/* Fills plan->limits and what stands beside them. `first`: the job's first chunk, decoded. Leaves the
 * records a second of one model process, 0: not known. */
tidemill_error *tuning_decide(struct tuning *tuning, struct chunk *first, bool is_dynamic,
                              struct journal_plan *plan, double *ret_rate_rows_s);
/* How calls are timed, with the runtime in use as it is now. */
struct calibration tuning_calibration(struct tuning *tuning, struct chunk *first);
/* Remembers what was measured. Failing is told in the log. */
void tuning_keep(struct tuning *tuning);
/* All but the runtime in use. */
void tuning_close(struct tuning *tuning);

/* --- for bench ----------------------------------------------------------------------------------- */

/* Whether processes x threads are free to be chosen, and the ways there are: `instances` x `threads` that
 * keep all cores busy. Returns how many, at most `max`; the usual one comes first. */
struct parallelism {
    int instances, threads;
};
#define PARALLELISMS_MAX 12
size_t parallelism_list(int cores, int instances_max, struct parallelism *ret);

/* Lets other ways of using the cores run against the present one, with `probe`, within `budget_s`. The
 * runtime in use is the best one afterwards, calibration->runtime and probe->mb.n_rows too. *ret_is_measured
 * false: nothing could be compared. */
tidemill_error *tune_parallelism(struct tuning *tuning, struct calibration *calibration,
                                 struct probe *probe, double budget_s, bool *ret_is_measured);

#endif
