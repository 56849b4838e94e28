/* SPDX-License-Identifier: Apache-2.0 */
/* post.h - steps after the model: softmax, sigmoid, then argmax or top-k, over the last dimension. */
#ifndef TIDEMILL_FORMAT_POST_H
#define TIDEMILL_FORMAT_POST_H

#include "base/base.h"

enum post_step { POST_SOFTMAX, POST_SIGMOID };
enum post_pick { PICK_NONE, PICK_ARGMAX, PICK_TOP_K };

#define POST_STEPS_MAX 4

struct post {
    enum post_step steps[POST_STEPS_MAX];
    size_t n_steps;
    enum post_pick pick; /* always last */
    uint32_t k;          /* of PICK_TOP_K; 1 for PICK_ARGMAX */
};

/* "softmax,topk:3"; NULL and "none" are no steps at all. */
tidemill_error *post_parse(const char *text, struct post *ret);
/* The steps, in place, over `n_rows` stretches of `n` numbers. Softmax subtracts the largest number
 * first, so nothing overflows. */
void post_apply(const struct post *post, double *values, size_t n_rows, size_t n);
/* Places of the k largest of n numbers, largest first, ties by place; returns min(k, n). NaN counts
 * as smaller than everything. */
size_t post_top(const double *values, size_t n, uint32_t k, uint32_t *ret_places);

#endif
