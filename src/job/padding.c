/* SPDX-License-Identifier: Apache-2.0 */
/* padding.c - decides from names and shapes what may be padded, and what of the answer is padding. */
#include "job/padding.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Names under which transformers are exported. */
static const char mask_name[] = "attention_mask";
static const char ids_name[] = "input_ids";
static const char *const usual_names[] = {ids_name, mask_name, "token_type_ids", "position_ids"};

static ssize_t find_input(const struct model_signature *signature, const char *name, size_t size)
{
    for (size_t i = 0; i < signature->n_inputs; i++) {
        const char *own = signature->inputs[i].name;
        if (strlen(own) == size && memcmp(own, name, size) == 0) return (ssize_t)i;
    }
    return -1;
}

/* The one dimension of a record's part that varies; -1: none does, or several do. */
static int32_t variable_dim(const struct model_signature *signature, size_t input)
{
    struct shape row = value_row_shape(&signature->inputs[input], signature->is_batched);
    int32_t found = -1;
    for (int32_t d = 0; d < row.rank; d++) {
        if (row.dims[d] >= 0) continue;
        if (found >= 0) return -1;
        found = d;
    }
    return found;
}

/* A number as one element of `type`. False: the type has no such value. */
static bool make_element(enum tensor_type type, double value, struct input_padding *ret)
{
    int64_t whole = fabs(value) < 9e18 ? (int64_t)value : 0;
    bool is_whole = (double)whole == value;
    float single = (float)value;
    uint16_t half;
    unsigned bits = tensor_type_bits(type);
    ret->element_bytes = bits / 8;
    switch (type) {
    case TENSOR_FLOAT: memcpy(ret->element, &single, sizeof single); return true;
    case TENSOR_DOUBLE: memcpy(ret->element, &value, sizeof value); return true;
    case TENSOR_FLOAT16:
        half = half_from_float(single);
        memcpy(ret->element, &half, sizeof half);
        return true;
    case TENSOR_BFLOAT16:
        half = bfloat16_from_float(single);
        memcpy(ret->element, &half, sizeof half);
        return true;
    case TENSOR_BOOL:
    case TENSOR_UINT8:
    case TENSOR_INT8:
    case TENSOR_UINT16:
    case TENSOR_INT16:
    case TENSOR_UINT32:
    case TENSOR_INT32:
    case TENSOR_UINT64:
    case TENSOR_INT64:
        memcpy(ret->element, &whole,
               ret->element_bytes); /* little-endian: the low bytes come first */
        return is_whole;
    default: return false;
    }
}

static tidemill_error *pad_input(const struct model_signature *signature, size_t input,
                                 double value, const char *option, struct padding *ret)
{
    const struct value_spec *spec = &signature->inputs[input];
    struct input_padding *padding = &ret->inputs[input];
    padding->dim = variable_dim(signature, input);
    if (padding->dim < 0)
        return error_new(ERROR_USAGE, "%s: input '%s' has not just one dimension that varies",
                         option, spec->name);
    if (!make_element(spec->type, value, padding))
        return error_new(ERROR_USAGE, "%s: %g is no value of input '%s' (%s)", option, value,
                         spec->name, tensor_type_name(spec->type));
    ret->first = ret->is_on ? MIN(ret->first, input) : input;
    padding->is_padded = ret->is_on = true;
    return NULL;
}

static tidemill_error *take_option(const struct model_signature *signature, const char *text,
                                   struct padding *ret)
{
    char what[160], *end;
    snprintf(what, sizeof what, "--pad %s", text);
    const char *equals = strrchr(text, '=');
    if (equals == NULL || equals[1] == '\0')
        return error_new(ERROR_USAGE, "%s: not INPUT=VALUE", what);
    double value = strtod(equals + 1, &end);
    if (*end != '\0') return error_new(ERROR_USAGE, "%s: '%s' is no number", what, equals + 1);
    ssize_t input = find_input(signature, text, (size_t)(equals - text));
    if (input < 0) return error_new(ERROR_USAGE, "%s: the model has no such input", what);
    return pad_input(signature, (size_t)input, value, what, ret);
}

/* Whoever names a mask says that the model hides what it marks with zero. */
static tidemill_error *take_mask(const struct model_signature *signature, const char *name,
                                 struct padding *ret)
{
    ssize_t input = find_input(signature, name, strlen(name));
    bool is_varying = input >= 0 && variable_dim(signature, (size_t)input) >= 0;
    return is_varying ? pad_input(signature, (size_t)input, 0, "--mask", ret) : NULL;
}

/* Without a mask the model could not tell padding from tokens. */
static tidemill_error *take_usual(const struct model_signature *signature, int64_t pad_id,
                                  struct padding *ret)
{
    ssize_t mask = find_input(signature, mask_name, strlen(mask_name));
    if (mask < 0 || variable_dim(signature, (size_t)mask) < 0) return NULL;
    for (size_t i = 0; i < COUNT_OF(usual_names); i++) {
        ssize_t input = find_input(signature, usual_names[i], strlen(usual_names[i]));
        if (input < 0 || variable_dim(signature, (size_t)input) < 0) continue;
        double value = usual_names[i] == ids_name ? (double)pad_id : 0;
        TRY(pad_input(signature, (size_t)input, value, "padding", ret));
    }
    return NULL;
}

/* --- outputs ----------------------------------------------------------------------------------------- */

static const char *dim_name(const struct value_spec *spec, bool is_batched, int32_t row_dim)
{
    return spec->dim_names[row_dim + (is_batched ? 1 : 0)];
}

/* Whether some padded input calls its varying dimension so. */
static bool is_padded_name(const struct model_signature *signature, const struct padding *padding,
                           const char *name)
{
    for (size_t i = 0; i < signature->n_inputs; i++) {
        if (!padding->inputs[i].is_padded) continue;
        const char *own =
            dim_name(&signature->inputs[i], signature->is_batched, padding->inputs[i].dim);
        if (own != NULL && strcmp(own, name) == 0) return true;
    }
    return false;
}

static uint32_t padded_dims(const struct model_signature *signature, const struct padding *padding,
                            const struct value_spec *output)
{
    uint32_t dims = 0;
    if (output->kind != VALUE_TENSOR) return 0;
    struct shape row = value_row_shape(output, signature->is_batched);
    for (int32_t d = 0; d < row.rank; d++) {
        const char *name = row.dims[d] < 0 ? dim_name(output, signature->is_batched, d) : NULL;
        if (name != NULL && is_padded_name(signature, padding, name)) dims |= 1u << d;
    }
    return dims;
}

tidemill_error *padding_decide(const struct job_spec *spec, const struct model_signature *signature,
                               int64_t pad_id, struct padding *ret)
{
    *ret = (struct padding){0};
    if (signature->is_batched && signature->batch_fixed != 1)
        TRY(take_usual(signature, pad_id, ret));
    for (size_t i = 0; i < spec->masks.n; i++) TRY(take_mask(signature, spec->masks.items[i], ret));
    for (size_t i = 0; i < spec->pads.n; i++) TRY(take_option(signature, spec->pads.items[i], ret));
    if (ret->is_on && !signature->is_batched)
        return error_new(ERROR_USAGE,
                         "--pad: the model takes one record a call; there is nothing to "
                         "pad to");
    for (size_t i = 0; i < signature->n_outputs; i++)
        ret->output_dims[i] = padded_dims(signature, ret, &signature->outputs[i]);
    return NULL;
}
