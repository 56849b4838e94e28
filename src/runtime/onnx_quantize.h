/* SPDX-License-Identifier: Apache-2.0 */
/* onnx_quantize.h - an ONNX model with its matrix products in int8, from the model in float32.
 *
 * A product y = a * W with constant weights W [k, n] becomes
 *
 *     s = max |a| of each row / 127          q = round(a / s) + 128, uint8
 *     y = (q - 128) * int8(W)  * scale of W's column  * s of the row
 *
 * in ONNX's own operators and MatMulIntegerToFloat of the domain com.microsoft, which ONNX Runtime's cpu
 * provider has. Rows of `a` (records, or tokens of one) have their own scales, so that a record's
 * answer does not depend on its neighbours in a call, and one large value costs its own row alone.
 * A row that is not finite answers NaN, as it would in float32. Everything else stays float32. */
#ifndef TIDEMILL_RUNTIME_ONNX_QUANTIZE_H
#define TIDEMILL_RUNTIME_ONNX_QUANTIZE_H

#include "base/base.h"

struct quantize_counts {
    uint32_t products;  /* with constant float32 weights */
    uint32_t quantized; /* of these */
};

/* Whether int8 is worth a try: what turning rows into int8 and back costs grows with k + n, what it saves
 * with k * n. 64 x 64 runs at half the speed, 384 x 384 at more than twice. 64 x 128 is let through,
 * though it is a little slower here: the sample tells, and on other processors it may gain
 * (docs/precision.md). */
bool int8_pays(uint64_t k, uint64_t n);

/* `model`: the bytes of a .onnx file. *ret: those of the new one, the caller's to free also after an
 * error. ERROR_USAGE where int8 cannot do anything for this model; ERROR_MODEL_LOAD: it is broken. */
tidemill_error *onnx_quantize(struct slice model, struct buffer *ret,
                              struct quantize_counts *counts);

#endif
