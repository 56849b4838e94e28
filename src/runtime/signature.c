/* SPDX-License-Identifier: Apache-2.0 */
/* signature.c - whether the first dimension of a model's inputs and outputs counts records.
 *
 * It does when all inputs leave it open, under one name or none, and no output fixes it; or when all
 * inputs and outputs fix it at one number, which then is the size of each call, and no other dimension
 * is called a batch. Where shapes do not tell, the user does. */
#include "runtime/model.h"

#include <stdlib.h>

/* The name that dimension 0 of the inputs goes by; false when two inputs disagree. */
static bool names_agree(const struct model_signature *signature)
{
    const char *name = NULL;
    for (size_t i = 0; i < signature->n_inputs; i++) {
        const char *other = signature->inputs[i].dim_names[0];
        if (other == NULL || *other == '\0') continue;
        if (name != NULL && strcmp(name, other) != 0) return false;
        name = other;
    }
    return true;
}

/* True if all have dimension 0 and it is `dim`; only those that declare a shape are asked when
 * `skips_undeclared`. */
static bool all_begin_with(const struct value_spec *specs, size_t count, int64_t dim,
                           bool skips_undeclared)
{
    for (size_t i = 0; i < count; i++) {
        bool is_declared = specs[i].kind == VALUE_TENSOR && specs[i].shape.rank >= 0;
        if (!is_declared && skips_undeclared) continue;
        if (!is_declared || specs[i].shape.rank < 1 || specs[i].shape.dims[0] != dim) return false;
    }
    return true;
}

/* [3, batch]: the batch is elsewhere. */
static bool is_batch_elsewhere(const struct model_signature *signature)
{
    for (size_t i = 0; i < signature->n_inputs; i++)
        for (int32_t d = 1; d < signature->inputs[i].shape.rank; d++) {
            const char *name = signature->inputs[i].dim_names[d];
            if (name != NULL && strcasestr(name, "batch") != NULL) return true;
        }
    return false;
}

static void detect(struct model_signature *signature)
{
    const struct value_spec *inputs = signature->inputs;
    if (signature->n_inputs == 0 || inputs[0].kind != VALUE_TENSOR || inputs[0].shape.rank < 1)
        return;
    int64_t dim = inputs[0].shape.dims[0];
    if (dim == 0 || (dim < 0 && !names_agree(signature)) || is_batch_elsewhere(signature)) return;
    if (!all_begin_with(inputs, signature->n_inputs, dim, false) ||
        !all_begin_with(signature->outputs, signature->n_outputs, dim, true))
        return;
    signature->is_batched = true;
    signature->batch_fixed = dim > 0 ? dim : 0;
}

static tidemill_error *force(struct model_signature *signature)
{
    int64_t fixed = 0;
    if (signature->n_inputs == 0)
        return error_new(ERROR_MODEL_LOAD, "the model has no input, so no batch dimension");
    for (size_t i = 0; i < signature->n_inputs; i++) {
        const struct value_spec *spec = &signature->inputs[i];
        if (spec->kind != VALUE_TENSOR || spec->shape.rank < 1)
            return error_new(ERROR_MODEL_LOAD,
                             "batch dimension 'first' does not fit: input '%s' %s", spec->name,
                             spec->kind != VALUE_TENSOR ? "is not a tensor"
                             : spec->shape.rank < 0     ? "declares no shape"
                                                        : "has no dimension");
        int64_t dim = spec->shape.dims[0];
        if (dim < 0) continue;
        if (dim == 0 || (fixed != 0 && dim != fixed))
            return error_new(ERROR_MODEL_LOAD,
                             "batch dimension 'first' does not fit: the first dimension of input "
                             "'%s' is %lld, another input's is %lld",
                             spec->name, (long long)dim, (long long)fixed);
        fixed = dim;
    }
    signature->is_batched = true;
    signature->batch_fixed = fixed;
    return NULL;
}

tidemill_error *signature_detect_batch(struct model_signature *signature,
                                       enum batch_dimension batch_dimension)
{
    signature->is_batched = false;
    signature->batch_fixed = 0;
    if (batch_dimension == BATCH_DIMENSION_FIRST) return force(signature);
    if (batch_dimension == BATCH_DIMENSION_AUTO) detect(signature);
    return NULL;
}

static tidemill_error *make_json_spec(const char *name, bool is_batched, struct value_spec **ret)
{
    struct value_spec *spec = *ret = calloc(1, sizeof *spec);
    if (spec == NULL) return error_memory();
    *spec = (struct value_spec){.kind = VALUE_TENSOR,
                                .type = TENSOR_STRING,
                                .is_json = true,
                                .name = strdup(name),
                                .shape = {.rank = is_batched ? 1 : 0, .dims = {-1}}};
    if (is_batched) spec->dim_names[0] = strdup("batch");
    return spec->name == NULL || (is_batched && spec->dim_names[0] == NULL) ? error_memory() : NULL;
}

tidemill_error *signature_make_json(struct model_signature *signature, const char *input,
                                    const char *output, bool is_batched)
{
    TRY(make_json_spec(input, is_batched, &signature->inputs));
    signature->n_inputs = 1;
    TRY(make_json_spec(output, is_batched, &signature->outputs));
    signature->n_outputs = 1;
    signature->is_batched = is_batched;
    return NULL;
}

tidemill_error *signature_add_optional(struct model_signature *signature, const char *name)
{
    struct value_spec *spec;
    TRY(make_json_spec(name, signature->is_batched, &spec));
    struct value_spec *inputs =
        realloc(signature->inputs, (signature->n_inputs + 1) * sizeof *inputs);
    if (inputs != NULL) {
        spec->is_json = false; /* plain text */
        spec->is_optional = true;
        inputs[signature->n_inputs++] = *spec;
        signature->inputs = inputs;
    } else {
        free(spec->name);
    }
    free(spec);
    return inputs == NULL ? error_memory() : NULL;
}
