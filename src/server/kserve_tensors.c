/* SPDX-License-Identifier: Apache-2.0 */
/* kserve_tensors.c - KServe's names of types, requests held against a model, and answers. */
#include "format/encode.h"
#include "server/kserve.h"
#include "server/tensor_json.h"

static const struct {
    const char *datatype;
    enum tensor_type type;
} datatypes[] = {
    {"BOOL", TENSOR_BOOL},     {"UINT8", TENSOR_UINT8},   {"UINT16", TENSOR_UINT16},
    {"UINT32", TENSOR_UINT32}, {"UINT64", TENSOR_UINT64}, {"INT8", TENSOR_INT8},
    {"INT16", TENSOR_INT16},   {"INT32", TENSOR_INT32},   {"INT64", TENSOR_INT64},
    {"FP16", TENSOR_FLOAT16},  {"BF16", TENSOR_BFLOAT16}, {"FP32", TENSOR_FLOAT},
    {"FP64", TENSOR_DOUBLE},   {"BYTES", TENSOR_STRING},
};

const char *kserve_datatype(enum tensor_type type)
{
    for (size_t i = 0; i < COUNT_OF(datatypes); i++)
        if (datatypes[i].type == type) return datatypes[i].datatype;
    return NULL;
}

enum tensor_type kserve_type_of(const char *datatype)
{
    for (size_t i = 0; i < COUNT_OF(datatypes); i++)
        if (strcmp(datatypes[i].datatype, datatype) == 0) return datatypes[i].type;
    return TENSOR_UNDEFINED;
}

static void put_string(struct buffer *out, const char *text)
{
    format_json_string(out, text, strlen(text));
}

/* --- the request and the model --------------------------------------------------------------------------- */

static const struct value_spec *find_spec(const struct value_spec *specs, size_t n,
                                          const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(specs[i].name, name) == 0) return &specs[i];
    return NULL;
}

static tidemill_error *check_json_strings(const struct serving_input *input)
{
    const unsigned char *data = input->data, *end = data + input->bytes;
    while ((size_t)(end - data) >= sizeof(uint32_t)) {
        uint32_t size;
        yyjson_doc *doc;
        memcpy(&size, data, sizeof size);
        data += sizeof size;
        if (size > (size_t)(end - data)) return NULL; /* serving says what is wrong */
        TRY(error_context(json_body_read((struct slice){(const char *)data, size}, &doc),
                          "input '%s'", input->name));
        yyjson_doc_free(doc);
        data += size;
    }
    return NULL;
}

static void fit_shape(struct serving_input *input, const struct value_spec *spec, bool is_batched)
{
    struct json_tensor tensor = {.shape = input->shape};
    json_tensor_fit(&tensor, spec, is_batched);
    input->shape = tensor.shape;
}

tidemill_error *kserve_fit(struct kserve_request *request, const struct model_signature *signature)
{
    for (size_t i = 0; i < request->n_inputs; i++) {
        struct serving_input *input = &request->inputs[i];
        const struct value_spec *spec =
            find_spec(signature->inputs, signature->n_inputs, input->name);
        if (spec == NULL)
            return error_new(ERROR_MISSING_FIELD, "unexpected input '%.100s'", input->name);
        fit_shape(input, spec, signature->is_batched);
        if (spec->is_json) TRY(check_json_strings(input));
    }
    for (size_t i = 0; i < request->n_outputs; i++)
        if (find_spec(signature->outputs, signature->n_outputs, request->outputs[i].name) == NULL)
            return error_new(ERROR_MISSING_FIELD, "unexpected output '%.100s'",
                             request->outputs[i].name);
    return NULL;
}

/* --- answers ------------------------------------------------------------------------------------------------ */

struct writing {
    struct buffer *out;
    struct buffer binary;
    size_t n_binary; /* outputs */
};

static tidemill_error *put_data(struct writing *w, const char *name, const struct value *value,
                                bool is_binary)
{
    size_t count;
    struct element_walk walk = element_walk_of(value, name);
    if (is_binary) {
        buffer_printf(w->out, ",\"parameters\":{\"binary_data_size\":%zu}", value->bytes);
        buffer_append(&w->binary, value->data, value->bytes);
        w->n_binary++;
        return w->binary.is_failed ? error_memory() : NULL;
    }
    if (value->type == TENSOR_FLOAT16 || value->type == TENSOR_BFLOAT16)
        return error_new(ERROR_UNSUPPORTED, "output '%s' is %s: ask for it as binary data", name,
                         kserve_datatype(value->type));
    if (!shape_count(&value->shape, &count)) return error_memory();
    buffer_text(w->out, ",\"data\":[");
    TRY(element_walk_flat(&walk, count, w->out));
    buffer_byte(w->out, ']');
    return NULL;
}

static tidemill_error *put_output(struct writing *w, const struct value_spec *spec,
                                  const struct value *value, bool is_binary)
{
    const char *datatype = kserve_datatype(value->type);
    if (datatype == NULL)
        return error_new(ERROR_UNSUPPORTED, "output '%s' is %s, which KServe has not", spec->name,
                         tensor_type_name(value->type));
    buffer_text(w->out, "{\"name\":");
    put_string(w->out, spec->name);
    buffer_printf(w->out, ",\"datatype\":\"%s\",\"shape\":[", datatype);
    for (int32_t d = 0; d < value->shape.rank; d++)
        buffer_printf(w->out, "%s%lld", d > 0 ? "," : "", (long long)value->shape.dims[d]);
    /* What is one string without a dimension is a list of one to clients. */
    if (value->shape.rank == 0) buffer_byte(w->out, '1');
    buffer_byte(w->out, ']');
    TRY(put_data(w, spec->name, value, is_binary));
    buffer_byte(w->out, '}');
    return NULL;
}

/* Texts that say why there is none are the request's error. */
static tidemill_error *check_answers(const struct value_spec *spec, const struct value *value)
{
    struct buffer nowhere = {0};
    size_t count;
    if (!spec->is_json || value->type != TENSOR_STRING) return NULL;
    struct element_walk walk = element_walk_of(value, spec->name);
    walk.is_json = true;
    if (!shape_count(&value->shape, &count)) return error_memory();
    tidemill_error *error = element_walk_flat(&walk, count, &nowhere);
    buffer_free(&nowhere);
    return error;
}

static tidemill_error *put_outputs(struct writing *w, const struct kserve_request *request,
                                   const struct model_signature *signature,
                                   const struct value *values)
{
    size_t n = request->n_outputs > 0 ? request->n_outputs : signature->n_outputs;
    for (size_t i = 0; i < n; i++) {
        const struct value_spec *spec = &signature->outputs[i];
        bool is_binary = request->is_binary;
        if (request->n_outputs > 0) {
            spec = find_spec(signature->outputs, signature->n_outputs, request->outputs[i].name);
            is_binary = request->outputs[i].is_binary;
        }
        const struct value *value = &values[spec - signature->outputs];
        if (i > 0) buffer_byte(w->out, ',');
        TRY(check_answers(spec, value));
        TRY(put_output(w, spec, value, is_binary));
    }
    return NULL;
}

tidemill_error *kserve_write(const struct kserve_request *request, const char *model,
                             const struct model_signature *signature, const struct value *values,
                             struct buffer *out, size_t *ret_header_bytes)
{
    struct writing w = {.out = out};
    *ret_header_bytes = 0;
    buffer_text(out, "{\"model_name\":");
    put_string(out, model);
    buffer_text(out, ",\"model_version\":\"1\"");
    if (request->id != NULL) {
        buffer_text(out, ",\"id\":");
        put_string(out, request->id);
    }
    buffer_text(out, ",\"outputs\":[");
    tidemill_error *error = put_outputs(&w, request, signature, values);
    buffer_text(out, "]}");
    if (error == NULL && w.n_binary > 0) {
        *ret_header_bytes = out->size;
        buffer_append(out, w.binary.data, w.binary.size);
    }
    buffer_free(&w.binary);
    return error == NULL && out->is_failed ? error_memory() : error;
}

/* --- rows as records ------------------------------------------------------------------------------------------ */

static tidemill_error *put_record(const struct kserve_request *request,
                                  const struct model_signature *signature,
                                  struct element_walk *walks, struct buffer *out)
{
    bool is_whole = signature != NULL && signature->n_inputs > 0 && signature->inputs[0].is_json;
    if (!is_whole) buffer_byte(out, '{');
    for (size_t i = 0; i < request->n_inputs; i++) {
        struct shape row = request->inputs[i].shape;
        row.rank--;
        memmove(row.dims, row.dims + 1, (size_t)row.rank * sizeof(int64_t));
        walks[i].is_json = is_whole;
        if (!is_whole) {
            if (i > 0) buffer_byte(out, ',');
            put_string(out, request->inputs[i].name);
            buffer_byte(out, ':');
        }
        TRY(element_walk_nested(&walks[i], &row, out));
    }
    buffer_text(out, is_whole ? "\n" : "}\n");
    return NULL;
}

tidemill_error *kserve_lines(const struct kserve_request *request,
                             const struct model_signature *signature, struct buffer *out,
                             uint64_t *ret_n)
{
    struct element_walk walks[MODEL_VALUES_MAX];
    for (size_t i = 0; i < request->n_inputs; i++) {
        const struct serving_input *input = &request->inputs[i];
        size_t count, bytes = 0;
        bool is_right = input->shape.rank >= 1 && shape_count(&input->shape, &count) &&
                        input->shape.dims[0] == request->inputs[0].shape.dims[0] &&
                        (input->type == TENSOR_STRING || tensor_bytes(input->type, count, &bytes));
        if (!is_right || (input->type != TENSOR_STRING && bytes != input->bytes))
            return error_new(ERROR_WRONG_SHAPE,
                             "input '%s': its first dimension has to count rows, and its data to "
                             "fit its shape",
                             input->name);
        struct value value = {.type = input->type, .data = input->data, .bytes = input->bytes};
        walks[i] = element_walk_of(&value, input->name);
    }
    *ret_n = (uint64_t)request->inputs[0].shape.dims[0];
    for (uint64_t r = 0; r < *ret_n; r++) TRY(put_record(request, signature, walks, out));
    return NULL;
}

/* --- about models ---------------------------------------------------------------------------------------------- */

static void put_dims(struct buffer *out, const struct value_spec *spec, int32_t first,
                     bool is_batched)
{
    buffer_byte(out, '[');
    if (spec->shape.rank < 0) buffer_text(out, "-1");
    for (int32_t d = first; d < spec->shape.rank; d++) {
        int64_t dim = d == 0 && is_batched ? -1 : spec->shape.dims[d];
        buffer_printf(out, "%s%lld", d > first ? "," : "", (long long)dim);
    }
    /* One JSON text a request. */
    if (spec->shape.rank == 0 && spec->type == TENSOR_STRING) buffer_byte(out, '1');
    buffer_byte(out, ']');
}

static void put_specs(struct buffer *out, const struct value_spec *specs, size_t n, bool is_batched)
{
    bool is_first = true;
    buffer_byte(out, '[');
    for (size_t i = 0; i < n; i++) {
        const char *datatype = kserve_datatype(specs[i].type);
        if (specs[i].is_optional || specs[i].kind != VALUE_TENSOR) continue;
        buffer_text(out, is_first ? "{\"name\":" : ",{\"name\":");
        is_first = false;
        put_string(out, specs[i].name);
        buffer_printf(out, ",\"datatype\":\"%s\",\"shape\":",
                      datatype != NULL ? datatype : tensor_type_name(specs[i].type));
        put_dims(out, &specs[i], 0, is_batched);
        buffer_byte(out, '}');
    }
    buffer_byte(out, ']');
}

void kserve_put_metadata(const char *model, const char *platform,
                         const struct model_signature *signature, struct buffer *out)
{
    buffer_text(out, "{\"name\":");
    put_string(out, model);
    buffer_printf(out, ",\"versions\":[\"1\"],\"platform\":\"%s\",\"inputs\":", platform);
    put_specs(out, signature->inputs, signature->n_inputs, signature->is_batched);
    buffer_text(out, ",\"outputs\":");
    put_specs(out, signature->outputs, signature->n_outputs, signature->is_batched);
    buffer_byte(out, '}');
}

static void put_config_specs(struct buffer *out, const struct value_spec *specs, size_t n,
                             bool is_batched)
{
    bool is_first = true;
    buffer_byte(out, '[');
    for (size_t i = 0; i < n; i++) {
        const char *datatype = kserve_datatype(specs[i].type);
        if (specs[i].is_optional || specs[i].kind != VALUE_TENSOR) continue;
        buffer_text(out, is_first ? "{\"name\":" : ",{\"name\":");
        is_first = false;
        put_string(out, specs[i].name);
        if (specs[i].type == TENSOR_STRING) datatype = "STRING";
        buffer_printf(
            out, ",\"data_type\":\"TYPE_%s\",\"dims\":", datatype != NULL ? datatype : "INVALID");
        put_dims(out, &specs[i], is_batched ? 1 : 0, false);
        buffer_byte(out, '}');
    }
    buffer_byte(out, ']');
}

/* Calls of any number of rows are taken; max_batch_size is what runs at a time, 0 for a model without
 * batches, as Triton has it. */
void kserve_put_config(const struct model_config *config, const char *platform,
                       const struct model_signature *signature, struct buffer *out)
{
    bool is_batched = signature->is_batched;
    buffer_text(out, "{\"name\":");
    put_string(out, config->name);
    buffer_printf(out, ",\"platform\":\"%s\",\"max_batch_size\":%lld,\"input\":", platform,
                  is_batched ? (long long)config->max_batch : 0LL);
    put_config_specs(out, signature->inputs, signature->n_inputs, is_batched);
    buffer_text(out, ",\"output\":");
    put_config_specs(out, signature->outputs, signature->n_outputs, is_batched);
    if (is_batched)
        buffer_printf(out, ",\"dynamic_batching\":{\"max_queue_delay_microseconds\":%lld}",
                      (long long)config->max_delay_us);
    buffer_byte(out, '}');
}
