/* SPDX-License-Identifier: Apache-2.0 */
/* bench.h - how fast a model is on this machine: every batch size with every way of using the cores. It
 * measures as tuning does (measure_busy), but all points, and none is left out for time. */
#ifndef TIDEMILL_JOB_BENCH_H
#define TIDEMILL_JOB_BENCH_H

#include "base/base.h"
#include "format/tensor.h"

struct io;
struct job_spec;
struct job_stop;

#define BENCH_POINTS_MAX 48
#define BENCH_LENGTHS_MAX 4
#define BENCH_CURVES_MAX (12 * BENCH_LENGTHS_MAX)

struct bench_request {
    const struct job_spec *spec; /* model, provider, instances, threads, input and what reads it */
    uint32_t batches[BENCH_POINTS_MAX];
    size_t n_batches; /* 0: 1, 2, 4, ... */
    uint32_t lengths[BENCH_LENGTHS_MAX];
    size_t n_lengths; /* of random records where records vary; 0: 16, 64, 256 */
    double seconds;   /* for a point */
};

struct bench_point {
    uint32_t batch;
    double rate_rows_s; /* of all processes together; 0: the call failed */
};

/* One way of using the cores, and one length of records. */
struct bench_curve {
    int instances, threads;
    uint32_t length; /* of each record; 1 where records are alike */
    struct bench_point points[BENCH_POINTS_MAX];
    size_t n_points;
};

struct bench_result {
    struct bench_curve curves[BENCH_CURVES_MAX]; /* by length, then by threads */
    size_t n_curves;
    bool is_random, is_dynamic;
    char runtime[128], cpu[128];
    int cores;
};

/* `told` (may be NULL) hears what is measured next. ERROR_MODEL_ERROR when no call was answered. */
tidemill_error *bench_run(const struct bench_request *request, const struct io *io,
                          struct job_stop *stop, void (*told)(const char *what),
                          struct bench_result *ret);
/* The best point of one length: the smallest batch within 1% of the highest rate. False: none. */
bool bench_best(const struct bench_result *result, uint32_t length, size_t *ret_curve,
                size_t *ret_point);

/* --- bench_records.c ------------------------------------------------------------------------------ */

/* JSON Lines that a model takes: `n` records for each of the lengths in turn (n_lengths 1 and any length
 * where shapes are fixed). Numbers are 0..1, integers 1..999, masks 1, token types 0. The same at every
 * time. ERROR_UNSUPPORTED for inputs without a declared shape. */
tidemill_error *bench_records(const struct model_signature *signature, const uint32_t *lengths,
                              size_t n_lengths, uint32_t n, struct buffer *out);

#endif
