/* SPDX-License-Identifier: Apache-2.0 */
/* onnx_signature.c - what a session takes and gives, in our words. */
#include "runtime/onnx.h"
#include "runtime/onnx_file.h"

#include <stdlib.h>

static tidemill_error *take_type(const char *name, ONNXTensorElementDataType type,
                                 enum tensor_type *ret)
{
    *ret = (enum tensor_type)type; /* they carry ONNX's numbers */
    if ((int)type <= 0 || (int)type >= TENSOR_TYPE_COUNT)
        return error_new(ERROR_UNSUPPORTED,
                         "'%s' has an element type (number %d) that tidemill "
                         "does not know",
                         name, (int)type);
    if (*ret == TENSOR_COMPLEX64 || *ret == TENSOR_COMPLEX128)
        return error_new(ERROR_UNSUPPORTED,
                         "'%s' is a %s tensor, which tidemill cannot read or "
                         "write",
                         name, tensor_type_name(*ret));
    return NULL;
}

static tidemill_error *read_tensor(struct onnx *onnx, const OrtTensorTypeAndShapeInfo *info,
                                   struct value_spec *spec)
{
    ONNXTensorElementDataType type;
    size_t rank;
    const char *symbols[TENSOR_RANK_MAX] = {0};
    ORT_TRY(onnx, onnx->api->GetTensorElementType(info, &type));
    TRY(take_type(spec->name, type, &spec->type));
    ORT_TRY(onnx, onnx->api->GetDimensionsCount(info, &rank));
    if (rank > TENSOR_RANK_MAX)
        return error_new(ERROR_UNSUPPORTED, "'%s' has %zu dimensions; %d is the limit", spec->name,
                         rank, TENSOR_RANK_MAX);
    spec->shape.rank = (int32_t)rank;
    ORT_TRY(onnx, onnx->api->GetDimensions(info, spec->shape.dims, rank));
    ORT_TRY(onnx, onnx->api->GetSymbolicDimensions(info, symbols, rank));
    for (size_t d = 0; d < rank; d++) {
        if (spec->shape.dims[d] < 0) spec->shape.dims[d] = -1;
        if (spec->shape.dims[d] >= 0 || symbols[d] == NULL || *symbols[d] == '\0') continue;
        spec->dim_names[d] = strdup(symbols[d]);
        if (spec->dim_names[d] == NULL) return error_memory();
    }
    return NULL;
}

static tidemill_error *read_map(struct onnx *onnx, const OrtMapTypeInfo *map,
                                struct value_spec *spec)
{
    ONNXTensorElementDataType key, type;
    OrtTypeInfo *value = NULL;
    const OrtTensorTypeAndShapeInfo *tensor = NULL;
    ORT_TRY(onnx, onnx->api->GetMapKeyType(map, &key));
    TRY(take_type(spec->name, key, &spec->key_type));
    if (spec->key_type != TENSOR_STRING && spec->key_type != TENSOR_INT64)
        return error_new(ERROR_UNSUPPORTED, "'%s' is a map with %s keys", spec->name,
                         tensor_type_name(spec->key_type));
    ORT_TRY(onnx, onnx->api->GetMapValueType(map, &value));
    OrtStatus *status = onnx->api->CastTypeInfoToTensorInfo(value, &tensor);
    if (status == NULL && tensor != NULL) status = onnx->api->GetTensorElementType(tensor, &type);
    onnx->api->ReleaseTypeInfo(value);
    TRY(onnx_error(onnx, ERROR_MODEL_LOAD, status));
    if (tensor == NULL)
        return error_new(ERROR_UNSUPPORTED,
                         "'%s' is a map of something else than numbers or "
                         "strings",
                         spec->name);
    return take_type(spec->name, type, &spec->type);
}

/* A sequence of tensors or of maps. */
static tidemill_error *read_element(struct onnx *onnx, const OrtTypeInfo *element,
                                    struct value_spec *spec)
{
    enum ONNXType kind;
    ORT_TRY(onnx, onnx->api->GetOnnxTypeFromTypeInfo(element, &kind));
    if (kind == ONNX_TYPE_TENSOR) {
        const OrtTensorTypeAndShapeInfo *tensor;
        ONNXTensorElementDataType type;
        ORT_TRY(onnx, onnx->api->CastTypeInfoToTensorInfo(element, &tensor));
        ORT_TRY(onnx, onnx->api->GetTensorElementType(tensor, &type));
        return take_type(spec->name, type, &spec->type);
    }
    if (kind == ONNX_TYPE_MAP) {
        const OrtMapTypeInfo *map;
        ORT_TRY(onnx, onnx->api->CastTypeInfoToMapTypeInfo(element, &map));
        return read_map(onnx, map, spec);
    }
    return error_new(ERROR_UNSUPPORTED, "'%s' is a sequence of something else than tensors or maps",
                     spec->name);
}

static tidemill_error *read_sequence(struct onnx *onnx, const OrtTypeInfo *info,
                                     struct value_spec *spec)
{
    const OrtSequenceTypeInfo *sequence;
    OrtTypeInfo *element;
    ORT_TRY(onnx, onnx->api->CastTypeInfoToSequenceTypeInfo(info, &sequence));
    ORT_TRY(onnx, onnx->api->GetSequenceElementType(sequence, &element));
    tidemill_error *error = read_element(onnx, element, spec);
    onnx->api->ReleaseTypeInfo(element);
    return error;
}

static tidemill_error *read_type(struct onnx *onnx, const OrtTypeInfo *info,
                                 struct value_spec *spec);

/* A value that may be missing is read as what it is when it is there, of any shape. */
static tidemill_error *read_optional(struct onnx *onnx, const OrtTypeInfo *info,
                                     struct value_spec *spec)
{
    const OrtOptionalTypeInfo *optional;
    OrtTypeInfo *content;
    ORT_TRY(onnx, onnx->api->CastTypeInfoToOptionalTypeInfo(info, &optional));
    ORT_TRY(onnx, onnx->api->GetOptionalContainedTypeInfo(optional, &content));
    tidemill_error *error = read_type(onnx, content, spec);
    onnx->api->ReleaseTypeInfo(content);
    return error;
}

static tidemill_error *read_type(struct onnx *onnx, const OrtTypeInfo *info,
                                 struct value_spec *spec)
{
    enum ONNXType kind;
    const OrtTensorTypeAndShapeInfo *tensor;
    const OrtMapTypeInfo *map;
    ORT_TRY(onnx, onnx->api->GetOnnxTypeFromTypeInfo(info, &kind));
    spec->shape.rank = -1;
    switch (kind) {
    case ONNX_TYPE_TENSOR:
        spec->kind = VALUE_TENSOR;
        ORT_TRY(onnx, onnx->api->CastTypeInfoToTensorInfo(info, &tensor));
        return read_tensor(onnx, tensor, spec);
    case ONNX_TYPE_SEQUENCE: spec->kind = VALUE_SEQUENCE; return read_sequence(onnx, info, spec);
    case ONNX_TYPE_MAP:
        spec->kind = VALUE_MAP;
        ORT_TRY(onnx, onnx->api->CastTypeInfoToMapTypeInfo(info, &map));
        return read_map(onnx, map, spec);
    case ONNX_TYPE_OPTIONAL: return read_optional(onnx, info, spec);
    default:
        return error_new(ERROR_UNSUPPORTED, "'%s' is %s, which tidemill cannot read or write",
                         spec->name,
                         kind == ONNX_TYPE_SPARSETENSOR ? "a sparse tensor" : "an opaque value");
    }
}

static tidemill_error *copy_name(struct onnx *onnx, bool is_input, size_t index, char **ret)
{
    char *name = NULL;
    ORT_TRY(onnx,
            is_input
                ? onnx->api->SessionGetInputName(onnx->session, index, onnx->allocator, &name)
                : onnx->api->SessionGetOutputName(onnx->session, index, onnx->allocator, &name));
    *ret = strdup(name);
    onnx->allocator->Free(onnx->allocator, name);
    return *ret == NULL ? error_memory() : NULL;
}

static tidemill_error *read_spec(struct onnx *onnx, bool is_input, size_t index,
                                 struct value_spec *spec)
{
    OrtTypeInfo *info = NULL;
    TRY(copy_name(onnx, is_input, index, &spec->name));
    ORT_TRY(onnx, is_input ? onnx->api->SessionGetInputTypeInfo(onnx->session, index, &info)
                           : onnx->api->SessionGetOutputTypeInfo(onnx->session, index, &info));
    tidemill_error *error = read_type(onnx, info, spec);
    onnx->api->ReleaseTypeInfo(info);
    if (error == NULL && is_input && spec->kind != VALUE_TENSOR)
        error = error_new(ERROR_UNSUPPORTED, "'%s' is a %s; only tensors can be given to a model",
                          spec->name, spec->kind == VALUE_MAP ? "map" : "sequence");
    return error_context(error, is_input ? "input" : "output");
}

static tidemill_error *read_inputs(struct onnx *onnx)
{
    struct model_signature *signature = &onnx->model.signature;
    size_t count;
    ORT_TRY(onnx, onnx->api->SessionGetInputCount(onnx->session, &count));
    if (count > MODEL_VALUES_MAX)
        return error_new(ERROR_UNSUPPORTED, "the model has %zu inputs; %d is the limit", count,
                         MODEL_VALUES_MAX);
    signature->inputs = calloc(count + 1, sizeof *signature->inputs);
    if (signature->inputs == NULL) return error_memory();
    signature->n_inputs = count;
    for (size_t i = 0; i < count; i++) TRY(read_spec(onnx, true, i, &signature->inputs[i]));
    return NULL;
}

/* The index of the output `name`; the error lists those there are. */
static tidemill_error *find_output(struct onnx *onnx, const char *name, size_t count, size_t *ret)
{
    struct buffer list = {0};
    bool is_found = false;
    for (size_t i = 0; i < count && !is_found; i++) {
        char *known = NULL;
        tidemill_error *error = copy_name(onnx, false, i, &known);
        if (error != NULL) {
            buffer_free(&list);
            return error;
        }
        is_found = strcmp(known, name) == 0;
        *ret = i;
        buffer_printf(&list, "%s%s", i > 0 ? ", " : "", known);
        free(known);
    }
    tidemill_error *error = NULL;
    if (!is_found)
        error = error_new(ERROR_MODEL_LOAD, "the model has no output '%s'; it has: %.*s", name,
                          list.is_failed ? 0 : (int)MIN(list.size, (size_t)1500),
                          list.data != NULL ? list.data : "");
    buffer_free(&list);
    return error;
}

static tidemill_error *read_outputs(struct onnx *onnx, const struct model_options *options)
{
    struct model_signature *signature = &onnx->model.signature;
    size_t n_model;
    ORT_TRY(onnx, onnx->api->SessionGetOutputCount(onnx->session, &n_model));
    size_t count = options->n_output_names > 0 ? options->n_output_names : n_model;
    if (count > MODEL_VALUES_MAX)
        return error_new(ERROR_UNSUPPORTED,
                         "the model has %zu outputs; %d is the limit (choose with --output-names)",
                         count, MODEL_VALUES_MAX);
    signature->outputs = calloc(count + 1, sizeof *signature->outputs);
    if (signature->outputs == NULL) return error_memory();
    signature->n_outputs = count;
    for (size_t i = 0; i < count; i++) {
        size_t index = i;
        if (options->n_output_names > 0)
            TRY(find_output(onnx, options->output_names[i], n_model, &index));
        TRY(read_spec(onnx, false, index, &signature->outputs[i]));
    }
    return NULL;
}

tidemill_error *onnx_read_signature(struct onnx *onnx, const struct model_options *options)
{
    TRY(read_inputs(onnx));
    TRY(read_outputs(onnx, options));
    onnx_file_mark_undeclared(options->model, &onnx->model.signature);
    return signature_detect_batch(&onnx->model.signature, options->batch_dimension);
}
