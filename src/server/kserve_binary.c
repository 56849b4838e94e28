/* SPDX-License-Identifier: Apache-2.0 */
/* kserve_binary.c - the binary tensor extension's reading half, and the request as a whole: a JSON header,
 * then the inputs' bytes one behind another. Numbers are little-endian, strings a 4-byte length and the
 * bytes: as tensors lie in memory here. */
#include "server/kserve.h"
#include "server/tensor_json.h"

#include <stdio.h>

struct reading {
    struct arena *arena;
    struct slice binary; /* what is left of it */
    bool has_binary;
};

/* --- one input --------------------------------------------------------------------------------------------- */

static tidemill_error *read_shape(yyjson_val *dims, const char *name, struct shape *ret)
{
    size_t i, n;
    yyjson_val *dim;
    *ret = (struct shape){0};
    if (!yyjson_is_arr(dims) || yyjson_arr_size(dims) > TENSOR_RANK_MAX)
        return error_new(ERROR_WRONG_SHAPE, "input '%s': 'shape' is not a list of at most %d sizes",
                         name, TENSOR_RANK_MAX);
    yyjson_arr_foreach(dims, i, n, dim)
    {
        uint64_t count;
        if (!json_count(dim, &count))
            return error_new(ERROR_WRONG_SHAPE, "input '%s': 'shape' holds %s", name,
                             yyjson_is_raw(dim) ? yyjson_get_raw(dim) : json_kind(dim));
        ret->dims[ret->rank++] = (int64_t)count;
    }
    return NULL;
}

static tidemill_error *take_binary(struct reading *r, struct serving_input *input, uint64_t size)
{
    if (!r->has_binary)
        return error_new(ERROR_WRONG_SHAPE,
                         "input '%s' has 'binary_data_size', but the request no header "
                         "'Inference-Header-Content-Length'",
                         input->name);
    if (size > r->binary.size)
        return error_new(ERROR_WRONG_SHAPE,
                         "input '%s' has a 'binary_data_size' of %llu, but %zu bytes are left",
                         input->name, (unsigned long long)size, r->binary.size);
    input->data = r->binary.data;
    input->bytes = (size_t)size;
    r->binary.data += size;
    r->binary.size -= (size_t)size;
    return NULL;
}

/* Nested as the shape says, or flat. */
static bool is_laid_out(const struct shape *shape, const struct shape *found)
{
    size_t wanted, count;
    if (!shape_count(shape, &wanted) || !shape_count(found, &count) || wanted != count)
        return false;
    bool is_same = shape->rank == found->rank &&
                   memcmp(shape->dims, found->dims, (size_t)found->rank * sizeof(int64_t)) == 0;
    return is_same || found->rank == 1 || count == 0;
}

static tidemill_error *take_json(struct reading *r, struct serving_input *input, yyjson_val *data)
{
    struct json_tensor tensor = {0};
    char wanted[160], found[160];
    if (input->type == TENSOR_FLOAT16 || input->type == TENSOR_BFLOAT16)
        return error_new(ERROR_WRONG_TYPE, "input '%s': %s travels as binary data only",
                         input->name, kserve_datatype(input->type));
    if (!yyjson_is_arr(data))
        return error_new(ERROR_WRONG_TYPE, "input '%s': 'data' is %s, not a list", input->name,
                         json_kind(data));
    TRY(json_tensor_read(data, input->name, input->type, r->arena, &tensor));
    if (!is_laid_out(&input->shape, &tensor.shape)) {
        shape_text(&input->shape, NULL, wanted, sizeof wanted);
        shape_text(&tensor.shape, NULL, found, sizeof found);
        return error_new(ERROR_WRONG_SHAPE, "input '%s' has shape %s, but data of shape %s",
                         input->name, wanted, found);
    }
    input->data = tensor.data;
    input->bytes = tensor.bytes;
    return NULL;
}

static tidemill_error *read_data(struct reading *r, yyjson_val *entry, struct serving_input *input)
{
    yyjson_val *data = yyjson_obj_get(entry, "data");
    yyjson_val *parameters = yyjson_obj_get(entry, "parameters");
    yyjson_val *size = yyjson_obj_get(parameters, "binary_data_size");
    uint64_t bytes;
    if (parameters != NULL && !yyjson_is_obj(parameters))
        return error_new(ERROR_WRONG_TYPE, "input '%s': 'parameters' is %s", input->name,
                         json_kind(parameters));
    if (yyjson_obj_get(parameters, "shared_memory_region") != NULL)
        return error_new(ERROR_UNSUPPORTED, "input '%s': shared memory is not offered",
                         input->name);
    if (size == NULL) return take_json(r, input, data);
    if (data != NULL)
        return error_new(ERROR_WRONG_TYPE, "input '%s' has both 'data' and 'binary_data_size'",
                         input->name);
    if (!json_count(size, &bytes))
        return error_new(ERROR_WRONG_TYPE, "input '%s': 'binary_data_size' is no size",
                         input->name);
    return take_binary(r, input, bytes);
}

static tidemill_error *read_input(struct reading *r, yyjson_val *entry, size_t i,
                                  struct serving_input *ret)
{
    const char *name = json_text(yyjson_obj_get(entry, "name"));
    const char *datatype = json_text(yyjson_obj_get(entry, "datatype"));
    if (name == NULL || *name == '\0' || strlen(name) > 1024)
        return error_new(ERROR_MISSING_FIELD, "input %zu has no name", i);
    if (datatype == NULL) return error_new(ERROR_MISSING_FIELD, "input '%s' has no datatype", name);
    *ret = (struct serving_input){.name = name, .type = kserve_type_of(datatype)};
    if (ret->type == TENSOR_UNDEFINED)
        return error_new(ERROR_WRONG_TYPE, "input '%s': there is no datatype '%.20s'", name,
                         datatype);
    TRY(read_shape(yyjson_obj_get(entry, "shape"), name, &ret->shape));
    return read_data(r, entry, ret);
}

static tidemill_error *read_inputs(struct reading *r, yyjson_val *list, struct kserve_request *ret)
{
    size_t i, n;
    yyjson_val *entry;
    if (!yyjson_is_arr(list) || yyjson_arr_size(list) == 0)
        return error_new(ERROR_MISSING_FIELD, "the request has no list of 'inputs'");
    if (yyjson_arr_size(list) > MODEL_VALUES_MAX)
        return error_new(ERROR_WRONG_SHAPE, "the request has more than %d inputs",
                         MODEL_VALUES_MAX);
    ret->inputs = arena_calloc(r->arena, yyjson_arr_size(list), sizeof *ret->inputs);
    if (ret->inputs == NULL) return error_memory();
    yyjson_arr_foreach(list, i, n, entry)
    {
        TRY(read_input(r, entry, i, &ret->inputs[i]));
        ret->n_inputs++;
    }
    if (r->binary.size == 0) return NULL;
    return error_new(ERROR_WRONG_SHAPE, "%zu bytes are left behind the inputs' binary data",
                     r->binary.size);
}

/* --- what is asked for --------------------------------------------------------------------------------------- */

/* *ret keeps its value where it is not there. */
static tidemill_error *read_flag(yyjson_val *parameters, const char *name, bool *ret)
{
    yyjson_val *flag = yyjson_obj_get(parameters, name);
    if (flag == NULL) return NULL;
    if (!yyjson_is_bool(flag))
        return error_new(ERROR_WRONG_TYPE, "'%s' is %s, not true or false", name, json_kind(flag));
    *ret = yyjson_get_bool(flag);
    return NULL;
}

static tidemill_error *read_output(yyjson_val *entry, size_t i,
                                   const struct kserve_request *request, struct kserve_wanted *ret)
{
    yyjson_val *parameters = yyjson_obj_get(entry, "parameters");
    const char *name = json_text(yyjson_obj_get(entry, "name"));
    if (name == NULL) return error_new(ERROR_MISSING_FIELD, "output %zu has no name", i);
    *ret = (struct kserve_wanted){.name = name, .is_binary = request->is_binary};
    if (yyjson_obj_get(parameters, "classification") != NULL ||
        yyjson_obj_get(parameters, "shared_memory_region") != NULL)
        return error_new(ERROR_UNSUPPORTED,
                         "output '%s': neither classification nor shared memory is offered", name);
    for (size_t k = 0; k < i; k++)
        if (strcmp(request->outputs[k].name, name) == 0)
            return error_new(ERROR_WRONG_TYPE, "output '%s' is asked for twice", name);
    return read_flag(parameters, "binary_data", &ret->is_binary);
}

static tidemill_error *read_outputs(struct reading *r, yyjson_val *list, struct kserve_request *ret)
{
    size_t i, n;
    yyjson_val *entry;
    if (list == NULL || yyjson_is_null(list)) return NULL;
    if (!yyjson_is_arr(list) || yyjson_arr_size(list) > MODEL_VALUES_MAX)
        return error_new(ERROR_WRONG_TYPE, "'outputs' is not a list of at most %d",
                         MODEL_VALUES_MAX);
    ret->outputs = arena_calloc(r->arena, yyjson_arr_size(list) + 1, sizeof *ret->outputs);
    if (ret->outputs == NULL) return error_memory();
    yyjson_arr_foreach(list, i, n, entry)
    {
        TRY(read_output(entry, i, ret, &ret->outputs[i]));
        ret->n_outputs++;
    }
    return NULL;
}

static tidemill_error *read_root(struct reading *r, yyjson_val *root, struct kserve_request *ret)
{
    yyjson_val *id = yyjson_obj_get(root, "id"), *parameters = yyjson_obj_get(root, "parameters");
    if (!yyjson_is_obj(root))
        return error_new(ERROR_WRONG_TYPE, "the request is %s, not an object", json_kind(root));
    if (id != NULL && !yyjson_is_null(id)) {
        ret->id = json_text(id);
        if (ret->id == NULL) return error_new(ERROR_WRONG_TYPE, "'id' is no string");
    }
    if (parameters != NULL && !yyjson_is_obj(parameters))
        return error_new(ERROR_WRONG_TYPE, "'parameters' is %s", json_kind(parameters));
    TRY(read_flag(parameters, "binary_data_output", &ret->is_binary));
    TRY(read_outputs(r, yyjson_obj_get(root, "outputs"), ret));
    return read_inputs(r, yyjson_obj_get(root, "inputs"), ret);
}

tidemill_error *kserve_read(struct slice body, int64_t header_bytes, struct arena *arena,
                            struct kserve_request *ret)
{
    struct reading r = {.arena = arena, .has_binary = header_bytes >= 0};
    struct slice header = body;
    *ret = (struct kserve_request){0};
    if (header_bytes >= 0) {
        if ((uint64_t)header_bytes > body.size)
            return error_new(ERROR_INVALID_JSON,
                             "'Inference-Header-Content-Length' is %lld, the body has %zu bytes",
                             (long long)header_bytes, body.size);
        header.size = (size_t)header_bytes;
        r.binary = (struct slice){body.data + header.size, body.size - header.size};
    }
    TRY(json_body_read(header, &ret->doc));
    return read_root(&r, yyjson_doc_get_root(ret->doc), ret);
}
