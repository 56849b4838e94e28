/* SPDX-License-Identifier: Apache-2.0 */
/* bench.h - the parts of `tidemill bench`: a table and a plot for the terminal, JSON, an SVG file. */
#ifndef TIDEMILL_CLI_BENCH_H
#define TIDEMILL_CLI_BENCH_H

#include "job/job.h"

/* A table of rows/s, and a plot below it, for each length. `width` in columns; without `is_unicode` the
 * marks are ASCII. `model` is its path. */
void bench_table(const struct bench_result *result, const char *model, int width, bool is_unicode,
                 struct buffer *out);
/* One object a line. */
void bench_json(const struct bench_result *result, const char *model, struct buffer *out);
/* One panel for each length: rows/s over the batch size, a line for each way of using the cores. */
void bench_svg(const struct bench_result *result, const char *model, struct buffer *out);

/* "2 instances x 1 thread" */
void bench_way_text(const struct bench_curve *curve, char *ret, size_t size);
/* Curves of the same length as curve `first`, which stand together: how many from there on. */
size_t bench_panel(const struct bench_result *result, size_t first);
/* The highest rate of the panel, and a round number above it for an axis. */
double bench_highest(const struct bench_result *result, size_t first, size_t n);
double bench_axis_top(double highest);

#endif
