/* SPDX-License-Identifier: Apache-2.0 */
/* deviation.c - compares answers row by row, and says what came of it. Pure: no clock, no model. */
#include "job/deviation.h"

#include "format/encode.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

void deviation_begin(struct deviation *deviation, const struct model_signature *signature)
{
    *deviation =
        (struct deviation){.n_outputs = MIN(signature->n_outputs, (size_t)DEVIATION_OUTPUTS_MAX)};
    for (size_t i = 0; i < deviation->n_outputs; i++) {
        struct output_deviation *output = &deviation->outputs[i];
        snprintf(output->name, sizeof output->name, "%.60s", signature->outputs[i].name);
        output->least_cosine = 1;
    }
}

/* --- rows ----------------------------------------------------------------------------------------------- */

static bool is_real(enum tensor_type type)
{
    return type == TENSOR_FLOAT || type == TENSOR_DOUBLE || type == TENSOR_FLOAT16 ||
           type == TENSOR_BFLOAT16;
}

/* What one look at two rows gives. */
struct row_sums {
    double exact_square, lower_square, product;
    double size, difference, largest_difference;
    size_t exact_top, lower_top;
    bool is_exact_finite, is_lower_finite;
};

static struct row_sums compare_reals(const unsigned char *exact, const unsigned char *lower,
                                     enum tensor_type type, size_t count)
{
    struct row_sums sums = {.is_exact_finite = true, .is_lower_finite = true};
    double exact_best = -INFINITY, lower_best = -INFINITY;
    for (size_t i = 0; i < count; i++) {
        double a = tensor_real(exact, type, i), b = tensor_real(lower, type, i),
               apart = fabs(a - b);
        sums.is_exact_finite &= isfinite(a) != 0;
        sums.is_lower_finite &= isfinite(b) != 0;
        sums.exact_square += a * a;
        sums.lower_square += b * b;
        sums.product += a * b;
        sums.size += fabs(a);
        sums.difference += apart;
        if (apart > sums.largest_difference) sums.largest_difference = apart;
        if (a > exact_best) exact_best = a, sums.exact_top = i;
        if (b > lower_best) lower_best = b, sums.lower_top = i;
    }
    return sums;
}

static double cosine(const struct row_sums *sums)
{
    if (!sums->is_lower_finite) return 0;
    if (sums->exact_square == 0 && sums->lower_square == 0) return 1;
    if (sums->exact_square == 0 || sums->lower_square == 0) return 0;
    double ratio = sums->product / sqrt(sums->exact_square) / sqrt(sums->lower_square);
    return MAX(-1.0, MIN(1.0, ratio));
}

static void add_real_row(struct output_deviation *output, const struct row_sums *sums, bool has_top)
{
    if (!sums->is_exact_finite) return;
    output->n_rows++;
    if (output->kind == DEVIATION_COSINE) {
        double similarity = cosine(sums);
        output->sum += similarity;
        output->least_cosine = MIN(output->least_cosine, similarity);
    } else {
        output->sum += sums->size;
        output->difference_sum += sums->is_lower_finite ? sums->difference : 2 * sums->size;
    }
    if (sums->is_lower_finite)
        output->largest_difference = MAX(output->largest_difference, sums->largest_difference);
    if (!has_top) return;
    output->n_with_top++;
    output->n_agreeing += sums->is_lower_finite && sums->exact_top == sums->lower_top;
}

static void add_reals(struct output_deviation *output, const struct value *exact,
                      const struct value *lower, size_t n_rows, size_t row_count, bool is_vector)
{
    size_t row_bytes;
    if (!tensor_bytes(exact->type, row_count, &row_bytes)) return;
    output->kind = row_count == 1 ? DEVIATION_RELATIVE : DEVIATION_COSINE;
    bool has_top = is_vector && row_count >= 2 && row_count <= DEVIATION_CLASSES_MAX;
    for (size_t r = 0; r < n_rows; r++) {
        struct row_sums sums = compare_reals(exact->data + r * row_bytes,
                                             lower->data + r * row_bytes, exact->type, row_count);
        add_real_row(output, &sums, has_top);
    }
}

/* The bytes of `count` strings at *at, which goes behind them. */
static bool take_strings(const unsigned char **at, const unsigned char *end, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t length;
        if ((size_t)(end - *at) < sizeof length) return false;
        memcpy(&length, *at, sizeof length);
        *at += sizeof length;
        if ((size_t)(end - *at) < length) return false;
        *at += length;
    }
    return true;
}

/* Rows of fixed size, or of strings: the same bytes or not. */
static void add_equals(struct output_deviation *output, const struct value *exact,
                       const struct value *lower, size_t n_rows, size_t row_count)
{
    size_t row_bytes = 0;
    bool is_text = exact->type == TENSOR_STRING;
    if (!is_text &&
        (tensor_type_bits(exact->type) < 8 || !tensor_bytes(exact->type, row_count, &row_bytes)))
        return;
    output->kind = DEVIATION_EQUAL;
    const unsigned char *a = exact->data, *b = lower->data;
    const unsigned char *a_end = a + exact->bytes, *b_end = b + lower->bytes;
    for (size_t r = 0; r < n_rows; r++) {
        const unsigned char *a_start = a, *b_start = b;
        a += row_bytes;
        b += row_bytes;
        if (is_text && (!take_strings(&a, a_end, row_count) || !take_strings(&b, b_end, row_count)))
            return;
        output->n_rows++;
        output->n_agreeing +=
            a - a_start == b - b_start && memcmp(a_start, b_start, (size_t)(a - a_start)) == 0;
    }
}

static bool is_same_shape(const struct value *a, const struct value *b)
{
    if (a->kind != VALUE_TENSOR || b->kind != VALUE_TENSOR || a->type != b->type ||
        a->shape.rank != b->shape.rank)
        return false;
    for (int32_t d = 0; d < a->shape.rank; d++)
        if (a->shape.dims[d] != b->shape.dims[d]) return false;
    return a->type == TENSOR_STRING || a->bytes == b->bytes;
}

static void add_output(struct output_deviation *output, bool is_batched, const struct value *exact,
                       const struct value *lower, uint32_t n_rows)
{
    size_t count, rows_there = 1;
    if (!is_same_shape(exact, lower) || !shape_count(&exact->shape, &count) || count == 0) return;
    if (is_batched) {
        if (exact->shape.rank < 1 || exact->shape.dims[0] < (int64_t)n_rows) return;
        rows_there = (size_t)exact->shape.dims[0]; /* more than n_rows where they were filled up */
    }
    bool is_vector = exact->shape.rank == (is_batched ? 2 : 1);
    size_t rows = is_batched ? n_rows : 1, row_count = count / rows_there;
    if (is_real(exact->type))
        add_reals(output, exact, lower, rows, row_count, is_vector);
    else
        add_equals(output, exact, lower, rows, row_count);
}

void deviation_add(struct deviation *deviation, const struct model_signature *signature,
                   const struct value *exact, const struct value *lower, uint32_t n_rows)
{
    for (size_t i = 0; i < deviation->n_outputs; i++)
        add_output(&deviation->outputs[i], signature->is_batched, &exact[i], &lower[i], n_rows);
    deviation->n_rows += signature->is_batched ? n_rows : 1;
}

/* --- means ---------------------------------------------------------------------------------------------- */

static void end_output(struct output_deviation *output)
{
    double n = (double)output->n_rows;
    output->agreement = -1;
    output->mean_cosine = 1;
    if (output->n_rows == 0) return;
    switch (output->kind) {
    case DEVIATION_COSINE:
        output->mean_cosine = output->sum / n;
        output->deviation = 1 - output->mean_cosine;
        break;
    case DEVIATION_RELATIVE:
        output->deviation = output->difference_sum == 0
                                ? 0
                                : MIN(output->difference_sum / MAX(output->sum, 1e-300), 1e9);
        break;
    case DEVIATION_EQUAL:
        output->agreement = (double)output->n_agreeing / n;
        output->deviation = 1 - output->agreement;
        break;
    default: break;
    }
    if (output->n_with_top > 0)
        output->agreement = (double)output->n_agreeing / (double)output->n_with_top;
}

void deviation_end(struct deviation *deviation)
{
    for (size_t i = 0; i < deviation->n_outputs; i++) end_output(&deviation->outputs[i]);
}

double deviation_speedup(const struct deviation *deviation)
{
    return deviation->lower_s > 0 ? deviation->exact_s / deviation->lower_s : 0;
}

/* --- words ---------------------------------------------------------------------------------------------- */

static void output_text(const struct output_deviation *output, struct buffer *out)
{
    buffer_printf(out, "'%s': ", output->name);
    switch (output->kind) {
    case DEVIATION_COSINE:
        buffer_printf(out, "mean cosine %.5f, least %.5f, largest difference %.3g",
                      output->mean_cosine, output->least_cosine, output->largest_difference);
        break;
    case DEVIATION_RELATIVE:
        buffer_printf(out, "mean relative difference %.5f, largest difference %.3g",
                      output->deviation, output->largest_difference);
        break;
    case DEVIATION_EQUAL: buffer_printf(out, "%.1f%% the same", 100 * output->agreement); return;
    default: buffer_text(out, "not compared"); return;
    }
    if (output->agreement >= 0)
        buffer_printf(out, ", same largest element in %.1f%%", 100 * output->agreement);
}

static tidemill_error *too_far(const struct deviation *deviation,
                               const struct output_deviation *output, const char *precision,
                               double limit)
{
    struct buffer text = {0};
    output_text(output, &text);
    buffer_byte(&text, '\0');
    tidemill_error *error =
        text.is_failed
            ? error_memory()
            : error_new(ERROR_USAGE,
                        "--precision %s differs too much from the model itself on %" PRIu64
                        " of the first records: output %s. That is a deviation of %.5f, and "
                        "--max-deviation is "
                        "%g. Use --precision fp32, or allow it with a larger --max-deviation",
                        precision, deviation->n_rows, text.data, output->deviation, limit);
    buffer_free(&text);
    return error;
}

tidemill_error *deviation_check(const struct deviation *deviation, const char *precision,
                                double limit)
{
    bool is_any_compared = false;
    if (deviation->n_rows == 0) return NULL;
    for (size_t i = 0; i < deviation->n_outputs; i++) {
        const struct output_deviation *output = &deviation->outputs[i];
        is_any_compared = is_any_compared || output->kind != DEVIATION_NONE;
        if (output->deviation > limit) return too_far(deviation, output, precision, limit);
    }
    if (is_any_compared) return NULL;
    return error_new(ERROR_USAGE,
                     "--precision %s: none of the model's outputs is a tensor that could be "
                     "compared with the model's own answers; use --precision fp32",
                     precision);
}

void deviation_text(const struct deviation *deviation, const char *precision, struct buffer *out)
{
    double speedup = deviation_speedup(deviation);
    if (deviation->n_rows == 0) return;
    buffer_printf(out,
                  "precision    %s, against fp32 on %" PRIu64
                  " of the first records: %.2f times the speed",
                  precision, deviation->n_rows, speedup);
    for (size_t i = 0; i < deviation->n_outputs; i++) {
        buffer_text(out, "\n             ");
        output_text(&deviation->outputs[i], out);
    }
    if (speedup <= 1)
        buffer_printf(out,
                      "\n             warning: %s was not faster here; --precision fp32 is exact "
                      "and costs no more",
                      precision);
    buffer_text(out, "\n");
}

static void output_json(const struct output_deviation *output, struct buffer *out)
{
    buffer_text(out, "{\"name\":");
    format_json_string(out, output->name, strlen(output->name));
    if (output->kind != DEVIATION_NONE)
        buffer_printf(out, ",\"deviation\":%.6g", output->deviation);
    if (output->kind == DEVIATION_COSINE)
        buffer_printf(out, ",\"mean_cosine\":%.6f,\"least_cosine\":%.6f", output->mean_cosine,
                      output->least_cosine);
    if (output->kind == DEVIATION_COSINE || output->kind == DEVIATION_RELATIVE)
        buffer_printf(out, ",\"largest_difference\":%.6g", output->largest_difference);
    if (output->agreement >= 0) buffer_printf(out, ",\"agreement\":%.6f", output->agreement);
    buffer_text(out, "}");
}

void deviation_json(const struct deviation *deviation, struct buffer *out)
{
    if (deviation->n_rows == 0) {
        buffer_text(out, "null");
        return;
    }
    buffer_printf(out, "{\"records\":%" PRIu64 ",\"speedup\":%.3f,\"outputs\":[", deviation->n_rows,
                  deviation_speedup(deviation));
    for (size_t i = 0; i < deviation->n_outputs; i++) {
        if (i > 0) buffer_text(out, ",");
        output_json(&deviation->outputs[i], out);
    }
    buffer_text(out, "]}");
}
