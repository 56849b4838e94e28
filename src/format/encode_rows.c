/* SPDX-License-Identifier: Apache-2.0 */
/* encode_rows.c - which part of a microbatch's answer belongs to which record. Nothing is believed
 * that the answer says of itself: counts are compared with what was asked for. */
#include "format/encode_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t rows_expected(const struct encoder *encoder, uint32_t n_rows)
{
    return encoder->config.batch_fixed > 0 ? (size_t)encoder->config.batch_fixed : n_rows;
}

static bool reserve_rows(struct encode_scratch *scratch, size_t i, size_t n)
{
    if (scratch->string_capacity[i] >= n) return true;
    size_t *rows = realloc(scratch->string_rows[i], n * sizeof *rows);
    if (rows == NULL) return false;
    scratch->string_rows[i] = rows;
    scratch->string_capacity[i] = n;
    return true;
}

/* Length of the packed string at `offset`; false: it does not lie inside the value. */
static bool string_at(const struct value *value, size_t offset, size_t *ret_size)
{
    uint32_t size;
    if (value->bytes < sizeof size || offset > value->bytes - sizeof size) return false;
    memcpy(&size, value->data + offset, sizeof size);
    *ret_size = size;
    return size <= value->bytes - sizeof size - offset;
}

/* Walks all strings once, noting where each record's first one is. */
static enum error_code index_strings(struct encode_scratch *scratch, size_t i, size_t n_rows)
{
    const struct value *value = &scratch->values[i];
    size_t count, offset = 0;
    if (!shape_count(&value->shape, &count) || !reserve_rows(scratch, i, n_rows + 1))
        return ERROR_MEMORY;
    size_t row_count = n_rows == 0 ? 0 : count / n_rows;
    for (size_t k = 0; k < count; k++) {
        size_t size;
        if (row_count > 0 && k % row_count == 0) scratch->string_rows[i][k / row_count] = offset;
        if (!string_at(value, offset, &size)) return ERROR_MODEL_ERROR;
        offset += sizeof(uint32_t) + size;
    }
    for (size_t r = 0; r < n_rows && row_count == 0; r++) scratch->string_rows[i][r] = 0;
    scratch->string_rows[i][n_rows] = offset;
    return ERROR_OK;
}

static enum error_code wrong_count(struct encode_scratch *scratch, const char *name,
                                   long long found, size_t expected)
{
    snprintf(scratch->message, sizeof scratch->message, "output '%s' has %lld rows for %zu records",
             name, found, expected);
    return ERROR_MODEL_ERROR;
}

/* The record's part of a tensor, by the answer's own shape. */
static struct shape row_shape(const struct encoder *encoder, const struct value *value)
{
    struct shape shape = value->shape;
    if (!encoder->config.is_batched) return shape;
    shape.rank--;
    for (int32_t d = 0; d < shape.rank; d++) shape.dims[d] = value->shape.dims[d + 1];
    return shape;
}

static bool is_as_declared(const struct shape *declared, const struct shape *found)
{
    if (declared->rank != found->rank) return false;
    for (int32_t d = 0; d < found->rank; d++)
        if (declared->dims[d] >= 0 && declared->dims[d] != found->dims[d]) return false;
    return true;
}

/* Shapes may differ from what the model declares, and may be declared as unknown; but columns, array
 * rows, and classes with names are counted beforehand. */
static enum error_code check_row_shape(const struct encoder *encoder,
                                       struct encode_scratch *scratch, size_t i)
{
    const struct output_plan *plan = &encoder->outputs[i];
    struct shape shape = row_shape(encoder, &scratch->values[i]);
    char *message = scratch->message;
    size_t size = sizeof scratch->message, n_labels = encoder->config.n_labels;
    if (plan->is_shape_fixed && !is_as_declared(&plan->row, &shape)) {
        char found[96], declared[96];
        shape_text(&shape, NULL, found, sizeof found);
        shape_text(&plan->row, NULL, declared, sizeof declared);
        snprintf(message, size, "output '%s' has shape %s a record, the model declares %s",
                 plan->spec->name, found, declared);
        return ERROR_MODEL_ERROR;
    }
    if (!has_post(&plan->post)) return ERROR_OK;
    if (shape.rank == 0) {
        snprintf(message, size, "output '%s' is one number a record, --post works over a dimension",
                 plan->spec->name);
        return ERROR_MODEL_ERROR;
    }
    size_t n_classes = (size_t)shape.dims[shape.rank - 1];
    if (plan->post.pick == PICK_NONE || n_labels == 0 || n_classes == n_labels) return ERROR_OK;
    snprintf(message, size, "output '%s' has %zu classes, --labels has %zu names", plan->spec->name,
             n_classes, n_labels);
    return ERROR_MODEL_ERROR;
}

static enum error_code check_value(const struct encoder *encoder, struct encode_scratch *scratch,
                                   size_t i)
{
    const struct value *value = &scratch->values[i];
    const struct value_spec *spec = encoder->outputs[i].spec;
    bool is_batched = encoder->config.is_batched;
    size_t expected = rows_expected(encoder, scratch->n_rows);
    if (value->kind != spec->kind || (value->kind == VALUE_TENSOR && value->type != spec->type)) {
        snprintf(scratch->message, sizeof scratch->message,
                 "output '%s' is not of the type that the model declares", spec->name);
        return ERROR_MODEL_ERROR;
    }
    if (is_batched && value->kind == VALUE_TENSOR) {
        int64_t found = value->shape.rank > 0 ? value->shape.dims[0] : -1;
        if (found < 0 || (size_t)found != expected)
            return wrong_count(scratch, spec->name, found, expected);
    }
    if (is_batched && value->kind == VALUE_SEQUENCE && value->n_children != expected)
        return wrong_count(scratch, spec->name, value->n_children, expected);
    if (is_batched && value->kind == VALUE_MAP && expected != 1)
        return wrong_count(scratch, spec->name, 1, expected);
    if (value->kind != VALUE_TENSOR) return ERROR_OK;
    enum error_code code = check_row_shape(encoder, scratch, i);
    if (code == ERROR_OK && value->type == TENSOR_STRING)
        return index_strings(scratch, i, is_batched ? expected : 1);
    return code;
}

/* Room for the largest part of a record that trim_row may have to move. */
static bool reserve_trimmed(const struct encoder *encoder, struct encode_scratch *scratch)
{
    for (size_t i = 0; i < encoder->config.n_outputs && scratch->lengths.lengths != NULL; i++) {
        const struct value *value = &scratch->values[i];
        bool is_inside = encoder->config.padded_dims != NULL && encoder->config.padded_dims[i] > 1;
        if (!is_inside || value->kind != VALUE_TENSOR || value->shape.rank == 0) continue;
        buffer_reset(&scratch->trimmed, SIZE_MAX);
        size_t row_bytes = value->bytes / (size_t)MAX(value->shape.dims[0], INT64_C(1));
        if (buffer_reserve(&scratch->trimmed, row_bytes + 1) == NULL) return false;
    }
    return true;
}

enum error_code encoder_set_values(const struct encoder *encoder, struct encode_scratch *scratch,
                                   const struct value *values, size_t n_values, uint32_t n_rows,
                                   const struct row_lengths *lengths, const char **ret_message)
{
    scratch->values = values;
    scratch->n_values = n_values;
    scratch->n_rows = n_rows;
    scratch->lengths = lengths != NULL ? *lengths : (struct row_lengths){0};
    scratch->message[0] = '\0';
    enum error_code code = ERROR_OK;
    if (n_values < encoder->config.n_outputs) {
        snprintf(scratch->message, sizeof scratch->message, "the model gave %zu outputs of %zu",
                 n_values, encoder->config.n_outputs);
        code = ERROR_MODEL_ERROR;
    }
    for (size_t i = 0; i < encoder->config.n_outputs && code == ERROR_OK; i++)
        code = check_value(encoder, scratch, i);
    if (code == ERROR_OK && !reserve_trimmed(encoder, scratch)) code = ERROR_MEMORY;
    *ret_message = scratch->message[0] != '\0' ? scratch->message : error_code_sentence(code);
    return code;
}

/* Moves what is kept of a row to the front of `out`: dimension by dimension, the outermost first. */
static unsigned char *copy_kept(const struct shape *from, const struct shape *kept, int32_t dim,
                                size_t element_bytes, const unsigned char *data, unsigned char *out)
{
    size_t step = element_bytes;
    for (int32_t d = dim + 1; d < from->rank; d++) step *= (size_t)from->dims[d];
    if (memcmp(from->dims + dim + 1, kept->dims + dim + 1,
               (size_t)(from->rank - dim - 1) * sizeof from->dims[0]) == 0) {
        memcpy(out, data, step * (size_t)kept->dims[dim]);
        return out + step * (size_t)kept->dims[dim];
    }
    for (int64_t k = 0; k < kept->dims[dim]; k++, data += step)
        out = copy_kept(from, kept, dim + 1, element_bytes, data, out);
    return out;
}

/* Cuts the padding off. Where only the outermost dimension is padded, what is kept lies in front. */
static void trim_row(struct encode_scratch *scratch, uint32_t dims, uint32_t row,
                     struct row_view *view)
{
    struct shape kept = view->shape;
    bool is_inside = false;
    for (int32_t d = 0; d < kept.rank; d++) {
        if ((dims >> d & 1) == 0 || kept.dims[d] != scratch->lengths.padded) continue;
        kept.dims[d] = scratch->lengths.lengths[row];
        is_inside |= d > 0;
    }
    unsigned bits = tensor_type_bits(view->value->type);
    size_t count = 0;
    if (is_inside && bits >= 8 && shape_count(&kept, &count) && count > 0) {
        unsigned char *out = (unsigned char *)scratch->trimmed.data;
        copy_kept(&view->shape, &kept, 0, bits / 8, view->data, out);
        view->data = out;
        view->end = out + count * (bits / 8);
    } else if (is_inside && count > 0) {
        return; /* strings and 4-bit numbers keep their padding */
    }
    view->shape = kept;
}

static struct row_view tensor_row(const struct encoder *encoder, struct encode_scratch *scratch,
                                  size_t i, uint32_t row)
{
    const struct value *value = &scratch->values[i];
    struct row_view view = {.value = value,
                            .data = value->data,
                            .end = value_end(value),
                            .shape = row_shape(encoder, value)};
    if (!encoder->config.is_batched) return view;
    size_t count = 0;
    if (value->type == TENSOR_STRING && value->bytes > 0)
        view.data += scratch->string_rows[i][row];
    else if (tensor_type_bits(value->type) == 4 && shape_count(&view.shape, &count))
        view.first = count * row; /* a record may begin inside a byte */
    else if (value->bytes > 0)
        view.data += value->bytes / (size_t)value->shape.dims[0] * row;
    uint32_t padded_dims = encoder->config.padded_dims != NULL ? encoder->config.padded_dims[i] : 0;
    bool is_padded = padded_dims != 0 && scratch->lengths.lengths != NULL &&
                     scratch->lengths.lengths[row] < scratch->lengths.padded;
    if (is_padded) trim_row(scratch, padded_dims, row, &view);
    return view;
}

struct row_view row_view_of(const struct encoder *encoder, struct encode_scratch *scratch, size_t i,
                            uint32_t row)
{
    const struct value *value = &scratch->values[i];
    if (value->kind == VALUE_TENSOR) return tensor_row(encoder, scratch, i, row);
    if (value->kind == VALUE_SEQUENCE && encoder->config.is_batched)
        value = &scratch->values[value->first_child + row];
    return (struct row_view){
        .value = value, .data = value->data, .end = value_end(value), .shape = value->shape};
}

void row_stretches(const struct shape *shape, size_t *ret_outer, size_t *ret_n)
{
    size_t count = 0;
    shape_count(shape, &count);
    *ret_n = shape->rank > 0 ? (size_t)shape->dims[shape->rank - 1] : 1;
    *ret_outer = *ret_n == 0 ? 0 : count / *ret_n;
}

double *row_numbers(struct encode_scratch *scratch, const struct row_view *view,
                    const struct post *post, size_t *ret_count)
{
    size_t count = 0, outer, n;
    shape_count(&view->shape, &count);
    if (scratch->numbers_capacity < count) {
        double *numbers = realloc(scratch->numbers, count * sizeof *numbers);
        if (numbers == NULL) return NULL;
        scratch->numbers = numbers;
        scratch->numbers_capacity = count;
    }
    for (size_t k = 0; k < count; k++)
        scratch->numbers[k] = tensor_real(view->data, view->value->type, k);
    row_stretches(&view->shape, &outer, &n);
    post_apply(post, scratch->numbers, outer, n);
    *ret_count = count;
    static double nothing;
    return scratch->numbers != NULL ? scratch->numbers : &nothing;
}

enum error_code check_numbers(const struct encoder *encoder, struct encode_scratch *scratch,
                              const struct output_plan *plan, const struct row_view *view,
                              const double *numbers, size_t count)
{
    if (encoder->config.nonfinite != NONFINITE_ERROR) return ERROR_OK;
    size_t place = 0;
    while (place < count && isfinite(numbers[place])) place++;
    if (place == count) return ERROR_OK;
    double value = numbers[place];
    for (size_t k = 0; k < count; k++) { /* softmax spreads one NaN over its whole stretch */
        double own = tensor_real(view->data, view->value->type, k);
        if (isfinite(own)) continue;
        place = k;
        value = own;
        break;
    }
    return fail_nonfinite(scratch, plan->spec, &view->shape, value, place);
}

enum error_code fail_nonfinite(struct encode_scratch *scratch, const struct value_spec *spec,
                               const struct shape *shape, double value, size_t place)
{
    struct shape index = *shape;
    char text[96] = "";
    for (int32_t d = index.rank; d-- > 0;) {
        size_t dim = (size_t)MAX(shape->dims[d], INT64_C(1));
        index.dims[d] = (int64_t)(place % dim);
        place /= dim;
    }
    if (index.rank > 0) shape_text(&index, NULL, text, sizeof text);
    snprintf(scratch->message, sizeof scratch->message, "output '%s' has %s%s%s", spec->name,
             isnan(value) ? "NaN"
             : value > 0  ? "infinity"
                          : "-infinity",
             index.rank > 0 ? " at " : "", text);
    return ERROR_OUTPUT_NOT_FINITE;
}
