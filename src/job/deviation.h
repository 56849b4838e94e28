/* SPDX-License-Identifier: Apache-2.0 */
/* deviation.h - how far a lower precision's answers are from the model's own, measured on a job's first
 * records before it begins. A record's part of an output is a row.
 *
 *     numbers, two or more a row   deviation = 1 - mean over rows of the cosine similarity
 *     one number a row             deviation = sum of |difference| / sum of |value|
 *     whole numbers, text, bool    deviation = share of rows that are not the same
 *
 * Rows that are not finite in the model's own answer are left out; those that are not finite in the
 * lower precision alone count as cosine 0. Sequences and maps are not compared. */
#ifndef TIDEMILL_JOB_DEVIATION_H
#define TIDEMILL_JOB_DEVIATION_H

#include "format/tensor.h"

#define DEVIATION_OUTPUTS_MAX 16 /* that are compared: the first ones */
#define DEVIATION_ROWS 256       /* at least so many, where there are as many in time */
#define DEVIATION_CLASSES_MAX 10000

enum deviation_kind { DEVIATION_NONE, DEVIATION_COSINE, DEVIATION_RELATIVE, DEVIATION_EQUAL };

struct output_deviation {
    char name[64];
    enum deviation_kind kind; /* NONE: not compared */
    uint64_t n_rows;
    double deviation; /* valid after deviation_end, as are the means */
    double mean_cosine, least_cosine;
    double largest_difference;
    double agreement;                /* share of rows with the same largest element; < 0: none */
    double sum, difference_sum;      /* running */
    uint64_t n_agreeing, n_with_top; /* running */
};

struct deviation {
    uint64_t n_rows;         /* run in both; 0: nothing was measured */
    double exact_s, lower_s; /* of processor time for the same calls */
    double host_cpu_s;       /* all that the exact model took, loading included */
    struct output_deviation outputs[DEVIATION_OUTPUTS_MAX];
    size_t n_outputs;
};

void deviation_begin(struct deviation *deviation, const struct model_signature *signature);
/* The answers to the same `n_rows` records, one a call unless the model is batched. */
void deviation_add(struct deviation *deviation, const struct model_signature *signature,
                   const struct value *exact, const struct value *lower, uint32_t n_rows);
void deviation_end(struct deviation *deviation);

/* Times as fast as the model itself; 0: not known. */
double deviation_speedup(const struct deviation *deviation);
/* ERROR_USAGE, with the figures, when an output deviates by more than `limit`, or none can be compared. */
tidemill_error *deviation_check(const struct deviation *deviation, const char *precision,
                                double limit);

/* For the summary: lines for people; an object. */
void deviation_text(const struct deviation *deviation, const char *precision, struct buffer *out);
void deviation_json(const struct deviation *deviation, struct buffer *out);

#endif
