/* SPDX-License-Identifier: Apache-2.0 */
/* tune_memory.h - what tuning found on this machine, for later jobs: one small JSON file,
 * $XDG_CACHE_HOME/tidemill/tune.json. It is never needed: a file that is not there, is broken or cannot be
 * written only means that jobs measure again. */
#ifndef TIDEMILL_JOB_TUNE_MEMORY_H
#define TIDEMILL_JOB_TUNE_MEMORY_H

#include "io/io.h"
#include "plan/plan.h"

/* Equal keys: what was measured for one job holds for the other. Borrowed strings. */
struct tune_key {
    const char *model;    /* digest of all that it consists of */
    const char *provider; /* with its options */
    const char *outputs;  /* those asked for */
    const char *cpu;      /* its name */
    int cores;            /* that may be used */
};

struct tune_entry {
    char library[128]; /* and version */
    int instances, threads;
    bool is_parallel_measured; /* else they are the usual ones */
    uint32_t rows;             /* 0: not measured */
    uint32_t tokens[PLAN_CLASSES];
    uint32_t call_tokens;
    double rate_rows_s;  /* of all processes together */
    uint64_t host_bytes; /* resident at most, one process */
    double budget_s;     /* that measuring was granted: a longer job may find better */
    char date[24];       /* UTC, ISO 8601 */
};

/* The file's path, malloc'ed; *ret NULL: there is no place for it. */
tidemill_error *tune_memory_path(char **ret);
/* False: nothing there. A file that cannot be understood is told in the log, once. */
bool tune_memory_find(const struct io *io, const char *path, const struct tune_key *key,
                      struct tune_entry *ret);
/* Puts the entry in the place of an older one with this key; the file is replaced as a whole. The oldest
 * entries go when there are too many. Of two jobs that write at once the last one wins. */
tidemill_error *tune_memory_keep(const struct io *io, const char *path, const struct tune_key *key,
                                 const struct tune_entry *entry);

#endif
