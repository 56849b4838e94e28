/* SPDX-License-Identifier: Apache-2.0 */
/* encode_array.c - answers as .npy rows, and a .npz archive from them.
 *
 * .npy, version 1.0 (numpy.lib.format): "\x93NUMPY" 1 0, a 2-byte length, a Python dict as text, blanks
 * and a newline; 128 bytes in all, so that the count can be filled in when it is known. The data follows.
 *
 * .npz is a zip archive of .npy members, stored. Rows come interleaved (all outputs of record 0, of
 * record 1, ...); encoder_assemble copies each output's share into its member. Times are 1980-01-01, so
 * that equal answers make equal bytes. Sizes beyond 4 GiB use zip64 (APPNOTE 4.5.3). */
#include "format/encode_parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>


#define NPY_HEADER_BYTES 128

static const char *descriptor(enum tensor_type type)
{
    switch (type) {
    case TENSOR_FLOAT:
        return "<f4";
    case TENSOR_DOUBLE:
        return "<f8";
    case TENSOR_FLOAT16:
        return "<f2";
    case TENSOR_INT8:
        return "|i1";
    case TENSOR_INT16:
        return "<i2";
    case TENSOR_INT32:
        return "<i4";
    case TENSOR_INT64:
        return "<i8";
    case TENSOR_UINT8:
        return "|u1";
    case TENSOR_UINT16:
        return "<u2";
    case TENSOR_UINT32:
        return "<u4";
    case TENSOR_UINT64:
        return "<u8";
    case TENSOR_BOOL:
        return "|b1";
    default:
        return NULL;
    }
}

tidemill_error *array_plan_output(struct output_plan *plan)
{
    const struct value_spec *spec = plan->spec;
    if (plan->post.pick == PICK_TOP_K)
        return error_new(ERROR_USAGE, "--post topk: arrays hold numbers alone; use JSONL or CSV");
    plan->stored = spec->type;
    if (spec->type == TENSOR_BFLOAT16) plan->stored = TENSOR_FLOAT; /* numpy has no bfloat16 */
    if (plan->post.pick == PICK_ARGMAX) plan->stored = TENSOR_INT64;
    if (spec->kind != VALUE_TENSOR || descriptor(plan->stored) == NULL)
        return error_new(ERROR_USAGE, "output '%s' cannot be an array of numbers; use JSONL",
                         spec->name);
    if (!plan->is_row_known)
        return error_new(ERROR_USAGE,
                         "output '%s' has a dimension that may differ between records, so it cannot "
                         "be one array; use JSONL",
                         spec->name);
    if (plan->post.pick == PICK_ARGMAX) {
        int64_t n = plan->row.dims[plan->row.rank - 1];
        plan->row.rank--; /* what is stored: one place for each stretch */
        plan->row_count = n == 0 ? 0 : plan->row_count / (size_t)n;
    }
    if (!tensor_bytes(plan->stored, plan->row_count, &plan->stored_bytes))
        return error_new(ERROR_USAGE, "output '%s' is too large", spec->name);
    return NULL;
}

void array_header(const struct output_plan *plan, uint64_t n_rows, struct buffer *out)
{
    char text[NPY_HEADER_BYTES + 1];
    int size = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (%llu,",
                        descriptor(plan->stored), (unsigned long long)n_rows);
    for (int32_t d = 0; d < plan->row.rank; d++)
        size += snprintf(text + size, sizeof text - (size_t)size, "%s%lld%s", d == 0 ? " " : ", ",
                         (long long)plan->row.dims[d], "");
    size += snprintf(text + size, sizeof text - (size_t)size, "), }");
    static const char magic[] = "\x93NUMPY\x01\x00";
    size_t room = NPY_HEADER_BYTES - 10;
    buffer_append(out, magic, 8);
    buffer_byte(out, (char)(room & 255));
    buffer_byte(out, (char)(room >> 8));
    buffer_append(out, text, (size_t)size);
    for (size_t i = (size_t)size; i + 1 < room; i++) buffer_byte(out, ' ');
    buffer_byte(out, '\n');
}

/* --- rows --------------------------------------------------------------------------------------------- */

static bool is_floating(enum tensor_type type)
{
    return type == TENSOR_FLOAT || type == TENSOR_DOUBLE || type == TENSOR_FLOAT16;
}

static void store_number(char *place, enum tensor_type type, size_t k, double value)
{
    float single = (float)value;
    uint16_t half = half_from_float(single);
    if (type == TENSOR_FLOAT) memcpy(place + 4 * k, &single, sizeof single);
    if (type == TENSOR_DOUBLE) memcpy(place + 8 * k, &value, sizeof value);
    if (type == TENSOR_FLOAT16) memcpy(place + 2 * k, &half, sizeof half);
}

static enum error_code store_places(struct encode_scratch *scratch, const double *numbers,
                                    size_t outer, size_t n, char *place)
{
    for (size_t r = 0; r < outer; r++) {
        post_top(numbers + r * n, n, 1, scratch->places);
        int64_t best = scratch->places[0];
        memcpy(place + 8 * r, &best, sizeof best);
    }
    return ERROR_OK;
}

static enum error_code store_processed(const struct encoder *encoder,
                                       struct encode_scratch *scratch,
                                       const struct output_plan *plan, const struct row_view *view,
                                       char *place)
{
    size_t count, outer, n;
    const double *numbers = row_numbers(scratch, view, &plan->post, &count);
    if (numbers == NULL) return ERROR_MEMORY;
    for (size_t k = 0; k < count && encoder->config.nonfinite == NONFINITE_ERROR; k++)
        if (!isfinite(numbers[k])) return fail_nonfinite(scratch, plan->spec, numbers[k], k);
    row_stretches(&view->shape, &outer, &n);
    if (plan->post.pick == PICK_ARGMAX) return store_places(scratch, numbers, outer, n, place);
    for (size_t k = 0; k < count; k++) store_number(place, plan->stored, k, numbers[k]);
    return ERROR_OK;
}

static bool has_known_shape(const struct output_plan *plan, const struct row_view *view)
{
    size_t count, outer, n;
    if (!shape_count(&view->shape, &count)) return false;
    row_stretches(&view->shape, &outer, &n);
    return (plan->post.pick == PICK_ARGMAX ? outer : count) == plan->row_count;
}

static enum error_code append_output(const struct encoder *encoder, struct encode_scratch *scratch,
                                     size_t i, uint32_t row, struct buffer *out)
{
    const struct output_plan *plan = &encoder->outputs[i];
    struct row_view view = row_view_of(encoder, scratch, i, row);
    if (!has_known_shape(plan, &view)) {
        snprintf(scratch->message, sizeof scratch->message,
                 "output '%s' has another shape than the model declares", plan->spec->name);
        return ERROR_MODEL_ERROR;
    }
    char *place = buffer_reserve(out, plan->stored_bytes + 1);
    if (place == NULL) return ERROR_MEMORY;
    enum error_code code = ERROR_OK;
    bool is_float = is_floating(plan->spec->type) || plan->spec->type == TENSOR_BFLOAT16;
    if (is_float)
        code = store_processed(encoder, scratch, plan, &view, place);
    else
        memcpy(place, view.data, plan->stored_bytes);
    if (code == ERROR_OK) out->size += plan->stored_bytes;
    return code;
}

enum error_code array_append_record(const struct encoder *encoder, struct encode_scratch *scratch,
                                    uint32_t row, struct buffer *out)
{
    for (size_t i = 0; i < encoder->config.n_outputs; i++) {
        enum error_code code = append_output(encoder, scratch, i, row, out);
        if (code != ERROR_OK) return code;
    }
    return ERROR_OK;
}

void array_append_failed(const struct output_plan *plan, struct buffer *out)
{
    char *place = buffer_reserve(out, plan->stored_bytes + 1);
    if (place == NULL) return;
    memset(place, 0, plan->stored_bytes);
    for (size_t k = 0; k < plan->row_count && is_floating(plan->stored); k++)
        store_number(place, plan->stored, k, (double)NAN);
    out->size += plan->stored_bytes;
}
