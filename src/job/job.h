/* SPDX-License-Identifier: Apache-2.0 */
/* job.h - the way into the room of jobs: a spec (flags, or a YAML file with the same keys), and the
 * run of it from whatever state an earlier run left, to a complete output or a checkpoint. */
#ifndef TIDEMILL_JOB_JOB_H
#define TIDEMILL_JOB_JOB_H

#include "base/base.h"
#include "format/format.h"
#include "job/bench.h"
#include "job/deviation.h"
#include "job/duplicates.h"
#include "job/machine.h"
#include "job/options.h"
#include "job/spec.h"
#include "runtime/runtime.h"

/* Counts of one job, all runs of it together; records = ok + failed + what is still to do. */
struct job_counts {
    uint64_t records; /* written: answered or failed */
    uint64_t ok;
    uint64_t failed;
    uint64_t duplicates;       /* of the failed: because of an id seen before */
    uint64_t reused;           /* took over what came of an earlier record with the same input */
    uint64_t cached;           /* took over an answer of another job */
    struct token_usage tokens; /* that calls of the model took, as it or its server counts them */
    struct token_usage lost;   /* of these: answered after a checkpoint and before a kill */
};

/* What a run knows of itself at a moment. Rates and times are of this run alone. */
struct job_progress {
    struct job_counts counts;
    uint64_t records_done;     /* answered or failed, written or not; all runs together */
    uint64_t records_this_run; /* the same, of this run */
    uint32_t batch;            /* 0: counted in tokens */
    double elapsed_s;
    double rate_rows_s, rate_tokens_s; /* over the last seconds */
    double share_done;                 /* of the input, 0..1; negative: not known */
    double left_s;                     /* negative: not known */
    double cost_usd;                   /* of all runs so far; negative: no price */
};

/* Prices are 0 where none was given. */
struct job_cost {
    double price_usd_hour, price_usd_in, price_usd_out; /* an hour; a million tokens */
    double price_usd_cached; /* of those in that came from a prefix cache */
    double machine_usd, tokens_usd;
    double usd, usd_per_million; /* both together; for a million records */
    double lost_usd;             /* of tokens_usd: for answers that a kill took */
    double saved_usd; /* what answers that did not run would have cost in tokens, about */
};

/* Whether there is anything to reckon with. */
bool job_cost_has_price(const struct job_cost *cost);
/* Prices as the spec gives them, the rest 0. */
struct job_cost job_cost_prices(const struct job_spec *spec);
/* Fills what `wall_s` and the counts cost. */
void job_cost_fill(struct job_cost *cost, double wall_s, const struct job_counts *counts);

struct job_summary {
    struct job_counts counts;
    bool is_complete;
    bool was_complete; /* nothing was done: the output was there already */
    bool is_resumed;
    uint64_t records_this_run;
    double wall_s, cpu_s;         /* all runs of the job */
    double rate_rows_s;           /* records this run / its wall seconds */
    double run_wall_s, run_cpu_s; /* this run */
    double model_busy_share;      /* of the wall time x hosts; 0 where servers answer */
    bool is_server;               /* servers answer; then: */
    double requests_under_way;    /* on average */
    uint64_t peak_memory_bytes;   /* engine's resident set, shared tensors included */
    uint64_t peak_host_memory_bytes;
    uint32_t batch;
    double tuning_s;                        /* that choosing these took in this run */
    const char *batch_from, *parallel_from; /* "given", "measured", "remembered", "default" */
    uint32_t tokens_max;            /* of a call, at most, padding included; 0: counted in rows */
    uint64_t run_rows;              /* records run through the model this run */
    uint64_t tokens, padded_tokens; /* of these; 0 where nothing is padded */
    uint64_t prompt_bytes,
        prompt_bytes_shared; /* of these; 0 where they are in the input's order */
    int instances, threads, restarts;
    const char *precision;      /* "fp32", ... */
    struct deviation deviation; /* of a lower precision, when this run measured it */
    struct job_cost cost;
    const char *output, *errors; /* borrowed from the spec */
    char runtime[128];
};

/* What a job would do, from its input without running it. */
struct job_forecast {
    uint64_t records, failed;       /* failed: those that cannot be decoded */
    uint64_t reused, cached;        /* would take over another record's answer, the cache's */
    uint64_t run_rows, calls;       /* would run through the model */
    uint64_t tokens, padded_tokens; /* of these; 0 where nothing is padded */
    int instances;
    bool is_timed;  /* false: the two times are not known, and 0 */
    double model_s; /* of one model process; measured on the first records */
    double wall_s;  /* with all of them at once */
    const char *precision;
    struct deviation
        deviation; /* of a lower precision; over --max-deviation there is an error instead */
    uint64_t
        tokens_in; /* a guess from the bytes that would run, where a model takes JSON; else 0 */
    struct job_cost cost;
};

/* What the caller sees of a run; every function may be NULL. Called from the thread that runs. */
struct job_observer {
    void *context;
    void (*progress)(void *context, const struct job_progress *progress); /* 5 times a second */
};

/* Asks the running job to checkpoint and stop; safe in a signal handler. */
struct job_stop {
    int wake_fd;          /* eventfd: the engine looks around */
    int cancel_fd;        /* eventfd: whoever waits for a pipe gives up; stays readable */
    _Atomic int is_asked; /* lock-free: also for a signal handler */
};
tidemill_error *job_stop_init(struct job_stop *stop);
void job_stop_ask(struct job_stop *stop);
void job_stop_wake(struct job_stop *stop);  /* makes the engine look around; asks for nothing */
void job_stop_drain(struct job_stop *stop); /* the engine has looked */
void job_stop_cancel_reads(struct job_stop *stop); /* part of asking; alone, when a job fails */
void job_stop_reset(struct job_stop *stop); /* before another run: what was asked is forgotten */
void job_stop_fini(struct job_stop *stop);

/* Runs the job to its end, or to a checkpoint: ERROR_INTERRUPTED when asked to stop. NULL with
 * summary->counts.failed > 0 means complete, but some records are in the error sink. `summary` is
 * filled as far as it goes also with an error. Any number of jobs run in one process,
 * each in its own thread, as long as their outputs differ (a lock beside the output sees to that). */
tidemill_error *job_run(const struct job_spec *spec, const struct io *io,
                        const struct job_observer *observer, struct job_stop *stop,
                        struct job_summary *summary);

/* What earlier runs of a job left beside its output, read without a lock: while the job runs, it is what
 * the last commit says. Files of that size hold whole lines, in input order. */
struct job_state {
    bool exists; /* something was committed */
    struct job_counts counts;
    double wall_s;
    uint64_t output_bytes, errors_bytes; /* that count, of the files below */
    bool is_complete;                    /* every record is in them */
    bool is_published; /* they bear their names; else OUTPUT.partial and ERRORS.partial */
};
/* ERROR_CORRUPT as for a run. */
tidemill_error *job_look(const struct io *io, const char *output, struct job_state *ret);

/* `tidemill run --dry-run`: reads and plans all of the input, times a few calls, writes nothing. */
tidemill_error *job_dry_run(const struct job_spec *spec, const struct io *io, struct job_stop *stop,
                            struct job_forecast *ret);
void job_forecast_json(const struct job_forecast *forecast, struct buffer *out);
void job_forecast_text(const struct job_forecast *forecast, struct buffer *out);

/* `tidemill run --retry-errors`: runs the records of the error sink again and merges what they now
 * answer into the output, in input order. */
tidemill_error *job_retry(const struct job_spec *spec, const struct io *io,
                          const struct job_observer *observer, struct job_stop *stop,
                          struct job_summary *summary);

/* Ends a job that was stopped: what was answered is written out, also what waits behind records that
 * were not, and these fail with `code` (BATCH_CANCELLED, ...). Nothing is asked of the model. Then the
 * job is complete; job_retry runs what it left. Stopped or killed, the same call goes on. */
tidemill_error *job_close(const struct job_spec *spec, const struct io *io, enum error_code code,
                          struct job_stop *stop, struct job_summary *summary);

/* The summary as one JSON object (for --summary) and as text for people. */
void job_summary_json(const struct job_summary *summary, struct buffer *out);
void job_summary_text(const struct job_summary *summary, struct buffer *out);

#endif
