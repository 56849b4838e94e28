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
    case TENSOR_FLOAT: return "<f4";
    case TENSOR_DOUBLE: return "<f8";
    case TENSOR_FLOAT16: return "<f2";
    case TENSOR_INT8: return "|i1";
    case TENSOR_INT16: return "<i2";
    case TENSOR_INT32: return "<i4";
    case TENSOR_INT64: return "<i8";
    case TENSOR_UINT8: return "|u1";
    case TENSOR_UINT16: return "<u2";
    case TENSOR_UINT32: return "<u4";
    case TENSOR_UINT64: return "<u8";
    case TENSOR_BOOL: return "|b1";
    default: return NULL;
    }
}

/* The dictionary; its length, of which at most size - 1 bytes and a NUL are stored. */
static size_t header_text(const struct output_plan *plan, uint64_t n_rows, char *text, size_t size)
{
    char dims[TENSOR_RANK_MAX * 24] = "";
    size_t used = 0;
    for (int32_t d = 0; d < plan->stored_row.rank; d++)
        used += (size_t)snprintf(dims + used, sizeof dims - used, "%s%lld", d == 0 ? " " : ", ",
                                 (long long)plan->stored_row.dims[d]);
    int length =
        snprintf(text, size, "{'descr': '%s', 'fortran_order': False, 'shape': (%llu,%s), }",
                 descriptor(plan->stored), (unsigned long long)n_rows, dims);
    return (size_t)length;
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
        return error_new(
            ERROR_USAGE,
            "output '%s' has a dimension that may differ between records, so it cannot "
            "be one array; use JSONL",
            spec->name);
    plan->stored_row = plan->row;
    if (plan->post.pick == PICK_ARGMAX) { /* one place for each stretch of classes */
        if (plan->row_count == 0)
            return error_new(ERROR_USAGE, "output '%s' has no classes to choose from", spec->name);
        plan->stored_row.rank--;
    }
    bool is_possible = shape_count(&plan->stored_row, &plan->stored_count) &&
                       tensor_bytes(plan->stored, plan->stored_count, &plan->stored_bytes) &&
                       header_text(plan, UINT64_MAX, NULL, 0) < NPY_HEADER_BYTES - 10;
    return is_possible ? NULL : error_new(ERROR_USAGE, "output '%s' is too large", spec->name);
}

void array_header(const struct output_plan *plan, uint64_t n_rows, struct buffer *out)
{
    char text[NPY_HEADER_BYTES];
    size_t size = header_text(plan, n_rows, text, sizeof text); /* it fits: array_plan_output */
    static const char magic[] = "\x93NUMPY\x01\x00";
    size_t room = NPY_HEADER_BYTES - 10;
    buffer_append(out, magic, 8);
    buffer_byte(out, (char)(room & 255));
    buffer_byte(out, (char)(room >> 8));
    buffer_append(out, text, size);
    for (size_t i = size; i + 1 < room; i++) buffer_byte(out, ' ');
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

static void store_places(struct encode_scratch *scratch, const double *numbers, size_t outer,
                         size_t n, char *place)
{
    for (size_t r = 0; r < outer; r++) {
        post_top(numbers + r * n, n, 1, scratch->places);
        int64_t best = scratch->places[0];
        memcpy(place + 8 * r, &best, sizeof best);
    }
}

static enum error_code store_processed(const struct encoder *encoder,
                                       struct encode_scratch *scratch,
                                       const struct output_plan *plan, const struct row_view *view,
                                       char *place)
{
    size_t count, outer, n;
    const double *numbers = row_numbers(scratch, view, &plan->post, &count);
    if (numbers == NULL) return ERROR_MEMORY;
    enum error_code code = check_numbers(encoder, scratch, plan, view, numbers, count);
    if (code != ERROR_OK) return code;
    row_stretches(&view->shape, &outer, &n);
    if (plan->post.pick == PICK_ARGMAX) store_places(scratch, numbers, outer, n, place);
    if (plan->post.pick == PICK_ARGMAX) return ERROR_OK;
    for (size_t k = 0; k < count; k++) store_number(place, plan->stored, k, numbers[k]);
    return ERROR_OK;
}

static enum error_code append_output(const struct encoder *encoder, struct encode_scratch *scratch,
                                     size_t i, uint32_t row, struct buffer *out)
{
    const struct output_plan *plan = &encoder->outputs[i];
    struct row_view view = row_view_of(encoder, scratch, i, row);
    char *place = buffer_reserve(out, plan->stored_bytes + 1);
    if (place == NULL) return ERROR_MEMORY;
    enum error_code code = ERROR_OK;
    bool is_float = is_floating(plan->spec->type) || plan->spec->type == TENSOR_BFLOAT16;
    if (is_float)
        code = store_processed(encoder, scratch, plan, &view, place);
    else if (plan->stored_bytes > 0)
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
    for (size_t k = 0; k < plan->stored_count && is_floating(plan->stored); k++)
        store_number(place, plan->stored, k, (double)NAN);
    out->size += plan->stored_bytes;
}
