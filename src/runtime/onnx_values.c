/* SPDX-License-Identifier: Apache-2.0 */
/* onnx_values.c - tensors between shared memory and the library, without copies where that goes. */
#include "runtime/onnx.h"

#include <stdlib.h>

void onnx_release_values(struct onnx *onnx)
{
    for (size_t i = 0; i < MODEL_VALUES_MAX; i++) {
        if (onnx->inputs[i] != NULL) onnx->api->ReleaseValue(onnx->inputs[i]);
        if (onnx->outputs[i] != NULL) onnx->api->ReleaseValue(onnx->outputs[i]);
        onnx->inputs[i] = onnx->outputs[i] = NULL;
        onnx->places[i] = NULL;
    }
}

/* Inputs. */

static tidemill_error *fill_strings(struct onnx *onnx, const struct model_input *input,
                                    size_t count, OrtValue *value)
{
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t length;
        char *place;
        if (input->bytes - at < sizeof length)
            return error_new(ERROR_MODEL_ERROR, "the packed strings are too short");
        memcpy(&length, input->data + at, sizeof length);
        at += sizeof length;
        if (length > input->bytes - at)
            return error_new(ERROR_MODEL_ERROR, "the packed strings are too short");
        ORT_TRY_RUN(onnx, onnx->api->GetResizedStringTensorElementBuffer(value, i, length, &place));
        if (length > 0) memcpy(place, input->data + at, length);
        at += length;
    }
    return NULL;
}

static tidemill_error *make_tensor(struct onnx *onnx, enum tensor_type type,
                                   const struct shape *shape, const unsigned char *data,
                                   size_t bytes, OrtValue **ret)
{
    /* The library does not write to inputs; its interface has no word for that. */
    void *memory = (void *)(uintptr_t)data;
    ORT_TRY_RUN(onnx, onnx->api->CreateTensorWithDataAsOrtValue(
                          onnx->memory_info, memory, bytes, shape->dims, (size_t)shape->rank,
                          (ONNXTensorElementDataType)type, ret));
    return NULL;
}

static tidemill_error *make_input(struct onnx *onnx, const struct model_input *input,
                                  OrtValue **ret)
{
    size_t count, bytes;
    if (!shape_count(&input->shape, &count))
        return error_new(ERROR_MODEL_ERROR, "the shape is impossible");
    if (input->type == TENSOR_STRING) {
        ORT_TRY_RUN(onnx, onnx->api->CreateTensorAsOrtValue(
                              onnx->allocator, input->shape.dims, (size_t)input->shape.rank,
                              ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING, ret));
        return fill_strings(onnx, input, count, *ret);
    }
    if (!tensor_bytes(input->type, count, &bytes) || bytes != input->bytes)
        return error_new(ERROR_MODEL_ERROR, "%zu bytes are not what the shape needs", input->bytes);
    return make_tensor(onnx, input->type, &input->shape, input->data, bytes, ret);
}

tidemill_error *onnx_make_inputs(struct onnx *onnx, const struct model_input *inputs)
{
    const struct model_signature *signature = &onnx->model.signature;
    for (size_t i = 0; i < signature->n_inputs; i++)
        TRY(error_context(make_input(onnx, &inputs[i], &onnx->inputs[i]), "input '%s'",
                          signature->inputs[i].name));
    return NULL;
}

/* Outputs in place. */

/* What the dimension called `name` is in this call's inputs; -1: none is called that. */
static int64_t dimension_named(const struct model_signature *signature, const char *name,
                               const struct model_input *inputs)
{
    for (size_t i = 0; name != NULL && i < signature->n_inputs; i++) {
        const struct value_spec *spec = &signature->inputs[i];
        for (int32_t d = 0; d < spec->shape.rank && d < inputs[i].shape.rank; d++)
            if (spec->dim_names[d] != NULL && strcmp(spec->dim_names[d], name) == 0)
                return inputs[i].shape.dims[d];
    }
    return -1;
}

/* An output that is an input under its own name is not computed: the library leaves our place empty. */
static bool is_input(const struct model_signature *signature, const char *name)
{
    for (size_t i = 0; i < signature->n_inputs; i++)
        if (strcmp(signature->inputs[i].name, name) == 0) return true;
    return false;
}

/* The shape that an output will have, if what the model declares is true. */
static bool expected_shape(const struct model_signature *signature, const struct value_spec *spec,
                           const struct model_input *inputs, struct shape *ret)
{
    if (spec->kind != VALUE_TENSOR || spec->type == TENSOR_STRING || spec->shape.rank < 0 ||
        is_input(signature, spec->name))
        return false;
    *ret = spec->shape;
    for (int32_t d = 0; d < ret->rank; d++) {
        if (ret->dims[d] >= 0) continue;
        ret->dims[d] = d == 0 && signature->is_batched
                           ? inputs[0].shape.dims[0]
                           : dimension_named(signature, spec->dim_names[d], inputs);
        if (ret->dims[d] < 0) return false;
    }
    return true;
}

tidemill_error *onnx_place_outputs(struct onnx *onnx, const struct model_input *inputs,
                                   struct answer *answer)
{
    const struct model_signature *signature = &onnx->model.signature;
    for (size_t i = 0; i < signature->n_outputs && !onnx->is_copying; i++) {
        const struct value_spec *spec = &signature->outputs[i];
        struct shape shape;
        size_t count, bytes;
        unsigned char *place = NULL;
        if (!expected_shape(signature, spec, inputs, &shape)) continue;
        if (!shape_count(&shape, &count) || !tensor_bytes(spec->type, count, &bytes)) continue;
        TRY(answer_place(answer, bytes, &place));
        TRY(make_tensor(onnx, spec->type, &shape, place, bytes, &onnx->outputs[i]));
        onnx->places[i] = place;
    }
    return NULL;
}

/* Outputs into the answer. */

static tidemill_error *read_shape(struct onnx *onnx, const OrtValue *value, enum tensor_type *type,
                                  struct shape *shape)
{
    OrtTensorTypeAndShapeInfo *info = NULL;
    ONNXTensorElementDataType number = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    size_t rank = 0;
    ORT_TRY_RUN(onnx, onnx->api->GetTensorTypeAndShape(value, &info));
    OrtStatus *status = onnx->api->GetTensorElementType(info, &number);
    if (status == NULL) status = onnx->api->GetDimensionsCount(info, &rank);
    if (status == NULL && rank <= TENSOR_RANK_MAX)
        status = onnx->api->GetDimensions(info, shape->dims, rank);
    onnx->api->ReleaseTensorTypeAndShapeInfo(info);
    TRY(onnx_error(onnx, ERROR_MODEL_ERROR, status));
    if (rank > TENSOR_RANK_MAX)
        return error_new(ERROR_MODEL_ERROR, "a tensor of %zu dimensions; %d is the limit", rank,
                         TENSOR_RANK_MAX);
    shape->rank = (int32_t)rank;
    *type = (enum tensor_type)number;
    return NULL;
}

/* The library gives all strings in one piece and where each begins; ours have their lengths. */
static tidemill_error *copy_strings(struct onnx *onnx, const OrtValue *value, size_t count,
                                    struct answer *answer, unsigned char **ret, size_t *ret_bytes)
{
    size_t length = 0, total, offsets_bytes;
    if (count > 0) ORT_TRY_RUN(onnx, onnx->api->GetStringTensorDataLength(value, &length));
    if (length > UINT32_MAX || size_mul(count, sizeof(size_t), &offsets_bytes))
        return error_new(ERROR_OUTPUT_TOO_LARGE, "the model's strings are too long");
    total = length + count * sizeof(uint32_t);
    TRY(answer_place(answer, total, ret));
    *ret_bytes = total;
    if (count == 0) return NULL;

    size_t *offsets = malloc(offsets_bytes);
    char *content = malloc(length + 1);
    OrtStatus *status = NULL;
    bool has_memory = offsets != NULL && content != NULL;
    if (has_memory)
        status = onnx->api->GetStringTensorContent(value, content, length, offsets, count);
    unsigned char *at = *ret;
    for (size_t i = 0; has_memory && status == NULL && i < count; i++) {
        size_t end = i + 1 < count ? offsets[i + 1] : length;
        uint32_t size = (uint32_t)(end - offsets[i]);
        memcpy(at, &size, sizeof size);
        if (size > 0) memcpy(at + sizeof size, content + offsets[i], size);
        at += sizeof size + size;
    }
    free(offsets);
    free(content);
    if (!has_memory) return error_memory();
    return onnx_error(onnx, ERROR_MODEL_ERROR, status);
}

static tidemill_error *copy_tensor(struct onnx *onnx, OrtValue *tensor, struct answer *answer,
                                   size_t index)
{
    enum tensor_type type;
    struct shape shape = {0};
    size_t count, bytes;
    unsigned char *place = NULL;
    TRY(read_shape(onnx, tensor, &type, &shape));
    if (!shape_count(&shape, &count)) return error_new(ERROR_MODEL_ERROR, "an impossible shape");
    if (type == TENSOR_STRING) {
        TRY(copy_strings(onnx, tensor, count, answer, &place, &bytes));
    } else {
        void *data = NULL;
        if (!tensor_bytes(type, count, &bytes))
            return error_new(ERROR_MODEL_ERROR, "an impossible shape");
        TRY(answer_place(answer, bytes, &place));
        ORT_TRY_RUN(onnx, onnx->api->GetTensorMutableData(tensor, &data));
        if (bytes > 0) memcpy(place, data, bytes);
    }
    answer_set_tensor(answer, &answer->values[index], type, &shape, place, bytes);
    return NULL;
}

/* Room for the library's value behind answer value `index`. */
static tidemill_error *grow_tree(struct onnx *onnx, size_t count)
{
    if (count <= onnx->tree_capacity) return NULL;
    size_t capacity = MAX(onnx->tree_capacity * 2, MAX(count, (size_t)256));
    OrtValue **tree = realloc(onnx->tree, capacity * sizeof *tree);
    if (tree == NULL) return error_memory();
    onnx->tree = tree;
    onnx->tree_capacity = capacity;
    return NULL;
}

/* Adds the children of a sequence or a map behind all values so far. */
static tidemill_error *add_children(struct onnx *onnx, OrtValue *parent, struct answer *answer,
                                    size_t index, size_t *n_tree)
{
    size_t count = 0;
    ORT_TRY_RUN(onnx, onnx->api->GetValueCount(parent, &count));
    if (count > UINT32_MAX - answer->n_values)
        return error_new(ERROR_OUTPUT_TOO_LARGE, "the model's answer has too many parts");
    answer->values[index].first_child = (uint32_t)answer->n_values;
    answer->values[index].n_children = (uint32_t)count;
    TRY(grow_tree(onnx, *n_tree + count));
    for (size_t i = 0; i < count; i++) {
        struct wire_value *child = NULL;
        OrtValue *value = NULL;
        ORT_TRY_RUN(onnx, onnx->api->GetValue(parent, (int)i, onnx->allocator, &value));
        onnx->tree[(*n_tree)++] = value;
        TRY(answer_add(answer, &child));
    }
    return NULL;
}

static tidemill_error *add_value(struct onnx *onnx, OrtValue *value, struct answer *answer,
                                 size_t index, size_t *n_tree)
{
    enum ONNXType kind;
    int has_value = 0;
    ORT_TRY_RUN(onnx, onnx->api->HasValue(value, &has_value));
    if (!has_value) return error_new(ERROR_MODEL_ERROR, "the model gave no value");
    ORT_TRY_RUN(onnx, onnx->api->GetValueType(value, &kind));
    switch (kind) {
    case ONNX_TYPE_TENSOR: return copy_tensor(onnx, value, answer, index);
    case ONNX_TYPE_SEQUENCE: answer->values[index].kind = VALUE_SEQUENCE; break;
    case ONNX_TYPE_MAP: answer->values[index].kind = VALUE_MAP; break;
    default: return error_new(ERROR_MODEL_ERROR, "the model gave a value of an unknown kind");
    }
    return add_children(onnx, value, answer, index, n_tree);
}

/* Breadth first: value i of the answer is tree[i - n_outputs], or output i. */
static tidemill_error *take_all(struct onnx *onnx, struct answer *answer, size_t *n_tree)
{
    const struct model_signature *signature = &onnx->model.signature;
    size_t n_outputs = signature->n_outputs;
    for (size_t i = 0; i < n_outputs; i++) {
        struct wire_value *value = NULL;
        TRY(answer_add(answer, &value));
    }
    for (size_t i = 0; i < answer->n_values; i++) {
        OrtValue *value = i < n_outputs ? onnx->outputs[i] : onnx->tree[i - n_outputs];
        if (i >= n_outputs || onnx->places[i] == NULL) {
            TRY(error_context(add_value(onnx, value, answer, i, n_tree), "output '%s'",
                              i < n_outputs ? signature->outputs[i].name : "(part)"));
            continue;
        }
        enum tensor_type type;
        struct shape shape = {0};
        size_t count = 0, bytes = 0;
        TRY(read_shape(onnx, value, &type, &shape));
        if (!shape_count(&shape, &count) || !tensor_bytes(type, count, &bytes))
            return error_new(ERROR_MODEL_ERROR, "an impossible shape");
        answer_set_tensor(answer, &answer->values[i], type, &shape, onnx->places[i], bytes);
    }
    return NULL;
}

tidemill_error *onnx_take_outputs(struct onnx *onnx, struct answer *answer)
{
    size_t n_tree = 0;
    tidemill_error *error = take_all(onnx, answer, &n_tree);
    for (size_t i = 0; i < n_tree; i++) onnx->api->ReleaseValue(onnx->tree[i]);
    return error;
}
