/* SPDX-License-Identifier: Apache-2.0 */
/* int8_weights.c - float32 weights into int8 with a scale a column. The source is read in its own order,
 * as it may be far larger than any cache. */
#include "runtime/int8_weights.h"

#include <math.h>

#define LARGEST 127.0f

static inline float weight_at(const struct float_weights *weights, size_t place)
{
    float value;
    memcpy(&value, weights->data + place * sizeof value, sizeof value);
    return value;
}

bool float_weights_are_finite(const struct float_weights *weights)
{
    size_t count = weights->k * weights->n;
    float probe = 0; /* NaN as soon as one of them is not finite */
    for (size_t i = 0; i < count; i++) probe += 0 * weight_at(weights, i);
    return !isnan(probe);
}

static void fold_column(float *largest, float value)
{
    value = fabsf(value);
    if (value > *largest) *largest = value;
}

void int8_scales(const struct float_weights *weights, float *scales)
{
    size_t k = weights->k, n = weights->n;
    for (size_t i = 0; i < n; i++) scales[i] = 0;
    if (weights->is_transposed) {
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < k; j++) fold_column(&scales[i], weight_at(weights, i * k + j));
    } else {
        for (size_t j = 0; j < k; j++)
            for (size_t i = 0; i < n; i++) fold_column(&scales[i], weight_at(weights, j * n + i));
    }
    for (size_t i = 0; i < n; i++) {
        scales[i] /= LARGEST;
        if (!(scales[i] >= 1e-30f)) scales[i] = 1; /* all of the column is nothing */
    }
}

static inline int8_t quantized(float value, float scale)
{
    return (int8_t)fmaxf(-LARGEST, fminf(LARGEST, rintf(value / scale)));
}

void int8_weights(const struct float_weights *weights, const float *scales, int8_t *ret)
{
    size_t k = weights->k, n = weights->n;
    if (weights->is_transposed) {
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < k; j++)
                ret[j * n + i] = quantized(weight_at(weights, i * k + j), scales[i]);
    } else {
        for (size_t j = 0; j < k; j++)
            for (size_t i = 0; i < n; i++)
                ret[j * n + i] = quantized(weight_at(weights, j * n + i), scales[i]);
    }
}
