/* SPDX-License-Identifier: Apache-2.0 */
/* int8_weights.h - a matrix of float32 weights as int8: symmetric, one scale for each column of the
 * product. w is near q * scale, q = round(w / scale) in [-127, 127], scale = largest |w| / 127: so the
 * error of a weight is half a scale at most. (Wu et al. 2020, "Integer quantization for deep learning
 * inference", sections 3 and 4) */
#ifndef TIDEMILL_RUNTIME_INT8_WEIGHTS_H
#define TIDEMILL_RUNTIME_INT8_WEIGHTS_H

#include "base/base.h"

struct float_weights {
    const char *data; /* k * n floats, not aligned: [k, n], or [n, k] when transposed */
    size_t k, n;      /* of the product: rows [m, k] times [k, n] */
    bool is_transposed;
};

bool float_weights_are_finite(const struct float_weights *weights);
/* `scales`: n floats. A column of zeros has scale 1. */
void int8_scales(const struct float_weights *weights, float *scales);
/* `ret`: [k, n], row-major, whichever way the source lies. */
void int8_weights(const struct float_weights *weights, const float *scales, int8_t *ret);

#endif
